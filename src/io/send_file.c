/* SPDX-License-Identifier: MIT */
/* From a file into a channel: by the kernel alone where the channel can, else through memory. */
#include "io/parts.h"

#include <errno.h>
#include <unistd.h>

#include "base/math.h"

typedef unsigned long long ull;

enum { PIECE_BYTES = 64 << 10 };

static int file_too_short(struct gw__chan *c, uint64_t off, size_t n, struct gw__error *error)
{
	return gw__error_set(error, -ENODATA,
		"%s: the file it is sent from ends at or before offset %llu, %zu bytes too early; did somebody cut it?", c->name, (ull)off,
		n);
}

static ssize_t send_piece(struct gw__chan *c, int file_fd, uint64_t off, size_t n, struct gw__error *error)
{
	uint8_t piece[PIECE_BYTES];
	ssize_t got;
	do
		got = pread(file_fd, piece, gw__min(n, sizeof piece), (off_t)off);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return gw__error_errno(error, errno, "%s: reading what is to be sent, at offset %llu", c->name, (ull)off);
	int r = got ? gw__chan_write_all(c, piece, (size_t)got, error) : 0;
	return r ? r : got;
}

int gw__chan_send_file(struct gw__chan *c, int file_fd, uint64_t off, size_t n, struct gw__error *error)
{
	while (n) {
		ssize_t put = c->ops->send_file ? c->ops->send_file(c, file_fd, off, n, error) : send_piece(c, file_fd, off, n, error);
		if (put < 0)
			return (int)put;
		if (put == 0)
			return file_too_short(c, off, n, error);
		if (c->ops->send_file)
			c->out_bytes += (uint64_t)put;
		off += (uint64_t)put;
		n -= (size_t)put;
	}
	return 0;
}
