/* SPDX-License-Identifier: MIT */
/* Drives a QEMU through post-copy from an image, and through its recoveries; see postcopy_session.h. */
#include "qemu/postcopy_session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qemu/destination.h"
#include "qmp/sleep.h"

enum {
	POLL_MS = 10,
	END_MS = 30000, /* from its last word to "completed" */
};

/* In band: a QEMU that does not answer in time may be held up by a page, and is better recovered without knowing. */
static int query(struct gw__postcopy_session *l, struct gw__qmp_migration *m, int limit_ms)
{
	gw__qmp_set_call_limit(l->qmp, limit_ms);
	int r = gw__qmp_query_migrate(l->qmp, m, &l->error);
	gw__qmp_set_call_limit(l->qmp, GW__QMP_CALL_MS);
	if (r == -ECONNRESET)
		gw__postcopy_session_note_gone(l);
	return r;
}

/* What the page server must know of the destination's memory: one that does not say it has ordinary pages. */
static void ask_page_sizes(struct gw__postcopy_session *l)
{
	if (l->blocks || gw__qmp_unanswered(l->qmp))
		return;
	gw__qmp_set_call_limit(l->qmp, GW__POSTCOPY_SESSION_HELD_UP_MS);
	l->blocks_asked = !gw__qmp_query_blocks(l->qmp, &l->blocks, &l->blocks_n, NULL);
	if (!l->blocks_asked)
		l->blocks_n = 0;
	gw__qmp_set_call_limit(l->qmp, GW__QMP_CALL_MS);
}

/* QEMU's settings for a post-copy; as they were is kept in l->before. */
static int prepare(struct gw__postcopy_session *l)
{
	int r = l->before ? 0 : gw__qmp_settings_save(l->qmp, &l->before, &l->error);
	if (!r)
		r = gw__postcopy_session_choose_preempt(l);
	if (r)
		return r;
	const struct gw__qmp_capability caps[] = {{"postcopy-ram", true}, {"postcopy-preempt", l->preempt},
		{"postcopy-blocktime", gw__qmp_settings_on(l->before, "postcopy-blocktime")}}; /* counts, and changes nothing */
	ask_page_sizes(l);
	gw__postcopy_session_publish(l, GW__MONITOR_BROKER_IDLE);
	r = gw__qmp_clear_capabilities(l->qmp, l->before, false, &l->error);
	if (!r)
		r = gw__postcopy_session_set_tls(l);
	l->tls = l->tls_opts.creds_dir;
	l->tls_known = true;
	return r ? r : gw__qmp_set_capabilities(l->qmp, caps, GW__LEN(caps), &l->error);
}

/* It may have been started to listen where it is to. */
static int begin(struct gw__postcopy_session *l, const struct gw__qmp_migration *m)
{
	int r = gw__postcopy_session_address(l, false);
	if (!r)
		r = prepare(l);
	if (r)
		return r;
	gw__postcopy_session_publish(l, GW__MONITOR_BROKER_ASKED);
	if (gw__postcopy_session_is_wished(l, m->address))
		return gw__postcopy_session_listening(l);
	r = gw__qmp_call(l->qmp, "migrate-incoming", json_pack("{s:s}", "uri", l->listen), NULL, &l->error);
	if (r == -EREMOTEIO)
		l->phase = GW__MONITOR_BROKER_IDLE; /* nothing became of it */
	return r ? r : gw__postcopy_session_listening(l);
}

static int await_completed(struct gw__postcopy_session *l)
{
	for (int waited = 0; waited < END_MS; waited += POLL_MS) {
		struct gw__qmp_migration m;
		int r = query(l, &m, GW__QMP_CALL_MS);
		if (r || m.completed)
			return r;
		if (m.ended)
			return gw__postcopy_session_say_ended(l, &m);
		gw__sleep_ms(POLL_MS);
	}
	return gw__error_set(&l->error, -ETIMEDOUT, "QEMU has every page but does not end the migration");
}

/* Whether it waits for a guest at all is asked before any setting is changed, and before its machine is compared with the image's. */
static int check_waits(struct gw__postcopy_session *l, const struct gw__qmp_migration *m)
{
	struct gw__qmp_status s;
	int r = gw__qmp_query_status(l->qmp, &s, &l->error);
	bool waits = !r && s.state == GW__RUN_STATE_INMIGRATE;
	if (waits)
		r = gw__qemu_destination_failed(m, &l->error);
	if (r == -EBUSY)
		l->refused = true;
	if (r || waits)
		return r;
	l->refused = true;
	return gw__error_set(&l->error, -EINVAL, "this QEMU waits for no guest (it is \"%s\"), start one with -incoming defer", s.name);
}

static int check_has_devices(struct gw__postcopy_session *l)
{
	if (!l->memory_only)
		return 0;
	l->refused = true;
	return gw__error_set(&l->error, -EOPNOTSUPP,
		"%s holds memory without devices (of a drain): it can complete a QEMU in postcopy-paused, and this one "
		"has no guest yet",
		l->path);
}

