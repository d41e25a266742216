/* SPDX-License-Identifier: MIT */
/* The page server's course: start or resume, push, end. See serve.h and docs/spec/postcopy.md 3, 6. */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/pageserver/pageserver_private.h"
#include "wire/postcopy.h"

enum {
	QUEUE_BYTES = 256 << 10, /* what the kernel may hold in front of a request's page */
	ASK_BYTES_MAX = 5 + 1 + GW__NAME_MAX,
	DRY_NS = 200000, /* for requests, while the disk brings the next page of the push */
};

int gw__pageserver_set_state(struct gw__pageserver *s, enum gw__postcopy_src_event event)
{
	enum gw__postcopy_src_state before = s->stats->state;
	int r = gw__postcopy_src_step(before, event, &s->stats->state, &s->run->error);
	if (!r)
		GW__TRACE(&s->run->trace, serve_state, "%s -> %s", gw__postcopy_src_state_name(before),
			gw__postcopy_src_state_name(s->stats->state));
	return r;
}

void gw__pageserver_notify_guest_runs(const struct gw__pageserver *s)
{
	if (s->o->on_guest_runs)
		s->o->on_guest_runs(s->o->ctx);
}

int gw__pageserver_await(struct gw__pageserver *s, const char *what, bool (*done)(const struct gw__pageserver *s))
{
	int r = 0;
	gw__pageserver_expect_reply(s, what);
	while (r >= 0 && !done(s)) {
		int left_ms = gw__pageserver_reply_left_ms(s);
		uint64_t ns = left_ms < 0 ? GW__PAGESERVER_POLL_NS : gw__min((uint64_t)left_ms * 1000000, GW__PAGESERVER_POLL_NS);
		r = left_ms ? gw__pageserver_read_return_path(s, ns, NULL) : gw__pageserver_reply_timed_out(s);
		gw__run_tick(s->run);
	}
	gw__pageserver_expect_reply(s, NULL);
	return r < 0 ? r : 0;
}

int gw__pageserver_connect_preempt(struct gw__pageserver *s, enum gw__preempt when)
{
	if (s->o->preempt != when)
		return 0;
	int r = when ? s->o->open_preempt(s->o->ctx, &s->preempt.chan) : 0;
	if (!r && s->o->on_connected)
		s->o->on_connected(s->o->ctx);
	return r;
}

static bool bitmaps_came(const struct gw__pageserver *s) { return s->bitmap_due < 0; }
static bool ack_came(const struct gw__pageserver *s) { return s->resumed; }
static bool shut_came(const struct gw__pageserver *s) { return s->shut; }
static bool guest_runs(const struct gw__pageserver *s) { return s->stats->state != GW__POSTCOPY_SRC_DEVICE; }

/*
 * QEMU 7.2 does not survive a link that ends before it has read RESUME, and none minds one that comes before its bitmaps are
 * taken. So all is said in one breath, unless there is a preempt channel to be made in between, which is not so with 7.2.
 */
static int ask_bitmaps(struct gw__pageserver *s)
{
	size_t bytes = (size_t)s->image->blocks.n * ASK_BYTES_MAX + ASK_BYTES_MAX;
	uint8_t *room = malloc(bytes);
	struct gw__wr c = gw__wr_over(room, bytes);
	if (!room)
		return gw__error_set(&s->run->error, -ENOMEM, "no memory to ask for %u bitmaps", s->image->blocks.n);
	s->bitmap_due = gw__pageserver_next_block(s, 0); /* answers may come before all is asked */
	for (uint32_t i = 0; i < s->image->blocks.n; i++)
		if (!s->image->blocks.v[i].ignored)
			gw__ask_bitmap_encode(&c, s->image->blocks.v[i].name);
	s->resume_sent = s->o->preempt != GW__PREEMPT_ON;
	if (s->resume_sent)
		gw__command_encode(&c, GW__CMD_POSTCOPY_RESUME, NULL, 0);
	int r = gw__pageserver_connect_preempt(s, GW__PREEMPT_EARLY); /* before that it reads nothing */
	if (!r)
		r = gw__pageserver_write(s, room, gw__wr_used(&c));
	free(room);
	if (!r)
		r = gw__pageserver_await(s, "its received bitmaps", bitmaps_came);
	return r ? r : gw__pageserver_connect_preempt(s, GW__PREEMPT_ON);
}

/* The destination knows best what it has; what we believed to have sent is forgotten. */
static int resume(struct gw__pageserver *s)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	s->stats->state = GW__POSTCOPY_SRC_PAUSED;
	int r = gw__pageserver_set_state(s, GW__POSTCOPY_SRC_EV_CONNECTED_AGAIN);
	if (!r && s->o->takeover_fd)
		r = gw__pageserver_takeover(s);
	if (!r)
		r = ask_bitmaps(s);
	if (!r && !s->resume_sent) {
		s->resume_sent = true;
		gw__command_encode(&c, GW__CMD_POSTCOPY_RESUME, NULL, 0);
		r = gw__pageserver_write(s, room, gw__wr_used(&c));
	}
	if (!r)
		r = gw__pageserver_await(s, "RESUME_ACK", ack_came);
	if (!r)
		gw__pageserver_notify_guest_runs(s);
	return r;
}

