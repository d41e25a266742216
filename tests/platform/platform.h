/* SPDX-License-Identifier: MIT */
/* Of tests of what this kernel does: cmocka, and an end with 77 that says what is missing. */
#ifndef GW_TESTS_PLATFORM_H
#define GW_TESTS_PLATFORM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The whole program is skipped. */
#define cannot_run(...) (printf(__VA_ARGS__), printf("\n"), fflush(stdout), exit(77))
/* One test is. */
#define cannot_test(...) (print_message(__VA_ARGS__), print_message("\n"), skip())

static inline uint64_t count_bits(const uint64_t *words, size_t n)
{
	uint64_t bits = 0;
	for (size_t i = 0; i < n; i++)
		bits += (uint64_t)__builtin_popcountll(words[i]);
	return bits;
}

#endif
