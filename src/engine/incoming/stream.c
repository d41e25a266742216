/* SPDX-License-Identifier: MIT */
/*
 * Peer to sink: runs the stream decoder over a channel and hands what comes out to a sink.
 *
 * The way of a page: socket -> stream buffer -> sink, in batches of consecutive pages (stream_pages.c). One thread, the main thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "engine/incoming/stream_private.h"

enum {
	QUIET_MS = 5000,            /* docs/spec/stream.md 9: after a possible end without a description */
	DESC_USUAL_BYTES = 1 << 20, /* 100 kB and 8 per processor */
	DESC_MOST_BYTES = 16 << 20,
	FEED_SLACK = 64 << 10, /* so that the decoder, which knows what it reads, meets the limit first */
};

void gw__stream_stats_fini(struct gw__stream_stats *t)
{
	free(t->block);
	t->block = NULL;
	t->blocks_n = 0;
}

int gw__incoming_rp_send(struct gw__incoming_stream *p, uint16_t type, uint32_t value, struct gw__error *error)
{
	uint8_t bytes[16];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__rp_encode(&c, &(struct gw__rp_msg){.type = type, .value = value});
	GW__TRACE(&p->run->trace, return_path_send, "%s %u", gw__rp_name(type), value);
	return gw__chan_write_all(p->buf.chan, bytes, gw__wr_used(&c), error);
}

int gw__incoming_rp_send_pong(struct gw__incoming_stream *p, uint32_t token)
{
	struct gw__error *error = &p->run->error;
	int r = gw__incoming_rp_send(p, GW__RP_PONG, token, error);
	if (r != -EPIPE && r != -ECONNRESET)
		return r;
	gw__error_clear(error);
	return 0;
}

int gw__incoming_fill(struct gw__incoming_stream *p)
{
	int r = gw__incoming_flush_batch(p);
	if (r)
		return r;
	uint64_t before = p->buf.chan->in_bytes;
	r = gw__stream_buf_fill(&p->buf, &p->run->error);
	atomic_fetch_add_explicit(&p->run->counters.moved_bytes, p->buf.chan->in_bytes - before, memory_order_relaxed);
	gw__run_tick(p->run);
	return r;
}

/* More bytes for the decoder. `*last`: there will be none, or the source is silent after what may be the end. */
static int more(struct gw__incoming_stream *p, bool *last)
{
	if (p->stream.state == GW__STREAM_TRAILER && gw__stream_buf_left(&p->buf)) {
		int r = gw__chan_wait_readable(p->buf.chan, QUIET_MS, &p->run->error);
		if (r < 0)
			return r;
		if (r == 0 && gw__trailer_could_end(gw__stream_buf_bytes(&p->buf), gw__stream_buf_left(&p->buf))) {
			*last = true;
			return 0;
		}
	}
	int r = gw__incoming_fill(p);
	*last = p->buf.ended;
	return r;
}

static int decode_all(struct gw__incoming_stream *p)
{
	bool last = false;
	while (!p->done) {
		struct gw__event ev;
		size_t used;
		int r = gw__stream_next(&p->stream, gw__stream_buf_bytes(&p->buf), gw__stream_buf_left(&p->buf), last, &used, &ev,
			&p->run->error);
		if (r < 0)
			return r;
		gw__stream_buf_use(&p->buf, used);
		r = r ? gw__incoming_handle_event(p, &ev) : more(p, &last);
		if (r >= 0)
			r = gw__run_check_cancel(p->run);
		if (r < 0)
			return r;
	}
	return 0;
}

/* On the connection of a recovery come none: an earlier one brought them. */
static uint32_t count_devices(const struct gw__incoming_stream *p)
{
	struct gw__sink_recovery_info recovery_info;
	if (!p->handover_persisted)
		return p->stream.devices_n;
	gw__incoming_postcopy_ops(p)->recovery_info(p->sink, &recovery_info);
	return recovery_info.devices_n;
}

