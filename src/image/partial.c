/* SPDX-License-Identifier: MIT */
/* The state file on the disk: creating, holding, opening, checkpoints; see partial.h. Its records are in partial_meta.c. */
#include "image/partial.h"

#include <errno.h>
#include <fcntl.h>
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
#include "image/fileio.h"
#include "image/partial_layout.h"

enum { BOOT_ID_BYTES = 36, SLOT_SUMMED = 32, MARK_BYTES = 16, FINISH_BYTES = MARK_BYTES + 8, USUAL_META_BYTES = 1 << 20 };

static const char PARTIAL[] = ".partial", STATE[] = ".partial.state";
static const char SLOT_MAGIC[8] = {'G', 'W', 'C', 'H', 'E', 'C', 'K', '1'};
static const char FINISHED[MARK_BYTES] = {'G', 'W', 'F', 'I', 'N', 'I', 'S', 'H', 'E', 'D', '1'};

struct gw__partial {
	int fd, dir_fd; /* of its folder; borrowed from the target */
	char name[NAME_MAX + 1], path[PATH_MAX + sizeof STATE];
	bool held;
	bool distrusted; /* a sync failed: see gw__partial_distrust */
	uint64_t finished_bytes; /* 0: it is not */
	uint64_t page_bytes, maps_bytes;
	uint64_t seq; /* of the last checkpoint; 0: none */
	uint8_t *live;
	uint8_t *meta; /* of one that was opened */
	struct gw__partial_saved saved;
	struct gw__blocks blocks; /* names left out: sizes for the maps */
};

int gw__partial_names(const struct gw__target *t, char image[NAME_MAX + 1], char state[NAME_MAX + 1], struct gw__why *why)
{
	if (strlen(t->name) + sizeof STATE > NAME_MAX + 1)
		return gw__why_set(why, -ENAMETOOLONG, "the name %s leaves no room for \"%s\" behind it", t->name, STATE);
	snprintf(image, NAME_MAX + 1, "%.*s%s", (int)(NAME_MAX - sizeof PARTIAL), t->name, PARTIAL);
	snprintf(state, NAME_MAX + 1, "%.*s%s", (int)(NAME_MAX - sizeof STATE), t->name, STATE);
	return 0;
}

/* Begun, and given up before the source depended on it. */
static bool was_never_held(int fd)
{
	uint8_t page[GW__PARTIAL_PAGE], zeros[GW__PARTIAL_PAGE] = {0};
	if (flock(fd, LOCK_EX | LOCK_NB))
		return false;
	ssize_t n = pread(fd, page, sizeof page, 0);
	return n == 0 || (n == sizeof page && !memcmp(page, zeros, sizeof page));
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
	if (fd >= 0 && was_never_held(fd)) {
		unlinkat(t->dir_fd, image, 0);
		unlinkat(t->dir_fd, state, 0);
		close(fd);
		return 0;
	}
	if (fd >= 0)
		close(fd);
	return gw__why_set(why, -EALREADY,
		"%s.partial holds a part of a guest that may stand still in its source: go on with --resume, or, if nobody needs it, take it and "
		"%s.partial.state away", t->path, t->path);
}

/* --- making one --- */

static int reserve(struct gw__partial *p, uint64_t meta_bytes, struct gw__why *why)
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

static int copy_sizes(struct gw__partial *p, const struct gw__blocks *blocks, struct gw__why *why)
{
	for (uint32_t i = 0; i < blocks->n; i++)
		if (gw__blocks_add(&p->blocks, &blocks->v[i]))
			return gw__why_set(why, -ENOMEM, "no memory for a list of %u blocks", blocks->n);
	p->maps_bytes = gw__partial_maps_bytes(blocks, p->page_bytes);
	return 0;
}

static struct gw__partial *new_partial(const struct gw__target *t, struct gw__why *why)
{
	struct gw__partial *p = calloc(1, sizeof *p);
	char image[NAME_MAX + 1];
	if (!p) {
		gw__why_set(why, -ENOMEM, "no memory for the state of a partial image");
		return NULL;
	}
	p->fd = -1;
	p->dir_fd = t->dir_fd;
	if (gw__partial_names(t, image, p->name, why)) {
		free(p);
		return NULL;
	}
	snprintf(p->path, sizeof p->path, "%s%s", t->path, STATE);
	return p;
}

