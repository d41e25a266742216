/* SPDX-License-Identifier: MIT */
/* A connection that one process negotiated and another goes on with: nothing of the first is taken for an answer to the second. */
#include "unit.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_qmp.h"

enum { FIRST_ID = 5000 };

/* What the first one leaves unanswered, so that nothing comes before he has gone. */
#define LEFT                                                                                                                               \
	HELLO, { FAKE_HEAR, "unanswered" }

/* Behind its negotiation, adopted from one who has read `eaten` bytes more than whole messages. */
static void adopt(struct session *s, const struct fake_step *steps, size_t eaten)
{
	char bytes[64];
	begin(s, steps);
	json_t *past = gw__qmp_handoff_state(s->q);
	int fd = dup(gw__qmp_fd(s->q));
	gw__qmp_close(s->q);
	assert_int_equal(write(fd, "unanswered\n", 11), 11);
	for (size_t n = 0; n < eaten;) {
		ssize_t got = read(fd, bytes, eaten - n);
		assert_true(got > 0);
		n += (size_t)got;
	}
	s->q = NULL;
	assert_int_equal(gw__qmp_take_over(fd, past, FIRST_ID, &s->q, &s->error), 0);
	json_decref(past);
}

static void what_was_known_is_known(void **state)
{
	(void)state;
	struct session s;
	adopt(&s, (const struct fake_step[]){LEFT, REST_IS_SILENCE}, 0);
	assert_int_equal(gw__qmp_version(s.q), 1000);
	assert_string_equal(gw__qmp_version_text(s.q), "10.0.13 (Debian 1:10)");
	assert_true(gw__qmp_can_pass_fds(s.q));
	finish(&s);
}

static void the_rest_of_a_line_is_skipped(void **state)
{
	(void)state;
	struct session s;
	adopt(&s,
		(const struct fake_step[]){LEFT, {FAKE_SAY, "{\"return\": {\"a\": {\"b\": 1}}, \"id\": 7}\r\n"},
			{FAKE_HEAR, "\"exec-oob\":\"query-yank\",\"id\":5000}"}, {FAKE_SAY, "{\"return\": [], \"id\": 5000}\r\n"},
			REST_IS_SILENCE},
		17);
	assert_int_equal(gw__qmp_call_oob(s.q, "query-yank", NULL, NULL, &s.error), 0);
	finish(&s);
}

static void late_replies_to_a_predecessor_are_dropped(void **state)
{
	(void)state;
	struct session s;
	json_t *result = NULL;
	adopt(&s,
		(const struct fake_step[]){LEFT,
			{FAKE_SAY, "{\"return\": {\"status\": \"setup\"}, \"id\": 2}\r\n{\"error\": {\"desc\": \"no\"}, \"id\": 4999}\r\n"},
			{FAKE_HEAR, "\"id\":5000"},
			{FAKE_SAY, "{\"return\": 3, \"id\": 3}\r\n{\"return\": {\"ours\": true}, \"id\": 5000}\r\n"},
			{FAKE_HEAR, "\"id\":5001"}, {FAKE_SAY, "{\"return\": 4, \"id\": 4}\r\n{\"return\": {}, \"id\": 5001}\r\n"},
			REST_IS_SILENCE},
		0);
	assert_int_equal(gw__qmp_call(s.q, "query-name", NULL, &result, &s.error), 0);
	assert_true(json_is_true(json_object_get(result, "ours")));
	json_decref(result);
	assert_int_equal(gw__qmp_call(s.q, "query-name", NULL, NULL, &s.error), 0);
	assert_int_equal(gw__qmp_unanswered(s.q), 0);
	finish(&s);
}

/* Once a whole message was read, a line that is none is an error as ever. */
static void only_the_first_line_may_be_a_rest(void **state)
{
	(void)state;
	struct session s;
	adopt(&s, (const struct fake_step[]){LEFT, {FAKE_SAY, "est\"}\r\nrubbish\r\n"}, {FAKE_HEAR, "query-name"}, REST_IS_SILENCE}, 0);
	assert_int_equal(gw__qmp_call(s.q, "query-name", NULL, NULL, &s.error), -EPROTO);
	assert_non_null(strstr(s.error.text, "\"rubbish\""));
	finish(&s);
}

static void nonsense_is_not_adopted(void **state)
{
	(void)state;
	static const char *const pasts[] = {"{}", "[]", "{\"address\": \"x\"}", "{\"address\": 1, \"version\": 1000}",
		"{\"address\": \"x\", \"version\": -1}"};
	for (size_t i = 0; i < sizeof pasts / sizeof *pasts; i++) {
		struct gw__qmp *q = NULL;
		struct gw__error error = {0};
		int pair[2];
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		json_t *past = json_loads(pasts[i], 0, NULL);
		assert_int_equal(gw__qmp_take_over(pair[0], past, FIRST_ID, &q, &error), -EINVAL);
		assert_null(q);
		json_decref(past);
		close(pair[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_known_is_known),
		cmocka_unit_test(the_rest_of_a_line_is_skipped),
		cmocka_unit_test(late_replies_to_a_predecessor_are_dropped),
		cmocka_unit_test(only_the_first_line_may_be_a_rest),
		cmocka_unit_test(nonsense_is_not_adopted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
