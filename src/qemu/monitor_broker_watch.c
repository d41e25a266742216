/* SPDX-License-Identifier: MIT */
/*
 * What a monitor broker does with the monitor while no page server is attached: it reads it, so that QEMU's events do not pile up,
 * and asks now and then whether the migration has ended.
 *
 * It asks in band, which a held-up QEMU does not answer, and a monitor with eight commands waiting reads no more: so one
 * question at a time, and never many in vain. Another page server may come at any moment: nothing here takes long. Not what
 * becomes of the monitor broker then (monitor_broker_process.c), whose one thread owns the watch.
 */
#include <fcntl.h>
#include <unistd.h>

#include "qemu/monitor_broker_private.h"
#include "qmp/sleep.h"

enum {
	FIRST_LOOK_S = 3, /* by then a service manager has started the next page server */
	LOOK_S = 5,
	LOOK_MS = 200, /* what an answer may take */
	PUT_BACK_MS = 2000,
	IN_VAIN_MAX = 3,
};

void gw__monitor_broker_watch_begin(struct gw__monitor_broker_watch *w, int monitor, int known_fd, json_int_t first_id)
{
	int fd = fcntl(monitor, F_DUPFD_CLOEXEC, 3);
	w->known = gw__monitor_broker_from_file(known_fd);
	w->since = gw__monotonic_now();
	w->patience_s = FIRST_LOOK_S;
	if (fd < 0 || gw__qmp_take_over(fd, json_object_get(w->known, "past"), first_id, &w->q, NULL))
		w->q = NULL;
}

void gw__monitor_broker_watch_end(struct gw__monitor_broker_watch *w)
{
	if (w->q)
		w->in_vain += gw__qmp_unanswered(w->q);
	gw__qmp_close(w->q);
	json_decref(w->known);
	w->q = NULL;
	w->known = NULL;
}

void gw__monitor_broker_watch_put_back(struct gw__monitor_broker_watch *w)
{
	struct gw__qmp_settings *before = gw__qmp_settings_from_json(json_object_get(w->known, "settings"));
	if (before && w->q) {
		gw__qmp_set_call_limit(w->q, PUT_BACK_MS);
		gw__qmp_settings_restore(w->q, before, NULL);
	}
	gw__qmp_settings_free(before);
}

/* What has come is of no use to anybody: a page server asks for itself. True: QEMU is gone, or this is no monitor any more. */
static bool drain(struct gw__monitor_broker_watch *w)
{
	json_t *event;
	int r;
	while ((r = gw__qmp_event(w->q, 0, &event, NULL)) == 0)
		json_decref(event);
	return r < 0;
}

static bool has_ended(struct gw__monitor_broker_watch *w)
{
	struct gw__qmp_migration m;
	if (w->in_vain >= IN_VAIN_MAX || gw__qmp_unanswered(w->q))
		return false;
	gw__qmp_set_call_limit(w->q, LOOK_MS);
	if (gw__qmp_query_migrate(w->q, &m, NULL))
		return false;
	w->in_vain = 0; /* it has answered everything before */
	return m.ended;
}

bool gw__monitor_broker_watch_look(struct gw__monitor_broker_watch *w)
{
	if (!w->q)
		return false;
	if (drain(w))
		return true;
	if (gw__monotonic_seconds_since(&w->since) < w->patience_s)
		return false;
	bool ended = has_ended(w);
	w->since = gw__monotonic_now();
	w->patience_s = LOOK_S;
	if (ended)
		gw__monitor_broker_watch_put_back(w);
	return ended;
}
