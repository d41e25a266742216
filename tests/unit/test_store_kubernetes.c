/* SPDX-License-Identifier: MIT */
/*
 * A lease in a Kubernetes without one: a server that answers each question as its API is documented to, and fails where another one is asked. Nothing here
 * proves that a real Kubernetes does so.
 */
#include "unit.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/store.h"

#define LEASE(version, holder)                                                                                                             \
	"{\"kind\":\"Lease\",\"apiVersion\":\"coordination.k8s.io/v1\",\"metadata\":{\"name\":\"vm\",\"namespace\":\"default\",\"uid\":"   \
	"\"6ad9b3c1-55b0-4c47-9d2e-1f1d3a1c8a10\",\"resourceVersion\":\"" version                                                          \
	"\",\"labels\":{\"of\":\"web\"}},\"spec\":{\"holderIdentity\":\"" holder "\"}}"
#define STATUS(reason, code, message)                                                                                                      \
	"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"" message                         \
	"\",\"reason\":\"" reason "\",\"code\":" #code "}"
#define MODIFIED                                                                                                                           \
	STATUS("Conflict", 409,                                                                                                            \
		"Operation cannot be fulfilled on leases.coordination.k8s.io: the object has been modified; please try again")
#define ONE "/apis/coordination.k8s.io/v1/namespaces/default/leases/vm "
#define ALL "/apis/coordination.k8s.io/v1/namespaces/default/leases "

struct turn {
	const char *asked, *has, *has_too; /* method and path, and what else is in the question; NULL: anything */
	int status;                        /* 0: the connection is closed without an answer */
	const char *answer;
};

struct server {
	const struct turn *turns;
	unsigned n, done;
	int listener, port;
	char wrong[8192]; /* a question that was not expected */
	pthread_t thread;
};

/* With its body, whose length it says. */
static void read_question(int fd, char *text, size_t n)
{
	size_t used = 0, wanted = n;
	while (used < wanted && used < n - 1) {
		ssize_t got = read(fd, text + used, n - 1 - used);
		if (got <= 0)
			break;
		used += (size_t)got;
		text[used] = 0;
		const char *body = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "content-length:");
		if (body)
			wanted = (size_t)(body + 4 - text) + (length ? strtoul(length + strlen("content-length:"), NULL, 10) : 0);
	}
}

static void *serve(void *ctx)
{
	struct server *s = ctx;
	static char text[8192];
	for (s->done = 0; s->done < s->n && !s->wrong[0]; s->done++) {
		const struct turn *t = &s->turns[s->done];
		int fd = accept(s->listener, NULL, NULL);
		text[0] = 0;
		read_question(fd, text, sizeof text);
		if (strncmp(text, t->asked, strlen(t->asked)) || (t->has && !strstr(text, t->has)) ||
			(t->has_too && !strstr(text, t->has_too)))
			snprintf(s->wrong, sizeof s->wrong, "%s", text);
		else if (t->status)
			dprintf(fd, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
				t->status, strlen(t->answer), t->answer);
		close(fd);
	}
	return NULL;
}

static void start(struct server *s, const struct turn *turns, unsigned n)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof a;
	*s = (struct server){.turns = turns, .n = n};
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof a) || listen(s->listener, 8), 0);
	assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &bytes), 0);
	s->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void finish(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->listener);
	assert_string_equal(s->wrong, "");
	assert_int_equal(s->done, s->n);
}

static struct gw__store *open_at(const struct server *s, const char *options)
{
	struct gw__store *store = NULL;
	struct gw__error error = {0};
	char url[200];
	snprintf(url, sizeof url, "k8s+http://127.0.0.1:%d/default/vm%s", s->port, options);
	assert_ok(gw__store_open(url, &store, &error), error);
	return store;
}

/* What a swap from `from` to "b" returns, with what was found and said. */
static int swapped(const struct turn *turns, unsigned n, const char *from, char found[GW__STORE_TEXT_BYTES], struct gw__error *error)
{
	struct server s;
	start(&s, turns, n);
	struct gw__store *store = open_at(&s, "");
	int r = gw__store_swap(store, 20000, from, "b", found, error);
	gw__store_close(store);
	finish(&s);
	return r;
}

#define SWAPPED(turns, from) swapped(turns, sizeof(turns) / sizeof *(turns), from, found, &error)

static void the_first_text_makes_the_object(void **state)
{
	static const struct turn turns[] = {{"GET " ONE, NULL, NULL, 404, STATUS("NotFound", 404, "leases not found")},
		{"POST " ALL, "\"holderIdentity\":\"b\"", "\"name\":\"vm\"", 201, LEASE("7", "b")}};
	char found[GW__STORE_TEXT_BYTES];
	struct gw__error error = {0};
	(void)state;
	assert_int_equal(SWAPPED(turns, ""), 0);
}

static void a_change_names_the_version_that_was_read_and_keeps_the_rest(void **state)
{
	static const struct turn turns[] = {{"GET " ONE, NULL, NULL, 200, LEASE("7", "a")},
		{"PUT " ONE, "\"resourceVersion\":\"7\"", "\"labels\":{\"of\":\"web\"}},\"spec\":{\"holderIdentity\":\"b\"}", 200,
			LEASE("8", "b")}};
	char found[GW__STORE_TEXT_BYTES];
	struct gw__error error = {0};
	(void)state;
	assert_int_equal(SWAPPED(turns, "a"), 0);
}

