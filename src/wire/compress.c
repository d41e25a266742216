/* SPDX-License-Identifier: MIT */
/*
 * What is the same for every method of compress.h: which one, sizes, and that nothing follows an error. The
 * methods themselves are compress_zlib.c and compress_zstd.c.
 */
#include "wire/compress_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "wire/multifd.h"

struct gw__decompressor {
	const struct gw__decompress_method *method;
	void *state;
	bool over; /* an error came: what the state would give now is not the sender's */
};

struct gw__compressor {
	const struct gw__compress_method *method;
	void *state;
	bool over;
};

static int refuse_method(uint32_t method, struct gw__error *error)
{
	return gw__error_set(error, -EOPNOTSUPP, "multifd compression method %02x is not supported, expected 02 (zlib) or 04 (zstd)",
		method);
}

/* --- unpacking ------------------------------------------------------------------------------------------ */

int gw__decompressor_new(uint32_t method, struct gw__decompressor **u, struct gw__error *error)
{
	*u = NULL;
	if (method == 0)
		return 0;
	if (method != GW__MULTIFD_ZLIB && method != GW__MULTIFD_ZSTD)
		return refuse_method(method, error);
	struct gw__decompressor *made = calloc(1, sizeof *made);
	if (made) {
		made->method = method == GW__MULTIFD_ZLIB ? &gw__decompress_zlib : &gw__decompress_zstd;
		made->state = made->method->make();
	}
	if (!made || !made->state) {
		free(made);
		return gw__error_set(error, -ENOMEM, "no memory to unpack %s", method == GW__MULTIFD_ZLIB ? "zlib" : "zstd");
	}
	*u = made;
	return 0;
}

void gw__decompressor_free(struct gw__decompressor *u)
{
	if (u)
		u->method->drop(u->state);
	free(u);
}

static int check_sizes(const struct gw__decompressor *u, size_t in_n, size_t out_n, struct gw__error *error)
{
	const char *name = u->method->name;
	if (in_n > GW__MULTIFD_PAYLOAD_MAX)
		return gw__error_set(error, -EPROTO, "%s: a payload of %zu bytes, expected at most %d", name, in_n,
			GW__MULTIFD_PAYLOAD_MAX);
	if (out_n == 0)
		return gw__error_set(error, -EPROTO, "%s: a payload of %zu bytes for no pages, expected 0", name, in_n);
	if (in_n == 0)
		return gw__error_set(error, -EPROTO, "%s: an empty payload for %zu bytes of pages", name, out_n);
	return 0;
}

int gw__decompress(struct gw__decompressor *u, const void *in, size_t in_n, void *out, size_t out_n, struct gw__error *error)
{
	assert(out_n <= GW__MULTIFD_PACKET_BYTES);
	if (u->over)
		return gw__error_set(error, -EPROTO, "%s: a payload of %zu bytes after one that was refused", u->method->name, in_n);
	if (in_n == 0 && out_n == 0)
		return 0;
	int err = check_sizes(u, in_n, out_n, error);
	if (!err)
		err = u->method->unpack(u->state, in, in_n, out, out_n, error);
	u->over = err != 0;
	return err;
}

int gw__decompress_too_little(const char *method, size_t in_n, size_t got, size_t expected, struct gw__error *error)
{
	return gw__error_set(error, -EPROTO, "%s: a payload of %zu bytes gives %zu bytes, expected the %zu of its pages", method, in_n, got,
		expected);
}

int gw__decompress_too_much(const char *method, size_t in_n, size_t expected, struct gw__error *error)
{
	return gw__error_set(error, -EPROTO, "%s: a payload of %zu bytes gives more than the %zu bytes of its pages", method, in_n,
		expected);
}

int gw__decompress_finished(const char *method, size_t in_n, struct gw__error *error)
{
	return gw__error_set(error, -EPROTO,
		"%s: the stream ends inside a payload of %zu bytes, expected one that lasts as long as its "
		"channel",
		method, in_n);
}

/* --- packing -------------------------------------------------------------------------------------------- */

int gw__compressor_new(uint32_t method, int level, struct gw__compressor **p, struct gw__error *error)
{
	*p = NULL;
	if (method == 0)
		return 0;
	if (method != GW__MULTIFD_ZLIB && method != GW__MULTIFD_ZSTD)
		return refuse_method(method, error);
	const struct gw__compress_method *with = method == GW__MULTIFD_ZLIB ? &gw__compress_zlib : &gw__compress_zstd;
	if (level < 0 || level > with->level_max)
		return gw__error_set(error, -EINVAL, "compression level of %s is %d, expected 0 to %d", with->name, level, with->level_max);
	struct gw__compressor *made = calloc(1, sizeof *made);
	if (made) {
		made->method = with;
		made->state = with->make(level);
	}
	if (!made || !made->state) {
		free(made);
		return gw__error_set(error, -ENOMEM, "no memory to pack with %s", with->name);
	}
	*p = made;
	return 0;
}

void gw__compressor_free(struct gw__compressor *p)
{
	if (p)
		p->method->drop(p->state);
	free(p);
}

size_t gw__compress_bound(const struct gw__compressor *p, size_t n) { return p->method->bound(p->state, n); }

int gw__compress(struct gw__compressor *p, const void *in, size_t n, bool last, struct gw__wr *out, struct gw__error *error)
{
	assert(n <= GW__MULTIFD_PACKET_BYTES);
	if (p->over)
		return gw__error_set(error, -EINVAL, "%s: more pages after a failure", p->method->name);
	if (n == 0 && !last)
		return 0;
	int err = out->full ? gw__compress_no_room(p->method->name, 0, error) : p->method->pack(p->state, in, n, last, out, error);
	p->over = err != 0;
	return err;
}

int gw__compress_no_room(const char *method, size_t room, struct gw__error *error)
{
	return gw__error_set(error, -ENOSPC, "%s: %zu bytes of room are not enough for what the pages are packed to", method, room);
}
