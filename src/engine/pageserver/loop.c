/* SPDX-License-Identifier: MIT */
/*
 * The page server's talk with the destination: hand over or resume, push, end; and what comes back on the return path, of which every message is judged, for its
 * values and for its place in the state of the migration. See pageserver.h and docs/spec/postcopy.md 3, 6.
 *
 *   destination --> loop --request--> page_scheduler --> page_out --> destination
 *                     |                   (what)           (when)         ^
 *                     '------- commands, devices, block list, end --------'
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/core/stream_buf.h"
#include "engine/pageserver/page_scheduler.h"
#include "engine/pageserver/page_out.h"
#include "engine/pageserver/pageserver.h"
#include "wire/postcopy.h"
#include "wire/return_path.h"

typedef unsigned long long ull;

enum {
	NS_PER_MS = 1000000,
	NS_PER_S = 1000000000,
	POLL_NS = NS_PER_S / 5,      /* between looks at the clock while there is nothing to send, or a reply is awaited */
	TOGETHER_NS = NS_PER_S / 20, /* in which both connections end when one network does */
	DISK_NS = 200000,            /* for requests, while the disk brings the next page of the push */
	ASK_BYTES_MAX = 5 + 1 + GW__NAME_MAX,
	HEAD_ROOM = 8192,   /* magic, configuration, three commands */
	PACKAGE_SLACK = 64, /* LISTEN, PINGs, RUN */
	PART_BYTES = 16 << 20,
	BUFFER_MAX_BYTES = 1 << 20,
	PONG_BYTES = 8,
};

/* What a reply may be; each stays true once it came. */
enum reply {
	REPLY_OPENED,    /* the first PONG: the destination has the main connection */
	REPLY_DISCARDED, /* PONG 2: it has taken the switch, and has no devices yet */
	REPLY_BITMAPS,   /* every one that was asked for */
	REPLY_RESUME_ACK,
	REPLY_GUEST_RUNS, /* it loaded the devices (PONG 0x42) */
	REPLY_SHUT,
};

struct return_path {
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

struct gw__pageserver {
	struct gw__run *run;
	const struct gw__page_source *source;
	struct gw__chan *chan; /* the main one */
	const struct gw__pageserver_opts *o;
	struct gw__pageserver_stats *stats;
	enum gw__postcopy_src_state *state;
	bool preempt_reconnected;

