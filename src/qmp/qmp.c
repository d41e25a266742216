/* SPDX-License-Identifier: MIT */
/*
 * Calls with ids, replies, and the queue of events that came between.
 *
 * It neither connects (qmp_open.c) nor knows what a command means. A `struct gw__qmp` belongs to whoever
 * opened it and is used by one thread.
 */
#include "qmp/parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void gw__qmp_set_call_limit(struct gw__qmp *q, int timeout_ms) { q->call_ms = timeout_ms; }

void gw__qmp_on_wait(struct gw__qmp *q, gw__qmp_waits_fn *fn, void *ctx)
{
	q->on_wait = fn;
	q->wait_ctx = ctx;
}

static void tell_wait(struct gw__qmp *q, int limit_ms)
{
	if (q->on_wait)
		q->on_wait(q->wait_ctx, limit_ms);
}

int gw__qmp_note_anomaly(const struct gw__qmp *q, const char *command, const char *what, struct gw__error *error)
{
	return gw__error_set(error, -EPROTO, "QEMU at %s answered `%s` with something unexpected: %s", q->address, command, what);
}

/* The connection is of no use any more: its bytes no longer tell where a message begins. */
static int say_broken(struct gw__qmp *q, int err, struct gw__error *error)
{
	q->broken = true;
	switch (err) {
	case -ECONNRESET:
	case -EPIPE:
		return gw__error_set(error, -ECONNRESET, "QEMU at %s closed its QMP connection: it has quit or crashed", q->address);
	case -EMSGSIZE:
		return gw__error_set(error, -EPROTO, "%s sent a line of more than %d MiB: that is not QMP", q->address,
			GW__QMP_LINE_MAX_BYTES >> 20);
	case -ETIMEDOUT:
		return gw__error_set(error, err, "QEMU at %s does not read its commands", q->address);
	}
	return gw__error_errno(error, -err, "QMP connection to %s", q->address);
}

static int say_not_json(struct gw__qmp *q, const char *line, struct gw__error *error)
{
	char text[64];
	gw__qmp_text(text, sizeof text, line);
	q->broken = true;
	return gw__error_set(error, -EPROTO, "%s sent a line that is not a QMP message: \"%s\"", q->address, text);
}

void gw__qmp_drop_oldest(struct gw__qmp *q)
{
	struct gw__qmp_queued *e = &q->queue[q->first];
	json_decref(e->event);
	q->queue_bytes -= e->bytes;
	q->first = (q->first + 1) % GW__QMP_QUEUE_EVENTS;
	q->count--;
}

void gw__qmp_keep_event(struct gw__qmp *q, json_t *event, size_t bytes)
{
	while (q->count && (q->count == GW__QMP_QUEUE_EVENTS || q->queue_bytes + bytes > GW__QMP_QUEUE_BYTES))
		gw__qmp_drop_oldest(q);
	q->queue[(q->first + q->count) % GW__QMP_QUEUE_EVENTS] = (struct gw__qmp_queued){event, bytes};
	q->queue_bytes += bytes;
	q->count++;
}

/* A reply to a call that gave up, once `want` (0: nothing) is what we wait for; or to a call of somebody before us. */
static bool drop_late(struct gw__qmp *q, const json_t *message, json_int_t want)
{
	json_int_t n = json_integer_value(json_object_get(message, "id"));
	if (n > 0 && n < q->first_id)
		return true;
	if (!q->unanswered || n <= 0 || n == want || n > q->last_id)
		return false;
	q->unanswered--;
	return true;
}

/*
 * One message. 0: *reply is what came, owned; or NULL when it was an event (queued) or a late reply
 * (dropped). GW__NOTHING_CAME: nothing within the limit. A failure leaves the connection broken.
 */
