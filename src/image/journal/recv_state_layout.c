/* SPDX-License-Identifier: MIT */
/* The two records of a state file, as bytes (docs/spec/partial.md 2, 3); see recv_state.h. Pure. */
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/math.h"
#include "image/journal/recv_state.h"
#include "image/journal/recv_state_layout.h"

typedef unsigned long long ull;

static const char MAGIC[8] = {'G', 'W', 'P', 'A', 'R', 'T', 'L', '1'};

enum { SUMMED = 48, META_FIXED = 16 + 4 * 8 + 4 };

void gw__recv_state_sum(const void *bytes, size_t n, uint8_t sum[16])
{
	XXH128_canonical_t c;
	XXH128_canonicalFromHash(&c, XXH3_128bits(bytes, n));
	memcpy(sum, c.digest, 16);
}

void gw__recv_state_head_encode(const struct gw__recv_state_head *h, uint8_t page[GW__RECV_STATE_PAGE])
{
	memset(page, 0, GW__RECV_STATE_PAGE);
	struct gw__wr c = gw__wr_over(page, GW__RECV_STATE_PAGE);
	gw__wr_bytes(&c, MAGIC, sizeof MAGIC);
	gw__wr_be32(&c, GW__RECV_STATE_VERSION);
	gw__wr_be32(&c, h->layout_only);
	gw__wr_be64(&c, h->maps_bytes);
	gw__wr_be64(&c, h->meta_bytes);
	gw__wr_bytes(&c, h->meta_sum, sizeof h->meta_sum);
	gw__recv_state_sum(page, SUMMED, page + SUMMED);
}

int gw__recv_state_head_decode(const uint8_t page[GW__RECV_STATE_PAGE], uint64_t file_bytes, struct gw__recv_state_head *h,
	struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(page, GW__RECV_STATE_PAGE);
	uint8_t magic[8], sum[16];
	gw__rd_bytes(&c, magic, sizeof magic);
	h->version = gw__rd_be32(&c);
	h->layout_only = gw__rd_be32(&c);
	h->maps_bytes = gw__rd_be64(&c);
	h->meta_bytes = gw__rd_be64(&c);
	gw__rd_bytes(&c, h->meta_sum, sizeof h->meta_sum);
	if (memcmp(magic, MAGIC, sizeof MAGIC))
		return gw__error_set(error, -EPROTO,
			"it is not the state of a partial image, or was interrupted before there was anything to keep");
	gw__recv_state_sum(page, SUMMED, sum);
	if (memcmp(sum, page + SUMMED, sizeof sum))
		return gw__error_set(error, -EPROTO, "its head is damaged (the checksum is wrong)");
	if (h->version != GW__RECV_STATE_VERSION && h->version != GW__RECV_STATE_VERSION_BEFORE)
		return gw__error_set(error, -EPROTO, "it has version %u, expected %d", h->version, GW__RECV_STATE_VERSION);
	if (h->maps_bytes > INT64_MAX / 8 || h->meta_bytes > GW__RECV_STATE_META_MAX ||
		gw__recv_state_meta_place(h) + h->meta_bytes > file_bytes)
		return gw__error_set(error, -EPROTO, "it has %llu bytes, expected three times %llu of bitmaps and %llu after them",
			(ull)file_bytes, (ull)h->maps_bytes, (ull)h->meta_bytes);
	return 0;
}

static size_t piece_bytes(const struct gw__view *b) { return 4 + b->n; }

static void put_piece(struct gw__wr *c, const struct gw__view *b)
{
	gw__wr_be32(c, (uint32_t)b->n);
	gw__wr_bytes(c, b->p, b->n);
}

static struct gw__view take_piece(struct gw__rd *c)
{
	size_t n = gw__rd_be32(c);
	const uint8_t *p = gw__rd_take(c, n);
	return (struct gw__view){p, p ? n : 0};
}

enum { CONFIG_ROOM = 8192, BLOCK_FIXED = 1 + 4 * 8 + 1 };

size_t gw__recv_state_meta_bytes(const struct gw__recv_state_saved *s)
{
	size_t n = META_FIXED + 4 + CONFIG_ROOM + 4 + piece_bytes(&s->early) + piece_bytes(&s->package) + piece_bytes(&s->user_data);
	for (uint32_t i = 0; i < s->blocks.n; i++)
		n += BLOCK_FIXED + strlen(s->blocks.v[i].name);
	return n;
}

static void put_block(struct gw__wr *c, const struct gw__block *b)
{
	gw__wr_str8(c, b->name);
	gw__wr_be64(c, b->used_bytes);
	gw__wr_be64(c, b->page_bytes);
	gw__wr_be64(c, b->bitmap_off);
	gw__wr_be64(c, b->pages_off);
	gw__wr_u8(c, b->ignored);
}

bool gw__recv_state_meta_encode(const struct gw__recv_state_saved *s, uint8_t *meta, size_t n)
{
	struct gw__wr c = gw__wr_over(meta, n);
	uint8_t room[CONFIG_ROOM];
	struct gw__wr config = gw__wr_over(room, sizeof room);
	gw__config_encode(&config, &s->config);
	gw__wr_bytes(&c, s->id, sizeof s->id);
	gw__wr_be64(&c, s->marker_off);
	gw__wr_be64(&c, s->base_off);
	gw__wr_be64(&c, s->cursor);
	gw__wr_be64(&c, s->start_off);
	gw__wr_be32(&c, s->ram_id);
	put_piece(&c, &(struct gw__view){room, gw__wr_used(&config)});
	gw__wr_be32(&c, s->blocks.n);
	for (uint32_t i = 0; i < s->blocks.n; i++)
		put_block(&c, &s->blocks.v[i]);
	put_piece(&c, &s->early);
	put_piece(&c, &s->package);
	put_piece(&c, &s->user_data);
	return !c.full && !config.full;
}

