/* SPDX-License-Identifier: MIT */
/*
 * DIR/NAME/owner.lock: the file whose lock the QEMU has that runs the guest NAME, where it and the standby are on one host.
 *
 * The lock (flock) is on an open file that QEMU alone holds: it was handed over with getfd, or QEMU was started with it. The kernel gives it up when that
 * QEMU is dead, and not before; so who gets the lock knows that nobody runs the guest. It says nothing of a QEMU that was never handed it, and
 * therefore a standby removes the file when a new protection begins, and `place` puts it there only after that.
 *
 *   protect: hand -> (epoch 0 is there: the standby removes the older file) -> place -> ... -> remove
 *   failover: take -> the new QEMU has it
 *
 * QEMU keeps a descriptor under a name. The older one is closed only when the newer lock is in its place: until then its file may be the one in the folder.
 */
#ifndef GW_QEMU_OWNER_LOCK_H
#define GW_QEMU_OWNER_LOCK_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "qmp/qmp.h"

struct gw__owner_lock { /* a zeroed one does nothing */
	char folder[PATH_MAX];
	char in_place[64], pending[64]; /* names in QEMU; "": none */
	pid_t qemu;
	unsigned handed;
};

/* The folder is made if need be. -EBUSY: another process runs the guest of this name. */
int gw__owner_lock_open(struct gw__owner_lock *l, const char *dir, const char *name, struct gw__qmp *q, struct gw__error *error);
int gw__owner_lock_hand(struct gw__owner_lock *l, struct gw__qmp *q, struct gw__error *error);
int gw__owner_lock_place(struct gw__owner_lock *l, struct gw__qmp *q, struct gw__error *error); /* nothing pending: 0 */
void gw__owner_lock_drop(struct gw__owner_lock *l, struct gw__qmp *q);                          /* what is pending */
bool gw__owner_lock_has_standby(const struct gw__owner_lock *l); /* a standby keeps a guest in that folder; true without a folder */
/* The file goes first: it must not be free while QEMU runs. */
void gw__owner_lock_remove(struct gw__owner_lock *l, struct gw__qmp *q);

/*
 * For whoever wants to run the guest. 0: nobody runs it, and now the lock is `*fd`'s, which is inherited by a process that is started. -EBUSY: `*holder`
 * (0: not known) runs it. -ENOENT: no QEMU was handed such a file, so nothing is proved. With `by_word` it is made then, and marked: for the next one that
 * proves nothing either.
 */
int gw__owner_lock_take(const char *folder, bool by_word, int *fd, pid_t *holder, struct gw__error *error);
/* Nothing is taken. 0: nobody holds it, or it is not there; -EBUSY: `*holder` (0: not known) does. */
int gw__owner_lock_look(const char *folder, pid_t *holder, struct gw__error *error);
void gw__owner_lock_name_owner(int fd, pid_t qemu); /* who runs it now, for messages and for who protects it next */
/* Whether the file that is locked is still the one in the folder. */
bool gw__owner_lock_is_current(const char *folder, int fd);

#endif
