/* SPDX-License-Identifier: MIT */
/*
 * Which CPUs and devices a QEMU has, under the addresses that the stream uses.
 *
 * `query-pci` does not show what is behind a bridge before firmware has numbered its bus, and QOM takes several questions for each
 * device: the device tree of the human monitor shows all. A line that is not understood is no device; then one is missing, and is said to be.
 */
#include "qmp/parts.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICES_MAX = 4096, DEPTH_MAX = 32 };

int gw__qmp_query_cpus(struct gw__qmp *q, unsigned *n, struct gw__error *error)
{
	json_t *said = NULL;
	int err = gw__qmp_call(q, "query-cpus-fast", NULL, &said, error);
	*n = err ? 0 : (unsigned)json_array_size(said);
	json_decref(said);
	return err;
}

/* The devices around a line of the tree, outermost first. */
struct tree {
	struct {
		size_t indent;
		struct gw__qmp_device d; /* address "" until it is seen, and for ever for what is on no such bus */
	} at[DEPTH_MAX];
	unsigned depth;
	struct gw__qmp_device *found;
	unsigned n;
};

static void enter(struct tree *t, size_t indent, const char *type)
{
	while (t->depth && t->at[t->depth - 1].indent >= indent)
		t->depth--;
	if (t->depth == DEPTH_MAX)
		return;
	t->at[t->depth].indent = indent;
	t->at[t->depth].d = (struct gw__qmp_device){.address = ""};
	snprintf(t->at[t->depth].d.type, sizeof t->at[t->depth].d.type, "%.*s", (int)strcspn(type, ","), type);
	t->depth++;
}

static void place(struct tree *t, char separator, const char *address)
{
	const char *within = "0000:00";
	if (!t->depth || t->n == DEVICES_MAX || t->at[t->depth - 1].d.address[0])
		return;
	for (unsigned i = t->depth - 1; i-- > 0;)
		if (t->at[i].d.address[0]) {
			within = t->at[i].d.address;
			break;
		}
	struct gw__qmp_device *d = &t->at[t->depth - 1].d;
	char text[sizeof d->address];
	if (snprintf(text, sizeof text, "%s%c%s", within, separator, address) >= (int)sizeof text)
		return;
	memcpy(d->address, text, sizeof text);
	t->found[t->n++] = *d;
}

/* "addr = 02.0" of PCI. */
static bool is_slot(const char *text)
{
	return isxdigit((unsigned char)text[0]) && isxdigit((unsigned char)text[1]) && text[2] == '.' && text[3] >= '0' && text[3] <= '7' &&
	       !text[4];
}

/* A USB device hangs below the address of its controller; a hub's devices have the whole way in their port. */
static void place_usb(struct tree *t, const char *line)
{
	char port[32];
	unsigned bus, number;
	if (sscanf(line, "addr %u.%u, port %31[0-9.],", &bus, &number, port) != 3)
		return;
	for (unsigned i = 0; i + 1 < t->depth; i++)
		if (strchr(t->at[i].d.address, '/'))
			return;
	place(t, '/', port);
}

static void read_line(struct tree *t, const char *line)
{
	size_t indent = strspn(line, " ");
	const char *text = line + indent;
	if (!strncmp(text, "dev: ", 5))
		enter(t, indent, text + 5);
	else if (!strncmp(text, "addr = ", 7) && is_slot(text + 7))
		place(t, ':', text + 7);
	else if (!strncmp(text, "addr ", 5))
		place_usb(t, text);
}

int gw__qmp_query_devices(struct gw__qmp *q, struct gw__qmp_device **devices, unsigned *n, struct gw__error *error)
{
	json_t *said = NULL;
	char *rest = NULL;
	int err = gw__qmp_call(q, "human-monitor-command", json_pack("{s:s}", "command-line", "info qtree"), &said, error);
	if (err)
		return err;
	char *text = strdup(json_is_string(said) ? json_string_value(said) : "");
	struct tree *t = calloc(1, sizeof *t);
	json_decref(said);
	if (t)
		t->found = calloc(DEVICES_MAX, sizeof *t->found);
	bool enough = text && t && t->found;
	for (char *line = enough ? strtok_r(text, "\r\n", &rest) : NULL; line; line = strtok_r(NULL, "\r\n", &rest))
		read_line(t, line);
	*devices = t ? t->found : NULL;
	*n = t ? t->n : 0;
	free(t);
	free(text);
	return enough ? 0 : (free(*devices), *devices = NULL, gw__error_set(error, -ENOMEM, "no memory for a list of devices"));
}
