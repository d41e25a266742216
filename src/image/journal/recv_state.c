/* SPDX-License-Identifier: MIT */
/*
 * The life of a state file on the disk: its names, creating, opening, checkpoints, finishing, closing, and the samples that tell a source from a
 * stranger; see recv_state.h. Its records as bytes are recv_state_layout.c. One thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/math.h"
#include "image/file/atomic_file.h"
#include "image/file/fileio.h"
#include "image/journal/recv_state.h"
#include "image/journal/recv_state_layout.h"

#define GW__RECV_STATE_STATE ".partial.state"

struct gw__recv_state {
	int fd, dir_fd;                               /* of its folder; borrowed from the target */
	char name[NAME_MAX + 1], image[NAME_MAX + 1]; /* of the two files */
	char path[PATH_MAX + sizeof GW__RECV_STATE_STATE];
	bool held;
	bool layout_only;        /* the list is written, and nothing was held yet */
	bool switching;          /* the source has begun: the list is not taken away */
	bool rolled_back;        /* at any time, to a checkpoint */
	bool bitmaps_invalid;    /* a write or sync failed: see gw__recv_state_invalidate_live_bitmaps */
	uint64_t finished_bytes; /* 0: it is not */
	uint64_t page_bytes, maps_bytes;
	uint64_t seq; /* of the last checkpoint; 0: none */
	uint8_t *live;
	uint8_t *meta; /* of one that was opened */
	struct gw__recv_state_saved saved;
	struct gw__blocks blocks; /* names left out: sizes for the maps */
};

/* From now on the live bitmaps count, until the next boot. */
static int trust_live(struct gw__recv_state *p, struct gw__error *error);
/* One that fails is the last: see gw__recv_state_invalidate_live_bitmaps. */
static int sync_file(struct gw__recv_state *p, struct gw__error *error);

enum { MARK_BYTES = 16, FINISH_BYTES = MARK_BYTES + 8, USUAL_META_BYTES = 1 << 20, CREATE_TRIES = 100 };

static const char PARTIAL[] = ".partial", STATE[] = GW__RECV_STATE_STATE;
static const char FINISHED[MARK_BYTES] = {'G', 'W', 'F', 'I', 'N', 'I', 'S', 'H', 'E', 'D', '1'};

/* Is the open file still the one that has this name? */
static bool has_name(int dir_fd, const char *name, int fd)
{
	struct stat st, named;
	return !fstat(fd, &st) && !fstatat(dir_fd, name, &named, AT_SYMLINK_NOFOLLOW) && st.st_dev == named.st_dev &&
	       st.st_ino == named.st_ino;
}

/* Begun, and given up before it was more than what its source has. Who has just made it may not have locked it yet, and looks again then. */
static bool was_never_held(int dir_fd, const char *name, int fd)
{
	uint8_t page[GW__RECV_STATE_PAGE], zeros[GW__RECV_STATE_PAGE] = {0};
	struct gw__recv_state_head h;
	if (flock(fd, LOCK_EX | LOCK_NB) || !has_name(dir_fd, name, fd))
		return false;
	ssize_t n = pread(fd, page, sizeof page, 0);
	if (n == 0 || (n == sizeof page && !memcmp(page, zeros, sizeof page)))
		return true;
	return n == sizeof page && !gw__recv_state_head_decode(page, UINT64_MAX, &h, NULL) && h.layout_only;
}

/* The image beside a state file of ours: another's, or a link, is not taken away with it. That it is not there is fine. */
static int check_image(int dir_fd, const char *name, const char *path, struct gw__error *error)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return gw__error_errno(error, errno, "%s is not taken away: cannot open it", path);
	int r = gw__recv_state_check_ours(fd, path, error);
	close(fd);
	return r;
}

