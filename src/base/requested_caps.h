/* SPDX-License-Identifier: MIT */
/* Names of abilities that are wanted together, as gw_plan_combination() takes them. Pure: any thread. */
#ifndef GW_BASE_REQUESTED_CAPS_H
#define GW_BASE_REQUESTED_CAPS_H

/* Collected one by one; a NULL is no ability. */
struct gw__requested_caps {
	const char *name[32]; /* ends with NULL */
	unsigned n;
};
void gw__requested_caps_add(struct gw__requested_caps *w, const char *ability);

/* The ability that a URI asks for: "tcp", "file", ...; NULL: not a URI we know. */
const char *gw__requested_caps_of_uri(const char *uri);

#endif
