/* SPDX-License-Identifier: MIT */
/* What of godwit.h needs no job: versions, and URIs in pieces. */
#include "unit.h"

#include <errno.h>
#include <godwit.h>
#include <stdio.h>

#include "base/math.h"
#include "plan/run_state.h"

static void the_header_is_of_this_version(void **state)
{
	(void)state;
	char text[64];
	snprintf(text, sizeof text, "%d.%d.%d", GW_VERSION_MAJOR, GW_VERSION_MINOR, GW_VERSION_PATCH);
	assert_string_equal(text, gw_version());
#if !GW_VERSION_AT_LEAST(0, 2, 0) || GW_VERSION_AT_LEAST(GW_VERSION_MAJOR, GW_VERSION_MINOR, GW_VERSION_PATCH + 1)
	fail_msg("GW_VERSION_AT_LEAST cannot compare");
#endif
}

static void an_older_program_is_served(void **state)
{
	(void)state;
	enum { A = GW_VERSION_MAJOR, B = GW_VERSION_MINOR, C = GW_VERSION_PATCH };
	assert_int_equal(gw_version_check(A, B, C), 0);
	assert_int_equal(gw_version_check(A, B - 1, C + 7), 0);
	assert_int_equal(gw_version_check(A, B, C + 1), -EOPNOTSUPP);
	assert_int_equal(gw_version_check(A, B + 1, 0), -EOPNOTSUPP);
	assert_int_equal(gw_version_check(A + 1, 0, 0), -EOPNOTSUPP);
}

static const struct {
	const char *text;
	enum gw_uri_kind kind;
	const char *target, *port;
	bool can_listen;
} good[] = {
	{"tcp:example.org:4444", GW_URI_TCP, "example.org", "4444", true},
	{"tcp:[::1]:http", GW_URI_TCP, "::1", "http", true},
	{"unix:/run/a b", GW_URI_UNIX, "/run/a b", "", true},
	{"vsock:3:1234", GW_URI_VSOCK, "", "", true},
	{"fd:7", GW_URI_FD, "", "", false},
	{"file:/a,offset=4K", GW_URI_FILE, "/a", "", false},
	{"exec:cat >x", GW_URI_EXEC, "cat >x", "", false},
};

static void uris_in_pieces(void **state)
{
	(void)state;
	for (unsigned i = 0; i < GW__LEN(good); i++) {
		struct gw_uri uri = GW_INIT(uri);
		assert_int_equal(gw_uri_parse(good[i].text, &uri), 0);
		assert_int_equal(uri.size, sizeof uri);
		assert_int_equal(uri.kind, good[i].kind);
		assert_string_equal(uri.target, good[i].target);
		assert_string_equal(uri.port, good[i].port);
		assert_int_equal(uri.can_listen, good[i].can_listen);
		assert_int_equal(uri.fd, uri.kind == GW_URI_FD ? 7 : -1);
		assert_int_equal(uri.offset, uri.kind == GW_URI_FILE ? 4096 : 0);
		assert_int_equal(uri.cid, uri.kind == GW_URI_VSOCK ? 3 : 0);
		assert_int_equal(uri.vsock_port, uri.kind == GW_URI_VSOCK ? 1234 : 0);
		assert_string_equal(uri.reason, "");
	}
	struct gw_uri uri = GW_INIT(uri);
	assert_int_equal(gw_uri_parse("tcp:a:1,ipv6,to=9", &uri), 0);
	assert_int_equal(uri.family, GW_URI_IPV6);
	assert_int_equal(uri.port_to, 9);
}

static void a_refusal_has_a_reason(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "host:1", "/a/path", "tcp:a", "tcp:a:70000", "unix:", "vsock:1", "fd:x", "file:", "exec:"};
	for (unsigned i = 0; i < GW__LEN(bad); i++) {
		struct gw_uri uri = GW_INIT(uri);
		assert_int_equal(gw_uri_parse(bad[i], &uri), -EINVAL);
		assert_string_not_equal(uri.reason, "");
		assert_string_equal(uri.target, "");
	}
	struct gw_uri uri = GW_INIT(uri);
	assert_int_equal(gw_uri_parse(NULL, &uri), -EINVAL);
	assert_int_equal(gw_uri_parse("fd:1", NULL), -EINVAL);
}

/* A word that a table of the planner has, has a number. */
static void run_states_are_known(void **state)
{
	(void)state;
	unsigned n = 0;
	for (; gw__plan_run_state_name(n); n++)
		assert_int_not_equal(gw_run_state_find(gw__plan_run_state_name(n)), GW_RUN_STATE_UNKNOWN);
	assert_null(gw_run_state_name(n + 1));
	for (uint32_t i = 0; i <= n; i++)
		assert_int_equal(gw_run_state_find(gw_run_state_name(i)), i);
	assert_int_equal(gw_run_state_find("of tomorrow"), GW_RUN_STATE_UNKNOWN);
	assert_int_equal(gw_run_state_find(NULL), GW_RUN_STATE_UNKNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_header_is_of_this_version),
		cmocka_unit_test(an_older_program_is_served),
		cmocka_unit_test(uris_in_pieces),
		cmocka_unit_test(a_refusal_has_a_reason),
		cmocka_unit_test(run_states_are_known),
	};
	return cmocka_run_group_tests_name("version and uri", tests, NULL, NULL);
}
