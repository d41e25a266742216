/* SPDX-License-Identifier: MIT */
/*
 * The page server's turns: one for each connection to a QEMU, again and again while the guest waits and each brings it something.
 * Not how a QEMU gets to listen (lazy.c, lazy_recover.c); see lazy.h. The monitor's thread; the hooks run in it too.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "cli/lazy.h"

enum { ATTEMPTS_MAX = 5 }; /* recoveries in a row that bring no page */

/* The address is found no more; and from now on QEMU may get a guest that needs its pages. */
static void on_connected(void *ctx)
{
	struct gw__lazy *l = ctx;
	if (l->taken && !gw__lazy_is_qemu(l, l->socket)) {
		shutdown(l->socket, SHUT_RDWR);
		return;
	}
	if (l->preempt && l->resumes)
		gw__lazy_await_accepted(l);
	gw__lazy_remove_socket(l);
	if (l->phase == GW__KEEPER_RUNS)
		return;
	l->loading = !l->resumes;
	gw__lazy_note(l, GW__KEEPER_RUNS);
}

static void on_socket(void *ctx, int fd) { gw__keeper_hold(&((struct gw__lazy *)ctx)->keeper, fd); }

static void on_taken_socket(void *ctx, int fd) { ((struct gw__lazy *)ctx)->socket = fd; }

static void on_guest_runs(void *ctx)
{
	struct gw__lazy *l = ctx;
	if (l->resumes && l->preempt == GW_PREEMPT_ON)
		gw__keeper_let_go_soon(&l->keeper);
	else if (l->resumes)
		gw__keeper_let_go(&l->keeper);
	if (l->loading)
		gw__lazy_note_loaded(l);
}

static void on_note(void *ctx, const char *sentence)
{
	(void)ctx;
	gw__cli_tell("%s", sentence);
}

static int serve_once(struct gw__lazy *l, bool resume)
{
	struct gw_link_opts link = l->wish.link;
	struct gw_tls_opts tls = l->wish.tls;
	struct gw_serve_opts o = GW_INIT(o);
	struct gw_serve_block *blocks = calloc(l->blocks_n + 1, sizeof *blocks);
	char *working_set = gw__cli_working_set(l->path);
	if (!blocks || !working_set) {
		free(blocks);
		free(working_set);
		return gw__why_set(&l->why, -ENOMEM, "no memory to serve pages");
	}
	for (unsigned i = 0; i < l->blocks_n; i++)
		blocks[i] = (struct gw_serve_block){l->blocks[i].name, l->blocks[i].page_bytes};
	link.size = sizeof link;
	tls.size = sizeof tls;
	link.tls = tls.creds_dir ? &tls : NULL;
	o.link = &link;
	o.answer_timeout_ms = l->wish.answer_ms;
	o.image_offset = l->offset;
	o.resume = l->resumes = resume;
	o.block = blocks;
	o.blocks = l->blocks_n;
	o.on_connected = on_connected;
	if (l->taken)
		o.on_socket = on_taken_socket;
	else
		o.on_socket = resume && !tls.creds_dir ? on_socket : NULL; /* a TLS session dies with its process */
	o.on_guest_runs = on_guest_runs;
	o.joined = l->joined;
	o.preempt = l->preempt;
	o.working_set = l->wish.working_set == GW__WORKING_SET_ON ? working_set : NULL;
	o.on_note = on_note;
	o.ctx = l;
	l->result = (struct gw_serve_result)GW_INIT(l->result);
	int r = gw_serve(l->work->job, l->path, l->uri, &o, &l->result);
	free(blocks);
	free(working_set);
	l->joined = l->taken = false;
	if (r && resume)
		gw__keeper_let_go(&l->keeper);
	l->guest = !r ? GW__GUEST_WHOLE : l->result.recoverable ? GW__GUEST_WAITS : GW__GUEST_ELSEWHERE;
	if (r)
		gw__why_set(&l->why, r, "%s", gw_job_error(l->work->job));
	return r;
}

int gw__lazy_serve(struct gw__lazy *l, bool resume)
{
	unsigned in_vain = 0;
	int r = serve_once(l, resume);
	while (r && l->guest == GW__GUEST_WAITS && !gw__cli_stopped()) {
		in_vain = l->result.pushed_pages + l->result.requested_pages ? 0 : in_vain + 1;
		if (in_vain == ATTEMPTS_MAX)
			return r;
		gw__cli_detail("%s; the guest waits, a new connection is made", l->why.text);
		gw__why_clear(&l->why);
		r = gw__lazy_recover(l);
		if (r || l->guest == GW__GUEST_WHOLE)
			return r;
		r = serve_once(l, true);
	}
	return r;
}
