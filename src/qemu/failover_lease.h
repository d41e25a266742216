/* SPDX-License-Identifier: MIT */
/*
 * The lease of a guest that fails over: taken by whoever brings the guest back, then its QEMU's, without a limit. One thread.
 *
 *   take (waits out the primary's term) -> fence -> give (to the QEMU, before it has the guest) -> end
 *
 * If this process dies before `give`, its record names a process that is dead, and whoever tries again on this host may take it immediately. If the primary was not fenced by then,
 * the record is marked so (GW__LEASE_UNFENCED), and that one has to fence it as well.
 */
#ifndef GW_QEMU_FAILOVER_LEASE_H
#define GW_QEMU_FAILOVER_LEASE_H

#include "qemu/lease_client.h"
#include "qmp/qmp.h"

struct gw__failover_lease { /* zeroed: none */
	struct gw__lease_client client;
	const char *url;
	bool taken, given;
};

struct gw__failover_lease_opts {
	const char *url, *fence; /* fence NULL: none */
	bool primary_is_dead, accept_split_brain;
	bool (*stopped)(void *ctx);
	void *ctx;
};

/* As gw__lease_client_take; -EINPROGRESS also where the fence failed. */
int gw__failover_lease_take(struct gw__failover_lease *l, const struct gw__failover_lease_opts *o, struct gw__error *error);
/* To the QEMU at this monitor. -EOPNOTSUPP: it is not known which process that is, and nothing was changed. */
int gw__failover_lease_give(struct gw__failover_lease *l, struct gw__qmp *q, struct gw__error *error);
/* `nobody_runs_it`: it is given back, and anybody may take it immediately. */
void gw__failover_lease_end(struct gw__failover_lease *l, bool nobody_runs_it);

#endif
