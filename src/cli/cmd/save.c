/* SPDX-License-Identifier: MIT */
/* godwit save: keep a running QEMU's guest in an image while it runs. Options, words and exit statuses; the work is gw_qemu_save(). */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cmd/commands.h"
#include "cli/ui/command_ctx.h"

struct save {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	const char *monitor, *path;
	bool abandon;
	unsigned at, channels, compression, level, way;
	struct gw_qemu_save_opts o;
	struct gw_tls_opts tls;
	struct gw_qemu_save_result out;
};

/* A QEMU that hangs after its last page cannot run its guest again, and the received guest is whole. */
#define HANG_CURE "finish the image with godwit receive --resume --without-source unix:unused %s, then end that QEMU"

static int on_guard_end(void *ctx, const struct gw_qemu_guard_report *r)
{
	(void)ctx;
	switch (r->outcome) {
	case GW_QEMU_SAVE_HUNG:
		return gw__ui_error((int)r->guest.exit_status, "the save was killed; %s: " HANG_CURE, r->error, r->path);
	case GW_QEMU_SAVE_PAUSED:
		return gw__ui_error((int)r->guest.exit_status,
			"the save was killed after the switch to post-copy: the guest is paused in its QEMU (postcopy-paused) until godwit save --postcopy "
			"--resume %s %s has fetched the rest of its memory",
			r->monitor, r->path);
	case GW_QEMU_SAVE_FAILED:
		return gw__ui_error((int)r->guest.exit_status, "the save was killed before it finished; its QEMU is as it was before");
	default:
		return gw__ui_error((int)r->guest.exit_status, "the save was killed, and its QEMU could not be reset: %s", r->error);
	}
}

static void add_extra(void *ctx, struct gw__cli_extra *extra)
{
	const struct save *s = ctx;
	struct gw_qemu_rate rate = GW_INIT(rate);
	gw_qemu_rate(s->work.qemu, &rate);
	extra->known = rate.known;
	extra->remaining_bytes = rate.remaining_bytes;
	extra->dirty_bytes_per_s = rate.dirty_bytes_per_s;
}

static int report(const struct save *s)
{
	const struct gw_qemu_save_result *r = &s->out;
	double pause_ms = (double)r->paused_us / 1000;
	bool is_direct = r->way == GW_WAY_DIRECT;
	char now[80] = "runs on";
	if (r->stopped)
		snprintf(now, sizeof now, "is stopped");
	else if (!r->running)
		snprintf(now, sizeof now, "is %s%s", r->run_state, r->state_kept ? " as before" : "");
	if (s->common.json) {
		gw__cli_json(
			gw__cli_json_at(json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:b, s:s, s:f, s:s}", "event", "saved", "image",
						gw__cli_json_text(s->path), "ram_bytes", gw__cli_json_size(r->ram_bytes), "stream_bytes",
						gw__cli_json_size(r->stream_bytes), "pages", (json_int_t)r->pages, "zero_pages",
						(json_int_t)r->zero_pages, "rounds", (json_int_t)r->rounds, "running", r->running, "state",
						r->run_state, "paused_ms", pause_ms, "way", is_direct ? "direct" : "stream"),
				&r->guest));
		return (int)r->guest.exit_status;
	}
	gw__ui_info("saved %s of memory into %s (%s %s); the guest %s", GW__SIZE(r->ram_bytes), s->path, GW__SIZE(r->stream_bytes),
		is_direct ? "written by QEMU" : "received", now);
	if (pause_ms > 0)
		gw__ui_info("the guest was paused for %.0f ms", pause_ms);
	return (int)r->guest.exit_status;
}

/* After the switch only the rest of the guest's memory, or its operator, resumes the guest. */
static int paused(const struct save *s, const char *error)
{
	if (!s->out.recoverable)
		return gw__cli_failed_at(&s->common, &s->out.guest,
			"%s; the guest is still paused in its QEMU (postcopy-paused): remove the cause and start godwit save --postcopy --resume %s %s, or "
			"let the guest run without an image (--abandon)",
			error, s->monitor, s->path);
	return gw__cli_failed_at(&s->common, &s->out.guest,
		"%s; the guest is paused in its QEMU (postcopy-paused), and %ju of its pages are missing in %s.partial: start godwit save --postcopy "
		"--resume %s %s, or let the guest run without an image (--abandon)",
		error, (uintmax_t)s->out.missing_pages, s->path, s->monitor, s->path);
}

static int unknown(const struct save *s, const char *error)
{
	if (s->out.resumed)
		return gw__cli_failed_at(&s->common, &s->out.guest,
			"%s; QEMU is not waiting for this save, so nothing was done to it; check its query-migrate and query-status, and %s.partial",
			error, s->path);
	return gw__cli_failed_at(&s->common, &s->out.guest,
		"%s; the guest is paused in the middle of its hand-over, and QEMU's state is unclear; check its query-migrate, and %s.partial",
		error, s->path);
}

