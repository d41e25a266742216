/* SPDX-License-Identifier: MIT */
/* The figures of a protected guest, for its control socket: one line of words and numbers. Owned by the session, behind its lock. */
#ifndef GW_LIB_STANDBY_STATS_H
#define GW_LIB_STANDBY_STATS_H

#include "base/histogram.h"
#include "engine/colo/secondary.h"

struct gw__standby_stats {
	struct gw__histogram pause_ns;
	struct gw__colo_epoch last;
	uint64_t last_ns; /* of the clock, when the last epoch was safe; 0: there is none */
	uint64_t checkpoints, pause_total_ns, pages_total;
};

void gw__standby_stats_note(struct gw__standby_stats *s, const struct gw__colo_epoch *e, uint64_t now_ns);
/* " age_us N checkpoints N ...", which goes behind the state; nothing before the first epoch. */
void gw__standby_stats_print(const struct gw__standby_stats *s, uint64_t now_ns, char *line, size_t n);

#endif