static int create_file(struct gw__partial *p, struct gw__why *why)
{
	p->fd = openat(p->dir_fd, p->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->fd < 0 && errno == EEXIST)
		return gw__why_set(why, -EEXIST, "%s is there already: somebody's guest may depend on it", p->path);
	if (p->fd < 0)
		return gw__why_errno(why, errno, "cannot create %s", p->path);
	return flock(p->fd, LOCK_EX | LOCK_NB) ? gw__why_errno(why, errno, "cannot lock %s", p->path) : 0;
}

int gw__partial_create(const struct gw__target *t, const struct gw__blocks *blocks, uint64_t page_bytes, struct gw__partial **partial,
	struct gw__why *why)
{
	*partial = NULL;
	struct gw__partial *p = new_partial(t, why);
	if (!p)
		return why ? why->code : -ENOMEM;
	p->page_bytes = page_bytes;
	int r = copy_sizes(p, blocks, why);
	if (!r)
		r = create_file(p, why);
	if (!r)
		r = reserve(p, USUAL_META_BYTES, why);
	if (r) {
		gw__partial_close(p);
		return r;
	}
	*partial = p;
	return 0;
}

/* --- holding --- */

static bool read_boot_id(char id[BOOT_ID_BYTES])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, BOOT_ID_BYTES);
	if (fd >= 0)
		close(fd);
	return n == BOOT_ID_BYTES;
}

/* From now on the live bitmaps count, until the next boot. Without a boot id nothing says so, and checkpoints alone count. */
static int put_live_head(struct gw__partial *p, struct gw__why *why)
{
	char id[BOOT_ID_BYTES];
	memset(id, 0, sizeof id);
	read_boot_id(id);
	return gw__file_write(p->fd, p->path, GW__PARTIAL_LIVE_HEAD_OFF, id, sizeof id, why);
}

void gw__partial_distrust(struct gw__partial *p)
{
	static const char nobody[BOOT_ID_BYTES];
	p->distrusted = true;
	gw__file_write(p->fd, p->path, GW__PARTIAL_LIVE_HEAD_OFF, nobody, sizeof nobody, NULL);
}

static int sync_file(struct gw__partial *p, struct gw__why *why)
{
	if (fdatasync(p->fd) == 0)
		return 0;
	int r = gw__why_errno(why, errno, "cannot make %s safe on its disk", p->path);
	gw__partial_distrust(p);
	return r;
}

static int put_meta(struct gw__partial *p, const struct gw__partial_saved *saved, struct gw__partial_head *h, struct gw__why *why)
{
	h->maps_bytes = p->maps_bytes;
	h->meta_bytes = gw__partial_meta_bytes(saved);
	uint8_t *meta = h->meta_bytes > GW__PARTIAL_META_MAX ? NULL : calloc(1, h->meta_bytes);
	if (!meta || !gw__partial_meta_encode(saved, meta, h->meta_bytes)) {
		free(meta);
		return gw__why_set(why, -ENOMEM, "no memory for %llu bytes of device state", (unsigned long long)h->meta_bytes);
	}
	gw__partial_sum(meta, h->meta_bytes, h->meta_sum);
	int r = gw__file_write(p->fd, p->path, gw__partial_meta_off(p->maps_bytes), meta, h->meta_bytes, why);
	free(meta);
	return r;
}

/* The head comes last: without it there is nothing. */
int gw__partial_hold(struct gw__partial *p, const struct gw__partial_saved *saved, struct gw__why *why)
{
	uint8_t page[GW__PARTIAL_PAGE];
	struct gw__partial_head h;
	int r = put_meta(p, saved, &h, why);
	if (!r)
		r = put_live_head(p, why);
	if (!r)
		r = sync_file(p, why);
	if (r)
		return r;
	gw__partial_head_encode(&h, page);
	if (ftruncate(p->fd, (off_t)gw__partial_file_bytes(h.maps_bytes, h.meta_bytes)))
		return gw__why_errno(why, errno, "cannot set the length of %s", p->path);
	r = gw__file_write(p->fd, p->path, 0, page, sizeof page, why);
	if (!r)
		r = sync_file(p, why);
	if (!r && fsync(p->dir_fd) && errno != EINVAL)
		r = gw__why_errno(why, errno, "cannot make the folder of %s safe on its disk", p->path);
	p->held = !r;
	return r;
}

