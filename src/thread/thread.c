/* SPDX-License-Identifier: MIT */
/* Threads that take no signal; see thread.h. */
#include "thread/thread.h"

#include <signal.h>

/* A fault belongs to the thread that made it. While it is blocked the kernel ends the process, past a handler of the program. */
static const int FAULTS[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};

int gw__thread_start(pthread_t *thread, void *(*run)(void *ctx), void *ctx)
{
	sigset_t mask, before;
	sigfillset(&mask);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	for (unsigned i = 0; i < sizeof FAULTS / sizeof FAULTS[0]; i++)
		if (!sigismember(&before, FAULTS[i]))
			sigdelset(&mask, FAULTS[i]);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	int err = pthread_create(thread, NULL, run, ctx);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

void gw__thread_take_signals(void)
{
	sigset_t none;
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
}
