/* SPDX-License-Identifier: MIT */
/*
 * The end of a stream: SHUT, whether the source took it, and the end of a guest without a source. See stream_private.h and docs/spec/postcopy.md 1.4.
 */
#include <assert.h>
#include <errno.h>

#include "engine/incoming/stream_private.h"
#include "wire/package.h"

enum {
	LINGER_MS = 5000, /* after SHUT, for the source to close first */
	RESET_MS = 1000,  /* for a kernel far away to say that nobody is there */
};

/* Of an event that every state here has a row for. */
static void step_surely(struct gw__incoming_stream *p, enum gw__postcopy_dst_event event)
{
	struct gw__error error = {0};
	int r = gw__postcopy_dst_step(p->role, p->state, event, &p->state, &error);
	assert(!r);
	(void)r;
}

/*
 * A source that hears of an error has its guest back. It hears none where that would do harm: behind the package it waits instead, and a 7.2
 * that has heard of one then cannot even come back.
 */
static bool may_tell_failure(const struct gw__incoming_stream *p)
{
	if (p->role != GW__POSTCOPY_DST_KEEP || !p->stream.return_path || !p->buf.chan->two_way)
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
	bool told = may_tell_failure(p) && gw__incoming_rp_send(p, GW__RP_SHUT, 1, &ignored) == 0;
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

int gw__incoming_finish_with_source(struct gw__incoming_stream *p, int result)
{
	if (result)
		return tell_failure(p, result);
	step_surely(p, GW__POSTCOPY_DST_EV_SAFE);
	if (!p->stream.return_path || !p->buf.chan->two_way)
		return 0;
	bool gone = !p->early_shut && peer_closed(p);
	int r = p->early_shut ? 0 : gw__incoming_rp_send(p, GW__RP_SHUT, p->say_failed, &p->run->error);
	if (!r)
		r = linger(p, gone);
	if (!r)
		return 0;
	gw__error_where(&p->run->error, "the source could not be told that its guest is kept");
	return GW__SOURCE_NOT_NOTIFIED;
}

/* --- where the guest is then --- */

static void note(struct gw__incoming_stream *p, enum gw__location_event event) { gw__location_note(&p->result->location, event); }

int gw__incoming_commit(struct gw__incoming_stream *p)
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

void gw__incoming_note_end(struct gw__incoming_stream *p, int r)
{
	if (r == GW__SOURCE_NOT_NOTIFIED && p->role == GW__POSTCOPY_DST_KEEP)
		note(p, GW__LOCATION_EV_NOT_NOTIFIED);
	else if (r < 0 && p->committed && p->role == GW__POSTCOPY_DST_KEEP)
		note(p, GW__LOCATION_EV_UNCONFIRMED);
	else if (r < 0 && !p->committed_unsafe && p->result->location.place != GW__PLACE_BOTH_POSSIBLE)
		note_failure(p);
}

/* A guest of which nothing is missing, and that only has to be ended: killed while it was made safe. No source is needed. See stream.h. */

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
