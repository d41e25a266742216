/* SPDX-License-Identifier: MIT */
/* Coming back to an image that another process began (writer_partial.c): is it that one, how far did it come, and go on. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image/fileio.h"
#include "image/partial.h"
#include "image/writer_state.h"

static int check_ours(const struct gw__image_writer *w, struct gw__why *why)
{
	char path[sizeof w->file.target.path + sizeof ".partial"];
	snprintf(path, sizeof path, "%s.partial", w->file.target.path);
	return gw__partial_check_ours(w->file.fd, path, why);
}

static int reopen(struct gw__image_writer *w, struct gw__why *why)
{
	int r = gw__outfile_reopen_partial(&w->file, why);
	w->witness_fd = r ? -1 : gw__outfile_open_witness(&w->file);
	return r ? r : check_ours(w, why);
}

/* It may have the owner and the rights already of what it is going to replace. */
static int check_finished(struct gw__image_writer *w, struct gw__why *why)
{
	struct stat st, old;
	const struct gw__target *t = &w->file.target;
	bool has_rights = !fstat(w->file.fd, &st) && S_ISREG(st.st_mode) && t->exists &&
			  !fstatat(t->dir_fd, t->name, &old, AT_SYMLINK_NOFOLLOW) && st.st_uid == old.st_uid;
	return has_rights ? 0 : check_ours(w, why);
}

static int check_marker(struct gw__image_writer *w, const struct gw__partial_saved *saved, struct gw__why *why)
{
	uint8_t id[GW__PARTIAL_ID_BYTES];
	if (gw__file_read(w->file.fd, w->file.partial, saved->marker_off, id, sizeof id, NULL) || memcmp(id, saved->id, sizeof id))
		return gw__why_set(why, -EPROTO, "%s.partial is not the image that %s.partial.state speaks of", w->file.target.path,
			w->file.target.path);
	return 0;
}

/* Bits behind the last page have no meaning, and nobody is to trip over them. */
static void trim_maps(struct gw__image_writer *w)
{
	for (uint32_t i = 0; i < w->blocks.n; i++)
		for (int k = 0; k < 2; k++) {
			struct gw__bitmap *b = k ? &w->maps[i].seen : &w->maps[i].present;
			if (b->bits % 64)
				b->words[b->bits / 64] &= (UINT64_C(1) << b->bits % 64) - 1;
		}
}

static int take_over(struct gw__image_writer *w, const struct gw__partial_saved *saved, struct gw__why *why)
{
	w->opts.base_off = saved->base_off;
	w->cursor = saved->cursor;
	w->start_off = saved->start_off;
	w->ram_id = saved->ram_id;
	w->page_bytes = gw__config_page_bytes(&saved->config);
	int r = gw__blocks_add_all(&w->blocks, &saved->blocks);
	w->maps = r ? NULL : calloc(w->blocks.n, sizeof *w->maps);
	if (!w->maps)
		return gw__why_set(why, -ENOMEM, "no memory for a list of %u blocks", saved->blocks.n);
	gw__writer_use_partial_maps(w, false);
	trim_maps(w);
	w->phase = GW__WRITER_RAM;
	return 0;
}

/* Finished, and maybe cut to its length, and its name given as well. */
static int settle_finished(struct gw__image_writer *w, struct gw__why *why)
{
	int r = gw__outfile_reopen_partial(&w->file, why);
	if (r == -ENOENT) {
		gw__why_clear(why);
		r = w->file.target.exists ? gw__outfile_sync_folder(&w->file, why)
					  : gw__why_set(why, -ENOENT, "%s was finished and is not there", w->file.target.path);
	} else if (!r) {
		r = check_finished(w, why);
		r = r ? r : gw__writer_cut(w, gw__partial_finished_bytes(w->partial), why);
		r = r ? r : gw__outfile_commit(&w->file, false, why);
	}
	w->phase = GW__WRITER_DONE;
	return r;
}

int gw__image_resume(const char *path, struct gw__image_writer **writer, const struct gw__partial_saved **saved, bool *fell_back,
	struct gw__why *why)
{
	*writer = NULL;
	struct gw__image_writer *w = calloc(1, sizeof *w);
	if (!w)
		return gw__why_set(why, -ENOMEM, "no memory for the writer of %s", path);
	w->direct_fd = w->witness_fd = -1;
	w->file.lasting = true;
	int r = gw__outfile_find(path, &w->file, why);
	if (!r)
		r = gw__partial_open(&w->file.target, &w->partial, saved, fell_back, why);
	if (!r)
		r = take_over(w, *saved, why);
	if (!r && gw__partial_finished_bytes(w->partial)) {
		r = settle_finished(w, why);
	} else if (!r) {
		r = reopen(w, why);
		r = r ? r : check_marker(w, *saved, why);
	}
	if (r) {
		gw__image_writer_close(w);
		return r;
	}
	*writer = w;
	return 0;
}
