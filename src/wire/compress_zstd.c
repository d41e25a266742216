/* SPDX-License-Identifier: MIT */
/*
 * zstd in multifd (docs/spec/multifd.md 4.3): one frame per channel, a flush at the end of every payload,
 * never ended. The library's context is the state, with a bound on the window; it belongs to the worker of
 * its channel.
 */
#include <zstd.h>
#include <zstd_errors.h>

#include <errno.h>
#include <stdlib.h>

#include "wire/compress_private.h"

static const char NAME[] = "zstd";

/* --- unpacking ------------------------------------------------------------------------------------------ */

enum { MAGIC_BYTES = 4 };
static const uint8_t MAGIC[MAGIC_BYTES] = {0x28, 0xb5, 0x2f, 0xfd};

struct unpacker {
	ZSTD_DCtx *ctx;
	bool begun;
};

static void drop_unpacker(void *state)
{
	struct unpacker *u = state;
	ZSTD_freeDCtx(u->ctx);
	free(u);
}

static void *make_unpacker(void)
{
	struct unpacker *u = calloc(1, sizeof *u);
	if (!u)
		return NULL;
	u->ctx = ZSTD_createDCtx();
	if (u->ctx && !ZSTD_isError(ZSTD_DCtx_setParameter(u->ctx, ZSTD_d_windowLogMax, GW__ZSTD_WINDOW_LOG_MAX)))
		return u;
	drop_unpacker(u);
	return NULL;
}

/* The library would also take skippable frames and, depending on how it was built, those of its own first
 * versions. */
static int check_magic(const uint8_t *in, size_t in_n, struct gw__error *error)
{
	if (in_n < MAGIC_BYTES)
		return gw__error_set(error, -EPROTO, "%s: the first payload has %zu bytes, expected at least a frame header", NAME, in_n);
	if (memcmp(in, MAGIC, MAGIC_BYTES) == 0)
		return 0;
	return gw__error_set(error, -EPROTO, "%s: the first payload begins with %08x, expected a frame, 28b52ffd", NAME,
		(unsigned)gw__be_get(in, MAGIC_BYTES));
}

static int explain(size_t r, const ZSTD_inBuffer *in, struct gw__error *error)
{
	const char *text = ZSTD_getErrorName(r);
	if (ZSTD_isError(r) && ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation)
		return gw__error_set(error, -ENOMEM, "%s: no memory for the window", NAME);
	if (ZSTD_isError(r) && ZSTD_getErrorCode(r) == ZSTD_error_frameParameter_windowTooLarge)
		return gw__error_set(error, -EPROTO,
			"%s: the stream needs a window of more than %u bytes; set multifd-zstd-level to at "
			"most %d",
			NAME, 1u << GW__ZSTD_WINDOW_LOG_MAX, GW__ZSTD_LEVEL_MAX);
	return gw__error_set(error, -EPROTO, "%s: a payload of %zu bytes does not continue the channel's stream: %s at byte %zu", NAME,
		in->size, text, in->pos);
}

/* Until nothing moves any more: `in` used up and nothing held back, or `out` full. */
static int decompress_into(ZSTD_DCtx *ctx, ZSTD_inBuffer *in, ZSTD_outBuffer *out, struct gw__error *error)
{
	for (;;) {
		const size_t in_was = in->pos, out_was = out->pos;
		size_t r = ZSTD_decompressStream(ctx, out, in);
		if (r == 0)
			return gw__decompress_finished(NAME, in->size, error);
		if (ZSTD_isError(r))
			return explain(r, in, error);
		if (out->pos == out->size || (in->pos == in_was && out->pos == out_was))
			return 0;
	}
}

/* As in compress_zlib.c: one more byte of room makes it read the flush, and shows what would have been too much.
 */
static int unpack(void *state, const uint8_t *in, size_t in_n, uint8_t *out, size_t out_n, struct gw__error *error)
{
	struct unpacker *u = state;
	uint8_t beyond;
	ZSTD_inBuffer from = {.src = in, .size = in_n};
	ZSTD_outBuffer pages = {.dst = out, .size = out_n}, spare = {.dst = &beyond, .size = 1};
	int err = u->begun ? 0 : check_magic(in, in_n, error);
	if (err)
		return err;
	u->begun = true;
	err = decompress_into(u->ctx, &from, &pages, error);
	if (err)
		return err;
	if (pages.pos < out_n)
		return gw__decompress_too_little(NAME, in_n, pages.pos, out_n, error);
	err = decompress_into(u->ctx, &from, &spare, error);
	if (err)
		return err;
	if (spare.pos || from.pos < in_n)
		return gw__decompress_too_much(NAME, in_n, out_n, error);
	return 0;
}

const struct gw__decompress_method gw__decompress_zstd = {
	.name = NAME,
	.make = make_unpacker,
	.drop = drop_unpacker,
	.unpack = unpack,
};

/* --- packing -------------------------------------------------------------------------------------------- */

static void *make_packer(int level)
{
	ZSTD_CCtx *ctx = ZSTD_createCCtx();
	if (ctx && !ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, level)))
		return ctx;
	ZSTD_freeCCtx(ctx);
	return NULL;
}

static void drop_packer(void *state) { ZSTD_freeCCtx(state); }

/* Blocks that do not shrink cost 3 bytes each and are at least 64 KiB apart, but for the last; a frame header
 * is 18. */
static size_t bound(void *state, size_t n)
{
	(void)state;
	return ZSTD_compressBound(n) + n / 1024 + 64;
}

static int pack(void *state, const uint8_t *in, size_t n, bool last, struct gw__wr *out, struct gw__error *error)
{
	ZSTD_inBuffer from = {.src = in, .size = n};
	ZSTD_outBuffer to = {.dst = out->p, .size = (size_t)(out->end - out->p)};
	size_t held;
	do {
		held = ZSTD_compressStream2(state, &to, &from, last ? ZSTD_e_flush : ZSTD_e_continue);
		if (ZSTD_isError(held))
			return gw__error_set(error, -EINVAL, "%s: packing %zu bytes failed: %s", NAME, n, ZSTD_getErrorName(held));
		if (to.pos == to.size && (from.pos < n || (last && held)))
			return gw__compress_no_room(NAME, to.size, error);
	} while (from.pos < n || (last && held));
	out->p += to.pos;
	return 0;
}

const struct gw__compress_method gw__compress_zstd = {
	.name = NAME,
	.level_max = GW__ZSTD_LEVEL_MAX,
	.make = make_packer,
	.drop = drop_packer,
	.bound = bound,
	.pack = pack,
};
