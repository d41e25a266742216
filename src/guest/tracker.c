/* SPDX-License-Identifier: MIT */
/* What all trackers have in common; see tracker.h. */
#include "guest/tracker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void *gw__tracker_alloc(size_t bytes, const struct gw__tracker_kind *kind, const struct gw__tracked *blocks, uint32_t n,
	uint64_t page_bytes, struct gw__error *error)
{
	size_t slots = 0, at = 0;
	for (uint32_t i = 0; i < n; i++)
		slots += blocks[i].slots;
	struct gw__tracker *t = calloc(1, bytes);
	struct gw__tracked *block = calloc(1, n * sizeof *block + slots * sizeof *block->slot + 1);
	if (!t || !block) {
		free(t);
		free(block);
		gw__error_set(error, -ENOMEM, "no memory for a tracker of %u blocks", n);
		return NULL;
	}
	struct gw__tracked_slot *slot = (struct gw__tracked_slot *)(void *)(block + n);
	*t = (struct gw__tracker){.kind = kind, .page_bytes = page_bytes, .blocks = n, .block = block};
	for (uint32_t i = 0; i < n; i++) {
		block[i] = blocks[i];
		block[i].slot = slot + at;
		if (blocks[i].slots)
			memcpy(slot + at, blocks[i].slot, blocks[i].slots * sizeof *slot);
		at += blocks[i].slots;
	}
	return t;
}

void gw__tracker_free(struct gw__tracker *t)
{
	if (!t)
		return;
	gw__tracker_stop(t);
	t->kind->free(t);
	free(t->block);
	free(t);
}

int gw__tracker_start(struct gw__tracker *t, struct gw__error *error)
{
	int r = t->started ? -EALREADY : t->kind->start(t, error);
	t->started |= r == 0;
	return r;
}

int gw__tracker_take(struct gw__tracker *t, uint32_t block, uint64_t *bitmap, struct gw__error *error)
{
	return t->kind->take(t, block, bitmap, true, error);
}

int gw__tracker_peek(struct gw__tracker *t, uint32_t block, uint64_t *bitmap, struct gw__error *error)
{
	return t->kind->take(t, block, bitmap, false, error);
}

void gw__tracker_stop(struct gw__tracker *t)
{
	if (t->started)
		t->kind->stop(t);
	t->started = false;
}