/* It listens at l->uri, or will. A predecessor that died before it connected left its address. */
static int make_ready(struct gw__postcopy_session *l, const struct gw__qmp_migration *m)
{
	int r;
	if (gw__postcopy_session_is_private(m->address))
		r = gw__postcopy_session_take_address(l, m->address);
	else if (l->phase == GW__MONITOR_BROKER_ASKED && m->address[0])
		r = gw__postcopy_session_address(l, true);
	else
		return begin(l, m);
	if (!r)
		r = gw__postcopy_session_check_tls(l);
	if (r)
		return r;
	ask_page_sizes(l);
	gw__postcopy_session_ask_preempt(l);
	gw__postcopy_session_publish(l, GW__MONITOR_BROKER_ASKED);
	return 0;
}

/* A QEMU that did not take the guest keeps no setting of ours; where it is gone or stuck, there is nothing to put back. */
static int put_back(struct gw__postcopy_session *l, int r)
{
	if (!l->before || r == -ETIMEDOUT || r == -ECONNRESET)
		return r;
	return r ? (gw__qmp_settings_restore(l->qmp, l->before, NULL), r) : gw__qmp_settings_restore(l->qmp, l->before, &l->error);
}

/* Does its guest run already? */
static int look(struct gw__postcopy_session *l, struct gw__qmp_migration *m)
{
	*m = (struct gw__qmp_migration){.state = GW__MIGRATION_NONE};
	l->guest = l->phase == GW__MONITOR_BROKER_RUNS ? GW__GUEST_POSTCOPY_PAUSED : GW__GUEST_UNKNOWN;
	int r = l->guest == GW__GUEST_POSTCOPY_PAUSED ? 0 : query(l, m, GW__POSTCOPY_SESSION_HELD_UP_MS);
	if (r == -ETIMEDOUT)
		gw__error_clear(&l->error);
	if (r || l->guest == GW__GUEST_POSTCOPY_PAUSED)
		return r == -ETIMEDOUT ? 0 : r;
	l->guest = gw__qmp_is_postcopy(m->state) ? GW__GUEST_POSTCOPY_PAUSED : GW__GUEST_NOT_HERE;
	if (m->completed && m->total_bytes) { /* only a source counts what it sends */
		l->refused = true;
		return gw__error_set(&l->error, -EINVAL,
			"this QEMU has sent its own guest away (migration completed) and does not wait for pages; nothing was done");
	}
	if (m->completed)
		l->guest = GW__GUEST_COMPLETE; /* somebody else brought the last page */
	return 0;
}

static int give_guest(struct gw__postcopy_session *l, const struct gw__qmp_migration *m)
{
	if (l->resume_only) {
		l->refused = true;
		gw__error_advise(&l->driver->error, GW_QEMU_HINT_NOT_RESUME_ONLY);
		return gw__error_set(&l->error, -EINVAL, "no guest in this QEMU waits for pages (status \"%s\")",
			m->status[0] ? m->status : "none");
	}
	int r = check_waits(l, m);
	if (!r)
		r = check_has_devices(l);
	if (!r)
		r = gw__postcopy_session_check_image(l, false);
	return r ? r : make_ready(l, m);
}

/* In doubt its guest runs: then it is recovered, out of band. */
static int go_on(struct gw__postcopy_session *l)
{
	ask_page_sizes(l);
	gw__postcopy_session_ask_preempt(l);
	int r = gw__postcopy_session_check_tls(l);
	return r ? r : gw__postcopy_session_recover(l);
}

static int run(struct gw__postcopy_session *l)
{
	struct gw__qmp_migration m;
	int r = look(l, &m);
	if (r || l->guest == GW__GUEST_COMPLETE)
		return r;
	bool resume = l->guest != GW__GUEST_NOT_HERE;
	r = resume ? go_on(l) : give_guest(l, &m);
	if (r || l->guest == GW__GUEST_COMPLETE)
		return r;
	r = gw__postcopy_session_serve(l, resume);
	return r ? r : await_completed(l);
}

int gw__postcopy_session_run(struct gw__postcopy_session *l)
{
	int r = run(l);
	return gw__postcopy_session_needs_successor(l) ? r : put_back(l, r);
}

/* What waits for a successor needs a monitor broker until one comes; QEMU may listen for him where it was told to. */
void gw__postcopy_session_end(struct gw__postcopy_session *l)
{
	bool needed = gw__postcopy_session_needs_successor(l);
	if (needed)
		gw__monitor_broker_leave(&l->broker);
	else
		gw__monitor_broker_dismiss(&l->broker);
	if (!needed || l->guest == GW__GUEST_POSTCOPY_PAUSED || l->guest == GW__GUEST_QEMU_HUNG)
		gw__postcopy_session_remove_socket(l);
	if (l->link >= 0)
		close(l->link); /* the broker's copy stays */
	gw__qmp_settings_free(l->before);
	free(l->blocks);
}
