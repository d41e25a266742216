/* SPDX-License-Identifier: MIT */
/* Coming back to an image that another process began (writer_recv_state.c): is it that one, how far did it come, and go on. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image/file/fileio.h"
#include "image/journal/recv_state.h"
#include "image/write/writer_private.h"

static int check_ours(const struct gw__image_writer *w, struct gw__error *error)
{
	char path[sizeof w->file.dest.path + sizeof ".partial"];
	snprintf(path, sizeof path, "%s.partial", w->file.dest.path);
	return gw__recv_state_check_ours(w->file.fd, path, error);
}

static int reopen(struct gw__image_writer *w, struct gw__error *error)
{
	int r = gw__atomic_file_reopen_partial(&w->file, error);
	w->witness_fd = r ? -1 : gw__atomic_file_open_witness(&w->file);
	return r ? r : check_ours(w, error);
}

/* It may have the owner and the rights already of what it is going to replace. */
static int check_finished(struct gw__image_writer *w, struct gw__error *error)
{
	struct stat st, old;
	const struct gw__destination_path *t = &w->file.dest;
	bool has_rights = !fstat(w->file.fd, &st) && S_ISREG(st.st_mode) && t->exists &&
			  !fstatat(t->dir_fd, t->name, &old, AT_SYMLINK_NOFOLLOW) && st.st_uid == old.st_uid;
	return has_rights ? 0 : check_ours(w, error);
}

static int check_marker(struct gw__image_writer *w, const struct gw__recv_state_saved *saved, struct gw__error *error)
{
	uint8_t id[GW__RECV_STATE_ID_BYTES];
	if (gw__file_read(w->file.fd, w->file.partial, saved->marker_off, id, sizeof id, NULL) || memcmp(id, saved->id, sizeof id))
		return gw__error_set(error, -EPROTO, "%s.partial is not the image that %s.partial.state speaks of", w->file.dest.path,
			w->file.dest.path);
	return 0;
}

/* Bits after the last page have no meaning, and nobody is to trip over them. */
static void trim_maps(struct gw__image_writer *w)
{
	for (uint32_t i = 0; i < w->blocks.n; i++)
		for (int k = 0; k < 2; k++) {
			struct gw__bitmap *b = k ? &w->maps[i].received : &w->maps[i].present;
			if (b->bits % 64)
				b->words[b->bits / 64] &= (UINT64_C(1) << b->bits % 64) - 1;
		}
}

static int take_over(struct gw__image_writer *w, const struct gw__recv_state_saved *saved, struct gw__error *error)
{
	w->opts.base_off = saved->base_off;
	w->cursor = saved->cursor;
	w->start_off = saved->start_off;
	w->ram_id = saved->ram_id;
	w->page_bytes = gw__config_page_bytes(&saved->config);
	int r = gw__blocks_add_all(&w->blocks, &saved->blocks);
	w->maps = r ? NULL : calloc(w->blocks.n, sizeof *w->maps);
	if (!w->maps)
		return gw__error_set(error, -ENOMEM, "no memory for a list of %u blocks", saved->blocks.n);
	gw__writer_use_recv_state_maps(w, false);
	trim_maps(w);
	w->phase = GW__WRITER_RAM;
	return 0;
}

/* Finished, and maybe cut to its length, and its name given as well. */
static int settle_finished(struct gw__image_writer *w, struct gw__error *error)
{
	int r = gw__atomic_file_reopen_partial(&w->file, error);
	if (r == -ENOENT) {
		gw__error_clear(error);
		r = w->file.dest.exists ? gw__atomic_file_sync_folder(&w->file, error)
					: gw__error_set(error, -ENOENT, "%s was finished and is not there", w->file.dest.path);
	} else if (!r) {
		r = check_finished(w, error);
		r = r ? r : gw__writer_cut(w, gw__recv_state_finished_bytes(w->partial), error);
		r = r ? r : gw__atomic_file_commit(&w->file, false, error);
	}
	w->phase = GW__WRITER_DONE;
	return r;
}

int gw__image_resume(const char *path, struct gw__image_writer **writer, const struct gw__recv_state_saved **saved, bool *rolled_back,
	struct gw__error *error)
{
	*writer = NULL;
	struct gw__image_writer *w = calloc(1, sizeof *w);
	if (!w)
		return gw__error_set(error, -ENOMEM, "no memory for the writer of %s", path);
	w->direct_fd = w->witness_fd = -1;
	w->file.keep_partial = true;
	int r = gw__atomic_file_find(path, &w->file, error);
	if (!r)
		r = gw__recv_state_open(&w->file.dest, &w->partial, saved, rolled_back, error);
	if (!r)
		r = take_over(w, *saved, error);
	if (!r && gw__recv_state_finished_bytes(w->partial)) {
		r = settle_finished(w, error);
	} else if (!r) {
		r = reopen(w, error);
		r = r ? r : check_marker(w, *saved, error);
	}
	if (r) {
		gw__image_writer_close(w);
		return r;
	}
	*writer = w;
	return 0;
}
