/* SPDX-License-Identifier: MIT */
/*
 * A stream that goes on after its guest: COLO (docs/spec/colo.md 5). The decoder, the multifd channels and what they know live from one checkpoint
 * to the next; nothing is reset between them. Not the messages, nor what a checkpoint means (engine/colo). See stream.h; the main thread's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/incoming/stream_private.h"

int gw__incoming_open(struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink, struct gw__stream_stats *stats,
	struct gw__incoming_stream **stream)
{
	struct gw__incoming_stream *p = calloc(1, sizeof *p);
	if (!p)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a stream decoder");
	*stream = p;
	int r = gw__incoming_begin(p, run, in, sink, stats, NULL);
	if (!r && p->multifd_recv)
		gw__multifd_recv_set_pauses(p->multifd_recv);
	return r;
}

void gw__incoming_stop_channels(struct gw__incoming_stream *p)
{
	if (!p)
		return;
	gw__multifd_recv_stop(p->multifd_recv);
	p->multifd_recv = NULL;
}

void gw__incoming_close_stream(struct gw__incoming_stream **p)
{
	if (*p)
		gw__incoming_end(*p);
	*p = NULL;
}

int gw__incoming_receive_guest(struct gw__incoming_stream *p)
{
	int r = gw__incoming_decode(p);
	gw__incoming_sum_up(p);
	if (!r && !gw__stream_takes_checkpoints(&p->stream))
		r = gw__error_set(&p->run->error, -EOPNOTSUPP,
			"the source made a background snapshot, which no checkpoint can follow; switch that capability off");
	if (r || p->stream.return_path)
		return r;
	return gw__error_set(&p->run->error, -EOPNOTSUPP,
		"the source opened no return path, which a COLO primary does; set its capabilities x-colo and return-path (QEMU 11.1)");
}

int gw__incoming_receive_checkpoint(struct gw__incoming_stream *p)
{
	gw__stream_begin_checkpoint(&p->stream);
	p->done = p->ram_ended = false;
	if (p->multifd_recv)
		gw__multifd_recv_go_on(p->multifd_recv);
	return gw__incoming_decode(p);
}

const struct gw__vmdesc *gw__incoming_description(const struct gw__incoming_stream *p) { return p->stream.desc; }

int gw__incoming_peek(struct gw__incoming_stream *p, size_t n, const uint8_t **bytes)
{
	while (gw__stream_buf_left(&p->buf) < n) {
		int r = gw__incoming_fill(p);
		if (r)
			return r;
		if (p->buf.ended)
			return gw__error_set(&p->run->error, -ECONNRESET, "%s: the connection was closed", p->buf.chan->name);
	}
	*bytes = gw__stream_buf_bytes(&p->buf);
	return 0;
}

void gw__incoming_use(struct gw__incoming_stream *p, size_t n)
{
	gw__stream_buf_use(&p->buf, n);
	p->stream.off += n;
}

int gw__incoming_read(struct gw__incoming_stream *p, void *to, size_t n)
{
	size_t here = gw__stream_buf_left(&p->buf), got = 0;
	here = here < n ? here : n;
	if (here) {
		memcpy(to, gw__stream_buf_bytes(&p->buf), here);
		gw__stream_buf_use(&p->buf, here);
	}
	int r = here < n ? gw__chan_read_full(p->buf.chan, (uint8_t *)to + here, n - here, &got, &p->run->error) : 0;
	p->stream.off += here + got;
	if (r || here + got == n)
		return r;
	return gw__error_set(&p->run->error, -ECONNRESET, "%s: the connection was closed after %zu of %zu bytes", p->buf.chan->name,
		here + got, n);
}

int gw__incoming_wait(struct gw__incoming_stream *p, int ms, int cancel_fd)
{
	if (gw__stream_buf_left(&p->buf) || p->buf.ended)
		return 1;
	int before = p->buf.chan->cancel_fd;
	p->buf.chan->cancel_fd = cancel_fd;
	int r = gw__chan_wait_readable(p->buf.chan, ms, &p->run->error);
	p->buf.chan->cancel_fd = before;
	return r;
}

int gw__incoming_check_turn(struct gw__incoming_stream *p)
{
	size_t early = gw__stream_buf_left(&p->buf);
	if (!early)
		return 0;
	return gw__error_set(&p->run->error, -EPROTO,
		"at stream offset %llu: %zu bytes or more came before the source was answered: %02x ...", (unsigned long long)p->stream.off,
		early, *gw__stream_buf_bytes(&p->buf));
}

int gw__incoming_write(struct gw__incoming_stream *p, const void *bytes, size_t n)
{
	int r = gw__incoming_check_turn(p);
	return r ? r : gw__chan_write_all(p->buf.chan, bytes, n, &p->run->error);
}
