/* SPDX-License-Identifier: MIT */
/*
 * Multifd headers on generated packets: decoding undoes encoding, a byte at a time gives the same packets,
 * what is accepted among damaged bytes says the same when it is written again, and an error does not depend
 * on how much of what follows is there.
 */
#include "laws.h"

#include <errno.h>

#include "wire/multifd.h"

enum { PACKETS_MAX = 6, HEAD_MAX = GW__MULTIFD_RAM_HEAD_BYTES + 8 * GW__MULTIFD_PAGES_MAX };

static uint64_t make_page_bytes(struct law *l) { return law_below(l, 2) ? 4096 : UINT64_C(256) << law_below(l, 12); }

static void make_name(struct law *l, char name[256])
{
	size_t n = 1 + law_below(l, law_below(l, 4) ? 20 : GW__NAME_MAX);
	memset(name, 0, 256);
	for (size_t i = 0; i < n; i++)
		do
			name[i] = (char)(0x20 + law_below(l, 0xe0));
		while (name[i] == 0x7f);
}

static void make_packet(struct law *l, uint64_t page_bytes, struct gw__multifd_packet *p)
{
	static const uint32_t methods[] = {0, GW__MULTIFD_ZLIB, GW__MULTIFD_ZSTD};
	memset(p, 0, sizeof *p);
	p->number = law_u64(l);
	p->flags = methods[law_below(l, 3)] | (law_below(l, 4) ? 0 : GW__MULTIFD_SYNC);
	p->pages_alloc = (uint32_t)law_below(l, gw__multifd_pages(page_bytes) + 1);
	if (p->pages_alloc == 0 || law_below(l, 5) == 0)
		return;
	p->normal = (uint32_t)law_below(l, p->pages_alloc + 1);
	p->zero = (uint32_t)law_below(l, p->pages_alloc - p->normal + 1);
	if (p->normal + p->zero)
		make_name(l, p->block);
	for (uint32_t i = 0; i < p->normal + p->zero; i++)
		p->off[i] = law_u64(l) & ~(page_bytes - 1);
	if (p->normal)
		p->payload_bytes = p->flags & GW__MULTIFD_METHOD_MASK ? 1 + (uint32_t)law_below(l, GW__MULTIFD_PAYLOAD_MAX)
								      : (uint32_t)(p->normal * page_bytes);
}

static bool same(const struct gw__multifd_packet *a, const struct gw__multifd_packet *b)
{
	return a->flags == b->flags && a->pages_alloc == b->pages_alloc && a->normal == b->normal && a->zero == b->zero &&
	       a->payload_bytes == b->payload_bytes && a->number == b->number && !strcmp(a->block, b->block) &&
	       !memcmp(a->off, b->off, (a->normal + a->zero) * sizeof a->off[0]);
}

static size_t encode(struct law *l, uint64_t page_bytes, const struct gw__multifd_packet *p, uint8_t *bytes)
{
	struct gw__wr w = gw__wr_over(bytes, HEAD_MAX);
	gw__multifd_packet_encode(&w, page_bytes, p);
	LAW(l, !w.full && gw__wr_used(&w) == gw__multifd_head_bytes(page_bytes));
	return gw__wr_used(&w);
}

/* From memory that ends where the bytes do. */
static int decode(const uint8_t *bytes, size_t n, uint64_t page_bytes, struct gw__multifd_packet *p, struct gw__error *error)
{
	uint8_t *copy = malloc(n ? n : 1);
	if (!copy)
		abort();
	memcpy(copy, bytes, n);
	struct gw__rd c = gw__rd_over(copy, n);
	int r = gw__multifd_packet_decode(&c, page_bytes, p, error);
	if (r == 0 && gw__rd_used(&c) != gw__multifd_head_bytes(page_bytes))
		abort();
	free(copy);
	return r;
}