	struct gw__page_out *out;
	struct gw__page_scheduler *pages;
	struct gw__stream_writer writer; /* of the main channel */
	struct return_path rp;
};

static int set_state(struct gw__pageserver *s, enum gw__postcopy_src_event event)
{
	enum gw__postcopy_src_state before = *s->state;
	int r = gw__postcopy_src_step(before, event, s->state, &s->run->error);
	if (!r)
		GW__TRACE(&s->run->trace, serve_state, "%s -> %s", gw__postcopy_src_state_name(before),
			gw__postcopy_src_state_name(*s->state));
	return r;
}

/* --- what the destination sends: a limit for what is due --- */

static void expect_reply(struct gw__pageserver *s, const char *what)
{
	s->rp.expected_reply = what;
	s->rp.expected_since_ns = gw__clock_now_ns(&s->run->clock);
}

/* What is left of the limit; -1: there is none. */
static int reply_left_ms(const struct gw__pageserver *s)
{
	uint64_t waited_ms = (gw__clock_now_ns(&s->run->clock) - s->rp.expected_since_ns) / NS_PER_MS;
	if (!s->rp.expected_reply || s->o->answer_ms < 0)
		return -1;
	return waited_ms < (uint64_t)s->o->answer_ms ? s->o->answer_ms - (int)waited_ms : 0;
}

static int reply_timed_out(struct gw__pageserver *s)
{
	return gw__error_set(&s->run->error, -ETIMEDOUT, "%s: the destination did not send %s within %d s", s->chan->name,
		s->rp.expected_reply, s->o->answer_ms / 1000);
}

/* At least one byte more, or the end. Where something is due its limit holds, or a peer that drips could keep us for ever. */
static int fill(struct gw__pageserver *s)
{
	int left_ms = reply_left_ms(s);
	int r = left_ms > 0 ? gw__chan_wait_readable(s->chan, left_ms, &s->run->error) : 1;
	if (r < 0)
		return r;
	return r && left_ms ? gw__stream_buf_fill(&s->rp.buf, &s->run->error) : reply_timed_out(s);
}

static int need(struct gw__pageserver *s, size_t n)
{
	while (gw__stream_buf_left(&s->rp.buf) < n) {
		if (s->rp.buf.ended)
			return gw__error_set(&s->run->error, -ECONNRESET, "%s: the destination closed the connection%s", s->chan->name,
				gw__stream_buf_left(&s->rp.buf) ? " inside a message" : "");
		int r = fill(s);
		if (r)
			return r;
	}
	return 0;
}

/* 1: the destination has not ended the main connection within `ns`; what it sends meanwhile is kept. 0: it has. */
static int stays_open(struct gw__pageserver *s, uint64_t ns)
{
	uint64_t now = gw__clock_now_ns(&s->run->clock), until_ns = now + ns;
	for (; now < until_ns; now = gw__clock_now_ns(&s->run->clock)) {
		int r = gw__chan_wait_either(s->chan, false, until_ns - now, &s->run->error);
		if (r > 0)
			r = gw__stream_buf_fill(&s->rp.buf, &s->run->error);
		if (r < 0 || s->rp.buf.ended)
			return r < 0 ? r : 0;
	}
	return 1;
}

static bool has_come(const struct gw__pageserver *s, enum reply reply)
{
	switch (reply) {
	case REPLY_OPENED:
		return s->rp.opened;
	case REPLY_DISCARDED:
		return s->rp.discarded;
	case REPLY_BITMAPS:
		return s->rp.bitmap_due < 0;
	case REPLY_RESUME_ACK:
		return s->rp.resumed;
	case REPLY_GUEST_RUNS:
		return *s->state != GW__POSTCOPY_SRC_DEVICE;
	case REPLY_SHUT:
		return s->rp.shut;
	}
	return false;
}

/* --- the second connection --- */

static int connect_preempt(struct gw__pageserver *s, enum gw__preempt when)
{
	struct gw__chan *chan = NULL;
	if (s->o->preempt != when)
		return 0;
	int r = when ? s->o->open_preempt(s->o->ctx, &chan) : 0;
	gw__page_out_set_preempt(s->out, chan);
	if (!r && s->o->on_connected)
		s->o->on_connected(s->o->ctx);
	return r;
}

/*
 * A second connection that was lost on the way, in a tunnel perhaps, before the destination had it: that one has read RESUME and waits
 * for it, for ever, and most do not survive its coming after the first one is over. So one that ended before anything went over it is made
 * anew, once. The destination sends nothing on it, so what can be read is its end; had it been accepted, its end would soon be that of the
 * first one too.
 */
static int reconnect_preempt(struct gw__pageserver *s)
{
	struct gw__chan *lost = gw__page_out_preempt(s->out), *chan = NULL;
	if (s->preempt_reconnected || !lost || !has_come(s, REPLY_RESUME_ACK) || !gw__page_scheduler_unsent_pages(s->pages) ||
		lost->out_bytes)
		return 0;
	int r = gw__chan_wait_readable(lost, 0, &s->run->error);
	if (r > 0)
		r = stays_open(s, TOGETHER_NS);
	if (r <= 0)
		return r;
	s->preempt_reconnected = true;
	gw__page_out_set_preempt(s->out, NULL);
	r = s->o->open_preempt(s->o->ctx, &chan);
	gw__page_out_set_preempt(s->out, chan);
	return r;
}

/* --- messages: each is handled in every state, ignored for a reason that stands here, or an error --- */

static void notify_guest_runs(const struct gw__pageserver *s)
{
	if (s->o->on_guest_runs)
		s->o->on_guest_runs(s->o->ctx);
}

static int note_guest_runs(struct gw__pageserver *s)
{
	notify_guest_runs(s);
	return set_state(s, GW__POSTCOPY_SRC_EV_GUEST_RUNS);
}

static int serve_request(struct gw__pageserver *s, uint32_t block, uint64_t start_off, uint64_t bytes)
{
	s->stats->requests++;
	gw__page_out_note_request(s->out);
	int r = reconnect_preempt(s);
	return r ? r : gw__page_scheduler_request(s->pages, block, start_off, bytes);
}

static int out_of_place(struct gw__pageserver *s, const struct gw__rp_msg *m)
{
	return gw__error_set(&s->run->error, -EPROTO, "%s: the destination sent an unexpected %s in state %s", s->chan->name,
		gw__rp_name(m->type), gw__postcopy_src_state_name(*s->state));
}

static int on_request(struct gw__pageserver *s, const struct gw__rp_msg *m)
{
	struct gw__error *error = &s->run->error;
	uint64_t page_bytes = gw__config_page_bytes(s->source->config);
	if (m->type == GW__RP_REQ_PAGES_ID)
		s->rp.asked_block = gw__blocks_find(s->source->blocks, m->block);
	if (*s->state < GW__POSTCOPY_SRC_DEVICE || *s->state > GW__POSTCOPY_SRC_ENDING)
		return out_of_place(s, m);
	if (s->rp.asked_block < 0)
		return gw__error_set(error, -EPROTO, "%s: a page is requested of block \"%s\", which the guest does not have",
			s->chan->name, m->type == GW__RP_REQ_PAGES_ID ? m->block : "(none named yet)");
	const struct gw__block *b = &s->source->blocks->v[s->rp.asked_block];
	if (b->ignored || !m->length_bytes || !gw__is_aligned(m->start_off, page_bytes) || !gw__is_aligned(m->length_bytes, page_bytes) ||
		m->length_bytes > b->used_bytes || m->start_off > b->used_bytes - m->length_bytes)
		return gw__error_set(error, -EPROTO,
			"%s: %u bytes at offset 0x%llx of block \"%s\" are requested; expected whole pages of %llu inside its %llu bytes",
			s->chan->name, m->length_bytes, (ull)m->start_off, b->name, (ull)page_bytes, (ull)b->used_bytes);
	return serve_request(s, (uint32_t)s->rp.asked_block, m->start_off, m->length_bytes);
}

/* The first block at or after `from` that migrates; -1: none. */
static int64_t next_block(const struct gw__pageserver *s, uint32_t from)
{
	for (uint32_t i = from; i < s->source->blocks->n; i++)
		if (!s->source->blocks->v[i].ignored)
			return i;
	return -1;
}

/* The bitmap follows its message uncounted: size, bits, end mark. Each piece of it is an answer with a limit of its own. */
static int take_bitmap(struct gw__pageserver *s, uint32_t block)
{
	struct gw__bitmap *b = gw__page_scheduler_bitmap(s->pages, block);
	const char *name = s->source->blocks->v[block].name;
	int r = need(s, GW__RECV_BITMAP_HEAD_BYTES);
	if (r)
		return r;
	uint64_t left = gw__be_get(gw__stream_buf_bytes(&s->rp.buf), 8), at = 0;
	gw__stream_buf_use(&s->rp.buf, GW__RECV_BITMAP_HEAD_BYTES);
	r = gw__recv_bitmap_check_size(left, name, b->bits, &s->run->error);
	for (size_t n; !r && left; left -= n, at += n) {
		n = gw__min(left, 64 << 10);
		expect_reply(s, s->rp.expected_reply);
		r = need(s, n);
		if (r)
			return r;
		gw__bitmap_wire_get(b, at, gw__stream_buf_bytes(&s->rp.buf), n); /* bits after the last page mean nothing */
		gw__stream_buf_use(&s->rp.buf, n);
	}
	if (!r)
		r = need(s, GW__RECV_BITMAP_END_BYTES);
	if (!r)
		r = gw__recv_bitmap_check_end(gw__be_get(gw__stream_buf_bytes(&s->rp.buf), 8), name, &s->run->error);
	if (r)
		return r;
	gw__stream_buf_use(&s->rp.buf, GW__RECV_BITMAP_END_BYTES);
	s->rp.bitmap_due = next_block(s, block + 1);
	return gw__page_scheduler_take_bitmap(s->pages, block);
}

static int on_bitmap(struct gw__pageserver *s, const struct gw__rp_msg *m)
{
	int64_t block = gw__blocks_find(s->source->blocks, m->block);
	if (*s->state != GW__POSTCOPY_SRC_RECOVER)
		return out_of_place(s, m);
	if (block < 0 || block != s->rp.bitmap_due)
		return gw__error_set(&s->run->error, -EPROTO, "%s: the received bitmap of block \"%s\" came, which was not asked for now",
			s->chan->name, m->block);
	return take_bitmap(s, (uint32_t)block);
}

static int on_shut(struct gw__pageserver *s, const struct gw__rp_msg *m)
{
	s->rp.shut = true;
	s->rp.shut_status = m->value;
	if (m->value)
		return gw__error_set(&s->run->error, -EREMOTEIO, "%s: the destination reports error %u; its log tells why", s->chan->name,
			m->value);
	return *s->state == GW__POSTCOPY_SRC_ENDING ? 0 : out_of_place(s, m);
}

static int on_message(struct gw__pageserver *s, const struct gw__rp_msg *m)
{
	GW__TRACE(&s->run->trace, return_path_receive, "%s %u", gw__rp_name(m->type), m->value);
	switch (m->type) {
	case GW__RP_PONG:
		s->rp.opened = s->rp.opened || m->value == GW__PING_OPENED;
		s->rp.discarded = s->rp.discarded || m->value == GW__PING_DISCARDED;
		if (m->value == GW__PING_RUNS && *s->state == GW__POSTCOPY_SRC_DEVICE)
			return note_guest_runs(s);
		return 0; /* the other tokens only mark how far it has read */
	case GW__RP_REQ_PAGES:
	case GW__RP_REQ_PAGES_ID:
		return on_request(s, m);
	case GW__RP_RECV_BITMAP:
		return on_bitmap(s, m);
	case GW__RP_RESUME_ACK:
		if (*s->state != GW__POSTCOPY_SRC_RECOVER || !s->rp.resume_sent || s->rp.bitmap_due >= 0 || m->value != 1)
			return out_of_place(s, m);
		s->rp.resumed = true; /* requests may follow in the same breath */
		return set_state(s, GW__POSTCOPY_SRC_EV_RESUMED);
	case GW__RP_SHUT:
		return on_shut(s, m);
	default: /* SWITCHOVER_ACK: nobody waits for it here */
		return 0;
	}
}

/* All whole messages at hand; a part of one stays. SHUT is the last: what comes after it is not read. */
static int take_messages(struct gw__pageserver *s, bool *any)
{
	while (gw__stream_buf_left(&s->rp.buf) && !s->rp.shut) {
		struct gw__rp_msg m;
		struct gw__rd c = gw__rd_over(gw__stream_buf_bytes(&s->rp.buf), gw__stream_buf_left(&s->rp.buf));
		int r = gw__rp_decode(&c, &m, &s->run->error);
		if (r == GW__SHORT)
			return 0;
		if (r)
			return gw__error_where(&s->run->error, "%s", s->chan->name);
		gw__stream_buf_use(&s->rp.buf, gw__rd_used(&c));
		*any = true;
		r = on_message(s, &m);
		if (r)
			return r;
	}
	return 0;
}

static int wait(struct gw__pageserver *s, uint64_t ns, bool *may_push)
{
	int r = gw__page_out_wait(s->out, ns, may_push);
	return r ? r : reconnect_preempt(s);
}

/* Messages that came, waiting at most `ns` for the first byte: 0, or GW__NOTHING_CAME when none came. `may_push` as of wait; NULL: no. */
static int take_input(struct gw__pageserver *s, uint64_t ns, bool *may_push)
{
	bool any = false;
	int r = take_messages(s, &any);
	if (r || any)
		return r;
	r = wait(s, ns, may_push);
	if (r <= 0)
		return r ? r : GW__NOTHING_CAME;
	r = need(s, gw__stream_buf_left(&s->rp.buf) + 1);
	return r ? r : take_messages(s, &any);
}

/* --- replies --- */

/* Reads until it has arrived, within the limit for a reply. */
static int await_reply(struct gw__pageserver *s, enum reply reply)
{
	static const char *const names[] = {[REPLY_OPENED] = "its first PONG",
		[REPLY_DISCARDED] = "that it takes the switch to post-copy (PONG 2)",
		[REPLY_BITMAPS] = "its received bitmaps",
		[REPLY_RESUME_ACK] = "RESUME_ACK",
		[REPLY_GUEST_RUNS] = "that it loaded the devices (PONG 0x42)",
		[REPLY_SHUT] = "its SHUT"};
	int r = 0;
	expect_reply(s, names[reply]);
	while (r >= 0 && !has_come(s, reply)) {
		int left_ms = reply_left_ms(s);
		uint64_t ns = left_ms < 0 ? POLL_NS : gw__min((uint64_t)left_ms * NS_PER_MS, POLL_NS);
		r = left_ms ? take_input(s, ns, NULL) : reply_timed_out(s);
		gw__run_tick(s->run);
	}
	expect_reply(s, NULL);
	return r < 0 ? r : 0;
}

/*
 * From now on these have a place: BITMAPS, of all blocks that migrate, in their order; RESUME_ACK, as RESUME was sent. The others always have one in
 * their state.
 */
static void expect(struct gw__pageserver *s, enum reply reply)
{
	if (reply == REPLY_BITMAPS)
		s->rp.bitmap_due = next_block(s, 0);
	if (reply == REPLY_RESUME_ACK)
		s->rp.resume_sent = true;
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

/*
 * Discards what was meant for a predecessor on this link, up to the PONG with this token. In it there are whole messages, parts of them and
 * bitmaps; answers come in order, so that PONG is the end of it.
 */
static int skip_to_pong(struct gw__pageserver *s, uint32_t token)
{
	uint8_t pong[PONG_BYTES];
	struct gw__wr c = gw__wr_over(pong, sizeof pong);
	int r = 0;
	gw__rp_encode(&c, &(struct gw__rp_msg){.type = GW__RP_PONG, .value = token});
	expect_reply(s, "the answer to a PING");
	while (!r && !find_pong(&s->rp.buf, pong))
		r = s->rp.buf.ended ? gw__error_set(&s->run->error, -ECONNRESET, "%s: the destination closed the connection", s->chan->name)
				    : fill(s);
	expect_reply(s, NULL);
	return r;
}

/*
 * The first PONG tells that the destination has the main connection, so that another one cannot be taken for it. One that reads
 * nothing before both are connected cannot tell.
 */
static int connect_preempt_of_handover(struct gw__pageserver *s)
{
	int r = connect_preempt(s, GW__PREEMPT_EARLY);
	if (!r && s->o->preempt == GW__PREEMPT_ON)
		r = await_reply(s, REPLY_OPENED);
	return r ? r : connect_preempt(s, GW__PREEMPT_ON);
}

static int put(struct gw__pageserver *s, const void *bytes, size_t n) { return gw__chan_write_all(s->chan, bytes, n, &s->run->error); }

/* --- the beginning: header, block list, discards, the package (docs/spec/postcopy.md 3) --- */

static int put_head(struct gw__pageserver *s)
{
	uint8_t room[HEAD_ROOM];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	struct gw__config config = *s->source->config;
	gw__config_drop_cap(&config, "mapped-ram");
	gw__header_encode(&c);
	gw__config_encode(&c, &config);
	gw__command_encode(&c, GW__CMD_OPEN_RETURN_PATH, NULL, 0);
	gw__ping_encode(&c, GW__PING_OPENED);
	gw__advise_encode(&c, gw__page_scheduler_page_summary(s->pages), gw__config_page_bytes(&config));
	return put(s, room, gw__wr_used(&c));
}

/* Early devices go straight out; `room` holds all devices there are. */
static int put_early(struct gw__pageserver *s, enum gw__device_place place, uint8_t *room)
{
	size_t n = 0;
	int r = s->source->ops->read_devices(s->source, place, room, &n, &s->run->error);
	return r || !n ? r : put(s, room, n);
}

static int put_list(struct gw__pageserver *s)
{
	const struct gw__blocks_rule rule = {.page_bytes = gw__config_page_bytes(s->source->config),
		.page_summary = gw__page_scheduler_page_summary(s->pages),
		.address = s->source->config->ignore_shared};
	int r = gw__stream_writer_begin_list(&s->writer, &rule, gw__page_scheduler_host_page_bytes(s->pages), &s->run->error);
	return r ? r : gw__stream_writer_end_section(&s->writer, &s->run->error);
}

/*
 * What was not sent is discarded. It is not an optimisation: without a DISCARD a QEMU does not even begin to trap missing
 * pages.
 */
static int put_block_discards(struct gw__pageserver *s, uint32_t block)
{
	uint64_t page_bytes = gw__config_page_bytes(s->source->config), at = 0;
	struct gw__range range[GW__DISCARD_RANGES_MAX];
	uint8_t room[GW__NAME_MAX + 16 + sizeof range];
	struct gw__page_run run;
	unsigned n = 1;
	int r = 0;
	while (!r && n) {
		for (n = 0; n < GW__DISCARD_RANGES_MAX && gw__page_scheduler_next_unsent(s->pages, block, &at, &run);)
			range[n++] = (struct gw__range){run.first * page_bytes, (run.end - run.first) * page_bytes};
		struct gw__wr c = gw__wr_over(room, sizeof room);
		if (n)
			gw__discard_encode(&c, s->source->blocks->v[block].name, range, n);
		r = n ? put(s, room, gw__wr_used(&c)) : 0;
	}
	return r;
}

static int put_discards(struct gw__pageserver *s)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	int r = 0;
	for (uint32_t i = 0; !r && i < s->source->blocks->n; i++)
		r = put_block_discards(s, i);
	gw__ping_encode(&c, GW__PING_DISCARDED);
	return r ? r : put(s, room, gw__wr_used(&c));
}

static int put_package(struct gw__pageserver *s, uint8_t *devices)
{
	uint8_t head[16], first[PACKAGE_SLACK], last[PACKAGE_SLACK];
	struct gw__wr c = gw__wr_over(head, sizeof head), f = gw__wr_over(first, sizeof first), l = gw__wr_over(last, sizeof last);
	size_t n = 0;
	int r = s->source->ops->read_devices(s->source, GW__DEVICES_IN_PACKAGE, devices, &n, &s->run->error);
	if (r)
		return r;
	gw__command_encode(&f, GW__CMD_POSTCOPY_LISTEN, NULL, 0);
	gw__ping_encode(&l, GW__PING_LOADED);
	gw__ping_encode(&l, GW__PING_RUNS);
	gw__command_encode(&l, GW__CMD_POSTCOPY_RUN, NULL, 0);
	gw__packaged_encode(&c, (uint32_t)(gw__wr_used(&f) + n + gw__wr_used(&l)));
	struct iovec iov[] = {{head, gw__wr_used(&c)}, {first, gw__wr_used(&f)}, {devices, n}, {last, gw__wr_used(&l)}};
	return gw__chan_write_allv(s->chan, iov, GW__LEN(iov), &s->run->error);
}

/* With the last byte of the package the destination may run, whatever happens to what is written after it. */
static int send_package(struct gw__pageserver *s, uint8_t *devices)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	uint64_t before = s->chan->out_bytes;
	int r = put_package(s, devices);
	if (s->o->on_package && s->chan->out_bytes > before) {
		int noted = s->o->on_package(s->o->ctx);
		r = r ? r : noted;
	}
	if (!r)
		r = set_state(s, GW__POSTCOPY_SRC_EV_PACKAGE_SENT);
	gw__ping_encode(&c, GW__PING_SENT);
	return r ? r : put(s, room, gw__wr_used(&c));
}

