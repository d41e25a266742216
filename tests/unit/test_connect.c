/* SPDX-License-Identifier: MIT */
/* Connecting: every address of a host in turn, within the limit, with a sentence that says what to do. */
#include "chan_unit.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/math.h"

enum { FAR_MS = 20000, SOON_MS = 50 };

static int try_connect(const char *text, int ms, struct gw__chan **c, struct gw__error *error)
{
	struct gw__uri uri = uri_of(text);
	struct gw__io_opts o = limits(ms);
	return gw__io_open_out(&uri, &o, c, error);
}

/* --- our own resolver: stands before the C library's, so that a host has the addresses a test wants - */

static struct {
	struct sockaddr_in6 room[4];
	struct addrinfo found[4];
	int n, code;
} host;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	if (host.code)
		return host.code;
	for (int i = 0; i < host.n; i++)
		host.found[i].ai_next = i + 1 < host.n ? &host.found[i + 1] : NULL;
	*found = host.n ? host.found : NULL;
	return 0;
}

void freeaddrinfo(struct addrinfo *found) {}

static void add_address(const void *addr, socklen_t bytes)
{
	memcpy(&host.room[host.n], addr, bytes);
	host.found[host.n] = (struct addrinfo){.ai_addr = (struct sockaddr *)&host.room[host.n], .ai_addrlen = bytes};
	host.n++;
}

static void add_ipv4(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	add_address(&a, sizeof a);
}

static void forget_host(void) { memset(&host, 0, sizeof host); }

/* --- peers ------------------------------------------------------------------------------------------ */

