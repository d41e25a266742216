/* SPDX-License-Identifier: MIT */
/*
 * The options of a call as this library knows them, whatever the caller was built with: `ours` is complete, checked, and refers to what the caller's
 * refers to. In a started call callbacks are refused, and those of `ours` make events. The thread that makes the call.
 */
#ifndef GW_LIB_STARTED_H
#define GW_LIB_STARTED_H

#include "lib/job.h"

int gw__take_receive_opts(gw_job *job, const struct gw_receive_opts *o, struct gw_receive_opts *ours);
int gw__take_drain_opts(gw_job *job, const struct gw_drain_opts *o, struct gw_drain_opts *ours);
int gw__take_serve_opts(gw_job *job, const struct gw_serve_opts *o, struct gw_serve_opts *ours);
int gw__take_proxy_opts(gw_job *job, const struct gw_proxy_opts *o, struct gw_proxy_opts *ours);
int gw__take_standby_opts(gw_job *job, const struct gw_standby_opts *o, struct gw_standby_opts *ours);
/* Of gw_compare: *fn and *ctx likewise. */
int gw__take_difference_fn(gw_job *job, gw_difference_fn **fn, void **ctx);

/* What the job itself reports while a call runs: to its callbacks, or as events. */
void gw__report_begin(gw_job *job);

#endif
