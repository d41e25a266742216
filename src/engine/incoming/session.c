/* SPDX-License-Identifier: MIT */
/*
 * A guest that comes, from the first byte to the last word: what its source receives on the return path, in the states of plan/postcopy_dst, the recovery after
 * a break, commit and SHUT, and where the guest is then (docs/spec/postcopy.md 1.4, 3, 4, 6).
 *
 * Not the bytes of the stream, nor what they mean for the sink (stream.c), nor a guest that runs before its pages are here (late_guest.c). See stream.h; the
 * main thread's.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "engine/incoming/stream_private.h"
#include "io/wait.h"
#include "wire/postcopy.h"

typedef unsigned long long ull;

enum {
	LINGER_MS = 5000,    /* after SHUT, for the source to close first */
	RESET_MS = 1000,     /* for a distant kernel to say that nobody listens */
	QUESTION_MS = 10000, /* a source that comes back asks for one block after the other; who stops asking keeps the true one waiting */
	ANSWER_BYTES_PER_MS = 64, /* and takes the answers at least so fast */
	NS_PER_MS = 1000000,
	DESC_USUAL_BYTES = 1 << 20, /* 100 kB and 8 per processor */
	DESC_MOST_BYTES = 16 << 20,
	FEED_SLACK = 64 << 10, /* so that the decoder, which knows what it reads, meets the limit first */
};

/* Where a guest is that is run here, its caller knows. */
static void note(struct gw__incoming_stream *p, enum gw__location_event event)
{
	if (p->role != GW__POSTCOPY_DST_RUN)
		gw__location_note(&p->result->location, event);
}

static int rp_send(struct gw__incoming_stream *p, uint16_t type, uint32_t value, struct gw__error *error)
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
	int r = rp_send(p, GW__RP_PONG, token, error);
	if (r != -EPIPE && r != -ECONNRESET)
		return r;
	gw__error_clear(error);
	return 0;
}

/* What a change of state of who keeps a guest says of where that is. */
static void note_location(struct gw__incoming_stream *p, enum gw__postcopy_dst_event event)
{
	if (p->role != GW__POSTCOPY_DST_KEEP)
		return;
	if (event == GW__POSTCOPY_DST_EV_HELD)
		note(p, GW__LOCATION_EV_PERSISTED);
	if (event == GW__POSTCOPY_DST_EV_RESUME)
		note(p, GW__LOCATION_EV_SOURCE_WAITS);
}

int gw__incoming_set_state(struct gw__incoming_stream *p, enum gw__postcopy_dst_event event)
{
	enum gw__postcopy_dst_state before = p->state;
	int r = gw__postcopy_dst_step(p->role, before, event, &p->state, &p->run->error);
	if (r)
		return r;
	note_location(p, event);
	GW__TRACE(&p->run->trace, sink_state, "%s -> %s", gw__postcopy_dst_state_name(before), gw__postcopy_dst_state_name(p->state));
	return 0;
}

/* --- a source that comes back after a break asks what came of each block, and goes on with the rest --- */

/* The answer is long, and the source takes it piece by piece. */
static int say_bitmap(struct gw__incoming_stream *p, uint32_t block)
{
	const struct gw__bitmap *b = gw__sink_received(p->sink, block);
	struct gw__rp_msg m = {.type = GW__RP_RECV_BITMAP};
	uint8_t piece[64 << 10];
	struct gw__error *error = &p->run->error;
	struct gw__wr c = gw__wr_over(piece, sizeof piece);
	uint64_t bytes = gw__bitmap_wire_bytes(b->bits);
	memcpy(m.block, p->stream.blocks.v[block].name, sizeof m.block);
	gw__rp_encode(&c, &m);
	gw__wr_be64(&c, bytes);
	int r = gw__chan_write_all(p->buf.chan, piece, gw__wr_used(&c), error);
	for (uint64_t at = 0, n; !r && at < bytes; at += n) {
		n = gw__min(sizeof piece, bytes - at);
		gw__bitmap_wire_put(b, at, piece, n);
		r = gw__chan_write_all(p->buf.chan, piece, n, error);
	}
	gw__be_put(piece, GW__RECV_BITMAP_END, 8);
	GW__TRACE(&p->run->trace, return_path_send, "%s %s", gw__rp_name(m.type), m.block);
	return r ? r : gw__chan_write_all(p->buf.chan, piece, 8, error);
}

