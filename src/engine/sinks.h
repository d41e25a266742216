/* SPDX-License-Identifier: MIT */
/* The sinks there are. Each is freed with gw__sink_free. */
#ifndef GW_ENGINE_SINKS_H
#define GW_ENGINE_SINKS_H

#include "engine/gang_send.h"
#include "engine/run.h"
#include "engine/sink.h"
#include "image/writer.h"
#include "io/chan.h"

/* Takes the writer over. Committing gives the image its name. */
int gw__sink_image_new(struct gw__image_writer **writer, struct gw__sink **sink, struct gw__why *why);

/*
 * The image another process left unfinished (image/partial.h), as a sink that knows what came. `*note` is what its maker gave it, and lives
 * as long as the sink; `*fell_back` as of gw__image_resume.
 */
int gw__sink_image_resume(const char *path, struct gw__sink **sink, struct gw__view *note, bool *fell_back, struct gw__why *why);
/* The caller's own words, kept with an image that is left unfinished. Borrowed. */
void gw__sink_image_note(struct gw__sink *sink, struct gw__view note);

/*
 * Says that it has every page but the samples, and in the end that it can use none: see sink_sated.c. Everything is borrowed. The samples' pages are compared when they come: a source of another memory is odd.
 */
struct gw__sated_opts {
	const struct gw__blocks *blocks;
	uint64_t page_bytes;
	uint32_t ram_id;
	bool any_ram_id;
	const struct gw__partial_samples *samples; /* NULL: none */
};
int gw__sink_sated_new(const struct gw__sated_opts *o, struct gw__sink **sink, struct gw__why *why);
bool gw__sink_sated_met_odd(const struct gw__sink *sink);

/*
 * A QEMU stream on a channel (borrowed). With `ask_back` the return path is opened and commit waits for the
 * destination's SHUT; without it nobody knows whether the destination could use what it got.
 */
struct gw__sink_stream_opts {
	bool ask_back;
	int answer_ms;              /* how long commit waits for SHUT; -1: for ever */
	struct gw__gang_send *gang; /* multifd: only an image can be sent so. NULL: pages go over the channel. Borrowed */
	bool zeros_in_packets;      /* the gang names zero pages itself */
};
int gw__sink_stream_new(struct gw__run *run, struct gw__chan *chan, const struct gw__sink_stream_opts *o, struct gw__sink **sink,
	struct gw__why *why);

/* Looks at everything and keeps only the description of the guest: for inspect and verify. */
struct gw__gist {
	struct gw__config config;
	struct gw__blocks blocks;
	struct {
		struct gw__section section;
		uint64_t off;     /* of the raw section in its source */
		size_t at, bytes; /* of the raw section in `raw` */
		uint64_t more;    /* bytes of the pieces behind START, which are not kept */
		bool early;
		uint32_t described; /* its place among the devices of a description; UINT32_MAX: it is an iterable, which has none */
	} * device;
	uint32_t devices_n, devices_room, described_n;
	uint32_t iterable[GW__OPEN_SECTIONS_MAX]; /* those of `device`: their START, and the size of all pieces */
	uint32_t iterables_n;
	uint8_t *raw;
	size_t raw_bytes, raw_room;
	uint64_t piece_bytes; /* that are not in raw */
	char *text;           /* description, or NULL */
	size_t text_bytes;
};
int gw__sink_gist_new(struct gw__gist *gist, size_t max_bytes, struct gw__sink **sink, struct gw__why *why);
void gw__gist_fini(struct gw__gist *gist);

/* One block's bytes from an image into a plain, empty file, holes for zeros. `fd` and the name are borrowed. */
int gw__sink_raw_new(int fd, const char *block_name, struct gw__sink **sink, struct gw__why *why);

#endif
