/* SPDX-License-Identifier: MIT */
/* An image that is filled again and again under a name of its own, and is reopened by another process; see gw__image_keep_as in writer.h. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "image/file/fileio.h"
#include "image/write/writer_private.h"

typedef unsigned long long ull;

int gw__image_keep_as(struct gw__image_writer *w, const char *name, struct gw__error *error)
{
	assert(w->phase == GW__WRITER_RAM && !w->partial);
	struct gw__error ignored = {0}; /* it speaks of a partial image */
	int r = gw__atomic_file_name_partial(&w->file, name, &ignored);
	if (r)
		return gw__error_set(error, r, "cannot give the memory of a guest the name %s beside %s: %s", name, w->file.dest.path,
			strerror(-r));
	r = gw__atomic_file_sync_folder(&w->file, &ignored); /* it speaks of a finished one */
	if (!r) {
		w->file.keep_partial = true;
		return 0;
	}
	unlinkat(w->file.dest.dir_fd, name, 0); /* now: the caller is going to remove what belongs to it */
	w->file.partial[0] = 0;
	return gw__error_set(error, r, "the name %s beside %s cannot be made safe on its disk: %s", name, w->file.dest.path, strerror(-r));
}

void gw__image_describe(const struct gw__image_writer *w, struct gw__recv_state_saved *saved)
{
	assert(w->phase == GW__WRITER_RAM);
	saved->marker_off = w->cursor;
	saved->base_off = w->opts.base_off;
	saved->start_off = w->start_off;
	saved->cursor = w->cursor;
	saved->ram_id = w->ram_id;
	saved->blocks = w->blocks; /* a view */
}

int gw__image_sync_pages(struct gw__image_writer *w, struct gw__error *error) { return gw__writer_fail(w, gw__writer_sync(w, error)); }

static int check_file(const struct gw__image_writer *w, const struct gw__recv_state_saved *saved, struct gw__error *error)
{
	struct stat st;
	int r = gw__recv_state_check_ours(w->file.fd, w->file.partial, error);
	if (r)
		return r;
	if (fstat(w->file.fd, &st))
		return gw__error_errno(error, errno, "cannot look at %s", w->file.partial);
	if ((uint64_t)st.st_size >= saved->start_off)
		return 0;
	return gw__error_set(error, -EPROTO, "%s has %llu bytes, which is less than what comes before its pages (%llu bytes)",
		w->file.partial, (ull)st.st_size, (ull)saved->start_off);
}

static int take_maps(struct gw__image_writer *w, struct gw__view maps, struct gw__error *error)
{
	for (uint32_t i = 0; i < w->blocks.n; i++) {
		uint64_t bits = w->blocks.v[i].used_bytes / w->page_bytes, n = gw__bitmap_wire_bytes(bits);
		if (n > maps.n)
			return gw__error_set(error, -EPROTO, "the bitmap of block \"%s\" is missing", w->blocks.v[i].name);
		if (gw__bitmap_init(&w->maps[i].present, bits) || gw__bitmap_init(&w->maps[i].received, bits))
			return gw__error_set(error, -ENOMEM, "no memory for the bitmaps of %s", w->file.dest.path);
		if (!gw__bitmap_wire_get(&w->maps[i].present, 0, maps.p, n))
			return gw__error_set(error, -EPROTO, "the bitmap of block \"%s\" has pages after its end", w->blocks.v[i].name);
		gw__bitmap_set_range(&w->maps[i].received, 0, bits);
		maps = (struct gw__view){maps.p + n, maps.n - n};
	}
	return 0;
}

/* A finished image has bitmaps, of which only what has a bit will be written again. */
static int clear_maps(const struct gw__image_writer *w, struct gw__error *error)
{
	static const uint8_t zeros[65536];
	int r = 0;
	for (uint32_t i = 0; !r && i < w->blocks.n; i++) {
		uint64_t n = gw__bitmap_wire_bytes(w->maps[i].present.bits);
		for (uint64_t at = 0; !r && at < n; at += sizeof zeros)
			r = gw__file_write(w->file.fd, w->file.dest.path, w->blocks.v[i].bitmap_off + at, zeros,
				gw__min(sizeof zeros, n - at), error);
	}
	return r;
}

static int take_saved(struct gw__image_writer *w, const struct gw__recv_state_saved *saved, struct gw__error *error)
{
	w->opts.base_off = saved->base_off;
	w->cursor = saved->cursor;
	w->start_off = saved->start_off;
	w->ram_id = saved->ram_id;
	w->page_bytes = gw__config_page_bytes(&saved->config);
	w->phase = GW__WRITER_RAM;
	int r = gw__blocks_add_all(&w->blocks, &saved->blocks);
	w->maps = r ? NULL : calloc(w->blocks.n, sizeof *w->maps);
	return w->maps ? 0 : gw__error_set(error, -ENOMEM, "no memory for a list of %u blocks", saved->blocks.n);
}

int gw__image_reopen(const char *path, const char *name, bool temporary, const struct gw__recv_state_saved *saved, struct gw__view maps,
	struct gw__image_writer **writer, struct gw__error *error)
{
	struct gw__image_writer *w = calloc(1, sizeof *w);
	if (!w)
		return gw__error_set(error, -ENOMEM, "no memory for the writer of %s", path);
	w->direct_fd = w->witness_fd = -1;
	w->file.keep_partial = !temporary;
	w->opts.unsynced = temporary;
	int r = gw__atomic_file_find(path, &w->file, error);
	if (!r) {
		snprintf(w->file.partial, sizeof w->file.partial, "%s", name);
		w->file.fd = openat(w->file.dest.dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		r = w->file.fd < 0 ? gw__error_errno(error, errno, "cannot open %s beside %s", name, path) : check_file(w, saved, error);
	}
	if (!r)
		r = take_saved(w, saved, error);
	if (!r)
		r = take_maps(w, maps, error);
	if (!r && temporary)
		r = clear_maps(w, error);
	if (r) {
		gw__image_writer_close(w);
		return r;
	}
	*writer = w;
	return 0;
}
