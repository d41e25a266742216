/* SPDX-License-Identifier: MIT */
/* What the QMP client makes of answers: queries, settings, RAM blocks. */
#include "unit.h"

#include <errno.h>

#include "fake_qmp.h"

#define RETURNS(id, json)                                                                                                                  \
	{                                                                                                                                  \
		FAKE_SAY, "{\"return\": " json ", \"id\": " #id "}\n"                                                                      \
	}

static void migration_is_read_and_unknown_is_running(void **state)
{
	(void)state;
	struct session s;
	struct gw__qmp_migration m;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "query-migrate"}, RETURNS(2, "{}"), {FAKE_HEAR, "query-migrate"},
			  RETURNS(3, "{\"status\": \"moonwalking\", \"total-time\": 12, \"ram\": {\"total\": "
				     "4096, \"remaining\": -1, "
				     "\"transferred\": 18446744073709551615, \"mbps\": 1.5, "
				     "\"dirty-sync-count\": \"3\", "
				     "\"page-size\": 4096}}"),
			  {FAKE_HEAR, "query-migrate"},
			  RETURNS(4, "{\"status\": \"setup\", \"socket-address\": [{\"type\": \"inet\", "
				     "\"host\": \"::1\", "
				     "\"port\": \"4444\"}]}"),
			  {FAKE_HEAR, "query-migrate"}, RETURNS(5, "{\"status\": \"failed\", \"error-desc\": \"lost\\u001b\"}"),
			  {FAKE_HEAR, "query-migrate"}, RETURNS(6, "[]"), REST_IS_SILENCE});
	assert_int_equal(gw__qmp_query_migrate(s.q, &m, &s.error), 0);
	assert_string_equal(m.status, "");
	assert_false(m.ended);
	assert_int_equal(gw__qmp_query_migrate(s.q, &m, &s.error), 0);
	assert_string_equal(m.status, "moonwalking");
	assert_false(m.ended);
	assert_int_equal(m.total_ms, 12);
	assert_int_equal(m.total_bytes, 4096);
	assert_int_equal(m.remaining_bytes, 0);
	assert_int_equal(m.transferred_bytes, INT64_MAX);
	assert_int_equal(m.dirty_sync_count, 0);
	assert_true(m.mbps > 1.4 && m.mbps < 1.6);
	assert_int_equal(gw__qmp_query_migrate(s.q, &m, &s.error), 0);
	assert_string_equal(m.address, "tcp:[::1]:4444");
	assert_int_equal(gw__qmp_query_migrate(s.q, &m, &s.error), 0);
	assert_true(m.ended && m.failed && !m.completed && !m.cancelled);
	assert_string_equal(m.error, "lost?");
	assert_int_equal(gw__qmp_query_migrate(s.q, &m, &s.error), -EPROTO);
	finish(&s);
}

#define LEFT_OVER "[{\"type\": \"chardev\", \"id\": \"migration\"}, {\"type\": \"migration\"}]"

static void a_migration_starts_when_the_last_one_is_cleaned_up(void **state)
{
	(void)state;
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "query-yank"}, RETURNS(2, LEFT_OVER), {FAKE_HEAR, "query-migrate"},
			  RETURNS(3, "{\"status\": \"failed\"}"), {FAKE_HEAR, "query-yank"},
			  RETURNS(4, "[{\"type\": \"chardev\", \"id\": \"migration\"}]"), {FAKE_HEAR, "\"migrate\""}, RETURNS(5, "{}"),
			  /* one that runs is not waited for */
			  {FAKE_HEAR, "query-yank"}, RETURNS(6, LEFT_OVER), {FAKE_HEAR, "query-migrate"},
			  RETURNS(7, "{\"status\": \"active\"}"), {FAKE_HEAR, "\"migrate\""}, RETURNS(8, "{}"), REST_IS_SILENCE});
	assert_int_equal(gw__qmp_migrate(s.q, "fd:x", &s.error), 0);
	assert_int_equal(gw__qmp_migrate(s.q, "fd:x", &s.error), 0);
	finish(&s);
}

static void a_run_state_is_never_guessed(void **state)
{
	(void)state;
	struct session s;
	struct gw__qmp_status st;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "query-status"}, RETURNS(2, "{\"status\": \"running\", \"running\": true}"),
			  {FAKE_HEAR, "query-status"}, RETURNS(3, "{\"status\": \"running\", \"running\": 1}"), {FAKE_HEAR, "query-status"},
			  RETURNS(4, "7"), REST_IS_SILENCE});
	assert_int_equal(gw__qmp_query_status(s.q, &st, &s.error), 0);
	assert_true(st.running);
	assert_int_equal(gw__qmp_query_status(s.q, &st, &s.error), -EPROTO);
	assert_int_equal(gw__qmp_query_status(s.q, &st, NULL), -EPROTO);
	finish(&s);
}

