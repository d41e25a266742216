/* SPDX-License-Identifier: MIT */
/*
 * Which process is behind the monitor of a protection, and another connection to it when one broke. That a connection breaks proves no death: its other end may be
 * a proxy, and a network is in between if it is tcp. A QEMU is dead when its process was seen to end, and it is the same when its identity is.
 */
#ifndef GW_QEMU_PROTECT_MONITOR_H
#define GW_QEMU_PROTECT_MONITOR_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "qmp/qmp.h"

struct gw__protect_monitor {
	const char *address;
	json_t *identity; /* gw__qmp_query_identity */
	pid_t pid;        /* of QEMU; 0: not known */
	int process;      /* its pidfd; -1: none */
};
#define GW__PROTECT_MONITOR_INIT                                                                                                           \
	{                                                                                                                                  \
		.process = -1                                                                                                              \
	}

/* `address`: borrowed. */
int gw__protect_monitor_learn(struct gw__protect_monitor *m, const char *address, struct gw__qmp *q, struct gw__error *error);
/*
 * 0: `*q` is another connection to the same QEMU; -ECONNRESET: it is dead; -ENOTCONN: neither is known after `patience_ms`, with a sentence.
 */
int gw__protect_monitor_open_again(const struct gw__protect_monitor *m, int patience_ms, struct gw__qmp **q, struct gw__error *error);
void gw__protect_monitor_fini(struct gw__protect_monitor *m);

#endif
