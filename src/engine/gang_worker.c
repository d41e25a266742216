/* SPDX-License-Identifier: MIT */
/* What one receiving worker does: header, judgement, pages (gang_pages.c), sync. See gang.h. */
#include <errno.h>
#include <stdlib.h>

#include "engine/gang_internal.h"
#include "image/lane.h"

typedef unsigned long long ull;

/*
 * Where a guest has nothing but zeros, packets are small and come one after the other: to be woken up for each costs more than
 * the packet, here and at the source. What a socket holds of them lasts several times as long as this.
 */
enum { ALL_EMPTY = 8, GATHER_US = 500 };

/*
 * The first bytes of a packet. For them there is no limit: a channel may have nothing to do for as long as the main channel is
 * busy, and that one has a limit, as has a sync.
 */
static ssize_t await_packet(struct gw__gang_worker *w, size_t n, struct gw__why *why)
{
	const int idle_ms = w->chan->idle_ms;
	w->chan->idle_ms = -1;
	w->chan->gather_us = w->empty_n >= ALL_EMPTY ? GATHER_US : 0;
	ssize_t got = gw__chan_read(w->chan, w->head, n, why);
	w->chan->idle_ms = idle_ms;
	w->chan->gather_us = 0;
	return got;
}

/* Some headers are shorter than others, and all of those refused: so judge what is there. */
static int read_header(struct gw__gang_worker *w, struct gw__why *why)
{
	const size_t n = gw__multifd_head_bytes(w->gang->page_bytes);
	int r = GW__SHORT;
	for (size_t done = 0; r == GW__SHORT && done < n;) {
		ssize_t got = done ? gw__chan_read(w->chan, w->head + done, n - done, why) : await_packet(w, n, why);
		if (got < 0)
			return (int)got;
		if (got == 0)
			return done ? gw__why_set(why, -EPROTO, "the channel ends inside a packet header (%zu of %zu bytes)", done, n)
				    : GW__SHORT;
		done += (size_t)got;
		struct gw__rd c = gw__rd_over(w->head, done);
		r = gw__multifd_packet_decode(&c, w->gang->page_bytes, &w->packet, why);
	}
	return r == GW__SHORT ? gw__why_set(why, -EPROTO, "a packet header longer than its place") : r;
}

/* The one check of a packet against the guest: the block is known, every page lies inside. */
static int find_block(struct gw__gang_worker *w, uint32_t *block, struct gw__why *why)
{
	const struct gw__multifd_packet *p = &w->packet;
	const struct gw__blocks *blocks = w->gang->blocks;
	int64_t index = gw__blocks_find(blocks, p->block);
	if (index < 0)
		return gw__why_set(why, -EPROTO, "a packet for block \"%s\", which is not in the block list", p->block);
	uint64_t used = blocks->v[index].used_bytes;
	for (uint32_t i = 0; i < p->normal + p->zero; i++)
		if (w->gang->page_bytes > used || p->off[i] > used - w->gang->page_bytes)
			return gw__why_set(why, -EPROTO, "page %u of the packet, at offset %llx, lies outside block \"%s\" (%llu bytes)", i,
				(ull)p->off[i], p->block, (ull)used);
	*block = (uint32_t)index;
	return 0;
}

static int put_packet(struct gw__gang_worker *w, struct gw__why *why)
{
	const struct gw__multifd_packet *p = &w->packet;
	uint32_t block = 0;
	if (!p->normal && !p->zero)
		return p->payload_bytes ? gw__why_set(why, -EPROTO, "a packet without pages announces %u bytes of them", p->payload_bytes)
					: 0;
	int r = find_block(w, &block, why);
	if (!r && !gw__gang_fill(w))
		r = gw__why_set(why, -EPROTO, "pages behind the end of RAM");
	if (!r && p->normal)
		r = gw__gang_put_normal(w, block, why);
	if (!r)
		r = gw__gang_put_zeros(w, block, why);
	if (r)
		return r;
	struct gw__counters *c = &w->gang->run->counters;
	atomic_fetch_add_explicit(&w->pages, p->normal, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->zero_pages, p->zero, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->payload_bytes, p->payload_bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->pages, p->normal, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->zero_pages, p->zero, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->moved_bytes, p->payload_bytes, memory_order_relaxed);
	return 0;
}

/* GW__SHORT: the channel ended where it may. */
static int take_packet(struct gw__gang_worker *w, bool *go_on, struct gw__why *why)
{
	int r = read_header(w, why);
	if (!r)
		r = put_packet(w, why);
	if (r)
		return r;
	atomic_fetch_add_explicit(&w->packets, 1, memory_order_relaxed);
	w->empty_n = w->packet.payload_bytes ? 0 : w->empty_n + 1;
	if (!(w->packet.flags & GW__MULTIFD_SYNC))
		return 0;
	if (!gw__gang_fill(w))
		return gw__why_set(why, -EPROTO, "a SYNC behind the end of RAM; the source counts rounds in another way");
	r = gw__lane_flush(w->lane, why);
	*go_on = !r && gw__gang_arrive(w);
	return r;
}

static int work(struct gw__gang_worker *w, struct gw__why *why)
{
	bool go_on = gw__gang_wait_open(w->gang);
	w->head = malloc(gw__multifd_head_bytes(1u << 8));
	if (!w->head)
		return gw__why_set(why, -ENOMEM, "no memory for packet headers");
	int r = 0;
	while (!r && go_on)
		r = take_packet(w, &go_on, why);
	if (!r && go_on)
		r = gw__lane_flush(w->lane, why);
	if (r != GW__SHORT)
		return r;
	gw__gang_leave(w);
	return 0;
}

void *gw__gang_work(void *worker)
{
	struct gw__gang_worker *w = worker;
	struct gw__why why = {0};
	if (work(w, &why)) {
		gw__why_where(&why, "multifd channel %u, packet %llu", w->id, (ull)atomic_load(&w->packets));
		gw__gang_fail(w->gang, &why);
	}
	free(w->head);
	free(w->packed);
	gw__unpacker_free(w->unpacker);
	return NULL;
}