static int begin_stream(struct gw__pageserver *s, uint8_t *devices)
{
	int r = put_head(s);
	if (!r)
		r = connect_preempt_of_handover(s);
	if (!r)
		r = put_early(s, GW__DEVICES_BEFORE_LIST, devices);
	if (!r)
		r = put_list(s);
	if (!r)
		r = put_early(s, GW__DEVICES_BEFORE_PACKAGE, devices);
	if (!r)
		r = gw__page_scheduler_send_first(s->pages);
	gw__stream_writer_forget_block(&s->writer); /* the next record names its block, as it must after the switch */
	return r ? r : gw__stream_writer_end_section(&s->writer, &s->run->error);
}

static int hand_over(struct gw__pageserver *s)
{
	uint8_t *devices = malloc(s->source->device_bytes + 1);
	int r = devices ? 0 : gw__error_set(&s->run->error, -ENOMEM, "no memory for the device state");
	if (!r)
		r = s->o->clear_unsent ? connect_preempt_of_handover(s) : begin_stream(s, devices);
	if (!r)
		r = put_discards(s);
	if (!r && s->o->confirm)
		r = await_reply(s, REPLY_DISCARDED);
	if (!r)
		r = set_state(s, GW__POSTCOPY_SRC_EV_STREAM_BEGUN);
	if (!r)
		r = send_package(s, devices);
	free(devices);
	return r;
}

