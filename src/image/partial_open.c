/* SPDX-License-Identifier: MIT */
/*
 * Opening a state file that was held: nothing in it is believed before it was checked. See partial.h; what is made here is closed by
 * partial.c. The caller's thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/fileio.h"
#include "image/outfile.h"
#include "image/partial_parts.h"

/* A new file beside it: what a file of ours looks like there. Not every file system keeps owners and modes, and NFS gives those of root to nobody. */
static bool look_at_new(const char *path, struct stat *st)
{
	struct gw__outfile *f = calloc(1, sizeof *f);
	if (!f)
		return false;
	bool ok = !gw__outfile_open(path, false, f, NULL) && !fstat(f->fd, st);
	gw__outfile_drop(f);
	free(f);
	return ok;
}

/* Whoever else can write to it could say what was received, read what is put into it, and cut a file that we have mapped. */
int gw__partial_check_ours(int fd, const char *path, struct gw__why *why)
{
	enum { OTHERS_WRITE = S_IWGRP | S_IWOTH };
	struct stat st, ours = {.st_uid = geteuid()};
	if (fstat(fd, &st))
		return gw__why_errno(why, errno, "cannot look at %s", path);
	if (!S_ISREG(st.st_mode))
		return gw__why_set(why, -EPERM, "%s is no regular file, so we have not made it", path);
	if ((st.st_uid != ours.st_uid || st.st_mode & OTHERS_WRITE) && !look_at_new(path, &ours))
		ours = (struct stat){.st_uid = geteuid()};
	if (st.st_uid != ours.st_uid)
		return gw__why_set(why, -EPERM,
			"%s belongs to user %u, and only that user may go on with it (this is user %u); it is not touched", path,
			(unsigned)st.st_uid, (unsigned)ours.st_uid);
	if (st.st_mode & OTHERS_WRITE & ~ours.st_mode)
		return gw__why_set(why, -EPERM, "%s may be written by others than its owner (mode %04o), so it is not believed", path,
			(unsigned)st.st_mode & 07777);
	return 0;
}

static int open_file(struct gw__partial *p, struct gw__why *why)
{
	p->fd = openat(p->dir_fd, p->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (p->fd < 0 && errno == ENOENT)
		return gw__why_set(why, -ENOENT, "there is no %s: nothing was begun that could be gone on with", p->path);
	if (p->fd < 0)
		return gw__why_errno(why, errno, "cannot open %s", p->path);
	int r = gw__partial_check_ours(p->fd, p->path, why);
	if (r)
		return r;
	if (flock(p->fd, LOCK_EX | LOCK_NB))
		return gw__why_set(why, -EBUSY, "another process is receiving into this image (it holds %s)", p->path);
	if (!gw__partial_has_name(p->dir_fd, p->name, p->fd))
		return gw__why_set(why, -ENOENT,
			"%s was taken away by another process just now: nothing is left that could be gone on with", p->path);
	return 0;
}

static int load(struct gw__partial *p, struct gw__why *why)
{
	uint8_t page[GW__PARTIAL_PAGE], sum[16];
	struct gw__partial_head h;
	struct stat st;
	if (fstat(p->fd, &st))
		return gw__why_errno(why, errno, "cannot look at it");
	if (st.st_size < GW__PARTIAL_MAPS_OFF)
		return gw__why_set(why, -EPROTO, "it is not the state of a partial image (%lld bytes)", (long long)st.st_size);
	int r = gw__file_read(p->fd, p->path, 0, page, sizeof page, why);
	if (!r)
		r = gw__partial_head_decode(page, (uint64_t)st.st_size, &h, why);
	if (r)
		return r;
	p->only_list = h.only_list;
	p->meta = malloc(h.meta_bytes + 1);
	if (!p->meta)
		return gw__why_set(why, -ENOMEM, "no memory for %llu bytes of device state", (unsigned long long)h.meta_bytes);
	r = gw__file_read(p->fd, p->path, gw__partial_meta_place(&h), p->meta, h.meta_bytes, why);
	if (r)
		return r;
	gw__partial_sum(p->meta, h.meta_bytes, sum);
	if (memcmp(sum, h.meta_sum, sizeof sum))
		return gw__why_set(why, -EPROTO, "what it says of the guest is damaged (the checksum is wrong)");
	r = gw__partial_meta_decode(p->meta, h.meta_bytes, &p->saved, &p->maps_bytes, why);
	if (!r && p->maps_bytes != h.maps_bytes)
		r = gw__why_set(why, -EPROTO, "its bitmaps take %llu bytes, expected %llu", (unsigned long long)h.maps_bytes,
			(unsigned long long)p->maps_bytes);
	return r;
}

int gw__partial_load_maps(struct gw__partial *p, bool *fell_back, struct gw__why *why)
{
	p->page_bytes = gw__config_page_bytes(&p->saved.config);
	int r = gw__partial_copy_sizes(p, &p->saved.blocks, why);
	if (!r)
		r = gw__partial_reserve(p, 0, why);
	return r ? r : gw__partial_settle_maps(p, fell_back, why);
}

int gw__partial_look(const struct gw__target *t, struct gw__partial **partial, const struct gw__partial_saved **saved, struct gw__why *why)
{
	*partial = NULL;
	struct gw__partial *p = gw__partial_new(t, why);
	if (!p)
		return why ? why->code : -ENOMEM;
	p->held = true;
	int r = open_file(p, why);
	if (!r && load(p, why))
		r = gw__why_where(why, "%s cannot be used", p->path);
	if (!r)
		r = gw__partial_load_finish(p, why);
	if (r) {
		gw__partial_close(p);
		return r;
	}
	*saved = &p->saved;
	*partial = p;
	return 0;
}

int gw__partial_open(const struct gw__target *t, struct gw__partial **partial, const struct gw__partial_saved **saved, bool *fell_back,
	struct gw__why *why)
{
	int r = gw__partial_look(t, partial, saved, why);
	if (!r && (*partial)->only_list)
		r = gw__why_set(why, -EPROTO,
			"%s was begun for a source that may switch to post-copy, and its device state was not kept: there is nothing to go on with. If "
			"that source is in postcopy-paused, give it its guest back with --abandon (godwit receive, or save where that began)",
			(*partial)->path);
	if (!r)
		r = gw__partial_load_maps(*partial, fell_back, why);
	if (r) {
		gw__partial_close(*partial);
		*partial = NULL;
	}
	return r;
}
