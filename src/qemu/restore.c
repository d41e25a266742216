/* SPDX-License-Identifier: MIT */
/* A kept guest into a QEMU, started here or waiting already. The call and its flow; see restore.h. */
#include "qemu/restore.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "qemu/guest_outcome.h"
#include "qemu/owner_lock.h"
#include "qemu/qemu_process.h"
#include "qmp/sleep.h"

enum { CONNECT_MS = 10000 };

static bool is_clone(const struct gw__restore *r) { return r->o.way == GW_QEMU_RESTORE_CLONE; }
static bool is_lazy(const struct gw__restore *r) { return r->o.way == GW_QEMU_RESTORE_LAZY; }

/* The guest is not in this QEMU: if we started it, it ends; if not, it goes on waiting or has ended by itself. */
static int failed(struct gw__restore *r, enum gw_qemu_guest_outcome outcome)
{
	pid_t *child = &r->driver->child;
	bool died = gw__restore_child_died(r), daemon = r->o.command && !*child && r->qmp;
	r->out.outcome = outcome;
	if (!died && (*child || daemon)) {
		gw__restore_end_child(r);
		r->out.qemu_ended = true;
	}
	if (is_clone(r) && r->error.code == -EOPNOTSUPP)
		gw__error_advise(&r->driver->error, GW_QEMU_HINT_NOT_CLONE);
	return gw__qemu_fail(r->driver, r->error.code, "%s", r->error.text);
}

static int refused(struct gw__restore *r)
{
	gw__error_clear(&r->error);
	gw__error_set(&r->error, -EINVAL, "%s", r->plan.reason);
	return failed(r, GW_QEMU_GUEST_REFUSED);
}

static int not_direct(struct gw__restore *r)
{
	char error[sizeof r->plan.reason];
	snprintf(error, sizeof error, "%s", r->plan.reason);
	snprintf(r->plan.reason, sizeof r->plan.reason, "direct is not possible: %.480s", error);
	return refused(r);
}

/* The guest is in the QEMU, whatever came after that. */
static void loaded(struct gw__restore *r)
{
	struct gw__qmp_status s = {.name = "unknown"};
	gw__qmp_query_status(r->qmp, &s, NULL);
	r->out.outcome = GW_QEMU_GUEST_DONE;
	r->out.running = s.running;
	snprintf(r->out.run_state, sizeof r->out.run_state, "%s", s.name);
	r->out.way = is_lazy(r) ? GW_WAY_REFUSED : r->plan.way;
}

static int load_lazily(struct gw__restore *r)
{
	struct gw__postcopy_session *l = &r->post_copy;
	*l = (struct gw__postcopy_session){.path = r->path,
		.offset = r->o.image_offset,
		.foreign_qemu = !r->o.command,
		.driver = r->driver,
		.qmp = r->qmp,
		.broker = GW__MONITOR_BROKER_INIT,
		.link = -1};
	int e = gw__postcopy_session_set_opts(l, r->o.postcopy);
	if (!e)
		e = gw__postcopy_session_guard(l, r->o.monitor);
	if (!e)
		e = gw__postcopy_session_run(l);
	gw__postcopy_session_end(l);
	snprintf(r->out.monitor, sizeof r->out.monitor, "%s", l->name);
	return e ? gw__error_set(&r->error, e, "%s", l->error.text) : 0;
}

/* What was started for this guest alone, and did not get it, ends. One that may have it is left alone, whatever happens. */
static int failed_lazily(struct gw__restore *r)
{
	switch (r->post_copy.guest) {
	case GW__GUEST_COMPLETE:
		loaded(r);
		break;
	case GW__GUEST_ENDED:
		r->out.outcome = GW_QEMU_GUEST_ENDED;
		break;
	case GW__GUEST_POSTCOPY_PAUSED:
		r->out.outcome = GW_QEMU_GUEST_WAITS;
		break;
	case GW__GUEST_UNKNOWN:
		if (r->o.command)
			return failed(r, GW_QEMU_GUEST_NOT_HERE);
		r->out.outcome = GW_QEMU_GUEST_UNKNOWN;
		break;
	default:
		return failed(r, GW_QEMU_GUEST_NOT_HERE);
	}
	return gw__qemu_fail(r->driver, r->error.code, "%s", r->error.text);
}

