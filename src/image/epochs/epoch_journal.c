/* SPDX-License-Identifier: MIT */
/* Writing the journal of a guest's epochs; see epoch_journal.h, and epoch_journal_read.c for the other way. */
#include "image/epochs/epoch_journal_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/math.h"
#include "image/file/fileio.h"

typedef unsigned long long ull;

enum { SUMMED_BYTES = GW__EPOCH_HEAD_BYTES - GW__EPOCH_SUM_BYTES, IOV_ROOM = 1024 };

/* --- heads --- */

static void put_sum(XXH128_hash_t hash, uint8_t sum[GW__EPOCH_SUM_BYTES])
{
	XXH128_canonical_t c;
	XXH128_canonicalFromHash(&c, hash);
	memcpy(sum, c.digest, GW__EPOCH_SUM_BYTES);
}

void gw__epoch_head_encode(const struct gw__epoch_head *h, uint8_t bytes[GW__EPOCH_HEAD_BYTES])
{
	struct gw__wr c = gw__wr_over(bytes, GW__EPOCH_HEAD_BYTES);
	gw__wr_bytes(&c, h->magic, sizeof h->magic);
	gw__wr_bytes(&c, h->id, sizeof h->id);
	gw__wr_be64(&c, h->epoch);
	gw__wr_be64(&c, h->first);
	gw__wr_be64(&c, h->second);
	gw__wr_be64(&c, h->third);
	gw__wr_bytes(&c, h->sum, sizeof h->sum);
	put_sum(XXH3_128bits(bytes, SUMMED_BYTES), bytes + SUMMED_BYTES);
}

bool gw__epoch_head_decode(const uint8_t bytes[GW__EPOCH_HEAD_BYTES], const char *magic, struct gw__epoch_head *h)
{
	struct gw__rd c = gw__rd_over(bytes, GW__EPOCH_HEAD_BYTES);
	uint8_t sum[GW__EPOCH_SUM_BYTES];
	gw__rd_bytes(&c, h->magic, sizeof h->magic);
	gw__rd_bytes(&c, h->id, sizeof h->id);
	h->epoch = gw__rd_be64(&c);
	h->first = gw__rd_be64(&c);
	h->second = gw__rd_be64(&c);
	h->third = gw__rd_be64(&c);
	gw__rd_bytes(&c, h->sum, sizeof h->sum);
	put_sum(XXH3_128bits(bytes, SUMMED_BYTES), sum);
	return !memcmp(h->magic, magic, sizeof h->magic) && !memcmp(sum, bytes + SUMMED_BYTES, sizeof sum);
}

/* --- its life --- */

int gw__epoch_journal_new(const char *path, struct gw__epoch_journal **journal, struct gw__error *error)
{
	struct gw__epoch_journal *j = calloc(1, sizeof *j);
	if (!j)
		return gw__error_set(error, -ENOMEM, "no memory for the journal of %s", path);
	j->extent[0].fd = j->extent[1].fd = -1;
	int r = gw__destination_path_find(path, &j->dest, error);
	if (r) {
		gw__epoch_journal_close(j);
		return r;
	}
	*journal = j;
	return 0;
}

static void name_of(const struct gw__destination_path *dest, unsigned i, char name[NAME_MAX + 16])
{
	snprintf(name, NAME_MAX + 16, "%s.journal.%u", dest->name, i);
}

