/* SPDX-License-Identifier: MIT */
/*
 * Rounds, stop, hand-over of a live guest; see source.h. When it is stopped says plan/converge, who may run it plan/handover; how it is written,
 * stream_out, and the page server once it is paused for post-copy.
 */
#include "engine/guest/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/guest/stream_out.h"
#include "engine/outgoing/await_reply.h"
#include "image/file/zero.h"

enum {
	PING_LOADED = 0x676f6477, /* before the end mark: is everything loaded? */
	GUESSED_TRIP_NS = 1000000,
	GUESSED_LOAD_NS = 5000000,
	TAKE_PAGES = 256,
};

/* What follows a round. */
enum { ANOTHER_ROUND, LAST_ROUND, SWITCH };

struct source {
	struct gw__run *run;
	struct gw__guest *guest;
	struct gw__outgoing *out;
	const struct gw__guest_source_opts *o;
	struct gw__guest_source_result *result;
	struct gw__stream_out *stream;
	enum gw__handover_state state;
	const struct gw_out *devices; /* of the package, while pages are served */

	bool paused, stood_still; /* by us; before it was asked to */
	int resume_failed;        /* what the hook that lets it run on said: it is paused, and not asked again */
	uint64_t paused_ns;       /* when; and how long that took */
	uint64_t pause_took_ns;

	struct gw__converge converge;
	uint64_t began_ns, busy_ns, round_ns, round; /* busy: the rounds before this one, which began at round_ns */
	uint64_t dirty_pages;                        /* that are to be sent */
	struct gw__converge_verdict verdict;
};

static uint64_t now(const struct source *s) { return gw__clock_now_ns(&s->run->clock); }

static void tell(const struct source *s, const struct gw__guest_event *event)
{
	if (s->o->on_event)
		s->o->on_event(s->o->ctx, event);
}

static int hook_failed(struct source *s, int r, const char *what)
{
	s->result->hook = true;
	return gw__error_set(&s->run->error, r, "%s", what);
}

/* What happened, for who may run the guest. */
static int step(struct source *s, enum gw__handover_event event)
{
	return gw__handover_step(s->state, event, &s->state, &s->result->location, &s->run->error);
}

/* --- stop, and run on --- */

static int stop(struct source *s)
{
	s->paused_ns = now(s);
	int r = s->guest->ops.pause(s->guest->ctx, GW__WHY_LEAVE);
	if (r < 0)
		return hook_failed(s, r, "the hook that stops the guest failed");
	s->stood_still = r == 1;
	s->paused = true;
	s->pause_took_ns = now(s) - s->paused_ns;
	return 0;
}

/* 0, or what the hook said. */
static int run_on(struct source *s)
{
	if (!s->paused)
		return 0;
	s->paused = false;
	s->result->downtime_ns = now(s) - s->paused_ns;
	s->resume_failed = s->stood_still ? 0 : s->guest->ops.resume(s->guest->ctx, GW__WHY_RETURNED);
	return s->resume_failed;
}

static int harvest(struct source *s)
{
	int r = gw__dirty_pages_harvest(gw__stream_out_dirty(s->stream), &s->dirty_pages, &s->run->error);
	s->result->hook = s->result->hook || (r && s->guest->ops.dirty_take);
	return r;
}

/* --- rounds --- */

/* `unsent_pages`: of the round; `busy`: it has something to send at this moment. */
static enum gw__converge_decision ask(struct source *s, enum gw__converge_at at, uint64_t unsent_pages, bool busy)
{
	const struct gw__counters *c = &s->run->counters;
	uint64_t ns = now(s);
	const struct gw__converge_now n = {.now_ns = ns - s->began_ns,
		.busy_ns = s->busy_ns + (busy ? ns - s->round_ns : 0),
		.left_bytes = atomic_load_explicit(&c->moved_bytes, memory_order_relaxed),
		.sent_pages =
			atomic_load_explicit(&c->pages, memory_order_relaxed) + atomic_load_explicit(&c->zero_pages, memory_order_relaxed),
		.unsent_pages = unsent_pages,
		.dirty_pages = busy ? 0 : s->dirty_pages,
		.page_bytes = s->guest->page_bytes,
		.pause_ns = s->pause_took_ns,
		.round_trip_ns = GUESSED_TRIP_NS,
		.load_ns = GUESSED_LOAD_NS};
	s->converge.limits.downtime_ns = (uint64_t)atomic_load_explicit(s->o->limit_ms, memory_order_relaxed) * 1000000;
	s->verdict = gw__converge_ask(&s->converge, at, &n);
	return s->verdict.decision;
}

