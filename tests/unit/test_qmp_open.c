/* SPDX-License-Identifier: MIT */
/* Addresses at which no QMP client gets served, and what an operator is told. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "qmp/qmp.h"

enum { SHORT_MS = 40 };

struct folder {
	char path[64], socket[80];
};

static void make_folder(struct folder *f)
{
	snprintf(f->path, sizeof f->path, "/tmp/godwit-qmp-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	snprintf(f->socket, sizeof f->socket, "%s/s", f->path);
}

static void assert_open_fails(const char *address, int err, const char *words)
{
	struct gw__qmp *q = NULL;
	struct gw__error error = {0};
	assert_int_equal(gw__qmp_open(address, SHORT_MS, &q, &error), err);
	if (!strstr(error.text, words))
		fail_msg("\"%s\" is not in: %s", words, error.text);
}

static int bind_socket(const char *path, int type)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static void addresses_that_lead_nowhere_are_explained(void **state)
{
	(void)state;
	struct folder f;
	char long_path[200];
	make_folder(&f);
	memset(long_path, 'x', sizeof long_path - 1);
	long_path[sizeof long_path - 1] = 0;
	assert_open_fails(f.socket, -ENOENT, "there is no QMP socket");
	assert_open_fails(f.path, -ENOTSOCK, "is not a socket");
	close(bind_socket(f.socket, SOCK_STREAM));
	assert_open_fails(f.socket, -ECONNREFUSED, "the QEMU that made this socket is gone");
	unlink(f.socket);
	int datagrams = bind_socket(f.socket, SOCK_DGRAM);
	assert_open_fails(f.socket, -EPROTOTYPE, "not a stream socket");
	close(datagrams);
	assert_open_fails(long_path, -ENAMETOOLONG, "may have 107 bytes");
	assert_open_fails("unix:", -EINVAL, "is empty");
	assert_open_fails("tcp:localhost", -EINVAL, "tcp:HOST:PORT");
	assert_open_fails("tcp:[::1:nonsense", -EHOSTUNREACH, "cannot look up");
	unlink(f.socket);
	rmdir(f.path);
}

/* QEMU listens with a short queue: behind the client it serves and the one that waits, connect itself waits.
 */
static void a_full_queue_is_a_taken_socket(void **state)
{
	(void)state;
	struct folder f;
	make_folder(&f);
	int listener = bind_socket(f.socket, SOCK_STREAM);
	assert_int_equal(listen(listener, 0), 0);
	assert_open_fails(f.socket, -ETIMEDOUT, "another one probably holds this socket");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof a.sun_path, "%s", f.socket);
	int waiting[8], n = 0;
	do
		waiting[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	while (connect(waiting[n++], (struct sockaddr *)&a, sizeof a) == 0 && n < 8);
	assert_int_equal(errno, EAGAIN);
	assert_open_fails(f.socket, -ETIMEDOUT, "another one probably holds this socket");
	while (n)
		close(waiting[--n]);
	close(listener);
	unlink(f.socket);
	rmdir(f.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_that_lead_nowhere_are_explained),
		cmocka_unit_test(a_full_queue_is_a_taken_socket),
	};
	return cmocka_run_group_tests_name("qmp open", tests, NULL, NULL);
}
