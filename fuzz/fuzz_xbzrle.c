/* SPDX-License-Identifier: MIT */
/* XBZRLE. Input: page size, fill byte, delta. What decodes is encoded again, and both must give the same
 * page. */
#include "fuzz.h"

#include "wire/xbzrle.h"

static void decode_then_encode(size_t page_bytes, uint8_t fill, const uint8_t *delta, size_t n)
{
	uint8_t *old = malloc(page_bytes), *new = malloc(page_bytes), *again = malloc(page_bytes), *made = malloc(page_bytes);
	struct gw__error error = {0};
	memset(old, fill, page_bytes);
	memset(new, fill, page_bytes);
	memset(again, fill, page_bytes);
	int r = gw__xbzrle_decode(delta, n, new, page_bytes, &error);
	fuzz_result_is_sound(r, &error);
	HOLDS(r <= 0);
	int len = gw__xbzrle_encode(old, new, page_bytes, made, page_bytes);
	if (len >= 0) {
		HOLDS((size_t)len <= page_bytes);
		HOLDS(gw__xbzrle_decode(made, (size_t)len, again, page_bytes, NULL) == 0);
		HOLDS(memcmp(again, new, page_bytes) == 0);
	}
	free(old);
	free(new);
	free(again);
	free(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < 2)
		return 0;
	/* 1 to 65536 bytes; small ones reach their end soon. */
	decode_then_encode((size_t)1 << (data[0] % 17), data[1], data + 2, n - 2);
	return 0;
}
