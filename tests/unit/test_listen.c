/* SPDX-License-Identifier: MIT */
/* Listening: ports the kernel chooses, IPv6, socket files that are left over or busy, vsock
 * loopback. */
#include "chan_unit.h"

#include <libgen.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FAR_MS = 20000, SOON_MS = 50 };

static int try_listen(const char *text, int ms, struct gw__listener **l, struct gw__error *error)
{
	struct gw__uri uri = uri_of(text);
	struct gw__io_opts o = limits(ms);
	return gw__io_listen(&uri, &o, l, error);
}

static int try_connect(const char *text, int ms, struct gw__chan **c, struct gw__error *error)
{
	struct gw__uri uri = uri_of(text);
	struct gw__io_opts o = limits(ms);
	return gw__io_open_out(&uri, &o, c, error);
}

/* Both directions and the end, over a fresh connection to `text`. */
static void assert_talks(struct gw__listener *l, const char *text)
{
	struct gw__chan *there, *here;
	struct gw__error error = {0};
	char got[8];
	assert_ok(try_connect(text, FAR_MS, &there, &error), error);
	assert_ok(gw__listener_accept(l, &here, &error), error);
	assert_true(there->two_way && here->two_way);
	assert_string_equal(there->name, text);
	assert_int_equal(gw__chan_write_all(there, "ping", 4, &error), 0);
	assert_int_equal(gw__chan_end_writes(there, &error), 0);
	read_all(here, got, 4);
	assert_int_equal(gw__chan_read(here, got, 1, &error), 0);
	assert_int_equal(gw__chan_write_all(here, "pong", 4, &error), 0);
	assert_int_equal(gw__chan_close(&here, &error), 0);
	read_all(there, got, 4);
	assert_memory_equal(got, "pong", 4);
	assert_int_equal(gw__chan_read(there, got, 1, &error), 0);
	assert_int_equal(gw__chan_close(&there, &error), 0);
}

static const char *port_of(const struct gw__listener *l) { return strrchr(gw__listener_uri(l), ':') + 1; }

/* --- tcp -------------------------------------------------------------------------------------------- */

static void tcp_reports_the_port_the_kernel_chose(void **state)
{
	struct gw__listener *l;
	struct gw__error error = {0};
	assert_ok(try_listen("tcp:127.0.0.1:0", FAR_MS, &l, &error), error);
	assert_int_equal(strncmp(gw__listener_uri(l), "tcp:127.0.0.1:", 14), 0);
	assert_in_range(atoi(port_of(l)), 1, 65535);
	assert_talks(l, gw__listener_uri(l));
	assert_talks(l, gw__listener_uri(l));
	gw__listener_close(l);
	gw__listener_close(NULL);
}

static void tcp_without_a_host_is_any_address(void **state)
{
	static const char *const any[] = {"tcp:0:0", "tcp::0", "tcp:localhost:0"};
	char text[64];
	for (int i = 0; i < 3; i++) {
		struct gw__listener *l;
		struct gw__error error = {0};
		assert_ok(try_listen(any[i], FAR_MS, &l, &error), error);
		snprintf(text, sizeof text, "tcp:127.0.0.1:%s", port_of(l));
		assert_talks(l, text);
		assert_talks(l, gw__listener_uri(l)); /* what is reported can be connected to */
		gw__listener_close(l);
	}
}

static bool has_ipv6(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	bool has = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
	if (fd >= 0)
		close(fd);
	return has;
}

static void ipv6_works_on_loopback(void **state)
{
	static const char *const hosts[] = {"tcp:[::1]:0", "tcp::0", "tcp:[::]:0", "tcp:localhost:0"};
	char text[64];
	if (!has_ipv6()) {
		print_message("SKIPPED: ipv6_works_on_loopback: this machine has no ::1\n");
		skip();
	}
	for (int i = 0; i < 4; i++) {
		struct gw__listener *l;
		struct gw__error error = {0};
		assert_ok(try_listen(hosts[i], FAR_MS, &l, &error), error);
		if (i < 3) /* localhost may be IPv4 only */
			assert_int_equal(strncmp(gw__listener_uri(l), i ? "tcp:[::]:" : "tcp:[::1]:", i ? 9 : 10), 0);
		snprintf(text, sizeof text, "tcp:%s:%s", i < 3 ? "[::1]" : "localhost", port_of(l));
		assert_talks(l, text);
		gw__listener_close(l);
	}
}

static void a_busy_tcp_port_is_refused(void **state)
{
	struct gw__listener *l, *second;
	struct gw__error error = {0};
	assert_ok(try_listen("tcp:127.0.0.1:0", FAR_MS, &l, &error), error);
	assert_int_equal(try_listen(gw__listener_uri(l), FAR_MS, &second, &error), -EADDRINUSE);
	assert_says(error, "another program listens there");
	gw__listener_close(l);
	gw__error_clear(&error);
	assert_int_equal(try_listen("tcp:192.0.2.1:0", FAR_MS, &second, &error), -EADDRNOTAVAIL); /* documentation net */
	assert_says(error, "no network interface");
}

