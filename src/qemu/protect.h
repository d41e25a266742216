/* SPDX-License-Identifier: MIT */
/*
 * Protects the guest of a QEMU by checkpoints: makes it a COLO primary of a standby, guards it, and protects it again when that was lost.
 *
 * A guest that stands still too long is released from its standby, and runs on unprotected. Whenever it is not protected, nothing of ours is set in its QEMU.
 * The monitor is ours alone as long as this lasts, with one command at a time: then QEMU answers out of band whatever the other commands wait for. It
 * prints nothing, and tells its caller by events.
 *
 *   connecting -> migrating -> protected -> (standby lost) released -> pause -> connecting ...
 *
 * One thread, and the second process of protect_guard.h.
 */
#ifndef GW_QEMU_PROTECT_H
#define GW_QEMU_PROTECT_H

#include <godwit-qemu.h>

#include "base/error.h"
#include "qemu/protect_guard.h"

struct gw__protect;

enum gw__protect_event_kind {
	GW__PROTECT_CONNECTING,  /* the first copy of the guest goes to the standby */
	GW__PROTECT_PROTECTED,   /* the copy is complete; checkpoints follow */
	GW__PROTECT_CHECKPOINT,  /* one more: `pause_us` */
	GW__PROTECT_UNPROTECTED, /* `reason`; the guest runs on. `pause_us`: how long it stood still last */
	GW__PROTECT_NOT_YET,     /* an attempt failed, `reason`; the next one follows */
	GW__PROTECT_NOTE,        /* `reason`: something its user should know */
};
struct gw__protect_event {
	enum gw__protect_event_kind kind;
	const char *reason;
	int hint;                                   /* enum gw_qemu_hint: what may be done about it */
	uint64_t checkpoints, pause_us, longest_us; /* longest_us: of all standstills that were ours */
};

struct gw__protect_opts {
	const char *address, *uri; /* QMP; the standby */
	const char *name, *dir;    /* dir: the standby's folder, if it is on this host, or NULL. name NULL: QEMU's own */
	const char *lease;         /* its URL; NULL: none */
	unsigned lease_term_ms;    /* 0: the usual one */
	const char *watchdog;      /* of the lease: a device of hw_watchdog.h; NULL: none */
	int interval_ms, timeout_ms;
	int silence_ms; /* without a checkpoint, after which the standby is lost; -1: none */
	unsigned channels, compression, level;
	uint64_t max_bandwidth; /* 0: none */
	bool memory_only, no_output_commit;
	const char *disks; /* where the standby takes them; NULL: nowhere */
	const char *const *unprotected_disks;
	unsigned unprotected_n;
	bool (*stopped)(void *ctx); /* is it to end? Asked several times a second */
	void (*on_event)(void *ctx, const struct gw__protect_event *e);
	gw__protect_guard_fn *on_release; /* in the second process */
	void *ctx;
};

/* Looks whether it is possible. -EOPNOTSUPP, -EBUSY: it is not (now), with the reason. */
int gw__protect_open(const struct gw__protect_opts *o, struct gw__protect **p, struct gw__error *error);
const char *gw__protect_name(const struct gw__protect *p); /* of the guest; "" if it has none */
/* When it is over: its user had migrated the guest, which is elsewhere. Its QEMU is dead (SHUT_DOWN), or was left alone (STOPPED). */
bool gw__protect_guest_has_left(const struct gw__protect *p);
/* Until it is over: STOPPED to IN_DOUBT; but for IN_DOUBT nothing of ours is left in QEMU. NEVER and IN_DOUBT come with a sentence. */
enum gw_qemu_protect_outcome gw__protect_run(struct gw__protect *p, struct gw__error *error);
void gw__protect_close(struct gw__protect *p); /* NULL is fine */

#endif
