/* SPDX-License-Identifier: MIT */
/*
 * The hand-over of a guest by its source, in the states of plan/postcopy_dst: what the source is told on the return path, a switch to post-copy up
 * to its last page, the recovery after a break, commit and SHUT, and where the guest is then (docs/spec/postcopy.md 1.4, 3, 4, 6).
 *
 * Not the bytes of the stream, nor its pages (stream.c), nor a guest that runs before they are here (late_guest.c). See stream.h; the main
 * thread's.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/incoming/stream_private.h"
#include "io/wait.h"
#include "wire/package.h"
#include "wire/postcopy.h"

typedef unsigned long long ull;

enum {
	LINGER_MS = 5000,    /* after SHUT, for the source to close first */
	RESET_MS = 1000,     /* for a distant kernel to say that nobody listens */
	QUESTION_MS = 10000, /* a source that comes back asks for one block after the other; who stops asking keeps the true one waiting */
	ANSWER_BYTES_PER_MS = 64, /* and takes the answers at least so fast */
	NS_PER_MS = 1000000,
};

#define CHECKPOINT_NS UINT64_C(5000000000)

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

/* The source has stopped its guest, whatever becomes of that here. */
static void note_switch(struct gw__incoming_stream *p)
{
	if (p->result->has_switched)
		return;
	p->result->has_switched = true;
	note(p, GW__LOCATION_EV_SWITCH_BEGUN);
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

/* --- the switch to post-copy --- */

/* The first word of a switch. What can be foreseen was refused before (prepare). */
static int begin_switch(struct gw__incoming_stream *p)
{
	if (p->multifd_recv)
		return gw__error_set(&p->run->error, -EOPNOTSUPP,
			"the source switches to post-copy next to multifd channels, which is not taken; leave one of them out");
	if (!p->stream.return_path || !p->buf.chan->two_way)
		return gw__error_set(&p->run->error, -EOPNOTSUPP,
			"the source switches to post-copy, for which it has to be answered; let it connect to a socket");
	int r = gw__incoming_postcopy_ops(p)->begin(p->sink, &p->run->error);
	return r ? r : gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_DISCARD);
}

static int on_discard(struct gw__incoming_stream *p, const struct gw__command *cmd)
{
	char name[GW__NAME_MAX + 1];
	const uint8_t *ranges;
	unsigned n;
	int r = gw__incoming_flush_batch(p);
	if (!r)
		r = p->state == GW__POSTCOPY_DST_ACTIVE ? begin_switch(p) : gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_DISCARD);
	if (!r)
		r = gw__discard_split(cmd->payload, cmd->length, name, &ranges, &n, &p->run->error);
	if (r)
		return r;
	int64_t block = gw__blocks_find(&p->stream.blocks, name); /* the decoder has judged it, and the ranges */
	for (unsigned i = 0; !r && i < n; i++) {
		struct gw__range range = gw__range_at(ranges, i);
		r = gw__incoming_postcopy_ops(p)->discard(p->sink, (uint32_t)block, range.start_off, range.bytes / p->stream.page_bytes,
			&p->run->error);
	}
	return r;
}

static int begin_package(struct gw__incoming_stream *p)
{
	int r = gw__incoming_flush_batch(p);
	p->package_came = true;
	if (!r && p->state == GW__POSTCOPY_DST_ACTIVE)
		r = begin_switch(p);
	size_t most = p->run->tail_max_bytes - p->stream.early_bytes;
	if (!r && p->stream.package_left > most)
		r = gw__error_set(&p->run->error, -E2BIG,
			"a package with %zu bytes of device state, at most %zu are taken; raise the limit if this guest really has so much",
			p->stream.package_left, most);
	return r;
}

static int append(struct gw__incoming_stream *p, struct gw__view raw)
{
	if (p->package_bytes + raw.n > p->package_room) {
		size_t bytes = p->package_bytes + raw.n, room = gw__min(bytes * 2, bytes + p->stream.package_left);
		uint8_t *package = realloc(p->package, room);
		if (!package)
			return gw__error_set(&p->run->error, -ENOMEM, "no memory for %zu bytes of device state", room);
		p->package = package;
		p->package_room = room;
	}
	memcpy(p->package + p->package_bytes, raw.p, raw.n);
	p->package_bytes += raw.n;
	return 0;
}

/*
 * The source takes PONG 0x42 for the word that its guest is ours, and cannot go back in any case: so first everything is made to survive
 * us, and then its PINGs are answered.
 */
