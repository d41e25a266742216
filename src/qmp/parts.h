/* SPDX-License-Identifier: MIT */
/* What the files of this room share and nobody else includes. Used by the thread that owns the connection. */
#ifndef GW_QMP_PARTS_H
#define GW_QMP_PARTS_H

#include <stddef.h>

#include "qmp/qmp.h"

/* qmp_line.c: a socket that gives whole lines. Negative answers are bare errnos: the owner knows the
 * sentence. */
enum { GW__QMP_LINE_MAX_BYTES = 16 << 20 };

struct gw__qmp_line {
	int fd;
	char *bytes; /* `start` to `end` is unread; nothing before `searched` is a line end */
	size_t start, searched, end, room;
};

uint64_t gw__qmp_deadline_ns(int timeout_ms);
int gw__qmp_left_ms(uint64_t deadline_ns);                    /* as poll wants it: 0 when it has passed, -1 for ever */
int gw__qmp_wait(int fd, short events, uint64_t deadline_ns); /* 0, GW__NOTHING_CAME, -errno */

/*
 * The next line, NUL-terminated without its end, lent until the next call. GW__NOTHING_CAME: not within the limit,
 * what came is kept. -ECONNRESET: the peer is gone. -EMSGSIZE: a line beyond the bound.
 */
int gw__qmp_line_next(struct gw__qmp_line *l, uint64_t deadline_ns, char **line, size_t *n);
size_t gw__qmp_line_partial(const struct gw__qmp_line *l); /* bytes of an unfinished line */
/* All of it, with `fd` attached to its first byte unless that is -1. 0 or -errno, -ETIMEDOUT among them. */
int gw__qmp_line_send(struct gw__qmp_line *l, const char *bytes, size_t n, int fd, uint64_t deadline_ns);
void gw__qmp_line_close(struct gw__qmp_line *l);

/* qmp_connect.c: an address becomes a connected socket, or a sentence an operator can act on. */
int gw__qmp_connect(const char *address, int timeout_ms, uint64_t deadline_ns, int *fd, struct gw__error *error);
int gw__qmp_say_busy(const char *address, int timeout_ms, struct gw__error *error); /* -ETIMEDOUT */

/* qmp_json.c: JSON from outside. */
json_t *gw__qmp_parse(char *line, size_t n); /* NULL: not one JSON object. May change the line. */
/* Printable, cut between characters. A missing or differently typed member gives "", 0 or false. */
void gw__qmp_text(char *out, size_t room, const char *text);
void gw__qmp_get_text(char *out, size_t room, const json_t *object, const char *key);
uint64_t gw__qmp_get_u64(const json_t *object, const char *key);
double gw__qmp_get_real(const json_t *object, const char *key);

enum {
	GW__QMP_QUEUE_EVENTS = 256,
	GW__QMP_QUEUE_BYTES = 4 << 20,
	GW__QMP_UNANSWERED_MAX = 4, /* QEMU reads no further after 8 commands, out-of-band ones included: stay below */
};

struct gw__qmp_queued {
	json_t *event;
	size_t bytes; /* of its line */
};

struct gw__qmp {
	struct gw__qmp_line line;
	char address[300]; /* for sentences */
	int version;
	char version_text[160];
	bool unix_socket;
	bool oob;    /* QEMU agreed to out-of-band commands */
	bool broken; /* the bytes no longer tell where a message begins, or there will be none */
	bool midway; /* adopted: the first line may be the rest of one */
	int call_ms;
	gw__qmp_waits_fn *on_wait; /* NULL: nobody is told */
	void *wait_ctx;
	json_int_t last_id, first_id; /* below first_id: of whom it was adopted from */
	unsigned unanswered;          /* calls that timed out and whose reply has not come since */
	struct gw__qmp_queued queue[GW__QMP_QUEUE_EVENTS];
	unsigned first, count;
	size_t queue_bytes;
};

/* qmp_userfaultfd.c: where QEMU's refusal in `error` comes from userfaultfd that its user may not use, adds so and the cure. The code. */
int gw__qmp_hint_userfaultfd(struct gw__qmp *q, struct gw__error *error);

/* qmp.c */
/* "QEMU at X answered `command` with something unexpected: <what>", -EPROTO. */
int gw__qmp_note_anomaly(const struct gw__qmp *q, const char *command, const char *what, struct gw__error *error);
void gw__qmp_drop_oldest(struct gw__qmp *q);
void gw__qmp_keep_event(struct gw__qmp *q, json_t *event, size_t bytes); /* takes the event over */

#endif
