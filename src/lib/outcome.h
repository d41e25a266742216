/* SPDX-License-Identifier: MIT */
/* From plan/guest_location to the results of public calls, and back. A job keeps the outcome of its last call; the thread's that makes the call. */
#ifndef GW_LIB_OUTCOME_H
#define GW_LIB_OUTCOME_H

#include "lib/job.h"
#include "plan/guest_location.h"

/* `location` becomes the job's outcome; the rest of that is zeroed, and may be filled in. */
struct gw_outcome *gw__job_end_at(gw_job *job, struct gw__location location);
/* Place, next step, status and id alone. */
void gw__outcome_set(struct gw_outcome *o, const struct gw__location *l);
/* A call that failed with `rc` before anything was touched. */
enum gw__location_event gw__location_event_before(int rc);

#endif
