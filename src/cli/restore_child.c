/* SPDX-License-Identifier: MIT */
/* The QEMU that restore starts: its command line, its life and its end. See restore.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/restore.h"

enum {
	GREETING_MS = 30000,
	END_MS = 5000, /* for a QEMU that is told to end */
};

static int count(char **v)
{
	int n = 0;
	while (v[n])
		n++;
	return n;
}

/* The command with what makes QEMU wait for its guest and gives us a monitor. NULL when there is no memory. */
static char **command_line(char **command, int fd, char chardev[64])
{
	const char *ours[] = {"-incoming", "defer", "-chardev", chardev, "-mon", "chardev=godwit-qmp,mode=control", NULL};
	int n = count(command), m = (int)GW__LEN(ours);
	char **v = calloc((size_t)(n + m), sizeof *v);
	if (!v)
		return NULL;
	snprintf(chardev, 64, "socket,id=godwit-qmp,fd=%d", fd);
	memcpy(v, command, (size_t)n * sizeof *v);
	memcpy(v + n, ours, (size_t)m * sizeof *v);
	return v;
}

static bool waits_for_something_else(char **command)
{
	for (int i = 0; command[i]; i++)
		if (!strcmp(command[i], "-incoming") || !strcmp(command[i], "--incoming") || !strcmp(command[i], "-loadvm"))
			return true;
	return false;
}

static void run_child(char **command, int fd)
{
	char chardev[64];
	char **v = command_line(command, fd, chardev);
	if (v && fcntl(fd, F_SETFD, 0) == 0)
		execvp(v[0], v);
	gw__cli_say(0, "cannot run %s: %s", command[0], strerror(errno));
	_exit(127);
}

int gw__restore_start_child(struct gw__restore *r)
{
	int pair[2];
	if (waits_for_something_else(r->command))
		return gw__why_set(&r->why, -EINVAL, "leave -incoming and -loadvm out of the command: restore adds what is needed");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return gw__why_errno(&r->why, errno, "cannot make a socket pair");
	pid_t pid = fork();
	if (pid < 0) {
		int err = errno;
		close(pair[0]);
		close(pair[1]);
		return gw__why_errno(&r->why, err, "cannot start %s", r->command[0]);
	}
	if (pid == 0)
		run_child(r->command, pair[1]);
	close(pair[1]);
	r->child = pid;
	int result = gw__qmp_take_fd(pair[0], GREETING_MS, &r->qmp, &r->why);
	if (result && gw__restore_child_died(r))
		return r->why.code;
	return result;
}

/* With -daemonize the process we started ends well and the guest lives on in another. */
bool gw__restore_child_died(struct gw__restore *r)
{
	int status;
	struct timespec t = {.tv_nsec = 100000000}; /* its socket closes a moment before it can be waited for */
	if (!r->child)
		return false;
	nanosleep(&t, NULL);
	if (waitpid(r->child, &status, WNOHANG) != r->child)
		return false;
	r->child = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return false;
	gw__why_clear(&r->why);
	if (WIFSIGNALED(status))
		gw__why_set(&r->why, -ECHILD, "%s was ended by signal %d (%s)", r->command[0], WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		gw__why_set(&r->why, -ECHILD, "%s ended with status %d; its own messages above say why", r->command[0], WEXITSTATUS(status));
	return true;
}

void gw__restore_end_child(struct gw__restore *r)
{
	if (!r->child)
		return;
	kill(r->child, SIGTERM);
	for (int waited = 0; waited < END_MS; waited += 20) {
		struct timespec t = {.tv_nsec = 20000000};
		if (waitpid(r->child, NULL, WNOHANG) == r->child) {
			r->child = 0;
			return;
		}
		nanosleep(&t, NULL);
	}
	kill(r->child, SIGKILL);
	waitpid(r->child, NULL, 0);
	r->child = 0;
}

int gw__restore_wait_child(struct gw__restore *r)
{
	int status;
	pid_t got;
	do
		got = waitpid(r->child, &status, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return GW__EXIT_DONE;
	if (WIFSIGNALED(status))
		return gw__cli_say(GW__EXIT_FAILED, "%s was ended by signal %d (%s)", r->command[0], WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	return gw__cli_say(GW__EXIT_FAILED, "%s ended with status %d", r->command[0], WEXITSTATUS(status));
}
