/* SPDX-License-Identifier: MIT */
/* restore --clone -n N: N guests of one image at once. Each is a process of its own, which does what `restore --clone` does with the number in its command. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cmd/restore.h"

static pid_t *volatile clones;
static volatile sig_atomic_t clones_n;

/* Who stops the command means all of them. */
static void pass_on(int number)
{
	for (int i = 0; i < clones_n; i++)
		if (clones[i] > 0)
			kill(clones[i], number);
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

static int start(struct gw__cli_restore *r, unsigned number)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		clones_n = 0; /* they are not this one's */
		int status = run_one(r, number);
		fflush(stdout);
		_exit(status);
	}
	clones[number - 1] = pid;
	clones_n = (sig_atomic_t)number;
	return pid < 0 ? gw__ui_error(GW__EXIT_FAILED, "cannot start clone %u: %s", number, strerror(errno)) : 0;
}

/* The first that did not end well is the one that counts. */
static int wait_all(unsigned n)
{
	int result = 0;
	for (unsigned i = 0; i < n; i++) {
		int status = 0;
		while (clones[i] > 0 && waitpid(clones[i], &status, 0) < 0 && errno == EINTR)
			;
		int one = WIFEXITED(status) ? WEXITSTATUS(status) : GW__EXIT_FAILED;
		result = result ? result : one;
	}
	return result;
}

int gw__cli_restore_clones(struct gw__cli_restore *r, unsigned n)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	int failed = 0;
	clones = calloc(n, sizeof *clones);
	if (!clones)
		return gw__ui_error(GW__EXIT_FAILED, "no memory for %u clones", n);
	for (unsigned i = 1; !failed && i <= n; i++)
		failed = start(r, i);
	for (unsigned i = 0; i < GW__LEN(numbers); i++) {
		struct sigaction now, a = {.sa_handler = pass_on};
		sigemptyset(&a.sa_mask);
		if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
			sigaction(numbers[i], &a, NULL);
	}
	int status = wait_all((unsigned)clones_n);
	free(clones);
	return failed ? failed : status;
}