/* A loopback port with nobody behind it (backlog -1: bound, so nobody else gets it) or with a listener. */
static int open_port(int backlog, int *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

/* --- tests ------------------------------------------------------------------------------------------ */

static void nobody_there_is_a_sentence(void **state)
{
	char text[64], want[128];
	struct gw__chan *c;
	struct gw__error error = {0};
	int port, fd = open_port(-1, &port);
	forget_host();
	add_ipv4(port);
	snprintf(text, sizeof text, "tcp:127.0.0.1:%d", port);
	assert_int_equal(try_connect(text, FAR_MS, &c, &error), -ECONNREFUSED);
	snprintf(want, sizeof want, "nobody listens at %s; start the destination first", text);
	assert_string_equal(error.text, want);
	close(fd);
}

static void every_address_of_a_host_is_tried(void **state)
{
	struct gw__chan *c;
	struct gw__error error = {0};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int refusing, good, fd = open_port(-1, &refusing), l = open_port(5, &good);
	v6.sin6_port = htons((uint16_t)refusing);
	forget_host();
	add_address(&v6, sizeof v6); /* refused, or no IPv6 here at all */
	add_ipv4(refusing);
	add_ipv4(good);
	assert_ok(try_connect("tcp:several.example:1", FAR_MS, &c, &error), error);
	assert_int_equal(gw__chan_close(&c, &error), 0);

	/* "Refused" says more than the failures before and behind it. */
	host.n = 2;
	add_address(&(struct sockaddr){.sa_family = AF_MAX - 1}, sizeof(struct sockaddr));
	assert_int_equal(try_connect("tcp:several.example:1", FAR_MS, &c, &error), -ECONNREFUSED);
	close(fd);
	close(l);
}

/* A full accept queue drops packets, as a firewall does. */
static void an_address_that_swallows_packets_leaves_time_for_the_next(void **state)
{
	struct gw__chan *held[8] = {0}, *c;
	struct gw__error error = {0};
	int silent, good, s = open_port(0, &silent), l = open_port(5, &good), n = 0;
	forget_host();
	add_ipv4(silent);
	while (n < 8 && try_connect("tcp:full.example:1", SOON_MS, &held[n], &error) == 0)
		n++;
	assert_int_equal(error.code, -ETIMEDOUT);
	assert_says(error, "no answer from tcp:full.example:1");

	add_ipv4(good);
	gw__error_clear(&error);
	uint64_t start = now_ms();
	assert_ok(try_connect("tcp:several.example:1", 4 * SOON_MS, &c, &error), error);
	assert_in_range(now_ms() - start, 2 * SOON_MS - 1, FAR_MS);
	gw__chan_close(&c, NULL);

	struct gw__uri uri = uri_of("tcp:several.example:1");
	struct gw__io_opts o = limits(-1);
	o.cancel_fd = eventfd(1, EFD_CLOEXEC);
	assert_int_equal(gw__io_open_out(&uri, &o, &c, NULL), -ECANCELED);
	close(o.cancel_fd);
	for (int i = 0; i < n; i++)
		gw__chan_close(&held[i], NULL);
	close(s);
	close(l);
}

static void what_the_resolver_says_is_a_sentence(void **state)
{
	static const struct {
		int code, err;
		const char *part;
	} bad[] = {
		{EAI_NONAME, -EHOSTUNREACH, "is its name spelled right?"},
		{EAI_AGAIN, -EHOSTUNREACH, "cannot find this host"},
		{EAI_MEMORY, -ENOMEM, "cannot find this host"},
		{EAI_SERVICE, -EINVAL, "no service has the name \"strange\""},
	};
	struct gw__chan *c;
	struct gw__error error = {0};
	for (size_t i = 0; i < GW__LEN(bad); i++) {
		forget_host();
		host.code = bad[i].code;
		gw__error_clear(&error);
		assert_int_equal(try_connect("tcp:host.example:strange", FAR_MS, &c, &error), bad[i].err);
		assert_says(error, bad[i].part);
	}
	forget_host();
	gw__error_clear(&error);
	assert_int_equal(try_connect("tcp:no.address.example:1", FAR_MS, &c, &error), -EHOSTUNREACH);
	gw__error_clear(&error);
	assert_int_equal(try_connect("tcp::4444", FAR_MS, &c, &error), -EINVAL);
	assert_says(error, "no host to connect to");
	gw__error_clear(&error);
	assert_int_equal(try_connect("tcp:127.0.0.1:4444,to=4450", FAR_MS, &c, &error), -EINVAL);
	assert_says(error, "is for a side that listens");
}

/* A unix listener whose queue is full neither refuses nor answers. */
static void a_full_unix_listener_is_waited_for_within_the_limit(void **state)
{
	struct folder *f = *state;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct gw__chan *c, *first;
	struct gw__error error = {0};
	strcpy(a.sun_path, path_of(f, "full"));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 0), 0);
	struct gw__uri uri = uri_in(f, "unix", "full", "");
	assert_ok(try_connect(uri.text, FAR_MS, &first, &error), error);
	uint64_t start = now_ms();
	assert_int_equal(try_connect(uri.text, SOON_MS, &c, &error), -ETIMEDOUT);
	assert_in_range(now_ms() - start, SOON_MS - 1, FAR_MS);
	assert_says(error, "no answer from unix:");
	assert_null(strstr(error.text, "firewall"));
	struct gw__io_opts o = limits(-1);
	o.cancel_fd = eventfd(1, EFD_CLOEXEC);
	assert_int_equal(gw__io_open_out(&uri, &o, &c, NULL), -ECANCELED);
	close(o.cancel_fd);
	gw__chan_close(&first, NULL);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_there_is_a_sentence),
		cmocka_unit_test(every_address_of_a_host_is_tried),
		cmocka_unit_test(an_address_that_swallows_packets_leaves_time_for_the_next),
		cmocka_unit_test(what_the_resolver_says_is_a_sentence),
		cmocka_unit_test_setup_teardown(a_full_unix_listener_is_waited_for_within_the_limit, make_folder, remove_folder),
	};
	return cmocka_run_group_tests_name("connect", tests, NULL, NULL);
}
