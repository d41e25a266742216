/* SPDX-License-Identifier: MIT */
/* Channels over sockets and pipes: short reads, silence, cancel, signals, peers that leave, given
 * descriptors. */
#include "chan_unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { FAR_MS = 20000, SOON_MS = 50, BIG_BYTES = 4 << 20 };

static void make_pair(struct gw__chan *pair[2], int ms)
{
	struct gw__error error = {0};
	struct gw__io_opts o = limits(ms);
	assert_ok(gw__chan_pair(pair, &o, &error), error);
}

static void make_pipe(struct gw__chan *ends[2], int ms)
{
	int fds[2];
	struct gw__error error = {0};
	struct gw__io_opts o = limits(ms);
	assert_int_equal(pipe(fds), 0);
	assert_ok(gw__chan_take_fd(fds[0], "pipe:out", &o, &ends[0], &error), error);
	assert_ok(gw__chan_take_fd(fds[1], "pipe:in", &o, &ends[1], &error), error);
}

static void close_both(struct gw__chan *pair[2])
{
	assert_int_equal(gw__chan_close(&pair[0], NULL), 0);
	assert_int_equal(gw__chan_close(&pair[1], NULL), 0);
	assert_int_equal(gw__chan_close(&pair[1], NULL), 0); /* nulled, so again is fine */
}

/* --- bytes ------------------------------------------------------------------------------------------ */

static void reads_are_short_and_writes_are_whole(void **state)
{
	struct gw__chan *pair[2];
	struct gw__error error = {0};
	char got[16], text[] = "abcdefg";
	make_pair(pair, FAR_MS);
	struct iovec out[] = {{text, 0}, {text, 3}, {text, 0}, {text + 3, 4}, {text, 0}};
	assert_int_equal(gw__chan_write_allv(pair[0], out, 5, &error), 0);
	assert_int_equal(gw__chan_write_allv(pair[0], NULL, 0, &error), 0);
	struct iovec in[] = {{got, 2}, {got + 2, 3}};
	assert_int_equal(gw__chan_readv(pair[1], in, 2, &error), 5);
	assert_int_equal(gw__chan_read(pair[1], got + 5, 10, &error), 2); /* less than asked */
	assert_memory_equal(got, "abcdefg", 7);
	assert_int_equal(pair[0]->out_bytes, 7);
	assert_int_equal(pair[1]->in_bytes, 7);
	assert_int_equal(gw__chan_end_writes(pair[0], &error), 0);
	assert_int_equal(gw__chan_read(pair[1], got, 1, &error), 0);
	assert_int_equal(gw__chan_write_all(pair[1], "back", 4, &error), 0); /* the other direction stays */
	read_all(pair[0], got, 4);
	assert_memory_equal(got, "back", 4);
	close_both(pair);
}

static void *write_big(void *arg)
{
	enum { PARTS = 3000 }; /* more than one call takes */
	static struct iovec iov[PARTS];
	static char bytes[BIG_BYTES / PARTS + 1];
	memset(bytes, 'b', sizeof bytes);
	size_t left = BIG_BYTES;
	for (int i = 0; i < PARTS; i++) {
		iov[i] = (struct iovec){bytes, left < sizeof bytes ? left : sizeof bytes};
		left -= iov[i].iov_len;
	}
	return (void *)(long)gw__chan_write_allv(arg, iov, PARTS, NULL);
}

static void more_than_the_buffers_hold_goes_through(void **state)
{
	void (*const makers[])(struct gw__chan **, int) = {make_pair, make_pipe};
	char *got = malloc(BIG_BYTES);
	for (int m = 0; m < 2; m++) {
		struct gw__chan *ends[2];
		pthread_t thread;
		void *r;
		makers[m](ends, FAR_MS);
		pthread_create(&thread, NULL, write_big, ends[1]);
		read_all(ends[0], got, BIG_BYTES);
		pthread_join(thread, &r);
		assert_null(r);
		for (size_t i = 0; i < BIG_BYTES; i++)
			assert_true(got[i] == 'b');
		assert_int_equal(ends[1]->out_bytes, BIG_BYTES);
		close_both(ends);
	}
	free(got);
}

