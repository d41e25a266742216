/* SPDX-License-Identifier: MIT */
/*
 * A guest that never stops writing arrives before its pages do: its source switches to post-copy, and it touches what has not come. The link breaks
 * anywhere, again and again, hooks fail and calls are cancelled. Never two may run it, every byte is right at last, and who waits for a page gets it.
 * 77 where no userfaultfd can be had at all.
 */
#include "../unit/unit.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/math.h"
#include "guest/userfaultfd.h"
#include "guest_kit.h"
#include "plan/guest_location.h"

enum { PAGE = 4096, SKIPPED = 77, AGAIN_MAX = 8 };

static struct gw__mem_guest_opts ram_of(uint64_t kib, enum gw__mem_workload workload)
{
	return (struct gw__mem_guest_opts){.bytes = kib << 10, .seed = 9, .workload = workload, .writers = 2, .steps_per_second = 20000};
}

static void start(struct vm *vm)
{
	assert_false(gw__mem_guest_resume(vm->mem));
	vm->runs = true;
}

/* A call with `resume` waits for the source at first. */
static int end_it(void *ctx, const char *uri, const char *reason)
{
	(void)ctx;
	assert_non_null(uri);
	return *reason ? -ECONNRESET : 0;
}

static struct move lazily(enum gw_guest_postcopy when)
{
	return (struct move){.send = {.postcopy = when}, .receive = {.lazy = true, .user_mode = true, .on_paused = end_it}};
}

static void assert_whole(struct vm *vm)
{
	struct gw__mem_stats s;
	gw__mem_guest_stats(vm->mem, &s);
	assert_int_equal(gw_guest_where(vm->guest), GW_HERE);
	assert_int_equal(vm->result.outcome.place, GW_PLACE_DESTINATION_RUNS);
	assert_int_equal(vm->result.missing_pages, 0);
	assert_true(vm_is_right(vm));
	assert_int_equal(s.found, 0); /* by its reader, while pages were missing */
	assert_int_equal(s.failed, 0);
}

static void assert_partial(const struct vm *vm)
{
	assert_int_equal(vm->result.where, GW_PARTIAL);
	assert_int_equal(gw_guest_where(vm->guest), GW_PARTIAL);
	assert_int_equal(vm->result.outcome.place, GW_PLACE_SPLIT);
	assert_int_equal(vm->result.outcome.next_step, GW_NEXT_RECOVER);
	assert_int_equal(vm->result.outcome.exit_status, GW__STATUS_RECOVERABLE);
	assert_true(vm->runs && vm->result.postcopy);
}

/* --- without a break --- */

static void arrives(enum gw_guest_postcopy when, const struct gw__mem_guest_opts *ram, uint64_t max_bandwidth, bool touches)
{
	struct gw_link_opts link = GW_INIT(link);
	struct move m = lazily(when);
	struct vm from, to;
	link.max_bandwidth = max_bandwidth;
	m.send.link = &link;
	vm_new(&from, ram, false);
	vm_new(&to, ram, true);
	to.touches = touches;
	start(&from);
	vm_move(&from, &to, &m);
	if (m.sent || m.received)
		fail_msg("sent: %d %s, received: %d %s", m.sent, gw_job_error(from.job), m.received, gw_job_error(to.job));
	assert_int_equal(gw_guest_where(from.guest), GW_GONE);
	assert_true(to.runs && !from.runs && to.resumed == 1);
	assert_whole(&to);
	assert_int_equal(to.result.postcopy, from.result.postcopy);
	if (when == GW_POSTCOPY_AT_ONCE) {
		assert_true(to.result.postcopy && to.result.requests > 0);
		assert_int_equal(to.result.pages + to.result.zero_pages, ram->bytes / PAGE);
	}
	vm_free(&from);
	vm_free(&to);
}

/* It runs immediately, and nearly all pages that it touches first are missing; also what its devices touch while they are loaded. */
static void at_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct gw__mem_guest_opts ram = ram_of(8192, i & 1 ? GW__MEM_DISCARD : GW__MEM_UNIFORM);
		ram.shared = i & 2;
		arrives(GW_POSTCOPY_AT_ONCE, &ram, 16 << 20, i & 1);
	}
}

