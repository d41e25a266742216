/* SPDX-License-Identifier: MIT */
/* The QMP client against a scripted server: protocol edge cases and hostile answers. Real QEMUs:
 * tests/interop. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "fake_qmp.h"

/* Opening fails with `err` and a sentence that contains `words`. */
static void assert_greeting_fails(const struct fake_step *steps, int timeout_ms, int err, const char *words)
{
	struct fake_qmp f;
	struct gw__qmp *q = NULL;
	struct gw__error error = {0};
	fake_start(&f, steps);
	assert_int_equal(gw__qmp_take_fd(f.client_fd, timeout_ms, &q, &error), err);
	if (!strstr(error.text, words))
		fail_msg("\"%s\" is not in: %s", words, error.text);
	assert_int_equal(error.code, err);
	assert_null(q);
	fake_join(&f);
}

static void a_call_fails(struct session *s, const char *command, int err, const char *words)
{
	json_t *result = NULL;
	gw__error_clear(&s->error);
	assert_int_equal(gw__qmp_call(s->q, command, NULL, &result, &s->error), err);
	if (!strstr(s->error.text, words))
		fail_msg("\"%s\" is not in: %s", words, s->error.text);
	assert_null(result);
}

static void the_greeting_tells_the_version(void **state)
{
	(void)state;
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, REST_IS_SILENCE});
	assert_int_equal(gw__qmp_version(s.q), 1000);
	assert_string_equal(gw__qmp_version_text(s.q), "10.0.13 (Debian 1:10)");
	assert_true(gw__qmp_can_pass_fds(s.q));
	finish(&s);
}

static void what_is_not_qmp_is_named(void **state)
{
	(void)state;
	assert_greeting_fails((const struct fake_step[]){{FAKE_SAY, "SSH-2.0-OpenSSH\r\n"}, REST_IS_SILENCE}, PATIENCE_MS, -EPROTO,
		"is not a QMP socket: it greets with \"SSH-2.0-OpenSSH\"");
	assert_greeting_fails((const struct fake_step[]){{FAKE_SAY, "QEMU 10.0.13 monitor - type 'help' for more information\r\n(qemu) "},
				      REST_IS_SILENCE},
		PATIENCE_MS, -EPROTO, "monitor for humans");
	assert_greeting_fails((const struct fake_step[]){{FAKE_SAY, "{\"QMP\": {\"version\": [1]}}\n"}, REST_IS_SILENCE}, PATIENCE_MS,
		-EPROTO, "is not a QMP socket");
	assert_greeting_fails((const struct fake_step[]){{FAKE_SAY, "\x1b[31mno\a\n"}, REST_IS_SILENCE}, PATIENCE_MS, -EPROTO,
		"\"?[31mno?\"");
	assert_greeting_fails((const struct fake_step[]){{FAKE_CLOSE, NULL}}, PATIENCE_MS, -ECONNRESET, "instead of greeting");
}

static void a_silent_socket_is_probably_taken(void **state)
{
	(void)state;
	assert_greeting_fails((const struct fake_step[]){REST_IS_SILENCE}, SHORT_MS, -ETIMEDOUT,
		"within 40 ms: QEMU serves one QMP client at a time, another one probably holds this socket; "
		"close it or give "
		"QEMU a second -qmp socket");
	assert_greeting_fails((const struct fake_step[]){{FAKE_SAY, "login: "}, REST_IS_SILENCE}, SHORT_MS, -EPROTO,
		"7 bytes without a line end");
	assert_greeting_fails((const struct fake_step[]){{FAKE_SAY, GREETING}, REST_IS_SILENCE}, SHORT_MS, -ETIMEDOUT,
		"did not answer `qmp_capabilities`");
}

static void a_line_without_end_is_cut_off(void **state)
{
	(void)state;
	static char flood[65537];
	memset(flood, 'x', sizeof flood - 1);
	const struct fake_step steps[] = {{FAKE_REPEAT, flood}};
	assert_greeting_fails(steps, PATIENCE_MS, -EPROTO, "its greeting has no end");
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "query-name"}, {FAKE_REPEAT, flood}});
	a_call_fails(&s, "query-name", -EPROTO, "sent a line of more than 16 MiB");
	a_call_fails(&s, "query-name", -ECONNRESET, "failed before `query-name`");
	finish(&s);
}