/* --- silence ---------------------------------------------------------------------------------------- */

static void a_silent_peer_ends_the_wait_in_time(void **state)
{
	void (*const makers[])(struct gw__chan **, int) = {make_pair, make_pipe};
	for (int m = 0; m < 2; m++) {
		struct gw__chan *ends[2];
		struct gw__error error = {0};
		char byte;
		makers[m](ends, SOON_MS);
		uint64_t start = now_ms();
		assert_int_equal(gw__chan_read(ends[0], &byte, 1, &error), -ETIMEDOUT);
		assert_in_range(now_ms() - start, SOON_MS - 1, FAR_MS);
		assert_says(error, "nothing came for 50 ms");
		close_both(ends);
	}
}

static void a_peer_that_stops_reading_ends_the_wait_in_time(void **state)
{
	void (*const makers[])(struct gw__chan **, int) = {make_pair, make_pipe};
	char *bytes = calloc(1, BIG_BYTES);
	for (int m = 0; m < 2; m++) {
		struct gw__chan *ends[2];
		struct gw__error error = {0};
		makers[m](ends, SOON_MS);
		uint64_t start = now_ms();
		assert_int_equal(gw__chan_write_all(ends[1], bytes, BIG_BYTES, &error), -ETIMEDOUT);
		assert_in_range(now_ms() - start, SOON_MS - 1, FAR_MS);
		assert_says(error, "took nothing for 50 ms");
		assert_in_range(ends[1]->out_bytes, 1, BIG_BYTES - 1);
		close_both(ends);
	}
	free(bytes);
}

static void input_and_room_are_waited_for_together(void **state)
{
	struct gw__chan *pair[2];
	struct gw__error error = {0};
	static char bytes[64 << 10];
	char byte;
	int r;
	make_pair(pair, FAR_MS);
	assert_int_equal(gw__chan_wait_either(pair[0], false, 0, &error), 0);
	assert_int_equal(gw__chan_wait_either(pair[0], true, 0, &error), GW__CHAN_ROOM);
	while ((r = gw__chan_wait_either(pair[0], true, 0, &error)) == GW__CHAN_ROOM)
		assert_int_equal(gw__chan_write_all(pair[0], bytes, sizeof bytes, &error), 0); /* does not wait: there was room */
	assert_int_equal(r, 0);
	assert_int_equal(gw__chan_wait_either(pair[0], true, 1000, &error), 0);
	assert_int_equal(gw__chan_write_all(pair[1], "x", 1, &error), 0);
	assert_int_equal(gw__chan_wait_either(pair[0], true, 1000, &error), GW__CHAN_INPUT);
	read_all(pair[0], &byte, 1);
	gw__chan_set_unsent_low_watermark(pair[0], 1000); /* says nothing of a unix socket */
	for (uint64_t left = pair[0]->out_bytes, n; left; left -= n)
		read_all(pair[1], bytes, n = left < sizeof bytes ? left : sizeof bytes);
	assert_int_equal(gw__chan_wait_either(pair[0], true, 1000, &error), GW__CHAN_ROOM);
	gw__chan_close(&pair[1], NULL);
	assert_int_equal(gw__chan_wait_either(pair[0], false, 0, &error), GW__CHAN_INPUT); /* its end */
	close_both(pair);
}

