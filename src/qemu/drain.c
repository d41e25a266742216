/* SPDX-License-Identifier: MIT */
/* Takes from a source in postcopy-paused what it still has, for a destination that cannot be reached. One thread. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/driver.h"
#include "qemu/guest_outcome.h"
#include "qemu/surrogate_destination.h"
#include "qmp/sleep.h"

enum { CONNECT_MS = 10000, AGAIN_MS = 3000, COME_MS = 30000, END_MS = 30000, HANGS_MS = 2000, POLL_MS = 20 };

struct drain {
	gw_qemu *driver;
	struct gw__surrogate source;
	struct gw_link_opts link;
	struct gw_receive_result got;
	const char *monitor, *path;
	char *note; /* which QEMU it is, for who goes on in our place */
	struct gw_qemu_drain_result out;
};

static int end(struct drain *d, enum gw_qemu_drain_outcome outcome, int code, const char *fmt, ...) GW__PRINTF(4, 5);
static int end(struct drain *d, enum gw_qemu_drain_outcome outcome, int code, const char *fmt, ...)
{
	char text[GW__ERROR_BYTES];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	d->out.outcome = outcome;
	return gw__qemu_fail(d->driver, code, "%s", text);
}

/* --- may it be done? --- */

static int refuse(struct drain *d, int code, const char *error) { return end(d, GW_QEMU_DRAIN_REFUSED, code, "%s", error); }

/* Only a source that stands in postcopy-paused has memory that is nowhere else, and keeps it. */
static int check_state(struct drain *d, const struct gw__qmp_status *run, const struct gw__qmp_migration *m)
{
	char error[600];
	bool source = run->state == GW__RUN_STATE_FINISH_MIGRATE;
	if (m->state == GW__MIGRATION_POSTCOPY_PAUSED && source)
		return 0;
	bool is_destination = m->state == GW__MIGRATION_POSTCOPY_PAUSED || (gw__qmp_is_postcopy(m->state) && !m->total_bytes);
	gw__error_advise(&d->driver->error, is_destination ? GW_QEMU_HINT_SERVE : GW_QEMU_HINT_NONE);
	if (is_destination)
		snprintf(error, sizeof error, "this QEMU is the destination of its migration, it has the guest (state \"%s\")", run->name);
	else if (gw__qmp_is_postcopy(m->state))
		snprintf(error, sizeof error,
			"this QEMU still sends to its destination (status \"%s\"); if that cannot be reached, give it the monitor command "
			"migrate-pause first",
			m->status);
	else
		snprintf(error, sizeof error,
			"this QEMU is no source in postcopy-paused (status \"%s\", state \"%s\"), there is nothing to take over",
			*m->status ? m->status : "none", run->name);
	return refuse(d, -EBUSY, error);
}

/* A source with release-ram has given away each page that it sent, wherever that page is now. */
static int check_source(struct drain *d)
{
	struct gw__qmp_status run;
	struct gw__qmp_migration m;
	struct gw__qmp_settings *settings = NULL;
	struct gw__error error = {0};
	uint64_t unplugged = 0;
	int r = gw__qmp_query_status(d->source.qmp, &run, &error);
	if (!r)
		r = gw__qmp_query_migrate(d->source.qmp, &m, &error);
	if (!r)
		r = gw__qmp_query_unplugged(d->source.qmp, &unplugged, &error);
	if (!r)
		r = gw__qmp_settings_save(d->source.qmp, &settings, &error);
	if (r)
		return end(d, GW_QEMU_DRAIN_NOT_BEGUN, r, "%s", error.text);
	bool releases = gw__qmp_settings_on(settings, "release-ram");
	gw__qmp_settings_free(settings);
	r = check_state(d, &run, &m);
	if (!r && releases)
		return refuse(d, -EOPNOTSUPP,
			"this QEMU releases the memory that it has sent (release-ram), so only its destination can continue");
	if (!r && unplugged)
		return refuse(d, -EOPNOTSUPP,
			"this QEMU has a virtio-mem device that is not fully plugged: QEMU does not send its other pages, so a missing "
			"page could not be detected");
	return r;
}

