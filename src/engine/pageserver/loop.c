/* SPDX-License-Identifier: MIT */
/*
 * The page server's course: hand over or resume, push, end; and how its modules meet. See pageserver.h and docs/spec/postcopy.md 3, 6.
 *
 *   destination --> return_path_reader --request--> page_scheduler --> page_out --> destination
 *                                                      (what)           (when)
 */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/pageserver/page_scheduler.h"
#include "engine/pageserver/page_out.h"
#include "engine/pageserver/pageserver.h"
#include "engine/pageserver/return_path_reader.h"
#include "wire/postcopy.h"

enum {
	NS_PER_S = 1000000000,
	POLL_NS = NS_PER_S / 5,      /* between looks at the clock while there is nothing to send */
	TOGETHER_NS = NS_PER_S / 20, /* in which both connections end when one network does */
	DISK_NS = 200000,            /* for requests, while the disk brings the next page of the push */
	ASK_BYTES_MAX = 5 + 1 + GW__NAME_MAX,
	HEAD_ROOM = 8192,   /* magic, configuration, three commands */
	PACKAGE_SLACK = 64, /* LISTEN, PINGs, RUN */
};

struct gw__pageserver {
	struct gw__run *run;
	const struct gw__page_source *source;
	const struct gw__pageserver_opts *o;
	struct gw__pageserver_stats *stats;
	enum gw__postcopy_src_state *state;
	bool preempt_reconnected;

	struct gw__page_out *out;
	struct gw__page_scheduler *pages;
	struct gw__return_path_reader *rp;
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
 * The first PONG tells that the destination has the main connection, so that another one cannot be taken for it. One that reads
 * nothing before both are connected cannot tell.
 */
static int connect_preempt_of_handover(struct gw__pageserver *s)
{
	int r = connect_preempt(s, GW__PREEMPT_EARLY);
	if (!r && s->o->preempt == GW__PREEMPT_ON)
		r = gw__return_path_reader_await(s->rp, GW__REPLY_OPENED);
	return r ? r : connect_preempt(s, GW__PREEMPT_ON);
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
	if (s->preempt_reconnected || !lost || !gw__return_path_reader_came(s->rp, GW__REPLY_RESUME_ACK) ||
		!gw__page_scheduler_unsent_pages(s->pages) || lost->out_bytes)
		return 0;
	int r = gw__chan_wait_readable(lost, 0, &s->run->error);
	if (r > 0)
		r = gw__return_path_reader_stays_open(s->rp, TOGETHER_NS);
	if (r <= 0)
		return r;
	s->preempt_reconnected = true;
	gw__page_out_set_preempt(s->out, NULL);
	r = s->o->open_preempt(s->o->ctx, &chan);
	gw__page_out_set_preempt(s->out, chan);
	return r;
}

/* --- what the return path brings --- */

static int on_request(void *ctx, uint32_t block, uint64_t start_off, uint64_t bytes)
{
	struct gw__pageserver *s = ctx;
	s->stats->requests++;
	gw__page_out_note_request(s->out);
	int r = reconnect_preempt(s);
	return r ? r : gw__page_scheduler_request(s->pages, block, start_off, bytes);
}

static struct gw__bitmap *bitmap(void *ctx, uint32_t block)
{
	struct gw__pageserver *s = ctx;
	return gw__page_scheduler_bitmap(s->pages, block);
}

static int on_bitmap_complete(void *ctx, uint32_t block)
{
	struct gw__pageserver *s = ctx;
	return gw__page_scheduler_take_bitmap(s->pages, block);
}

static void notify_guest_runs(const struct gw__pageserver *s)
{
	if (s->o->on_guest_runs)
		s->o->on_guest_runs(s->o->ctx);
}

static int on_reply(void *ctx, enum gw__postcopy_src_event event)
{
	struct gw__pageserver *s = ctx;
	if (event == GW__POSTCOPY_SRC_EV_GUEST_RUNS)
		notify_guest_runs(s);
	return set_state(s, event);
}

static int wait(void *ctx, uint64_t ns, bool *may_push)
{
	struct gw__pageserver *s = ctx;
	int r = gw__page_out_wait(s->out, ns, may_push);
	return r ? r : reconnect_preempt(s);
}

static const struct gw__return_path_ops RETURN_PATH_OPS = {
	.request = on_request, .bitmap = bitmap, .bitmap_complete = on_bitmap_complete, .event = on_reply, .wait = wait};

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
	return gw__page_out_write(s->out, room, gw__wr_used(&c));
}

/* Early devices go straight out; `room` holds all devices there are. */
static int put_early(struct gw__pageserver *s, enum gw__device_place place, uint8_t *room)
{
	size_t n = 0;
	int r = s->source->ops->read_devices(s->source, place, room, &n, &s->run->error);
	return r || !n ? r : gw__page_out_write(s->out, room, n);
}

static int put_list(struct gw__pageserver *s)
{
	const struct gw__blocks_rule rule = {.page_bytes = gw__config_page_bytes(s->source->config),
		.page_summary = gw__page_scheduler_page_summary(s->pages),
		.address = s->source->config->ignore_shared};
	return gw__page_out_write_list(s->out, &rule, gw__page_scheduler_host_page_bytes(s->pages));
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
		r = n ? gw__page_out_write(s->out, room, gw__wr_used(&c)) : 0;
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
	return r ? r : gw__page_out_write(s->out, room, gw__wr_used(&c));
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
	return gw__chan_write_allv(gw__page_out_main(s->out), iov, GW__LEN(iov), &s->run->error);
}

