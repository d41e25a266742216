/* SPDX-License-Identifier: MIT */
/*
 * XBZRLE on generated pages: decoding undoes encoding, the encoder gives up only when it must, and the
 * decoder agrees with a second reader of the spec on any bytes.
 */
#include "laws.h"

#include "wire/xbzrle.h"

enum { PAGE_MAX = 65536, GUARD = 64 };

static uint8_t old_page[PAGE_MAX], new_page[PAGE_MAX], delta[PAGE_MAX], mine[PAGE_MAX + GUARD], theirs[PAGE_MAX];

static size_t some_page_bytes(struct law *l) { return (size_t)256 << law_below(l, 9); }

static void change_runs(struct law *l, size_t n)
{
	for (uint64_t runs = law_below(l, 20); runs > 0; runs--) {
		size_t at = law_below(l, n);
		size_t len = 1 + law_below(l, law_below(l, 2) ? 8 : n);
		law_bytes(l, new_page + at, len < n - at ? len : n - at);
	}
}

/* Two pages that differ in single bytes, runs, every other byte, everything, or nothing. */
static void make_pages(struct law *l, size_t n)
{
	memset(old_page, 0, n);
	if (law_below(l, 2))
		law_bytes(l, old_page, n);
	memcpy(new_page, old_page, n);
	switch (law_below(l, 5)) {
	case 0:
		return;
	case 1:
		for (uint64_t i = law_below(l, 200); i > 0; i--)
			new_page[law_below(l, n)]++;
		return;
	case 2:
		change_runs(l, n);
		return;
	case 3:
		for (size_t i = law_below(l, n), step = 1 + law_below(l, 40); i < n; i += step)
			new_page[i]++;
		return;
	default:
		law_bytes(l, new_page, n);
	}
}

/* Length of the plainest delta, byte by byte; SIZE_MAX when a run is too long to be said. */
static size_t plain_length(size_t n)
{
	size_t sum = 0, at = 0;
	for (;;) {
		size_t same = 0, changed = 0;
		for (; at < n && old_page[at] == new_page[at]; at++)
			same++;
		if (at == n)
			return sum;
		for (; at < n && old_page[at] != new_page[at]; at++)
			changed++;
		if (same > GW__XBZRLE_RUN_MAX || changed > GW__XBZRLE_RUN_MAX)
			return SIZE_MAX;
		sum += 1 + (same > 127) + 1 + (changed > 127) + changed;
	}
}

static void decoding_undoes_encoding(struct law *l)
{
	size_t n = some_page_bytes(l);
	make_pages(l, n);
	size_t plain = plain_length(n);
	size_t room = law_below(l, 2) ? n : law_below(l, n + 1);
	int got = gw__xbzrle_encode(old_page, new_page, n, delta, room);
	if (got < 0) {
		LAW(l, plain > room || plain > n || plain > UINT16_MAX);
		return;
	}
	LAW(l, (size_t)got == plain && plain <= room);
	LAW(l, (got == 0) == (memcmp(old_page, new_page, n) == 0));
	memcpy(mine, old_page, n);
	LAW(l, gw__xbzrle_decode(delta, (size_t)got, mine, n, NULL) == 0);
	LAW(l, memcmp(mine, new_page, n) == 0);

	/* Whatever is left out of a delta is missed, unless whole pairs are. */
	if (got == 0)
		return;
	memcpy(mine, old_page, n);
	if (gw__xbzrle_decode(delta, law_below(l, (uint64_t)got), mine, n, NULL) == 0)
		LAW(l, memcmp(mine, new_page, n) != 0);
}

/* A second reader: the grammar of stream.md 7.4 once more, on a plain index. */
static bool read_again(const uint8_t *d, size_t n, uint8_t *page, size_t page_bytes)
{
	size_t i = 0, at = 0;
	if (n > page_bytes)
		return false;
	for (bool changed = false; i < n || changed; changed = !changed) {
		size_t first = i, len;
		if (i >= n)
			return false;
		len = d[i++];
		if (len >= 0x80) {
			if (i >= n || d[i] >= 0x80)
				return false;
			len = len - 0x80 + 128u * d[i++];
		}
		if ((len == 0 && (changed || first > 0)) || at + len > page_bytes)
			return false;
		if (changed) {
			if (i + len > n)
				return false;
			memcpy(page + at, d + i, len);
			i += len;
		}
		at += len;
	}
	return true;
}

/* Bytes that are nearly a delta: small numbers, a few of them large. */
static size_t make_garbage(struct law *l, size_t page_bytes)
{
	size_t n = law_below(l, law_below(l, 4) ? 12 : page_bytes + 2);
	for (size_t i = 0; i < n; i++)
		delta[i] = (uint8_t)law_below(l, law_below(l, 4) ? 5 : 256);
	return n;
}

static void two_readers_agree_on_any_bytes(struct law *l)
{
	size_t page_bytes = law_below(l, 2) ? 256 : 1 + law_below(l, 40);
	size_t n = make_garbage(l, page_bytes);
	memset(mine, 0x5a, page_bytes + GUARD);
	memset(theirs, 0x5a, page_bytes);
	bool ok = read_again(delta, n, theirs, page_bytes);
	struct gw__error error = {0};
	LAW(l, gw__xbzrle_decode(delta, n, mine, page_bytes, &error) == error.code);
	LAW(l, ok == (error.code == 0));
	if (ok)
		LAW(l, memcmp(mine, theirs, page_bytes) == 0);
	for (size_t i = 0; i < GUARD; i++)
		LAW(l, mine[page_bytes + i] == 0x5a);
}

int main(void)
{
	law_run("decoding undoes encoding", 3000, decoding_undoes_encoding);
	law_run("two readers agree on any bytes", 100000, two_readers_agree_on_any_bytes);
	return 0;
}
