/* SPDX-License-Identifier: MIT */
/* Capabilities, parameters and the report of a primary; see protect_settings.h. */
#include "qemu/protect_settings.h"

#include <limits.h>

#include "qemu/deadman.h"
#include "qemu/lease_client.h"

#define UNLIMITED_BYTES_PER_S (INT64_C(1) << 42)

static int set_parameters(struct gw__qmp *q, const struct gw__protect_opts *o, struct gw__error *error)
{
	static const char *const methods[] = {"none", "zlib", "zstd"};
	unsigned level = o->level ? o->level : 1;
	json_int_t rate = o->max_bandwidth ? (json_int_t)o->max_bandwidth : UNLIMITED_BYTES_PER_S;
	json_t *j = json_pack("{s:i, s:I}", "x-checkpoint-delay", o->interval_ms, "max-bandwidth", rate);
	if (o->channels) {
		json_object_set_new(j, "multifd-channels", json_integer(o->channels));
		json_object_set_new(j, "multifd-compression", json_string(methods[o->compression]));
	}
	if (o->compression == GW_COMPRESS_ZLIB)
		json_object_set_new(j, "multifd-zlib-level", json_integer(level));
	if (o->compression == GW_COMPRESS_ZSTD)
		json_object_set_new(j, "multifd-zstd-level", json_integer(level));
	return gw__qmp_call(q, "migrate-set-parameters", j, NULL, error);
}

int gw__protect_settings_set(struct gw__qmp *q, const struct gw__protect_opts *o, const struct gw__qmp_settings *before,
	struct gw__error *error)
{
	const struct gw__qmp_capability caps[] = {{"events", true}, {"return-path", true}, {"x-colo", true}, {"multifd", true}};
	int r = gw__qmp_clear_capabilities(q, before, false, error);
	if (!r)
		r = gw__qmp_set_capabilities(q, caps, o->channels ? 4 : 3, error);
	return r ? r : set_parameters(q, o, error);
}

/* Longer than a guest runs between two releases while it is protected, and then until its lease is certain, or the packets would leave too early. */
int gw__protect_settings_fallback_ms(const struct gw__protect_opts *o)
{
	int64_t ms = (int64_t)o->interval_ms + o->silence_ms + o->timeout_ms;
	if (o->lease)
		ms += o->lease_term_ms ? o->lease_term_ms : GW__LEASE_TERM_MS;
	return o->silence_ms < 0 || ms > INT_MAX ? -1 : (int)ms;
}

void gw__protect_report_print(const struct gw__protect_opts *o, unsigned mirrored, unsigned held, uint64_t lease_end_ns,
	char words[GW__GUARD_REPORT_BYTES])
{
	uint64_t now_ns = gw__boottime_ns();
	bool none_kept = o->memory_only || (!mirrored && o->unprotected_n), let_out = o->memory_only || o->no_output_commit;
	const struct gw__guard_report report = {.disk = none_kept          ? "not-kept"
							: !mirrored        ? "none"
							: o->unprotected_n ? "partly"
									   : "mirrored",
		.network = let_out ? "not-held"
			   : held  ? "held"
				   : "none",
		.lease_left_us = lease_end_ns == UINT64_MAX ? UINT64_MAX
				 : lease_end_ns > now_ns    ? (lease_end_ns - now_ns) / 1000
							    : 0};
	gw__guard_report_print(&report, words);
}