#define CAPS(id, a, b, c)                                                                                                                  \
	{FAKE_HEAR, "query-migrate-capabilities"},                                                                                         \
		RETURNS(id, "[{\"capability\": \"xbzrle\", \"state\": " a "}, {\"capability\": \"multifd\", \"state\": " b                 \
			    "}, {\"capability\": \"events\", \"state\": " c "}, 9, {\"capability\": 3}]")
#define PARAMS(id, bw)                                                                                                                     \
	{FAKE_HEAR, "query-migrate-parameters"},                                                                                           \
		RETURNS(id, "{\"max-bandwidth\": " bw ", \"tls-creds\": \"\", \"mode\": \"normal\", \"direct-io\": [1]}")

static void restore_sends_the_differences_in_a_legal_order(void **state)
{
	(void)state;
	struct session s;
	begin(&s,
		(const struct fake_step[]){HELLO, CAPS(2, "true", "false", "true"), PARAMS(3, "5"),
			/* multifd may not be switched off while a migration that failed closes its channels */
			{FAKE_HEAR, "query-yank"}, RETURNS(4, LEFT_OVER), {FAKE_HEAR, "query-migrate"},
			RETURNS(5, "{\"status\": \"failed\"}"), {FAKE_HEAR, "query-yank"}, RETURNS(6, "[]"),
			CAPS(7, "false", "true", "true"), PARAMS(8, "7"),
			{FAKE_HEAR, "{\"capabilities\":[{\"capability\":\"multifd\",\"state\":false}]}"}, RETURNS(9, "{}"),
			{FAKE_HEAR, "\"arguments\":{\"max-bandwidth\":5}"}, RETURNS(10, "{}"),
			{FAKE_HEAR, "{\"capabilities\":[{\"capability\":\"xbzrle\",\"state\":true}]}"}, RETURNS(11, "{}"),
			{FAKE_HEAR, "query-yank"}, RETURNS(12, "[]"), CAPS(13, "true", "false", "true"), PARAMS(14, "5"), REST_IS_SILENCE});
	struct gw__qmp_settings *snapshot = NULL;
	assert_int_equal(gw__qmp_settings_save(s.q, &snapshot, &s.error), 0);
	assert_true(gw__qmp_settings_has(snapshot, "multifd"));
	assert_false(gw__qmp_settings_on(snapshot, "multifd"));
	assert_true(gw__qmp_settings_on(snapshot, "xbzrle"));
	assert_false(gw__qmp_settings_has(snapshot, "mapped-ram"));
	assert_int_equal(json_integer_value(gw__qmp_settings_parameter(snapshot, "max-bandwidth")), 5);
	assert_null(gw__qmp_settings_parameter(snapshot, "mode"));
	assert_null(gw__qmp_settings_parameter(snapshot, "direct-io"));
	assert_int_equal(gw__qmp_settings_restore(s.q, snapshot, &s.error), 0);
	assert_int_equal(gw__qmp_settings_restore(s.q, snapshot, &s.error), 0);
	gw__qmp_settings_free(snapshot);
	finish(&s);
}

static void restore_goes_on_after_a_refusal(void **state)
{
	(void)state;
	struct session s;
	begin(&s, (const struct fake_step[]){HELLO, CAPS(2, "true", "false", "true"), PARAMS(3, "18446744073709551615"),
			  {FAKE_HEAR, "query-yank"}, RETURNS(4, "[]"), CAPS(5, "false", "false", "true"), PARAMS(6, "7"),
			  {FAKE_HEAR, "\"max-bandwidth\":9223372036854775807"},
			  {FAKE_SAY, "{\"error\": {\"desc\": \"not now\"}, \"id\": 7}\n"}, {FAKE_HEAR, "\"xbzrle\""}, RETURNS(8, "{}"),
			  REST_IS_SILENCE});
	struct gw__qmp_settings *snapshot = NULL;
	assert_int_equal(gw__qmp_settings_save(s.q, &snapshot, &s.error), 0);
	assert_int_equal(gw__qmp_settings_restore(s.q, snapshot, &s.error), -EREMOTEIO);
	assert_non_null(strstr(s.error.text, "refused `migrate-set-parameters`: not now"));
	gw__qmp_settings_free(snapshot);
	finish(&s);
}

static void only_what_is_asked_to_be_on_must_be_known(void **state)
{
	(void)state;
	struct session s;
	const struct gw__qmp_capability off[] = {{"mapped-ram", false}, {"multifd", true}};
	const struct gw__qmp_capability on[] = {{"mapped-ram", true}, {"multifd", true}};
	begin(&s, (const struct fake_step[]){HELLO, CAPS(2, "true", "false", "true"),
			  {FAKE_HEAR, "{\"capabilities\":[{\"capability\":\"multifd\",\"state\":true}]}"}, RETURNS(3, "{}"),
			  CAPS(4, "true", "true", "true"), CAPS(5, "true", "true", "false"), PARAMS(6, "1"),
			  {FAKE_HEAR, "[{\"capability\":\"xbzrle\",\"state\":false},{\"capability\":"
				      "\"multifd\",\"state\":false}]"},
			  RETURNS(7, "{}"), REST_IS_SILENCE});
	assert_int_equal(gw__qmp_set_capabilities(s.q, off, 2, &s.error), 0);
	assert_int_equal(gw__qmp_set_capabilities(s.q, on, 2, &s.error), -EOPNOTSUPP);
	assert_non_null(strstr(s.error.text, "has no migration capability `mapped-ram`"));
	gw__error_clear(&s.error);
	struct gw__qmp_settings *now = NULL;
	assert_int_equal(gw__qmp_settings_save(s.q, &now, &s.error), 0);
	assert_int_equal(gw__qmp_clear_capabilities(s.q, now, false, &s.error), 0);
	gw__qmp_settings_free(now);
	finish(&s);
}

