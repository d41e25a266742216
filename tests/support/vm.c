/* SPDX-License-Identifier: MIT */
/* Starts, watches and ends QEMU processes; see vm.h. It speaks no QMP. */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGS_MAX = 128, START_MS = 240000, TICK_MS = 20 };

static long now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void tick(void) { nanosleep(&(struct timespec){.tv_nsec = TICK_MS * 1000000L}, NULL); }

/* ---- where QEMU and the guest come from ---- */

/* The lines a script prints, `room` bytes each. Its own stderr says what is wrong. */
static int ask_script(const char *command, char **lines, int n, size_t room)
{
	char whole[512];
	snprintf(whole, sizeof whole, "'%s'/%s", GW_TEST_SCRIPTS, command);
	FILE *f = popen(whole, "r");
	if (!f)
		return -1;
	bool got = true;
	for (int i = 0; i < n && got; i++) {
		got = fgets(lines[i], (int)room, f) != NULL;
		if (got)
			lines[i][strcspn(lines[i], "\n")] = 0;
	}
	int status = pclose(f);
	if (WIFEXITED(status) && WEXITSTATUS(status) == GW_TEST_SKIP)
		return GW_TEST_SKIP;
	return status == 0 && got ? 0 : -1;
}

int gw_test_qemu_path(const char *version, char *path, size_t room)
{
	char variable[32], command[64];
	snprintf(variable, sizeof variable, "GODWIT_QEMU_%s", version);
	for (char *p = variable; *p; p++)
		*p = *p == '.' ? '_' : *p;
	const char *given = getenv(variable);
	if (given && *given) {
		snprintf(path, room, "%s", given);
		return 0;
	}
	snprintf(command, sizeof command, "get-qemu %s", version);
	return ask_script(command, (char *[]){path}, 1, room);
}

int gw_test_guest_paths(char *kernel, char *initrd, size_t room) { return ask_script("get-guest", (char *[]){kernel, initrd}, 2, room); }

/* ---- starting ---- */

static int make_folder(struct gw_test_vm *vm)
{
	/* Not TMPDIR: a socket's path has 107 bytes at most. */
	snprintf(vm->dir, sizeof vm->dir, "/tmp/godwit-vm-XXXXXX");
	if (!mkdtemp(vm->dir)) {
		fprintf(stderr, "no folder for a VM: %s\n", strerror(errno));
		vm->dir[0] = 0;
		return -1;
	}
	const struct {
		char *path;
		const char *name;
	} files[] = {{vm->qmp, "qmp"}, {vm->qmp2, "qmp2"}, {vm->serial, "serial"}, {vm->ram, "ram"}, {vm->log, "log"}};
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		snprintf(files[i].path, sizeof vm->qmp, "%s/%s", vm->dir, files[i].name);
	return 0;
}

/* An argument of printf's kind, allocated; process memory, freed with the process. */
__attribute__((format(printf, 1, 2))) static char *format(const char *fmt, ...)
{
	char *out = NULL;
	va_list ap;
	va_start(ap, fmt);
	if (vasprintf(&out, fmt, ap) < 0)
		out = NULL;
	va_end(ap);
	return out;
}

static char *with_folder(const char *arg, const char *dir)
{
	const char *mark = strstr(arg, "{dir}");
	return mark ? format("%.*s%s%s", (int)(mark - arg), arg, dir, mark + 5) : format("%s", arg);
}

/* In the child: never returns. */
static void become_qemu(const struct gw_test_vm *vm, const char *qemu, const char *const *args, pid_t parent)
{
	const char *argv[ARGS_MAX] = {qemu, "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-qmp",
		format("unix:%s,server=on,wait=off", vm->qmp), "-qmp", format("unix:%s,server=on,wait=off", vm->qmp2), "-serial",
		format("file:%s", vm->serial)};
	int n = 0;
	while (argv[n])
		n++;
	for (; *args && n < ARGS_MAX - 1; args++)
		argv[n++] = with_folder(*args, vm->dir);
	int in = open("/dev/null", O_RDONLY), out = open(vm->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(in, 0);
	dup2(out, 1);
	dup2(out, 2);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == parent)
		execv(qemu, (char **)argv);
	dprintf(2, "cannot run %s: %s\n", qemu, strerror(errno));
	_exit(127);
}

