/* SPDX-License-Identifier: MIT */
/* The beginning of a post-copy from an image: header, block list, discards, the package (docs/spec/postcopy.md 3). The main thread's. */
#ifndef GW_ENGINE_PAGESERVER_HANDOVER_H
#define GW_ENGINE_PAGESERVER_HANDOVER_H

#include "engine/core/run.h"
#include "engine/pageserver/page_scheduler.h"
#include "engine/pageserver/page_out.h"
#include "image/read/image.h"

struct gw__handover {
	struct gw__run *run;
	const struct gw__image *image;
	struct gw__page_out *out;
	struct gw__page_scheduler *pages;
	/* The head is written: the second connection, if one is wanted, is made now. */
	int (*connect_preempt)(void *ctx);
	/* STREAM_BEGUN: all up to the discards is written; PACKAGE_SENT: the destination may run at any moment. */
	int (*event)(void *ctx, enum gw__postcopy_src_event event);
	void *ctx;
};

/* 0 when the package is sent; a negative errno with run->error. */
int gw__handover_run(struct gw__handover *h);

#endif
