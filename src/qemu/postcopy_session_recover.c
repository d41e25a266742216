/* SPDX-License-Identifier: MIT */
/*
 * A QEMU whose pages have stopped is made to listen again. See postcopy_session.h and docs/spec/postcopy.md 6.5.
 *
 * Its main loop may be held up by a guest that waits for a page of ours, so nothing is asked in band before both of the
 * out-of-band commands have been refused for a while: then it is not paused, and its main loop free.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "qemu/postcopy_session.h"
#include "qmp/sleep.h"

enum {
	POLL_MS = 10,
	PAUSE_MS = 500,      /* for QEMU to notice that the link broke, before it is told so */
	JOIN_MS = 300,       /* of refusals, before a predecessor's link is taken for one that recovers */
	LOOK_MS = 700,       /* of refusals, before it is asked how things are */
	TOLD_LOOK_MS = 5000, /* the same, of one that took the order to pause */
	ANSWER_MS = 1000,    /* to that */
	END_MS = 15000,
};

int gw__postcopy_session_say_ended(struct gw__postcopy_session *l, const struct gw__qmp_migration *m)
{
	l->guest = GW__GUEST_NOT_HERE;
	return gw__error_set(&l->error, -EREMOTEIO, "QEMU ended the migration with status \"%s\": %s", m->status,
		m->error[0] ? m->error : "no reason given");
}

/* 0: go on asking it. */
static int look(struct gw__postcopy_session *l)
{
	struct gw__qmp_migration m;
	struct gw__error error = {0};
	gw__qmp_set_call_limit(l->qmp, ANSWER_MS);
	int r = gw__qmp_unanswered(l->qmp) ? -ETIMEDOUT : gw__qmp_query_migrate(l->qmp, &m, &error);
	gw__qmp_set_call_limit(l->qmp, GW__QMP_CALL_MS);
	if (r == -ETIMEDOUT)
		return 0;
	if (r)
		return gw__error_set(&l->error, r, "%s", error.text);
	if (m.completed)
		l->guest = GW__GUEST_COMPLETE;
	return m.ended && !m.completed ? gw__postcopy_session_say_ended(l, &m) : 0;
}

/*
 * "Migrate recover can only be run when postcopy is paused." comes until it is. The port of the listener before is in use until QEMU
 * has let go of it, for which it must be asked. Everything else is final.
 */
static bool is_early(const struct gw__error *error)
{
	return gw__qemu_refused(error->text, GW__REFUSAL_NOT_PAUSED) || gw__qemu_refused(error->text, GW__REFUSAL_PORT_IN_USE);
}

/* QEMU does not need this link any more. */
static void drop_link(struct gw__postcopy_session *l)
{
	if (l->link < 0)
		return;
	gw__monitor_broker_release_socket(&l->broker);
	close(l->link);
	l->link = -1;
}

/*
 * A predecessor has died while he recovered, and the monitor broker holds his link. A QEMU that can be told to pause gives it up; 7.2
 * cannot, and would not survive its end: the recovery is taken up where it is.
 */
static bool join(struct gw__postcopy_session *l, int ms)
{
	if (l->link < 0)
		return false;
	if (gw__qmp_call_oob(l->qmp, "migrate-pause", NULL, NULL, NULL) == 0) {
		drop_link(l);
		return false;
	}
	if (ms < JOIN_MS || l->preempt != GW_PREEMPT_OFF) /* nobody knows whether it has its second connection */
		return false;
	snprintf(l->uri, sizeof l->uri, "fd:%d", l->link);
	l->takeover_fd = true;
	l->link = -1; /* whoever opens the URI has it */
	return true;
}

/*
 * A QEMU that has read RUN is paused by the loss of its link, or can be; and unless its page server has heard that it runs, it
 * has not got its last page. So one that is neither, nor answers, has not come to RUN: it has failed, and hangs in its end.
 */
static bool is_stuck(struct gw__postcopy_session *l)
{
	return l->loading && gw__qmp_unanswered(l->qmp) && gw__qmp_call_oob(l->qmp, "migrate-pause", NULL, NULL, NULL) == -EREMOTEIO;
}

static int say_unready(struct gw__postcopy_session *l, const struct gw__error *refused)
{
	if (!is_stuck(l))
		return gw__error_set(&l->error, -ETIMEDOUT, "QEMU does not become ready to resume its migration: %s", refused->text);
	l->guest = GW__GUEST_QEMU_HUNG;
	return gw__error_set(&l->error, -ETIMEDOUT,
		"QEMU lost its page server while it loaded the guest's devices, and hangs: kill it, and start it again");
}

static int ask_until_listening(struct gw__postcopy_session *l)
{
	struct timespec start = gw__monotonic_now();
	bool told = false;
	for (;;) {
		struct gw__error error = {0};
		int r = gw__qmp_call_oob(l->qmp, "migrate-recover", json_pack("{s:s}", "uri", l->listen), NULL, &error);
		int ms = (int)(1000 * gw__monotonic_seconds_since(&start));
		if (!r || r != -EREMOTEIO || !is_early(&error) || gw__qemu_cancelled(l->driver))
			return r ? gw__error_set(&l->error, r, "%s", error.text) : 0;
		if (join(l, ms))
			return 0;
		if (ms >= PAUSE_MS && !told)
			told = gw__qmp_call_oob(l->qmp, "migrate-pause", NULL, NULL, NULL) == 0;
		r = ms >= (told ? TOLD_LOOK_MS : LOOK_MS) ? look(l) : 0;
		if (r || l->guest == GW__GUEST_COMPLETE)
			return r;
		if (ms >= END_MS)
			return say_unready(l, &error);
		gw__sleep_ms(POLL_MS);
	}
}

int gw__postcopy_session_recover(struct gw__postcopy_session *l)
{
	int r = gw__postcopy_session_check_image(l, true);
	if (!r)
		r = gw__postcopy_session_address(l, true);
	if (!r)
		r = ask_until_listening(l);
	if (r == -ECONNRESET)
		gw__postcopy_session_note_gone(l);
	if (r || l->guest == GW__GUEST_COMPLETE)
		return r;
	l->guest = GW__GUEST_POSTCOPY_PAUSED;
	if (l->loading)
		gw__postcopy_session_publish_loaded(l); /* it was paused */
	drop_link(l);                                   /* not joined: QEMU listens for a new one */
	return 0;
}