static void readiness_can_be_asked(void **state)
{
	struct gw__chan *pair[2];
	struct gw__error error = {0};
	char byte;
	make_pair(pair, FAR_MS);
	assert_int_equal(gw__chan_wait_readable(pair[0], 0, &error), 0);
	assert_int_equal(gw__chan_wait_readable(pair[0], 20, &error), 0);
	assert_int_equal(gw__chan_write_all(pair[1], "x", 1, &error), 0);
	assert_int_equal(gw__chan_wait_readable(pair[0], -1, &error), 1);
	read_all(pair[0], &byte, 1);
	gw__chan_close(&pair[1], NULL);
	assert_int_equal(gw__chan_wait_readable(pair[0], -1, &error), 1); /* at its end */
	assert_int_equal(gw__chan_read(pair[0], &byte, 1, &error), 0);
	close_both(pair);
}

/* --- signals ---------------------------------------------------------------------------------------- */

static volatile sig_atomic_t signals_n;

static void count_signal(int n) { signals_n++; }

/* Every 2 ms a signal without SA_RESTART hits the only thread there is. */
static void a_wait_is_undisturbed_by_signals(void **state)
{
	void (*const makers[])(struct gw__chan **, int) = {make_pair, make_pipe};
	struct sigaction act = {.sa_handler = count_signal}, before;
	struct itimerval often = {{0, 2000}, {0, 2000}}, off = {{0, 0}, {0, 0}};
	char *bytes = calloc(1, BIG_BYTES);
	sigaction(SIGALRM, &act, &before);
	for (int m = 0; m < 2; m++) {
		struct gw__chan *ends[2];
		struct gw__error error = {0};
		char byte;
		makers[m](ends, SOON_MS);
		signals_n = 0;
		setitimer(ITIMER_REAL, &often, NULL);
		uint64_t start = now_ms();
		int r = (int)gw__chan_read(ends[0], &byte, 1, &error);
		int w = gw__chan_write_all(ends[1], bytes, BIG_BYTES, NULL);
		uint64_t took = now_ms() - start;
		setitimer(ITIMER_REAL, &off, NULL);
		assert_int_equal(r, -ETIMEDOUT);
		assert_int_equal(w, -ETIMEDOUT);
		assert_in_range(took, 2 * SOON_MS - 2, FAR_MS);
		assert_true(signals_n > 3);
		close_both(ends);
	}
	sigaction(SIGALRM, &before, NULL);
	free(bytes);
}

static void a_peer_that_leaves_is_an_end_or_an_error_but_no_signal(void **state)
{
	void (*const makers[])(struct gw__chan **, int) = {make_pair, make_pipe};
	struct sigaction act = {.sa_handler = count_signal}, before;
	sigset_t pending, mask;
	sigaction(SIGPIPE, &act, &before);
	signals_n = 0;
	for (int m = 0; m < 2; m++) {
		struct gw__chan *ends[2];
		struct gw__error error = {0};
		char byte;
		makers[m](ends, FAR_MS);
		gw__chan_close(&ends[0], NULL);
		assert_int_equal(gw__chan_write_all(ends[1], "x", 1, &error), -EPIPE);
		assert_says(error, "closed the connection");
		gw__chan_close(&ends[1], NULL);

		makers[m](ends, FAR_MS);
		assert_int_equal(gw__chan_write_all(ends[1], "x", 1, NULL), 0);
		gw__chan_close(&ends[1], NULL);
		read_all(ends[0], &byte, 1);
		assert_int_equal(gw__chan_read(ends[0], &byte, 1, NULL), 0);
		gw__chan_close(&ends[0], NULL);
	}
	sigpending(&pending);
	assert_false(sigismember(&pending, SIGPIPE));
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_false(sigismember(&mask, SIGPIPE));
	assert_int_equal(signals_n, 0);
	sigaction(SIGPIPE, &before, NULL);
}

/* --- cancel ----------------------------------------------------------------------------------------- */

static void *cancel(void *arg)
{
	uint64_t one = 1;
	return write(*(int *)arg, &one, sizeof one) == sizeof one ? NULL : arg;
}

