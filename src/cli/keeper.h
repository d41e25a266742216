/* SPDX-License-Identifier: MIT */
/*
 * The keeper of a page server: a small process that holds on to what a successor cannot get again.
 *
 * A guest that waits for a page can hold up its QEMU's main loop; then no new monitor is served, and only one that was
 * negotiated before, with oob, can still ask for a recovery. So the first page server of a QEMU starts a keeper, gives it a
 * copy of its monitor and what it knows of the QEMU, and may die: the next one gets both from the keeper. Who is attached to
 * the keeper has the monitor to himself; the keeper reads it only while nobody is.
 *
 *   page server ---- monitor --------------> QEMU       the keeper ends with the QEMU, with the migration, when the
 *        |                                    ^         page server says so, or when it was left before it was needed
 *        +--- private socket --- keeper ------+
 *
 * One thread. All calls are fine on one that is not attached (fd -1) and do nothing.
 */
#ifndef GW_CLI_KEEPER_H
#define GW_CLI_KEEPER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct gw__keeper {
	int fd;          /* our connection to it; -1: none */
	json_int_t turn; /* how many have had the monitor: their commands are numbered apart */
	char folder[32]; /* where QEMU may listen for us; removed by the keeper at its end */
	bool met;        /* it was there before us */
};
#define GW__KEEPER_INIT                                                                                                                    \
	{                                                                                                                                  \
		.fd = -1                                                                                                                   \
	}

/* What it had; the descriptors are the receiver's. */
struct gw__keeper_hand {
	int monitor, link; /* -1: none */
	json_t *known;
};
#define GW__KEEPER_HAND_INIT                                                                                                               \
	{                                                                                                                                  \
		.monitor = -1, .link = -1                                                                                                  \
	}
void gw__keeper_hand_fini(struct gw__keeper_hand *h);

/*
 * The keeper of the monitor at `address` (a path, unix:, tcp:, or pid:N of a QEMU), if there is one: 0; -ENOENT without a
 * sentence: there is none; -EBUSY: another page server is attached to it; -ETIMEDOUT: it is there, and does not answer.
 */
int gw__keeper_find(struct gw__keeper *k, const char *address, struct gw__keeper_hand *hand, struct gw__why *why);
/*
 * The keeper of a monitor of the QEMU that has this process id, whichever socket it is. Answers as above; but of one that is silent
 * nobody knows whose it is: -ENOENT with a sentence.
 */
int gw__keeper_find_pid(struct gw__keeper *k, pid_t qemu, struct gw__keeper_hand *hand, struct gw__why *why);
/*
 * One of our own. -EBUSY: somebody was faster; -EEXIST: and has gone already, it can be found now; -ETIMEDOUT: there is one that does not
 * answer. Otherwise there can be none, for the reason in `why`.
 */
int gw__keeper_start(struct gw__keeper *k, const char *address, struct gw__why *why);

enum gw__keeper_phase {
	GW__KEEPER_IDLE,  /* QEMU was not asked for anything: if we die now the keeper puts its settings back and ends */
	GW__KEEPER_ASKED, /* QEMU listens for us */
	GW__KEEPER_RUNS,  /* its guest may run */
};
/* Keep a copy of this monitor, and what is known, until told otherwise. `known`.settings is what is put back. */
void gw__keeper_keep(struct gw__keeper *k, int monitor, enum gw__keeper_phase phase, const char *image, const json_t *known);
/*
 * Hold a copy of this socket, on which a recovery is about to be made: QEMU 11.1 does not survive a link that ends before its first
 * bytes, 7.2 none that ends before RESUME. If we die the keeper sees to it that there are first bytes.
 */
void gw__keeper_hold(struct gw__keeper *k, int link);
void gw__keeper_let_go(struct gw__keeper *k); /* the recovery is made, or the link over */
/* The recovery is made, and has a preempt channel, with which 10.0 and 11.1 need a moment before this link may end. */
void gw__keeper_let_go_soon(struct gw__keeper *k);
/* It is not needed any more; returns when it has gone. */
void gw__keeper_dismiss(struct gw__keeper *k);
/* It goes on without us. */
void gw__keeper_leave(struct gw__keeper *k);

/* A folder of this user, and not where a link leads: a descriptor, or -1. Others can have put something at a path in /tmp. */
int gw__keeper_open_folder(const char *path);

/* The process at the other end of a unix socket; 0: not known. */
pid_t gw__keeper_peer(int fd);

struct gw__keeper_info {
	bool answers;            /* else only `pid` is known, or 0 */
	pid_t pid, server, qemu; /* server: the page server that is attached; 0: none */
	char address[256], image[256];
};
/* The keeper of the monitor at `address`: 0, -ENOENT, or -ETIMEDOUT with a sentence. Nothing changes. */
int gw__keeper_ask(const char *address, struct gw__keeper_info *info, struct gw__why *why);
typedef void gw__keeper_fn(void *ctx, const struct gw__keeper_info *info);
/* All keepers of this user. */
void gw__keeper_list(gw__keeper_fn *fn, void *ctx);

#endif
