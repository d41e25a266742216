/* SPDX-License-Identifier: MIT */
/* See descriptors.h. */
#include "qemu/descriptors.h"

#include <limits.h>
#include <unistd.h>

/* The least of them that is not below `from`; UINT_MAX: none. */
static unsigned next_kept(const int *keep, size_t n, unsigned from)
{
	unsigned least = UINT_MAX;
	for (size_t i = 0; i < n; i++)
		if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < least)
			least = (unsigned)keep[i];
	return least;
}

void gw__close_all_but(const int *keep, size_t n)
{
	for (unsigned from = 3;;) {
		unsigned kept = next_kept(keep, n, from);
		if (kept > from)
			close_range(from, kept == UINT_MAX ? UINT_MAX : kept - 1, 0);
		if (kept == UINT_MAX)
			return;
		from = kept + 1;
	}
}
