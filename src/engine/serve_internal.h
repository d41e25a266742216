/* SPDX-License-Identifier: MIT */
/* What the files of the page server share. Nobody else includes it. */
#ifndef GW_ENGINE_SERVE_INTERNAL_H
#define GW_ENGINE_SERVE_INTERNAL_H

#include <pthread.h>

#include "engine/feed.h"
#include "engine/serve.h"
#include "wire/retpath.h"

enum {
	GW__SERVE_HEAR_NS = 200000000, /* between looks at the clock while there is nothing to send */
	GW__SERVE_AHEAD_STEPS = 4,     /* pieces of the push, between two words to the thread that reads ahead */
	GW__SERVE_PIECE_MAX = 512,     /* records that are written at once */
};

/* A connection that pages go out on. */
struct gw__serve_out {
	struct gw__chan *chan;
	int64_t last_block; /* for CONTINUE */
	bool in_part;       /* of the RAM section */
	uint64_t part_bytes;
};

/* One piece of a run, ready to be written: a head in front of each page's bytes. */
struct gw__serve_piece {
	uint8_t *heads, *pages;
	struct iovec *iov;
	int iov_n;
	bool may_wait; /* for the disk */
};

/* Where the push stands. */
struct gw__serve_place {
	uint64_t page;
	uint32_t block;
	uint32_t run;     /* gw__serve_wanted_run */
	bool is_dry;      /* a page was not in memory, once */
	uint64_t changes; /* counted, so that the thread sees one it was not woken for */
};

/* Reading ahead of the push. */
struct gw__serve_ahead {
	/* The conductor's. */
	pthread_t thread;
	bool runs, failed;
	unsigned dry;  /* how often in a row the next page was not in memory */
	unsigned wait; /* so many pieces are read with a wait, because that took too long */
	unsigned steps;

	pthread_mutex_t lock;
	pthread_cond_t moved;
	/* Under the lock. */
	struct gw__serve_place place;
	bool stop;
};

struct gw__serve {
	struct gw__run *run;
	const struct gw__image *image;
	struct gw__serve_out main, preempt; /* the latter without a channel: there is only one */
	const struct gw__serve_opts *o;
	struct gw__serve_tally *tally;
	uint64_t page_bytes;   /* target page */
	uint64_t page_summary; /* of POSTCOPY_ADVISE */

	/* serve_pages.c: what was sent, or was there before. Each page is sent once. */
	struct gw__bitmap *sent;   /* by block; empty for ignored ones */
	uint64_t *host_page_bytes; /* by block */
	uint64_t unsent_pages;
	uint32_t at_block; /* the background push */
	uint64_t at_page;
	struct {
		uint32_t block;
		uint64_t at, end;   /* end 0: it is not */
		bool wanted, named; /* it is of the working set, or near to it; whatever was pushed last may be meant too */
	} half;                     /* the larger page that the push is inside of */

	uint32_t next_run; /* gw__serve_wanted_run: is pushed before anything else */

	/* serve_out.c */
	struct gw__serve_piece piece;

	/* serve_ahead.c */
	struct gw__serve_ahead ahead;

	/* serve_wait.c: when to push, and how long requests wait. */
	uint64_t looked_ns;           /* before this moment nothing had come that is not taken */
	uint64_t heard_ns;            /* since then what is being taken may have been there */
	uint64_t paid_ns, paid_bytes; /* what was sent is paid for then, at the given rate */
	uint64_t stuck_since_ns;      /* the peer takes nothing; 0: it does */
	bool mended;                  /* the second connection was made anew */
	uint64_t unwritten_since_ns;  /* of the working set; 0: all is written */
	uint64_t asked_ns;            /* the last request; 0: there was none */
	bool far;                     /* nobody has asked for a while: more may be under way */

	/* serve_hear.c: what the destination said. */
	struct gw__feed ear;
	const char *due; /* what has to come within the limit for an answer; NULL: nothing */
	uint64_t due_since_ns;
	int64_t asked_block;  /* of the previous request */
	bool resume_sent;     /* before, a RESUME_ACK has no sense */
	bool opened, resumed; /* PONG 1, RESUME_ACK 1 came */
	bool shut;
	uint32_t shut_status;
	int64_t bitmap_due; /* block whose bitmap comes next, in the order they were asked for; -1: all are there */
};