static void a_reply_may_drip_and_events_may_come_between(void **state)
{
	(void)state;
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "{\"execute\":\"a\",\"id\":2}"},
			  {FAKE_DRIP, "{\"event\": \"STOP\", \"data\": {}}\r\n{\"event\": "
				      "\"RESUME\"}\n{\"return\": [7], \"id\": 2}\r\n"},
			  {FAKE_SAY, "{\"event\": \"SHUTDOWN\"}\n"}, REST_IS_SILENCE});
	json_t *result = NULL, *event = NULL;
	assert_int_equal(gw__qmp_call(s.q, "a", NULL, &result, &s.error), 0);
	assert_int_equal(json_integer_value(json_array_get(result, 0)), 7);
	json_decref(result);
	const char *const names[] = {"STOP", "RESUME", "SHUTDOWN"};
	for (int i = 0; i < 3; i++) {
		assert_int_equal(gw__qmp_event(s.q, PATIENCE_MS, &event, &s.error), 0);
		assert_string_equal(json_string_value(json_object_get(event, "event")), names[i]);
		json_decref(event);
	}
	assert_int_equal(gw__qmp_event(s.q, 0, &event, &s.error), GW__NOTHING_CAME);
	finish(&s);
}

static void the_oldest_events_are_dropped(void **state)
{
	(void)state;
	enum { SENT = 300, KEPT = 256 };
	static char many[SENT * 32];
	size_t n = 0;
	for (int i = 0; i < SENT; i++)
		n += (size_t)snprintf(many + n, sizeof many - n, "{\"event\": \"E\", \"data\": %d}\n", i);
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "a"}, {FAKE_SAY, many}, {FAKE_SAY, "{\"return\": {}, \"id\": 2}\n"},
			  REST_IS_SILENCE});
	assert_int_equal(gw__qmp_call(s.q, "a", NULL, NULL, &s.error), 0);
	json_t *event;
	for (int i = SENT - KEPT; i < SENT; i++) {
		assert_int_equal(gw__qmp_event(s.q, 0, &event, &s.error), 0);
		assert_int_equal(json_integer_value(json_object_get(event, "data")), i);
		json_decref(event);
	}
	assert_int_equal(gw__qmp_event(s.q, 0, &event, &s.error), GW__NOTHING_CAME);
	finish(&s);
}

static void a_flood_of_events_does_not_outlive_the_limit(void **state)
{
	(void)state;
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "a"}, {FAKE_REPEAT, "{\"event\": \"E\"}\n"}});
	gw__qmp_set_call_limit(s.q, SHORT_MS);
	a_call_fails(&s, "a", -ETIMEDOUT, "did not answer `a` within 40 ms");
	finish(&s);
}

static void a_refusal_carries_qemus_words(void **state)
{
	(void)state;
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "migrate"},
			  {FAKE_SAY, "{\"id\": 2, \"error\": {\"class\": \"GenericError\", \"desc\": "
				     "\"no\\nway\\u0007\"}}\n"},
			  {FAKE_HEAR, "b"}, {FAKE_SAY, "{\"error\": {\"desc\": \"JSON parse error\"}}\n"}, {FAKE_HEAR, "c"},
			  {FAKE_SAY, "{\"id\": 4, \"error\": 7}\n"}, REST_IS_SILENCE});
	a_call_fails(&s, "migrate", -EREMOTEIO, "refused `migrate`: no way?");
	a_call_fails(&s, "b", -EREMOTEIO, "JSON parse error");
	a_call_fails(&s, "c", -EREMOTEIO, "it gave no reason");
	finish(&s);
}

static void replies_that_are_none_end_the_connection(void **state)
{
	(void)state;
	static const struct {
		const char *say, *words;
		int err;
	} cases[] = {
		{"{\"return\": {}, \"id\": 3}\n", "a reply with another id", -EPROTO},
		{"{\"return\": {}, \"id\": 1}\n", "a reply with another id", -EPROTO},
		{"{\"return\": {}, \"id\": \"2\"}\n", "a reply with another id", -EPROTO},
		{"{\"return\": {}}\n", "a reply with another id", -EPROTO},
		{"{\"id\": 2}\n", "neither a result nor an error", -EPROTO},
		{"{\"event\": 5}\n", "a reply with another id", -EPROTO},
		{"[1, 2]\n", "not a QMP message: \"[1, 2]\"", -EPROTO},
		{"\n", "not a QMP message", -EPROTO},
		{"{\"return\": {}, \"id\": 2\n", "not a QMP message", -EPROTO},
		{"{\"return\": {}, \"i", "closed its QMP connection", -ECONNRESET},
		{"", "closed its QMP connection", -ECONNRESET},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct session s;
		begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "a"}, {FAKE_SAY, cases[i].say}, {FAKE_CLOSE, NULL}});
		a_call_fails(&s, "a", cases[i].err, cases[i].words);
		a_call_fails(&s, "b", -ECONNRESET, "failed before `b`");
		finish(&s);
	}
}

static void deep_json_is_refused(void **state)
{
	(void)state;
	static char deep[200001];
	memset(deep, '[', sizeof deep - 2);
	deep[sizeof deep - 2] = '\n';
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "a"}, {FAKE_SAY, deep}, REST_IS_SILENCE});
	a_call_fails(&s, "a", -EPROTO, "not a QMP message");
	finish(&s);
}

