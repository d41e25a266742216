/* SPDX-License-Identifier: MIT */
/*
 * The stream of a guest of this process to a destination: head, block list, pages that are dirty, devices, end (docs/spec/stream.md 6). It knows how each
 * of these is written, over one channel or many, and nothing of when. One thread, that of the call.
 */
#ifndef GW_ENGINE_GUEST_STREAM_OUT_H
#define GW_ENGINE_GUEST_STREAM_OUT_H

#include "engine/core/run.h"
#include "engine/guest/dirty_pages.h"
#include "engine/outgoing/connect.h"

struct gw__stream_out_opts {
	uint32_t method; /* of compression, with channels */
	int level;
	bool copies;   /* pages are enciphered */
	bool old_colo; /* the dialect of COLO of QEMU 10.0: ENABLE_COLO, and no return path */
	bool postcopy; /* it is announced (ADVISE), so the stream may end in one; not with channels */
	uint64_t
		delta_bytes; /* memory for pages as they were sent, so that only what changed of them is sent again; 0: none. Not with channels */
};
enum { GW__STREAM_OUT_RAM_ID = 1 };

struct gw__stream_out;
/* Borrows all. 0 or -ENOMEM, -EINVAL. */
int gw__stream_out_new(struct gw__run *run, struct gw__guest *guest, struct gw__outgoing *out, const struct gw__stream_out_opts *o,
	struct gw__stream_out **s);
void gw__stream_out_free(struct gw__stream_out *s);                     /* NULL is fine */
struct gw__dirty_pages *gw__stream_out_dirty(struct gw__stream_out *s); /* of the guest */
const struct gw__blocks *gw__stream_out_blocks(const struct gw__stream_out *s);
const struct gw__config *gw__stream_out_config(const struct gw__stream_out *s);
/* Those that were sent instead of whole ones. */
void gw__stream_out_count_deltas(const struct gw__stream_out *s, uint64_t *pages, uint64_t *bytes);

/* Head, return path, and the list of blocks. */
int gw__stream_out_begin(struct gw__stream_out *s);
/*
 * All of these pages, which are taken from `pages`; `last`: RAM ends with them. `look` is called ten times a second meanwhile; NULL: nobody looks. It ends the round with a
 * negative errno, or, without channels, with something positive: the section is ended then, and the pages that were not sent stay in `pages`.
 */
typedef int gw__stream_out_look_fn(void *ctx);
int gw__stream_out_put_round(struct gw__stream_out *s, struct gw__dirty_pages *pages, bool last, gw__stream_out_look_fn *look, void *ctx);
/* The device sections, one after the other, into `to`, which the caller frees. *hook: it was a hook that failed. */
int gw__stream_out_save_devices(struct gw__stream_out *s, struct gw_out *to, bool *hook);
/* After the last round: the device sections, as they were saved. */
int gw__stream_out_put_devices(struct gw__stream_out *s, const struct gw_out *saved);
int gw__stream_out_put_ping(struct gw__stream_out *s, uint32_t token);
/* The end mark and the description, by which the destination may run the guest. */
int gw__stream_out_put_end(struct gw__stream_out *s);
/* The RAM of a COLO checkpoint, to its EOF. */
int gw__stream_out_put_checkpoint(struct gw__stream_out *s, struct gw__dirty_pages *pages);

#endif
