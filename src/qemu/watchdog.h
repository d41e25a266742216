/* SPDX-License-Identifier: MIT */
/*
 * The guard of a save: a process of its own that puts a QEMU back in order if we are killed in the middle.
 *
 * It is forked before anything is changed and sleeps on a socket. What it has to know is in a record that both processes map; it reads that once, when
 * the socket closes. Unless all is well, it connects to the monitor, waits until the migration is over, puts the settings back and lets the guest run again.
 */
#ifndef GW_QEMU_WATCHDOG_H
#define GW_QEMU_WATCHDOG_H

#include <godwit-qemu.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "qemu/private_socket.h"
#include "qmp/qmp.h"

/* How the guest is to stand in the end. */
struct gw__was {
	bool running;       /* it runs, but for us */
	bool stopped_by_us; /* a stop of ours, not of its user, has paused it */
};

struct gw__watchdog {
	pid_t pid;                /* 0: none */
	int fd;                   /* our end of the socket pair, on which nothing is said after the beginning */
	_Atomic unsigned *record; /* shared with the guard, which reads it at our end */
};

/* All that the guard knows; borrowed, and its own from the fork on. */
struct gw__watchdog_post {
	const char *address;                   /* as for gw__qmp_open */
	const char *image;                     /* of the save */
	bool direct;                           /* QEMU writes to a file of ours itself: it is stopped immediately, and lets go of it */
	bool may_switch;                       /* to post-copy: a QEMU that stands still then is left so, as somebody may go on with it */
	const char *listen;                    /* the address of the user's that QEMU comes to; NULL: none */
	const struct gw_tls_opts *tls;         /* of that address */
	const struct gw__qmp_settings *before; /* what will be put back */
	const json_t *identity;                /* of the QEMU there */
	struct gw__was was;                    /* kept up to date */
	struct gw__private_socket *own;        /* what it removes, if we cannot */
	int (*on_end)(void *ctx, const struct gw_qemu_guard_report *report); /* what became of it; its exit status. NULL: nobody is told */
	void *ctx;
};
int gw__watchdog_start(struct gw__watchdog *g, const struct gw__watchdog_post *post, struct gw__error *error);
/* Its user stopped or started it meanwhile, or we do: it is put into the record, and holds from the moment it is written. */
void gw__watchdog_tell(struct gw__watchdog *g, struct gw__was was);
/* All is well: the guard goes away. Also on a zeroed one, also twice. */
void gw__watchdog_dismiss(struct gw__watchdog *g);

/*
 * What the guard does, also for those who were not killed: wait until no migration is under way (cancelling it when it
 * takes longer than `patience_ms`), let the guest run if it did and its user has not stopped it, put the settings back. 0, or
 * the first failure.
 * GW__WATCHDOG_PAUSED: the QEMU is in postcopy-paused, from where nothing puts it back; it was left as it is.
 */
enum { GW__WATCHDOG_PAUSED = 1 };
int gw__watchdog_repair(struct gw__qmp *q, const struct gw__qmp_settings *before, struct gw__was was, int patience_ms,
	struct gw__error *error);

/*
 * A QEMU 7.2 that lost the link after its last page never ends its migration, and never runs its guest again: -ENOLINK, and a sentence that
 * says so. 0: it is not like that, or does not say so.
 */
int gw__watchdog_check_hang(struct gw__qmp *q, struct gw__error *error);

/*
 * Lets the guest run unless it does, or somebody else is why it does not, however long QEMU takes to allow it (within reason).
 */
int gw__watchdog_let_run(struct gw__qmp *q, struct gw__was was, struct gw__error *error);

#endif
