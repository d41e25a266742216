/* SPDX-License-Identifier: MIT */
/* Gets a kept guest into a QEMU that waits: the comparison, and the two ways. See restore.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/requested_caps.h"
#include "qemu/destination.h"
#include "qemu/restore.h"
#include "qmp/sleep.h"

enum {
	FDSET = 7301, /* any number the user's QEMU is unlikely to have */
	POLL_MS = 20,
	END_MS = 2000,  /* for a QEMU that has closed its monitor */
	LOOK_MS = 1000, /* how long a look waits for an answer, and so how soon a cancel is seen */
	STREAM_END_MS = 30000,
};
static const char FD_NAME[] = "godwit-restore";

/* The guest fits; does what is asked for besides go together on this way? */
static void check_combination(struct gw__restore *r)
{
	bool direct = r->plan.way == GW_WAY_DIRECT;
	struct gw__requested_caps w = {0};
	struct gw_rule refusal = GW_INIT(refusal);
	gw__requested_caps_add(&w, r->summary.format == GW_FORMAT_IMAGE ? "image" : "stream");
	gw__requested_caps_add(&w, direct ? "mapped-ram" : NULL);
	gw__requested_caps_add(&w, direct ? "file" : "fd");
	gw__requested_caps_add(&w, direct ? "fdset" : NULL);
	gw__requested_caps_add(&w, r->o.channels ? "multifd" : NULL);
	gw__requested_caps_add(&w, r->o.image_offset ? "offset" : NULL);
	if (gw_plan_combination(direct ? GW_OPERATION_RESTORE_DIRECT : GW_OPERATION_RESTORE_STREAM, w.name,
		    (unsigned)gw__qmp_version(r->qmp), &refusal) == 0)
		return;
	r->plan.way = GW_WAY_REFUSED;
	snprintf(r->plan.reason, sizeof r->plan.reason, "%s", refusal.reason);
}

int gw__restore_plan(struct gw__restore *r)
{
	struct gw__qemu_destination there = {0};
	int e = gw__qemu_destination_waits(r->qmp, &r->error);
	if (!e)
		e = gw__qmp_settings_save(r->qmp, &r->before, &r->error);
	if (!e)
		e = gw__qemu_destination_ask(r->qmp, r->before, &there, &r->error);
	if (!e && r->o.way == GW_QEMU_RESTORE_CLONE)
		e = gw__clone_find_mapped(&r->clone, r->qmp, r->info, &there, &r->error);
	if (!e) {
		there.d.reads_images &=
			r->o.way != GW_QEMU_RESTORE_STREAM && !r->o.max_bandwidth; /* nothing holds a QEMU that reads back */
		r->plan.size = sizeof r->plan;
		gw_plan_restore(r->info, &there.d, &r->plan);
	}
	if (!e && r->o.way == GW_QEMU_RESTORE_STREAM && r->plan.way == GW_WAY_STREAM)
		snprintf(r->plan.reason, sizeof r->plan.reason, "the image is sent as a stream, as asked for");
	else if (!e && r->o.max_bandwidth && r->plan.way == GW_WAY_STREAM && r->o.way != GW_QEMU_RESTORE_LAZY)
		snprintf(r->plan.reason, sizeof r->plan.reason,
			"the image is sent as a stream: QEMU has no rate limit when it reads an image itself");
	if (!e && r->plan.way != GW_WAY_REFUSED && (r->o.way != GW_QEMU_RESTORE_DIRECT || r->plan.way == GW_WAY_DIRECT))
		check_combination(r);
	gw__qemu_destination_fini(&there);
	return e;
}

static bool has_capability(const gw_info *info, const char *name)
{
	const char *cap;
	for (uint32_t i = 0; (cap = gw_info_capability(info, i)); i++)
		if (!strcmp(cap, name))
			return true;
	return false;
}

/* Before the capabilities: with tls-creds set and mapped-ram on, QEMU refuses to change any parameter. */
static int set_parameters(struct gw__restore *r, bool direct)
{
	json_t *p = json_object();
	if (gw__qmp_settings_parameter(r->before, "tls-creds"))
		json_object_set_new(p, "tls-creds", json_string(""));
	if (direct && r->o.channels)
		json_object_set_new(p, "multifd-channels", json_integer(r->o.channels));
	return gw__qmp_call(r->qmp, "migrate-set-parameters", p, NULL, &r->error);
}

/* Both ends must agree on what the image's configuration names, and on nothing else. */
static int set_capabilities(struct gw__restore *r, bool direct)
{
	struct gw__qmp_capability caps[4] = {{"events", true}}; /* of its end */
	unsigned n = 1;
	if (has_capability(r->info, "x-ignore-shared"))
		caps[n++] = (struct gw__qmp_capability){"x-ignore-shared", true};
	if (direct)
		caps[n++] = (struct gw__qmp_capability){"mapped-ram", true};
	if (direct && r->o.channels)
		caps[n++] = (struct gw__qmp_capability){"multifd", true};
	int e = gw__qmp_clear_capabilities(r->qmp, r->before, false, &r->error);
	if (!e)
		e = set_parameters(r, direct);
	return e ? e : gw__qmp_set_capabilities(r->qmp, caps, n, &r->error);
}

static int migrate_incoming(struct gw__restore *r, const char *uri)
{
	json_t *args = json_pack("{s:s}", "uri", uri);
	if (gw__qmp_has_quirk(r->qmp, GW__QUIRK_EXIT_ON_ERROR))
		json_object_set_new(args, "exit-on-error", json_false());
	return gw__qmp_call(r->qmp, "migrate-incoming", args, NULL, &r->error);
}