/*
 * Requests first: each look hears all that is there, and only a look that finds nothing pushes the next piece; so does one after a
 * pause for the disk, for what was asked for meanwhile may have taken the room. With every page there, nothing holds up the devices
 * any more.
 */
static int push_all(struct gw__pageserver *s)
{
	bool pause = false;
	int r = 0;
	s->paid_bytes = gw__page_out_bytes(s); /* what it took to get here is free */
	while (r >= 0 && s->unsent_pages) {
		bool may_push = false;
		r = pause ? gw__pageserver_read_return_path(s, DRY_NS, NULL)
			  : gw__pageserver_read_return_path(s, GW__PAGESERVER_POLL_NS, &may_push);
		pause = false;
		if (r >= 0 && may_push && s->unsent_pages) {
			r = gw__pageserver_push(s);
			pause = s->ahead.misses_in_a_row > 0;
		}
		gw__run_tick(s->run);
	}
	return r < 0 ? r : gw__pageserver_await(s, "that it loaded the devices (PONG 0x42)", guest_runs);
}

/* A destination that wanted it early does not see its end otherwise. */
static int end_preempt(struct gw__pageserver *s)
{
	uint8_t mark[8];
	gw__be_put(mark, GW__RAM_EOS, sizeof mark);
	return s->o->preempt == GW__PREEMPT_EARLY ? gw__chan_write_all(s->preempt.chan, mark, sizeof mark, &s->run->error) : 0;
}

static int finish(struct gw__pageserver *s)
{
	uint8_t room[32];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	int r = end_preempt(s);
	if (!r)
		r = gw__pageserver_end_part(s);
	gw__section_encode(&c, &(struct gw__section){.type = GW__ITEM_END, .id = s->image->ram_id});
	gw__wr_be64(&c, GW__RAM_EOS);
	gw__footer_encode(&c, s->image->ram_id);
	gw__wr_u8(&c, GW__ITEM_EOF);
	if (!r)
		r = gw__pageserver_write(s, room, gw__wr_used(&c));
	if (!r)
		r = gw__pageserver_set_state(s, GW__POSTCOPY_SRC_EV_ALL_SENT);
	gw__run_phase(s->run, GW__PHASE_SYNC);
	if (!r)
		r = gw__pageserver_await(s, "its last word", shut_came);
	return r ? r : gw__pageserver_set_state(s, GW__POSTCOPY_SRC_EV_SHUT_OK);
}

static int serve(struct gw__pageserver *s)
{
	int r = gw__pageserver_pages_init(s);
	if (!r)
		r = gw__page_out_init(s);
	if (!r)
		r = gw__stream_buf_init(&s->rp_buf, s->main.chan, 1 << 20, &s->run->error);
	if (!r)
		gw__readahead_begin(s);
	if (!r)
		r = gw__pageserver_connect_preempt(s, GW__PREEMPT_OFF);
	if (!r)
		r = s->o->resume ? resume(s) : gw__pageserver_handover(s);
	gw__run_phase(s->run, GW__PHASE_RAM);
	if (!r)
		r = push_all(s);
	return r ? r : finish(s);
}

int gw__pageserver(struct gw__run *run, const struct gw__image *image, struct gw__chan *chan, const struct gw__pageserver_opts *o,
	struct gw__pageserver_stats *stats)
{
	struct gw__pageserver *s = calloc(1, sizeof *s);
	*stats = (struct gw__pageserver_stats){.state = o->resume ? GW__POSTCOPY_SRC_PAUSED : GW__POSTCOPY_SRC_SETUP};
	if (!s)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a page server");
	s->run = run;
	s->image = image;
	s->main = (struct gw__page_out){.chan = chan, .last_block = -1};
	s->preempt = (struct gw__page_out){.last_block = -1};
	s->o = o;
	s->stats = stats;
	s->page_bytes = s->page_summary = gw__config_page_bytes(&image->config);
	s->asked_block = s->bitmap_due = -1;
	s->last_poll_ns = s->oldest_unread_ns = gw__clock_now_ns(&run->clock);
	gw__chan_set_unsent_low_watermark(chan, QUEUE_BYTES);
	atomic_store(&run->counters.total_bytes, image->blocks.total_bytes);
	int r = serve(s);
	if (r) {
		struct gw__error ignored = {0};
		enum gw__postcopy_src_event event = s->shut && s->shut_status ? GW__POSTCOPY_SRC_EV_SHUT_ERROR : GW__POSTCOPY_SRC_EV_BROKEN;
		gw__postcopy_src_step(stats->state, event, &stats->state, &ignored);
	} else {
		gw__run_phase(run, GW__PHASE_DONE);
	}
	gw__readahead_end(s);
	gw__pageserver_pages_fini(s);
	gw__page_out_fini(s);
	gw__stream_buf_fini(&s->rp_buf);
	gw__chan_close(&s->preempt.chan, NULL);
	free(s);
	return r;
}
