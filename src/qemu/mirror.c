/* SPDX-License-Identifier: MIT */
/* Mirrors of a guest's disks; see mirror.h. */
#include "qemu/mirror.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <godwit-qemu.h>

#include "base/conditions.h"
#include "qmp/sleep.h"

#define NODE "godwit-disk-"
#define JOB  "godwit-mirror-"

enum { REMOVE_MS = 10000, HANGS_MS = 1000, POLL_MS = 5 };

/* --- which disks --- */

static const char *id_of(const json_t *d)
{
	const char *name = json_string_value(json_object_get(d, "device")), *path = json_string_value(json_object_get(d, "qdev"));
	const char *node = json_string_value(json_object_get(json_object_get(d, "inserted"), "node-name"));
	return name && *name ? name : node && *node && *node != '#' ? node : path && *path ? path : "?";
}

static bool is_one_of(const char *id, const char *const *names, unsigned n, bool *seen)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(id, names[i])) {
			seen[i] = true;
			return true;
		}
	return false;
}

static int take(struct gw__mirror *m, const json_t *d, const char *id, struct gw__error *error)
{
	const json_t *inserted = json_object_get(d, "inserted");
	const char *node = json_string_value(json_object_get(inserted, "node-name"));
	json_int_t bytes = json_integer_value(json_object_get(json_object_get(inserted, "image"), "virtual-size"));
	struct gw__mirror_disk *more = realloc(m->disks, (m->n + 1) * sizeof *more);
	if (!more)
		return gw__error_set(error, -ENOMEM, "no memory for a list of disks");
	m->disks = more;
	snprintf(more[m->n].id, sizeof more->id, "%s", id);
	snprintf(more[m->n].node, sizeof more->node, "%s", node ? node : "");
	more[m->n++].bytes = bytes > 0 ? (uint64_t)bytes : 0;
	return 0;
}

static int take_all(struct gw__mirror *m, const json_t *said, const char *const *except, unsigned n, bool *seen, struct gw__error *error)
{
	const json_t *d;
	size_t i;
	json_array_foreach(said, i, d)
	{
		const json_t *inserted = json_object_get(d, "inserted");
		if (!inserted || json_is_true(json_object_get(inserted, "ro")) || is_one_of(id_of(d), except, n, seen))
			continue;
		int r = take(m, d, id_of(d), error);
		if (r)
			return r;
	}
	for (unsigned k = 0; k < n; k++)
		if (!seen[k])
			return gw__error_set(error, -EINVAL, "this QEMU has no writable disk %.100s", except[k]);
	return 0;
}

int gw__mirror_find(struct gw__mirror *m, struct gw__qmp *q, const char *const *except, unsigned n, struct gw__error *error)
{
	json_t *said = NULL;
	bool *seen = calloc(n + 1, sizeof *seen);
	*m = (struct gw__mirror){0};
	int r = seen ? gw__qmp_call(q, "query-block", NULL, &said, error) : gw__error_set(error, -ENOMEM, "no memory for a list of disks");
	if (!r)
		r = take_all(m, said, except, n, seen, error);
	json_decref(said);
	free(seen);
	if (r)
		gw__mirror_fini(m);
	return r;
}

void gw__mirror_fini(struct gw__mirror *m)
{
	free(m->disks);
	*m = (struct gw__mirror){0};
}

/* --- theirs at the standby --- */

static json_t *address_of(const char *server)
{
	const char *at = strchr(server, ':') + 1, *port = strrchr(at, ':');
	if (!strncmp(server, "unix:", strlen("unix:")))
		return json_pack("{s:s, s:s}", "type", "unix", "path", at);
	bool bracketed = *at == '[' && port > at && port[-1] == ']';
	return json_pack("{s:s, s:s%, s:s}", "type", "inet", "host", at + bracketed, (size_t)(port - at) - 2 * bracketed, "port", port + 1);
}

static int start_one(struct gw__mirror_disk *d, unsigned n, struct gw__qmp *q, const char *server, const char *prefix,
	struct gw__error *error)
{
	char node[32], job[32], export[256];
	d->is_blocking = false;
	snprintf(node, sizeof node, NODE "%u", n);
	snprintf(job, sizeof job, JOB "%u", n);
	snprintf(export, sizeof export, "%s-%s", prefix, d->id);
	int r = gw__qmp_call(q, "blockdev-add",
		json_pack("{s:s, s:s, s:o, s:s, s:s}", "driver", "nbd", "node-name", node, "server", address_of(server), "export", export,
			"discard", "unmap"),
		NULL, error);
	if (!r)
		r = gw__qmp_call(q, "blockdev-mirror",
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "job-id", job, "device", d->node, "target", node, "sync", "full",
				"copy-mode", "background", "on-target-error", "report", "on-source-error", "report"),
			NULL, error);
	return r ? gw__error_where(error, "its disk %s cannot be mirrored to the standby at %s", d->id, server) : 0;
}

int gw__mirror_start(struct gw__mirror *m, struct gw__qmp *q, const char *server, const char *prefix, struct gw__error *error)
{
	int r = 0;
	for (unsigned i = 0; !r && i < m->n; i++)
		r = start_one(&m->disks[i], i, q, server, prefix, error);
	return r;
}

static const json_t *job_of(const json_t *jobs, unsigned n)
{
	const json_t *j;
	size_t i;
	char name[32];
	snprintf(name, sizeof name, JOB "%u", n);
	json_array_foreach(jobs, i, j)
	{
		const char *device = json_string_value(json_object_get(j, "device"));
		if (device && !strcmp(device, name))
			return j;
	}
	return NULL;
}