/* What came before the switch and was written since is void; what was not is not sent again. */
static void after_a_round(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(8192, GW__MEM_HOT);
	arrives(GW_POSTCOPY_AFTER_ROUND, &ram, 0, true);
	arrives(GW_POSTCOPY_IF_NEEDED, &ram, 20 << 20, false);
}

/* A source that may switch and does not need to; and one that cannot. */
static void without_a_switch(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4096, GW__MEM_UNIFORM);
	ram.steps_per_second = 50;
	arrives(GW_POSTCOPY_IF_NEEDED, &ram, 0, false);
	arrives(GW_POSTCOPY_NEVER, &ram, 0, false);
}

/* Channels bring a guest as without `lazy`. */
static void over_channels(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4096, GW__MEM_UNIFORM);
	struct move m = lazily(GW_POSTCOPY_NEVER);
	struct vm from, to;
	m.send.channels = 2;
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	start(&from);
	vm_move(&from, &to, &m);
	assert_false(m.sent || m.received);
	assert_whole(&to);
	vm_free(&from);
	vm_free(&to);
}

/* --- a link that breaks --- */

/* Who may run it, and who does. */
static void assert_one_runs(const struct vm *from, const struct vm *to, uint64_t forth, uint64_t back)
{
	enum gw_where there = gw_guest_where(to->guest), here = gw_guest_where(from->guest);
	bool one = there == GW_EMPTY     ? here == GW_HERE || here == GW_IN_DOUBT
		   : there == GW_PARTIAL ? here == GW_HELD || here == GW_IN_DOUBT
		   : there == GW_HERE    ? here == GW_GONE || here == GW_HELD || here == GW_IN_DOUBT
					 : false;
	if (!one || (from->runs && to->runs) || from->runs != (here == GW_HERE) || to->runs != (there != GW_EMPTY))
		fail_msg("%ju forth, %ju back: here %s%s, there %s%s", (uintmax_t)forth, (uintmax_t)back, gw_guest_where_name(here),
			from->runs ? " and runs" : "", gw_guest_where_name(there), to->runs ? " and runs" : "");
}

/* The rest comes over other links, of which all but the last break again. How often it did. */
static unsigned goes_on(struct vm *from, struct vm *to, uint64_t each)
{
	struct move m = lazily(GW_POSTCOPY_AT_ONCE);
	unsigned breaks = 0;
	m.send.resume = m.receive.resume = true;
	for (; gw_guest_where(to->guest) == GW_PARTIAL; breaks++) {
		struct cut cut = {.forth = each && breaks < AGAIN_MAX ? each * (breaks + 1) : UINT64_MAX, .back = UINT64_MAX};
		uint64_t missing = to->result.missing_pages;
		assert_partial(to);
		m.cut = &cut;
		vm_move(from, to, &m);
		assert_one_runs(from, to, cut.forth, cut.back);
		assert_true(to->result.missing_pages <= missing);
		if (cut.forth == UINT64_MAX && (m.sent || m.received))
			fail_msg("resumed: sent: %d %s, received: %d %s", m.sent, gw_job_error(from->job), m.received,
				gw_job_error(to->job));
	}
	return breaks;
}

/* Returns whether the link broke, and after how many pages were missing. */
static bool breaks_at(const struct gw__mem_guest_opts *ram, struct cut *cut, uint64_t again_each)
{
	struct move m = lazily(GW_POSTCOPY_AT_ONCE);
	struct vm from, to;
	const uint64_t forth = cut->forth, back = cut->back;
	m.cut = cut;
	vm_new(&from, ram, false);
	vm_new(&to, ram, true);
	start(&from);
	vm_move(&from, &to, &m);
	assert_one_runs(&from, &to, forth, back);
	if (gw_guest_where(to.guest) == GW_EMPTY) {
		assert_true(m.sent < 0 && m.received < 0);
		if (gw_guest_where(from.guest) == GW_IN_DOUBT) { /* the destination has said that it has it not */
			assert_false(gw_guest_decide(from.guest, true));
			start(&from);
		}
		assert_true(vm_is_right(&from));
	} else {
		goes_on(&from, &to, again_each);
		assert_whole(&to);
	}
	vm_free(&from);
	vm_free(&to);
	return cut->fired;
}

