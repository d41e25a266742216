/* SPDX-License-Identifier: MIT */
/*
 * stamp: a guest program whose memory proves itself.
 *
 * Runs inside the test guest, one process per CPU, single-threaded. It fills PAGES pages, keeps rewriting
 * them in a fixed order with rising generation, and keeps verifying all of them. check_stamp.py does the same
 * from outside, on a raw RAM file. Not a load generator: the rate is set so that the guest stays responsive
 * under TCG.
 *
 * A page is 512 little-endian words:
 *
 *   0 magic "GODWITST"   1 index   2 generation   3 seed   4 writing   5 pages   6..510 noise   511 checksum
 *
 *   noise[i]  = mix(start + (i + 1) * GOLD), start from (seed, index, generation)       (splitmix64)
 *   checksum  = sum of words 0..510, with word 4 taken as 0
 *   writing   = 1 from before the first store of a rewrite until after the last. A guest stopped in between
 * leaves exactly one such page per process, and only there may anything be torn.
 *
 * Order: rewrite number k (from 0) gives page (k * stride) mod PAGES the generation 2 + k / PAGES; the first
 * fill is generation 1. So at any moment the generation of every page follows from k alone, and a page that
 * stayed behind in a migration is found even though it is consistent in itself.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MAGIC, INDEX, GENERATION, SEED, WRITING, PAGES, NOISE, CHECKSUM = 511, PAGE_WORDS = 512 };

#define GOLD                0x9e3779b97f4a7c15u
#define TICK_NS             100000000
#define TICKS_PER_PASS      8u
#define CHECKS_PER_TICK_MAX 1024u
#define COMPLAINTS_PER_PASS 10u

struct stamp {
	uint64_t *ram;
	uint64_t pages, seed, stride;
	uint64_t unstride; /* stride * unstride = 1 (mod pages): page -> its place in the order */
	uint64_t written;  /* k */
	uint64_t checked;  /* pages verified in this pass */
	uint64_t bad;      /* pages found bad in this pass */
};

static uint64_t magic(void)
{
	uint64_t m;
	memcpy(&m, "GODWITST", 8);
	return m;
}

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t start(uint64_t seed, uint64_t index, uint64_t generation)
{
	return mix(seed) + index * 0xd1b54a32d192ed03u + generation * 0x8cb92ba72f3d8dd7u;
}

/* The store of `writing` must reach memory before and after the rest; x86 keeps the order the compiler gives.
 */
static void publish(uint64_t *page, uint64_t writing)
{
	__asm__ volatile("" ::: "memory");
	((volatile uint64_t *)page)[WRITING] = writing;
	__asm__ volatile("" ::: "memory");
}

static void write_page(struct stamp *s, uint64_t index, uint64_t generation)
{
	uint64_t *p = s->ram + index * PAGE_WORDS;
	uint64_t x = start(s->seed, index, generation), sum;

	publish(p, 1);
	p[MAGIC] = magic();
	p[INDEX] = index;
	p[GENERATION] = generation;
	p[SEED] = s->seed;
	p[PAGES] = s->pages;
	sum = p[MAGIC] + index + generation + s->seed + s->pages;
	for (int i = NOISE; i < CHECKSUM; i++) {
		p[i] = mix(x += GOLD);
		sum += p[i];
	}
	p[CHECKSUM] = sum;
	publish(p, 0);
}

static uint64_t expected_generation(const struct stamp *s, uint64_t index)
{
	uint64_t place = index * s->unstride % s->pages;
	return 1 + s->written / s->pages + (place < s->written % s->pages);
}

static void complain(struct stamp *s, uint64_t index, int word, uint64_t want, uint64_t got)
{
	if (s->bad++ < COMPLAINTS_PER_PASS)
		printf("stamp BAD page %" PRIu64 " seed %" PRIu64 " word %d expected %016" PRIx64 " got %016" PRIx64 "\n", index, s->seed,
			word, want, got);
}

/* Compare with what must be there now; the first wrong word is reported. */
static void check_page(struct stamp *s, uint64_t index)
{
	const uint64_t *p = s->ram + index * PAGE_WORDS;
	uint64_t generation = expected_generation(s, index);
	uint64_t x = start(s->seed, index, generation), sum = 0;
	/* Never with the magic at the start of a page: the outside checker would take the stack for a stamp. */
	_Alignas(64) const uint64_t head[1 + NOISE] = {0, magic(), index, generation, s->seed, 0, s->pages};

	for (int i = 0; i < CHECKSUM; i++) {
		uint64_t want = i < NOISE ? head[1 + i] : mix(x += GOLD);
		if (p[i] != want) {
			complain(s, index, i, want, p[i]);
			return;
		}
		sum += want;
	}
	if (p[CHECKSUM] != sum)
		complain(s, index, CHECKSUM, sum, p[CHECKSUM]);
}

static void check_some(struct stamp *s)
{
	uint64_t n = s->pages / TICKS_PER_PASS + 1;

	if (n > CHECKS_PER_TICK_MAX)
		n = CHECKS_PER_TICK_MAX;
	for (; n && s->checked < s->pages; n--)
		check_page(s, s->checked++);
	if (s->checked < s->pages)
		return;
	if (!s->bad)
		printf("stamp ok gen %" PRIu64 " pages %" PRIu64 " seed %" PRIu64 "\n", 1 + s->written / s->pages, s->pages, s->seed);
	s->checked = s->bad = 0;
}

static void rewrite_some(struct stamp *s, uint64_t rate)
{
	for (; rate; rate--) {
		write_page(s, s->written % s->pages * s->stride % s->pages, 2 + s->written / s->pages);
		s->written++;
	}
}

static int prepare(struct stamp *s)
{
	s->stride = s->pages % 7919 ? 7919 : 7927; /* primes: one of them shares no factor with pages */
	s->unstride = 0;
	for (uint64_t i = 0; i < s->pages; i++)
		if (i * s->stride % s->pages == 1 % s->pages)
			s->unstride = i;
	s->ram = mmap(NULL, s->pages * PAGE_WORDS * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->ram == MAP_FAILED)
		return -1;
	/* A page moved by the kernel would leave a stale copy that the outside checker could not tell apart.
	 */
	madvise(s->ram, s->pages * PAGE_WORDS * 8, MADV_NOHUGEPAGE);
	if (mlock(s->ram, s->pages * PAGE_WORDS * 8))
		return -1;
	for (uint64_t i = 0; i < s->pages; i++)
		write_page(s, i, 1);
	return 0;
}

int main(int argc, char **argv)
{
	struct stamp s = {0};
	const struct timespec tick = {0, TICK_NS};

	if (argc != 4) {
		fprintf(stderr, "usage: stamp PAGES PAGES_PER_TICK SEED\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	s.pages = strtoull(argv[1], NULL, 0);
	s.seed = strtoull(argv[3], NULL, 0);
	if (s.pages < 1 || prepare(&s)) {
		printf("stamp BAD start: cannot have %" PRIu64 " pages\n", s.pages);
		return 1;
	}
	for (;;) {
		rewrite_some(&s, strtoull(argv[2], NULL, 0));
		check_some(&s);
		nanosleep(&tick, NULL);
	}
}
