/* SPDX-License-Identifier: MIT */
/* What the destination of a post-copy sends; see return_path_reader.h. Every message in every state is handled, ignored for a reason that stands
 * here, or an error. */
#include "engine/pageserver/return_path_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/core/stream_buf.h"
#include "wire/postcopy.h"
#include "wire/return_path.h"

typedef unsigned long long ull;

enum {
	NS_PER_MS = 1000000,
	POLL_NS = 200 * NS_PER_MS, /* between looks at the clock while a reply is awaited */
	BUFFER_MAX_BYTES = 1 << 20,
	PONG_BYTES = 8,
};

struct gw__return_path_reader {
	struct gw__run *run;
	const struct gw__page_source *source;
	struct gw__chan *chan;
	int answer_ms;
	const enum gw__postcopy_src_state *state;
	const struct gw__return_path_ops *ops;
	void *ctx;

	struct gw__stream_buf buf;
	const char *expected_reply; /* what has to come within the limit; NULL: nothing */
	uint64_t expected_since_ns;
	int64_t asked_block; /* of the previous request */
	bool resume_sent;
	bool opened, discarded, resumed; /* PONG 1, PONG 2, RESUME_ACK 1 came */
	bool shut;
	uint32_t shut_status;
	int64_t bitmap_due; /* block whose bitmap comes next, in the order they were asked for; -1: all have arrived */
};

int gw__return_path_reader_new(struct gw__run *run, const struct gw__page_source *source, struct gw__chan *chan, int answer_ms,
	const enum gw__postcopy_src_state *state, const struct gw__return_path_ops *ops, void *ctx, struct gw__return_path_reader **to)
{
	struct gw__return_path_reader *rp = calloc(1, sizeof *rp);
	*to = rp;
	if (!rp)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a page server");
	*rp = (struct gw__return_path_reader){.run = run,
		.source = source,
		.chan = chan,
		.answer_ms = answer_ms,
		.state = state,
		.ops = ops,
		.ctx = ctx};
	rp->asked_block = rp->bitmap_due = -1;
	return gw__stream_buf_init(&rp->buf, chan, BUFFER_MAX_BYTES, &run->error);
}

void gw__return_path_reader_free(struct gw__return_path_reader *rp)
{
	if (rp)
		gw__stream_buf_fini(&rp->buf);
	free(rp);
}

/* --- a limit for what is due --- */

static void expect_reply(struct gw__return_path_reader *rp, const char *what)
{
	rp->expected_reply = what;
	rp->expected_since_ns = gw__clock_now_ns(&rp->run->clock);
}

/* What is left of the limit; -1: there is none. */
static int reply_left_ms(const struct gw__return_path_reader *rp)
{
	uint64_t waited_ms = (gw__clock_now_ns(&rp->run->clock) - rp->expected_since_ns) / NS_PER_MS;
	if (!rp->expected_reply || rp->answer_ms < 0)
		return -1;
	return waited_ms < (uint64_t)rp->answer_ms ? rp->answer_ms - (int)waited_ms : 0;
}

static int reply_timed_out(struct gw__return_path_reader *rp)
{
	return gw__error_set(&rp->run->error, -ETIMEDOUT, "%s: the destination did not send %s within %d s", rp->chan->name,
		rp->expected_reply, rp->answer_ms / 1000);
}

/* At least one byte more, or the end. Where something is due its limit holds, or a peer that drips could keep us for ever. */
static int fill(struct gw__return_path_reader *rp)
{
	int left_ms = reply_left_ms(rp);
	int r = left_ms > 0 ? gw__chan_wait_readable(rp->chan, left_ms, &rp->run->error) : 1;
	if (r < 0)
		return r;
	return r && left_ms ? gw__stream_buf_fill(&rp->buf, &rp->run->error) : reply_timed_out(rp);
}

static int need(struct gw__return_path_reader *rp, size_t n)
{
	while (gw__stream_buf_left(&rp->buf) < n) {
		if (rp->buf.ended)
			return gw__error_set(&rp->run->error, -ECONNRESET, "%s: the destination closed the connection%s", rp->chan->name,
				gw__stream_buf_left(&rp->buf) ? " inside a message" : "");
		int r = fill(rp);
		if (r)
			return r;
	}
	return 0;
}

