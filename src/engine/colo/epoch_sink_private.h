/* SPDX-License-Identifier: MIT */
/* What a standby's sink and its recovery share; see epoch_sink.h. */
#ifndef GW_ENGINE_COLO_EPOCH_SINK_PRIVATE_H
#define GW_ENGINE_COLO_EPOCH_SINK_PRIVATE_H

#include <limits.h>

#include "engine/colo/durable.h"
#include "engine/colo/epoch_sink.h"
#include "image/epochs/epoch.h"
#include "image/epochs/epoch_history.h"
#include "image/write/writer.h"
#include "wire/framing.h"

/* A device before RAM: its place in the image. */
struct early {
	uint64_t off;
	size_t bytes;
	struct gw__section section;
};

/* Grows as it comes; the stream's limit on device state bounds it. */
struct device_state {
	uint8_t *bytes;
	size_t n;
};

struct gw__epoch_sink {
	struct gw__sink sink;   /* first */
	struct gw__sink *image; /* takes the writer over */
	struct gw__image_writer *writer;
	struct gw__epoch *epoch;     /* made with the block list, which tells the page size */
	struct gw__epoch_lane *main; /* of the main channel */
	struct gw__epoch_sink_opts o;
	uint64_t page_bytes;
	bool in_checkpoint; /* changed while no lane is in use */
	bool pending;       /* committed, and not applied yet */
	bool finished;
	bool ram_ended, switchover; /* in the initial migration */
	struct early *early;
	uint32_t early_n, early_room;
	struct device_state devices; /* of the last epoch that was applied */
	uint8_t *text;               /* the description, as it came */
	size_t text_bytes;
	const struct gw__vmdesc *desc; /* parsed; borrowed */
	struct gw__epoch_store_stats stats;

	/* Of a durable one. */
	char path[PATH_MAX];
	uint64_t number;             /* of the last epoch that was committed */
	uint64_t replayed_last;      /* while epochs of a dead standby are replayed: the last of them; else 0 */
	struct gw__config config;    /* of the image */
	struct gw__durable *journal; /* NULL: it was not started */
	uint8_t *note;               /* what a base says beyond what every image has */
	size_t note_bytes;
};

enum { GW__EPOCH_NOTE_SWITCHOVER = 1, GW__EPOCH_NOTE_HISTORY = 2 };  /* flags in it */
enum { GW__EPOCH_NOTE_FIXED = 1 + 4, GW__EPOCH_NOTE_EARLY = 8 + 8 }; /* of what a base says beyond what every image has */

/* Whatever an image could not hold has to be found here, while there still is the epoch before. */
int gw__epoch_sink_check_devices(const struct gw__epoch_sink *s, const uint8_t *bytes, size_t n, struct gw__error *error);
/* Of an epoch: pages go to their places; `pages` NULL: zeros. `ctx` is the sink. */
gw__epoch_apply_fn gw__epoch_sink_apply_run;
/* The devices of an epoch take the place of those that are there. */
int gw__epoch_sink_take_devices(struct gw__epoch_sink *s, struct gw__view devices, struct gw__error *error);
int gw__epoch_sink_keep_text(struct gw__epoch_sink *s, struct gw__view text, struct gw__error *error);
void gw__epoch_sink_free_parts(struct gw__sink *s);
/* Its pages go to their places. A failure leaves the epoch what it is: again, or with `finish`. */
int gw__epoch_sink_apply(struct gw__epoch_sink *s, struct gw__error *error);
/* The image of the last epoch gets its name, without being synced unless `sync`, or it is durable. Nothing may follow. */
int gw__epoch_sink_finish(struct gw__epoch_sink *s, bool sync, struct gw__error *error);

#endif
