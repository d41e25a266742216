/* SPDX-License-Identifier: MIT */
/* The page of `inspect --html` before and after its data, made of page.html, page.css and page.js by embed-page.py when Godwit is built. */
#ifndef GW_CLI_INSPECT_PAGE_H
#define GW_CLI_INSPECT_PAGE_H

#include <stddef.h>

extern const unsigned char gw__page_head[], gw__page_tail[];
extern const size_t gw__page_head_bytes, gw__page_tail_bytes;

#endif
