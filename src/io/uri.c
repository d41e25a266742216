/* SPDX-License-Identifier: MIT */
/*
 * Reads QEMU's migration URIs. Pure text work: whether an address, file or descriptor exists is found out by
 * those who open it. Where QEMU takes nonsense (port 70000000, an empty command) this refuses. Any thread;
 * owns nothing.
 */
#include "io/uri.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/math.h"

enum { UNIX_PATH_MAX_BYTES = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* A decimal number and nothing else. Returns false if there is none or it is larger than `max`. */
static bool read_decimal(const char *s, uint64_t max, uint64_t *value)
{
	uint64_t v = 0;
	if (!*s)
		return false;
	for (; *s; s++) {
		if (!is_digit(*s) || gw__mul_overflows(v, 10, &v) || gw__add_overflows(v, (uint64_t)(*s - '0'), &v))
			return false;
		if (v > max)
			return false;
	}
	*value = v;
	return true;
}

static bool is_service_name(const char *s)
{
	for (const char *p = s; *p; p++)
		if (!is_digit(*p) && !((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') && *p != '-' && *p != '_')
			return false;
	return *s && strlen(s) < sizeof((struct gw__uri *)0)->port;
}

/* "", "=on", "=off": as QEMU takes a switch. */
static bool read_switch(const char *s, bool *on)
{
	*on = strcmp(s, "=off") != 0;
	return !*s || !strcmp(s, "=on") || !strcmp(s, "=off");
}

static bool read_tcp_option(const char *o, struct gw__uri *uri, bool *v4, bool *v6)
{
	bool ignored;
	uint64_t to;
	if (!strncmp(o, "ipv4", 4))
		return read_switch(o + 4, v4);
	if (!strncmp(o, "ipv6", 4))
		return read_switch(o + 4, v6);
	if (!strncmp(o, "keep-alive", 10)) /* a migration is never idle for so long: without effect */
		return read_switch(o + 10, &ignored);
	if (strncmp(o, "to=", 3) || !read_decimal(o + 3, 65535, &to))
		return false;
	uri->port_to = (uint16_t)to;
	return true;
}

/* What QEMU takes after a port. Both families, or none named: either. */
static int parse_tcp_options(const char *from, struct gw__uri *uri, struct gw__error *error)
{
	bool v4 = false, v6 = false, no4 = strstr(from, ",ipv4=off"), no6 = strstr(from, ",ipv6=off");
	while (*from == ',') {
		char one[32] = "";
		size_t n = strcspn(++from, ",");
		memcpy(one, from, n < sizeof one ? n : 0);
		if (!*one || !read_tcp_option(one, uri, &v4, &v6))
			return gw__error_set(error, -EINVAL,
				"%.200s: bad option \"%.*s\" after the port; expected ipv4, ipv6, keep-alive (each with =on or =off) or to=PORT",
				uri->text, (int)(n < 64 ? n : 64), from);
		from += n;
	}
	if (no4 && no6)
		return gw__error_set(error, -EINVAL, "%.200s: neither IPv4 nor IPv6 is left; leave one of them on", uri->text);
	if (v4 != v6)
		uri->family = v4 ? GW__URI_IPV4 : GW__URI_IPV6;
	else if (no4 || no6)
		uri->family = no4 ? GW__URI_IPV6 : GW__URI_IPV4;
	return 0;
}

static int parse_port(const char *given, struct gw__uri *uri, struct gw__error *error)
{
	uint64_t number;
	char port[sizeof uri->port];
	size_t n = strcspn(given, ",");
	snprintf(port, sizeof port, "%.*s", (int)(n < sizeof port ? n : sizeof port), given);
	if (n >= sizeof port)
		return gw__error_set(error, -EINVAL, "%.200s: bad port \"%.64s\"; expected 0 to 65535 or the name of a service", uri->text,
			given);
	if (strchr(port, ':'))
		return gw__error_set(error, -EINVAL,
			"%.200s: more than one colon; an IPv6 address stands in brackets, as in "
			"tcp:[::1]:4444",
			uri->text);
	if (!is_service_name(port) || (strspn(port, "0123456789") == strlen(port) && !read_decimal(port, 65535, &number)))
		return gw__error_set(error, -EINVAL, "%.200s: bad port \"%.64s\"; expected 0 to 65535 or the name of a service", uri->text,
			port);
	strcpy(uri->port, port);
	int r = parse_tcp_options(given + n, uri, error);
	if (!r && uri->port_to && (!read_decimal(port, 65535, &number) || number > uri->port_to))
		return gw__error_set(error, -EINVAL, "%.200s: \"to\" must be a port that is not below the first one", uri->text);
	return r;
}

static int parse_tcp(const char *rest, struct gw__uri *uri, struct gw__error *error)
{
	const char *host = rest, *end = strchr(rest, ':');
	if (*rest == '[') {
		host = rest + 1;
		end = strchr(host, ']');
		if (!end || end[1] != ':')
			return gw__error_set(error, -EINVAL, "%.200s: bad IPv6 address; expected tcp:[ADDRESS]:PORT, as in tcp:[::1]:4444",
				uri->text);
	}
	if (!end)
		return gw__error_set(error, -EINVAL, "%.200s: no port; expected tcp:HOST:PORT, as in tcp:127.0.0.1:4444", uri->text);
	size_t n = (size_t)(end - host);
	memcpy(uri->target, host, n);
	uri->target[n] = 0;
	if (strcspn(uri->target, " \t\r\n/,") != n || n > 255)
		return gw__error_set(error, -EINVAL, "%.200s: bad host \"%.64s\"; expected a name or an address", uri->text, uri->target);
	return parse_port(end + (*rest == '[' ? 2 : 1), uri, error);
}

static int parse_unix(const char *rest, struct gw__uri *uri, struct gw__error *error)
{
	size_t n = strlen(rest);
	if (n == 0)
		return gw__error_set(error, -EINVAL, "unix: names no socket; expected unix:PATH");
	if (n > UNIX_PATH_MAX_BYTES)
		return gw__error_set(error, -EINVAL,
			"unix socket path of %zu bytes; the kernel takes at most %d: use a shorter path, or "
			"a relative one",
			n, UNIX_PATH_MAX_BYTES);
	memcpy(uri->target, rest, n + 1);
	return 0;
}

static int parse_vsock(const char *rest, struct gw__uri *uri, struct gw__error *error)
{
	uint64_t cid, port;
	char first[16] = "";
	const char *colon = strchr(rest, ':');
	if (colon && (size_t)(colon - rest) < sizeof first)
		memcpy(first, rest, (size_t)(colon - rest));
	if (!colon || !read_decimal(first, UINT32_MAX, &cid) || !read_decimal(colon + 1, UINT32_MAX, &port))
		return gw__error_set(error, -EINVAL, "%.200s: expected vsock:CID:PORT, two numbers up to 4294967295", uri->text);
	uri->cid = (uint32_t)cid;
	uri->vsock_port = (uint32_t)port;
	return 0;
}

static int parse_fd(const char *rest, struct gw__uri *uri, struct gw__error *error)
{
	uint64_t fd;
	if (!read_decimal(rest, INT_MAX, &fd))
		return gw__error_set(error, -EINVAL,
			"%.200s: expected fd:N, the number of a descriptor open in this program; names live "
			"inside QEMU only",
			uri->text);
	uri->fd = (int)fd;
	return 0;
}

static int parse_exec(const char *rest, struct gw__uri *uri, struct gw__error *error)
{
	if (!*rest)
		return gw__error_set(error, -EINVAL, "exec: names no command; expected exec:COMMAND, which /bin/sh runs");
	strcpy(uri->target, rest);
	return 0;
}

/* Bytes that one of a size suffix stands for; 0 if it is none. "" is bytes. */
static uint64_t suffix_bytes(const char *s)
{
	static const char letters[] = "BKMGTPE";
	if (!*s)
		return 1;
	const char *at = s[1] ? NULL : strchr(letters, *s & ~0x20);
	return at ? UINT64_C(1) << 10 * (at - letters) : 0;
}

static bool read_hex(const char *s, uint64_t *value)
{
	if (!*s || strspn(s, "0123456789abcdefABCDEF") != strlen(s))
		return false;
	errno = 0;
	*value = strtoull(s, NULL, 16);
	return errno == 0;
}

/*
 * A size as QEMU takes it: 4096, 4K, 1.5M, .5K, 0x1000; blanks and a plus in front. A fraction of a byte is
 * rounded to the nearest, but 1.5 (bytes) is refused, and so is a suffix after a hexadecimal number.
 */
static bool read_size(const char *s, uint64_t *value)
{
	double fraction = 0;
	s += strspn(s, " \t\n\r\f\v");
	s += *s == '+';
	if (s[0] == '0' && (s[1] | 0x20) == 'x')
		return read_hex(s + 2, value);

	size_t digits = strspn(s, "0123456789"), decimals = 0;
	uint64_t whole = 0;
	for (size_t i = 0; i < digits; i++)
		if (gw__mul_overflows(whole, 10, &whole) || gw__add_overflows(whole, (uint64_t)(s[i] - '0'), &whole))
			return false;
	s += digits;
	if (*s == '.') {
		decimals = strspn(++s, "0123456789");
		for (size_t i = decimals; i-- > 0;)
			fraction = (fraction + (s[i] - '0')) / 10;
		s += decimals;
	}
	uint64_t unit = suffix_bytes(s);
	if (digits + decimals == 0 || unit == 0 || (unit == 1 && fraction != 0))
		return false;
	return !gw__mul_overflows(whole, unit, &whole) && !gw__add_overflows(whole, (uint64_t)(fraction * (double)unit + 0.5), value);
}

static int parse_file(const char *rest, struct gw__uri *uri, struct gw__error *error)
{
	static const char mark[] = ",offset=";
	const char *end = strstr(rest, mark); /* the first one wins, also inside a path */
	size_t n = end ? (size_t)(end - rest) : strlen(rest);
	if (n == 0)
		return gw__error_set(error, -EINVAL, "%s: no path; expected file:PATH or file:PATH,offset=BYTES", uri->text);
	memcpy(uri->target, rest, n);
	uri->target[n] = 0;
	if (!end)
		return 0;
	const char *text = end + strlen(mark);
	if (!read_size(text, &uri->offset) || uri->offset > INT64_MAX)
		return gw__error_set(error, -EINVAL,
			"file URI has bad offset \"%.64s\"; expected bytes, as in 4096, 0x1000, 4K or 1.5M, "
			"below 8E",
			text);
	return 0;
}

static const struct scheme {
	const char *prefix;
	enum gw__uri_kind kind;
	int (*parse)(const char *rest, struct gw__uri *uri, struct gw__error *error);
} schemes[] = {
	{"tcp:", GW__URI_TCP, parse_tcp},
	{"unix:", GW__URI_UNIX, parse_unix},
	{"vsock:", GW__URI_VSOCK, parse_vsock},
	{"fd:", GW__URI_FD, parse_fd},
	{"file:", GW__URI_FILE, parse_file},
	{"exec:", GW__URI_EXEC, parse_exec},
};

static int refuse(const char *text, struct gw__error *error)
{
	static const char forms[] = "tcp:HOST:PORT, unix:PATH, vsock:CID:PORT, fd:N, exec:COMMAND or file:PATH[,offset=N]";
	const char *colon = strchr(text, ':');
	if (!colon || memchr(text, '/', (size_t)(colon - text)))
		return gw__error_set(error, -EINVAL, "\"%.200s\" is not a URI; expected %s", text, forms);
	return gw__error_set(error, -EINVAL, "unknown migration protocol: %.200s; expected %s", text, forms);
}

int gw__uri_parse(const char *text, struct gw__uri *uri, struct gw__error *error)
{
	size_t n = strlen(text);
	memset(uri, 0, sizeof *uri);
	uri->fd = -1;
	if (n >= sizeof uri->text)
		return gw__error_set(error, -EINVAL, "URI of %zu bytes (\"%.40s...\"); at most %zu are taken", n, text,
			sizeof uri->text - 1);
	memcpy(uri->text, text, n + 1);
	for (const struct scheme *s = schemes; s < schemes + GW__LEN(schemes); s++) {
		size_t prefix = strlen(s->prefix);
		if (strncmp(text, s->prefix, prefix))
			continue;
		uri->kind = s->kind;
		return s->parse(text + prefix, uri, error);
	}
	return refuse(text, error);
}