/* --- resume --- */

static int send_command(struct gw__pageserver *s, uint16_t number)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	gw__command_encode(&c, number, NULL, 0);
	return put(s, room, gw__wr_used(&c));
}

/* A link of a dead predecessor, in the middle of its recovery: whatever the destination still sends to it is read first. */
static int take_over(struct gw__pageserver *s)
{
	uint8_t ping[16];
	uint32_t token = (uint32_t)gw__clock_now_ns(&s->run->clock) | 1u << 31; /* not one of a source */
	struct gw__wr c = gw__wr_over(ping, sizeof ping);
	gw__ping_encode(&c, token);
	int r = put(s, ping, gw__wr_used(&c));
	return r ? r : skip_to_pong(s, token);
}

/*
 * QEMU 7.2 does not survive a link that ends before it has read RESUME, and none minds one that comes before its bitmaps are
 * taken. So all is sent together, unless there is a preempt channel to be made in between, which is not so with 7.2.
 */
static int ask_bitmaps(struct gw__pageserver *s)
{
	size_t bytes = (size_t)s->source->blocks->n * ASK_BYTES_MAX + ASK_BYTES_MAX;
	uint8_t *room = malloc(bytes);
	struct gw__wr c = gw__wr_over(room, bytes);
	bool resume_later = s->o->preempt == GW__PREEMPT_ON;
	if (!room)
		return gw__error_set(&s->run->error, -ENOMEM, "no memory to ask for %u bitmaps", s->source->blocks->n);
	expect(s, REPLY_BITMAPS); /* answers may come before all is asked */
	for (uint32_t i = 0; i < s->source->blocks->n; i++)
		if (!s->source->blocks->v[i].ignored)
			gw__ask_bitmap_encode(&c, s->source->blocks->v[i].name);
	if (!resume_later) {
		gw__command_encode(&c, GW__CMD_POSTCOPY_RESUME, NULL, 0);
		expect(s, REPLY_RESUME_ACK);
	}
	int r = connect_preempt(s, GW__PREEMPT_EARLY); /* before that it reads nothing */
	if (!r)
		r = put(s, room, gw__wr_used(&c));
	free(room);
	if (!r)
		r = await_reply(s, REPLY_BITMAPS);
	if (!r)
		r = connect_preempt(s, GW__PREEMPT_ON);
	if (r || !resume_later)
		return r;
	expect(s, REPLY_RESUME_ACK);
	return send_command(s, GW__CMD_POSTCOPY_RESUME);
}