/* Only a RECV_BITMAP for another block extends the limit, and each block is requested once. A PING, or a byte now and then, does not extend it. */
static void extend_questions(struct gw__incoming_stream *p, uint64_t answer_bytes)
{
	uint64_t until_ns = gw__io_deadline(QUESTION_MS) + answer_bytes / ANSWER_BYTES_PER_MS * NS_PER_MS;
	p->buf.chan->until_ns = gw__max(p->buf.chan->until_ns, until_ns);
}

static int send_recv_bitmap(struct gw__incoming_stream *p, const struct gw__command *cmd)
{
	char name[GW__NAME_MAX + 1];
	int r = gw__ask_bitmap_decode(cmd->payload, cmd->length, name, &p->run->error);
	if (r)
		return r;
	int64_t block = gw__blocks_find(&p->stream.blocks, name);
	if (block < 0 || p->stream.blocks.v[block].ignored)
		return gw__error_set(&p->run->error, -EPROTO, "the source asks what came of block \"%s\", which this guest does not have",
			name);
	if (p->bitmap_requested[block]) /* the answer is as long as the guest is large */
		return gw__error_set(&p->run->error, -EPROTO, "the source asks a second time on this connection what came of block \"%s\"",
			name);
	p->bitmap_requested[block] = true;
	extend_questions(p, gw__bitmap_wire_bytes(gw__sink_received(p->sink, (uint32_t)block)->bits));
	r = say_bitmap(p, (uint32_t)block);
	extend_questions(p, 0);
	return r;
}

/*
 * Draining, the source also hears that its guest is not its own any more. In one write: killed between the two, we would leave a source that
 * runs its guest when few pages are left, beside the destination.
 */
static int say_resumed(struct gw__incoming_stream *p)
{
	uint8_t words[32];
	struct gw__wr c = gw__wr_over(words, sizeof words);
	gw__rp_encode(&c, &(struct gw__rp_msg){.type = GW__RP_RESUME_ACK, .value = 1});
	if (p->early_shut)
		gw__rp_encode(&c, &(struct gw__rp_msg){.type = GW__RP_SHUT});
	GW__TRACE(&p->run->trace, return_path_send, "%s 1%s", gw__rp_name(GW__RP_RESUME_ACK), p->early_shut ? ", SHUT 0" : "");
	return gw__chan_write_all(p->buf.chan, words, gw__wr_used(&c), &p->run->error);
}

/*
 * A block the source does not ask for is one it will not send. And who does not ask for each of them by its name is not the source, also
 * where nothing is missing: whatever follows then is said by somebody who does not know the guest.
 */
static int resume(struct gw__incoming_stream *p)
{
	for (uint32_t i = 0; i < p->stream.blocks.n; i++) {
		const struct gw__bitmap *b = gw__sink_received(p->sink, i);
		if (p->bitmap_requested[i] || p->stream.blocks.v[i].ignored)
			continue;
		if (!p->may_skip_blocks || gw__bitmap_next_clear(b, 0) < b->bits)
			return gw__error_set(&p->run->error, -EPROTO, "the source goes on without asking what came of block \"%s\"",
				p->stream.blocks.v[i].name);
	}
	int r = say_resumed(p);
	if (!r)
		r = gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_RESUME);
	p->result->resumed = !r;
	if (!r && p->role == GW__POSTCOPY_DST_RUN)
		r = gw__incoming_run_ops(p)->request_again(p->sink, &p->run->error);
	p->buf.chan->idle_ms = p->idle_ms;
	p->buf.chan->until_ns = 0;
	gw__run_phase(p->run, GW__PHASE_RAM);
	return r;
}

