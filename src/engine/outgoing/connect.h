/* SPDX-License-Identifier: MIT */
/* Opens all connections towards one destination: main first, then multifd in the order of ids (docs/spec/channels.md 2). */
#ifndef GW_ENGINE_OUTGOING_CONNECT_H
#define GW_ENGINE_OUTGOING_CONNECT_H

#include "engine/core/run.h"
#include "io/chan.h"
#include "io/tls.h"
#include "wire/multifd.h"

/* The channels belong to whoever holds this. */
struct gw__outgoing {
	struct gw__chan *main;
	struct gw__chan *multifd[GW__MULTIFD_CHANNELS_MAX];
	uint32_t multifd_n;
};
void gw__outgoing_close(struct gw__outgoing *out);

struct gw__outgoing_opts {
	struct gw__io_opts io;
	uint32_t channels;               /* multifd; 0: none */
	uint8_t uuid[16];                /* of the guest, as the destination has it (-uuid) */
	const struct gw__tls_creds *tls; /* NULL: plain */
};

/*
 * Every connection says what it is immediately, because a QEMU stands still while it waits for that: multifd channels their
 * hello; the main channel is left to the caller, who must speak next.
 */
int gw__outgoing_connect(struct gw__run *run, const struct gw__uri *uri, const struct gw__outgoing_opts *o, struct gw__outgoing *out);
/*
 * For a link to a destination whose settings nobody told us, when it broke or stood still: adds which of them probably differ
 * (docs/spec/channels.md 2.1), and the options for them. Returns the code of the failure.
 */
int gw__outgoing_hint_settings(struct gw__error *error, uint32_t channels);

/* The preempt channel of post-copy, which says nothing of itself: it is known by coming after all others. */
int gw__outgoing_connect_preempt(struct gw__run *run, const struct gw__uri *uri, const struct gw__outgoing_opts *o, struct gw__chan **chan);

#endif
