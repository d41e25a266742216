/* SPDX-License-Identifier: MIT */
/* Which QEMU is there and what it can do together with godwit; see doctor.h. */
#include "cli/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ANSWER_MS = 10000 };

static pid_t start(const char *program, int *out)
{
	int pipe_fd[2];
	if (pipe2(pipe_fd, O_CLOEXEC))
		return -1;
	pid_t child = fork();
	if (child == 0) {
		dup2(pipe_fd[1], STDOUT_FILENO);
		execlp(program, program, "--version", (char *)NULL);
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

/* The first line of `program --version`, or "!" and why there is none. */
static void ask_version(const char *program, char *line, size_t line_bytes)
{
	int fd;
	pid_t child = start(program, &fd);
	if (child < 0) {
		snprintf(line, line_bytes, "!%s", strerror(errno));
		return;
	}
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t n = 0;
	while (n + 1 < line_bytes && poll(&p, 1, ANSWER_MS) == 1) {
		ssize_t got = read(fd, line + n, line_bytes - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	line[n] = 0;
	line[strcspn(line, "\n")] = 0;
	close(fd);
	kill(child, SIGKILL); /* one that still has not answered, or is busy saying more */
	waitpid(child, NULL, 0);
}

void gw__check_qemu(struct gw__checkup *c)
{
	static const char marker[] = "version ";
	char line[200];
	unsigned major = 0, minor = 0;
	ask_version(c->qemu, line, sizeof line);
	if (line[0] == '!') {
		gw__checkup_is(c, GW__FOUND_MISSING,
			"install QEMU (Debian: qemu-system-x86), or name it: --qemu=PROGRAM", "%s: %s",
			c->qemu, line + 1);
		return;
	}
	const char *at = strstr(line, marker);
	if (!at || sscanf(at + strlen(marker), "%u.%u", &major, &minor) != 2) {
		gw__checkup_is(c, GW__FOUND_MISSING, "name a QEMU: --qemu=PROGRAM",
			"%s does not say its version", c->qemu);
		return;
	}
	if (major < 9) {
		gw__checkup_is(c, GW__FOUND_LIMITED, "QEMU 9.0 or later reads and writes images itself",
			"%s: saved and restored as a stream; it does not know mapped-ram images", line);
		return;
	}
	gw__checkup_is(c, GW__FOUND_OK, NULL, "%s: streams, and reads mapped-ram images itself", line);
}
