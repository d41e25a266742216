/* SPDX-License-Identifier: MIT */
/* The order of things in a mapped-ram file: the small records between the page regions. See writer.h. */
#include "image/write/writer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/math.h"
#include "image/file/absent.h"
#include "image/file/fileio.h"
#include "image/write/page_writer.h"
#include "image/write/writer_private.h"
#include "wire/framing.h"
#include "wire/ram_section.h"

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
		gw__recv_state_invalidate_live_bitmaps(w->partial);
	return r;
}

static int put_here(struct gw__image_writer *w, const void *bytes, size_t n, struct gw__error *error)
{
	int r = gw__file_write(w->file.fd, w->file.dest.path, w->cursor, bytes, n, error);
	if (!r)
		w->cursor += n;
	return gw__writer_fail(w, r);
}

int gw__writer_put_record(struct gw__image_writer *w, const struct gw__wr *c, struct gw__error *error)
{
	assert(!c->full);
	return put_here(w, c->start, gw__wr_used(c), error);
}

int gw__image_create(const char *path, const struct gw__image_writer_opts *o, struct gw__image_writer **writer, struct gw__error *error)
{
	*writer = NULL;
	if (o->base_off > INT64_MAX / 2)
		return gw__error_set(error, -EINVAL, "%s: an image cannot begin at offset %llu", path, (ull)o->base_off);
	struct gw__image_writer *w = calloc(1, sizeof *w);
	if (!w)
		return gw__error_set(error, -ENOMEM, "no memory for the writer of %s", path);
	w->opts = *o;
	w->cursor = o->base_off;
	w->direct_fd = w->witness_fd = -1;
	int r = gw__atomic_file_open(path, o->visible, &w->file, error);
	if (!r && o->direct)
		r = gw__atomic_file_open_direct(&w->file, &w->direct_fd, error);
	if (!r)
		r = gw__atomic_file_keep_head(&w->file, o->base_off, error);
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
	gw__page_writer_free(w->stage.page_writer);
	if (w->direct_fd >= 0)
		close(w->direct_fd);
	if (w->witness_fd >= 0)
		close(w->witness_fd);
	gw__atomic_file_close_file(&w->file);
	for (uint32_t i = 0; w->maps && i < w->blocks.n; i++) {
		gw__bitmap_fini(&w->maps[i].stale);
		if (w->partial)
			continue;
		gw__bitmap_fini(&w->maps[i].present);
		gw__bitmap_fini(&w->maps[i].received);
	}
	free(w->maps);
	gw__recv_state_close(w->prepared);
	gw__recv_state_close(w->partial);
	gw__destination_path_fini(&w->file.dest);
	free(w->between);
	gw__blocks_fini(&w->blocks);
	free(w);
}

