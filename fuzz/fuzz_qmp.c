/* SPDX-License-Identifier: MIT */
/*
 * Everything a QMP server may say: greeting, replies, events, through every query that interprets them.
 *
 * The whole input is in the socket before the client starts, so nothing waits. Ids count from 1; the greeting
 * and the answer to its negotiation are given, unless the input starts with a zero byte.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "qmp/qmp.h"

enum { INPUT_MAX_BYTES = 64 << 10 }; /* fits a socket's buffer */

static const char hello[] = "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 10, \"minor\": 0}}}}\n"
			    "{\"return\": {}, \"id\": 1}\n";

static void ask_everything(struct gw__qmp *q)
{
	struct gw__error error = {0};
	struct gw__qmp_migration m;
	struct gw__qmp_status s;
	struct gw__qmp_machine machine;
	struct gw__qmp_block *blocks = NULL;
	struct gw__qmp_settings *settings = NULL;
	unsigned n;
	json_t *event;
	gw__qmp_query_migrate(q, &m, &error);
	gw__qmp_query_status(q, &s, &error);
	gw__qmp_query_machine(q, &machine, &error);
	if (gw__qmp_query_blocks(q, &blocks, &n, &error) == 0)
		free(blocks);
	if (gw__qmp_settings_save(q, &settings, &error) == 0)
		gw__qmp_settings_restore(q, settings, &error);
	gw__qmp_settings_free(settings);
	while (gw__qmp_event(q, 0, &event, &error) == 0)
		json_decref(event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	int pair[2];
	struct gw__qmp *q = NULL;
	if (n == 0 || n > INPUT_MAX_BYTES || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return 0;
	if (data[0] && write(pair[1], hello, sizeof hello - 1) < 0)
		abort();
	if (write(pair[1], data + !data[0], n - !data[0]) < 0)
		abort();
	shutdown(pair[1], SHUT_WR);
	if (gw__qmp_take_fd(pair[0], -1, &q, NULL) == 0)
		ask_everything(q);
	gw__qmp_close(q);
	close(pair[1]);
	return 0;
}
