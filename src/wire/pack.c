/* SPDX-License-Identifier: MIT */
/*
 * What is the same for every method of pack.h: which one, sizes, and that nothing follows an error. The
 * methods themselves are pack_zlib.c and pack_zstd.c.
 */
#include "wire/pack_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "wire/multifd.h"

struct gw__unpacker {
	const struct gw__unpack_method *method;
	void *state;
	bool over; /* an error came: what the state would give now is not the sender's */
};

struct gw__packer {
	const struct gw__pack_method *method;
	void *state;
	bool over;
};

static int refuse_method(uint32_t method, struct gw__why *why)
{
	return gw__why_set(why, -EOPNOTSUPP, "multifd compression method %02x is not supported, expected 02 (zlib) or 04 (zstd)", method);
}

/* --- unpacking ------------------------------------------------------------------------------------------ */

int gw__unpacker_new(uint32_t method, struct gw__unpacker **u, struct gw__why *why)
{
	*u = NULL;
	if (method == 0)
		return 0;
	if (method != GW__MULTIFD_ZLIB && method != GW__MULTIFD_ZSTD)
		return refuse_method(method, why);
	struct gw__unpacker *made = calloc(1, sizeof *made);
	if (made) {
		made->method = method == GW__MULTIFD_ZLIB ? &gw__unpack_zlib : &gw__unpack_zstd;
		made->state = made->method->make();
	}
	if (!made || !made->state) {
		free(made);
		return gw__why_set(why, -ENOMEM, "no memory to unpack %s", method == GW__MULTIFD_ZLIB ? "zlib" : "zstd");
	}
	*u = made;
	return 0;
}

void gw__unpacker_free(struct gw__unpacker *u)
{
	if (u)
		u->method->drop(u->state);
	free(u);
}

static int check_sizes(const struct gw__unpacker *u, size_t in_n, size_t out_n, struct gw__why *why)
{
	const char *name = u->method->name;
	if (in_n > GW__MULTIFD_PAYLOAD_MAX)
		return gw__why_set(why, -EPROTO, "%s: a payload of %zu bytes, expected at most %d", name, in_n, GW__MULTIFD_PAYLOAD_MAX);
	if (out_n == 0)
		return gw__why_set(why, -EPROTO, "%s: a payload of %zu bytes for no pages, expected 0", name, in_n);
	if (in_n == 0)
		return gw__why_set(why, -EPROTO, "%s: an empty payload for %zu bytes of pages", name, out_n);
	return 0;
}

int gw__unpack(struct gw__unpacker *u, const void *in, size_t in_n, void *out, size_t out_n, struct gw__why *why)
{
	assert(out_n <= GW__MULTIFD_PACKET_BYTES);
	if (u->over)
		return gw__why_set(why, -EPROTO, "%s: a payload of %zu bytes after one that was refused", u->method->name, in_n);
	if (in_n == 0 && out_n == 0)
		return 0;
	int err = check_sizes(u, in_n, out_n, why);
	if (!err)
		err = u->method->unpack(u->state, in, in_n, out, out_n, why);
	u->over = err != 0;
	return err;
}

int gw__unpack_too_little(const char *method, size_t in_n, size_t got, size_t expected, struct gw__why *why)
{
	return gw__why_set(why, -EPROTO, "%s: a payload of %zu bytes gives %zu bytes, expected the %zu of its pages", method, in_n, got,
		expected);
}

int gw__unpack_too_much(const char *method, size_t in_n, size_t expected, struct gw__why *why)
{
	return gw__why_set(why, -EPROTO, "%s: a payload of %zu bytes gives more than the %zu bytes of its pages", method, in_n, expected);
}

int gw__unpack_finished(const char *method, size_t in_n, struct gw__why *why)
{
	return gw__why_set(why, -EPROTO,
		"%s: the stream ends inside a payload of %zu bytes, expected one that lasts as long as its "
		"channel",
		method, in_n);
}

/* --- packing -------------------------------------------------------------------------------------------- */

int gw__packer_new(uint32_t method, int level, struct gw__packer **p, struct gw__why *why)
{
	*p = NULL;
	if (method == 0)
		return 0;
	if (method != GW__MULTIFD_ZLIB && method != GW__MULTIFD_ZSTD)
		return refuse_method(method, why);
	const struct gw__pack_method *with = method == GW__MULTIFD_ZLIB ? &gw__pack_zlib : &gw__pack_zstd;
	if (level < 0 || level > with->level_max)
		return gw__why_set(why, -EINVAL, "compression level of %s is %d, expected 0 to %d", with->name, level, with->level_max);
	struct gw__packer *made = calloc(1, sizeof *made);
	if (made) {
		made->method = with;
		made->state = with->make(level);
	}
	if (!made || !made->state) {
		free(made);
		return gw__why_set(why, -ENOMEM, "no memory to pack with %s", with->name);
	}
	*p = made;
	return 0;
}

void gw__packer_free(struct gw__packer *p)
{
	if (p)
		p->method->drop(p->state);
	free(p);
}

size_t gw__pack_bound(const struct gw__packer *p, size_t n) { return p->method->bound(p->state, n); }

int gw__pack(struct gw__packer *p, const void *in, size_t n, bool last, struct gw__wr *out, struct gw__why *why)
{
	assert(n <= GW__MULTIFD_PACKET_BYTES);
	if (p->over)
		return gw__why_set(why, -EINVAL, "%s: more pages after a failure", p->method->name);
	if (n == 0 && !last)
		return 0;
	int err = out->full ? gw__pack_no_room(p->method->name, 0, why) : p->method->pack(p->state, in, n, last, out, why);
	p->over = err != 0;
	return err;
}

int gw__pack_no_room(const char *method, size_t room, struct gw__why *why)
{
	return gw__why_set(why, -ENOSPC, "%s: %zu bytes of room are not enough for what the pages are packed to", method, room);
}
