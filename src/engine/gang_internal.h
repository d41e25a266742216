/* SPDX-License-Identifier: MIT */
/* What gang.c, gang_worker.c and gang_pages.c share. Nobody else includes it. */
#ifndef GW_ENGINE_GANG_INTERNAL_H
#define GW_ENGINE_GANG_INTERNAL_H

#include <pthread.h>

#include "engine/gang.h"
#include "wire/pack.h"

/* Where a worker stands; guarded by the gang's lock. */
enum gw__gang_where {
	GW__GANG_IDLE,    /* nothing came since its last SYNC */
	GW__GANG_FILLING, /* pages came */
	GW__GANG_AT_SYNC, /* it waits for the others */
};

/* One channel. Its thread owns everything; the conductor reads the counters, and under the lock `where` and `gone`. */
struct gw__gang_worker {
	struct gw__gang *gang;
	pthread_t thread;
	uint32_t id;
	struct gw__chan *chan;
	struct gw__lane *lane;
	uint8_t *head;   /* a packet's header */
	uint8_t *packed; /* a compressed payload, and what came out of it before it is put in order */
	struct gw__unpacker *unpacker;
	bool has_method;
	unsigned empty_n; /* packets without a payload, since the last with one */
	struct gw__multifd_packet packet;
	struct iovec places[GW__MULTIFD_PAGES_MAX]; /* of its payload in the lane's buffer */
	_Atomic uint64_t payload_bytes, pages, zero_pages, packets;
	_Atomic uint32_t method;
	enum gw__gang_where where;
	bool gone; /* its channel has ended, between two packets */
};

struct gw__gang {
	struct gw__run *run; /* the conductor's */
	struct gw__sink *sink;
	struct gw__chan *main; /* to be broken when a worker fails */

	pthread_mutex_t lock; /* guards all below, up to the workers */
	pthread_cond_t changed;
	const struct gw__blocks *blocks; /* NULL until the list came; constant after */
	uint64_t page_bytes;
	uint32_t arrived, syncs; /* workers at their SYNC; syncs completed */
	bool stopping;
	bool ended;         /* RAM is complete: no page may come */
	struct gw__why why; /* the first failure of a worker */

	uint32_t n; /* workers that run; set before they matter to others */
	struct gw__gang_worker worker[];
};

void *gw__gang_work(void *worker);

/* What a packet brings, after it was judged (gang_pages.c). The order of its normal pages may change. */
int gw__gang_put_normal(struct gw__gang_worker *w, uint32_t block, struct gw__why *why);
int gw__gang_put_zeros(struct gw__gang_worker *w, uint32_t block, struct gw__why *why);

/* For workers: wait for the block list; before what a packet brings; at a SYNC; at the end; to report. False: it is over. */
bool gw__gang_wait_open(struct gw__gang *g);
bool gw__gang_fill(struct gw__gang_worker *w);
bool gw__gang_arrive(struct gw__gang_worker *w);
void gw__gang_leave(struct gw__gang_worker *w);
void gw__gang_fail(struct gw__gang *g, const struct gw__why *why);

#endif