int gw__epoch_journal_open_extent(struct gw__epoch_journal *j, unsigned i, int flags, struct gw__error *error)
{
	struct gw__epoch_extent *e = &j->extent[i];
	char name[NAME_MAX + 16], path[sizeof e->path];
	name_of(&j->dest, i, name);
	snprintf(path, sizeof path, "%s.journal.%u", j->dest.path, i);
	memcpy(e->path, path, sizeof path);
	e->fd = openat(j->dest.dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (e->fd < 0 && errno == ENOENT)
		return -ENOENT;
	return e->fd < 0 ? gw__error_errno(error, errno, "cannot open %s", e->path) : 0;
}

void gw__epoch_journal_close(struct gw__epoch_journal *j)
{
	if (!j)
		return;
	for (unsigned i = 0; i < 2; i++) {
		if (j->extent[i].fd >= 0)
			close(j->extent[i].fd);
		free(j->extent[i].known);
	}
	gw__recv_state_saved_fini(&j->saved);
	gw__destination_path_fini(&j->dest);
	free(j->devices);
	free(j);
}

static void remove_extents(const struct gw__destination_path *dest)
{
	for (unsigned i = 0; i < 2; i++) {
		char name[NAME_MAX + 16];
		name_of(dest, i, name);
		unlinkat(dest->dir_fd, name, 0);
	}
}

void gw__epoch_journal_remove(const char *path)
{
	struct gw__destination_path dest;
	struct gw__error ignored = {0};
	if (!gw__destination_path_find(path, &dest, &ignored))
		remove_extents(&dest);
	gw__destination_path_fini(&dest);
}

int gw__epoch_journal_create(const char *path, uint64_t extent_bytes, struct gw__epoch_journal **journal, struct gw__error *error)
{
	struct gw__epoch_journal *j;
	int r = gw__epoch_journal_new(path, &j, error);
	if (r)
		return r;
	remove_extents(&j->dest);
	j->extent_bytes = extent_bytes ? extent_bytes : GW__EPOCH_EXTENT_BYTES;
	j->active = 1; /* so that the first one begins */
	for (unsigned i = 0; !r && i < 2; i++)
		r = gw__epoch_journal_open_extent(j, i, O_RDWR | O_CREAT | O_EXCL, error);
	if (!r && getrandom(j->id, sizeof j->id, 0) != sizeof j->id)
		r = gw__error_errno(error, errno, "no random number for the journal of %s", path);
	if (r) {
		gw__epoch_journal_close(j);
		return r;
	}
	*journal = j;
	return 0;
}

/* --- an extent begins --- */

static uint64_t maps_bytes_of(const struct gw__blocks *blocks, uint64_t page_bytes)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < blocks->n; i++)
		n += gw__bitmap_wire_bytes(blocks->v[i].used_bytes / page_bytes);
	return n;
}

/* Head, what is known, bitmaps; up to a multiple of GW__EPOCH_ALIGN. */
static uint8_t *encode_base(struct gw__epoch_journal *j, struct gw__epoch_base *base, uint64_t *n)
{
	uint64_t meta_bytes = gw__recv_state_meta_bytes(&base->saved), at = meta_bytes;
	struct gw__epoch_head h = {.magic = GW__EPOCH_EXTENT_MAGIC,
		.epoch = base->epoch,
		.first = meta_bytes,
		.second = maps_bytes_of(&base->saved.blocks, j->page_bytes),
		.third = j->page_bytes};
	*n = gw__round_up(GW__EPOCH_ALIGN + h.first + h.second, GW__EPOCH_ALIGN);
	uint8_t *bytes = calloc(1, *n), *known = bytes ? bytes + GW__EPOCH_ALIGN : NULL;
	if (!bytes)
		return NULL;
	memcpy(base->saved.id, j->id, sizeof j->id);
	memcpy(h.id, j->id, sizeof j->id);
	bool fits = gw__recv_state_meta_encode(&base->saved, known, meta_bytes);
	assert(fits);
	(void)fits;
	for (uint32_t i = 0; i < base->saved.blocks.n; i++) {
		uint64_t map = gw__bitmap_wire_bytes(base->saved.blocks.v[i].used_bytes / j->page_bytes);
		gw__bitmap_wire_put(base->present(base->ctx, i), 0, known + at, map);
		at += map;
	}
	put_sum(XXH3_128bits(known, at), h.sum);
	gw__epoch_head_encode(&h, bytes);
	return bytes;
}

/* Room first: a full disk is to be known before anything is changed. */
static int reserve(const struct gw__epoch_extent *e, uint64_t off, uint64_t bytes, struct gw__error *error)
{
	int err = posix_fallocate(e->fd, (off_t)off, (off_t)bytes);
	return err ? gw__file_write_failed(e->fd, e->path, off, bytes, err, error) : 0;
}

