/* SPDX-License-Identifier: MIT */
/*
 * A mapped-ram image on disk: the reader's view (docs/spec/mapped-ram.md). Opening checks everything the spec's
 * section 9 lists, so whoever holds one may trust its offsets. Read-only; pages may be read from several threads.
 */
#ifndef GW_IMAGE_IMAGE_H
#define GW_IMAGE_IMAGE_H

#include "base/bitmap.h"
#include "base/error.h"
#include "wire/header.h"
#include "wire/item.h"
#include "wire/ram.h"
#include "wire/vmdesc.h"

/* A device section as it stands in the file: header, body and footer. */
struct gw__image_device {
	struct gw__section section;
	uint64_t off;		 /* absolute, of the type byte */
	uint64_t bytes;		 /* of the whole section */
	uint64_t body_off, body_bytes;
	bool early;	     /* before the end of RAM */
	bool before_ram;     /* even before the RAM section's start */
};

struct gw__image {
	int fd;
	char path[4096];
	uint64_t base_off;	  /* where the stream starts in the file */
	uint64_t file_bytes;
	uint64_t end_off;	  /* behind the last byte of the stream */
	struct gw__config config;
	uint32_t ram_id;	  /* section id of RAM */
	struct gw__blocks blocks; /* bitmap_off, pages_off absolute */
	struct gw__bitmap *present; /* one per block; empty for an ignored one */
	struct gw__image_device *devices;
	uint32_t devices_n;
	bool switchover;	  /* SWITCHOVER_START was in the stream */
	uint32_t parts;		  /* empty iterations: how many rounds the save took */
	uint64_t text_off, text_bytes; /* VM description; 0 bytes: none */
	struct gw__vmdesc *desc;       /* NULL without */
	char odd[8][160];	       /* warnings, for people */
	uint32_t odd_n;
};

/* Is this file a mapped-ram image, a plain stream, or neither? 1 image, 0 plain stream, negative errno with why. */
int gw__image_probe(int fd, uint64_t base_off, struct gw__why *why);

int gw__image_open(const char *path, uint64_t base_off, struct gw__image **image, struct gw__why *why);
int gw__image_open_fd(int fd, const char *path, uint64_t base_off, struct gw__image **image, struct gw__why *why); /* takes fd */
void gw__image_close(struct gw__image *image); /* NULL is fine */

/* `n` pages from page `first` of a block, into memory. Pages without their bit are zeros, whatever the file holds. */
int gw__image_read_pages(const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n, void *to,
	struct gw__why *why);
/* Raw bytes of the file (device state, description). A short file is an error. */
int gw__image_read_at(const struct gw__image *image, uint64_t off, void *to, size_t n, struct gw__why *why);

#endif