/* With the last byte of the package the destination may run, whatever happens to what is written after it. */
static int send_package(struct gw__pageserver *s, uint8_t *devices)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	uint64_t before = gw__page_out_main(s->out)->out_bytes;
	int r = put_package(s, devices);
	if (s->o->on_package && gw__page_out_main(s->out)->out_bytes > before) {
		int noted = s->o->on_package(s->o->ctx);
		r = r ? r : noted;
	}
	if (!r)
		r = set_state(s, GW__POSTCOPY_SRC_EV_PACKAGE_SENT);
	gw__ping_encode(&c, GW__PING_SENT);
	return r ? r : gw__page_out_write(s->out, room, gw__wr_used(&c));
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
	return r ? r : gw__page_scheduler_send_first(s->pages);
}

static int hand_over(struct gw__pageserver *s)
{
	uint8_t *devices = malloc(s->source->device_bytes + 1);
	int r = devices ? 0 : gw__error_set(&s->run->error, -ENOMEM, "no memory for the device state");
	if (!r && !s->o->clear_unsent)
		r = begin_stream(s, devices);
	if (!r)
		r = put_discards(s);
	if (!r && s->o->confirm)
		r = gw__return_path_reader_await(s->rp, GW__REPLY_DISCARDED);
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
	return gw__page_out_write(s->out, room, gw__wr_used(&c));
}

/* A link of a dead predecessor, in the middle of its recovery: whatever the destination still sends to it is read first. */
static int take_over(struct gw__pageserver *s)
{
	uint8_t ping[16];
	uint32_t token = (uint32_t)gw__clock_now_ns(&s->run->clock) | 1u << 31; /* not one of a source */
	struct gw__wr c = gw__wr_over(ping, sizeof ping);
	gw__ping_encode(&c, token);
	int r = gw__page_out_write(s->out, ping, gw__wr_used(&c));
	return r ? r : gw__return_path_reader_skip_to_pong(s->rp, token);
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
	gw__return_path_reader_expect(s->rp, GW__REPLY_BITMAPS); /* answers may come before all is asked */
	for (uint32_t i = 0; i < s->source->blocks->n; i++)
		if (!s->source->blocks->v[i].ignored)
			gw__ask_bitmap_encode(&c, s->source->blocks->v[i].name);
	if (!resume_later) {
		gw__command_encode(&c, GW__CMD_POSTCOPY_RESUME, NULL, 0);
		gw__return_path_reader_expect(s->rp, GW__REPLY_RESUME_ACK);
	}
	int r = connect_preempt(s, GW__PREEMPT_EARLY); /* before that it reads nothing */
	if (!r)
		r = gw__page_out_write(s->out, room, gw__wr_used(&c));
	free(room);
	if (!r)
		r = gw__return_path_reader_await(s->rp, GW__REPLY_BITMAPS);
	if (!r)
		r = connect_preempt(s, GW__PREEMPT_ON);
	if (r || !resume_later)
		return r;
	gw__return_path_reader_expect(s->rp, GW__REPLY_RESUME_ACK);
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
		r = gw__return_path_reader_await(s->rp, GW__REPLY_RESUME_ACK);
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
		r = pause ? gw__return_path_reader_take(s->rp, DISK_NS, NULL) : gw__return_path_reader_take(s->rp, POLL_NS, &may_push);
		pause = false;
		if (r >= 0 && may_push && gw__page_scheduler_unsent_pages(s->pages)) {
			r = gw__page_scheduler_push(s->pages);
			pause = r == GW__WOULD_BLOCK;
		}
		gw__run_tick(s->run);
	}
	return r < 0 ? r : gw__return_path_reader_await(s->rp, GW__REPLY_GUEST_RUNS);
}

/* A destination that wanted the second connection early does not see its end without a mark. */
static int finish(struct gw__pageserver *s)
{
	int r = gw__page_out_write_end(s->out, s->o->preempt == GW__PREEMPT_EARLY);
	if (!r)
		r = set_state(s, GW__POSTCOPY_SRC_EV_ALL_SENT);
	gw__run_phase(s->run, GW__PHASE_SYNC);
	if (!r)
		r = gw__return_path_reader_await(s->rp, GW__REPLY_SHUT);
	return r ? r : set_state(s, GW__POSTCOPY_SRC_EV_SHUT_OK);
}

static int open_modules(struct gw__pageserver *s, struct gw__chan *chan)
{
	int r = gw__page_out_new(s->run, s->source, chan, s->o, s->stats, &s->out);
	if (!r)
		r = gw__page_scheduler_new(s->run, s->source, s->o, s->out, s->stats, &s->pages);
	return r ? r : gw__return_path_reader_new(s->run, s->source, chan, s->o->answer_ms, s->state, &RETURN_PATH_OPS, s, &s->rp);
}

static int serve(struct gw__pageserver *s, struct gw__chan *chan)
{
	int r = open_modules(s, chan);
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
	bool shut = s->rp && gw__return_path_reader_shut_error(s->rp);
	gw__postcopy_src_step(*s->state, shut ? GW__POSTCOPY_SRC_EV_SHUT_ERROR : GW__POSTCOPY_SRC_EV_BROKEN, s->state, &ignored);
}

int gw__pageserver(struct gw__run *run, const struct gw__page_source *source, struct gw__chan *chan, const struct gw__pageserver_opts *o,
	struct gw__pageserver_stats *stats, enum gw__postcopy_src_state *state)
{
	struct gw__pageserver s = {.run = run, .source = source, .o = o, .stats = stats, .state = state};
	*stats = (struct gw__pageserver_stats){0};
	*state = o->resume ? GW__POSTCOPY_SRC_PAUSED : GW__POSTCOPY_SRC_SETUP;
	atomic_store(&run->counters.total_bytes, source->blocks->total_bytes);
	int r = serve(&s, chan);
	if (r)
		note_failure(&s);
	else
		gw__run_phase(run, GW__PHASE_DONE);
	gw__return_path_reader_free(s.rp);
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
