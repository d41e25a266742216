/* SPDX-License-Identifier: MIT */
/*
 * Inside the RAM section: records and the block list, plain and mapped-ram (docs/spec/stream.md 7, mapped-ram.md 4).
 * This is the one place that judges a page record: block known, offset inside, kind legal here.
 */
#include <errno.h>

#include "base/math.h"
#include "wire/mapped.h"
#include "wire/stream_private.h"
#include "wire/xbzrle.h"

typedef unsigned long long ull;

int gw__stream_enter_ram(struct gw__stream *s, struct gw__stream_in *in)
{
	s->section_type = in->ev->section.type;
	s->state = GW__STREAM_RECORD;
	in->ev->kind = GW__EVENT_SECTION;
	return 0;
}

static int begin_list(struct gw__stream *s, const struct gw__ram_word *w, struct gw__error *error)
{
	s->block_list_repeated = s->blocks.n > 0;
	if (s->block_list_repeated && s->config.mapped_ram)
		return gw__error_set(error, -EPROTO, "the block list is repeated, which has no place in a mapped-ram file");
	if (s->block_list_repeated && w->value != s->blocks.total_bytes)
		return gw__error_set(error, -EPROTO, "the block list is repeated with a total of %llu bytes, the first one said %llu",
			(ull)w->value, (ull)s->blocks.total_bytes);
	if (w->value == 0)
		return gw__error_set(error, -EPROTO, "the block list announces a guest without memory");
	s->list_total = s->list_left = w->value;
	s->list_at = 0;
	s->state = GW__STREAM_LIST;
	return 0;
}

static int resolve_block(struct gw__stream *s, struct gw__stream_in *in, const struct gw__ram_word *w, int64_t *block)
{
	*block = s->last_block;
	if (w->same_block)
		return *block >= 0 ? 0 : gw__error_set(in->error, -EPROTO, "a page record says \"same block\", but none was named before");
	char name[GW__NAME_MAX + 1];
	uint8_t n = gw__rd_str8(&in->c, name);
	if (in->c.cut)
		return GW__SHORT;
	*block = gw__name_ok(name, n) ? gw__blocks_find(&s->blocks, name) : -1;
	if (*block < 0 && s->discover_blocks && gw__name_ok(name, n))
		*block = gw__stream_learn_block(s, name);
	if (*block < 0)
		return gw__error_set(in->error, -EPROTO, "a page record names the block \"%.*s\", which is not in the block list", n,
			gw__name_ok(name, n) ? name : "?");
	return 0;
}

static int take_delta(struct gw__stream_in *in, uint64_t page_bytes)
{
	uint8_t type = gw__rd_u8(&in->c);
	uint16_t n = gw__rd_be16(&in->c);
	if (in->c.cut)
		return GW__SHORT;
	if (type != GW__XBZRLE_TYPE)
		return gw__error_set(in->error, -EPROTO, "XBZRLE record of type %u, expected 1", type);
	if (n > page_bytes)
		return gw__error_set(in->error, -EPROTO, "XBZRLE delta of %u bytes, expected at most a page (%llu)", n, (ull)page_bytes);
	const uint8_t *delta = gw__rd_take(&in->c, n);
	if (!delta)
		return GW__SHORT;
	in->ev->delta = (struct gw__view){delta, n};
	in->ev->kind = GW__EVENT_XBZRLE;
	return 0;
}

static int take_zero(struct gw__stream_in *in)
{
	uint8_t fill = gw__rd_u8(&in->c);
	if (in->c.cut)
		return GW__SHORT;
	if (fill)
		return gw__error_set(in->error, -EPROTO, "ZERO record with the fill byte %02x, expected 00", fill);
	in->ev->kind = GW__EVENT_ZERO;
	return 0;
}

static int take_page(struct gw__stream *s, struct gw__stream_in *in, const struct gw__ram_word *w)
{
	int64_t index;
	int r = resolve_block(s, in, w, &index);
	if (r)
		return r;
	const struct gw__block *block = &s->blocks.v[index];
	if (s->page_bytes > block->used_bytes || w->value > block->used_bytes - s->page_bytes)
		return gw__error_set(in->error, -EPROTO, "page at offset %llx of block \"%s\" lies outside it (%llu bytes)", (ull)w->value,
			block->name, (ull)block->used_bytes);
	if (w->kind == GW__RAM_XBZRLE)
		r = take_delta(in, s->page_bytes);
	else if (w->kind == GW__RAM_ZERO)
		r = take_zero(in);
	else
		in->ev->kind = GW__EVENT_PAGE;
	if (r)
		return r;
	s->last_block = index;
	in->ev->where = (struct gw__ram_where){(uint32_t)index, w->value};
	return 0;
}

