/* SPDX-License-Identifier: MIT */
/*
 * A guest runs before its memory is here, and takes its pages out of an image as it touches them; or it is held up half-way, and goes on later. 77 where
 * no userfaultfd can be had at all.
 */
#include "../unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/demand.h"
#include "guest/userfaultfd.h"
#include "guest_kit.h"
#include "plan/guest_location.h"

enum { PAGE = 4096, NOBODY = 65534, SKIPPED = 77 };

static char folder[] = "/tmp/godwit-lazy-XXXXXX", image[64], other_image[64];

static struct gw__mem_guest_opts ram_of(uint64_t mib, enum gw__mem_workload workload)
{
	return (struct gw__mem_guest_opts){.bytes = mib << 20, .seed = 5, .workload = workload, .writers = 2, .steps_per_second = 50000};
}

/* A guest that wrote for a while is in the image. */
static void save(const struct gw__mem_guest_opts *ram, const char *path)
{
	struct gw_guest_save_opts o = GW_INIT(o);
	struct vm vm;
	vm_new(&vm, ram, false);
	gw__mem_guest_step(vm.mem, 0, ram->bytes / PAGE / 3);
	gw__mem_guest_step(vm.mem, 1, 77);
	o.stop = true;
	if (gw_guest_save(vm.job, vm.guest, path, &o, NULL))
		fail_msg("%s", gw_job_error(vm.job));
	vm_free(&vm);
}

static struct gw_guest_restore_opts lazily(void)
{
	struct gw_guest_restore_opts o = GW_INIT(o);
	o.lazy = true;
	o.user_mode = true;
	return o;
}

static int restore(struct vm *vm, const struct gw_guest_restore_opts *o)
{
	return gw_guest_restore(vm->job, vm->guest, image, o, &vm->result);
}

static void assert_whole(struct vm *vm)
{
	struct gw__mem_stats s;
	gw__mem_guest_stats(vm->mem, &s);
	assert_int_equal(vm->result.where, GW_HERE);
	assert_int_equal(gw_guest_where(vm->guest), GW_HERE);
	assert_int_equal(vm->result.outcome.place, GW_PLACE_DESTINATION_RUNS);
	assert_int_equal(vm->result.missing_pages, 0);
	assert_true(vm_is_right(vm));
	assert_int_equal(s.found, 0); /* by its reader, while pages were missing */
	assert_int_equal(s.failed, 0);
}

static void assert_partial(struct vm *vm)
{
	assert_int_equal(vm->result.where, GW_PARTIAL);
	assert_int_equal(gw_guest_where(vm->guest), GW_PARTIAL);
	assert_int_equal(vm->result.outcome.place, GW_PLACE_DESTINATION_WAITS);
	assert_int_equal(vm->result.outcome.exit_status, GW__STATUS_RECOVERABLE);
	assert_true(vm->result.missing_pages > 0);
}

/* --- what the guest and its VMM do while pages are missing --- */

enum { FAULTS = 100 };

/* From the thread that would bring pages by itself: all that is touched meanwhile is brought by the fault thread. */
static void run_on_faults(void *ctx, const struct gw_guest_event *e)
{
	struct vm *vm = ctx;
	struct gw__mem_stats before, s;
	if (e->kind != GW_GUEST_RUNS)
		return;
	assert_int_equal(gw_guest_where(vm->guest), GW_PARTIAL);
	gw__mem_guest_stats(vm->mem, &before);
	do {
		usleep(1000);
		gw__mem_guest_stats(vm->mem, &s);
	} while (s.steps < before.steps + FAULTS || s.pages_read < before.pages_read + FAULTS / 10);
}

static void cancel(void *ctx, const struct gw_guest_event *e)
{
	struct vm *vm = ctx;
	(void)e;
	gw_job_cancel(vm->job);
}

/* With `waits` the guest has come across what is cut off before this thread does, nearly always: the outcome is the same. */
static bool waits;

