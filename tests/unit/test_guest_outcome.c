/* SPDX-License-Identifier: MIT */
/* What the driver of a QEMU sees, as exit status and place: each outcome of each call, written down once more by hand. */
#include "unit.h"

#include "base/math.h"
#include "qemu/guest_outcome.h"

struct row {
	int outcome;
	unsigned status;
	enum gw_place place;
};

static void check(const struct row *row, const struct gw_outcome *o)
{
	if (o->exit_status != row->status || o->place != row->place)
		fail_msg("outcome %d: status %u at %s, expected %u at %s", row->outcome, o->exit_status, gw_place_name(o->place),
			row->status, gw_place_name(row->place));
}

static void a_save(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{GW_QEMU_SAVE_NOT_BEGUN, 1, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_SAVE_REFUSED, 3, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_SAVE_DONE, 0, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_SAVE_FAILED, 1, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_SAVE_NOT_PUT_BACK, 4, GW_PLACE_SOURCE_PAUSED},
		{GW_QEMU_SAVE_QEMU_GONE, 4, GW_PLACE_BOTH_POSSIBLE},
		{GW_QEMU_SAVE_PAUSED, 5, GW_PLACE_KEPT_IN_PART},
		{GW_QEMU_SAVE_UNKNOWN, 4, GW_PLACE_BOTH_POSSIBLE},
		{GW_QEMU_SAVE_HUNG, 5, GW_PLACE_KEPT_IN_PART},
	};
	for (unsigned i = 0; i < GW__LEN(rows); i++) {
		struct gw_qemu_save_result r = {.outcome = (enum gw_qemu_save_outcome)rows[i].outcome,
			.was_running = true,
			.running = true};
		struct gw_outcome o = gw__guest_after_save(GW_PLACE_SOURCE_RUNS, &r);
		check(&rows[i], &o);
	}
}

/* There is an image, whatever failed behind it. */
static void a_save_that_kept_it(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{GW_QEMU_SAVE_KEPT, 4, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_SAVE_NOT_PUT_BACK, 4, GW_PLACE_BOTH_POSSIBLE},
		{GW_QEMU_SAVE_DONE, 0, GW_PLACE_SOURCE_RUNS},
	};
	for (unsigned i = 0; i < GW__LEN(rows); i++) {
		struct gw_qemu_save_result r = {.outcome = (enum gw_qemu_save_outcome)rows[i].outcome,
			.image_kept = true,
			.was_running = true,
			.running = true};
		struct gw_outcome o = gw__guest_after_save(GW_PLACE_SOURCE_RUNS, &r);
		check(&rows[i], &o);
		assert_true(o.committed);
	}
}

/* A guest that did not run does not run afterwards, and one that was to be stopped is in its image alone. */
static void a_save_of_a_guest_that_stands(void **state)
{
	(void)state;
	struct gw_qemu_save_result r = {.outcome = GW_QEMU_SAVE_DONE, .run_state = "paused"};
	struct gw_outcome o = gw__guest_after_save(GW_PLACE_SOURCE_PAUSED, &r);
	check(&(struct row){GW_QEMU_SAVE_DONE, 0, GW_PLACE_SOURCE_PAUSED}, &o);
	r = (struct gw_qemu_save_result){.outcome = GW_QEMU_SAVE_FAILED, .run_state = "paused"};
	o = gw__guest_after_save(GW_PLACE_SOURCE_PAUSED, &r);
	check(&(struct row){GW_QEMU_SAVE_FAILED, 1, GW_PLACE_SOURCE_PAUSED}, &o);
	r = (struct gw_qemu_save_result){.outcome = GW_QEMU_SAVE_DONE, .run_state = "postmigrate", .was_running = true};
	o = gw__guest_after_save(GW_PLACE_SOURCE_RUNS, &r);
	check(&(struct row){GW_QEMU_SAVE_DONE, 0, GW_PLACE_KEPT_WHOLE}, &o);
}

