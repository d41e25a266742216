/* SPDX-License-Identifier: MIT */
/* Filters that keep packets back; see net_buffers.h. */
#include "qemu/net_buffers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <godwit-qemu.h>

#define PREFIX       "godwit-buffer-"
#define FALLBACK_MAX 4290000000 /* microseconds: QEMU takes 32 bits */

/* " \ n0: index=0,type=user,..." below its device, or alone. */
static bool is_netdev(const char *line)
{
	const char *type = strstr(line, ",type=");
	return type && strncmp(type, ",type=nic", strlen(",type=nic")) && strncmp(type, ",type=hubport", strlen(",type=hubport"));
}

static bool has(const struct gw__net_buffers *b, const char *name)
{
	for (unsigned i = 0; i < b->n; i++)
		if (!strcmp(b->netdevs[i], name))
			return true;
	return false;
}

/* A netdev with several queues has a line for each. */
static int take(struct gw__net_buffers *b, const char *line, struct gw__error *error)
{
	char name[256];
	line += strspn(line, " \\");
	snprintf(name, sizeof name, "%.*s", (int)strcspn(line, ":"), line);
	if (has(b, name))
		return 0;
	char(*more)[256] = realloc(b->netdevs, (b->n + 1) * sizeof *more);
	if (!more)
		return gw__error_set(error, -ENOMEM, "no memory for a list of networks");
	b->netdevs = more;
	memcpy(more[b->n++], name, sizeof name);
	return 0;
}

int gw__net_buffers_find(struct gw__net_buffers *b, struct gw__qmp *q, struct gw__error *error)
{
	json_t *said = NULL;
	char *rest = NULL;
	*b = (struct gw__net_buffers){0};
	int r = gw__qmp_call(q, "human-monitor-command", json_pack("{s:s}", "command-line", "info network"), &said, error);
	char *text = r ? NULL : strdup(json_is_string(said) ? json_string_value(said) : "");
	json_decref(said);
	if (!r && !text)
		return gw__error_set(error, -ENOMEM, "no memory for a list of networks");
	for (char *line = text ? strtok_r(text, "\r\n", &rest) : NULL; line && !r; line = strtok_r(NULL, "\r\n", &rest))
		if (is_netdev(line))
			r = take(b, line, error);
	free(text);
	if (r)
		gw__net_buffers_fini(b);
	return r;
}

void gw__net_buffers_fini(struct gw__net_buffers *b)
{
	free(b->netdevs);
	*b = (struct gw__net_buffers){0};
}

static int add(const char *netdev, unsigned n, struct gw__qmp *q, int fallback_ms, struct gw__error *error)
{
	struct gw__error said = {0};
	char id[32];
	json_int_t us = fallback_ms < 0 || fallback_ms > FALLBACK_MAX / 1000 ? (json_int_t)FALLBACK_MAX : (json_int_t)fallback_ms * 1000;
	snprintf(id, sizeof id, PREFIX "%u", n);
	int r = gw__qmp_call(q, "object-add",
		json_pack("{s:s, s:s, s:s, s:s, s:I, s:s}", "qom-type", "filter-buffer", "id", id, "netdev", netdev, "queue", "rx",
			"interval", us, "status", "off"),
		NULL, &said);
	if (!r)
		return 0;
	if (r != -EREMOTEIO)
		return gw__error_set(error, r, "%s", said.text);
	gw__error_advise(error, GW_QEMU_HINT_NO_OUTPUT_COMMIT);
	return gw__error_set(error, -EOPNOTSUPP,
		"packets of the guest's network %s cannot be held back, because QEMU has no filter-buffer for it: %.300s", netdev,
		said.text);
}

int gw__net_buffers_add(const struct gw__net_buffers *b, struct gw__qmp *q, int fallback_ms, struct gw__error *error)
{
	int r = b->n ? gw__net_buffers_remove(q, error) : 0; /* of an attempt that was killed */
	for (unsigned i = 0; !r && i < b->n; i++)
		r = add(b->netdevs[i], i, q, fallback_ms, error);
	if (r)
		gw__net_buffers_remove(q, NULL);
	return r;
}

static int set_status(unsigned n, const char *status, struct gw__qmp *q, struct gw__error *error)
{
	char path[48];
	snprintf(path, sizeof path, "/objects/" PREFIX "%u", n);
	return gw__qmp_call(q, "qom-set", json_pack("{s:s, s:s, s:s}", "path", path, "property", "status", "value", status), NULL, error);
}

int gw__net_buffers_hold(const struct gw__net_buffers *b, struct gw__qmp *q, struct gw__error *error)
{
	int r = 0;
	for (unsigned i = 0; !r && i < b->n; i++)
		r = set_status(i, "on", q, error);
	return r;
}

int gw__net_buffers_release(const struct gw__net_buffers *b, struct gw__qmp *q, struct gw__error *error)
{
	int r = 0;
	for (unsigned i = 0; !r && i < b->n; i++)
		r = set_status(i, "off", q, error);
	return r ? r : gw__net_buffers_hold(b, q, error);
}

int gw__net_buffers_remove(struct gw__qmp *q, struct gw__error *error)
{
	json_t *objects = NULL, *o;
	size_t i;
	int r = gw__qmp_call(q, "qom-list", json_pack("{s:s}", "path", "/objects"), &objects, error);
	json_array_foreach(objects, i, o)
	{
		const char *name = json_string_value(json_object_get(o, "name"));
		if (!name || strncmp(name, PREFIX, strlen(PREFIX)))
			continue;
		int e = gw__qmp_call(q, "object-del", json_pack("{s:s}", "id", name), NULL, r ? NULL : error);
		r = r ? r : e;
	}
	json_decref(objects);
	return r;
}
