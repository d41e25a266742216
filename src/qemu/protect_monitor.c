/* SPDX-License-Identifier: MIT */
/* The process behind a monitor; see protect_monitor.h. */
#include "qemu/protect_monitor.h"

#include <errno.h>
#include <poll.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "qemu/monitor_broker.h"
#include "qemu/process_identity.h"
#include "qmp/sleep.h"

enum { LOOK_MS = 100 /* a QEMU that ends closes its monitor a moment earlier */ };

/*
 * The peer of a socket is who listened at it, which need not be QEMU. Only what is certain counts: in another namespace, and of a process that this user may not
 * look at, the numbers of QEMU's threads mean nothing.
 */
static bool is_another_process(pid_t pid, const json_t *identity)
{
	const json_t *thread = json_object_get(identity, "thread");
	return json_is_integer(thread) && gw__process_is_in_our_namespace(pid) &&
	       !gw__process_has_thread(pid, (pid_t)json_integer_value(thread));
}

int gw__protect_monitor_learn(struct gw__protect_monitor *m, const char *address, struct gw__qmp *q, struct gw__error *error)
{
	*m = (struct gw__protect_monitor){address, NULL, gw__monitor_broker_peer(gw__qmp_fd(q)), -1};
	if (m->pid > 0)
		m->process = pidfd_open(m->pid, 0); /* before it answers: then this is the process that did */
	int r = gw__qmp_query_identity(q, &m->identity, error);
	if (!r && m->pid > 0 && is_another_process(m->pid, m->identity)) {
		m->pid = 0;
		if (m->process >= 0)
			close(m->process);
		m->process = -1;
	}
	return r;
}

static bool saw_death(const struct gw__protect_monitor *m)
{
	struct pollfd p = {.fd = m->process, .events = POLLIN};
	return poll(&p, 1, LOOK_MS) > 0;
}

static int try_to_open(const struct gw__protect_monitor *m, int limit_ms, struct gw__qmp **q, struct gw__error *error)
{
	json_t *now = NULL;
	int r = gw__qmp_open(m->address, limit_ms, q, error);
	if (r)
		return r;
	gw__qmp_set_call_limit(*q, limit_ms);
	r = gw__qmp_query_identity(*q, &now, error);
	if (!r && !json_equal(now, m->identity))
		r = gw__error_set(error, -ESTALE, "another QEMU now listens at %s", m->address);
	json_decref(now);
	gw__qmp_set_call_limit(*q, GW__QMP_CALL_MS);
	if (r) {
		gw__qmp_close(*q);
		*q = NULL;
	}
	return r;
}

int gw__protect_monitor_open_again(const struct gw__protect_monitor *m, int patience_ms, struct gw__qmp **q, struct gw__error *error)
{
	struct timespec start = gw__monotonic_now();
	for (;;) {
		struct gw__error last = {0};
		if (saw_death(m))
			return gw__error_set(error, -ECONNRESET, "QEMU has gone");
		int left = patience_ms - (int)(gw__monotonic_seconds_since(&start) * 1e3);
		int r = try_to_open(m, left > LOOK_MS ? left : LOOK_MS, q, &last);
		if (!r)
			return 0;
		if (r != -ESTALE && left > 0)
			continue;
		if (saw_death(m))
			return gw__error_set(error, -ECONNRESET, "QEMU has gone");
		return gw__error_set(error, -ENOTCONN,
			"the connection to its monitor broke and cannot be made again (%.300s); look whether its QEMU process lives",
			last.text);
	}
}

void gw__protect_monitor_fini(struct gw__protect_monitor *m)
{
	json_decref(m->identity);
	if (m->process >= 0)
		close(m->process);
	*m = (struct gw__protect_monitor)GW__PROTECT_MONITOR_INIT;
}
