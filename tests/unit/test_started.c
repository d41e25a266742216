/* SPDX-License-Identifier: MIT */
/* Calls that are only begun: events, questions, the end; and what becomes of a job that is cancelled, reset, freed or misused meanwhile. */
#include <fcntl.h>
#include <ftw.h>
#include <godwit.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "stream_check.h"

enum { LIMIT_MS = 20000 };

static char dir[64], stream[96], stream_uri[112], socket_uri[112], image[96];
static gw_job *job;
static struct sb bytes;

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/godwit-started-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(stream, sizeof stream, "%s/stream", dir);
	snprintf(stream_uri, sizeof stream_uri, "file:%s", stream);
	snprintf(socket_uri, sizeof socket_uri, "unix:%s/socket", dir);
	snprintf(image, sizeof image, "%s/image", dir);
	bytes = (struct sb){0};
	put_ram(&bytes);
	put_rest(&bytes);
	int fd = open(stream, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0 && write(fd, bytes.p, bytes.n) == (ssize_t)bytes.n);
	close(fd);
	return gw_job_new(&job);
}

static int teardown(void **state)
{
	(void)state;
	gw_job_free(job);
	job = NULL;
	sb_fini(&bytes);
	return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void start(uint64_t events)
{
	struct gw_start_opts o = GW_INIT(o);
	o.events = events;
	assert_int_equal(gw_job_start(job, &o), 0);
}

/* The next event of that kind, as an event loop finds it; others are passed over. */
static struct gw_event next(enum gw_event_kind kind)
{
	struct gw_event e = GW_INIT(e);
	for (;;) {
		struct pollfd p = {.fd = gw_job_fd(job), .events = POLLIN};
		int r = gw_job_next_event(job, &e);
		assert_true(r == 0 || r == -EAGAIN);
		if (r == 0 && e.kind == kind)
			return e;
		if (r == 0 && e.kind == GW_EVENT_DONE)
			fail_msg("the call ended before event %d", kind);
		if (r && poll(&p, 1, LIMIT_MS) != 1)
			fail_msg("no event %d came", kind);
	}
}

static bool is_readable(void)
{
	struct pollfd p = {.fd = gw_job_fd(job), .events = POLLIN};
	return poll(&p, 1, 0) == 1;
}

static int end(void)
{
	int result = 1234;
	assert_int_equal(gw_job_wait(job, LIMIT_MS, &result), 0);
	return result;
}

static int connect_to(const char *uri)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(to.sun_path, sizeof to.sun_path, "%s", uri + strlen("unix:"));
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	return fd;
}

static void send_stream(const char *uri)
{
	int fd = connect_to(uri);
	for (size_t at = 0; at < bytes.n;) {
		ssize_t n = send(fd, bytes.p + at, bytes.n - at, MSG_NOSIGNAL);
		assert_true(n > 0);
		at += (size_t)n;
	}
	close(fd);
}

static void a_call_of_an_event_loop(void **state)
{
	(void)state;
	struct gw_receive_result got = GW_INIT(got);
	for (int twice = 0; twice < 2; twice++) {
		start(0);
		assert_false(is_readable());
		assert_int_equal(gw_receive(job, socket_uri, image, NULL, &got), 0);
		struct gw_event e = next(GW_EVENT_LISTENING);
		assert_string_equal(e.uri, socket_uri);
		assert_int_equal(gw_job_wait(job, 0, &(int){0}), -EAGAIN);
		send_stream(e.uri);
		while (next(GW_EVENT_PHASE).number != GW_PHASE_RAM)
			;
		next(GW_EVENT_DONE);
		assert_true(is_readable()); /* until it was waited for */
		assert_int_equal(gw_job_next_event(job, &e), -EAGAIN);
		assert_int_equal(end(), 0);
		assert_false(is_readable());
		assert_true(got.image_committed);
		assert_int_equal(gw_job_wait(job, 0, &(int){0}), -ESRCH);
	}
	unlink(image);
	assert_int_equal(gw_receive(job, stream_uri, image, NULL, NULL), 0); /* which blocks again */
	assert_int_equal(access(image, F_OK), 0);
}

