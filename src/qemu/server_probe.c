/* SPDX-License-Identifier: MIT */
/* Connections to a server of disks that are not greeted; see server_probe.h. */
#include "qemu/server_probe.h"

#include <poll.h>
#include <unistd.h>

#include "qmp/sleep.h"

enum { ASK_MS = 250 /* between two connections */ };

bool gw__server_probe_hangs(struct gw__server_probe *p, int limit_ms)
{
	struct pollfd greeting = {.fd = p->fd, .events = POLLIN};
	double since_ms = gw__monotonic_seconds_since(&p->since) * 1e3;
	if (p->fd < 0 && since_ms >= ASK_MS) {
		p->since = gw__monotonic_now();
		p->fd = gw__standby_address_dial(&p->at, -1, GW__SERVER_PROBE_MS); /* one that is not there is an error of the mirrors */
		return false;
	}
	if (p->fd < 0)
		return false;
	if (poll(&greeting, 1, 0) <= 0)
		return since_ms >= limit_ms;
	gw__server_probe_end(p);
	return false;
}

void gw__server_probe_end(struct gw__server_probe *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}
