/* SPDX-License-Identifier: MIT */
/* The QEMU that restore starts: its command line, its life and its end. See restore.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qemu/restore.h"
#include "qmp/sleep.h"

enum {
	GREETING_MS = 30000,
	LOOK_MS = 200,
	ENDED_WELL_MS = 2000, /* a QEMU that makes itself a daemon has opened its monitor by then */
	END_MS = 5000,        /* for a QEMU that is told to end */
	CANCEL_MS = 1000,     /* until a cancel is seen that came right before the wait */
};

static int count(char *const *v)
{
	int n = 0;
	while (v[n])
		n++;
	return n;
}

/* The command with what makes QEMU wait for its guest and connect to our monitor. NULL when there is no memory. */
static char *const *command_line(char *const *command, const char *monitor)
{
	const char *ours[] = {"-incoming", "defer", "-qmp", monitor, NULL};
	int n = count(command), m = (int)GW__LEN(ours);
	const char **v = calloc((size_t)(n + m), sizeof *v);
	if (!v)
		return NULL;
	memcpy(v, command, (size_t)n * sizeof *v);
	memcpy(v + n, ours, (size_t)m * sizeof *v);
	return (char *const *)v;
}

static bool waits_for_something_else(char *const *command)
{
	for (int i = 0; command[i]; i++)
		if (!strcmp(command[i], "-incoming") || !strcmp(command[i], "--incoming") || !strcmp(command[i], "-loadvm"))
			return true;
	return false;
}

/* A command that cannot be run is told over a pipe, which a program that runs has closed. */
static int start(struct gw__restore *r, const char *monitor)
{
	int told[2], err = 0;
	char *const *command = r->o.command;
	if (pipe2(told, O_CLOEXEC))
		return gw__error_errno(&r->error, errno, "cannot make a pipe");
	pid_t pid = fork();
	if (pid == 0) {
		char *const *v = command_line(command, monitor);
		if (v)
			execvp(v[0], v);
		err = v ? errno : ENOMEM;
		_exit(write(told[1], &err, sizeof err) == sizeof err ? 127 : 126);
	}
	int fork_err = errno;
	close(told[1]);
	bool failed = pid > 0 && read(told[0], &err, sizeof err) == sizeof err;
	close(told[0]);
	if (pid < 0)
		return gw__error_errno(&r->error, fork_err, "cannot start %s", command[0]);
	if (failed) {
		waitpid(pid, NULL, 0);
		return gw__error_errno(&r->error, err, "cannot run %s", command[0]);
	}
	r->driver->child = pid;
	return 0;
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
			return fd >= 0 ? fd : gw__error_errno(&r->error, errno, "cannot take the monitor of %s", r->o.command[0]);
		}
		if (gw__restore_child_died(r))
			return r->error.code;
		if (gw__qemu_cancelled(r->driver))
			return gw__error_set(&r->error, -ECANCELED, "%s", gw__qemu_job_error(r->driver));
		if (!r->driver->child && !ended_at)
			ended_at = waited + LOOK_MS;
		if (ended_at && waited - ended_at > ENDED_WELL_MS)
			return gw__error_set(&r->error, -ECHILD, "%s ended without opening its monitor; is it a QEMU?", r->o.command[0]);
	}
	return gw__error_set(&r->error, -ETIMEDOUT, "%s did not open its monitor within %d s; is it a QEMU?", r->o.command[0],
		GREETING_MS / 1000);
}

static int start_and_accept(struct gw__restore *r, int listener, const char *monitor)
{
	int started = start(r, monitor);
	if (started)
		return started;
	int fd = accept_monitor(r, listener);
	return fd < 0 ? fd : gw__qmp_take_fd(fd, GREETING_MS, &r->qmp, &r->error);
}

int gw__restore_start_child(struct gw__restore *r)
{
	char dir[] = "/tmp/godwit-XXXXXX", monitor[128];
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (waits_for_something_else(r->o.command))
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
	if (!r->driver->child)
		return false;
	gw__sleep_ms(100); /* its socket closes a moment before it can be waited for */
	if (waitpid(r->driver->child, &status, WNOHANG) != r->driver->child)
		return false;
	r->driver->child = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return false;
	if (gw__qemu_cancelled(r->driver) && r->error.code) /* it died of our stopping */
		return true;
	gw__error_clear(&r->error);
	if (WIFSIGNALED(status))
		gw__error_set(&r->error, -ECHILD, "%s was ended by signal %d (%s)", r->o.command[0], WTERMSIG(status),
			strsignal(WTERMSIG(status)));
	else
		gw__error_set(&r->error, -ECHILD, "%s ended with status %d; its own messages above say why", r->o.command[0],
			WEXITSTATUS(status));
	return true;
}

void gw__restore_end_child(struct gw__restore *r)
{
	if (!r->driver->child) { /* a daemon by now */
		gw__qmp_call(r->qmp, "quit", NULL, NULL, NULL);
		return;
	}
	kill(r->driver->child, SIGTERM);
	for (int waited = 0; waited < END_MS; waited += 20) {
		if (waitpid(r->driver->child, NULL, WNOHANG) == r->driver->child) {
			r->driver->child = 0;
			return;
		}
		gw__sleep_ms(20);
	}
	kill(r->driver->child, SIGKILL);
	waitpid(r->driver->child, NULL, 0);
	r->driver->child = 0;
}

/* The child may be stopped between a look at `cancelled` and the poll, so that one is bounded. */
static pid_t wait_child(const gw_qemu *qemu, struct pollfd *process, int *status)
{
	bool asked = false;
	pid_t got;
	while ((got = waitpid(qemu->child, status, WNOHANG)) == 0) {
		if (!asked && gw__qemu_cancelled(qemu)) {
			asked = true;
			kill(qemu->child, SIGTERM);
		}
		poll(process, 1, asked && process->fd >= 0 ? -1 : CANCEL_MS);
	}
	return got;
}

int gw_qemu_wait(gw_qemu *qemu, int *status)
{
	gw__error_clear(&qemu->error);
	if (!qemu->child)
		return gw__error_set(&qemu->error, -ECHILD, "there is no QEMU that was started here");
	struct pollfd process = {.fd = pidfd_open(qemu->child, 0), .events = POLLIN};
	pid_t got = wait_child(qemu, &process, status);
	int err = errno;
	if (process.fd >= 0)
		close(process.fd);
	if (got < 0)
		return gw__error_errno(&qemu->error, err, "cannot wait for process %d", (int)qemu->child);
	qemu->child = 0;
	return 0;
}
