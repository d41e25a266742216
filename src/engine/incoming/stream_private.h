/* SPDX-License-Identifier: MIT */
/* What stream.c, session.c and late_guest.c share: one stream on its way into a sink. Nobody else includes it. */
#ifndef GW_ENGINE_INCOMING_STREAM_PRIVATE_H
#define GW_ENGINE_INCOMING_STREAM_PRIVATE_H

#include "base/conditions.h"
#include "engine/core/stream_buf.h"
#include "plan/postcopy_dst.h"
#include "engine/incoming/stream.h"
#include "wire/return_path.h"

enum { GW__BATCH_PAGES = 256 };

/* What may come now, and what it means: each has a table of handlers in stream.c. It changes at a switch to post-copy, and with a checkpoint. */
enum gw__incoming_phase {
	GW__INCOMING_PRECOPY,    /* up to PACKAGED, or to the end of a stream that does not switch */
	GW__INCOMING_PACKAGE,    /* of post-copy: the devices, kept as they come */
	GW__INCOMING_POSTCOPY,   /* after the package; a recovery's whole connection */
	GW__INCOMING_CHECKPOINT, /* of COLO: the RAM of one */
	GW__INCOMING_PHASES
};

/* The main thread's. A batch is of consecutive pages, with content or of zeros. It points into the stream buffer and is given away before that moves. */
struct gw__incoming_stream {
	struct gw__run *run;
	struct gw__stream_buf buf;
	struct gw__stream stream;
	struct gw__sink *sink;
	struct gw__stream_stats *stats;
	struct gw__incoming_result *result, own_result; /* the first: the caller's, or the second */
	struct iovec batch[GW__BATCH_PAGES];
	int batch_n;      /* pages with content */
	uint64_t zeros_n; /* or of zeros: one of the two is 0 */
	uint32_t batch_block;
	uint64_t batch_off;
	struct gw__incoming *in;               /* NULL: one channel and nothing else; borrowed */
	struct gw__multifd_recv *multifd_recv; /* NULL without multifd */
	bool expects_multifd;                  /* channels that came with this one would be here */
	bool flush_came;                       /* one at least */
	bool sync_per_section;                 /* how the source marks syncs; known at the end of START */
	bool ram_ended;                        /* told to the sink */
	bool owes_config; /* the sink gets the configuration when POSTCOPY_ADVISE, which may state the page size, has come or will not */
	uint64_t answered_off; /* of a PING after the devices that was answered before the end was known; 0: none */
	unsigned asks;         /* how often there may have been one */
	bool described;        /* the sink has been told the end, with a description */
	bool done;
	enum gw__incoming_phase phase;
	uint8_t *scratch; /* a page, for deltas */

	/* Of a switch to post-copy. */
	bool package_came;
	bool handover_persisted; /* what came survives us, and may be the only copy */
	uint8_t *package;        /* as it comes; the sink's once it is whole */
	size_t package_bytes, package_room;
	uint64_t late_pages; /* after the switch, on this connection */
	uint64_t checkpoint_ns, checkpoint_pages;

	/* session.c */
	enum gw__postcopy_dst_role role;
	enum gw__postcopy_dst_state state;
	bool early_shut, may_skip_blocks;
	bool committed, committed_unsafe; /* by us; the second: its folder is not safe */
	bool say_failed;  /* the guest is kept, and the source is told that it is not, by which its run state stays (channels.md 3.2) */
	bool told_failed; /* of which nobody knows whether it was heard */
	bool has_unplugged_memory; /* known from an earlier connection; memory that is not plugged in is never sent */
	bool *bitmap_requested;    /* by block, while recovering; until RESUME the channel has limits of its own */
	int idle_ms;               /* the usual one, from then on */

	/* late_guest.c; of a sink that runs its guest before the pages are here */
	struct gw__late_guest *late;
};

/* --- stream.c --- */

/* What can be decoded before the end, or, where the guest is to be run, before its package has been used. */
int gw__incoming_decode(struct gw__incoming_stream *p);
/* The devices of the package, which may be empty, to the sink. */
int gw__incoming_put_devices(struct gw__sink *sink, struct gw__view package, struct gw__error *error);

/* --- session.c --- */

/* The answer to a PING. No failure when the link is gone: what had come before is still to be read, and its end tells. */
int gw__incoming_rp_send_pong(struct gw__incoming_stream *p, uint32_t token);
/* A change of state; an event without a row is an error. What it means for the guest is noted. */
int gw__incoming_set_state(struct gw__incoming_stream *p, enum gw__postcopy_dst_event event);
/* After the package, or on the connection of a recovery. */
int gw__incoming_postcopy_command(struct gw__incoming_stream *p, const struct gw__event *ev);

/* --- late_guest.c --- */

static inline const struct gw__sink_run_ops *gw__incoming_run_ops(const struct gw__incoming_stream *p)
{
	return p->sink->ops->postcopy ? p->sink->ops->postcopy->run : NULL;
}
/* The package is here, and the guest of it is still to be run. */
static inline bool gw__incoming_is_to_run(const struct gw__incoming_stream *p)
{
	return p->role == GW__POSTCOPY_DST_RUN && p->handover_persisted && !p->late;
}
/* The connection of a recovery: the guest runs already. */
int gw__incoming_late_begin(struct gw__incoming_stream *p);
void gw__incoming_late_end(struct gw__incoming_stream *p);
/* The package is here, and its pages follow: another thread receives them to the end, while this one loads the devices and runs the guest. */
int gw__incoming_late_run(struct gw__incoming_stream *p);
/* Until there is input: pages that somebody waits for are requested. */
int gw__incoming_late_wait(struct gw__incoming_stream *p);

#endif