static int failed(const struct save *s, const char *error)
{
	bool is_there = access(s->path, F_OK) == 0;
	return gw__cli_failed_at(&s->common, &s->out.guest, "%s; %s%s, and the guest %s%s", error,
		is_there ? s->path : "no image was written", is_there ? " is as it was before" : "",
		s->out.was_running ? "runs on" : "is stopped as before",
		s->out.may_refuse ? ", but this old QEMU may refuse to migrate after a failed background snapshot" : "");
}

static int abandoned(const struct save *s, const char *error)
{
	const char *run = s->out.was_running ? "runs on" : "is stopped";
	if (s->out.outcome == GW_QEMU_SAVE_ABANDONED) {
		gw__ui_info("the guest %s in its QEMU as before the save, and the received part is deleted", run);
		return (int)s->out.guest.exit_status;
	}
	return gw__cli_failed_at(&s->common, &s->out.guest, "the guest %s in its QEMU as before the save, but %s", run, error);
}

static int end(struct save *s)
{
	const char *error = gw__command_qemu_error(&s->work), *run = s->out.was_running ? "runs on" : "is stopped as before";
	switch (s->out.outcome) {
	case GW_QEMU_SAVE_DONE:
		return report(s);
	case GW_QEMU_SAVE_NOT_BEGUN:
		return gw__cli_failed_at(&s->common, &s->out.guest, "%s; nothing was changed", error);
	case GW_QEMU_SAVE_REFUSED:
		return gw__cli_failed_at(&s->common, &s->out.guest, "%s; nothing was changed", error);
	case GW_QEMU_SAVE_FAILED:
		return failed(s, error);
	case GW_QEMU_SAVE_KEPT:
		return gw__cli_failed_at(&s->common, &s->out.guest, "%s; the image %s is whole all the same, and the guest %s", error,
			s->path, run);
	case GW_QEMU_SAVE_QEMU_GONE:
		return gw__cli_failed_at(&s->common, &s->out.guest, "%s; QEMU is gone, and nothing was written to %s", error, s->path);
	case GW_QEMU_SAVE_PAUSED:
		return paused(s, error);
	case GW_QEMU_SAVE_UNKNOWN:
		return unknown(s, error);
	case GW_QEMU_SAVE_HUNG:
		return gw__cli_failed_at(&s->common, &s->out.guest, "%s: " HANG_CURE, error, s->path);
	case GW_QEMU_SAVE_ABANDONED:
	case GW_QEMU_SAVE_ABANDONED_LEFT_OVER:
	case GW_QEMU_SAVE_ABANDONED_DOUBLE:
		return abandoned(s, error);
	case GW_QEMU_SAVE_NOT_ABANDONED:
		return gw__cli_failed_at(&s->common, &s->out.guest,
			"%s; the guest is paused in its QEMU, and its received part stays in %s.partial; if QEMU does not reach a socket in /tmp "
			"of this host, start godwit receive URI %s --abandon with an address that it reaches, then give it migrate -r URI",
			error, s->path, s->path);
	default: /* GW_QEMU_SAVE_NOT_PUT_BACK */
		return gw__cli_failed_at(&s->common, &s->out.guest, "%s", error);
	}
}

static int run(struct save *s)
{
	static const enum gw_qemu_save_way ways[] = {GW_QEMU_SAVE_STREAM, GW_QEMU_SAVE_AUTO, GW_QEMU_SAVE_DIRECT};
	struct gw_qemu_save_opts *o = &s->o;
	o->at_start = s->at == 0;
	o->channels = s->channels;
	o->compression = (enum gw_compression)s->compression;
	o->level = (int)s->level;
	o->page_bytes = s->common.page_bytes;
	o->way = ways[s->way];
	o->tls = s->tls.creds_dir ? &s->tls : NULL;
	o->on_guard_end = on_guard_end;
	int status = gw__command_ctx_begin(&s->work, &s->common);
	if (status == GW__CLI_GO)
		status = gw__command_ctx_drive(&s->work);
	if (status != GW__CLI_GO)
		return status;
	gw__cli_progress_hook(&s->work.progress, add_extra, s);
	if (s->abandon)
		gw_qemu_save_abandon(s->work.qemu, s->monitor, s->path, &s->out);
	else
		gw_qemu_save(s->work.qemu, s->monitor, s->path, o, &s->out);
	gw__cli_progress_end(&s->work.progress);
	return end(s);
}

