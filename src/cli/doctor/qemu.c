/* SPDX-License-Identifier: MIT */
/* Which QEMU is installed and what it can do together with godwit; see doctor.h. */
#include "cli/doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <godwit-qemu.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ANSWER_MS = 10000, END_MS = 500 };

static pid_t start(const char *const *argv, int *out)
{
	int pipe_fd[2];
	if (pipe2(pipe_fd, O_CLOEXEC))
		return -1;
	pid_t child = fork();
	if (child == 0) {
		dup2(pipe_fd[1], STDOUT_FILENO);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		dprintf(STDOUT_FILENO, "!%s", strerror(errno));
		_exit(127);
	}
	int err = errno;
	close(pipe_fd[1]);
	if (child < 0)
		close(pipe_fd[0]);
	errno = err;
	*out = pipe_fd[0];
	return child;
}

/* What the program prints, up to the room there is. False when it took too long. */
static bool read_answer(int fd, char *text, size_t text_bytes)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	ssize_t got = 1;
	size_t n = 0;
	while (got > 0 && n + 1 < text_bytes) {
		if (poll(&p, 1, ANSWER_MS) != 1)
			return false;
		got = read(fd, text + n, text_bytes - 1 - n);
		n += got > 0 ? (size_t)got : 0;
	}
	text[n] = 0;
	return true;
}

/* One that does not end by itself, because it has more to say or hangs, is ended. */
static int end_child(pid_t child)
{
	int status;
	for (int ms = 0; ms < END_MS; ms += 10) {
		if (waitpid(child, &status, WNOHANG) == child)
			return status;
		poll(NULL, 0, 10);
	}
	kill(child, SIGKILL);
	return waitpid(child, &status, 0) == child ? status : 0;
}

/* What `argv` says, or "!" and why it says nothing. */
static void ask(const char *const *argv, char *line, size_t line_bytes)
{
	int fd;
	pid_t child = start(argv, &fd);
	if (child < 0) {
		snprintf(line, line_bytes, "!%s", strerror(errno));
		return;
	}
	bool answered = read_answer(fd, line, line_bytes);
	close(fd);
	int status = end_child(child);
	if (!answered)
		snprintf(line, line_bytes, "!it does not answer");
	else if (WIFEXITED(status) && WEXITSTATUS(status) && !line[0])
		snprintf(line, line_bytes, "!it ends with status %d", WEXITSTATUS(status));
}

void gw__check_qemu(struct gw__checkup *c)
{
	static const char marker[] = "version ";
	char line[200];
	unsigned major = 0, minor = 0;
	ask((const char *const[]){c->qemu, "--version", NULL}, line, sizeof line);
	line[strcspn(line, "\n")] = 0;
	if (line[0] == '!') {
		gw__checkup_is(c, GW__FOUND_MISSING, "install QEMU (Debian: qemu-system-x86), or name it: --qemu=PROGRAM", "%s: %s",
			c->qemu, line + 1);
		return;
	}
	const char *at = strstr(line, marker);
	if (!at || sscanf(at + strlen(marker), "%u.%u", &major, &minor) != 2) {
		gw__checkup_is(c, GW__FOUND_MISSING, "name a QEMU: --qemu=PROGRAM", "%s does not report its version", c->qemu);
		return;
	}
	if (major < 9) {
		gw__checkup_is(c, GW__FOUND_LIMITED, "QEMU 9.0 or later reads and writes images itself",
			"%s: saved and restored as a stream; it does not know mapped-ram images", line);
		return;
	}
	gw__checkup_is(c, GW__FOUND_OK, NULL, "%s: streams, and reads mapped-ram images itself", line);
}

/* Does it take a part of a file as memory that may be written and is not shared? */
void gw__check_clones(struct gw__checkup *c)
{
	char text[8192];
	ask((const char *const[]){c->qemu, "-object", "memory-backend-file,help", NULL}, text, sizeof text);
	if (text[0] == '!')
		gw__checkup_is(c, GW__FOUND_MISSING, "install QEMU (Debian: qemu-system-x86), or name it: --qemu=PROGRAM", "%s: %.200s",
			c->qemu, text + 1);
	else if (strstr(text, " rom=") && strstr(text, " offset="))
		gw__checkup_is(c, GW__FOUND_OK, NULL, "%s can map images as memory", c->qemu);
	else
		gw__checkup_is(c, GW__FOUND_LIMITED, "QEMU 8.2 or later; restore without --clone needs none",
			"%s cannot map a part of a file as memory that is copied on write", c->qemu);
}

static void judge_userfaultfd(struct gw__checkup *c, enum gw_qemu_userfaultfd may, uint32_t uid)
{
	switch (may) {
	case GW_QEMU_USERFAULTFD_ALLOWED:
		gw__checkup_is(c, GW__FOUND_OK, NULL, "user %u, which this QEMU runs as, may use userfaultfd", (unsigned)uid);
		return;
	case GW_QEMU_USERFAULTFD_FORBIDDEN:
		gw__checkup_is(c, GW__FOUND_MISSING,
			"set sysctl vm.unprivileged_userfaultfd=1, or give QEMU access to /dev/userfaultfd or CAP_SYS_PTRACE; restore without --lazy needs none",
			"user %u, which this QEMU runs as, may not use userfaultfd: serve and restore --lazy will be refused",
			(unsigned)uid);
		return;
	default:
		gw__checkup_is(c, GW__FOUND_LIMITED, "run doctor on that QEMU's host, with a unix socket of its monitor",
			"this monitor does not show whether its QEMU may use userfaultfd");
	}
}

void gw__check_qemu_userfaultfd(struct gw__checkup *c)
{
	enum gw_qemu_userfaultfd may = GW_QEMU_USERFAULTFD_UNKNOWN;
	uint32_t uid = 0;
	gw_job *job = NULL;
	gw_qemu *qemu = NULL;
	if (gw_job_new(&job) || gw_qemu_new(job, &qemu))
		gw__checkup_is(c, GW__FOUND_MISSING, "free some memory", "no memory");
	else if (gw_qemu_may_userfaultfd(qemu, c->qmp, &may, &uid))
		gw__checkup_is(c, GW__FOUND_MISSING, "name the QMP socket of a QEMU that runs", "%s", gw_qemu_error(qemu));
	else
		judge_userfaultfd(c, may, uid);
	gw_qemu_free(qemu);
	gw_job_free(job);
}
