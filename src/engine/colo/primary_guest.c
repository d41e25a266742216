/* SPDX-License-Identifier: MIT */
/* A live guest and its secondary; see primary_guest.h. */
#include "engine/colo/primary_guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/math.h"
#include "engine/colo/primary_talk.h"
#include "engine/guest/dirty_pages.h"
#include "engine/guest/stream_out.h"
#include "engine/outgoing/await_reply.h"
#include "io/chan.h"
#include "wire/colo.h"
#include "wire/framing.h"

#define EV(x) GW__COLO_PRIMARY_EV_##x

enum {
	AT_ONCE = 128,     /* pages that are copied */
	READY_MS = 60000,  /* for SHUT and READY: a secondary may have to load a whole guest */
	PATIENCE = 3,      /* rounds of the first copy without progress */
	LOOKS = 8,         /* in an epoch */
	LOOK_MS_LEAST = 2, /* between two of them; an order waits for one as well */
	LOOK_MS_MOST = 20,
	LOOKS_LAST = 4,       /* at most, right before the guest is stopped, */
	FRESH_PAGES_FEW = 64, /* while a look finds more than this */
};

/* --- the pages of an epoch, copied while the guest runs --- */

/*
 * What is left to be copied when it stands still is what it wrote since the last look. What is written again is copied again. The copies have the
 * places that the pages have in their blocks, in memory that is touched only where there is one.
 */
struct epoch_copy {
	struct gw__guest *guest;
	struct gw__dirty_pages *dirty;  /* the guest's; borrowed */
	struct gw__dirty_pages *copied; /* the same blocks, over the copies */
	uint64_t pages;                 /* of this epoch */
	uint64_t touched_pages;         /* copies since memory was given back last, at most */
	uint32_t n;
	struct {
		uint8_t *copy;
		uint64_t bytes;
	} v[];
};

static void free_copy(struct epoch_copy *e)
{
	if (!e)
		return;
	for (uint32_t i = 0; i < e->n; i++)
		munmap(e->v[i].copy, e->v[i].bytes);
	gw__dirty_pages_free(e->copied);
	free(e);
}

static int map_copies(struct epoch_copy *e, const struct gw__blocks *blocks)
{
	for (; e->n < blocks->n; e->n++) {
		uint64_t bytes = blocks->v[e->n].used_bytes;
		void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (copy == MAP_FAILED)
			return -ENOMEM;
		e->v[e->n].copy = copy;
		e->v[e->n].bytes = bytes;
		gw__dirty_pages_set_host(e->copied, e->n, copy);
	}
	return 0;
}

static int new_copy(struct gw__guest *guest, const struct gw__blocks *blocks, struct gw__dirty_pages *dirty, struct epoch_copy **made,
	struct gw__error *error)
{
	struct epoch_copy *e = calloc(1, sizeof *e + blocks->n * sizeof e->v[0]);
	int r = e ? gw__dirty_pages_new(guest, blocks, &e->copied, error) : -ENOMEM;
	if (!r)
		r = map_copies(e, blocks);
	if (r) {
		free_copy(e);
		return gw__error_set(error, -ENOMEM, "no memory for copies of the guest's pages");
	}
	e->guest = guest;
	e->dirty = dirty;
	*made = e;
	return 0;
}

/* What was written since the last time is copied. *fresh: pages that were copied now. */
static int copy_written(struct epoch_copy *e, uint64_t *fresh, struct gw__error *error)
{
	uint64_t off[AT_ONCE];
	uint32_t block, n;
	int r = gw__dirty_pages_harvest(e->dirty, fresh, error);
	if (r)
		return r;
	while ((n = gw__dirty_pages_take(e->dirty, 0, AT_ONCE, &block, off))) {
		const uint8_t *host = gw__dirty_pages_host(e->dirty, block);
		for (uint32_t i = 0; i < n; i++) {
			memcpy(e->v[block].copy + off[i], host + off[i], e->guest->page_bytes);
			e->pages += gw__dirty_pages_add(e->copied, block, off[i]);
		}
	}
	return 0;
}