/* --- accept ----------------------------------------------------------------------------------------- */

static void accepting_has_a_limit_and_can_be_cancelled(void **state)
{
	struct gw__listener *l;
	struct gw__chan *c;
	struct gw__error error = {0};
	assert_ok(try_listen("tcp:127.0.0.1:0", SOON_MS, &l, &error), error);
	uint64_t start = now_ms();
	assert_int_equal(gw__listener_accept(l, &c, &error), -ETIMEDOUT);
	assert_in_range(now_ms() - start, SOON_MS - 1, FAR_MS);
	assert_says(error, "nobody connected to tcp:127.0.0.1:");
	gw__listener_close(l);

	struct gw__uri uri = uri_of("tcp:127.0.0.1:0");
	struct gw__io_opts o = limits(-1);
	o.cancel_fd = eventfd(1, EFD_CLOEXEC);
	gw__error_clear(&error);
	assert_ok(gw__io_listen(&uri, &o, &l, &error), error);
	assert_int_equal(gw__listener_accept(l, &c, &error), -ECANCELED);
	gw__listener_close(l);
	close(o.cancel_fd);
}

/* --- unix ------------------------------------------------------------------------------------------- */

static void a_unix_socket_is_not_for_everybody(void **state)
{
	struct folder *f = *state;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(1000);
	struct gw__listener *l;
	struct stat st;
	struct gw__uri uri = uri_in(f, "unix", "private", "");
	mode_t before = umask(0);
	int r = gw__io_listen(&uri, &o, &l, &error);
	umask(before);
	assert_ok(r, error);
	assert_int_equal(stat(uri.target, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0770);
	gw__listener_close(l);
}

static void to_is_a_range_of_ports(void **state)
{
	(void)state;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(1000);
	struct gw__listener *first, *second;
	struct gw__uri uri = uri_of("tcp:127.0.0.1:0");
	char text[64];
	assert_ok(gw__io_listen(&uri, &o, &first, &error), error);
	unsigned port = (unsigned)atoi(strrchr(gw__listener_uri(first), ':') + 1);
	snprintf(text, sizeof text, "tcp:127.0.0.1:%u,to=%u,ipv4=on", port, port + 200 < 65535 ? port + 200 : 65535);
	uri = uri_of(text);
	assert_ok(gw__io_listen(&uri, &o, &second, &error), error);
	assert_true(atoi(strrchr(gw__listener_uri(second), ':') + 1) > (int)port);
	gw__listener_close(first);
	gw__listener_close(second);
}

static void a_unix_listener_removes_its_file_only(void **state)
{
	struct folder *f = *state;
	struct gw__listener *l;
	struct gw__error error = {0};
	struct gw__uri uri = uri_in(f, "unix", "s", "");
	assert_ok(try_listen(uri.text, FAR_MS, &l, &error), error);
	assert_string_equal(gw__listener_uri(l), uri.text);
	assert_talks(l, uri.text);
	gw__listener_close(l);
	assert_int_equal(access(path_of(f, "s"), F_OK), -1);

	assert_ok(try_listen(uri.text, FAR_MS, &l, &error), error);
	unlink(path_of(f, "s")); /* somebody else's file takes its place */
	fclose(fopen(f->file, "w"));
	gw__listener_close(l);
	assert_int_equal(access(f->file, F_OK), 0);
}

static void a_left_over_socket_file_is_replaced(void **state)
{
	struct folder *f = *state;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct gw__listener *l;
	struct gw__chan *c;
	struct gw__error error = {0};
	strcpy(a.sun_path, path_of(f, "stale"));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 1), 0);
	close(fd); /* as kill -9 leaves it */
	struct gw__uri uri = uri_in(f, "unix", "stale", "");
	assert_int_equal(try_connect(uri.text, FAR_MS, &c, &error), -ECONNREFUSED);
	assert_says(error, "nobody listens at unix:");
	gw__error_clear(&error);
	assert_ok(try_listen(uri.text, FAR_MS, &l, &error), error);
	assert_talks(l, uri.text);
	gw__listener_close(l);
	assert_int_equal(try_connect(uri.text, FAR_MS, &c, &error), -ENOENT);
	assert_says(error, "start the destination first");
}

/* A waiting QEMU blocks on any connection, so looking must not make one. */
/* In /tmp what another user left is not root's to take away. */
static void a_left_over_socket_of_another_user_stays(void **state)
{
	struct folder *f = *state;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct gw__listener *l;
	struct gw__error error = {0};
	struct stat st;
	char folder[PATH_MAX];
	if (geteuid()) {
		print_message("a_left_over_socket_of_another_user_stays: skipped, needs root\n");
		skip();
	}
	strcpy(a.sun_path, path_of(f, "theirs"));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	close(fd);
	assert_int_equal(chown(a.sun_path, 65534, 65534), 0);
	strcpy(folder, a.sun_path);
	assert_int_equal(chmod(dirname(folder), 01777), 0);
	struct gw__uri uri = uri_in(f, "unix", "theirs", "");
	assert_int_equal(try_listen(uri.text, FAR_MS, &l, &error), -EPERM);
	assert_says(error, "a socket that user 65534 left");
	assert_int_equal(lstat(a.sun_path, &st), 0);
}

