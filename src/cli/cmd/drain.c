/* SPDX-License-Identifier: MIT */
/* godwit drain: take from a source in postcopy-paused what it still has, for a destination that cannot be reached. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cmd/commands.h"
#include "qmp/sleep.h"
#include "qemu/surrogate_destination.h"
#include "cli/ui/command_ctx.h"

enum { CONNECT_MS = 10000, COME_MS = 30000, END_MS = 30000, HANGS_MS = 2000, POLL_MS = 20 };

struct drain {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	struct gw__surrogate source;
	struct gw_link_opts link;
	struct gw_tls_opts tls;
	struct gw_receive_result got;
	const char *address, *path;
	char *note; /* which QEMU it is, for who goes on in our place */
};

/* --- may it be done? --- */

static int refuse(struct drain *d, const char *error)
{
	return gw__cli_failed(&d->common, GW__EXIT_REFUSED, "%s; nothing was changed", error);
}

/* Only a source that stands in postcopy-paused has memory that is nowhere else, and keeps it. */
static int check_state(struct drain *d, const struct gw__qmp_status *run, const struct gw__qmp_migration *m)
{
	char error[600];
	bool source = !strcmp(run->name, "finish-migrate");
	if (!strcmp(m->status, "postcopy-paused") && source)
		return GW__CLI_GO;
	if (!strcmp(m->status, "postcopy-paused") || (!strncmp(m->status, "postcopy", strlen("postcopy")) && !m->total_bytes))
		snprintf(error, sizeof error,
			"this QEMU is the destination of its migration, it has the guest (state \"%s\"); godwit serve brings pages to it",
			run->name);
	else if (!strncmp(m->status, "postcopy", strlen("postcopy")))
		snprintf(error, sizeof error,
			"this QEMU still sends to its destination (status \"%s\"); if that cannot be reached, give it the monitor command "
			"migrate-pause first",
			m->status);
	else
		snprintf(error, sizeof error,
			"this QEMU is no source in postcopy-paused (status \"%s\", state \"%s\"), there is nothing to take over",
			*m->status ? m->status : "none", run->name);
	return refuse(d, error);
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
		return gw__cli_failed(&d->common, GW__EXIT_FAILED, "%s; nothing was changed", error.text);
	bool releases = gw__qmp_settings_on(settings, "release-ram");
	gw__qmp_settings_free(settings);
	int status = check_state(d, &run, &m);
	if (status == GW__CLI_GO && releases)
		return refuse(d,
			"this QEMU was told to release memory that it has sent (release-ram), so it has not got it any more; its destination alone can go on");
	if (status == GW__CLI_GO && unplugged)
		return refuse(d,
			"this QEMU has a virtio-mem device that is not plugged in full: it sends no page of the rest, so that it could not be known "
			"whether all have come");
	return status;
}

/* --- how it went --- */

static int failed(struct drain *d, int rc)
{
	const char *error = d->source.error.code ? d->source.error.text : gw__command_error(&d->work);
	if (rc == -EALREADY)
		return refuse(d, error);
	if (d->got.state == GW_MIGRATION_SETUP)
		return gw__cli_failed(&d->common, GW__EXIT_FAILED, "%s; nothing was changed", error);
	struct gw__qmp_migration m = {0};
	bool has_all = gw__qmp_query_migrate(d->source.qmp, &m, &(struct gw__error){0}) || !m.ended;
	if (has_all && d->got.state == GW_MIGRATION_POSTCOPY_PAUSED)
		return gw__cli_failed(&d->common, GW__EXIT_RECOVERABLE,
			"%s; the source still has all its memory: do not stop it, and start godwit drain %s %s again", error, d->address,
			d->path);
	return gw__cli_failed(&d->common, GW__EXIT_IN_DOUBT,
		"%s; the source has sent everything and will not send it again, but %s is not safe: do not stop the source, its process still has the memory",
		error, d->path);
}