static int give_up(struct source *s)
{
	return gw__error_set(&s->run->error, -ETIME,
		"the guest cannot be moved within %u ms of downtime: %s (it writes %llu bytes/s, the link carries %llu)",
		atomic_load(s->o->limit_ms), gw__converge_reason_text(s->verdict.reason), (unsigned long long)s->verdict.dirty_rate,
		(unsigned long long)s->verdict.bandwidth);
}

static bool is_told_to_switch(const struct source *s)
{
	return s->o->postcopy != GW__POSTCOPY_NEVER && atomic_load_explicit(s->o->switch_now, memory_order_relaxed);
}

/* Ten times a second in the middle of a round. */
static int look_at_link(void *ctx)
{
	struct source *s = ctx;
	if (ask(s, GW__CONVERGE_AT_SAMPLE, s->dirty_pages, true) == GW__CONVERGE_FAIL)
		return give_up(s);
	return is_told_to_switch(s) ? SWITCH : 0;
}

static int end_round(struct source *s)
{
	const struct gw__counters *c = &s->run->counters;
	s->busy_ns += now(s) - s->round_ns;
	int r = harvest(s);
	if (r)
		return r;
	s->round++;
	atomic_fetch_add_explicit(&s->run->counters.rounds, 1, memory_order_relaxed);
	ask(s, GW__CONVERGE_AT_END, 0, false);
	tell(s, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_ROUND,
			.round = s->round,
			.dirty_pages = s->dirty_pages,
			.sent_bytes = atomic_load(&c->moved_bytes),
			.bandwidth = s->verdict.bandwidth});
	s->round_ns = now(s);
	return 0;
}

/* It is stopped for a moment, to count exactly, and stays so if that is the verdict. */
static int look(struct source *s)
{
	int r = stop(s);
	if (!r)
		r = harvest(s);
	if (r)
		return r;
	enum gw__converge_decision decision = ask(s, GW__CONVERGE_AT_LOOK, 0, false);
	if (decision == GW__CONVERGE_FINISH || decision == GW__CONVERGE_DO_SWITCH)
		return 0;
	r = run_on(s);
	return r ? hook_failed(s, r, "the hook that lets the guest run on failed") : 0;
}

static int decide(struct source *s)
{
	enum gw__converge_decision decision = s->verdict.decision;
	if (s->o->postcopy == GW__POSTCOPY_AFTER_ROUND || is_told_to_switch(s))
		return SWITCH;
	if (atomic_load(s->o->finish))
		return LAST_ROUND;
	if (decision == GW__CONVERGE_LOOK) {
		int r = look(s);
		if (r)
			return r;
		decision = s->verdict.decision;
	}
	if (decision == GW__CONVERGE_FAIL)
		return give_up(s);
	if (decision == GW__CONVERGE_DO_SWITCH)
		return SWITCH;
	return decision == GW__CONVERGE_FINISH ? LAST_ROUND : ANOTHER_ROUND;
}

/* LAST_ROUND: the remaining pages are sent while the guest is paused; SWITCH. */
static int put_rounds(struct source *s)
{
	int r = gw__dirty_pages_start(gw__stream_out_dirty(s->stream), &s->run->error);
	if (r)
		s->result->hook = s->guest->ops.dirty_start;
	else
		r = gw__stream_out_begin(s->stream);
	gw__run_phase(s->run, GW__PHASE_RAM);
	s->began_ns = s->round_ns = now(s);
	if (!r)
		r = harvest(s);
	if (!r && s->o->postcopy == GW__POSTCOPY_AT_ONCE)
		return SWITCH;
	while (!r) {
		r = gw__stream_out_put_round(s->stream, gw__stream_out_dirty(s->stream), false, look_at_link, s);
		if (!r)
			r = end_round(s);
		if (!r)
			r = decide(s);
	}
	return r;
}

