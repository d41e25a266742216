/* SPDX-License-Identifier: MIT */
/*
 * Whether the server of a guest's disks hangs. A write of the guest waits for that server, and QEMU has no limit for that. A server that is alive greets whoever
 * connects, so one that does not holds the guest's writes up too.
 */
#ifndef GW_QEMU_SERVER_PROBE_H
#define GW_QEMU_SERVER_PROBE_H

#include <stdbool.h>
#include <time.h>

#include "qemu/standby_address.h"

struct gw__server_probe {
	struct gw__standby_address at;
	int fd; /* a connection that was not greeted yet; -1: none */
	struct timespec since;
};
#define GW__SERVER_PROBE_INIT                                                                                                              \
	{                                                                                                                                  \
		.fd = -1                                                                                                                   \
	}

/* Takes no longer than this. */
enum { GW__SERVER_PROBE_MS = 100 };
/* Asks now and then, however often it is called. True: a connection was not greeted for `limit_ms`. `at` is looked up. */
bool gw__server_probe_hangs(struct gw__server_probe *p, int limit_ms);
void gw__server_probe_end(struct gw__server_probe *p); /* it may begin anew */

#endif
