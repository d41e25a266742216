/* SPDX-License-Identifier: MIT */
/*
 * Channels over a descriptor that can be polled: sockets and pipes, ours or given to us.
 *
 * The descriptor is non-blocking and every call is tried first, so that a busy channel costs one system call
 * per transfer and a stuck one never hangs: a blocking write would not come back when the peer stops reading
 * half-way. Called by the one thread that owns the channel.
 */
#include "io/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/wait.h"

static struct gw__fd_chan *fd_chan(struct gw__chan *c) { return (struct gw__fd_chan *)c; }

static ssize_t try_read(struct gw__fd_chan *f, const struct iovec *iov, int n)
{
	if (!f->is_socket)
		return readv(f->chan.fd, iov, n);
	struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
	return recvmsg(f->chan.fd, &m, MSG_DONTWAIT);
}

/* Pipes and sendfile have no MSG_NOSIGNAL: hold SIGPIPE back in this thread, and eat the one our write made. */
struct held_back {
	sigset_t pipe_only, before, pending;
};

static void hold_sigpipe(struct held_back *h)
{
	sigemptyset(&h->pipe_only);
	sigaddset(&h->pipe_only, SIGPIPE);
	sigpending(&h->pending);
	pthread_sigmask(SIG_BLOCK, &h->pipe_only, &h->before);
}

static void let_sigpipe(struct held_back *h, ssize_t put)
{
	int err = errno;
	if (put < 0 && err == EPIPE && !sigismember(&h->pending, SIGPIPE))
		while (sigtimedwait(&h->pipe_only, NULL, &(struct timespec){0}) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &h->before, NULL);
	errno = err;
}

static ssize_t write_pipe(int fd, const struct iovec *iov, int n)
{
	struct held_back h;
	hold_sigpipe(&h);
	ssize_t put = writev(fd, iov, n);
	let_sigpipe(&h, put);
	return put;
}

