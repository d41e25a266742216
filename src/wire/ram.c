/* SPDX-License-Identifier: MIT */
/* Record words and the block list; see ram.h and docs/spec/stream.md 7. */
#include "wire/ram.h"

#include <errno.h>
#include <stdlib.h>

#include "base/math.h"

/* Where in by_name this name stands, or would stand. */
static uint32_t find_place(const struct gw__blocks *b, const char *name, bool *found)
{
	uint32_t low = 0, high = b->n;
	*found = false;
	while (low < high && !*found) {
		uint32_t middle = low + (high - low) / 2;
		int order = strcmp(b->v[b->by_name[middle]].name, name);
		*found = order == 0;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return high;
}

int64_t gw__blocks_find(const struct gw__blocks *b, const char *name)
{
	bool found;
	uint32_t place = find_place(b, name, &found);
	return found ? b->by_name[place] : -1;
}

static int grow(struct gw__blocks *b)
{
	uint32_t room = b->room ? b->room * 2 : 16;
	struct gw__block *v = realloc(b->v, room * sizeof *v);
	if (!v)
		return -ENOMEM;
	b->v = v;
	uint16_t *by_name = realloc(b->by_name, room * sizeof *by_name);
	if (!by_name)
		return -ENOMEM;
	b->by_name = by_name;
	b->room = room;
	return 0;
}

int gw__blocks_add(struct gw__blocks *b, const struct gw__block *block)
{
	bool found;
	if (b->n == GW__BLOCKS_MAX)
		return -E2BIG;
	uint32_t place = find_place(b, block->name, &found);
	if (found)
		return -EEXIST;
	int r = b->n == b->room ? grow(b) : 0;
	if (r)
		return r;
	memmove(b->by_name + place + 1, b->by_name + place, (b->n - place) * sizeof *b->by_name);
	b->by_name[place] = (uint16_t)b->n;
	b->v[b->n++] = *block;
	b->total_bytes += block->used_bytes;
	return 0;
}

int gw__blocks_add_all(struct gw__blocks *b, const struct gw__blocks *from)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < from->n; i++)
		r = gw__blocks_add(b, &from->v[i]);
	return r;
}

void gw__blocks_fini(struct gw__blocks *b)
{
	free(b->v);
	free(b->by_name);
	memset(b, 0, sizeof *b);
}

int gw__ram_word_decode(uint64_t word, uint64_t page_bytes, struct gw__ram_word *w, struct gw__error *error)
{
	uint32_t flags = (uint32_t)(word & (page_bytes - 1));
	w->value = word & ~(page_bytes - 1);
	w->kind = flags & ~(uint32_t)GW__RAM_CONTINUE;
	w->same_block = flags & GW__RAM_CONTINUE;
	switch (w->kind) {
	case GW__RAM_ZERO:
	case GW__RAM_PAGE:
	case GW__RAM_XBZRLE:
		return 0;
	case GW__RAM_MEM_SIZE:
		if (!w->same_block)
			return 0;
		break;
	case GW__RAM_EOS:
	case GW__RAM_FLUSH:
		if (w->same_block)
			break;
		if (w->value == 0)
			return 0;
		return gw__error_set(error, -EPROTO, "RAM record %016llx has a value beside its kind %03x, expected 0",
			(unsigned long long)word, flags);
	case 0x080:
		return gw__error_set(error, -EPROTO, "RAM record HOOK (080) belongs to RDMA, which is not supported");
	case 0x100:
		return gw__error_set(error, -EPROTO,
			"RAM record COMPRESS_PAGE (100): the source uses the capability \"compress\", removed from QEMU in 9.1; switch it off");
	default:
		break;
	}
	return gw__error_set(error, -EPROTO, "RAM record %016llx has the flags %03x, expected exactly one known kind",
		(unsigned long long)word, flags);
}

/*
 * Is a page size here, which nothing announces (stream.md 7.2)? If not, then after the entry (and its address) stands
 * the next name, whose length is never 0, or after the last entry a record word, which always has a flag bit. If it
 * is, that place holds the page size itself or the address: both begin with a byte 0 and have no flag bits.
 */
enum { FLAGS_END = 0x400 }; /* of a record word: all flags are below */

