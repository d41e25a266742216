/* SPDX-License-Identifier: MIT */
/* The procedure that frees a COLO primary; see colo_release.h. */
#include "qemu/colo_release.h"

#include <errno.h>
#include <string.h>

#include "qemu/mirror.h"
#include "qmp/sleep.h"

enum {
	ANSWER_MS = 250, /* for a command in band: the main loop is free as soon as the link is broken */
	POLL_MS = 5,
	SETTLE_MS = 5000, /* from the end of the migration to a guest that runs */
};

/*
 * First the link, out of band, as nothing else is answered while RAM is sent; then the word that the standby is lost. The other way round the word
 * would wait behind the RAM. Never migrate_cancel: that QEMU would stay in "cancelling" for good.
 */
static int break_link(struct gw__qmp *q)
{
	json_t *all = json_pack("{s:[{s:s}]}", "instances", "type", "migration");
	return gw__qmp_call_oob(q, "yank", all, NULL, NULL); /* refused where there is nothing to yank */
}

struct look {
	struct gw__qmp_migration migration;
	struct gw__qmp_status run;
};

static int look(struct gw__qmp *q, struct look *l, struct gw__error *error)
{
	int r = gw__qmp_query_migrate(q, &l->migration, error);
	return r ? r : gw__qmp_query_status(q, &l->run, error);
}

static bool is_over(const struct gw__qmp_migration *m) { return m->ended || m->state == GW__MIGRATION_NONE; }

/* A migration and COLO stop a guest under other names. */
static bool is_stopped_by_its_user(const struct gw__qmp_status *s) { return !s->running && !gw__qmp_is_migrations(s->state); }

/* 0: released; GW__NOT_YET: not yet. */
static int try_release(struct gw__qmp *q, struct look *l, struct gw__error *error)
{
	int r = break_link(q);
	if (r != -ECONNRESET)
		r = gw__qmp_call(q, "x-colo-lost-heartbeat", NULL, NULL, NULL); /* refused where it is no primary (any more) */
	if (r != -ECONNRESET)
		r = look(q, l, NULL);
	if (r == -ECONNRESET)
		return gw__error_set(error, r, "QEMU has gone");
	bool free = !r && is_over(&l->migration) && (l->run.running || is_stopped_by_its_user(&l->run));
	return free ? 0 : GW__NOT_YET;
}

int gw__colo_release(struct gw__qmp *q, int patience_ms, struct gw__error *error)
{
	struct timespec start = gw__monotonic_now();
	struct look l = {0};
	double over_s = 0; /* when the migration was first seen to be over */
	gw__qmp_set_call_limit(q, ANSWER_MS);
	for (;;) {
		int r = try_release(q, &l, error);
		double now_s = gw__monotonic_seconds_since(&start);
		if (r != GW__NOT_YET)
			return r;
		if (!is_over(&l.migration))
			over_s = 0;
		else if (l.run.name[0] && !over_s)
			over_s = now_s;
		if (over_s && now_s - over_s > SETTLE_MS / 1e3)
			return gw__error_set(error, -EBUSY, "its migration is over (status \"%s\") and its guest is paused (\"%s\")",
				l.migration.status, l.run.name);
		if (now_s * 1e3 > patience_ms)
			return gw__error_set(error, -ETIMEDOUT,
				"QEMU did not release its standby within %d ms (status \"%s\", guest \"%s\")", patience_ms,
				l.migration.status, l.run.name);
		if (now_s * 1e3 > ANSWER_MS) /* its main loop may wait for a server of its disks that hangs */
			gw__mirror_break(q);
		gw__sleep_ms(POLL_MS);
	}
}
