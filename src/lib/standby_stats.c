/* SPDX-License-Identifier: MIT */
/* The figures of a protected guest; see standby_stats.h. */
#include "lib/standby_stats.h"

#include <stdio.h>
#include <string.h>

typedef unsigned long long ull;

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
}
