/* SPDX-License-Identifier: MIT */
/* A guest of which nothing is missing, and that only has to be ended: killed while it was made safe. No source is needed. See source.h. */
#include "engine/pull_internal.h"
#include "wire/package.h"

int gw__pull_put_devices(struct gw__sink *sink, struct gw__view raw, struct gw__why *why)
{
	struct gw__package package;
	struct gw__section section;
	const uint8_t *at;
	size_t bytes;
	if (!raw.n)
		return 0;
	int r = gw__package_decode(raw.p, raw.n, &package, why);
	while (!r && gw__package_next(&package, &section, &at, &bytes))
		r = sink->ops->device(sink, &section, 0, (struct gw__view){at, bytes}, why);
	return r;
}

int gw__pull_alone(struct gw__run *run, struct gw__sink *sink, struct gw__stream_tally *tally)
{
	const struct gw__sink_postcopy_ops *ops = sink->ops->postcopy;
	struct gw__sink_known known;
	struct gw__why *why = &run->why;
	ops->known(sink, &known);
	tally->missing_pages = gw__sink_count_missing(sink);
	if (tally->missing_pages)
		return GW__SHORT;
	atomic_store(&run->counters.total_bytes, known.blocks->total_bytes);
	gw__run_phase(run, GW__PHASE_DEVICES);
	int r = known.any_ram_id ? ops->learn_ram_id(sink, known.ram_id, why) : 0; /* an earlier attempt may have put another */
	if (!r)
		r = sink->ops->ram_end(sink, why);
	if (!r)
		r = gw__pull_put_devices(sink, known.package, why);
	if (!r)
		r = sink->ops->end(sink, (struct gw__view){0}, why);
	gw__run_phase(run, GW__PHASE_SYNC);
	if (!r)
		r = sink->ops->commit(sink, why);
	if (r)
		return r;
	ops->known(sink, &known);
	tally->devices = known.devices_n;
	ops->forget(sink);
	tally->state = GW__PS_COMPLETED;
	gw__run_phase(run, GW__PHASE_DONE);
	return 0;
}
