/* SPDX-License-Identifier: MIT */
/*
 * A message of a channel in words and fields, as it is made, and the names that messages have. Nothing of a channel is known here. Its maker's.
 */
#ifndef GW_DISSECT_MESSAGE_H
#define GW_DISSECT_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { GW__MESSAGE_FIELDS_MAX = 8, GW__MESSAGE_TEXT_BYTES = 512 };

/*
 * A message, or a run of pages. Messages lie one after the other without gap, except that a run (`sum`) covers the pages in it
 * once more.
 */
struct gw__message {
	uint64_t off, bytes; /* in this direction of this channel */
	const char *name;    /* "PING", "PAGES"; never freed */
	bool detail;         /* a page or a mark of its own, which a sum or a frame also stands for */
	bool sum;
	char text[GW__MESSAGE_TEXT_BYTES]; /* in words */
	unsigned fields_n;
	struct gw__message_field {
		const char *name;
		const char *text; /* NULL: it is a number. Lent during the call */
		uint64_t number;
	} field[GW__MESSAGE_FIELDS_MAX];
};

/* Does a message of this name exist? Letters of either case; '-' is '_', and POSTCOPY_ may be left out. */
bool gw__message_exists(const char *name);
bool gw__message_is(const struct gw__message *m, const char *name);
/* A single page, emitted only on request. */
bool gw__message_is_page(const char *name);

/* "4 MiB", "12 KiB", "77 bytes": exact. */
struct gw__message_size {
	char text[32];
};
const char *gw__message_size(uint64_t bytes, struct gw__message_size *s);
#define GW__MESSAGE_SIZE(bytes) gw__message_size(bytes, &(struct gw__message_size){""})

/* A new one in the place of the one before, with this much of its text. Returns it. */
struct gw__message *gw__message_begin(struct gw__message *m, const char *name, const char *fmt, ...) GW__PRINTF(3, 4);
/* Appends to the text. */
void gw__message_more(struct gw__message *m, const char *fmt, ...) GW__PRINTF(2, 3);
/* Fields; those that are too many are left out. */
void gw__message_number(struct gw__message *m, const char *name, uint64_t v);
void gw__message_text(struct gw__message *m, const char *name, const char *text);

/* A command of a main channel, checked by its decoder. `block` has room for a name, and lives as long as the message. */
struct gw__command;
void gw__message_command(struct gw__message *m, const struct gw__command *cmd, char *block);

#endif
