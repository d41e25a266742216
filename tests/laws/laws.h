/* SPDX-License-Identifier: MIT */
/*
 * What a law test needs: numbered rounds of generated input, each from its own seed, and a failure line that
 * names it.
 *
 * GW_SEED=N (default 1) chooses the input, GW_ROUNDS=N how many rounds; a failed round R of seed S is
 * repeated alone with GW_SEED=S GW_ROUND=R. Header only; one thread.
 */
#ifndef GW_TESTS_LAWS_H
#define GW_TESTS_LAWS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct law {
	uint64_t seed, round;
	uint64_t state; /* of the generator */
};

/* splitmix64: one word of state, any seed is good. */
static inline uint64_t law_u64(struct law *l)
{
	uint64_t z = l->state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static inline uint64_t law_below(struct law *l, uint64_t n) { return law_u64(l) % n; }

static inline void law_bytes(struct law *l, uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)law_u64(l);
}

#define LAW(l, cond)                                                                                                                       \
	do {                                                                                                                               \
		if (!(cond)) {                                                                                                             \
			fprintf(stderr, "%s:%d: broken: %s\n  repeat with GW_SEED=%llu GW_ROUND=%llu\n", __FILE__, __LINE__, #cond,        \
				(unsigned long long)(l)->seed, (unsigned long long)(l)->round);                                            \
			exit(1);                                                                                                           \
		}                                                                                                                          \
	} while (0)

static inline uint64_t law_env(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text ? strtoull(text, NULL, 0) : otherwise;
}

static inline void law_run(const char *name, uint64_t rounds, void (*fn)(struct law *l))
{
	struct law l = {.seed = law_env("GW_SEED", 1)};
	uint64_t first = law_env("GW_ROUND", 0);
	uint64_t end = getenv("GW_ROUND") ? first + 1 : law_env("GW_ROUNDS", rounds);
	for (l.round = first; l.round < end; l.round++) {
		l.state = l.seed << 32 ^ l.round;
		fn(&l);
	}
	printf("%s: %llu rounds of seed %llu\n", name, (unsigned long long)(end - first), (unsigned long long)l.seed);
}

#endif
