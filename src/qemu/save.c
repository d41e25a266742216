/* SPDX-License-Identifier: MIT */
/*
 * Keeps a running QEMU's guest in an image while it runs. The call, its flow and the worker; the QEMU's side is in save_source.c,
 * and what is left of a failure in save_failed.c. See save.h.
 */
#include "qemu/save.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/requested_caps.h"
#include "qemu/guest_outcome.h"
#include "thread/thread.h"

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
	link.idle_timeout_ms = s->o.idle_timeout_ms;
	link.connect_timeout_ms = s->postcopy ? 30000 : 10000;
	o.link = &link;
	link.tls = s->o.tls;
	/* QEMU's own limit does not hold there (channels.md 5.3), or is that of the save that broke */
	link.max_bandwidth = s->at_start || s->o.channels || s->resume ? s->o.max_bandwidth : 0;
	link.peer_uid = s->own.folder[0] ? &s->own.uid : NULL;
	o.image_offset = s->o.image_offset;
	o.memory_limit = s->o.memory_limit;
	o.channels = s->o.channels;
	o.direct_io = s->o.direct_io;
	o.resume = s->resume;
	o.note = s->note;
	o.note_bytes = s->note ? strlen(s->note) : 0;
	o.on_paused = gw__save_on_paused;
	o.on_whole = gw__save_on_whole;
	o.on_source_notified = gw__save_on_source_notified;
	o.on_listening = on_listening;
	o.on_ready = on_ready;
	o.ctx = s;
	s->result = s->listen ? gw_receive(s->driver->job, s->listen, s->path, &o, &s->receipt)
			      : gw_receive_fd(s->driver->job, s->our_fd, s->path, &o, &s->receipt);
	atomic_store(&s->done, true);
	return NULL;
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
	if (s->o.channels || s->o.tls || s->postcopy)
		return make_address(s);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return gw__error_errno(&s->error, errno, "cannot make a socket pair");
	s->our_fd = pair[0];
	s->source_fd = pair[1];
	return 0;
}

static int start_guard(struct gw__save *s)
{
	return gw__watchdog_start(&s->guard,
		&(struct gw__watchdog_post){.address = s->address,
			.image = s->path,
			.direct = s->direct,
			.may_switch = s->postcopy,
			.listen = s->o.listen,
			.tls = s->o.tls,
			.before = s->before,
			.identity = s->identity,
			.was = s->was,
			.own = &s->own,
			.on_end = s->o.on_guard_end,
			.ctx = s->o.ctx},
		&s->error);
}

int gw__save_end(struct gw__save *s, enum gw_qemu_save_outcome outcome, int code, const char *fmt, ...)
{
	char text[GW__ERROR_BYTES];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	s->out.outcome = outcome;
	return gw__qemu_fail(s->driver, code, "%s", text);
}

static void fill_in(struct gw__save *s)
{
	const struct gw_receive_result *r = &s->receipt;
	struct gw_qemu_save_result *out = &s->out;
	out->way = s->direct ? GW_WAY_DIRECT : GW_WAY_STREAM;
	out->was_running = s->was.running;
	out->running = gw__qmp_run_state_of(s->state) == GW__RUN_STATE_RUNNING;
	out->stopped = gw__qmp_run_state_of(s->state) == GW__RUN_STATE_POSTMIGRATE;
	out->state_kept = s->kept;
	snprintf(out->run_state, sizeof out->run_state, "%s", s->state);
	out->ram_bytes = r->ram_bytes;
	out->stream_bytes = r->stream_bytes;
	out->pages = r->pages;
	out->zero_pages = r->zero_pages;
	out->missing_pages = r->missing_pages;
	out->rounds = r->rounds;
	out->paused_us = s->resumed_us > s->stopped_us && s->stopped_us ? s->resumed_us - s->stopped_us : 0;
	enum gw_place alone = s->was.running ? GW_PLACE_SOURCE_RUNS : GW_PLACE_SOURCE_PAUSED;
	out->guest = gw__guest_after_save(s->resume || s->abandon ? GW_PLACE_KEPT_IN_PART : alone, out);
}

static int done(struct gw__save *s)
{
	s->out.outcome = GW_QEMU_SAVE_DONE;
	s->out.image_kept = true;
	return 0;
}

static int run_stream(struct gw__save *s)
{
	int r = s->postcopy && !s->resume ? gw__save_make_note(s) : 0;
	if (!r)
		r = make_link(s);
	if (!r)
		r = start_guard(s);
	int err = r ? 0 : gw__thread_start(&s->thread, receive, s);
	if (err)
		r = gw__error_set(&s->error, -err, "cannot start a thread: %s", strerror(err));
	if (r && s->our_fd >= 0)
		close(s->our_fd);
	if (r)
		return gw__save_end(s, GW_QEMU_SAVE_NOT_BEGUN, r, "%s", s->error.text);
	gw__save_follow(s);
	pthread_join(s->thread, NULL);
	return s->result || gw__save_finish(s) ? gw__save_failed(s) : done(s);
}

/* GW__TRY_STREAM: it came to nothing, and all is as before. */
enum { GW__TRY_STREAM = 1 };
static int run_direct(struct gw__save *s)
{
	if (start_guard(s))
		return gw__save_end(s, GW_QEMU_SAVE_NOT_BEGUN, s->error.code, "%s", s->error.text);
	if (!gw__save_direct(s) && !gw__save_finish(s))
		return done(s);
	int r = gw__save_failed(s);
	gw__watchdog_dismiss(&s->guard);
	return s->try_stream && s->out.outcome == GW_QEMU_SAVE_FAILED && !gw__qemu_cancelled(s->driver) ? GW__TRY_STREAM : r;
}

