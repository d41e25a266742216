/* SPDX-License-Identifier: MIT */
/*
 * Trace points: at every state change and message. Each is a USDT probe (`bpftrace -e 'usdt:...:godwit:NAME'`) and,
 * when the job has a text trace, one line. The fast path is one predicted branch.
 */
#ifndef GW_BASE_TRACE_H
#define GW_BASE_TRACE_H

#include "base/error.h"

#ifdef GW_HAVE_SDT
#include <sys/sdt.h>
#define GW__PROBE(name) DTRACE_PROBE(godwit, name)
#else
#define GW__PROBE(name) ((void)0)
#endif

struct gw__trace {
	void (*line)(void *ctx, const char *name, const char *fmt, ...) GW__PRINTF(3, 4); /* NULL: off */
	void *ctx;
};

#define GW__TRACE(t, name, ...)                                                                                                            \
	do {                                                                                                                               \
		GW__PROBE(name);                                                                                                           \
		if (__builtin_expect((t) && (t)->line, 0))                                                                                 \
			(t)->line((t)->ctx, #name, __VA_ARGS__);                                                                           \
	} while (0)

#endif
