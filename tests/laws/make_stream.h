/* SPDX-License-Identifier: MIT */
/* Makes up streams: every kind of section, record and ending, in any order that a source may choose. */
#ifndef GW_TESTS_MAKE_STREAM_H
#define GW_TESTS_MAKE_STREAM_H

#include "laws.h"
#include "stream_builder.h"

enum {
	MAKE_CALM = 1,      /* bodies hold no byte 7e, so that nothing in them looks like an end */
	MAKE_ONCE = 2,      /* the block list is not repeated: each byte can be told from the events */
	MAKE_DESCRIBED = 4, /* ends with a description, whole */
	MAKE_MAPPED = 8,
	MAKE_SMALL = 16, /* pages of 1 KiB, and few of them */
	MAKE_PAGE_BITS_MAX = 12,
};

struct made {
	struct sb b;
	size_t eof_at; /* of the byte 00 */
	bool described;
};

/* The caller ends `m` with sb_fini(&m->b). */
void make_stream(struct law *l, unsigned what, struct made *m);

#endif
