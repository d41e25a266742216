/* SPDX-License-Identifier: MIT */
/*
 * fenced beats|stops|frozen: in a Linux guest, a deadman (src/qemu/deadman.c) with a real watchdog, /dev/watchdog0, and a child in the place of a QEMU. Linked with Godwit's own
 * sources; PID 1 of its guest. Prints what it sees, each line with the seconds since it began.
 *
 *   beats    the moment is moved on for longer than the watchdog's time, then lifted: nothing is killed, the host stays
 *   stops    no moment comes any more: the child is killed, the host stays
 *   frozen   the same, and the deadman is stopped: the watchdog resets the host
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "qemu/deadman.h"
#include "qemu/hw_watchdog.h"

#define S UINT64_C(1000000000)
enum { TERM_S = 4 };

static uint64_t start_ns;

static void say(const char *text)
{
	printf("fenced %.1f %s\n", (double)(gw__boottime_ns() - start_ns) / 1e9, text);
	fflush(stdout);
}

static void load(const char *path)
{
	int fd = open(path, O_RDONLY);
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		say("cannot load a module");
	close(fd);
}

static pid_t victim(void)
{
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

static bool lives(pid_t pid) { return waitpid(pid, NULL, WNOHANG) == 0; }

static void beat(struct gw__deadman *d)
{
	if (!gw__deadman_set(d, gw__boottime_ns() + TERM_S * S))
		say("the moment was not taken");
}

static void watch(pid_t child, int seconds)
{
	for (int i = 0; i < seconds; i++) {
		sleep(1);
		say(lives(child) ? "host and child live" : "the child is dead, the host lives");
	}
	say("over");
}

static void run(const char *what)
{
	struct gw__error error = {0};
	struct gw__deadman d;
	pid_t child = victim();
	int dog = gw__hw_watchdog_open("/dev/watchdog0", &error);
	if (dog < 0 || gw__deadman_start(&d, pidfd_open(child, 0), -1, dog, &error)) {
		say(error.text);
		return;
	}
	if (gw__hw_watchdog_open("/dev/watchdog0", &error) != -EBUSY)
		say("it could be opened twice");
	for (int i = 0; i < (strcmp(what, "beats") ? 2 : 8); i++) {
		beat(&d);
		sleep(1);
	}
	if (!strcmp(what, "beats") && !gw__deadman_set(&d, GW__DEADMAN_NEVER))
		say("the end was not lifted");
	if (!strcmp(what, "frozen"))
		kill(d.pid, SIGSTOP);
	say("no more beats");
	watch(child, 3 * TERM_S);
}

int main(int argc, char **argv)
{
	const char *what = "";
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	int console = open("/dev/console", O_RDWR);
	dup2(console, 1);
	dup2(console, 2);
	for (int i = 1; i < argc; i++) /* words of the kernel's command line that it does not know */
		what = argv[i];
	start_ns = gw__boottime_ns();
	load("/watchdog.ko");
	load("/softdog.ko");
	say(what);
	run(what);
	for (;;)
		pause();
}
