/* SPDX-License-Identifier: MIT */
/* Connecting to a destination; see connect.h. */
#include "engine/outgoing/connect.h"

#include <errno.h>
#include <string.h>

void gw__outgoing_close(struct gw__outgoing *out)
{
	gw__chan_close(&out->main, NULL);
	for (uint32_t i = 0; i < out->multifd_n; i++)
		gw__chan_close(&out->multifd[i], NULL);
	out->multifd_n = 0;
}

static int open_one(struct gw__run *run, const struct gw__uri *uri, const struct gw__outgoing_opts *o, bool clean_end,
	struct gw__chan **chan)
{
	int r = gw__io_open_out(uri, &o->io, chan, &run->error);
	if (r || !o->tls)
		return r;
	r = gw__chan_start_tls(chan, o->tls, uri->kind == GW__URI_TCP ? uri->target : NULL, clean_end, &run->error);
	if (r)
		gw__chan_close(chan, NULL);
	return r;
}

static int say_hello(struct gw__run *run, const struct gw__outgoing_opts *o, uint32_t id, struct gw__chan *chan)
{
	uint8_t bytes[GW__MULTIFD_HELLO_BYTES];
	struct gw__multifd_hello hello = {.id = (uint8_t)id};
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	memcpy(hello.uuid, o->uuid, sizeof hello.uuid);
	gw__multifd_hello_encode(&c, &hello);
	return gw__chan_write_all(chan, bytes, gw__wr_used(&c), &run->error);
}

/* Whether a destination that waits for channels that never come, or gets some it does not know, ends or stands still is chance. */
int gw__outgoing_hint_settings(struct gw__error *error, uint32_t channels)
{
	switch (error->code) {
	case -ETIMEDOUT:
		if (!channels)
			return gw__error_hint(error,
				"does the destination have multifd on? Give --channels=N as its multifd-channels, or switch it off there");
		break;
	case -EPIPE:
	case -ECONNRESET:
	case -ECONNREFUSED:
	case -ENOENT:
		break;
	default:
		return error->code;
	}
	if (!channels)
		return error->code;
	return gw__error_hint(error,
		"has the destination multifd on, with %u channels? --channels, --compress and --uuid must be as its own settings",
		channels);
}

static int open_multifd(struct gw__run *run, const struct gw__uri *uri, const struct gw__outgoing_opts *o, struct gw__outgoing *out)
{
	for (uint32_t id = 0; id < o->channels; id++) {
		int r = open_one(run, uri, o, true, &out->multifd[id]);
		if (!r) {
			out->multifd_n = id + 1;
			r = say_hello(run, o, id, out->multifd[id]);
		}
		if (r) {
			gw__error_where(&run->error, "multifd channel %u of %u", id, o->channels);
			return gw__outgoing_hint_settings(&run->error, o->channels);
		}
	}
	return 0;
}

int gw__outgoing_connect(struct gw__run *run, const struct gw__uri *uri, const struct gw__outgoing_opts *o, struct gw__outgoing *out)
{
	memset(out, 0, sizeof *out);
	int r = open_one(run, uri, o, false, &out->main);
	if (!r)
		r = open_multifd(run, uri, o, out);
	if (r)
		gw__outgoing_close(out);
	return r;
}

int gw__outgoing_connect_preempt(struct gw__run *run, const struct gw__uri *uri, const struct gw__outgoing_opts *o, struct gw__chan **chan)
{
	int r = open_one(run, uri, o, false, chan);
	return r ? gw__error_where(&run->error, "preempt channel") : 0;
}
