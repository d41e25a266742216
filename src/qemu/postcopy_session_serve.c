/* SPDX-License-Identifier: MIT */
/*
 * The page server's turns: one for each connection to a QEMU, again and again while the guest waits and each brings it something.
 * Not how a QEMU gets to listen (postcopy_session.c, postcopy_session_recover.c); see postcopy_session.h. The monitor's thread; the hooks run in it too.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "qemu/postcopy_session.h"

enum { ATTEMPTS_MAX = 5 }; /* recoveries in a row that bring no page */

/* The address is found no more; and from now on QEMU may get a guest that needs its pages. */
static void on_connected(void *ctx)
{
	struct gw__postcopy_session *l = ctx;
	if (l->taken && !gw__postcopy_session_is_qemu(l, l->socket)) {
		shutdown(l->socket, SHUT_RDWR);
		return;
	}
	if (l->preempt && l->resumes)
		gw__postcopy_session_await_accepted(l);
	gw__postcopy_session_remove_socket(l);
	if (l->phase == GW__MONITOR_BROKER_RUNS)
		return;
	l->loading = !l->resumes;
	gw__postcopy_session_publish(l, GW__MONITOR_BROKER_RUNS);
}

static void on_socket(void *ctx, int fd) { gw__monitor_broker_hold_socket(&((struct gw__postcopy_session *)ctx)->broker, fd); }

static void on_taken_socket(void *ctx, int fd) { ((struct gw__postcopy_session *)ctx)->socket = fd; }

static void on_guest_runs(void *ctx)
{
	struct gw__postcopy_session *l = ctx;
	if (l->resumes && l->preempt == GW_PREEMPT_ON)
		gw__monitor_broker_release_socket_soon(&l->broker);
	else if (l->resumes)
		gw__monitor_broker_release_socket(&l->broker);
	if (l->loading)
		gw__postcopy_session_publish_loaded(l);
}

static void on_note(void *ctx, const char *sentence)
{
	const struct gw__postcopy_session *l = ctx;
	gw__qemu_note(l->driver, "%s", sentence);
}

static int serve_once(struct gw__postcopy_session *l, bool resume)
{
	struct gw_serve_opts o = GW_INIT(o);
	struct gw_serve_block *blocks = calloc(l->blocks_n + 1, sizeof *blocks);
	if (!blocks)
		return gw__error_set(&l->error, -ENOMEM, "no memory to serve pages");
	for (unsigned i = 0; i < l->blocks_n; i++)
		blocks[i] = (struct gw_serve_block){sizeof *blocks, l->blocks[i].name, l->blocks[i].page_bytes};
	l->link_opts.tls = l->tls_opts.creds_dir ? &l->tls_opts : NULL;
	o.link = &l->link_opts;
	o.answer_timeout_ms = l->opts.answer_timeout_ms;
	o.image_offset = l->offset;
	o.resume = l->resumes = resume;
	o.block = blocks;
	o.blocks = l->blocks_n;
	o.on_connected = on_connected;
	if (l->taken)
		o.on_socket = on_taken_socket;
	else
		o.on_socket = resume && !l->tls_opts.creds_dir ? on_socket : NULL; /* a TLS session dies with its process */
	o.on_guest_runs = on_guest_runs;
	o.takeover_fd = l->takeover_fd;
	o.preempt = l->preempt;
	o.working_set = l->opts.working_set;
	o.on_note = on_note;
	o.ctx = l;
	l->result = (struct gw_serve_result)GW_INIT(l->result);
	int r = gw_serve(l->driver->job, l->path, l->uri, &o, &l->result);
	free(blocks);
	l->takeover_fd = l->taken = false;
	if (r && resume)
		gw__monitor_broker_release_socket(&l->broker);
	l->guest = !r ? GW__GUEST_COMPLETE : l->result.recoverable ? GW__GUEST_POSTCOPY_PAUSED : GW__GUEST_NOT_HERE;
	if (r)
		gw__error_set(&l->error, r, "%s", gw_job_error(l->driver->job));
	return r;
}

int gw__postcopy_session_serve(struct gw__postcopy_session *l, bool resume)
{
	unsigned in_vain = 0;
	int r = serve_once(l, resume);
	while (r && l->guest == GW__GUEST_POSTCOPY_PAUSED && !gw__qemu_cancelled(l->driver)) {
		in_vain = l->result.pushed_pages + l->result.requested_pages ? 0 : in_vain + 1;
		if (in_vain == ATTEMPTS_MAX)
			return r;
		gw__qemu_detail(l->driver, "%s; the guest waits while Godwit reconnects", l->error.text);
		gw__error_clear(&l->error);
		r = gw__postcopy_session_recover(l);
		if (r || l->guest == GW__GUEST_COMPLETE)
			return r;
		r = serve_once(l, true);
	}
	return r;
}
