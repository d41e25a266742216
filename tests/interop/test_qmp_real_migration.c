/* SPDX-License-Identifier: MIT */
/* The QMP client drives a real migration, and lives through a stuck QEMU.
 * test_qmp_real_migration 7.2|10.0|11.1 */
#include "qmp_real.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

/* Reads a stream to its end into a file, so that QEMU can write it all. */
struct drain {
	int from, to;
	pthread_t thread;
	uint64_t bytes; /* after the join */
};

static void *run_drain(void *arg)
{
	struct drain *d = arg;
	char buffer[65536];
	ssize_t n;
	while ((n = read(d->from, buffer, sizeof buffer)) > 0) {
		if (write(d->to, buffer, (size_t)n) != n)
			break;
		d->bytes += (uint64_t)n;
	}
	close(d->from);
	return NULL;
}

static void wait_until_ended(struct bench *b, struct gw__qmp_migration *m)
{
	time_t end = time(NULL) + PATIENCE_MS / 1000;
	do {
		assert_ok(b, gw__qmp_query_migrate(b->q, m, &b->error));
		assert_true(time(NULL) < end);
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	} while (!m->ended);
}

static bool had_event(struct bench *b, const char *name)
{
	json_t *event;
	bool found = false;
	while (!found && gw__qmp_event(b->q, 0, &event, &b->error) == 0) {
		found = strcmp(json_string_value(json_object_get(event, "event")), name) == 0;
		json_decref(event);
	}
	return found;
}

static void a_descriptor_takes_a_whole_stream(void **state)
{
	(void)state;
	static const char *const args[] = {"-machine", "pc", "-m", "16", NULL};
	struct bench b;
	struct gw__qmp_migration m;
	struct gw__qmp_status st;
	char path[100];
	unsigned char magic[8];
	int pair[2];
	bench_start(&b, args);
	snprintf(path, sizeof path, "%s/stream", b.vm.dir);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	struct drain d = {.from = pair[0], .to = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
	assert_int_equal(pthread_create(&d.thread, NULL, run_drain, &d), 0);
	assert_ok(&b, gw__qmp_call_fd(b.q, "getfd", json_pack("{s:s}", "fdname", "out"), pair[1], NULL, &b.error));
	assert_int_equal(close(pair[1]), 0); /* it stayed ours */
	assert_ok(&b, gw__qmp_call(b.q, "migrate", json_pack("{s:s}", "uri", "fd:out"), NULL, &b.error));
	wait_until_ended(&b, &m);
	pthread_join(d.thread, NULL);
	assert_string_equal(m.error, "");
	assert_true(m.completed && !m.failed);
	assert_true(m.total_bytes >= 16 << 20);
	assert_int_equal(m.page_bytes, 4096);
	assert_int_equal(m.remaining_bytes, 0);
	assert_true(m.transferred_bytes > 0 && m.dirty_sync_count > 0 && m.total_ms > 0);
	assert_true(d.bytes > 100000);
	assert_int_equal(pread(d.to, magic, sizeof magic, 0), sizeof magic);
	assert_memory_equal(magic, "QEVM\0\0\0\3", 8);
	close(d.to);
	assert_ok(&b, gw__qmp_query_status(b.q, &st, &b.error));
	assert_string_equal(st.name, "postmigrate");
	assert_true(had_event(&b, "STOP"));
	bench_stop(&b);
}

static void a_failure_says_why(void **state)
{
	(void)state;
	struct bench b;
	struct gw__qmp_migration m;
	char uri[120];
	bench_start(&b, (const char *const[]){"-S", "-m", "16", NULL});
	snprintf(uri, sizeof uri, "unix:%s/nobody", b.vm.dir);
	assert_ok(&b, gw__qmp_call(b.q, "migrate", json_pack("{s:s}", "uri", uri), NULL, &b.error));
	wait_until_ended(&b, &m);
	assert_true(m.failed);
	assert_non_null(strstr(m.error, "No such file or directory"));
	bench_stop(&b);
}

static int connect_to(const char *address)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	a.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

/* Since 8.0 a destination with multifd blocks its main loop on a connection that says nothing. */
static void a_stuck_qemu_answers_out_of_band(void **state)
{
	(void)state;
	struct bench b;
	struct gw__qmp_migration m;
	bench_start(&b, (const char *const[]){"-m", "16", "-incoming", "defer", NULL});
	assert_ok(&b, gw__qmp_set_capabilities(b.q, &(struct gw__qmp_capability){"multifd", true}, 1, &b.error));
	json_t *where = json_pack("{s:s}", "uri", "tcp:127.0.0.1:0");
	if (version_number >= 1000) /* 7.2 does not know it */
		json_object_set_new(where, "exit-on-error", json_false());
	assert_ok(&b, gw__qmp_call(b.q, "migrate-incoming", where, NULL, &b.error));
	assert_ok(&b, gw__qmp_query_migrate(b.q, &m, &b.error));
	int silent = connect_to(m.address);
	gw__qmp_set_call_limit(b.q, version_number >= 800 ? SHORT_MS : PATIENCE_MS);
	int err = 0;
	for (int i = 0; i < 20 && err == 0; i++) /* it accepts when it gets to it */
		err = gw__qmp_call(b.q, "query-name", NULL, NULL, &b.error);
	if (version_number >= 800)
		assert_says(&b.error, err, -ETIMEDOUT, "did not answer `query-name` within 300 ms");
	else
		assert_int_equal(err, 0);
	gw__qmp_set_call_limit(b.q, PATIENCE_MS);
	json_t *yanks = NULL;
	assert_ok(&b, gw__qmp_call_oob(b.q, "query-yank", NULL, &yanks, &b.error));
	assert_true(json_array_size(yanks) > 0);
	json_decref(yanks);
	close(silent);
	struct gw__qmp_status st;
	assert_ok(&b, gw__qmp_query_status(b.q, &st, &b.error));
	assert_string_equal(st.name, "inmigrate");
	bench_stop(&b);
}

int main(int argc, char **argv)
{
	int status = find_qemu(argc, argv);
	if (status)
		return status;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_descriptor_takes_a_whole_stream),
		cmocka_unit_test(a_failure_says_why),
		cmocka_unit_test(a_stuck_qemu_answers_out_of_band),
	};
	return cmocka_run_group_tests_name("qmp drives a real migration", tests, NULL, NULL);
}
