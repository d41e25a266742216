/* SPDX-License-Identifier: MIT */
/* What the files of the page server share. Nobody else includes it. */
#ifndef GW_ENGINE_PAGESERVER_PAGESERVER_PRIVATE_H
#define GW_ENGINE_PAGESERVER_PAGESERVER_PRIVATE_H

#include <pthread.h>

#include "engine/core/stream_buf.h"
#include "engine/pageserver/loop.h"
#include "wire/return_path.h"

enum {
	GW__PAGESERVER_POLL_NS = 200000000, /* between looks at the clock while there is nothing to send */
	GW__READAHEAD_STEPS = 4,            /* pieces of the push, between two words to the thread that reads ahead */
	GW__PAGESERVER_PIECE_MAX = 512,     /* records that are written at once */
};

/* A connection that pages go out on. */
struct gw__page_out {
	struct gw__chan *chan;
	int64_t last_block; /* for CONTINUE */
	bool in_part;       /* of the RAM section */
	uint64_t part_bytes;
};

/* One piece of a run, ready to be written: a head in front of each page's bytes. */
struct gw__page_batch {
	uint8_t *heads, *pages;
	struct iovec *iov;
	int iov_n;
	bool may_wait; /* for the disk */
};

/* Where the push stands. */
struct gw__push_position {
	uint64_t page;
	uint32_t block;
	uint32_t run;           /* gw__pageserver_prefetch_run */
	bool not_in_page_cache; /* a page was not in memory, once */
	uint64_t changes;       /* counted, so that the thread sees one it was not woken for */
};

/* Reading ahead of the push. */
struct gw__readahead {
	/* The main thread's. */
	pthread_t thread;
	bool runs, failed;
	unsigned misses_in_a_row; /* how often in a row the next page was not in memory */
	unsigned wait;            /* so many pieces are read with a wait, because that took too long */
	unsigned steps;

	pthread_mutex_t lock;
	pthread_cond_t moved;
	/* Under the lock. */
	struct gw__push_position place;
	bool stop;
};

struct gw__pageserver {
	struct gw__run *run;
	const struct gw__image *image;
	struct gw__page_out main, preempt; /* the latter without a channel: there is only one */
	const struct gw__pageserver_opts *o;
	struct gw__pageserver_stats *stats;
	uint64_t page_bytes;   /* target page */
	uint64_t page_summary; /* of POSTCOPY_ADVISE */

	/* page_scheduler.c: what was sent, or was there before. Each page is sent once. */
	struct gw__bitmap *sent;   /* by block; empty for ignored ones */
	uint64_t *host_page_bytes; /* by block */
	uint64_t unsent_pages;
	uint32_t at_block; /* the background push */
	uint64_t at_page;
	struct {
		uint32_t block;
		uint64_t at, end;   /* end 0: it is not */
		bool wanted, named; /* it is of the working set, or near to it; whatever was pushed last may be meant too */
	} partial_host_page;        /* the larger page that the push is inside of */

	uint32_t next_run; /* gw__pageserver_prefetch_run: is pushed before anything else */

	/* page_writer.c */
	struct gw__page_batch piece;

	/* readahead.c */
	struct gw__readahead ahead;

	/* pacing.c: when to push, and how long requests wait. */
	uint64_t last_poll_ns;                /* before this moment nothing had come that is not taken */
	uint64_t oldest_unread_ns;            /* since then what is being taken may have been there */
	uint64_t rate_free_at_ns, paid_bytes; /* what was sent is paid for then, at the given rate */
	uint64_t stuck_since_ns;              /* the peer takes nothing; 0: it does */
	bool preempt_reconnected;             /* the second connection was made anew */
	uint64_t unwritten_since_ns;          /* of the working set; 0: all is written */
	uint64_t asked_ns;                    /* the last request; 0: there was none */
	bool bulk_mode;                       /* nobody has asked for a while: more may be under way */

	/* return_path.c: what the destination said. */
	struct gw__stream_buf rp_buf;
	const char *expected_reply; /* what has to come within the limit for an answer; NULL: nothing */
	uint64_t expected_since_ns;
	int64_t asked_block;  /* of the previous request */
	bool resume_sent;     /* before, a RESUME_ACK has no sense */
	bool opened, resumed; /* PONG 1, RESUME_ACK 1 came */
	bool shut;
	uint32_t shut_status;
	int64_t bitmap_due; /* block whose bitmap comes next, in the order they were asked for; -1: all are there */
};

