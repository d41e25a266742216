/* SPDX-License-Identifier: MIT */
/*
 * Pages onto the page server's connections, and when; see page_out.h.
 *
 * A request waits from the moment its bytes can be read. That moment is not known, so what is counted is the longest it can be:
 * since the last poll that found nothing; a sleeper is woken by it.
 */
#include "engine/pageserver/page_out.h"

#include <errno.h>
#include <stdlib.h>

#include "base/math.h"

enum {
	NS_PER_MS = 1000000,
	NS_PER_S = 1000000000,
	SAVED_UP_NS = NS_PER_S / 20,
	RECORD_NS = NS_PER_S / 10,
	QUIET_NS = NS_PER_S / 20,
	QUEUE_BYTES = 256 << 10, /* what the kernel may hold in front of a request's page */
	HEAD_BYTES = 8 + 1,      /* of a record that goes on in its block, with the fill byte of a zero page */
	/* One piece. Pages of zeros are nothing but a head. */
	PIECE_PAGES = 8,
	FAR_PIECE_PAGES = 32,
	PIECE_IOV = 2 * FAR_PIECE_PAGES + 1,
	HEADS_BYTES = GW__RECORD_HEAD_MAX_BYTES + GW__PIECE_MAX_PAGES * HEAD_BYTES,
};

struct gw__page_out {
	struct gw__run *run;
	const struct gw__page_source *source;
	uint64_t page_bytes;
	struct gw__stream_writer *main;   /* borrowed */
	struct gw__stream_writer preempt; /* without a channel: there is only one */
	struct gw__pageserver_stats *stats;

	uint64_t max_bandwidth;
	struct gw__working_set *ws;
	uint64_t last_poll_ns;                /* before this moment nothing had come that is not taken */
	uint64_t oldest_unread_ns;            /* since then what is being taken may have been there */
	uint64_t rate_free_at_ns, paid_bytes; /* what was sent is paid for then, at the given rate */
	uint64_t stuck_since_ns;              /* the peer takes nothing; 0: it does */
	uint64_t unwritten_since_ns;          /* of the working set; 0: all is written */
	uint64_t asked_ns;                    /* the last request; 0: there was none */
	bool bulk_mode;                       /* nobody has asked for a while: more may be on its way */

	/* The piece that is being put together. */
	uint8_t *heads, *pages;
	struct iovec *iov;
	int iov_n;
};

int gw__page_out_new(struct gw__run *run, const struct gw__page_source *source, struct gw__stream_writer *main,
	const struct gw__pageserver_opts *o, struct gw__pageserver_stats *stats, struct gw__page_out **to)
{
	struct gw__page_out *out = calloc(1, sizeof *out);
	*to = out;
	if (!out)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a page server");
	out->run = run;
	out->source = source;
	out->page_bytes = gw__config_page_bytes(source->config);
	out->stats = stats;
	out->max_bandwidth = o->max_bandwidth;
	out->ws = o->working_set;
	out->last_poll_ns = out->oldest_unread_ns = gw__clock_now_ns(&run->clock);
	gw__chan_set_unsent_low_watermark(main->chan, QUEUE_BYTES);
	out->main = main;
	gw__stream_writer_init(&out->preempt, NULL, source->blocks, source->ram_id, 0);
	out->heads = malloc(HEADS_BYTES);
	out->pages = malloc(FAR_PIECE_PAGES * out->page_bytes);
	out->iov = calloc(PIECE_IOV, sizeof *out->iov);
	if (out->heads && out->pages && out->iov)
		return 0;
	return gw__error_set(&run->error, -ENOMEM, "no memory for %d pages", FAR_PIECE_PAGES);
}

void gw__page_out_free(struct gw__page_out *out)
{
	if (!out)
		return;
	gw__chan_close(&out->preempt.chan, NULL);
	free(out->heads);
	free(out->pages);
	free(out->iov);
	free(out);
}

struct gw__chan *gw__page_out_main(const struct gw__page_out *out) { return out->main->chan; }
struct gw__chan *gw__page_out_preempt(const struct gw__page_out *out) { return out->preempt.chan; }