static void a_save_that_is_resumed_or_abandoned(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{GW_QEMU_SAVE_NOT_BEGUN, 1, GW_PLACE_KEPT_IN_PART},
		{GW_QEMU_SAVE_REFUSED, 3, GW_PLACE_KEPT_IN_PART},
		{GW_QEMU_SAVE_FAILED, 1, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_SAVE_NOT_PUT_BACK, 4, GW_PLACE_BOTH_POSSIBLE},
		{GW_QEMU_SAVE_QEMU_GONE, 4, GW_PLACE_BOTH_POSSIBLE},
		{GW_QEMU_SAVE_PAUSED, 5, GW_PLACE_KEPT_IN_PART},
		{GW_QEMU_SAVE_UNKNOWN, 4, GW_PLACE_BOTH_POSSIBLE},
		{GW_QEMU_SAVE_HUNG, 5, GW_PLACE_KEPT_IN_PART},
		{GW_QEMU_SAVE_ABANDONED, 0, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_SAVE_ABANDONED_LEFT_OVER, 1, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_SAVE_ABANDONED_DOUBLE, 4, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_SAVE_NOT_ABANDONED, 5, GW_PLACE_BOTH_POSSIBLE},
	};
	for (unsigned i = 0; i < GW__LEN(rows); i++) {
		struct gw_qemu_save_result r = {.outcome = (enum gw_qemu_save_outcome)rows[i].outcome,
			.was_running = true,
			.missing_pages = 3};
		struct gw_outcome o = gw__guest_after_save(GW_PLACE_KEPT_IN_PART, &r);
		check(&rows[i], &o);
		assert_int_equal(o.missing_pages, 3);
	}
}

static void a_restore_or_page_server(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{GW_QEMU_GUEST_NOT_BEGUN, 1, GW_PLACE_KEPT_WHOLE},
		{GW_QEMU_GUEST_REFUSED, 3, GW_PLACE_KEPT_WHOLE},
		{GW_QEMU_GUEST_NOT_HERE, 1, GW_PLACE_KEPT_WHOLE},
		{GW_QEMU_GUEST_DONE, 0, GW_PLACE_DESTINATION_RUNS},
		{GW_QEMU_GUEST_ENDED, 0, GW_PLACE_LOST},
		{GW_QEMU_GUEST_WAITS, 5, GW_PLACE_DESTINATION_WAITS},
		{GW_QEMU_GUEST_UNKNOWN, 4, GW_PLACE_BOTH_POSSIBLE},
		{GW_QEMU_GUEST_IN_PRIMARY, 3, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_GUEST_PRIMARY_UNKNOWN, 4, GW_PLACE_BOTH_POSSIBLE},
		{GW_QEMU_GUEST_SILENT, 4, GW_PLACE_BOTH_POSSIBLE},
	};
	struct gw_outcome served = {0};
	for (unsigned i = 0; i < GW__LEN(rows); i++) {
		struct gw_outcome o = gw__guest_after_restore(&served, (enum gw_qemu_guest_outcome)rows[i].outcome, false, false);
		check(&rows[i], &o);
	}
	struct gw_outcome o = gw__guest_after_restore(&served, GW_QEMU_GUEST_NOT_BEGUN, true, false);
	check(&(struct row){GW_QEMU_GUEST_NOT_BEGUN, 3, GW_PLACE_KEPT_WHOLE}, &o);
	o = gw__guest_after_restore(&served, GW_QEMU_GUEST_NOT_HERE, false, true);
	check(&(struct row){GW_QEMU_GUEST_NOT_HERE, 1, GW_PLACE_KEPT_WHOLE}, &o);
	assert_int_equal(o.next_step, GW_NEXT_RESTART_DESTINATION);
	/* a guest that ran there, and is there no more */
	served = (struct gw_outcome){.size = sizeof served, .place = GW_PLACE_DESTINATION_WAITS};
	o = gw__guest_after_restore(&served, GW_QEMU_GUEST_NOT_HERE, false, false);
	check(&(struct row){GW_QEMU_GUEST_NOT_HERE, 1, GW_PLACE_LOST}, &o);
}

