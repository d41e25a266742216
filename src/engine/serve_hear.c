/* SPDX-License-Identifier: MIT */
/*
 * What the destination of a post-copy says: requests, PONGs, bitmaps, SHUT. Every message in every state is handled, ignored
 * for a reason that stands here, or an error that names both. See serve.h.
 */
#include <errno.h>

#include "base/math.h"
#include "engine/serve_internal.h"
#include "wire/postcopy.h"

typedef unsigned long long ull;

static int out_of_place(struct gw__serve *s, const struct gw__rp_msg *m)
{
	return gw__why_set(&s->run->why, -EPROTO, "%s: the destination sent %s, which has no place in state %s", s->main.chan->name,
		gw__rp_name(m->type), gw__pc_state_name(s->tally->state));
}

static bool after_listen(const struct gw__serve *s) { return s->tally->state >= GW__PC_DEVICE && s->tally->state <= GW__PC_ENDING; }

static int on_request(struct gw__serve *s, const struct gw__rp_msg *m)
{
	struct gw__why *why = &s->run->why;
	if (m->type == GW__RP_REQ_PAGES_ID)
		s->asked_block = gw__blocks_find(&s->image->blocks, m->block);
	if (!after_listen(s))
		return out_of_place(s, m);
	if (s->asked_block < 0)
		return gw__why_set(why, -EPROTO, "%s: a page is requested of block \"%s\", which the guest does not have",
			s->main.chan->name, m->type == GW__RP_REQ_PAGES_ID ? m->block : "(none named yet)");
	const struct gw__block *b = &s->image->blocks.v[s->asked_block];
	if (b->ignored || !m->length_bytes || !gw__is_aligned(m->start_off, s->page_bytes) ||
		!gw__is_aligned(m->length_bytes, s->page_bytes) || m->length_bytes > b->used_bytes ||
		m->start_off > b->used_bytes - m->length_bytes)
		return gw__why_set(why, -EPROTO,
			"%s: %u bytes at offset 0x%llx of block \"%s\" are requested; expected whole pages of %llu inside its %llu bytes",
			s->main.chan->name, m->length_bytes, (ull)m->start_off, b->name, (ull)s->page_bytes, (ull)b->used_bytes);
	s->tally->requests++;
	gw__serve_keep_near(s);
	return gw__serve_request(s, (uint32_t)s->asked_block, m->start_off, m->length_bytes);
}

void gw__serve_due(struct gw__serve *s, const char *what)
{
	s->due = what;
	s->due_since_ns = gw__clock_now_ns(&s->run->clock);
}

int gw__serve_due_ms(const struct gw__serve *s)
{
	uint64_t waited_ms = (gw__clock_now_ns(&s->run->clock) - s->due_since_ns) / 1000000;
	if (!s->due || s->o->answer_ms < 0)
		return -1;
	return waited_ms < (uint64_t)s->o->answer_ms ? s->o->answer_ms - (int)waited_ms : 0;
}

int gw__serve_overdue(struct gw__serve *s)
{
	return gw__why_set(&s->run->why, -ETIMEDOUT, "%s: the destination did not send %s within %d s", s->main.chan->name, s->due,
		s->o->answer_ms / 1000);
}

int gw__serve_fill(struct gw__serve *s)
{
	int left_ms = gw__serve_due_ms(s);
	int r = left_ms > 0 ? gw__chan_wait_readable(s->main.chan, left_ms, &s->run->why) : 1;
	if (r < 0)
		return r;
	return r && left_ms ? gw__feed_fill(&s->ear, &s->run->why) : gw__serve_overdue(s);
}

static int need(struct gw__serve *s, size_t n)
{
	while (gw__feed_left(&s->ear) < n) {
		if (s->ear.ended)
			return gw__why_set(&s->run->why, -ECONNRESET, "%s: the destination closed the connection%s", s->main.chan->name,
				gw__feed_left(&s->ear) ? " inside a message" : "");
		int r = gw__serve_fill(s);
		if (r)
			return r;
	}
	return 0;
}

int64_t gw__serve_next_block(const struct gw__serve *s, uint32_t from)
{
	for (uint32_t i = from; i < s->image->blocks.n; i++)
		if (!s->image->blocks.v[i].ignored)
			return i;
	return -1;
}

/* A larger page is there as a whole or not at all; half of one would be sent twice. */
static int check_whole_pages(struct gw__serve *s, uint32_t block)
{
	const struct gw__bitmap *b = &s->sent[block];
	uint64_t n = s->host_page_bytes[block] / s->page_bytes, end;
	for (uint64_t at = gw__bitmap_next_set(b, 0); n > 1 && at < b->bits; at = gw__bitmap_next_set(b, end)) {
		end = gw__bitmap_next_clear(b, at);
		if (at % n || end % n)
			return gw__why_set(&s->run->why, -EPROTO,
				"%s: the received bitmap of block \"%s\" splits a page of %llu bytes at offset 0x%llx", s->main.chan->name,
				s->image->blocks.v[block].name, (ull)s->host_page_bytes[block], (ull)((at % n ? at : end) * s->page_bytes));
	}
	return 0;
}

