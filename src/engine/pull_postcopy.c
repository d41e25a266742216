/* SPDX-License-Identifier: MIT */
/*
 * A source that switches to post-copy, and that comes back after a break (docs/spec/postcopy.md 3, 4, 6). Nobody runs here: no page is
 * ever asked for, the source sends them all in its own time. See source.h; the conductor's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/pull_internal.h"
#include "wire/package.h"
#include "wire/postcopy.h"

typedef unsigned long long ull;

#define CHECKPOINT_NS UINT64_C(5000000000)

int gw__pull_step(struct gw__pull *p, enum gw__ps_event event)
{
	enum gw__ps_state before = p->state;
	int r = gw__ps_step(p->role, before, event, &p->state, &p->run->why);
	if (!r)
		GW__TRACE(&p->run->trace, sink_state, "%s -> %s", gw__ps_state_name(before), gw__ps_state_name(p->state));
	return r;
}

static const struct gw__sink_postcopy_ops *ops_of(const struct gw__pull *p) { return p->sink->ops->postcopy; }

/* --- the switch --- */

/* The first word of a switch. What can be foreseen was refused before (prepare). */
static int begin_switch(struct gw__pull *p)
{
	if (p->gang)
		return gw__why_set(&p->run->why, -EOPNOTSUPP, "the source switches to post-copy next to multifd channels, which is not taken; leave one of them out");
	if (!p->stream.return_path || !p->feed.chan->two_way)
		return gw__why_set(&p->run->why, -EOPNOTSUPP, "the source switches to post-copy, for which it has to be answered; let it connect to a socket");
	int r = ops_of(p)->begin(p->sink, &p->run->why);
	return r ? r : gw__pull_step(p, GW__PS_EV_DISCARD);
}

static int on_discard(struct gw__pull *p, const struct gw__command *cmd)
{
	char name[GW__NAME_MAX + 1];
	const uint8_t *ranges;
	unsigned n;
	int r = gw__pull_flush_batch(p);
	if (!r)
		r = p->state == GW__PS_ACTIVE ? begin_switch(p) : gw__pull_step(p, GW__PS_EV_DISCARD);
	if (!r)
		r = gw__discard_split(cmd->payload, cmd->length, name, &ranges, &n, &p->run->why);
	if (r)
		return r;
	int64_t block = gw__blocks_find(&p->stream.blocks, name); /* the decoder has judged it, and the ranges */
	for (unsigned i = 0; !r && i < n; i++) {
		struct gw__range range = gw__range_at(ranges, i);
		r = ops_of(p)->discard(p->sink, (uint32_t)block, range.start_off, range.bytes / p->stream.page_bytes, &p->run->why);
	}
	return r;
}

static int begin_package(struct gw__pull *p)
{
	int r = gw__pull_flush_batch(p);
	p->package_came = true;
	if (!r && p->state == GW__PS_ACTIVE)
		r = begin_switch(p);
	if (!r && p->stream.package_left > p->run->tail_max_bytes)
		r = gw__why_set(&p->run->why, -E2BIG, "a package with %zu bytes of device state, at most %zu are taken; raise the limit if this guest really has so much",
			p->stream.package_left, p->run->tail_max_bytes);
	p->in_package = !r;
	return r;
}