/* The epoch's pages, to be taken once. */
static struct gw__dirty_pages *taken_pages(struct epoch_copy *e)
{
	gw__dirty_pages_rewind(e->copied);
	return e->copied;
}

/* They were taken; a new epoch begins. Memory for more than `keep_pages` of them is given back. */
static void begin_epoch(struct epoch_copy *e, uint64_t keep_pages)
{
	e->touched_pages += e->pages;
	e->pages = 0;
	if (e->touched_pages <= keep_pages)
		return;
	for (uint32_t i = 0; i < e->n; i++)
		madvise(e->v[i].copy, e->v[i].bytes, MADV_DONTNEED);
	e->touched_pages = 0;
}

/* --- the primary --- */

struct primary {
	struct gw__run *run;
	struct gw__guest *guest;
	const struct gw__primary_guest_opts *o;
	struct gw__primary_guest_result *result;
	struct gw__primary_talk talk;
	struct gw__stream_out *stream;
	struct epoch_copy *copy;
	struct gw_out devices; /* of the epoch at hand */
	struct gw__primary_guest_epoch epoch;
	uint64_t stopped_ns, ran_ns;
};

static uint64_t now(const struct primary *p) { return gw__clock_now_ns(&p->run->clock); }

static int hook_failed(struct primary *p, int r, const char *what)
{
	p->result->hook = true;
	return gw__error_set(&p->run->error, r > 0 ? -EPROTO : r, "%s", what);
}

/* Who notices writes is the VMM by its hooks, or we. */
static int tracked(struct primary *p, int r)
{
	p->result->hook |= r && p->guest->ops.dirty_take;
	return r;
}

static int look(struct primary *p, uint64_t *fresh) { return tracked(p, copy_written(p->copy, fresh, &p->run->error)); }

/* --- an epoch: the guest stands still for this alone --- */

static int save(struct primary *p)
{
	free(p->devices.bytes);
	int r = look(p, &p->epoch.copied_in_pause);
	return r ? r : gw__stream_out_save_devices(p->stream, &p->devices, &p->result->hook);
}

/* It runs again, whatever became of the epoch. */
static int run_on(struct primary *p, int r)
{
	int resumed = p->guest->ops.resume(p->guest->ctx, GW__WHY_CHECKPOINT);
	if (!resumed)
		return r;
	p->result->stays_stopped = true;
	return hook_failed(p, resumed, "the hook that lets the guest run again failed; it is paused");
}

static int capture(struct primary *p)
{
	uint64_t fresh;
	int r = 0;
	for (int i = 0; !r && i < LOOKS_LAST; i++) {
		r = look(p, &fresh);
		if (fresh <= FRESH_PAGES_FEW)
			break;
	}
	if (r)
		return r;
	p->stopped_ns = now(p);
	int stood_still = p->guest->ops.pause(p->guest->ctx, GW__WHY_CHECKPOINT);
	if (stood_still < 0)
		return hook_failed(p, stood_still, "the hook that stops the guest failed");
	r = save(p);
	if (!stood_still)
		r = run_on(p, r);
	p->ran_ns = now(p);
	p->epoch.pause_ns = p->ran_ns - p->stopped_ns;
	p->epoch.pages = p->copy->pages;
	return r;
}

static void committed(struct primary *p)
{
	struct gw__primary_guest_result *result = p->result;
	p->epoch.commit_ns = now(p) - p->ran_ns;
	result->last = p->epoch;
	result->protected = true;
	result->epochs = p->epoch.number;
	if (p->epoch.number)
		gw__histogram_add(&result->pause, p->epoch.pause_ns / 1000);
	result->pages_most = gw__max(result->pages_most, p->epoch.number ? p->epoch.pages : 0);
	GW__TRACE(&p->run->trace, colo_epoch, "%llu: %llu pages, %llu of them copied in a pause of %llu us",
		(unsigned long long)p->epoch.number, (unsigned long long)p->epoch.pages, (unsigned long long)p->epoch.copied_in_pause,
		(unsigned long long)p->epoch.pause_ns / 1000);
	if (p->o->on_committed)
		p->o->on_committed(p->o->ctx, &p->epoch);
	p->epoch = (struct gw__primary_guest_epoch){.number = p->epoch.number + 1};
	begin_epoch(p->copy, p->o->copy_pages);
}