/* The bitmap follows its message uncounted: size, bits, end mark. Each piece of it is an answer with a limit of its own. */
static int take_bitmap(struct gw__serve *s, uint32_t block)
{
	struct gw__bitmap *b = &s->sent[block]; /* what it has received is what need not be sent */
	const char *name = s->image->blocks.v[block].name;
	int r = need(s, GW__RECV_BITMAP_HEAD_BYTES);
	if (r)
		return r;
	uint64_t left = gw__be_get(gw__feed_bytes(&s->ear), 8), at = 0;
	gw__feed_use(&s->ear, GW__RECV_BITMAP_HEAD_BYTES);
	r = gw__recv_bitmap_check_size(left, name, b->bits, &s->run->why);
	for (size_t n; !r && left; left -= n, at += n) {
		n = gw__min(left, 64 << 10);
		gw__serve_due(s, s->due);
		r = need(s, n);
		if (r)
			return r;
		gw__bitmap_wire_get(b, at, gw__feed_bytes(&s->ear), n); /* bits behind the last page mean nothing */
		gw__feed_use(&s->ear, n);
	}
	if (!r)
		r = need(s, GW__RECV_BITMAP_END_BYTES);
	if (!r)
		r = gw__recv_bitmap_check_end(gw__be_get(gw__feed_bytes(&s->ear), 8), name, &s->run->why);
	if (r)
		return r;
	gw__feed_use(&s->ear, GW__RECV_BITMAP_END_BYTES);
	s->tally->already_there += gw__bitmap_count(b);
	s->bitmap_due = gw__serve_next_block(s, block + 1);
	if (s->bitmap_due < 0)
		gw__serve_count_unsent(s); /* requests may follow in the same breath */
	return check_whole_pages(s, block);
}

static int on_bitmap(struct gw__serve *s, const struct gw__rp_msg *m)
{
	int64_t block = gw__blocks_find(&s->image->blocks, m->block);
	if (s->tally->state != GW__PC_RECOVER)
		return out_of_place(s, m);
	if (block < 0 || block != s->bitmap_due)
		return gw__why_set(&s->run->why, -EPROTO, "%s: the received bitmap of block \"%s\" came, which was not asked for now",
			s->main.chan->name, m->block);
	return take_bitmap(s, (uint32_t)block);
}

static int on_message(struct gw__serve *s, const struct gw__rp_msg *m)
{
	GW__TRACE(&s->run->trace, return_path_receive, "%s %u", gw__rp_name(m->type), m->value);
	switch (m->type) {
	case GW__RP_PONG:
		s->opened = s->opened || m->value == GW__PING_OPENED;
		if (m->value == GW__PING_RUNS && s->tally->state == GW__PC_DEVICE) {
			gw__serve_say_runs(s);
			return gw__serve_step(s, GW__PC_EV_GUEST_RUNS);
		}
		return 0; /* the other tokens only mark how far it has read */
	case GW__RP_REQ_PAGES:
	case GW__RP_REQ_PAGES_ID:
		return on_request(s, m);
	case GW__RP_RECV_BITMAP:
		return on_bitmap(s, m);
	case GW__RP_RESUME_ACK:
		if (s->tally->state != GW__PC_RECOVER || !s->resume_sent || s->bitmap_due >= 0 || m->value != 1)
			return out_of_place(s, m);
		s->resumed = true; /* requests may follow in the same breath */
		return gw__serve_step(s, GW__PC_EV_RESUMED);
	case GW__RP_SHUT:
		s->shut = true;
		s->shut_status = m->value;
		if (m->value)
			return gw__why_set(&s->run->why, -EREMOTEIO, "%s: the destination reports error %u; its log tells why",
				s->main.chan->name, m->value);
		return s->tally->state == GW__PC_ENDING ? 0 : out_of_place(s, m);
	default: /* SWITCHOVER_ACK: nobody waits for it here */
		return 0;
	}
}

/* All whole messages at hand; a part of one stays. SHUT is the last: what comes behind it is not read. */
static int take_messages(struct gw__serve *s, bool *any)
{
	while (gw__feed_left(&s->ear) && !s->shut) {
		struct gw__rp_msg m;
		struct gw__rd c = gw__rd_over(gw__feed_bytes(&s->ear), gw__feed_left(&s->ear));
		int r = gw__rp_decode(&c, &m, &s->run->why);
		if (r == GW__SHORT)
			return 0;
		if (r)
			return gw__why_where(&s->run->why, "%s", s->main.chan->name);
		gw__feed_use(&s->ear, gw__rd_used(&c));
		*any = true;
		r = on_message(s, &m);
		if (r)
			return r;
	}
	return 0;
}

int gw__serve_hear(struct gw__serve *s, uint64_t ns, bool *may_push)
{
	bool any = false;
	int r = take_messages(s, &any);
	if (r || any)
		return r;
	r = gw__serve_wait(s, ns, may_push);
	if (r <= 0)
		return r ? r : GW__SHORT;
	r = need(s, gw__feed_left(&s->ear) + 1);
	return r ? r : take_messages(s, &any);
}
