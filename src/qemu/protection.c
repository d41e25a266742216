/* SPDX-License-Identifier: MIT */
/* The public calls of protection and failover: what is asked for in godwit-qemu.h, in the words of protect.h, failover.h and restore.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/driver.h"
#include "qemu/failover.h"
#include "qemu/failover_disks.h"
#include "qemu/storage.h"
#include "qemu/failover_lease.h"
#include "qemu/protect.h"
#include "qemu/protect_stop.h"
#include "qemu/guest_outcome.h"
#include "qemu/restore.h"

enum { INTERVAL_MS = 500, TIMEOUT_MS = 2000, SILENCE_MS = 30000, STOP_PATIENCE_MS = 90000 };

struct protection {
	gw_qemu *driver;
	struct gw_qemu_protect_opts o;
	struct gw__protect *session;
};

static bool is_stopped(void *ctx) { return gw__qemu_cancelled(((const struct protection *)ctx)->driver); }

static void on_event(void *ctx, const struct gw__protect_event *e)
{
	static const enum gw_qemu_protect_event_kind kinds[] = {[GW__PROTECT_CONNECTING] = GW_QEMU_PROTECT_CONNECTING,
		[GW__PROTECT_PROTECTED] = GW_QEMU_PROTECT_PROTECTED,
		[GW__PROTECT_CHECKPOINT] = GW_QEMU_PROTECT_CHECKPOINT,
		[GW__PROTECT_UNPROTECTED] = GW_QEMU_PROTECT_UNPROTECTED,
		[GW__PROTECT_NOT_YET] = GW_QEMU_PROTECT_NOT_YET,
		[GW__PROTECT_NOTE] = GW_QEMU_PROTECT_NOTE};
	const struct protection *p = ctx;
	struct gw_qemu_protect_event event = {.size = sizeof event,
		.kind = kinds[e->kind],
		.name = p->session ? gw__protect_name(p->session) : "",
		.reason = e->reason,
		.hint = (enum gw_qemu_hint)e->hint,
		.checkpoints = e->checkpoints,
		.pause_us = e->pause_us,
		.longest_us = e->longest_us};
	if (p->o.on_event)
		p->o.on_event(p->o.ctx, &event);
}

static void on_release(void *ctx, int r, const struct gw__error *error)
{
	const struct protection *p = ctx;
	if (p->o.on_release)
		p->o.on_release(p->o.ctx, r, error->text);
}

static int run(struct protection *p, struct gw_qemu_protect_result *out)
{
	struct gw__error error = {0};
	out->outcome = gw__protect_run(p->session, &error);
	if (out->outcome == GW_QEMU_PROTECT_STOPPED || out->outcome == GW_QEMU_PROTECT_SHUT_DOWN)
		return 0;
	int code = out->outcome == GW_QEMU_PROTECT_LOST ? -ECONNRESET : -EREMOTEIO;
	return gw__qemu_fail(p->driver, error.code ? error.code : code, "%s", error.code ? error.text : "its QEMU has gone");
}

int gw_qemu_protect(gw_qemu *qemu, const char *monitor, const char *uri, const struct gw_qemu_protect_opts *o,
	struct gw_qemu_protect_result *result)
{
	struct protection p = {.driver = qemu};
	struct gw_qemu_protect_result out = {0};
	bool has_left = false;
	int r = gw__qemu_begin(qemu, "gw_qemu_protect_opts", o, &p.o, sizeof p.o, result);
	if (r)
		return r;
	const struct gw__protect_opts opts = {.address = monitor,
		.uri = uri,
		.name = p.o.name,
		.dir = p.o.dir,
		.lease = p.o.lease,
		.lease_term_ms = p.o.lease_term_ms,
		.watchdog = p.o.watchdog,
		.interval_ms = p.o.interval_ms ? p.o.interval_ms : INTERVAL_MS,
		.timeout_ms = p.o.timeout_ms ? p.o.timeout_ms : TIMEOUT_MS,
		.silence_ms = p.o.silence_ms ? p.o.silence_ms : SILENCE_MS,
		.channels = p.o.channels,
		.compression = (unsigned)p.o.compression,
		.level = (unsigned)p.o.level,
		.max_bandwidth = p.o.max_bandwidth,
		.memory_only = p.o.memory_only,
		.no_output_commit = p.o.no_output_commit,
		.disks = p.o.disks,
		.unprotected_disks = p.o.unprotected_disks,
		.unprotected_n = p.o.unprotected_n,
		.stopped = is_stopped,
		.on_event = on_event,
		.on_release = on_release,
		.ctx = &p};
	r = gw__protect_open(&opts, &p.session, &qemu->error);
	if (r) {
		out.outcome = r == -EOPNOTSUPP || r == -EBUSY ? GW_QEMU_PROTECT_REFUSED : GW_QEMU_PROTECT_NOT_BEGUN;
	} else {
		snprintf(out.name, sizeof out.name, "%s", gw__protect_name(p.session));
		r = run(&p, &out);
		has_left = !r && gw__protect_guest_has_left(p.session);
		gw__protect_close(p.session);
	}
	out.guest = gw__guest_after_protect(out.outcome, r == -EINVAL, has_left);
	gw__qemu_give_result(result, &out, sizeof out);
	return r;
}

int gw_qemu_protect_stop(gw_qemu *qemu, const char *monitor, enum gw_qemu_protection *was)
{
	gw__error_clear(&qemu->error);
	int r = gw__protect_stop(monitor, STOP_PATIENCE_MS, &qemu->error);
	*was = r == GW__PROTECT_WAS_IDLE ? GW_QEMU_WAS_UNPROTECTED : r == GW__PROTECT_WAS_LEFT ? GW_QEMU_WAS_LEFT : GW_QEMU_WAS_PROTECTED;
	return r < 0 ? r : 0;
}

/* --- failover --- */

