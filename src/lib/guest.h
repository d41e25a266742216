/* SPDX-License-Identifier: MIT */
/* A guest of the public API from the inside. Owned by the thread that makes a call with it. */
#ifndef GW_LIB_GUEST_H
#define GW_LIB_GUEST_H

#include "godwit-unstable.h"

#include <stdatomic.h>

#include "guest/guest.h"
#include "plan/guest_where.h"

struct gw_guest {
	struct gw__guest *guest;
	struct gw_guest_ops ops; /* the VMM's */
	struct gw_guest_opts opts;
	void *ctx;
	_Atomic bool busy; /* a call runs */
	struct gw__error error;

	/* The call's, and between two while it is GW_PARTIAL; NULL: none. Of an image, or of a source that switched to post-copy. */
	struct gw__lazy *lazy;
	struct gw__late_pages *late;
	struct gw__sink *arriving;
	enum gw__side side; /* the call's, while one runs */
	struct gw__location location;
	bool postcopy;          /* it was left in a post-copy, which can be resumed */
	_Atomic uint32_t where; /* what follows from them; any thread */
};

/* 0: this call has the guest now; -EBUSY: another one does. */
int gw__guest_claim(gw_guest *guest, struct gw__error *error);
void gw__guest_release(gw_guest *guest);
/* All of it is here, or will not come. */
void gw__guest_end_arrival(gw_guest *guest);
/* Where it is; the call's. */
void gw__guest_set_location(gw_guest *guest, enum gw__side side, struct gw__location location, enum gw__motion motion);

#endif
