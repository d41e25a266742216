/* SPDX-License-Identifier: MIT */
/* The stores of a lease without a server: URLs, and a file. etcd is in tests/interop/test-lease.py. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/store.h"

static void urls_that_are_none(void **state)
{
	static const char *const bad[] = {"", "file:", "lease", "http://a:1/k", "etcd:a:1/k", "etcd:///k", "etcd://a:1", "etcd://a:1/",
		"etcd://a:1,/k", "etcd://u:p@a:1/k", "etcd://a:1/k?x=1", "etcd://a:1/k?cacert=/f", "etcd+https://a:1/k?cert=/f",
		"etcd://a:1/k?user=u", "k8s:", "k8s://a:1", "k8s://a:1/", "k8s://a:1/ns", "k8s://a:1/ns/", "k8s://a:1//n",
		"k8s://u@a:1/ns/n", "k8s://a:1/ns/n/m", "k8s://a:1/NS/n", "k8s://a:1/ns/%2e", "k8s://a:1/ns/n?user=u",
		"k8s+http://a:1/ns/n?cacert=/f"};
	static const char *const good[] = {"file:/x", "etcd://a:1/k", "etcd+http://a:1,b:2,[::1]:3/a/b",
		"etcd+https://a:1/k?cacert=/f&cert=/c&key=/k", "etcds://a:1/k?cacert=/f", "etcd://a:1/k?user=u&password-file=/p",
		"k8s://a:1/ns/n", "k8s://[::1]:6443/kube-system/web.1?cacert=/f&token-file=/t", "k8s+http://a/ns/n"};
	(void)state;
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct gw__error error = {0};
		struct gw__store *s = NULL;
		if (gw__store_open(bad[i], &s, &error) != -EINVAL)
			fail_msg("%s", bad[i]);
		assert_true(error.text[0]);
		gw__store_close(s);
	}
	for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
		struct gw__error error = {0};
		struct gw__store *s = NULL;
		if (gw__store_open(good[i], &s, &error))
			fail_msg("%s: %s", good[i], error.text);
		gw__store_close(s);
	}
}

struct place {
	char path[64], url[80];
	struct gw__store *s;
};

static void make_place(struct place *p)
{
	struct gw__error error = {0};
	snprintf(p->path, sizeof p->path, "/tmp/godwit-store-%d", (int)getpid());
	snprintf(p->url, sizeof p->url, "file:%s", p->path);
	unlink(p->path);
	assert_int_equal(gw__store_open(p->url, &p->s, &error), 0);
}

static void end_place(struct place *p)
{
	gw__store_close(p->s);
	unlink(p->path);
}

static void a_file_is_swapped_only_from_what_is_there(void **state)
{
	struct place p;
	struct gw__error error = {0};
	char text[GW__STORE_TEXT_BYTES];
	(void)state;
	make_place(&p);
	assert_int_equal(gw__store_get(p.s, 1000, text, &error), 0);
	assert_string_equal(text, "");
	assert_int_equal(gw__store_swap(p.s, 1000, "", "a long first text", text, &error), 0);
	assert_int_equal(gw__store_swap(p.s, 1000, "", "b", text, &error), GW__STORE_REFUSED);
	assert_string_equal(text, "a long first text");
	assert_int_equal(gw__store_swap(p.s, 1000, "a long first text", "c", text, &error), 0);
	assert_int_equal(gw__store_get(p.s, 1000, text, &error), 0);
	assert_string_equal(text, "c");
	end_place(&p);
}

static void a_lock_that_another_holds_is_waited_for_so_long(void **state)
{
	struct place p;
	struct gw__error error = {0};
	char text[GW__STORE_TEXT_BYTES];
	(void)state;
	make_place(&p);
	int fd = open(p.path, O_RDWR | O_CREAT, 0600);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(gw__store_swap(p.s, 1, "", "a", text, &error), -ETIMEDOUT);
	close(fd);
	end_place(&p);
}

/* Two hundred swaps of four processes: each number comes once. */
static void count_up(const char *url, unsigned n)
{
	struct gw__error error = {0};
	struct gw__store *s;
	char was[GW__STORE_TEXT_BYTES], found[GW__STORE_TEXT_BYTES], next[32];
	if (gw__store_open(url, &s, &error))
		_exit(1);
	for (unsigned done = 0; done < n;) {
		if (gw__store_get(s, 60000, was, &error))
			_exit(1);
		snprintf(next, sizeof next, "%d", atoi(was) + 1);
		int r = gw__store_swap(s, 60000, was, next, found, &error);
		if (r < 0)
			_exit(1);
		done += r == 0;
	}
	_exit(0);
}

static void many_processes_count_without_a_gap(void **state)
{
	struct place p;
	struct gw__error error = {0};
	char text[GW__STORE_TEXT_BYTES];
	int status;
	(void)state;
	make_place(&p);
	for (unsigned i = 0; i < 4; i++)
		if (fork() == 0)
			count_up(p.url, 50);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(gw__store_get(p.s, 1000, text, &error), 0);
	assert_string_equal(text, "200");
	end_place(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urls_that_are_none),
		cmocka_unit_test(a_file_is_swapped_only_from_what_is_there),
		cmocka_unit_test(a_lock_that_another_holds_is_waited_for_so_long),
		cmocka_unit_test(many_processes_count_without_a_gap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