/* One look. 0: it is loaded; 1: not yet, or no answer, which a QEMU that reads a large image owes for a while. */
static int look_if_loaded(struct gw__restore *r, bool may_be_silent)
{
	struct gw__qmp_migration m;
	int e = gw__qmp_query_migrate(r->qmp, &m, &r->error);
	if (e == -ETIMEDOUT && may_be_silent) {
		gw__error_clear(&r->error);
		return 1;
	}
	if (e || m.completed)
		return e;
	r->left_to_qemu = !m.ended;
	return !m.ended ? 1
			: gw__error_set(&r->error, -EREMOTEIO, "QEMU could not load the guest: %s",
				  m.error[0] ? m.error : "no reason given");
}

/* Has the QEMU whose monitor is lost ended? It does before anybody has reaped it. */
static bool has_ended(int process)
{
	struct pollfd p = {.fd = process, .events = POLLIN};
	return process >= 0 && poll(&p, 1, END_MS) == 1;
}

/* `limit_ms` -1: as long as it takes, also if QEMU does not answer meanwhile. */
static int await_loaded(struct gw__restore *r, int limit_ms)
{
	struct timespec start = gw__monotonic_now();
	int e = 1, process = r->qemu > 0 ? pidfd_open(r->qemu, 0) : -1;
	r->left_to_qemu = true;
	gw__qmp_set_call_limit(r->qmp, limit_ms < 0 ? LOOK_MS : limit_ms);
	while (e == 1 && (limit_ms < 0 || gw__monotonic_seconds_since(&start) * 1e3 < limit_ms)) {
		json_t *event;
		e = look_if_loaded(r, limit_ms < 0);
		if (e == 1 && gw__qemu_cancelled(r->driver))
			e = gw__error_set(&r->error, -ECANCELED, "%s", gw__qemu_job_error(r->driver));
		if (e == 1 && !gw__qmp_event(r->qmp, POLL_MS, &event, NULL))
			json_decref(event);
	}
	if (!e) /* else what is put back shall not wait long for a QEMU that is silent */
		gw__qmp_set_call_limit(r->qmp, GW__QMP_CALL_MS);
	if (e == -ECONNRESET && has_ended(process))
		r->left_to_qemu = false;
	if (process >= 0)
		close(process);
	return e != 1 ? e : gw__error_set(&r->error, -ETIMEDOUT, "QEMU received everything, but does not report that the guest is loaded");
}

/* QEMU gets a descriptor, not a path: it may run as another user or in another root. */
static int load_direct(struct gw__restore *r)
{
	char uri[96];
	int fd = open(r->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return gw__error_errno(&r->error, errno, "cannot open %s", r->path);
	int e = set_capabilities(r, true);
	if (!e)
		e = gw__qmp_call_fd(r->qmp, "add-fd", json_pack("{s:i}", "fdset-id", FDSET), fd, NULL, &r->error);
	close(fd);
	if (e)
		return e;
	snprintf(uri, sizeof uri, "file:/dev/fdset/%d,offset=%" PRIu64, FDSET, r->o.image_offset);
	e = migrate_incoming(r, uri);
	if (!e)
		e = await_loaded(r, -1);
	gw__qmp_call(r->qmp, "remove-fd", json_pack("{s:i}", "fdset-id", FDSET), NULL, NULL);
	return e;
}

static int load_stream(struct gw__restore *r)
{
	char uri[64] = "fd:";
	int pair[2];
	if (!gw__qmp_can_pass_fds(r->qmp)) {
		gw__error_advise(&r->driver->error, GW_QEMU_HINT_SEND);
		return gw__error_set(&r->error, -EOPNOTSUPP, "this monitor cannot pass descriptors (it is not a unix socket)");
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return gw__error_errno(&r->error, errno, "cannot make a socket pair");
	strcat(uri, FD_NAME);
	int e = set_capabilities(r, false);
	if (!e)
		e = gw__qmp_call_fd(r->qmp, "getfd", json_pack("{s:s}", "fdname", FD_NAME), pair[1], NULL, &r->error);
	close(pair[1]);
	if (!e)
		e = migrate_incoming(r, uri);
	if (e) {
		close(pair[0]);
		return e;
	}
	struct gw_link_opts link = GW_INIT(link);
	struct gw_send_opts o = GW_INIT(o);
	link.max_bandwidth = r->o.max_bandwidth;
	link.idle_timeout_ms = r->o.idle_timeout_ms;
	o.link = &link;
	o.image_offset = r->o.image_offset;
	o.memory_limit = r->o.memory_limit;
	o.mapped_blocks = r->clone.mapped_n;
	o.mapped_block = r->clone.mapped;
	e = gw_send_fd(r->driver->job, r->clone.mapped_n ? r->clone.proc : r->path, pair[0], &o);
	if (!e)
		return await_loaded(r, STREAM_END_MS);
	if (gw__qemu_cancelled(r->driver))
		return gw__error_set(&r->error, e, "%s", gw__qemu_job_error(r->driver));
	struct gw__error qemu = {0}; /* its own words are better than the end of a socket */
	struct gw__qmp_migration m;
	if (gw__qmp_query_migrate(r->qmp, &m, &qemu) == 0 && m.error[0])
		return gw__error_set(&r->error, e, "QEMU could not load the guest: %s", m.error);
	return gw__error_set(&r->error, e, "%s", gw_job_error(r->driver->job));
}

/* Settings that cannot be put back do not take back a guest that is there. */
int gw__restore_load(struct gw__restore *r)
{
	int e = r->plan.way == GW_WAY_DIRECT ? load_direct(r) : load_stream(r);
	struct gw__error error = {0};
	if (gw__qmp_settings_restore(r->qmp, r->before, &error) && !e)
		gw__qemu_warn(r->driver, "the guest is loaded, but a setting of its QEMU stays changed: %s", error.text);
	return e;
}