static void cut_image(void *ctx, const struct gw_guest_event *e)
{
	struct stat st;
	(void)ctx, (void)e;
	assert_int_equal(stat(image, &st), 0);
	assert_int_equal(truncate(image, st.st_size / 2), 0);
	usleep(waits ? 100000 : 0);
}

/* --- tests --- */

static void runs_while_pages_come(void **state)
{
	(void)state;
	for (unsigned shared = 0; shared < 2; shared++)
		for (enum gw__mem_workload w = shared; w < GW__MEM_TOLD; w += w < GW__MEM_BURST ? 2 : 1) {
			struct gw__mem_guest_opts ram = ram_of(4, w);
			struct gw_guest_restore_opts o = lazily();
			struct vm to;
			save(&ram, image);
			ram.shared = shared;
			vm_new(&to, &ram, true);
			memset(gw__mem_guest_ram(to.mem).host, 0xa5, ram.bytes / 2); /* whatever was there before */
			to.touches = true;
			gw_job_on_guest_event(to.job, run_on_faults, &to);
			if (restore(&to, &o))
				fail_msg("%s", gw_job_error(to.job));
			assert_true(to.runs && to.resumed == 1 && to.result.requests >= FAULTS / 4);
			assert_whole(&to);
			gw_job_on_guest_event(to.job, NULL, NULL);
			if (!w)
				assert_int_equal(gw_guest_save(to.job, to.guest, image, NULL, NULL), 0); /* a guest like any other */
			vm_free(&to);
			unlink(image);
		}
}

static void refused_while_pages_are_missing(struct vm *vm)
{
	struct gw_guest_restore_opts o = lazily();
	struct gw_block block = GW_INIT(block);
	assert_int_equal(gw_guest_send(vm->job, vm->guest, "tcp:127.0.0.1:1", NULL, NULL), -EAGAIN);
	assert_int_equal(gw_guest_protect(vm->job, vm->guest, "tcp:127.0.0.1:1", NULL, NULL), -EAGAIN);
	assert_int_equal(gw_guest_save(vm->job, vm->guest, other_image, NULL, NULL), -EAGAIN);
	assert_int_equal(restore(vm, &o), -EEXIST);
	assert_int_equal(gw_guest_free(vm->guest), -EBUSY);
	assert_int_equal(gw_guest_decide(vm->guest, true), -EALREADY);
	assert_int_equal(gw_guest_remove_block(vm->guest, "ram0"), -EBUSY);
	assert_int_equal(gw_guest_add_block(vm->guest, &block), -EBUSY);
	assert_int_equal(gw_guest_where(vm->guest), GW_PARTIAL);
}

static void cancelled_and_resumed(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM), other = ram_of(4, GW__MEM_HOT);
	struct gw_guest_restore_opts o = lazily(), again = lazily();
	gw_job *job;
	struct vm to;
	save(&ram, image);
	save(&other, other_image);
	again.resume = true;
	vm_new(&to, &ram, true);
	assert_int_equal(restore(&to, &again), -ESRCH);
	gw_job_on_guest_event(to.job, cancel, &to);
	assert_int_equal(restore(&to, &o), -ECANCELED);
	assert_partial(&to);
	assert_non_null(strstr(gw_job_error(to.job), "pages of the guest are still missing"));
	gw_job_reset(to.job);
	refused_while_pages_are_missing(&to);
	assert_int_equal(gw_guest_restore(to.job, to.guest, other_image, &again, &to.result), -EINVAL);
	assert_non_null(strstr(gw_job_error(to.job), "not the image"));
	assert_partial(&to);
	assert_int_equal(gw_job_new(&job), 0); /* any job does */
	if (gw_guest_restore(job, to.guest, image, &again, &to.result))
		fail_msg("%s", gw_job_error(job));
	gw_job_free(job);
	assert_whole(&to);
	assert_int_equal(restore(&to, &again), -ESRCH);
	vm_free(&to);
	unlink(image);
	unlink(other_image);
}

static uint8_t *read_file(const char *path, size_t *n)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0 && !fstat(fd, &st));
	*n = (size_t)st.st_size;
	uint8_t *bytes = malloc(*n);
	assert_non_null(bytes);
	assert_int_equal(read(fd, bytes, *n), *n);
	close(fd);
	return bytes;
}

