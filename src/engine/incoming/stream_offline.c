/* SPDX-License-Identifier: MIT */
/* A guest of which nothing is missing, and that only has to be ended: killed while it was made safe. No source is needed. See stream.h. */
#include "engine/incoming/stream_private.h"
#include "wire/package.h"

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

int gw__incoming_finish_offline(struct gw__run *run, struct gw__sink *sink, struct gw__stream_stats *stats)
{
	const struct gw__sink_postcopy_ops *ops = sink->ops->postcopy;
	struct gw__sink_recovery_info recovery_info;
	struct gw__error *error = &run->error;
	ops->recovery_info(sink, &recovery_info);
	stats->missing_pages = gw__sink_count_missing(sink);
	if (stats->missing_pages)
		return GW__SHORT;
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
	stats->state = GW__POSTCOPY_DST_COMPLETED;
	gw__run_phase(run, GW__PHASE_DONE);
	return 0;
}