int gw__recv_state_check_free(const struct gw__destination_path *t, struct gw__error *error)
{
	char image[NAME_MAX + 1], state[NAME_MAX + 1];
	struct gw__error too_long = {0};
	if (gw__destination_path_partial_names(t, image, state, &too_long))
		return 0; /* then there never is one */
	int fd = openat(t->dir_fd, state, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return 0;
	char path[PATH_MAX + sizeof STATE];
	snprintf(path, sizeof path, "%s%s", t->path, STATE);
	int r = fd < 0 ? 0 : gw__recv_state_check_ours(fd, path, error);
	if (r || (fd >= 0 && was_never_held(t->dir_fd, state, fd))) {
		snprintf(path, sizeof path, "%s%s", t->path, PARTIAL);
		if (!r)
			r = check_image(t->dir_fd, image, path, error);
		if (!r) {
			unlinkat(t->dir_fd, image, 0);
			unlinkat(t->dir_fd, state, 0);
		}
		close(fd);
		return r;
	}
	if (fd >= 0)
		close(fd);
	return gw__error_set(error, -EALREADY,
		"%s.partial holds a part of a guest that may be paused in its source: go on with what began it (godwit receive or save with --resume, or "
		"godwit drain), or, if nobody needs it, take it and %s.partial.state away",
		t->path, t->path);
}

/* --- making one --- */

/* The file gets its room, and its live bitmaps are mapped. */
static int reserve(struct gw__recv_state *p, uint64_t meta_bytes, struct gw__error *error)
{
	uint64_t bytes = gw__recv_state_file_bytes(p->maps_bytes, meta_bytes);
	int err = posix_fallocate(p->fd, 0, (off_t)bytes); /* a mapping of a file on a full disk would be our death */
	if (err)
		return gw__error_errno(error, err, "cannot reserve %llu bytes for %s", (unsigned long long)bytes, p->path);
	p->live = mmap(NULL, p->maps_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, GW__RECV_STATE_MAPS_OFF);
	if (p->live != MAP_FAILED)
		return 0;
	p->live = NULL;
	return gw__error_errno(error, errno, "cannot map %llu bytes of %s", (unsigned long long)p->maps_bytes, p->path);
}

/* What the size of the bitmaps follows from; page_bytes is known. */
static int copy_sizes(struct gw__recv_state *p, const struct gw__blocks *blocks, struct gw__error *error)
{
	if (gw__blocks_add_all(&p->blocks, blocks))
		return gw__error_set(error, -ENOMEM, "no memory for a list of %u blocks", blocks->n);
	p->maps_bytes = gw__recv_state_maps_bytes(blocks, p->page_bytes);
	return 0;
}

/* Without a file yet. NULL: *error says it. */
static struct gw__recv_state *allocate(const struct gw__destination_path *t, struct gw__error *error)
{
	struct gw__recv_state *p = calloc(1, sizeof *p);
	if (!p) {
		gw__error_set(error, -ENOMEM, "no memory for the state of a partial image");
		return NULL;
	}
	p->fd = -1;
	p->dir_fd = t->dir_fd;
	if (gw__destination_path_partial_names(t, p->image, p->name, error)) {
		free(p);
		return NULL;
	}
	snprintf(p->path, sizeof p->path, "%s%s", t->path, STATE);
	return p;
}

static int create_once(struct gw__recv_state *p, struct gw__error *error)
{
	p->fd = openat(p->dir_fd, p->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->fd < 0 && errno == EEXIST)
		return gw__error_set(error, -EEXIST, "%s is there already: somebody's guest may depend on it", p->path);
	if (p->fd < 0)
		return gw__error_errno(error, errno, "cannot create %s", p->path);
	while (flock(p->fd, LOCK_EX)) /* whoever has it, for a moment, found it empty */
		if (errno != EINTR)
			return gw__error_errno(error, errno, "cannot lock %s", p->path);
	return 0;
}

/* Between the two, somebody else who receives here may take it for one that was given up, and take it away. */
static int create_file(struct gw__recv_state *p, struct gw__error *error)
{
	for (int i = 0; i < CREATE_TRIES; i++) {
		int r = create_once(p, error);
		if (r || has_name(p->dir_fd, p->name, p->fd))
			return r;
		close(p->fd);
		p->fd = -1;
	}
	return gw__error_set(error, -EBUSY, "%s is taken away as often as it is made; does another process receive into this image?",
		p->path);
}

int gw__recv_state_create(const struct gw__destination_path *t, const struct gw__blocks *blocks, uint64_t page_bytes,
	struct gw__recv_state **partial, struct gw__error *error)
{
	*partial = NULL;
	struct gw__recv_state *p = allocate(t, error);
	if (!p)
		return error ? error->code : -ENOMEM;
	p->page_bytes = page_bytes;
	int r = copy_sizes(p, blocks, error);
	if (!r)
		r = create_file(p, error);
	if (!r)
		r = reserve(p, GW__RECV_STATE_LIST_ROOM + USUAL_META_BYTES, error);
	if (r) {
		gw__recv_state_close(p);
		return r;
	}
	*partial = p;
	return 0;
}

/* --- holding --- */

static int put_meta(struct gw__recv_state *p, const struct gw__recv_state_saved *saved, struct gw__recv_state_head *h,
	struct gw__error *error)
{
	h->version = GW__RECV_STATE_VERSION;
	h->maps_bytes = p->maps_bytes;
	h->meta_bytes = gw__recv_state_meta_bytes(saved);
	uint8_t *meta = h->meta_bytes > GW__RECV_STATE_META_MAX ? NULL : calloc(1, h->meta_bytes);
	if (h->layout_only && h->meta_bytes > GW__RECV_STATE_LIST_ROOM) {
		free(meta);
		return gw__error_set(error, -E2BIG, "the list of this guest's RAM takes %llu bytes, at most %d are possible",
			(unsigned long long)h->meta_bytes, GW__RECV_STATE_LIST_ROOM);
	}
	if (!meta || !gw__recv_state_meta_encode(saved, meta, h->meta_bytes)) {
		free(meta);
		return gw__error_set(error, -ENOMEM, "no memory for %llu bytes of device state", (unsigned long long)h->meta_bytes);
	}
	gw__recv_state_sum(meta, h->meta_bytes, h->meta_sum);
	int r = gw__file_write(p->fd, p->path, gw__recv_state_meta_place(h), meta, h->meta_bytes, error);
	free(meta);
	return r;
}

/* What the head will speak of, and the names of both files, are safe before the head is. */
static int put_head(struct gw__recv_state *p, const struct gw__recv_state_head *h, struct gw__error *error)
{
	uint8_t page[GW__RECV_STATE_PAGE];
	gw__recv_state_head_encode(h, page);
	int r = sync_file(p, error);
	if (!r && fsync(p->dir_fd) && errno != EINVAL)
		r = gw__error_errno(error, errno, "cannot make the folder of %s safe on its disk", p->path);
	if (!r)
		r = gw__file_write(p->fd, p->path, 0, page, sizeof page, error);
	return r ? r : sync_file(p, error);
}

int gw__recv_state_put_list(struct gw__recv_state *p, const struct gw__recv_state_saved *saved, struct gw__error *error)
{
	struct gw__recv_state_head h = {.layout_only = true};
	int r = put_meta(p, saved, &h, error);
	if (!r)
		r = put_head(p, &h, error);
	p->layout_only = !r;
	return r;
}

void gw__recv_state_begin_switch(struct gw__recv_state *p) { p->switching = true; }

bool gw__recv_state_is_layout_only(const struct gw__recv_state *p) { return p->layout_only; }

int gw__recv_state_persist_handover(struct gw__recv_state *p, const struct gw__recv_state_saved *saved, struct gw__error *error)
{
	struct gw__recv_state_head h = {.layout_only = false};
	int r = put_meta(p, saved, &h, error);
	if (!r)
		r = trust_live(p, error);
	if (!r)
		r = put_head(p, &h, error);
	p->held = !r;
	p->layout_only = p->layout_only && r;
	return r;
}

void gw__recv_state_maps(const struct gw__recv_state *p, uint32_t block, struct gw__bitmap *present, struct gw__bitmap *received)
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

int gw__recv_state_finish(struct gw__recv_state *p, uint64_t image_bytes, struct gw__error *error)
{
	uint8_t mark[FINISH_BYTES];
	memcpy(mark, FINISHED, sizeof FINISHED);
	gw__be_put(mark + MARK_BYTES, image_bytes, 8);
	int r = gw__file_write(p->fd, p->path, GW__RECV_STATE_FINISH_OFF, mark, sizeof mark, error);
	return r ? r : sync_file(p, error);
}

/* What gw__recv_state_finish has written, if it has. */
static int load_finish(struct gw__recv_state *p, struct gw__error *error)
{
	uint8_t mark[FINISH_BYTES];
	int r = gw__file_read(p->fd, p->path, GW__RECV_STATE_FINISH_OFF, mark, sizeof mark, error);
	if (r || memcmp(mark, FINISHED, sizeof FINISHED))
		return r;
	p->finished_bytes = gw__be_get(mark + MARK_BYTES, 8);
	if (p->finished_bytes && (p->finished_bytes <= p->saved.cursor || p->finished_bytes > INT64_MAX / 2))
		return gw__error_set(error, -EPROTO, "%s cannot be used: it gives the finished image %llu bytes", p->path,
			(unsigned long long)p->finished_bytes);
	return 0;
}

uint64_t gw__recv_state_finished_bytes(const struct gw__recv_state *p) { return p->finished_bytes; }

/* This file first: without the image it would say that the image was finished and has its name. */
int gw__recv_state_drop(struct gw__recv_state *p, struct gw__error *error)
{
	int path_n = (int)(strlen(p->path) - strlen(STATE));
	bool is_there = faccessat(p->dir_fd, p->image, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	if (p->finished_bytes && !is_there)
		return gw__error_set(error, -EALREADY,
			"%.*s is a whole guest already and has its name; it is kept, and only %s is left over", path_n, p->path, p->path);
	char image_path[sizeof p->path];
	snprintf(image_path, sizeof image_path, "%.*s%s", path_n, p->path, PARTIAL);
	int r = check_image(p->dir_fd, p->image, image_path, error);
	if (r)
		return r;
	if (unlinkat(p->dir_fd, p->name, 0))
		return gw__error_errno(error, errno, "cannot take %s away", p->path);
	if (is_there && unlinkat(p->dir_fd, p->image, 0))
		return gw__error_errno(error, errno, "cannot take %.*s.partial away", path_n, p->path);
	return 0;
}

void gw__recv_state_remove(struct gw__recv_state *p) { unlinkat(p->dir_fd, p->name, 0); }

void gw__recv_state_close(struct gw__recv_state *p)
{
	if (!p)
		return;
	if (p->live)
		munmap(p->live, p->maps_bytes);
	if (p->fd >= 0 && !p->held && !(p->layout_only && p->switching) && has_name(p->dir_fd, p->name, p->fd))
		gw__recv_state_remove(p);
	if (p->fd >= 0)
		close(p->fd);
	gw__recv_state_saved_fini(&p->saved);
	gw__blocks_fini(&p->blocks);
	free(p->meta);
	free(p);
}

/*
 * Which bitmaps of a state file hold (docs/spec/partial.md): the live ones as long as the boot lasts in which they were written and no sync
 * failed, otherwise those of the last of two checkpoints. See recv_state.h; the thread of whoever has it open.
 */

enum { BOOT_ID_BYTES = 36, LIVE_HEAD_BYTES = BOOT_ID_BYTES + 4, SLOT_SUMMED = 32 };

static const char SLOT_MAGIC[8] = {'G', 'W', 'C', 'H', 'E', 'C', 'K', '1'};

/* --- the live ones --- */

static bool read_boot_id(char id[BOOT_ID_BYTES])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, BOOT_ID_BYTES);
	if (fd >= 0)
		close(fd);
	return n == BOOT_ID_BYTES;
}

