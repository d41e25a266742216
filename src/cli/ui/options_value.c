/* SPDX-License-Identifier: MIT */
/*
 * What an option's value is: texts become sizes, times, counts, descriptors and choices, or a sentence says why not; see options.h.
 * Not which option it is (options.c). No state: any thread.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/ui/options.h"
#include "cli/ui/output.h"

static int bad(const struct gw__cli_option *o, const char *value, const char *wanted)
{
	gw__ui_error(0, "--%s: \"%s\" is not %s", o->name, value, wanted);
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
		gw__ui_error(0, "--%s: %s is too many, at most %u are possible", o->name, s, o->most);
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

int gw__cli_take_value(const struct gw__cli_option *o, const char *value)
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

int gw__cli_image_name(const char *command, char **name)
{
	static const char *const others[] = {"exec:", "fd:", "tcp:", "unix:", "vsock:"};
	static const char file[] = "file:", offset[] = ",offset=";
	struct stat st;
	if (lstat(*name, &st) == 0)
		return GW__CLI_GO;
	for (unsigned i = 0; i < GW__LEN(others); i++)
		if (!strncmp(*name, others[i], strlen(others[i])))
			return gw__ui_error(GW__EXIT_USAGE,
				"%s: \"%s\" is a URI, expected the name of a file; for a file of that name write ./%s", command, *name,
				*name);
	if (strncmp(*name, file, strlen(file)) != 0)
		return GW__CLI_GO;
	if (strstr(*name, offset))
		return gw__ui_error(GW__EXIT_USAGE, "%s: \"%s\": leave \"%s\" out, and give the number with --offset", command, *name,
			strstr(*name, offset));
	*name += strlen(file);
	return GW__CLI_GO;
}
