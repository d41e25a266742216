/* SPDX-License-Identifier: MIT */
/*
 * A mapped-ram image on disk: the reader's view (docs/spec/mapped-ram.md). Opening checks everything the
 * spec's section 9 lists, so whoever holds one may trust its offsets: every region lies inside the file as it
 * was. What opening costs is bounded by what the file really holds, not by what it claims. Read-only once
 * open; pages may be read from several threads.
 */
#ifndef GW_IMAGE_READ_IMAGE_H
#define GW_IMAGE_READ_IMAGE_H

#include "base/bitmap.h"
#include "base/conditions.h"
#include "base/error.h"
#include "image/file/absent.h"
#include "wire/header.h"
#include "wire/framing.h"
#include "wire/ram.h"
#include "wire/vmdesc.h"

enum {
	GW__IMAGE_TRAILER_MAX = 256 << 20, /* device state and description, held in memory while opening */
	GW__IMAGE_DEVICES_MAX = 16384,
	GW__IMAGE_PIECES_MAX_BYTES = 4 << 20, /* of pieces in one entry, so that none takes much memory for being many */
	GW__IMAGE_ANOMALIES_MAX = 8,
	GW__IMAGE_FINGERPRINT_BYTES = 16,
};

/*
 * A section other than RAM as it stands in the file: header, body and footer. Nearly always FULL, one per
 * device; START, PART and END are pieces of an iterable nobody here knows (spapr/htab), and pieces of one that follow each other directly
 * are one entry, whose body reaches from that of the first to that of the last.
 */
struct gw__image_device {
	struct gw__section section;
	uint64_t off;   /* absolute, of the type byte */
	uint64_t bytes; /* of the whole section */
	uint64_t body_off, body_bytes;
	bool early;      /* before the end of RAM */
	bool before_ram; /* even before the RAM section's start */
};

struct gw__image {
	int fd;
	char path[4096];
	uint64_t base_off; /* where the stream starts in the file */
	uint64_t file_bytes;
	uint64_t end_off; /* after the last byte of the stream; what follows in the file is nobody's */
	struct gw__config config;
	uint32_t ram_id;            /* section id of RAM */
	struct gw__blocks blocks;   /* bitmap_off, pages_off absolute */
	struct gw__bitmap *present; /* one per block; empty for an ignored one */
	struct gw__image_device *devices;
	uint32_t devices_n;
	bool switchover;               /* SWITCHOVER_START was in the stream */
	uint32_t parts;                /* empty iterations: how many rounds the save took */
	uint64_t text_off, text_bytes; /* VM description, the text alone */
	struct gw__vmdesc *desc;
	char anomaly[GW__IMAGE_ANOMALIES_MAX][160]; /* legal, but no QEMU writes it: for people */
	uint32_t anomaly_n;
};

/* Is this file a mapped-ram image, a plain stream, or neither? 1 image, 0 plain stream, negative errno with
 * why. */
int gw__image_probe(int fd, uint64_t base_off, struct gw__error *error);

/*
 * 0, or a negative errno with a sentence: -EPROTO for everything that is wrong with the bytes, an interrupted
 * save and a plain stream among it; -E2BIG beyond the limits above; -ENOMEM; or what the system said. open_fd
 * takes the descriptor in either case; `path` is for sentences.
 */
int gw__image_open(const char *path, uint64_t base_off, struct gw__image **image, struct gw__error *error);
int gw__image_open_fd(int fd, const char *path, uint64_t base_off, struct gw__image **image, struct gw__error *error);
void gw__image_close(struct gw__image *image); /* NULL is fine */

/*
 * `n` pages from page `first` of a block that is not ignored, into memory. Pages without their bit are zeros,
 * whatever the file holds. -ENODATA when the file became shorter since it was opened.
 */
int gw__image_read_pages(const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n, void *to, struct gw__error *error);
/* The same for pages that all have their bit; GW__WOULD_BLOCK if it would have to wait for the disk. */
int gw__image_read_pages_now(const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n, void *to);
/* These pages will be read soon. Costs about a microsecond for each that is not in memory. */
void gw__image_readahead(const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n);
/*
 * The first page of a block that is not ignored which has no bit, and content in the file all the same: whoever maps the file as memory would
 * see it. The number of pages if there is none. Only data among absent pages is read.
 */
int gw__image_find_stale(const struct gw__image *image, uint32_t block, struct gw__cancel_check cancel, uint64_t *page,
	struct gw__error *error);
/* Raw bytes of the file (device state, description). A short file is -ENODATA. */
int gw__image_read_at(const struct gw__image *image, uint64_t off, void *to, size_t n, struct gw__error *error);

/* Only while nobody reads it: `fd` can write. Absent pages with content become holes, so that gw__image_find_stale finds none. */
int gw__image_clear_stale(const struct gw__image *image, int fd, struct gw__cancel_check cancel, struct gw__error *error);
/* Of its guest when it was stopped, as its device state has it (docs/spec/stream.md 8.4). "": not told, or no name. */
enum { GW__IMAGE_RUN_STATE_BYTES = 33 };
int gw__image_run_state(const struct gw__image *image, char name[GW__IMAGE_RUN_STATE_BYTES], struct gw__error *error);

/* The same for copies of an image wherever they lie, different for any other guest (docs/spec/working-set.md 3). Reads all device state. */
int gw__image_fingerprint(const struct gw__image *image, uint8_t id[GW__IMAGE_FINGERPRINT_BYTES], struct gw__error *error);

#endif