/* In each part of the beginning and of the package, and every some pages from there on, either way. */
static void everywhere(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(512, GW__MEM_UNIFORM);
	struct cut whole = {.forth = UINT64_MAX, .back = UINT64_MAX};
	unsigned fired = 0, n = 0;
	assert_false(breaks_at(&ram, &whole, 0));
	for (uint64_t at = 22; at < whole.forth_bytes; at += at < 700 ? 29 : 11 * PAGE + 77, n++)
		fired += breaks_at(&ram, &(struct cut){.forth = at, .back = UINT64_MAX}, 0);
	for (uint64_t at = 1; at < whole.back_bytes; at += at < 60 ? 4 : 97, n++)
		fired += breaks_at(&ram, &(struct cut){.forth = UINT64_MAX, .back = at}, 0);
	assert_true(fired > n / 2); /* how many requests there are differs */
}

/* Each link brings some pages, and breaks. */
static void again_and_again(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(2048, GW__MEM_UNIFORM);
	for (uint64_t at = 60000; at < 2000000; at += 400001)
		breaks_at(&ram, &(struct cut){.forth = at, .back = UINT64_MAX}, 20000);
}

/* --- what else fails --- */

/* Reads of page faults until one fails; the linker puts it in the place of read. */
static _Atomic int reads_left = -1;
ssize_t __real_read(int fd, void *to, size_t n);
ssize_t __wrap_read(int fd, void *to, size_t n);
ssize_t __wrap_read(int fd, void *to, size_t n)
{
	bool faults = n >= sizeof(struct uffd_msg) && n % sizeof(struct uffd_msg) == 0 && n < PAGE;
	if (!faults || atomic_load(&reads_left) < 0 || atomic_fetch_sub(&reads_left, 1) != 0)
		return __real_read(fd, to, n);
	errno = EIO;
	return -1;
}

/* The thread that hears of page faults fails: the pages wait at the source, and come when the call goes on. */
static void nobody_hears_of_faults(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4096, GW__MEM_UNIFORM);
	struct gw_link_opts link = GW_INIT(link);
	struct move m = lazily(GW_POSTCOPY_AT_ONCE);
	struct vm from, to;
	link.max_bandwidth = 4 << 20;
	m.send.link = &link;
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	start(&from);
	atomic_store(&reads_left, 5);
	vm_move(&from, &to, &m);
	assert_int_equal(atomic_load(&reads_left), -1);
	assert_int_equal(m.received, -EIO);
	assert_non_null(strstr(gw_job_error(to.job), "userfaultfd"));
	assert_partial(&to);
	goes_on(&from, &to, 0);
	assert_whole(&to);
	vm_free(&from);
	vm_free(&to);
}

static void fails(int load, int resume, enum gw_where there, enum gw_where here)
{
	struct gw__mem_guest_opts ram = ram_of(1024, GW__MEM_UNIFORM);
	struct move m = lazily(GW_POSTCOPY_AT_ONCE);
	struct vm from, to;
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	to.load_fails = load;
	to.resume_fails = resume;
	start(&from);
	vm_move(&from, &to, &m);
	assert_int_equal(m.received, load ? load : resume);
	assert_true(to.result.hook_failed && !to.runs);
	assert_int_equal(gw_guest_where(to.guest), there);
	assert_int_equal(gw_guest_where(from.guest), here);
	if (here == GW_IN_DOUBT) {
		assert_int_equal(to.result.outcome.place, GW_PLACE_SOURCE_PAUSED);
		assert_false(gw_guest_decide(from.guest, true));
		assert_true(vm_is_right(&from));
	}
	if (there == GW_HERE) {
		to.result.outcome.place = GW_PLACE_DESTINATION_RUNS;
		assert_true(vm_is_right(&to));
	}
	vm_free(&from);
	vm_free(&to);
}

static void hooks_that_fail(void **state)
{
	(void)state;
	fails(-EBADF, 0, GW_EMPTY, GW_IN_DOUBT);
	fails(0, -EBADF, GW_HERE, GW_GONE); /* it is here, stopped, and all of its pages come */
}

static void cancel(void *ctx, const struct gw_guest_event *e)
{
	struct vm *vm = ctx;
	if (e->kind == GW_GUEST_RUNS)
		gw_job_cancel(vm->job);
}