/* Of a larger page whose pieces did not all come none counts: the source sends it as a whole. */
static int drop_pieces(struct gw__incoming_stream *p, uint32_t block)
{
	const struct gw__bitmap *b = gw__sink_received(p->sink, block);
	uint64_t n = p->stream.blocks.v[block].page_bytes / p->stream.page_bytes;
	int r = 0;
	for (uint64_t at = 0; !r && n > 1 && at < b->bits; at += n) {
		uint64_t end = gw__min(at + n, b->bits);
		if (gw__bitmap_next_set_before(b, at, end) < end && gw__bitmap_next_clear_before(b, at, end) < end)
			r = gw__sink_discard(p->sink, block, at * p->stream.page_bytes, end - at, &p->run->error);
	}
	return r;
}

static int begin_recovery(struct gw__incoming_stream *p)
{
	const struct gw__sink_recovery_info recovery_info = gw__sink_recovery_info(p->sink);
	const struct gw__stream_guest guest = {.page_bytes = recovery_info.page_bytes,
		.ram_id = recovery_info.ram_id,
		.ram_section_id_unknown = recovery_info.ram_section_id_unknown,
		.blocks = recovery_info.blocks};
	p->idle_ms = p->buf.chan->idle_ms;
	if (p->idle_ms < 0 || p->idle_ms > QUESTION_MS)
		p->buf.chan->idle_ms = QUESTION_MS;
	p->bitmap_requested = calloc(recovery_info.blocks->n, sizeof *p->bitmap_requested);
	p->stats->block = calloc(recovery_info.blocks->n, sizeof *p->stats->block);
	p->stats->blocks_n = recovery_info.blocks->n;
	gw__stream_fini(&p->stream);
	if (!p->bitmap_requested || !p->stats->block ||
		gw__stream_init_recovery(&p->stream, &(struct gw__stream_opts){.tail_max_bytes = p->run->tail_max_bytes, .postcopy = true},
			&guest))
		return gw__error_set(&p->run->error, -ENOMEM, "no memory for %u RAM blocks", recovery_info.blocks->n);
	p->has_unplugged_memory =
		recovery_info.early.n && memmem(recovery_info.early.p, recovery_info.early.n, "virtio-mem", strlen("virtio-mem"));
	atomic_store(&p->run->counters.total_bytes, recovery_info.blocks->total_bytes);
	int r = 0;
	for (uint32_t i = 0; !r && i < recovery_info.blocks->n; i++)
		r = drop_pieces(p, i);
	extend_questions(p, 0);
	return r ? r : gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_CONNECTED_AGAIN);
}

/* --- commands --- */

int gw__incoming_postcopy_command(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	uint16_t number = ev->command.number;
	if (number != GW__CMD_PING && number != GW__CMD_RECV_BITMAP && number != GW__CMD_POSTCOPY_RESUME)
		return 0; /* OPEN_RETURN_PATH again, SWITCHOVER_START: nothing follows from them any more */
	GW__TRACE(&p->run->trace, command, "%s", gw__command_name(number));
	if (number == GW__CMD_PING)
		return gw__incoming_rp_send_pong(p, ev->command.ping_token);
	return number == GW__CMD_RECV_BITMAP ? send_recv_bitmap(p, &ev->command) : resume(p);
}

/* --- the end: commit, and what the source is told --- */

static int commit(struct gw__incoming_stream *p)
{
	int r = gw__sink_commit(p->sink, &p->run->error);
	p->committed = !r;
	p->committed_unsafe = r && gw__sink_is_committed(p->sink);
	if (!r)
		note(p, GW__LOCATION_EV_COMMITTED);
	else if (p->committed_unsafe)
		note(p, GW__LOCATION_EV_COMMITTED_UNSAFE);
	return r;
}

static bool is_named_last(const struct gw__incoming_stream *p)
{
	return p->run->say.on_source_notified && p->sink->ops->sync && !p->handover_persisted;
}

/*
 * An image has its name before its source is told: then a death of ours leaves nothing to be done. Where somebody asks the source's monitor
 * the source's word comes first, so that no stranger's guest takes the place of what is there; after a switch to post-copy all has its name already.
 */
