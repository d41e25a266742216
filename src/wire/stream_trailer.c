/* SPDX-License-Identifier: MIT */
/*
 * After the RAM section: the end is found first, then what lies before it is handed out, device by device
 * (docs/spec/stream.md 8 and 9).
 */
#include <errno.h>

#include "wire/stream_private.h"

int gw__stream_too_much(const struct gw__stream *s, struct gw__error *error)
{
	return gw__error_set(error, -E2BIG, "more than %zu bytes of device state; raise the limit if this guest really has so much",
		s->opts.tail_max_bytes);
}

int gw__stream_step_tail(struct gw__stream *s, struct gw__stream_in *in)
{
	int r = gw__trailer_look(&s->tail, in->c.p, gw__rd_left(&in->c), in->last, s->early, s->early_n, &s->end, in->error);
	if (r)
		return r;
	s->desc = s->end.desc;
	s->tail_left = s->end.end;
	s->state = GW__STREAM_TAIL_ITEM;
	return s->end.end > s->opts.tail_max_bytes - s->early_bytes ? gw__stream_too_much(s, in->error) : 0;
}

/* Splits in the very bytes in which the end was found, so that it finds the same. */
static int take_device(struct gw__stream *s, struct gw__stream_in *in, size_t n)
{
	struct gw__event *ev = in->ev;
	const uint8_t *p = in->c.p;
	size_t body_at, body_len;
	bool searched;
	int r = gw__trailer_split(s->desc, s->devices_n, p, n, true, &ev->section, &body_at, &body_len, &searched, in->error);
	if (r)
		return r;
	if (searched)
		ev->anomaly = "the sizes in the VM description do not lead to the device's footer, which was searched";
	ev->kind = GW__EVENT_DEVICE;
	ev->body = (struct gw__view){p + body_at, body_len};
	s->devices_n++;
	gw__rd_take(&in->c, body_at + body_len);
	return gw__footer_decode(&in->c, ev->section.id, in->error);
}

int gw__stream_step_tail_item(struct gw__stream *s, struct gw__stream_in *in)
{
	struct gw__event *ev = in->ev;
	const uint8_t *p = in->c.p;
	size_t at = s->end.end - s->tail_left;
	if (gw__rd_left(&in->c) < s->tail_left)
		return GW__SHORT;
	if (at < s->end.eof_at) {
		int r = *p == GW__ITEM_COMMAND ? gw__stream_step_command(s, in) : take_device(s, in, s->end.text_at - at);
		s->tail_left -= gw__rd_used(&in->c);
		return r;
	}
	if (at == s->end.eof_at) {
		ev->kind = GW__EVENT_EOF;
		gw__rd_take(&in->c, 1);
		s->tail_left--;
		return 0;
	}
	if (s->tail_left) {
		uint64_t page_bytes = gw__vmdesc_page_bytes(s->desc);
		if (page_bytes && page_bytes != s->page_bytes && !s->page_stated)
			return gw__error_set(in->error, -EPROTO,
				"the VM description names pages of %llu bytes, but the stream was read with %llu, which it does not state; give "
				"the right size with --page-size",
				(unsigned long long)page_bytes, (unsigned long long)s->page_bytes);
		if (page_bytes && page_bytes != s->page_bytes)
			ev->anomaly = "the VM description names another page size than the one in force";
		ev->kind = GW__EVENT_DESC;
		ev->body = (struct gw__view){p + (s->end.text_at - at), s->end.text_len};
		gw__rd_take(&in->c, s->tail_left);
		s->tail_left = 0;
		return 0;
	}
	ev->kind = GW__EVENT_END;
	s->state = GW__STREAM_DONE;
	return 0;
}
