/* SPDX-License-Identifier: MIT */
/*
 * The life of a state file on the disk: its names, creating, holding, finishing, closing; see partial.h. Opening one is partial_open.c, which
 * bitmaps hold partial_checkpoint.c, its records as bytes partial_meta.c. One thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "image/fileio.h"
#include "image/partial_parts.h"

enum { MARK_BYTES = 16, FINISH_BYTES = MARK_BYTES + 8, USUAL_META_BYTES = 1 << 20, CREATE_TRIES = 100 };

static const char PARTIAL[] = ".partial", STATE[] = GW__PARTIAL_STATE;
static const char FINISHED[MARK_BYTES] = {'G', 'W', 'F', 'I', 'N', 'I', 'S', 'H', 'E', 'D', '1'};

int gw__partial_names(const struct gw__target *t, char image[NAME_MAX + 1], char state[NAME_MAX + 1], struct gw__why *why)
{
	if (strlen(t->name) + sizeof STATE > NAME_MAX + 1)
		return gw__why_set(why, -ENAMETOOLONG, "the name %s leaves no room for \"%s\" behind it", t->name, STATE);
	snprintf(image, NAME_MAX + 1, "%.*s%s", (int)(NAME_MAX - sizeof PARTIAL), t->name, PARTIAL);
	snprintf(state, NAME_MAX + 1, "%.*s%s", (int)(NAME_MAX - sizeof STATE), t->name, STATE);
	return 0;
}

bool gw__partial_has_name(int dir_fd, const char *name, int fd)
{
	struct stat st, named;
	return !fstat(fd, &st) && !fstatat(dir_fd, name, &named, AT_SYMLINK_NOFOLLOW) && st.st_dev == named.st_dev &&
	       st.st_ino == named.st_ino;
}

/* Begun, and given up before it was more than what its source has. Who has just made it may not have locked it yet, and looks again then. */
static bool was_never_held(int dir_fd, const char *name, int fd)
{
	uint8_t page[GW__PARTIAL_PAGE], zeros[GW__PARTIAL_PAGE] = {0};
	struct gw__partial_head h;
	if (flock(fd, LOCK_EX | LOCK_NB) || !gw__partial_has_name(dir_fd, name, fd))
		return false;
	ssize_t n = pread(fd, page, sizeof page, 0);
	if (n == 0 || (n == sizeof page && !memcmp(page, zeros, sizeof page)))
		return true;
	return n == sizeof page && !gw__partial_head_decode(page, UINT64_MAX, &h, NULL) && h.only_list;
}

/* The image beside a state file of ours: another's, or a link, is not taken away with it. That it is not there is fine. */
static int check_image(int dir_fd, const char *name, const char *path, struct gw__why *why)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return gw__why_errno(why, errno, "%s is not taken away: cannot open it", path);
	int r = gw__partial_check_ours(fd, path, why);
	close(fd);
	return r;
}