int gw__epoch_journal_begin(struct gw__epoch_journal *j, struct gw__epoch_base *base, struct gw__error *error)
{
	struct gw__epoch_extent *e = &j->extent[!j->active];
	uint64_t n;
	j->page_bytes = gw__config_page_bytes(&base->saved.config);
	uint8_t *bytes = encode_base(j, base, &n);
	if (!bytes)
		return gw__error_set(error, -ENOMEM, "no memory for what is known of %s", j->dest.path);
	int r = reserve(e, 0, n, error);
	if (!r)
		r = gw__file_write(e->fd, e->path, 0, bytes, n, error);
	free(bytes);
	if (r)
		return r;
	e->base = e->last = base->epoch;
	e->begin_off = e->end_off = n;
	j->active = !j->active;
	return 0;
}

int gw__epoch_journal_sync(struct gw__epoch_journal *j, struct gw__error *error)
{
	for (unsigned i = 0; i < 2; i++)
		if (fsync(j->extent[i].fd))
			return gw__error_errno(error, errno, "cannot sync %s", j->extent[i].path);
	if (fsync(j->dest.dir_fd) && errno != EINVAL) /* a file system without the notion */
		return gw__error_errno(error, errno, "cannot sync the folder of %s", j->dest.path);
	return 0;
}

/* A head of zeros, so that nobody takes what is overwritten next for something to begin with. */
int gw__epoch_journal_release(struct gw__epoch_journal *j, struct gw__error *error)
{
	static const uint8_t zeros[GW__EPOCH_HEAD_BYTES];
	const struct gw__epoch_extent *e = &j->extent[!j->active];
	int r = gw__file_write(e->fd, e->path, 0, zeros, sizeof zeros, error);
	return r || fdatasync(e->fd) == 0 ? r : gw__error_errno(error, errno, "cannot sync %s", e->path);
}

bool gw__epoch_journal_is_full(const struct gw__epoch_journal *j)
{
	const struct gw__epoch_extent *e = &j->extent[j->active];
	return e->end_off - e->begin_off >= j->extent_bytes;
}

uint64_t gw__epoch_journal_last(const struct gw__epoch_journal *j) { return j->extent[j->order_n == 2 ? !j->active : j->active].last; }

/* --- an epoch --- */

struct record {
	struct gw__epoch_head head;
	struct run {
		const uint8_t *pages;
		uint64_t bytes;
	} * run;
	uint8_t *index; /* with the head before it, and devices after it */
	uint64_t n, room, index_bytes;
	const struct gw__epoch_journal *j;
};

static int count_run(void *ctx, uint32_t block, uint64_t off, const uint8_t *pages, uint64_t n, struct gw__error *error)
{
	struct record *rec = ctx;
	(void)block, (void)off, (void)error;
	rec->n++;
	rec->head.third += pages ? n * rec->j->page_bytes : 0;
	return 0;
}

static int put_run(void *ctx, uint32_t block, uint64_t off, const uint8_t *pages, uint64_t n, struct gw__error *error)
{
	struct record *rec = ctx;
	struct gw__wr c = gw__wr_over(rec->index + GW__EPOCH_HEAD_BYTES + rec->n * GW__EPOCH_ENTRY_BYTES, GW__EPOCH_ENTRY_BYTES);
	(void)error;
	gw__wr_be32(&c, block);
	gw__wr_be32(&c, pages ? 0 : 1);
	gw__wr_be64(&c, off);
	gw__wr_be64(&c, n);
	rec->run[rec->n++] = (struct run){pages, pages ? n * rec->j->page_bytes : 0};
	return 0;
}

static void free_record(struct record *rec)
{
	free(rec->run);
	free(rec->index);
}

