/* SPDX-License-Identifier: MIT */
/*
 * Compressed payloads of multifd (docs/spec/multifd.md 4): one endless stream per channel, flushed per
 * packet. Pure: memory to memory, no fd, no thread. Each belongs to the worker of one channel.
 *
 * Memory does not depend on what comes: an unpacker has about 40 KiB for zlib, and for zstd what the sender's
 * window asks for, 1 MiB for level 1 to 33 MiB for level 20 and never more. A packer of zstd level 20 has
 * 200 MiB.
 */
#ifndef GW_WIRE_COMPRESS_H
#define GW_WIRE_COMPRESS_H

#include "base/bytes.h"
#include "base/error.h"

enum {
	GW__ZLIB_LEVEL_MAX = 9,       /* from 0: stored */
	GW__ZSTD_LEVEL_MAX = 20,      /* from 0: the library's default */
	GW__ZSTD_WINDOW_LOG_MAX = 25, /* that of level 20, the highest a QEMU source can be told */
};

/* `method`: 0, GW__MULTIFD_ZLIB or GW__MULTIFD_ZSTD. For 0 they are NULL, packing and unpacking are not
 * called. */
struct gw__decompressor;
int gw__decompressor_new(uint32_t method, struct gw__decompressor **u, struct gw__error *error);
void gw__decompressor_free(struct gw__decompressor *u);
/*
 * Exactly `out_n` bytes (at most GW__MULTIFD_PACKET_BYTES) out of exactly these `in_n`; anything else (less,
 * more, a finished or a fresh stream, garbage) is -EPROTO with a sentence. Never writes beyond out_n, so a
 * bomb costs nothing. 0 out of 0 leaves the stream alone. After an error the channel is over: every further
 * call fails.
 */
int gw__decompress(struct gw__decompressor *u, const void *in, size_t in_n, void *out, size_t out_n, struct gw__error *error);

struct gw__compressor;
int gw__compressor_new(uint32_t method, int level, struct gw__compressor **p, struct gw__error *error); /* -EINVAL: level */
void gw__compressor_free(struct gw__compressor *p);
/* Room needed for the worst case of n bytes, in however many calls, the last with `last`. */
size_t gw__compress_bound(const struct gw__compressor *p, size_t n);
/*
 * Append n bytes of pages (which must not change meanwhile); `last` flushes so that the receiver can have all
 * of it. -ENOSPC when `out` has less room than gw__compress_bound; then, too, the channel is over.
 */
int gw__compress(struct gw__compressor *p, const void *in, size_t n, bool last, struct gw__wr *out, struct gw__error *error);

#endif
