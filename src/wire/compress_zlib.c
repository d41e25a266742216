/* SPDX-License-Identifier: MIT */
/*
 * zlib in multifd (docs/spec/multifd.md 4.2): one RFC 1950 stream per channel, a sync flush at the end of
 * every payload, never finished. The library's z_stream is the whole state; it belongs to the worker of its
 * channel.
 */
#define ZLIB_CONST
#include <zlib.h>

#include <errno.h>
#include <stdlib.h>

#include "wire/compress_private.h"

static const char NAME[] = "zlib";

/* --- unpacking ------------------------------------------------------------------------------------------ */

static void *make_inflate(void)
{
	z_stream *z = calloc(1, sizeof *z);
	if (!z || inflateInit(z) == Z_OK)
		return z;
	free(z);
	return NULL;
}

static void drop_inflate(void *state)
{
	inflateEnd(state);
	free(state);
}

static int explain(const z_stream *z, int r, size_t in_n, struct gw__error *error)
{
	if (r == Z_STREAM_END)
		return gw__decompress_finished(NAME, in_n, error);
	if (r == Z_MEM_ERROR)
		return gw__error_set(error, -ENOMEM, "%s: no memory for the window", NAME);
	if (r == Z_NEED_DICT)
		return gw__error_set(error, -EPROTO, "%s: the stream asks for a dictionary, expected none", NAME);
	return gw__error_set(error, -EPROTO, "%s: a payload of %zu bytes does not continue the channel's stream: %s at byte %zu", NAME,
		in_n, z->msg ? z->msg : "error", in_n - z->avail_in);
}

/* As much as fits into `n` bytes; what is left of them is z->avail_out. */
static int inflate_into(z_stream *z, uint8_t *out, size_t n, size_t in_n, struct gw__error *error)
{
	z->next_out = out;
	z->avail_out = (uInt)n;
	int r = inflate(z, Z_SYNC_FLUSH);
	/* BUF_ERROR only says that nothing was left to do. */
	return r == Z_OK || r == Z_BUF_ERROR ? 0 : explain(z, r, in_n, error);
}

/*
 * When the pages are full, the flush after them is still unread; and only one more byte of room shows
 * whether the payload would have given more.
 */
static int unpack(void *state, const uint8_t *in, size_t in_n, uint8_t *out, size_t out_n, struct gw__error *error)
{
	z_stream *z = state;
	uint8_t beyond;
	z->next_in = in;
	z->avail_in = (uInt)in_n;
	int err = inflate_into(z, out, out_n, in_n, error);
	if (err)
		return err;
	if (z->avail_out)
		return gw__decompress_too_little(NAME, in_n, out_n - z->avail_out, out_n, error);
	err = inflate_into(z, &beyond, 1, in_n, error);
	if (err)
		return err;
	if (z->avail_out == 0 || z->avail_in)
		return gw__decompress_too_much(NAME, in_n, out_n, error);
	return 0;
}

const struct gw__decompress_method gw__decompress_zlib = {
	.name = NAME,
	.make = make_inflate,
	.drop = drop_inflate,
	.unpack = unpack,
};

/* --- packing -------------------------------------------------------------------------------------------- */

static void *make_deflate(int level)
{
	z_stream *z = calloc(1, sizeof *z);
	if (!z || deflateInit(z, level) == Z_OK)
		return z;
	free(z);
	return NULL;
}

static void drop_deflate(void *state)
{
	deflateEnd(state);
	free(state);
}

/*
 * deflateBound is for one call that finishes. Calls in between cost nothing; the flush is an empty stored
 * block, 5 bytes, and zlib wants to see room after it.
 */
static size_t bound(void *state, size_t n) { return deflateBound(state, (uLong)n) + n / 1024 + 64; }

static int pack(void *state, const uint8_t *in, size_t n, bool last, struct gw__wr *out, struct gw__error *error)
{
	z_stream *z = state;
	const size_t room = (size_t)(out->end - out->p);
	z->next_in = in;
	z->avail_in = (uInt)n;
	z->next_out = out->p;
	z->avail_out = room < UINT32_MAX ? (uInt)room : UINT32_MAX;
	const size_t offered = z->avail_out;
	int r = deflate(z, last ? Z_SYNC_FLUSH : Z_NO_FLUSH);
	/* No room left may mean that there is more to come. BUF_ERROR: a flush with nothing new, which is no
	 * error. */
	if (z->avail_out == 0)
		return gw__compress_no_room(NAME, room, error);
	if ((r != Z_OK && r != Z_BUF_ERROR) || z->avail_in)
		return gw__error_set(error, -EINVAL, "%s: packing %zu bytes failed: %s", NAME, n, z->msg ? z->msg : "error");
	out->p += offered - z->avail_out;
	return 0;
}

const struct gw__compress_method gw__compress_zlib = {
	.name = NAME,
	.level_max = GW__ZLIB_LEVEL_MAX,
	.make = make_deflate,
	.drop = drop_deflate,
	.bound = bound,
	.pack = pack,
};
