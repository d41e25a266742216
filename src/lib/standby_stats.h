/* SPDX-License-Identifier: MIT */
/* The figures of a protected guest, for its control socket: one line of words and numbers. Owned by the session, under its lock. */
#ifndef GW_LIB_STANDBY_STATS_H
#define GW_LIB_STANDBY_STATS_H

#include <stdbool.h>

#include "base/histogram.h"
#include "engine/colo/secondary.h"

enum { GW__STANDBY_WORD_BYTES = 16 };

/* What its guard said last; "": nothing. */
struct gw__standby_guard {
	char disk[GW__STANDBY_WORD_BYTES], network[GW__STANDBY_WORD_BYTES];
	bool has_lease;
	uint64_t lease_ns; /* of the clock: when it is over, if nobody prolongs it */
};

struct gw__standby_stats {
	struct gw__histogram pause_ns;
	struct gw__colo_epoch last;
	uint64_t last_ns; /* of the clock, when the last epoch was safe; 0: there is none */
	uint64_t checkpoints, pause_total_ns, pages_total;
	struct gw__standby_guard guard;
};

void gw__standby_stats_note(struct gw__standby_stats *s, const struct gw__colo_epoch *e, uint64_t now_ns);
/* "disk WORD network WORD lease_left_us N", the last two if there are any. False: it is not that, and nothing is changed. */
bool gw__standby_stats_hear_guard(struct gw__standby_stats *s, const char *words, uint64_t now_ns);
/* " age_us N checkpoints N ...", which follows the state; nothing before the first epoch. */
void gw__standby_stats_print(const struct gw__standby_stats *s, uint64_t now_ns, char *line, size_t n);

#endif
