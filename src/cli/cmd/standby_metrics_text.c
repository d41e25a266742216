/* SPDX-License-Identifier: MIT */
/* The metrics of a standby as text (Prometheus exposition format 0.0.4); see standby_metrics.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/cmd/standby_guests.h"
#include "cli/cmd/standby_metrics.h"

/* A number that a guest's standby says, in other units. Those that are not said are left out. */
static const struct metric {
	const char *name, *type, *help;
	const char *word;  /* of the control socket */
	const char *label; /* more than the guest's name, or "" */
	double unit;
} metrics[] = {
	{"godwit_standby_age_seconds", "gauge", "Time since the last epoch was complete.", "age_us", "", 1e-6},
	{"godwit_standby_checkpoints_total", "counter", "Epochs that were acknowledged since protection began.", "checkpoints", "", 1},
	{"godwit_standby_epoch", "gauge", "Number of the last epoch.", "epoch", "", 1},
	{"godwit_standby_pause_seconds", "summary", "Pause of the guest per checkpoint, from reply to loaded.", "pause_us_p50",
		",quantile=\"0.5\"", 1e-6},
	{"godwit_standby_pause_seconds", "", "", "pause_us_p99", ",quantile=\"0.99\"", 1e-6},
	{"godwit_standby_pause_seconds_sum", "", "", "pause_us_total", "", 1e-6},
	{"godwit_standby_pause_seconds_count", "", "", "checkpoints", "", 1},
	{"godwit_standby_dirty_pages", "gauge", "Pages of the last epoch.", "dirty_pages", "", 1},
	{"godwit_standby_dirty_pages_total", "counter", "Pages of all epochs since protection began.", "dirty_pages_total", "", 1},
	{"godwit_standby_ram_bytes", "gauge", "Memory of the guest.", "ram_bytes", "", 1},
	{"godwit_standby_epoch_memory_bytes", "gauge", "Memory that the last epoch took in addition to the guest.", "memory_bytes", "", 1},
	{"godwit_standby_merge_seconds", "gauge", "Time to merge the previous epoch into the guest, outside the pause.", "merge_us", "",
		1e-6},
	{"godwit_lease_left_seconds", "gauge", "Time until the lease of the guest ends, if it is not renewed.", "lease_left_us", "", 1e-6},
};

/* A label's value: quoted as the format wants it. */
static void put_label(FILE *f, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			fprintf(f, "\\%c", *text);
		else if (*text == '\n')
			fputs("\\n", f);
		else
			fputc(*text, f);
	}
}

static void put_name(FILE *f, const char *name, const struct gw__cli_guest *g, const char *label)
{
	fprintf(f, "%s{vm=\"", name);
	put_label(f, g->vm);
	fprintf(f, "\"%s}", label);
}

static void put_metric(FILE *f, const struct metric *m, const struct gw__cli_guests *all)
{
	bool begun = !m->type[0];
	for (size_t i = 0; i < all->n; i++) {
		uint64_t n;
		if (!gw__cli_guest_number(&all->v[i], m->word, &n))
			continue;
		if (!begun)
			fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->type);
		begun = true;
		put_name(f, m->name, &all->v[i], m->label);
		fprintf(f, " %.15g\n", (double)n * m->unit);
	}
}

static void put_states(FILE *f, const struct gw__cli_guests *all)
{
	static const char name[] = "godwit_standby_protected";
	fprintf(f, "# HELP %s 1 while checkpoints of the guest are kept, 0 when it is no longer protected.\n# TYPE %s gauge\n", name, name);
	for (size_t i = 0; i < all->n; i++) {
		put_name(f, name, &all->v[i], "");
		fprintf(f, " %d\n", !strcmp(all->v[i].state, "protected"));
	}
}

/* A state that is a word: 1, with the word as a label. */
static void put_word(FILE *f, const char *name, const char *help, const char *word, const struct gw__cli_guests *all)
{
	bool begun = false;
	char text[32], label[64];
	for (size_t i = 0; i < all->n; i++) {
		if (!gw__cli_guest_word(&all->v[i], word, text, sizeof text))
			continue;
		if (!begun)
			fprintf(f, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
		begun = true;
		snprintf(label, sizeof label, ",state=\"%s\"", text);
		put_name(f, name, &all->v[i], label);
		fprintf(f, " 1\n");
	}
}

char *gw__cli_metrics_text(const char *dir)
{
	struct gw__cli_guests all;
	char *text = NULL;
	size_t n = 0;
	FILE *f = gw__cli_guests_look(dir, &all) ? NULL : open_memstream(&text, &n);
	if (f) {
		put_states(f, &all);
		put_word(f, "godwit_standby_disk", "Whether the disks of the guest are kept, as its guard reports.", "disk", &all);
		put_word(f, "godwit_standby_network",
			"Whether network packets of the guest wait for their checkpoint, as its guard "
			"reports.",
			"network", &all);
		for (size_t i = 0; i < GW__LEN(metrics); i++)
			put_metric(f, &metrics[i], &all);
	}
	bool bad = !f || ferror(f);
	if (f && fclose(f))
		bad = true;
	gw__cli_guests_free(&all);
	if (!bad)
		return text;
	free(text);
	return NULL;
}
