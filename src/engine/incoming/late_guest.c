/* SPDX-License-Identifier: MIT */
/*
 * A guest that is run here before its pages are here (docs/spec/postcopy.md 3). Its devices are loaded and its hooks called by the main thread. They may
 * touch pages that have not come, so another thread receives meanwhile, from the package to the end of the stream: it has the stream and the channel
 * to itself, also to request pages and to answer PINGs. After a break there is nothing to load, and the main thread receives.
 *
 *   main thread     load devices ......... (loaded) ......................... run ............ wait
 *   receiver        pages, requests ...... the PINGs of the package answered, pages, requests .... end
 *
 * See stream.h.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/incoming/stream_private.h"
#include "io/wait.h"
#include "thread/thread.h"
#include "wire/package.h"

enum { TICK_MS = 100 };

struct gw__late_guest {
	struct gw__incoming_stream *p;
	int wake_fd; /* readable: a request, a word of the main thread, or a cancel */
	int word_fd; /* to the receiver: one of the next two is set */
	_Atomic bool loaded, given_up;
	int news_fd; /* to the main thread: one of the next two is set */
	_Atomic bool answered, ended;
	struct gw__run *outer; /* the job's; the receiver has its own */
	struct gw__run run;
	struct gw__package package; /* for its PINGs */
	uint32_t last_block;        /* of a request on this connection */
	bool requested;             /* one was */
	int result;                 /* of the receiver */
};

/* --- requests and PINGs: the receiving thread -------------------------------------------------------------------------- */

/* A link that is gone is noticed where it is read. */
static int send_request(struct gw__incoming_stream *p, uint32_t block, uint64_t off)
{
	struct gw__late_guest *l = p->late;
	bool named = !l->requested || l->last_block != block;
	struct gw__rp_msg m = {.type = named ? GW__RP_REQ_PAGES_ID : GW__RP_REQ_PAGES,
		.start_off = off,
		.length_bytes = (uint32_t)p->stream.page_bytes};
	uint8_t bytes[GW__RP_MAX_BYTES];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	memcpy(m.block, p->stream.blocks.v[block].name, sizeof m.block);
	gw__rp_encode(&c, &m);
	GW__TRACE(&p->run->trace, return_path_send, "%s %s 0x%llx", gw__rp_name(m.type), m.block, (unsigned long long)off);
	int r = gw__chan_write_all(p->buf.chan, bytes, gw__wr_used(&c), &p->run->error);
	l->last_block = block;
	l->requested = true;
	if (r != -EPIPE && r != -ECONNRESET)
		return r;
	gw__error_clear(&p->run->error);
	return 0;
}

static int send_requests(struct gw__incoming_stream *p)
{
	uint32_t block;
	uint64_t off;
	int r = 0;
	while (!r && gw__incoming_run_ops(p)->next_request(p->sink, &block, &off))
		r = send_request(p, block, off);
	return r;
}

/* What the main thread has to say: its guest can run, or will not. */
static int hear_main(struct gw__incoming_stream *p)
{
	struct gw__late_guest *l = p->late;
	eventfd_t ignored;
	eventfd_read(l->word_fd, &ignored);
	if (l->given_up)
		return gw__error_set(&p->run->error, -ECANCELED, "the guest is not run here");
	if (!l->loaded || l->answered)
		return 0;
	int r = 0;
	for (unsigned i = 0; !r && i < l->package.pings_n; i++)
		r = gw__incoming_rp_send_pong(p, l->package.ping[i]);
	if (!r) {
		l->answered = true;
		eventfd_write(l->news_fd, 1);
	}
	return r;
}

/* 1: there is input, or its end; 0: somebody was heard. */
static int wait_once(struct gw__incoming_stream *p)
{
	struct gw__chan *chan = p->buf.chan;
	int before = chan->cancel_fd;
	chan->cancel_fd = p->late->wake_fd;
	int r = gw__chan_wait_readable(chan, chan->idle_ms, &p->run->error);
	chan->cancel_fd = before;
	if (r == 0)
		return gw__error_set(&p->run->error, -ETIMEDOUT, "%s: nothing came for %d ms; is the peer alive?", chan->name,
			chan->idle_ms);
	if (r != -ECANCELED || gw__io_cancelled(p->run->cancel_fd))
		return r;
	gw__error_clear(&p->run->error);
	return 0;
}

int gw__incoming_late_wait(struct gw__incoming_stream *p)
{
	int r = 0;
	if (p->state != GW__POSTCOPY_DST_POSTCOPY_ACTIVE) /* a recovery: nothing is requested before RESUME */
		return 0;
	while (!r) {
		r = hear_main(p);
		if (!r)
			r = send_requests(p);
		if (!r)
			r = wait_once(p);
	}
	return r < 0 ? r : 0;
}

/* --- begin and end ------------------------------------------------------------------------------------------------- */

static int watch(const struct gw__late_guest *l, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
	return fd < 0 ? 0 : epoll_ctl(l->wake_fd, EPOLL_CTL_ADD, fd, &e);
}

