/* SPDX-License-Identifier: MIT */
/* Threads of the library take none of the program's signals. */
#include "unit.h"

#include <signal.h>

#include "base/math.h"
#include "thread/thread.h"

static const int FAULTS[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
static const int OTHERS[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGCHLD, SIGPROF, SIGWINCH};

static void *read_mask(void *ctx)
{
	pthread_sigmask(SIG_SETMASK, NULL, ctx);
	return ctx;
}

static void signals_are_blocked(void **state)
{
	(void)state;
	sigset_t before, after, in_thread;
	pthread_t thread;
	void *returned;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(gw__thread_start(&thread, read_mask, &in_thread), 0);
	assert_int_equal(pthread_join(thread, &returned), 0);
	assert_ptr_equal(returned, &in_thread);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (unsigned i = 0; i < GW__LEN(OTHERS); i++) {
		assert_int_equal(sigismember(&in_thread, OTHERS[i]), 1);
		assert_int_equal(sigismember(&after, OTHERS[i]), sigismember(&before, OTHERS[i]));
	}
}

/* A handler of the program for its own faults is called, unless the program blocks it itself. */
static void faults_are_left_as_they_are(void **state)
{
	(void)state;
	for (unsigned blocked = 0; blocked < 2; blocked++) {
		sigset_t faults, before, in_thread;
		pthread_t thread;
		sigemptyset(&faults);
		for (unsigned i = 0; i < GW__LEN(FAULTS); i++)
			sigaddset(&faults, FAULTS[i]);
		pthread_sigmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &faults, &before);
		assert_int_equal(gw__thread_start(&thread, read_mask, &in_thread), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		for (unsigned i = 0; i < GW__LEN(FAULTS); i++)
			assert_int_equal(sigismember(&in_thread, FAULTS[i]), blocked);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signals_are_blocked),
		cmocka_unit_test(faults_are_left_as_they_are),
	};
	return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
