/* SPDX-License-Identifier: MIT */
/* What keeps a QEMU from being a COLO primary; see protect_preflight.h. */
#include "qemu/protect_preflight.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include <godwit-qemu.h>

#include "base/math.h"
#include "plan/outside_devices.h"

static int check_release(struct gw__qmp *q, const struct gw__qmp_settings *now, struct gw__error *error)
{
	if (gw__qmp_has_quirk(q, GW__QUIRK_NO_CHECKPOINTS))
		return gw__error_set(error, -EOPNOTSUPP,
			"QEMU %s cannot be protected: releases before 11.1 complete the migration instead of sending checkpoints",
			gw__qmp_version_text(q));
	if (!gw__qmp_settings_has(now, "x-colo"))
		return gw__error_set(error, -EOPNOTSUPP, "this QEMU %s was built without COLO: it has no capability x-colo",
			gw__qmp_version_text(q));
	if (!gw__qmp_has_oob(q))
		return gw__error_set(error, -EOPNOTSUPP,
			"this monitor has no out-of-band commands, without which the guest cannot be released in the middle of a checkpoint");
	return 0;
}

static int check_blockers(struct gw__qmp *q, struct gw__error *error)
{
	json_t *said = NULL;
	int r = gw__qmp_call(q, "query-migrate", NULL, &said, error);
	const char *reason = json_string_value(json_array_get(json_object_get(said, "blocked-reasons"), 0));
	if (!r && reason)
		r = gw__error_set(error, -EOPNOTSUPP, "this guest cannot be migrated, so it cannot be protected: %.300s", reason);
	json_decref(said);
	return r;
}

int gw__protect_check_free(struct gw__qmp *q, struct gw__error *error)
{
	struct gw__qmp_migration m;
	struct gw__qmp_status s = {0};
	int r = gw__qmp_query_migrate(q, &m, error);
	if (!r && m.state != GW__MIGRATION_NONE && !m.ended)
		r = gw__error_set(error, -EBUSY, "it is busy with another migration (status \"%s\"); wait for its end or cancel it",
			m.status);
	if (!r)
		r = gw__qmp_query_status(q, &s, error);
	return r || s.running ? r : gw__error_set(error, -EBUSY, "its guest does not run (\"%s\")", s.name);
}

static int check_state(struct gw__qmp *q, struct gw__error *error)
{
	struct gw__qmp_migration m;
	int r = gw__qmp_query_migrate(q, &m, error);
	if (!r && m.state == GW__MIGRATION_COLO) {
		gw__error_advise(error, GW_QEMU_HINT_PROTECT_STOP);
		r = gw__error_set(error, -EBUSY, "it is already protected, or was not released");
	}
	return r ? r : gw__protect_check_free(q, error);
}

/* A disk that is written to would be ahead of the memory that a failover goes on from. */
static int check_disks(const struct gw__mirror *m, bool taken, struct gw__error *error)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	if (m->n && !taken) {
		gw__error_advise(error, GW_QEMU_HINT_DISKS);
		return gw__error_set(error, -EOPNOTSUPP,
			"its disk %.100s is writable and is not protected: after a failover it would be ahead of the guest's memory",
			m->disks[0].id);
	}
	for (unsigned i = 0; i < m->n; i++)
		if (strspn(m->disks[i].id, good) != strlen(m->disks[i].id) || strlen(m->disks[i].id) > 60) {
			gw__error_advise(error, GW_QEMU_HINT_DISKS);
			return gw__error_set(error, -EOPNOTSUPP,
				"its disk %.100s cannot be protected: the standby names a file after it, and so its id may have 60 letters, digits, - and _",
				m->disks[i].id);
		}
	return 0;
}

/* `devices`: of qom-list, with the type "child<TYPE>". */
static int check_types(const json_t *devices, struct gw__error *error)
{
	const json_t *d;
	size_t i;
	json_array_foreach(devices, i, d)
	{
		const char *name = json_string_value(json_object_get(d, "name")), *type = json_string_value(json_object_get(d, "type"));
		bool is_device = name && type && !strncmp(type, "child<", strlen("child<"));
		const char *why = is_device ? gw__plan_outside_device(type + strlen("child<")) : NULL;
		if (!why)
			continue;
		gw__error_advise(error, GW_QEMU_HINT_MEMORY_ONLY);
		return gw__error_set(error, -EOPNOTSUPP,
			"its device %.100s is a %.*s: %s, so after a failover that would be ahead of the guest's memory; unplug it (device_del)",
			name, (int)strcspn(type + strlen("child<"), ">"), type + strlen("child<"), why);
	}
	return 0;
}

/* All that -device and device_add have made, on any bus: with an id, and without. */
static int check_outside_devices(struct gw__qmp *q, struct gw__error *error)
{
	static const char *const places[] = {"/machine/peripheral", "/machine/peripheral-anon"};
	int r = 0;
	for (size_t i = 0; !r && i < GW__LEN(places); i++) {
		json_t *devices = NULL;
		r = gw__qmp_call(q, "qom-list", json_pack("{s:s}", "path", places[i]), &devices, error);
		if (!r)
			r = check_types(devices, error);
		json_decref(devices);
	}
	return r;
}

