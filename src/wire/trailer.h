/* SPDX-License-Identifier: MIT */
/*
 * Finding the ends of things that carry no length: a device section (docs/spec/stream.md 8.2) and, on a socket that
 * stays open, the stream itself (stream.md 9). Pure; looks at bytes the caller keeps contiguous.
 */
#ifndef GW_WIRE_TRAILER_H
#define GW_WIRE_TRAILER_H

#include "base/bytes.h"
#include "base/error.h"
#include "wire/framing.h"
#include "wire/vmdesc.h"

/* Whether a section id is open, for "02/03 with the id of an open section". */
typedef bool gw__section_open_fn(void *ctx, uint32_t id);

/*
 * Length of a body that ends with `id`'s footer, by looking for the footer and a plausible item after it.
 * `*from` remembers how far a search got (start with 0). `last`: no more bytes will come. 0 and *len, GW__SHORT,
 * or -EPROTO when `last` and there is no such place.
 */
int gw__body_find_end(const uint8_t *body, size_t n, bool last, uint32_t id, gw__section_open_fn *is_open, void *ctx, size_t *from,
	size_t *len);

enum {
	GW__TRAILER_CANDIDATES = 16,
	GW__TRAILER_TRIES = 256, /* descriptions compared with all devices before them; a guest has one */
};

/* Where a description may begin. */
struct gw__trailer_candidate {
	size_t eof_at; /* of the byte 00 before it */
	uint32_t text_len;
};

/* A watch over the bytes after the RAM section: zero it, then show it all bytes so far, again and again. */
struct gw__trailer {
	size_t seen; /* bytes searched */
	unsigned n;
	unsigned passed_tries, last_tries; /* those that end before the last byte, which a guest can write, and those at it */
	struct gw__trailer_candidate candidate[GW__TRAILER_CANDIDATES]; /* the latest, in order */
	bool whole;                                                     /* one lay wholly in the bytes, fitting or not */
	bool fits;
	struct gw__trailer_candidate fit; /* of all that fit and were passed by, the one that ends first */
	bool not_zero;                    /* what follows it */
	struct gw__error miss;            /* why the first that was tried does not fit */
};

/*
 * The description at the end of a file, of which these are the last bytes: its text holds no byte 00, so there is one place where it can
 * begin. 0 with *text_at and *text_len, or -ENOENT.
 */
int gw__trailer_find_description(const uint8_t *bytes, size_t n, size_t *text_at, size_t *text_len);

/* What the tail turned out to be. */
struct gw__trailer_end {
	size_t eof_at;            /* offset of the byte 00; sections lie before it */
	size_t text_at, text_len; /* of the description; text_len 0: none */
	size_t end;               /* first byte after the stream */
	struct gw__vmdesc *desc;  /* given to the caller, NULL without description */
};

/*
 * Is the stream complete at exactly n bytes (`last` false), or somewhere at or before n (`last` true)? 0 with `*end`,
 * GW__SHORT, or -EPROTO (only when `last`), or -ENOMEM. An end at exactly n is preferred; without `last` one before n counts
 * only when so much follows it, or so many zeros, as in no device that a guest could write an end into: after an image on a block device
 * stands anything. `early` are the devices that came before these bytes: the first ones of the description.
 */
int gw__trailer_look(struct gw__trailer *t, const uint8_t *tail, size_t n, bool last, const struct gw__section *early, size_t early_n,
	struct gw__trailer_end *end, struct gw__error *error);

/*
 * One FULL section at the start of `bytes`: its header and how long its body is, by the description (device `i`) where
 * there is one, else by its footer. `*searched` (may be NULL): a description was there, but its sizes do not lead to the
 * footer. 0, GW__SHORT, or -EPROTO. `last` as in gw__body_find_end.
 */
int gw__trailer_split(const struct gw__vmdesc *desc, size_t i, const uint8_t *bytes, size_t n, bool last, struct gw__section *section,
	size_t *body_at, size_t *body_len, bool *searched, struct gw__error *error);

/*
 * Could the stream be over here although no description came (a source that suppresses it)? Only footers and the
 * final 00 speak for it, so a caller asks after a silence.
 */
bool gw__trailer_could_end(const uint8_t *tail, size_t n);

/*
 * Are these devices and after them, at the very end, a PING, on whose answer a source may wait before it ends the stream? By footers alone, so that a
 * guest can make it look so.
 */
enum { GW__PING_BYTES = 9 };
bool gw__trailer_asks(const uint8_t *tail, size_t n, uint32_t *ping_token);

#endif
