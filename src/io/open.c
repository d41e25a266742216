/* SPDX-License-Identifier: MIT */
/* From a URI to a channel: which file of this room opens which kind, and what is refused. Any thread. */
#include "io/parts.h"

#include <errno.h>
#include <fcntl.h>

/* A descriptor from whoever started us; better refused now than after half a stream. */
static int open_given(const struct gw__uri *uri, bool out, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error)
{
	int flags = fcntl(uri->fd, F_GETFL);
	if (flags < 0)
		return gw__error_set(error, -EBADF, "%s: no such descriptor is open; pass one when starting the program (%d%sFILE)",
			uri->text, uri->fd, out ? ">" : "<");
	int mode = flags & O_ACCMODE;
	if (mode != O_RDWR && mode != (out ? O_WRONLY : O_RDONLY))
		return gw__error_set(error, -EBADF, "%s: the descriptor is not open for %s", uri->text, out ? "writing" : "reading");
	return gw__chan_take_fd(uri->fd, uri->text, o, c, error);
}

int gw__io_open_out(const struct gw__uri *uri, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error)
{
	switch (uri->kind) {
	case GW__URI_FILE:
		return gw__file_open(uri, true, o, c, error);
	case GW__URI_EXEC:
		return gw__exec_open(uri, true, o, c, error);
	case GW__URI_FD:
		return open_given(uri, true, o, c, error);
	default:
		return gw__connect(uri, o, c, error);
	}
}

int gw__io_open_in(const struct gw__uri *uri, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error)
{
	switch (uri->kind) {
	case GW__URI_FILE:
		return gw__file_open(uri, false, o, c, error);
	case GW__URI_EXEC:
		return gw__exec_open(uri, false, o, c, error);
	case GW__URI_FD:
		return open_given(uri, false, o, c, error);
	default:
		return gw__error_set(error, -EOPNOTSUPP, "%.200s: cannot be opened for reading; listen there and wait for the source",
			uri->text);
	}
}
