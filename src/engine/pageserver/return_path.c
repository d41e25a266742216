/* SPDX-License-Identifier: MIT */
/*
 * What the destination of a post-copy says: requests, PONGs, bitmaps, SHUT. Every message in every state is handled, ignored
 * for a reason that stands here, or an error that names both. See serve.h.
 */
#include <errno.h>

#include "base/math.h"
#include "engine/pageserver/pageserver_private.h"
#include "wire/postcopy.h"

typedef unsigned long long ull;

static int out_of_place(struct gw__pageserver *s, const struct gw__rp_msg *m)
{
	return gw__error_set(&s->run->error, -EPROTO, "%s: the destination sent %s, which has no place in state %s", s->main.chan->name,
		gw__rp_name(m->type), gw__postcopy_src_state_name(s->stats->state));
}

static bool after_listen(const struct gw__pageserver *s)
{
	return s->stats->state >= GW__POSTCOPY_SRC_DEVICE && s->stats->state <= GW__POSTCOPY_SRC_ENDING;
}

static int on_request(struct gw__pageserver *s, const struct gw__rp_msg *m)
{
	struct gw__error *error = &s->run->error;
	if (m->type == GW__RP_REQ_PAGES_ID)
		s->asked_block = gw__blocks_find(&s->image->blocks, m->block);
	if (!after_listen(s))
		return out_of_place(s, m);
	if (s->asked_block < 0)
		return gw__error_set(error, -EPROTO, "%s: a page is requested of block \"%s\", which the guest does not have",
			s->main.chan->name, m->type == GW__RP_REQ_PAGES_ID ? m->block : "(none named yet)");
	const struct gw__block *b = &s->image->blocks.v[s->asked_block];
	if (b->ignored || !m->length_bytes || !gw__is_aligned(m->start_off, s->page_bytes) ||
		!gw__is_aligned(m->length_bytes, s->page_bytes) || m->length_bytes > b->used_bytes ||
		m->start_off > b->used_bytes - m->length_bytes)
		return gw__error_set(error, -EPROTO,
			"%s: %u bytes at offset 0x%llx of block \"%s\" are requested; expected whole pages of %llu inside its %llu bytes",
			s->main.chan->name, m->length_bytes, (ull)m->start_off, b->name, (ull)s->page_bytes, (ull)b->used_bytes);
	s->stats->requests++;
	gw__pageserver_leave_bulk_mode(s);
	return gw__pageserver_request(s, (uint32_t)s->asked_block, m->start_off, m->length_bytes);
}

void gw__pageserver_expect_reply(struct gw__pageserver *s, const char *what)
{
	s->expected_reply = what;
	s->expected_since_ns = gw__clock_now_ns(&s->run->clock);
}

int gw__pageserver_reply_left_ms(const struct gw__pageserver *s)
{
	uint64_t waited_ms = (gw__clock_now_ns(&s->run->clock) - s->expected_since_ns) / 1000000;
	if (!s->expected_reply || s->o->answer_ms < 0)
		return -1;
	return waited_ms < (uint64_t)s->o->answer_ms ? s->o->answer_ms - (int)waited_ms : 0;
}

int gw__pageserver_reply_timed_out(struct gw__pageserver *s)
{
	return gw__error_set(&s->run->error, -ETIMEDOUT, "%s: the destination did not send %s within %d s", s->main.chan->name,
		s->expected_reply, s->o->answer_ms / 1000);
}

int gw__pageserver_fill(struct gw__pageserver *s)
{
	int left_ms = gw__pageserver_reply_left_ms(s);
	int r = left_ms > 0 ? gw__chan_wait_readable(s->main.chan, left_ms, &s->run->error) : 1;
	if (r < 0)
		return r;
	return r && left_ms ? gw__stream_buf_fill(&s->rp_buf, &s->run->error) : gw__pageserver_reply_timed_out(s);
}

static int need(struct gw__pageserver *s, size_t n)
{
	while (gw__stream_buf_left(&s->rp_buf) < n) {
		if (s->rp_buf.ended)
			return gw__error_set(&s->run->error, -ECONNRESET, "%s: the destination closed the connection%s", s->main.chan->name,
				gw__stream_buf_left(&s->rp_buf) ? " inside a message" : "");
		int r = gw__pageserver_fill(s);
		if (r)
			return r;
	}
	return 0;
}

int64_t gw__pageserver_next_block(const struct gw__pageserver *s, uint32_t from)
{
	for (uint32_t i = from; i < s->image->blocks.n; i++)
		if (!s->image->blocks.v[i].ignored)
			return i;
	return -1;
}

/* A larger page is there as a whole or not at all; half of one would be sent twice. */
static int check_whole_pages(struct gw__pageserver *s, uint32_t block)
{
	const struct gw__bitmap *b = &s->sent[block];
	uint64_t n = s->host_page_bytes[block] / s->page_bytes, end;
	for (uint64_t at = gw__bitmap_next_set(b, 0); n > 1 && at < b->bits; at = gw__bitmap_next_set(b, end)) {
		end = gw__bitmap_next_clear(b, at);
		if (at % n || end % n)
			return gw__error_set(&s->run->error, -EPROTO,
				"%s: the received bitmap of block \"%s\" splits a page of %llu bytes at offset 0x%llx", s->main.chan->name,
				s->image->blocks.v[block].name, (ull)s->host_page_bytes[block], (ull)((at % n ? at : end) * s->page_bytes));
	}
	return 0;
}

