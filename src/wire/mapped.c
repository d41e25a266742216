/* SPDX-License-Identifier: MIT */
/* Header and layout of mapped-ram blocks; see mapped.h and docs/spec/mapped-ram.md. */
#include "wire/mapped.h"

#include <errno.h>

#include "base/bitmap.h"
#include "base/math.h"

typedef unsigned long long ull;

int gw__mapped_header_decode(struct gw__rd *c, struct gw__mapped_header *h)
{
	h->version = gw__rd_be32(c);
	h->page_bytes = gw__rd_be64(c);
	h->bitmap_off = gw__rd_be64(c);
	h->pages_off = gw__rd_be64(c);
	return c->cut ? GW__SHORT : 0;
}

void gw__mapped_header_encode(struct gw__wr *c, const struct gw__mapped_header *h)
{
	gw__wr_be32(c, h->version);
	gw__wr_be64(c, h->page_bytes);
	gw__wr_be64(c, h->bitmap_off);
	gw__wr_be64(c, h->pages_off);
}

static uint64_t bitmap_bytes(uint64_t used_bytes, uint64_t page_bytes) { return gw__bitmap_wire_bytes(used_bytes / page_bytes); }

int gw__mapped_place(uint64_t header_end_off, uint64_t used_bytes, uint64_t page_bytes, struct gw__mapped_header *h)
{
	uint64_t bitmap_end, pages, end;
	if (gw__add_overflows(header_end_off, bitmap_bytes(used_bytes, page_bytes), &bitmap_end) ||
		gw__round_up_overflows(bitmap_end, GW__MAPPED_ALIGN, &pages) || gw__add_overflows(pages, used_bytes, &end) ||
		end > INT64_MAX)
		return -EOVERFLOW;
	*h = (struct gw__mapped_header){.version = GW__MAPPED_VERSION,
		.page_bytes = page_bytes,
		.bitmap_off = header_end_off,
		.pages_off = pages};
	return 0;
}

static int check_regions(const struct gw__mapped_header *h, uint64_t header_off, const struct gw__block *block, uint64_t page_bytes,
	struct gw__error *error)
{
	uint64_t bitmap_end, end;
	if (h->bitmap_off < header_off + GW__MAPPED_HEADER_BYTES)
		return gw__error_set(error, -EPROTO,
			"block \"%s\": its bitmap is said to be at offset %llu, inside or before its header, which ends at %llu",
			block->name, (ull)h->bitmap_off, (ull)(header_off + GW__MAPPED_HEADER_BYTES));
	if (gw__add_overflows(h->bitmap_off, bitmap_bytes(block->used_bytes, page_bytes), &bitmap_end) || h->pages_off < bitmap_end)
		return gw__error_set(error, -EPROTO,
			"block \"%s\": its pages are said to begin at offset %llu, before the end of its bitmap (offset %llu, %llu bytes)",
			block->name, (ull)h->pages_off, (ull)h->bitmap_off, (ull)bitmap_bytes(block->used_bytes, page_bytes));
	if (!gw__is_aligned(h->pages_off, page_bytes))
		return gw__error_set(error, -EPROTO,
			"block \"%s\": its pages begin at offset %llu, expected a multiple of the page size %llu", block->name,
			(ull)h->pages_off, (ull)page_bytes);
	if (gw__add_overflows(h->pages_off, block->used_bytes, &end) || end > INT64_MAX)
		return gw__error_set(error, -EPROTO, "block \"%s\": %llu bytes of pages from offset %llu reach past the largest file",
			block->name, (ull)block->used_bytes, (ull)h->pages_off);
	return 0;
}

int gw__mapped_header_check(const struct gw__mapped_header *h, uint64_t header_off, const struct gw__block *block, uint64_t page_bytes,
	bool ignore_shared, bool *ignored, const char **anomaly, struct gw__error *error)
{
	*ignored = false;
	if (h->version != GW__MAPPED_VERSION)
		return gw__error_set(error, -EPROTO, "block \"%s\": mapped-ram header version %u, expected 1", block->name, h->version);
	if (h->page_bytes != page_bytes)
		return gw__error_set(error, -EPROTO, "block \"%s\": mapped-ram header with a page size of %llu, expected %llu", block->name,
			(ull)h->page_bytes, (ull)page_bytes);
	if (h->bitmap_off == 0 && h->pages_off == 0) {
		if (!ignore_shared)
			return gw__error_set(error, -EPROTO,
				"block \"%s\" is marked as not in the file (offsets 0), which needs the capability x-ignore-shared",
				block->name);
		*ignored = true;
		return 0;
	}
	int r = check_regions(h, header_off, block, page_bytes, error);
	if (r)
		return r;
	if (anomaly && h->bitmap_off != header_off + GW__MAPPED_HEADER_BYTES)
		*anomaly = "the bitmap does not follow its header directly";
	if (anomaly && !gw__is_aligned(h->pages_off, GW__MAPPED_ALIGN))
		*anomaly = "the pages do not begin at a multiple of 1 MiB; direct I/O may refuse them";
	return 0;
}