static void a_byte_at_a_time_gives_the_same_packets(struct law *l)
{
	static struct gw__multifd_packet sent[PACKETS_MAX], got;
	static uint8_t bytes[PACKETS_MAX * HEAD_MAX];
	uint64_t page_bytes = make_page_bytes(l);
	size_t packets = 1 + law_below(l, PACKETS_MAX), n = 0, from = 0, next = 0;
	for (size_t i = 0; i < packets; i++) {
		make_packet(l, page_bytes, &sent[i]);
		n += encode(l, page_bytes, &sent[i], bytes + n);
	}
	for (size_t have = 1; have <= n; have++) {
		struct gw__rd c = gw__rd_over(bytes + from, have - from);
		int r = gw__multifd_packet_decode(&c, page_bytes, &got, NULL);
		if (r == GW__SHORT)
			continue;
		LAW(l, r == 0);
		LAW(l, next < packets && same(&got, &sent[next]));
		LAW(l, gw__rd_left(&c) == 0); /* accepted with its last byte, not later */
		from = have;
		next++;
	}
	LAW(l, next == packets && from == n);
}

/* The head is where things can be wrong; many of its numbers are small. */
static void damage(struct law *l, uint8_t *bytes, size_t n)
{
	for (uint64_t hits = 1 + law_below(l, 3); hits > 0; hits--) {
		size_t at = law_below(l, law_below(l, 3) ? 64 : n);
		bytes[at] = (uint8_t)(law_below(l, 2) ? law_u64(l) : law_below(l, 4));
	}
}

static void what_is_accepted_says_the_same_when_written(struct law *l)
{
	static struct gw__multifd_packet p, again;
	static uint8_t bytes[HEAD_MAX], written[HEAD_MAX];
	uint64_t page_bytes = make_page_bytes(l);
	struct gw__error error = {0};
	make_packet(l, page_bytes, &p);
	size_t n = encode(l, page_bytes, &p, bytes);
	damage(l, bytes, n);
	int r = decode(bytes, n, page_bytes, &p, &error);
	LAW(l, r == 0 || r == -EPROTO || r == -EOPNOTSUPP || r == GW__SHORT);
	LAW(l, error.code == (r < 0 ? r : 0));
	if (r)
		return;
	LAW(l, p.normal + p.zero <= p.pages_alloc && p.pages_alloc <= gw__multifd_pages(page_bytes));
	LAW(l, p.payload_bytes <= GW__MULTIFD_PAYLOAD_MAX && (p.payload_bytes != 0) == (p.normal != 0));
	LAW(l, encode(l, page_bytes, &p, written) == n);
	LAW(l, decode(written, n, page_bytes, &again, &error) == 0 && same(&p, &again));
}

static void an_error_does_not_depend_on_what_follows(struct law *l)
{
	static struct gw__multifd_packet p;
	static uint8_t bytes[HEAD_MAX];
	const uint64_t page_bytes = 4096;
	struct gw__error whole = {0};
	make_packet(l, page_bytes, &p);
	size_t n = encode(l, page_bytes, &p, bytes);
	damage(l, bytes, n);
	int r = decode(bytes, n, page_bytes, &p, &whole);
	for (size_t cut = 0; cut < n; cut += 1 + law_below(l, 40)) {
		struct gw__error error = {0};
		int early = decode(bytes, cut, page_bytes, &p, &error);
		LAW(l, early == GW__SHORT || (early == r && !strcmp(error.text, whole.text)));
	}
}

static void hellos_are_the_same_again(struct law *l)
{
	struct gw__multifd_hello h, got;
	uint8_t bytes[GW__MULTIFD_HELLO_BYTES];
	struct gw__wr w = gw__wr_over(bytes, sizeof bytes);
	law_bytes(l, h.uuid, sizeof h.uuid);
	h.id = (uint8_t)law_u64(l);
	gw__multifd_hello_encode(&w, &h);
	LAW(l, !w.full && gw__wr_used(&w) == sizeof bytes);
	for (size_t have = 0; have <= sizeof bytes; have++) {
		struct gw__rd c = gw__rd_over(bytes, have);
		LAW(l, gw__multifd_hello_decode(&c, &got, NULL) == (have < sizeof bytes ? GW__SHORT : 0));
	}
	LAW(l, got.id == h.id && !memcmp(got.uuid, h.uuid, sizeof h.uuid));
}

int main(void)
{
	law_run("hellos are the same again", 1000, hellos_are_the_same_again);
	law_run("a byte at a time gives the same packets", 100, a_byte_at_a_time_gives_the_same_packets);
	law_run("what is accepted says the same when written", 20000, what_is_accepted_says_the_same_when_written);
	law_run("an error does not depend on what follows", 2000, an_error_does_not_depend_on_what_follows);
	return 0;
}
