/* SPDX-License-Identifier: MIT */
/* libgodwit-qemu as a program meets it that makes mistakes: nothing is done, and a sentence says why. No QEMU; real ones are in tests/interop. */
#include "unit.h"

#include <errno.h>
#include <godwit-qemu.h>
#include <stdlib.h>
#include <unistd.h>

static gw_job *job;
static gw_qemu *qemu;

static int set_up(void **state)
{
	(void)state;
	return gw_job_new(&job) || gw_qemu_new(job, &qemu);
}

static int tear_down(void **state)
{
	(void)state;
	gw_qemu_free(qemu);
	gw_job_free(job);
	return 0;
}

/* One option struct is as long as the library's and one longer, so that a program of later days can be played. */
#define LATER(s)                                                                                                                           \
	struct {                                                                                                                           \
		struct s known;                                                                                                            \
		uint64_t later;                                                                                                            \
	}

struct results {
	struct gw_qemu_save_result save;
	struct gw_qemu_restore_result restore;
	struct gw_qemu_serve_result serve;
	struct gw_qemu_drain_result drain;
	struct gw_qemu_protect_result protect;
};

static struct results sized(void)
{
	return (struct results){.save.size = sizeof(struct gw_qemu_save_result),
		.restore.size = sizeof(struct gw_qemu_restore_result),
		.serve.size = sizeof(struct gw_qemu_serve_result),
		.drain.size = sizeof(struct gw_qemu_drain_result),
		.protect.size = sizeof(struct gw_qemu_protect_result)};
}

/* Every call, with these options and results. */
static int call(unsigned i, const void *o, struct results *r)
{
	switch (i) {
	case 0:
		return gw_qemu_save(qemu, "/nowhere", "image", o, &r->save);
	case 1:
		return gw_qemu_restore(qemu, "image", o, &r->restore);
	case 2:
		return gw_qemu_serve(qemu, "/nowhere", "image", o, &r->serve);
	case 3:
		return gw_qemu_drain(qemu, "/nowhere", "image", o, &r->drain);
	case 4:
		return gw_qemu_protect(qemu, "/nowhere", "tcp:127.0.0.1:1", o, &r->protect);
	default:
		return gw_qemu_failover(qemu, "folder", o, &r->restore);
	}
}
enum { CALLS = 6 };

static void a_result_without_a_size_is_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CALLS; i++) {
		struct results none = {0};
		assert_int_equal(call(i, NULL, &none), -EINVAL);
		assert_non_null(strstr(gw_qemu_error(qemu), "GW_INIT"));
	}
	struct gw_qemu_save_result none = {0};
	assert_int_equal(gw_qemu_save_abandon(qemu, "/nowhere", "image", &none), -EINVAL);
	assert_int_equal(gw_qemu_rate(qemu, &(struct gw_qemu_rate){0}), -EINVAL);
}

static void options_without_a_size_are_refused(void **state)
{
	static const uint64_t none[64];
	(void)state;
	for (unsigned i = 0; i < CALLS; i++) {
		struct results r = sized();
		assert_int_equal(call(i, none, &r), -EINVAL);
		assert_non_null(strstr(gw_qemu_error(qemu), "has the size 0"));
	}
}

static void a_field_of_later_days_that_is_set_is_refused(void **state)
{
	static const size_t sizes[CALLS] = {sizeof(struct gw_qemu_save_opts), sizeof(struct gw_qemu_restore_opts),
		sizeof(struct gw_qemu_serve_opts), sizeof(struct gw_qemu_drain_opts), sizeof(struct gw_qemu_protect_opts),
		sizeof(struct gw_qemu_failover_opts)};
	(void)state;
	for (unsigned i = 0; i < CALLS; i++) {
		struct results r = sized();
		uint8_t *later = calloc(1, sizes[i] + 8);
		assert_non_null(later);
		*(size_t *)(void *)later = sizes[i] + 8;
		later[sizes[i] + 4] = 1;
		assert_int_equal(call(i, later, &r), -E2BIG);
		assert_non_null(strstr(gw_qemu_error(qemu), "newer libgodwit-qemu"));
		free(later);
	}
}

static void a_monitor_that_is_not_there_changes_nothing(void **state)
{
	struct results r = sized();
	(void)state;
	assert_int_equal(gw_qemu_save(qemu, "/nowhere", "image", NULL, &r.save), -ENOENT);
	assert_int_equal(r.save.outcome, GW_QEMU_SAVE_NOT_BEGUN);
	assert_non_null(strstr(gw_qemu_error(qemu), "/nowhere"));
	assert_int_equal(gw_qemu_drain(qemu, "/nowhere", "image", NULL, &r.drain), -ENOENT);
	assert_int_equal(r.drain.outcome, GW_QEMU_DRAIN_NOT_BEGUN);
	assert_int_equal(gw_qemu_protect(qemu, "/nowhere", "tcp:127.0.0.1:1", NULL, &r.protect), -ENOENT);
	assert_int_equal(r.protect.outcome, GW_QEMU_PROTECT_NOT_BEGUN);
	enum gw_qemu_userfaultfd may;
	uint32_t uid;
	assert_int_equal(gw_qemu_may_userfaultfd(qemu, "/nowhere", &may, &uid), -ENOENT);
	assert_int_not_equal(access("image", F_OK), 0);
}

