/* SPDX-License-Identifier: MIT */
/*
 * How far the work is: a bar on a terminal, lines for a program (--progress=FD), JSON events (--json); all
 * from one sample. Silent where nobody looks.
 *
 * It never holds the work up: a program that does not read its lines loses lines. Called by the thread that
 * works.
 */
#ifndef GW_CLI_UI_PROGRESS_H
#define GW_CLI_UI_PROGRESS_H

#include <godwit.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/ui/options.h"

/* What only the source's monitor knows; a command that has one fills it in before each sample is shown. */
struct gw__cli_extra {
	bool known;
	uint64_t remaining_bytes, dirty_bytes_per_s;
	char text[80]; /* anything else worth a place in the bar, or "" */
};
typedef void gw__cli_extra_fn(void *ctx, struct gw__cli_extra *extra);

enum { GW__CLI_SAMPLES = 24 }; /* about two seconds */

struct gw__cli_progress {
	int fd; /* lines, -1: none */
	bool bar, json;
	gw__cli_extra_fn *extra;
	void *extra_ctx;
	uint64_t start_ns, next_json_ns;
	int last_phase;
	unsigned samples;
	struct {
		uint64_t at_ns, bytes;
	} sample[GW__CLI_SAMPLES];
};

void gw__cli_progress_init(struct gw__cli_progress *p, const struct gw__cli_common *c);
/* Also a gw_progress_fn, with `p` as its ctx. */
void gw__cli_progress_show(void *p, const struct gw_progress *now);
void gw__cli_progress_hook(struct gw__cli_progress *p, gw__cli_extra_fn *fn, void *ctx);

/* A line of its own for the program that reads --progress: "listening tcp:127.0.0.1:4444". */
void gw__cli_progress_line(struct gw__cli_progress *p, const char *fmt, ...) GW__PRINTF(2, 3);

/* Since its beginning. */
double gw__cli_progress_seconds(const struct gw__cli_progress *p);
/* Wipes the bar; nothing is shown after it. */
void gw__cli_progress_end(struct gw__cli_progress *p);

/* "waiting", "ram", "devices", "sync", "done". */
const char *gw__cli_phase_name(enum gw_phase phase);

#endif