static int restore(gw_qemu *qemu, struct gw__failover *held, struct gw__restore *r)
{
	free(qemu->path);
	qemu->path = strdup(held->image);
	if (!qemu->path)
		return gw__qemu_fail(qemu, -ENOMEM, "no memory for the name of an image");
	gw__qemu_detail(qemu, "no QEMU runs the guest; it is started from %s, made %.1f s ago%s", held->image, held->age_s,
		held->was_connected   ? " when its standby had to end the protection"
		: held->was_recovered ? " from the journal of a standby that died"
				      : "");
	r->path = r->out.path = qemu->path;
	r->o.owner_fd = &held->owner_fd;
	return gw__restore_execute(r);
}

/* The disks of the epoch take part in the command, or are in the QEMU that waits. */
static int give_disks(gw_qemu *qemu, const char *dir, const struct gw_qemu_failover_opts *o, struct gw__restore *r,
	struct gw__failover_disks *disks)
{
	const char *engine = o->storage_daemon ? o->storage_daemon : GW__STORAGE_DAEMON;
	int e = o->epoch ? gw__storage_branch(dir, engine, *o->epoch, &qemu->error) : 0;
	if (!e)
		e = gw__failover_disks_find(disks, dir, o->epoch, &qemu->error);
	if (!e && r->o.command && r->o.command[0]) {
		e = gw__failover_disks_fill(disks, r->o.command, &qemu->error);
		r->o.command = disks->command;
	} else if (!e) {
		e = gw__failover_disks_are_in(disks, r->o.monitor, &qemu->error);
	}
	for (unsigned i = 0; !e && i < disks->n; i++)
		gw__qemu_note(qemu, "its disk %s at that moment is %s", disks->disks[i].id, disks->disks[i].path);
	return e ? e : gw__failover_disks_use(disks, dir, &qemu->error);
}

static bool is_cancelled(void *ctx) { return gw__qemu_cancelled(ctx); }

static int give_lease(void *ctx, struct gw__qmp *q, struct gw__error *error) { return gw__failover_lease_give(ctx, q, error); }

/* The lease, then the folder: a primary whose term is over has let go of its lock by then. */
static int prepare(gw_qemu *qemu, const char *dir, const struct gw_qemu_failover_opts *o, struct gw__failover_lease *lease,
	struct gw__failover *held)
{
	const struct gw__failover_lease_opts opts = {o->lease, o->fence, o->primary_is_dead, o->accept_split_brain, is_cancelled, qemu};
	/* A lease that is taken by word kills a primary that lives: not one of which this host knows better. */
	int e = o->lease && o->primary_is_dead ? gw__failover_look(dir, &qemu->error) : 0;
	if (!e)
		e = gw__failover_lease_take(lease, &opts, &qemu->error);
	if (!e)
		e = gw__failover_prepare(held, dir, o->primary_is_dead || o->lease, qemu->job, &qemu->error);
	return e || !o->epoch ? e : gw__failover_choose(held, *o->epoch, qemu->job, &qemu->error);
}

static void note_unprepared(int e, struct gw_qemu_restore_result *out)
{
	if (e == -EBUSY || e == -EPERM || e == -EACCES)
		out->outcome = GW_QEMU_GUEST_IN_PRIMARY;
	else if (e == -ENODATA)
		out->guest = gw__guest_without_epoch();
	else if (e && e != -EINVAL)
		out->outcome = GW_QEMU_GUEST_PRIMARY_UNKNOWN;
}

static bool nobody_runs_it(enum gw_qemu_guest_outcome outcome)
{
	return outcome == GW_QEMU_GUEST_NOT_BEGUN || outcome == GW_QEMU_GUEST_REFUSED || outcome == GW_QEMU_GUEST_NOT_HERE;
}

int gw_qemu_failover(gw_qemu *qemu, const char *dir, const struct gw_qemu_failover_opts *o, struct gw_qemu_restore_result *result)
{
	struct gw__failover held = GW__FAILOVER_INIT;
	struct gw__failover_lease lease = {0};
	struct gw__restore r = GW__RESTORE_INIT(qemu, dir);
	struct gw__failover_disks disks = {0};
	struct gw_qemu_failover_opts copy;
	int e = gw__qemu_begin(qemu, "gw_qemu_failover_opts", o, &copy, sizeof copy, result);
	if (!e)
		e = gw__qemu_copy_opts("gw_qemu_restore_opts", copy.restore, &r.o, sizeof r.o, &qemu->error);
	if (e)
		return e;
	r.before_load = give_lease;
	r.ctx = &lease;
	e = prepare(qemu, dir, &copy, &lease, &held);
	note_unprepared(e, &r.out);
	if (!e)
		e = give_disks(qemu, dir, &copy, &r, &disks);
	if (!e)
		e = restore(qemu, &held, &r);
	gw__failover_disks_fini(&disks);
	if (!r.out.guest.size)
		r.out.guest = gw__guest_after_restore(&r.out.guest, r.out.outcome, false, false);
	gw__failover_lease_end(&lease, nobody_runs_it(r.out.outcome));
	gw__failover_end(&held); /* the new QEMU alone has the lock now, and its guest may be protected in the same folder again */
	gw__qemu_give_result(result, &r.out, sizeof r.out);
	return e;
}
