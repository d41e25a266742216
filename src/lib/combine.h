/* SPDX-License-Identifier: MIT */
/* What the calls ask of the table of abilities (src/plan/capability_rules.h) before they start anything. */
#ifndef GW_LIB_COMBINE_H
#define GW_LIB_COMBINE_H

#include "image/read/image.h"
#include "lib/job.h"
#include "plan/capability_rules.h"

uint64_t gw__ability_of_uri(const struct gw__uri *uri);
/* What every link can be asked for: TLS. */
uint64_t gw__ability_of_link(const struct gw_link_opts *link);

/* 0, or -EOPNOTSUPP: it holds memory alone, which is no guest. */
int gw__job_check_devices(gw_job *job, const struct gw__image *image);

/* 0, or -EOPNOTSUPP with the reason. */
int gw__job_allow(gw_job *job, enum gw__operation op, uint64_t wanted);

#endif
