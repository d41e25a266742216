/* SPDX-License-Identifier: MIT */
/*
 * A guest from a peer: it runs to its end in the calling (main) thread and drives a sink.
 */
#ifndef GW_ENGINE_INCOMING_STREAM_H
#define GW_ENGINE_INCOMING_STREAM_H

#include "base/conditions.h"
#include "engine/incoming/multifd_recv.h"
#include "engine/incoming/accept.h"
#include "engine/core/run.h"
#include "engine/sink/sink.h"
#include "io/chan.h"
#include "plan/guest_location.h"
#include "plan/postcopy_dst.h"

/* What a stream was made of, which decides nothing; complete when gw__incoming_run_channel returned 0, true as far as it got otherwise. */
struct gw__stream_stats {
	uint64_t stream_bytes;                                                      /* magic to the last byte of the description */
	uint64_t page_payload_bytes, xbzrle_bytes, device_bytes, description_bytes; /* the rest is framing */
	uint64_t pages, zero_pages, xbzrle_pages;
	uint64_t trailing_bytes; /* after the end, as far as they had been read */
	uint32_t devices, parts, opaque_sections;
	bool background, return_path, advised, switchover;
	struct gw__multifd_recv_stats multifd; /* all 0 without */
	/* Per block; `blocks_n` entries, owned by the tally. */
	struct gw__block_stats {
		uint64_t pages, zero_pages, xbzrle_pages;
	} * block;
	uint32_t blocks_n;
	char run_state[33]; /* of the guest when it was stopped, as `globalstate` has it; "": not told */
};
void gw__stream_stats_fini(struct gw__stream_stats *t);

/* How it ended, and what whoever goes on must know. */
struct gw__incoming_result {
	struct gw__location location;      /* given as it was before, and never older than what is known */
	enum gw__postcopy_dst_state state; /* of a stream that may switch to post-copy */
	uint64_t missing_pages;            /* after a switch: not here yet */
	bool can_switch;                   /* the source may, and need not have said so yet when its link breaks */
	bool has_switched;                 /* it has begun to, whatever became of that */
	bool can_be_told;                  /* it opened a return path */
	bool brought_pages;                /* after the switch, on this connection */
	bool resumed;                      /* a recovery: every block was asked for by its name, and RESUME_ACK was written */
	bool given_back;                   /* it failed after the source's last byte, and SHUT 1 was written: not that it was heard */
};

/*
 * Peer to sink: decode the stream on `chan` into `sink`, answer its return path, and commit. SHUT 0 is sent only after
 * the commit, SHUT 1 after a failure, neither without an open return path. Whether that was heard is not asked: this is
 * for files and the like. The statistics and the result may be NULL.
 */
int gw__incoming_run_channel(struct gw__run *run, struct gw__chan *chan, struct gw__sink *sink, struct gw__stream_stats *stats,
	struct gw__incoming_result *result);

/*
 * The same for all channels of a migration that were gathered; they stay the caller's. GW__SOURCE_NOT_NOTIFIED: committed, but SHUT 0
 * could not be sent; the sentence says why.
 */
enum { GW__SOURCE_NOT_NOTIFIED = 1 };
int gw__incoming_run(struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink, struct gw__stream_stats *stats,
	struct gw__incoming_result *result);

/*
 * A source may switch to post-copy then, if the sink can take that. When it returns a negative errno and result->state is
 * GW__POSTCOPY_DST_PAUSED, the guest stands in its source, the sink knows what came, and this goes on with a new connection, any number of times.
 */
struct gw__incoming_recover {
	enum gw__postcopy_dst_role role;
	bool early_shut;      /* draining: the source is told immediately that it need not run the guest again */
	bool may_skip_blocks; /* what the monitor of the source lists may be more than it sends */
};
int gw__incoming_recover(struct gw__run *run, struct gw__incoming *in, const struct gw__incoming_recover *o, struct gw__sink *sink,
	struct gw__stream_stats *stats, struct gw__incoming_result *result);

/*
 * When nothing is missing of what an earlier process left, it is ended and committed without a source. GW__MISSING: something is, and
 * nothing was done; result->missing_pages says how much. Whether the source may still run the guest is the caller's to know.
 */
int gw__incoming_finish_offline(struct gw__run *run, struct gw__sink *sink, struct gw__stream_stats *stats,
	struct gw__incoming_result *result);

/*
 * COLO: a guest whose connection goes on after it, with messages and then one checkpoint's RAM after the other. The order of messages, and what is
 * sent, is the caller's. The channels of `in` stay its.
 */
struct gw__incoming_stream;
struct gw__colo_msg;
/*
 * The whole guest, to the last byte of its description (NULL: none came; it lives as long as the stream); nothing is answered but PINGs, and
 * nothing is committed. Also after a failure the stream is to be closed, if there is one.
 */
int gw__incoming_receive_guest(struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink, struct gw__stream_stats *stats,
	struct gw__incoming_stream **p, const struct gw__vmdesc **description);
/* Nothing is put into the sink any more: the threads of the channels have ended. NULL is fine. */
void gw__incoming_stop_channels(struct gw__incoming_stream *p);
void gw__incoming_close_stream(struct gw__incoming_stream **p); /* NULL inside is fine */
/* The RAM of one checkpoint, to its end mark. Until then pages of later checkpoints wait on their channels. */
int gw__incoming_receive_checkpoint(struct gw__incoming_stream *p);
/* What else is on the connection: the next message; -ECONNRESET at its end. `read`: bytes of any kind. */
int gw__incoming_receive_message(struct gw__incoming_stream *p, struct gw__colo_msg *m);
int gw__incoming_read(struct gw__incoming_stream *p, void *to, size_t n);
/* 1: there is input, or the end; 0: not within `ms`; negative errno, -ECANCELED by `cancel_fd` alone. */
int gw__incoming_wait(struct gw__incoming_stream *p, int ms, int cancel_fd);
/* It is our turn: -EPROTO if bytes came before the source was answered. `write` asks this too. */
int gw__incoming_check_turn(struct gw__incoming_stream *p);
int gw__incoming_write(struct gw__incoming_stream *p, const void *bytes, size_t n);

#endif
