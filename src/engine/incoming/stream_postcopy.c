/* SPDX-License-Identifier: MIT */
/*
 * A source that switches to post-copy, up to its last page (docs/spec/postcopy.md 3, 4). Nobody runs here: no page is ever asked for, the
 * source sends them all in its own time. Coming back after a break is stream_recovery.c. See stream.h; the main thread's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/incoming/stream_private.h"
#include "wire/package.h"
#include "wire/postcopy.h"

/* It has asked enough. */
static int gw__incoming_resume(struct gw__incoming_stream *p);
/* The source asks what came of a block. */
static int gw__incoming_send_recv_bitmap(struct gw__incoming_stream *p, const struct gw__command *cmd);

typedef unsigned long long ull;

/* A source that comes back asks for one block after the other; who stops asking keeps the true one waiting behind it. */
enum { QUESTION_MS = 10000 };

#define CHECKPOINT_NS UINT64_C(5000000000)

/* What a change of state of who keeps a guest says of where that is. */
static void note_location(struct gw__incoming_stream *p, enum gw__postcopy_dst_event event)
{
	if (p->role != GW__POSTCOPY_DST_KEEP)
		return;
	if (event == GW__POSTCOPY_DST_EV_HELD)
		gw__location_note(&p->result->location, GW__LOCATION_EV_PERSISTED);
	if (event == GW__POSTCOPY_DST_EV_RESUME)
		gw__location_note(&p->result->location, GW__LOCATION_EV_SOURCE_WAITS);
}

/* The source has stopped its guest, whatever becomes of that here. */
static void note_switch(struct gw__incoming_stream *p, uint16_t command)
{
	bool begins = command == GW__CMD_POSTCOPY_RAM_DISCARD || command == GW__CMD_PACKAGED;
	if (!begins || p->handover_persisted || p->result->has_switched)
		return;
	p->result->has_switched = true;
	gw__location_note(&p->result->location, GW__LOCATION_EV_SWITCH_BEGUN);
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

/* --- the switch --- */

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
	p->in_package = !r;
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
	p->in_package = false;
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
	for (unsigned i = 0; !r && i < package.pings_n; i++)
		r = gw__incoming_rp_send_pong(p, package.ping[i]);
	return r;
}

static int on_package_item(struct gw__incoming_stream *p, const struct gw__event *ev)
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
	if (p->state != GW__POSTCOPY_DST_POSTCOPY_ACTIVE)
		return true;
	if (gw__bitmap_test(gw__incoming_postcopy_ops(p)->received(p->sink, where->block), where->off / p->stream.page_bytes))
		return false;
	p->late_pages++;
	return true;
}

static int check_whole(struct gw__incoming_stream *p)
{
	uint64_t missing = gw__sink_count_missing(p->sink);
	if (!missing || p->has_unplugged_memory)
		return 0;
	return gw__error_set(&p->run->error, -EPROTO, "the source says that it has sent everything, but %llu pages never came",
		(ull)missing);
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
	if (r)
		return r;
	struct gw__sink_recovery_info recovery_info;
	gw__incoming_postcopy_ops(p)->recovery_info(p->sink, &recovery_info);
	return gw__incoming_put_devices(p->sink, recovery_info.package, &p->run->error);
}

int gw__incoming_checkpoint(struct gw__incoming_stream *p)
{
	uint64_t now = gw__clock_now_ns(&p->run->clock);
	if (p->state != GW__POSTCOPY_DST_POSTCOPY_ACTIVE || p->late_pages == p->checkpoint_pages || now - p->checkpoint_ns < CHECKPOINT_NS)
		return 0;
	int r = gw__incoming_postcopy_ops(p)->checkpoint(p->sink, &p->run->error);
	p->checkpoint_pages = p->late_pages;
	p->checkpoint_ns = gw__clock_now_ns(&p->run->clock);
	return r;
}

/* --- all of it --- */

int gw__incoming_handle_postcopy(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	if (p->in_package)
		return on_package_item(p, ev);
	if (ev->kind != GW__EVENT_COMMAND)
		return GW__NOT_MINE;
	uint16_t number = ev->command.number;
	bool ours = number == GW__CMD_POSTCOPY_RAM_DISCARD || number == GW__CMD_PACKAGED || number == GW__CMD_RECV_BITMAP ||
		    number == GW__CMD_POSTCOPY_RESUME;
	bool void_now = p->stream.postcopy >= GW__STREAM_LISTENING && number != GW__CMD_PING;
	if (!ours)
		return void_now ? 0 : GW__NOT_MINE; /* OPEN_RETURN_PATH again, SWITCHOVER_START: nothing follows from them any more */
	GW__TRACE(&p->run->trace, command, "%s", gw__command_name(number));
	note_switch(p, number);
	if (number == GW__CMD_POSTCOPY_RAM_DISCARD)
		return on_discard(p, &ev->command);
	if (number == GW__CMD_PACKAGED)
		return begin_package(p);
	return number == GW__CMD_RECV_BITMAP ? gw__incoming_send_recv_bitmap(p, &ev->command) : gw__incoming_resume(p);
}

/*
 * A source that comes back after a break in post-copy (docs/spec/postcopy.md 6): it asks what came of each block, and goes on with the rest.
 * See stream.h; the main thread's.
 */

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

static int gw__incoming_send_recv_bitmap(struct gw__incoming_stream *p, const struct gw__command *cmd)
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
	return say_bitmap(p, (uint32_t)block);
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
static int gw__incoming_resume(struct gw__incoming_stream *p)
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
	p->buf.chan->idle_ms = p->idle_ms;
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
	return r ? r : gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_CONNECTED_AGAIN);
}
