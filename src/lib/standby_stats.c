/* SPDX-License-Identifier: MIT */
/* The figures of a protected guest; see standby_stats.h. */
#include "lib/standby_stats.h"

#include <stdio.h>
#include <string.h>

typedef unsigned long long ull;

#define LEASE_MAX_US UINT64_C(1000000000000) /* eleven days */

void gw__standby_stats_note(struct gw__standby_stats *s, const struct gw__colo_epoch *e, uint64_t now_ns)
{
	s->last = *e;
	s->last_ns = now_ns;
	if (!e->number)
		return;
	gw__histogram_add(&s->pause_ns, e->pause_ns);
	s->checkpoints++;
	s->pause_total_ns += e->pause_ns;
	s->pages_total += e->pages + e->zero_pages;
}

static bool is_word(const char *text) { return *text && strspn(text, "abcdefghijklmnopqrstuvwxyz-") == strlen(text); }

bool gw__standby_stats_hear_guard(struct gw__standby_stats *s, const char *words, uint64_t now_ns)
{
	struct gw__standby_guard g = {0};
	ull left_us = 0;
	int end = 0, more = 0;
	if (sscanf(words, "disk %15s network %15s%n", g.disk, g.network, &end) != 2 || !end || !is_word(g.disk) || !is_word(g.network))
		return false;
	g.has_lease = words[end];
	if (g.has_lease &&
		(sscanf(words + end, " lease_left_us %19llu%n", &left_us, &more) != 1 || words[end + more] || left_us > LEASE_MAX_US))
		return false;
	g.lease_ns = g.has_lease ? now_ns + left_us * 1000 : 0;
	s->guard = g;
	return true;
}

static void print_guard(const struct gw__standby_guard *g, uint64_t now_ns, char *line, size_t n)
{
	size_t used = strlen(line);
	if (g->disk[0])
		snprintf(line + used, n - used, " disk %s network %s", g->disk, g->network);
	used = strlen(line);
	if (g->has_lease)
		snprintf(line + used, n - used, " lease_left_us %llu", (ull)(g->lease_ns > now_ns ? g->lease_ns - now_ns : 0) / 1000);
}

void gw__standby_stats_print(const struct gw__standby_stats *s, uint64_t now_ns, char *line, size_t n)
{
	size_t used = strlen(line);
	if (!s->last_ns)
		return;
	snprintf(line + used, n - used,
		" age_us %llu checkpoints %llu pause_us %llu pause_us_p50 %llu pause_us_p99 %llu pause_us_total %llu dirty_pages %llu dirty_pages_total %llu "
		"device_bytes %llu memory_bytes %llu merge_us %llu",
		(ull)(now_ns - s->last_ns) / 1000, (ull)s->checkpoints, (ull)s->last.pause_ns / 1000,
		(ull)gw__histogram_quantile(&s->pause_ns, 500) / 1000, (ull)gw__histogram_quantile(&s->pause_ns, 990) / 1000,
		(ull)s->pause_total_ns / 1000, (ull)(s->last.pages + s->last.zero_pages), (ull)s->pages_total, (ull)s->last.device_bytes,
		(ull)s->last.memory_bytes, (ull)s->last.merge_ns / 1000);
	print_guard(&s->guard, now_ns, line, n);
}
