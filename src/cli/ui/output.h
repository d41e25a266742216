/* SPDX-License-Identifier: MIT */
/*
 * What the command says: results on stdout, as text or as JSON lines; messages on stderr; and the exit
 * status.
 *
 * Much of what is printed came from a file or a peer, so all text passes one filter here: control characters (C1 and DEL too), what
 * changes the direction of text or cannot be seen, and bytes that are not UTF-8 appear as \xNN and can neither move a terminal's cursor
 * nor pretend another text. A message is one line. JSON is ASCII, and decodes to what was given.
 *
 * Any thread: one lock keeps messages, lines and the progress bar whole.
 */
#ifndef GW_CLI_UI_OUTPUT_H
#define GW_CLI_UI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* The exit status says where the guest is. */
enum gw__exit {
	GW__EXIT_DONE = 0,
	GW__EXIT_FAILED = 1, /* the source, if there is one, still runs it */
	GW__EXIT_USAGE = 2,
	GW__EXIT_REFUSED = 3,     /* by the plan, before anything was touched */
	GW__EXIT_IN_DOUBT = 4,    /* the message says what is not known */
	GW__EXIT_RECOVERABLE = 5, /* split or paused */
	GW__EXIT_DIFFERENT = 6,   /* the answer of a comparison */
};

/* A message, one sentence: "godwit: ..." on stderr. Returns `status`, so that a command can end with it. */
int gw__ui_error(int status, const char *fmt, ...) GW__PRINTF(2, 3);

/* What was done, unless --quiet; what is decided and done on the way, after --verbose. */
void gw__ui_info(const char *fmt, ...) GW__PRINTF(1, 2);
void gw__ui_verbose(const char *fmt, ...) GW__PRINTF(1, 2);
void gw__ui_set_verbosity(bool quiet, bool verbose);

/* Text on stdout, as given except for the filter; newlines pass: a name that a user or a folder gave goes through GW__NAME. */
void gw__ui_print(const char *fmt, ...) GW__PRINTF(1, 2);

/* One object, one line on stdout, flushed. Owns `object`; NULL (out of memory) is said and remembered as a
 * failure. */
void gw__cli_json(json_t *object);
/* The same with one more member: a list of `n` items. It is written as they are made, however long it is. */
void gw__cli_json_and_list(json_t *object, const char *key, uint32_t n, json_t *(*item)(void *ctx, uint32_t i), void *ctx);
/* A JSON string of any bytes; NULL gives null. */
json_t *gw__cli_json_text(const char *text);
/* A number; JSON has no integer above 2^63 - 1, which is what larger ones become. */
json_t *gw__cli_json_size(uint64_t v);

/*
 * One line that is rewritten in place at the end of the terminal on stderr; NULL: none. It gives way to
 * messages and results, until it is set again.
 */
void gw__ui_progress_line(const char *line);

/* Once, at the end: did all of stdout get through? A reader that left early is not a failure. */
bool gw__cli_output_whole(void);

/* "12.3 MiB", "512 bytes". Returns `text`. */
struct gw__cli_size {
	char text[24];
};
const char *gw__cli_size_text(uint64_t bytes, struct gw__cli_size *s);
/* The value of a macro-like call: GW__SIZE(n) lives as long as the enclosing block. */
#define GW__SIZE(bytes) gw__cli_size_text(bytes, &(struct gw__cli_size){""})

/* A name for gw__ui_print, on one line. GW__NAME(text) lives as long as the enclosing block. */
struct gw__cli_name {
	char text[4096];
};
const char *gw__cli_name_text(const char *text, struct gw__cli_name *n);
#define GW__NAME(name) gw__cli_name_text(name, &(struct gw__cli_name){""})

/* Text through the filter into `to`, on one line, always ended, cut at a whole character. Returns the length. */
size_t gw__cli_filter(char *to, size_t to_bytes, const char *from);

#endif
