/* SPDX-License-Identifier: MIT */
/*
 * The file of a unix socket outlives its listener when that is killed, and then is in the way of the next
 * one. Tells a left-over file from a busy one. Called by whoever is about to listen, any thread.
 *
 * It must not simply connect: a waiting QEMU destination blocks on the first connection until it says
 * something (docs/spec/channels.md 2.2). A datagram socket cannot be connected to a stream socket, and the
 * kernel says so (EPROTOTYPE) only after it found that somebody holds the file; otherwise it says
 * ECONNREFUSED. The listener notices neither.
 */
#include "io/parts.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0: nobody holds the file. -EADDRINUSE: somebody does. Other negative errno: cannot tell. */
static int probe(const struct gw__addr *addr)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int err = connect(fd, &addr->any, addr->bytes) < 0 ? errno : 0;
	close(fd);
	if (err == ECONNREFUSED || err == ENOENT)
		return 0;
	return err == 0 || err == EPROTOTYPE ? -EADDRINUSE : -err;
}

int gw__unix_clear(const struct gw__uri *uri, struct gw__error *error)
{
	struct stat st;
	struct gw__addrs addrs;
	if (lstat(uri->target, &st) < 0) {
		if (errno == ENOENT)
			return 0;
		return gw__error_errno(error, errno, "%s: cannot listen there", uri->text);
	}
	if (!S_ISSOCK(st.st_mode))
		return gw__error_set(error, -EEXIST, "%s: a file is there which is not a socket; choose another path or remove it",
			uri->text);
	int r = gw__addrs_find(uri, true, &addrs, error);
	if (r)
		return r;
	r = probe(&addrs.list[0]);
	if (r == -EADDRINUSE)
		return gw__error_set(error, r, "%s: another program listens there; stop it or choose another path", uri->text);
	if (!r && gw__io_is_foreign(uri->target, &st))
		return gw__error_set(error, -EPERM,
			"%s: a socket that user %u left is there, in a folder where others may write; remove it or choose another path",
			uri->text, (unsigned)st.st_uid);
	if (r)
		return gw__error_errno(error, -r, "%s: cannot find out whether somebody listens there", uri->text);
	if (unlink(uri->target) < 0 && errno != ENOENT)
		return gw__error_errno(error, errno, "%s: cannot remove the socket file that an earlier listener left", uri->text);
	return 0;
}
