/* SPDX-License-Identifier: MIT */
/*
 * The beginning and the end of a connection: the greeting, what it tells, capabilities.
 *
 * Most of it is about saying well why there is no QMP at the other end. Called by the thread that will use
 * the connection.
 */
#include "qmp/parts.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { AGAIN_MS = 100 };

int gw__qmp_fd(const struct gw__qmp *q) { return q->line.fd; }
int gw__qmp_version(const struct gw__qmp *q) { return q->version; }
bool gw__qmp_has_quirk(const struct gw__qmp *q, enum gw__qemu_quirk quirk) { return gw__qemu_has_quirk((unsigned)q->version, quirk); }
const char *gw__qmp_version_text(const struct gw__qmp *q) { return q->version_text; }
bool gw__qmp_can_pass_fds(const struct gw__qmp *q) { return q->unix_socket; }
bool gw__qmp_has_oob(const struct gw__qmp *q) { return q->oob; }

static int say_not_qmp(const struct gw__qmp *q, const char *said, struct gw__error *error)
{
	char text[64];
	gw__qmp_text(text, sizeof text, said);
	if (strncmp(text, "QEMU ", 5) == 0 && strstr(text, " monitor "))
		return gw__error_set(error, -EPROTO, "%s is QEMU's monitor for humans (-monitor), not QMP (-qmp): it greets with \"%s\"",
			q->address, text);
	return gw__error_set(error, -EPROTO, "%s is not a QMP socket: it greets with \"%s\"", q->address, text);
}

static int say_no_greeting(const struct gw__qmp *q, int err, int timeout_ms, struct gw__error *error)
{
	size_t partial = gw__qmp_line_partial(&q->line);
	if (err == GW__NOTHING_CAME && partial == 0)
		return gw__qmp_say_busy(q->address, timeout_ms, error);
	if (err == GW__NOTHING_CAME)
		return gw__error_set(error, -EPROTO, "%s is not a QMP socket: %zu bytes without a line end within %d ms", q->address,
			partial, timeout_ms);
	if (err == -ECONNRESET)
		return gw__error_set(error, err,
			"%s closed the connection instead of greeting: QEMU is ending, or this "
			"is not a QMP socket",
			q->address);
	if (err == -EMSGSIZE)
		return gw__error_set(error, -EPROTO, "%s is not a QMP socket: its greeting has no end", q->address);
	return gw__error_errno(error, -err, "reading the QMP greeting of %s", q->address);
}

/* {"QMP": {"version": {"qemu": {"major", "minor", "micro"}, "package"}, "capabilities": [...]}} */
static bool read_greeting(struct gw__qmp *q, const json_t *greeting)
{
	const json_t *hello = json_object_get(greeting, "QMP");
	const json_t *version = json_object_get(hello, "version");
	const json_t *numbers = json_object_get(version, "qemu");
	const json_t *major = json_object_get(numbers, "major");
	uint64_t minor = gw__qmp_get_u64(numbers, "minor");
	if (!json_is_integer(major) || json_integer_value(major) < 0 || json_integer_value(major) > 9999 || minor > 99)
		return false;
	q->version = (int)json_integer_value(major) * 100 + (int)minor;
	char package[96];
	gw__qmp_get_text(package, sizeof package, version, "package");
	snprintf(q->version_text, sizeof q->version_text, "%d.%d.%d%s%s%s", q->version / 100, q->version % 100,
		(int)(gw__qmp_get_u64(numbers, "micro") % 1000000), package[0] ? " (" : "", package, package[0] ? ")" : "");
	size_t i;
	const json_t *capability;
	json_array_foreach(json_object_get(hello, "capabilities"), i, capability)
	{
		const char *name = json_string_value(capability);
		q->oob |= name && strcmp(name, "oob") == 0;
	}
	return true;
}

unsigned gw__qmp_unanswered(const struct gw__qmp *q) { return q->unanswered; }

/*
 * An event may come first: from a proxy that shares a monitor (libvirt's virt-qemu-qmp-proxy), or from QEMU itself if it happens just when we
 * connect (10.0 was seen to). It is kept.
 */
static int await_greeting(struct gw__qmp *q, uint64_t deadline_ns, char **line, json_t **greeting)
{
	for (;;) {
		size_t n;
		int err = gw__qmp_line_next(&q->line, deadline_ns, line, &n);
		if (err)
			return err;
		*greeting = gw__qmp_parse(*line, n);
		if (!json_is_string(json_object_get(*greeting, "event")))
			return 0;
		gw__qmp_keep_event(q, *greeting, n);
		*greeting = NULL;
		if (gw__qmp_left_ms(deadline_ns) == 0)
			return GW__NOTHING_CAME;
	}
}

static int negotiate(struct gw__qmp *q, uint64_t deadline_ns, int timeout_ms, struct gw__error *error)
{
	char *line;
	json_t *greeting = NULL;
	int err = await_greeting(q, deadline_ns, &line, &greeting);
	if (err)
		return say_no_greeting(q, err, timeout_ms, error);
	bool ok = greeting && read_greeting(q, greeting);
	json_decref(greeting);
	if (!ok)
		return say_not_qmp(q, line, error);
	q->call_ms = gw__qmp_left_ms(deadline_ns);
	err = gw__qmp_call(q, "qmp_capabilities", q->oob ? json_pack("{s:[s]}", "enable", "oob") : NULL, NULL, error);
	q->call_ms = GW__QMP_CALL_MS;
	return err;
}

