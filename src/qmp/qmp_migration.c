/* SPDX-License-Identifier: MIT */
/*
 * What QEMU says about its migration and its run state, and how to start one.
 *
 * Members QEMU leaves out are zero; a status it may invent later is text and "still running".
 */
#include "qmp/parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CLEANED_MS = 5000, CLEANED_POLL_MS = 10 };

/* The first socket of `socket-address` as a URI; an abstract unix name has none. */
static void socket_uri(char *out, size_t room, const json_t *addresses)
{
	const json_t *a = json_array_get(addresses, 0);
	const char *type = json_string_value(json_object_get(a, "type"));
	char host[128], port[32], path[160];
	out[0] = 0;
	if (!type)
		return;
	if (strcmp(type, "inet") == 0) {
		gw__qmp_get_text(host, sizeof host, a, "host");
		gw__qmp_get_text(port, sizeof port, a, "port");
		bool v6 = strchr(host, ':');
		snprintf(out, room, "tcp:%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
	} else if (strcmp(type, "unix") == 0 && !json_is_true(json_object_get(a, "abstract"))) {
		gw__qmp_get_text(path, sizeof path, a, "path");
		snprintf(out, room, "unix:%s", path);
	} else if (strcmp(type, "vsock") == 0) {
		gw__qmp_get_text(host, sizeof host, a, "cid");
		gw__qmp_get_text(port, sizeof port, a, "port");
		snprintf(out, room, "vsock:%s:%s", host, port);
	}
}

static void read_migration(struct gw__qmp_migration *m, const json_t *said)
{
	const json_t *ram = json_object_get(said, "ram");
	gw__qmp_get_text(m->status, sizeof m->status, said, "status");
	gw__qmp_get_text(m->error, sizeof m->error, said, "error-desc");
	m->state = gw__qmp_migration_state_of(m->status);
	m->completed = m->state == GW__MIGRATION_COMPLETED;
	m->failed = m->state == GW__MIGRATION_FAILED;
	m->cancelled = m->state == GW__MIGRATION_CANCELLED;
	m->ended = gw__qmp_has_ended(m->state);
	m->total_bytes = gw__qmp_get_u64(ram, "total");
	m->remaining_bytes = gw__qmp_get_u64(ram, "remaining");
	m->transferred_bytes = gw__qmp_get_u64(ram, "transferred");
	m->dirty_pages_rate = gw__qmp_get_u64(ram, "dirty-pages-rate");
	m->page_bytes = gw__qmp_get_u64(ram, "page-size");
	m->dirty_sync_count = gw__qmp_get_u64(ram, "dirty-sync-count");
	m->sent_pages = gw__qmp_get_u64(ram, "normal") + gw__qmp_get_u64(ram, "duplicate");
	m->mbps = gw__qmp_get_real(ram, "mbps");
	m->downtime_ms = gw__qmp_get_u64(said, "downtime");
	m->total_ms = gw__qmp_get_u64(said, "total-time");
	socket_uri(m->address, sizeof m->address, json_object_get(said, "socket-address"));
}

int gw__qmp_query_migrate(struct gw__qmp *q, struct gw__qmp_migration *m, struct gw__error *error)
{
	json_t *said = NULL;
	*m = (struct gw__qmp_migration){.state = GW__MIGRATION_NONE};
	int err = gw__qmp_call(q, "query-migrate", NULL, &said, error);
	if (err)
		return err;
	if (json_is_object(said))
		read_migration(m, said);
	else
		err = gw__qmp_note_anomaly(q, "query-migrate", "not an object", error);
	json_decref(said);
	return err;
}

/* Something of a migration is in QEMU's list of what may hang. A monitor that does not say so fails at the next command. */
static bool has_instance(struct gw__qmp *q)
{
	json_t *said = NULL;
	struct gw__error ignored = {0};
	bool found = false;
	if (gw__qmp_call(q, "query-yank", NULL, &said, &ignored))
		return false;
	for (size_t i = 0; i < json_array_size(said) && !found; i++) {
		const char *type = json_string_value(json_object_get(json_array_get(said, i), "type"));
		found = type && strcmp(type, "migration") == 0;
	}
	json_decref(said);
	return found;
}

int gw__qmp_await_cleaned_up(struct gw__qmp *q, struct gw__error *error)
{
	for (int waited = 0; has_instance(q); waited += CLEANED_POLL_MS) {
		struct gw__qmp_migration last;
		int err = gw__qmp_query_migrate(q, &last, error);
		if (err || !last.ended) /* `migrate` will say that there is one */
			return err;
		if (waited >= CLEANED_MS)
			return gw__error_set(error, -EBUSY,
				"QEMU %s at %s has not finished its last migration, which %s%s%s; wait and try again (a QEMU 7.2 may be "
				"stuck in it until it is restarted)",
				q->version_text, q->address, last.status, last.error[0] ? ": " : "", last.error);
		usleep(CLEANED_POLL_MS * 1000);
	}
	return 0;
}

int gw__qmp_migrate(struct gw__qmp *q, const char *uri, struct gw__error *error)
{
	int err = gw__qmp_await_cleaned_up(q, error);
	return err ? err : gw__qmp_call(q, "migrate", json_pack("{s:s}", "uri", uri), NULL, error);
}

int gw__qmp_query_status(struct gw__qmp *q, struct gw__qmp_status *s, struct gw__error *error)
{
	json_t *said = NULL;
	*s = (struct gw__qmp_status){0};
	int err = gw__qmp_call(q, "query-status", NULL, &said, error);
	if (err)
		return err;
	gw__qmp_get_text(s->name, sizeof s->name, said, "status");
	const json_t *running = json_object_get(said, "running");
	s->state = gw__qmp_run_state_of(s->name);
	s->running = json_is_true(running);
	/* Who runs the guest is decided from this: no guessing. */
	if (!s->name[0] || !json_is_boolean(running))
		err = gw__qmp_note_anomaly(q, "query-status", "no run state in it", error);
	json_decref(said);
	return err;
}
