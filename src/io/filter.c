/* SPDX-License-Identifier: MIT */
/* What filters share: standing for another channel and passing on what they do not change. Owned as the
 * channel is. */
#include "io/parts.h"

#include <stdlib.h>

void gw__filter_init(struct gw__filter *f, const struct gw__chan_ops *ops, struct gw__chan **inner)
{
	f->chan = **inner; /* name, descriptor, limits, and the counts so far */
	f->chan.ops = ops;
	f->inner = *inner;
	*inner = &f->chan;
}

struct gw__chan *gw__filter_inner(struct gw__chan *c)
{
	struct gw__chan *inner = ((struct gw__filter *)c)->inner;
	inner->idle_ms = c->idle_ms;
	inner->until_ns = c->until_ns;
	inner->cancel_fd = c->cancel_fd;
	inner->gather_us = c->gather_us;
	return inner;
}

bool gw__filter_has_input(struct gw__chan *c)
{
	struct gw__chan *inner = gw__filter_inner(c);
	return inner->ops->has_input && inner->ops->has_input(inner);
}

int gw__filter_end_writes(struct gw__chan *c, struct gw__error *error)
{
	struct gw__chan *inner = gw__filter_inner(c);
	int r = gw__chan_end_writes(inner, error);
	c->fd = inner->fd; /* a pipe is gone now */
	return r;
}

int gw__filter_close(struct gw__chan *c, struct gw__error *error)
{
	struct gw__chan *inner = gw__filter_inner(c);
	free(c);
	return gw__chan_close(&inner, error);
}