/* A connection that has said nothing yet. Takes `fd` over. */
static int make(int fd, const char *address, struct gw__qmp **q, struct gw__error *error)
{
	int domain = 0, type = 0;
	socklen_t n = sizeof domain, m = sizeof type;
	struct gw__qmp *made = NULL;
	int err = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) != 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) != 0)
		err = gw__error_errno(error, errno, "%s is not a socket", address);
	else if (type != SOCK_STREAM)
		err = gw__error_set(error, -EPROTOTYPE, "%s is not a stream socket", address);
	else if (!(made = calloc(1, sizeof *made)))
		err = gw__error_set(error, -ENOMEM, "no memory for a QMP connection");
	if (err) {
		close(fd);
		return err;
	}
	made->line.fd = fd;
	made->unix_socket = domain == AF_UNIX;
	made->call_ms = GW__QMP_CALL_MS;
	gw__qmp_text(made->address, sizeof made->address, address);
	*q = made;
	return 0;
}

/* Takes `fd` over. */
static int start(int fd, const char *address, uint64_t deadline_ns, int timeout_ms, struct gw__qmp **q, struct gw__error *error)
{
	struct gw__qmp *made = NULL;
	int err = make(fd, address, &made, error);
	if (!err)
		err = negotiate(made, deadline_ns, timeout_ms, error);
	if (err) {
		gw__qmp_close(made);
		return err;
	}
	*q = made;
	return 0;
}

int gw__qmp_open(const char *address, int timeout_ms, struct gw__qmp **q, struct gw__error *error)
{
	uint64_t deadline_ns = gw__qmp_deadline_ns(timeout_ms);
	int fd = -1;
	int err = gw__qmp_connect(address, timeout_ms, deadline_ns, &fd, error);
	return err ? err : start(fd, address, deadline_ns, timeout_ms, q, error);
}

/* What may be over in a moment: a monitor's server that is started anew. */
static bool may_come_back(int err)
{
	return err == -ENOENT || err == -ECONNREFUSED || err == -ECONNRESET || err == -EPIPE || err == -ETIMEDOUT;
}

static int check_same(struct gw__qmp *q, const json_t *identity, struct gw__error *error)
{
	json_t *now = NULL;
	int err = gw__qmp_query_identity(q, &now, error);
	bool same = !err && json_equal(now, identity);
	json_decref(now);
	return err || same ? err : gw__error_set(error, -ESTALE, "another QEMU now listens at %s", q->address);
}

int gw__qmp_open_again(const char *address, int patience_ms, const json_t *identity, struct gw__qmp **q, struct gw__error *error)
{
	uint64_t deadline_ns = gw__qmp_deadline_ns(patience_ms);
	for (;;) {
		struct gw__error last = {0};
		struct gw__qmp *made = NULL;
		int left = gw__qmp_left_ms(deadline_ns);
		int err = gw__qmp_open(address, left ? left : 1, &made, &last);
		if (!err && identity)
			err = check_same(made, identity, &last);
		if (!err) {
			*q = made;
			return 0;
		}
		gw__qmp_close(made);
		if (!may_come_back(err) || gw__qmp_left_ms(deadline_ns) == 0)
			return gw__error_set(error, err, "%s", last.text);
		poll(NULL, 0, AGAIN_MS);
	}
}

int gw__qmp_dial(const char *address, int timeout_ms, int *fd, struct gw__error *error)
{
	return gw__qmp_connect(address, timeout_ms, gw__qmp_deadline_ns(timeout_ms), fd, error);
}

int gw__qmp_greet(int fd, const char *address, int timeout_ms, struct gw__qmp **q, struct gw__error *error)
{
	return start(fd, address, gw__qmp_deadline_ns(timeout_ms), timeout_ms, q, error);
}

int gw__qmp_take_fd(int fd, int timeout_ms, struct gw__qmp **q, struct gw__error *error)
{
	char address[32];
	snprintf(address, sizeof address, "fd:%d", fd);
	return gw__qmp_greet(fd, address, timeout_ms, q, error);
}

json_t *gw__qmp_handoff_state(const struct gw__qmp *q)
{
	return json_pack("{s:s, s:i, s:s, s:b}", "address", q->address, "version", q->version, "text", q->version_text, "oob", q->oob);
}

int gw__qmp_take_over(int fd, const json_t *past, json_int_t first_id, struct gw__qmp **q, struct gw__error *error)
{
	const char *address = json_string_value(json_object_get(past, "address"));
	uint64_t version = gw__qmp_get_u64(past, "version");
	if (!address || !version || version > 999999) {
		close(fd);
		return gw__error_set(error, -EINVAL, "what is known of a QMP connection is incomplete");
	}
	int err = make(fd, address, q, error);
	if (err)
		return err;
	(*q)->version = (int)version;
	gw__qmp_get_text((*q)->version_text, sizeof(*q)->version_text, past, "text");
	(*q)->oob = json_is_true(json_object_get(past, "oob"));
	(*q)->midway = true;
	(*q)->first_id = first_id;
	(*q)->last_id = first_id - 1;
	return 0;
}

void gw__qmp_close(struct gw__qmp *q)
{
	if (!q)
		return;
	while (q->count)
		gw__qmp_drop_oldest(q);
	gw__qmp_line_close(&q->line);
	free(q);
}
