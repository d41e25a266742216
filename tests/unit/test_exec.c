/* SPDX-License-Identifier: MIT */
/* exec: channels: data goes through, the status comes back, nothing leaks in, nobody is left behind. */
#include "chan_unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

enum { FAR_MS = 20000, SOON_MS = 50 };

static struct gw__chan *open_command(const char *command, bool out, int ms)
{
	char text[1024];
	struct gw__chan *c;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(ms);
	snprintf(text, sizeof text, "exec:%s", command);
	struct gw__uri uri = uri_of(text);
	assert_ok(out ? gw__io_open_out(&uri, &o, &c, &error) : gw__io_open_in(&uri, &o, &c, &error), error);
	assert_false(c->two_way);
	return c;
}

/* Output up to its end; negative errno if that is none. */
static int read_output(struct gw__chan *c, char *to, size_t room, struct gw__error *error)
{
	size_t used = 0;
	for (;;) {
		ssize_t got = gw__chan_read(c, to + used, room - 1 - used, error);
		if (got <= 0)
			return (int)got;
		used += (size_t)got;
		to[used] = 0;
	}
}

static void assert_no_child_is_left(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void data_goes_through_a_command(void **state)
{
	struct folder *f = *state;
	struct gw__error error = {0};
	char command[256], got[64];
	snprintf(command, sizeof command, "tr a-z A-Z >'%s'", path_of(f, "out"));
	struct gw__chan *c = open_command(command, true, FAR_MS);
	assert_int_equal(gw__chan_write_all(c, "stream", 6, &error), 0);
	assert_int_equal(gw__chan_read(c, got, 1, NULL), -EBADF);
	assert_ok(gw__chan_end_writes(c, &error), error);
	assert_int_equal(gw__chan_write_all(c, "late", 4, NULL), -EBADF);
	assert_ok(gw__chan_close(&c, &error), error);
	assert_no_child_is_left(); /* so the file is whole */

	snprintf(command, sizeof command, "cat '%s'", f->file);
	c = open_command(command, false, FAR_MS);
	assert_ok(read_output(c, got, sizeof got, &error), error);
	assert_string_equal(got, "STREAM");
	assert_int_equal(gw__chan_write_all(c, "x", 1, NULL), -EBADF);
	assert_ok(gw__chan_close(&c, &error), error);
	assert_no_child_is_left();
}

static void a_bad_status_is_reported_at_the_end(void **state)
{
	static const struct {
		const char *command, *part;
	} bad[] = {
		{"cat >/dev/null; exit 3", "ended with status 3"},
		{"cat >/dev/null; kill -9 $$", "ended by signal 9"},
		{"cat >/dev/null; no-such-command-anywhere 2>/dev/null", "status 127; is it installed"},
	};
	char got[64];
	for (int i = 0; i < 3; i++) {
		struct gw__error error = {0};
		struct gw__chan *c = open_command(bad[i].command, true, FAR_MS);
		assert_int_equal(gw__chan_write_all(c, "stream", 6, &error), 0);
		assert_int_equal(gw__chan_end_writes(c, &error), 0);
		assert_int_equal(gw__chan_close(&c, &error), -EIO);
		assert_says(error, bad[i].part);

		gw__error_clear(&error);
		c = open_command(bad[i].command, false, FAR_MS);
		assert_int_equal(read_output(c, got, sizeof got, &error), -EIO); /* not the end of a stream */
		assert_says(error, bad[i].part);
		assert_int_equal(gw__chan_close(&c, NULL), -EIO);
	}
	assert_no_child_is_left();
}

static void a_command_that_does_not_read_on_is_named(void **state)
{
	static char big[1 << 20];
	struct gw__error error = {0};
	struct gw__chan *c = open_command("exit 5", true, FAR_MS);
	assert_int_equal(gw__chan_write_all(c, big, sizeof big, &error), -EIO);
	assert_says(error, "ended with status 5");
	assert_int_equal(gw__chan_close(&c, NULL), 0);
	gw__error_clear(&error);
	c = open_command("exit 0", true, FAR_MS);
	assert_int_equal(gw__chan_write_all(c, big, sizeof big, &error), -EPIPE);
	assert_says(error, "before it had read everything");
	assert_int_equal(gw__chan_close(&c, NULL), 0);
	assert_no_child_is_left();
}

static void a_channel_given_up_takes_its_command_with_it(void **state)
{
	struct folder *f = *state;
	char command[512], got[16];
	struct gw__error error = {0};
	uint64_t start = now_ms();
	/* The pipeline must not get to see the end of its input and keep half a stream as a whole one. */
	snprintf(command, sizeof command, "cat | (cat >/dev/null; echo whole >'%s')", path_of(f, "whole"));
	struct gw__chan *c = open_command(command, true, FAR_MS);
	assert_int_equal(gw__chan_write_all(c, "half a str", 10, &error), 0);
	assert_ok(gw__chan_close(&c, &error), error);
	assert_no_child_is_left();
	assert_int_equal(access(f->file, F_OK), -1);

	c = open_command("trap '' TERM PIPE; echo ready; while :; do sleep 1000; done", false, FAR_MS);
	int fd = eventfd(1, EFD_CLOEXEC);
	read_all(c, got, 6);
	c->cancel_fd = fd; /* no grace for one that would end by itself */
	assert_ok(gw__chan_close(&c, &error), error);
	assert_no_child_is_left();
	close(fd);
	assert_in_range(now_ms() - start, 0, FAR_MS);
}

static void a_command_that_only_just_ends_is_not_an_error(void **state)
{
	char got[4];
	struct gw__error error = {0};
	struct gw__chan *c = open_command("printf abcd; printf tail; exit 9", false, FAR_MS);
	read_all(c, got, 4); /* the stream ends before the output */
	assert_ok(gw__chan_close(&c, &error), error);
	assert_no_child_is_left();
}

static void a_command_that_does_not_end_is_killed_in_time(void **state)
{
	struct gw__error error = {0};
	uint64_t start = now_ms();
	struct gw__chan *c = open_command("cat >/dev/null; sleep 1000", true, SOON_MS);
	assert_int_equal(gw__chan_end_writes(c, &error), 0);
	assert_int_equal(gw__chan_close(&c, &error), -ETIMEDOUT);
	assert_says(error, "did not end within 50 ms");
	assert_no_child_is_left();

	int fd = eventfd(1, EFD_CLOEXEC);
	gw__error_clear(&error);
	c = open_command("cat >/dev/null; sleep 1000", true, -1);
	c->cancel_fd = fd;
	assert_int_equal(gw__chan_end_writes(c, &error), 0);
	assert_int_equal(gw__chan_close(&c, &error), -ECANCELED);
	assert_no_child_is_left();
	close(fd);
	assert_in_range(now_ms() - start, SOON_MS, FAR_MS);
}

/* Only 0, 1, 2: an inherited descriptor could keep a connection or a lock alive for ever. */
static void no_descriptor_of_ours_leaks_into_a_command(void **state)
{
	char got[256];
	struct gw__error error = {0};
	int stray = fcntl(2, F_DUPFD, 57); /* without FD_CLOEXEC, as a careless library has it */
	assert_true(stray >= 57);
	struct gw__chan *c = open_command("n=0; while [ $n -lt 80 ]; do [ -e /proc/$$/fd/$n ] && echo $n; n=$((n+1)); done;"
					  " readlink /proc/$$/fd/0",
		false, FAR_MS);
	assert_ok(read_output(c, got, sizeof got, &error), error);
	assert_string_equal(got, "0\n1\n2\n/dev/null\n");
	gw__chan_close(&c, NULL);
	close(stray);
}

/* Or nothing could end it, and a pipeline inside would not stop when its reader does. */
static void a_command_starts_with_default_signals(void **state)
{
	char got[256];
	struct gw__error error = {0};
	sigset_t mask, before;
	sigfillset(&mask);
	signal(SIGPIPE, SIG_IGN);
	pthread_sigmask(SIG_SETMASK, &mask, &before);
	struct gw__chan *c = open_command("exec grep -E 'Sig(Blk|Ign)' /proc/self/status", false, FAR_MS);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	signal(SIGPIPE, SIG_DFL);
	assert_ok(read_output(c, got, sizeof got, &error), error);
	unsigned long long blocked = 1, ignored = 1;
	assert_int_equal(sscanf(got, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
	assert_int_equal(blocked, 0);
	assert_int_equal(ignored & 0x7fffffff, 0); /* 32 and up: the C library's own */
	gw__chan_close(&c, NULL);
}

static void an_ignored_child_signal_loses_the_status(void **state)
{
	struct gw__error error = {0};
	signal(SIGCHLD, SIG_IGN);
	struct gw__chan *c = open_command("cat >/dev/null", true, FAR_MS);
	assert_int_equal(gw__chan_end_writes(c, &error), 0);
	assert_int_equal(gw__chan_close(&c, &error), -ECHILD);
	assert_says(error, "ignores SIGCHLD");
	signal(SIGCHLD, SIG_DFL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(data_goes_through_a_command, make_folder, remove_folder),
		cmocka_unit_test(a_bad_status_is_reported_at_the_end),
		cmocka_unit_test(a_command_that_does_not_read_on_is_named),
		cmocka_unit_test_setup_teardown(a_channel_given_up_takes_its_command_with_it, make_folder, remove_folder),
		cmocka_unit_test(a_command_that_only_just_ends_is_not_an_error),
		cmocka_unit_test(a_command_that_does_not_end_is_killed_in_time),
		cmocka_unit_test(no_descriptor_of_ours_leaks_into_a_command),
		cmocka_unit_test(a_command_starts_with_default_signals),
		cmocka_unit_test(an_ignored_child_signal_loses_the_status),
	};
	return cmocka_run_group_tests_name("exec", tests, NULL, NULL);
}