/* A QEMU of somebody else that has everything may still load the guest, and run it. */
static int failed_to_load(struct gw__restore *r)
{
	if (!r->left_to_qemu || r->o.command)
		return failed(r, GW_QEMU_GUEST_NOT_HERE);
	r->out.outcome = GW_QEMU_GUEST_UNKNOWN;
	return gw__qemu_fail(r->driver, r->error.code, "%s", r->error.text);
}

static int open_monitor(struct gw__restore *r)
{
	struct gw__monitor_broker_info info;
	int e = gw__monitor_broker_ask(r->o.monitor, &info, &r->error);
	if (e == -ENOENT)
		return gw__qmp_open(r->o.monitor, CONNECT_MS, &r->qmp, &r->error);
	if (e)
		return e;
	gw__error_advise(&r->driver->error, GW_QEMU_HINT_SERVE);
	return gw__error_set(&r->error, -EBUSY, "process %d holds the monitor %s: a guest of %s is in this QEMU", info.pid, r->o.monitor,
		info.image);
}

/* A QEMU that we started has connected to us by itself. Whoever listens at another one's monitor may be a proxy, and its life or death that of no guest. */
static int find_process(struct gw__restore *r)
{
	struct gw__error error = {0};
	if (r->o.command)
		r->qemu = gw__monitor_broker_peer(gw__qmp_fd(r->qmp));
	else if (gw__qemu_process(r->qmp, &r->qemu, &error) && r->o.owner_fd)
		return gw__error_set(&r->error, error.code, "%s", error.text);
	return 0;
}

/* A QEMU that is started has inherited it. */
static int hand_owner_lock(struct gw__restore *r)
{
	static const char name[] = "godwit-owner";
	if (!r->o.owner_fd)
		return 0;
	gw__owner_lock_name_owner(*r->o.owner_fd, r->qemu);
	return r->o.command ? 0 : gw__qmp_call_fd(r->qmp, "getfd", json_pack("{s:s}", "fdname", name), *r->o.owner_fd, NULL, &r->error);
}

/* The last moment at which nobody runs the guest. -EOPNOTSUPP: not to this QEMU. */
static int hand_ownership(struct gw__restore *r)
{
	int e = find_process(r);
	if (!e)
		e = hand_owner_lock(r);
	return e || !r->before_load ? e : r->before_load(r->ctx, r->qmp, &r->error);
}

static int run(struct gw__restore *r)
{
	int e = r->o.command ? gw__restore_start_child(r) : open_monitor(r);
	if (e == -ECHILD && is_clone(r))
		e = gw__clone_explain_end(r->o.command[0], &r->error);
	if (e)
		return failed(r, e == -EOPNOTSUPP ? GW_QEMU_GUEST_REFUSED : GW_QEMU_GUEST_NOT_HERE);
	e = hand_ownership(r);
	if (e)
		return failed(r, e == -EOPNOTSUPP || (e == -EBUSY && !r->o.command) ? GW_QEMU_GUEST_REFUSED : GW_QEMU_GUEST_NOT_HERE);
	e = gw__restore_plan(r);
	if (e) /* -EBUSY: it waits for no guest, which plan and serve refuse as well */
		return failed(r, (e == -EBUSY && !r->o.command) || (e == -EOPNOTSUPP && is_clone(r)) ? GW_QEMU_GUEST_REFUSED
												     : GW_QEMU_GUEST_NOT_HERE);
	if (r->plan.way == GW_WAY_REFUSED)
		return refused(r);
	if (is_lazy(r) && gw__postcopy_session_check(r->driver, r->path, r->info, &r->error))
		return failed(r, GW_QEMU_GUEST_REFUSED);
	if (r->o.way == GW_QEMU_RESTORE_DIRECT && r->plan.way != GW_WAY_DIRECT)
		return not_direct(r);
	if (!is_lazy(r))
		gw__qemu_detail(r->driver, "%s", r->plan.reason);
	e = is_lazy(r) ? load_lazily(r) : gw__restore_load(r);
	if (e)
		return is_lazy(r) ? failed_lazily(r) : failed_to_load(r);
	loaded(r);
	return 0;
}