void gw__recv_state_saved_fini(struct gw__recv_state_saved *s)
{
	gw__blocks_fini(&s->blocks);
	memset(s, 0, sizeof *s);
}

static int take_config(struct gw__view piece, struct gw__config *config, struct gw__error *error)
{
	uint8_t room[CONFIG_ROOM + 1]; /* the decoder looks at one byte after the section */
	if (piece.n > CONFIG_ROOM)
		return gw__error_set(error, -EPROTO, "a configuration of %zu bytes", piece.n);
	memcpy(room, piece.p ? piece.p : room, piece.n);
	room[piece.n] = 0;
	struct gw__rd c = gw__rd_over(room, piece.n + 1);
	int r = gw__config_decode(&c, config, error);
	if (r == GW__SHORT || (!r && gw__rd_used(&c) != piece.n))
		return gw__error_set(error, -EPROTO, "a configuration of %zu bytes that does not end there", piece.n);
	return r;
}

/* A block has its place in the image after the one before it. `*at_off`: where that one ended. */
static int take_block(struct gw__rd *c, struct gw__recv_state_saved *s, uint64_t page_bytes, uint64_t *at_off, struct gw__error *error)
{
	struct gw__block b = {0};
	uint8_t n = gw__rd_str8(c, b.name);
	b.used_bytes = gw__rd_be64(c);
	b.page_bytes = gw__rd_be64(c);
	b.bitmap_off = gw__rd_be64(c);
	b.pages_off = gw__rd_be64(c);
	b.ignored = gw__rd_u8(c);
	bool unit_ok = !b.page_bytes || (b.page_bytes >= page_bytes && !(b.page_bytes & (b.page_bytes - 1)));
	if (c->cut || !gw__name_ok(b.name, n) || !unit_ok || !b.used_bytes || b.used_bytes > INT64_MAX / 2 ||
		b.used_bytes % gw__max(b.page_bytes, page_bytes))
		return gw__error_set(error, -EPROTO, "block %u of %llu bytes is not possible", s->blocks.n, (ull)b.used_bytes);
	uint64_t maps = gw__bitmap_wire_bytes(b.used_bytes / page_bytes);
	bool placed = b.bitmap_off >= *at_off && b.bitmap_off <= INT64_MAX / 4 && b.pages_off >= b.bitmap_off + maps &&
		      b.pages_off <= INT64_MAX / 4;
	if (!b.ignored && !placed)
		return gw__error_set(error, -EPROTO, "block \"%s\" cannot have its pages at offset %llu", b.name, (ull)b.pages_off);
	if (!b.ignored)
		*at_off = b.pages_off + b.used_bytes;
	int r = gw__blocks_add(&s->blocks, &b);
	return r ? gw__error_set(error, r == -ENOMEM ? r : -EPROTO, "block \"%s\" cannot be taken", b.name) : 0;
}

static int take_blocks(struct gw__rd *c, struct gw__recv_state_saved *s, uint64_t *maps_bytes, struct gw__error *error)
{
	uint64_t page_bytes = gw__config_page_bytes(&s->config), at_off = s->base_off;
	uint32_t n = gw__rd_be32(c);
	int r = 0;
	for (uint32_t i = 0; !r && i < n; i++)
		r = take_block(c, s, page_bytes, &at_off, error);
	if (!r && (!s->blocks.n || at_off > s->cursor))
		r = gw__error_set(error, -EPROTO, "%u blocks that reach to offset %llu, where the image goes on at %llu", s->blocks.n,
			(ull)at_off, (ull)s->cursor);
	*maps_bytes = r ? 0 : gw__recv_state_maps_bytes(&s->blocks, page_bytes);
	return r || *maps_bytes ? r : gw__error_set(error, -EPROTO, "none of its %u blocks is kept", s->blocks.n);
}

int gw__recv_state_meta_decode(const uint8_t *meta, size_t n, struct gw__recv_state_saved *s, uint64_t *maps_bytes, struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(meta, n);
	memset(s, 0, sizeof *s);
	gw__rd_bytes(&c, s->id, sizeof s->id);
	s->marker_off = gw__rd_be64(&c);
	s->base_off = gw__rd_be64(&c);
	s->cursor = gw__rd_be64(&c);
	s->start_off = gw__rd_be64(&c);
	s->ram_id = gw__rd_be32(&c);
	struct gw__view config = take_piece(&c);
	if (c.cut || s->base_off > INT64_MAX / 4 || s->start_off < s->base_off || s->start_off > s->cursor || s->cursor > INT64_MAX / 2 ||
		s->marker_off < s->cursor || s->marker_off > INT64_MAX / 2)
		return gw__error_set(error, -EPROTO, "the image is said to begin at offset %llu and to go on at %llu", (ull)s->base_off,
			(ull)s->cursor);
	int r = take_config(config, &s->config, error);
	if (!r)
		r = take_blocks(&c, s, maps_bytes, error);
	s->early = take_piece(&c);
	s->package = take_piece(&c);
	s->user_data = take_piece(&c);
	if (!r && c.cut)
		r = gw__error_set(error, -EPROTO, "it ends inside the device state");
	return r;
}
