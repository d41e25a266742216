/* SPDX-License-Identifier: MIT */
/*
 * The command line of a command, taken apart and described in --help by its rows; see options.h. What a value may be is in
 * options_value.c. getopt's globals make it one thread's.
 */
#include "cli/ui/options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/ui/output.h"

enum { OPTIONS_MAX = 32, LONG_BASE = 1000, HELP_COLUMN = 30, HELP_WIDTH = 80 };

/* Words from column `left` on, the cursor standing there; what does not fit goes below. Newlines are spaces.
 */
static void print_words(const char *text, int left)
{
	for (int at = left; *text;) {
		int n = (int)strcspn(text, " \n");
		if (at > left && at + 1 + n > HELP_WIDTH) {
			gw__ui_print("\n%*s", left, "");
			at = left;
		}
		gw__ui_print("%s%.*s", at > left ? " " : "", n, text);
		at += n + (at > left);
		text += n + (text[n] != 0);
	}
	gw__ui_print("\n");
}

static void help_row(char letter, const char *name, const char *arg, const char *help)
{
	char left[80], short_form[8] = "    ";
	if (letter)
		snprintf(short_form, sizeof short_form, "-%c, ", letter);
	int at = snprintf(left, sizeof left, "  %s--%s%s%s", short_form, name, arg ? "=" : "", arg ? arg : "");
	gw__ui_print(at < HELP_COLUMN ? "%s%*s" : "%s\n%*s", left, at < HELP_COLUMN ? HELP_COLUMN - at : HELP_COLUMN, "");
	print_words(help, HELP_COLUMN);
}

static void print_help(const struct gw__cli_usage *u, const char *name)
{
	gw__ui_print("usage: godwit %s %s\n\n", name, u->synopsis);
	print_words(u->summary, 0);
	gw__ui_print("\noptions:\n");
	for (unsigned i = 0; i < u->options_n; i++)
		if (u->option[i].help)
			help_row(u->option[i].letter, u->option[i].name, u->option[i].arg, u->option[i].help);
	help_row('h', "help", NULL, "print this text");
}

static int misuse(const char *name, const struct gw__cli_usage *u)
{
	return gw__ui_error(GW__EXIT_USAGE, "usage: godwit %s %s (for more: godwit %s --help)", name, u->synopsis, name);
}

static int check_arguments(const struct gw__cli_usage *u, const char *name, const struct gw__cli_args *args)
{
	if (args->n < u->min) {
		gw__ui_error(0, "%s: an argument is missing", name);
		return misuse(name, u);
	}
	if (u->max >= 0 && args->n > u->max) {
		gw__ui_error(0, "%s: unexpected argument \"%s\"", name, args->arg[u->max]);
		return misuse(name, u);
	}
	return GW__CLI_GO;
}

static unsigned to_getopt(const struct gw__cli_usage *u, struct option *lo, char *letters)
{
	unsigned n = 0;
	*letters++ = ':'; /* a missing argument is told apart */
	for (; n < u->options_n && n < OPTIONS_MAX; n++) {
		const struct gw__cli_option *o = &u->option[n];
		lo[n] = (struct option){o->name, o->arg ? required_argument : no_argument, NULL, LONG_BASE + (int)n};
		if (!o->letter)
			continue;
		*letters++ = o->letter;
		if (o->arg)
			*letters++ = ':';
	}
	lo[n] = (struct option){"help", no_argument, NULL, 'h'};
	lo[n + 1] = (struct option){0};
	*letters++ = 'h';
	*letters = 0;
	return n;
}

static const struct gw__cli_option *find(const struct gw__cli_usage *u, int c)
{
	for (unsigned i = 0; i < u->options_n; i++)
		if (c == LONG_BASE + (int)i || (c < LONG_BASE && c == u->option[i].letter))
			return &u->option[i];
	return NULL;
}

/* getopt's `optopt` is the letter; 0 for an unknown long option, its value for one without its argument. */
static int bad_option(const struct gw__cli_usage *u, const char *name, int c, const char *word)
{
	char letter[3] = {'-', (char)optopt, 0};
	gw__ui_error(0, c == ':' ? "%s: %s needs an argument" : "%s: unknown, ambiguous or misused option %s", name,
		optopt && optopt < LONG_BASE ? letter : word);
	return misuse(name, u);
}

/* Cuts off the command line after "--", so that getopt's reordering of arguments cannot touch it. */
static int cut_command(const struct gw__cli_usage *u, int argc, char **argv, struct gw__cli_args *args)
{
	for (int i = 1; u->takes_command && i < argc; i++)
		if (!strcmp(argv[i], "--")) {
			args->command = argv + i + 1;
			return i;
		}
	return argc;
}

int gw__cli_parse(const struct gw__cli_usage *u, int argc, char **argv, struct gw__cli_args *args)
{
	struct option lo[OPTIONS_MAX + 2];
	char letters[2 * OPTIONS_MAX + 3];
	const char *name = argv[0];
	*args = (struct gw__cli_args){0};
	to_getopt(u, lo, letters);
	argc = cut_command(u, argc, argv, args);
	opterr = 0;
	optind = 0; /* glibc: start afresh, permuting */
	for (int c; (c = getopt_long(argc, argv, letters, lo, NULL)) != -1;) {
		const struct gw__cli_option *o = find(u, c);
		if (c == 'h' && !o) {
			print_help(u, name);
			return GW__EXIT_DONE;
		}
		if (!o)
			return bad_option(u, name, c, argv[optind - 1]);
		if (gw__cli_take_value(o, optarg))
			return GW__EXIT_USAGE;
	}
	args->arg = argv + optind;
	args->n = argc - optind;
	return check_arguments(u, name, args);
}
