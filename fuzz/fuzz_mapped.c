/* SPDX-License-Identifier: MIT */
/* The mapped-ram header. Input: page size, x-ignore-shared, where the header stands, the block's length, the
 * header. */
#include "fuzz.h"

#include "base/bitmap.h"
#include "base/math.h"
#include "wire/mapped.h"

enum { AROUND_BYTES = 2 + 8 + 8 };

/* What the sizes promise: nothing overlaps, nothing overflows. */
static void check_regions(const struct gw__mapped_header *h, uint64_t header_off, const struct gw__block *b, uint64_t page_bytes)
{
	uint64_t bitmap_end, end;
	HOLDS(h->bitmap_off >= header_off + GW__MAPPED_HEADER_BYTES);
	HOLDS(!gw__add_overflows(h->bitmap_off, gw__bitmap_wire_bytes(b->used_bytes / page_bytes), &bitmap_end));
	HOLDS(bitmap_end <= h->pages_off);
	HOLDS(gw__is_aligned(h->pages_off, page_bytes));
	HOLDS(!gw__add_overflows(h->pages_off, b->used_bytes, &end) && end <= INT64_MAX);
}

/* What a writer places, a reader accepts without a remark. */
static void check_placed(uint64_t header_off, const struct gw__block *b, uint64_t page_bytes)
{
	struct gw__mapped_header h;
	const char *anomaly = NULL;
	bool ignored;
	if (gw__mapped_place(header_off + GW__MAPPED_HEADER_BYTES, b->used_bytes, page_bytes, &h))
		return;
	HOLDS(gw__mapped_header_check(&h, header_off, b, page_bytes, false, &ignored, &anomaly, NULL) == 0);
	HOLDS(!ignored && !anomaly);
	check_regions(&h, header_off, b, page_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct gw__mapped_header h;
	struct gw__block block = {.name = "m0"};
	struct gw__error error = {0};
	const char *anomaly = NULL;
	bool ignored;
	if (n < AROUND_BYTES)
		return 0;
	struct gw__rd c = gw__rd_over(data, n);
	uint64_t page_bytes = UINT64_C(1) << (8 + gw__rd_u8(&c) % 13);
	bool ignore_shared = gw__rd_u8(&c) & 1;
	uint64_t header_off = gw__rd_be64(&c) & INT64_MAX; /* a place in a file */
	block.used_bytes = gw__rd_be64(&c) & ~(page_bytes - 1);
	if (block.used_bytes == 0) /* the block list has seen to that */
		return 0;
	check_placed(header_off, &block, page_bytes);
	const uint8_t *from = c.p;
	if (gw__mapped_header_decode(&c, &h))
		return 0;

	uint8_t again[GW__MAPPED_HEADER_BYTES];
	struct gw__wr w = gw__wr_over(again, sizeof again);
	gw__mapped_header_encode(&w, &h);
	fuzz_same_bytes(&w, from, GW__MAPPED_HEADER_BYTES);
	int r = gw__mapped_header_check(&h, header_off, &block, page_bytes, ignore_shared, &ignored, &anomaly, &error);
	fuzz_result_is_sound(r, &error);
	HOLDS(r <= 0);
	HOLDS(r || !ignored || ignore_shared);
	if (!r && !ignored)
		check_regions(&h, header_off, &block, page_bytes);
	return 0;
}
