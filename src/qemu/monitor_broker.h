/* SPDX-License-Identifier: MIT */
/*
 * The monitor broker of a page server: a small process that holds on to what a successor cannot get again.
 *
 * A guest that waits for a page can hold up its QEMU's main loop; then no new monitor is served, and only one that was
 * negotiated before, with oob, can still ask for a recovery. So the first page server of a QEMU starts a monitor broker, gives it a
 * copy of its monitor and what it knows of the QEMU, and may die: the next one gets both from the broker. Who is attached to
 * the monitor broker has the monitor to himself; the monitor broker reads it only while nobody is.
 *
 *   page server ---- monitor --------------> QEMU       the monitor broker ends with the QEMU, with the migration, when the
 *        |                                    ^         page server says so, or when it was left before it was needed
 *        +--- private socket --- monitor broker ------+
 *
 * One thread. All calls are fine on one that is not attached (fd -1) and do nothing.
 */
#ifndef GW_QEMU_MONITOR_BROKER_H
#define GW_QEMU_MONITOR_BROKER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/conditions.h"
#include "base/error.h"

struct gw__monitor_broker {
	int fd;           /* our connection to it; -1: none */
	json_int_t epoch; /* how many have had the monitor: their commands are numbered apart */
	char folder[32];  /* where QEMU may listen for us; removed by the monitor broker at its end */
	bool met;         /* it existed before us */
};
#define GW__MONITOR_BROKER_INIT                                                                                                            \
	{                                                                                                                                  \
		.fd = -1                                                                                                                   \
	}

/* What it had; the descriptors are the receiver's. */
struct gw__monitor_handoff {
	int monitor, link; /* -1: none */
	json_t *known;
};
#define GW__MONITOR_HANDOFF_INIT                                                                                                           \
	{                                                                                                                                  \
		.monitor = -1, .link = -1                                                                                                  \
	}
void gw__monitor_handoff_fini(struct gw__monitor_handoff *h);

/*
 * The monitor broker of the monitor at `address` (a path, unix:, tcp:, or pid:N of a QEMU), if there is one: 0; -ENOENT without a
 * sentence: there is none; -EBUSY: another page server is attached to it; -ETIMEDOUT: it is there, and does not answer; GW__SILENT: of pid:N, as below.
 */
int gw__monitor_broker_find(struct gw__monitor_broker *k, const char *address, struct gw__monitor_handoff *handoff,
	struct gw__error *error);
/*
 * The monitor broker of a monitor of the QEMU that has this process id, whichever socket it is. Answers as above; but of one that is silent
 * nobody knows whose it is: GW__SILENT, with a sentence.
 */
int gw__monitor_broker_find_pid(struct gw__monitor_broker *k, pid_t qemu, struct gw__monitor_handoff *handoff, struct gw__error *error);
/*
 * One of our own. -EBUSY: somebody was faster; -EEXIST: and has gone already, it can be found now; -ETIMEDOUT: there is one that does not
 * answer. Otherwise there can be none, for the reason in `why`.
 */
int gw__monitor_broker_start(struct gw__monitor_broker *k, const char *address, struct gw__error *error);

enum gw__monitor_broker_phase {
	GW__MONITOR_BROKER_IDLE,  /* QEMU was not asked for anything: if we die now the monitor broker puts its settings back and ends */
	GW__MONITOR_BROKER_ASKED, /* QEMU listens for us */
	GW__MONITOR_BROKER_RUNS,  /* its guest may run */
};
/*
 * Keep a copy of this monitor, and what is known, until told otherwise. `known`.settings is what is put back. `qemu`: the process by which it is found
 * as well, 0: none.
 */
void gw__monitor_broker_keep(struct gw__monitor_broker *k, int monitor, pid_t qemu, enum gw__monitor_broker_phase phase, const char *image,
	const json_t *known);
/*
 * Hold a copy of this socket, on which a recovery is about to be made: QEMU 11.1 does not survive a link that ends before its first
 * bytes, 7.2 none that ends before RESUME. If we die the monitor broker sees to it that there are first bytes.
 */
void gw__monitor_broker_hold_socket(struct gw__monitor_broker *k, int link);
void gw__monitor_broker_release_socket(struct gw__monitor_broker *k); /* the recovery is made, or the link over */
/* The recovery is made, and has a preempt channel, with which 10.0 and 11.1 need a moment before this link may end. */
void gw__monitor_broker_release_socket_soon(struct gw__monitor_broker *k);
/* It is not needed any more; returns when it has gone. */
void gw__monitor_broker_dismiss(struct gw__monitor_broker *k);
/* It goes on without us. */
void gw__monitor_broker_leave(struct gw__monitor_broker *k);

/* A folder of this user, and not where a link leads: a descriptor, or -1. Others can have put something at a path in /tmp. */
int gw__monitor_broker_open_folder(const char *path);

/* The process at the other end of a unix socket; 0: not known. */
pid_t gw__monitor_broker_peer(int fd);

struct gw__monitor_broker_info {
	bool answers;            /* else only `pid` is known, or 0 */
	pid_t pid, server, qemu; /* server: the page server that is attached; 0: none */
	char address[256], image[256];
};
/* A JSON string of any text, of as much as there is room for here, in whole characters, so that none makes a message too long, or none at all. */
json_t *gw__monitor_broker_text(const char *text);
/* The monitor broker of the monitor at `address`: 0, -ENOENT, or -ETIMEDOUT with a sentence. Nothing changes. */
int gw__monitor_broker_ask(const char *address, struct gw__monitor_broker_info *info, struct gw__error *error);
typedef void gw__monitor_broker_fn(void *ctx, const struct gw__monitor_broker_info *info);
/* All monitor brokers of this user. */
void gw__monitor_broker_list(gw__monitor_broker_fn *fn, void *ctx);

#endif
