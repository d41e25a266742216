/* SPDX-License-Identifier: MIT */
/*
 * Drives the stream decoder over the file: reads what it asks for, follows it over the page regions, and
 * notes where everything stands. The decoder judges the bytes; what needs the file (regions inside it, a save
 * that was interrupted) is judged here. One thread, while the image is being opened.
 */
#include "image/image_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "image/fileio.h"

typedef unsigned long long ull;

enum { FIRST_ROOM = 65536, HOLE_BYTES = 64 };

struct load {
	struct gw__image *image;
	struct gw__stream stream;
	uint8_t *buf; /* the decoder is shown [at, n) of it, and goes on behind what it used up */
	size_t at, n, room;
	uint64_t off; /* in the file, of buf[at] */
	uint32_t devices_room;
	struct gw__why *why;
};

static int grow(struct gw__image_load *l)
{
	const size_t most = (size_t)GW__IMAGE_TAIL_MAX + FIRST_ROOM;
	if (l->room == most)
		return gw__why_set(l->why, -E2BIG, "%s: what stands at offset %llu is longer than %d bytes", l->image->path, (ull)l->off,
			GW__IMAGE_TAIL_MAX);
	size_t room = l->room ? gw__min(l->room * 2, most) : FIRST_ROOM;
	uint8_t *buf = realloc(l->buf, room);
	if (!buf)
		return gw__why_set(l->why, -ENOMEM, "%s: no memory for %zu bytes from offset %llu", l->image->path, room, (ull)l->off);
	l->buf = buf;
	l->room = room;
	return 0;
}

static uint64_t bytes_not_read(const struct gw__image_load *l) { return l->image->file_bytes - (l->off + (l->n - l->at)); }

/* Reads on behind what is there. */
static int fill(struct gw__image_load *l)
{
	if (l->at) {
		memmove(l->buf, l->buf + l->at, l->n - l->at);
		l->n -= l->at;
		l->at = 0;
	}
	int r = l->n == l->room ? grow(l) : 0;
	if (r)
		return r;
	size_t step = gw__min(l->room - l->n, bytes_not_read(l));
	r = gw__file_read(l->image->fd, l->image->path, l->off + l->n, l->buf + l->n, step, l->why);
	if (!r)
		l->n += step;
	return r;
}

/* Does a description that lies wholly in the file begin somewhere in the tail? */
static bool has_description(const struct gw__tail *t, size_t tail_bytes)
{
	if (t->whole)
		return true;
	for (unsigned k = 0; k < t->n; k++)
		if (t->candidate[k].eof_at + 6 + t->candidate[k].text_len <= tail_bytes)
			return true;
	return false;
}

/* Do only zeros stand where the decoder stumbled, as in a hole? */
static bool only_zeros(const struct gw__image_load *l)
{
	size_t at = l->at + (size_t)(l->stream.off - l->off), end = gw__min(l->n, at + HOLE_BYTES);
	bool any = at < end;
	while (at < end)
		if (l->buf[at++])
			return false;
	return any;
}

/*
 * Why a decoder fails: most is damage, also a device that does not match a description that is there. But
 * where the file ends, or goes on as a hole, before it is complete, a save did not get to its end.
 */
static const char *hint(const struct gw__image_load *l, bool file_ended)
{
	const struct gw__stream *s = &l->stream;
	if (!file_ended)
		return only_zeros(l) ? "; only zeros follow: the save was interrupted, or the file was damaged" : "";
	if (s->ram_started && !s->ram_ended)
		return "; RAM has no end: the save was interrupted, or the file was cut";
	if (s->ram_ended && has_description(&s->tail, l->n - l->at))
		return "";
	return "; the save was interrupted, or the file was cut";
}

/* 1: an event. 0: read more. Negative: this is no good image. */
static int ask_decoder(struct gw__image_load *l, struct gw__event *ev, size_t *used)
{
	struct gw__why why = {0};
	int r = gw__stream_next(&l->stream, l->buf + l->at, l->n - l->at, false, used, ev, &why);
	bool ended = r == 0 && *used == 0 && bytes_not_read(l) == 0;
	if (ended)
		r = gw__stream_next(&l->stream, l->buf + l->at, l->n - l->at, true, used, ev, &why);
	if (r < 0)
		return gw__why_set(l->why, r, "%s: %s%s", l->image->path, why.text, hint(l, ended));
	return r;
}

static void step_over(struct gw__image_load *l, size_t used)
{
	l->at += used;
	l->off += used;
}

static void seek_to(struct gw__image_load *l, uint64_t off)
{
	l->at = l->n = 0;
	l->off = off;
}

/* Until the end of the stream. */
static int load_stream(struct gw__image_load *l)
{
	int r = fill(l);
	while (!r) {
		struct gw__event ev = {0};
		size_t used = 0;
		int got = ask_decoder(l, &ev, &used);
		if (got < 0)
			return got;
		if (got) /* before the bytes it points into are stepped over */
			r = gw__image_take(l, &ev, l->off + used);
		step_over(l, used);
		if (!r && ev.kind == GW__EVENT_END)
			break;
		if (!r && ev.kind == GW__EVENT_SEEK)
			seek_to(l, ev.seek_off);
		if (!r && !got && !used)
			r = fill(l);
	}
	return r;
}

int gw__image_load(struct gw__image *image, struct gw__why *why)
{
	struct gw__image_load l = {.image = image, .off = image->base_off, .why = why};
	const struct gw__stream_opts o = {.base_off = image->base_off, .tail_max_bytes = GW__IMAGE_TAIL_MAX};
	gw__stream_init(&l.stream, &o);
	int r = load_stream(&l);
	gw__stream_fini(&l.stream);
	free(l.buf);
	return r ? r : gw__image_load_bitmaps(image, why);
}