static int take_package(struct gw__incoming_stream *p)
{
	struct gw__package package;
	int r = gw__package_decode(p->package, p->package_bytes, &package, &p->run->error);
	if (!r)
		r = gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_PACKAGE);
	if (!r)
		gw__stream_buf_trim(&p->buf);
	if (!r)
		r = gw__incoming_postcopy_ops(p)->persist_handover(p->sink, &p->package, p->package_bytes, &p->run->error);
	if (!r)
		r = gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_HELD);
	p->handover_persisted = !r;
	if (gw__incoming_is_to_run(p)) /* its PINGs are answered when its devices are loaded */
		return 0;
	for (unsigned i = 0; !r && i < package.pings_n; i++)
		r = gw__incoming_rp_send_pong(p, package.ping[i]);
	return r;
}

int gw__incoming_package_item(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	bool command = ev->kind == GW__EVENT_COMMAND;
	if (ev->kind == GW__EVENT_DEVICE) {
		GW__TRACE(&p->run->trace, device, "%s/%u %zu bytes", ev->section.idstr, ev->section.instance, ev->body.n);
		p->stats->device_bytes += ev->raw.n;
	}
	int r = append(p, ev->raw);
	return r || !command || ev->command.number != GW__CMD_POSTCOPY_RUN ? r : take_package(p);
}

/* --- pages --- */

bool gw__incoming_page_is_needed(struct gw__incoming_stream *p, const struct gw__ram_where *where)
{
	if (gw__bitmap_test(gw__incoming_postcopy_ops(p)->received(p->sink, where->block), where->off / p->stream.page_bytes))
		return false;
	p->late_pages++;
	return true;
}

/* A device that says so came on this connection, or on the first one. */
static bool has_unplugged_memory(const struct gw__incoming_stream *p)
{
	bool any = p->has_unplugged_memory;
	for (uint32_t i = 0; !any && i < p->stream.early_n; i++)
		any = strstr(p->stream.early[i].idstr, "virtio-mem");
	return any;
}

static int check_whole(struct gw__incoming_stream *p)
{
	uint64_t missing = gw__sink_count_missing(p->sink);
	if (!missing || has_unplugged_memory(p))
		return 0;
	return gw__error_set(&p->run->error, -EPROTO, "the source says that it has sent everything, but %llu pages never came",
		(ull)missing);
}

int gw__incoming_put_devices(struct gw__sink *sink, struct gw__view raw, struct gw__error *error)
{
	struct gw__package package;
	struct gw__section section;
	const uint8_t *at;
	size_t bytes;
	if (!raw.n)
		return 0;
	int r = gw__package_decode(raw.p, raw.n, &package, error);
	while (!r && gw__package_next(&package, &section, &at, &bytes))
		r = sink->ops->device(sink, &section, 0, (struct gw__view){at, bytes}, error);
	return r;
}

int gw__incoming_end_postcopy(struct gw__incoming_stream *p)
{
	int r = check_whole(p); /* else it is an END like any other break: whoever said it, the source may still have the rest */
	if (!r)
		r = gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_END);
	gw__run_phase(p->run, GW__PHASE_DEVICES);
	if (!r && p->stream.learns_id)
		r = gw__incoming_postcopy_ops(p)->learn_ram_id(p->sink, p->stream.ram_id, &p->run->error);
	if (!r)
		r = p->sink->ops->ram_end(p->sink, &p->run->error);
	if (r || p->role == GW__POSTCOPY_DST_RUN) /* who has loaded its devices */
		return r;
	struct gw__sink_recovery_info recovery_info;
	gw__incoming_postcopy_ops(p)->recovery_info(p->sink, &recovery_info);
	return gw__incoming_put_devices(p->sink, recovery_info.package, &p->run->error);
}

int gw__incoming_checkpoint(struct gw__incoming_stream *p)
{
	uint64_t now = gw__clock_now_ns(&p->run->clock);
	if (p->late_pages == p->checkpoint_pages || now - p->checkpoint_ns < CHECKPOINT_NS)
		return 0;
	int r = gw__incoming_postcopy_ops(p)->checkpoint(p->sink, &p->run->error);
	p->checkpoint_pages = p->late_pages;
	p->checkpoint_ns = gw__clock_now_ns(&p->run->clock);
	return r;
}

/* --- a source that comes back after a break asks what came of each block, and goes on with the rest --- */

/* The answer is long, and the source takes it piece by piece. */
static int say_bitmap(struct gw__incoming_stream *p, uint32_t block)
{
	const struct gw__bitmap *b = gw__incoming_postcopy_ops(p)->received(p->sink, block);
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
	extend_questions(p, gw__bitmap_wire_bytes(gw__incoming_postcopy_ops(p)->received(p->sink, (uint32_t)block)->bits));
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
		const struct gw__bitmap *b = gw__incoming_postcopy_ops(p)->received(p->sink, i);
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
		gw__incoming_run_ops(p)->request_again(p->sink);
	p->buf.chan->idle_ms = p->idle_ms;
	p->buf.chan->until_ns = 0;
	gw__run_phase(p->run, GW__PHASE_RAM);
	return r;
}

