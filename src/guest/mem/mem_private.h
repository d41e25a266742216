/* SPDX-License-Identifier: MIT */
/* The mem guest, for its own two files. */
#ifndef GW_GUEST_MEM_PRIVATE_H
#define GW_GUEST_MEM_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "guest/mem/mem_guest.h"

struct gw__mem_writer {
	struct gw__mem_guest *guest;
	struct gw__mem_region region; /* changes only while all threads are parked */
	_Atomic uint64_t steps;       /* done; written by the writer alone, or by who steps and loads while it is parked */
};

enum { GW__MEM_THREADS_MAX = GW__MEM_WRITERS_MAX + 2 }; /* a clock and a reader */

struct gw__mem_guest {
	/* Changed only while all threads are parked. */
	struct gw__mem_guest_opts o;
	struct gw__mem_ram ram;
	uint8_t *alias; /* the same memory once more, if it is shared */
	uint64_t pages;
	unsigned writers;
	struct gw__mem_writer writer[GW__MEM_WRITERS_MAX];

	/* By the clock's thread while it is not parked. */
	uint64_t last_tick_ns; /* CLOCK_REALTIME */
	bool ticked_here;
	uint64_t last_tick_here_ns; /* CLOCK_MONOTONIC */

	/* By anybody. */
	_Atomic bool stop, ending; /* written under `lock` */
	_Atomic unsigned throttle;
	_Atomic uint64_t ticks, largest_gap_ns;
	_Atomic uint64_t pages_read, found, found_offset;
	_Atomic int found_verdict, failed;

	pthread_mutex_t lock;
	pthread_cond_t go, parked;
	/* Under `lock`. */
	unsigned running; /* threads that are not parked */
	unsigned threads;
	pthread_t thread[GW__MEM_THREADS_MAX];
};

void gw__mem_threads_init(struct gw__mem_guest *g);
void gw__mem_threads_fini(struct gw__mem_guest *g); /* they have ended */

#endif