static void another_thread_can_cancel_a_wait(void **state)
{
	void (*const makers[])(struct gw__chan **, int) = {make_pair, make_pipe};
	char *bytes = calloc(1, BIG_BYTES);
	for (int m = 0; m < 2; m++)
		for (int writing = 0; writing < 2; writing++) {
			struct gw__chan *ends[2];
			struct gw__error error = {0};
			pthread_t thread;
			char byte;
			makers[m](ends, -1); /* no limit: only cancel can end it */
			int fd = eventfd(0, EFD_CLOEXEC);
			ends[0]->cancel_fd = ends[1]->cancel_fd = fd;
			pthread_create(&thread, NULL, cancel, &fd);
			int r = writing ? gw__chan_write_all(ends[1], bytes, BIG_BYTES, &error)
					: (int)gw__chan_read(ends[0], &byte, 1, &error);
			assert_int_equal(r, -ECANCELED);
			assert_says(error, "cancelled");
			pthread_join(thread, NULL);
			assert_int_equal(gw__chan_wait_readable(ends[0], -1, NULL), -ECANCELED);
			close_both(ends);
			close(fd);
		}
	free(bytes);
}

static void a_channel_that_never_waits_hears_of_cancel_too(void **state)
{
	struct gw__chan *c;
	struct gw__error error = {0};
	struct gw__uri uri = uri_of("file:/dev/null");
	struct gw__io_opts o = limits(FAR_MS);
	int fd = eventfd(1, EFD_CLOEXEC), r = 0, calls = 0;
	o.cancel_fd = fd;
	assert_ok(gw__io_open_out(&uri, &o, &c, &error), error);
	for (; r == 0 && calls < 1000; calls++)
		r = gw__chan_write_all(c, "x", 1, &error);
	assert_int_equal(r, -ECANCELED);
	assert_in_range(calls, 1, 100);
	gw__chan_close(&c, NULL);
	close(fd);
}

/* --- descriptors we are given ----------------------------------------------------------------------- */

static int take(int fd, struct gw__chan **c, struct gw__error *error)
{
	struct gw__io_opts o = limits(FAR_MS);
	return gw__chan_take_fd(fd, "given", &o, c, error);
}

static void a_given_descriptor_is_checked_and_left_as_it_was(void **state)
{
	struct gw__chan *c;
	struct gw__error error = {0};
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	int twin = dup(fds[1]);
	assert_int_equal(take(fds[1], &c, &error), 0);
	assert_false(c->two_way);
	assert_true(fcntl(fds[1], F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(twin, F_GETFL) & O_NONBLOCK); /* shared with whoever has the twin */
	gw__chan_close(&c, NULL);
	assert_false(fcntl(twin, F_GETFL) & O_NONBLOCK);
	assert_int_equal(fcntl(fds[1], F_GETFD), -1);
	close(twin);
	close(fds[0]);

	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	assert_int_equal(take(fd, &c, &error), -EPROTOTYPE);
	assert_says(error, "not a stream socket");
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken over also on failure */
	gw__error_clear(&error);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(listen(fd, 1), -1); /* not bound */
	assert_int_equal(take(fd, &c, &error), 0);
	assert_true(c->two_way);
	gw__chan_close(&c, NULL);
}

/* Its peer has gone without a word: that is what is said, and not that the socket is not connected. */
static void the_end_of_a_stream_over_a_connection_that_was_reset(void **state)
{
	struct gw__chan *c;
	struct gw__error error = {0};
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof at;
	const struct linger now = {.l_onoff = 1};
	int listener = socket(AF_INET, SOCK_STREAM, 0), ours = socket(AF_INET, SOCK_STREAM, 0);
	assert_false(bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1));
	assert_false(getsockname(listener, (struct sockaddr *)&at, &n) || connect(ours, (struct sockaddr *)&at, sizeof at));
	int theirs = accept(listener, NULL, NULL);
	assert_false(setsockopt(theirs, SOL_SOCKET, SO_LINGER, &now, sizeof now));
	close(theirs);
	struct pollfd p = {.fd = ours};
	assert_int_equal(poll(&p, 1, FAR_MS), 1); /* POLLHUP */
	assert_int_equal(take(ours, &c, &error), 0);
	assert_int_equal(gw__chan_end_writes(c, &error), -EPIPE);
	assert_says(error, "the peer closed the connection before the stream had ended");
	gw__chan_close(&c, NULL);
	close(listener);
}

