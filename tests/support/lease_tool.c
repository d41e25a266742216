/* SPDX-License-Identifier: MIT */
/*
 * A lease that is kept by src/qemu/lease_keeper.c, for a process that stands for a QEMU: lease-tool URL TERM_MS LOG. The process begins when the lease was taken,
 * and writes the time (CLOCK_MONOTONIC, ns) to LOG every 2 ms as long as it lives. The tool ends when that process is dead: 0; 3: the lease is another's.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "qemu/lease_keeper.h"

static void run(int begin, const char *log)
{
	char byte;
	struct timespec t;
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	setsid();
	if (fd < 0 || read(begin, &byte, 1) != 1)
		_exit(1);
	for (;;) {
		clock_gettime(CLOCK_MONOTONIC, &t);
		dprintf(fd, "%lld\n", (long long)t.tv_sec * 1000000000 + t.tv_nsec);
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

int main(int argc, char **argv)
{
	struct gw__error error = {0};
	struct gw__lease_keeper *keeper = NULL;
	int begin[2];
	if (argc != 4 || pipe2(begin, O_CLOEXEC))
		return 2;
	pid_t guest = fork();
	if (guest == 0) {
		close(begin[1]);
		run(begin[0], argv[3]);
	}
	close(begin[0]);
	const struct gw__lease_keeper_opts o = {.url = argv[1], .term_ms = (unsigned)atoi(argv[2]), .qemu = guest, .keep_fd = -1};
	int r = gw__lease_keeper_take(&o, &keeper, &error);
	if (r) {
		fprintf(stderr, "%s\n", error.text);
		kill(guest, SIGKILL);
		return r == -EBUSY || r == -EPERM || r == -ETIMEDOUT || r == -EINPROGRESS ? 3 : 1;
	}
	if (write(begin[1], "b", 1) != 1)
		return 1;
	printf("runs %d\n", (int)guest);
	fflush(stdout);
	gw__lease_keeper_wish(keeper, GW__LEASE_WISH_BEAT);
	waitpid(guest, NULL, 0);
	printf("dead\n");
	if (!gw__lease_keeper_is_lost(keeper, &error))
		gw__lease_keeper_settle(keeper, GW__LEASE_WISH_FREE, 2000, &error);
	gw__lease_keeper_end(keeper);
	fprintf(stderr, "%s\n", error.text);
	return 0;
}