static int make_safe(struct gw__incoming_stream *p)
{
	const struct gw__say *say = &p->run->say;
	struct gw__stream *s = &p->stream;
	bool named_last = is_named_last(p);
	int r = named_last ? gw__sink_sync(p->sink, &p->run->error) : 0;
	if (!r && say->on_whole)
		r = say->on_whole(say->ctx, p->handover_persisted ? "" : s->config.machine, p->stats->run_state,
			p->handover_persisted ? NULL : &s->blocks);
	if (r < 0)
		return gw__error_set(&p->run->error, r, "the source's monitor does not confirm what it sent");
	p->say_failed = r == GW__SAY_FAILED && !p->handover_persisted;
	return named_last ? 0 : commit(p);
}

/* The second half, once it was told. */
static int give_name(struct gw__incoming_stream *p, int r)
{
	const struct gw__say *say = &p->run->say;
	if (r < 0)
		return r;
	int confirmed = say->on_source_notified ? say->on_source_notified(say->ctx) : 0;
	if (confirmed)
		return gw__error_set(&p->run->error, confirmed, "the source's monitor does not confirm that it is over");
	if (say->on_source_notified && r == GW__SOURCE_NOT_NOTIFIED) { /* it knows better than our last word's channel */
		gw__error_clear(&p->run->error);
		r = 0;
	}
	int named = is_named_last(p) ? commit(p) : 0;
	if (!named)
		gw__sink_discard_checkpoint(p->sink);
	return named ? named : r;
}

/* Of an event that every state here has a row for. */
static void step_surely(struct gw__incoming_stream *p, enum gw__postcopy_dst_event event)
{
	struct gw__error error = {0};
	int r = gw__postcopy_dst_step(p->role, p->state, event, &p->state, &error);
	assert(!r);
	(void)r;
}

/*
 * A source that hears of an error has its guest back. It hears none where that would do harm: after the package it waits instead, and a 7.2
 * that has heard of one then cannot even come back.
 */
static bool may_tell_failure(const struct gw__incoming_stream *p)
{
	if (p->role == GW__POSTCOPY_DST_DRAIN || !p->stream.return_path || !p->buf.chan->two_way)
		return false;
	if (p->role == GW__POSTCOPY_DST_RUN && p->handover_persisted) /* it may run here */
		return false;
	if (p->state == GW__POSTCOPY_DST_ENDING) /* it waits for a last word, and for nothing else */
		return true;
	return !p->package_came &&
	       (p->state == GW__POSTCOPY_DST_SETUP || p->state == GW__POSTCOPY_DST_ACTIVE || p->state == GW__POSTCOPY_DST_DISCARDING);
}

/*
 * Whatever is said, nothing that is held goes: that a word was written is not that the source heard it, and two files too many do no harm.
 */
static int tell_failure(struct gw__incoming_stream *p, int result)
{
	struct gw__error ignored = {0}; /* the first failure is what matters; the source notices a closed link as well */
	bool ended = p->state == GW__POSTCOPY_DST_ENDING;
	bool told = may_tell_failure(p) && rp_send(p, GW__RP_SHUT, 1, &ignored) == 0;
	p->told_failed = told;
	step_surely(p, GW__POSTCOPY_DST_EV_BROKEN);
	if (!ended)
		return result;
	p->result->given_back = told;
	if (!p->handover_persisted)
		step_surely(p, GW__POSTCOPY_DST_EV_GIVE_BACK);
	if (p->buf.chan->two_way) /* a word that waits unread would be lost with a reset */
		gw__chan_wait_readable(p->buf.chan, LINGER_MS, &ignored);
	return result;
}

/* Nothing more can come. Whoever waits for our word does not end his side before; it may have been the link that ended it. */
static bool peer_closed(struct gw__incoming_stream *p)
{
	struct gw__error ignored = {0};
	uint8_t byte;
	return p->buf.ended ||
	       (gw__chan_wait_readable(p->buf.chan, 0, &ignored) == 1 && gw__chan_peek(p->buf.chan, &byte, sizeof byte, &ignored) <= 0);
}

