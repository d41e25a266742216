/* SPDX-License-Identifier: MIT */
/* The VM helper of the C tests keeps its promises, with the Linux test guest. test_support 7.2|10.0|11.1 */
#include "qmp_real.h"

#include <signal.h>
#include <sys/wait.h>

static char kernel[512], initrd[512];

static void a_guest_is_heard_and_gone(void **state)
{
	(void)state;
	const char *args[] = {"-machine", "pc,memory-backend=m0", "-m", "128", "-object",
		"memory-backend-file,id=m0,size=128M,mem-path={dir}/ram,share=on", "-kernel", kernel, "-initrd", initrd, "-append",
		"console=ttyS0 quiet stamp=1", NULL};
	struct gw_test_vm vm;
	char first[200], second[200], dir[sizeof vm.dir];
	assert_int_equal(gw_test_vm_start(&vm, qemu, args), 0);
	assert_int_equal(gw_test_vm_wait_serial(&vm, "tick ", PATIENCE_MS, first, sizeof first), 0);
	assert_int_equal(gw_test_vm_wait_serial(&vm, "tick ", PATIENCE_MS, second, sizeof second), 0);
	assert_memory_equal(first, "tick ", 5);
	assert_int_equal(atoi(second + 5), atoi(first + 5) + 1); /* the next line, not the same one */
	assert_int_equal(access(vm.ram, R_OK), 0);
	assert_int_equal(gw_test_vm_wait_end(&vm, 0), -1);
	gw_test_vm_kill(&vm);
	assert_int_equal(vm.pid, 0);
	assert_true(WIFSIGNALED(vm.status) && WTERMSIG(vm.status) == SIGKILL);
	assert_int_equal(gw_test_vm_wait_serial(&vm, "no such words", PATIENCE_MS, NULL, 0), -1);
	assert_int_equal(access(vm.serial, R_OK), 0);
	memcpy(dir, vm.dir, sizeof dir);
	gw_test_vm_stop(&vm);
	assert_int_equal(access(dir, F_OK), -1);
	gw_test_vm_stop(&vm);
}

static void an_end_of_its_own_is_seen(void **state)
{
	(void)state;
	struct bench b;
	bench_start(&b, (const char *const[]){"-S", "-m", "16", NULL});
	assert_ok(&b, gw__qmp_call(b.q, "quit", NULL, NULL, &b.error));
	assert_int_equal(gw_test_vm_wait_end(&b.vm, PATIENCE_MS), 0);
	assert_true(WIFEXITED(b.vm.status) && WEXITSTATUS(b.vm.status) == 0);
	bench_stop(&b);
}

static void what_does_not_start_leaves_nothing(void **state)
{
	(void)state;
	struct gw_test_vm vm;
	assert_int_equal(gw_test_vm_start(&vm, qemu, (const char *const[]){"-no-such-option", NULL}), -1);
	assert_int_equal(vm.pid, 0);
	assert_string_equal(vm.dir, "");
	assert_int_equal(gw_test_vm_start(&vm, "/nonexistent/qemu", (const char *const[]){NULL}), -1);
	gw_test_vm_stop(&vm);
}

int main(int argc, char **argv)
{
	int status = find_qemu(argc, argv);
	if (!status)
		status = gw_test_guest_paths(kernel, initrd, sizeof kernel);
	if (status)
		return status < 0 ? 1 : status;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_is_heard_and_gone),
		cmocka_unit_test(an_end_of_its_own_is_seen),
		cmocka_unit_test(what_does_not_start_leaves_nothing),
	};
	return cmocka_run_group_tests_name("a VM for C tests", tests, NULL, NULL);
}