static int inspect(struct gw__restore *r)
{
	struct gw_inspect_opts o = GW_INIT(o);
	o.offset = r->o.image_offset;
	o.memory_limit = r->o.memory_limit;
	o.clonable = is_clone(r);
	int e = gw_inspect(r->driver->job, r->path, &o, &r->info);
	if (e)
		return gw__qemu_fail(r->driver, e, "%s", gw__qemu_job_error(r->driver));
	r->summary.size = sizeof r->summary;
	gw_info_summary(r->info, &r->summary);
	r->out.ram_bytes = r->summary.ram_bytes;
	return 0;
}

/* Before anything is started: can this image, with this command, be cloned? */
static int prepare_clone(struct gw__restore *r)
{
	struct gw__clone *c = &r->clone;
	int e = gw__clone_check(c, r->info, r->o.command, &r->error);
	if (e)
		return failed(r, e == -EOPNOTSUPP || e == -EINVAL ? GW_QEMU_GUEST_REFUSED : GW_QEMU_GUEST_NOT_BEGUN);
	if (!r->o.command)
		return 0;
	r->o.command = c->command.argv;
	gw__qemu_detail(r->driver, "its memory is the image: %s", c->command.mapped);
	if (c->command.new_id)
		gw__qemu_detail(r->driver, "its vmgenid is a new one: -device vmgenid,guid=auto");
	return 0;
}

static int open_clone(struct gw__restore *r)
{
	int e = gw__clone_open(&r->clone, r->path, &r->error);
	return e ? failed(r, e == -EOPNOTSUPP ? GW_QEMU_GUEST_REFUSED : GW_QEMU_GUEST_NOT_BEGUN) : 0;
}

static int check(struct gw__restore *r)
{
	if (!r->o.monitor == !(r->o.command && r->o.command[0]))
		return gw__qemu_fail(r->driver, -EINVAL, "a restore needs either a monitor or a command that starts QEMU");
	return r->driver->child ? gw__qemu_fail(r->driver, -EBUSY, "process %d was started here and not waited for", (int)r->driver->child)
				: 0;
}

int gw__restore_execute(struct gw__restore *r)
{
	struct timespec start = gw__monotonic_now();
	int e = check(r);
	if (!e && is_clone(r))
		e = open_clone(r);
	if (!e)
		e = inspect(r);
	if (!e && is_clone(r))
		e = prepare_clone(r);
	if (!e)
		e = run(r);
	gw__clone_close(&r->clone);
	gw_info_free(r->info);
	gw__qmp_settings_free(r->before);
	gw__qmp_close(r->qmp); /* from here on the guest is QEMU's alone */
	r->out.started = r->driver->child;
	r->out.guest = gw__guest_after_restore(&r->post_copy.result.outcome, r->out.outcome, false,
		is_lazy(r) && r->post_copy.guest == GW__GUEST_QEMU_HUNG);
	r->out.elapsed_ns = (uint64_t)(gw__monotonic_seconds_since(&start) * 1e9);
	return e;
}

int gw_qemu_restore(gw_qemu *qemu, const char *path, const struct gw_qemu_restore_opts *o, struct gw_qemu_restore_result *result)
{
	struct gw__restore r = GW__RESTORE_INIT(qemu, path);
	int e = gw__qemu_begin(qemu, "gw_qemu_restore_opts", o, &r.o, sizeof r.o, result);
	if (e)
		return e;
	e = gw__restore_execute(&r);
	gw__qemu_give_result(result, &r.out, sizeof r.out);
	return e;
}