/* Until the source closes. Not 0: our last word was not taken, which the kernel may say only after it was written. */
static int linger(struct gw__incoming_stream *p, bool gone)
{
	struct gw__chan *chan = p->buf.chan;
	struct gw__error ignored = {0};
	uint8_t byte;
	int r = gw__chan_wait_readable(chan, LINGER_MS, &ignored);
	if (r == 1)
		r = (int)gw__chan_read(chan, &byte, sizeof byte, &ignored);
	if (p->early_shut || (r != -ECONNRESET && !(gone && gw__chan_is_reset(chan, RESET_MS))))
		return 0;
	return gw__error_set(&p->run->error, -ECONNRESET, "%s: the connection was closed without our last word being taken", chan->name);
}

static int finish_with_source(struct gw__incoming_stream *p, int result)
{
	if (result)
		return tell_failure(p, result);
	step_surely(p, GW__POSTCOPY_DST_EV_SAFE);
	if (!p->stream.return_path || !p->buf.chan->two_way)
		return 0;
	bool gone = !p->early_shut && peer_closed(p);
	int r = p->early_shut ? 0 : rp_send(p, GW__RP_SHUT, p->say_failed, &p->run->error);
	if (!r)
		r = linger(p, gone);
	if (!r)
		return 0;
	gw__error_where(&p->run->error, "the source could not be told that its guest is kept");
	return GW__SOURCE_NOT_NOTIFIED;
}

/* Nothing of the guest had to be kept: its source has it. */
static void note_source_has_it(struct gw__incoming_stream *p)
{
	bool running = atomic_load(&p->run->counters.phase) < GW__PHASE_DEVICES;
	if (!running && !p->told_failed)
		note(p, GW__LOCATION_EV_BROKEN_AT_END);
	else if (running && p->stream.advised && p->result->location.place == GW__PLACE_SOURCE_RUNS)
		note(p, GW__LOCATION_EV_BROKEN_UNSURE);
	else
		note(p, GW__LOCATION_EV_BROKEN);
}

static void note_failure(struct gw__incoming_stream *p)
{
	enum gw__place place = p->result->location.place;
	bool in_doubt = p->state == GW__POSTCOPY_DST_IN_DOUBT;
	if (p->role == GW__POSTCOPY_DST_DRAIN)
		note(p, in_doubt ? GW__LOCATION_EV_DRAINED_UNSAFE : GW__LOCATION_EV_BROKEN);
	else if (place == GW__PLACE_KEPT_IN_PART)
		note(p, in_doubt || !gw__sink_count_missing(p->sink) ? GW__LOCATION_EV_NOTHING_MISSING : GW__LOCATION_EV_BROKEN);
	else if (p->result->has_switched)
		note(p, GW__LOCATION_EV_BROKEN);
	else
		note_source_has_it(p);
}

static void note_end(struct gw__incoming_stream *p, int r)
{
	if (r == GW__SOURCE_NOT_NOTIFIED && p->role == GW__POSTCOPY_DST_KEEP)
		note(p, GW__LOCATION_EV_NOT_NOTIFIED);
	else if (r < 0 && p->committed && p->role == GW__POSTCOPY_DST_KEEP)
		note(p, GW__LOCATION_EV_UNCONFIRMED);
	else if (r < 0 && !p->committed_unsafe && p->result->location.place != GW__PLACE_BOTH_POSSIBLE)
		note_failure(p);
}

/*
 * The stream was decoded to its end, or failed with `r`: commit, and tell the source how it went. `r`, or GW__SOURCE_NOT_NOTIFIED. Success is told
 * only when the data is safe; then the source closes first, because closing with its last words unread would reset the connection.
 */
static int finish(struct gw__incoming_stream *p, int r)
{
	if (!r && p->state != GW__POSTCOPY_DST_ENDING) /* which post-copy reaches with its last page */
		r = gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_END);
	if (!r) {
		gw__run_phase(p->run, GW__PHASE_SYNC);
		r = make_safe(p);
	}
	r = finish_with_source(p, r);
	r = give_name(p, r);
	if (r >= 0)
		gw__run_phase(p->run, GW__PHASE_DONE);
	note_end(p, r);
	return r;
}

/* --- from the first byte to the last word --- */

void gw__stream_stats_fini(struct gw__stream_stats *t)
{
	free(t->block);
	t->block = NULL;
	t->blocks_n = 0;
}

