/* SPDX-License-Identifier: MIT */
/* Asks whoever protects, and cleans up after those who were killed; see protect_stop.h. */
#include "qemu/protect_stop.h"

#include <errno.h>

#include "qemu/colo_release.h"
#include "qemu/mirror.h"
#include "qemu/net_buffers.h"
#include "qemu/protect_instance.h"
#include "qmp/qmp.h"

enum { CONNECT_MS = 5000, RELEASE_MS = 60000 /* it takes some milliseconds */ };

/* Both processes were killed. What was set before, nobody knows any more; but without x-colo it is harmless. */
static int clean_up(struct gw__qmp *q, struct gw__error *error)
{
	const struct gw__qmp_capability off[] = {{"x-colo", false}};
	struct gw__qmp_migration m;
	struct gw__qmp_settings *now = NULL;
	int r = gw__qmp_query_migrate(q, &m, error);
	if (!r)
		r = gw__qmp_settings_save(q, &now, error);
	bool left = !r && gw__qmp_settings_on(now, "x-colo");
	gw__qmp_settings_free(now);
	if (!r && !left) /* killed while the disks were copied */
		r = gw__mirror_remove(q, error);
	if (r || !left)
		return r ? r : GW__PROTECT_WAS_IDLE;
	r = gw__colo_release(q, RELEASE_MS, error);
	gw__qmp_set_call_limit(q, GW__QMP_CALL_MS);
	if (!r)
		r = gw__net_buffers_remove(q, error);
	if (!r)
		r = gw__mirror_remove(q, error);
	if (!r)
		r = gw__qmp_set_capabilities(q, off, 1, error);
	return r ? r : GW__PROTECT_WAS_LEFT;
}

int gw__protect_stop(const char *address, int patience_ms, struct gw__error *error)
{
	struct gw__qmp *q = NULL;
	int stopped = gw__protect_instance_stop(address, patience_ms, error);
	if (stopped && stopped != -ENOENT)
		return stopped;
	int r = gw__qmp_open(address, CONNECT_MS, &q, error);
	if (!r && stopped) { /* it may be protected over another monitor */
		stopped = gw__protect_instance_stop_qemu(q, patience_ms, error);
		r = stopped == -ENOENT ? 0 : stopped;
	}
	if (!r)
		r = clean_up(q, error);
	gw__qmp_close(q);
	return !stopped && r == GW__PROTECT_WAS_IDLE ? 0 : r;
}