static void nobody_reads_the_events(void **state)
{
	(void)state;
	start(GW_EVENT_BIT(GW_EVENT_TRACE));
	assert_int_equal(gw_receive(job, stream_uri, image, NULL, NULL), 0);
	assert_int_equal(end(), 0);
	assert_int_equal(gw_job_next_event(job, &(struct gw_event)GW_INIT(struct gw_event)), -EAGAIN);
}

static void a_failure_has_its_sentence(void **state)
{
	(void)state;
	start(0);
	assert_int_equal(gw_receive(job, "file:/nonexistent/stream", image, NULL, NULL), 0);
	assert_int_equal(end(), -ENOENT);
	assert_non_null(strstr(gw_job_error(job), "/nonexistent/stream"));
}

/* --- questions --- */

static void questions_are_answered(void **state)
{
	(void)state;
	start(GW_EVENT_BIT(GW_EVENT_READY) | GW_EVENT_BIT(GW_EVENT_WHOLE) | GW_EVENT_BIT(GW_EVENT_SOURCE_NOTIFIED));
	assert_int_equal(gw_job_answer(job, 0), -ESRCH);
	assert_int_equal(gw_receive(job, socket_uri, image, NULL, NULL), 0);
	struct gw_event e = next(GW_EVENT_LISTENING);
	char uri[112];
	snprintf(uri, sizeof uri, "%s", e.uri);
	assert_true(next(GW_EVENT_READY).wants_answer);
	assert_int_equal(gw_job_wait(job, -1, &(int){0}), -EAGAIN); /* nobody else would answer */
	assert_int_equal(gw_job_answer(job, 1), -EINVAL);
	assert_int_equal(gw_job_answer(job, 0), 0);
	assert_int_equal(gw_job_answer(job, 0), -ESRCH);
	send_stream(uri);
	e = next(GW_EVENT_WHOLE);
	assert_true(e.whole->blocks > 0 && GW_AT(e.whole->block, 0)->used_bytes > 0);
	assert_string_not_equal(e.whole->machine, "");
	assert_int_equal(gw_job_answer(job, GW_SAY_FAILED + 1), -EINVAL);
	assert_int_equal(gw_job_answer(job, 0), 0);
	next(GW_EVENT_SOURCE_NOTIFIED);
	assert_int_equal(gw_job_answer(job, 0), 0);
	next(GW_EVENT_DONE);
	assert_int_equal(end(), 0);
}

static void an_answer_ends_the_call(void **state)
{
	(void)state;
	start(GW_EVENT_BIT(GW_EVENT_READY));
	assert_int_equal(gw_receive(job, stream_uri, image, NULL, NULL), 0);
	next(GW_EVENT_READY);
	assert_int_equal(gw_job_answer(job, -EPERM), 0);
	assert_int_equal(end(), -EPERM);
	assert_int_not_equal(access(image, F_OK), 0);
}

static void an_unanswered_question_is_cancelled(void **state)
{
	(void)state;
	start(GW_EVENT_BIT(GW_EVENT_READY));
	assert_int_equal(gw_receive(job, stream_uri, image, NULL, NULL), 0);
	struct gw_event e = next(GW_EVENT_READY);
	assert_true(e.wants_answer);
	gw_job_cancel(job);
	while (gw_job_wait(job, 10, &(int){0}) == -EAGAIN)
		;
	assert_int_equal(gw_job_answer(job, 0), -ESRCH);
}

/* --- the job --- */

static void cancelled_and_reset(void **state)
{
	(void)state;
	start(0);
	assert_int_equal(gw_receive(job, socket_uri, image, NULL, NULL), 0);
	next(GW_EVENT_LISTENING);
	gw_job_cancel(job);
	assert_int_equal(end(), -ECANCELED);
	assert_int_equal(gw_receive(job, stream_uri, image, NULL, NULL), -ECANCELED);
	assert_int_equal(gw_job_reset(job), 0);
	assert_string_equal(gw_job_error(job), "");
	assert_int_equal(gw_receive(job, stream_uri, image, NULL, NULL), 0);
}