/* Of a larger page whose pieces did not all come none counts: the source sends it as a whole. */
static int drop_pieces(struct gw__incoming_stream *p, uint32_t block)
{
	const struct gw__bitmap *b = gw__incoming_postcopy_ops(p)->received(p->sink, block);
	uint64_t n = p->stream.blocks.v[block].page_bytes / p->stream.page_bytes;
	int r = 0;
	for (uint64_t at = 0; !r && n > 1 && at < b->bits; at += n) {
		uint64_t end = gw__min(at + n, b->bits);
		if (gw__bitmap_next_set_before(b, at, end) < end && gw__bitmap_next_clear_before(b, at, end) < end)
			r = gw__incoming_postcopy_ops(p)->discard(p->sink, block, at * p->stream.page_bytes, end - at, &p->run->error);
	}
	return r;
}

int gw__incoming_begin_recovery(struct gw__incoming_stream *p)
{
	struct gw__sink_recovery_info recovery_info;
	gw__incoming_postcopy_ops(p)->recovery_info(p->sink, &recovery_info);
	const struct gw__stream_guest guest = {.page_bytes = recovery_info.page_bytes,
		.ram_id = recovery_info.ram_id,
		.ram_section_id_unknown = recovery_info.ram_section_id_unknown,
		.blocks = recovery_info.blocks};
	p->handover_persisted = true;
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

int gw__incoming_switch(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	note_switch(p);
	return ev->command.number == GW__CMD_PACKAGED ? begin_package(p) : on_discard(p, &ev->command);
}

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
	const struct gw__sink_ops *ops = p->sink->ops;
	int r = ops->commit(p->sink, &p->run->error);
	p->committed = !r;
	p->committed_unsafe = r && ops->postcopy && ops->postcopy->is_committed(p->sink);
	if (!r)
		note(p, GW__LOCATION_EV_COMMITTED);
	else if (p->committed_unsafe)
		note(p, GW__LOCATION_EV_COMMITTED_UNSAFE);
	return r;
}

/*
 * An image has its name before its source is told: then a death of ours leaves nothing to be done. Where somebody asks the source's monitor
 * the source's word comes first, so that no stranger's guest takes the place of what is there; after a switch to post-copy all has its name already.
 */
static int make_safe(struct gw__incoming_stream *p)
{
	const struct gw__sink_ops *ops = p->sink->ops;
	const struct gw__say *say = &p->run->say;
	struct gw__stream *s = &p->stream;
	bool named_last = say->on_source_notified && ops->sync && !p->handover_persisted;
	int r = named_last ? ops->sync(p->sink, &p->run->error) : 0;
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
	const struct gw__sink_ops *ops = p->sink->ops;
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
	int named = say->on_source_notified && ops->sync && !p->handover_persisted ? commit(p) : 0;
	if (!named && ops->postcopy)
		ops->postcopy->discard_checkpoint(p->sink);
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

int gw__incoming_finish(struct gw__incoming_stream *p, int r)
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

/* --- a guest of which nothing is missing, and that only has to be ended: killed while it was made safe --- */

int gw__incoming_finish_offline(struct gw__run *run, struct gw__sink *sink, struct gw__stream_stats *stats,
	struct gw__incoming_result *result)
{
	const struct gw__sink_postcopy_ops *ops = sink->ops->postcopy;
	struct gw__sink_recovery_info recovery_info;
	struct gw__error *error = &run->error;
	ops->recovery_info(sink, &recovery_info);
	result->missing_pages = gw__sink_count_missing(sink);
	if (result->missing_pages)
		return GW__MISSING;
	atomic_store(&run->counters.total_bytes, recovery_info.blocks->total_bytes);
	gw__run_phase(run, GW__PHASE_DEVICES);
	int r = recovery_info.ram_section_id_unknown ? ops->learn_ram_id(sink, recovery_info.ram_id, error)
						     : 0; /* an earlier attempt may have put another */
	if (!r)
		r = sink->ops->ram_end(sink, error);
	if (!r)
		r = gw__incoming_put_devices(sink, recovery_info.package, error);
	if (!r)
		r = sink->ops->end(sink, (struct gw__view){0}, error);
	gw__run_phase(run, GW__PHASE_SYNC);
	if (!r)
		r = sink->ops->commit(sink, error);
	if (r)
		return r;
	ops->recovery_info(sink, &recovery_info);
	stats->devices = recovery_info.devices_n;
	ops->discard_checkpoint(sink);
	result->state = GW__POSTCOPY_DST_COMPLETED;
	gw__run_phase(run, GW__PHASE_DONE);
	return 0;
}