static int step(struct gw__qmp *q, json_int_t want, uint64_t deadline_ns, json_t **reply, struct gw__error *error)
{
	char *line;
	size_t n;
	*reply = NULL;
	int err = gw__qmp_line_next(&q->line, deadline_ns, &line, &n);
	if (err == GW__NOTHING_CAME)
		return GW__NOTHING_CAME;
	if (err)
		return say_broken(q, err, error);
	json_t *j = gw__qmp_parse(line, n);
	bool rest = !j && q->midway;
	q->midway = false;
	if (rest)
		return 0;
	if (!j)
		return say_not_json(q, line, error);
	if (json_is_string(json_object_get(j, "event"))) {
		gw__qmp_keep_event(q, j, n);
		return 0;
	}
	if (drop_late(q, j, want)) {
		json_decref(j);
		return 0;
	}
	*reply = j;
	return 0;
}

/* The limit is asked after every message: a flood of events must not outlive it. */
static int await_reply(struct gw__qmp *q, json_int_t want, uint64_t deadline_ns, json_t **reply, struct gw__error *error)
{
	do {
		int err = step(q, want, deadline_ns, reply, error);
		if (err || *reply)
			return err;
	} while (gw__qmp_left_ms(deadline_ns) != 0);
	return GW__NOTHING_CAME;
}

static int say_unasked(struct gw__qmp *q, json_t *reply, struct gw__error *error)
{
	q->broken = true;
	json_decref(reply);
	return gw__error_set(error, -EPROTO, "QEMU at %s answered without having been asked", q->address);
}

/* Takes the reply over. */
static int judge_reply(struct gw__qmp *q, const char *command, json_t *reply, json_t **result, struct gw__error *error)
{
	json_t *id = json_object_get(reply, "id");
	json_t *value = json_object_get(reply, "return");
	json_t *json_error = json_object_get(reply, "error");
	int err = 0;
	/* Without an id it can only be the complaint that our line did not parse. */
	if (id ? json_integer_value(id) != q->last_id : !json_error) {
		q->broken = true;
		err = gw__qmp_note_anomaly(q, command, "a reply with another id", error);
	} else if (json_error) {
		char text[480];
		gw__qmp_get_text(text, sizeof text, json_error, "desc");
		err = gw__error_set(error, -EREMOTEIO, "QEMU at %s refused `%s`: %s", q->address, command,
			text[0] ? text : "it gave no reason");
	} else if (!value) {
		q->broken = true;
		err = gw__qmp_note_anomaly(q, command, "neither a result nor an error", error);
	} else if (result) {
		*result = json_incref(value);
	}
	json_decref(reply);
	return err;
}

static int say_late(struct gw__qmp *q, const char *command, struct gw__error *error)
{
	q->unanswered++;
	return gw__error_set(error, -ETIMEDOUT, "QEMU at %s did not answer `%s` within %d ms", q->address, command, q->call_ms);
}

/* Before one more command may be sent: wait until QEMU has caught up with those it has not answered. */
static int catch_up(struct gw__qmp *q, const char *command, uint64_t deadline_ns, struct gw__error *error)
{
	while (q->unanswered >= GW__QMP_UNANSWERED_MAX) {
		json_t *reply;
		int err = step(q, 0, deadline_ns, &reply, error);
		if (err < 0)
			return err;
		if (reply)
			return say_unasked(q, reply, error);
		if (q->unanswered >= GW__QMP_UNANSWERED_MAX && gw__qmp_left_ms(deadline_ns) == 0)
			return gw__error_set(error, -ETIMEDOUT, "QEMU at %s has not answered %u commands: `%s` was not sent", q->address,
				q->unanswered, command);
	}
	return 0;
}

/* Takes `arguments` over. */
static char *encode(const char *verb, const char *command, json_t *arguments, json_int_t id)
{
	json_t *j = json_pack("{s:s, s:o*, s:I}", verb, command, "arguments", arguments, "id", id);
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	return text;
}

/* What a QEMU that has ended said before: the events of its end are among it. */
static void hear_last_words(struct gw__qmp *q)
{
	json_t *late;
	while (!q->broken && step(q, 0, gw__qmp_deadline_ns(0), &late, NULL) == 0)
		json_decref(late);
}

