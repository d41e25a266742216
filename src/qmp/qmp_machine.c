/* SPDX-License-Identifier: MIT */
/*
 * What machine a QEMU is: its versioned type, its memory, its RAM blocks.
 *
 * Reading only, and it works in every run state, `inmigrate` included. QEMU lists RAM blocks nowhere but in
 * its human monitor, so that table is parsed here, strictly: a row that does not look as expected is an
 * error, never skipped.
 */
#include "qmp/parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS_MAX = 4096 };

/* The QOM type of the machine object is its versioned name and "-machine", whatever alias it was started
 * with. */
static int query_type(struct gw__qmp *q, struct gw__qmp_machine *m, struct gw__error *error)
{
	static const char suffix[] = "-machine";
	json_t *said = NULL;
	int err = gw__qmp_call(q, "qom-get", json_pack("{s:s, s:s}", "path", "/machine", "property", "type"), &said, error);
	if (err)
		return err;
	const char *type = json_string_value(said);
	gw__qmp_text(m->machine, sizeof m->machine, type ? type : "");
	json_decref(said);
	size_t n = strlen(m->machine), tail = sizeof suffix - 1;
	if (n > tail && strcmp(m->machine + n - tail, suffix) == 0)
		m->machine[n - tail] = 0;
	return m->machine[0] ? 0 : gw__qmp_note_anomaly(q, "qom-get /machine type", "not a name", error);
}

int gw__qmp_query_machine(struct gw__qmp *q, struct gw__qmp_machine *m, struct gw__error *error)
{
	static const char command[] = "query-memory-size-summary";
	*m = (struct gw__qmp_machine){0};
	int err = query_type(q, m, error);
	if (err)
		return err;
	json_t *said = NULL;
	err = gw__qmp_call(q, command, NULL, &said, error);
	if (err)
		return err;
	m->ram_bytes = gw__qmp_get_u64(said, "base-memory");
	m->plugged_bytes = gw__qmp_get_u64(said, "plugged-memory");
	if (!json_is_integer(json_object_get(said, "base-memory")))
		err = gw__qmp_note_anomaly(q, command, "no base-memory in it", error);
	json_decref(said);
	return err;
}

int gw__qmp_query_unplugged(struct gw__qmp *q, uint64_t *bytes, struct gw__error *error)
{
	json_t *said = NULL, *device;
	size_t i;
	*bytes = 0;
	int err = gw__qmp_call(q, "query-memory-devices", NULL, &said, error);
	json_array_foreach(said, i, device)
	{
		const char *type = json_string_value(json_object_get(device, "type"));
		const json_t *data = json_object_get(device, "data");
		uint64_t now = gw__qmp_get_u64(data, "size"), max = gw__qmp_get_u64(data, "max-size");
		if (type && !strcmp(type, "virtio-mem") && now < max)
			*bytes += max - now;
	}
	json_decref(said);
	return err;
}

/* Targets whose streams do not state their pages, which are not 4 KiB (docs/spec/stream.md 3.1): what query-migrate says once it runs. */
static const struct {
	const char *arch;
	uint64_t page_bytes;
} PAGES[] = {{"alpha", 8192}, {"arm", 1024}, {"cris", 8192}, {"or1k", 8192}, {"sparc64", 8192}, {"tricore", 16384}};

int gw__qmp_query_page_bytes(struct gw__qmp *q, uint64_t *bytes, struct gw__error *error)
{
	json_t *said = NULL;
	*bytes = 0;
	int err = gw__qmp_call(q, "query-target", NULL, &said, error);
	const char *arch = json_string_value(json_object_get(said, "arch"));
	for (size_t i = 0; arch && i < sizeof PAGES / sizeof PAGES[0]; i++)
		if (!strcmp(arch, PAGES[i].arch))
			*bytes = PAGES[i].page_bytes;
	json_decref(said);
	return err;
}

/* One member of what a command answers, or of the first element of it: owned, null where it is absent. NULL: no answer. */
static json_t *query_member(struct gw__qmp *q, const char *command, const char *key, bool of_first, struct gw__error *error)
{
	json_t *said = NULL;
	if (gw__qmp_call(q, command, NULL, &said, error))
		return NULL;
	json_t *member = json_object_get(of_first ? json_array_get(said, 0) : said, key);
	member = member ? json_incref(member) : json_null();
	json_decref(said);
	return member;
}

