/* SPDX-License-Identifier: MIT */
/*
 * When the page server reads a page of its push: only while no request lies there and its socket has room, also where the disk let it wait
 * before. The linker puts the test's functions in place of two system calls, and they are the destination: it asks for pages while the
 * disk is waited for, and reads only when it is waited for.
 */
#include "image_kit.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/math.h"
#include "engine/pageserver/image_pages.h"
#include "engine/pageserver/pageserver.h"
#include "io/chan.h"
#include "wire/postcopy.h"
#include "wire/return_path.h"

enum { ASKED_FIRST = 40, ASKED_PAGES = 60 }; /* of pc.ram: more than there is room for, less than makes a write wait */

static struct {
	int server, ours; /* both ends of the link */
	unsigned looks, dry;
	unsigned at_request, without_room;
	bool shut;
	struct gw__pageserver_stats stats;
	struct gw__location location;
	enum gw__postcopy_src_state state;
} t;

static void say(const struct gw__rp_msg *m)
{
	uint8_t bytes[64];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__rp_encode(&c, m);
	assert_int_equal(write(t.ours, bytes, gw__wr_used(&c)), gw__wr_used(&c));
}

static void take_everything(void)
{
	static uint8_t room[1 << 16];
	while (recv(t.ours, room, sizeof room, MSG_DONTWAIT) > 0)
		;
}

int __real_ppoll(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask);
int __wrap_ppoll(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask);
int __wrap_ppoll(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	bool waits = !timeout || timeout->tv_sec || timeout->tv_nsec, ending = t.state == GW__POSTCOPY_SRC_ENDING;
	if (waits && (p[0].events & POLLOUT || ending))
		take_everything();
	if (waits && ending && !t.shut) {
		t.shut = true;
		say(&(struct gw__rp_msg){.type = GW__RP_SHUT});
	}
	return __real_ppoll(p, n, timeout, mask);
}

static void ask(void)
{
	struct gw__rp_msg m = {.type = GW__RP_REQ_PAGES_ID, .start_off = ASKED_FIRST * KIT_PAGE, .length_bytes = ASKED_PAGES * KIT_PAGE};
	strcpy(m.block, "pc.ram");
	say(&(struct gw__rp_msg){.type = GW__RP_PONG, .value = GW__PING_RUNS});
	say(&m);
}

/* With RWF_NOWAIT it is the push that reads. */
ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int n, off64_t off, int flags);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int n, off64_t off, int flags)
{
	struct pollfd p = {.fd = t.server, .events = POLLIN | POLLOUT};
	assert_int_equal(n, 1);
	assert_true(flags & RWF_NOWAIT);
	assert_int_equal(__real_ppoll(&p, 1, &(struct timespec){0}, NULL) < 0, 0);
	t.at_request += (p.revents & POLLIN) != 0;
	t.without_room += (p.revents & POLLOUT) == 0;
	if (t.looks++ >= t.dry)
		return pread(fd, iov->iov_base, iov->iov_len, off);
	if (t.looks == 1)
		ask();
	errno = EAGAIN;
	return -1;
}

/* The first page of the push is not in memory, so many times in a row. */
static void pushes_into_room(unsigned dry)
{
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image *im;
	struct gw__run run;
	struct gw__chan *chan;
	struct gw__pageserver_opts o = {.answer_ms = 60000};
	int fd[2];
	kit_write_image(image, 0, &blocks);
	gw__run_init(&run);
	assert_ok(gw__image_open(image, 0, &im, &run.error), run.error);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	memset(&t, 0, sizeof t);
	t.server = fd[0];
	t.ours = fd[1];
	t.dry = dry;
	t.location = gw__location_at(GW__PLACE_KEPT_WHOLE);
	assert_ok(gw__chan_take_fd(fd[0], "the link", &GW__IO_DEFAULTS, &chan, &run.error), run.error);
	const struct gw__page_source pages = gw__image_pages(im);
	assert_ok(gw__pageserver(&run, &pages, chan, &o, &t.stats, &t.state), run.error);
	gw__pageserver_locate(t.state, &t.location);
	assert_int_equal(t.state, GW__POSTCOPY_SRC_COMPLETED);
	assert_int_equal(t.location.place, GW__PLACE_DESTINATION_RUNS);
	assert_int_equal(t.stats.requests, 1);
	assert_int_equal(t.stats.requested_pages, ASKED_PAGES);
	assert_int_equal(t.stats.pushed_pages + ASKED_PAGES, blocks.total_bytes / KIT_PAGE);
	assert_true(t.looks > dry + 1);
	assert_int_equal(t.at_request, 0);
	assert_int_equal(t.without_room, 0);
	gw__chan_close(&chan, NULL);
	close(fd[1]);
	gw__image_close(im);
	gw__blocks_fini(&blocks);
}

static void after_one_wait_for_the_disk(void **state)
{
	(void)state;
	pushes_into_room(1);
}

static void after_some_waits_for_the_disk(void **state)
{
	(void)state;
	pushes_into_room(5);
}

/* A destination that is gone before anything was sent: how far it came, and where the guest is, are one answer. */
static void ends_without_a_destination(bool resume, enum gw__postcopy_src_state state, enum gw__place place)
{
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image *im;
	struct gw__run run;
	struct gw__chan *chan;
	struct gw__pageserver_opts o = {.answer_ms = 60000, .resume = resume};
	int fd[2];
	kit_write_image(image, 0, &blocks);
	gw__run_init(&run);
	assert_ok(gw__image_open(image, 0, &im, &run.error), run.error);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	memset(&t, 0, sizeof t);
	t.server = fd[0];
	t.location = gw__location_at(resume ? GW__PLACE_DESTINATION_WAITS : GW__PLACE_KEPT_WHOLE);
	close(fd[1]);
	assert_ok(gw__chan_take_fd(fd[0], "the link", &GW__IO_DEFAULTS, &chan, &run.error), run.error);
	const struct gw__page_source pages = gw__image_pages(im);
	assert_true(gw__pageserver(&run, &pages, chan, &o, &t.stats, &t.state) < 0);
	gw__pageserver_locate(t.state, &t.location);
	assert_int_equal(t.state, state);
	assert_int_equal(t.location.place, place);
	gw__chan_close(&chan, NULL);
	gw__image_close(im);
	gw__blocks_fini(&blocks);
}

static void without_a_destination(void **state)
{
	(void)state;
	ends_without_a_destination(false, GW__POSTCOPY_SRC_FAILED, GW__PLACE_KEPT_WHOLE);
	ends_without_a_destination(true, GW__POSTCOPY_SRC_PAUSED, GW__PLACE_DESTINATION_WAITS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(after_one_wait_for_the_disk),
		each_in_a_folder(after_some_waits_for_the_disk),
		each_in_a_folder(without_a_destination),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
