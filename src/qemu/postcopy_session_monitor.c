/* SPDX-License-Identifier: MIT */
/* Where a page server's monitor comes from: a monitor broker that holds it, or QEMU, and then a monitor broker is started. See postcopy_session.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qemu/postcopy_session.h"
#include "qemu/process_identity.h"
#include "qemu/qemu_process.h"

enum { ALIVE_MS = 5000 }; /* for an answer out of band */

static json_t *blocks_to_json(const struct gw__postcopy_session *l)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < l->blocks_n; i++)
		json_array_append_new(list,
			json_pack("{s:s, s:I}", "name", l->blocks[i].name, "page", (json_int_t)l->blocks[i].page_bytes));
	return list;
}

static void blocks_from_json(struct gw__postcopy_session *l, const json_t *list)
{
	size_t i;
	json_t *row;
	l->blocks = calloc(json_array_size(list) + 1, sizeof *l->blocks);
	json_array_foreach(list, i, row)
	{
		const char *name = json_string_value(json_object_get(row, "name"));
		if (!l->blocks || !name)
			return;
		snprintf(l->blocks[i].name, sizeof l->blocks[i].name, "%s", name);
		l->blocks[i].page_bytes = (uint64_t)json_integer_value(json_object_get(row, "page"));
		l->blocks_n = (unsigned)i + 1;
	}
}

static json_t *known_to_json(const struct gw__postcopy_session *l)
{
	json_t *j = json_object();
	json_object_set_new(j, "past", gw__qmp_handoff_state(l->qmp));
	json_object_set_new(j, "phase", json_integer(l->phase));
	json_object_set_new(j, "identity", json_string(l->fingerprint));
	json_object_set_new(j, "qemu", json_integer(l->qemu));
	json_object_set_new(j, "file", json_string(l->file));
	json_object_set_new(j, "written", json_string(l->written));
	json_object_set_new(j, "listened", gw__monitor_broker_text(l->listened));
	json_object_set_new(j, "reached", gw__monitor_broker_text(l->reached));
	if (l->before)
		json_object_set_new(j, "settings", gw__qmp_settings_to_json(l->before));
	if (l->blocks)
		json_object_set_new(j, "blocks", blocks_to_json(l));
	if (l->loading)
		json_object_set_new(j, "loading", json_true());
	if (l->tls_known)
		json_object_set_new(j, "tls", json_boolean(l->tls));
	if (l->preempt_known)
		json_object_set_new(j, "preempt", json_integer(l->preempt));
	return j;
}

static void copy(char *to, size_t bytes, const json_t *text)
{
	snprintf(to, bytes, "%s", json_is_string(text) ? json_string_value(text) : "");
}

static void known_from_json(struct gw__postcopy_session *l, const json_t *j)
{
	json_int_t phase = json_integer_value(json_object_get(j, "phase"));
	json_t *blocks = json_object_get(j, "blocks"), *tls = json_object_get(j, "tls"), *preempt = json_object_get(j, "preempt");
	l->phase = phase == GW__MONITOR_BROKER_RUNS || phase == GW__MONITOR_BROKER_ASKED ? (enum gw__monitor_broker_phase)phase
											 : GW__MONITOR_BROKER_IDLE;
	if (l->phase == GW__MONITOR_BROKER_RUNS) { /* before, it has nothing of any image */
		copy(l->fingerprint, sizeof l->fingerprint, json_object_get(j, "identity"));
		copy(l->file, sizeof l->file, json_object_get(j, "file"));
		copy(l->written, sizeof l->written, json_object_get(j, "written"));
	}
	l->qemu = (pid_t)json_integer_value(json_object_get(j, "qemu"));
	copy(l->listened, sizeof l->listened, json_object_get(j, "listened"));
	copy(l->reached, sizeof l->reached, json_object_get(j, "reached"));
	l->before = gw__qmp_settings_from_json(json_object_get(j, "settings"));
	l->loading = json_is_true(json_object_get(j, "loading"));
	l->tls_known = tls;
	l->tls = json_is_true(tls);
	l->preempt_known = preempt;
	l->preempt = (enum gw_preempt)json_integer_value(preempt);
	if (blocks)
		blocks_from_json(l, blocks);
}

void gw__postcopy_session_publish(struct gw__postcopy_session *l, enum gw__monitor_broker_phase phase)
{
	if (phase > l->phase)
		l->phase = phase;
	if (l->broker.fd < 0)
		return;
	json_t *known = known_to_json(l);
	gw__monitor_broker_keep(&l->broker, gw__qmp_fd(l->qmp), l->qemu, l->phase, l->path, known);
	json_decref(known);
}

void gw__postcopy_session_publish_loaded(struct gw__postcopy_session *l)
{
	l->loading = false;
	gw__postcopy_session_publish(l, GW__MONITOR_BROKER_RUNS);
}

