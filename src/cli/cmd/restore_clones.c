/* SPDX-License-Identifier: MIT */
/* restore --clone -n N: N guests of one image together. Each is a process of its own, which does what `restore --clone` does with the number in its command. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cmd/restore.h"

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
static pid_t *volatile clones; /* 0: it has ended */
static volatile sig_atomic_t clones_n;

/* A signal that stops the command is for all of them. */
static void pass_on(int number)
{
	for (int i = 0; i < clones_n; i++)
		if (clones[i] > 0)
			kill(clones[i], number);
}

/* `handler` for each signal that is not ignored (nohup). */
static void on_stop_signals(void (*handler)(int))
{
	for (unsigned i = 0; i < GW__LEN(stop_signals); i++) {
		struct sigaction now, a = {.sa_handler = handler};
		sigemptyset(&a.sa_mask);
		if (sigaction(stop_signals[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
			sigaction(stop_signals[i], &a, NULL);
	}
}

/* "name{n}" of clone 3 is "name3". NULL: no memory. */
static char *numbered(const char *text, unsigned number)
{
	static const char mark[] = "{n}";
	char digits[16], *to = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&to, &bytes);
	snprintf(digits, sizeof digits, "%u", number);
	for (const char *at; f && (at = strstr(text, mark)); text = at + sizeof mark - 1)
		fprintf(f, "%.*s%s", (int)(at - text), text, digits);
	if (!f)
		return NULL;
	fputs(text, f);
	return fclose(f) ? NULL : to;
}

static int run_one(struct gw__cli_restore *r, unsigned number)
{
	unsigned n = 0;
	while (r->o.command[n])
		n++;
	char **v = calloc(n + 1, sizeof *v);
	bool ok = v;
	for (unsigned i = 0; ok && i < n; i++)
		ok = (v[i] = numbered(r->o.command[i], number));
	r->number = number;
	r->o.command = v;
	return ok ? gw__cli_restore_run(r) : gw__ui_error(GW__EXIT_FAILED, "no memory for a command line");
}

/* The stop signals are blocked: one that comes now is for this clone too. `before`: the mask without that. */
static int start(struct gw__cli_restore *r, unsigned number, const sigset_t *before)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		clones_n = 0; /* they are not this one's */
		on_stop_signals(SIG_DFL);
		sigprocmask(SIG_SETMASK, before, NULL);
		int status = run_one(r, number);
		fflush(stdout);
		_exit(status);
	}
	clones[number - 1] = pid;
	clones_n = (sig_atomic_t)number;
	return pid < 0 ? gw__ui_error(GW__EXIT_FAILED, "cannot start clone %u: %s", number, strerror(errno)) : 0;
}

/* Until it has ended. It is not reaped before pass_on() knows, as its number may be another process's afterwards. */
static int wait_one(pid_t *clone)
{
	siginfo_t info;
	int status = 0;
	pid_t pid = *clone;
	if (pid <= 0)
		return GW__EXIT_FAILED;
	while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) && errno == EINTR)
		;
	*(volatile pid_t *)clone = 0;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : GW__EXIT_FAILED;
}

int gw__cli_restore_clones(struct gw__cli_restore *r, unsigned n)
{
	sigset_t stop, before;
	int failed = 0, status = 0;
	clones = calloc(n, sizeof *clones);
	if (!clones)
		return gw__ui_error(GW__EXIT_FAILED, "no memory for %u clones", n);
	sigemptyset(&stop);
	for (unsigned i = 0; i < GW__LEN(stop_signals); i++)
		sigaddset(&stop, stop_signals[i]);
	sigprocmask(SIG_BLOCK, &stop, &before);
	on_stop_signals(pass_on);
	for (unsigned i = 1; !failed && i <= n; i++)
		failed = start(r, i, &before);
	sigprocmask(SIG_SETMASK, &before, NULL);
	for (int i = 0; i < clones_n; i++) { /* the first that did not end well is the one that counts */
		int one = wait_one(&clones[i]);
		status = status ? status : one;
	}
	clones_n = 0;
	free(clones);
	clones = NULL;
	return failed ? failed : status;
}