/* The image cannot be read half-way, and later it can. */
static void damaged_and_put_right(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_SWEEP);
		struct gw_guest_restore_opts o = lazily(), again = lazily();
		struct vm to;
		size_t n;
		save(&ram, image);
		again.resume = true;
		waits = i;
		uint8_t *bytes = read_file(image, &n);
		vm_new(&to, &ram, true);
		gw_job_on_guest_event(to.job, cut_image, &to);
		assert_int_equal(restore(&to, &o), -ENODATA);
		assert_partial(&to);
		assert_non_null(strstr(gw_job_error(to.job), image));
		gw_job_on_guest_event(to.job, NULL, NULL);
		assert_true(restore(&to, &again) < 0);
		assert_int_equal(gw_guest_where(to.guest), GW_PARTIAL);
		assert_int_equal(to.result.outcome.exit_status, GW__STATUS_RECOVERABLE);
		int fd = open(image, O_WRONLY);
		assert_int_equal(write(fd, bytes, n), n);
		close(fd);
		if (restore(&to, &again))
			fail_msg("%s", gw_job_error(to.job));
		assert_whole(&to);
		vm_free(&to);
		free(bytes);
		unlink(image);
	}
}

/* Of a guest that is not run, as its hook fails: what was touched meanwhile. */
static uint64_t chosen;

static void discard_one(struct vm *vm) { assert_int_equal(gw_guest_discard(vm->guest, "ram0", chosen, PAGE), 0); }

static void write_elsewhere(struct vm *vm)
{
	uint64_t garbage = ~UINT64_C(0);
	assert_int_equal(pwrite(gw__mem_guest_ram(vm->mem).fd, &garbage, sizeof garbage, (off_t)chosen), sizeof garbage);
}

static void choose_page_with_content(const struct gw__mem_guest_opts *ram)
{
	struct gw_guest_restore_opts o = GW_INIT(o);
	struct vm vm;
	vm_new(&vm, ram, true);
	o.stay_paused = true;
	assert_int_equal(restore(&vm, &o), 0);
	const uint8_t *host = gw__mem_guest_ram(vm.mem).host;
	for (chosen = ram->bytes / 2; !*(const uint64_t *)(const void *)(host + chosen); chosen += PAGE)
		;
	vm_free(&vm);
}

static void discarded_before_it_came(void **state)
{
	(void)state;
	for (unsigned shared = 0; shared < 2; shared++) {
		struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
		struct gw_guest_restore_opts o = lazily();
		struct gw__mem_check check;
		struct gw__error error = {0};
		struct vm to;
		save(&ram, image);
		choose_page_with_content(&ram);
		ram.shared = shared;
		vm_new(&to, &ram, true);
		to.on_resume = discard_one;
		to.resume_fails = -EAGAIN;
		assert_int_equal(restore(&to, &o), -EAGAIN);
		assert_true(to.result.hook_failed && to.result.where == GW_HERE && !to.runs);
		assert_int_equal(gw__mem_guest_check(to.mem, 0, ram.bytes / PAGE, NULL, &check, &error), -EBADMSG);
		assert_int_equal(check.faulty[GW__MEM_RIGHT], check.pages - 1); /* as it should */
		assert_int_equal(check.offset, chosen);
		assert_int_equal(*(const uint64_t *)(const void *)(gw__mem_guest_ram(to.mem).host + chosen), 0);
		vm_free(&to);
		unlink(image);
	}
}

static void written_by_another_mapping(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct gw_guest_restore_opts o = lazily();
	char place[32];
	struct vm to;
	save(&ram, image);
	choose_page_with_content(&ram);
	ram.shared = true;
	vm_new(&to, &ram, true);
	to.on_resume = write_elsewhere;
	to.resume_fails = -EAGAIN;
	assert_int_equal(restore(&to, &o), -EIO);
	assert_partial(&to);
	snprintf(place, sizeof place, "offset 0x%jx", (uintmax_t)chosen);
	assert_non_null(strstr(gw_job_error(to.job), place));
	assert_int_equal(gw_guest_decide(to.guest, false), 0); /* nothing of it runs */
	assert_int_equal(gw_guest_where(to.guest), GW_EMPTY);
	to.on_resume = NULL;
	assert_int_equal(restore(&to, &o), 0); /* from the beginning */
	assert_whole(&to);
	vm_free(&to);
	unlink(image);
}