/* Of a broken save by post-copy. What only a new save can do is refused. */
static int check_second_call(const struct save *s)
{
	const struct gw_qemu_save_opts *o = &s->o;
	bool anew = o->image_offset || o->direct_io || s->way || s->at == 0;
	if (o->resume && anew)
		return gw__ui_error(GW__EXIT_USAGE,
			"--resume keeps the options of the first save: leave out --offset, --direct-io, --way and --at");
	if (s->abandon && o->stop)
		return gw__ui_error(GW__EXIT_USAGE,
			"--abandon lets the guest run in its QEMU: leave out --stop, and type stop in its monitor afterwards");
	if (s->abandon && (anew || o->max_bandwidth))
		return gw__ui_error(GW__EXIT_USAGE,
			"--abandon writes no image: leave out --offset, --direct-io, --way, --at and --max-bandwidth");
	return GW__CLI_GO;
}

static int check_options(const struct save *s)
{
	const struct gw_qemu_save_opts *o = &s->o;
	if ((o->resume || s->abandon) && !o->postcopy)
		return gw__ui_error(GW__EXIT_USAGE, "--%s needs --postcopy: no other save leaves a partial image",
			o->resume ? "resume" : "abandon");
	if (o->resume && s->abandon)
		return gw__ui_error(GW__EXIT_USAGE, "--resume finishes the image and --abandon keeps the guest running: give only one of "
						    "them");
	if (s->level && !s->compression)
		return gw__ui_error(GW__EXIT_USAGE, "--level needs --compress");
	if (s->tls.authz && !s->tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-authz needs --tls-creds");
	if (s->tls.priority && !s->tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-priority needs --tls-creds");
	if (o->postcopy && s->channels)
		return gw__ui_error(GW__EXIT_REFUSED, "with --postcopy all pages use the main channel; leave out --channels");
	return check_second_call(s);
}

int gw__cli_save(int argc, char **argv)
{
	struct save s = {.common = GW__CLI_COMMON_INIT, .at = 1, .o = GW_INIT(s.o), .tls = GW_INIT(s.tls), .out = GW_INIT(s.out)};
	const struct gw__cli_option options[] = {
		GW__CLI_FLAG("stop", &s.o.stop, "leave the guest stopped afterwards"),
		GW__CLI_FLAG("postcopy", &s.o.postcopy,
			"stop the guest after one pass over its memory, so that the save ends even if the guest writes much"),
		GW__CLI_FLAG("resume", &s.o.resume, "with --postcopy: resume a broken save whose QEMU is in postcopy-paused"),
		GW__CLI_FLAG("abandon", &s.abandon,
			"with --postcopy: let the guest of such a save run in its QEMU, and delete the received part"),
		GW__CLI_CHOICE("at", "start|end", &s.at,
			"which moment of the guest to keep: the end of the save (default), or its start, by a background snapshot"),
		GW__CLI_CHOICE("way", "stream|auto|direct", &s.way,
			"let QEMU send its guest (default), write the image itself, or whichever suits"),
		GW__CLI_BYTES("offset", "N", &s.o.image_offset, "begin the image at this offset, and keep the earlier bytes of the file"),
		GW__CLI_TEXT("listen", "URI", &s.o.listen, "let QEMU connect to this address instead of handing it a socket"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &s.o.max_bandwidth, "save no faster than this"),
		GW__CLI_SECONDS("idle-timeout", &s.o.idle_timeout_ms, "silence that counts as a failure (default 30)"),
		GW__CLI_BYTES("memory-limit", "BYTES", &s.o.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&s.common),
		GW__CLI_CHANNELS(&s.channels, "let QEMU send over N multifd channels (default: none)"),
		GW__CLI_CHOICE("compress", "none|zlib|zstd", &s.compression, "let QEMU compress the pages on these channels"),
		GW__CLI_COUNT("level", "N", &s.level, "how hard to compress: zlib 1..9, zstd 1..20 (default: 1)"),
		GW__CLI_FLAG("direct-io", &s.o.direct_io, "write memory past the page cache"),
		GW__CLI_TEXT("tls-creds", "DIR", &s.tls.creds_dir,
			"use TLS with the credentials in this folder; QEMU uses those of its own parameter tls-creds"),
		GW__CLI_TEXT("tls-authz", "DN", &s.tls.authz, "let only a QEMU with this distinguished name connect"),
		GW__CLI_TLS_PRIORITY(&s.tls.priority),
		GW__CLI_COMMON(&s.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("QMP IMAGE [options]",
		"Saves the guest of a running QEMU into an image while the guest runs. QMP is the path of QEMU's monitor socket, unix:PATH "
		"or tcp:HOST:PORT.",
		options, 2, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status == GW__CLI_GO)
		status = gw__cli_image_name(argv[0], &args.arg[1]);
	if (status != GW__CLI_GO)
		return status;
	s.monitor = args.arg[0];
	s.path = args.arg[1];
	status = check_options(&s);
	if (status == GW__CLI_GO)
		status = run(&s);
	gw__command_ctx_end(&s.work);
	return status;
}
