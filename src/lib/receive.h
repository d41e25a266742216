/* SPDX-License-Identifier: MIT */
/* What gw_receive, its recovery and gw_drain share. */
#ifndef GW_LIB_RECEIVE_H
#define GW_LIB_RECEIVE_H

#include "engine/incoming/stream.h"
#include "image/journal/recv_state.h"
#include "io/tls.h"
#include "lib/combine.h"

/* All that stands between us and the source. The credentials outlive the channels that use them. */
struct gw__receive_link {
	struct gw__tls_creds *tls;
	struct gw__incoming in;
};

/* What a call knows beside the last connection. */
struct gw__receive_outcome {
	struct gw__stream_stats stats;
	struct gw__incoming_result result;
	bool begun; /* a source was heard, or there is a part of its guest: more than nothing is known */
	bool listened;
	bool told, was_complete, host_crashed, postcopy, image_committed;
	uint32_t breaks;
};
/* The job's outcome and the result of a call that ended with `r`. */
void gw__receive_fill_result(struct gw__receive_outcome *o, int r, gw_job *job, struct gw_receive_result *result);
/* -EALREADY: something was begun there. What was begun and never held goes away. */
int gw__receive_check_free(gw_job *job, const char *path);

/* It lacks nothing, and is ended without a source. GW__MISSING: something is missing. */
int gw__receive_alone(gw_job *job, struct gw__sink *sink, struct gw__receive_outcome *out);

/* What an earlier call left: locked, to be looked at or taken away; its pages stay as they are. Zeroed before. */
struct gw__begun {
	struct gw__destination_path *target;
	struct gw__recv_state *partial;
	const struct gw__recv_state_saved *saved;
};
int gw__begun_open(gw_job *job, const char *path, struct gw__begun *b); /* needs a close in any case */
void gw__begun_close(struct gw__begun *b);

/* The connections of a source that waits or comes, gathered; all of them with the filters that the link asks for; closed again. */
int gw__receive_open_source(gw_job *job, const struct gw__uri *uri, const struct gw_receive_opts *o, struct gw__receive_link *l);
int gw__receive_filter(gw_job *job, struct gw__incoming *in, const struct gw_link_opts *link);
void gw__receive_close_link(struct gw__receive_link *l);

/* One recovery after the other. */
struct gw__receive_again {
	gw_job *job;
	struct gw__listener *listener;
	const struct gw__tls_creds *tls;
	const struct gw_link_opts *link;
	struct gw__incoming_recover how;
	int (*on_paused)(void *ctx, const char *uri, const char *error); /* may be NULL */
	void *ctx;
	bool source_is_called; /* on_paused makes it come, and hears of every attempt that may have been its own */
	bool is_private;       /* nobody but the source can reach the address */
	uint32_t breaks;
};

/*
 * Until the guest is whole, or nothing more is to be expected. `r` is how the last connection ended (0: there was none yet), and
 * *out what it told; they are those of the last one then.
 */
int gw__receive_again(struct gw__receive_again *a, int r, struct gw__sink *sink, struct gw__receive_outcome *out);
/* The same over one connection that exists already, which is closed; `listener` is NULL. Another one cannot come. */
int gw__receive_again_over(struct gw__receive_again *a, struct gw__chan **chan, struct gw__sink *sink, struct gw__receive_outcome *out);

#endif