/* --- the first copy --- */

static bool is_ordered(const struct primary *p, enum gw__protect_order order) { return atomic_load(p->o->order) == (int)order; }

static int put_rounds(struct primary *p)
{
	struct gw__dirty_pages *dirty = gw__stream_out_dirty(p->stream);
	uint64_t left, fewest = UINT64_MAX;
	int r = tracked(p, gw__dirty_pages_harvest(dirty, &left, &p->run->error));
	for (int without_progress = 0; !r && without_progress < PATIENCE;) {
		r = gw__stream_out_put_round(p->stream, dirty, false, NULL, NULL);
		if (!r)
			r = tracked(p, gw__dirty_pages_harvest(dirty, &left, &p->run->error));
		if (left <= p->o->copy_pages / 2 || is_ordered(p, GW__PROTECT_ORDER_FINISH))
			break;
		without_progress = left < fewest - fewest / 10 ? 0 : without_progress + 1;
		fewest = gw__min(fewest, left);
	}
	return r;
}

/* What is left comes from copies, so that the guest need not wait for it. */
static int put_last(struct primary *p)
{
	int r = gw__stream_out_put_round(p->stream, taken_pages(p->copy), true, NULL, NULL);
	if (!r)
		r = gw__stream_out_put_devices(p->stream, &p->devices);
	return r ? r : gw__stream_out_put_end(p->stream);
}

static int await_ready(struct primary *p)
{
	int r = gw__primary_talk_step(&p->talk, p->o->old_dialect ? EV(GUEST_SENT_OLD) : EV(GUEST_SENT));
	if (!r && !p->o->old_dialect) {
		r = gw__await_reply(p->run, p->talk.chan, GW__RP_SHUT, 0, p->talk.answer_ms, &p->run->error);
		r = r ? r : gw__primary_talk_step(&p->talk, EV(SHUT));
	}
	if (!r)
		r = gw__primary_talk_await(&p->talk);
	p->talk.answer_ms = p->o->answer_ms;
	return r;
}

static int send_guest(struct primary *p)
{
	int r = tracked(p, gw__dirty_pages_start(gw__stream_out_dirty(p->stream), &p->run->error));
	if (r)
		return r;
	gw__run_phase(p->run, GW__PHASE_RAM);
	r = gw__stream_out_begin(p->stream);
	if (!r)
		r = put_rounds(p);
	if (!r)
		r = capture(p);
	if (!r)
		r = put_last(p);
	if (!r)
		r = await_ready(p);
	if (!r)
		committed(p);
	return r;
}

/* --- checkpoints --- */

/* Nothing is due from a secondary between two checkpoints but its end. 0: `ms` have passed. */
static int wait_quietly(struct primary *p, int ms)
{
	uint8_t byte;
	size_t got;
	int r = gw__chan_wait_readable(p->talk.chan, ms, &p->run->error);
	if (r <= 0)
		return r;
	r = gw__chan_read_full(p->talk.chan, &byte, 1, &got, &p->run->error);
	if (r)
		return r;
	return got ? gw__error_set(&p->run->error, -EPROTO, "%s: the secondary spoke between two checkpoints", p->talk.chan->name)
		   : gw__error_set(&p->run->error, -ECONNRESET, "%s: the secondary closed the connection", p->talk.chan->name);
}

/* Until the next checkpoint is due; what is written meanwhile is copied now and then. */
static int wait_for_checkpoint(struct primary *p)
{
	uint64_t began_ns = now(p), fresh;
	int r = 0;
	while (!r && is_ordered(p, GW__PROTECT_ORDER_NONE) && p->copy->pages <= p->o->copy_pages) {
		uint32_t interval_ms = atomic_load_explicit(p->o->checkpoint_ms, memory_order_relaxed);
		uint64_t passed_ms = (now(p) - began_ns) / 1000000;
		uint64_t look_ms = gw__min(gw__max(interval_ms / LOOKS, (uint64_t)LOOK_MS_LEAST), (uint64_t)LOOK_MS_MOST);
		if (passed_ms >= interval_ms)
			break;
		r = wait_quietly(p, (int)gw__min(look_ms, interval_ms - passed_ms));
		if (!r)
			r = look(p, &fresh);
	}
	return r;
}