/* By its VMM, when it runs; and it is neither freed, sent, saved, received nor restored before its pages are here. */
static void cancelled(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4096, GW__MEM_UNIFORM);
	struct gw_link_opts link = GW_INIT(link);
	struct gw_guest_receive_opts r = GW_INIT(r);
	struct gw_guest_restore_opts o = GW_INIT(o);
	struct move m = lazily(GW_POSTCOPY_AT_ONCE);
	struct vm from, to;
	link.max_bandwidth = 4 << 20;
	m.send.link = &link;
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	gw_job_on_guest_event(to.job, cancel, &to);
	start(&from);
	vm_move(&from, &to, &m);
	assert_int_equal(m.received, -ECANCELED);
	assert_partial(&to);
	assert_true(to.result.missing_pages > 0);
	gw_job_on_guest_event(to.job, NULL, NULL);
	gw_job_reset(to.job);
	assert_int_equal(gw_guest_free(to.guest), -EBUSY);
	assert_int_equal(gw_guest_send(to.job, to.guest, "tcp:127.0.0.1:1", NULL, NULL), -EAGAIN);
	assert_int_equal(gw_guest_receive(to.job, to.guest, "tcp:127.0.0.1:0", NULL, NULL), -EEXIST);
	assert_int_equal(gw_guest_decide(to.guest, true), -EALREADY);
	assert_int_equal(gw_guest_remove_block(to.guest, "ram"), -EBUSY);
	o.resume = true;
	assert_int_equal(gw_guest_restore(to.job, to.guest, "/nonexistent/image", &o, NULL), -ENOENT);
	r.resume = r.stay_paused = true;
	assert_int_equal(gw_guest_receive(to.job, to.guest, "tcp:127.0.0.1:0", &r, NULL), -EINVAL);
	r.stay_paused = false;
	assert_int_equal(gw_guest_receive(to.job, to.guest, "file:/dev/null", &r, NULL), -EINVAL);
	assert_int_equal(gw_guest_where(to.guest), GW_PARTIAL);
	to.result.missing_pages = UINT64_MAX;
	goes_on(&from, &to, 0);
	assert_whole(&to);
	assert_int_equal(gw_guest_receive(to.job, to.guest, "tcp:127.0.0.1:0", &r, NULL), -ESRCH);
	vm_free(&from);
	vm_free(&to);
}

/* From the hook that lets it run. */
static void asks_where(struct vm *vm)
{
	assert_int_equal(gw_guest_where(vm->guest), GW_PARTIAL);
	assert_int_equal(gw_guest_receive(vm->job, vm->guest, "tcp:127.0.0.1:0", NULL, NULL), -EBUSY);
}

static void what_cannot_be_asked_for(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(1024, GW__MEM_UNIFORM);
	struct gw_guest_receive_opts o = GW_INIT(o);
	struct move m = lazily(GW_POSTCOPY_AT_ONCE);
	struct vm vm, from;
	int none = 0;
	vm_new(&vm, &ram, true);
	o.lazy = o.stay_paused = true;
	assert_int_equal(gw_guest_receive(vm.job, vm.guest, "tcp:127.0.0.1:0", &o, &vm.result), -EINVAL);
	o.stay_paused = false;
	o.resume = true;
	assert_int_equal(gw_guest_receive(vm.job, vm.guest, "tcp:127.0.0.1:0", &o, &vm.result), -ESRCH);
	vm_new(&from, &ram, false);
	start(&from);
	m.receive.uffd = &none; /* it is none: that is found out while the source still has it */
	vm_move(&from, &vm, &m);
	assert_true(m.sent < 0 && m.received == -EINVAL);
	assert_int_equal(gw_guest_where(vm.guest), GW_EMPTY);
	assert_true(gw_guest_where(from.guest) == GW_HERE && from.runs);
	m.receive.uffd = NULL;
	vm.on_resume = asks_where;
	vm_move(&from, &vm, &m);
	assert_false(m.sent || m.received);
	assert_whole(&vm);
	vm_free(&from);
	vm_free(&vm);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(at_once),
		cmocka_unit_test(after_a_round),
		cmocka_unit_test(without_a_switch),
		cmocka_unit_test(over_channels),
		cmocka_unit_test(everywhere),
		cmocka_unit_test(again_and_again),
		cmocka_unit_test(hooks_that_fail),
		cmocka_unit_test(nobody_hears_of_faults),
		cmocka_unit_test(cancelled),
		cmocka_unit_test(what_cannot_be_asked_for),
	};
	int fd = gw__userfaultfd_open(true);
	if (fd < 0) {
		fprintf(stderr, "no userfaultfd can be had here\n");
		return SKIPPED;
	}
	close(fd);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
