/* SPDX-License-Identifier: MIT */
/*
 * One direction of one connection before its first byte is passed on: whose channel it is, and with that its faults, explainer, tap and feed.
 * See proxy_flow.c, whose thread this is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/proxy_internal.h"

enum { FEED_SLACK = 2 << 20 }; /* so that the decoder, which knows what it reads, meets its limit first */

int gw__flow_await_source(struct gw__flow *f)
{
	uint8_t first[GW__LINK_FIRST_BYTES];
	ssize_t n = gw__chan_peek(f->from, first, sizeof first, &f->why);
	if (n < 0)
		return (int)n;
	gw__link_name(f->link, first, (size_t)n);
	return 0;
}

int gw__flow_await_destination(struct gw__flow *f)
{
	uint8_t first;
	ssize_t n = gw__chan_peek(f->from, &first, 1, &f->why);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return GW__FLOW_OVER;
	gw__link_name(f->link, NULL, 0);
	return 0;
}

static int open_tap(struct gw__flow *f)
{
	const struct gw__proxy_opts *o = f->link->proxy->o;
	struct gw__chan *file = NULL, *none = NULL;
	struct gw__uri *uri = calloc(1, sizeof *uri);
	if (!uri)
		return gw__why_set(&f->why, -ENOMEM, "no memory for a tap");
	uri->kind = GW__URI_FILE;
	int n = snprintf(uri->target, sizeof uri->target, "%s/%u-%s-%s", o->tap_dir, f->link->number, f->link->name,
		f->direction == GW__PROXY_FORWARD ? "forward" : "return");
	int r = n < 0 || (size_t)n >= sizeof uri->target ? gw__why_set(&f->why, -ENAMETOOLONG, "the folder of the taps has too long a name")
							 : 0;
	memcpy(uri->text, uri->target, sizeof uri->text);
	if (!r)
		r = gw__io_open_out(uri, &o->io, &file, &f->why);
	if (!r)
		r = gw__chan_tap(&f->to, &none, &file, &f->why);
	gw__chan_close(&file, NULL);
	free(uri);
	return r;
}

static int set_up_faults(struct gw__flow *f)
{
	const struct gw__faults *faults = &f->link->proxy->faults;
	const char *name = f->link->name;
	f->cut_at = gw__faults_find(faults, GW__FAULT_CUT_AT, name, f->direction);
	f->cut_after = gw__faults_find(faults, GW__FAULT_CUT_AFTER, name, f->direction);
	int r = gw__faults_slow(faults, name, f->direction, &f->from, &f->why);
	if (!r && f->cut_after >= 0)
		r = gw__chan_cut_after(&f->from, faults->v[f->cut_after].amount, UINT64_MAX, &f->why);
	return r;
}

int gw__flow_set_up(struct gw__flow *f)
{
	struct gw__proxy *p = f->link->proxy;
	const struct gw__proxy_opts *o = p->o;
	struct gw__explain_opts eo = {.kind = gw__link_explain_as(f->link, f->direction),
		.seen = &p->seen,
		.tail_max_bytes = o->tail_max_bytes,
		.say = gw__flow_on_message,
		.ctx = f};
	int r = set_up_faults(f);
	eo.every_page = o->every_page || (f->cut_at >= 0 && gw__message_is_page(p->faults.v[f->cut_at].message));
	if (!r && gw__explain_new(&eo, &f->explain))
		r = gw__why_set(&f->why, -ENOMEM, "no memory to explain a channel");
	if (!r && o->tap_dir)
		r = open_tap(f);
	return r ? r : gw__feed_init(&f->feed, f->from, o->tail_max_bytes + FEED_SLACK, &f->why);
}
