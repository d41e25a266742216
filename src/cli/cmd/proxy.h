/* SPDX-License-Identifier: MIT */
/* Between the files of `godwit proxy`: how faults are written, and how what passes is shown. */
#ifndef GW_CLI_CMD_PROXY_H
#define GW_CLI_CMD_PROXY_H

#include <godwit.h>

#include "cli/ui/options.h"

/* --- proxy_faults.c: "[CHANNEL:][DIRECTION:]BYTES", "[CHANNEL:][DIRECTION:]MESSAGE[:N]" --- */

struct gw__cli_faults {
	struct gw_proxy_fault v[GW__CLI_LIST_MAX];
	unsigned n;
	char *words[GW__CLI_LIST_MAX]; /* the texts, cut up; what v points into */
};
/* 0, or -EINVAL after a sentence. */
int gw__cli_faults_add(struct gw__cli_faults *f, const char *option, enum gw_proxy_fault_kind kind, const struct gw__cli_list *list);
void gw__cli_faults_free(struct gw__cli_faults *f);

/* --- proxy_show.c --- */

struct gw__cli_proxy_table {
	struct row {
		struct gw_proxy_channel c;
		char name[16];
	} * rows;
	unsigned n, room;
};
void gw__cli_proxy_line(const struct gw_proxy_message *m);
void gw__cli_proxy_json(const struct gw_proxy_message *m);
void gw__cli_proxy_remember(struct gw__cli_proxy_table *t, const struct gw_proxy_channel *c);
void gw__cli_proxy_channel_json(const struct gw_proxy_channel *c);
void gw__cli_proxy_show_table(const struct gw__cli_proxy_table *t);
void gw__cli_proxy_table_free(struct gw__cli_proxy_table *t);

#endif
