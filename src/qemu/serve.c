/* SPDX-License-Identifier: MIT */
/* The page server of an image for one QEMU; called again after any death of its predecessor. See postcopy_session.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "qemu/driver.h"
#include "qemu/guest_outcome.h"
#include "qemu/postcopy_session.h"

enum { CONNECT_MS = 10000, LOOK_MS = 3000 };

struct serve {
	gw_qemu *driver;
	const char *monitor;
	struct gw_qemu_serve_opts o;
	struct gw__postcopy_session session;
	struct gw_qemu_serve_result out;
};

static int end(struct serve *s, enum gw_qemu_guest_outcome outcome, int code)
{
	s->out.outcome = outcome;
	return gw__qemu_fail(s->driver, code, "%s", s->session.error.text);
}

static int failed(struct serve *s, int code)
{
	const struct gw__postcopy_session *l = &s->session;
	s->out.refused = l->refused;
	switch (l->guest) {
	case GW__GUEST_COMPLETE:
		return end(s, GW_QEMU_GUEST_DONE, code);
	case GW__GUEST_ENDED:
		return end(s, GW_QEMU_GUEST_ENDED, code);
	case GW__GUEST_POSTCOPY_PAUSED:
		return end(s, GW_QEMU_GUEST_WAITS, code);
	case GW__GUEST_UNKNOWN:
		return end(s, GW_QEMU_GUEST_UNKNOWN, code);
	default:
		return end(s, l->refused ? GW_QEMU_GUEST_REFUSED : GW_QEMU_GUEST_NOT_HERE, code);
	}
}

/* A guest that QEMU runs already needs this image: asked for the outcome only, and a QEMU that does not answer is in doubt anyhow. */
static bool guest_waits(const struct serve *s)
{
	struct gw__monitor_broker_info broker;
	struct gw__error error = {0};
	struct gw__qmp *q = NULL;
	struct gw__qmp_migration m = {0};
	int r = gw__monitor_broker_ask(s->monitor, &broker, &error);
	if (r != -ENOENT) /* a monitor broker stays only where a guest may need a successor */
		return true;
	gw__error_clear(&error);
	r = gw__qmp_open(s->monitor, LOOK_MS, &q, &error);
	if (!r)
		r = gw__qmp_query_migrate(q, &m, &error);
	gw__qmp_close(q);
	return !r && gw__qmp_is_postcopy(m.state);
}

/* Before QEMU is touched: an image that cannot be read starts nothing. */
static int look_at_image(struct serve *s)
{
	struct gw_inspect_opts o = GW_INIT(o);
	struct gw__postcopy_session *l = &s->session;
	gw_info *info = NULL;
	o.offset = l->offset;
	o.memory_limit = s->o.memory_limit;
	int r = gw_inspect(s->driver->job, l->path, &o, &info);
	if (r) {
		gw__error_set(&l->error, r, "%s", gw__qemu_job_error(s->driver));
		s->out.image_unreadable = true;
		return end(s, guest_waits(s) ? GW_QEMU_GUEST_WAITS : GW_QEMU_GUEST_NOT_BEGUN, r);
	}
	r = gw__postcopy_session_check(s->driver, l->path, info, &l->error);
	struct gw_info_summary sum = GW_INIT(sum);
	gw_info_summary(info, &sum);
	l->memory_only = sum.memory_only;
	gw_info_free(info);
	return r ? end(s, GW_QEMU_GUEST_REFUSED, r) : 0;
}

static int run(struct serve *s)
{
	struct gw__postcopy_session *l = &s->session;
	int r = gw__postcopy_session_open(l, s->monitor, CONNECT_MS);
	/* QEMU's main loop can be held up by a guest that waits for a page; then no new monitor is served */
	if (r == -ETIMEDOUT || (r && l->guest == GW__GUEST_UNKNOWN))
		return end(s, GW_QEMU_GUEST_SILENT, r);
	if (r) {
		s->out.refused = l->refused;
		return end(s, GW_QEMU_GUEST_NOT_BEGUN, r);
	}
	r = gw__postcopy_session_run(l);
	s->out.outcome = GW_QEMU_GUEST_DONE;
	return r ? failed(s, r) : 0;
}

static void fill_in(struct serve *s)
{
	const struct gw_serve_result *r = &s->session.result;
	struct gw_qemu_serve_result *out = &s->out;
	out->guest = gw__guest_after_restore(&r->outcome, out->outcome, out->refused, s->session.guest == GW__GUEST_QEMU_HUNG);
	out->preempt = s->session.preempt != GW_PREEMPT_OFF;
	out->requests = r->requests;
	out->requested_pages = r->requested_pages;
	out->pushed_pages = r->pushed_pages;
	out->zero_pages = r->zero_pages;
	out->already_there = r->already_there;
	out->working_set_pages = r->working_set_pages;
	out->latency_p50_us = r->latency_p50_us;
	out->latency_p99_us = r->latency_p99_us;
	out->latency_max_us = r->latency_max_us;
}

int gw_qemu_serve(gw_qemu *qemu, const char *monitor, const char *path, const struct gw_qemu_serve_opts *o,
	struct gw_qemu_serve_result *result)
{
	struct serve s = {.driver = qemu, .monitor = monitor, .session = GW__POSTCOPY_SESSION_INIT};
	int r = gw__qemu_begin(qemu, "gw_qemu_serve_opts", o, &s.o, sizeof s.o, result);
	if (r)
		return r;
	s.session.driver = qemu;
	s.session.path = path;
	s.session.offset = s.o.image_offset;
	s.session.foreign_qemu = true;
	s.session.resume_only = s.o.resume_only;
	r = gw__postcopy_session_set_opts(&s.session, s.o.postcopy);
	if (r)
		return gw__qemu_fail(qemu, r, "%s", s.session.error.text);
	r = look_at_image(&s);
	if (!r)
		r = run(&s);
	fill_in(&s);
	gw__postcopy_session_end(&s.session);
	gw__qmp_close(s.session.qmp);
	gw__qemu_give_result(result, &s.out, sizeof s.out);
	return r;
}

/* --- monitors that are kept ------------------------------------------------------------------------------------- */

struct listing {
	gw_qemu_broker_fn *fn;
	void *ctx;
};

static void give(void *ctx, const struct gw__monitor_broker_info *info)
{
	const struct listing *l = ctx;
	struct gw_qemu_broker b = {.size = sizeof b,
		.answers = info->answers,
		.pid = info->pid,
		.server_pid = info->server,
		.monitor = info->address,
		.path = info->image};
	l->fn(l->ctx, &b);
}

void gw_qemu_brokers(gw_qemu_broker_fn *fn, void *ctx) { gw__monitor_broker_list(give, &(struct listing){fn, ctx}); }
