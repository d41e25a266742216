/* SPDX-License-Identifier: MIT */
/* The tables of who may run a guest of this process; see guest_where.h. */
#include "plan/guest_where.h"

#include <errno.h>

enum gw__where gw__where_of(enum gw__side side, enum gw__place place, enum gw__motion motion)
{
	/* What is not listed cannot be known to be ours alone. */
	static const enum gw__where still[GW__SIDES][GW__PLACES] = {
		[GW__SIDE_SOURCE] =
			{
				[GW__PLACE_SOURCE_RUNS] = GW__HERE,
				[GW__PLACE_SOURCE_PAUSED] = GW__HERE,
				[GW__PLACE_DESTINATION_RUNS] = GW__GONE,
				[GW__PLACE_DESTINATION_WAITS] = GW__GONE,
				[GW__PLACE_KEPT_WHOLE] = GW__GONE,
				[GW__PLACE_KEPT_IN_PART] = GW__IN_DOUBT,
				[GW__PLACE_SPLIT] = GW__HELD,
				[GW__PLACE_BOTH_POSSIBLE] = GW__IN_DOUBT,
				[GW__PLACE_LOST] = GW__IN_DOUBT,
			},
		[GW__SIDE_DESTINATION] =
			{
				[GW__PLACE_SOURCE_RUNS] = GW__EMPTY,
				[GW__PLACE_SOURCE_PAUSED] = GW__EMPTY,
				[GW__PLACE_DESTINATION_RUNS] = GW__HERE,
				[GW__PLACE_DESTINATION_WAITS] = GW__PARTIAL,
				[GW__PLACE_KEPT_WHOLE] = GW__EMPTY,
				[GW__PLACE_KEPT_IN_PART] = GW__EMPTY,
				[GW__PLACE_SPLIT] = GW__PARTIAL,
				[GW__PLACE_BOTH_POSSIBLE] = GW__IN_DOUBT,
				[GW__PLACE_LOST] = GW__EMPTY,
			},
	};
	enum gw__where where = still[side][place];
	if (motion == GW__MOTION_MOVES && where == GW__HERE && side == GW__SIDE_SOURCE)
		return GW__LEAVING;
	if (motion == GW__MOTION_STANDS_BY && side == GW__SIDE_DESTINATION && where != GW__HERE)
		return GW__STANDBY;
	return motion == GW__MOTION_MOVES && where == GW__EMPTY ? GW__ARRIVING : where;
}

const char *gw__where_name(enum gw__where where)
{
	static const char *const names[GW__WHERES] = {"here", "empty", "arriving", "leaving", "in-doubt", "gone", "standby", "partial",
		"held"};
	return where < GW__WHERES ? names[where] : "?";
}