int gw__partial_check_free(const struct gw__target *t, struct gw__why *why)
{
	char image[NAME_MAX + 1], state[NAME_MAX + 1];
	struct gw__why too_long = {0};
	if (gw__partial_names(t, image, state, &too_long))
		return 0; /* then there never is one */
	int fd = openat(t->dir_fd, state, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return 0;
	char path[PATH_MAX + sizeof STATE];
	snprintf(path, sizeof path, "%s%s", t->path, STATE);
	int r = fd < 0 ? 0 : gw__partial_check_ours(fd, path, why);
	if (r || (fd >= 0 && was_never_held(t->dir_fd, state, fd))) {
		snprintf(path, sizeof path, "%s%s", t->path, PARTIAL);
		if (!r)
			r = check_image(t->dir_fd, image, path, why);
		if (!r) {
			unlinkat(t->dir_fd, image, 0);
			unlinkat(t->dir_fd, state, 0);
		}
		close(fd);
		return r;
	}
	if (fd >= 0)
		close(fd);
	return gw__why_set(why, -EALREADY,
		"%s.partial holds a part of a guest that may stand still in its source: go on with what began it (godwit receive or save with --resume, or "
		"godwit drain), or, if nobody needs it, take it and %s.partial.state away",
		t->path, t->path);
}

/* --- making one --- */

int gw__partial_reserve(struct gw__partial *p, uint64_t meta_bytes, struct gw__why *why)
{
	uint64_t bytes = gw__partial_file_bytes(p->maps_bytes, meta_bytes);
	int err = posix_fallocate(p->fd, 0, (off_t)bytes); /* a mapping of a file on a full disk would be our death */
	if (err)
		return gw__why_errno(why, err, "cannot reserve %llu bytes for %s", (unsigned long long)bytes, p->path);
	p->live = mmap(NULL, p->maps_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, GW__PARTIAL_MAPS_OFF);
	if (p->live != MAP_FAILED)
		return 0;
	p->live = NULL;
	return gw__why_errno(why, errno, "cannot map %llu bytes of %s", (unsigned long long)p->maps_bytes, p->path);
}

int gw__partial_copy_sizes(struct gw__partial *p, const struct gw__blocks *blocks, struct gw__why *why)
{
	if (gw__blocks_add_all(&p->blocks, blocks))
		return gw__why_set(why, -ENOMEM, "no memory for a list of %u blocks", blocks->n);
	p->maps_bytes = gw__partial_maps_bytes(blocks, p->page_bytes);
	return 0;
}

struct gw__partial *gw__partial_new(const struct gw__target *t, struct gw__why *why)
{
	struct gw__partial *p = calloc(1, sizeof *p);
	if (!p) {
		gw__why_set(why, -ENOMEM, "no memory for the state of a partial image");
		return NULL;
	}
	p->fd = -1;
	p->dir_fd = t->dir_fd;
	if (gw__partial_names(t, p->image, p->name, why)) {
		free(p);
		return NULL;
	}
	snprintf(p->path, sizeof p->path, "%s%s", t->path, STATE);
	return p;
}

static int create_once(struct gw__partial *p, struct gw__why *why)
{
	p->fd = openat(p->dir_fd, p->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->fd < 0 && errno == EEXIST)
		return gw__why_set(why, -EEXIST, "%s is there already: somebody's guest may depend on it", p->path);
	if (p->fd < 0)
		return gw__why_errno(why, errno, "cannot create %s", p->path);
	while (flock(p->fd, LOCK_EX)) /* whoever has it, for a moment, found it empty */
		if (errno != EINTR)
			return gw__why_errno(why, errno, "cannot lock %s", p->path);
	return 0;
}

/* Between the two, somebody else who receives here may take it for one that was given up, and take it away. */
static int create_file(struct gw__partial *p, struct gw__why *why)
{
	for (int i = 0; i < CREATE_TRIES; i++) {
		int r = create_once(p, why);
		if (r || gw__partial_has_name(p->dir_fd, p->name, p->fd))
			return r;
		close(p->fd);
		p->fd = -1;
	}
	return gw__why_set(why, -EBUSY, "%s is taken away as often as it is made; does another process receive into this image?", p->path);
}

int gw__partial_create(const struct gw__target *t, const struct gw__blocks *blocks, uint64_t page_bytes, struct gw__partial **partial,
	struct gw__why *why)
{
	*partial = NULL;
	struct gw__partial *p = gw__partial_new(t, why);
	if (!p)
		return why ? why->code : -ENOMEM;
	p->page_bytes = page_bytes;
	int r = gw__partial_copy_sizes(p, blocks, why);
	if (!r)
		r = create_file(p, why);
	if (!r)
		r = gw__partial_reserve(p, GW__PARTIAL_LIST_ROOM + USUAL_META_BYTES, why);
	if (r) {
		gw__partial_close(p);
		return r;
	}
	*partial = p;
	return 0;
}

/* --- holding --- */

static int put_meta(struct gw__partial *p, const struct gw__partial_saved *saved, struct gw__partial_head *h, struct gw__why *why)
{
	h->version = GW__PARTIAL_VERSION;
	h->maps_bytes = p->maps_bytes;
	h->meta_bytes = gw__partial_meta_bytes(saved);
	uint8_t *meta = h->meta_bytes > GW__PARTIAL_META_MAX ? NULL : calloc(1, h->meta_bytes);
	if (h->only_list && h->meta_bytes > GW__PARTIAL_LIST_ROOM) {
		free(meta);
		return gw__why_set(why, -E2BIG, "the list of this guest's RAM takes %llu bytes, at most %d are possible",
			(unsigned long long)h->meta_bytes, GW__PARTIAL_LIST_ROOM);
	}
	if (!meta || !gw__partial_meta_encode(saved, meta, h->meta_bytes)) {
		free(meta);
		return gw__why_set(why, -ENOMEM, "no memory for %llu bytes of device state", (unsigned long long)h->meta_bytes);
	}
	gw__partial_sum(meta, h->meta_bytes, h->meta_sum);
	int r = gw__file_write(p->fd, p->path, gw__partial_meta_place(h), meta, h->meta_bytes, why);
	free(meta);
	return r;
}

/* What the head will speak of, and the names of both files, are safe before the head is. */
static int put_head(struct gw__partial *p, const struct gw__partial_head *h, struct gw__why *why)
{
	uint8_t page[GW__PARTIAL_PAGE];
	gw__partial_head_encode(h, page);
	int r = gw__partial_sync(p, why);
	if (!r && fsync(p->dir_fd) && errno != EINVAL)
		r = gw__why_errno(why, errno, "cannot make the folder of %s safe on its disk", p->path);
	if (!r)
		r = gw__file_write(p->fd, p->path, 0, page, sizeof page, why);
	return r ? r : gw__partial_sync(p, why);
}

int gw__partial_put_list(struct gw__partial *p, const struct gw__partial_saved *saved, struct gw__why *why)
{
	struct gw__partial_head h = {.only_list = true};
	int r = put_meta(p, saved, &h, why);
	if (!r)
		r = put_head(p, &h, why);
	p->only_list = !r;
	return r;
}

void gw__partial_begin_switch(struct gw__partial *p) { p->switching = true; }

bool gw__partial_is_only_list(const struct gw__partial *p) { return p->only_list; }

int gw__partial_hold(struct gw__partial *p, const struct gw__partial_saved *saved, struct gw__why *why)
{
	struct gw__partial_head h = {.only_list = false};
	int r = put_meta(p, saved, &h, why);
	if (!r)
		r = gw__partial_trust_live(p, why);
	if (!r)
		r = put_head(p, &h, why);
	p->held = !r;
	p->only_list = p->only_list && r;
	return r;
}

void gw__partial_maps(const struct gw__partial *p, uint32_t block, struct gw__bitmap *present, struct gw__bitmap *received)
{
	uint64_t at = 0;
	*present = *received = (struct gw__bitmap){0};
	for (uint32_t i = 0; i <= block; i++) {
		const struct gw__block *b = &p->blocks.v[i];
		uint64_t pages = b->used_bytes / p->page_bytes, bytes = gw__bitmap_wire_bytes(pages);
		if (b->ignored)
			continue;
		if (i == block) {
			*present = (struct gw__bitmap){(uint64_t *)(void *)(p->live + at), pages};
			*received = (struct gw__bitmap){(uint64_t *)(void *)(p->live + at + bytes), pages};
		}
		at += 2 * bytes;
	}
}

/* --- the end --- */

int gw__partial_finish(struct gw__partial *p, uint64_t image_bytes, struct gw__why *why)
{
	uint8_t mark[FINISH_BYTES];
	memcpy(mark, FINISHED, sizeof FINISHED);
	gw__be_put(mark + MARK_BYTES, image_bytes, 8);
	int r = gw__file_write(p->fd, p->path, GW__PARTIAL_FINISH_OFF, mark, sizeof mark, why);
	return r ? r : gw__partial_sync(p, why);
}

int gw__partial_load_finish(struct gw__partial *p, struct gw__why *why)
{
	uint8_t mark[FINISH_BYTES];
	int r = gw__file_read(p->fd, p->path, GW__PARTIAL_FINISH_OFF, mark, sizeof mark, why);
	if (r || memcmp(mark, FINISHED, sizeof FINISHED))
		return r;
	p->finished_bytes = gw__be_get(mark + MARK_BYTES, 8);
	if (p->finished_bytes && (p->finished_bytes <= p->saved.cursor || p->finished_bytes > INT64_MAX / 2))
		return gw__why_set(why, -EPROTO, "%s cannot be used: it gives the finished image %llu bytes", p->path,
			(unsigned long long)p->finished_bytes);
	return 0;
}

uint64_t gw__partial_finished_bytes(const struct gw__partial *p) { return p->finished_bytes; }

/* This file first: without the image it would say that the image was finished and has its name. */
int gw__partial_drop(struct gw__partial *p, struct gw__why *why)
{
	int path_n = (int)(strlen(p->path) - strlen(STATE));
	bool is_there = faccessat(p->dir_fd, p->image, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	if (p->finished_bytes && !is_there)
		return gw__why_set(why, -EALREADY, "%.*s is a whole guest already and has its name; it is kept, and only %s is left over",
			path_n, p->path, p->path);
	char image_path[sizeof p->path];
	snprintf(image_path, sizeof image_path, "%.*s%s", path_n, p->path, PARTIAL);
	int r = check_image(p->dir_fd, p->image, image_path, why);
	if (r)
		return r;
	if (unlinkat(p->dir_fd, p->name, 0))
		return gw__why_errno(why, errno, "cannot take %s away", p->path);
	if (is_there && unlinkat(p->dir_fd, p->image, 0))
		return gw__why_errno(why, errno, "cannot take %.*s.partial away", path_n, p->path);
	return 0;
}

void gw__partial_remove(struct gw__partial *p) { unlinkat(p->dir_fd, p->name, 0); }

void gw__partial_close(struct gw__partial *p)
{
	if (!p)
		return;
	if (p->live)
		munmap(p->live, p->maps_bytes);
	if (p->fd >= 0 && !p->held && !(p->only_list && p->switching) && gw__partial_has_name(p->dir_fd, p->name, p->fd))
		gw__partial_remove(p);
	if (p->fd >= 0)
		close(p->fd);
	gw__partial_saved_fini(&p->saved);
	gw__blocks_fini(&p->blocks);
	free(p->meta);
	free(p);
}