/* A change of state; an event without a row is an error. */
int gw__pageserver_set_state(struct gw__pageserver *s, enum gw__postcopy_src_event event);
void gw__pageserver_notify_guest_runs(const struct gw__pageserver *s); /* on_guest_runs */
/* Hear until `*done` is what is wanted, within the limit for an answer. */
int gw__pageserver_await(struct gw__pageserver *s, const char *what, bool (*done)(const struct gw__pageserver *s));
/* The second connection, if one is wanted and this is its moment. */
int gw__pageserver_connect_preempt(struct gw__pageserver *s, enum gw__preempt when);

/* --- handover.c --- */

int gw__pageserver_handover(struct gw__pageserver *s);

/* --- page_writer.c --- */

int gw__page_out_init(struct gw__pageserver *s);
void gw__page_out_fini(struct gw__pageserver *s);
int gw__pageserver_write(struct gw__pageserver *s, const void *bytes, size_t n); /* on the main channel */
/*
 * Pages from `first`, not beyond `end`, as many as are sent at once; how many in *n. The caller knows that they are unsent. Unless
 * piece.may_wait is set, GW__SHORT when the first of them has to come from the disk; nothing was sent then.
 */
int gw__page_out_pages(struct gw__pageserver *s, struct gw__page_out *out, uint32_t block, uint64_t first, uint64_t end, uint64_t *n);
int gw__pageserver_end_part(struct gw__pageserver *s);
uint64_t gw__page_out_bytes(const struct gw__pageserver *s); /* over all connections */

/* --- page_scheduler.c --- */

int gw__pageserver_pages_init(struct gw__pageserver *s);
void gw__pageserver_pages_fini(struct gw__pageserver *s);
void gw__pageserver_count_unsent(struct gw__pageserver *s);
/* A request: the pages of it that are still unsent, at once. */
int gw__pageserver_request(struct gw__pageserver *s, uint32_t block, uint64_t start_off, uint64_t bytes);
/* Before the guest runs: the beginning of the working set, as much as takes no time; at least one page stays unsent. */
int gw__pageserver_send_working_set_head(struct gw__pageserver *s);
/*
 * The i-th run of what a guest will probably ask for: the working set as it was recorded, then all of it again with what lies
 * around, which the push may have brought in time when it was recorded. False behind the last.
 */
bool gw__pageserver_prefetch_run(const struct gw__pageserver *s, uint32_t i, struct gw__ws_pages *run);
/* The next piece of the background push. */
int gw__pageserver_push(struct gw__pageserver *s);

/* --- readahead.c --- */

void gw__readahead_begin(struct gw__pageserver *s);
void gw__readahead_end(struct gw__pageserver *s);
/* Whether the push may wait for the disk now: it has tried long enough, or nobody reads ahead. */
bool gw__readahead_waits(struct gw__pageserver *s);
/* The push stands at this page, which is in memory or (dry) is not. */
void gw__readahead_move(struct gw__pageserver *s, uint32_t block, uint64_t page, bool not_in_page_cache);

/* --- return_path.c --- */

/* The first block at or behind `from` that migrates; -1: none. */
int64_t gw__pageserver_next_block(const struct gw__pageserver *s, uint32_t from);

/* `what` is due from now on. */
void gw__pageserver_expect_reply(struct gw__pageserver *s, const char *what);
int gw__pageserver_reply_left_ms(const struct gw__pageserver *s); /* what is left of its limit; -1: no limit */
int gw__pageserver_reply_timed_out(struct gw__pageserver *s);     /* -ETIMEDOUT, with the sentence */

/*
 * Take in what has come, waiting at most `ns` for the first byte: 0, or GW__SHORT when nothing came. With `may_push` the wait also
 * ends when it is time to push.
 */
int gw__pageserver_read_return_path(struct gw__pageserver *s, uint64_t ns, bool *may_push);

/* At least one byte more, or the end. Where something is due, its limit holds, or a peer that drips could keep us for ever. */
int gw__pageserver_fill(struct gw__pageserver *s);

/* --- takeover.c --- */

/* What was meant for a predecessor on this link has been heard. */
int gw__pageserver_takeover(struct gw__pageserver *s);

/* --- pacing.c --- */

/* 1: there is input; 0: none within `ns`, or it is time to push before; negative errno. `may_push` may be NULL. */
int gw__pageserver_wait(struct gw__pageserver *s, uint64_t ns, bool *may_push);
int gw__pageserver_reconnect_preempt(
	struct gw__pageserver *s); /* a second connection that ended before anything went over it is made anew, once */
/* There is a request: what it gets is not to stand behind much that is pushed. */
void gw__pageserver_leave_bulk_mode(struct gw__pageserver *s);
/* These pages were requested, and have been written. */
void gw__pageserver_note_answered(struct gw__pageserver *s, uint32_t block, uint64_t first, uint64_t n);

#endif