static void another_text_is_refused_and_told(void **state)
{
	static const struct turn read[] = {{"GET " ONE, NULL, NULL, 200, LEASE("7", "x")}};
	static const struct turn modified[] = {{"GET " ONE, NULL, NULL, 200, LEASE("7", "a")}, {"PUT " ONE, NULL, NULL, 409, MODIFIED},
		{"GET " ONE, NULL, NULL, 200, LEASE("8", "x")}};
	static const struct turn exists[] = {{"GET " ONE, NULL, NULL, 404, STATUS("NotFound", 404, "leases not found")},
		{"POST " ALL, NULL, NULL, 409, STATUS("AlreadyExists", 409, "leases already exists")},
		{"GET " ONE, NULL, NULL, 200, LEASE("8", "x")}};
	char found[GW__STORE_TEXT_BYTES];
	struct gw__error error = {0};
	(void)state;
	assert_int_equal(SWAPPED(read, "a"), GW__STORE_REFUSED);
	assert_string_equal(found, "x");
	assert_int_equal(SWAPPED(modified, "a"), GW__STORE_REFUSED);
	assert_string_equal(found, "x");
	assert_int_equal(SWAPPED(exists, ""), GW__STORE_REFUSED);
	assert_string_equal(found, "x");
}

/* Nobody may go on as if the text were another's, or were there. */
static void what_is_not_certain_is_a_failure(void **state)
{
	static const struct turn label[] = {{"GET " ONE, NULL, NULL, 200, LEASE("7", "a")}, {"PUT " ONE, NULL, NULL, 409, MODIFIED},
		{"GET " ONE, NULL, NULL, 200, LEASE("8", "a")}};
	static const struct turn silent[] = {{"GET " ONE, NULL, NULL, 200, LEASE("7", "a")}, {"PUT " ONE, NULL, NULL, 0, NULL}};
	static const struct turn gone[] = {{"GET " ONE, NULL, NULL, 200, LEASE("7", "a")},
		{"PUT " ONE, NULL, NULL, 500, STATUS("InternalError", 500, "etcdserver: request timed out")}};
	char found[GW__STORE_TEXT_BYTES];
	struct gw__error error = {0};
	(void)state;
	assert_int_equal(SWAPPED(label, "a"), -EREMOTEIO);
	assert_non_null(strstr(error.text, "but not its holder"));
	error = (struct gw__error){0};
	assert_int_equal(SWAPPED(silent, "a"), -EREMOTEIO);
	assert_non_null(strstr(error.text, "does not answer"));
	error = (struct gw__error){0};
	assert_int_equal(SWAPPED(gone, "a"), -EREMOTEIO);
	assert_non_null(strstr(error.text, "status 500: etcdserver: request timed out"));
}

static int got(const struct turn *turn, const char *options, char text[GW__STORE_TEXT_BYTES], struct gw__error *error)
{
	struct server s;
	start(&s, turn, 1);
	struct gw__store *store = open_at(&s, options);
	int r = gw__store_get(store, 20000, text, error);
	gw__store_close(store);
	finish(&s);
	return r;
}

static void reading(void **state)
{
	static const struct turn nothing = {"GET " ONE, NULL, NULL, 404, STATUS("NotFound", 404, "leases not found")},
				 empty = {"GET " ONE, NULL, NULL, 200,
					 "{\"kind\":\"Lease\",\"metadata\":{\"resourceVersion\":\"3\"},\"spec\":{}}"},
				 one = {"GET " ONE, NULL, NULL, 200, LEASE("7", "a text")},
				 forbidden = {"GET " ONE, NULL, NULL, 403, STATUS("Forbidden", 403, "User cannot get resource leases")},
				 stranger = {"GET " ONE, NULL, NULL, 404, "<html>not found</html>"},
				 no_version = {"GET " ONE, NULL, NULL, 200, "{\"kind\":\"Lease\",\"metadata\":{},\"spec\":{}}"};
	char text[GW__STORE_TEXT_BYTES];
	struct gw__error error = {0};
	(void)state;
	assert_ok(got(&nothing, "", text, &error), error);
	assert_string_equal(text, "");
	assert_ok(got(&empty, "", text, &error), error);
	assert_string_equal(text, "");
	assert_ok(got(&one, "", text, &error), error);
	assert_string_equal(text, "a text");
	assert_int_equal(got(&forbidden, "", text, &error), -EREMOTEIO);
	assert_non_null(strstr(error.text, "status 403: User cannot get"));
	error = (struct gw__error){0};
	assert_int_equal(got(&stranger, "", text, &error), -EPROTO);
	assert_non_null(strstr(error.text, "is no Kubernetes"));
	error = (struct gw__error){0};
	assert_int_equal(got(&no_version, "", text, &error), -EPROTO);
}

static void the_token_is_read_from_its_file_each_time(void **state)
{
	static const struct turn asked = {"GET " ONE, "Authorization: Bearer secret-1\r\n", NULL, 200, LEASE("7", "a")},
				 asked_again = {"GET " ONE, "Authorization: Bearer secret-2\r\n", NULL, 200, LEASE("7", "a")};
	char path[] = "/tmp/godwit-token-XXXXXX", options[80], text[GW__STORE_TEXT_BYTES];
	struct gw__error error = {0};
	int fd = mkstemp(path);
	(void)state;
	snprintf(options, sizeof options, "?token-file=%s", path);
	assert_int_equal(pwrite(fd, "secret-1\n", 9, 0), 9);
	assert_ok(got(&asked, options, text, &error), error);
	assert_int_equal(pwrite(fd, "secret-2\n", 9, 0), 9);
	assert_ok(got(&asked_again, options, text, &error), error);
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_text_makes_the_object),
		cmocka_unit_test(a_change_names_the_version_that_was_read_and_keeps_the_rest),
		cmocka_unit_test(another_text_is_refused_and_told),
		cmocka_unit_test(what_is_not_certain_is_a_failure),
		cmocka_unit_test(reading),
		cmocka_unit_test(the_token_is_read_from_its_file_each_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