/* --- messages --- */

static int out_of_place(struct gw__return_path_reader *rp, const struct gw__rp_msg *m)
{
	return gw__error_set(&rp->run->error, -EPROTO, "%s: the destination sent an unexpected %s in state %s", rp->chan->name,
		gw__rp_name(m->type), gw__postcopy_src_state_name(*rp->state));
}

static int on_request(struct gw__return_path_reader *rp, const struct gw__rp_msg *m)
{
	struct gw__error *error = &rp->run->error;
	uint64_t page_bytes = gw__config_page_bytes(rp->source->config);
	if (m->type == GW__RP_REQ_PAGES_ID)
		rp->asked_block = gw__blocks_find(rp->source->blocks, m->block);
	if (*rp->state < GW__POSTCOPY_SRC_DEVICE || *rp->state > GW__POSTCOPY_SRC_ENDING)
		return out_of_place(rp, m);
	if (rp->asked_block < 0)
		return gw__error_set(error, -EPROTO, "%s: a page is requested of block \"%s\", which the guest does not have",
			rp->chan->name, m->type == GW__RP_REQ_PAGES_ID ? m->block : "(none named yet)");
	const struct gw__block *b = &rp->source->blocks->v[rp->asked_block];
	if (b->ignored || !m->length_bytes || !gw__is_aligned(m->start_off, page_bytes) || !gw__is_aligned(m->length_bytes, page_bytes) ||
		m->length_bytes > b->used_bytes || m->start_off > b->used_bytes - m->length_bytes)
		return gw__error_set(error, -EPROTO,
			"%s: %u bytes at offset 0x%llx of block \"%s\" are requested; expected whole pages of %llu inside its %llu bytes",
			rp->chan->name, m->length_bytes, (ull)m->start_off, b->name, (ull)page_bytes, (ull)b->used_bytes);
	return rp->ops->request(rp->ctx, (uint32_t)rp->asked_block, m->start_off, m->length_bytes);
}

/* The first block at or after `from` that migrates; -1: none. */
static int64_t next_block(const struct gw__return_path_reader *rp, uint32_t from)
{
	for (uint32_t i = from; i < rp->source->blocks->n; i++)
		if (!rp->source->blocks->v[i].ignored)
			return i;
	return -1;
}

/* The bitmap follows its message uncounted: size, bits, end mark. Each piece of it is an answer with a limit of its own. */
static int take_bitmap(struct gw__return_path_reader *rp, uint32_t block)
{
	struct gw__bitmap *b = rp->ops->bitmap(rp->ctx, block);
	const char *name = rp->source->blocks->v[block].name;
	int r = need(rp, GW__RECV_BITMAP_HEAD_BYTES);
	if (r)
		return r;
	uint64_t left = gw__be_get(gw__stream_buf_bytes(&rp->buf), 8), at = 0;
	gw__stream_buf_use(&rp->buf, GW__RECV_BITMAP_HEAD_BYTES);
	r = gw__recv_bitmap_check_size(left, name, b->bits, &rp->run->error);
	for (size_t n; !r && left; left -= n, at += n) {
		n = gw__min(left, 64 << 10);
		expect_reply(rp, rp->expected_reply);
		r = need(rp, n);
		if (r)
			return r;
		gw__bitmap_wire_get(b, at, gw__stream_buf_bytes(&rp->buf), n); /* bits after the last page mean nothing */
		gw__stream_buf_use(&rp->buf, n);
	}
	if (!r)
		r = need(rp, GW__RECV_BITMAP_END_BYTES);
	if (!r)
		r = gw__recv_bitmap_check_end(gw__be_get(gw__stream_buf_bytes(&rp->buf), 8), name, &rp->run->error);
	if (r)
		return r;
	gw__stream_buf_use(&rp->buf, GW__RECV_BITMAP_END_BYTES);
	rp->bitmap_due = next_block(rp, block + 1);
	return rp->ops->bitmap_complete(rp->ctx, block);
}

