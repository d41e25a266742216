/* SPDX-License-Identifier: MIT */
/* What gather.c and gather_candidate.c share. Nobody else includes it. */
#ifndef GW_ENGINE_GATHER_PARTS_H
#define GW_ENGINE_GATHER_PARTS_H

#include <pthread.h>

#include "engine/gather.h"

enum gw__candidate_kind {
	GW__CANDIDATE_UNKNOWN,
	GW__CANDIDATE_MAIN,
	GW__CANDIDATE_MULTIFD,
	GW__CANDIDATE_SILENT,
	GW__CANDIDATE_STRANGE,
};

/* One connection until it is known. Its thread owns everything but `known`; the collector takes over once that is set. */
struct gw__candidate {
	pthread_t thread;
	struct gw__chan *chan;
	int fd; /* of the connection, whatever the channel is by now; open until the thread is joined */
	const struct gw__tls_creds *tls;
	uint8_t head[GW__MULTIFD_HELLO_BYTES];
	struct gw__multifd_hello hello;
	enum gw__candidate_kind kind;
	struct gw__why why;
	_Atomic bool known;
};

/* Takes the channel, also on failure. The credentials are borrowed; NULL: plain. */
int gw__candidate_start(struct gw__chan **chan, const struct gw__tls_creds *tls, int hello_ms, struct gw__candidate **candidate,
	struct gw__why *why);
/* The thread stops waiting. */
void gw__candidate_hush(struct gw__candidate *c);
void gw__candidate_free(struct gw__candidate *c); /* joins the thread */

#endif