static int send_command(struct gw__qmp *q, const char *verb, const char *command, json_t *arguments, int fd, uint64_t deadline_ns,
	struct gw__error *error)
{
	char *text = encode(verb, command, arguments, ++q->last_id);
	if (!text)
		return gw__error_set(error, -EINVAL, "the arguments of `%s` cannot be said in JSON", command);
	size_t n = strlen(text);
	text[n] = '\n'; /* in place of the NUL: the length says where it ends */
	int err = gw__qmp_line_send(&q->line, text, n + 1, fd, deadline_ns);
	free(text);
	if (err == -EPIPE || err == -ECONNRESET)
		hear_last_words(q);
	return err ? say_broken(q, err, error) : 0;
}

/* Takes `arguments` over. */
static int exchange(struct gw__qmp *q, bool oob, const char *command, json_t *arguments, int fd, json_t **result, struct gw__error *error)
{
	uint64_t deadline_ns = gw__qmp_deadline_ns(q->call_ms);
	int err = 0;
	if (q->broken)
		err = gw__error_set(error, -ECONNRESET, "the QMP connection to %s failed before `%s`", q->address, command);
	else if (!oob)
		err = catch_up(q, command, deadline_ns, error);
	if (err) {
		json_decref(arguments);
		return err;
	}
	err = send_command(q, oob ? "exec-oob" : "execute", command, arguments, fd, deadline_ns, error);
	if (err)
		return err;
	json_t *reply = NULL;
	err = await_reply(q, q->last_id, deadline_ns, &reply, error);
	if (err == GW__NOTHING_CAME)
		return say_late(q, command, error);
	return err ? err : judge_reply(q, command, reply, result, error);
}

static int execute(struct gw__qmp *q, bool oob, const char *command, json_t *arguments, int fd, json_t **result, struct gw__error *error)
{
	tell_wait(q, q->call_ms);
	int err = exchange(q, oob, command, arguments, fd, result, error);
	tell_wait(q, 0);
	return err;
}

int gw__qmp_call(struct gw__qmp *q, const char *command, json_t *arguments, json_t **result, struct gw__error *error)
{
	return execute(q, false, command, arguments, -1, result, error);
}

int gw__qmp_call_oob(struct gw__qmp *q, const char *command, json_t *arguments, json_t **result, struct gw__error *error)
{
	return execute(q, q->oob, command, arguments, -1, result, error);
}

int gw__qmp_call_fd(struct gw__qmp *q, const char *command, json_t *arguments, int fd, json_t **result, struct gw__error *error)
{
	if (q->unix_socket)
		return execute(q, false, command, arguments, fd, result, error);
	json_decref(arguments);
	return gw__error_set(error, -EOPNOTSUPP, "`%s` passes a descriptor, which takes a QMP connection over a unix socket; %s is not",
		command, q->address);
}

int gw__qmp_event(struct gw__qmp *q, int timeout_ms, json_t **event, struct gw__error *error)
{
	uint64_t deadline_ns = gw__qmp_deadline_ns(timeout_ms);
	tell_wait(q, timeout_ms);
	while (!q->count) {
		if (q->broken)
			return gw__error_set(error, -ECONNRESET, "the QMP connection to %s has failed", q->address);
		json_t *reply;
		int err = step(q, 0, deadline_ns, &reply, error);
		if (err)
			return err;
		if (reply)
			return say_unasked(q, reply, error);
	}
	*event = json_incref(q->queue[q->first].event);
	gw__qmp_drop_oldest(q);
	return 0;
}

uint64_t gw__qmp_event_us(const json_t *event)
{
	const json_t *t = json_object_get(event, "timestamp");
	return (uint64_t)json_integer_value(json_object_get(t, "seconds")) * 1000000 +
	       (uint64_t)json_integer_value(json_object_get(t, "microseconds"));
}