/* Read back, page by page: what is said next makes somebody end the source. */
static int verified(struct drain *d, struct gw_info_summary *sum)
{
	struct gw_inspect_opts o = GW_INIT(o);
	gw_info *info = NULL;
	o.every_page = true;
	if (gw_inspect(d->work.job, d->path, &o, &info))
		return gw__command_ctx_failed(&d->work, GW__EXIT_IN_DOUBT,
			"the image cannot be read back: do not stop the source, its process still has the memory");
	gw_info_summary(info, sum);
	gw_info_free(info);
	return GW__CLI_GO;
}

/*
 * A 7.2 that lost the link behind its last page does not end (docs/spec/postcopy.md 1.4). One that has pages left and finds no link is paused
 * well before.
 */
static bool hangs_at_the_end(const struct gw__qmp_migration *m, int waited_ms)
{
	return waited_ms >= HANGS_MS && !strcmp(m->status, "postcopy-active") && !m->remaining_bytes;
}

/* Whoever sent these pages, it is the source that has to say that it has none left. */
static int await_completed(struct drain *d, bool untold)
{
	struct gw__qmp_migration m = {0};
	struct gw__error error = {0};
	for (int waited = 0; waited < END_MS; waited += POLL_MS) {
		if (gw__qmp_query_migrate(d->source.qmp, &m, &error))
			return gw__cli_failed(&d->common, GW__EXIT_IN_DOUBT, "%s; do not stop the source, it does not say that it is done",
				error.text);
		if (m.completed || (untold && hangs_at_the_end(&m, waited)))
			return GW__CLI_GO;
		gw__sleep_ms(POLL_MS);
	}
	return gw__cli_failed(&d->common, GW__EXIT_IN_DOUBT,
		"all pages are in %s, but the source does not say that it has sent them (status \"%s\"): do not stop the source, its process still has the memory",
		d->path, m.status);
}

static void report(struct drain *d, const struct gw_info_summary *sum)
{
	if (d->common.json) {
		gw__cli_json(json_pack("{ss so so so so si sb}", "event", "drained", "image", gw__cli_json_text(d->path), "ram_bytes",
			gw__cli_json_size(sum->ram_bytes), "page_bytes_stored", gw__cli_json_size(sum->page_bytes_stored), "zero_pages",
			gw__cli_json_size(sum->zero_pages), "breaks", (int)d->got.breaks, "safe_to_stop", 1));
		return;
	}
	gw__ui_info("%s of the source's memory are in %s, synced and read back: it is safe to stop the source", GW__SIZE(sum->ram_bytes),
		d->path);
	gw__ui_info("its destination gets what it lacks with godwit serve %s --qmp QMP, QMP being the destination's monitor", d->path);
}

static int run(struct drain *d)
{
	struct gw_info_summary sum = GW_INIT(sum);
	int status = check_source(d);
	if (status != GW__CLI_GO)
		return status;
	if (gw__surrogate_open(&d->source))
		return gw__cli_failed(&d->common, GW__EXIT_FAILED, "%s; nothing was changed", d->source.error.text);
	int r = gw_drain(d->work.job, d->source.listen, d->path, &d->source.opts, &d->got);
	gw__cli_progress_end(&d->work.progress);
	if (r < 0)
		return failed(d, r);
	status = d->got.was_complete ? GW__CLI_GO : await_completed(d, r == GW_SOURCE_NOT_NOTIFIED); /* some of 7.2 never say it */
	if (status == GW__CLI_GO)
		status = verified(d, &sum);
	if (status != GW__CLI_GO)
		return status;
	report(d, &sum);
	return GW__EXIT_DONE;
}