/* FULL sections and one byte 00. */
static int send_devices(struct primary *p)
{
	static const uint8_t eof[] = {GW__ITEM_EOF};
	struct iovec iov[] = {{p->devices.bytes, p->devices.n}, {(void *)(uintptr_t)eof, sizeof eof}};
	int r = gw__primary_talk_send(&p->talk, GW__COLO_VMSTATE_SIZE, p->devices.n + sizeof eof);
	if (!r)
		r = gw__chan_write_allv(p->talk.chan, iov, 2, &p->run->error);
	return r ? r : gw__primary_talk_step(&p->talk, EV(DEVICES_SENT));
}

static int send_epoch(struct primary *p)
{
	int r = gw__primary_talk_send(&p->talk, GW__COLO_VMSTATE_SEND, 0);
	if (!r)
		r = gw__primary_talk_step(&p->talk, EV(SEND_SENT));
	if (!r)
		r = gw__stream_out_put_checkpoint(p->stream, taken_pages(p->copy));
	if (!r)
		r = gw__primary_talk_step(&p->talk, EV(RAM_SENT));
	return r ? r : send_devices(p);
}

static int checkpoint(struct primary *p)
{
	int order = GW__PROTECT_ORDER_CHECKPOINT;
	int r = gw__primary_talk_send(&p->talk, GW__COLO_CHECKPOINT_REQUEST, 0);
	if (!r)
		r = gw__primary_talk_step(&p->talk, EV(REQUEST_SENT));
	if (!r)
		r = gw__primary_talk_await(&p->talk);
	atomic_compare_exchange_strong(p->o->order, &order, GW__PROTECT_ORDER_NONE);
	if (!r)
		r = capture(p);
	if (!r)
		r = send_epoch(p);
	if (!r)
		r = gw__primary_talk_await(&p->talk); /* VMSTATE_RECEIVED */
	if (!r)
		r = gw__primary_talk_await(&p->talk); /* VMSTATE_LOADED */
	if (!r)
		committed(p);
	return r;
}

static int protect(struct primary *p)
{
	int r = send_guest(p);
	while (!r && !is_ordered(p, GW__PROTECT_ORDER_FINISH)) {
		r = wait_for_checkpoint(p);
		if (!r && !is_ordered(p, GW__PROTECT_ORDER_FINISH))
			r = checkpoint(p);
	}
	return gw__primary_talk_lost(&p->talk, r);
}

static int open_stream(struct primary *p, struct gw__outgoing *out)
{
	struct gw__stream_out_opts so = {.method = p->o->method, .level = p->o->level, .copies = p->o->tls, .old_colo = p->o->old_dialect};
	if (p->o->old_dialect && out->multifd_n)
		return gw__error_set(&p->run->error, -EOPNOTSUPP, "the old dialect of COLO (QEMU 10.0) goes over one channel");
	int r = gw__stream_out_new(p->run, p->guest, out, &so, &p->stream);
	return r ? r : new_copy(p->guest, gw__stream_out_blocks(p->stream), gw__stream_out_dirty(p->stream), &p->copy, &p->run->error);
}

int gw__primary_guest_run(struct gw__run *run, struct gw__guest *guest, struct gw__outgoing *out, const struct gw__primary_guest_opts *o,
	struct gw__primary_guest_result *result)
{
	int ready_ms = o->answer_ms < 0 || o->answer_ms > READY_MS ? o->answer_ms : READY_MS;
	struct primary p = {.run = run,
		.guest = guest,
		.o = o,
		.result = result,
		.talk = {.run = run, .chan = out->main, .answer_ms = ready_ms}};
	*result = (struct gw__primary_guest_result){0};
	int r = open_stream(&p, out);
	if (!r)
		r = protect(&p);
	free_copy(p.copy);
	gw__stream_out_free(p.stream);
	free(p.devices.bytes);
	return r;
}