static int put_live_head(struct gw__recv_state *p, const char id[BOOT_ID_BYTES], struct gw__error *error)
{
	uint8_t head[LIVE_HEAD_BYTES];
	memcpy(head, id, BOOT_ID_BYTES);
	gw__be_put(head + BOOT_ID_BYTES, p->rolled_back, 4);
	return gw__file_write(p->fd, p->path, GW__RECV_STATE_LIVE_HEAD_OFF, head, sizeof head, error);
}

/* Without a boot id nobody can tell that it is still the same boot, and checkpoints alone count. */
static int trust_live(struct gw__recv_state *p, struct gw__error *error)
{
	char id[BOOT_ID_BYTES];
	memset(id, 0, sizeof id);
	read_boot_id(id);
	return put_live_head(p, id, error);
}

void gw__recv_state_invalidate_live_bitmaps(struct gw__recv_state *p)
{
	static const char nobody[BOOT_ID_BYTES];
	p->bitmaps_invalid = true;
	put_live_head(p, nobody, NULL);
}

static int sync_file(struct gw__recv_state *p, struct gw__error *error)
{
	if (fdatasync(p->fd) == 0)
		return 0;
	int r = gw__error_errno(error, errno, "cannot make %s safe on its disk", p->path);
	gw__recv_state_invalidate_live_bitmaps(p);
	return r;
}

