/* SPDX-License-Identifier: MIT */
/* A decoder's buffer over a channel; see stream_buf.h. */
#include "engine/core/stream_buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Large enough for few system calls, small enough to stay in the second-level cache between socket and file. */
enum { FIRST_ROOM = 512 << 10, MIN_READ = 4096 };

int gw__stream_buf_init(struct gw__stream_buf *f, struct gw__chan *chan, size_t max_bytes, struct gw__error *error)
{
	*f = (struct gw__stream_buf){.chan = chan, .room = FIRST_ROOM, .max_bytes = max_bytes > FIRST_ROOM ? max_bytes : FIRST_ROOM};
	f->bytes = malloc(f->room);
	return f->bytes ? 0 : gw__error_set(error, -ENOMEM, "no memory for a buffer of %zu bytes", f->room);
}

void gw__stream_buf_fini(struct gw__stream_buf *f)
{
	free(f->bytes);
	f->bytes = NULL;
	f->at = f->end = f->room = 0;
}

void gw__stream_buf_prime(struct gw__stream_buf *f, const void *bytes, size_t n)
{
	memcpy(f->bytes, bytes, n);
	f->end = n;
}

static int make_room(struct gw__stream_buf *f, struct gw__error *error)
{
	if (f->at) {
		memmove(f->bytes, f->bytes + f->at, f->end - f->at);
		f->end -= f->at;
		f->at = 0;
	}
	if (f->room - f->end >= MIN_READ)
		return 0;
	if (f->room >= f->max_bytes)
		return gw__error_set(error, -E2BIG, "%s: one piece of the stream is larger than the limit of %zu bytes", f->chan->name,
			f->max_bytes);
	size_t room = f->room * 2 < f->max_bytes ? f->room * 2 : f->max_bytes;
	uint8_t *bytes = realloc(f->bytes, room);
	if (!bytes)
		return gw__error_set(error, -ENOMEM, "no memory for a buffer of %zu bytes", room);
	f->bytes = bytes;
	f->room = room;
	return 0;
}

void gw__stream_buf_trim(struct gw__stream_buf *f)
{
	size_t n = f->end - f->at;
	if (f->room == FIRST_ROOM || n > FIRST_ROOM / 2)
		return;
	memmove(f->bytes, f->bytes + f->at, n);
	f->at = 0;
	f->end = n;
	uint8_t *bytes = realloc(f->bytes, FIRST_ROOM);
	if (!bytes)
		return;
	f->bytes = bytes;
	f->room = FIRST_ROOM;
}

int gw__stream_buf_fill(struct gw__stream_buf *f, struct gw__error *error)
{
	int r = make_room(f, error);
	if (r)
		return r;
	ssize_t n = gw__chan_read(f->chan, f->bytes + f->end, f->room - f->end, error);
	if (n < 0)
		return (int)n;
	f->end += (size_t)n;
	f->ended = n == 0;
	return 0;
}