static void show_log(const struct gw_test_vm *vm)
{
	char text[2000];
	FILE *f = fopen(vm->log, "r");
	size_t n = f ? fread(text, 1, sizeof text, f) : 0;
	if (f)
		fclose(f);
	fprintf(stderr, "QEMU said: %.*s\n", (int)n, text);
}

static bool has_ended(struct gw_test_vm *vm)
{
	if (vm->pid && waitpid(vm->pid, &vm->status, WNOHANG) == vm->pid)
		vm->pid = 0;
	return vm->pid == 0;
}

int gw_test_vm_start(struct gw_test_vm *vm, const char *qemu, const char *const *args)
{
	*vm = (struct gw_test_vm){0};
	if (make_folder(vm) != 0)
		return -1;
	pid_t parent = getpid();
	fflush(NULL);
	vm->pid = fork();
	if (vm->pid == 0)
		become_qemu(vm, qemu, args, parent);
	if (vm->pid < 0)
		vm->pid = 0;
	/* QEMU opens them in the order of its arguments. */
	for (long end = now_ms() + START_MS; access(vm->qmp2, F_OK) != 0; tick()) {
		if (!has_ended(vm) && now_ms() < end)
			continue;
		fprintf(stderr, "%s did not start\n", qemu);
		show_log(vm);
		gw_test_vm_stop(vm);
		return -1;
	}
	return 0;
}

/* ---- watching and ending ---- */

/* Look through the whole lines from vm->serial_seen on; true when one contains `text`. */
static bool find_line(struct gw_test_vm *vm, const char *text, char *line, size_t room)
{
	FILE *f = fopen(vm->serial, "r");
	char *read = NULL;
	size_t size = 0;
	bool found = false;
	if (!f)
		return false;
	fseek(f, (long)vm->serial_seen, SEEK_SET);
	while (!found) {
		ssize_t n = getline(&read, &size, f);
		if (n <= 0 || read[n - 1] != '\n')
			break;
		vm->serial_seen += (size_t)n;
		read[strcspn(read, "\r\n")] = 0;
		found = strstr(read, text) != NULL;
	}
	if (found && line)
		snprintf(line, room, "%s", read);
	free(read);
	fclose(f);
	return found;
}

int gw_test_vm_wait_serial(struct gw_test_vm *vm, const char *text, int timeout_ms, char *line, size_t room)
{
	for (long end = now_ms() + timeout_ms;; tick()) {
		bool ended = has_ended(vm); /* asked first: its last words count */
		if (find_line(vm, text, line, room))
			return 0;
		if (!ended && now_ms() < end)
			continue;
		fprintf(stderr, "\"%s\" did not come from the serial port%s\n", text, ended ? ": QEMU has ended" : "");
		show_log(vm);
		return -1;
	}
}

int gw_test_vm_wait_end(struct gw_test_vm *vm, int timeout_ms)
{
	for (long end = now_ms() + timeout_ms; !has_ended(vm); tick()) {
		if (now_ms() >= end)
			return -1;
	}
	return 0;
}

void gw_test_vm_kill(struct gw_test_vm *vm)
{
	if (has_ended(vm))
		return;
	kill(vm->pid, SIGKILL);
	waitpid(vm->pid, &vm->status, 0);
	vm->pid = 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where) { return remove(path); }

void gw_test_vm_stop(struct gw_test_vm *vm)
{
	gw_test_vm_kill(vm);
	if (vm->dir[0])
		nftw(vm->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	vm->dir[0] = 0;
}