/* From now on a write of the guest is complete when it is in both places. */
static int make_blocking(struct gw__mirror_disk *d, unsigned n, struct gw__qmp *q, struct gw__error *error)
{
	char job[32];
	snprintf(job, sizeof job, JOB "%u", n);
	int r = gw__qmp_call(q, "block-job-change",
		json_pack("{s:s, s:s, s:s}", "id", job, "type", "mirror", "copy-mode", "write-blocking"), NULL, error);
	d->is_blocking = !r;
	return r ? gw__error_where(error, "its disk %s cannot be kept in step with the standby", d->id) : 0;
}

/* 0, GW__NOT_YET, or an error. */
static int check_one(struct gw__mirror_disk *d, unsigned n, struct gw__qmp *q, const json_t *j, struct gw__error *error)
{
	const char *status = json_string_value(json_object_get(j, "io-status"));
	if (!j || (status && strcmp(status, "ok")))
		return gw__error_set(error, -EIO, "the mirror of its disk %s to the standby has failed", d->id);
	if (!json_is_true(json_object_get(j, "ready")))
		return GW__NOT_YET;
	if (d->is_blocking)
		return json_is_true(json_object_get(j, "actively-synced")) ? 0 : GW__NOT_YET;
	int r = make_blocking(d, n, q, error);
	return r ? r : GW__NOT_YET;
}

int gw__mirror_check(struct gw__mirror *m, struct gw__qmp *q, uint64_t *done_bytes, struct gw__error *error)
{
	json_t *jobs = NULL;
	int r = m->n ? gw__qmp_call(q, "query-block-jobs", NULL, &jobs, error) : 0;
	bool synced = true;
	*done_bytes = 0;
	for (unsigned i = 0; !r && i < m->n; i++) {
		const json_t *j = job_of(jobs, i);
		*done_bytes += j ? (uint64_t)json_integer_value(json_object_get(j, "offset")) : 0;
		r = check_one(&m->disks[i], i, q, j, error);
		synced &= r != GW__NOT_YET;
		r = r == GW__NOT_YET ? 0 : r;
	}
	json_decref(jobs);
	return r ? r : synced ? 0 : GW__NOT_YET;
}

bool gw__mirror_is_ours(const char *job) { return job && !strncmp(job, JOB, strlen(JOB)); }

/* --- their end --- */

void gw__mirror_break(struct gw__qmp *q)
{
	json_t *all = NULL, *y;
	size_t i;
	if (gw__qmp_call_oob(q, "query-yank", NULL, &all, NULL))
		return;
	json_array_foreach(all, i, y)
	{
		const char *node = json_string_value(json_object_get(y, "node-name"));
		if (node && !strncmp(node, NODE, strlen(NODE)))
			gw__qmp_call_oob(q, "yank", json_pack("{s:[O]}", "instances", y), NULL, NULL);
	}
	json_decref(all);
}

/*
 * Cancels each godwit-mirror-N job and returns how many there are. Only a job that is not ready is cancelled with force: QEMU can corrupt its heap when a
 * write-blocking job is cancelled with force (docs/spec/colo.md 12). A ready job has almost nothing left to write. If its server hangs, gw__mirror_break ends it.
 */
static int end_jobs(struct gw__qmp *q, struct gw__error *error)
{
	json_t *jobs = NULL, *j;
	size_t i;
	int n = 0, r = gw__qmp_call(q, "query-block-jobs", NULL, &jobs, error);
	json_array_foreach(jobs, i, j)
	{
		const char *name = json_string_value(json_object_get(j, "device"));
		if (!gw__mirror_is_ours(name))
			continue;
		n++;
		bool copies = !json_is_true(json_object_get(j, "ready"));
		gw__qmp_call(q, "block-job-cancel", json_pack("{s:s, s:b}", "device", name, "force", copies), NULL, NULL);
	}
	json_decref(jobs);
	return r ? r : n;
}

/* How many nodes of ours are left. */
static int delete_nodes(struct gw__qmp *q, struct gw__error *error)
{
	json_t *nodes = NULL, *d;
	size_t i;
	int n = 0, r = gw__qmp_call(q, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), &nodes, error);
	json_array_foreach(nodes, i, d)
	{
		const char *name = json_string_value(json_object_get(d, "node-name"));
		if (name && !strncmp(name, NODE, strlen(NODE)))
			n += gw__qmp_call(q, "blockdev-del", json_pack("{s:s}", "node-name", name), NULL, error) != 0;
	}
	json_decref(nodes);
	return r ? r : n;
}

/* 0: no godwit-mirror-N job and no godwit-disk-N node exists any more. */
static int try_remove(struct gw__qmp *q, struct gw__error *error)
{
	gw__error_clear(error);
	int r = end_jobs(q, error);
	return r ? r : delete_nodes(q, error);
}

int gw__mirror_remove(struct gw__qmp *q, struct gw__error *error)
{
	struct timespec start = gw__monotonic_now();
	struct gw__error last = {0};
	int r;
	gw__qmp_set_call_limit(q, HANGS_MS);
	while ((r = try_remove(q, &last)) && r != -ECONNRESET) {
		double ms = gw__monotonic_seconds_since(&start) * 1e3;
		if (ms > REMOVE_MS)
			break;
		if (ms > HANGS_MS)
			gw__mirror_break(q);
		gw__sleep_ms(POLL_MS);
	}
	gw__qmp_set_call_limit(q, GW__QMP_CALL_MS);
	if (!r)
		return 0;
	return gw__error_set(error, r < 0 ? r : -EBUSY, "the mirrors of its disks cannot be removed: %s",
		last.text[0] ? last.text : "they do not end");
}
