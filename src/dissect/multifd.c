/* SPDX-License-Identifier: MIT */
/* The explainer on multifd channels: hello and packet heads; payload is passed by (docs/spec/multifd.md 2, 3). See dissector.h. */
#include "dissect/dissector_private.h"

typedef unsigned long long ull;

enum {
	PAGE_BYTES_USUAL = 4096,
	PATIENCE_BYTES = 1 << 20, /* as long as the page size is not known, which the main channel tells at its very start */
};

static int take_hello(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__multifd_hello h;
	struct gw__rd c = gw__rd_over(bytes, n);
	int r = gw__multifd_hello_decode(&c, &h, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	struct gw__message *m = gw__dissector_make(x, "HELLO", "channel %u, guest ", h.id);
	for (unsigned i = 0; i < sizeof h.uuid; i++)
		gw__dissector_more(m, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", h.uuid[i]);
	gw__dissector_number(m, "id", h.id);
	x->said_hello = true;
	*used = gw__rd_used(&c);
	gw__dissector_emit(x, x->off + *used);
	return 1;
}

static void say_packet(struct gw__dissector *x, size_t head_bytes)
{
	const struct gw__multifd_packet *p = &x->packet;
	const char *method = gw__multifd_method_name(p->flags);
	bool sync = p->flags & GW__MULTIFD_SYNC, empty = !p->normal && !p->zero;
	struct gw__message *m = gw__dissector_make(x, sync ? "SYNC" : "PACKET", "number %llu", (ull)p->number);
	if (!empty)
		gw__dissector_more(m, ", %s: %u page%s, %u zero page%s, %u bytes", p->block, p->normal, p->normal == 1 ? "" : "s", p->zero,
			p->zero == 1 ? "" : "s", p->payload_bytes);
	if (p->payload_bytes && p->flags & GW__MULTIFD_METHOD_MASK)
		gw__dissector_more(m, " (%s)", method);
	gw__dissector_number(m, "number", p->number);
	gw__dissector_number(m, "flags", p->flags);
	gw__dissector_number(m, "pages", p->normal);
	gw__dissector_number(m, "zero_pages", p->zero);
	gw__dissector_number(m, "length", p->payload_bytes);
	if (!empty)
		gw__dissector_text(m, "block", p->block);
	if (p->payload_bytes)
		gw__dissector_text(m, "compression", method);
	gw__dissector_emit(x, x->off + head_bytes + p->payload_bytes);
}

static int take_packet(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	uint64_t page_bytes = gw__migration_view_ask_page_bytes(x->o.view);
	struct gw__rd c = gw__rd_over(bytes, n);
	if (!page_bytes && n < PATIENCE_BYTES && !last)
		return 0;
	int r = gw__multifd_packet_decode(&c, page_bytes ? page_bytes : PAGE_BYTES_USUAL, &x->packet, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	*used = gw__rd_used(&c);
	x->stats.packets++;
	x->stats.pages += x->packet.normal;
	x->stats.zero_pages += x->packet.zero;
	x->skip = x->packet.payload_bytes;
	say_packet(x, *used);
	return 1;
}

int gw__dissector_multifd(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	return x->said_hello ? take_packet(x, bytes, n, last, used) : take_hello(x, bytes, n, used);
}
