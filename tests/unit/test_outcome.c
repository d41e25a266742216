/* SPDX-License-Identifier: MIT */
/* The outcome of public calls: what is made of a place and of evidence, and that each call leaves one, also where it failed early. */
#include "unit.h"

#include <errno.h>
#include <unistd.h>

#include "godwit.h"

static gw_job *job;

static int setup(void **state)
{
	(void)state;
	return gw_job_new(&job);
}

static int teardown(void **state)
{
	(void)state;
	gw_job_free(job);
	return 0;
}

static struct gw_outcome at(enum gw_place place)
{
	struct gw_outcome o = GW_INIT(o);
	assert_int_equal(gw_outcome_at(&o, place), 0);
	return o;
}

static void a_place_alone_says_what_to_do(void **state)
{
	(void)state;
	struct gw_outcome o = at(GW_PLACE_KEPT_IN_PART);
	assert_int_equal(o.next_step, GW_NEXT_RESUME);
	assert_int_equal(o.exit_status, 5);
	assert_string_equal(o.message, "part-kept");
	assert_string_equal(gw_place_name(o.place), "kept-in-part");
	assert_string_equal(gw_next_step_name(o.next_step), "resume");
	assert_null(gw_place_name(GW_PLACE_LOST + 1));
	assert_null(gw_next_step_name(GW_NEXT_FAILOVER + 1));
	assert_int_equal(gw_outcome_at(&o, (enum gw_place)99), -EINVAL);
}

static void evidence_moves_it_and_leaves_the_rest(void **state)
{
	(void)state;
	struct gw_outcome o = at(GW_PLACE_KEPT_IN_PART);
	o.missing_pages = 7;
	assert_int_equal(gw_outcome_note(&o, GW_EVIDENCE_SOURCE_UNCLEAR), 0);
	assert_int_equal(o.place, GW_PLACE_BOTH_POSSIBLE);
	assert_int_equal(o.exit_status, 4);
	assert_int_equal(o.missing_pages, 7);
	assert_int_equal(gw_outcome_note(&o, GW_EVIDENCE_SOURCE_RUNS), 0);
	assert_int_equal(o.place, GW_PLACE_SOURCE_RUNS);
	assert_int_equal(gw_outcome_note(&o, GW_EVIDENCE_DRAINED_UNREAD), 0); /* of another guest, or a mistake of somebody */
	assert_int_equal(o.place, GW_PLACE_BOTH_POSSIBLE);
	assert_string_equal(o.message, "contradiction");
	assert_int_equal(gw_outcome_note(&o, (enum gw_evidence)99), -EINVAL);
	o.place = (enum gw_place)99;
	assert_int_equal(gw_outcome_note(&o, GW_EVIDENCE_REFUSED), -EINVAL);
}

static void expect(enum gw_place place, unsigned status, const char *message)
{
	struct gw_outcome o = GW_INIT(o);
	assert_int_equal(gw_job_outcome(job, &o), 0);
	if (o.place != place || o.exit_status != status || strcmp(o.message, message))
		fail_msg("%s, status %u, \"%s\" (%s)", gw_place_name(o.place), o.exit_status, o.message, gw_job_error(job));
}

/* What failed before anything was touched has moved nothing. */
static void early_failures_move_nothing(void **state)
{
	(void)state;
	struct gw_receive_opts resume = {.size = sizeof resume, .resume = true};
	struct gw_serve_opts again = {.size = sizeof again, .resume = true};
	assert_int_equal(gw_receive(job, "nonsense", "/nonexistent/i", NULL, NULL), -EINVAL);
	expect(GW_PLACE_SOURCE_RUNS, 2, "wrong-use");
	assert_int_equal(gw_receive(job, "tcp:127.0.0.1:0", "/nonexistent/i", NULL, NULL), -ENOENT);
	expect(GW_PLACE_SOURCE_RUNS, 1, "nothing-changed");
	assert_int_equal(gw_receive(job, "file:/nonexistent/s", "/nonexistent/i", NULL, NULL), -ENOENT);
	expect(GW_PLACE_KEPT_WHOLE, 1, "nothing-changed");
	assert_int_equal(gw_receive(job, "tcp:127.0.0.1:0", "/nonexistent/i", &resume, NULL), -ENOENT);
	expect(GW_PLACE_KEPT_IN_PART, 1, "nothing-changed");
	assert_int_equal(gw_send(job, "/nonexistent/i", "tcp:127.0.0.1:1", NULL), -ENOENT);
	expect(GW_PLACE_KEPT_WHOLE, 1, "nothing-changed");
	assert_int_equal(gw_serve(job, "/nonexistent/i", "tcp:127.0.0.1:1", NULL, NULL), -ENOENT);
	expect(GW_PLACE_KEPT_WHOLE, 1, "nothing-changed");
	assert_int_equal(gw_serve(job, "/nonexistent/i", "tcp:127.0.0.1:1", &again, NULL), -ENOENT);
	expect(GW_PLACE_DESTINATION_WAITS, 5, "destination-waits");
	assert_int_equal(gw_drain(job, "tcp:127.0.0.1:0", "/nonexistent/i", NULL, NULL), -EINVAL);
	expect(GW_PLACE_SPLIT, 1, "nothing-changed");
	assert_int_equal(gw_partial_source_rollback(job, "tcp:127.0.0.1:0", "/nonexistent/i", NULL), -ENOENT);
	expect(GW_PLACE_KEPT_IN_PART, 3, "refused");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_place_alone_says_what_to_do),
		cmocka_unit_test(evidence_moves_it_and_leaves_the_rest),
		cmocka_unit_test(early_failures_move_nothing),
	};
	return cmocka_run_group_tests_name("outcome", tests, setup, teardown);
}