static int page_size_follows(const struct gw__rd *c, const struct gw__blocks_rule *rule, bool last_block, bool *yes)
{
	const size_t at = rule->address ? 8 : 0;
	*yes = false;
	if (rule->mapped_ram || !(rule->page_summary & ~rule->page_bytes))
		return 0;
	if (gw__rd_left(c) < at + 1)
		return GW__SHORT;
	if (c->p[at] != 0)
		return 0;
	if (!last_block) {
		*yes = true;
		return 0;
	}
	if (gw__rd_left(c) < at + 8)
		return GW__SHORT;
	*yes = gw__is_aligned(gw__be_get(c->p + at, 8), FLAGS_END); /* the host's pages may be smaller than the target's */
	return 0;
}

static int check_used(const struct gw__block *block, const struct gw__blocks_rule *rule, uint64_t left, struct gw__error *error)
{
	if (block->used_bytes == 0 || !gw__is_aligned(block->used_bytes, rule->page_bytes))
		return gw__error_set(error, -EPROTO,
			"block \"%s\" has a length of %llu bytes, expected a multiple of the page size %llu above 0", block->name,
			(unsigned long long)block->used_bytes, (unsigned long long)rule->page_bytes);
	if (block->used_bytes > left)
		return gw__error_set(error, -EPROTO,
			"block \"%s\" has a length of %llu bytes, but only %llu bytes of the total are left for it", block->name,
			(unsigned long long)block->used_bytes, (unsigned long long)left);
	return 0;
}

static int check_page_size(struct gw__block *block, const struct gw__blocks_rule *rule, struct gw__error *error)
{
	uint64_t p = block->page_bytes;
	if (gw__is_power_of_2(p) && p != rule->page_bytes && p & rule->page_summary && gw__is_aligned(block->used_bytes, p)) {
		if (p < rule->page_bytes) /* the host's are smaller than the target's, whose are all that counts here */
			block->page_bytes = 0;
		return 0;
	}
	return gw__error_set(error, -EPROTO,
		"block \"%s\" has a page size of %llu bytes, expected a power of two, not %llu, that POSTCOPY_ADVISE named (%llx) "
		"and that divides its length %llu",
		block->name, (unsigned long long)p, (unsigned long long)rule->page_bytes, (unsigned long long)rule->page_summary,
		(unsigned long long)block->used_bytes);
}

int gw__block_decode(struct gw__rd *c, const struct gw__blocks_rule *rule, uint64_t left_bytes, struct gw__block *block,
	struct gw__error *error)
{
	memset(block, 0, sizeof *block);
	uint8_t n = gw__rd_str8(c, block->name);
	block->used_bytes = gw__rd_be64(c);
	if (c->cut)
		return GW__SHORT;
	if (!gw__name_ok(block->name, n))
		return gw__error_set(error, -EPROTO, "the block list names a block with %u unusable bytes, expected 1..255 printable ones",
			n);
	int r = check_used(block, rule, left_bytes, error);
	if (r)
		return r;
	bool has_page_size;
	r = page_size_follows(c, rule, block->used_bytes == left_bytes, &has_page_size);
	if (r)
		return r;
	if (has_page_size) {
		block->page_bytes = gw__rd_be64(c);
		r = c->cut ? GW__SHORT : check_page_size(block, rule, error);
		if (r)
			return r;
	}
	if (rule->address)
		block->address = gw__rd_be64(c);
	return c->cut ? GW__SHORT : 0;
}

void gw__block_encode(struct gw__wr *c, const struct gw__blocks_rule *rule, const struct gw__block *block)
{
	gw__wr_str8(c, block->name);
	gw__wr_be64(c, block->used_bytes);
	if (block->page_bytes && !rule->mapped_ram && rule->page_summary & ~rule->page_bytes)
		gw__wr_be64(c, block->page_bytes);
	if (rule->address)
		gw__wr_be64(c, block->address);
}

void gw__ram_record_encode(struct gw__wr *c, uint32_t kind, uint64_t off, const char *name_or_null)
{
	gw__wr_be64(c, off | kind | (name_or_null ? 0 : GW__RAM_CONTINUE));
	if (name_or_null)
		gw__wr_str8(c, name_or_null);
}
