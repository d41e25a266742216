/* SPDX-License-Identifier: MIT */
/* A shell command that runs beside us, for exec: channels. */
#ifndef GW_IO_PROC_H
#define GW_IO_PROC_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* Zeroed: nothing was started. Owned by one thread. */
struct gw__proc {
	pid_t pid; /* also its process group. Ours until reaped, so it cannot come to mean somebody else. */
	bool ended;
	bool lost;        /* ended, but the program ignores SIGCHLD and the kernel threw the status away */
	int code, status; /* of siginfo_t, when ended */
};

/* With `fd` as stdin or stdout, /dev/null as the other, our stderr and nothing else. Negative errno. */
int gw__proc_start(struct gw__proc *p, const char *command, int fd, bool fd_is_stdin);
/* true when the command has ended, within `ms` (-1: no limit) unless cancel_fd becomes readable. */
bool gw__proc_await_end(struct gw__proc *p, int ms, int cancel_fd);
/* All of a pipeline. false: not even SIGKILL ended it in time. */
bool gw__proc_kill(struct gw__proc *p);
/* How it ended: 0 when well, otherwise a sentence. Only when ended. */
int gw__proc_judge(const struct gw__proc *p, const char *name, struct gw__error *error);
/* Let it go; one that still runs stays a child of the program. Twice is fine. */
void gw__proc_reap(struct gw__proc *p);

#endif
