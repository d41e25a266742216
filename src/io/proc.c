/* SPDX-License-Identifier: MIT */
/*
 * Starts, awaits and kills shell commands; knows nothing of channels. Waiting goes in small steps with
 * waitid: that needs no signal handler, which would belong to the program, and works on every kernel. Used by
 * the thread that owns the process.
 */
#include "io/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/wait.h"

extern char **environ;

enum { GRACE_MS = 1000, STEP_MIN_MS = 1, STEP_MAX_MS = 20 };

/* Its own group, every signal as it was born. */
static int set_attributes(posix_spawnattr_t *attr)
{
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setpgroup(attr, 0);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &all);
	return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

/* `fd` goes first: it may itself be number 0 or 1. */
static int set_files(posix_spawn_file_actions_t *files, int fd, bool fd_is_stdin)
{
	int err = posix_spawn_file_actions_adddup2(files, fd, fd_is_stdin ? 0 : 1);
	if (err == 0)
		err = posix_spawn_file_actions_addopen(files, fd_is_stdin ? 1 : 0, "/dev/null", fd_is_stdin ? O_WRONLY : O_RDONLY, 0);
	if (err == 0)
		err = posix_spawn_file_actions_addclosefrom_np(files, 3);
	return err;
}

int gw__proc_start(struct gw__proc *p, const char *command, int fd, bool fd_is_stdin)
{
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)command, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	pid_t pid;
	int err = posix_spawn_file_actions_init(&files);
	if (err)
		return -err;
	err = posix_spawnattr_init(&attr);
	if (err == 0) {
		err = set_attributes(&attr);
		if (err == 0)
			err = set_files(&files, fd, fd_is_stdin);
		if (err == 0)
			err = posix_spawn(&pid, "/bin/sh", &files, &attr, argv, environ);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&files);
	if (err)
		return -err;
	*p = (struct gw__proc){.pid = pid};
	return 0;
}

/* Looks without reaping: the number stays ours for kill. */
static bool has_ended(struct gw__proc *p)
{
	siginfo_t info = {0};
	if (p->ended)
		return true;
	int r = waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT);
	if ((r == 0 && info.si_pid == 0) || (r < 0 && errno == EINTR))
		return false;
	p->ended = true;
	p->lost = r < 0;
	p->code = info.si_code;
	p->status = info.si_status;
	return true;
}

bool gw__proc_await_end(struct gw__proc *p, int ms, int cancel_fd)
{
	uint64_t deadline = gw__io_deadline(ms);
	for (int step = STEP_MIN_MS; !has_ended(p); step = step < STEP_MAX_MS ? step * 2 : step) {
		if (gw__io_is_over(deadline) || gw__io_pause(cancel_fd, gw__io_deadline(step)))
			return has_ended(p);
	}
	return true;
}

bool gw__proc_kill(struct gw__proc *p)
{
	if (!has_ended(p)) {
		kill(-p->pid, SIGTERM);
		gw__proc_await_end(p, GRACE_MS, -1);
	}
	if (p->lost)
		return true;
	kill(-p->pid, SIGKILL); /* also what the shell left behind */
	return gw__proc_await_end(p, GRACE_MS, -1);
}

int gw__proc_judge(const struct gw__proc *p, const char *name, struct gw__error *error)
{
	if (p->lost)
		return gw__error_set(error, -ECHILD, "%s: its exit status is lost, because this program ignores SIGCHLD", name);
	if (p->code != CLD_EXITED)
		return gw__error_set(error, -EIO, "%s: the command was ended by signal %d (%s)", name, p->status, strsignal(p->status));
	if (p->status == 127)
		return gw__error_set(error, -EIO, "%s: the command ended with status 127; is it installed and spelled right?", name);
	if (p->status)
		return gw__error_set(error, -EIO, "%s: the command ended with status %d; its own messages say why", name, p->status);
	return 0;
}

void gw__proc_reap(struct gw__proc *p)
{
	if (p->pid && p->ended && !p->lost)
		while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
			;
	p->pid = 0;
}
