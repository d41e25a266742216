/* SPDX-License-Identifier: MIT */
/*
 * Keeps the lease of a QEMU that runs its guest, in a thread of its own, and its deadman (deadman.h) with it: a QEMU whose lease was not prolonged in time is
 * dead before anybody else may have it, whatever becomes of this process.
 *
 *   take (held without a limit) -> wish BEAT -> wish HOLD or FREE -> end
 *
 * All calls come from one thread.
 */
#ifndef GW_QEMU_LEASE_KEEPER_H
#define GW_QEMU_LEASE_KEEPER_H

#include <stdatomic.h>
#include <sys/types.h>

#include "qemu/lease_client.h"

struct gw__lease_keeper;

struct gw__lease_keeper_opts {
	const char *url;
	unsigned term_ms; /* 0: the usual one */
	pid_t qemu;
	int keep_fd;          /* of protect_instance.h: the deadman holds it as well */
	const char *watchdog; /* a device of hw_watchdog.h; NULL: none */
	bool (*stopped)(void *ctx);
	void *ctx;
};

/* As gw__lease_client_take. Then `k` keeps it. */
int gw__lease_keeper_take(const struct gw__lease_keeper_opts *o, struct gw__lease_keeper **k, struct gw__error *error);
/* Of a NULL keeper these do nothing, and it is settled and not lost. */
void gw__lease_keeper_wish(struct gw__lease_keeper *k, enum gw__lease_wish wish);
/* Whether the last wish is confirmed. */
bool gw__lease_keeper_is_settled(const struct gw__lease_keeper *k);
/*
 * When the guest is ended if nobody beats any more, by CLOCK_BOOTTIME; GW__LEASE_NO_LIMIT: never. It is in memory that forks of this process share, and is there before a
 * beat is sent. NULL of no keeper.
 */
const _Atomic uint64_t *gw__lease_keeper_deadline(const struct gw__lease_keeper *k);
/* The wish, until it is confirmed. -ETIMEDOUT: it is not, and the guest ends with its term; -EOWNERDEAD: the lease is lost. */
int gw__lease_keeper_settle(struct gw__lease_keeper *k, enum gw__lease_wish wish, int patience_ms, struct gw__error *error);
/* Whether it was lost, and why. */
bool gw__lease_keeper_is_lost(struct gw__lease_keeper *k, struct gw__error *why);
bool gw__lease_keeper_saw_death(const struct gw__lease_keeper *k, int patience_ms); /* of the QEMU */
/* The deadman goes on if a moment is set. True: so it does, and may end the QEMU. */
bool gw__lease_keeper_end(struct gw__lease_keeper *k);

#endif