/* The bitmap follows its message uncounted: size, bits, end mark. Each piece of it is an answer with a limit of its own. */
static int take_bitmap(struct gw__pageserver *s, uint32_t block)
{
	struct gw__bitmap *b = &s->sent[block]; /* what it has received is what need not be sent */
	const char *name = s->image->blocks.v[block].name;
	int r = need(s, GW__RECV_BITMAP_HEAD_BYTES);
	if (r)
		return r;
	uint64_t left = gw__be_get(gw__stream_buf_bytes(&s->rp_buf), 8), at = 0;
	gw__stream_buf_use(&s->rp_buf, GW__RECV_BITMAP_HEAD_BYTES);
	r = gw__recv_bitmap_check_size(left, name, b->bits, &s->run->error);
	for (size_t n; !r && left; left -= n, at += n) {
		n = gw__min(left, 64 << 10);
		gw__pageserver_expect_reply(s, s->expected_reply);
		r = need(s, n);
		if (r)
			return r;
		gw__bitmap_wire_get(b, at, gw__stream_buf_bytes(&s->rp_buf), n); /* bits behind the last page mean nothing */
		gw__stream_buf_use(&s->rp_buf, n);
	}
	if (!r)
		r = need(s, GW__RECV_BITMAP_END_BYTES);
	if (!r)
		r = gw__recv_bitmap_check_end(gw__be_get(gw__stream_buf_bytes(&s->rp_buf), 8), name, &s->run->error);
	if (r)
		return r;
	gw__stream_buf_use(&s->rp_buf, GW__RECV_BITMAP_END_BYTES);
	s->stats->already_there += gw__bitmap_count(b);
	s->bitmap_due = gw__pageserver_next_block(s, block + 1);
	if (s->bitmap_due < 0)
		gw__pageserver_count_unsent(s); /* requests may follow in the same breath */
	return check_whole_pages(s, block);
}

static int on_bitmap(struct gw__pageserver *s, const struct gw__rp_msg *m)
{
	int64_t block = gw__blocks_find(&s->image->blocks, m->block);
	if (s->stats->state != GW__POSTCOPY_SRC_RECOVER)
		return out_of_place(s, m);
	if (block < 0 || block != s->bitmap_due)
		return gw__error_set(&s->run->error, -EPROTO, "%s: the received bitmap of block \"%s\" came, which was not asked for now",
			s->main.chan->name, m->block);
	return take_bitmap(s, (uint32_t)block);
}

static int on_message(struct gw__pageserver *s, const struct gw__rp_msg *m)
{
	GW__TRACE(&s->run->trace, return_path_receive, "%s %u", gw__rp_name(m->type), m->value);
	switch (m->type) {
	case GW__RP_PONG:
		s->opened = s->opened || m->value == GW__PING_OPENED;
		if (m->value == GW__PING_RUNS && s->stats->state == GW__POSTCOPY_SRC_DEVICE) {
			gw__pageserver_notify_guest_runs(s);
			return gw__pageserver_set_state(s, GW__POSTCOPY_SRC_EV_GUEST_RUNS);
		}
		return 0; /* the other tokens only mark how far it has read */
	case GW__RP_REQ_PAGES:
	case GW__RP_REQ_PAGES_ID:
		return on_request(s, m);
	case GW__RP_RECV_BITMAP:
		return on_bitmap(s, m);
	case GW__RP_RESUME_ACK:
		if (s->stats->state != GW__POSTCOPY_SRC_RECOVER || !s->resume_sent || s->bitmap_due >= 0 || m->value != 1)
			return out_of_place(s, m);
		s->resumed = true; /* requests may follow in the same breath */
		return gw__pageserver_set_state(s, GW__POSTCOPY_SRC_EV_RESUMED);
	case GW__RP_SHUT:
		s->shut = true;
		s->shut_status = m->value;
		if (m->value)
			return gw__error_set(&s->run->error, -EREMOTEIO, "%s: the destination reports error %u; its log tells why",
				s->main.chan->name, m->value);
		return s->stats->state == GW__POSTCOPY_SRC_ENDING ? 0 : out_of_place(s, m);
	default: /* SWITCHOVER_ACK: nobody waits for it here */
		return 0;
	}
}

/* All whole messages at hand; a part of one stays. SHUT is the last: what comes behind it is not read. */
static int take_messages(struct gw__pageserver *s, bool *any)
{
	while (gw__stream_buf_left(&s->rp_buf) && !s->shut) {
		struct gw__rp_msg m;
		struct gw__rd c = gw__rd_over(gw__stream_buf_bytes(&s->rp_buf), gw__stream_buf_left(&s->rp_buf));
		int r = gw__rp_decode(&c, &m, &s->run->error);
		if (r == GW__SHORT)
			return 0;
		if (r)
			return gw__error_where(&s->run->error, "%s", s->main.chan->name);
		gw__stream_buf_use(&s->rp_buf, gw__rd_used(&c));
		*any = true;
		r = on_message(s, &m);
		if (r)
			return r;
	}
	return 0;
}

int gw__pageserver_read_return_path(struct gw__pageserver *s, uint64_t ns, bool *may_push)
{
	bool any = false;
	int r = take_messages(s, &any);
	if (r || any)
		return r;
	r = gw__pageserver_wait(s, ns, may_push);
	if (r <= 0)
		return r ? r : GW__SHORT;
	r = need(s, gw__stream_buf_left(&s->rp_buf) + 1);
	return r ? r : take_messages(s, &any);
}
