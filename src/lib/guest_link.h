/* SPDX-License-Identifier: MIT */
/* The connections from a guest of this process to whoever takes it, or its checkpoints. The thread's that makes the call. */
#ifndef GW_LIB_GUEST_LINK_H
#define GW_LIB_GUEST_LINK_H

#include "engine/outgoing/connect.h"
#include "io/uri.h"
#include "lib/guest.h"
#include "lib/job.h"

struct gw__guest_link {
	struct gw__tls_creds *tls; /* outlive the channels */
	struct gw__outgoing out;
	const struct gw__uri *uri; /* borrowed */
	struct gw__outgoing_opts dial;
};

/* *uri is malloc'ed, and the caller's, also after a failure. */
int gw__guest_link_uri(gw_job *job, const char *text, struct gw__uri **uri);
/* Can all of this be combined? */
int gw__guest_link_check(gw_job *job, const struct gw__uri *uri, const struct gw_link_opts *link, uint32_t channels,
	enum gw_compression compression);
uint32_t gw__guest_link_method(enum gw_compression compression); /* GW__MULTIFD_ZLIB and the like */
/* Also what failed needs to be closed. */
int gw__guest_link_open(gw_job *job, const struct gw__uri *uri, const gw_guest *guest, const struct gw_link_opts *link, uint32_t channels,
	struct gw__guest_link *l);
/* One more connection to the same address, the caller's: of post-copy, for requested pages. */
int gw__guest_link_preempt(gw_job *job, const struct gw__guest_link *l, struct gw__chan **chan);
void gw__guest_link_close(struct gw__guest_link *l, struct gw_guest_result *ours);

#endif
