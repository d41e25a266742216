/* SPDX-License-Identifier: MIT */
/* QEMU's words for its states: each has one, and what is not known stays unknown. */
#include "unit.h"

#include "plan/run_state.h"
#include "qmp/states.h"

static void every_migration_state_has_its_word(void **state)
{
	static const char *const words[] = {"none", "setup", "wait-unplug", "active", "pre-switchover", "device", "postcopy-device",
		"postcopy-active", "postcopy-paused", "postcopy-recover-setup", "postcopy-recover", "colo", "cancelling", "cancelled",
		"failing", "failed", "completed"};
	unsigned seen = 0, n = sizeof words / sizeof words[0];
	(void)state;
	for (unsigned i = 0; i < n; i++) {
		enum gw__qmp_migration_state s = gw__qmp_migration_state_of(words[i]);
		assert_int_not_equal(s, GW__MIGRATION_UNKNOWN);
		assert_int_equal(gw__qmp_is_postcopy(s), !strncmp(words[i], "postcopy", strlen("postcopy")));
		seen |= 1u << s;
	}
	/* all but UNKNOWN and POSTCOPY_OTHER, which no word of today is */
	assert_int_equal(seen, (1u << GW__MIGRATION_STATES) - 1 - (1u << GW__MIGRATION_UNKNOWN) - (1u << GW__MIGRATION_POSTCOPY_OTHER));
}

static void no_word_is_no_migration(void **state)
{
	(void)state;
	assert_int_equal(gw__qmp_migration_state_of(""), GW__MIGRATION_NONE);
}

static void a_new_word_is_unknown_and_one_of_post_copy_stays_one(void **state)
{
	(void)state;
	assert_int_equal(gw__qmp_migration_state_of("teleporting"), GW__MIGRATION_UNKNOWN);
	assert_int_equal(gw__qmp_migration_state_of("completed "), GW__MIGRATION_UNKNOWN);
	assert_int_equal(gw__qmp_migration_state_of("postcopy-tomorrow"), GW__MIGRATION_POSTCOPY_OTHER);
	assert_true(gw__qmp_is_postcopy(GW__MIGRATION_POSTCOPY_OTHER));
	assert_false(gw__qmp_is_postcopy(GW__MIGRATION_UNKNOWN));
	assert_int_equal(gw__qmp_run_state_of("levitating"), GW__RUN_STATE_UNKNOWN);
	assert_int_equal(gw__qmp_run_state_of(""), GW__RUN_STATE_UNKNOWN);
}

/* What a save may do with each run state is planned by its word. */
static void every_run_state_is_planned_for(void **state)
{
	unsigned seen = 0;
	const char *word;
	(void)state;
	for (unsigned i = 0; (word = gw__plan_run_state_name(i)); i++) {
		enum gw__qmp_run_state s = gw__qmp_run_state_of(word);
		assert_int_not_equal(s, GW__RUN_STATE_UNKNOWN);
		seen |= 1u << s;
	}
	assert_int_equal(seen, (1u << GW__RUN_STATE_STATES) - 1 - (1u << GW__RUN_STATE_UNKNOWN));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_migration_state_has_its_word),
		cmocka_unit_test(no_word_is_no_migration),
		cmocka_unit_test(a_new_word_is_unknown_and_one_of_post_copy_stays_one),
		cmocka_unit_test(every_run_state_is_planned_for),
	};
	return cmocka_run_group_tests_name("qmp_states", tests, NULL, NULL);
}
