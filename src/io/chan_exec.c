/* SPDX-License-Identifier: MIT */
/*
 * Channels to a command: our data on its stdin, or its stdout as our data. The pipe is chan_fd.c's, the
 * process proc.c's; here is what the one means for the other. Called by the one thread that owns the channel.
 */
#include "io/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/proc.h"
#include "io/wait.h"

enum { GRACE_MS = 1000 };

struct exec_chan {
	struct gw__fd_chan f;
	struct gw__proc proc;
	bool complete; /* all output was read, or end_writes: what the command says of itself counts */
};

static struct exec_chan *exec_chan(struct gw__chan *c) { return (struct exec_chan *)c; }

/* The end of the output of a command that failed is not the end of the stream. */
static ssize_t read_output(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct exec_chan *e = exec_chan(c);
	ssize_t got = gw__fd_readv(c, iov, n, error);
	if (got != 0 || gw__iov_bytes(iov, n) == 0)
		return got;
	e->complete = true;
	return gw__proc_await_end(&e->proc, GRACE_MS, c->cancel_fd) ? gw__proc_judge(&e->proc, c->name, error) : 0;
}

/* When a command does not read on, its end says more than EPIPE. */
static ssize_t write_input(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct exec_chan *e = exec_chan(c);
	struct gw__error pipe_why = {0};
	ssize_t put = gw__fd_writev(c, iov, n, &pipe_why);
	if (put >= 0)
		return put;
	if (put == -EPIPE && gw__proc_await_end(&e->proc, GRACE_MS, c->cancel_fd)) {
		int r = gw__proc_judge(&e->proc, c->name, error);
		return r ? r : gw__error_set(error, -EPIPE, "%s: the command ended before it had read everything", c->name);
	}
	return gw__error_set(error, (int)put, "%s", pipe_why.text);
}

static ssize_t refuse_read(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	return gw__error_set(error, -EBADF, "%s: the command takes data and cannot answer", c->name);
}

static ssize_t refuse_write(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	return gw__error_set(error, -EBADF, "%s: the command gives data and takes none", c->name);
}

static int end_input(struct gw__chan *c, struct gw__error *error)
{
	exec_chan(c)->complete = true;
	return gw__fd_end_writes(c, error);
}

static int nothing_to_end(struct gw__chan *c, struct gw__error *error) { return 0; }

/* Its stream went through to the end: what does the command make of it? */
static int finish(struct exec_chan *e, struct gw__error *error)
{
	const struct gw__chan *c = &e->f.chan;
	gw__fd_fini(&e->f);
	if (gw__proc_await_end(&e->proc, c->idle_ms, c->cancel_fd))
		return gw__proc_judge(&e->proc, c->name, error);
	gw__proc_kill(&e->proc);
	if (gw__io_cancelled(c->cancel_fd))
		return gw__error_set(error, -ECANCELED, "%s: cancelled; the command was killed", c->name);
	return gw__error_set(error, -ETIMEDOUT, "%s: the command did not end within %d ms after its stream; it was killed", c->name,
		c->idle_ms);
}

static int give_up(struct exec_chan *e, struct gw__error *error)
{
	bool ended = gw__proc_kill(&e->proc);
	gw__fd_fini(&e->f);
	if (ended)
		return 0;
	return gw__error_set(error, -ETIMEDOUT, "%s: the command does not end although it was killed", e->f.chan.name);
}

static int release(struct exec_chan *e, int r)
{
	gw__proc_reap(&e->proc);
	free(e);
	return r;
}

/* We stop reading at the end of the stream, not of the output: a command may be just about to end by itself.
 */
static int close_reader(struct gw__chan *c, struct gw__error *error)
{
	struct exec_chan *e = exec_chan(c);
	if (e->complete)
		return release(e, finish(e, error));
	gw__fd_fini(&e->f);
	gw__proc_await_end(&e->proc, GRACE_MS, c->cancel_fd);
	return release(e, give_up(e, error));
}

/* Killed before the pipe is closed: the command must not take half a stream for a whole one. */
static int close_writer(struct gw__chan *c, struct gw__error *error)
{
	struct exec_chan *e = exec_chan(c);
	return release(e, e->complete ? finish(e, error) : give_up(e, error));
}

static const struct gw__chan_ops in_ops = {
	.readv = read_output, .writev = refuse_write, .end_writes = nothing_to_end, .close = close_reader};
static const struct gw__chan_ops out_ops = {.readv = refuse_read, .writev = write_input, .end_writes = end_input, .close = close_writer};

/* The pipe and the command at its far end; our end becomes the channel's. */
static int start(struct exec_chan *e, const struct gw__uri *uri, bool out, const struct gw__io_opts *o, struct gw__error *error)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return gw__error_errno(error, errno, "%.200s: no pipe to the command", uri->text);
	int ours = ends[out ? 1 : 0], theirs = ends[out ? 0 : 1];
	int r = gw__fd_chan_init(&e->f, out ? &out_ops : &in_ops, ours, uri->text, o, error);
	if (r == 0)
		r = gw__proc_start(&e->proc, uri->target, theirs, out);
	close(theirs);
	if (r == 0)
		return 0;
	gw__fd_fini(&e->f);
	return gw__error_errno(error, -r, "%.200s: cannot start /bin/sh", uri->text);
}

int gw__exec_open(const struct gw__uri *uri, bool out, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error)
{
	struct exec_chan *e = calloc(1, sizeof *e);
	if (!e)
		return gw__error_set(error, -ENOMEM, "%.200s: no memory for a channel", uri->text);
	int r = start(e, uri, out, o, error);
	if (r) {
		free(e);
		return r;
	}
	*c = &e->f.chan;
	return 0;
}