/* --- the guest stands still --- */

static int put_devices(struct source *s)
{
	struct gw_out saved;
	int r = gw__stream_out_save_devices(s->stream, &saved, &s->result->hook);
	if (!r)
		r = gw__stream_out_put_devices(s->stream, &saved);
	free(saved.bytes);
	return r;
}

/* It stays paused; what it wrote until then is known. */
static int stand_still(struct source *s)
{
	int r = s->paused ? 0 : stop(s);
	if (!r)
		r = step(s, GW__HANDOVER_EV_PAUSED);
	if (r)
		return r;
	gw__run_phase(s->run, GW__PHASE_DEVICES);
	tell(s, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_STOPPED});
	return harvest(s);
}

static int put_last(struct source *s)
{
	int r = stand_still(s);
	if (!r)
		r = gw__stream_out_put_round(s->stream, gw__stream_out_dirty(s->stream), true, NULL, NULL);
	return r ? r : put_devices(s);
}

/* Up to here it may be taken back. When the destination answers, it has everything but the last bytes, without which it does not run. */
static int confirm(struct source *s)
{
	if (!s->o->confirm)
		return step(s, GW__HANDOVER_EV_NOT_ASKED);
	int r = gw__stream_out_put_ping(s->stream, PING_LOADED);
	if (!r)
		r = step(s, GW__HANDOVER_EV_ASKED);
	if (!r)
		r = gw__await_reply(s->run, s->out->main, GW__RP_PONG, PING_LOADED, s->o->answer_ms, &s->run->error);
	return r ? r : step(s, GW__HANDOVER_EV_PONG);
}

static int hand_over(struct source *s)
{
	gw__run_phase(s->run, GW__PHASE_SYNC);
	uint64_t before = s->out->main->out_bytes;
	int r = gw__stream_out_put_end(s->stream);
	if (s->out->main->out_bytes > before) { /* of the end a part is enough for a QEMU (docs/spec/stream.md 9) */
		int begun = step(s, GW__HANDOVER_EV_END_BEGUN);
		r = r ? r : begun;
	}
	if (r)
		return r;
	s->out->main->cancel_fd = -1; /* it is too late for that */
	r = gw__await_reply(s->run, s->out->main, GW__RP_SHUT, 0, s->o->answer_ms, &s->run->error);
	return r ? r : step(s, GW__HANDOVER_EV_SHUT_OK);
}

/* --- post-copy: pages of a guest that is paused --- */

static const uint8_t *page_at(const struct gw__page_source *source, uint32_t block, uint64_t page)
{
	const struct source *s = source->ctx;
	return gw__dirty_pages_host(gw__stream_out_dirty(s->stream), block) + page * s->guest->page_bytes;
}

static uint64_t next_that_is(const struct gw__page_source *source, bool zero, uint32_t block, uint64_t first, uint64_t end)
{
	const struct source *s = source->ctx;
	while (first < end && gw__is_zero(page_at(source, block, first), s->guest->page_bytes) != zero)
		first++;
	return first;
}

static uint64_t next_content(const struct gw__page_source *source, uint32_t block, uint64_t first, uint64_t end)
{
	return next_that_is(source, false, block, first, end);
}

static uint64_t next_zero(const struct gw__page_source *source, uint32_t block, uint64_t first, uint64_t end)
{
	return next_that_is(source, true, block, first, end);
}

static int read_pages(const struct gw__page_source *source, uint32_t block, uint64_t first, uint64_t n, bool may_wait, uint8_t *room,
	const uint8_t **pages, struct gw__error *error)
{
	(void)n, (void)may_wait, (void)room, (void)error;
	*pages = page_at(source, block, first);
	return 0;
}

static int read_devices(const struct gw__page_source *source, enum gw__device_place place, uint8_t *to, size_t *n, struct gw__error *error)
{
	const struct source *s = source->ctx;
	(void)error;
	*n = place == GW__DEVICES_IN_PACKAGE ? s->devices->n : 0;
	if (*n)
		memcpy(to, s->devices->bytes, *n);
	return 0;
}

