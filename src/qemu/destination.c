/* SPDX-License-Identifier: MIT */
/* Asks a waiting QEMU what it is; see destination.h. */
#include "qemu/destination.h"

#include <errno.h>
#include <godwit-qemu.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int gw__qemu_destination_failed(const struct gw__qmp_migration *m, struct gw__error *error)
{
	return m->failed ? gw__error_set(error, -EBUSY,
				   "this QEMU failed to load a guest and accepts no other%s%s; end it and start a new "
				   "one",
				   m->error[0] ? ": " : "", m->error)
			 : 0;
}

int gw__qemu_destination_waits(struct gw__qmp *q, struct gw__error *error)
{
	struct gw__qmp_status s;
	struct gw__qmp_migration m;
	int e = gw__qmp_query_status(q, &s, error);
	if (!e)
		e = gw__qmp_query_migrate(q, &m, error);
	if (e)
		return e;
	if (s.state != GW__RUN_STATE_INMIGRATE)
		return gw__error_set(error, -EBUSY,
			"this QEMU does not wait for a guest (its state is \"%s\"); start it with -incoming defer", s.name);
	if (gw__qemu_destination_failed(&m, error))
		return -EBUSY;
	if (m.state != GW__MIGRATION_NONE || m.address[0]) { /* 7.2 listens without a status */
		gw__error_advise(error, GW_QEMU_HINT_SEND);
		return gw__error_set(error, -EBUSY, "this QEMU already listens for a migration elsewhere; start it with -incoming defer");
	}
	return 0;
}

static int ask_blocks(struct gw__qmp *q, struct gw__qemu_destination *to, struct gw__error *error)
{
	unsigned n = 0;
	int e = gw__qmp_query_blocks(q, &to->asked, &n, error);
	if (e)
		return e;
	to->block = calloc(n + 1, sizeof *to->block);
	if (!to->block)
		return gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", n);
	for (unsigned i = 0; i < n; i++) {
		const struct gw__qmp_block *b = &to->asked[i];
		to->block[i] = (struct gw_destination_block){.size = sizeof *to->block,
			.name = b->name,
			.used_bytes = b->used_bytes,
			.max_bytes = b->total_bytes};
	}
	to->d.block = to->block;
	to->d.blocks = n;
	return 0;
}

/* The RAM block of a memory backend has its id as name, or its path in machines before 4.0. */
static bool is_of(const struct gw_destination_block *b, const char *id)
{
	static const char objects[] = "/objects/";
	bool path = !strncmp(b->name, objects, sizeof objects - 1);
	return id && !strcmp(path ? b->name + sizeof objects - 1 : b->name, id);
}

static int ask_sharing(struct gw__qmp *q, struct gw__qemu_destination *to, struct gw__error *error)
{
	json_t *said = NULL, *dev;
	size_t i;
	int e = gw__qmp_call(q, "query-memdev", NULL, &said, error);
	if (e)
		return e;
	json_array_foreach(said, i, dev)
	{
		const char *id = json_string_value(json_object_get(dev, "id"));
		for (uint32_t b = 0; b < to->d.blocks; b++)
			if (is_of(&to->block[b], id))
				to->block[b].unshared = json_is_false(json_object_get(dev, "share"));
	}
	json_decref(said);
	return 0;
}

/* A QEMU that does not tell is not compared; one that goes away is noticed here as anywhere. */
static int ask_devices(struct gw__qmp *q, struct gw__qemu_destination *to, struct gw__error *error)
{
	unsigned cpus = 0, n = 0;
	struct gw__error unknown = {0};
	int e = gw__qmp_query_cpus(q, &cpus, &unknown);
	if (!e || e == -EREMOTEIO)
		e = gw__qmp_query_devices(q, &to->asked_devices, &n, &unknown);
	if (e)
		return e == -EREMOTEIO ? 0 : gw__error_set(error, e, "%s", unknown.text);
	to->device = calloc(n + 1, sizeof *to->device);
	if (!to->device)
		return gw__error_set(error, -ENOMEM, "no memory for %u devices", n);
	for (unsigned i = 0; i < n; i++)
		to->device[i] = (struct gw_destination_device){sizeof *to->device, to->asked_devices[i].address, to->asked_devices[i].type};
	to->d.cpus = cpus;
	to->d.device = to->device;
	to->d.devices = n;
	return 0;
}

int gw__qemu_destination_ask(struct gw__qmp *q, const struct gw__qmp_settings *now, struct gw__qemu_destination *to,
	struct gw__error *error)
{
	struct gw__qmp_machine machine;
	*to = (struct gw__qemu_destination){.d = {.size = sizeof to->d}};
	int e = gw__qmp_query_machine(q, &machine, error);
	if (!e)
		e = ask_blocks(q, to, error);
	if (!e)
		e = ask_sharing(q, to, error);
	if (!e)
		e = ask_devices(q, to, error);
	if (e)
		return e;
	snprintf(to->machine, sizeof to->machine, "%s", machine.machine);
	to->d.machine = *to->machine ? to->machine : NULL;
	to->d.reads_images = gw__qmp_settings_has(now, "mapped-ram");
	to->d.accepts_ignored_blocks = gw__qmp_has_quirk(q, GW__QUIRK_READS_IGNORED_BLOCKS);
	to->d.same_host = gw__qmp_can_pass_fds(q);
	return 0;
}

int gw__qemu_destination_fits(struct gw__qmp *q, const struct gw__qmp_settings *now, const gw_info *info, struct gw__error *error)
{
	struct gw__qemu_destination there = {0};
	struct gw_restore_plan plan = GW_INIT(plan);
	int e = gw__qemu_destination_ask(q, now, &there, error);
	if (!e) {
		gw_plan_restore(info, &there.d, &plan);
		e = plan.way == GW_WAY_REFUSED ? gw__error_set(error, -EINVAL, "%s", plan.reason) : 0;
	}
	gw__qemu_destination_fini(&there);
	return e;
}

void gw__qemu_destination_fini(struct gw__qemu_destination *d)
{
	free(d->asked);
	free(d->block);
	free(d->asked_devices);
	free(d->device);
	*d = (struct gw__qemu_destination){.d = {.size = sizeof d->d}};
}
