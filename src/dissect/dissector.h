/* SPDX-License-Identifier: MIT */
/*
 * Says what the bytes of one direction of a channel mean, message by message, with the codecs of src/wire. It only looks: it keeps no
 * byte, waits for nobody and cannot fail. What it cannot read it says once, and takes the rest as bytes.
 *
 * Pure but for what the channels of one migration share (migration_view.h); no fd. One thread at a time. Fed a byte at a time it says the same.
 */
#ifndef GW_DISSECT_DISSECTOR_H
#define GW_DISSECT_DISSECTOR_H

#include "dissect/message.h"
#include "dissect/migration_view.h"

enum gw__dissector_kind {
	GW__DISSECTOR_OPAQUE, /* TLS, or nothing that is known */
	GW__DISSECTOR_SILENT, /* a direction in which nobody speaks */
	GW__DISSECTOR_MAIN,
	GW__DISSECTOR_RECOVERY,
	GW__DISSECTOR_PREEMPT,
	GW__DISSECTOR_MULTIFD,
	GW__DISSECTOR_RETURN_PATH,
};

/* What a channel is, by the first byte the source sends: all known beginnings differ in it (docs/spec/channels.md 2.2). */
enum gw__dissector_kind gw__dissector_kind_of(uint8_t first);

struct gw__dissector_stats {
	uint64_t messages; /* but for pages */
	uint64_t pages, zero_pages, xbzrle_pages;
	uint64_t packets; /* of multifd */
};

struct gw__dissector_opts {
	enum gw__dissector_kind kind;
	struct gw__migration_view *view;
	size_t tail_max_bytes;
	uint64_t page_bytes; /* of the target, where the stream does not state it. 0: 4 KiB then */
	bool every_page;     /* say each page, not only runs */
	/* false: say nothing more and take no more bytes, until gw__dissector is called again. */
	bool (*say)(void *ctx, const struct gw__message *m);
	void *ctx;
};

struct gw__dissector;
int gw__dissector_new(const struct gw__dissector_opts *o, struct gw__dissector **x); /* 0 or -ENOMEM */
void gw__dissector_free(struct gw__dissector *x);

/*
 * The bytes from the first one not yet used; returns how many of them are. The others are to be shown again, with more after them.
 * `last`: there will be no more.
 */
size_t gw__dissector(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last);
/* What was looked at has really arrived: what follows from it for where the guest is becomes known (migration_view.h). */
void gw__dissector_confirm(struct gw__dissector *x);
/* Nothing has come for a while: a run of pages is said as it is. */
void gw__dissector_pause(struct gw__dissector *x);
bool gw__dissector_is_waiting(const struct gw__dissector *x); /* there is such a run */
uint64_t gw__dissector_off(const struct gw__dissector *x);    /* bytes used so far */
void gw__dissector_stats(const struct gw__dissector *x, struct gw__dissector_stats *t);

#endif