/* From a monitor broker: is there still a QEMU at the other end, and where does the next message begin? */
static int adopt(struct gw__postcopy_session *l, struct gw__monitor_handoff *handoff)
{
	int fd = handoff->monitor;
	l->link = handoff->link;
	handoff->monitor = handoff->link = -1;
	int r = gw__qmp_take_over(fd, json_object_get(handoff->known, "past"), l->broker.epoch, &l->qmp, &l->error);
	if (r)
		return r;
	gw__qmp_set_call_limit(l->qmp, ALIVE_MS);
	r = gw__qmp_call_oob(l->qmp, "query-yank", NULL, NULL, &l->error);
	gw__qmp_set_call_limit(l->qmp, GW__QMP_CALL_MS);
	if (r)
		return r;
	known_from_json(l, handoff->known);
	gw__qemu_detail(l->driver, "the monitor of this QEMU was kept by another process since its page server ended");
	return 0;
}

static void say_none(const struct gw__postcopy_session *l, struct gw__error *error)
{
	gw__qemu_detail(l->driver, "nothing keeps the monitor open if this process dies: %s",
		error->text[0] ? error->text : "no process can be started for it");
	gw__error_clear(error);
}

/*
 * One program may pass on the monitors of several QEMUs (ssh -L), also of other hosts: its number would make one's monitor broker that of
 * another. A QEMU has the thread of its CPU.
 */
static void find_qemu(struct gw__postcopy_session *l)
{
	pid_t peer = gw__monitor_broker_peer(gw__qmp_fd(l->qmp));
	if (!peer || l->qemu)
		return;
	gw__qmp_set_call_limit(l->qmp, GW__POSTCOPY_SESSION_HELD_UP_MS);
	if (gw__process_has_thread(peer, gw__qemu_cpu_thread(l->qmp)))
		l->qemu = peer;
	gw__qmp_set_call_limit(l->qmp, GW__QMP_CALL_MS);
}

/* -EBUSY, -EEXIST and -ETIMEDOUT of another's; or 0, whether there is one or not. */
static int start_broker(struct gw__postcopy_session *l, const char *address)
{
	struct gw__error error = {0};
	int r = gw__monitor_broker_start(&l->broker, address, &error);
	l->refused = r == -EBUSY;
	if (r == -EBUSY || r == -EEXIST || r == -ETIMEDOUT)
		return gw__error_set(&l->error, r, "%s", error.text);
	if (r)
		say_none(l, &error);
	return 0;
}

/* 0: a monitor broker gave it; -ENOENT without a sentence: there is none; GW__SILENT: one does not answer. */
static int take_over(struct gw__postcopy_session *l, const char *address, pid_t qemu)
{
	struct gw__monitor_handoff handoff;
	int r = address ? gw__monitor_broker_find(&l->broker, address, &handoff, &l->error)
			: gw__monitor_broker_find_pid(&l->broker, qemu, &handoff, &l->error);
	l->refused = r == -EBUSY;
	if (r)
		return r;
	if (handoff.monitor < 0) { /* its page server died before it had a monitor */
		gw__monitor_broker_dismiss(&l->broker);
		gw__monitor_handoff_fini(&handoff);
		return -ENOENT;
	}
	r = adopt(l, &handoff);
	gw__monitor_handoff_fini(&handoff);
	if (r == -ECONNRESET || r == -EPROTO)
		gw__monitor_broker_dismiss(&l->broker);
	else if (r)
		l->guest = GW__GUEST_UNKNOWN; /* the monitor broker has the only monitor that it may still hear */
	return r;
}

int gw__postcopy_session_open(struct gw__postcopy_session *l, const char *address, int timeout_ms)
{
	int fd = -1;
	int r = take_over(l, address, 0);
	if (r == GW__SILENT) /* and may be it */
		return l->error.code;
	if (r != -ENOENT)
		return r;
	if (!strncmp(address, "pid:", 4))
		return gw__error_set(&l->error, -ESRCH, "no page server left a monitor of a QEMU with process number %s", address + 4);
	r = gw__qmp_dial(address, timeout_ms, &fd, &l->error);
	if (r)
		return r;
	r = take_over(l, NULL, gw__monitor_broker_peer(fd));
	if (r != -ENOENT && r != GW__SILENT) {
		close(fd);
		return r;
	}
	if (r == GW__SILENT) { /* and is rather another QEMU's: this one's would be found by the address */
		gw__qemu_detail(l->driver, "%s", l->error.text);
		gw__error_clear(&l->error);
	}
	r = start_broker(l, address);
	if (r) {
		close(fd);
		return r;
	}
	r = gw__qmp_greet(fd, address, timeout_ms, &l->qmp, &l->error);
	if (r) {
		gw__monitor_broker_dismiss(&l->broker);
		return r;
	}
	find_qemu(l);
	gw__postcopy_session_publish(l, GW__MONITOR_BROKER_IDLE);
	return 0;
}

int gw__postcopy_session_guard(struct gw__postcopy_session *l, const char *address)
{
	pid_t qemu = gw__monitor_broker_peer(gw__qmp_fd(l->qmp));
	if (!address) {
		snprintf(l->name, sizeof l->name, "pid:%d", (int)qemu);
		l->qemu = qemu; /* which we have started */
	}
	find_qemu(l);
	int r = address || qemu ? start_broker(l, address ? address : l->name) : 0;
	if (!r)
		gw__postcopy_session_publish(l, GW__MONITOR_BROKER_IDLE);
	return r;
}