/* --- checkpoints --- */

static void encode_slot(uint64_t seq, const uint8_t sum[16], uint8_t page[GW__RECV_STATE_PAGE])
{
	memset(page, 0, GW__RECV_STATE_PAGE);
	memcpy(page, SLOT_MAGIC, sizeof SLOT_MAGIC);
	gw__be_put(page + 8, seq, 8);
	memcpy(page + 16, sum, 16);
	gw__recv_state_sum(page, SLOT_SUMMED, page + SLOT_SUMMED);
}

/* Bitmaps first, then the head that says they are good; the other slot stays as it is. */
int gw__recv_state_checkpoint(struct gw__recv_state *p, struct gw__error *error)
{
	uint8_t page[GW__RECV_STATE_PAGE], sum[16];
	unsigned slot = (p->seq + 1) % 2;
	if (p->bitmaps_invalid)
		return gw__error_set(error, -EIO, "an earlier write of what %s speaks of failed, or making it safe on its disk", p->path);
	gw__recv_state_sum(p->live, p->maps_bytes, sum);
	encode_slot(p->seq + 1, sum, page);
	int r = gw__file_write(p->fd, p->path, gw__recv_state_slot_off(p->maps_bytes, slot), p->live, p->maps_bytes, error);
	if (!r)
		r = sync_file(p, error);
	if (!r)
		r = gw__file_write(p->fd, p->path, GW__RECV_STATE_SLOT_HEAD_OFF + slot * GW__RECV_STATE_PAGE, page, sizeof page, error);
	if (!r)
		r = sync_file(p, error);
	p->seq += !r;
	return r;
}