static void failures_before_it_runs(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct gw_guest_restore_opts o = lazily();
	struct vm to;
	save(&ram, image);
	vm_new(&to, &ram, true);
	to.load_fails = -EBADF;
	to.touches = true;
	assert_int_equal(restore(&to, &o), -EBADF);
	assert_int_equal(to.result.where, GW_EMPTY);
	assert_int_equal(to.result.outcome.place, GW_PLACE_KEPT_WHOLE);
	gw_job_cancel(to.job);
	assert_int_equal(restore(&to, &o), -ECANCELED);
	gw_job_reset(to.job);
	o.stay_paused = true;
	assert_int_equal(restore(&to, &o), -EINVAL);
	o.lazy = false;
	o.resume = true;
	assert_int_equal(restore(&to, &o), -EINVAL);
	assert_int_equal(
		gw_guest_restore(to.job, to.guest, "/dev/null", &(struct gw_guest_restore_opts){.size = sizeof o, .lazy = true}, NULL) < 0,
		1);
	assert_int_equal(to.result.where, GW_EMPTY);
	assert_int_equal(restore(&to, NULL), 0); /* nothing is watched any more */
	assert_true(vm_is_right(&to));
	vm_free(&to);
	unlink(image);
}

static void a_descriptor_that_is_lent(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct gw_guest_restore_opts o = lazily();
	struct uffdio_api api = {.api = UFFD_API};
	int uffd = gw__userfaultfd_open(true), used = gw__userfaultfd_open(true), none = open("/dev/null", O_RDONLY);
	struct vm to;
	save(&ram, image);
	vm_new(&to, &ram, true);
	assert_int_equal(ioctl(used, UFFDIO_API, &api), 0);
	o.uffd = &used;
	assert_int_equal(restore(&to, &o), -EINVAL);
	assert_non_null(strstr(gw_job_error(to.job), "was not agreed on before"));
	o.uffd = &none;
	assert_int_equal(restore(&to, &o), -EINVAL);
	fcntl(uffd, F_SETFL, 0); /* as it may come */
	o.uffd = &uffd;
	if (restore(&to, &o))
		fail_msg("%s", gw_job_error(to.job));
	assert_whole(&to);
	vm_free(&to);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(close((int[]){uffd, used, none}[i]), 0);
	unlink(image);
}

/* --- a thread that waits for a page --- */

static sigjmp_buf out_of_it;
static _Atomic bool touches, ended;

static void leave(int number) { siglongjmp(out_of_it, number); } /* before the touch, or out of it */

static void *touch(void *host)
{
	if (!sigsetjmp(out_of_it, 1)) {
		atomic_store(&touches, true);
		return *(volatile uint8_t *)host ? &ended : NULL;
	}
	atomic_store(&ended, true);
	return host;
}

/* It is how a VMM ends its vCPUs before it gives a guest up. */
static void a_signal_ends_the_wait(void **state)
{
	(void)state;
	struct gw__guest_block block = {.name = "ram0", .bytes = 4 * PAGE, .page_bytes = PAGE, .fd = -1}, *blocks[] = {&block};
	struct sigaction before, a = {.sa_handler = leave};
	struct gw__error error = {0};
	struct gw__demand *d;
	pthread_t thread;
	void *result;
	block.host = mmap(NULL, block.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(gw__demand_new(&d, PAGE, -1, true, &error), 0);
	assert_int_equal(gw__demand_add_blocks(d, blocks, 1, &error), 0);
	assert_int_equal(gw__demand_watch(d, &error), 0);
	assert_int_equal(gw__demand_missing(d), 4);
	sigaction(SIGUSR1, &a, &before);
	assert_int_equal(pthread_create(&thread, NULL, touch, block.host), 0);
	while (!atomic_load(&touches))
		usleep(1000);
	usleep(10000); /* by then it waits, nearly always */
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, &result);
	assert_ptr_equal(result, block.host); /* it did not read anything */
	sigaction(SIGUSR1, &before, NULL);
	gw__demand_free(d);
	munmap(block.host, block.bytes);
}