static int describe(struct record *rec, const struct gw__epoch *epoch, struct gw__error *error)
{
	struct gw__view devices = gw__epoch_devices(epoch);
	int r = gw__epoch_apply(epoch, count_run, rec, error);
	if (r)
		return r;
	rec->head.first = rec->n;
	rec->head.second = devices.n;
	rec->index_bytes = gw__round_up(GW__EPOCH_HEAD_BYTES + rec->n * GW__EPOCH_ENTRY_BYTES + devices.n, GW__EPOCH_ALIGN);
	rec->run = calloc(rec->n + 1, sizeof *rec->run);
	rec->index = calloc(1, rec->index_bytes);
	if (!rec->run || !rec->index)
		return gw__error_set(error, -ENOMEM, "no memory to keep an epoch of %llu runs", (ull)rec->n);
	rec->n = 0;
	r = gw__epoch_apply(epoch, put_run, rec, error);
	if (devices.n)
		memcpy(rec->index + GW__EPOCH_HEAD_BYTES + rec->n * GW__EPOCH_ENTRY_BYTES, devices.p, devices.n);
	return r;
}

static int seal(struct record *rec, struct gw__error *error)
{
	XXH3_state_t *sum = XXH3_createState();
	if (!sum)
		return gw__error_set(error, -ENOMEM, "no memory for a checksum");
	XXH3_128bits_reset(sum);
	XXH3_128bits_update(sum, rec->index + GW__EPOCH_HEAD_BYTES, rec->index_bytes - GW__EPOCH_HEAD_BYTES);
	for (uint64_t i = 0; i < rec->n; i++)
		if (rec->run[i].pages)
			XXH3_128bits_update(sum, rec->run[i].pages, rec->run[i].bytes);
	put_sum(XXH3_128bits_digest(sum), rec->head.sum);
	XXH3_freeState(sum);
	gw__epoch_head_encode(&rec->head, rec->index);
	return 0;
}

static int write_record(const struct gw__epoch_extent *e, const struct record *rec, struct gw__error *error)
{
	struct iovec iov[IOV_ROOM] = {{rec->index, rec->index_bytes}};
	uint64_t off = e->end_off, bytes = rec->index_bytes;
	int n = 1, r = 0;
	for (uint64_t i = 0; !r && i <= rec->n; i++) {
		if (i == rec->n || n == IOV_ROOM) {
			r = gw__file_writev(e->fd, e->path, off, iov, n, error);
			off += bytes;
			bytes = 0;
			n = 0;
		}
		if (i == rec->n || !rec->run[i].pages)
			continue;
		iov[n++] = (struct iovec){(void *)(uintptr_t)rec->run[i].pages, rec->run[i].bytes};
		bytes += rec->run[i].bytes;
	}
	return r || fdatasync(e->fd) == 0 ? r : gw__error_errno(error, errno, "cannot sync %s", e->path);
}

uint64_t gw__epoch_journal_bytes(const struct gw__epoch_journal *j, const struct gw__epoch *epoch)
{
	struct gw__epoch_stats s = gw__epoch_stats(epoch);
	return (s.pages + s.zero_pages) * GW__EPOCH_ENTRY_BYTES + s.pages * j->page_bytes + gw__epoch_devices(epoch).n +
	       3 * GW__EPOCH_ALIGN;
}

int gw__epoch_journal_append(struct gw__epoch_journal *j, const struct gw__epoch *epoch, struct gw__error *error)
{
	struct gw__epoch_extent *e = &j->extent[j->active];
	struct record rec = {.head = {.magic = GW__EPOCH_RECORD_MAGIC, .epoch = e->last + 1}, .j = j};
	memcpy(rec.head.id, j->id, sizeof j->id);
	int r = describe(&rec, epoch, error);
	uint64_t bytes = r ? 0 : gw__round_up(rec.index_bytes + rec.head.third, GW__EPOCH_ALIGN);
	if (!r)
		r = reserve(e, e->end_off, bytes, error);
	if (!r)
		r = seal(&rec, error);
	if (!r)
		r = write_record(e, &rec, error);
	free_record(&rec);
	if (r)
		return gw__error_where(error, "epoch %llu is not safe on the disk", (ull)e->last + 1);
	e->last++;
	e->end_off += bytes;
	return 0;
}