/* --- checkpoints --- */

static void encode_slot(uint64_t seq, const uint8_t sum[16], uint8_t page[GW__PARTIAL_PAGE])
{
	memset(page, 0, GW__PARTIAL_PAGE);
	memcpy(page, SLOT_MAGIC, sizeof SLOT_MAGIC);
	gw__be_put(page + 8, seq, 8);
	memcpy(page + 16, sum, 16);
	gw__partial_sum(page, SLOT_SUMMED, page + SLOT_SUMMED);
}

/* Bitmaps first, then the head that says they are good; the other slot stays as it is. */
int gw__partial_checkpoint(struct gw__partial *p, struct gw__why *why)
{
	uint8_t page[GW__PARTIAL_PAGE], sum[16];
	unsigned slot = (p->seq + 1) % 2;
	if (p->distrusted)
		return gw__why_set(why, -EIO, "an earlier attempt to make %s safe on its disk failed", p->path);
	gw__partial_sum(p->live, p->maps_bytes, sum);
	encode_slot(p->seq + 1, sum, page);
	int r = gw__file_write(p->fd, p->path, gw__partial_slot_off(p->maps_bytes, slot), p->live, p->maps_bytes, why);
	if (!r)
		r = sync_file(p, why);
	if (!r)
		r = gw__file_write(p->fd, p->path, GW__PARTIAL_SLOT_HEAD_OFF + slot * GW__PARTIAL_PAGE, page, sizeof page, why);
	if (!r)
		r = sync_file(p, why);
	p->seq += !r;
	return r;
}

/* The number of a checkpoint whose bitmaps are whole, and 0 where there is none. */
static uint64_t judge_slot(const struct gw__partial *p, unsigned slot, uint8_t *maps)
{
	uint8_t page[GW__PARTIAL_PAGE], sum[16];
	if (gw__file_read(p->fd, p->path, GW__PARTIAL_SLOT_HEAD_OFF + slot * GW__PARTIAL_PAGE, page, sizeof page, NULL) ||
		memcmp(page, SLOT_MAGIC, sizeof SLOT_MAGIC))
		return 0;
	gw__partial_sum(page, SLOT_SUMMED, sum);
	if (memcmp(sum, page + SLOT_SUMMED, sizeof sum) ||
		gw__file_read(p->fd, p->path, gw__partial_slot_off(p->maps_bytes, slot), maps, p->maps_bytes, NULL))
		return 0;
	gw__partial_sum(maps, p->maps_bytes, sum);
	return memcmp(sum, page + 16, sizeof sum) ? 0 : gw__be_get(page + 8, 8);
}

/* The live bitmaps may speak of pages that never reached the disk: they become those of the last checkpoint, or clear. */
static int fall_back(struct gw__partial *p, bool needed, struct gw__why *why)
{
	uint8_t *maps[2] = {malloc(p->maps_bytes), malloc(p->maps_bytes)};
	uint64_t seq[2] = {0, 0};
	int r = 0;
	for (unsigned i = 0; i < 2; i++)
		seq[i] = maps[i] ? judge_slot(p, i, maps[i]) : 0;
	if (!maps[0] || !maps[1])
		r = gw__why_set(why, -ENOMEM, "no memory for bitmaps of %llu bytes", (unsigned long long)p->maps_bytes);
	unsigned last = seq[1] > seq[0];
	p->seq = seq[last];
	if (!r && needed && p->seq)
		memcpy(p->live, maps[last], p->maps_bytes);
	if (!r && needed && !p->seq)
		memset(p->live, 0, p->maps_bytes);
	if (!r && needed)
		r = msync(p->live, p->maps_bytes, MS_SYNC) ? gw__why_errno(why, errno, "cannot make %s safe on its disk", p->path) : 0;
	if (!r && needed)
		r = put_live_head(p, why);
	free(maps[0]);
	free(maps[1]);
	return r;
}

/* --- opening --- */

