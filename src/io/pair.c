/* SPDX-License-Identifier: MIT */
/* Two connected channels inside this process. Each may go to a thread of its own. */
#include "io/parts.h"

#include <errno.h>
#include <unistd.h>

int gw__chan_pair(struct gw__chan *pair[2], const struct gw__io_opts *o, struct gw__error *error)
{
	int fds[2];
	struct gw__chan *first;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return gw__error_errno(error, errno, "pair: no pair of sockets");
	int r = gw__chan_take_fd(fds[0], "pair:0", o, &first, error);
	if (r) {
		close(fds[1]);
		return r;
	}
	r = gw__chan_take_fd(fds[1], "pair:1", o, &pair[1], error);
	if (r) {
		gw__chan_close(&first, error);
		return r;
	}
	pair[0] = first;
	return 0;
}
