/* SPDX-License-Identifier: MIT */
/*
 * The return path on generated messages: decoding undoes encoding, a byte at a time gives the same messages,
 * and what is accepted among any bytes is written again as the same bytes.
 */
#include "laws.h"

#include <errno.h>

#include "wire/return_path.h"

enum { MESSAGES_MAX = 20 };

static void make_name(struct law *l, char *name)
{
	size_t n = 1 + law_below(l, law_below(l, 4) ? 20 : GW__NAME_MAX);
	for (size_t i = 0; i < n; i++)
		do
			name[i] = (char)(0x20 + law_below(l, 0xe0));
		while (name[i] == 0x7f);
	name[n] = 0;
}

static struct gw__rp_msg make_message(struct law *l)
{
	struct gw__rp_msg m = {.type = (uint16_t)(1 + law_below(l, 7))};
	if (m.type == GW__RP_SHUT || m.type == GW__RP_PONG || m.type == GW__RP_RESUME_ACK)
		m.value = (uint32_t)law_u64(l);
	if (m.type == GW__RP_REQ_PAGES_ID || m.type == GW__RP_RECV_BITMAP)
		make_name(l, m.block);
	if (m.type == GW__RP_REQ_PAGES_ID || m.type == GW__RP_REQ_PAGES) {
		m.start_off = law_u64(l);
		m.length_bytes = (uint32_t)law_u64(l);
	}
	return m;
}

static bool same(const struct gw__rp_msg *a, const struct gw__rp_msg *b)
{
	return a->type == b->type && a->value == b->value && a->start_off == b->start_off && a->length_bytes == b->length_bytes &&
	       strcmp(a->block, b->block) == 0;
}

static void a_byte_at_a_time_gives_the_same_messages(struct law *l)
{
	struct gw__rp_msg sent[MESSAGES_MAX], got;
	size_t n = 1 + law_below(l, MESSAGES_MAX), next = 0, from = 0;
	uint8_t bytes[MESSAGES_MAX * GW__RP_MAX_BYTES];
	struct gw__wr w = gw__wr_over(bytes, sizeof bytes);
	for (size_t i = 0; i < n; i++) {
		sent[i] = make_message(l);
		gw__rp_encode(&w, &sent[i]);
	}
	LAW(l, !w.full);

	for (size_t have = 1; have <= gw__wr_used(&w); have++) {
		struct gw__rd c = gw__rd_over(bytes + from, have - from);
		int r = gw__rp_decode(&c, &got, NULL);
		if (r == GW__SHORT)
			continue;
		LAW(l, r == 0);
		LAW(l, next < n && same(&got, &sent[next]));
		LAW(l, gw__rd_left(&c) == 0); /* accepted with its last byte, not later */
		from = have;
		next++;
	}
	LAW(l, next == n && from == gw__wr_used(&w));
}

static void what_is_accepted_is_written_as_the_same_bytes(struct law *l)
{
	uint8_t bytes[GW__RP_MAX_BYTES], again[GW__RP_MAX_BYTES];
	struct gw__wr w = gw__wr_over(bytes, sizeof bytes);
	struct gw__rp_msg m = make_message(l);
	gw__rp_encode(&w, &m);
	size_t n = gw__wr_used(&w);
	for (uint64_t hits = 1 + law_below(l, 3); hits > 0; hits--)
		bytes[law_below(l, law_below(l, 2) ? n : 4)] = (uint8_t)law_below(l, law_below(l, 2) ? 256 : 20);

	struct gw__rd c = gw__rd_over(bytes, n);
	struct gw__error error = {0};
	int r = gw__rp_decode(&c, &m, &error);
	LAW(l, r == 0 || r == GW__SHORT || r == -EPROTO);
	LAW(l, (r == -EPROTO) == (error.code != 0));
	if (r)
		return;
	w = gw__wr_over(again, sizeof again);
	gw__rp_encode(&w, &m);
	LAW(l, gw__wr_used(&w) == gw__rd_used(&c));
	LAW(l, memcmp(bytes, again, gw__rd_used(&c)) == 0);
}

int main(void)
{
	law_run("a byte at a time gives the same messages", 3000, a_byte_at_a_time_gives_the_same_messages);
	law_run("what is accepted is written as the same bytes", 50000, what_is_accepted_is_written_as_the_same_bytes);
	return 0;
}
