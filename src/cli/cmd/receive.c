/* SPDX-License-Identifier: MIT */
/* godwit receive: wait for one incoming migration and keep the guest. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cmd/commands.h"
#include "cli/ui/command_ctx.h"

struct receive {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	struct gw_link_opts link;
	struct gw_tls_opts tls;
	struct gw_receive_opts opts;
	const char *uri, *image;
	struct gw_receive_result got;
	bool abandon;
	char at[4200]; /* what is listened at, with the port there is; "": nothing yet */
};

/* What QEMU makes of a switch that fails differs from release to release. */
#define ASK_IT "check its query-migrate: in postcopy-paused the guest is only there, so do not stop it"

static void on_listening(void *ctx, const char *uri)
{
	struct receive *r = ctx;
	gw__cli_progress_line(&r->work.progress, "listening %s", uri);
	if (r->common.json)
		gw__cli_json(json_pack("{ss so}", "event", "listening", "uri", gw__cli_json_text(uri)));
	snprintf(r->at, sizeof r->at, "%s", uri);
	gw__ui_info("listening at %s%s", uri,
		r->link.tls || !(r->abandon || r->opts.resume)
			? ""
			: "; without --tls-creds, any peer that knows the guest's RAM blocks is accepted as its source");
}

static int on_paused(void *ctx, const char *uri, const char *error)
{
	struct receive *r = ctx;
	if (r->common.json)
		gw__cli_json(
			json_pack("{ss so so}", "event", "paused", "uri", gw__cli_json_text(uri), "message", gw__cli_json_text(error)));
	gw__ui_error(0,
		"%s%sthe guest is paused in its source (or, if the source's status is failed, runs there); waiting for the source at %s (migrate -r %s)",
		error, *error ? "; " : "", uri, uri);
	return 0;
}

static void report(struct receive *r, const struct gw_receive_result *got, double seconds)
{
	if (r->common.json)
		gw__cli_json(gw__cli_json_at(
			json_pack("{ss so so so so so so si si sb sb sb si sb so sf}", "event", "done", "image",
				gw__cli_json_text(r->image), "stream_bytes", gw__cli_json_size(got->stream_bytes), "ram_bytes",
				gw__cli_json_size(got->ram_bytes), "pages", gw__cli_json_size(got->pages), "zero_pages",
				gw__cli_json_size(got->zero_pages), "xbzrle_pages", gw__cli_json_size(got->xbzrle_pages), "devices",
				(int)got->devices, "rounds", (int)got->rounds, "source_notified", got->source_notified, "background",
				got->background, "postcopy", got->postcopy, "breaks", (int)got->breaks, "host_crashed", got->host_crashed,
				"trailing_bytes", gw__cli_json_size(got->trailing_bytes), "seconds", seconds),
			&got->outcome));
	if (got->trailing_bytes)
		gw__ui_error(0, "%ju bytes after the end of the stream were ignored", (uintmax_t)got->trailing_bytes);
	if (got->host_crashed)
		gw__ui_error(0,
			"this host restarted, or a disk failed, after the last checkpoint, so later pages were requested again; if the source has the "
			"capability release-ram, do not use the image");
	if (got->was_complete) {
		gw__ui_info("no page was missing: the guest is kept in %s%s", r->image,
			r->opts.without_source ? "; its source was not notified and must not run it" : "");
		return;
	}
	gw__ui_info("kept in %s: %s of RAM and %u devices, received as %s in %.1f s%s%s", r->image, GW__SIZE(got->ram_bytes), got->devices,
		GW__SIZE(got->stream_bytes), seconds, r->opts.resume ? " since it was resumed" : "",
		got->source_notified ? "; the source is notified" : "");
}

/* Where the next command can be told to listen, and a source to connect. */
static const char *address(const struct receive *r) { return *r->at ? r->at : r->uri; }

static bool listens(const struct receive *r)
{
	return !strncmp(r->uri, "tcp:", 4) || !strncmp(r->uri, "unix:", 5) || !strncmp(r->uri, "vsock:", 6);
}

/* --- where the guest is after the command; godwit.h has the ids --- */

enum { TEXT_BYTES = 5 * 4200 };
typedef void say_fn(const struct receive *r, char *text, size_t n);

static void say_no_image(const struct receive *r, char *text, size_t n)
{
	(void)r;
	snprintf(text, n, "no image was written");
}

/* A pipe or a file has no source that runs a guest. */
static void say_source_runs(const struct receive *r, char *text, size_t n)
{
	snprintf(text, n, "no image was written%s", listens(r) ? ", and the source still runs its guest" : "");
}