static void fd_uris_name_an_open_descriptor_of_the_right_direction(void **state)
{
	struct gw__chan *c;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(FAR_MS);
	char text[32];
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	snprintf(text, sizeof text, "fd:%d", fds[0]);
	struct gw__uri uri = uri_of(text);
	assert_int_equal(gw__io_open_out(&uri, &o, &c, &error), -EBADF);
	assert_says(error, "not open for writing");
	assert_ok(gw__io_open_in(&uri, &o, &c, NULL), error);
	assert_int_equal(write(fds[1], "hello", 5), 5);
	char got[5];
	read_all(c, got, 5);
	assert_memory_equal(got, "hello", 5);
	assert_int_equal(gw__chan_end_writes(c, NULL), 0); /* nothing to end; still readable */
	close(fds[1]);
	assert_int_equal(gw__chan_read(c, got, 1, NULL), 0);
	gw__chan_close(&c, NULL);
	gw__error_clear(&error);
	assert_int_equal(gw__io_open_in(&uri, &o, &c, &error), -EBADF);
	assert_says(error, "no such descriptor is open");
}

static int send_buffer(const struct gw__chan *c)
{
	int bytes = -1;
	socklen_t n = sizeof bytes;
	getsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &bytes, &n);
	return bytes;
}

/* Between unix sockets; TCP's own size is not taken away, and what is no socket does not mind. */
static void bulk_may_be_under_way(void **state)
{
	struct gw__chan *pair[2], *ends[2], *tcp = NULL;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(FAR_MS);
	make_pair(pair, FAR_MS);
	make_pipe(ends, FAR_MS);
	assert_ok(gw__chan_take_fd(socket(AF_INET, SOCK_STREAM, 0), "tcp", &o, &tcp, &error), error);
	int before = send_buffer(pair[0]), tcp_before = send_buffer(tcp);
	gw__chan_set_deep_buffer(pair[0], true);
	gw__chan_set_deep_buffer(ends[1], true);
	gw__chan_set_deep_buffer(tcp, true);
	assert_true(send_buffer(pair[0]) > before);
	gw__chan_set_deep_buffer(pair[0], false);
	assert_true(send_buffer(pair[0]) <= before);
	assert_int_equal(send_buffer(tcp), tcp_before);
	assert_int_equal(gw__chan_write_all(ends[1], "x", 1, &error), 0);
	gw__chan_close(&tcp, NULL);
	close_both(pair);
	close_both(ends);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_are_short_and_writes_are_whole),
		cmocka_unit_test(more_than_the_buffers_hold_goes_through),
		cmocka_unit_test(a_silent_peer_ends_the_wait_in_time),
		cmocka_unit_test(a_peer_that_stops_reading_ends_the_wait_in_time),
		cmocka_unit_test(readiness_can_be_asked),
		cmocka_unit_test(input_and_room_are_waited_for_together),
		cmocka_unit_test(a_wait_is_undisturbed_by_signals),
		cmocka_unit_test(a_peer_that_leaves_is_an_end_or_an_error_but_no_signal),
		cmocka_unit_test(another_thread_can_cancel_a_wait),
		cmocka_unit_test(a_channel_that_never_waits_hears_of_cancel_too),
		cmocka_unit_test(bulk_may_be_under_way),
		cmocka_unit_test(a_given_descriptor_is_checked_and_left_as_it_was),
		cmocka_unit_test(the_end_of_a_stream_over_a_connection_that_was_reset),
		cmocka_unit_test(fd_uris_name_an_open_descriptor_of_the_right_direction),
	};
	return cmocka_run_group_tests_name("chan", tests, NULL, NULL);
}