/* A change of state; an event without a row is an error. */
int gw__serve_step(struct gw__serve *s, enum gw__pc_event event);
void gw__serve_say_runs(const struct gw__serve *s); /* on_guest_runs */
/* Hear until `*done` is what is wanted, within the limit for an answer. */
int gw__serve_await(struct gw__serve *s, const char *what, bool (*done)(const struct gw__serve *s));
/* The second connection, if one is wanted and this is its moment. */
int gw__serve_connect_preempt(struct gw__serve *s, enum gw__preempt when);

/* --- serve_start.c --- */

int gw__serve_start(struct gw__serve *s);

/* --- serve_out.c --- */

int gw__serve_out_init(struct gw__serve *s);
void gw__serve_out_fini(struct gw__serve *s);
int gw__serve_write(struct gw__serve *s, const void *bytes, size_t n); /* on the main channel */
/*
 * Pages from `first`, not beyond `end`, as many as are sent at once; how many in *n. The caller knows that they are unsent. Unless
 * piece.may_wait is set, GW__SHORT when the first of them has to come from the disk; nothing was sent then.
 */
int gw__serve_out_pages(struct gw__serve *s, struct gw__serve_out *out, uint32_t block, uint64_t first, uint64_t end, uint64_t *n);
int gw__serve_end_part(struct gw__serve *s);
uint64_t gw__serve_out_bytes(const struct gw__serve *s); /* over all connections */

/* --- serve_pages.c --- */

int gw__serve_pages_init(struct gw__serve *s);
void gw__serve_pages_fini(struct gw__serve *s);
void gw__serve_count_unsent(struct gw__serve *s);
/* A request: the pages of it that are still unsent, at once. */
int gw__serve_request(struct gw__serve *s, uint32_t block, uint64_t start_off, uint64_t bytes);
/* Before the guest runs: the beginning of the working set, as much as takes no time; at least one page stays unsent. */
int gw__serve_send_first(struct gw__serve *s);
/*
 * The i-th run of what a guest will probably ask for: the working set as it was recorded, then all of it again with what lies
 * around, which the push may have brought in time when it was recorded. False behind the last.
 */
bool gw__serve_wanted_run(const struct gw__serve *s, uint32_t i, struct gw__ws_pages *run);
/* The next piece of the background push. */
int gw__serve_push(struct gw__serve *s);

/* --- serve_ahead.c --- */

void gw__serve_ahead_begin(struct gw__serve *s);
void gw__serve_ahead_end(struct gw__serve *s);
/* Whether the push may wait for the disk now: it has tried long enough, or nobody reads ahead. */
bool gw__serve_ahead_waits(struct gw__serve *s);
/* The push stands at this page, which is in memory or (dry) is not. */
void gw__serve_ahead_move(struct gw__serve *s, uint32_t block, uint64_t page, bool is_dry);

/* --- serve_hear.c --- */

/* The first block at or behind `from` that migrates; -1: none. */
int64_t gw__serve_next_block(const struct gw__serve *s, uint32_t from);

/* `what` is due from now on. */
void gw__serve_due(struct gw__serve *s, const char *what);
int gw__serve_due_ms(const struct gw__serve *s); /* what is left of its limit; -1: no limit */
int gw__serve_overdue(struct gw__serve *s);      /* -ETIMEDOUT, with the sentence */

/*
 * Take in what has come, waiting at most `ns` for the first byte: 0, or GW__SHORT when nothing came. With `may_push` the wait also
 * ends when it is time to push.
 */
int gw__serve_hear(struct gw__serve *s, uint64_t ns, bool *may_push);

/* At least one byte more, or the end. Where something is due, its limit holds, or a peer that drips could keep us for ever. */
int gw__serve_fill(struct gw__serve *s);

/* --- serve_join.c --- */

/* What was meant for a predecessor on this link has been heard. */
int gw__serve_join(struct gw__serve *s);

/* --- serve_wait.c --- */

/* 1: there is input; 0: none within `ns`, or it is time to push before; negative errno. `may_push` may be NULL. */
int gw__serve_wait(struct gw__serve *s, uint64_t ns, bool *may_push);
int gw__serve_mend_preempt(struct gw__serve *s); /* a second connection that ended before anything went over it is made anew, once */
/* There is a request: what it gets is not to stand behind much that is pushed. */
void gw__serve_keep_near(struct gw__serve *s);
/* These pages were requested, and have been written. */
void gw__serve_answered(struct gw__serve *s, uint32_t block, uint64_t first, uint64_t n);

#endif