/* --- how it went --- */

/* What the source says of its migration. A monitor that broke may come back, and one that stays away has lost its QEMU, or may have. */
static int ask_again(struct drain *d, struct gw__qmp_migration *m)
{
	struct gw__error ignored = {0};
	if (d->source.qmp && !gw__qmp_query_migrate(d->source.qmp, m, &ignored))
		return 0;
	gw__qmp_close(d->source.qmp); /* many a monitor serves one connection at a time */
	d->source.qmp = NULL;
	gw__error_clear(&ignored);
	json_t *identity = d->note ? json_loads(d->note, 0, NULL) : NULL;
	int r = gw__qmp_open_again(d->monitor, AGAIN_MS, identity, &d->source.qmp, &ignored);
	json_decref(identity);
	return r ? r : gw__qmp_query_migrate(d->source.qmp, m, &ignored);
}

static int failed(struct drain *d, int rc)
{
	const char *error = d->source.stayed_away ? d->source.error.text : gw__qemu_job_error(d->driver);
	if (rc == -EALREADY)
		return refuse(d, rc, error);
	if (d->got.state == GW_MIGRATION_SETUP)
		return end(d, GW_QEMU_DRAIN_NOT_BEGUN, rc, "%s", error);
	struct gw__qmp_migration m = {0};
	bool paused = d->got.state == GW_MIGRATION_POSTCOPY_PAUSED;
	if (paused && ask_again(d, &m))
		return end(d, GW_QEMU_DRAIN_QEMU_GONE, rc, "%s", error);
	if (paused && !m.ended)
		return end(d, GW_QEMU_DRAIN_AGAIN, rc, "%s", error);
	return end(d, GW_QEMU_DRAIN_NOT_SAFE, rc, "%s", error);
}

/* Read back, page by page: what is said next makes somebody end the source. */
static int verify(struct drain *d)
{
	struct gw_inspect_opts o = GW_INIT(o);
	struct gw_info_summary sum = GW_INIT(sum);
	gw_info *info = NULL;
	o.every_page = true;
	int r = gw_inspect(d->driver->job, d->path, &o, &info);
	if (r)
		return end(d, GW_QEMU_DRAIN_NOT_READ, r, "%s", gw__qemu_job_error(d->driver));
	gw_info_summary(info, &sum);
	gw_info_free(info);
	d->out.outcome = GW_QEMU_DRAIN_DONE;
	d->out.ram_bytes = sum.ram_bytes;
	d->out.page_bytes_stored = sum.page_bytes_stored;
	d->out.zero_pages = sum.zero_pages;
	d->out.breaks = d->got.breaks;
	return 0;
}

/*
 * A 7.2 that lost the link after its last page does not end (docs/spec/postcopy.md 1.4). One that has pages left and finds no link is paused
 * well before.
 */
static bool hangs_at_the_end(const struct drain *d, const struct gw__qmp_migration *m, int waited_ms)
{
	return gw__qmp_has_quirk(d->source.qmp, GW__QUIRK_HANGS_BEHIND_LAST_PAGE) && waited_ms >= HANGS_MS &&
	       m->state == GW__MIGRATION_POSTCOPY_ACTIVE && !m->remaining_bytes;
}

/* Whoever sent these pages, it is the source that has to say that it has none left. */
static int await_completed(struct drain *d, bool untold)
{
	struct gw__qmp_migration m = {0};
	struct gw__error error = {0};
	for (int waited = 0; waited < END_MS; waited += POLL_MS) {
		int r = gw__qmp_query_migrate(d->source.qmp, &m, &error);
		if (r)
			return end(d, GW_QEMU_DRAIN_SILENT, r, "%s", error.text);
		if (m.completed || (untold && hangs_at_the_end(d, &m, waited)))
			return 0;
		gw__sleep_ms(POLL_MS);
	}
	return end(d, GW_QEMU_DRAIN_SILENT, -ETIMEDOUT, "all pages are in %s, but the source did not confirm it (status \"%s\")", d->path,
		m.status);
}

