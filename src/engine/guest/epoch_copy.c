/* SPDX-License-Identifier: MIT */
/* Copies of the pages of an epoch; see epoch_copy.h. */
#include "engine/guest/epoch_copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { AT_ONCE = 128 };

struct gw__epoch_copy {
	struct gw__guest *guest;
	struct gw__dirty_pages *dirty;  /* the guest's; borrowed */
	struct gw__dirty_pages *copied; /* the same blocks, over the copies */
	uint64_t pages;                 /* of this epoch */
	uint64_t touched_pages;         /* copies since memory was given back last, at most */
	uint32_t n;
	struct {
		uint8_t *copy;
		uint64_t bytes;
	} v[];
};

static int map_copies(struct gw__epoch_copy *e, const struct gw__blocks *blocks)
{
	for (; e->n < blocks->n; e->n++) {
		uint64_t bytes = blocks->v[e->n].used_bytes;
		void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (copy == MAP_FAILED)
			return -ENOMEM;
		e->v[e->n].copy = copy;
		e->v[e->n].bytes = bytes;
		gw__dirty_pages_set_host(e->copied, e->n, copy);
	}
	return 0;
}

int gw__epoch_copy_new(struct gw__guest *guest, const struct gw__blocks *blocks, struct gw__dirty_pages *dirty,
	struct gw__epoch_copy **made, struct gw__error *error)
{
	struct gw__epoch_copy *e = calloc(1, sizeof *e + blocks->n * sizeof e->v[0]);
	int r = e ? gw__dirty_pages_new(guest, blocks, &e->copied, error) : -ENOMEM;
	if (!r)
		r = map_copies(e, blocks);
	if (r) {
		gw__epoch_copy_free(e);
		return gw__error_set(error, -ENOMEM, "no memory for copies of the guest's pages");
	}
	e->guest = guest;
	e->dirty = dirty;
	*made = e;
	return 0;
}

void gw__epoch_copy_free(struct gw__epoch_copy *e)
{
	if (!e)
		return;
	for (uint32_t i = 0; i < e->n; i++)
		munmap(e->v[i].copy, e->v[i].bytes);
	gw__dirty_pages_free(e->copied);
	free(e);
}

int gw__epoch_copy_look(struct gw__epoch_copy *e, uint64_t *fresh, struct gw__error *error)
{
	uint64_t off[AT_ONCE];
	uint32_t block, n;
	int r = gw__dirty_pages_harvest(e->dirty, fresh, error);
	if (r)
		return r;
	while ((n = gw__dirty_pages_take(e->dirty, 0, AT_ONCE, &block, off))) {
		const uint8_t *host = gw__dirty_pages_host(e->dirty, block);
		for (uint32_t i = 0; i < n; i++) {
			memcpy(e->v[block].copy + off[i], host + off[i], e->guest->page_bytes);
			e->pages += gw__dirty_pages_add(e->copied, block, off[i]);
		}
	}
	return 0;
}

uint64_t gw__epoch_copy_pages(const struct gw__epoch_copy *e) { return e->pages; }

struct gw__dirty_pages *gw__epoch_copy_taken(struct gw__epoch_copy *e)
{
	gw__dirty_pages_rewind(e->copied);
	return e->copied;
}

void gw__epoch_copy_begin(struct gw__epoch_copy *e, uint64_t keep_pages)
{
	e->touched_pages += e->pages;
	e->pages = 0;
	if (e->touched_pages <= keep_pages)
		return;
	for (uint32_t i = 0; i < e->n; i++)
		madvise(e->v[i].copy, e->v[i].bytes, MADV_DONTNEED);
	e->touched_pages = 0;
}
