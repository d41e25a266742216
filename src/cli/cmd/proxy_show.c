/* SPDX-License-Identifier: MIT */
/* What `godwit proxy` shows: a line per message, and what each connection came to. See proxy.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ui/output.h"
#include "cli/cmd/proxy.h"

enum { ROWS_MAX = 10000 }; /* --keep may go on for ever */

static const char *arrow(enum gw_proxy_direction d) { return d == GW_PROXY_FORWARD ? "->" : d == GW_PROXY_RETURN ? "<-" : "--"; }

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

void gw__cli_proxy_line(const struct gw_proxy_message *m)
{
	gw__ui_print("%10.6f %2u %-9s %s %10ju  %-18s %s\n", seconds(m->time_ns), m->connection, m->channel ? m->channel : "-",
		arrow(m->direction), (uintmax_t)m->off, m->name, m->text);
	fflush(stdout);
}

static json_t *direction_json(enum gw_proxy_direction d)
{
	return d == GW_PROXY_FORWARD ? json_string("forward") : d == GW_PROXY_RETURN ? json_string("return") : json_null();
}

void gw__cli_proxy_json(const struct gw_proxy_message *m)
{
	json_t *line = json_pack("{ss sf si so so so so ss so}", "event", "message", "time", seconds(m->time_ns), "connection",
		(int)m->connection, "channel", gw__cli_json_text(m->channel), "direction", direction_json(m->direction), "offset",
		gw__cli_json_size(m->off), "bytes", gw__cli_json_size(m->bytes), "message", m->name, "text", gw__cli_json_text(m->text));
	for (uint32_t i = 0; line && i < m->fields; i++)
		json_object_set_new(line, GW_AT(m->field, i)->name,
			GW_AT(m->field, i)->text ? gw__cli_json_text(GW_AT(m->field, i)->text)
						 : gw__cli_json_size(GW_AT(m->field, i)->number));
	gw__cli_json(line);
}

void gw__cli_proxy_channel_json(const struct gw_proxy_channel *c)
{
	gw__cli_json(json_pack("{ss si so so so so so so so so so sb}", "event", "channel", "connection", (int)c->connection, "channel",
		gw__cli_json_text(c->channel), "forward_bytes", gw__cli_json_size(c->bytes[0]), "return_bytes",
		gw__cli_json_size(c->bytes[1]), "forward_messages", gw__cli_json_size(c->messages[0]), "return_messages",
		gw__cli_json_size(c->messages[1]), "pages", gw__cli_json_size(c->pages), "zero_pages", gw__cli_json_size(c->zero_pages),
		"xbzrle_pages", gw__cli_json_size(c->xbzrle_pages), "packets", gw__cli_json_size(c->packets), "cut", c->cut));
}

void gw__cli_proxy_remember(struct gw__cli_proxy_table *t, const struct gw_proxy_channel *c)
{
	if (t->n == ROWS_MAX)
		return;
	if (t->n == t->room) {
		unsigned room = t->room ? 2 * t->room : 16;
		struct row *rows = realloc(t->rows, room * sizeof *rows);
		if (!rows)
			return;
		t->rows = rows;
		t->room = room;
	}
	struct row *row = &t->rows[t->n++];
	row->c = *c;
	snprintf(row->name, sizeof row->name, "%s", c->channel ? c->channel : "-");
	row->c.channel = NULL; /* was lent; the name is beside it */
}

static int by_connection(const void *a, const void *b)
{
	uint32_t x = ((const struct row *)a)->c.connection, y = ((const struct row *)b)->c.connection;
	return (x > y) - (x < y);
}

void gw__cli_proxy_show_table(const struct gw__cli_proxy_table *t)
{
	if (!t->n)
		return;
	qsort(t->rows, t->n, sizeof *t->rows, by_connection);
	gw__ui_print("\n %2s %-9s %14s %9s %9s %9s %9s %9s %14s %9s\n", "#", "channel", "bytes ->", "messages", "pages", "zero", "xbzrle",
		"packets", "bytes <-", "messages");
	for (unsigned i = 0; i < t->n; i++) {
		const struct gw_proxy_channel *c = &t->rows[i].c;
		gw__ui_print(" %2u %-9s %14ju %9ju %9ju %9ju %9ju %9ju %14ju %9ju%s\n", c->connection, t->rows[i].name,
			(uintmax_t)c->bytes[0], (uintmax_t)c->messages[0], (uintmax_t)c->pages, (uintmax_t)c->zero_pages,
			(uintmax_t)c->xbzrle_pages, (uintmax_t)c->packets, (uintmax_t)c->bytes[1], (uintmax_t)c->messages[1],
			c->cut ? "  cut" : "");
	}
}

void gw__cli_proxy_table_free(struct gw__cli_proxy_table *t)
{
	free(t->rows);
	*t = (struct gw__cli_proxy_table){0};
}
