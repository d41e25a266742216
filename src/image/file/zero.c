/* SPDX-License-Identifier: MIT */
/*
 * Looking for a byte that is not zero; see zero.h. Every variant looks at the first 64 bytes alone, because a
 * page with content nearly always shows it there, and then goes on in strides wide enough to hide the loads'
 * latency.
 */
#include "image/file/zero.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/math.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { HEAD = 64, STRIDE = 256 };

static inline bool words_zero(const uint8_t *p, size_t n)
{
	uint64_t all = 0;
	for (size_t i = 0; i < n; i += 8) {
		uint64_t v;
		memcpy(&v, p + i, 8);
		all |= v;
	}
	return all == 0;
}

static bool is_zero_portable(const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	for (size_t i = 0; i < n; i += HEAD)
		if (!words_zero(p + i, HEAD))
			return false;
	return true;
}

#if defined(__x86_64__)

static inline __m128i load_128(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)p); }

static inline __m128i or_64_bytes_sse2(const uint8_t *p)
{
	return _mm_or_si128(_mm_or_si128(load_128(p), load_128(p + 16)), _mm_or_si128(load_128(p + 32), load_128(p + 48)));
}

static inline bool none_128(__m128i v) { return _mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) == 0xffff; }

static bool is_zero_sse2(const void *bytes, size_t n)
{
	const uint8_t *p = bytes, *end = p + n;
	for (; p < end; p += HEAD)
		if (!none_128(or_64_bytes_sse2(p)))
			return false;
	return true;
}

#define AVX2 __attribute__((target("avx2")))

static inline AVX2 __m256i or_64_bytes_avx2(const uint8_t *p)
{
	return _mm256_or_si256(_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 32)));
}

static inline AVX2 bool none_256(__m256i v) { return _mm256_testz_si256(v, v); }

static AVX2 bool is_zero_avx2(const void *bytes, size_t n)
{
	const uint8_t *p = bytes, *end = p + n;
	if (n == 0)
		return true;
	if (!none_256(or_64_bytes_avx2(p)))
		return false;
	for (p += HEAD; end - p >= STRIDE; p += STRIDE) {
		__m256i a = _mm256_or_si256(or_64_bytes_avx2(p), or_64_bytes_avx2(p + 64));
		__m256i b = _mm256_or_si256(or_64_bytes_avx2(p + 128), or_64_bytes_avx2(p + 192));
		if (!none_256(_mm256_or_si256(a, b)))
			return false;
	}
	for (; p < end; p += HEAD)
		if (!none_256(or_64_bytes_avx2(p)))
			return false;
	return true;
}

#define AVX512 __attribute__((target("avx512f")))

static inline AVX512 __m512i load_512(const uint8_t *p) { return _mm512_loadu_si512((const void *)p); }
static inline AVX512 bool none_512(__m512i v) { return _mm512_test_epi64_mask(v, v) == 0; }

static AVX512 bool is_zero_avx512(const void *bytes, size_t n)
{
	const uint8_t *p = bytes, *end = p + n;
	if (n == 0)
		return true;
	if (!none_512(load_512(p)))
		return false;
	for (p += HEAD; end - p >= STRIDE; p += STRIDE) {
		__m512i a = _mm512_or_si512(load_512(p), load_512(p + 64));
		__m512i b = _mm512_or_si512(load_512(p + 128), load_512(p + 192));
		if (!none_512(_mm512_or_si512(a, b)))
			return false;
	}
	for (; p < end; p += HEAD)
		if (!none_512(load_512(p)))
			return false;
	return true;
}

static bool has_avx512(void) { return __builtin_cpu_supports("avx512f"); }
static bool has_avx2(void) { return __builtin_cpu_supports("avx2"); }

#endif

static bool always(void) { return true; }

static const struct {
	const char *name;
	bool (*usable)(void);
	gw__is_zero_fn *fn;
} variants[] = {
/* best first */
#if defined(__x86_64__)
	{"avx512", has_avx512, is_zero_avx512},
	{"avx2", has_avx2, is_zero_avx2},
	{"sse2", always, is_zero_sse2}, /* part of x86-64 */
#endif
	{"portable", always, is_zero_portable},
};

gw__is_zero_fn *gw__is_zero_variant(unsigned i, const char **name)
{
	for (size_t v = 0; v < GW__LEN(variants); v++) {
		if (!variants[v].usable() || i-- > 0)
			continue;
		if (name)
			*name = variants[v].name;
		return variants[v].fn;
	}
	return NULL;
}

bool gw__is_zero(const void *bytes, size_t n)
{
	/* Relaxed: two threads that choose at the same time choose the same. */
	static _Atomic(gw__is_zero_fn *) chosen;
	assert(n % HEAD == 0);
	gw__is_zero_fn *fn = atomic_load_explicit(&chosen, memory_order_relaxed);
	if (!fn) {
		fn = gw__is_zero_variant(0, NULL);
		atomic_store_explicit(&chosen, fn, memory_order_relaxed);
	}
	return fn(bytes, n);
}
