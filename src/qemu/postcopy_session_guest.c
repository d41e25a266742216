/* SPDX-License-Identifier: MIT */
/* Where the guest is when nobody can be asked any more, and what that means for a successor. See postcopy_session.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "qemu/postcopy_session.h"

/* Of all that QEMU said before its monitor ended: that it was asked to end, by its guest or its user. */
static bool was_shut_down(struct gw__qmp *q)
{
	json_t *event;
	bool found = false;
	while (!found && !gw__qmp_event(q, 0, &event, NULL)) {
		const char *name = json_string_value(json_object_get(event, "event"));
		found = name && !strcmp(name, "SHUTDOWN");
		json_decref(event);
	}
	return found;
}

/* Over a network the connection alone may be gone. */
static bool is_of_this_host(const struct gw__qmp *q)
{
	struct sockaddr_storage a = {.ss_family = AF_UNSPEC};
	socklen_t n = sizeof a;
	return !getsockname(gw__qmp_fd(q), (struct sockaddr *)&a, &n) && a.ss_family == AF_UNIX;
}

void gw__postcopy_session_note_gone(struct gw__postcopy_session *l)
{
	bool had_guest = l->guest == GW__GUEST_POSTCOPY_PAUSED || l->guest == GW__GUEST_COMPLETE || l->guest == GW__GUEST_UNKNOWN;
	if (had_guest && was_shut_down(l->qmp))
		l->guest = GW__GUEST_ENDED;
	else if (l->guest != GW__GUEST_COMPLETE)
		l->guest = is_of_this_host(l->qmp) ? GW__GUEST_NOT_HERE : GW__GUEST_UNKNOWN;
}

/* A QEMU that was told to listen does so for whoever comes. Of one that hangs nobody else learns anything any more. */
bool gw__postcopy_session_needs_successor(const struct gw__postcopy_session *l)
{
	switch (l->guest) {
	case GW__GUEST_COMPLETE:
	case GW__GUEST_ENDED:
		return false;
	case GW__GUEST_NOT_HERE:
		return l->phase == GW__MONITOR_BROKER_ASKED;
	default:
		return true;
	}
}
