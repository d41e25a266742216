/* SPDX-License-Identifier: MIT */
/* Results, messages and their filter; see output.h. */
#include "cli/ui/output.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/text.h"

enum { MESSAGE_BYTES = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for stdout, stderr and what follows */
static bool bar_stands;
static int output_error; /* first errno of a failed write to stdout */

static bool quiet, verbose; /* set once, before threads */

size_t gw__cli_filter(char *to, size_t to_bytes, const char *from) { return gw__text_filter(to, to_bytes, from, false); }

const char *gw__cli_name_text(const char *text, struct gw__cli_name *n)
{
	gw__cli_filter(n->text, sizeof n->text, text);
	return n->text;
}

static void wipe_bar(void)
{
	if (bar_stands)
		fputs("\r\033[K", stderr);
	bar_stands = false;
}

void gw__ui_progress_line(const char *line)
{
	char clean[512];
	pthread_mutex_lock(&lock);
	if (line) {
		gw__cli_filter(clean, sizeof clean, line);
		fprintf(stderr, "\r%s\033[K", clean);
		bar_stands = true;
	} else {
		wipe_bar();
	}
	pthread_mutex_unlock(&lock);
}

static void message(const char *fmt, va_list args)
{
	char raw[MESSAGE_BYTES], clean[MESSAGE_BYTES + 64];
	vsnprintf(raw, sizeof raw, fmt, args);
	gw__cli_filter(clean, sizeof clean, raw);
	pthread_mutex_lock(&lock);
	fflush(stdout); /* what was printed before comes first where both go to one place */
	wipe_bar();
	fprintf(stderr, "godwit: %s\n", clean);
	pthread_mutex_unlock(&lock);
}

int gw__ui_error(int status, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	message(fmt, args);
	va_end(args);
	return status;
}

void gw__ui_set_verbosity(bool be_quiet, bool be_verbose)
{
	quiet = be_quiet;
	verbose = be_verbose;
}

void gw__ui_info(const char *fmt, ...)
{
	if (quiet)
		return;
	va_list args;
	va_start(args, fmt);
	message(fmt, args);
	va_end(args);
}

void gw__ui_verbose(const char *fmt, ...)
{
	if (!verbose)
		return;
	va_list args;
	va_start(args, fmt);
	message(fmt, args);
	va_end(args);
}

static void remember(int err)
{
	if (!output_error)
		output_error = err ? err : EIO;
}

/* NULL: there was no memory to make it. */
static void put(const char *text, bool at_once)
{
	pthread_mutex_lock(&lock);
	wipe_bar();
	if (!text)
		remember(ENOMEM);
	else if (fputs(text, stdout) < 0 || (at_once && fflush(stdout)))
		remember(errno);
	pthread_mutex_unlock(&lock);
}

void gw__ui_print(const char *fmt, ...)
{
	char *raw = NULL;
	va_list args;
	va_start(args, fmt);
	int n = vasprintf(&raw, fmt, args);
	va_end(args);
	size_t room = n < 0 ? 0 : 4 * (size_t)n + 1;
	char *clean = room ? malloc(room) : NULL;
	if (clean)
		gw__text_filter(clean, room, raw, true);
	put(clean, false);
	free(clean);
	if (n >= 0)
		free(raw);
}

/* DEL is the only control character that passes an encoder of ASCII. */
static char *escape_del(const char *text, const char *end)
{
	size_t n = 0, dels = 0;
	for (; text[n]; n++)
		dels += text[n] == 0x7f;
	char *to = malloc(n + 5 * dels + strlen(end) + 1), *p = to;
	for (size_t i = 0; to && i < n; i++)
		if (text[i] == 0x7f)
			p = stpcpy(p, "\\u007f");
		else
			*p++ = text[i];
	if (to)
		strcpy(p, end);
	return to;
}

/* The object as text, without its last `cut` bytes, then `end`. Owns `object`; NULL: no memory. */
static char *encode(json_t *object, size_t cut, const char *end)
{
	char *text = object ? json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6)) : NULL;
	json_decref(object);
	if (text)
		text[strlen(text) - cut] = 0;
	char *line = text ? escape_del(text, end) : NULL;
	free(text);
	return line;
}

void gw__cli_json(json_t *object)
{
	char *line = encode(object, 0, "\n");
	put(line, true);
	free(line);
}

void gw__cli_json_and_list(json_t *object, const char *key, uint32_t n, json_t *(*item)(void *ctx, uint32_t i), void *ctx)
{
	char between[80];
	snprintf(between, sizeof between, ",\"%s\":[", key);
	char *head = encode(object, 1, between);
	put(head, false);
	free(head);
	for (uint32_t i = 0; i < n; i++) {
		char *text = encode(item(ctx, i), 0, i + 1 < n ? "," : "");
		put(text, false);
		free(text);
	}
	put("]}\n", true);
}

json_t *gw__cli_json_text(const char *text)
{
	if (!text)
		return json_null();
	json_t *as_is = json_string(text); /* NULL if it is not UTF-8; what is not ASCII is escaped when it is printed */
	if (as_is)
		return as_is;
	size_t room = 4 * strlen(text) + 1;
	char *clean = malloc(room);
	if (!clean)
		return NULL;
	gw__cli_filter(clean, room, text);
	json_t *filtered = json_string(clean);
	free(clean);
	return filtered;
}

json_t *gw__cli_json_size(uint64_t v) { return json_integer((json_int_t)gw__min(v, INT64_MAX)); }

bool gw__cli_output_whole(void)
{
	if (fflush(stdout))
		remember(errno);
	if (!output_error || output_error == EPIPE)
		return true;
	gw__ui_error(0, "cannot write to standard output: %s", strerror(output_error));
	return false;
}

const char *gw__cli_size_text(uint64_t bytes, struct gw__cli_size *s)
{
	static const char units[] = "KMGTPE";
	if (bytes < 1024) {
		snprintf(s->text, sizeof s->text, "%u bytes", (unsigned)bytes);
		return s->text;
	}
	unsigned u = 0;
	double v = (double)bytes / 1024;
	for (; v >= 1023.95 && u < sizeof units - 2; u++)
		v /= 1024;
	bool whole = v - (double)(uint64_t)v < 0.05;
	snprintf(s->text, sizeof s->text, whole ? "%.0f %ciB" : "%.1f %ciB", v, units[u]);
	return s->text;
}
