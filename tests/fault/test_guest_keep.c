/* SPDX-License-Identifier: MIT */
/* A guest that never stops writing is kept in an image while it runs, and comes out of it; or it does not, and runs on. */
#include "../unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/math.h"
#include "guest_kit.h"

static char folder[] = "/tmp/godwit-keep-XXXXXX", image[64];

static struct gw__mem_guest_opts ram_of(uint64_t mib, enum gw__mem_workload workload)
{
	return (struct gw__mem_guest_opts){.bytes = mib << 20, .seed = 9, .workload = workload, .writers = 2, .steps_per_second = 20000};
}

static void start(struct vm *vm)
{
	assert_false(gw__mem_guest_resume(vm->mem));
	vm->runs = true;
}

static void check_image(gw_job *job)
{
	gw_info *info = NULL;
	struct gw_info_summary s = GW_INIT(s);
	assert_int_equal(gw_inspect(job, image, NULL, &info), 0);
	assert_int_equal(gw_info_summary(info, &s), 0);
	assert_string_equal(s.machine, "mem-1");
	assert_int_equal(s.devices, 1);
	assert_int_equal(s.blocks, 1);
	gw_info_free(info);
}

static void kept_while_it_runs(void **state)
{
	(void)state;
	for (enum gw__mem_workload w = GW__MEM_UNIFORM; w < GW__MEM_TOLD; w++) {
		struct gw__mem_guest_opts ram = ram_of(4, w);
		struct gw_guest_restore_opts ro = GW_INIT(ro);
		struct vm vm, to;
		ram.shared = w % 2;
		vm_new(&vm, &ram, false);
		vm_new(&to, &ram, true);
		start(&vm);
		for (unsigned i = 0; i < 2; i++) /* the second takes the place of the first */
			if (gw_guest_save(vm.job, vm.guest, image, NULL, &vm.result))
				fail_msg("%s", gw_job_error(vm.job));
		assert_true(vm.runs && vm.paused == 2 && vm.resumed == 2);
		assert_int_equal(vm.result.where, GW_HERE);
		assert_int_equal(vm.result.outcome.place, GW_PLACE_SOURCE_RUNS);
		assert_string_equal(vm.result.outcome.message, "saved");
		assert_true(vm.result.downtime_ns && vm.result.downtime_ns < vm.result.total_ns);
		check_image(vm.job);
		ro.stay_paused = w % 2;
		if (gw_guest_restore(to.job, to.guest, image, &ro, &to.result))
			fail_msg("%s", gw_job_error(to.job));
		assert_int_equal(to.runs, !ro.stay_paused);
		assert_int_equal(gw_guest_where(to.guest), GW_HERE);
		assert_true(vm_is_right(&to));
		assert_true(vm_is_right(&vm));
		assert_int_equal(gw_guest_restore(to.job, to.guest, image, NULL, NULL), -EEXIST);
		vm_free(&vm);
		vm_free(&to);
		unlink(image);
	}
}

static void kept_and_stopped(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct gw_guest_save_opts o = GW_INIT(o);
	struct vm vm;
	vm_new(&vm, &ram, false);
	start(&vm);
	o.stop = true;
	assert_int_equal(gw_guest_save(vm.job, vm.guest, image, &o, &vm.result), 0);
	assert_true(!vm.runs && vm.resumed == 0 && gw_guest_where(vm.guest) == GW_GONE);
	assert_int_equal(vm.result.outcome.place, GW_PLACE_KEPT_WHOLE);
	assert_int_equal(gw_guest_save(vm.job, vm.guest, image, &o, NULL), -ENODATA);
	assert_int_equal(gw_guest_restore(vm.job, vm.guest, image, NULL, NULL), 0); /* and back */
	assert_true(vm.runs && vm_is_right(&vm));
	vm_free(&vm);
	unlink(image);
}