static void sum_up(struct gw__incoming_stream *p)
{
	struct gw__stream_stats *t = p->stats;
	t->stream_bytes = p->stream.off;
	t->devices = count_devices(p);
	t->parts = p->stream.parts;
	t->background = p->stream.background;
	t->return_path = p->stream.return_path;
	t->advised = p->stream.advised;
	t->switchover = p->stream.switchover;
	t->state = p->state;
	t->missing_pages = p->state == GW__POSTCOPY_DST_PAUSED ? gw__sink_count_missing(p->sink) : 0;
}

/* What a worker saw first explains what the main thread saw after it. */
static int settle_gang(struct gw__incoming_stream *p, int r)
{
	if (!p->multifd_recv)
		return r;
	int failed = r ? gw__multifd_recv_failure(p->multifd_recv) : gw__multifd_recv_check_drained(p->multifd_recv, &p->stats->multifd);
	return failed ? failed : r;
}

/*
 * An image has its name before its source is told: then a death of ours leaves nothing to be done. Where somebody asks the source's monitor
 * the source's word comes first, so that no stranger's guest takes the place of what is there; behind a switch to post-copy all has its name already.
 */
static int make_safe(struct gw__incoming_stream *p)
{
	const struct gw__sink_ops *ops = p->sink->ops;
	const struct gw__say *say = &p->run->say;
	struct gw__stream *s = &p->stream;
	bool named_last = say->on_told && ops->sync && !p->handover_persisted;
	int r = named_last ? ops->sync(p->sink, &p->run->error) : 0;
	if (!r && say->on_whole)
		r = say->on_whole(say->ctx, p->handover_persisted ? "" : s->config.machine, p->stats->run_state,
			p->handover_persisted ? NULL : &s->blocks);
	if (r < 0)
		return gw__error_set(&p->run->error, r, "the source's monitor does not confirm what it sent");
	p->say_failed = r == GW__SAY_FAILED && !p->handover_persisted;
	return named_last ? 0 : ops->commit(p->sink, &p->run->error);
}

/* The second half, once it was told. */
static int give_name(struct gw__incoming_stream *p, int r)
{
	const struct gw__sink_ops *ops = p->sink->ops;
	const struct gw__say *say = &p->run->say;
	if (r < 0)
		return r;
	int confirmed = say->on_told ? say->on_told(say->ctx) : 0;
	if (confirmed)
		return gw__error_set(&p->run->error, confirmed, "the source's monitor does not confirm that it is over");
	if (say->on_told && r == GW__SOURCE_NOT_NOTIFIED) { /* it knows better than our last word's channel */
		gw__error_clear(&p->run->error);
		r = 0;
	}
	int named = say->on_told && ops->sync && !p->handover_persisted ? ops->commit(p->sink, &p->run->error) : 0;
	if (!named && ops->postcopy)
		ops->postcopy->discard_checkpoint(p->sink);
	return named ? named : r;
}

static int receive_all(struct gw__incoming_stream *p)
{
	int r = settle_gang(p, decode_all(p));
	if (!r && p->state != GW__POSTCOPY_DST_ENDING) /* which post-copy reaches with its last page */
		r = gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_END);
	if (!r) {
		gw__run_phase(p->run, GW__PHASE_SYNC);
		r = make_safe(p);
	}
	r = gw__incoming_finish_with_source(p, r);
	r = give_name(p, r);
	if (r >= 0)
		gw__run_phase(p->run, GW__PHASE_DONE);
	sum_up(p);
	return r;
}

/*
 * A file has its description at hand, which names the page size; the stream states it too late, if at all. 0: it is not told.
 */
