/* SPDX-License-Identifier: MIT */
/*
 * The other end of a QMP connection, following a script: what a client's parser must survive.
 *
 * It is no QEMU and proves nothing about one. A script is a list of steps, the last of which is CLOSE, REPEAT
 * or SILENT, run by a thread that owns the server's end of a socketpair; the test owns the client's end.
 * Nothing sleeps: every step ends by a byte or by the end.
 */
#ifndef GW_TESTS_FAKE_QMP_H
#define GW_TESTS_FAKE_QMP_H

#include <pthread.h>

#include "qmp/qmp.h"

#define GREETING                                                                                                                           \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 13, \"minor\": 0, \"major\": 10}, \"package\": "                                   \
	"\"Debian 1:10\"}, "                                                                                                               \
	"\"capabilities\": [\"oob\"]}}\r\n"

enum fake_kind {
	FAKE_CLOSE,  /* close the connection */
	FAKE_SAY,    /* send `text` */
	FAKE_DRIP,   /* send `text` one byte at a time */
	FAKE_HEAR,   /* read a line, which must contain `text` (and count the descriptors that came along) */
	FAKE_REPEAT, /* send `text` until the client has gone */
	FAKE_SILENT, /* say nothing until the client has gone */
};

struct fake_step {
	enum fake_kind kind;
	const char *text;
};

struct fake_qmp {
	int client_fd; /* to be taken over by the client */
	int fd;
	const struct fake_step *steps;
	pthread_t thread;
	/* Written by the thread, read after the join. */
	unsigned fds;
	char complaint[300]; /* what was heard instead, "" if all was as written */
};

void fake_start(struct fake_qmp *f, const struct fake_step *steps);
void fake_join(struct fake_qmp *f); /* after the client has closed its end */

/* A client behind its negotiation; the script, which starts with HELLO, goes on from there. */
struct session {
	struct fake_qmp fake;
	struct gw__qmp *q;
	struct gw__error error;
};

enum { PATIENCE_MS = 20000, SHORT_MS = 40 };

#define HELLO                                                                                                                              \
	{FAKE_SAY, GREETING}, {FAKE_HEAR, "\"enable\":[\"oob\"]"}, { FAKE_SAY, "{\"return\": {}, \"id\": 1}\r\n" }
#define REST_IS_SILENCE                                                                                                                    \
	{                                                                                                                                  \
		FAKE_SILENT, NULL                                                                                                          \
	}

void begin(struct session *s, const struct fake_step *steps);
void finish(struct session *s); /* and the client said what the script wanted */

#endif
