/* SPDX-License-Identifier: MIT */
/*
 * x-ignore-shared: which blocks are not in the image is known only when RAM ends.
 *
 * A stream lists shared blocks like all others and then sends no page of them (docs/spec/stream.md 7.2), not even zeros. So
 * every block gets its place first; at the end those that nothing was ever put into lose it, and the list is written
 * again. Entries only move towards the front, pages stay where they are.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/write/writer_private.h"
#include "wire/framing.h"
#include "wire/mapped.h"

/* What stands between START and END (early devices) comes after the last block, whose end may move. */
int gw__writer_keep_between(struct gw__image_writer *w, const void *bytes, size_t n, struct gw__error *error)
{
	uint8_t *more = realloc(w->between, w->between_bytes + n + 1);
	if (!more)
		return gw__writer_fail(w, gw__error_set(error, -ENOMEM, "no memory for %zu bytes of device state", n));
	memcpy(more + w->between_bytes, bytes, n);
	w->between = more;
	w->between_bytes += n;
	return 0;
}

static uint64_t entry_bytes(const struct gw__block *b)
{
	return 1 + strlen(b->name) + 8 + 8 + GW__MAPPED_HEADER_BYTES; /* name, length, address, header */
}

static uint64_t start_bytes(void) { return 1 + 4 + 1 + strlen("ram") + 4 + 4 + 8; /* section header with its name, then the total */ }

int gw__writer_settle_ignored(struct gw__image_writer *w, struct gw__error *error)
{
	uint64_t at = w->start_off + start_bytes();
	for (uint32_t i = 0; i < w->blocks.n; i++) {
		struct gw__block *b = &w->blocks.v[i];
		at += entry_bytes(b);
		if (!b->ignored && gw__bitmap_next_set(&w->maps[i].received, 0) == w->maps[i].received.bits) {
			b->ignored = true;
			b->bitmap_off = b->pages_off = 0;
		}
		if (b->ignored)
			continue;
		b->bitmap_off = at;
		at = b->pages_off + b->used_bytes;
	}
	w->cursor = w->start_off;
	w->phase = GW__WRITER_DEVICES; /* what comes now is put immediately */
	int r = gw__writer_put_list(w, error);
	return r ? r : gw__image_put_raw(w, w->between, w->between_bytes, error);
}