static int on_bitmap(struct gw__return_path_reader *rp, const struct gw__rp_msg *m)
{
	int64_t block = gw__blocks_find(rp->source->blocks, m->block);
	if (*rp->state != GW__POSTCOPY_SRC_RECOVER)
		return out_of_place(rp, m);
	if (block < 0 || block != rp->bitmap_due)
		return gw__error_set(&rp->run->error, -EPROTO, "%s: the received bitmap of block \"%s\" came, which was not asked for now",
			rp->chan->name, m->block);
	return take_bitmap(rp, (uint32_t)block);
}

static int on_shut(struct gw__return_path_reader *rp, const struct gw__rp_msg *m)
{
	rp->shut = true;
	rp->shut_status = m->value;
	if (m->value)
		return gw__error_set(&rp->run->error, -EREMOTEIO, "%s: the destination reports error %u; its log tells why", rp->chan->name,
			m->value);
	return *rp->state == GW__POSTCOPY_SRC_ENDING ? 0 : out_of_place(rp, m);
}

static int on_message(struct gw__return_path_reader *rp, const struct gw__rp_msg *m)
{
	GW__TRACE(&rp->run->trace, return_path_receive, "%s %u", gw__rp_name(m->type), m->value);
	switch (m->type) {
	case GW__RP_PONG:
		rp->opened = rp->opened || m->value == GW__PING_OPENED;
		rp->discarded = rp->discarded || m->value == GW__PING_DISCARDED;
		if (m->value == GW__PING_RUNS && *rp->state == GW__POSTCOPY_SRC_DEVICE)
			return rp->ops->event(rp->ctx, GW__POSTCOPY_SRC_EV_GUEST_RUNS);
		return 0; /* the other tokens only mark how far it has read */
	case GW__RP_REQ_PAGES:
	case GW__RP_REQ_PAGES_ID:
		return on_request(rp, m);
	case GW__RP_RECV_BITMAP:
		return on_bitmap(rp, m);
	case GW__RP_RESUME_ACK:
		if (*rp->state != GW__POSTCOPY_SRC_RECOVER || !rp->resume_sent || rp->bitmap_due >= 0 || m->value != 1)
			return out_of_place(rp, m);
		rp->resumed = true; /* requests may follow in the same breath */
		return rp->ops->event(rp->ctx, GW__POSTCOPY_SRC_EV_RESUMED);
	case GW__RP_SHUT:
		return on_shut(rp, m);
	default: /* SWITCHOVER_ACK: nobody waits for it here */
		return 0;
	}
}

/* All whole messages at hand; a part of one stays. SHUT is the last: what comes after it is not read. */
static int take_messages(struct gw__return_path_reader *rp, bool *any)
{
	while (gw__stream_buf_left(&rp->buf) && !rp->shut) {
		struct gw__rp_msg m;
		struct gw__rd c = gw__rd_over(gw__stream_buf_bytes(&rp->buf), gw__stream_buf_left(&rp->buf));
		int r = gw__rp_decode(&c, &m, &rp->run->error);
		if (r == GW__SHORT)
			return 0;
		if (r)
			return gw__error_where(&rp->run->error, "%s", rp->chan->name);
		gw__stream_buf_use(&rp->buf, gw__rd_used(&c));
		*any = true;
		r = on_message(rp, &m);
		if (r)
			return r;
	}
	return 0;
}

int gw__return_path_reader_take(struct gw__return_path_reader *rp, uint64_t ns, bool *may_push)
{
	bool any = false;
	int r = take_messages(rp, &any);
	if (r || any)
		return r;
	r = rp->ops->wait(rp->ctx, ns, may_push);
	if (r <= 0)
		return r ? r : GW__NOTHING_CAME;
	r = need(rp, gw__stream_buf_left(&rp->buf) + 1);
	return r ? r : take_messages(rp, &any);
}

/* --- replies --- */

