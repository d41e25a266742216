/* SPDX-License-Identifier: MIT */
/*
 * godwit save: keep a running QEMU's guest in an image while it runs. The flow and the worker; the QEMU's side is in save_source.c,
 * and what is left of a failure in save_failed.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "cli/ui/check_caps.h"
#include "cli/cmd/commands.h"
#include "cli/cmd/save.h"

static void on_listening(void *ctx, const char *uri)
{
	struct gw__save *s = ctx;
	snprintf(s->listening, sizeof s->listening, "%s", uri);
	gw__private_socket_listens(&s->own);
}

static int on_ready(void *ctx) { return gw__save_start(ctx); }

static void *receive(void *ctx)
{
	struct gw__save *s = ctx;
	struct gw_link_opts link = GW_INIT(link);
	struct gw_receive_opts o = GW_INIT(o);
	link.idle_timeout_ms = s->idle_ms;
	link.connect_timeout_ms = s->postcopy ? 30000 : 10000;
	o.link = &link;
	link.tls = s->tls.creds_dir ? &s->tls : NULL;
	link.max_bandwidth = s->at_start || s->channels ? s->max_bandwidth : 0; /* QEMU's own limit does not hold there (channels.md 5.3) */
	link.peer_uid = s->own.folder[0] ? &s->own.uid : NULL;
	o.image_offset = s->offset;
	o.memory_limit = s->memory_limit;
	o.channels = s->channels;
	o.direct_io = s->direct_io;
	o.resume = s->resume;
	o.note = s->note;
	o.note_bytes = s->note ? strlen(s->note) : 0;
	o.on_paused = gw__save_on_paused;
	o.on_whole = gw__save_on_whole;
	o.on_told = gw__save_on_told;
	o.on_listening = on_listening;
	o.on_ready = on_ready;
	o.ctx = s;
	s->result = s->listen ? gw_receive(s->work.job, s->listen, s->path, &o, &s->receipt)
			      : gw_receive_fd(s->work.job, s->our_fd, s->path, &o, &s->receipt);
	atomic_store(&s->done, true);
	return NULL;
}

static void add_extra(void *ctx, struct gw__cli_extra *extra)
{
	struct gw__save *s = ctx;
	extra->known = atomic_load(&s->started);
	extra->remaining_bytes = atomic_load(&s->remaining_bytes);
	extra->dirty_bytes_per_s = atomic_load(&s->dirty_bytes_per_s);
}

/* Several channels need an address. */
static int make_address(struct gw__save *s)
{
	int r = gw__private_socket_make(&s->own, s->qmp, &s->error);
	s->listen = r ? NULL : s->own.uri;
	return r;
}

static int make_link(struct gw__save *s)
{
	int pair[2];
	s->source_fd = -1;
	if (s->listen)
		return 0;
	if (!gw__qmp_can_pass_fds(s->qmp)) {
		s->listen = "tcp:127.0.0.1:0";
		return 0;
	}
	if (s->channels || s->tls.creds_dir || s->postcopy)
		return make_address(s);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return gw__error_errno(&s->error, errno, "cannot make a socket pair");
	s->our_fd = pair[0];
	s->source_fd = pair[1];
	return 0;
}

static void report(const struct gw__save *s)
{
	const struct gw_receive_result *r = &s->receipt;
	double pause_ms = s->resumed_us > s->stopped_us && s->stopped_us ? (double)(s->resumed_us - s->stopped_us) / 1000 : 0;
	char now[80] = "runs on";
	if (!strcmp(s->state, "postmigrate"))
		snprintf(now, sizeof now, "is stopped");
	else if (strcmp(s->state, "running"))
		snprintf(now, sizeof now, "is %s%s", s->state, s->kept ? " as before" : "");
	if (s->common.json) {
		gw__cli_json(json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:b, s:s, s:f}", "event", "saved", "image",
			gw__cli_json_text(s->path), "ram_bytes", gw__cli_json_size(r->ram_bytes), "stream_bytes",
			gw__cli_json_size(r->stream_bytes), "pages", (json_int_t)r->pages, "zero_pages", (json_int_t)r->zero_pages,
			"rounds", (json_int_t)r->rounds, "running", !strcmp(s->state, "running"), "state", s->state, "paused_ms",
			pause_ms));
		return;
	}
	gw__ui_info("saved %s of memory into %s (%s received); the guest %s", GW__SIZE(r->ram_bytes), s->path, GW__SIZE(r->stream_bytes),
		now);
	if (pause_ms > 0)
		gw__ui_info("the guest stood still for %.0f ms", pause_ms);
}

static int run(struct gw__save *s)
{
	pthread_mutex_init(&s->talk, NULL);
	int r = s->postcopy && !s->resume ? gw__save_make_note(s) : 0;
	if (!r)
		r = make_link(s);
	if (!r)
		r = gw__watchdog_start(&s->guard, s->address, s->before, s->identity, s->was, s->postcopy ? s->path : NULL, &s->own,
			&s->error);
	if (r)
		return gw__cli_failed(&s->common, GW__EXIT_FAILED, "%s; nothing was changed", s->error.text);
	gw__cli_progress_hook(&s->work.progress, add_extra, s);
	r = pthread_create(&s->thread, NULL, receive, s);
	if (r)
		return gw__cli_failed(&s->common, GW__EXIT_FAILED, "cannot start a thread: %s; nothing was changed", strerror(r));
	gw__save_follow(s);
	pthread_join(s->thread, NULL);
	gw__cli_progress_end(&s->work.progress);
	if (s->result || gw__save_finish(s))
		return gw__save_failed(s);
	report(s);
	return GW__EXIT_DONE;
}

