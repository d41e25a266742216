/* SPDX-License-Identifier: MIT */
/*
 * Writing buffers by io_uring: several writes per buffer, because a live guest's pages are scattered, and a
 * bounded number of them under way. A buffer is free when its last write has completed.
 *
 * Memory given to io_uring is not ours until its completion. What goes wrong is kept in the page writer from
 * the moment it completes. One thread at a time, that of the page writer.
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "image/file/fileio.h"
#include "image/write/page_writer_private.h"

enum { WRITES_MAX = 128 }; /* under way or queued: scattered pages of one packet */

struct under_way {
	const uint8_t *from;
	uint64_t to, bytes; /* 0: this place is free */
	unsigned buffer;
};

struct gw__uring {
	struct io_uring ring;
	struct gw__page_writer *page_writer;
	bool registered; /* the buffers are */
	unsigned taken;
	unsigned writes_of[GW__PAGE_WRITER_BUFFERS]; /* not completed yet */
	struct under_way writes[WRITES_MAX];
	unsigned queued;  /* the kernel has not seen them */
	unsigned started; /* it has, and did not answer yet */
};

static const char *reason_of(int err)
{
	switch (err) {
	case EPERM:
	case EACCES:
		return "io_uring is forbidden";
	case ENOSYS:
		return "the kernel has no io_uring";
	case ENOMEM:
		return "no memory may be locked for io_uring (RLIMIT_MEMLOCK)";
	default:
		return "io_uring cannot be set up";
	}
}

static int give_up(struct gw__uring *u, int err)
{
	snprintf(u->page_writer->how, sizeof u->page_writer->how, "direct pwrite: %s (%s)", reason_of(err), strerror(err));
	free(u);
	return 1;
}

/* Without it every write would look up and pin its pages: slower, but still beside the worker. */
static void register_buffers(struct gw__uring *u)
{
	struct gw__page_writer *page_writer = u->page_writer;
	struct iovec iov[GW__PAGE_WRITER_BUFFERS];
	for (unsigned i = 0; i < GW__PAGE_WRITER_BUFFERS; i++)
		iov[i] = (struct iovec){page_writer->memory + (size_t)i * GW__PAGE_WRITER_BUFFER_BYTES, GW__PAGE_WRITER_BUFFER_BYTES};
	int r = io_uring_register_buffers(&u->ring, iov, GW__PAGE_WRITER_BUFFERS);
	u->registered = r == 0;
	int at = snprintf(page_writer->how, sizeof page_writer->how, "io_uring, %d x %d KiB", GW__PAGE_WRITER_BUFFERS,
		GW__PAGE_WRITER_BUFFER_BYTES >> 10);
	snprintf(page_writer->how + at, sizeof page_writer->how - (size_t)at, r ? " not registered (%s%s)" : " registered", strerror(-r),
		r == -ENOMEM ? ", RLIMIT_MEMLOCK" : "");
}

int gw__uring_new(struct gw__page_writer *page_writer, struct gw__uring **uring)
{
	struct gw__uring *u = calloc(1, sizeof *u);
	*uring = NULL;
	if (!u)
		return gw__error_set(&page_writer->failed, -ENOMEM, "no memory for a page writer into %s", page_writer->w->file.dest.path);
	u->page_writer = page_writer;
	int r = io_uring_queue_init(WRITES_MAX, &u->ring, 0);
	if (r)
		return give_up(u, -r);
	r = io_uring_register_files(&u->ring, &page_writer->w->direct_fd, 1);
	if (r) {
		io_uring_queue_exit(&u->ring);
		return give_up(u, -r);
	}
	register_buffers(u);
	*uring = u;
	return 0;
}

/* What the kernel did not write of it is written here and now: rare, and finds the error if there is one. */
static void finish_write(struct gw__page_writer *page_writer, const struct under_way *d, int res)
{
	uint64_t done = res > 0 ? (uint64_t)res : 0;
	if (res < 0 && res != -EAGAIN && res != -EINTR)
		gw__writer_direct_failed(page_writer->w, d->to, d->bytes, -res, &page_writer->failed);
	else if (done < d->bytes)
		gw__writer_write_direct(page_writer->w, d->to + done, d->from + done, d->bytes - done, &page_writer->failed);
}

static void take_answers(struct gw__uring *u)
{
	struct io_uring_cqe *cqe;
	while (u->started && io_uring_peek_batch_cqe(&u->ring, &cqe, 1)) {
		struct under_way *d = &u->writes[io_uring_cqe_get_data64(cqe)];
		int res = cqe->res;
		io_uring_cqe_seen(&u->ring, cqe);
		finish_write(u->page_writer, d, res);
		u->writes_of[d->buffer]--;
		__atomic_fetch_sub(&u->page_writer->w->under_way, 1, __ATOMIC_RELAXED);
		u->started--;
		d->bytes = 0;
	}
}