/* The destination knows best what it has; what we believed to have sent is forgotten. */
static int resume(struct gw__pageserver *s)
{
	int r = set_state(s, GW__POSTCOPY_SRC_EV_CONNECTED_AGAIN);
	if (!r && s->o->takeover_fd)
		r = take_over(s);
	if (!r)
		r = ask_bitmaps(s);
	if (!r)
		r = await_reply(s, REPLY_RESUME_ACK);
	if (!r)
		notify_guest_runs(s);
	return r;
}

/* --- all of it --- */

/*
 * Requests first: each read takes all that is there, and only one that finds nothing pushes the next piece; so does one after a
 * pause for the disk, for what was asked for meanwhile may have taken the room. With every page there, nothing holds up the devices
 * any more.
 */
static int push_all(struct gw__pageserver *s)
{
	bool pause = false;
	int r = 0;
	gw__page_out_begin_push(s->out); /* what it took to get here is free */
	while (r >= 0 && gw__page_scheduler_unsent_pages(s->pages)) {
		bool may_push = false;
		r = pause ? take_input(s, DISK_NS, NULL) : take_input(s, POLL_NS, &may_push);
		pause = false;
		if (r >= 0 && may_push && gw__page_scheduler_unsent_pages(s->pages)) {
			r = gw__page_scheduler_push(s->pages);
			pause = r == GW__WOULD_BLOCK;
		}
		gw__run_tick(s->run);
	}
	return r < 0 ? r : await_reply(s, REPLY_GUEST_RUNS);
}

