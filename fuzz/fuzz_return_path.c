/* SPDX-License-Identifier: MIT */
/* The return path: messages one after another; what is accepted is written as the same bytes, and no less of
 * it is. */
#include "fuzz.h"

#include "wire/return_path.h"

static void part_is_not_enough(const uint8_t *bytes, size_t n)
{
	struct gw__rp_msg m;
	for (size_t k = 0; k < n; k++) {
		struct gw__rd c = gw__rd_over(bytes, k);
		HOLDS(gw__rp_decode(&c, &m, NULL) == GW__SHORT);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint8_t again[GW__RP_MAX_BYTES];
	for (size_t at = 0;;) {
		struct gw__rd c = gw__rd_over(data + at, n - at);
		struct gw__wr w = gw__wr_over(again, sizeof again);
		struct gw__error error = {0};
		struct gw__rp_msg m;
		int r = gw__rp_decode(&c, &m, &error);
		fuzz_result_is_sound(r, &error);
		if (r)
			return 0;
		HOLDS(gw__rd_used(&c) <= GW__RP_MAX_BYTES);
		HOLDS(strcmp(gw__rp_name(m.type), "?"));
		gw__rp_encode(&w, &m);
		fuzz_same_bytes(&w, data + at, gw__rd_used(&c));
		part_is_not_enough(data + at, gw__rd_used(&c));
		at += gw__rd_used(&c);
	}
}