static void say_source_may_switch(const struct receive *r, char *text, size_t n)
{
	snprintf(text, n, "no image was written%s",
		listens(r) ? "; the source still runs its guest unless it was switching to post-copy: " ASK_IT : "");
}

/* A source without return path may believe that all went well, once it has written everything. */
static void say_source_may_be_paused(const struct receive *r, char *text, size_t n)
{
	snprintf(text, n, "no image was written%s",
		listens(r) ? "; a source without return path may have paused its guest: resume it there (cont)" : "");
}

/* Whole and under its name, and only its folder is not safe: the source was told of a failure. */
static void say_not_synced(const struct receive *r, char *text, size_t n)
{
	snprintf(text, n, "the image is whole, but a crash of this host now may bring the previous file back%s",
		!listens(r) ? ""
			    : "; the source still runs its guest or, without a return path, may have paused it: resume it there (cont)");
}

/* A descriptor cannot be connected to again. */
static const char *again_at(const struct receive *r) { return listens(r) ? address(r) : "URI"; }

static void say_part_kept(const struct receive *r, char *text, size_t n)
{
	const char *uri = again_at(r);
	snprintf(text, n,
		"the guest is paused in its source (postcopy-paused) and %ju of its pages are missing here: start godwit receive --resume %s %s and "
		"reconnect the source (migrate -r %s), or use --abandon to return the guest to its source",
		(uintmax_t)r->got.outcome.missing_pages, uri, r->image, uri);
}

/* The man page has what to do if the source has its guest. */
static void say_all_kept(const struct receive *r, char *text, size_t n)
{
	snprintf(text, n,
		"%s%s; check query-migrate of the source: only if it does not run its guest and cannot, type godwit receive --resume "
		"--without-source %s %s",
		r->image, r->got.outcome.committed ? " is whole" : ".partial has every page, but is not synced", again_at(r), r->image);
}

static void say_in_switch(const struct receive *r, char *text, size_t n)
{
	const char *uri = again_at(r);
	snprintf(text, n,
		"no image was written, and the source had stopped its guest to switch to post-copy: " ASK_IT
		"; then start godwit receive --abandon %s %s and reconnect the source (migrate -r %s)",
		uri, r->image, uri);
}

/* The guest is kept and runs in its source: two of them, if no operator is told. */
static void say_not_notified(const struct receive *r, char *text, size_t n)
{
	snprintf(text, n, "the guest is kept in %s, but the source was not notified and %s", r->image,
		r->got.postcopy ? "runs it, or hangs (a QEMU 7.2 that had switched to post-copy)" : "still runs it");
}

static void say_not_begun(const struct receive *r, char *text, size_t n)
{
	(void)r;
	snprintf(text, n, "nothing was started");
}

static const struct {
	const char *id;
	say_fn *say;
} SAID[] = {
	{"source-runs", say_source_runs},
	{"source-runs-or-switches", say_source_may_switch},
	{"source-may-be-paused", say_source_may_be_paused},
	{"kept-not-synced", say_not_synced},
	{"part-kept", say_part_kept},
	{"all-kept-not-ended", say_all_kept},
	{"broken-in-switch", say_in_switch},
	{"source-not-notified", say_not_notified},
};

static int failed(struct receive *r, int rc)
{
	char text[TEXT_BYTES];
	say_fn *say = rc == -EALREADY ? say_not_begun : say_no_image;
	for (unsigned i = 0; i < GW__LEN(SAID); i++)
		if (!strcmp(SAID[i].id, r->got.outcome.message))
			say = SAID[i].say;
	say(r, text, sizeof text);
	return gw__command_ctx_failed_at(&r->work, &r->got.outcome, text);
}

static int give_back(struct receive *r)
{
	int status = gw__command_ctx_begin(&r->work, &r->common);
	if (status != GW__CLI_GO)
		return status;
	int rc = gw_partial_source_rollback(r->work.job, r->uri, r->image, &r->opts);
	gw__cli_progress_end(&r->work.progress);
	struct gw_outcome outcome = GW_INIT(outcome);
	gw_job_outcome(r->work.job, &outcome);
	if (outcome.place == GW_PLACE_SOURCE_RUNS && rc)
		status = gw__command_ctx_failed_at(&r->work, &outcome, "the source has its guest again (type cont if it is paused)");
	else if (outcome.place == GW_PLACE_BOTH_POSSIBLE)
		status = gw__command_ctx_failed_at(&r->work, &outcome,
			"the source did not confirm that it has its guest, so the files are kept; check its query-migrate, and start this again if it is "
			"postcopy-paused");
	else if (rc)
		status = gw__command_ctx_failed_at(&r->work, &outcome, "nothing was changed");
	else
		gw__ui_info("the source has its guest again (type cont if it is paused), and the received part is deleted");
	gw__command_ctx_end(&r->work);
	return rc ? status : GW__EXIT_DONE;
}

