/* SPDX-License-Identifier: MIT */
/* A sink that keeps only the description of a guest. Freed with gw__sink_free. */
#ifndef GW_ENGINE_SINK_SUMMARY_H
#define GW_ENGINE_SINK_SUMMARY_H

#include "engine/sink/sink.h"

/* Looks at everything and keeps only the description of the guest: for inspect and verify. */
struct gw__guest_summary {
	struct gw__config config;
	struct gw__blocks blocks;
	bool wants_present;         /* set before it is run */
	struct gw__bitmap *present; /* by block, then: its pages whose last record was none of zeros */
	uint32_t present_n;
	struct {
		struct gw__section section;
		uint64_t off;     /* of the raw section in its source */
		size_t at, bytes; /* of the raw section in `raw` */
		uint64_t more;    /* bytes of the pieces after START, which are not kept */
		bool early;
		uint32_t described; /* its place among the devices of a description; UINT32_MAX: it is an iterable, which has none */
	} * device;
	uint32_t devices_n, devices_room, described_n;
	uint32_t iterable[GW__OPEN_SECTIONS_MAX]; /* those of `device`: their START, and the size of all pieces */
	uint32_t iterables_n;
	uint8_t *raw;
	size_t raw_bytes, raw_room;
	uint64_t piece_bytes; /* that are not in raw */
	char *text;           /* description, or NULL */
	size_t text_bytes;
};
int gw__sink_summary_new(struct gw__guest_summary *summary, size_t max_bytes, struct gw__sink **sink, struct gw__error *error);
void gw__guest_summary_fini(struct gw__guest_summary *summary);

#endif