void gw__page_out_set_preempt(struct gw__page_out *out, struct gw__chan *chan)
{
	gw__chan_close(&out->preempt.chan, NULL);
	out->preempt.chan = chan;
}

static uint64_t bytes_written(const struct gw__page_out *out)
{
	return out->main->chan->out_bytes + (out->preempt.chan ? out->preempt.chan->out_bytes : 0);
}

/* Neighbours in memory are one entry. */
static void add_bytes(struct gw__page_out *out, const uint8_t *bytes, size_t n)
{
	struct iovec *last = out->iov_n ? &out->iov[out->iov_n - 1] : NULL;
	if (last && (const uint8_t *)last->iov_base + last->iov_len == bytes)
		last->iov_len += n;
	else
		out->iov[out->iov_n++] = (struct iovec){(void *)(uintptr_t)bytes, n};
}

static void add_records(struct gw__page_out *out, struct gw__stream_writer *w, struct gw__wr *heads, uint32_t block, uint64_t first,
	uint64_t n, const uint8_t *pages)
{
	for (uint64_t i = 0; i < n; i++) {
		uint8_t *head = heads->p;
		gw__stream_writer_encode_record(w, heads, pages ? GW__RAM_PAGE : GW__RAM_ZERO, block, (first + i) * out->page_bytes);
		add_bytes(out, head, (size_t)(heads->p - head));
		if (pages)
			add_bytes(out, pages + i * out->page_bytes, out->page_bytes);
	}
}

/* Fills the piece with runs of pages that have content and runs of those that do not; up to which page in *end. */
static int fill_piece(struct gw__page_out *out, struct gw__stream_writer *w, const struct gw__page_run *run, uint64_t pages_max,
	bool may_wait, uint64_t *end)
{
	const struct gw__page_source *source = out->source;
	struct gw__wr heads = gw__wr_over(out->heads, HEADS_BYTES);
	uint64_t at = run->first, next, pages = 0, limit = gw__min(run->end, run->first + GW__PIECE_MAX_PAGES);
	int r = 0;
	out->iov_n = 0;
	for (; at < limit && pages < pages_max; at = next) {
		const uint8_t *content;
		next = source->ops->next_content(source, run->block, at, limit);
		if (next > at) {
			out->stats->zero_pages += next - at;
			add_records(out, w, &heads, run->block, at, next - at, NULL);
			continue;
		}
		next = source->ops->next_zero(source, run->block, at, gw__min(limit, at + pages_max - pages));
		r = source->ops->read(source, run->block, at, next - at, may_wait, out->pages + pages * out->page_bytes, &content,
			&out->run->error);
		if (r)
			break;
		add_records(out, w, &heads, run->block, at, next - at, content);
		pages += next - at;
	}
	*end = at;
	return r < 0 || at == run->first ? r : 0;
}

int gw__page_out_send(struct gw__page_out *out, const struct gw__page_run *run, enum gw__page_urgency urgency, bool may_wait, uint64_t *n)
{
	struct gw__stream_writer *w = urgency == GW__PAGES_REQUESTED && out->preempt.chan ? &out->preempt : out->main;
	uint64_t end, pages_max = urgency == GW__PAGES_PUSHED && out->bulk_mode && !out->preempt.chan ? FAR_PIECE_PAGES : PIECE_PAGES;
	/* The preempt channel carries records and nothing else. */
	int r = w == out->main ? gw__stream_writer_begin_part(w, pages_max * out->page_bytes, &out->run->error) : 0;
	if (!r)
		r = fill_piece(out, w, run, pages_max, may_wait, &end);
	if (!r)
		r = gw__chan_write_allv(w->chan, out->iov, out->iov_n, &out->run->error);
	if (r)
		return r;
	*n = end - run->first;
	atomic_fetch_add_explicit(&out->run->counters.pages, *n, memory_order_relaxed);
	atomic_store_explicit(&out->run->counters.moved_bytes, bytes_written(out), memory_order_relaxed);
	return 0;
}

/* --- when it writes, and when it listens --- */

void gw__page_out_begin_push(struct gw__page_out *out) { out->paid_bytes = bytes_written(out); }