/* --- in a process of its own --- */

static int without_privilege(void)
{
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct gw_guest_restore_opts o = lazily();
	struct vm to;
	if (getuid() == 0 && (setgid(NOBODY) || setuid(NOBODY)))
		return 2;
	int uffd = gw__userfaultfd_open(false);
	vm_new(&to, &ram, true);
	o.user_mode = false;
	int r = restore(&to, &o);
	const char *why = gw_job_error(to.job);
	if (uffd < 0 &&
		(r != -EPERM || to.result.where != GW_EMPTY || !strstr(why, "vm.unprivileged_userfaultfd") || !strstr(why, "user_mode")))
		return 3;
	if (uffd >= 0)
		return r ? 4 : 0;
	o.user_mode = true;
	if (restore(&to, &o)) {
		fprintf(stderr, "%s\n", gw_job_error(to.job));
		return 5;
	}
	bool right = vm_is_right(&to);
	vm_free(&to);
	return right ? 0 : 6;
}

static void needs_no_privilege_for_user_mode(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	int status;
	save(&ram, image);
	assert_true(!chmod(folder, 0755) && !chmod(image, 0644));
	pid_t child = fork();
	if (!child)
		_exit(without_privilege());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	unlink(image);
}

static int half_way[2];

static void say_and_wait(void *ctx, const struct gw_guest_event *e)
{
	run_on_faults(ctx, e);
	if (write(half_way[1], "", 1) != 1)
		_exit(2);
	for (;;)
		pause();
}

/* What the image keeps is not touched by a guest that ran from it. */
static void killed_while_pages_come(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct gw_guest_restore_opts o = lazily();
	struct vm to;
	size_t n, after;
	char byte;
	save(&ram, image);
	uint8_t *bytes = read_file(image, &n);
	assert_int_equal(pipe(half_way), 0);
	pid_t child = fork();
	if (!child) {
		vm_new(&to, &ram, true);
		gw_job_on_guest_event(to.job, say_and_wait, &to);
		_exit(restore(&to, &o) ? 3 : 4);
	}
	close(half_way[1]);
	assert_int_equal(read(half_way[0], &byte, 1), 1);
	assert_true(!kill(child, SIGKILL) && waitpid(child, NULL, 0) == child);
	close(half_way[0]);
	uint8_t *left = read_file(image, &after);
	assert_int_equal(after, n);
	assert_memory_equal(left, bytes, n);
	free(left);
	free(bytes);
	vm_new(&to, &ram, true);
	assert_int_equal(restore(&to, &o), 0);
	assert_whole(&to);
	vm_free(&to);
	unlink(image);
}

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(image, sizeof image, "%s/image", folder);
	snprintf(other_image, sizeof other_image, "%s/other", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder); /* nothing may be left in it */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_while_pages_come),
		cmocka_unit_test(cancelled_and_resumed),
		cmocka_unit_test(damaged_and_put_right),
		cmocka_unit_test(discarded_before_it_came),
		cmocka_unit_test(written_by_another_mapping),
		cmocka_unit_test(failures_before_it_runs),
		cmocka_unit_test(a_descriptor_that_is_lent),
		cmocka_unit_test(a_signal_ends_the_wait),
		cmocka_unit_test(needs_no_privilege_for_user_mode),
		cmocka_unit_test(killed_while_pages_come),
	};
	int fd = gw__userfaultfd_open(true);
	if (fd < 0) {
		fprintf(stderr, "skipped: no userfaultfd: %s\n", strerror(errno));
		return SKIPPED;
	}
	close(fd);
	return cmocka_run_group_tests_name("a guest is restored lazily", tests, make_folder, remove_folder);
}
