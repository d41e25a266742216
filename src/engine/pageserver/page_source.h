/* SPDX-License-Identifier: MIT */
/*
 * Where the pages of a post-copy source come from: an image (image_pages.h), or the RAM of a guest of this process, which is paused
 * (engine/guest/source.c). Whatever it is, it does not change while pages are served. Borrowed from its maker by all modules of the page server.
 */
#ifndef GW_ENGINE_PAGESERVER_PAGE_SOURCE_H
#define GW_ENGINE_PAGESERVER_PAGE_SOURCE_H

#include "base/conditions.h"
#include "base/error.h"
#include "wire/header.h"
#include "wire/ram.h"

/* Where in a stream device sections are sent. */
enum gw__device_place {
	GW__DEVICES_BEFORE_LIST,
	GW__DEVICES_BEFORE_PACKAGE, /* after the block list, before the guest is handed over */
	GW__DEVICES_IN_PACKAGE,
};

struct gw__page_source;
struct gw__page_source_ops {
	/* The first page from `first` on with content, and the first one of zeros; `end`: there is none before it. */
	uint64_t (*next_content)(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t end);
	uint64_t (*next_zero)(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t end);
	/*
	 * `n` pages with content, at *pages: in `room`, or where they are anyway. Unless `may_wait`, GW__WOULD_BLOCK (and no error) if they have to come
	 * from a disk.
	 */
	int (*read)(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t n, bool may_wait, uint8_t *room,
		const uint8_t **pages, struct gw__error *error);
	/* These will be read soon. From a thread of its own; never called of a source that never says GW__WOULD_BLOCK. */
	void (*readahead)(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t n);
	/* The sections of this place, in order. *n: their bytes; device_bytes: those of all places. */
	int (*read_devices)(const struct gw__page_source *s, enum gw__device_place place, uint8_t *to, size_t *n, struct gw__error *error);
};

struct gw__page_source {
	const struct gw__page_source_ops *ops;
	const struct gw__config *config;
	const struct gw__blocks *blocks;
	uint32_t ram_id;
	size_t device_bytes;
	const void *ctx;
};

#endif