static int run(struct gw__save *s)
{
	int r = s->direct ? run_direct(s) : GW__TRY_STREAM;
	if (r != GW__TRY_STREAM)
		return r;
	if (s->direct) {
		gw__qemu_note(s->driver, "%s; the save starts again as a stream", s->driver->error.text);
		gw__error_clear(&s->driver->error);
		if (gw__save_look_again(s))
			return gw__save_end(s, GW_QEMU_SAVE_NOT_BEGUN, s->error.code, "%s", s->error.text);
	}
	return run_stream(s);
}

/* Without an address of the user's QEMU is handed a socket, or connects to one of ours where it needs several. */
static int check_combination(struct gw__save *s)
{
	static const char *const methods[] = {NULL, "zlib", "zstd"};
	struct gw__requested_caps w = {0};
	struct gw_rule refusal = GW_INIT(refusal);
	if ((unsigned)s->o.compression >= GW__LEN(methods))
		return gw__save_end(s, GW_QEMU_SAVE_REFUSED, -EINVAL, "there is no method of compression %u", (unsigned)s->o.compression);
	if ((unsigned)s->o.way > GW_QEMU_SAVE_DIRECT)
		return gw__save_end(s, GW_QEMU_SAVE_REFUSED, -EINVAL, "there is no way of saving %u", (unsigned)s->o.way);
	if (s->postcopy && s->o.channels)
		return gw__save_end(s, GW_QEMU_SAVE_REFUSED, -EOPNOTSUPP,
			"in post-copy all pages use the main channel, but multifd channels were requested");
	gw__requested_caps_add(&w, s->at_start ? "background-snapshot" : "return-path");
	gw__requested_caps_add(&w, s->o.channels ? "multifd" : NULL);
	gw__requested_caps_add(&w, s->postcopy ? "postcopy-ram" : NULL);
	gw__requested_caps_add(&w, methods[s->o.compression]);
	gw__requested_caps_add(&w, s->o.tls ? "tls" : NULL);
	gw__requested_caps_add(&w, s->o.direct_io ? "direct-io" : NULL);
	gw__requested_caps_add(&w, s->o.image_offset ? "offset" : NULL);
	if (s->listen)
		gw__requested_caps_add(&w, gw__requested_caps_of_uri(s->listen));
	if (gw_plan_combination(GW_OPERATION_SAVE, w.name, 0, &refusal) == -EOPNOTSUPP)
		return gw__save_end(s, GW_QEMU_SAVE_REFUSED, -EOPNOTSUPP, "%s", refusal.reason);
	return 0;
}

static int open_source(struct gw__save *s)
{
	int r = gw__save_open(s);
	if (!r)
		return 0;
	enum gw_qemu_save_outcome outcome = GW_QEMU_SAVE_NOT_BEGUN;
	if (s->error.code == -ENOLINK)
		outcome = GW_QEMU_SAVE_HUNG;
	else if (s->refused)
		outcome = GW_QEMU_SAVE_REFUSED;
	return gw__save_end(s, outcome, r, "%s", s->error.text);
}

/* The locks and whatever was opened are there from here to `end`. */
static void begin(struct gw__save *s, gw_qemu *driver, const char *monitor, const char *path)
{
	*s = (struct gw__save){.driver = driver, .address = monitor, .path = path, .source_fd = -1, .our_fd = -1};
	s->receipt.size = sizeof s->receipt;
	atomic_store(&driver->rate_known, false);
	pthread_mutex_init(&s->talk, NULL);
}

static void end(struct gw__save *s, struct gw_qemu_save_result *result)
{
	gw__watchdog_dismiss(&s->guard);
	fill_in(s);
	gw__save_close(s);
	atomic_store(&s->driver->rate_known, false);
	pthread_mutex_destroy(&s->talk);
	gw__qemu_give_result(result, &s->out, sizeof s->out);
}

int gw_qemu_save(gw_qemu *qemu, const char *monitor, const char *path, const struct gw_qemu_save_opts *o,
	struct gw_qemu_save_result *result)
{
	struct gw__save s;
	struct gw_qemu_save_opts copy;
	int r = gw__qemu_begin(qemu, "gw_qemu_save_opts", o, &copy, sizeof copy, result);
	if (r)
		return r;
	begin(&s, qemu, monitor, path);
	s.o = copy;
	s.listen = copy.listen;
	s.at_start = copy.at_start;
	s.postcopy = copy.postcopy;
	s.resume = copy.resume;
	r = check_combination(&s);
	if (!r)
		r = open_source(&s);
	if (!r)
		r = run(&s);
	end(&s, result);
	return r;
}

int gw_qemu_save_abandon(gw_qemu *qemu, const char *monitor, const char *path, struct gw_qemu_save_result *result)
{
	struct gw__save s;
	struct gw_qemu_save_opts none;
	int r = gw__qemu_begin(qemu, "gw_qemu_save_opts", NULL, &none, sizeof none, result);
	if (r)
		return r;
	begin(&s, qemu, monitor, path);
	s.o = none;
	s.postcopy = s.resume = s.abandon = true;
	r = open_source(&s);
	if (!r)
		r = gw__save_abandon(&s);
	end(&s, result);
	return r;
}
