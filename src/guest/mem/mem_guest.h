/* SPDX-License-Identifier: MIT */
/*
 * A guest that proves itself: memory of this process that threads write to, whose content is a function of its device state (formula.h). Whoever
 * moves it and loses a page, a bit or a step is found out by gw__mem_guest_check, which says "stale" apart from "wrong".
 *
 * It is no part of the library: tests, benchmarks and the command `godwit guest` make one and hand its memory and the functions below, as hooks,
 * to libgodwit. Each writer has a region of its own and one counter of steps, and the counters are the device state. Writers pause between steps
 * only. A reader checks pages while they are written. A clock writes into the last page every 50 us; its largest gap is the downtime.
 *
 * One thread at a time calls the functions below; gw__mem_guest_stats any.
 */
#ifndef GW_GUEST_MEM_GUEST_H
#define GW_GUEST_MEM_GUEST_H

#include <stddef.h>

#include "base/error.h"
#include "guest/mem/formula.h"

struct gw__mem_guest;

/* In the order of their names, "uniform" first. */
enum gw__mem_workload {
	GW__MEM_UNIFORM, /* every page in turn, in a new order each time */
	GW__MEM_HOT,     /* a sixteenth of the pages gets fifteen of sixteen steps */
	GW__MEM_SWEEP,   /* every page in turn, from the first to the last */
	GW__MEM_BURST,   /* many steps, then silence: what is lost in a burst is not written again soon, and so is found */
	GW__MEM_DISCARD, /* uniform; a page that becomes zero is given back to the host instead (a balloon) */
	GW__MEM_SPARSE,  /* uniform; 8 bytes of a page */
	GW__MEM_TOLD,    /* uniform; each other step through another mapping, then the hook is told. Shared memory only */
	GW__MEM_UNTOLD,  /* the same, but nobody is told: must be found by a check */
	GW__MEM_WORKLOADS
};
const char *gw__mem_workload_name(enum gw__mem_workload w); /* NULL past the end */

enum { GW__MEM_WRITERS_MAX = 16, GW__MEM_STATE_BYTES_MAX = 512 };

struct gw__mem_guest_opts {
	uint64_t bytes; /* of RAM: whole pages, at least four */
	uint64_t seed;
	enum gw__mem_workload workload;
	unsigned writers;          /* threads. 0: 1 */
	uint64_t steps_per_second; /* of all writers together. 0: as fast as they can */
	bool shared;               /* a memfd instead of private memory */
	bool empty;                /* RAM is left zero, and content and counters come by gw__mem_guest_load */
	bool tell_all;             /* `wrote` is called for each write, not only for those through the other mapping */
	bool tell_first;           /* wrong, for tests of who is to find out: before the write */
	/* From the thread that wrote, after the write. NULL: nothing is called. */
	void (*wrote)(void *ctx, uint64_t offset, uint64_t bytes);
	/* Makes the page zero and gives it back; 0 or a negative errno. NULL: done by the guest itself, by madvise. */
	int (*discard)(void *ctx, uint64_t offset, uint64_t bytes);
	void *ctx;
};

int gw__mem_guest_new(struct gw__mem_guest **guest, const struct gw__mem_guest_opts *o, struct gw__error *error);
void gw__mem_guest_free(struct gw__mem_guest *guest); /* NULL is fine; ends the threads */

struct gw__mem_ram {
	uint8_t *host;
	uint64_t bytes;
	int fd; /* -1: private memory */
};
struct gw__mem_ram gw__mem_guest_ram(const struct gw__mem_guest *guest);

/* --- It runs. A new guest is paused. ------------------------------------------------------------------------------- */

int gw__mem_guest_resume(struct gw__mem_guest *guest); /* makes the threads at the first call. 0 or a negative errno */
/* From the return on no byte changes. 1: it was paused already. */
int gw__mem_guest_pause(struct gw__mem_guest *guest);
void gw__mem_guest_throttle(struct gw__mem_guest *guest, unsigned percent);
/* By hand, while it is paused: `n` steps of one writer. For tests that own time. */
void gw__mem_guest_step(struct gw__mem_guest *guest, unsigned writer, uint64_t n);

/* --- Device state: what the guest is, and how far each writer came ------------------------------------------------- */

size_t gw__mem_guest_save(const struct gw__mem_guest *guest, uint8_t state[GW__MEM_STATE_BYTES_MAX]);
/* The guest is paused, and becomes the one of the state: its seed, workload and writers too. -EINVAL: not a state, or of other RAM. */
int gw__mem_guest_load(struct gw__mem_guest *guest, const uint8_t *state, size_t bytes, struct gw__error *error);

/* --- Proof --------------------------------------------------------------------------------------------------------- */

struct gw__mem_check {
	uint64_t pages, faulty[GW__MEM_VERDICTS]; /* checked; of these, by verdict */
	/* The first that is not right. */
	uint64_t offset, version, off; /* off: versions, see gw__mem_judge */
	enum gw__mem_verdict verdict;
};
/*
 * Judges pages [first, first + pages) by the counters; the guest is paused. `bytes`: a copy of these pages from elsewhere, NULL: its own RAM. 0:
 * every byte is right; -EBADMSG with a sentence that names the first that is not.
 */
int gw__mem_guest_check(const struct gw__mem_guest *guest, uint64_t first, uint64_t pages, const uint8_t *bytes,
	struct gw__mem_check *check, struct gw__error *error);

struct gw__mem_stats {
	uint64_t steps;          /* of all writers */
	uint64_t ticks;          /* of the clock */
	uint64_t largest_gap_ns; /* between two ticks, those of other hosts included */
	uint64_t pages_read;     /* by the reader */
	uint64_t found;          /* pages the reader found to be not right */
	uint64_t found_offset;   /* of the first of them */
	enum gw__mem_verdict found_verdict;
	int failed; /* a negative errno: a discard failed, and that writer has stopped */
};
void gw__mem_guest_stats(const struct gw__mem_guest *guest, struct gw__mem_stats *stats);

#endif
