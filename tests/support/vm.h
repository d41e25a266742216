/* SPDX-License-Identifier: MIT */
/*
 * A real QEMU for interop and cli tests in C: found, started in a folder of its own, watched, gone
 *afterwards.
 *
 *	char qemu[256];
 *	if (gw_test_qemu_path("10.0", qemu, sizeof qemu) != 0)
 *		return 77;
 *	struct gw_test_vm vm;
 *	const char *args[] = {"-machine", "pc,memory-backend=m0", "-m", "16", "-object",
 *		"memory-backend-file,id=m0,size=16M,mem-path={dir}/ram,share=on", NULL};
 *	assert_int_equal(gw_test_vm_start(&vm, qemu, args), 0);
 *	... talk to vm.qmp or vm.qmp2, read vm.serial, map vm.ram ...
 *	gw_test_vm_stop(&vm);
 *
 * What fails says why on stderr, with what QEMU said. When the test program ends in the middle, however it
 *ends, its QEMUs die with it; only the folder then stays, to be looked at. Call everything from the main
 *thread.
 */
#ifndef GW_TESTS_SUPPORT_VM_H
#define GW_TESTS_SUPPORT_VM_H

#include <stddef.h>
#include <sys/types.h>

enum { GW_TEST_SKIP = 77 };

/*
 * QEMU `version` ("7.2", "10.0", "11.1"): what GODWIT_QEMU_7_2 and so on name, else what scripts/get-qemu
 * gives (which may fetch it). 0; or GW_TEST_SKIP when this machine cannot have it; or -1.
 */
int gw_test_qemu_path(const char *version, char *path, size_t room);
/* Kernel and initrd of the Linux test guest (scripts/get-guest), under the same rules. */
int gw_test_guest_paths(char *kernel, char *initrd, size_t room);

struct gw_test_vm {
	pid_t pid;          /* 0: not running */
	int status;         /* how it ended, as waitpid tells it */
	char dir[64];       /* private; may hold more files of the test */
	char qmp[80];       /* QMP for the program under test */
	char qmp2[80];      /* a second one, for the test itself to look and to command */
	char serial[80];    /* what the first serial port printed */
	char ram[80];       /* {dir}/ram, for a memory-backend-file */
	char log[80];       /* QEMU's stdout and stderr */
	size_t serial_seen; /* bytes of `serial` that gw_test_vm_wait_serial has passed */
};

/*
 * Start QEMU under TCG without a display, default devices or user configuration. `args` ends with NULL; the
 * first "{dir}" in each becomes the folder. 0 when its QMP sockets are there, else -1 and nothing is left.
 */
int gw_test_vm_start(struct gw_test_vm *vm, const char *qemu, const char *const *args);
/*
 * The next whole line of the serial port that contains `text`, not looking at lines passed before; copied to
 * `line` if that is not NULL. 0, or -1 after the limit or when QEMU has ended.
 */
int gw_test_vm_wait_serial(struct gw_test_vm *vm, const char *text, int timeout_ms, char *line, size_t room);
/* Has it ended? Waits at most `timeout_ms` for it. 0 and vm->status, or -1 when it still runs. */
int gw_test_vm_wait_end(struct gw_test_vm *vm, int timeout_ms);
void gw_test_vm_kill(struct gw_test_vm *vm); /* SIGKILL, as a host crash would; the folder stays */
void gw_test_vm_stop(struct gw_test_vm *vm); /* kill and remove the folder; fine on a zeroed or stopped one */

#endif
