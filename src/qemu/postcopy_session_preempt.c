/* SPDX-License-Identifier: MIT */
/* Whether what a guest asks for has a connection of its own (postcopy-preempt); see postcopy_session.h and docs/spec/postcopy.md 5. */
#include <errno.h>

#include "qemu/postcopy_session.h"

#define CAPABILITY "postcopy-preempt"

static enum gw_preempt how(const struct gw__postcopy_session *l)
{
	return gw__qmp_has_quirk(l->qmp, GW__QUIRK_PREEMPT_FIRST) ? GW_PREEMPT_EARLY : GW_PREEMPT_ON;
}

int gw__postcopy_session_choose_preempt(struct gw__postcopy_session *l)
{
	bool has = gw__qmp_settings_has(l->before, CAPABILITY);
	if (l->opts.preempt && !has) {
		l->refused = true;
		gw__error_advise(&l->driver->error, GW_QEMU_HINT_NO_PREEMPT);
		return gw__error_set(&l->error, -EOPNOTSUPP, "this QEMU has no capability " CAPABILITY);
	}
	l->preempt = l->opts.preempt ? how(l) : GW_PREEMPT_OFF;
	l->preempt_known = true;
	return 0;
}

/* It was decided before us, and cannot be changed any more. A QEMU that does not answer is taken for one that has none. */
void gw__postcopy_session_ask_preempt(struct gw__postcopy_session *l)
{
	struct gw__qmp_settings *now = NULL;
	if (l->preempt_known || gw__qmp_unanswered(l->qmp))
		return;
	gw__qmp_set_call_limit(l->qmp, GW__POSTCOPY_SESSION_HELD_UP_MS);
	l->preempt_known = gw__qmp_settings_save(l->qmp, &now, NULL) == 0;
	gw__qmp_set_call_limit(l->qmp, GW__QMP_CALL_MS);
	l->preempt = l->preempt_known && gw__qmp_settings_on(now, CAPABILITY) ? how(l) : GW_PREEMPT_OFF;
	gw__qmp_settings_free(now);
}

/*
 * A QEMU may abort if it reads RESUME before it has accepted the second connection. Who asked for the recovery out of band is answered
 * by the thread that accepts: the second answer comes after it has been round.
 */
void gw__postcopy_session_await_accepted(struct gw__postcopy_session *l)
{
	struct gw__error ignored = {0};
	for (int i = 0; i < 2; i++)
		gw__qmp_call_oob(l->qmp, "query-yank", NULL, NULL, &ignored);
}