/* The number of a checkpoint whose bitmaps are whole, and 0 where there is none. */
static uint64_t judge_slot(const struct gw__recv_state *p, unsigned slot, uint8_t *maps)
{
	uint8_t page[GW__RECV_STATE_PAGE], sum[16];
	if (gw__file_read(p->fd, p->path, GW__RECV_STATE_SLOT_HEAD_OFF + slot * GW__RECV_STATE_PAGE, page, sizeof page, NULL) ||
		memcmp(page, SLOT_MAGIC, sizeof SLOT_MAGIC))
		return 0;
	gw__recv_state_sum(page, SLOT_SUMMED, sum);
	if (memcmp(sum, page + SLOT_SUMMED, sizeof sum) ||
		gw__file_read(p->fd, p->path, gw__recv_state_slot_off(p->maps_bytes, slot), maps, p->maps_bytes, NULL))
		return 0;
	gw__recv_state_sum(maps, p->maps_bytes, sum);
	return memcmp(sum, page + 16, sizeof sum) ? 0 : gw__be_get(page + 8, 8);
}

/* NULL: no checkpoint, and all clear. */
static int make_live(struct gw__recv_state *p, const uint8_t *maps, struct gw__error *error)
{
	if (maps)
		memcpy(p->live, maps, p->maps_bytes);
	else
		memset(p->live, 0, p->maps_bytes);
	if (msync(p->live, p->maps_bytes, MS_SYNC))
		return gw__error_errno(error, errno, "cannot make %s safe on its disk", p->path);
	return trust_live(p, error);
}

/* The next checkpoint goes after the last one in any case; `restore`: the live bitmaps become those of the last. */
static int find_checkpoint(struct gw__recv_state *p, bool restore, struct gw__error *error)
{
	uint8_t *maps[2] = {malloc(p->maps_bytes), malloc(p->maps_bytes)};
	uint64_t seq[2] = {0, 0};
	int r = 0;
	for (unsigned i = 0; i < 2; i++)
		seq[i] = maps[i] ? judge_slot(p, i, maps[i]) : 0;
	unsigned last = seq[1] > seq[0];
	p->seq = seq[last];
	if (!maps[0] || !maps[1])
		r = gw__error_set(error, -ENOMEM, "no memory for bitmaps of %llu bytes", (unsigned long long)p->maps_bytes);
	else if (restore)
		r = make_live(p, p->seq ? maps[last] : NULL, error);
	free(maps[0]);
	free(maps[1]);
	return r;
}

