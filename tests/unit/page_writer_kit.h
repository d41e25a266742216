/* SPDX-License-Identifier: MIT */
/*
 * What the page writer tests share: the ways a page writer can write, and io_uring made to refuse. The linker puts the
 * functions below in front of liburing's (meson.build lists them).
 */
#ifndef GW_TESTS_LANE_KIT_H
#define GW_TESTS_LANE_KIT_H

#include "image_kit.h"

#include <liburing.h>

#include "base/math.h"
#include "image/write/page_writer.h"

/* What io_uring answers instead of working; 0: it works. Set before threads begin. */
static struct {
	int setup, buffers, files, submit;
	unsigned submit_from; /* the first submit that fails, counting from 1 */
	unsigned submits;
	int answer;            /* each answer_every-th write is not done, and this is its result */
	bool halve;            /* ... or only half of it is done */
	unsigned answer_every; /* 0: none */
	unsigned writes;
} forced;

int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	return forced.setup ? forced.setup : __real_io_uring_queue_init(entries, ring, flags);
}

int __real_io_uring_register_buffers(struct io_uring *ring, const struct iovec *iov, unsigned n);
int __wrap_io_uring_register_buffers(struct io_uring *ring, const struct iovec *iov, unsigned n);
int __wrap_io_uring_register_buffers(struct io_uring *ring, const struct iovec *iov, unsigned n)
{
	return forced.buffers ? forced.buffers : __real_io_uring_register_buffers(ring, iov, n);
}

int __real_io_uring_register_files(struct io_uring *ring, const int *fds, unsigned n);
int __wrap_io_uring_register_files(struct io_uring *ring, const int *fds, unsigned n);
int __wrap_io_uring_register_files(struct io_uring *ring, const int *fds, unsigned n)
{
	return forced.files ? forced.files : __real_io_uring_register_files(ring, fds, n);
}

enum { SPOILT = 1 << 20 }; /* in the user data: the answer is to be replaced */

static inline void spoil(struct io_uring_sqe *sqe)
{
	if (forced.halve) {
		sqe->len = (uint32_t)gw__round_up(sqe->len / 2, KIT_PAGE); /* what any disk can do */
		return;
	}
	uint64_t data = sqe->user_data;
	io_uring_prep_nop(sqe);
	sqe->user_data = data | SPOILT;
}

int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring)
{
	if (forced.submit && ++forced.submits >= forced.submit_from)
		return forced.submit;
	for (unsigned at = ring->sq.sqe_head; forced.answer_every && at != ring->sq.sqe_tail; at++)
		if (++forced.writes % forced.answer_every == 0)
			spoil(&ring->sq.sqes[at & *ring->sq.kring_mask]);
	return __real_io_uring_submit(ring);
}

unsigned __real_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned n);
unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned n);
unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned n)
{
	unsigned got = __real_io_uring_peek_batch_cqe(ring, cqes, n);
	for (unsigned i = 0; i < got; i++)
		if (cqes[i]->user_data & SPOILT) {
			cqes[i]->user_data &= ~(uint64_t)SPOILT;
			cqes[i]->res = forced.answer;
		}
	return got;
}

/* All ways, with the words by which a page writer must name its own. */
struct way {
	bool direct;
	int setup, buffers, files;
	const char *how;
};

static const struct way ways[] = {
	{.how = "pwrite, through the page cache"},
	{.direct = true, .how = "io_uring, 8 x 512 KiB"},
	{.direct = true, .buffers = -ENOMEM, .how = "not registered (Cannot allocate memory, RLIMIT_MEMLOCK)"},
	{.direct = true, .setup = -EPERM, .how = "direct pwrite: io_uring is forbidden (Operation not permitted)"},
	{.direct = true, .setup = -ENOSYS, .how = "direct pwrite: the kernel has no io_uring"},
	{.direct = true, .setup = -ENOMEM, .how = "direct pwrite: no memory may be locked for io_uring"},
	{.direct = true, .files = -EMFILE, .how = "direct pwrite: io_uring cannot be set up (Too many open files)"},
};

static inline void go_by(const struct way *way)
{
	memset(&forced, 0, sizeof forced);
	forced.setup = way->setup;
	forced.buffers = way->buffers;
	forced.files = way->files;
}

/* False, and said so, where io_uring is forbidden for real. */
static inline bool io_uring_works(void)
{
	struct io_uring ring;
	int r = __real_io_uring_queue_init(4, &ring, 0);
	if (r) {
		print_message("not tested with io_uring: %s\n", strerror(-r));
		return false;
	}
	io_uring_queue_exit(&ring);
	return kit_has_direct_io();
}

/* Can this machine go that way? */
static inline bool can_go_by(const struct way *way)
{
	go_by(way);
	if (!way->direct)
		return true;
	return way->setup ? kit_has_direct_io() : io_uring_works();
}

/* Pages of block 0 by their index; generation 0 is zeros. */
static inline int put_pages_of(struct gw__page_writer *page_writer, uint32_t block, const uint64_t *index, const unsigned *generation,
	uint32_t n, struct gw__error *error)
{
	uint64_t off[GW__PAGE_WRITER_BUFFER_BYTES / KIT_PAGE];
	void *buffer;
	int r = gw__page_writer_borrow_buffer(page_writer, &buffer, error);
	if (r)
		return r;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *page = (uint8_t *)buffer + (size_t)i * KIT_PAGE;
		off[i] = index[i] * KIT_PAGE;
		memset(page, 0, KIT_PAGE);
		if (generation[i])
			kit_fill(page, block, index[i], generation[i]);
	}
	r = gw__page_writer_submit(page_writer, block, off, n, error);
	memset(off, 0xff, sizeof off); /* it was only lent */
	return r;
}

#endif
