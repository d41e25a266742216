/* SPDX-License-Identifier: MIT */
/* The explainer on the return path (docs/spec/postcopy.md 1.2, 6.3). See dissector.h. */
#include "dissect/dissector_private.h"
#include "wire/postcopy.h"

#include "base/math.h"

typedef unsigned long long ull;

static void on_value(struct gw__dissector *x, const struct gw__rp_msg *m)
{
	struct gw__message *out;
	switch (m->type) {
	case GW__RP_SHUT:
		gw__dissector_observed_event(x, m->value ? GW__OBSERVED_SHUT_ERROR : GW__OBSERVED_SHUT);
		out = gw__dissector_make(x, "SHUT",
			m->value ? "status %u: the destination failed" : "status %u: the destination has everything", m->value);
		gw__dissector_number(out, "status", m->value);
		return;
	case GW__RP_PONG:
		if (m->value == GW__PING_RUNS)
			gw__dissector_observed_event(x, GW__OBSERVED_PONG_RUNS);
		out = gw__dissector_make(x, "PONG", m->value > 9 ? "token 0x%x" : "token %u", m->value);
		gw__dissector_number(out, "token", m->value);
		return;
	case GW__RP_RESUME_ACK:
		gw__dissector_observed_event(x, GW__OBSERVED_RESUMED);
		out = gw__dissector_make(x, "RESUME_ACK", m->value == 1 ? "value %u: the pages are awaited" : "value %u, expected 1",
			m->value);
		gw__dissector_number(out, "value", m->value);
		return;
	default:
		gw__dissector_make(x, gw__rp_name(m->type), "the source may stop the guest");
	}
}

static void on_request(struct gw__dissector *x, const struct gw__rp_msg *m)
{
	if (m->type == GW__RP_REQ_PAGES_ID)
		memcpy(x->asked_block, m->block, sizeof x->asked_block);
	const char *block = *x->asked_block ? x->asked_block : "(no block was named before)";
	struct gw__message *out = gw__dissector_make(x, gw__rp_name(m->type), "%s at 0x%llx of %s", GW__DISSECTOR_SIZE(m->length_bytes),
		(ull)m->start_off, block);
	gw__dissector_text(out, "block", block);
	gw__dissector_number(out, "start", m->start_off);
	gw__dissector_number(out, "length", m->length_bytes);
}

static void begin_bitmap(struct gw__dissector *x, const struct gw__rp_msg *m)
{
	x->bitmap = *m;
	x->bitmap_pages = gw__migration_view_ask_pages(x->o.view, m->block);
	x->bitmap_at = x->bitmap_ones = 0;
	x->bitmap_state = GW__BITMAP_SIZE;
}

/* Bits behind the last page mean nothing; where the number of pages is not known, all of them may. */
static void count_ones(struct gw__dissector *x, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++, x->bitmap_at += 8) {
		unsigned byte = bytes[i];
		if (x->bitmap_pages && x->bitmap_at + 8 > x->bitmap_pages)
			byte &= x->bitmap_at < x->bitmap_pages ? (1u << (x->bitmap_pages - x->bitmap_at)) - 1 : 0;
		x->bitmap_ones += (unsigned)__builtin_popcount(byte);
	}
}

static int take_size(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	if (n < GW__RECV_BITMAP_HEAD_BYTES)
		return 0;
	x->bitmap_left = gw__be_get(bytes, 8);
	int r = x->bitmap_pages ? gw__recv_bitmap_check_size(x->bitmap_left, x->bitmap.block, x->bitmap_pages, &x->error) : 0;
	*used = GW__RECV_BITMAP_HEAD_BYTES;
	x->bitmap_state = x->bitmap_left ? GW__BITMAP_BITS : GW__BITMAP_MARK;
	return r ? r : 1;
}

static int take_bits(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	*used = gw__min(n, x->bitmap_left);
	count_ones(x, bytes, *used);
	x->bitmap_left -= *used;
	if (!x->bitmap_left)
		x->bitmap_state = GW__BITMAP_MARK;
	return *used > 0;
}

static int take_mark(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	if (n < GW__RECV_BITMAP_END_BYTES)
		return 0;
	int r = gw__recv_bitmap_check_end(gw__be_get(bytes, 8), x->bitmap.block, &x->error);
	if (r)
		return r;
	struct gw__message *m = gw__dissector_make(x, "RECV_BITMAP", "%llu ", (ull)x->bitmap_ones);
	if (x->bitmap_pages)
		gw__dissector_more(m, "of %llu ", (ull)x->bitmap_pages);
	gw__dissector_more(m, "pages of %s are there", x->bitmap.block);
	gw__dissector_text(m, "block", x->bitmap.block);
	gw__dissector_number(m, "received", x->bitmap_ones);
	if (x->bitmap_pages)
		gw__dissector_number(m, "pages", x->bitmap_pages);
	*used = GW__RECV_BITMAP_END_BYTES;
	x->bitmap_state = GW__BITMAP_NONE;
	gw__dissector_emit(x, x->off + *used);
	return 1;
}

static int take_message(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__rp_msg m;
	struct gw__rd c = gw__rd_over(bytes, n);
	int r = gw__rp_decode(&c, &m, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	*used = gw__rd_used(&c);
	if (m.type == GW__RP_RECV_BITMAP) { /* said when its bitmap has passed */
		begin_bitmap(x, &m);
		return 1;
	}
	if (m.type == GW__RP_REQ_PAGES || m.type == GW__RP_REQ_PAGES_ID)
		on_request(x, &m);
	else
		on_value(x, &m);
	gw__dissector_emit(x, x->off + *used);
	return 1;
}

int gw__dissector_retpath(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	(void)last;
	switch (x->bitmap_state) {
	case GW__BITMAP_SIZE:
		return take_size(x, bytes, n, used);
	case GW__BITMAP_BITS:
		return take_bits(x, bytes, n, used);
	case GW__BITMAP_MARK:
		return take_mark(x, bytes, n, used);
	default:
		return take_message(x, bytes, n, used);
	}
}