static void an_image_that_is_not_there_starts_nothing(void **state)
{
	char program[] = "false", *const command[] = {program, NULL};
	struct gw_qemu_restore_opts o = GW_INIT(o);
	struct results r = sized();
	int status;
	(void)state;
	o.command = command;
	assert_int_equal(gw_qemu_restore(qemu, "/no/image", &o, &r.restore), -ENOENT);
	assert_int_equal(r.restore.outcome, GW_QEMU_GUEST_NOT_BEGUN);
	assert_false(r.restore.started);
	assert_int_equal(gw_qemu_wait(qemu, &status), -ECHILD);
	assert_int_equal(gw_qemu_serve(qemu, "/nowhere", "/no/image", NULL, &r.serve), -ENOENT);
	assert_int_equal(r.serve.outcome, GW_QEMU_GUEST_NOT_BEGUN);
	assert_true(r.serve.image_unreadable);
}

static void neither_a_monitor_nor_a_command_is_a_mistake(void **state)
{
	char program[] = "false", *const command[] = {program, NULL};
	struct gw_qemu_restore_opts o = GW_INIT(o);
	struct results r = sized();
	(void)state;
	assert_int_equal(gw_qemu_restore(qemu, "image", &o, &r.restore), -EINVAL);
	o.monitor = "/nowhere";
	o.command = command;
	assert_int_equal(gw_qemu_restore(qemu, "image", &o, &r.restore), -EINVAL);
	assert_non_null(strstr(gw_qemu_error(qemu), "either"));
}

static void what_cannot_go_together_is_refused_before_anything(void **state)
{
	struct gw_qemu_save_opts o = GW_INIT(o);
	struct results r = sized();
	(void)state;
	o.postcopy = true;
	o.channels = 2;
	assert_int_equal(gw_qemu_save(qemu, "/nowhere", "image", &o, &r.save), -EOPNOTSUPP);
	assert_int_equal(r.save.outcome, GW_QEMU_SAVE_REFUSED);
	o.postcopy = false;
	o.compression = (enum gw_compression)77;
	assert_int_equal(gw_qemu_save(qemu, "/nowhere", "image", &o, &r.save), -EINVAL);
	assert_int_equal(r.save.outcome, GW_QEMU_SAVE_REFUSED);
}

/* An older program knows less of a result: what lies behind it is its own. */
static void a_shorter_result_is_not_written_past_its_end(void **state)
{
	LATER(gw_qemu_save_result) r = {.later = 77};
	uint8_t *tail = (uint8_t *)&r.known + offsetof(struct gw_qemu_save_result, run_state);
	(void)state;
	memset(&r.known, 0x55, sizeof r.known);
	r.known.size = offsetof(struct gw_qemu_save_result, run_state);
	assert_int_equal(gw_qemu_save(qemu, "/nowhere", "image", NULL, &r.known), -ENOENT);
	assert_int_equal(r.known.outcome, GW_QEMU_SAVE_NOT_BEGUN);
	for (size_t i = 0; i < sizeof r.known - offsetof(struct gw_qemu_save_result, run_state); i++)
		assert_int_equal(tail[i], 0x55);
	assert_int_equal(r.later, 77);
}

static void a_cancelled_driver_begins_nothing_and_says_the_reason(void **state)
{
	struct gw_qemu_serve_result r = GW_INIT(r);
	(void)state;
	gw_qemu_cancel(qemu, "stopped for a test");
	assert_int_equal(gw_qemu_serve(qemu, "/nowhere", "/no/image", NULL, &r), -ECANCELED);
	assert_string_equal(gw_qemu_error(qemu), "stopped for a test");
}

static void a_new_call_forgets_the_error_before(void **state)
{
	struct gw_qemu_rate rate = GW_INIT(rate);
	struct results r = sized();
	(void)state;
	assert_string_equal(gw_qemu_error(qemu), "");
	assert_int_equal(gw_qemu_hint(qemu), GW_QEMU_HINT_NONE);
	assert_int_equal(gw_qemu_save(qemu, "/nowhere", "image", NULL, &r.save), -ENOENT);
	assert_int_not_equal(gw_qemu_error(qemu)[0], 0);
	assert_int_equal(gw_qemu_rate(qemu, &rate), 0);
	assert_false(rate.known);
	int status;
	assert_int_equal(gw_qemu_wait(qemu, &status), -ECHILD);
	assert_null(strstr(gw_qemu_error(qemu), "/nowhere"));
	gw_qemu_free(NULL);
}

int main(void)
{
#define WITH_DRIVER(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_DRIVER(a_result_without_a_size_is_refused),
		WITH_DRIVER(options_without_a_size_are_refused),
		WITH_DRIVER(a_field_of_later_days_that_is_set_is_refused),
		WITH_DRIVER(a_monitor_that_is_not_there_changes_nothing),
		WITH_DRIVER(an_image_that_is_not_there_starts_nothing),
		WITH_DRIVER(neither_a_monitor_nor_a_command_is_a_mistake),
		WITH_DRIVER(what_cannot_go_together_is_refused_before_anything),
		WITH_DRIVER(a_shorter_result_is_not_written_past_its_end),
		WITH_DRIVER(a_cancelled_driver_begins_nothing_and_says_the_reason),
		WITH_DRIVER(a_new_call_forgets_the_error_before),
	};
	return cmocka_run_group_tests_name("qemu_driver", tests, NULL, NULL);
}
