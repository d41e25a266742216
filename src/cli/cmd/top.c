/* SPDX-License-Identifier: MIT */
/* godwit top: what is protected below a standby's folder, now and again. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cmd/commands.h"
#include "cli/cmd/standby_guests.h"
#include "cli/ui/options.h"
#include "cli/ui/output.h"

enum { INTERVAL_MS = 1000 };

struct top {
	const char *dir;
	bool once, json;
	int interval_ms;
};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

/* A number of a column, in its unit; "-": not known. */
struct cell {
	char text[32];
};

static const char *cell_ms(const struct gw__cli_guest *g, const char *word, struct cell *c)
{
	uint64_t us;
	if (!gw__cli_guest_number(g, word, &us))
		return "-";
	if (us < 10000000)
		snprintf(c->text, sizeof c->text, "%.1f ms", (double)us / 1e3);
	else
		snprintf(c->text, sizeof c->text, "%.1f s", (double)us / 1e6);
	return c->text;
}

static const char *cell_count(const struct gw__cli_guest *g, const char *word, struct cell *c)
{
	uint64_t n;
	if (!gw__cli_guest_number(g, word, &n))
		return "-";
	snprintf(c->text, sizeof c->text, "%ju", (uintmax_t)n);
	return c->text;
}

static const char *cell_word(const struct gw__cli_guest *g, const char *word, struct cell *c)
{
	return gw__cli_guest_word(g, word, c->text, sizeof c->text) ? c->text : "-";
}

#define CELL (&(struct cell){""})

static void show_table(const struct gw__cli_guests *all)
{
	gw__ui_print("%-20s %-10s %8s %10s %10s %10s %8s %-8s %-8s %s\n", "GUEST", "STATE", "EPOCH", "AGE", "PAUSE p50", "p99", "PAGES",
		"DISK", "NETWORK", "LEASE");
	for (size_t i = 0; i < all->n; i++) {
		const struct gw__cli_guest *g = &all->v[i];
		gw__ui_print("%-20s %-10s %8s %10s %10s %10s %8s %-8s %-8s %s\n", GW__NAME(g->vm), g->state, cell_count(g, "epoch", CELL),
			cell_ms(g, "age_us", CELL), cell_ms(g, "pause_us_p50", CELL), cell_ms(g, "pause_us_p99", CELL),
			cell_count(g, "dirty_pages", CELL), cell_word(g, "disk", CELL), cell_word(g, "network", CELL),
			cell_ms(g, "lease_left_us", CELL));
	}
	if (!all->n)
		gw__ui_print("no guest is protected here, and none has been\n");
}

static json_t *number(const struct gw__cli_guest *g, const char *word)
{
	uint64_t n;
	return gw__cli_guest_number(g, word, &n) ? gw__cli_json_size(n) : json_null();
}

static json_t *word(const struct gw__cli_guest *g, const char *name)
{
	char text[32];
	return gw__cli_guest_word(g, name, text, sizeof text) ? gw__cli_json_text(text) : json_null();
}

static void show_json(const struct gw__cli_guests *all)
{
	static const char *const numbers[] = {"epoch", "age_us", "checkpoints", "pause_us", "pause_us_p50", "pause_us_p99", "dirty_pages",
		"dirty_pages_total", "device_bytes", "memory_bytes", "merge_us", "ram_bytes", "channels", "durable", "lease_left_us"};
	static const char *const words[] = {"place", "disk", "network"};
	for (size_t i = 0; i < all->n; i++) {
		const struct gw__cli_guest *g = &all->v[i];
		json_t *o = json_pack("{ss so ss}", "event", "guest", "vm", gw__cli_json_text(g->vm), "state", g->state);
		for (unsigned k = 0; o && k < GW__LEN(numbers); k++)
			json_object_set_new(o, numbers[k], number(g, numbers[k]));
		for (unsigned k = 0; o && k < GW__LEN(words); k++)
			json_object_set_new(o, words[k], word(g, words[k]));
		gw__cli_json(o);
	}
}

static int look(const struct top *t, bool on_terminal)
{
	struct gw__cli_guests all;
	int r = gw__cli_guests_look(t->dir, &all);
	if (r)
		return gw__ui_error(GW__EXIT_FAILED, "cannot read the guests in %s: %s", t->dir, strerror(-r));
	if (on_terminal) { /* home, and all below is cleared: what the filter of gw__ui_print keeps from guests */
		fputs("\033[H\033[J", stdout);
		fflush(stdout);
	}
	if (t->json)
		show_json(&all);
	else
		show_table(&all);
	gw__cli_guests_free(&all);
	return GW__EXIT_DONE;
}

static int run(const struct top *t)
{
	struct sigaction a = {.sa_handler = stop};
	bool on_terminal = !t->once && !t->json && isatty(STDOUT_FILENO);
	sigemptyset(&a.sa_mask);
	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	for (;;) {
		int status = look(t, on_terminal);
		fflush(stdout);
		if (status != GW__EXIT_DONE || t->once)
			return status;
		if (!stopped)
			poll(NULL, 0, t->interval_ms);
		if (stopped || ferror(stdout))
			return GW__EXIT_DONE;
	}
}

int gw__cli_top(int argc, char **argv)
{
	struct top t = {.interval_ms = INTERVAL_MS};
	const struct gw__cli_option options[] = {
		GW__CLI_FLAG("once", &t.once, "print once, instead of repeatedly until interrupted"),
		GW__CLI_SECONDS("interval", &t.interval_ms, "seconds between two updates (default: 1)"),
		{.name = "json", .help = "print one JSON object per line and guest on standard output", .to.flag = &t.json},
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("DIR [options]",
		"Shows the guests that godwit standby keeps in DIR: whether each is protected, the age of its last epoch, and the pauses "
		"and pages of its checkpoints.",
		options, 1, 1);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	if (t.interval_ms < 10)
		return gw__ui_error(GW__EXIT_USAGE, "--interval must be at least 0.01 seconds");
	t.dir = args.arg[0];
	return run(&t);
}