/* --- post-copy --- */

static int on_package(void *ctx)
{
	struct source *s = ctx;
	s->result->postcopy = true;
	return step(s, GW__HANDOVER_EV_PACKAGE_BEGUN);
}

/* Once, or after each recovery. */
static void on_guest_runs(void *ctx)
{
	struct source *s = ctx;
	struct gw__error ignored = {0};
	gw__handover_step(s->state, GW__HANDOVER_EV_RUNS_THERE, &s->state, &s->result->location, &ignored);
	if (s->paused)
		s->result->downtime_ns = now(s) - s->paused_ns;
	s->paused = false; /* not by us any more */
	if (s->o->on_held)
		s->o->on_held(s->o->ctx, &s->result->location);
	tell(s, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_RUNS_THERE, .downtime_ns = s->result->downtime_ns});
}

static void clear_unsent(void *ctx, struct gw__bitmap *sent)
{
	const struct source *s = ctx;
	uint64_t off[TAKE_PAGES];
	uint32_t block, n;
	while ((n = gw__dirty_pages_take(gw__stream_out_dirty(s->stream), 0, TAKE_PAGES, &block, off)))
		for (uint32_t i = 0; i < n; i++)
			gw__bitmap_clear(&sent[block], off[i] / s->guest->page_bytes);
}

/* Of each block, the size of the pages that back it: the destination's are the same. */
static struct gw__pageserver_block *list_page_sizes(const struct gw__guest *guest, const struct gw__blocks *blocks)
{
	struct gw__pageserver_block *v = calloc(blocks->n, sizeof *v);
	for (uint32_t i = 0; v && i < blocks->n; i++)
		v[i] = (struct gw__pageserver_block){blocks->v[i].name, gw__guest_find_block(guest, blocks->v[i].name)->page_bytes};
	return v;
}

/* The page server counts all pages as one; here those of zeros have their own count. */
static void count_zeros(struct gw__run *run, const struct gw__pageserver_stats *stats)
{
	atomic_fetch_add_explicit(&run->counters.zero_pages, stats->zero_pages, memory_order_relaxed);
	atomic_fetch_sub_explicit(&run->counters.pages, stats->zero_pages, memory_order_relaxed);
}

static int open_preempt(void *ctx, struct gw__chan **chan)
{
	const struct source *s = ctx;
	return s->o->open_preempt(s->o->ctx, chan);
}

/* The RAM of the guest, which is paused, as the page server's source of pages, and its devices in the package. */
static int serve_pages(struct source *s, const struct gw_out *devices, bool resume)
{
	static const struct gw__page_source_ops ops = {.next_content = next_content,
		.next_zero = next_zero,
		.read = read_pages,
		.read_devices = read_devices};
	const struct gw__page_source source = {.ops = &ops,
		.config = gw__stream_out_config(s->stream),
		.blocks = gw__stream_out_blocks(s->stream),
		.ram_id = GW__STREAM_OUT_RAM_ID,
		.device_bytes = devices->n,
		.ctx = s};
	struct gw__pageserver_block *sizes = list_page_sizes(s->guest, source.blocks);
	const struct gw__pageserver_opts po = {.resume = resume,
		.clear_unsent = clear_unsent,
		.confirm = s->o->confirm,
		.on_package = on_package,
		.on_guest_runs = on_guest_runs,
		.block = sizes,
		.blocks_n = source.blocks->n,
		.max_bandwidth = s->o->max_bandwidth,
		.preempt = s->o->open_preempt ? GW__PREEMPT_ON : GW__PREEMPT_OFF,
		.open_preempt = open_preempt,
		.ctx = s,
		.answer_ms = s->o->answer_ms};
	enum gw__postcopy_src_state ignored; /* who may run the guest says plan/handover, which is stricter */
	if (!sizes)
		return gw__error_set(&s->run->error, -ENOMEM, "no memory for a list of RAM blocks");
	s->devices = devices;
	int r = gw__pageserver(s->run, &source, s->out->main, &po, &s->result->pages, &ignored);
	count_zeros(s->run, &s->result->pages);
	free(sizes);
	return r ? r : step(s, GW__HANDOVER_EV_SHUT_OK);
}

