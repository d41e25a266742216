/* SPDX-License-Identifier: MIT */
/*
 * A guest that runs in this process: its RAM blocks, its device sections, and which pages were reported as written. What may be done with it, and
 * when, is not known here.
 *
 * Blocks and devices are changed by the owner's thread while no call runs. gw__guest_dirty and gw__guest_discard come from any thread, at any time: they
 * read the list of blocks, whose entries are published and never freed before the guest, and set bits in words that are atomic.
 */
#ifndef GW_GUEST_GUEST_H
#define GW_GUEST_GUEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
	GW__GUEST_BLOCKS_MAX = 4096,
	GW__GUEST_DEVICES_MAX = 4096,
	GW__GUEST_NAME_MAX = 255,
};

struct gw__guest_block {
	char name[GW__GUEST_NAME_MAX + 1];
	uint8_t *host;
	uint64_t bytes, page_bytes; /* the second: of the memory that backs it */
	int fd;                     /* -1: private memory. Borrowed */
	uint64_t fd_offset;
	_Atomic uint64_t *told; /* a bit per guest page; words */
	_Atomic bool removed;
};

/* Where a device writes its state to. */
struct gw_out {
	uint8_t *bytes;
	size_t n, room, max_bytes;
	int failed; /* -E2BIG, -ENOMEM: whatever the hook returns */
};
int gw__out_write(struct gw_out *out, const void *bytes, size_t n);

struct gw__guest_device {
	char name[GW__GUEST_NAME_MAX + 1];
	uint32_t instance, version, oldest;
	bool optional;
	int (*save)(void *ctx, struct gw_out *out);
	int (*load)(void *ctx, uint32_t version, const uint8_t *bytes, size_t n);
	void *ctx;
};

/* As enum gw_why. */
enum gw__why { GW__WHY_LEAVE, GW__WHY_KEEP, GW__WHY_ARRIVED, GW__WHY_RETURNED, GW__WHY_CHECKPOINT, GW__WHY_FAILOVER };

/* What a guest is asked to do; its maker's. 0, or a negative errno; `pause` 1: it stood still already. */
struct gw__guest_ops {
	int (*pause)(void *ctx, enum gw__why why);
	int (*resume)(void *ctx, enum gw__why why);
	/* The VMM's own tracker: all NULL where there is none. */
	int (*dirty_start)(void *ctx);
	int (*dirty_take)(void *ctx, const char *block, uint64_t first, uint64_t pages, uint64_t *bitmap);
	void (*dirty_stop)(void *ctx);
};

struct gw__guest {
	/* Constant. */
	char machine[1024 + 1];
	bool has_uuid;
	uint8_t uuid[16];
	uint64_t page_bytes;
	bool tracks_writes; /* by userfaultfd (tracker.h), */
	int uffd;           /* this one; -1: one of ours */
	struct gw__guest_ops ops;
	void *ctx;

	/* The owner's, while no call runs; the call's, while one does. */
	bool uffd_agreed; /* its API, by an earlier call */
	struct gw__guest_device *device;
	uint32_t devices_n, devices_room;

	/* Published: entries below `blocks_n` may be read by any thread. */
	struct gw__guest_block *_Atomic block[GW__GUEST_BLOCKS_MAX];
	_Atomic uint32_t blocks_n;
	struct gw__guest_block **removed; /* the owner's: freed at the end */
	uint32_t removed_n;
	_Atomic bool tracking; /* reports count */
	/* Pages come when they are touched; NULL: they are all here. Used by who counts in `discarding` alone. */
	struct gw__demand *_Atomic demand;
	_Atomic uint32_t discarding;
};

struct gw__guest *gw__guest_new(void); /* NULL: no memory. All of it zero */
void gw__guest_free(struct gw__guest *g);

/* `block` is copied, without `told`, which is made. 0, or a negative errno with a sentence. */
int gw__guest_add_block(struct gw__guest *g, const struct gw__guest_block *block, struct gw__error *error);
int gw__guest_remove_block(struct gw__guest *g, const char *name, struct gw__error *error);
int gw__guest_add_device(struct gw__guest *g, const struct gw__guest_device *device, struct gw__error *error);
int gw__guest_remove_device(struct gw__guest *g, const char *name, uint32_t instance, struct gw__error *error);

/*
 * The state of a device into `out`, which has max_bytes and is freed by the caller in any case. *hook: it was its hook that failed. `most` is for the
 * sentence.
 */
int gw__guest_device_save(const struct gw__guest_device *d, struct gw_out *out, size_t most, bool *hook, struct gw__error *error);

/* The next block from *i on, which then stands after it; NULL: no more. */
struct gw__guest_block *gw__guest_next_block(const struct gw__guest *g, uint32_t *i);
struct gw__guest_block *gw__guest_find_block(const struct gw__guest *g, const char *name);

/* Any thread. -ENOENT, -ERANGE. */
int gw__guest_dirty(struct gw__guest *g, const char *block, uint64_t off, uint64_t bytes);
/* Any thread. Also -EINVAL: no whole pages; or what the kernel says. */
int gw__guest_discard(struct gw__guest *g, const char *block, uint64_t off, uint64_t bytes);
/* From when the memory is watched on, before it is touched; NULL: waits until no discard uses the other one. */
void gw__guest_set_demand(struct gw__guest *g, struct gw__demand *demand);
/* The memory of a block goes back to the host, and reads as zeros. 0 or a negative errno. */
int gw__guest_block_empty(const struct gw__guest_block *b, uint64_t off, uint64_t bytes);

static inline uint64_t gw__guest_block_pages(const struct gw__guest *g, const struct gw__guest_block *b)
{
	return b->bytes / g->page_bytes;
}
static inline uint64_t gw__guest_block_words(const struct gw__guest *g, const struct gw__guest_block *b)
{
	return (gw__guest_block_pages(g, b) + 63) / 64;
}

#endif
