/* SPDX-License-Identifier: MIT */
/* A multifd channel. Input: page size, then hello and packets with their payloads, as on the wire. */
#include "fuzz.h"

#include <errno.h>

#include "base/math.h"
#include "wire/multifd.h"

static void check_packet(const struct gw__multifd_packet *p, uint64_t page_bytes)
{
	HOLDS(p->pages_alloc <= gw__multifd_pages(page_bytes));
	HOLDS(p->normal <= p->pages_alloc && p->zero <= p->pages_alloc - p->normal);
	HOLDS(p->payload_bytes <= GW__MULTIFD_PAYLOAD_MAX);
	HOLDS((p->payload_bytes != 0) == (p->normal != 0));
	HOLDS(gw__multifd_method_name(p->flags));
	HOLDS(!(p->flags & GW__MULTIFD_DEVICE_STATE));
	HOLDS(memchr(p->block, 0, sizeof p->block));
	HOLDS(p->normal + p->zero == 0 || gw__name_ok(p->block, strlen(p->block)));
	for (uint32_t i = 0; i < p->normal + p->zero; i++)
		HOLDS(gw__is_aligned(p->off[i], page_bytes));
}

/* Padding and what an old source leaves behind are not kept, so the packets are compared, not the bytes. */
static void check_written(const struct gw__multifd_packet *p, uint64_t page_bytes)
{
	static uint8_t bytes[GW__MULTIFD_RAM_HEAD_BYTES + 8 * GW__MULTIFD_PAGES_MAX];
	static struct gw__multifd_packet again;
	struct gw__wr w = gw__wr_over(bytes, sizeof bytes);
	gw__multifd_packet_encode(&w, page_bytes, p);
	HOLDS(!w.full && gw__wr_used(&w) == gw__multifd_head_bytes(page_bytes));
	struct gw__rd c = gw__rd_over(bytes, gw__wr_used(&w));
	HOLDS(gw__multifd_packet_decode(&c, page_bytes, &again, NULL) == 0 && gw__rd_left(&c) == 0);
	HOLDS(again.flags == p->flags && again.pages_alloc == p->pages_alloc && again.normal == p->normal);
	HOLDS(again.zero == p->zero && again.payload_bytes == p->payload_bytes && again.number == p->number);
	HOLDS(!strcmp(again.block, p->block));
	HOLDS(!memcmp(again.off, p->off, (p->normal + p->zero) * sizeof p->off[0]));
}

static void read_packets(struct gw__rd *c, uint64_t page_bytes)
{
	static struct gw__multifd_packet p;
	for (;;) {
		struct gw__error error = {0};
		const uint8_t *from = c->p;
		int r = gw__multifd_packet_decode(c, page_bytes, &p, &error);
		fuzz_result_is_sound(r, &error);
		HOLDS(r >= 0 || r == -EPROTO || r == -EOPNOTSUPP);
		if (r)
			return;
		HOLDS((size_t)(c->p - from) == gw__multifd_head_bytes(page_bytes));
		check_packet(&p, page_bytes);
		check_written(&p, page_bytes);
		if (!gw__rd_take(c, p.payload_bytes))
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < 1)
		return 0;
	/* 512 KiB to 256 bytes. Large ones have short headers. */
	const uint64_t page_bytes = UINT64_C(524288) >> (data[0] % 12);
	struct gw__rd c = gw__rd_over(data + 1, n - 1);
	struct gw__multifd_hello h;
	struct gw__error error = {0};
	int r = gw__multifd_hello_decode(&c, &h, &error);
	fuzz_result_is_sound(r, &error);
	if (r)
		return 0;
	uint8_t hello[GW__MULTIFD_HELLO_BYTES];
	struct gw__wr w = gw__wr_over(hello, sizeof hello);
	gw__multifd_hello_encode(&w, &h);
	HOLDS(!w.full && gw__rd_used(&c) == sizeof hello);
	HOLDS(!memcmp(hello, data + 1, 25)); /* the rest is reserved */
	read_packets(&c, page_bytes);
	return 0;
}