bool gw__return_path_reader_came(const struct gw__return_path_reader *rp, enum gw__return_path_reply reply)
{
	switch (reply) {
	case GW__REPLY_OPENED:
		return rp->opened;
	case GW__REPLY_DISCARDED:
		return rp->discarded;
	case GW__REPLY_BITMAPS:
		return rp->bitmap_due < 0;
	case GW__REPLY_RESUME_ACK:
		return rp->resumed;
	case GW__REPLY_GUEST_RUNS:
		return *rp->state != GW__POSTCOPY_SRC_DEVICE;
	case GW__REPLY_SHUT:
		return rp->shut;
	}
	return false;
}

int gw__return_path_reader_await(struct gw__return_path_reader *rp, enum gw__return_path_reply reply)
{
	static const char *const names[] = {[GW__REPLY_OPENED] = "its first PONG",
		[GW__REPLY_DISCARDED] = "that it takes the switch to post-copy (PONG 2)",
		[GW__REPLY_BITMAPS] = "its received bitmaps",
		[GW__REPLY_RESUME_ACK] = "RESUME_ACK",
		[GW__REPLY_GUEST_RUNS] = "that it loaded the devices (PONG 0x42)",
		[GW__REPLY_SHUT] = "its SHUT"};
	int r = 0;
	expect_reply(rp, names[reply]);
	while (r >= 0 && !gw__return_path_reader_came(rp, reply)) {
		int left_ms = reply_left_ms(rp);
		uint64_t ns = left_ms < 0 ? POLL_NS : gw__min((uint64_t)left_ms * NS_PER_MS, POLL_NS);
		r = left_ms ? gw__return_path_reader_take(rp, ns, NULL) : reply_timed_out(rp);
		gw__run_tick(rp->run);
	}
	expect_reply(rp, NULL);
	return r < 0 ? r : 0;
}

bool gw__return_path_reader_shut_error(const struct gw__return_path_reader *rp) { return rp->shut && rp->shut_status; }

void gw__return_path_reader_expect(struct gw__return_path_reader *rp, enum gw__return_path_reply reply)
{
	if (reply == GW__REPLY_BITMAPS)
		rp->bitmap_due = next_block(rp, 0);
	if (reply == GW__REPLY_RESUME_ACK)
		rp->resume_sent = true;
}

/* Only this many bytes in a row are no accident. */
static bool find_pong(struct gw__stream_buf *buf, const uint8_t pong[PONG_BYTES])
{
	size_t left = gw__stream_buf_left(buf);
	const uint8_t *bytes = gw__stream_buf_bytes(buf), *at = left ? memmem(bytes, left, pong, PONG_BYTES) : NULL;
	if (at)
		gw__stream_buf_use(buf, (size_t)(at - bytes) + PONG_BYTES);
	else if (left >= PONG_BYTES)
		gw__stream_buf_use(buf, left - PONG_BYTES + 1);
	return at;
}

int gw__return_path_reader_skip_to_pong(struct gw__return_path_reader *rp, uint32_t token)
{
	uint8_t pong[PONG_BYTES];
	struct gw__wr c = gw__wr_over(pong, sizeof pong);
	int r = 0;
	gw__rp_encode(&c, &(struct gw__rp_msg){.type = GW__RP_PONG, .value = token});
	expect_reply(rp, "the answer to a PING");
	while (!r && !find_pong(&rp->buf, pong))
		r = rp->buf.ended ? gw__error_set(&rp->run->error, -ECONNRESET, "%s: the destination closed the connection", rp->chan->name)
				  : fill(rp);
	expect_reply(rp, NULL);
	return r;
}

int gw__return_path_reader_stays_open(struct gw__return_path_reader *rp, uint64_t ns)
{
	uint64_t now = gw__clock_now_ns(&rp->run->clock), until_ns = now + ns;
	for (; now < until_ns; now = gw__clock_now_ns(&rp->run->clock)) {
		int r = gw__chan_wait_either(rp->chan, false, until_ns - now, &rp->run->error);
		if (r > 0)
			r = gw__stream_buf_fill(&rp->buf, &rp->run->error);
		if (r < 0 || rp->buf.ended)
			return r < 0 ? r : 0;
	}
	return 1;
}