static void a_machine_is_named_without_its_suffix(void **state)
{
	(void)state;
	struct session s;
	struct gw__qmp_machine m;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "qom-get"}, RETURNS(2, "\"pc-q35-10.0-machine\""),
			  {FAKE_HEAR, "query-memory"}, RETURNS(3, "{\"base-memory\": 1024, \"plugged-memory\": 2048}"),
			  {FAKE_HEAR, "qom-get"}, RETURNS(4, "{}"), REST_IS_SILENCE});
	assert_int_equal(gw__qmp_query_machine(s.q, &m, &s.error), 0);
	assert_string_equal(m.machine, "pc-q35-10.0");
	assert_int_equal(m.ram_bytes, 1024);
	assert_int_equal(m.plugged_bytes, 2048);
	assert_int_equal(gw__qmp_query_machine(s.q, &m, &s.error), -EPROTO);
	finish(&s);
}

#define HEAD "              Block Name    PSize              Offset               Used              Total\\r\\n"

static void a_block_table_is_read_strictly(void **state)
{
	(void)state;
	struct session s;
	struct gw__qmp_block *b = NULL;
	unsigned n = 0;
	begin(&s, (const struct fake_step[]){HELLO, {FAKE_HEAR, "info ramblock"},
			  RETURNS(2, "\"" HEAD "  pc.ram    4 KiB  0x0 0x0000000000080000 0x0000000000080000 "
				     "0x00007f6a62e00000  rw\\r\\n"
				     "                           4 KiB  0x08000000 0x4000 0x4000 0x00007f6a62000000  rw\\r\\n"
				     "/rom@etc/acpi/tables    2 MiB  0x00 0x20000 0x200000\\r\\n\""),
			  {FAKE_HEAR, "ramblock"}, RETURNS(3, "\"" HEAD "  pc.ram    4 KiB  0x0 0x2000 0x1000\\r\\n\""),
			  {FAKE_HEAR, "ramblock"}, RETURNS(4, "\"" HEAD "  pc.ram    4 KiB  0x0 0x2000 0xg000\\r\\n\""),
			  {FAKE_HEAR, "ramblock"}, RETURNS(5, "\"" HEAD "  pc.ram    4 Pages  0x0 0x2000 0x2000\\r\\n\""),
			  {FAKE_HEAR, "ramblock"}, RETURNS(6, "\"" HEAD "     4 KiB  0x0 0x2000 0x2000\\r\\n\""), {FAKE_HEAR, "ramblock"},
			  RETURNS(7, "\"" HEAD "\""), {FAKE_HEAR, "ramblock"}, RETURNS(8, "\"unknown command: 'info ramblock'\\r\\n\""),
			  {FAKE_HEAR, "ramblock"}, RETURNS(9, "5"), REST_IS_SILENCE});
	assert_int_equal(gw__qmp_query_blocks(s.q, &b, &n, &s.error), 0);
	assert_int_equal(n, 2);
	assert_string_equal(b[0].name, "pc.ram");
	assert_int_equal(b[0].page_bytes, 4096);
	assert_int_equal(b[0].used_bytes, 0x80000);
	assert_string_equal(b[1].name, "/rom@etc/acpi/tables");
	assert_int_equal(b[1].page_bytes, 2 << 20);
	assert_int_equal(b[1].total_bytes, 0x200000);
	free(b);
	for (int i = 3; i <= 9; i++)
		assert_int_equal(gw__qmp_query_blocks(s.q, &b, &n, &s.error), -EPROTO);
	finish(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(migration_is_read_and_unknown_is_running),
		cmocka_unit_test(a_migration_starts_when_the_last_one_is_cleaned_up),
		cmocka_unit_test(a_run_state_is_never_guessed),
		cmocka_unit_test(restore_sends_the_differences_in_a_legal_order),
		cmocka_unit_test(restore_goes_on_after_a_refusal),
		cmocka_unit_test(only_what_is_asked_to_be_on_must_be_known),
		cmocka_unit_test(a_machine_is_named_without_its_suffix),
		cmocka_unit_test(a_block_table_is_read_strictly),
	};
	return cmocka_run_group_tests_name("qmp queries", tests, NULL, NULL);
}