/*
 * After a crash of the host the live bitmaps may speak of pages that never reached the disk. It is kept
 * that it was so (*rolled_back), for whoever ends it.
 */
static int settle_maps(struct gw__recv_state *p, bool *rolled_back, struct gw__error *error)
{
	uint8_t head[LIVE_HEAD_BYTES];
	char now[BOOT_ID_BYTES];
	int r = gw__file_read(p->fd, p->path, GW__RECV_STATE_LIVE_HEAD_OFF, head, sizeof head, error);
	if (r)
		return r;
	bool crashed = !p->finished_bytes && (!read_boot_id(now) || memcmp(head, now, sizeof now)); /* what is finished was synced */
	p->rolled_back = crashed || gw__be_get(head + BOOT_ID_BYTES, 4);
	*rolled_back = p->rolled_back;
	return find_checkpoint(p, crashed, error);
}

/*
 * Opening a state file that was held: nothing in it is believed before it was checked. See recv_state.h; what is made here is closed by
 * recv_state.c. The caller's thread.
 */

/* A new file beside it: what a file of ours looks like there. Not every file system keeps owners and modes, and NFS gives those of root to nobody. */
static bool look_at_new(const char *path, struct stat *st)
{
	struct gw__atomic_file *f = calloc(1, sizeof *f);
	if (!f)
		return false;
	bool ok = !gw__atomic_file_open(path, false, f, NULL) && !fstat(f->fd, st);
	gw__atomic_file_drop(f);
	free(f);
	return ok;
}

/* Whoever else can write to it could say what was received, read what is put into it, and cut a file that we have mapped. */
int gw__recv_state_check_ours(int fd, const char *path, struct gw__error *error)
{
	enum { OTHERS_WRITE = S_IWGRP | S_IWOTH };
	struct stat st, ours = {.st_uid = geteuid()};
	if (fstat(fd, &st))
		return gw__error_errno(error, errno, "cannot look at %s", path);
	if (!S_ISREG(st.st_mode))
		return gw__error_set(error, -EPERM, "%s is no regular file, so we have not made it", path);
	if ((st.st_uid != ours.st_uid || st.st_mode & OTHERS_WRITE) && !look_at_new(path, &ours))
		ours = (struct stat){.st_uid = geteuid()};
	if (st.st_uid != ours.st_uid)
		return gw__error_set(error, -EPERM,
			"%s belongs to user %u, and only that user may go on with it (this is user %u); it is not touched", path,
			(unsigned)st.st_uid, (unsigned)ours.st_uid);
	if (st.st_mode & OTHERS_WRITE & ~ours.st_mode)
		return gw__error_set(error, -EPERM, "%s may be written by others than its owner (mode %04o), so it is not believed", path,
			(unsigned)st.st_mode & 07777);
	return 0;
}