/* The end of RAM and of the stream. A destination that wanted the second connection early does not see its end without a mark. */
static int put_end(struct gw__pageserver *s)
{
	uint8_t eos[8];
	const uint8_t eof = GW__ITEM_EOF;
	struct gw__error *error = &s->run->error;
	gw__be_put(eos, GW__RAM_EOS, sizeof eos);
	int r = s->o->preempt == GW__PREEMPT_EARLY ? gw__chan_write_all(gw__page_out_preempt(s->out), eos, sizeof eos, error) : 0;
	if (!r)
		r = gw__stream_writer_begin_end(&s->writer, error);
	if (!r)
		r = gw__stream_writer_end_section(&s->writer, error);
	return r ? r : put(s, &eof, sizeof eof);
}

static int finish(struct gw__pageserver *s)
{
	int r = put_end(s);
	if (!r)
		r = set_state(s, GW__POSTCOPY_SRC_EV_ALL_SENT);
	gw__run_phase(s->run, GW__PHASE_SYNC);
	if (!r)
		r = await_reply(s, REPLY_SHUT);
	return r ? r : set_state(s, GW__POSTCOPY_SRC_EV_SHUT_OK);
}

static int open_modules(struct gw__pageserver *s)
{
	gw__stream_writer_init(&s->writer, s->chan, s->source->blocks, s->source->ram_id, PART_BYTES);
	int r = gw__stream_buf_init(&s->rp.buf, s->chan, BUFFER_MAX_BYTES, &s->run->error);
	if (!r)
		r = gw__page_out_new(s->run, s->source, &s->writer, s->o, s->stats, &s->out);
	return r ? r : gw__page_scheduler_new(s->run, s->source, s->o, s->out, s->stats, &s->pages);
}

