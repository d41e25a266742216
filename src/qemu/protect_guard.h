/* SPDX-License-Identifier: MIT */
/*
 * The second process of a protection: it releases the primary and puts its settings back when the first one is killed, or gives no sign of life. Such a one it
 * kills first, as a process that was stopped may go on at any moment, and two cannot share a monitor.
 *
 * Signs of life are in memory that both share. Each says how long there may be no other, and that is counted in looks at it, not by a clock: a host that was suspended as
 * a whole has not looked. A lease that is beaten is no matter of the second process: if the first one stands still, so do the beats, and the deadman ends the guest;
 * if its thread beats on, the death of the first would be that of the guest.
 *
 * It shares the monitor's socket, which QEMU serves to one client only, and does not touch it while the first process lives: then it goes on with it, and
 * QEMU notices nothing of the death. If that connection is broken it makes another. It waits on a socket pair, which the kernel closes with the first process.
 */
#ifndef GW_QEMU_PROTECT_GUARD_H
#define GW_QEMU_PROTECT_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "qemu/protect_monitor.h"
#include "qemu/relay.h"
#include "qmp/qmp.h"

/* How much of a QEMU is changed, and so is undone. Each includes those before it. */
enum gw__protect_changed {
	GW__PROTECT_CHANGED_DISKS, /* mirrors at most: a migration that is under way is another's, and is left alone, as are its settings */
	GW__PROTECT_CHANGED_SETTINGS,  /* also settings and filters */
	GW__PROTECT_CHANGED_MIGRATION, /* a migration is ours: it is broken off */
};

/* In memory that both processes see. */
struct gw__protect_guard_shared {
	_Atomic uint64_t life;                    /* the number of the sign, and in the low half for how many ms there may be no other */
	_Atomic enum gw__protect_changed changed; /* of the first process */
};

struct gw__protect_guard {
	pid_t pid; /* 0: none */
	int fd;
	struct gw__protect_guard_shared *shared;
};

/* In the second process, at its end: 0, or why QEMU could not be released. With 0: the text says why it has killed the first one; "": it has not. */
typedef void gw__protect_guard_fn(void *ctx, int r, const struct gw__error *error);

struct gw__protect_guard_opts {
	const struct gw__qmp_settings *before; /* what it puts back */
	const struct gw__protect_monitor *monitor;
	const struct gw__relay *relay; /* whose folder it removes; may be NULL */
	/*
	 * CLOCK_BOOTTIME, in memory that both share: when a deadman ends the guest, as its lease is not beaten any more; UINT64_MAX: never. NULL: there is no lease. What
	 * a guest sends that is to end does not leave.
	 */
	const _Atomic uint64_t *deadline_ns;
	int keep_fd; /* it holds this as long as it lives; -1: none */
	enum gw__protect_changed changed;
	gw__protect_guard_fn *report;
	void *ctx;
};
/* Returns when it is in its place. Until the first sign of life it waits without a limit. */
int gw__protect_guard_start(struct gw__protect_guard *g, struct gw__qmp *q, const struct gw__protect_guard_opts *o,
	struct gw__error *error);
bool gw__protect_guard_lives(const struct gw__protect_guard *g);
/* A sign of life of the first process; also to none. The next one comes within `limit_ms`. */
void gw__protect_guard_beat(struct gw__protect_guard *g, int limit_ms);
/* What it undoes from now on; also to none. Called before more is changed, and after less is. */
void gw__protect_guard_note(struct gw__protect_guard *g, enum gw__protect_changed changed);
void gw__protect_guard_dismiss(struct gw__protect_guard *g); /* also of none, also twice */

#endif