static int open_file(struct gw__partial *p, struct gw__why *why)
{
	p->fd = openat(p->dir_fd, p->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (p->fd < 0 && errno == ENOENT)
		return gw__why_set(why, -ENOENT, "there is no %s: nothing was begun that could be gone on with", p->path);
	if (p->fd < 0)
		return gw__why_errno(why, errno, "cannot open %s", p->path);
	if (flock(p->fd, LOCK_EX | LOCK_NB))
		return gw__why_set(why, -EBUSY, "another process is receiving into this image (it holds %s)", p->path);
	return 0;
}

static int load(struct gw__partial *p, struct gw__why *why)
{
	uint8_t page[GW__PARTIAL_PAGE], sum[16];
	struct gw__partial_head h;
	struct stat st;
	if (fstat(p->fd, &st))
		return gw__why_errno(why, errno, "cannot look at it");
	if (!S_ISREG(st.st_mode) || st.st_size < GW__PARTIAL_MAPS_OFF)
		return gw__why_set(why, -EPROTO, "it is not the state of a partial image (%lld bytes)", (long long)st.st_size);
	int r = gw__file_read(p->fd, p->path, 0, page, sizeof page, why);
	if (!r)
		r = gw__partial_head_decode(page, (uint64_t)st.st_size, &h, why);
	if (r)
		return r;
	p->meta = malloc(h.meta_bytes + 1);
	if (!p->meta)
		return gw__why_set(why, -ENOMEM, "no memory for %llu bytes of device state", (unsigned long long)h.meta_bytes);
	r = gw__file_read(p->fd, p->path, gw__partial_meta_off(h.maps_bytes), p->meta, h.meta_bytes, why);
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

static int load_maps(struct gw__partial *p, bool *fell_back, struct gw__why *why)
{
	char then[BOOT_ID_BYTES], now[BOOT_ID_BYTES];
	uint8_t mark[FINISH_BYTES];
	p->page_bytes = gw__config_page_bytes(&p->saved.config);
	int r = copy_sizes(p, &p->saved.blocks, why);
	if (!r)
		r = reserve(p, 0, why);
	if (!r)
		r = gw__file_read(p->fd, p->path, GW__PARTIAL_LIVE_HEAD_OFF, then, sizeof then, why);
	if (!r)
		r = gw__file_read(p->fd, p->path, GW__PARTIAL_FINISH_OFF, mark, sizeof mark, why);
	if (r)
		return r;
	if (!memcmp(mark, FINISHED, sizeof FINISHED))
		p->finished_bytes = gw__be_get(mark + MARK_BYTES, 8);
	if (p->finished_bytes && (p->finished_bytes <= p->saved.cursor || p->finished_bytes > INT64_MAX / 2))
		return gw__why_set(why, -EPROTO, "%s cannot be used: it gives the finished image %llu bytes", p->path,
			(unsigned long long)p->finished_bytes);
	*fell_back = !read_boot_id(now) || memcmp(then, now, sizeof now);
	return fall_back(p, *fell_back, why);
}

int gw__partial_open(const struct gw__target *t, struct gw__partial **partial, const struct gw__partial_saved **saved, bool *fell_back,
	struct gw__why *why)
{
	*partial = NULL;
	struct gw__partial *p = new_partial(t, why);
	if (!p)
		return why ? why->code : -ENOMEM;
	p->held = true;
	int r = open_file(p, why);
	if (!r && load(p, why))
		r = gw__why_where(why, "%s cannot be used", p->path);
	if (!r)
		r = load_maps(p, fell_back, why);
	if (r) {
		gw__partial_close(p);
		return r;
	}
	*saved = &p->saved;
	*partial = p;
	return 0;
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
	return r ? r : sync_file(p, why);
}

uint64_t gw__partial_finished_bytes(const struct gw__partial *p) { return p->finished_bytes; }

void gw__partial_remove(struct gw__partial *p)
{
	unlinkat(p->dir_fd, p->name, 0);
}

void gw__partial_close(struct gw__partial *p)
{
	if (!p)
		return;
	if (p->live)
		munmap(p->live, p->maps_bytes);
	if (p->fd >= 0 && !p->held)
		gw__partial_remove(p);
	if (p->fd >= 0)
		close(p->fd);
	gw__partial_saved_fini(&p->saved);
	gw__blocks_fini(&p->blocks);
	free(p->meta);
	free(p);
}