int gw__qmp_query_identity(struct gw__qmp *q, json_t **identity, struct gw__error *error)
{
	struct gw__qmp_machine m = {0};
	int err = query_type(q, &m, error);
	if (err)
		return err;
	json_t *uuid = query_member(q, "query-uuid", "UUID", false, error);
	json_t *name = uuid ? query_member(q, "query-name", "name", false, error) : NULL;
	json_t *thread = name ? query_member(q, "query-cpus-fast", "thread-id", true, error) : NULL;
	if (!thread) {
		json_decref(uuid);
		json_decref(name);
		return error->code;
	}
	*identity = json_pack("{s:s, s:o, s:o, s:o}", "machine", m.machine, "uuid", uuid, "name", name, "thread", thread);
	return *identity ? 0 : gw__error_set(error, -ENOMEM, "no memory for what QEMU says of itself");
}

/* "4 KiB" -> 4096; 0: not a size. */
static uint64_t read_size(const char *number, const char *unit)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	char *end;
	uint64_t v = strtoull(number, &end, 10);
	if (*end || v == 0 || v > 1u << 20)
		return 0;
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
		if (strcmp(unit, units[i]) == 0)
			return v << (10 * i);
	}
	return 0;
}

/* Cut the last word off `text` and step back over the blanks before it. NULL: there is none. */
static char *cut_word(char *text)
{
	size_t n = strlen(text);
	while (n && text[n - 1] == ' ')
		n--;
	text[n] = 0;
	while (n && text[n - 1] != ' ')
		n--;
	if (n == 0)
		return NULL;
	text[n - 1] = 0;
	return text + n;
}

static bool read_hex(const char **at, uint64_t *v)
{
	char *end;
	while (**at == ' ')
		(*at)++;
	if (strncmp(*at, "0x", 2) != 0)
		return false;
	errno = 0;
	*v = strtoull(*at, &end, 16);
	bool ok = errno == 0 && end > *at + 2 && (*end == ' ' || *end == 0);
	*at = end;
	return ok;
}

/*
 *                  pc.ram    4 KiB  0x0000000000000000 0x0000000001000000 0x0000000001000000 [more since 8.x]
 *                  name      page   offset             used               total
 */
static bool read_row(char *row, struct gw__qmp_block *b)
{
	char *hex = strstr(row, "  0x");
	if (!hex)
		return false;
	*hex = 0;
	const char *at = hex + 2;
	uint64_t offset;
	if (!read_hex(&at, &offset) || !read_hex(&at, &b->used_bytes) || !read_hex(&at, &b->total_bytes))
		return false;
	const char *unit = cut_word(row);
	const char *number = unit ? cut_word(row) : NULL;
	if (!number)
		return false;
	b->page_bytes = read_size(number, unit);
	const char *name = row + strspn(row, " ");
	size_t n = strlen(name);
	while (n && name[n - 1] == ' ')
		n--;
	if (b->page_bytes == 0 || b->used_bytes > b->total_bytes || n >= sizeof b->name)
		return false;
	if (n && !gw__name_ok(name, n))
		return false;
	memcpy(b->name, name, n);
	b->name[n] = 0;
	return true;
}

/*
 * The table after its heading. 0 with the number of rows, or -1. Memory that never migrates, such as that of a memory
 * backend without a device, has no name and is left out.
 */
static int read_table(char *table, struct gw__qmp_block *blocks, unsigned *n)
{
	char *rest = NULL;
	char *row = strtok_r(table, "\r\n", &rest);
	if (!row || !strstr(row, "Block Name"))
		return -1;
	while ((row = strtok_r(NULL, "\r\n", &rest))) {
		if (*n == BLOCKS_MAX || !read_row(row, &blocks[*n]))
			return -1;
		*n += blocks[*n].name[0] != 0;
	}
	return *n ? 0 : -1;
}

int gw__qmp_query_blocks(struct gw__qmp *q, struct gw__qmp_block **blocks, unsigned *n, struct gw__error *error)
{
	static const char command[] = "info ramblock";
	json_t *said = NULL;
	int err = gw__qmp_call(q, "human-monitor-command", json_pack("{s:s}", "command-line", command), &said, error);
	if (err)
		return err;
	const char *text = json_string_value(said);
	char *table = strdup(text ? text : "");
	struct gw__qmp_block *found = calloc(BLOCKS_MAX, sizeof *found);
	json_decref(said);
	*n = 0;
	if (!table || !found)
		err = gw__error_set(error, -ENOMEM, "no memory for a list of RAM blocks");
	else if (read_table(table, found, n) != 0)
		err = gw__qmp_note_anomaly(q, command, "not the table of RAM blocks we know", error);
	free(table);
	if (err) {
		free(found);
		return err;
	}
	*blocks = found;
	return 0;
}