int gw__incoming_late_begin(struct gw__incoming_stream *p)
{
	struct gw__late_guest *l = p->late = calloc(1, sizeof *l);
	if (!l)
		return gw__error_set(&p->run->error, -ENOMEM, "no memory for a guest that runs before its pages are here");
	l->p = p;
	l->outer = p->run;
	l->wake_fd = epoll_create1(EPOLL_CLOEXEC);
	l->word_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0 || l->word_fd < 0 || l->news_fd < 0 || watch(l, l->word_fd) || watch(l, p->run->cancel_fd) ||
		watch(l, gw__incoming_run_ops(p)->request_fd(p->sink)))
		return gw__error_errno(&p->run->error, errno, "cannot wait for page requests");
	return 0;
}

void gw__incoming_late_end(struct gw__incoming_stream *p)
{
	struct gw__late_guest *l = p->late;
	p->late = NULL;
	if (!l)
		return;
	const int fds[] = {l->wake_fd, l->word_fd, l->news_fd};
	for (unsigned i = 0; i < sizeof fds / sizeof fds[0]; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(l);
}

/* --- the receiver -------------------------------------------------------------------------------------------------- */

/* All came before the devices were loaded. */
static int wait_answered(struct gw__incoming_stream *p)
{
	int r = 0;
	while (!r && !p->late->answered) {
		r = gw__io_cancelled(p->run->cancel_fd) ? gw__error_set(&p->run->error, -ECANCELED, "cancelled") : hear_main(p);
		if (!r && !p->late->answered)
			gw__io_wait(p->late->word_fd, POLLIN, p->run->cancel_fd, gw__io_deadline(-1));
	}
	return r;
}

static void *receive(void *arg)
{
	struct gw__late_guest *l = arg;
	struct gw__incoming_stream *p = l->p;
	int r = gw__incoming_decode(p);
	if (!r)
		r = wait_answered(p);
	if (r && !l->answered) /* a hook that waits for a page is to end */
		gw__incoming_run_ops(p)->give_up(p->sink);
	l->result = r;
	l->ended = true;
	eventfd_write(l->news_fd, 1);
	return NULL;
}

/* --- the main thread ----------------------------------------------------------------------------------------------- */

static void show_progress(struct gw__late_guest *l)
{
	struct gw__counters *to = &l->outer->counters;
	const struct gw__counters *from = &l->run.counters;
	atomic_store(&to->moved_bytes, atomic_load(&from->moved_bytes));
	atomic_store(&to->pages, atomic_load(&from->pages));
	atomic_store(&to->zero_pages, atomic_load(&from->zero_pages));
	atomic_store(&to->rounds, atomic_load(&from->rounds));
	atomic_store(&to->phase, atomic_load(&from->phase));
	gw__run_tick(l->outer);
}

/* Until the receiver has answered, or, with `to_the_end`, has ended; it ends by itself when the job is cancelled. */
static void wait_for(struct gw__late_guest *l, bool to_the_end)
{
	struct pollfd news = {.fd = l->news_fd, .events = POLLIN};
	eventfd_t ignored;
	while (!l->ended && (to_the_end || !l->answered)) {
		poll(&news, 1, TICK_MS);
		eventfd_read(l->news_fd, &ignored);
		show_progress(l);
	}
}

static void tell_receiver(struct gw__late_guest *l, _Atomic bool *word)
{
	*word = true;
	eventfd_write(l->word_fd, 1);
}

/* Its own copy of what a job lends: callbacks of the program are the main thread's. */
static void lend_run(struct gw__late_guest *l)
{
	memcpy(&l->run, l->outer, sizeof l->run);
	l->run.tick = NULL;
	l->run.trace = (struct gw__trace){0};
	l->p->run = &l->run;
}

static void take_run_back(struct gw__late_guest *l)
{
	show_progress(l);
	l->outer->error = l->run.error;
	l->outer->warnings = l->run.warnings;
	l->p->run = l->outer;
}

static int load_devices(struct gw__incoming_stream *p, struct gw__error *error)
{
	int r = gw__incoming_put_devices(p->sink, gw__sink_recovery_info(p->sink).package, error);
	return r ? r : gw__incoming_run_ops(p)->load(p->sink, error);
}

/* The receiver runs. Its failure before that of the devices is why those failed. */
static int load_and_run(struct gw__late_guest *l)
{
	struct gw__error error = {0};
	int r = load_devices(l->p, &error);
	bool broken = l->ended && l->result;
	if (r)
		tell_receiver(l, &l->given_up);
	else
		tell_receiver(l, &l->loaded);
	wait_for(l, r);
	if (l->answered)
		gw__incoming_run_ops(l->p)->run(l->p->sink);
	wait_for(l, true);
	if (!r || broken)
		return l->result;
	l->run.error = error;
	return r;
}

int gw__incoming_late_run(struct gw__incoming_stream *p)
{
	struct gw__view package = gw__sink_recovery_info(p->sink).package;
	pthread_t receiver;
	int r = gw__incoming_late_begin(p);
	if (!r)
		r = gw__package_decode(package.p, package.n, &p->late->package, &p->run->error);
	if (r)
		return r;
	lend_run(p->late);
	r = gw__thread_start(&receiver, receive, p->late);
	if (r) {
		p->run = p->late->outer;
		return gw__error_errno(&p->run->error, r, "cannot make a thread that receives pages");
	}
	r = load_and_run(p->late);
	pthread_join(receiver, NULL);
	take_run_back(p->late);
	return r;
}