static int open_file(struct gw__recv_state *p, struct gw__error *error)
{
	p->fd = openat(p->dir_fd, p->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (p->fd < 0 && errno == ENOENT)
		return gw__error_set(error, -ENOENT, "there is no %s: nothing was begun that could be gone on with", p->path);
	if (p->fd < 0)
		return gw__error_errno(error, errno, "cannot open %s", p->path);
	int r = gw__recv_state_check_ours(p->fd, p->path, error);
	if (r)
		return r;
	if (flock(p->fd, LOCK_EX | LOCK_NB))
		return gw__error_set(error, -EBUSY, "another process is receiving into this image (it holds %s)", p->path);
	if (!has_name(p->dir_fd, p->name, p->fd))
		return gw__error_set(error, -ENOENT,
			"%s was taken away by another process just now: nothing is left that could be gone on with", p->path);
	return 0;
}

static int load(struct gw__recv_state *p, struct gw__error *error)
{
	uint8_t page[GW__RECV_STATE_PAGE], sum[16];
	struct gw__recv_state_head h;
	struct stat st;
	if (fstat(p->fd, &st))
		return gw__error_errno(error, errno, "cannot look at it");
	if (st.st_size < GW__RECV_STATE_MAPS_OFF)
		return gw__error_set(error, -EPROTO, "it is not the state of a partial image (%lld bytes)", (long long)st.st_size);
	int r = gw__file_read(p->fd, p->path, 0, page, sizeof page, error);
	if (!r)
		r = gw__recv_state_head_decode(page, (uint64_t)st.st_size, &h, error);
	if (r)
		return r;
	p->layout_only = h.layout_only;
	p->meta = malloc(h.meta_bytes + 1);
	if (!p->meta)
		return gw__error_set(error, -ENOMEM, "no memory for %llu bytes of device state", (unsigned long long)h.meta_bytes);
	r = gw__file_read(p->fd, p->path, gw__recv_state_meta_place(&h), p->meta, h.meta_bytes, error);
	if (r)
		return r;
	gw__recv_state_sum(p->meta, h.meta_bytes, sum);
	if (memcmp(sum, h.meta_sum, sizeof sum))
		return gw__error_set(error, -EPROTO, "what it says of the guest is damaged (the checksum is wrong)");
	r = gw__recv_state_meta_decode(p->meta, h.meta_bytes, &p->saved, &p->maps_bytes, error);
	if (!r && p->maps_bytes != h.maps_bytes)
		r = gw__error_set(error, -EPROTO, "its bitmaps take %llu bytes, expected %llu", (unsigned long long)h.maps_bytes,
			(unsigned long long)p->maps_bytes);
	return r;
}

/* Of one that was held and looked at: its bitmaps, as of gw__recv_state_open. */
static int load_maps(struct gw__recv_state *p, bool *rolled_back, struct gw__error *error)
{
	p->page_bytes = gw__config_page_bytes(&p->saved.config);
	int r = copy_sizes(p, &p->saved.blocks, error);
	if (!r)
		r = reserve(p, 0, error);
	return r ? r : settle_maps(p, rolled_back, error);
}

int gw__recv_state_look(const struct gw__destination_path *t, struct gw__recv_state **partial, const struct gw__recv_state_saved **saved,
	struct gw__error *error)
{
	*partial = NULL;
	struct gw__recv_state *p = allocate(t, error);
	if (!p)
		return error ? error->code : -ENOMEM;
	p->held = true;
	int r = open_file(p, error);
	if (!r && load(p, error))
		r = gw__error_where(error, "%s cannot be used", p->path);
	if (!r)
		r = load_finish(p, error);
	if (r) {
		gw__recv_state_close(p);
		return r;
	}
	*saved = &p->saved;
	*partial = p;
	return 0;
}

int gw__recv_state_open(const struct gw__destination_path *t, struct gw__recv_state **partial, const struct gw__recv_state_saved **saved,
	bool *rolled_back, struct gw__error *error)
{
	int r = gw__recv_state_look(t, partial, saved, error);
	if (!r && (*partial)->layout_only)
		r = gw__error_set(error, -EPROTO,
			"%s was begun for a source that may switch to post-copy, and its device state was not kept: there is nothing to go on with. If "
			"that source is in postcopy-paused, give it its guest back with --abandon (godwit receive, or save where that began)",
			(*partial)->path);
	if (!r)
		r = load_maps(*partial, rolled_back, error);
	if (r) {
		gw__recv_state_close(*partial);
		*partial = NULL;
	}
	return r;
}

int gw__recv_state_count_missing(struct gw__recv_state *p, uint64_t *pages, bool *rolled_back, struct gw__error *error)
{
	int r = load_maps(p, rolled_back, error);
	*pages = 0;
	for (uint32_t i = 0; !r && i < p->saved.blocks.n; i++) {
		struct gw__bitmap present, received;
		gw__recv_state_maps(p, i, &present, &received);
		*pages += received.bits - gw__bitmap_count(&received);
	}
	return r;
}

/*
 * Some pages of a partly received guest that nobody but its source can know, to tell that from a stranger: chosen anew each time, of pages
 * with content that were received, the largest block first. See recv_state.h. The caller's thread.
 */

enum {
	SAMPLES = 16,
	TRIES = 16 * SAMPLES,
	SAMPLE_BYTES_MAX = 16 << 20, /* all together, of which large pages take their share */
};

static uint32_t largest_block(const struct gw__blocks *blocks)
{
	uint32_t best = 0;
	for (uint32_t i = 1; i < blocks->n; i++)
		if (!blocks->v[i].ignored && (blocks->v[best].ignored || blocks->v[i].used_bytes > blocks->v[best].used_bytes))
			best = i;
	return best;
}

/* The image these bitmaps speak of; -1: it is not there, or is another. */
static int open_image(const struct gw__recv_state *p)
{
	uint8_t id[GW__RECV_STATE_ID_BYTES];
	int fd = openat(p->dir_fd, p->image, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && !gw__file_read(fd, p->image, p->saved.marker_off, id, sizeof id, NULL) && !memcmp(id, p->saved.id, sizeof id))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* The page of a block, as large as a page of the memory that backs it, in which this bit is; 0 bytes: it is not all here. */
static struct gw__recv_state_sample around(const struct gw__recv_state *p, uint32_t block, const struct gw__bitmap *received, uint64_t bit)
{
	const struct gw__block *b = &p->saved.blocks.v[block];
	uint64_t bytes = gw__max(b->page_bytes, p->page_bytes), pages = bytes / p->page_bytes, first = gw__round_down(bit, pages);
	bool whole = first + pages <= received->bits && gw__bitmap_next_clear_before(received, first, first + pages) == first + pages;
	return (struct gw__recv_state_sample){.block = block, .off = first * p->page_bytes, .bytes = whole ? bytes : 0};
}

static bool is_known(const struct gw__recv_state_samples *s, const struct gw__recv_state_sample *one)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->v[i].block == one->block && s->v[i].off == one->off)
			return true;
	return false;
}