int gw__guest_may(enum gw__guest_call call, enum gw__where where, struct gw__error *error)
{
	static const struct {
		int code;
		const char *because;
	} answers[GW__GUEST_CALLS][GW__WHERES] = {
		[GW__GUEST_SEND] =
			{
				[GW__EMPTY] = {-ENODATA, "there is nothing to send: the guest is empty"},
				[GW__ARRIVING] = {-EBUSY, "another call is receiving this guest"},
				[GW__LEAVING] = {-EBUSY, "another call is sending this guest"},
				[GW__IN_DOUBT] = {-EINPROGRESS, "who has the guest is in doubt: call gw_guest_decide first"},
				[GW__GONE] = {-ENODATA, "there is nothing to send: the guest has gone to the other side"},
				[GW__STANDBY] = {-EBUSY, "another call lets this guest stand by"},
				[GW__PARTIAL] = {-EAGAIN, "pages of the guest are missing: bring them with `resume` first"},
				[GW__HELD] = {-EINPROGRESS, "the other side runs this guest and needs its memory: send it with `resume`"},
			},
		[GW__GUEST_RECEIVE] =
			{
				[GW__HERE] = {-EEXIST, "there is a guest here already; a receive would overwrite it"},
				[GW__ARRIVING] = {-EBUSY, "another call is receiving this guest"},
				[GW__LEAVING] = {-EBUSY, "another call is sending this guest"},
				[GW__IN_DOUBT] = {-EINPROGRESS, "who has the guest is in doubt: call gw_guest_decide first"},
				[GW__STANDBY] = {-EBUSY, "another call lets this guest stand by"},
				[GW__PARTIAL] = {-EEXIST,
					"there is a guest here already, whose pages are missing: bring them with `resume`"},
				[GW__HELD] = {-EINPROGRESS, "the other side runs this guest and needs its memory: send it with `resume`"},
			},
		[GW__GUEST_PROTECT] =
			{
				[GW__EMPTY] = {-ENODATA, "there is nothing to protect: the guest is empty"},
				[GW__ARRIVING] = {-EBUSY, "another call is receiving this guest"},
				[GW__LEAVING] = {-EBUSY, "another call is sending this guest"},
				[GW__IN_DOUBT] = {-EINPROGRESS, "who has the guest is in doubt: call gw_guest_decide first"},
				[GW__GONE] = {-ENODATA, "there is nothing to protect: the guest has gone to the other side"},
				[GW__STANDBY] = {-EBUSY, "another call lets this guest stand by"},
				[GW__PARTIAL] = {-EAGAIN, "pages of the guest are missing: bring them with `resume` first"},
				[GW__HELD] = {-EINPROGRESS, "the other side runs this guest and needs its memory: send it with `resume`"},
			},
		[GW__GUEST_STANDBY] =
			{
				[GW__HERE] = {-EEXIST, "there is a guest here already; a standby would overwrite it"},
				[GW__ARRIVING] = {-EBUSY, "another call is receiving this guest"},
				[GW__LEAVING] = {-EBUSY, "another call is sending this guest"},
				[GW__IN_DOUBT] = {-EINPROGRESS, "who has the guest is in doubt: call gw_guest_decide first"},
				[GW__STANDBY] = {-EBUSY, "another call lets this guest stand by"},
				[GW__PARTIAL] = {-EEXIST, "there is a guest here already, whose pages are missing"},
				[GW__HELD] = {-EINPROGRESS, "the other side runs this guest and needs its memory: send it with `resume`"},
			},
		[GW__GUEST_DECIDE] =
			{
				[GW__HERE] = {-EALREADY, "there is nothing to decide: the guest is here"},
				[GW__EMPTY] = {-EALREADY, "there is nothing to decide: the guest is empty"},
				[GW__ARRIVING] = {-EBUSY, "another call is receiving this guest"},
				[GW__LEAVING] = {-EBUSY, "another call is sending this guest"},
				[GW__GONE] = {-EALREADY, "there is nothing to decide: the guest has gone to the other side"},
				[GW__STANDBY] = {-EBUSY, "another call lets this guest stand by"},
			},
		[GW__GUEST_FREE] =
			{
				[GW__ARRIVING] = {-EBUSY, "a call is receiving this guest"},
				[GW__LEAVING] = {-EBUSY, "a call is sending this guest"},
				[GW__IN_DOUBT] = {-EBUSY, "who has the guest is in doubt: call gw_guest_decide first"},
				[GW__STANDBY] = {-EBUSY, "a call lets this guest stand by"},
				[GW__PARTIAL] = {-EBUSY,
					"pages of the guest are missing: bring them with `resume`, or give it up with gw_guest_decide"},
				[GW__HELD] = {-EBUSY,
					"the other side runs this guest and needs its memory: send it with `resume`, or call gw_guest_decide first"},
			},
		[GW__GUEST_RESUME] =
			{
				[GW__HERE] = {-ESRCH, "there is nothing to resume: all of the guest is here"},
				[GW__EMPTY] = {-ESRCH, "there is nothing to resume: the guest is empty"},
				[GW__ARRIVING] = {-EBUSY, "another call is receiving this guest"},
				[GW__LEAVING] = {-EBUSY, "another call is sending this guest"},
				[GW__IN_DOUBT] = {-ESRCH, "there is nothing to resume: who has the guest is in doubt"},
				[GW__GONE] = {-ESRCH, "there is nothing to resume: the guest has gone to the other side"},
				[GW__HELD] = {-ESRCH, "there is nothing to resume: the other side runs the guest"},
				[GW__STANDBY] = {-EBUSY, "another call lets this guest stand by"},
			},
		[GW__GUEST_SEND_RESUME] =
			{
				[GW__HERE] = {-ENODATA, "there is no post-copy to resume: the guest is here"},
				[GW__EMPTY] = {-ENODATA, "there is no post-copy to resume: the guest is empty"},
				[GW__ARRIVING] = {-EBUSY, "another call is receiving this guest"},
				[GW__LEAVING] = {-EBUSY, "another call is sending this guest"},
				[GW__GONE] = {-ENODATA, "there is no post-copy to resume: the other side has all of the guest"},
				[GW__PARTIAL] = {-ENODATA, "there is no post-copy to resume: the guest is here"},
				[GW__STANDBY] = {-EBUSY, "another call lets this guest stand by"},
			},
	};
	int code = answers[call][where].code;
	return code ? gw__error_set(error, code, "%s", answers[call][where].because) : 0;
}