static ssize_t try_write(struct gw__fd_chan *f, const struct iovec *iov, int n)
{
	if (!f->is_socket)
		return write_pipe(f->chan.fd, iov, n);
	struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n};
	return sendmsg(f->chan.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int say_write_failed(const struct gw__chan *c, struct gw__error *error)
{
	if (errno == EPIPE || errno == ECONNRESET)
		return gw__error_set(error, -errno, "%s: the peer closed the connection while it was being written to (%s)", c->name,
			strerror(errno));
	return gw__error_errno(error, errno, "%s: writing", c->name);
}

/* Nothing to do now, but no error either: wait, from the first time on against one deadline. */
static int wait_more(struct gw__chan *c, short events, uint64_t *deadline, struct gw__error *error)
{
	if (errno == EINTR)
		return 0;
	if (*deadline == 0)
		*deadline = gw__io_deadline(c->idle_ms);
	return gw__chan_wait(c, events, *deadline, error);
}

static bool is_transient(void) { return errno == EINTR || errno == EAGAIN; }

ssize_t gw__fd_readv(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	uint64_t deadline = 0;
	bool may_gather = c->gather_us;
	for (;;) {
		ssize_t got = try_read(fd_chan(c), iov, n);
		if (got >= 0)
			return got;
		if (!is_transient())
			return gw__error_errno(error, errno, "%s: reading", c->name);
		if (may_gather) {
			may_gather = false;
			gw__io_pause(c->cancel_fd, gw__io_now_ns() + UINT64_C(1000) * c->gather_us);
			continue; /* if we were cancelled, the next wait says so */
		}
		int r = wait_more(c, POLLIN, &deadline, error);
		if (r)
			return r;
	}
}

ssize_t gw__fd_writev(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	uint64_t deadline = 0;
	for (;;) {
		ssize_t put = try_write(fd_chan(c), iov, n);
		if (put >= 0)
			return put;
		if (!is_transient())
			return say_write_failed(c, error);
		int r = wait_more(c, POLLOUT, &deadline, error);
		if (r)
			return r;
	}
}

/* Never blocks half-way: the socket is non-blocking. */
static ssize_t send_file(struct gw__chan *c, int file_fd, uint64_t off, size_t n, struct gw__error *error)
{
	uint64_t deadline = 0;
	for (;;) {
		struct held_back h;
		off_t at = (off_t)off;
		hold_sigpipe(&h);
		ssize_t put = sendfile(c->fd, file_fd, &at, n);
		let_sigpipe(&h, put);
		if (put >= 0)
			return put;
		if (!is_transient())
			return say_write_failed(c, error);
		int r = wait_more(c, POLLOUT, &deadline, error);
		if (r)
			return r;
	}
}

int gw__fd_sync(int fd, const char *name, struct gw__error *error)
{
	/* EINVAL: a pipe, a terminal, /dev/null; there is nothing to be safe on. */
	if (fsync(fd) < 0 && errno != EINVAL && errno != EROFS)
		return gw__error_errno(error, errno, "%s: writing what was cached to the disk", name);
	return 0;
}

int gw__fd_end_writes(struct gw__chan *c, struct gw__error *error)
{
	struct gw__fd_chan *f = fd_chan(c);
	if (c->fd < 0 || (f->given_flags & O_ACCMODE) == O_RDONLY)
		return 0;
	if (!f->is_socket) {
		int r = gw__fd_sync(c->fd, c->name, error);
		gw__fd_fini(f); /* one direction: the end of a pipe is that nobody can write */
		return r;
	}
	if (shutdown(c->fd, SHUT_WR) == 0)
		return 0;
	if (errno == ENOTCONN)
		return gw__error_set(error, -EPIPE, "%s: the peer closed the connection before the stream had ended", c->name);
	return gw__error_errno(error, errno, "%s: ending the stream", c->name);
}

void gw__fd_fini(struct gw__fd_chan *f)
{
	if (f->chan.fd < 0)
		return;
	if (!(f->given_flags & O_NONBLOCK))
		fcntl(f->chan.fd, F_SETFL, f->given_flags);
	close(f->chan.fd);
	f->chan.fd = -1;
}

static int close_fd_chan(struct gw__chan *c, struct gw__error *error)
{
	(void)error;
	gw__fd_fini(fd_chan(c));
	free(c);
	return 0;
}

static const struct gw__chan_ops fd_ops = {
	.readv = gw__fd_readv,
	.writev = gw__fd_writev,
	.send_file = send_file,
	.end_writes = gw__fd_end_writes,
	.close = close_fd_chan,
};

/* A datagram or listening socket would only show as a strange stream much later. */
static int check_socket(int fd, const char *name, struct gw__error *error)
{
	int type = 0, listens = 0;
	socklen_t bytes = sizeof type;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) < 0)
		return gw__error_errno(error, errno, "%s: cannot be used as a socket", name);
	bytes = sizeof listens;
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes);
	if (type != SOCK_STREAM)
		return gw__error_set(error, -EPROTOTYPE, "%s is not a stream socket; pass a connected stream socket or a pipe", name);
	if (listens)
		return gw__error_set(error, -EINVAL, "%s is a listening socket; pass one that is connected", name);
	return 0;
}

int gw__fd_chan_init(struct gw__fd_chan *f, const struct gw__chan_ops *ops, int fd, const char *name, const struct gw__io_opts *o,
	struct gw__error *error)
{
	struct stat st;
	int r, flags = fcntl(fd, F_GETFL);
	f->chan.fd = -1; /* so that fini after a failure does not close 0 */
	if (flags < 0 || fstat(fd, &st) < 0) {
		r = gw__error_errno(error, errno, "%s: cannot use descriptor %d", name, fd);
		if (r != -EBADF)
			close(fd);
		return r;
	}
	gw__chan_init(&f->chan, ops, name, fd, o);
	f->is_socket = S_ISSOCK(st.st_mode);
	f->given_flags = flags;
	f->chan.two_way = f->is_socket;
	r = f->is_socket ? check_socket(fd, name, error) : 0;
	if (r == 0 && (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0))
		r = gw__error_errno(error, errno, "%s: setting up descriptor %d", name, fd);
	if (r)
		gw__fd_fini(f);
	return r;
}

int gw__chan_take_fd(int fd, const char *name, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error)
{
	struct gw__fd_chan *f = calloc(1, sizeof *f);
	if (!f) {
		close(fd);
		return gw__error_set(error, -ENOMEM, "%s: no memory for a channel", name);
	}
	int r = gw__fd_chan_init(f, &fd_ops, fd, name, o, error);
	if (r) {
		free(f);
		return r;
	}
	*c = &f->chan;
	return 0;
}
