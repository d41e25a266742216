/* SPDX-License-Identifier: MIT */
/* gw_receive_fd, gw_send_fd, gw_serve_fd and gw_drain_fd: alike in whose the descriptor is, in TLS, and in what a break leaves. */
#include <fcntl.h>
#include <ftw.h>
#include <godwit.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "stream_check.h"

enum { LIMIT_MS = 20000 };

static char dir[64], stream_uri[112], image[96], copy[96];
static gw_job *here, *there; /* `there` is started */
static struct gw_link_opts link_opts;
static struct gw_tls_opts tls;

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

static void put_file(const char *name, const void *content, size_t n)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0 && write(fd, content, n) == (ssize_t)n);
	close(fd);
}

static int setup(void **state)
{
	(void)state;
	struct sb b = {0};
	snprintf(dir, sizeof dir, "/tmp/godwit-descriptors-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(stream_uri, sizeof stream_uri, "file:%s/stream", dir);
	snprintf(image, sizeof image, "%s/image", dir);
	snprintf(copy, sizeof copy, "%s/copy", dir);
	put_ram(&b);
	put_rest(&b);
	put_file("stream", b.p, b.n);
	sb_fini(&b);
	static const char key[] = "qemu:00112233445566778899aabbccddeeff\n";
	put_file("keys.psk", key, sizeof key - 1);
	link_opts = (struct gw_link_opts)GW_INIT(link_opts);
	link_opts.idle_timeout_ms = LIMIT_MS;
	tls = (struct gw_tls_opts)GW_INIT(tls);
	tls.creds_dir = dir;
	assert_int_equal(gw_job_new(&here), 0);
	assert_int_equal(gw_job_new(&there), 0);
	assert_int_equal(gw_receive(here, stream_uri, image, NULL, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gw_job_free(here);
	gw_job_free(there);
	return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_pair(int pair[2]) { assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0); }

static int end(void)
{
	int result = 1234;
	assert_int_equal(gw_job_wait(there, LIMIT_MS, &result), 0);
	return result;
}

#define assert_done(job, r)                                                                                                                \
	do {                                                                                                                               \
		int done_ = (r);                                                                                                           \
		if (done_)                                                                                                                 \
			fail_msg("%s: %d: %s", #r, done_, gw_job_error(job));                                                              \
	} while (0)

static void copy_over(int pair[2])
{
	struct gw_receive_opts ro = GW_INIT(ro);
	struct gw_send_opts so = GW_INIT(so);
	ro.link = so.link = &link_opts;
	assert_int_equal(gw_job_start(there, NULL), 0);
	assert_int_equal(gw_receive_fd(there, pair[1], copy, &ro, NULL), 0);
	assert_done(here, gw_send_fd(here, image, pair[0], &so));
	assert_done(there, end());
	assert_int_equal(gw_compare(here, image, copy, NULL, NULL), 0);
}

static void a_guest_is_sent_and_received(void **state)
{
	(void)state;
	int pair[2];
	make_pair(pair);
	copy_over(pair);
}

/* Asked for, TLS was left out without a word. */
static void with_tls(void **state)
{
	(void)state;
	int pair[2];
	make_pair(pair);
	link_opts.tls = &tls;
	copy_over(pair);
	make_pair(pair);
	static const char plain[] = "QEVM\0\0\0\3";
	assert_int_equal(write(pair[0], plain, 8), 8);
	shutdown(pair[0], SHUT_WR);
	struct gw_receive_opts ro = GW_INIT(ro);
	ro.link = &link_opts;
	assert_int_equal(gw_receive_fd(here, pair[1], copy, &ro, NULL), -EPROTO);
	close(pair[0]);
}

static const struct gw_drain_block blocks[] = {{sizeof(struct gw_drain_block), "m0", 0x4000, 4096},
	{sizeof(struct gw_drain_block), "rom", 0x2000, 4096}};

static void drain_opts(struct gw_drain_opts *o)
{
	*o = (struct gw_drain_opts)GW_INIT(*o);
	o->link = &link_opts;
	o->machine = "pc-i440fx-10.0";
	o->page_bytes = 4096;
	o->block = blocks;
	o->blocks = GW__LEN(blocks);
}

static int serve(int fd, struct gw_serve_result *result)
{
	struct gw_serve_opts so = GW_INIT(so);
	*result = (struct gw_serve_result)GW_INIT(*result);
	so.link = &link_opts;
	so.resume = true;
	return gw_serve_fd(here, image, fd, &so, result);
}

static void memory_is_served_and_drained(void **state)
{
	(void)state;
	for (int with = 0; with < 2; with++) {
		struct gw_drain_opts o;
		struct gw_receive_result got = GW_INIT(got);
		struct gw_serve_result served;
		int pair[2];
		make_pair(pair);
		link_opts.tls = with ? &tls : NULL;
		drain_opts(&o);
		unlink(copy);
		assert_int_equal(gw_job_start(there, NULL), 0);
		assert_int_equal(gw_drain_fd(there, pair[1], copy, &o, &got), 0);
		assert_done(here, serve(pair[0], &served));
		assert_done(there, end());
		assert_int_equal(served.state, GW_MIGRATION_COMPLETED);
		assert_int_equal(served.pushed_pages, 6);
		assert_int_equal(got.missing_pages, 0);
		gw_info *info;
		struct gw_info_summary sum = GW_INIT(sum);
		assert_done(here, gw_inspect(here, copy, NULL, &info));
		assert_int_equal(gw_info_summary(info, &sum), 0);
		assert_true(sum.memory_only);
		gw_info_free(info);
	}
}

/* What is there stays, and the next descriptor goes on. */
static void a_break_is_gone_on_from(void **state)
{
	(void)state;
	struct gw_drain_opts o;
	struct gw_receive_result got = GW_INIT(got);
	struct gw_serve_result served;
	struct gw_partial_info info = GW_INIT(info);
	int pair[2];
	make_pair(pair);
	drain_opts(&o);
	close(pair[0]);
	assert_true(gw_drain_fd(here, pair[1], copy, &o, &got) < 0);
	assert_true(got.recoverable);
	assert_int_equal(got.state, GW_MIGRATION_POSTCOPY_PAUSED);
	assert_done(here, gw_partial_info(here, copy, &info));
	assert_int_equal(info.kind, GW_PARTIAL_MEMORY);
	assert_int_equal(info.missing_pages, 6);
	make_pair(pair);
	assert_int_equal(gw_job_start(there, NULL), 0);
	assert_int_equal(gw_drain_fd(there, pair[1], copy, &o, &got), 0);
	assert_done(here, serve(pair[0], &served));
	assert_done(there, end());
}

/* --- whose is it --- */

static bool is_closed(int peer)
{
	struct pollfd p = {.fd = peer, .events = POLLIN};
	char byte;
	return poll(&p, 1, 1000) == 1 && read(peer, &byte, 1) <= 0;
}

static int call(gw_job *job, unsigned i, int fd, const char *path, bool bad)
{
	struct gw_receive_opts ro = {.size = bad ? 1 : sizeof ro};
	struct gw_send_opts so = {.size = bad ? 1 : sizeof so};
	struct gw_serve_opts vo = {.size = bad ? 1 : sizeof vo};
	struct gw_drain_opts o;
	drain_opts(&o);
	o.size = bad ? 1 : o.size;
	switch (i) {
	case 0:
		return gw_receive_fd(job, fd, path, &ro, NULL);
	case 1:
		return gw_send_fd(job, path, fd, &so);
	case 2:
		return gw_serve_fd(job, path, fd, &vo, NULL);
	default:
		return gw_drain_fd(job, fd, path, &o, NULL);
	}
}

static void it_is_taken_over_in_any_case(void **state)
{
	(void)state;
	int pair[2], waits[2];
	for (unsigned i = 0; i < 4; i++) {
		make_pair(pair);
		assert_int_equal(call(here, i, pair[1], NULL, false), -EINVAL);
		assert_true(is_closed(pair[0]));
		close(pair[0]);
		make_pair(pair);
		assert_int_equal(call(here, i, pair[1], copy, true), -EINVAL);
		assert_true(is_closed(pair[0]));
		close(pair[0]);
		make_pair(pair);
		assert_int_equal(call(NULL, i, pair[1], copy, false), -EINVAL);
		assert_true(is_closed(pair[0]));
		close(pair[0]);
		gw_job_cancel(here);
		make_pair(pair);
		assert_int_equal(call(here, i, pair[1], copy, false), -ECANCELED);
		assert_true(is_closed(pair[0]));
		close(pair[0]);
		assert_int_equal(gw_job_reset(here), 0);
		make_pair(waits);
		make_pair(pair);
		assert_int_equal(gw_job_start(there, NULL), 0);
		assert_int_equal(gw_receive_fd(there, waits[1], copy, NULL, NULL), 0);
		assert_int_equal(call(there, i, pair[1], copy, false), -EBUSY);
		assert_true(is_closed(pair[0]));
		close(pair[0]);
		close(waits[0]);
		assert_int_not_equal(end(), 0);
		assert_int_equal(call(here, i, -1, image, false), -EBADF);
	}
}

#define each(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(a_guest_is_sent_and_received),
		each(with_tls),
		each(memory_is_served_and_drained),
		each(a_break_is_gone_on_from),
		each(it_is_taken_over_in_any_case),
	};
	return cmocka_run_group_tests_name("descriptors", tests, NULL, NULL);
}
