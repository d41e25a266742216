/* SPDX-License-Identifier: MIT */
/*
 * What the guests below a standby's folder are at, as their control sockets say it: for godwit top, for metrics and for systemd. A look is taken at one moment and
 * owned by who took it. Any thread.
 */
#ifndef GW_CLI_CMD_STANDBY_GUESTS_H
#define GW_CLI_CMD_STANDBY_GUESTS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gw__cli_guest {
	char vm[NAME_MAX + 1];
	char state
		[16]; /* as the standby says it; "waiting": it is over and guest.img exists; "died": its standby did, and left a journal; "busy": no answer */
	char line[4600]; /* words and numbers that follow it */
};

struct gw__cli_guests {
	struct gw__cli_guest *v; /* in the order of their names */
	size_t n;
};

/* 0, or a negative errno: the folder cannot be read, or no memory. */
int gw__cli_guests_look(const char *dir, struct gw__cli_guests *g);
void gw__cli_guests_free(struct gw__cli_guests *g);

/* The value after a word. False: there is none, so it is not known. */
bool gw__cli_guest_number(const struct gw__cli_guest *g, const char *word, uint64_t *n);
bool gw__cli_guest_word(const struct gw__cli_guest *g, const char *word, char *to, size_t to_bytes);

#endif
