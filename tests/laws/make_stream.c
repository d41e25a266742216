/* SPDX-License-Identifier: MIT */
/* Made-up streams; see make_stream.h. */
#include "make_stream.h"

enum { BLOCKS_MAX = 4, BODY_MAX = 200 };

struct maker {
	struct law *l;
	struct made *m;
	struct sb *b;
	unsigned what;
	uint64_t page_bytes;
	bool addresses, large;
	uint32_t blocks_n;
	char name[BLOCKS_MAX][32];
	uint64_t used[BLOCKS_MAX];
	bool named; /* a page record named a block */
	uint32_t next_id;
	uint32_t open_id; /* of an iterable that is not RAM; 0: none */
};

static bool chance(struct maker *k, unsigned in) { return law_below(k->l, in) == 0; }

/* Bytes that may look like footers, ends and descriptions, unless calm ones are wanted. */
static size_t make_body(struct maker *k, uint32_t id, uint8_t *body)
{
	static const char *const traps[] = {"7e", "00 06", "00 06 00000002 '{}'", "08 000b", "04 00000001 01 'x'", "'{'"};
	struct sb b = {0};
	size_t n = law_below(k->l, BODY_MAX);
	while (b.n < n) {
		if (k->what & MAKE_CALM || !chance(k, 8))
			sb_u8(&b, (uint8_t)(law_u64(k->l) % 0x7e));
		else if (chance(k, 3))
			sb_footer(&b, id + (uint32_t)law_below(k->l, 2));
		else
			sb_hex(&b, traps[law_below(k->l, 6)]);
	}
	n = n < b.n ? n : b.n;
	if (n)
		memcpy(body, b.p, n);
	sb_fini(&b);
	return n;
}

/* Without a description the search takes the first footer that looks like one: such bodies are always calm.
 */
static void put_searched(struct maker *k, uint32_t id)
{
	unsigned what = k->what;
	uint8_t body[BODY_MAX];
	k->what |= MAKE_CALM;
	sb_bytes(k->b, body, make_body(k, id, body));
	k->what = what;
	sb_footer(k->b, id);
}

static void put_early(struct maker *k)
{
	uint8_t body[BODY_MAX];
	unsigned what = k->what;
	uint32_t id = k->next_id++;
	k->what |= MAKE_CALM;
	size_t n = make_body(k, id, body);
	k->what = what;
	sb_device(k->b, id, "virtio-mem-early", id, 1, body, n);
}

static void put_iterable(struct maker *k)
{
	if (!k->open_id) {
		k->open_id = k->next_id++;
		sb_named(k->b, 0x01, k->open_id, "dirty-bitmap", 0, 1);
		put_searched(k, k->open_id);
		return;
	}
	bool end = chance(k, 2);
	sb_more(k->b, end ? 0x03 : 0x02, k->open_id);
	put_searched(k, k->open_id);
	if (end)
		k->open_id = 0;
}

static void put_head(struct maker *k)
{
	static const char *const machines[] = {"pc-i440fx-10.0", "pc-q35-11.1", "virt-7.2", "m"};
	uint32_t bits = MAKE_PAGE_BITS_MAX;
	sb_head(k->b, machines[law_below(k->l, 4)]);
	if (k->what & MAKE_SMALL || chance(k, 2)) {
		bits = (uint32_t)(10 + law_below(k->l, k->what & MAKE_SMALL ? 1 : 3)); /* fewer would leave no room for the flags */
		sb_page_bits(k->b, bits);
	}
	k->page_bytes = UINT64_C(1) << bits;
	k->addresses = chance(k, 3);
	if (k->what & MAKE_MAPPED)
		sb_caps(k->b, "mapped-ram", k->addresses ? "x-ignore-shared" : NULL);
	else if (k->addresses)
		sb_caps(k->b, "x-ignore-shared", chance(k, 2) ? "xbzrle" : NULL);
	if (chance(k, 3))
		sb_hex(k->b, "05 12 'configuration/uuid' 00000001 00112233445566778899aabbccddeeff");
}

static void put_commands(struct maker *k)
{
	if (chance(k, 2))
		sb_hex(k->b, "08 0001 0000  08 0002 0004 00000001");
	k->large = chance(k, 3);
	if (!k->large && !chance(k, 4))
		return;
	sb_hex(k->b, "08 0003 0010");
	sb_be64(k->b, k->large ? 0x200000 | k->page_bytes : k->page_bytes);
	sb_be64(k->b, k->page_bytes);
}

static void choose_blocks(struct maker *k)
{
	k->blocks_n = (uint32_t)(1 + law_below(k->l, k->what & MAKE_SMALL ? 2 : BLOCKS_MAX));
	for (uint32_t i = 0; i < k->blocks_n; i++) {
		snprintf(k->name[i], sizeof k->name[i], "%u%s", i, chance(k, 2) ? "/rom@etc" : ":m");
		bool large = k->large && !(k->what & MAKE_MAPPED) && chance(k, 2);
		k->used[i] = large ? 0x200000 : k->page_bytes * (1 + law_below(k->l, k->what & MAKE_SMALL ? 2 : 8));
	}
}

