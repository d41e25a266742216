/* SPDX-License-Identifier: MIT */
/*
 * One participant of a lease (plan/lease.h) with its store and its clock: does what the machine asks for, one thing per call. Who runs the guest is told of its end
 * before a beat is sent, and after each answer. One thread at a time.
 */
#ifndef GW_QEMU_LEASE_CLIENT_H
#define GW_QEMU_LEASE_CLIENT_H

#include "plan/lease.h"
#include "store/store.h"

enum {
	GW__LEASE_TERM_MS = 10000,
	GW__LEASE_TERM_MIN_MS = 3000,
	GW__LEASE_TERM_MAX_MS = 86400000,
	GW__LEASE_KILL_MS = 1000,
	GW__LEASE_DRIFT_PPM = 5000
};

struct gw__lease_client { /* zeroed: none */
	struct gw__lease lease;
	struct gw__store *store;
	int answer_ms;
	bool is_dead;             /* its owner's death is known otherwise */
	bool accepts_unfenced;    /* it takes a lease that is marked so */
	struct gw__error trouble; /* of the last answer that did not come */
	bool swap_failed;         /* the last swap had no answer */
	bool is_told;             /* `told_ns` is in force where it was told */
	uint64_t told_ns;
	/* CLOCK_BOOTTIME. False: it cannot be made so, and the beat is not sent. */
	bool (*on_deadline)(void *ctx, uint64_t deadline_ns);
	void *ctx;
};

/*
 * What follows the name of an owner that took the lease from a primary and has to fence it yet. The mark is in the store from the taking on, so that it outlives whoever
 * was to fence: nobody takes such a lease who does not fence, or accepts that nobody did.
 */
#define GW__LEASE_UNFENCED "/unfenced"
/* What follows the name of an owner whose host is reset by a hardware watchdog if its guest is not ended in time: time alone proves that it has ended. */
#define GW__LEASE_WATCHDOG "/watchdog"

/* term_ms 0: the usual one. -EINVAL: the URL is none, or the term too short. Nobody is asked yet. */
int gw__lease_client_open(struct gw__lease_client *c, const char *url, const char *owner, unsigned term_ms, struct gw__error *error);
enum gw__lease_policy {
	GW__LEASE_WAIT_OUT,     /* another's term, by our clock */
	GW__LEASE_NOT_BY_TIME,  /* not of an owner on another host that has no watchdog */
	GW__LEASE_OWNER_IS_DEAD /* whoever it is: its user has said so */
};
/*
 * Takes it, without a limit. -EBUSY: its owner beats, or lives here; -EPERM: another has it without a limit; -EACCES: only time says that its owner has ended (NOT_BY_TIME), or it is marked as unfenced;
 * -ETIMEDOUT: the store does not answer, and nothing was changed; -ECANCELED; -EINPROGRESS: in doubt, it may be ours by now or soon, also of a store that is read and not
 * written. `stopped` NULL: never.
 */
int gw__lease_client_take(struct gw__lease_client *c, enum gw__lease_policy policy, bool (*stopped)(void *), void *ctx,
	struct gw__error *error);
/* One step, or a wait of `ms` at most, which ends when `wake_fd` (-1: none) is readable. */
void gw__lease_client_step(struct gw__lease_client *c, int ms, int wake_fd);
void gw__lease_client_close(struct gw__lease_client *c);

#endif
