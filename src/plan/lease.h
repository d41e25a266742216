/* SPDX-License-Identifier: MIT */
/*
 * Who may run a guest: one record in a store, changed by compare-and-swap alone. Pure: no clock, no store; docs/LEASE.md has the argument and the bounds.
 *
 * The record is OWNER:GENERATION:BEAT+TERM. Each taking raises the generation, each later swap of its owner the beat, so that no text comes twice. TERM is for
 * how many milliseconds after this record appeared nobody else may take it: "forever", or 0 for a record that is nobody's.
 *
 *   LOOKING -> WAITING -> TAKING -> HELD (forever) -> BEATING (TERM, beat after beat) -> HELD or FREED
 *                                                        \-> LOST: the deadline is over, or the record is another's
 *
 * A guest may run in HELD and BEATING. In BEATING it must be dead at gw__lease_deadline_ns(), which moves only when a swap is confirmed, to a time that is counted
 * from before that swap was sent. Whoever waits counts from when it was told of the record, by its own clock.
 *
 * In doubt: a swap was sent and its outcome is not known. It may be applied yet.
 */
#ifndef GW_PLAN_LEASE_H
#define GW_PLAN_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#ifndef GW__LEASE_OWNER_BYTES /* less in the test that keeps millions of them */
#define GW__LEASE_OWNER_BYTES 160
#endif
enum { GW__LEASE_TEXT_BYTES = GW__LEASE_OWNER_BYTES + 64 };
#define GW__LEASE_FOREVER  UINT64_MAX /* as term_ms */
#define GW__LEASE_NO_LIMIT UINT64_MAX /* as a deadline */

struct gw__lease_record { /* zeroed: there is none */
	char owner[GW__LEASE_OWNER_BYTES];
	uint64_t generation, beat, term_ms;
};

/* -EPROTO: `text` is not a record. */
int gw__lease_record_parse(const char *text, struct gw__lease_record *record, struct gw__error *error);
void gw__lease_record_format(const struct gw__lease_record *record, char text[GW__LEASE_TEXT_BYTES]);

struct gw__lease_bounds {
	uint64_t term_ms;   /* of the owner's beats */
	uint64_t beat_ms;   /* from one beat to the next */
	uint64_t kill_ms;   /* from the deadline, by the owner's clock, until its guest is dead */
	unsigned drift_ppm; /* by how much a clock goes faster or slower than time at most */
};
/* From before a beat was sent until the guest is to be killed, by the owner's clock; 0: the term is too short for these bounds. */
uint64_t gw__lease_own_ns(const struct gw__lease_bounds *b);

enum gw__lease_state {
	GW__LEASE_LOOKING, /* nothing is known */
	GW__LEASE_WAITING, /* it is another's */
	GW__LEASE_TAKING,
	GW__LEASE_HELD, /* ours, without a limit */
	GW__LEASE_BEATING,
	GW__LEASE_FREED, /* by us: nobody's */
	GW__LEASE_LOST,
	GW__LEASE_STATES
};

enum gw__lease_wish {
	GW__LEASE_WISH_HOLD, /* take it, and hold it without a limit */
	GW__LEASE_WISH_BEAT,
	GW__LEASE_WISH_FREE, /* nobody runs the guest any more */
};

struct gw__lease {
	/* What was asked for. */
	char owner[GW__LEASE_OWNER_BYTES];
	struct gw__lease_bounds bounds;
	enum gw__lease_wish wish;
	/* What is known. */
	enum gw__lease_state state;
	struct gw__lease_record current; /* what the store had last */
	struct gw__lease_record sent;    /* the last swap's new record */
	uint64_t seen_ns;                /* since when `current` is known, of another's */
	uint64_t take_ns, look_ns;       /* when it may be taken; when to read next */
	uint64_t sent_ns, deadline_ns;
	uint64_t last_beat; /* the highest that was ever sent in this generation */
	bool asked;         /* the store has not answered */
	bool unknown;       /* the outcome of `sent` is not */
};

enum gw__lease_do {
	GW__LEASE_WAIT, /* until `until_ns`, or another wish */
	GW__LEASE_READ,
	GW__LEASE_SWAP, /* `from` (no owner: there must be no record) to `to`. Before it is sent, the guest's end is set to gw__lease_deadline_ns() */
};
struct gw__lease_action {
	enum gw__lease_do what;
	struct gw__lease_record from, to;
	uint64_t until_ns;
};

enum gw__lease_answer { GW__LEASE_CONFIRMED, GW__LEASE_REFUSED, GW__LEASE_UNKNOWN };

/* `owner`: printable, without ':' and space, and nobody else's. */
void gw__lease_init(struct gw__lease *l, const char *owner, const struct gw__lease_bounds *b);
void gw__lease_set_wish(struct gw__lease *l, enum gw__lease_wish wish);
/* What is to be done now. A READ or SWAP must be answered before there is another. */
struct gw__lease_action gw__lease_next(struct gw__lease *l, uint64_t now_ns);
/* `record` NULL: the store did not answer. `owner_is_dead`: that is known otherwise, of its process. */
void gw__lease_on_read(struct gw__lease *l, uint64_t now_ns, const struct gw__lease_record *record, bool owner_is_dead);
/* REFUSED says what is there instead, unless that is not known (NULL). */
void gw__lease_on_swap(struct gw__lease *l, uint64_t now_ns, enum gw__lease_answer answer, const struct gw__lease_record *record);

/* When the guest must be dead; GW__LEASE_NO_LIMIT. Of a lost lease it is in the past. */
uint64_t gw__lease_deadline_ns(const struct gw__lease *l);
/* What was wished for is so, and confirmed. */
bool gw__lease_is_settled(const struct gw__lease *l);
bool gw__lease_in_doubt(const struct gw__lease *l);
const char *gw__lease_state_name(enum gw__lease_state state);

#endif
