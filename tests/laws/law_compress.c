/* SPDX-License-Identifier: MIT */
/*
 * Compressed payloads on generated pages: unpacking undoes packing, however the pages were handed over; and
 * damaged payloads give an error or pages, never a byte beyond them.
 */
#include "laws.h"

#include <errno.h>

#include "base/bytes.h"
#include "wire/multifd.h"
#include "wire/compress.h"

enum { PAYLOADS_MAX = 8, PAGE = 1024, BYTES_MAX = 128 * PAGE };

struct channel {
	struct gw__compressor *p;
	struct gw__decompressor *u;
};

static void open_channel(struct law *l, struct channel *ch)
{
	const bool zstd = law_below(l, 2);
	const uint32_t method = zstd ? GW__MULTIFD_ZSTD : GW__MULTIFD_ZLIB;
	const int level = (int)law_below(l, zstd ? 7 : GW__ZLIB_LEVEL_MAX + 1); /* the high ones are slow */
	LAW(l, gw__compressor_new(method, level, &ch->p, NULL) == 0);
	LAW(l, gw__decompressor_new(method, &ch->u, NULL) == 0);
}

static void close_channel(struct channel *ch)
{
	gw__compressor_free(ch->p);
	gw__decompressor_free(ch->u);
}

/* Runs of one byte, of noise, and of what was there before. */
static void make_pages(struct law *l, uint8_t *pages, size_t n)
{
	for (size_t at = 0; at < n;) {
		size_t run = 1 + law_below(l, law_below(l, 2) ? 100 : 20000), from = law_below(l, at + 1);
		if (run > n - at)
			run = n - at;
		switch (law_below(l, 3)) {
		case 0:
			memset(pages + at, (int)law_below(l, 3), run);
			break;
		case 1:
			law_bytes(l, pages + at, run);
			break;
		default:
			for (size_t i = 0; i < run; i++)
				pages[at + i] = pages[from + i];
			break;
		}
		at += run;
	}
}

/* In calls of any size; into exactly the room that is promised to be enough. */
static uint8_t *pack(struct law *l, struct gw__compressor *p, const uint8_t *pages, size_t n, size_t *packed)
{
	const size_t room = gw__compress_bound(p, n);
	uint8_t *out = malloc(room);
	LAW(l, out && room <= GW__MULTIFD_PAYLOAD_MAX);
	struct gw__wr w = gw__wr_over(out, room);
	struct gw__error error = {0};
	for (size_t at = 0; at < n;) {
		size_t piece = law_below(l, 8) ? PAGE : 1 + law_below(l, n);
		if (piece > n - at)
			piece = n - at;
		at += piece;
		LAW(l, gw__compress(p, pages + at - piece, piece, at == n, &w, &error) == 0 && error.code == 0);
	}
	*packed = gw__wr_used(&w);
	return out;
}

static void unpacking_undoes_packing(struct law *l)
{
	struct channel ch;
	open_channel(l, &ch);
	for (uint64_t i = 1 + law_below(l, PAYLOADS_MAX); i > 0; i--) {
		const size_t n = PAGE * (1 + law_below(l, BYTES_MAX / PAGE));
		uint8_t *pages = malloc(n), *got = malloc(n);
		size_t packed;
		struct gw__error error = {0};
		LAW(l, pages && got);
		make_pages(l, pages, n);
		uint8_t *payload = pack(l, ch.p, pages, n, &packed);
		LAW(l, gw__decompress(ch.u, payload, packed, got, n, &error) == 0 && error.code == 0);
		LAW(l, !memcmp(got, pages, n));
		free(payload);
		free(pages);
		free(got);
	}
	close_channel(&ch);
}

static void damage(struct law *l, uint8_t *payload, size_t *n)
{
	if (law_below(l, 4) == 0)
		*n -= law_below(l, *n);
	for (uint64_t hits = law_below(l, 4); hits > 0; hits--)
		payload[law_below(l, law_below(l, 2) && *n > 40 ? 40 : *n)] ^= (uint8_t)(1u << law_below(l, 8));
}

static void damaged_payloads_give_an_error_or_pages(struct law *l)
{
	struct channel ch;
	bool over = false;
	open_channel(l, &ch);
	for (uint64_t i = 1 + law_below(l, PAYLOADS_MAX); i > 0; i--) {
		const size_t n = PAGE * (1 + law_below(l, 16)), want = law_below(l, 4) ? n : PAGE * (1 + law_below(l, 16));
		uint8_t *pages = malloc(n), *got = malloc(want); /* guarded by the sanitizer */
		size_t packed;
		struct gw__error error = {0};
		LAW(l, pages && got);
		make_pages(l, pages, n);
		uint8_t *payload = pack(l, ch.p, pages, n, &packed);
		if (law_below(l, 3) == 0)
			damage(l, payload, &packed);
		int r = gw__decompress(ch.u, payload, packed, got, want, &error);
		LAW(l, r == 0 || r == -EPROTO);
		LAW(l, error.code == r && (r == 0 || strlen(error.text) > 20));
		LAW(l, !over || r); /* after an error there is nothing more */
		over = r != 0;
		free(payload);
		free(pages);
		free(got);
	}
	close_channel(&ch);
}

int main(void)
{
	law_run("unpacking undoes packing", 150, unpacking_undoes_packing);
	law_run("damaged payloads give an error or pages", 400, damaged_payloads_give_an_error_or_pages);
	return 0;
}