/* Without an address of the user's QEMU is handed a socket, or connects to one of ours where it needs several. */
static int check_combination(const struct gw__save *s)
{
	static const char *const methods[] = {NULL, "zlib", "zstd"};
	struct gw__cli_requested_caps w = {0};
	gw__cli_requested_caps_add(&w, s->at_start ? "background-snapshot" : "return-path");
	gw__cli_requested_caps_add(&w, s->channels ? "multifd" : NULL);
	gw__cli_requested_caps_add(&w, s->postcopy ? "postcopy-ram" : NULL);
	gw__cli_requested_caps_add(&w, methods[s->compression]);
	gw__cli_requested_caps_add(&w, s->tls.creds_dir ? "tls" : NULL);
	gw__cli_requested_caps_add(&w, s->direct_io ? "direct-io" : NULL);
	gw__cli_requested_caps_add(&w, s->offset ? "offset" : NULL);
	if (s->listen)
		gw__cli_requested_caps_add(&w, gw__cli_ability_of_uri(s->listen));
	return gw__cli_check_caps(&s->common, GW_OPERATION_SAVE, &w, 0);
}

static int not_opened(const struct gw__save *s)
{
	int status = s->error.code == -ENOLINK ? GW__EXIT_RECOVERABLE : s->refused ? GW__EXIT_REFUSED : GW__EXIT_FAILED;
	return gw__cli_failed(&s->common, status, "%s; nothing was changed", s->error.text);
}

int gw__cli_save(int argc, char **argv)
{
	struct gw__save s = {.common = GW__CLI_COMMON_INIT, .source_fd = -1, .our_fd = -1, .tls = {.size = sizeof s.tls}};
	unsigned at = 1;
	const struct gw__cli_option options[] = {
		GW__CLI_FLAG("stop", &s.stop, "leave the guest stopped afterwards"),
		GW__CLI_FLAG("postcopy", &s.postcopy,
			"stop the guest after one pass over its memory, so that the save ends however much it writes"),
		GW__CLI_FLAG("resume", &s.resume, "with --postcopy: go on with what was left of a save whose QEMU is in postcopy-paused"),
		GW__CLI_FLAG("abandon", &s.abandon,
			"with --postcopy: let the guest of such a save run on in its QEMU, and drop what was left"),
		GW__CLI_CHOICE("at", "start|end", &at,
			"which moment of the guest to keep: the end of the save (default), or its start, by a background snapshot"),
		GW__CLI_BYTES("offset", "N", &s.offset, "begin the image at this offset and keep what the file has before it"),
		GW__CLI_TEXT("listen", "URI", &s.listen, "let QEMU connect to this address instead of handing it a socket"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &s.max_bandwidth, "let QEMU send no faster than this"),
		GW__CLI_SECONDS("idle-timeout", &s.idle_ms, "silence that counts as a failure (default 30)"),
		GW__CLI_BYTES("memory-limit", "BYTES", &s.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&s.common),
		GW__CLI_CHANNELS(&s.channels, "let QEMU send over N multifd channels (default: none)"),
		GW__CLI_CHOICE("compress", "none|zlib|zstd", &s.compression, "let QEMU compress what it sends over them"),
		GW__CLI_COUNT("level", "N", &s.level, "how hard to compress: zlib 1..9, zstd 1..20 (default: 1)"),
		GW__CLI_FLAG("direct-io", &s.direct_io, "write memory past the page cache"),
		GW__CLI_TEXT("tls-creds", "DIR", &s.tls.creds_dir,
			"speak TLS, with the credentials in this folder; QEMU uses those its own parameter tls-creds names"),
		GW__CLI_TEXT("tls-authz", "DN", &s.tls.authz, "let only a QEMU with this distinguished name connect"),
		GW__CLI_TLS_PRIORITY(&s.tls.priority),
		GW__CLI_COMMON(&s.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("QMP IMAGE [options]",
		"Keep the guest of a running QEMU in an image while it runs. QMP is the path of QEMU's monitor socket, unix:PATH or "
		"tcp:HOST:PORT.",
		options, 2, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status == GW__CLI_GO)
		status = gw__cli_image_name(argv[0], &args.arg[1]);
	if (status != GW__CLI_GO)
		return status;
	s.address = args.arg[0];
	s.path = args.arg[1];
	s.at_start = at == 0;
	if ((s.resume || s.abandon) && !s.postcopy)
		return gw__ui_error(GW__EXIT_USAGE, "--%s needs --postcopy: no other save leaves a part", s.resume ? "resume" : "abandon");
	if (s.resume && s.abandon)
		return gw__ui_error(GW__EXIT_USAGE, "either --resume or --abandon: the image or the guest");
	s.resume = s.resume || s.abandon;
	if (s.level && !s.compression)
		return gw__ui_error(GW__EXIT_USAGE, "--level needs --compress");
	if (s.tls.authz && !s.tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-authz needs --tls-creds");
	if (s.tls.priority && !s.tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-priority needs --tls-creds");
	if (s.postcopy && s.channels)
		return gw__ui_error(GW__EXIT_REFUSED, "in post-copy all pages come over the main channel; leave out --channels");
	status = check_combination(&s);
	if (status != GW__CLI_GO)
		return status;
	s.receipt.size = sizeof s.receipt;
	status = gw__command_ctx_begin(&s.work, &s.common);
	if (status == GW__CLI_GO)
		status = gw__save_open(&s) ? not_opened(&s) : s.abandon ? gw__save_abandon(&s) : run(&s);
	gw__watchdog_dismiss(&s.guard);
	gw__save_close(&s);
	gw__command_ctx_end(&s.work);
	return status;
}
