/* SPDX-License-Identifier: MIT */
/* Results, messages and their filter; see output.h. */
#include "cli/output.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

enum { MESSAGE_BYTES = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for stdout, stderr and what follows */
static bool bar_stands;
static int output_error; /* first errno of a failed write to stdout */

static bool quiet, verbose; /* set once, before threads */

/* Bytes of the well-formed UTF-8 character at `s`, 0 if there is none. */
static unsigned utf8_bytes(const unsigned char *s)
{
	if (s[0] < 0x80)
		return 1;
	unsigned n = s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 0;
	for (unsigned i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
	bool beyond = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
	return overlong || beyond ? 0 : n;
}

static bool is_control(const unsigned char *s) { return (s[0] < 0x20 && s[0] != '\n') || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0); }

size_t gw__cli_filter(char *to, size_t to_bytes, const char *from)
{
	const unsigned char *s = (const unsigned char *)from;
	size_t at = 0;
	while (*s) {
		unsigned n = utf8_bytes(s);
		bool plain = n && !is_control(s);
		if (at + (plain ? n : 4) >= to_bytes)
			break;
		if (plain) {
			memcpy(to + at, s, n);
			at += n;
			s += n;
		} else {
			at += (size_t)snprintf(to + at, to_bytes - at, "\\x%02x", *s++);
		}
	}
	to[at] = 0;
	return at;
}

static void wipe_bar(void)
{
	if (bar_stands)
		fputs("\r\033[K", stderr);
	bar_stands = false;
}

void gw__cli_bar(const char *line)
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

int gw__cli_say(int status, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	message(fmt, args);
	va_end(args);
	return status;
}

void gw__cli_set_talk(bool be_quiet, bool be_verbose)
{
	quiet = be_quiet;
	verbose = be_verbose;
}

void gw__cli_tell(const char *fmt, ...)
{
	if (quiet)
		return;
	va_list args;
	va_start(args, fmt);
	message(fmt, args);
	va_end(args);
}

void gw__cli_detail(const char *fmt, ...)
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

void gw__cli_print(const char *fmt, ...)
{
	char *raw = NULL;
	va_list args;
	va_start(args, fmt);
	int n = vasprintf(&raw, fmt, args);
	va_end(args);
	size_t room = n < 0 ? 0 : 4 * (size_t)n + 1;
	char *clean = room ? malloc(room) : NULL;
	if (clean)
		gw__cli_filter(clean, room, raw);
	put(clean, false);
	free(clean);
	if (n >= 0)
		free(raw);
}

void gw__cli_json(json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL, *line = NULL;
	json_decref(object);
	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	put(line, true);
	free(line);
	free(text);
}

json_t *gw__cli_json_text(const char *text)
{
	if (!text)
		return json_null();
	json_t *as_is = json_string(text); /* NULL if it is not UTF-8; control characters are escaped by JSON itself */
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
	gw__cli_say(0, "cannot write to standard output: %s", strerror(output_error));
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
