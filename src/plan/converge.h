/* SPDX-License-Identifier: MIT */
/*
 * When is a running guest stopped for its last round, and what is done if that moment does not come? Pure: the caller says what it measured, and
 * is told what to do next. The guest's writes and the link are what they are; nothing here waits or reads a clock.
 *
 * B, the bandwidth, is the 20th percentile of the last 20 samples of 100 ms, of bytes that left the sockets while there was something to send. The
 * expected downtime is dirty pages / B + device state / B + the pause hook + one round trip + the time the other end needs to load the devices. The
 * guest is stopped when that fits the limit, at the end of a round or in the middle of one: a peek at the dirty count disturbs nothing. Look before
 * you leap: it is paused, counted exactly, and let run again if it does not fit after all, at most three times, each time with a larger reserve.
 *
 * A round makes progress if it leaves 10 % fewer dirty pages than any before. After `patience` rounds without, the policy acts.
 */
#ifndef GW_PLAN_CONVERGE_H
#define GW_PLAN_CONVERGE_H

#include <stdbool.h>
#include <stdint.h>

enum gw__converge_policy {
	GW__CONVERGE_SWITCH,   /* to post-copy */
	GW__CONVERGE_THROTTLE, /* slow the guest down, as far as 99 % */
	GW__CONVERGE_GIVE_UP,
	GW__CONVERGE_STOP, /* it stands still as long as it takes */
};

struct gw__converge_limits {
	uint64_t downtime_ns;
	enum gw__converge_policy policy; /* what cannot be done (below) becomes GIVE_UP */
	bool can_switch, can_throttle;
	unsigned patience;   /* rounds. 0: 3 */
	uint64_t give_up_ns; /* since the first round began; 0: none */
	uint64_t stalled_ns; /* nothing left the sockets for so long. 0: 60 s */
};

enum { GW__CONVERGE_SAMPLES = 20 };

/* Owned by the caller; its fields are for converge.c. */
struct gw__converge {
	struct gw__converge_limits limits;
	uint64_t sample[GW__CONVERGE_SAMPLES]; /* bytes per second */
	unsigned samples, next_sample;         /* taken in all, at most twice the ring; the next place */
	uint64_t sampled_busy_ns, sampled_bytes;
	uint64_t moved_ns;                                      /* when bytes left last */
	uint64_t round_begin_ns, round_bytes, round_sent_pages; /* at its begin */
	unsigned round;                                         /* that were finished */
	uint64_t page_cost;                                     /* bytes on the wire per page, of the last round */
	uint64_t best_dirty;
	unsigned since_best, looks, throttle;
};

/* What the caller measured until now. Sums only grow. */
struct gw__converge_now {
	uint64_t now_ns;       /* since the first round began */
	uint64_t busy_ns;      /* of these, with something to send */
	uint64_t left_bytes;   /* that left the sockets of all channels */
	uint64_t sent_pages;   /* zero pages too */
	uint64_t unsent_pages; /* of this round */
	uint64_t dirty_pages;  /* that were written since the round began, and so belong to the next */
	uint64_t page_bytes;
	uint64_t device_bytes, pause_ns, round_trip_ns, load_ns; /* as measured last; what is not known: a guess */
};

enum gw__converge_at {
	GW__CONVERGE_AT_SAMPLE, /* at least every 100 ms: nobody looked at dirty_pages, unsent_pages */
	GW__CONVERGE_AT_PEEK,   /* they are about right */
	GW__CONVERGE_AT_END,    /* of a round: unsent_pages is 0, dirty_pages is what the next one has to send */
	GW__CONVERGE_AT_LOOK,   /* the guest is paused, the counts are exact */
};

enum gw__converge_decision {
	GW__CONVERGE_COPY,        /* go on; if the guest is paused, let it run */
	GW__CONVERGE_LOOK,        /* pause it and ask again, AT_LOOK */
	GW__CONVERGE_FINISH,      /* the last round: the guest is, or is to be paused, and stays so */
	GW__CONVERGE_DO_SWITCH,   /* to post-copy */
	GW__CONVERGE_DO_THROTTLE, /* by `throttle` percent, and go on */
	GW__CONVERGE_FAIL,        /* let the guest run here, and say why */
};

enum gw__converge_reason {
	GW__CONVERGE_GOES_ON,
	GW__CONVERGE_FITS,        /* the expected downtime is within the limit */
	GW__CONVERGE_NO_FIT,      /* a look found that it does not fit */
	GW__CONVERGE_NO_PROGRESS, /* rounds do not leave fewer pages */
	GW__CONVERGE_TOO_FAST,    /* the guest writes faster than the link carries */
	GW__CONVERGE_FIXED_COSTS, /* not even with no page left it fits */
	GW__CONVERGE_THROTTLED,   /* not even at 99 % */
	GW__CONVERGE_TOO_LONG,    /* give_up_ns */
	GW__CONVERGE_STALLED,     /* the link carries nothing */
	GW__CONVERGE_SLOWER_LINK, /* the downtime was more than half above the limit, as the link carried less than before */
	GW__CONVERGE_SLOWER_ENDS, /* the same, as the hooks or the loading took longer than before */
	GW__CONVERGE_REASONS
};

struct gw__converge_verdict {
	enum gw__converge_decision decision;
	enum gw__converge_reason reason;
	unsigned throttle;
	uint64_t expected_ns;           /* the downtime; UINT64_MAX: not known */
	uint64_t bandwidth, dirty_rate; /* bytes per second; 0: not known */
	bool peek;                      /* it may fit soon: peek every 50 ms */
};

void gw__converge_init(struct gw__converge *c, const struct gw__converge_limits *limits);
struct gw__converge_verdict gw__converge_ask(struct gw__converge *c, enum gw__converge_at at, const struct gw__converge_now *now);
/* Why the downtime was what it was, by the verdict to finish and what was measured then. */
enum gw__converge_reason gw__converge_judge(const struct gw__converge_verdict *finish, uint64_t limit_ns, uint64_t downtime_ns,
	uint64_t bandwidth);
/* Half a sentence: "the guest writes faster than the link carries". */
const char *gw__converge_reason_text(enum gw__converge_reason reason);

#endif