static void put_mapped_block(struct maker *k, uint32_t i)
{
	if (k->addresses && chance(k, 3)) {
		sb_mapped_header(k->b, k->page_bytes, 0, 0);
		return;
	}
	uint64_t bitmap = k->b->n + 28, pages = bitmap + 8;
	pages += k->page_bytes - pages % k->page_bytes;
	sb_mapped_header(k->b, k->page_bytes, bitmap, pages);
	sb_pad_to(k->b, pages + k->used[i], 0x5a);
}

static void put_list(struct maker *k)
{
	uint64_t total = 0;
	for (uint32_t i = 0; i < k->blocks_n; i++)
		total += k->used[i];
	sb_be64(k->b, total | 0x004);
	for (uint32_t i = 0; i < k->blocks_n; i++) {
		sb_block(k->b, k->name[i], k->used[i]);
		if (k->used[i] == 0x200000 && !(k->what & MAKE_MAPPED))
			sb_be64(k->b, 0x200000);
		if (k->addresses)
			sb_be64(k->b, i ? UINT64_C(0x100000000) - k->used[i] : 0);
		if (k->what & MAKE_MAPPED)
			put_mapped_block(k, i);
	}
}

static void put_page(struct maker *k)
{
	uint32_t i = (uint32_t)law_below(k->l, k->blocks_n);
	uint64_t off = law_below(k->l, k->used[i] / k->page_bytes) * k->page_bytes;
	const char *name = k->name[i];
	uint8_t delta[16];
	if (k->named && chance(k, 2)) {
		name = NULL; /* whichever it was: an offset that is in every block */
		off = 0;
	}
	k->named = true;
	switch (law_below(k->l, 4)) {
	case 0:
		sb_record(k->b, off | 0x008, name);
		sb_fill(k->b, (uint8_t)law_u64(k->l), k->page_bytes);
		return;
	case 1:
		law_bytes(k->l, delta, sizeof delta);
		sb_xbzrle(k->b, off, name, delta, (uint16_t)law_below(k->l, sizeof delta));
		return;
	default:
		sb_zero(k->b, off, name);
		return;
	}
}

static void put_records(struct maker *k)
{
	if (!(k->what & MAKE_MAPPED))
		for (uint64_t n = law_below(k->l, k->what & MAKE_SMALL ? 3 : 6); n > 0; n--)
			put_page(k);
	if (!(k->what & MAKE_MAPPED) && chance(k, 4))
		sb_be64(k->b, 0x200);
	if (!(k->what & (MAKE_MAPPED | MAKE_ONCE)) && chance(k, 8))
		put_list(k);
	sb_eos(k->b);
}

/* Background snapshots have PARTs, no switchover and no END, and nothing else may be open. */
static void put_ram(struct maker *k)
{
	bool background = !k->open_id && chance(k, 4);
	sb_start_ram(k->b);
	put_list(k);
	put_records(k);
	if (chance(k, 4))
		put_early(k);
	for (uint64_t parts = background + law_below(k->l, 3); parts > 0; parts--) {
		sb_more(k->b, 0x02, 1);
		put_records(k);
		if (!background && chance(k, 3))
			put_iterable(k);
	}
	if (background)
		return;
	if (chance(k, 2))
		sb_switchover(k->b);
	sb_more(k->b, 0x03, 1);
	put_records(k);
	while (k->open_id)
		put_iterable(k);
}

static void put_device(struct maker *k, uint32_t instance)
{
	static const char *const names[] = {"timer", "apic", "0000:00:02.0/virtio-net", "globalstate"};
	uint8_t body[BODY_MAX];
	uint32_t id = k->next_id++;
	size_t n = make_body(k, id, body);
	sb_device(k->b, id, names[law_below(k->l, 4)], instance, (uint32_t)law_below(k->l, 4), body, n);
}

void make_stream(struct law *l, unsigned what, struct made *m)
{
	struct maker k = {.l = l, .m = m, .b = &m->b, .what = what, .next_id = 2};
	memset(m, 0, sizeof *m);
	m->described = what & MAKE_DESCRIBED || !chance(&k, 4);
	if (!m->described)
		k.what |= MAKE_CALM;
	put_head(&k);
	if (!(what & MAKE_MAPPED))
		put_commands(&k);
	if (chance(&k, 4))
		put_early(&k);
	choose_blocks(&k);
	put_ram(&k);
	for (uint32_t n = 1 + (uint32_t)law_below(l, 4), i = 0; i < n; i++)
		put_device(&k, i);
	m->eof_at = m->b.n;
	sb_eof(&m->b);
	if (m->described)
		sb_desc(&m->b, (uint32_t)k.page_bytes);
}