static void a_busy_socket_is_refused_and_not_disturbed(void **state)
{
	static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
	struct folder *f = *state;
	for (int i = 0; i < 3; i++) {
		struct sockaddr_un a = {.sun_family = AF_UNIX};
		struct gw__listener *l;
		struct gw__error error = {0};
		strcpy(a.sun_path, path_of(f, "busy"));
		int fd = socket(AF_UNIX, types[i], 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
		if (types[i] != SOCK_DGRAM)
			assert_int_equal(listen(fd, 1), 0);
		struct gw__uri uri = uri_in(f, "unix", "busy", "");
		assert_int_equal(try_listen(uri.text, FAR_MS, &l, &error), -EADDRINUSE);
		assert_says(error, "another program listens there");
		struct pollfd p = {.fd = fd, .events = POLLIN};
		assert_int_equal(poll(&p, 1, 0), 0);
		close(fd);
		unlink(a.sun_path);
	}
}

static void a_file_in_the_way_is_not_removed(void **state)
{
	struct folder *f = *state;
	struct gw__listener *l;
	struct gw__error error = {0};
	fclose(fopen(path_of(f, "precious"), "w"));
	struct gw__uri uri = uri_in(f, "unix", "precious", "");
	assert_int_equal(try_listen(uri.text, FAR_MS, &l, &error), -EEXIST);
	assert_says(error, "not a socket");
	assert_int_equal(access(path_of(f, "precious"), F_OK), 0);
	gw__error_clear(&error);
	uri = uri_in(f, "unix", "absent/s", "");
	assert_int_equal(try_listen(uri.text, FAR_MS, &l, &error), -ENOENT);
	assert_says(error, "cannot listen at unix:");
}

/* --- the rest --------------------------------------------------------------------------------------- */

static void vsock_works_on_loopback(void **state)
{
	struct gw__listener *l;
	struct gw__chan *c;
	struct gw__error error = {0};
	if (try_listen("vsock:1:4294967295", FAR_MS, &l, &error) < 0) {
		print_message("SKIPPED: vsock_works_on_loopback: %s\n", error.text);
		skip();
	}
	assert_int_equal(strncmp(gw__listener_uri(l), "vsock:1:", 8), 0);
	assert_talks(l, gw__listener_uri(l));
	char text[64];
	strcpy(text, gw__listener_uri(l));
	gw__listener_close(l);
	assert_true(try_connect(text, FAR_MS, &c, &error) < 0);
}

static void what_cannot_listen_or_be_read_says_so(void **state)
{
	struct gw__listener *l;
	struct gw__chan *c;
	struct gw__error error = {0};
	assert_int_equal(try_listen("exec:cat", FAR_MS, &l, &error), -EINVAL);
	assert_says(error, "expected tcp:, unix: or vsock:");
	struct gw__uri tcp = uri_of("tcp:127.0.0.1:1"), file = uri_of("file:/x");
	assert_true(gw__uri_listens(&tcp));
	assert_false(gw__uri_listens(&file));
	struct gw__io_opts o = limits(FAR_MS);
	gw__error_clear(&error);
	assert_int_equal(gw__io_open_in(&tcp, &o, &c, &error), -EOPNOTSUPP);
	assert_says(error, "listen there");
}

static void a_listening_socket_is_not_a_channel(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct gw__chan *c;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(FAR_MS);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(gw__chan_take_fd(fd, "fd:5", &o, &c, &error), -EINVAL);
	assert_says(error, "fd:5 is a listening socket");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp_reports_the_port_the_kernel_chose),
		cmocka_unit_test(tcp_without_a_host_is_any_address),
		cmocka_unit_test(ipv6_works_on_loopback),
		cmocka_unit_test(a_busy_tcp_port_is_refused),
		cmocka_unit_test(accepting_has_a_limit_and_can_be_cancelled),
		cmocka_unit_test_setup_teardown(a_unix_socket_is_not_for_everybody, make_folder, remove_folder),
		cmocka_unit_test(to_is_a_range_of_ports),
		cmocka_unit_test_setup_teardown(a_unix_listener_removes_its_file_only, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_left_over_socket_file_is_replaced, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_left_over_socket_of_another_user_stays, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_busy_socket_is_refused_and_not_disturbed, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_file_in_the_way_is_not_removed, make_folder, remove_folder),
		cmocka_unit_test(vsock_works_on_loopback),
		cmocka_unit_test(what_cannot_listen_or_be_read_says_so),
		cmocka_unit_test(a_listening_socket_is_not_a_channel),
	};
	return cmocka_run_group_tests_name("listen", tests, NULL, NULL);
}