static int switch_over(struct source *s)
{
	struct gw_out saved = {0};
	int r = stand_still(s);
	if (!r)
		r = gw__stream_out_save_devices(s->stream, &saved, &s->result->hook);
	if (!r)
		r = serve_pages(s, &saved, false);
	free(saved.bytes);
	return r;
}

static int go(struct source *s)
{
	int r = put_rounds(s);
	if (r == SWITCH)
		return switch_over(s);
	if (r == LAST_ROUND)
		r = put_last(s);
	if (!r)
		r = confirm(s);
	return r ? r : hand_over(s);
}

/* What follows from a failure; the guest runs on where nobody else can have it. */
static void fail(struct source *s, int r)
{
	struct gw__error ignored = {0};
	gw__handover_step(s->state, r == -EREMOTEIO ? GW__HANDOVER_EV_SHUT_ERROR : GW__HANDOVER_EV_BROKEN, &s->state, &s->result->location,
		&ignored);
	if (s->state != GW__HANDOVER_RETURNED)
		return;
	bool ran = s->paused && !s->stood_still, look_failed = s->resume_failed;
	if (look_failed || run_on(s)) {
		s->result->hook = true;
		gw__location_note(&s->result->location, GW__LOCATION_EV_BROKEN_AT_END);
		if (!look_failed)
			gw__error_where(&s->run->error, "the hook that lets the guest run again failed with %d after", s->resume_failed);
	} else if (ran) {
		tell(s, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_RUNS, .downtime_ns = s->result->downtime_ns});
	}
}

int gw__guest_source_run(struct gw__run *run, struct gw__guest *guest, struct gw__outgoing *out, const struct gw__guest_source_opts *o,
	struct gw__guest_source_result *result)
{
	struct source s = {.run = run, .guest = guest, .out = out, .o = o, .result = result, .state = GW__HANDOVER_RUNS};
	const struct gw__stream_out_opts so = {.method = o->method,
		.level = o->level,
		.copies = o->tls,
		.delta_bytes = o->delta_bytes,
		.postcopy = o->postcopy != GW__POSTCOPY_NEVER};
	*result = (struct gw__guest_source_result){.location = gw__location_at(GW__PLACE_SOURCE_RUNS)};
	gw__converge_init(&s.converge,
		&(struct gw__converge_limits){.policy = o->postcopy == GW__POSTCOPY_IF_NEEDED ? GW__CONVERGE_SWITCH : o->policy,
			.can_switch = o->postcopy == GW__POSTCOPY_IF_NEEDED,
			.patience = o->patience,
			.give_up_ns = o->give_up_ns});
	int r = gw__stream_out_new(run, guest, out, &so, &s.stream);
	if (!r) {
		r = go(&s);
		gw__stream_out_count_deltas(s.stream, &result->delta_pages, &result->delta_bytes);
	}
	gw__stream_out_free(s.stream);
	result->bandwidth = s.verdict.bandwidth;
	result->dirty_rate = s.verdict.dirty_rate;
	if (r)
		fail(&s, r);
	else if (!result->postcopy)
		result->downtime_ns = now(&s) - s.paused_ns;
	gw__run_phase(run, GW__PHASE_DONE);
	return r;
}

int gw__guest_source_resume(struct gw__run *run, struct gw__guest *guest, struct gw__outgoing *out, const struct gw__guest_source_opts *o,
	struct gw__location location, struct gw__guest_source_result *result)
{
	struct source s = {.run = run,
		.guest = guest,
		.out = out,
		.o = o,
		.result = result,
		.state = location.place == GW__PLACE_SPLIT ? GW__HANDOVER_HELD : GW__HANDOVER_IN_DOUBT};
	const struct gw__stream_out_opts so = {0};
	const struct gw_out none = {0};
	*result = (struct gw__guest_source_result){.location = location, .postcopy = true};
	int r = gw__stream_out_new(run, guest, out, &so, &s.stream);
	if (!r)
		r = serve_pages(&s, &none, true);
	gw__stream_out_free(s.stream);
	if (r)
		fail(&s, r);
	gw__run_phase(run, GW__PHASE_DONE);
	return r;
}