int gw__stream_step_record(struct gw__stream *s, struct gw__stream_in *in)
{
	struct gw__ram_word w;
	if (s->headless && in->last && gw__rd_left(&in->c) == 0) {
		s->state = GW__STREAM_DONE;
		return 0;
	}
	uint64_t word = gw__rd_be64(&in->c);
	if (in->c.cut)
		return GW__SHORT;
	struct gw__error anomaly = {0};
	int r = gw__ram_word_decode(word, gw__stream_word_bytes(s), &w, &anomaly);
	if (r)
		return gw__error_set(in->error, r, "%s%s", anomaly.text, gw__stream_page_size_hint(s));
	if (!r)
		r = s->checkpoint ? gw__stream_check_checkpoint_record(w.kind, in->error)
				  : gw__stream_check_postcopy_record(s, w.kind, in->error);
	if (r)
		return r;
	if (w.kind == GW__RAM_EOS) {
		if (!s->blocks.n && !s->discover_blocks)
			return gw__error_set(in->error, -EPROTO, "the RAM section has no block list");
		s->state = s->headless ? GW__STREAM_DONE : GW__STREAM_FOOTER;
		in->ev->kind = GW__EVENT_EOS;
		return 0;
	}
	if (w.kind == GW__RAM_MEM_SIZE)
		return begin_list(s, &w, in->error);
	if (s->config.mapped_ram)
		return gw__error_set(in->error, -EPROTO,
			"RAM record %016llx in a mapped-ram file, where only the block list and EOS may stand", (ull)word);
	if (w.kind == GW__RAM_FLUSH) {
		in->ev->kind = GW__EVENT_FLUSH;
		return 0;
	}
	return take_page(s, in, &w);
}

static int take_mapped_header(struct gw__stream *s, struct gw__stream_in *in, struct gw__block *block)
{
	struct gw__mapped_header h;
	uint64_t header_off = s->off + gw__rd_used(&in->c);
	if (gw__mapped_header_decode(&in->c, &h))
		return GW__SHORT;
	gw__stream_note_mapped_page_size(s, &h, block);
	int r = gw__mapped_header_check(&h, header_off, block, s->page_bytes, s->config.ignore_shared, &block->ignored, &in->ev->anomaly,
		in->error);
	if (r)
		return r;
	block->bitmap_off = h.bitmap_off;
	block->pages_off = h.pages_off;
	if (block->ignored)
		return 0;
	in->ev->kind = GW__EVENT_SEEK;
	in->ev->seek_off = block->pages_off + block->used_bytes;
	return 0;
}

static int add_block(struct gw__stream *s, const struct gw__block *block, struct gw__error *error)
{
	int r = gw__blocks_add(&s->blocks, block);
	if (r == -EEXIST)
		return gw__error_set(error, -EPROTO, "the block list names \"%s\" twice", block->name);
	if (r == -E2BIG)
		return gw__error_set(error, r, "the block list has more than %d entries", GW__BLOCKS_MAX);
	return r ? gw__error_set(error, r, "no memory for the block list") : 0;
}

static int compare_block(struct gw__stream *s, const struct gw__block *block, struct gw__error *error)
{
	const struct gw__block *first = s->list_at < s->blocks.n ? &s->blocks.v[s->list_at] : NULL;
	if (first && !strcmp(first->name, block->name) && first->used_bytes == block->used_bytes &&
		first->page_bytes == block->page_bytes && first->address == block->address)
		return 0;
	return gw__error_set(error, -EPROTO, "the block list is repeated, and entry %u (\"%s\", %llu bytes) differs from the first list",
		s->list_at, block->name, (ull)block->used_bytes);
}

int gw__stream_step_list(struct gw__stream *s, struct gw__stream_in *in)
{
	if (s->list_left == 0) {
		s->state = GW__STREAM_RECORD;
		if (!s->block_list_repeated)
			in->ev->kind = GW__EVENT_BLOCKS;
		return 0;
	}
	struct gw__block block;
	int r = gw__block_decode(&in->c, &s->rule, s->list_left, &block, in->error);
	if (!r && s->config.mapped_ram)
		r = take_mapped_header(s, in, &block);
	if (!r)
		r = s->block_list_repeated ? compare_block(s, &block, in->error) : add_block(s, &block, in->error);
	if (r)
		return r;
	s->list_left -= block.used_bytes;
	s->list_at++;
	return 0;
}
