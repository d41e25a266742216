/* SPDX-License-Identifier: MIT */
/* Text from a file or a peer, made fit to be shown or to be put into JSON. Pure: any thread. */
#ifndef GW_BASE_TEXT_H
#define GW_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Control characters (C1 and DEL too), what changes the direction of text or cannot be seen, and bytes that are not UTF-8 become \xNN. The result
 * always ends with a NUL, and is cut at a whole character; `many_lines`: newlines pass. Returns its length.
 */
size_t gw__text_filter(char *to, size_t to_bytes, const char *from, bool many_lines);

#endif
