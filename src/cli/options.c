/* SPDX-License-Identifier: MIT */
/* Parsing, checking and describing the options of a command; see options.h. */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"

enum { OPTIONS_MAX = 32, LONG_BASE = 1000, HELP_COLUMN = 30, HELP_WIDTH = 80 };

static int bad(const struct gw__cli_option *o, const char *value, const char *wanted)
{
	gw__cli_say(0, "--%s: \"%s\" is not %s", o->name, value, wanted);
	return -EINVAL;
}

int gw__cli_parse_size(const char *s, uint64_t *bytes)
{
	static const char suffixes[] = "KMGT";
	char *end;
	errno = 0;
	bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
	uint64_t v = isdigit((unsigned char)*s) ? strtoull(s, &end, hex ? 16 : 10) : (end = (char *)s, 0);
	unsigned shift = 0;
	const char *suffix = *end ? strchr(suffixes, toupper((unsigned char)*end)) : NULL;
	if (suffix) {
		shift = 10 * (unsigned)(suffix - suffixes + 1);
		end++;
	}
	if (end == s || errno || *end || v > (uint64_t)INT64_MAX >> shift)
		return -EINVAL;
	*bytes = v << shift;
	return 0;
}

static int to_size(const struct gw__cli_option *o, const char *s)
{
	return gw__cli_parse_size(s, o->to.size) ? bad(o, s, "a size in bytes (such as 4096, 64K, 10M, 2G)") : 0;
}

static int to_ms(const struct gw__cli_option *o, const char *s)
{
	char *end;
	if (!strcmp(s, "none")) {
		*o->to.ms = -1;
		return 0;
	}
	double v = strtod(s, &end);
	if (end == s || *end || !isfinite(v) || v <= 0 || v > INT_MAX / 1000)
		return bad(o, s, "a number of seconds above 0, or \"none\"");
	*o->to.ms = v < 0.001 ? 1 : (int)(v * 1000);
	return 0;
}

static int to_number(const char *s, long *v)
{
	char *end;
	errno = 0;
	*v = strtol(s, &end, 10);
	return end == s || *end || errno || *v < 0 || *v > INT_MAX ? -EINVAL : 0;
}

static int to_count(const struct gw__cli_option *o, const char *s)
{
	long v;
	if (to_number(s, &v))
		return bad(o, s, "a number");
	if (o->most && v > (long)o->most) {
		gw__cli_say(0, "--%s: %s is too many, at most %u are possible", o->name, s, o->most);
		return -EINVAL;
	}
	*o->to.count = (unsigned)v;
	return 0;
}

static int to_fd(const struct gw__cli_option *o, const char *s)
{
	long v;
	if (to_number(s, &v) || fcntl((int)v, F_GETFD) < 0)
		return bad(o, s, "an open descriptor");
	*o->to.fd = (int)v;
	return 0;
}

static int to_choice(const struct gw__cli_option *o, const char *s)
{
	unsigned i = 0;
	size_t n;
	for (const char *word = o->arg;; word += n + 1, i++) {
		n = strcspn(word, "|");
		if (strlen(s) == n && !strncmp(s, word, n)) {
			*o->to.choice = i;
			return 0;
		}
		if (!word[n])
			return bad(o, s, o->arg);
	}
}

static int to_list(const struct gw__cli_option *o, const char *s)
{
	struct gw__cli_list *list = o->to.list;
	if (list->n == GW__CLI_LIST_MAX)
		return bad(o, s, "needed: the option was given too often");
	list->v[list->n++] = s;
	return 0;
}

static int take(const struct gw__cli_option *o, const char *value)
{
	if (o->given)
		*o->given = true;
	switch (o->type) {
	case GW__CLI_TYPE_FLAG:
		*o->to.flag = true;
		return 0;
	case GW__CLI_TYPE_TEXT:
		*o->to.text = value;
		return 0;
	case GW__CLI_TYPE_SIZE:
		return to_size(o, value);
	case GW__CLI_TYPE_SECONDS:
		return to_ms(o, value);
	case GW__CLI_TYPE_COUNT:
		return to_count(o, value);
	case GW__CLI_TYPE_FD:
		return to_fd(o, value);
	case GW__CLI_TYPE_CHOICE:
		return to_choice(o, value);
	case GW__CLI_TYPE_LIST:
		return to_list(o, value);
	}
	return -EINVAL;
}

