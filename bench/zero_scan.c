/* SPDX-License-Identifier: MIT */
/*
 * zero-scan MIB ROUNDS: how fast pages of zeros are recognised, and how fast this memory can be read at all.
 *
 * Both in turn over the same buffer, which is far larger than the caches, so that the two figures may be
 * compared. The reader is the fastest of several loops that only load and combine; what each page costs
 * beyond that is the scan's own. One JSON object on standard output, rates in bytes per second. One thread.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "clock.h"
#include "image/file/zero.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { PAGE = 4096, MIB = 1 << 20, ROUNDS_MAX = 99 };

typedef uint64_t reader_fn(const uint8_t *bytes, size_t n);

/* Four chains of loads: as many as the processor can have on their way. */
static uint64_t read_words(const uint8_t *bytes, size_t n)
{
	const uint64_t *p = (const void *)bytes, *end = (const void *)(bytes + n);
	uint64_t a = 0, b = 0, c = 0, d = 0;
	for (; p < end; p += 4) {
		a |= p[0];
		b |= p[1];
		c |= p[2];
		d |= p[3];
	}
	return a | b | c | d;
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) static uint64_t read_avx2(const uint8_t *bytes, size_t n)
{
	__m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
	for (size_t i = 0; i < n; i += 128) {
		a = _mm256_or_si256(a, _mm256_load_si256((const void *)(bytes + i)));
		b = _mm256_or_si256(b, _mm256_load_si256((const void *)(bytes + i + 32)));
		c = _mm256_or_si256(c, _mm256_load_si256((const void *)(bytes + i + 64)));
		d = _mm256_or_si256(d, _mm256_load_si256((const void *)(bytes + i + 96)));
	}
	__m256i all = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
	return !_mm256_testz_si256(all, all);
}

__attribute__((target("avx512f"))) static uint64_t read_avx512(const uint8_t *bytes, size_t n)
{
	__m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
	for (size_t i = 0; i < n; i += 256) {
		a = _mm512_or_si512(a, _mm512_load_si512((const void *)(bytes + i)));
		b = _mm512_or_si512(b, _mm512_load_si512((const void *)(bytes + i + 64)));
		c = _mm512_or_si512(c, _mm512_load_si512((const void *)(bytes + i + 128)));
		d = _mm512_or_si512(d, _mm512_load_si512((const void *)(bytes + i + 192)));
	}
	__m512i all = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
	return _mm512_test_epi64_mask(all, all);
}

#endif

/* The processor's own string instruction, whose microcode knows this machine; a copy into the cache. */
static uint64_t read_by_copy(const uint8_t *bytes, size_t n)
{
	static uint8_t to[PAGE];
	for (size_t i = 0; i < n; i += PAGE) {
		memcpy(to, bytes + i, PAGE);
		__asm__ volatile("" : : "r"(to) : "memory");
	}
	return to[0];
}

static unsigned list_readers(reader_fn **readers)
{
	unsigned n = 0;
	readers[n++] = read_words;
	readers[n++] = read_by_copy;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2"))
		readers[n++] = read_avx2;
	if (__builtin_cpu_supports("avx512f"))
		readers[n++] = read_avx512;
#endif
	return n;
}

static uint64_t scan_pages(const uint8_t *bytes, size_t n)
{
	uint64_t other = 0;
	for (size_t i = 0; i < n; i += PAGE)
		other += !gw__is_zero(bytes + i, PAGE);
	return other;
}

static double rate_of(reader_fn *fn, const uint8_t *bytes, size_t n)
{
	double start = seconds_now();
	if (fn(bytes, n)) {
		fprintf(stderr, "zero-scan: something other than zeros in a buffer of zeros\n");
		exit(1);
	}
	return (double)n / (seconds_now() - start);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof *v, by_size);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double best_read(reader_fn *const *readers, unsigned n, const uint8_t *bytes, size_t bytes_n)
{
	double best = 0;
	for (unsigned i = 0; i < n; i++) {
		double rate = rate_of(readers[i], bytes, bytes_n);
		best = rate > best ? rate : best;
	}
	return best;
}

int main(int argc, char **argv)
{
	size_t n = argc == 3 ? strtoul(argv[1], NULL, 10) * MIB : 0;
	unsigned rounds = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
	if (n == 0 || rounds == 0 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: zero-scan MIB ROUNDS\n");
		return 2;
	}
	uint8_t *bytes = aligned_alloc(2 * MIB, gw__round_up(n, 2 * MIB));
	if (!bytes) {
		fprintf(stderr, "zero-scan: no memory for %zu bytes\n", n);
		return 1;
	}
	memset(bytes, 1, n); /* pages of our own: the kernel shows one page of zeros for all untouched ones */
	memset(bytes, 0, n);
	reader_fn *readers[4];
	unsigned readers_n = list_readers(readers);
	const char *variant = "";
	gw__is_zero_variant(0, &variant);
	double scan[ROUNDS_MAX], read[ROUNDS_MAX];
	for (unsigned i = 0; i < rounds; i++) {
		read[i] = best_read(readers, readers_n, bytes, n);
		scan[i] = rate_of(scan_pages, bytes, n);
	}
	printf("{\"variant\": \"%s\", \"scan\": %.0f, \"read\": %.0f}\n", variant, median(scan, rounds), median(read, rounds));
	free(bytes);
	return 0;
}
