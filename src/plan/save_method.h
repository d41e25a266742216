/* SPDX-License-Identifier: MIT */
/*
 * Who writes the image of a save: the QEMU itself, into a file that it is handed (direct), or we, from what it sends (stream)? One table, a row for
 * each reason against direct. Pure; asked before anything is changed.
 */
#ifndef GW_PLAN_SAVE_METHOD_H
#define GW_PLAN_SAVE_METHOD_H

#include <stdbool.h>
#include <stddef.h>

enum gw__save_wish { GW__SAVE_WISH_AUTO, GW__SAVE_WISH_DIRECT, GW__SAVE_WISH_STREAM };

struct gw__plan_save {
	/* What the QEMU and its guest are. */
	bool writes_images; /* knows mapped-ram */
	bool takes_files;   /* its monitor is a unix socket, over which descriptors pass */
	bool has_direct_io; /* as a parameter */
	bool guest_runs;    /* now */
	/* What is asked for. */
	bool at_start, postcopy, compression, tls, listen, memory_limit, max_bandwidth, channels, direct_io, stop;
};

enum gw__save_method { GW__SAVE_METHOD_REFUSED, GW__SAVE_METHOD_DIRECT, GW__SAVE_METHOD_STREAM };

/* The sentence in `reason` is set for every answer. Refused: only where direct is wished for. */
enum gw__save_method gw__plan_save_method(enum gw__save_wish wish, const struct gw__plan_save *p, char *reason, size_t room);

#endif