int gw__image_put_config(struct gw__image_writer *w, const struct gw__config *config, struct gw__error *error)
{
	assert(w->phase == GW__WRITER_HEAD);
	struct gw__config c = *config;
	if (gw__config_add_cap(&c, "mapped-ram"))
		return gw__writer_fail(w, gw__error_set(error, -ENOSPC,
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
	int r = w->direct_fd < 0 ? 0 : gw__writer_check_direct(w, error);
	if (r)
		return gw__writer_fail(w, r);
	return gw__writer_put_record(w, &wr, error);
}

int gw__image_put_raw(struct gw__image_writer *w, const void *bytes, size_t n, struct gw__error *error)
{
	assert(w->phase != GW__WRITER_HEAD && w->phase != GW__WRITER_DONE);
	if (w->phase == GW__WRITER_RAM && w->ignore_shared)
		return gw__writer_keep_between(w, bytes, n, error);
	return put_here(w, bytes, n, error);
}

const struct gw__bitmap *gw__image_present(const struct gw__image_writer *w, uint32_t block) { return &w->maps[block].present; }

uint64_t gw__image_raw_off(const struct gw__image_writer *w) { return w->cursor; }

int gw__image_replace_raw(struct gw__image_writer *w, uint64_t off, const void *bytes, size_t n, struct gw__error *error)
{
	assert(off + n <= w->cursor && w->phase != GW__WRITER_DONE);
	return gw__writer_fail(w, gw__file_write(w->file.fd, w->file.dest.path, off, bytes, n, error));
}

int gw__image_check_room(const struct gw__image_writer *w, uint64_t bytes, struct gw__error *error)
{
	struct statvfs s;
	if (fstatvfs(w->file.fd, &s) || !s.f_frsize || !s.f_blocks)
		return 0;
	uint64_t room = (uint64_t)s.f_bavail * s.f_frsize;
	if (room >= bytes)
		return 0;
	return gw__error_set(error, -ENOSPC, "no room for %s: %llu bytes are free, %llu are needed", w->file.dest.path, (ull)room,
		(ull)bytes);
}

/* Only the pieces with a bit in them: the hole in between says the same. */
static int put_bitmap(struct gw__image_writer *w, const struct gw__block *b, const struct gw__bitmap *present, struct gw__error *error)
{
	uint8_t buf[BITMAP_ROOM];
	uint64_t bytes = gw__bitmap_wire_bytes(present->bits), bit = gw__bitmap_next_set(present, 0);
	int r = 0;
	while (!r && bit < present->bits) {
		uint64_t at = gw__round_down(bit / 8, sizeof buf);
		size_t n = gw__min(sizeof buf, bytes - at);
		gw__bitmap_wire_put(present, at, buf, n);
		r = gw__file_write(w->file.fd, w->file.dest.path, b->bitmap_off + at, buf, n, error);
		bit = gw__bitmap_next_set(present, (at + n) * 8);
	}
	return gw__writer_fail(w, r);
}

/* Old content under a cleared bit goes: who maps the file as memory must find zeros there. A writer that took over looks at all of them. */
static int clear_absent(struct gw__image_writer *w, uint32_t block, struct gw__error *error)
{
	const struct gw__page_maps *m = &w->maps[block];
	const struct gw__absent a = {.fd = w->file.fd,
		.path = w->file.dest.path,
		.pages_off = w->blocks.v[block].pages_off,
		.page_bytes = w->page_bytes,
		.present = &m->present,
		.among = m->stale.bits ? &m->stale : NULL};
	return gw__writer_fail(w, gw__absent_clear(&a, error));
}

int gw__image_put_ram_end(struct gw__image_writer *w, struct gw__error *error)
{
	assert(w->phase == GW__WRITER_RAM);
	int settled = gw__writer_settle_stage(w, error);
	if (!settled && w->ignore_shared)
		settled = gw__writer_settle_ignored(w, error);
	if (settled)
		return gw__writer_fail(w, settled);
	assert(w->failed || __atomic_load_n(&w->under_way, __ATOMIC_ACQUIRE) == 0); /* page writers were flushed */
	w->phase = GW__WRITER_DEVICES;
	for (uint32_t i = 0; i < w->blocks.n; i++) {
		int r = w->blocks.v[i].ignored ? 0 : clear_absent(w, i, error);
		if (!r && !w->blocks.v[i].ignored)
			r = put_bitmap(w, &w->blocks.v[i], &w->maps[i].present, error);
		if (r)
			return r;
	}
	uint8_t buf[END_ROOM];
	struct gw__wr wr = gw__wr_over(buf, sizeof buf);
	const struct gw__section end = {.type = GW__ITEM_END, .id = w->ram_id};
	gw__section_encode(&wr, &end);
	gw__ram_section_encode_end(&wr, w->ram_id);
	return gw__writer_put_record(w, &wr, error);
}

/* Who finds the mark has only to cut it off and to give the name; who does not find it needs the image's marker, which is after the end. */
static int finish_partial(struct gw__image_writer *w, struct gw__error *error)
{
	int r = gw__writer_sync(w, error);
	return r ? r : gw__recv_state_finish(w->partial, w->cursor, error);
}

int gw__writer_cut(struct gw__image_writer *w, uint64_t bytes, struct gw__error *error)
{
	if (ftruncate(w->file.fd, (off_t)bytes) == 0)
		return 0;
	return gw__error_errno(error, errno, "cannot set the length of %s to %llu bytes", w->file.dest.path, (ull)bytes);
}

int gw__image_sync(struct gw__image_writer *w, struct gw__error *error)
{
	assert(w->phase == GW__WRITER_DEVICES);
	if (w->failed)
		return gw__error_set(error, w->failed, "%s was not written: an earlier write of it failed", w->file.dest.path);
	int r = w->partial ? 0 : gw__writer_cut(w, w->cursor, error);
	return gw__writer_fail(w, r ? r : gw__writer_sync(w, error));
}

int gw__image_commit(struct gw__image_writer *w, struct gw__error *error)
{
	const char *path = w->file.dest.path;
	assert(w->phase == GW__WRITER_DEVICES);
	if (w->failed)
		return gw__error_set(error, w->failed, "%s was not written: an earlier write of it failed", path);
	int r = w->partial ? finish_partial(w, error) : 0;
	if (!r)
		r = gw__writer_cut(w, w->cursor, error);
	if (r)
		return gw__writer_fail(w, r);
	r = gw__atomic_file_commit(&w->file, w->opts.unsynced, error);
	if (w->file.renamed)
		w->phase = GW__WRITER_DONE;
	return gw__writer_fail(w, r);
}
