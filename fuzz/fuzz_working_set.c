/* SPDX-License-Identifier: MIT */
/*
 * A working set: header, then chunks to the end; what is accepted is written as the same bytes. An input that is not accepted is tried again
 * with right checksums, which nothing made up would have.
 */
#include "fuzz.h"

#include <xxhash.h>

#include "wire/working_set.h"

enum { SUMMED_HEAD = GW__WS_HEAD_BYTES - 8, CHUNK_HEAD = 16 };

static struct gw__ws_run run[GW__WS_ENTRIES_MAX];
static uint8_t again[GW__WS_CHUNK_BYTES_MAX];

static uint64_t mend_head(uint8_t *p)
{
	uint64_t sum = XXH3_64bits(p, SUMMED_HEAD);
	gw__be_put(p + SUMMED_HEAD, sum, 8);
	return sum;
}

static void mend_chunk(uint8_t *p, size_t n, uint64_t seed)
{
	if (n < CHUNK_HEAD)
		return;
	uint64_t summed = CHUNK_HEAD + 8 * (uint64_t)gw__be_get(p + 4, 4);
	if (summed + 8 <= n)
		gw__be_put(p + summed, XXH3_64bits_withSeed(p, summed, seed), 8);
}

static int decode_head(const uint8_t *p, size_t n, struct gw__ws_head *h)
{
	struct gw__rd c = gw__rd_over(p, n);
	struct gw__error error = {0};
	int r = gw__ws_head_decode(&c, h, &error);
	fuzz_result_is_sound(r, &error);
	HOLDS(gw__rd_used(&c) == (r ? 0 : GW__WS_HEAD_BYTES));
	return r;
}

static int decode_chunk(const uint8_t *p, size_t n, uint64_t seed, size_t *used)
{
	struct gw__rd c = gw__rd_over(p, n);
	struct gw__wr w = gw__wr_over(again, sizeof again);
	struct gw__error error = {0};
	uint64_t when_s;
	uint32_t entries;
	int r = gw__ws_chunk_decode(&c, seed, &when_s, run, &entries, &error);
	fuzz_result_is_sound(r, &error);
	*used = gw__rd_used(&c);
	HOLDS(!r || !*used);
	if (r)
		return r;
	HOLDS(entries >= 1 && entries <= GW__WS_ENTRIES_MAX);
	for (uint32_t i = 0; i < entries; i++)
		HOLDS(run[i].pages);
	gw__ws_chunk_encode(&w, seed, when_s, run, entries);
	fuzz_same_bytes(&w, p, *used);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct gw__ws_head h = {0};
	uint8_t *copy = malloc(n + 1);
	size_t at = GW__WS_HEAD_BYTES, used;
	HOLDS(copy);
	memcpy(copy, data, n);
	decode_head(copy, n, &h);
	if (n >= GW__WS_HEAD_BYTES)
		h.seed = mend_head(copy);
	if (decode_head(copy, n, &h) == 0)
		for (; at < n; at += used) {
			decode_chunk(copy + at, n - at, h.seed, &used);
			mend_chunk(copy + at, n - at, h.seed);
			if (decode_chunk(copy + at, n - at, h.seed, &used))
				break;
		}
	free(copy);
	return 0;
}