static void a_drain(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{GW_QEMU_DRAIN_NOT_BEGUN, 1, GW_PLACE_SPLIT},
		{GW_QEMU_DRAIN_REFUSED, 3, GW_PLACE_SPLIT},
		{GW_QEMU_DRAIN_AGAIN, 5, GW_PLACE_SPLIT},
		{GW_QEMU_DRAIN_NOT_SAFE, 4, GW_PLACE_SPLIT},
		{GW_QEMU_DRAIN_QEMU_GONE, 4, GW_PLACE_SPLIT},
	};
	static const struct row drained_rows[] = {
		{GW_QEMU_DRAIN_DONE, 0, GW_PLACE_DESTINATION_WAITS},
		{GW_QEMU_DRAIN_NOT_READ, 4, GW_PLACE_SPLIT},
		{GW_QEMU_DRAIN_SILENT, 4, GW_PLACE_SPLIT},
	};
	struct gw_outcome drained = {0};
	for (unsigned i = 0; i < GW__LEN(rows); i++) {
		struct gw_outcome o = gw__guest_after_drain(&drained, (enum gw_qemu_drain_outcome)rows[i].outcome);
		check(&rows[i], &o);
	}
	drained = (struct gw_outcome){.size = sizeof drained, .place = GW_PLACE_DESTINATION_WAITS, .message = "drained"};
	for (unsigned i = 0; i < GW__LEN(drained_rows); i++) {
		struct gw_outcome o = gw__guest_after_drain(&drained, (enum gw_qemu_drain_outcome)drained_rows[i].outcome);
		check(&drained_rows[i], &o);
	}
}

static void a_protection(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{GW_QEMU_PROTECT_NOT_BEGUN, 1, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_PROTECT_REFUSED, 3, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_PROTECT_NEVER, 1, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_PROTECT_STOPPED, 0, GW_PLACE_SOURCE_RUNS},
		{GW_QEMU_PROTECT_SHUT_DOWN, 0, GW_PLACE_LOST},
		{GW_QEMU_PROTECT_LOST, 5, GW_PLACE_BOTH_POSSIBLE},
		{GW_QEMU_PROTECT_IN_DOUBT, 4, GW_PLACE_BOTH_POSSIBLE},
	};
	for (unsigned i = 0; i < GW__LEN(rows); i++) {
		struct gw_outcome o = gw__guest_after_protect((enum gw_qemu_protect_outcome)rows[i].outcome, false, false);
		check(&rows[i], &o);
	}
	struct gw_outcome o = gw__guest_after_protect(GW_QEMU_PROTECT_NOT_BEGUN, true, false);
	check(&(struct row){GW_QEMU_PROTECT_NOT_BEGUN, 2, GW_PLACE_SOURCE_RUNS}, &o);
	o = gw__guest_after_protect(GW_QEMU_PROTECT_LOST, false, false);
	assert_int_equal(o.next_step, GW_NEXT_FAILOVER);
	static const struct row left[] = {{GW_QEMU_PROTECT_STOPPED, 0, GW_PLACE_DESTINATION_RUNS},
		{GW_QEMU_PROTECT_SHUT_DOWN, 0, GW_PLACE_DESTINATION_RUNS}};
	for (unsigned i = 0; i < GW__LEN(left); i++) {
		o = gw__guest_after_protect((enum gw_qemu_protect_outcome)left[i].outcome, false, true);
		check(&left[i], &o);
		assert_int_equal(o.next_step, GW_NEXT_NOTHING);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_save),
		cmocka_unit_test(a_save_that_kept_it),
		cmocka_unit_test(a_save_of_a_guest_that_stands),
		cmocka_unit_test(a_save_that_is_resumed_or_abandoned),
		cmocka_unit_test(a_restore_or_page_server),
		cmocka_unit_test(a_drain),
		cmocka_unit_test(a_protection),
	};
	return cmocka_run_group_tests_name("guest_outcome", tests, NULL, NULL);
}