/* Pages that are zeros have no place in the file, or still have the earlier content there. */
static int read_content(const struct gw__recv_state *p, int fd, const struct gw__bitmap *present, struct gw__recv_state_sample *one)
{
	one->content = calloc(1, one->bytes);
	if (!one->content)
		return -ENOMEM;
	int r = 0;
	for (uint64_t at = 0; !r && at < one->bytes; at += p->page_bytes)
		if (gw__bitmap_test(present, (one->off + at) / p->page_bytes))
			r = gw__file_read(fd, p->image, p->saved.blocks.v[one->block].pages_off + one->off + at, one->content + at,
				p->page_bytes, NULL);
	return r;
}

/* The same byte everywhere can be guessed. */
static bool is_uniform(const struct gw__recv_state_sample *one) { return !memcmp(one->content, one->content + 1, one->bytes - 1); }

static int take_one(const struct gw__recv_state *p, int fd, uint32_t block, uint64_t random, struct gw__recv_state_samples *s)
{
	struct gw__bitmap present, received;
	gw__recv_state_maps(p, block, &present, &received);
	uint64_t bit = present.bits ? gw__bitmap_next_set(&present, random % present.bits) : 0;
	if (bit >= present.bits)
		return 0;
	struct gw__recv_state_sample one = around(p, block, &received, bit);
	if (!one.bytes || is_known(s, &one) || (s->n + 1) * one.bytes > SAMPLE_BYTES_MAX)
		return 0;
	int r = read_content(p, fd, &present, &one);
	if (!r && !is_uniform(&one))
		s->v[s->n++] = one;
	else
		free(one.content);
	return r == -ENOMEM ? r : 0;
}

int gw__recv_state_sample(struct gw__recv_state *p, struct gw__recv_state_samples *s, struct gw__error *error)
{
	bool rolled_back;
	uint32_t largest = largest_block(&p->saved.blocks);
	*s = (struct gw__recv_state_samples){.v = calloc(SAMPLES, sizeof *s->v)};
	int r = s->v ? 0 : gw__error_set(error, -ENOMEM, "no memory for some pages");
	if (!r)
		r = load_maps(p, &rolled_back, error);
	int fd = r ? -1 : open_image(p);
	for (unsigned i = 0; !r && fd >= 0 && i < TRIES && s->n < SAMPLES; i++) {
		uint64_t random;
		if (getrandom(&random, sizeof random, 0) != sizeof random)
			r = gw__error_errno(error, errno, "no random number");
		else if (take_one(p, fd, i < TRIES / 2 ? largest : (uint32_t)(random >> 32) % p->saved.blocks.n, random, s))
			r = gw__error_set(error, -ENOMEM, "no memory for some pages");
	}
	if (fd >= 0)
		close(fd);
	return r;
}

void gw__recv_state_samples_fini(struct gw__recv_state_samples *s)
{
	for (unsigned i = 0; i < s->n; i++)
		free(s->v[i].content);
	free(s->v);
	*s = (struct gw__recv_state_samples){0};
}
