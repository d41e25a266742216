/* SPDX-License-Identifier: MIT */
/* A discard's payload: what is accepted is written as the same bytes. */
#include "fuzz.h"

#include "wire/postcopy.h"

enum { COMMAND_HEAD_BYTES = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint8_t again[COMMAND_HEAD_BYTES + 3 + GW__NAME_MAX + GW__DISCARD_RANGES_MAX * 16];
	struct gw__range v[GW__DISCARD_RANGES_MAX];
	char block[GW__NAME_MAX + 1];
	struct gw__error error = {0};
	unsigned ranges = 0;
	int r = gw__discard_decode(data, n, block, v, GW__DISCARD_RANGES_MAX, &ranges, &error);
	fuzz_result_is_sound(r, &error);
	if (r)
		return 0;
	HOLDS(ranges >= 1 && ranges <= GW__DISCARD_RANGES_MAX);
	struct gw__wr w = gw__wr_over(again, sizeof again);
	gw__discard_encode(&w, block, v, ranges);
	HOLDS(!w.full && gw__wr_used(&w) == COMMAND_HEAD_BYTES + n && !memcmp(again + COMMAND_HEAD_BYTES, data, n));
	return 0;
}