static int open_surrogate(struct drain *d)
{
	int r = gw__surrogate_open(&d->source);
	return r ? end(d, GW_QEMU_DRAIN_NOT_BEGUN, r, "%s", d->source.error.text) : 0;
}

static int take_all(struct drain *d) { return gw_drain(d->driver->job, d->source.listen, d->path, &d->source.opts, &d->got); }

static int run(struct drain *d)
{
	int r = check_source(d);
	if (!r)
		r = open_surrogate(d);
	if (r)
		return r;
	r = take_all(d);
	if (r < 0)
		return failed(d, r);
	r = d->got.was_complete ? 0 : await_completed(d, r == GW_SOURCE_NOT_NOTIFIED); /* some of 7.2 never say it */
	return r ? r : verify(d);
}

/* A drain that was killed after its last page has left a whole image, and a source that is done. GW__NOT_MINE: it is not like that. */
static int finish_earlier(struct drain *d)
{
	struct gw__error error = {0};
	struct gw__qmp_migration m;
	void *note = NULL;
	size_t n;
	if (gw__qmp_query_migrate(d->source.qmp, &m, &error) || !m.completed || gw_partial_user_data(d->driver->job, d->path, &note, &n))
		return GW__NOT_MINE;
	free(note);
	int r = open_surrogate(d);
	if (r)
		return r;
	r = take_all(d);
	return r < 0 ? failed(d, r) : verify(d);
}

/* What was begun with one source says nothing of another, which would be called safe to stop. */
static int check_identity(struct drain *d)
{
	struct gw__error error = {0};
	json_t *identity = NULL;
	void *note = NULL;
	size_t n = 0;
	int r = gw__qmp_query_identity(d->source.qmp, &identity, &error);
	if (r)
		return end(d, GW_QEMU_DRAIN_NOT_BEGUN, r, "%s", error.text);
	r = gw_partial_user_data(d->driver->job, d->path, &note, &n);
	json_t *begun = r ? NULL : json_loadb(note, n, 0, NULL);
	bool other = !r && !json_equal(begun, identity);
	d->note = json_dumps(identity, JSON_COMPACT);
	d->source.opts.note = d->note;
	d->source.opts.note_bytes = d->note ? strlen(d->note) : 0;
	json_decref(begun);
	json_decref(identity);
	free(note);
	if (!other)
		return 0;
	gw__error_advise(&d->driver->error, GW_QEMU_HINT_OTHER_WORK);
	return refuse(d, -EALREADY, "what was begun beside this image is no drain of this QEMU, but other work");
}

static int connect_and_run(struct drain *d)
{
	struct gw__error error = {0};
	int r = gw__qmp_open(d->monitor, CONNECT_MS, &d->source.qmp, &error);
	if (r)
		return end(d, GW_QEMU_DRAIN_NOT_BEGUN, r, "%s", error.text);
	r = check_identity(d);
	if (r)
		return r;
	r = finish_earlier(d);
	return r == GW__NOT_MINE ? run(d) : r;
}

int gw_qemu_drain(gw_qemu *qemu, const char *monitor, const char *path, const struct gw_qemu_drain_opts *o,
	struct gw_qemu_drain_result *result)
{
	struct drain d = {.driver = qemu, .monitor = monitor, .path = path, .got = {.size = sizeof d.got}};
	struct gw_qemu_drain_opts copy;
	int r = gw__qemu_begin(qemu, "gw_qemu_drain_opts", o, &copy, sizeof copy, result);
	if (!r && (r = gw__qemu_copy_opts("gw_link_opts", copy.link, &d.link, sizeof d.link, &qemu->error)) == 0) {
		d.source.listen = copy.listen;
		d.source.link = &d.link;
		if (!d.link.connect_timeout_ms)
			d.link.connect_timeout_ms = COME_MS;
		r = connect_and_run(&d);
		d.out.guest = gw__guest_after_drain(&d.got.outcome, d.out.outcome);
		gw__surrogate_close(&d.source);
		gw__qmp_close(d.source.qmp);
		free(d.note);
		gw__qemu_give_result(result, &d.out, sizeof d.out);
	}
	return r;
}
