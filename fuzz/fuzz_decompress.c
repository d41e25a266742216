/* SPDX-License-Identifier: MIT */
/*
 * Compressed payloads of a channel. Input: method, then for each payload how many bytes it is said to give
 * (be16, 0 is 64 KiB), how many it has (be16), and these. What was unpacked is packed and unpacked again.
 */
#include "fuzz.h"

#include <errno.h>

#include "wire/multifd.h"
#include "wire/compress.h"

struct channel {
	struct gw__decompressor *u, *again;
	struct gw__compressor *p;
};

static void pack_and_unpack(struct channel *ch, const uint8_t *pages, size_t n)
{
	const size_t room = gw__compress_bound(ch->p, n);
	uint8_t *payload = malloc(room), *got = malloc(n);
	HOLDS(payload && got);
	struct gw__wr w = gw__wr_over(payload, room);
	HOLDS(gw__compress(ch->p, pages, n / 2, false, &w, NULL) == 0);
	HOLDS(gw__compress(ch->p, pages + n / 2, n - n / 2, true, &w, NULL) == 0);
	HOLDS(gw__decompress(ch->again, payload, gw__wr_used(&w), got, n, NULL) == 0);
	HOLDS(!memcmp(got, pages, n));
	free(payload);
	free(got);
}

/* Whether there may be another payload. */
static bool take_payload(struct channel *ch, struct gw__rd *c)
{
	const size_t said = gw__rd_be16(c), in_n = gw__rd_be16(c), out_n = said ? said : 65536;
	const uint8_t *in = gw__rd_take(c, in_n);
	struct gw__error error = {0};
	if (!in)
		return false;
	/* Of their own sizes, so that the sanitizers see a byte beyond. */
	uint8_t *pages = malloc(out_n), *copy = malloc(in_n ? in_n : 1);
	HOLDS(pages && copy);
	memcpy(copy, in, in_n);
	int r = gw__decompress(ch->u, copy, in_n, pages, out_n, &error);
	fuzz_result_is_sound(r, &error);
	HOLDS(r == 0 || r == -EPROTO);
	if (r == 0)
		pack_and_unpack(ch, pages, out_n);
	else
		HOLDS(gw__decompress(ch->u, copy, in_n, pages, out_n, NULL) == -EPROTO);
	free(pages);
	free(copy);
	return r == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < 1)
		return 0;
	const uint32_t method = data[0] & 1 ? GW__MULTIFD_ZSTD : GW__MULTIFD_ZLIB;
	struct channel ch = {0};
	struct gw__rd c = gw__rd_over(data + 1, n - 1);
	HOLDS(gw__decompressor_new(method, &ch.u, NULL) == 0);
	HOLDS(gw__decompressor_new(method, &ch.again, NULL) == 0);
	HOLDS(gw__compressor_new(method, 1, &ch.p, NULL) == 0);
	while (take_payload(&ch, &c))
		;
	gw__decompressor_free(ch.u);
	gw__decompressor_free(ch.again);
	gw__compressor_free(ch.p);
	return 0;
}
