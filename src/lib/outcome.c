/* SPDX-License-Identifier: MIT */
/* The public face of plan/guest_location; see outcome.h. */
#include "lib/outcome.h"

#include <errno.h>

#define SAME(ours, theirs) _Static_assert((int)GW__##ours == (int)GW_##theirs, #ours)
SAME(PLACE_SOURCE_RUNS, PLACE_SOURCE_RUNS);
SAME(PLACE_LOST, PLACE_LOST);
SAME(PLACES, PLACE_LOST + 1);
SAME(NEXT_NOTHING, NEXT_NOTHING);
SAME(NEXT_SERVE, NEXT_SERVE);
SAME(NEXT_STEPS, NEXT_FAILOVER + 1);

#define EVENT(name) [GW_EVIDENCE_##name] = GW__LOCATION_EV_##name
static const enum gw__location_event events[] = {
	EVENT(WRONG_USE),
	EVENT(REFUSED),
	EVENT(UNCHANGED),
	EVENT(SOURCE_RUNS),
	EVENT(SOURCE_STANDS),
	EVENT(SAVED_RUNS),
	EVENT(SAVED_STANDS),
	EVENT(SAVED_STOPPED),
	EVENT(SOURCE_UNREPAIRED),
	EVENT(SOURCE_WAITS),
	EVENT(SOURCE_UNCLEAR),
	EVENT(SOURCE_GONE),
	EVENT(SOURCE_HANGS),
	EVENT(GIVEN_BACK),
	EVENT(NOT_GIVEN_BACK),
	EVENT(FILES_LEFT),
	EVENT(ALSO_KEPT),
	EVENT(ARRIVED),
	EVENT(DESTINATION_FAILED),
	EVENT(DESTINATION_WAITS),
	EVENT(DESTINATION_UNCLEAR),
	EVENT(DESTINATION_SHUT_DOWN),
	EVENT(DESTINATION_HANGS),
	EVENT(DRAINED_UNSAFE),
	EVENT(DRAINED_UNREAD),
	EVENT(DRAINED_UNCONFIRMED),
	EVENT(RELEASED),
	EVENT(PRIMARY_SHUT_DOWN),
	EVENT(PRIMARY_GONE),
};
_Static_assert(sizeof events / sizeof events[0] == GW_EVIDENCE_PRIMARY_GONE + 1, "each evidence is an event");

const char *gw_place_name(uint32_t i) { return i < GW__PLACES ? gw__place_name((enum gw__place)i) : NULL; }
const char *gw_next_step_name(uint32_t i) { return i < GW__NEXT_STEPS ? gw__next_step_name((enum gw__next_step)i) : NULL; }

void gw__outcome_set(struct gw_outcome *o, const struct gw__location *l)
{
	o->place = (enum gw_place)l->place;
	o->next_step = (enum gw_next_step)l->next_step;
	o->exit_status = l->status;
	o->message = l->message;
}

struct gw_outcome *gw__job_end_at(gw_job *job, struct gw__location location)
{
	job->outcome = (struct gw_outcome){.size = sizeof job->outcome};
	gw__outcome_set(&job->outcome, &location);
	return &job->outcome;
}

enum gw__location_event gw__location_event_before(int rc)
{
	return rc == -EOPNOTSUPP || rc == -EALREADY ? GW__LOCATION_EV_REFUSED
	       : rc == -EINVAL                      ? GW__LOCATION_EV_WRONG_USE
						    : GW__LOCATION_EV_UNCHANGED;
}

int gw_job_outcome(const gw_job *job, struct gw_outcome *outcome)
{
	int r = job && outcome ? GW__CHECK(outcome, NULL) : -EINVAL;
	if (!r && gw__call_is_started(&job->call)) /* a thread of ours may be writing it */
		r = -EBUSY;
	if (!r)
		gw__struct_out(outcome, outcome->size, &job->outcome, sizeof job->outcome);
	return r;
}

/* A struct of ours from that of a program, which may know less of it. */
static int take(struct gw_outcome *ours, const struct gw_outcome *theirs)
{
	int r = theirs ? GW__CHECK(theirs, NULL) : -EINVAL;
	*ours = (struct gw_outcome){.size = sizeof *ours};
	if (!r && theirs->size < sizeof *ours) /* there was never another size */
		r = -EINVAL;
	if (!r)
		*ours = *theirs;
	return r;
}

int gw_outcome_at(struct gw_outcome *outcome, enum gw_place place)
{
	struct gw_outcome ours;
	int r = take(&ours, outcome);
	if (r || (unsigned)place >= GW__PLACES)
		return r ? r : -EINVAL;
	struct gw__location l = gw__location_at((enum gw__place)place);
	ours = (struct gw_outcome){.size = sizeof ours};
	gw__outcome_set(&ours, &l);
	gw__struct_out(outcome, outcome->size, &ours, sizeof ours);
	return 0;
}

int gw_outcome_note(struct gw_outcome *outcome, enum gw_evidence evidence)
{
	struct gw_outcome ours;
	int r = take(&ours, outcome);
	if (r || (unsigned)evidence >= sizeof events / sizeof events[0] || (unsigned)ours.place >= GW__PLACES)
		return r ? r : -EINVAL;
	struct gw__location l = {.place = (enum gw__place)ours.place};
	gw__location_note(&l, events[evidence]);
	gw__outcome_set(&ours, &l);
	gw__struct_out(outcome, outcome->size, &ours, sizeof ours);
	return 0;
}
