/* SPDX-License-Identifier: MIT */
/* START of RAM in a mapped-ram file: where every block goes (docs/spec/mapped-ram.md 2), and the list that
 * says so. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "image/write/writer_private.h"
#include "wire/mapped.h"
#include "wire/ram_section.h"

typedef unsigned long long ull;

enum { RECORD_ROOM = GW__RAM_ENTRY_MAX_BYTES }; /* START and the end of the section are shorter */

static void encode_entry(const struct gw__image_writer *w, const struct gw__block *b, struct gw__wr *wr)
{
	const struct gw__blocks_rule rule = {.page_bytes = w->page_bytes, .address = w->ignore_shared, .mapped_ram = true};
	gw__ram_section_encode_entry(wr, &rule, b);
}

/* Decides where everything up to the end of the last block goes; writes nothing. */
static int place_blocks(struct gw__image_writer *w, uint64_t *end_off, struct gw__error *error)
{
	uint8_t buf[RECORD_ROOM];
	struct gw__wr wr = gw__wr_over(buf, sizeof buf);
	gw__ram_section_encode_start(&wr, w->ram_id, w->blocks.total_bytes);
	uint64_t at = w->cursor + gw__wr_used(&wr);
	for (uint32_t i = 0; i < w->blocks.n; i++) {
		struct gw__block *b = &w->blocks.v[i];
		struct gw__mapped_header h;
		wr = gw__wr_over(buf, sizeof buf);
		encode_entry(w, b, &wr);
		at += gw__wr_used(&wr);
		if (b->ignored)
			continue;
		if (gw__mapped_place(at, b->used_bytes, w->page_bytes, &h))
			return gw__error_set(error, -EFBIG, "block \"%s\" with %llu bytes does not fit into any file from offset %llu on",
				b->name, (ull)b->used_bytes, (ull)at);
		b->bitmap_off = h.bitmap_off;
		b->pages_off = h.pages_off;
		at = h.pages_off + b->used_bytes;
	}
	*end_off = at;
	return 0;
}

/* The file will reach beyond `end_off` for certain: better to hear now than after the last page that it may
 * not. */
static int reserve_size(struct gw__image_writer *w, uint64_t end_off, struct gw__error *error)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && end_off >= limit.rlim_cur)
		return gw__error_set(error, -EFBIG, "%s will be longer than %llu bytes, but this process may only write files of %llu",
			w->file.dest.path, (ull)end_off, (ull)limit.rlim_cur);
	if (ftruncate(w->file.fd, (off_t)end_off))
		return gw__error_errno(error, errno, "%s cannot become a file of %llu bytes", w->file.dest.path, (ull)end_off);
	return 0;
}

static int copy_blocks(struct gw__image_writer *w, const struct gw__blocks *blocks, struct gw__error *error)
{
	for (uint32_t i = 0; i < blocks->n; i++) {
		struct gw__block b = blocks->v[i];
		assert(b.used_bytes && b.used_bytes % w->page_bytes == 0);
		assert(!b.ignored || w->ignore_shared);
		b.bitmap_off = b.pages_off = 0;
		if (gw__blocks_add(&w->blocks, &b))
			return gw__error_set(error, -ENOMEM, "no memory for the list of %u blocks", blocks->n);
	}
	return 0;
}

static int make_maps(struct gw__image_writer *w, struct gw__error *error)
{
	w->maps = calloc(w->blocks.n ? w->blocks.n : 1, sizeof *w->maps);
	bool ok = w->maps;
	for (uint32_t i = 0; ok && i < w->blocks.n; i++) {
		uint64_t pages = w->blocks.v[i].used_bytes / w->page_bytes;
		if (!w->blocks.v[i].ignored)
			ok = !gw__bitmap_init(&w->maps[i].present, pages) && !gw__bitmap_init(&w->maps[i].received, pages) &&
			     !gw__bitmap_init(&w->maps[i].stale, pages);
	}
	return ok ? 0 : gw__error_set(error, -ENOMEM, "no memory for the bitmaps of %llu bytes of RAM", (ull)w->blocks.total_bytes);
}

int gw__writer_put_list(struct gw__image_writer *w, struct gw__error *error)
{
	uint8_t buf[RECORD_ROOM];
	struct gw__wr wr = gw__wr_over(buf, sizeof buf);
	gw__ram_section_encode_start(&wr, w->ram_id, w->blocks.total_bytes);
	int r = gw__writer_put_record(w, &wr, error);
	for (uint32_t i = 0; !r && i < w->blocks.n; i++) {
		const struct gw__block *b = &w->blocks.v[i];
		wr = gw__wr_over(buf, sizeof buf);
		encode_entry(w, b, &wr);
		r = gw__writer_put_record(w, &wr, error);
		assert(r || b->ignored || w->cursor == b->bitmap_off);
		if (!b->ignored)
			w->cursor = b->pages_off + b->used_bytes;
	}
	if (r)
		return r;
	wr = gw__wr_over(buf, sizeof buf);
	gw__ram_section_encode_end(&wr, w->ram_id);
	return gw__writer_put_record(w, &wr, error);
}

int gw__image_put_blocks(struct gw__image_writer *w, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error)
{
	assert(w->phase == GW__WRITER_EARLY);
	uint64_t end_off = 0;
	w->phase = GW__WRITER_RAM;
	w->ram_id = section_id;
	w->start_off = w->cursor;
	int r = copy_blocks(w, blocks, error);
	if (!r)
		r = place_blocks(w, &end_off, error);
	if (!r)
		r = reserve_size(w, end_off, error);
	if (!r)
		r = make_maps(w, error);
	return gw__writer_fail(w, r ? r : gw__writer_put_list(w, error));
}
