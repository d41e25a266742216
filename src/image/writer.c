/* SPDX-License-Identifier: MIT */
/* The order of things in a mapped-ram file: the small records between the page regions. See writer.h. */
#include "image/writer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/math.h"
#include "image/fileio.h"
#include "image/lane.h"
#include "image/writer_state.h"
#include "wire/item.h"

typedef unsigned long long ull;

enum {
	HEAD_ROOM = 8192, /* magic, version, configuration: at most 5.4 kB */
	END_ROOM = 64,    /* END of RAM: 18 bytes */
	BITMAP_ROOM = 65536,
};

/*
 * A disk that is full takes no more; what it took before is as good as ever, if a descriptor that no error was reported on yet can still
 * sync it. (Where a file system puts writes off, the failure may be that of an earlier one.)
 */
static bool is_only_full(const struct gw__image_writer *w, int r)
{
	bool full = r == -ENOSPC || r == -EDQUOT || r == -EFBIG;
	return full && w->witness_fd >= 0 && fdatasync(w->witness_fd) == 0;
}

int gw__writer_fail(struct gw__image_writer *w, int r)
{
	int none = 0;
	if (r >= 0)
		return r;
	__atomic_compare_exchange_n(&w->failed, &none, r, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	if (w->partial && !is_only_full(w, r))
		gw__partial_distrust(w->partial);
	return r;
}

static int put_here(struct gw__image_writer *w, const void *bytes, size_t n, struct gw__why *why)
{
	int r = gw__file_write(w->file.fd, w->file.target.path, w->cursor, bytes, n, why);
	if (!r)
		w->cursor += n;
	return gw__writer_fail(w, r);
}

int gw__writer_put_record(struct gw__image_writer *w, const struct gw__wr *c, struct gw__why *why)
{
	assert(!c->full);
	return put_here(w, c->start, gw__wr_used(c), why);
}

int gw__image_create(const char *path, const struct gw__image_writer_opts *o, struct gw__image_writer **writer, struct gw__why *why)
{
	*writer = NULL;
	if (o->base_off > INT64_MAX / 2)
		return gw__why_set(why, -EINVAL, "%s: an image cannot begin at offset %llu", path, (ull)o->base_off);
	struct gw__image_writer *w = calloc(1, sizeof *w);
	if (!w)
		return gw__why_set(why, -ENOMEM, "no memory for the writer of %s", path);
	w->opts = *o;
	w->cursor = o->base_off;
	w->direct_fd = w->witness_fd = -1;
	int r = gw__outfile_open(path, o->visible, &w->file, why);
	if (!r && o->direct)
		r = gw__outfile_open_direct(&w->file, &w->direct_fd, why);
	if (!r)
		r = gw__outfile_keep_head(&w->file, o->base_off, why);
	if (r) {
		gw__image_writer_close(w);
		return r;
	}
	*writer = w;
	return 0;
}

void gw__image_writer_close(struct gw__image_writer *w)
{
	if (!w)
		return;
	gw__lane_free(w->stage.lane);
	if (w->direct_fd >= 0)
		close(w->direct_fd);
	if (w->witness_fd >= 0)
		close(w->witness_fd);
	gw__outfile_drop_file(&w->file);
	for (uint32_t i = 0; w->maps && !w->partial && i < w->blocks.n; i++) {
		gw__bitmap_fini(&w->maps[i].present);
		gw__bitmap_fini(&w->maps[i].seen);
	}
	free(w->maps);
	gw__partial_close(w->prepared);
	gw__partial_close(w->partial);
	gw__target_fini(&w->file.target);
	free(w->between);
	gw__blocks_fini(&w->blocks);
	free(w);
}

int gw__image_put_config(struct gw__image_writer *w, const struct gw__config *config, struct gw__why *why)
{
	assert(w->phase == GW__WRITER_HEAD);
	struct gw__config c = *config;
	if (gw__config_add_cap(&c, "mapped-ram"))
		return gw__writer_fail(w, gw__why_set(why, -ENOSPC,
						  "the configuration has no room for the capability "
						  "mapped-ram beside its %u others",
						  config->caps_n));
	uint8_t buf[HEAD_ROOM];
	struct gw__wr wr = gw__wr_over(buf, sizeof buf);
	gw__header_encode(&wr);
	gw__config_encode(&wr, &c);
	w->page_bytes = gw__config_page_bytes(&c);
	w->ignore_shared = c.ignore_shared;
	w->phase = GW__WRITER_EARLY;
	int r = w->direct_fd < 0 ? 0 : gw__writer_check_direct(w, why);
	if (r)
		return gw__writer_fail(w, r);
	return gw__writer_put_record(w, &wr, why);
}

int gw__image_put_raw(struct gw__image_writer *w, const void *bytes, size_t n, struct gw__why *why)
{
	assert(w->phase != GW__WRITER_HEAD && w->phase != GW__WRITER_DONE);
	if (w->phase == GW__WRITER_RAM && w->ignore_shared)
		return gw__writer_keep_between(w, bytes, n, why);
	return put_here(w, bytes, n, why);
}

/* Only the pieces with a bit in them: the hole in between says the same. */
static int put_bitmap(struct gw__image_writer *w, const struct gw__block *b, const struct gw__bitmap *present, struct gw__why *why)
{
	uint8_t buf[BITMAP_ROOM];
	uint64_t bytes = gw__bitmap_wire_bytes(present->bits), bit = gw__bitmap_next_set(present, 0);
	int r = 0;
	while (!r && bit < present->bits) {
		uint64_t at = gw__round_down(bit / 8, sizeof buf);
		size_t n = gw__min(sizeof buf, bytes - at);
		gw__bitmap_wire_put(present, at, buf, n);
		r = gw__file_write(w->file.fd, w->file.target.path, b->bitmap_off + at, buf, n, why);
		bit = gw__bitmap_next_set(present, (at + n) * 8);
	}
	return gw__writer_fail(w, r);
}

int gw__image_put_ram_end(struct gw__image_writer *w, struct gw__why *why)
{
	assert(w->phase == GW__WRITER_RAM);
	int settled = gw__writer_settle_stage(w, why);
	if (!settled && w->ignore_shared)
		settled = gw__writer_settle_ignored(w, why);
	if (settled)
		return gw__writer_fail(w, settled);
	assert(w->failed || __atomic_load_n(&w->under_way, __ATOMIC_ACQUIRE) == 0); /* lanes were flushed */
	w->phase = GW__WRITER_DEVICES;
	for (uint32_t i = 0; i < w->blocks.n; i++) {
		int r = w->blocks.v[i].ignored ? 0 : put_bitmap(w, &w->blocks.v[i], &w->maps[i].present, why);
		if (r)
			return r;
	}
	uint8_t buf[END_ROOM];
	struct gw__wr wr = gw__wr_over(buf, sizeof buf);
	const struct gw__section end = {.type = GW__ITEM_END, .id = w->ram_id};
	gw__section_encode(&wr, &end);
	gw__wr_be64(&wr, GW__RAM_EOS);
	gw__footer_encode(&wr, w->ram_id);
	return gw__writer_put_record(w, &wr, why);
}

/* Who finds the mark has only to cut it off and to give the name; who does not find it needs the image's marker, which is behind the end. */
static int finish_partial(struct gw__image_writer *w, struct gw__why *why)
{
	int r = gw__writer_sync(w, why);
	return r ? r : gw__partial_finish(w->partial, w->cursor, why);
}

int gw__writer_cut(struct gw__image_writer *w, uint64_t bytes, struct gw__why *why)
{
	if (ftruncate(w->file.fd, (off_t)bytes) == 0)
		return 0;
	return gw__why_errno(why, errno, "cannot set the length of %s to %llu bytes", w->file.target.path, (ull)bytes);
}

int gw__image_sync(struct gw__image_writer *w, struct gw__why *why)
{
	assert(w->phase == GW__WRITER_DEVICES);
	if (w->failed)
		return gw__why_set(why, w->failed, "%s was not written: an earlier write of it failed", w->file.target.path);
	int r = w->partial ? 0 : gw__writer_cut(w, w->cursor, why);
	return gw__writer_fail(w, r ? r : gw__writer_sync(w, why));
}

int gw__image_commit(struct gw__image_writer *w, struct gw__why *why)
{
	const char *path = w->file.target.path;
	assert(w->phase == GW__WRITER_DEVICES);
	if (w->failed)
		return gw__why_set(why, w->failed, "%s was not written: an earlier write of it failed", path);
	int r = w->partial ? finish_partial(w, why) : 0;
	if (!r)
		r = gw__writer_cut(w, w->cursor, why);
	if (r)
		return gw__writer_fail(w, r);
	r = gw__outfile_commit(&w->file, w->opts.unsynced, why);
	if (w->file.in_place)
		w->phase = GW__WRITER_DONE;
	return gw__writer_fail(w, r);
}