/* What was sent takes its time, whoever asked for it; only the push waits for that. A pause is not followed by a burst. */
static bool is_paid_for(struct gw__page_out *out, uint64_t now)
{
	uint64_t bytes = bytes_written(out) - out->paid_bytes;
	if (!out->max_bandwidth)
		return true;
	if (out->rate_free_at_ns + SAVED_UP_NS < now)
		out->rate_free_at_ns = now - SAVED_UP_NS;
	out->paid_bytes += bytes;
	out->rate_free_at_ns += (uint64_t)((double)bytes * NS_PER_S / (double)out->max_bandwidth);
	return out->rate_free_at_ns <= now;
}

/* A peer that lets us wait for ever is given up, as it would be in the middle of a write. */
static int check_stuck(struct gw__page_out *out, bool is_stuck, uint64_t now)
{
	const struct gw__chan *c = out->main->chan;
	if (!is_stuck)
		out->stuck_since_ns = 0;
	else if (!out->stuck_since_ns)
		out->stuck_since_ns = now;
	else if (c->idle_ms >= 0 && now - out->stuck_since_ns > (uint64_t)c->idle_ms * NS_PER_MS)
		return gw__chan_say_stuck(c, &out->run->error);
	return 0;
}

/* What was asked for is written down soon, for we may be killed; returns how long it may wait. */
static uint64_t keep_record(struct gw__page_out *out, uint64_t now)
{
	if (!out->unwritten_since_ns)
		return UINT64_MAX;
	uint64_t waited = now - out->unwritten_since_ns;
	if (waited < RECORD_NS)
		return RECORD_NS - waited;
	gw__working_set_flush(out->ws);
	out->unwritten_since_ns = 0;
	return UINT64_MAX;
}

/*
 * With little on its way, which a requested page has to wait for, both ends wake each other up all the time, and a QEMU takes
 * half as long again to get all of its pages. Where a rate is kept it does not matter, nor where requests have their own connection.
 */
static void choose_depth(struct gw__page_out *out, uint64_t now)
{
	bool quiet = !out->asked_ns || out->preempt.chan || now - out->asked_ns > QUIET_NS;
	if (quiet == out->bulk_mode || out->max_bandwidth)
		return;
	out->bulk_mode = quiet;
	gw__chan_set_deep_buffer(out->main->chan, quiet);
}

void gw__page_out_note_request(struct gw__page_out *out)
{
	out->asked_ns = gw__clock_now_ns(&out->run->clock);
	choose_depth(out, out->asked_ns);
}

int gw__page_out_wait(struct gw__page_out *out, uint64_t ns, bool *may_push)
{
	struct gw__chan *chan = out->main->chan;
	uint64_t now = gw__clock_now_ns(&out->run->clock);
	ns = gw__min(ns, keep_record(out, now));
	bool paid = may_push && is_paid_for(out, now);
	choose_depth(out, now);
	if (may_push && !paid)
		ns = gw__min(ns, out->rate_free_at_ns - now);
	int r = gw__chan_wait_either(chan, paid, 0, &out->run->error);
	out->oldest_unread_ns = out->last_poll_ns;
	out->last_poll_ns = now;
	if (!r && ns) {
		r = gw__chan_wait_either(chan, paid, ns, &out->run->error);
		out->oldest_unread_ns = out->last_poll_ns = gw__clock_now_ns(&out->run->clock);
	}
	if (may_push)
		*may_push = r == GW__CHAN_ROOM;
	if (r < 0 || r == GW__CHAN_INPUT)
		return r < 0 ? r : 1;
	return check_stuck(out, paid && !r, out->last_poll_ns);
}

void gw__page_out_note_answered(struct gw__page_out *out, uint32_t block, uint64_t first, uint64_t n)
{
	uint64_t now = gw__clock_now_ns(&out->run->clock);
	gw__histogram_add(&out->stats->latency, now - out->oldest_unread_ns);
	if (!out->ws)
		return;
	gw__working_set_add(out->ws, block, first, n);
	if (!out->unwritten_since_ns)
		out->unwritten_since_ns = now;
}