/* Until at least one more write has completed, of those the kernel has seen. */
static int wait_for_one(struct gw__uring *u)
{
	struct io_uring_cqe *cqe;
	int r;
	do
		r = io_uring_wait_cqe(&u->ring, &cqe);
	while (r == -EINTR);
	if (!r)
		take_answers(u);
	return r;
}

static int broken(struct gw__uring *u, int r)
{
	struct gw__page_writer *page_writer = u->page_writer;
	return gw__writer_fail(page_writer->w,
		gw__error_errno(&page_writer->failed, -r, "io_uring takes no more writes to %s", page_writer->w->file.dest.path));
}

static int start_queued(struct gw__uring *u)
{
	while (u->queued) {
		int r = io_uring_submit(&u->ring);
		if (r > 0) {
			u->queued -= (unsigned)r;
			u->started += (unsigned)r;
			continue;
		}
		if (r == -EINTR)
			continue;
		/* Short of memory until some are done? */
		bool may_pass = (r == -EAGAIN || r == -EBUSY) && u->started;
		if (!may_pass || wait_for_one(u))
			return broken(u, r ? r : -EIO);
	}
	return 0;
}

/* Some write completes. There is one, or this is a mistake of ours. */
static int make_progress(struct gw__uring *u)
{
	int r = start_queued(u);
	if (r)
		return r;
	assert(u->started);
	r = wait_for_one(u);
	return r ? broken(u, r) : u->page_writer->failed.code;
}

static bool is_clear(const struct gw__uring *u, uint64_t to, uint64_t bytes)
{
	for (unsigned i = 0; i < WRITES_MAX; i++)
		if (u->writes[i].bytes && to < u->writes[i].to + u->writes[i].bytes && u->writes[i].to < to + bytes)
			return false;
	return true;
}

/* A place for a write, and nothing under way that it would race with. */
static int find_place(struct gw__uring *u, uint64_t to, uint64_t bytes, unsigned *place)
{
	while (!is_clear(u, to, bytes) || u->queued + u->started == WRITES_MAX) {
		int r = make_progress(u);
		if (r)
			return r;
	}
	*place = 0;
	while (u->writes[*place].bytes)
		++*place;
	return 0;
}

int gw__uring_write(struct gw__uring *u, const uint8_t *from, uint64_t bytes, uint64_t to)
{
	unsigned place;
	int r = find_place(u, to, bytes, &place);
	if (r)
		return r;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring); /* as many as places */
	assert(sqe && bytes <= GW__PAGE_WRITER_BUFFER_BYTES);
	if (u->registered)
		io_uring_prep_write_fixed(sqe, 0, from, (unsigned)bytes, to, (int)u->taken);
	else
		io_uring_prep_write(sqe, 0, from, (unsigned)bytes, to);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, place);
	u->writes[place] = (struct under_way){from, to, bytes, u->taken};
	u->writes_of[u->taken]++;
	__atomic_fetch_add(&u->page_writer->w->under_way, 1, __ATOMIC_RELAXED);
	u->queued++;
	return 0;
}

int gw__uring_start(struct gw__uring *u)
{
	int r = start_queued(u);
	take_answers(u);
	return r ? r : u->page_writer->failed.code;
}

int gw__uring_take(struct gw__uring *u, uint8_t **buffer)
{
	take_answers(u);
	int r = u->page_writer->failed.code;
	while (!r) {
		/* The lowest one, which may still be in the processor's cache. */
		for (unsigned i = 0; i < GW__PAGE_WRITER_BUFFERS; i++) {
			if (u->writes_of[i])
				continue;
			u->taken = i;
			*buffer = u->page_writer->memory + (size_t)i * GW__PAGE_WRITER_BUFFER_BYTES;
			return 0;
		}
		r = make_progress(u);
	}
	return r;
}

int gw__uring_wait(struct gw__uring *u)
{
	int r = 0;
	while (!r && u->queued + u->started)
		r = make_progress(u);
	return r;
}

/* What is queued is dropped with the ring; what is under way reads from memory that is about to go. */
void gw__uring_free(struct gw__uring *u)
{
	if (!u)
		return;
	while (u->started && wait_for_one(u) == 0)
		;
	io_uring_queue_exit(&u->ring);
	free(u);
}