static void freed_meanwhile(void **state)
{
	(void)state;
	start(GW_EVENT_BIT(GW_EVENT_READY));
	assert_int_equal(gw_receive(job, stream_uri, image, NULL, NULL), 0);
	gw_job_free(job); /* and a question waits */
	assert_int_equal(gw_job_new(&job), 0);
	start(0);
	assert_int_equal(gw_receive(job, socket_uri, image, NULL, NULL), 0);
	next(GW_EVENT_LISTENING);
	gw_job_free(job);
	assert_int_equal(gw_job_new(&job), 0);
	start(0);
	assert_int_equal(gw_receive(job, stream_uri, image, NULL, NULL), 0);
	next(GW_EVENT_DONE);
	gw_job_free(job);
	assert_int_equal(gw_job_new(&job), 0);
	start(0);
	gw_job_free(job);
	assert_int_equal(gw_job_new(&job), 0);
}

static void started_twice(void **state)
{
	(void)state;
	start(0);
	assert_int_equal(gw_job_start(job, NULL), -EALREADY);
	assert_int_equal(gw_job_wait(job, -1, &(int){0}), -ESRCH);
	assert_int_equal(gw_job_reset(job), 0);
	assert_int_equal(gw_job_wait(job, -1, &(int){0}), -ESRCH);
	assert_int_equal(gw_receive(job, stream_uri, image, NULL, NULL), 0);
	assert_int_equal(access(image, F_OK), 0); /* it blocked */
	struct gw_start_opts o = GW_INIT(o);
	o.events = UINT64_C(1) << 63;
	assert_int_equal(gw_job_start(job, &o), -EINVAL);
}

static void on_listening(void *ctx, const char *uri) { (void)ctx, (void)uri; }

static void callbacks_are_refused(void **state)
{
	(void)state;
	struct gw_receive_opts o = GW_INIT(o);
	o.on_listening = on_listening;
	start(0);
	assert_int_equal(gw_receive(job, stream_uri, image, &o, NULL), 0);
	assert_int_equal(end(), -EINVAL);
	assert_non_null(strstr(gw_job_error(job), "gw_job_next_event"));
}

static sig_atomic_t signals;

static void on_signal(int n)
{
	(void)n;
	signals++;
}

/* Its thread takes no signal that is meant for the program. */
static void signals_are_the_programs(void **state)
{
	(void)state;
	sigset_t usr1, before;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	signal(SIGUSR1, on_signal);
	pthread_sigmask(SIG_BLOCK, &usr1, &before);
	start(0);
	assert_int_equal(gw_receive(job, socket_uri, image, NULL, NULL), 0);
	next(GW_EVENT_LISTENING);
	kill(getpid(), SIGUSR1);
	gw_job_cancel(job);
	assert_int_equal(end(), -ECANCELED);
	assert_int_equal(signals, 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	assert_int_equal(signals, 1);
}

static void differences_are_events(void **state)
{
	(void)state;
	char other[96];
	snprintf(other, sizeof other, "%s/other", dir);
	assert_int_equal(gw_receive(job, stream_uri, image, NULL, NULL), 0);
	assert_int_equal(gw_receive(job, stream_uri, other, NULL, NULL), 0);
	gw_info *info;
	struct gw_info_block block = GW_INIT(block);
	assert_int_equal(gw_inspect(job, other, NULL, &info), 0);
	assert_int_equal(gw_info_block(info, 0, &block), 0);
	int fd = open(other, O_RDWR);
	assert_int_equal(pwrite(fd, "other", 5, (off_t)block.pages_off), 5);
	close(fd);
	gw_info_free(info);
	start(0);
	assert_int_equal(gw_compare(job, image, other, NULL, NULL), 0);
	assert_string_not_equal(next(GW_EVENT_DIFFERENCE).text, "");
	assert_int_equal(end(), 1);
}

#define each(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(a_call_of_an_event_loop),
		each(nobody_reads_the_events),
		each(a_failure_has_its_sentence),
		each(questions_are_answered),
		each(an_answer_ends_the_call),
		each(an_unanswered_question_is_cancelled),
		each(cancelled_and_reset),
		each(freed_meanwhile),
		each(started_twice),
		each(callbacks_are_refused),
		each(signals_are_the_programs),
		each(differences_are_events),
	};
	return cmocka_run_group_tests_name("started", tests, NULL, NULL);
}