/* A drain that was killed behind its last page has left a whole image, and a source that is done. */
static int finish_earlier(struct drain *d)
{
	struct gw_info_summary sum = GW_INIT(sum);
	struct gw__error error = {0};
	struct gw__qmp_migration m;
	void *note = NULL;
	size_t n;
	if (gw__qmp_query_migrate(d->source.qmp, &m, &error) || !m.completed || gw_partial_user_data(d->work.job, d->path, &note, &n))
		return GW__CLI_GO;
	free(note);
	if (gw__surrogate_open(&d->source))
		return gw__cli_failed(&d->common, GW__EXIT_FAILED, "%s; nothing was changed", d->source.error.text);
	int r = gw_drain(d->work.job, d->source.listen, d->path, &d->source.opts, &d->got);
	if (r < 0)
		return failed(d, r);
	int status = verified(d, &sum);
	if (status == GW__CLI_GO)
		report(d, &sum);
	return status == GW__CLI_GO ? GW__EXIT_DONE : status;
}

/* What was begun with one source says nothing of another, which would be called safe to stop. */
static int check_identity(struct drain *d)
{
	struct gw__error error = {0};
	json_t *identity = NULL;
	void *note = NULL;
	size_t n = 0;
	if (gw__qmp_query_identity(d->source.qmp, &identity, &error))
		return gw__cli_failed(&d->common, GW__EXIT_FAILED, "%s; nothing was changed", error.text);
	int r = gw_partial_user_data(d->work.job, d->path, &note, &n);
	json_t *begun = r ? NULL : json_loadb(note, n, 0, NULL);
	bool other = !r && !json_equal(begun, identity);
	d->note = json_dumps(identity, JSON_COMPACT);
	d->source.opts.note = d->note;
	d->source.opts.note_bytes = d->note ? strlen(d->note) : 0;
	json_decref(begun);
	json_decref(identity);
	free(note);
	return other ? refuse(d,
			       "what was begun beside this image is no drain of this QEMU, but of another QEMU, or by godwit receive or save; go on with that")
		     : GW__CLI_GO;
}

static int connect_and_run(struct drain *d)
{
	struct gw__error error = {0};
	if (gw__qmp_open(d->address, CONNECT_MS, &d->source.qmp, &error))
		return gw__cli_failed(&d->common, GW__EXIT_FAILED, "%s; nothing was changed", error.text);
	int refused = check_identity(d);
	if (refused != GW__CLI_GO)
		return refused;
	int status = finish_earlier(d);
	return status == GW__CLI_GO ? run(d) : status;
}

int gw__cli_drain(int argc, char **argv)
{
	struct drain d = {.common = GW__CLI_COMMON_INIT,
		.link = {.size = sizeof d.link},
		.tls = {.size = sizeof d.tls},
		.got = {.size = sizeof d.got}};
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("listen", "URI", &d.source.listen,
			"let the source connect to this address (default: a unix socket of our own)"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &d.link.max_bandwidth, "read at most so many bytes per second"),
		GW__CLI_SECONDS("idle-timeout", &d.link.idle_timeout_ms,
			"silence that counts as a broken link (default: 30; none: wait for ever)"),
		GW__CLI_TEXT("tls-creds", "DIR", &d.tls.creds_dir,
			"speak TLS, with the credentials in this folder, if the source's parameter tls-creds is set"),
		GW__CLI_TLS_PRIORITY(&d.tls.priority),
		GW__CLI_COMMON(&d.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("QMP IMAGE [options]",
		"A QEMU in postcopy-paused holds memory that its destination lacks. When that cannot be reached, take all of it into IMAGE, so that the "
		"source may be stopped and the destination be served from the image. QMP is the monitor of the source.",
		options, 2, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status == GW__CLI_GO)
		status = gw__cli_image_name(argv[0], &args.arg[1]);
	if (status != GW__CLI_GO)
		return status;
	if (d.tls.priority && !d.tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-priority needs --tls-creds");
	d.address = args.arg[0];
	d.path = args.arg[1];
	d.source.link = &d.link;
	d.link.connect_timeout_ms = COME_MS;
	d.link.tls = d.tls.creds_dir ? &d.tls : NULL;
	status = gw__command_ctx_begin(&d.work, &d.common);
	if (status == GW__CLI_GO)
		status = connect_and_run(&d);
	gw__surrogate_close(&d.source);
	gw__qmp_close(d.source.qmp);
	free(d.note);
	gw__command_ctx_end(&d.work);
	return status;
}
