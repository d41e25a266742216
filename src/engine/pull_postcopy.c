/* SPDX-License-Identifier: MIT */
/*
 * A source that switches to post-copy, up to its last page (docs/spec/postcopy.md 3, 4). Nobody runs here: no page is ever asked for, the
 * source sends them all in its own time. Coming back after a break is pull_recovery.c. See source.h; the conductor's.
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

/* --- the switch --- */

/* The first word of a switch. What can be foreseen was refused before (prepare). */
static int begin_switch(struct gw__pull *p)
{
	if (p->gang)
		return gw__why_set(&p->run->why, -EOPNOTSUPP,
			"the source switches to post-copy next to multifd channels, which is not taken; leave one of them out");
	if (!p->stream.return_path || !p->feed.chan->two_way)
		return gw__why_set(&p->run->why, -EOPNOTSUPP,
			"the source switches to post-copy, for which it has to be answered; let it connect to a socket");
	int r = gw__pull_postcopy_ops(p)->begin(p->sink, &p->run->why);
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
		r = gw__pull_postcopy_ops(p)->discard(p->sink, (uint32_t)block, range.start_off, range.bytes / p->stream.page_bytes,
			&p->run->why);
	}
	return r;
}

static int begin_package(struct gw__pull *p)
{
	int r = gw__pull_flush_batch(p);
	p->package_came = true;
	if (!r && p->state == GW__PS_ACTIVE)
		r = begin_switch(p);
	size_t most = p->run->tail_max_bytes - p->stream.early_bytes;
	if (!r && p->stream.package_left > most)
		r = gw__why_set(&p->run->why, -E2BIG,
			"a package with %zu bytes of device state, at most %zu are taken; raise the limit if this guest really has so much",
			p->stream.package_left, most);
	p->in_package = !r;
	return r;
}

static int append(struct gw__pull *p, struct gw__view raw)
{
	if (p->package_bytes + raw.n > p->package_room) {
		size_t bytes = p->package_bytes + raw.n, room = gw__min(bytes * 2, bytes + p->stream.package_left);
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
		gw__feed_trim(&p->feed);
	if (!r)
		r = gw__pull_postcopy_ops(p)->hold(p->sink, &p->package, p->package_bytes, &p->run->why);
	if (!r)
		r = gw__pull_step(p, GW__PS_EV_HELD);
	p->held = !r;
	for (unsigned i = 0; !r && i < package.pings_n; i++)
		r = gw__pull_pong(p, package.ping[i]);
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
	if (gw__bitmap_test(gw__pull_postcopy_ops(p)->received(p->sink, where->block), where->off / p->stream.page_bytes))
		return false;
	p->tally->late_pages++;
	return true;
}

static int check_whole(struct gw__pull *p)
{
	uint64_t missing = gw__sink_count_missing(p->sink);
	if (!missing || p->may_lack_pages)
		return 0;
	return gw__why_set(&p->run->why, -EPROTO, "the source says that it has sent everything, but %llu pages never came", (ull)missing);
}

int gw__pull_end_postcopy(struct gw__pull *p)
{
	int r = check_whole(p); /* else it is an END like any other break: whoever said it, the source may still have the rest */
	if (!r)
		r = gw__pull_step(p, GW__PS_EV_END);
	gw__run_phase(p->run, GW__PHASE_DEVICES);
	if (!r && p->stream.learns_id)
		r = gw__pull_postcopy_ops(p)->learn_ram_id(p->sink, p->stream.ram_id, &p->run->why);
	if (!r)
		r = p->sink->ops->ram_end(p->sink, &p->run->why);
	if (r)
		return r;
	struct gw__sink_known known;
	gw__pull_postcopy_ops(p)->known(p->sink, &known);
	return gw__pull_put_devices(p->sink, known.package, &p->run->why);
}

int gw__pull_checkpoint(struct gw__pull *p)
{
	uint64_t now = gw__clock_now_ns(&p->run->clock);
	if (p->state != GW__PS_POSTCOPY_ACTIVE || p->tally->late_pages == p->checkpoint_pages || now - p->checkpoint_ns < CHECKPOINT_NS)
		return 0;
	int r = gw__pull_postcopy_ops(p)->checkpoint(p->sink, &p->run->why);
	p->checkpoint_pages = p->tally->late_pages;
	p->checkpoint_ns = gw__clock_now_ns(&p->run->clock);
	return r;
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
	return number == GW__CMD_RECV_BITMAP ? gw__pull_answer_bitmap(p, &ev->command) : gw__pull_resume(p);
}