/* On the connection of a recovery come none: an earlier one brought them. */
static uint32_t count_devices(const struct gw__incoming_stream *p)
{
	return p->handover_persisted ? gw__sink_recovery_info(p->sink).devices_n : p->stream.devices_n;
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
	p->result->state = p->state;
	p->result->can_be_told = p->stream.return_path;
	p->result->can_switch = p->stream.advised;
	p->result->brought_pages = p->late_pages;
	p->result->missing_pages = p->state == GW__POSTCOPY_DST_PAUSED ? gw__sink_count_missing(p->sink) : 0;
}

/* A guest that runs before its pages are here goes on from its package. */
static int decode(struct gw__incoming_stream *p)
{
	int r = gw__incoming_decode(p);
	return r || !gw__incoming_is_to_run(p) ? r : gw__incoming_late_run(p);
}

/* A source before 8.1 has no mark by which multifd is known: it is silent until its channels, which came too late, are read. */
static int explain_silence(struct gw__incoming_stream *p, int r)
{
	bool no_page = p->stream.blocks.n && !p->stats->pages && !p->stats->zero_pages && !p->stats->xbzrle_pages;
	if (r != -ETIMEDOUT || p->multifd_recv || !p->expects_multifd || !no_page)
		return r;
	return gw__error_hint(&p->run->error,
		"not one page came: if multifd is on at the source, its other connections came too late to be known for what they are; say "
		"how many with --channels");
}

static int receive_all(struct gw__incoming_stream *p)
{
	int r = finish(p, explain_silence(p, decode(p)));
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
	struct gw__stream_stats *stats, struct gw__incoming_result *result)
{
	p->run = run;
	p->sink = sink;
	p->stats = stats;
	p->result = result ? result : &p->own_result;
	if (gw__incoming_run_ops(p))
		p->role = GW__POSTCOPY_DST_RUN;
	bool postcopy = chan->two_way && sink->ops->postcopy;
	uint64_t described = described_page_bytes(chan);
	gw__stream_init(&p->stream, &(struct gw__stream_opts){.tail_max_bytes = run->tail_max_bytes,
					    .postcopy = postcopy,
					    .page_bytes = run->page_bytes,
					    .usual_page_bytes = described ? described : run->usual_page_bytes});
	return gw__stream_buf_init(&p->buf, chan, run->tail_max_bytes + FEED_SLACK, &run->error);
}

static void end(struct gw__incoming_stream *p)
{
	gw__incoming_late_end(p);
	gw__multifd_recv_stop(p->multifd_recv);
	gw__stream_fini(&p->stream);
	gw__stream_buf_fini(&p->buf);
	free(p->scratch);
	free(p->package);
	free(p->bitmap_requested);
	free(p);
}

static int begin_with_channels(struct gw__incoming_stream *p, struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink,
	struct gw__stream_stats *stats, struct gw__incoming_result *result)
{
	int r = begin(p, run, in->main, sink, stats, result);
	p->expects_multifd = true;
	p->in = in;
	if (r)
		return r;
	gw__stream_buf_prime(&p->buf, in->head, in->head_n);
	return in->multifd_n ? gw__multifd_recv_start(run, in, sink, &p->multifd_recv) : 0;
}

int gw__incoming_run(struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink, struct gw__stream_stats *stats,
	struct gw__incoming_result *result)
{
	struct gw__incoming_stream *p = calloc(1, sizeof *p);
	if (!p)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a stream decoder");
	int r = begin_with_channels(p, run, in, sink, stats, result);
	if (!r)
		r = receive_all(p);
	end(p);
	return r;
}

