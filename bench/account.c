/* SPDX-License-Identifier: MIT */
/*
 * account FILE COMMAND...: run a command and write what it used into FILE, as one JSON object.
 *
 * A program of its own, because the peak of memory that wait4 tells begins with that of the process that was
 * forked: a script's interpreter alone is as large as what is measured here. Ends as the command did; dies
 * with its parent, and the command with it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void run(char **command)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execvp(command[0], command);
	fprintf(stderr, "account: cannot run %s: %s\n", command[0], strerror(errno));
	_exit(127);
}

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

static int write_account(const char *path, const struct rusage *u)
{
	FILE *f = fopen(path, "w");
	if (!f)
		return -1;
	fprintf(f, "{\"user\": %.6f, \"system\": %.6f, \"peak_bytes\": %ld}\n", seconds(u->ru_utime), seconds(u->ru_stime),
		u->ru_maxrss * 1024);
	return fclose(f);
}

int main(int argc, char **argv)
{
	struct rusage usage;
	int status;
	if (argc < 3) {
		fprintf(stderr, "usage: account FILE COMMAND...\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pid_t pid = fork();
	if (pid == 0)
		run(argv + 2);
	if (pid < 0 || wait4(pid, &status, 0, &usage) < 0 || write_account(argv[1], &usage)) {
		fprintf(stderr, "account: %s\n", strerror(errno));
		return 1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
