/* SPDX-License-Identifier: MIT */
/* What a child has inherited is closed, but for what it keeps; in a child of the test, whose descriptors are nobody else's. */
#include "unit.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qemu/descriptors.h"

enum { SHOULD_BE_OPEN = 10, SHOULD_BE_CLOSED = 20 };

static bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

static int in_child(const int *open_at, const bool *kept, const int *keep, size_t n)
{
	for (int i = 0; i < 5; i++)
		dup2(0, open_at[i]);
	gw__close_all_but(keep, n);
	for (int i = 0; i < 5; i++)
		if (is_open(open_at[i]) != kept[i])
			return (kept[i] ? SHOULD_BE_OPEN : SHOULD_BE_CLOSED) + i;
	return is_open(0) && is_open(1) && is_open(2) ? 0 : 1;
}

static void check(const bool *kept, const int *keep, size_t n)
{
	struct rlimit had;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &had), 0);
	int most = had.rlim_cur > 70000 ? 70000 : (int)had.rlim_cur - 1; /* beyond what a loop over "all" once reached */
	const int open_at[] = {3, 4, 7, 20, most};
	int kept_at[5], status;
	for (size_t i = 0; i < n; i++)
		kept_at[i] = keep[i] < 0 ? -1 : open_at[keep[i]];
	pid_t pid = fork();
	if (pid == 0)
		_exit(in_child(open_at, kept, kept_at, n));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void nothing_is_kept(void **state) { check((const bool[]){0, 0, 0, 0, 0}, NULL, 0); }
static void one_is_kept(void **state)
{
	check((const bool[]){1, 0, 0, 0, 0}, (const int[]){0}, 1);
	check((const bool[]){0, 0, 1, 0, 0}, (const int[]){2}, 1);
	check((const bool[]){0, 0, 0, 0, 1}, (const int[]){4}, 1);
}

static void some_are_kept_in_any_order(void **state)
{
	check((const bool[]){1, 1, 0, 1, 0}, (const int[]){3, -1, 1, 0}, 4);
	check((const bool[]){0, 1, 0, 0, 1}, (const int[]){4, 1, 4}, 3);
}

int main(void)
{
	struct rlimit all;
	getrlimit(RLIMIT_NOFILE, &all);
	all.rlim_cur = all.rlim_max;
	setrlimit(RLIMIT_NOFILE, &all);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_kept),
		cmocka_unit_test(one_is_kept),
		cmocka_unit_test(some_are_kept_in_any_order),
	};
	return cmocka_run_group_tests_name("close_all_but", tests, NULL, NULL);
}