/* Words from column `left` on, the cursor standing there; what does not fit goes below. Newlines are spaces.
 */
static void print_words(const char *text, int left)
{
	for (int at = left; *text;) {
		int n = (int)strcspn(text, " \n");
		if (at > left && at + 1 + n > HELP_WIDTH) {
			gw__cli_print("\n%*s", left, "");
			at = left;
		}
		gw__cli_print("%s%.*s", at > left ? " " : "", n, text);
		at += n + (at > left);
		text += n + (text[n] != 0);
	}
	gw__cli_print("\n");
}

static void help_row(char letter, const char *name, const char *arg, const char *help)
{
	char left[80], short_form[8] = "    ";
	if (letter)
		snprintf(short_form, sizeof short_form, "-%c, ", letter);
	int at =
		snprintf(left, sizeof left, "  %s--%s%s%s", short_form, name, arg ? "=" : "", arg ? arg : "");
	gw__cli_print(at < HELP_COLUMN ? "%s%*s" : "%s\n%*s", left,
		at < HELP_COLUMN ? HELP_COLUMN - at : HELP_COLUMN, "");
	print_words(help, HELP_COLUMN);
}

static void print_help(const struct gw__cli_usage *u, const char *name)
{
	gw__cli_print("usage: godwit %s %s\n\n", name, u->synopsis);
	print_words(u->summary, 0);
	gw__cli_print("\noptions:\n");
	for (unsigned i = 0; i < u->options_n; i++)
		help_row(u->option[i].letter, u->option[i].name, u->option[i].arg, u->option[i].help);
	help_row('h', "help", NULL, "print this text");
}

static int misuse(const char *name, const struct gw__cli_usage *u)
{
	return gw__cli_say(
		GW__EXIT_USAGE, "usage: godwit %s %s (godwit %s --help says more)", name, u->synopsis, name);
}

static int check_arguments(const struct gw__cli_usage *u, const char *name, const struct gw__cli_args *args)
{
	if (args->n < u->min) {
		gw__cli_say(0, "%s: an argument is missing", name);
		return misuse(name, u);
	}
	if (u->max >= 0 && args->n > u->max) {
		gw__cli_say(0, "%s: unexpected argument \"%s\"", name, args->arg[u->max]);
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
		lo[n] = (struct option){
			o->name, o->arg ? required_argument : no_argument, NULL, LONG_BASE + (int)n};
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
	gw__cli_say(0, c == ':' ? "%s: %s needs an argument" : "%s: unknown, ambiguous or misused option %s",
		name, optopt && optopt < LONG_BASE ? letter : word);
	return misuse(name, u);
}

/* Cuts the command line behind "--" off, so that getopt's reordering of arguments cannot touch it. */
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
		if (take(o, optarg))
			return GW__EXIT_USAGE;
	}
	args->arg = argv + optind;
	args->n = argc - optind;
	return check_arguments(u, name, args);
}

bool gw__cli_parse_uuid(const char *text, uint8_t to[16])
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	unsigned digits = 0;
	if (strlen(text) != sizeof form - 1)
		return false;
	for (unsigned i = 0; form[i]; i++) {
		char c = text[i];
		if (form[i] == '-' ? c != '-' : !isxdigit((unsigned char)c))
			return false;
		if (form[i] == '-')
			continue;
		uint8_t v = (uint8_t)(isdigit((unsigned char)c) ? c - '0' : (c | 0x20) - 'a' + 10);
		to[digits / 2] = (uint8_t)(digits % 2 ? to[digits / 2] << 4 | v : v);
		digits++;
	}
	return true;
}
