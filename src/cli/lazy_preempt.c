/* SPDX-License-Identifier: MIT */
/* Whether what a guest asks for has a connection of its own (postcopy-preempt); see lazy.h and docs/spec/postcopy.md 5. */
#include <errno.h>

#include "cli/lazy.h"

enum { LATE_RELEASE = 800 }; /* 7.2 reads nothing before the second connection is there */

#define CAPABILITY "postcopy-preempt"

static enum gw_preempt how(const struct gw__lazy *l) { return gw__qmp_version(l->qmp) < LATE_RELEASE ? GW_PREEMPT_EARLY : GW_PREEMPT_ON; }

int gw__lazy_choose_preempt(struct gw__lazy *l)
{
	bool has = gw__qmp_settings_has(l->before, CAPABILITY);
	if (l->wish.preempt && !has) {
		l->refused = true;
		return gw__why_set(&l->why, -EOPNOTSUPP, "this QEMU has no capability " CAPABILITY "; leave --preempt out");
	}
	l->preempt = l->wish.preempt ? how(l) : GW_PREEMPT_OFF;
	l->preempt_known = true;
	return 0;
}

/* It was decided before us, and cannot be changed any more. A QEMU that does not answer is taken for one that has none. */
void gw__lazy_ask_preempt(struct gw__lazy *l)
{
	struct gw__qmp_settings *now = NULL;
	if (l->preempt_known || gw__qmp_owed(l->qmp))
		return;
	gw__qmp_set_call_limit(l->qmp, GW__LAZY_HELD_UP_MS);
	l->preempt_known = gw__qmp_settings_save(l->qmp, &now, NULL) == 0;
	gw__qmp_set_call_limit(l->qmp, GW__QMP_CALL_MS);
	l->preempt = l->preempt_known && gw__qmp_settings_on(now, CAPABILITY) ? how(l) : GW_PREEMPT_OFF;
	gw__qmp_settings_free(now);
}

/*
 * A QEMU may abort if it reads RESUME before it has accepted the second connection. Who asked for the recovery out of band is answered
 * by the thread that accepts: the second answer comes after it has been round.
 */
void gw__lazy_await_accepted(struct gw__lazy *l)
{
	struct gw__why ignored = {0};
	for (int i = 0; i < 2; i++)
		gw__qmp_call_oob(l->qmp, "query-yank", NULL, NULL, &ignored);
}
