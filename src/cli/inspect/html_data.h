/* SPDX-License-Identifier: MIT */
/*
 * What the page of `inspect --html` shows, as one JSON object. Its size is bounded whatever the guest is: the map is counted in cells, at
 * most 65,536 in all, and lists end where their share of the page is full. What was left out is counted.
 */
#ifndef GW_CLI_INSPECT_HTML_DATA_H
#define GW_CLI_INSPECT_HTML_DATA_H

#include "cli/inspect/inspect.h"

json_t *gw__html_data(const struct gw__inspect *in); /* NULL: no memory */

/* Text of `o` that may stand in a script element: ASCII without <, > and &. malloc'ed; NULL: no memory. */
char *gw__html_text(const json_t *o);

#endif