int gw__incoming_recover(struct gw__run *run, struct gw__incoming *in, const struct gw__incoming_recover *o, struct gw__sink *sink,
	struct gw__stream_stats *stats, struct gw__incoming_result *result)
{
	struct gw__incoming_stream *p = calloc(1, sizeof *p);
	result->state = GW__POSTCOPY_DST_PAUSED;
	if (!p)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a stream decoder");
	*p = (struct gw__incoming_stream){.role = o->role,
		.early_shut = o->early_shut,
		.may_skip_blocks = o->may_skip_blocks,
		.state = GW__POSTCOPY_DST_PAUSED,
		.phase = GW__INCOMING_POSTCOPY,
		.handover_persisted = true};
	int r = begin(p, run, in->main, sink, stats, result);
	if (!r && p->role == GW__POSTCOPY_DST_RUN)
		r = gw__incoming_late_begin(p);
	if (!r)
		r = begin_recovery(p);
	if (!r) {
		gw__stream_buf_prime(&p->buf, in->head, in->head_n);
		r = receive_all(p);
	}
	if (r == -ETIMEDOUT && !result->resumed)
		gw__error_hint(&run->error, "it did not get to POSTCOPY_RESUME, so it is not known to be the source");
	end(p);
	return r;
}

int gw__incoming_run_channel(struct gw__run *run, struct gw__chan *chan, struct gw__sink *sink, struct gw__stream_stats *stats,
	struct gw__incoming_result *result)
{
	struct gw__stream_stats own = {0};
	struct gw__incoming_stream *p = calloc(1, sizeof *p);
	if (!p)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a stream decoder");
	int r = begin(p, run, chan, sink, stats ? stats : &own, result);
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

/* --- COLO: a guest whose stream goes on after it --- */

static int check_primary(struct gw__incoming_stream *p)
{
	if (!gw__stream_takes_checkpoints(&p->stream))
		return gw__error_set(&p->run->error, -EOPNOTSUPP,
			"the source made a background snapshot, which no checkpoint can follow; switch that capability off");
	if (p->stream.return_path)
		return 0;
	return gw__error_set(&p->run->error, -EOPNOTSUPP,
		"the source opened no return path, which a COLO primary does; set its capabilities x-colo and return-path (QEMU 11.1)");
}

int gw__incoming_receive_guest(struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink, struct gw__stream_stats *stats,
	struct gw__incoming_stream **stream, const struct gw__vmdesc **description)
{
	struct gw__incoming_stream *p = calloc(1, sizeof *p);
	if (!p)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a stream decoder");
	*stream = p;
	int r = begin_with_channels(p, run, in, sink, stats, NULL);
	if (r)
		return r;
	if (p->multifd_recv)
		gw__multifd_recv_set_pauses(p->multifd_recv);
	r = decode(p);
	sum_up(p);
	*description = p->stream.desc;
	return r ? r : check_primary(p);
}

void gw__incoming_stop_channels(struct gw__incoming_stream *p)
{
	if (!p)
		return;
	gw__multifd_recv_stop(p->multifd_recv);
	p->multifd_recv = NULL;
}

void gw__incoming_close_stream(struct gw__incoming_stream **p)
{
	if (*p)
		end(*p);
	*p = NULL;
}

/* --- a guest of which nothing is missing, and that only has to be ended: killed while it was made safe --- */

int gw__incoming_finish_offline(struct gw__run *run, struct gw__sink *sink, struct gw__stream_stats *stats,
	struct gw__incoming_result *result)
{
	struct gw__sink_recovery_info recovery_info = gw__sink_recovery_info(sink);
	struct gw__error *error = &run->error;
	result->missing_pages = gw__sink_count_missing(sink);
	if (result->missing_pages)
		return GW__MISSING;
	atomic_store(&run->counters.total_bytes, recovery_info.blocks->total_bytes);
	gw__run_phase(run, GW__PHASE_DEVICES);
	int r = recovery_info.ram_section_id_unknown ? gw__sink_learn_ram_id(sink, recovery_info.ram_id, error)
						     : 0; /* an earlier attempt may have put another */
	if (!r)
		r = gw__sink_ram_end(sink, error);
	if (!r)
		r = gw__incoming_put_devices(sink, recovery_info.package, error);
	if (!r)
		r = gw__sink_end(sink, (struct gw__view){0}, error);
	gw__run_phase(run, GW__PHASE_SYNC);
	if (!r)
		r = gw__sink_commit(sink, error);
	if (r)
		return r;
	stats->devices = gw__sink_recovery_info(sink).devices_n;
	gw__sink_discard_checkpoint(sink);
	result->state = GW__POSTCOPY_DST_COMPLETED;
	gw__run_phase(run, GW__PHASE_DONE);
	return 0;
}