static uint64_t described_page_bytes(const struct gw__chan *chan)
{
	struct stat st;
	if (chan->two_way || chan->fd < 0 || fstat(chan->fd, &st) || !S_ISREG(st.st_mode))
		return 0;
	for (size_t room = DESC_USUAL_BYTES;; room = DESC_MOST_BYTES) {
		size_t n = gw__min(room, (uint64_t)st.st_size), text_at, text_len;
		uint8_t *bytes = malloc(n + 1);
		struct gw__vmdesc *desc = NULL;
		uint64_t page_bytes = 0;
		bool there = bytes && pread(chan->fd, bytes, n, st.st_size - (off_t)n) == (ssize_t)n &&
			     !gw__trailer_find_description(bytes, n, &text_at, &text_len);
		if (there && !gw__vmdesc_parse(bytes + text_at, text_len, &desc, NULL))
			page_bytes = gw__vmdesc_page_bytes(desc);
		gw__vmdesc_free(desc);
		free(bytes);
		if (there || room == DESC_MOST_BYTES || n == (uint64_t)st.st_size)
			return page_bytes;
	}
}

static int begin(struct gw__incoming_stream *p, struct gw__run *run, struct gw__chan *chan, struct gw__sink *sink,
	struct gw__stream_stats *stats)
{
	p->run = run;
	p->sink = sink;
	p->stats = stats;
	bool postcopy = chan->two_way && sink->ops->postcopy;
	gw__stream_init(&p->stream, &(struct gw__stream_opts){.tail_max_bytes = run->tail_max_bytes,
					    .postcopy = postcopy,
					    .page_bytes = run->page_bytes,
					    .usual_page_bytes = described_page_bytes(chan)});
	return gw__stream_buf_init(&p->buf, chan, run->tail_max_bytes + FEED_SLACK, &run->error);
}

static void end(struct gw__incoming_stream *p)
{
	gw__multifd_recv_stop(p->multifd_recv);
	gw__stream_fini(&p->stream);
	gw__stream_buf_fini(&p->buf);
	free(p->scratch);
	free(p->package);
	free(p->bitmap_requested);
	free(p);
}

int gw__incoming_run(struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink, struct gw__stream_stats *stats)
{
	struct gw__incoming_stream *p = calloc(1, sizeof *p);
	if (!p)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a stream decoder");
	int r = begin(p, run, in->main, sink, stats);
	p->expects_multifd = true;
	p->in = in;
	if (!r) {
		gw__stream_buf_prime(&p->buf, in->head, in->head_n);
		r = in->multifd_n ? gw__multifd_recv_start(run, in, sink, &p->multifd_recv) : 0;
	}
	if (!r)
		r = receive_all(p);
	end(p);
	return r;
}

int gw__incoming_recover(struct gw__run *run, struct gw__chan *chan, const struct gw__incoming_recover *o, struct gw__sink *sink,
	struct gw__stream_stats *stats)
{
	struct gw__incoming_stream *p = calloc(1, sizeof *p);
	stats->state = GW__POSTCOPY_DST_PAUSED;
	if (!p)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a stream decoder");
	p->role = o->role;
	p->early_shut = o->early_shut;
	p->may_skip_blocks = o->may_skip_blocks;
	p->state = GW__POSTCOPY_DST_PAUSED;
	int r = begin(p, run, chan, sink, stats);
	if (!r)
		r = gw__incoming_begin_recovery(p);
	if (!r)
		r = receive_all(p);
	end(p);
	return r;
}

int gw__incoming_run_channel(struct gw__run *run, struct gw__chan *chan, struct gw__sink *sink, struct gw__stream_stats *stats)
{
	struct gw__stream_stats own = {0};
	struct gw__incoming_stream *p = calloc(1, sizeof *p);
	if (!p)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a stream decoder");
	int r = begin(p, run, chan, sink, stats ? stats : &own);
	if (!r)
		r = receive_all(p);
	if (r == GW__SOURCE_NOT_NOTIFIED) {
		gw__error_clear(&run->error);
		r = 0;
	}
	end(p);
	gw__stream_stats_fini(&own);
	return r;
}