static int serve(struct gw__pageserver *s)
{
	int r = open_modules(s);
	if (!r)
		r = connect_preempt(s, GW__PREEMPT_OFF);
	if (!r)
		r = s->o->resume ? resume(s) : hand_over(s);
	gw__run_phase(s->run, GW__PHASE_RAM);
	if (!r)
		r = push_all(s);
	return r ? r : finish(s);
}

static void note_failure(struct gw__pageserver *s)
{
	struct gw__error ignored = {0};
	bool shut_error = s->rp.shut && s->rp.shut_status;
	gw__postcopy_src_step(*s->state, shut_error ? GW__POSTCOPY_SRC_EV_SHUT_ERROR : GW__POSTCOPY_SRC_EV_BROKEN, s->state, &ignored);
}

int gw__pageserver(struct gw__run *run, const struct gw__page_source *source, struct gw__chan *chan, const struct gw__pageserver_opts *o,
	struct gw__pageserver_stats *stats, enum gw__postcopy_src_state *state)
{
	struct gw__pageserver s = {.run = run,
		.source = source,
		.chan = chan,
		.o = o,
		.stats = stats,
		.state = state,
		.rp = {.asked_block = -1, .bitmap_due = -1}};
	*stats = (struct gw__pageserver_stats){0};
	*state = o->resume ? GW__POSTCOPY_SRC_PAUSED : GW__POSTCOPY_SRC_SETUP;
	atomic_store(&run->counters.total_bytes, source->blocks->total_bytes);
	int r = serve(&s);
	if (r)
		note_failure(&s);
	else
		gw__run_phase(run, GW__PHASE_DONE);
	gw__stream_buf_fini(&s.rp.buf);
	gw__page_scheduler_free(s.pages);
	gw__page_out_free(s.out);
	return r;
}

/* A destination that waits for pages has the guest; another one that was lost before it was told to run it has not. */
void gw__pageserver_locate(enum gw__postcopy_src_state state, struct gw__location *l)
{
	gw__location_note(l, state == GW__POSTCOPY_SRC_COMPLETED ? GW__LOCATION_EV_ARRIVED
			     : state == GW__POSTCOPY_SRC_PAUSED  ? GW__LOCATION_EV_DESTINATION_WAITS
								 : GW__LOCATION_EV_DESTINATION_FAILED);
}
