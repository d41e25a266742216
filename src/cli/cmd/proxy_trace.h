/* SPDX-License-Identifier: MIT */
/*
 * `godwit proxy --perfetto`: the migration as a trace in Chrome's JSON format, which Perfetto and chrome://tracing open. The file is an array of
 * events. It grows while the proxy runs, and lacks only its last bracket until then, which both readers allow. So a proxy that is killed leaves a
 * trace that opens, too. A run of pages is one event, at most ten in a second for each track. Called by one thread at a time.
 */
#ifndef GW_CLI_CMD_PROXY_TRACE_H
#define GW_CLI_CMD_PROXY_TRACE_H

#include <godwit.h>

struct gw__proxy_trace;

/* 0, or a negative errno. What had the name is replaced. */
int gw__proxy_trace_open(const char *path, struct gw__proxy_trace **trace);
/* NULL is fine here and below. A failed write is remembered, and hinders
 * nothing. */
void gw__proxy_trace_message(struct gw__proxy_trace *trace, const struct gw_proxy_message *m);
/* Ends what is open, and the array. 0, or the errno of the first write that
 * failed. Frees it. */
int gw__proxy_trace_close(struct gw__proxy_trace *trace);

#endif