static int run(struct receive *r)
{
	if (r->uri && strncmp(r->uri, "exec:", strlen("exec:"))) /* whoever connects before the source does takes one too */
		gw__cli_raise_descriptor_limit();
	int status = gw__command_ctx_begin(&r->work, &r->common);
	if (status != GW__CLI_GO)
		return status;
	int rc = gw_receive(r->work.job, r->uri, r->image, &r->opts, &r->got);
	gw__cli_progress_end(&r->work.progress);
	if (rc)
		status = failed(r, rc);
	else
		report(r, &r->got, gw__cli_progress_seconds(&r->work.progress));
	gw__command_ctx_end(&r->work);
	return rc ? status : GW__EXIT_DONE;
}

int gw__cli_receive(int argc, char **argv)
{
	struct receive r = {.common = GW__CLI_COMMON_INIT,
		.link = {.size = sizeof r.link},
		.tls = {.size = sizeof r.tls},
		.opts = {.size = sizeof r.opts},
		.got = {.size = sizeof r.got}};
	const struct gw__cli_option options[] = {
		GW__CLI_BYTES("offset", "BYTES", &r.opts.image_offset,
			"where the image begins in IMAGE; earlier bytes of an existing file are kept"),
		GW__CLI_SECONDS("idle-timeout", &r.link.idle_timeout_ms,
			"silence that counts as a broken link (default: 30; none: wait without limit)"),
		GW__CLI_SECONDS("connect-timeout", &r.link.connect_timeout_ms, "how long to wait for a source (default: none)"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &r.link.max_bandwidth, "read at most so many bytes per second"),
		GW__CLI_BYTES("memory-limit", "BYTES", &r.opts.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&r.common),
		GW__CLI_CHANNELS(&r.opts.channels, "multifd channels to wait for (default: as many as connect, right for QEMU since 8.1)"),
		GW__CLI_FLAG("direct-io", &r.opts.direct_io, "write memory past the page cache"),
		GW__CLI_FLAG("resume", &r.opts.resume, "resume a broken receive whose source waits in postcopy-paused"),
		GW__CLI_FLAG("without-source", &r.opts.without_source,
			"with --resume: finish without the source, if no page is missing and you made sure that it never runs its guest again"),
		GW__CLI_FLAG("abandon", &r.abandon,
			"give up the unfinished image: the guest runs on in its source, and the received part is deleted"),
		GW__CLI_TEXT("tls-creds", "DIR", &r.tls.creds_dir, "use TLS with the credentials in this folder"),
		GW__CLI_TEXT("tls-authz", "DN", &r.tls.authz, "let only a source with this distinguished name connect"),
		GW__CLI_TLS_PRIORITY(&r.tls.priority),
		GW__CLI_COMMON(&r.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("URI IMAGE [options]",
		"Waits at URI for one incoming migration and keeps the guest in IMAGE. An existing IMAGE is replaced only when the new one "
		"is whole and synced. URI is tcp:HOST:PORT, unix:PATH, vsock:CID:PORT to listen at, or fd:N, exec:COMMAND, file:PATH to "
		"read from.",
		options, 2, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status == GW__CLI_GO)
		status = gw__cli_image_name(argv[0], &args.arg[1]);
	if (status != GW__CLI_GO)
		return status;
	r.uri = args.arg[0];
	r.image = args.arg[1];
	r.link.tls = r.tls.creds_dir ? &r.tls : NULL;
	if (r.tls.authz && !r.tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-authz needs --tls-creds");
	if (r.tls.priority && !r.tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-priority needs --tls-creds");
	if (r.opts.resume && (r.opts.image_offset || r.opts.channels || r.opts.direct_io))
		return gw__ui_error(GW__EXIT_USAGE, "--resume keeps the options of the first receive: leave out --offset, --channels and "
						    "--direct-io");
	if (r.opts.without_source && !r.opts.resume)
		return gw__ui_error(GW__EXIT_USAGE, "--without-source needs --resume");
	if (r.abandon && (r.opts.resume || r.opts.image_offset || r.opts.channels || r.opts.direct_io))
		return gw__ui_error(GW__EXIT_USAGE, "--abandon writes no image: leave out --resume, --offset, --channels and --direct-io");
	r.opts.link = &r.link;
	r.opts.on_paused = on_paused;
	r.opts.on_listening = on_listening;
	r.opts.ctx = &r;
	return r.abandon ? give_back(&r) : run(&r);
}
