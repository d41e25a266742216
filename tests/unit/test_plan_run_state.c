/* SPDX-License-Identifier: MIT */
/* Each state of query-status is a row, and each has the answer that real QEMUs were seen to give (tests/interop/test-run-states.py). */
#include "unit.h"

#include "base/math.h"
#include "plan/run_state.h"

static const struct {
	const char *name;
	enum gw__run_after since_10, before, before_stop; /* --stop changes nothing from 10.0 on */
} rows[] = {
	{"running", GW__RUN_RUNS, GW__RUN_RUNS, GW__RUN_RUNS},
	{"paused", GW__RUN_KEPT, GW__RUN_REFUSED, GW__RUN_STOPPED},
	{"prelaunch", GW__RUN_KEPT, GW__RUN_REFUSED, GW__RUN_STOPPED},
	{"shutdown", GW__RUN_KEPT, GW__RUN_REFUSED, GW__RUN_STOPPED},
	{"guest-panicked", GW__RUN_KEPT, GW__RUN_REFUSED, GW__RUN_STOPPED},
	{"watchdog", GW__RUN_KEPT, GW__RUN_REFUSED, GW__RUN_STOPPED},
	{"io-error", GW__RUN_KEPT, GW__RUN_REFUSED, GW__RUN_STOPPED},
	{"suspended", GW__RUN_KEPT, GW__RUN_REFUSED, GW__RUN_REFUSED},
	{"debug", GW__RUN_REFUSED, GW__RUN_REFUSED, GW__RUN_REFUSED},
	{"internal-error", GW__RUN_REFUSED, GW__RUN_REFUSED, GW__RUN_REFUSED},
	{"inmigrate", GW__RUN_REFUSED, GW__RUN_REFUSED, GW__RUN_REFUSED},
	{"preconfig", GW__RUN_REFUSED, GW__RUN_REFUSED, GW__RUN_REFUSED},
	{"postmigrate", GW__RUN_REFUSED, GW__RUN_REFUSED, GW__RUN_REFUSED},
	{"finish-migrate", GW__RUN_REFUSED, GW__RUN_REFUSED, GW__RUN_REFUSED},
	{"save-vm", GW__RUN_REFUSED, GW__RUN_REFUSED, GW__RUN_REFUSED},
	{"restore-vm", GW__RUN_REFUSED, GW__RUN_REFUSED, GW__RUN_REFUSED},
	{"colo", GW__RUN_REFUSED, GW__RUN_REFUSED, GW__RUN_REFUSED},
};

static void check(const char *name, unsigned version, bool stop, enum gw__run_after want)
{
	char error[400] = "";
	enum gw__run_after got = gw__plan_run_state(name, version, stop, error, sizeof error);
	if (got != want)
		fail_msg("%s in %u, stop %d: %d, expected %d", name, version, stop, (int)got, (int)want);
	if (want == GW__RUN_REFUSED && (!strstr(error, name) && !strstr(error, "suspended")))
		fail_msg("%s in %u: the sentence does not name it: %s", name, version, error);
}

static void every_state_has_its_answer(void **state)
{
	(void)state;
	for (size_t i = 0; i < GW__LEN(rows); i++) {
		for (int stop = 0; stop < 2; stop++) {
			check(rows[i].name, 1000, stop, rows[i].since_10);
			check(rows[i].name, 1101, stop, rows[i].since_10);
		}
		check(rows[i].name, 702, false, rows[i].before);
		check(rows[i].name, 902, true, rows[i].before_stop);
	}
}

static void every_row_is_tested(void **state)
{
	(void)state;
	unsigned n = 0;
	for (const char *name; (name = gw__plan_run_state_name(n)); n++) {
		bool found = false;
		for (size_t i = 0; i < GW__LEN(rows); i++)
			found = found || !strcmp(rows[i].name, name);
		if (!found)
			fail_msg("%s has no row here", name);
	}
	assert_int_equal(n, GW__LEN(rows));
}

static void a_state_of_the_future_is_refused(void **state)
{
	(void)state;
	check("dreaming", 1200, false, GW__RUN_REFUSED);
	check("", 1200, true, GW__RUN_REFUSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state_has_its_answer),
		cmocka_unit_test(every_row_is_tested),
		cmocka_unit_test(a_state_of_the_future_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