/* Only QEMU knows which netdevs a filter goes with: not those with vhost, nor with several queues. */
static int check_network(struct gw__qmp *q, const struct gw__qmp_settings *now, const struct gw__net_buffers *b, struct gw__error *error)
{
	const char *tls = json_string_value(gw__qmp_settings_parameter(now, "tls-creds"));
	if (!b->n)
		return 0;
	if (tls && *tls) {
		gw__error_advise(error, GW_QEMU_HINT_NO_OUTPUT_COMMIT);
		return gw__error_set(error, -EOPNOTSUPP,
			"its migration parameter tls-creds is set (\"%.100s\"): TLS hides when an epoch is complete, so packets of the "
			"network %s cannot be released",
			tls, b->netdevs[0]);
	}
	int r = gw__net_buffers_add(b, q, -1, error);
	return r ? r : gw__net_buffers_remove(q, error);
}

static int check_combination(struct gw__qmp *q, const struct gw__protect_opts *o, struct gw__error *error)
{
	static const char *const methods[] = {NULL, "zlib", "zstd"}, *const kinds[] = {"tcp", "unix", "vsock"};
	const char *with[6] = {"x-colo", "return-path"};
	unsigned n = 2, kind = 0;
	struct gw_rule refusal = {.size = sizeof refusal};
	while (kind < GW__LEN(kinds) && (strncmp(o->uri, kinds[kind], strlen(kinds[kind])) || o->uri[strlen(kinds[kind])] != ':'))
		kind++;
	if (kind == GW__LEN(kinds))
		return gw__error_set(error, -EOPNOTSUPP, "%s: a standby is reached at tcp:, unix: or vsock:", o->uri);
	with[n++] = kinds[kind];
	if (o->channels)
		with[n++] = "multifd";
	if (methods[o->compression])
		with[n++] = methods[o->compression];
	with[n] = NULL;
	if (gw_plan_combination(GW_OPERATION_QEMU_SOURCE, with, (unsigned)gw__qmp_version(q), &refusal) == -EOPNOTSUPP)
		return gw__error_set(error, -EOPNOTSUPP, "%s", refusal.reason);
	return 0;
}

static int find(struct gw__qmp *q, const struct gw__protect_opts *o, struct gw__net_buffers *buffers, struct gw__mirror *mirror,
	struct gw__error *error)
{
	int r = o->memory_only || o->no_output_commit ? 0 : gw__net_buffers_find(buffers, q, error);
	return r || o->memory_only ? r : gw__mirror_find(mirror, q, o->unprotected_disks, o->unprotected_n, error);
}

int gw__protect_preflight(struct gw__qmp *q, const struct gw__protect_opts *o, struct gw__net_buffers *buffers, struct gw__mirror *mirror,
	struct gw__error *error)
{
	struct gw__qmp_settings *now = NULL;
	int r = gw__qmp_settings_save(q, &now, error);
	if (!r)
		r = find(q, o, buffers, mirror, error);
	if (!r)
		r = check_release(q, now, error);
	if (!r)
		r = check_combination(q, o, error);
	if (!r)
		r = check_state(q, error);
	if (!r)
		r = check_blockers(q, error);
	if (!r && !o->memory_only)
		r = check_disks(mirror, o->disks, error);
	if (!r && !o->memory_only)
		r = check_outside_devices(q, error);
	if (!r)
		r = check_network(q, now, buffers, error);
	gw__qmp_settings_free(now);
	return r;
}

int gw__protect_find_name(struct gw__qmp *q, const struct gw__protect_opts *o, char name[256], struct gw__error *error)
{
	json_t *said = NULL;
	int r = o->name ? 0 : gw__qmp_call(q, "query-name", NULL, &said, error);
	const char *found = o->name ? o->name : json_string_value(json_object_get(said, "name"));
	snprintf(name, 256, "%s", found ? found : "");
	json_decref(said);
	if (r || !o->dir || (name[0] && name[0] != '.' && !strchr(name, '/')))
		return r;
	gw__error_advise(error, GW_QEMU_HINT_PROTECT_NAME);
	return gw__error_set(error, -EINVAL, name[0] ? "\"%s\" cannot be the name of the guest's folder" : "its QEMU has no -name%s", name);
}

bool gw__protect_lacks_room(struct gw__qmp *q, const char *dir, char text[300])
{
	struct gw__qmp_machine machine;
	struct statvfs fs;
	if (statvfs(dir, &fs) || gw__qmp_query_machine(q, &machine, NULL))
		return false;
	uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize, ram = machine.ram_bytes + machine.plugged_bytes;
	snprintf(text, 300,
		"the standby's folder has room for %ju MiB, and the guest has %ju MiB of memory: protection ends when it is full",
		(uintmax_t)(room >> 20), (uintmax_t)(ram >> 20));
	return room < ram;
}