static void a_late_reply_is_dropped(void **state)
{
	(void)state;
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "slow"}, {FAKE_HEAR, "quick"},
			  {FAKE_SAY, "{\"return\": \"old\", \"id\": 2}\n{\"return\": \"new\", \"id\": 3}\n"}, REST_IS_SILENCE});
	gw__qmp_set_call_limit(s.q, SHORT_MS);
	a_call_fails(&s, "slow", -ETIMEDOUT, "did not answer `slow`");
	gw__qmp_set_call_limit(s.q, PATIENCE_MS);
	json_t *result = NULL;
	gw__error_clear(&s.error);
	assert_int_equal(gw__qmp_call(s.q, "quick", NULL, &result, &s.error), 0);
	assert_string_equal(json_string_value(result), "new");
	json_decref(result);
	finish(&s);
}

static void a_stuck_qemu_is_not_buried_in_commands(void **state)
{
	(void)state;
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "a"}, {FAKE_HEAR, "b"}, {FAKE_HEAR, "c"}, {FAKE_HEAR, "d"},
			  {FAKE_HEAR, "{\"exec-oob\":\"yank\",\"id\":6}"}, {FAKE_SAY, "{\"return\": {}, \"id\": 6}\n"},
			  {FAKE_SAY, "{\"return\": {}, \"id\": 2}\n"}, {FAKE_HEAR, "f"}, {FAKE_SAY, "{\"return\": {}, \"id\": 7}\n"},
			  REST_IS_SILENCE});
	gw__qmp_set_call_limit(s.q, SHORT_MS);
	a_call_fails(&s, "a", -ETIMEDOUT, "did not answer");
	a_call_fails(&s, "b", -ETIMEDOUT, "did not answer");
	a_call_fails(&s, "c", -ETIMEDOUT, "did not answer");
	a_call_fails(&s, "d", -ETIMEDOUT, "did not answer");
	a_call_fails(&s, "e", -ETIMEDOUT, "has not answered 4 commands: `e` was not sent");
	gw__error_clear(&s.error);
	gw__qmp_set_call_limit(s.q, PATIENCE_MS);
	assert_int_equal(gw__qmp_call_oob(s.q, "yank", NULL, NULL, &s.error), 0);
	assert_int_equal(gw__qmp_call(s.q, "f", NULL, NULL, &s.error), 0);
	finish(&s);
}

static void an_answer_to_nothing_is_an_error(void **state)
{
	(void)state;
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_SAY, "{\"return\": {}, \"id\": 1}\n"}, REST_IS_SILENCE});
	json_t *event;
	assert_int_equal(gw__qmp_event(s.q, PATIENCE_MS, &event, &s.error), -EPROTO);
	finish(&s);
}

static void a_descriptor_travels_once(void **state)
{
	(void)state;
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "\"fdname\":\"x\""}, {FAKE_SAY, "{\"return\": {}, \"id\": 2}\n"},
			  {FAKE_HEAR, "a"}, {FAKE_SAY, "{\"return\": {}, \"id\": 3}\n"}, REST_IS_SILENCE});
	assert_int_equal(gw__qmp_call_fd(s.q, "getfd", json_pack("{s:s}", "fdname", "x"), 1, NULL, &s.error), 0);
	assert_int_equal(gw__qmp_call(s.q, "a", NULL, NULL, &s.error), 0);
	finish(&s);
	assert_int_equal(s.fake.fds, 1);
}

static void a_pipe_is_refused(void **state)
{
	(void)state;
	int p[2];
	struct gw__qmp *q = NULL;
	struct gw__error error = {0};
	assert_int_equal(pipe(p), 0);
	assert_int_equal(gw__qmp_take_fd(p[0], PATIENCE_MS, &q, &error), -ENOTSOCK);
	assert_non_null(strstr(error.text, "is not a socket"));
	close(p[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_greeting_tells_the_version),
		cmocka_unit_test(what_is_not_qmp_is_named),
		cmocka_unit_test(a_silent_socket_is_probably_taken),
		cmocka_unit_test(a_line_without_end_is_cut_off),
		cmocka_unit_test(a_reply_may_drip_and_events_may_come_between),
		cmocka_unit_test(the_oldest_events_are_dropped),
		cmocka_unit_test(a_flood_of_events_does_not_outlive_the_limit),
		cmocka_unit_test(a_refusal_carries_qemus_words),
		cmocka_unit_test(replies_that_are_none_end_the_connection),
		cmocka_unit_test(deep_json_is_refused),
		cmocka_unit_test(a_late_reply_is_dropped),
		cmocka_unit_test(a_stuck_qemu_is_not_buried_in_commands),
		cmocka_unit_test(an_answer_to_nothing_is_an_error),
		cmocka_unit_test(a_descriptor_travels_once),
		cmocka_unit_test(a_pipe_is_refused),
	};
	return cmocka_run_group_tests_name("qmp", tests, NULL, NULL);
}