static int append(struct gw__pull *p, struct gw__view raw)
{
	if (p->package_bytes + raw.n > p->package_room) {
		size_t room = (p->package_bytes + raw.n) * 2;
		uint8_t *package = realloc(p->package, room);
		if (!package)
			return gw__why_set(&p->run->why, -ENOMEM, "no memory for %zu bytes of device state", room);
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
static int take_package(struct gw__pull *p)
{
	struct gw__package package;
	p->in_package = false;
	int r = gw__package_decode(p->package, p->package_bytes, &package, &p->run->why);
	if (!r)
		r = gw__pull_step(p, GW__PS_EV_PACKAGE);
	if (!r)
		r = ops_of(p)->hold(p->sink, (struct gw__view){p->package, p->package_bytes}, &p->run->why);
	if (!r)
		r = gw__pull_step(p, GW__PS_EV_HELD);
	for (unsigned i = 0; !r && i < package.pings_n; i++)
		r = gw__pull_say(p, GW__RP_PONG, package.ping[i], &p->run->why);
	return r;
}

static int on_package_item(struct gw__pull *p, const struct gw__event *ev)
{
	bool command = ev->kind == GW__EVENT_COMMAND;
	if (ev->kind == GW__EVENT_DEVICE) {
		GW__TRACE(&p->run->trace, device, "%s/%u %zu bytes", ev->section.idstr, ev->section.instance, ev->body.n);
		p->tally->device_bytes += ev->raw.n;
	}
	if (command)
		p->tally->commands[ev->command.number]++;
	int r = append(p, ev->raw);
	return r || !command || ev->command.number != GW__CMD_POSTCOPY_RUN ? r : take_package(p);
}

/* --- pages --- */

bool gw__pull_wants(struct gw__pull *p, const struct gw__ram_where *where)
{
	if (p->state != GW__PS_POSTCOPY_ACTIVE)
		return true;
	if (gw__bitmap_test(ops_of(p)->received(p->sink, where->block), where->off / p->stream.page_bytes))
		return false;
	p->tally->late_pages++;
	return true;
}

uint64_t gw__pull_count_missing(const struct gw__pull *p)
{
	uint64_t missing = 0;
	for (uint32_t i = 0; i < p->stream.blocks.n; i++) {
		const struct gw__bitmap *b = ops_of(p)->received(p->sink, i);
		missing += b->bits - gw__bitmap_count(b);
	}
	return missing;
}

static int check_whole(struct gw__pull *p)
{
	uint64_t missing = gw__pull_count_missing(p);
	if (!missing || p->may_lack_pages)
		return 0;
	return gw__why_set(&p->run->why, -EPROTO, "the source says that it has sent everything, but %llu pages never came", (ull)missing);
}

int gw__pull_end_postcopy(struct gw__pull *p)
{
	int r = gw__pull_step(p, GW__PS_EV_END);
	if (!r)
		r = check_whole(p);
	gw__run_phase(p->run, GW__PHASE_DEVICES);
	if (!r && p->stream.learns_id)
		r = ops_of(p)->learn_ram_id(p->sink, p->stream.ram_id, &p->run->why);
	if (!r)
		r = p->sink->ops->ram_end(p->sink, &p->run->why);
	uint32_t n = 0; /* the decoder has counted them */
	return r ? r : gw__pull_put_devices(p->sink, (struct gw__view){p->package, p->package_bytes}, &n, &p->run->why);
}

int gw__pull_checkpoint(struct gw__pull *p)
{
	uint64_t now = gw__clock_now_ns(&p->run->clock);
	if (p->state != GW__PS_POSTCOPY_ACTIVE || p->tally->late_pages == p->checkpoint_pages || now - p->checkpoint_ns < CHECKPOINT_NS)
		return 0;
	int r = ops_of(p)->checkpoint(p->sink, &p->run->why);
	p->checkpoint_pages = p->tally->late_pages;
	p->checkpoint_ns = gw__clock_now_ns(&p->run->clock);
	return r;
}

/* --- coming back --- */

/* The answer is long, and the source takes it piece by piece. */
static int say_bitmap(struct gw__pull *p, uint32_t block)
{
	const struct gw__bitmap *b = ops_of(p)->received(p->sink, block);
	struct gw__rp_msg m = {.type = GW__RP_RECV_BITMAP};
	uint8_t piece[64 << 10];
	struct gw__why *why = &p->run->why;
	struct gw__wr c = gw__wr_over(piece, sizeof piece);
	uint64_t bytes = gw__bitmap_wire_bytes(b->bits);
	memcpy(m.block, p->stream.blocks.v[block].name, sizeof m.block);
	gw__rp_encode(&c, &m);
	gw__wr_be64(&c, bytes);
	int r = gw__chan_write_all(p->feed.chan, piece, gw__wr_used(&c), why);
	for (uint64_t at = 0, n; !r && at < bytes; at += n) {
		n = gw__min(sizeof piece, bytes - at);
		gw__bitmap_wire_put(b, at, piece, n);
		r = gw__chan_write_all(p->feed.chan, piece, n, why);
	}
	gw__be_put(piece, GW__RECV_BITMAP_END, 8);
	GW__TRACE(&p->run->trace, return_path_send, "%s %s", gw__rp_name(m.type), m.block);
	return r ? r : gw__chan_write_all(p->feed.chan, piece, 8, why);
}

static int on_question(struct gw__pull *p, const struct gw__command *cmd)
{
	char name[GW__NAME_MAX + 1];
	int r = gw__ask_bitmap_decode(cmd->payload, cmd->length, name, &p->run->why);
	if (r)
		return r;
	int64_t block = gw__blocks_find(&p->stream.blocks, name);
	if (block < 0 || p->stream.blocks.v[block].ignored)
		return gw__why_set(&p->run->why, -EPROTO, "the source asks what came of block \"%s\", which this guest does not have", name);
	p->asked[block] = true;
	return say_bitmap(p, (uint32_t)block);
}

/*
 * Draining, the source also hears that its guest is not its own any more. In one write: killed between the two, we would leave a source that
 * runs its guest when few pages are left, beside the destination.
 */
static int say_resumed(struct gw__pull *p)
{
	uint8_t words[32];
	struct gw__wr c = gw__wr_over(words, sizeof words);
	gw__rp_encode(&c, &(struct gw__rp_msg){.type = GW__RP_RESUME_ACK, .value = 1});
	if (p->early_shut)
		gw__rp_encode(&c, &(struct gw__rp_msg){.type = GW__RP_SHUT});
	GW__TRACE(&p->run->trace, return_path_send, "%s 1%s", gw__rp_name(GW__RP_RESUME_ACK), p->early_shut ? ", SHUT 0" : "");
	return gw__chan_write_all(p->feed.chan, words, gw__wr_used(&c), &p->run->why);
}

/* A block the source does not ask for is one it will not send. */
static int on_resume(struct gw__pull *p)
{
	for (uint32_t i = 0; i < p->stream.blocks.n; i++) {
		const struct gw__bitmap *b = ops_of(p)->received(p->sink, i);
		if (!p->asked[i] && gw__bitmap_next_clear(b, 0) < b->bits)
			return gw__why_set(&p->run->why, -EPROTO, "the source goes on without asking what came of block \"%s\"", p->stream.blocks.v[i].name);
	}
	int r = say_resumed(p);
	if (!r)
		r = gw__pull_step(p, GW__PS_EV_RESUME);
	gw__run_phase(p->run, GW__PHASE_RAM);
	return r;
}

/* Of a larger page whose pieces did not all come none counts: the source sends it as a whole. */
static int drop_pieces(struct gw__pull *p, uint32_t block)
{
	const struct gw__bitmap *b = ops_of(p)->received(p->sink, block);
	uint64_t n = p->stream.blocks.v[block].page_bytes / p->stream.page_bytes;
	int r = 0;
	for (uint64_t at = 0; !r && n > 1 && at < b->bits; at += n) {
		bool any = gw__bitmap_next_set(b, at) < at + n, whole = gw__bitmap_next_clear(b, at) >= at + n;
		if (any && !whole)
			r = ops_of(p)->discard(p->sink, block, at * p->stream.page_bytes, n, &p->run->why);
	}
	return r;
}

int gw__pull_begin_recovery(struct gw__pull *p)
{
	struct gw__sink_known known;
	ops_of(p)->known(p->sink, &known);
	const struct gw__stream_guest guest = {
		.page_bytes = known.page_bytes, .ram_id = known.ram_id, .any_ram_id = known.any_ram_id, .blocks = known.blocks};
	p->package = malloc(known.package.n + 1);
	p->asked = calloc(known.blocks->n, sizeof *p->asked);
	p->tally->block = calloc(known.blocks->n, sizeof *p->tally->block);
	p->tally->blocks_n = known.blocks->n;
	gw__stream_fini(&p->stream);
	if (!p->package || !p->asked || !p->tally->block ||
		gw__stream_init_recovery(&p->stream, &(struct gw__stream_opts){.tail_max_bytes = p->run->tail_max_bytes, .postcopy = true}, &guest))
		return gw__why_set(&p->run->why, -ENOMEM, "no memory for %u RAM blocks", known.blocks->n);
	if (known.package.n)
		memcpy(p->package, known.package.p, known.package.n);
	p->package_bytes = p->package_room = known.package.n;
	p->may_lack_pages = known.early.n && memmem(known.early.p, known.early.n, "virtio-mem", strlen("virtio-mem"));
	atomic_store(&p->run->counters.total_bytes, known.blocks->total_bytes);
	int r = 0;
	for (uint32_t i = 0; !r && i < known.blocks->n; i++)
		r = drop_pieces(p, i);
	return r ? r : gw__pull_step(p, GW__PS_EV_CONNECTED_AGAIN);
}

/* --- all of it --- */

int gw__pull_postcopy(struct gw__pull *p, const struct gw__event *ev)
{
	if (p->in_package)
		return on_package_item(p, ev);
	if (ev->kind != GW__EVENT_COMMAND)
		return GW__SHORT;
	uint16_t number = ev->command.number;
	bool ours = number == GW__CMD_POSTCOPY_RAM_DISCARD || number == GW__CMD_PACKAGED || number == GW__CMD_RECV_BITMAP ||
		    number == GW__CMD_POSTCOPY_RESUME;
	bool void_now = p->stream.postcopy >= GW__STREAM_LISTENING && number != GW__CMD_PING;
	if (!ours)
		return void_now ? 0 : GW__SHORT; /* OPEN_RETURN_PATH again, SWITCHOVER_START: nothing follows from them any more */
	GW__TRACE(&p->run->trace, command, "%s", gw__command_name(number));
	p->tally->commands[number]++;
	if (number == GW__CMD_POSTCOPY_RAM_DISCARD)
		return on_discard(p, &ev->command);
	if (number == GW__CMD_PACKAGED)
		return begin_package(p);
	return number == GW__CMD_RECV_BITMAP ? on_question(p, &ev->command) : on_resume(p);
}