static void failures(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM), more = ram_of(5, GW__MEM_UNIFORM);
	struct vm vm, to;
	vm_tracker = GW_TRACKER_OWN;
	vm_new(&vm, &ram, false);
	vm_tracker = GW_TRACKER_TOLD;
	vm_new(&to, &more, true);
	start(&vm);
	assert_int_equal(gw_guest_save(vm.job, NULL, image, NULL, NULL), -EINVAL);
	assert_int_equal(gw_guest_save(vm.job, vm.guest, NULL, NULL, NULL), -EINVAL);
	assert_string_equal(gw_job_error(vm.job), "path is NULL");
	assert_int_equal(gw_guest_save(vm.job, vm.guest, "/nonexistent/image", NULL, &vm.result), -ENOENT);
	assert_int_equal(vm.result.where, GW_HERE);
	vm.pause_fails = -EIO;
	assert_int_equal(gw_guest_save(vm.job, vm.guest, image, NULL, &vm.result), -EIO);
	assert_true(vm.result.hook_failed && vm.runs && !vm.resumed);
	vm.save_fails = -EBADF;
	assert_int_equal(gw_guest_save(vm.job, vm.guest, image, NULL, &vm.result), -EBADF);
	assert_true(vm.result.hook_failed && vm.runs && vm.resumed == 1);
	for (unsigned i = 0; i < 2; i++) {
		vm.start_fails = i ? 0 : -EMLINK;
		vm.take_fails = i ? -EMLINK : 0;
		assert_int_equal(gw_guest_save(vm.job, vm.guest, image, NULL, &vm.result), -EMLINK);
		assert_true(vm.result.hook_failed && vm.runs && vm.resumed == 1);
	}
	gw_job_cancel(vm.job);
	assert_int_equal(gw_guest_save(vm.job, vm.guest, image, NULL, &vm.result), -ECANCELED);
	assert_false(vm.result.hook_failed);
	gw_job_reset(vm.job);
	vm.resume_fails = -EAGAIN;
	assert_int_equal(gw_guest_save(vm.job, vm.guest, image, NULL, &vm.result), -EIO);
	assert_int_equal(vm.result.where, GW_HERE);
	assert_int_equal(vm.result.outcome.place, GW_PLACE_SOURCE_PAUSED);
	assert_int_equal(access(image, F_OK), -1); /* nothing of all that is left */
	start(&vm);
	assert_int_equal(gw_guest_save(vm.job, vm.guest, image, NULL, NULL), 0);
	assert_int_equal(gw_guest_restore(to.job, to.guest, "/nonexistent/image", NULL, &to.result), -ENOENT);
	assert_int_equal(to.result.where, GW_EMPTY);
	assert_int_equal(gw_guest_restore(to.job, to.guest, image, NULL, &to.result), -EINVAL);
	assert_int_equal(to.result.where, GW_EMPTY);
	assert_non_null(strstr(gw_job_error(to.job), "expected 5242880"));
	assert_true(vm_is_right(&vm));
	vm_free(&vm);
	vm_free(&to);
	unlink(image);
}

/* A userfaultfd that was lent to the guest serves one call after the other, also after a call that failed. */
static void a_userfaultfd_for_all_calls(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1); /* of faults in user mode */
	struct vm vm;
	if (uffd < 0)
		skip();
	vm_tracker = GW_TRACKER_WRITES;
	vm_uffd = &uffd;
	vm_new(&vm, &ram, false);
	vm_tracker = GW_TRACKER_TOLD;
	vm_uffd = NULL;
	start(&vm);
	vm.pause_fails = -EIO;
	int r = gw_guest_save(vm.job, vm.guest, image, NULL, &vm.result);
	bool can = r != -EOPNOTSUPP; /* else the kernel is older than the tracker needs */
	if (can)
		assert_int_equal(r, -EIO);
	for (unsigned i = 0; can && i < 2; i++)
		if (gw_guest_save(vm.job, vm.guest, image, NULL, &vm.result))
			fail_msg("%s", gw_job_error(vm.job));
	vm_free(&vm);
	close(uffd);
	unlink(image);
	if (!can)
		skip();
}

static bool folders_fail;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	struct stat st;
	if (!folders_fail || fstat(fd, &st) || !S_ISDIR(st.st_mode))
		return __real_fsync(fd);
	errno = EIO;
	return -1;
}

/* The image has its name, and its folder cannot be synced: the call fails, the guest runs on here, and the outcome says that there is an image. */
static void a_folder_that_cannot_be_synced(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct gw_guest_save_opts o = GW_INIT(o);
	struct vm vm;
	vm_new(&vm, &ram, false);
	start(&vm);
	assert_int_equal(gw_guest_save(vm.job, vm.guest, "/nonexistent/image", &o, &vm.result), -ENOENT);
	assert_false(vm.result.outcome.committed);
	for (unsigned stop = 0; stop < 2; stop++) {
		o.stop = stop;
		folders_fail = true;
		assert_int_equal(gw_guest_save(vm.job, vm.guest, image, &o, &vm.result), -EIO);
		folders_fail = false;
		assert_int_equal(access(image, F_OK), 0);
		assert_true(vm.result.outcome.committed && vm.runs && !vm.result.hook_failed);
		assert_int_equal(vm.result.where, GW_HERE);
		assert_int_equal(vm.result.outcome.place, GW_PLACE_SOURCE_RUNS);
		assert_int_equal(vm.result.outcome.next_step == GW_NEXT_REMOVE_FILES, stop);
		check_image(vm.job);
		unlink(image);
	}
	o.stop = false;
	assert_int_equal(gw_guest_save(vm.job, vm.guest, image, &o, &vm.result), 0);
	assert_true(vm.result.outcome.committed);
	vm_free(&vm);
	unlink(image);
}

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(image, sizeof image, "%s/image", folder);
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
		cmocka_unit_test(kept_while_it_runs),
		cmocka_unit_test(kept_and_stopped),
		cmocka_unit_test(failures),
		cmocka_unit_test(a_folder_that_cannot_be_synced),
		cmocka_unit_test(a_userfaultfd_for_all_calls),
	};
	return cmocka_run_group_tests_name("a guest is kept", tests, make_folder, remove_folder);
}
