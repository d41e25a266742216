/* SPDX-License-Identifier: MIT */
/* The public face of io/uri.h. Any thread. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/chan.h"
#include "lib/job.h"

static_assert((int)GW_URI_TCP == (int)GW__URI_TCP && (int)GW_URI_UNIX == (int)GW__URI_UNIX && (int)GW_URI_VSOCK == (int)GW__URI_VSOCK &&
		      (int)GW_URI_FD == (int)GW__URI_FD && (int)GW_URI_FILE == (int)GW__URI_FILE && (int)GW_URI_EXEC == (int)GW__URI_EXEC,
	"the public kinds are those of io");
static_assert((int)GW_URI_ANY_FAMILY == (int)GW__URI_ANY_FAMILY && (int)GW_URI_IPV4 == (int)GW__URI_IPV4 &&
		      (int)GW_URI_IPV6 == (int)GW__URI_IPV6,
	"the public families are those of io");

static void take_to_pieces(const struct gw__uri *from, struct gw_uri *to)
{
	static_assert(sizeof to->target >= sizeof from->target && sizeof to->port >= sizeof from->port, "all of it fits");
	to->kind = (enum gw_uri_kind)from->kind;
	to->family = (enum gw_uri_family)from->family;
	memcpy(to->target, from->target, sizeof from->target);
	memcpy(to->port, from->port, sizeof from->port);
	to->port_to = from->port_to;
	to->cid = from->cid;
	to->vsock_port = from->vsock_port;
	to->fd = from->fd;
	to->offset = from->offset;
	to->can_listen = gw__uri_listens(from);
}

int gw_uri_parse(const char *text, struct gw_uri *uri)
{
	struct parts {
		struct gw__uri uri;
		struct gw__error error;
		struct gw_uri out;
	} * p;
	int r = text && uri ? GW__CHECK(uri, NULL) : -EINVAL;
	if (r)
		return r;
	p = calloc(1, sizeof *p);
	if (!p)
		return -ENOMEM;
	p->out.fd = -1;
	r = gw__uri_parse(text, &p->uri, &p->error);
	if (!r)
		take_to_pieces(&p->uri, &p->out);
	snprintf(p->out.reason, sizeof p->out.reason, "%s", p->error.text);
	gw__struct_out(uri, uri->size, &p->out, sizeof p->out);
	free(p);
	return r;
}
