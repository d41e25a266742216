/* SPDX-License-Identifier: MIT */
/* The QEMU that restore starts: its command line, its life and its end. See restore.h. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qmp/sleep.h"
#include "cli/cmd/restore.h"

enum {
	GREETING_MS = 30000,
	LOOK_MS = 200,
	ENDED_WELL_MS = 2000, /* a QEMU that makes itself a daemon has opened its monitor by then */
	END_MS = 5000,        /* for a QEMU that is told to end */
};

static int count(char **v)
{
	int n = 0;
	while (v[n])
		n++;
	return n;
}

/* The command with what makes QEMU wait for its guest and connect to our monitor. NULL when there is no memory. */
static char **command_line(char **command, const char *monitor)
{
	const char *ours[] = {"-incoming", "defer", "-qmp", monitor, NULL};
	int n = count(command), m = (int)GW__LEN(ours);
	char **v = calloc((size_t)(n + m), sizeof *v);
	if (!v)
		return NULL;
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

static pid_t start(char **command, const char *monitor)
{
	pid_t pid = fork();
	if (pid)
		return pid;
	char **v = command_line(command, monitor);
	if (v)
		execvp(v[0], v);
	gw__ui_error(0, "cannot run %s: %s", command[0], strerror(errno));
	_exit(127);
}

/* QEMU connects to us, so that nobody else can be first; the folder is ours alone. */
static int listen_in(char *dir, struct sockaddr_un *a, struct gw__error *error)
{
	if (!mkdtemp(dir))
		return gw__error_errno(error, errno, "cannot make a temporary folder %s", dir);
	snprintf(a->sun_path, sizeof a->sun_path, "%s/qmp", dir);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)a, sizeof *a) || listen(fd, 1)) {
		int err = errno;
		if (fd >= 0)
			close(fd);
		return gw__error_errno(error, err, "cannot listen at %s", a->sun_path);
	}
	return fd;
}

static int accept_monitor(struct gw__restore *r, int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	int ended_at = 0;
	for (int waited = 0; waited < GREETING_MS; waited += LOOK_MS) {
		if (poll(&p, 1, LOOK_MS) == 1) {
			int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			return fd >= 0 ? fd : gw__error_errno(&r->error, errno, "cannot take the monitor of %s", r->command[0]);
		}
		if (gw__restore_child_died(r))
			return r->error.code;
		if (gw__cli_stopped())
			return gw__error_set(&r->error, -ECANCELED, "%s", gw__command_error(&r->work));
		if (!r->child && !ended_at)
			ended_at = waited + LOOK_MS;
		if (ended_at && waited - ended_at > ENDED_WELL_MS)
			return gw__error_set(&r->error, -ECHILD, "%s ended without opening its monitor; is it a QEMU?", r->command[0]);
	}
	return gw__error_set(&r->error, -ETIMEDOUT, "%s did not open its monitor within %d s; is it a QEMU?", r->command[0],
		GREETING_MS / 1000);
}

static int start_and_accept(struct gw__restore *r, int listener, const char *monitor)
{
	r->child = start(r->command, monitor);
	if (r->child < 0) {
		r->child = 0;
		return gw__error_errno(&r->error, errno, "cannot start %s", r->command[0]);
	}
	int fd = accept_monitor(r, listener);
	return fd < 0 ? fd : gw__qmp_take_fd(fd, GREETING_MS, &r->qmp, &r->error);
}

int gw__restore_start_child(struct gw__restore *r)
{
	char dir[] = "/tmp/godwit-XXXXXX", monitor[128];
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (waits_for_something_else(r->command))
		return gw__error_set(&r->error, -EINVAL, "leave -incoming and -loadvm out of the command: restore adds what is needed");
	int listener = listen_in(dir, &a, &r->error);
	int result = listener;
	if (listener >= 0) {
		snprintf(monitor, sizeof monitor, "unix:%s", a.sun_path);
		result = start_and_accept(r, listener, monitor);
		close(listener);
	}
	unlink(a.sun_path);
	rmdir(dir);
	if (result && gw__restore_child_died(r))
		return r->error.code;
	return result;
}

/* With -daemonize the process we started ends well and the guest lives on in another. */
bool gw__restore_child_died(struct gw__restore *r)
{
	int status;
	if (!r->child)
		return false;
	gw__sleep_ms(100); /* its socket closes a moment before it can be waited for */
	if (waitpid(r->child, &status, WNOHANG) != r->child)
		return false;
	r->child = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return false;
	if (gw__cli_stopped() && r->error.code) /* it died of our stopping */
		return true;
	gw__error_clear(&r->error);
	if (WIFSIGNALED(status))
		gw__error_set(&r->error, -ECHILD, "%s was ended by signal %d (%s)", r->command[0], WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	else
		gw__error_set(&r->error, -ECHILD, "%s ended with status %d; its own messages above say why", r->command[0],
			WEXITSTATUS(status));
	return true;
}

void gw__restore_end_child(struct gw__restore *r)
{
	if (!r->child) { /* a daemon by now */
		gw__qmp_call(r->qmp, "quit", NULL, NULL, NULL);
		return;
	}
	kill(r->child, SIGTERM);
	for (int waited = 0; waited < END_MS; waited += 20) {
		if (waitpid(r->child, NULL, WNOHANG) == r->child) {
			r->child = 0;
			return;
		}
		gw__sleep_ms(20);
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
		return gw__ui_error(GW__EXIT_FAILED, "%s was ended by signal %d (%s)", r->command[0], WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	return gw__ui_error(GW__EXIT_FAILED, "%s ended with status %d", r->command[0], WEXITSTATUS(status));
}
