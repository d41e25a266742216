/* SPDX-License-Identifier: MIT */
/* Recording a working set: one writer, whole chunks at the end of the file; see working_set.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/math.h"
#include "image/file/fileio.h"
#include "image/file/atomic_file.h"
#include "image/read/working_set_record.h"

enum { CHUNK_ENTRIES = 256 };

static uint64_t now_s(void) { return (uint64_t)time(NULL); }

/* The file that was read, if nobody records in it and it is still what it was; what is torn is cut off. */
static int open_again(struct gw__working_set *ws)
{
	struct gw__error *error = &ws->unrecorded;
	struct stat st;
	int fd = open(ws->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
	if (fd < 0)
		gw__error_errno(error, errno, "cannot write to %s", ws->path);
	else if (flock(fd, LOCK_EX | LOCK_NB))
		gw__error_errno(error, errno, "%s cannot be locked: another page server records in it", ws->path);
	else if (fstat(fd, &st) || st.st_dev != ws->dev || st.st_ino != ws->ino || (uint64_t)st.st_size != ws->end_off + ws->torn_bytes)
		gw__error_set(error, -ESTALE, "%s has changed since it was read", ws->path);
	else if (ws->torn_bytes && ftruncate(fd, (off_t)ws->end_off))
		gw__error_errno(error, errno, "cannot cut off the torn end of %s", ws->path);
	if (!error->code)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static int put_head(struct gw__working_set *ws, int fd)
{
	uint8_t head[GW__WS_HEAD_BYTES];
	struct gw__wr c = gw__wr_over(head, sizeof head);
	ws->head = (struct gw__ws_head){.page_bytes = (uint32_t)gw__config_page_bytes(&ws->image->config), .begun_s = now_s()};
	int r = gw__image_fingerprint(ws->image, ws->head.fingerprint, &ws->unrecorded);
	gw__ws_head_encode(&c, &ws->head);
	ws->end_off = sizeof head;
	return r ? r : gw__file_write(fd, ws->path, 0, head, sizeof head, &ws->unrecorded);
}

/*
 * A new file with its header, under its name; it may replace one of another image. What an output file has found is a folder and a name
 * in it, so a link that comes later is replaced itself.
 */
static int make_new(struct gw__working_set *ws)
{
	struct gw__atomic_file f;
	int fd = -1;
	int r = gw__atomic_file_open(ws->path, false, &f, &ws->unrecorded);
	if (!r && strcmp(f.dest.path, ws->path) != 0)
		r = gw__error_set(&ws->unrecorded, -ELOOP, "%s is a link to %s, which is not followed", ws->path, f.dest.path);
	if (!r)
		r = put_head(ws, f.fd);
	if (!r)
		r = gw__atomic_file_commit(&f, true, &ws->unrecorded);
	if (!r && flock(f.fd, LOCK_EX | LOCK_NB) == 0)
		fd = fcntl(f.fd, F_DUPFD_CLOEXEC, 0);
	gw__atomic_file_drop(&f);
	return fd;
}

int gw__ws_record_begin(struct gw__working_set *ws)
{
	ws->fresh = calloc(CHUNK_ENTRIES, sizeof *ws->fresh);
	ws->bytes = malloc(GW__WS_CHUNK_BYTES_MAX);
	if (!ws->fresh || !ws->bytes)
		return -ENOMEM;
	ws->is_new = ws->state != GW__WS_THERE;
	if (ws->state == GW__WS_THERE)
		ws->fd = open_again(ws);
	else if (ws->state != GW__WS_UNKNOWN)
		ws->fd = make_new(ws);
	return 0;
}

static void add_fresh(struct gw__working_set *ws, uint32_t block, uint64_t first, uint64_t n)
{
	struct gw__ws_run *last = ws->fresh_n ? &ws->fresh[ws->fresh_n - 1] : NULL;
	gw__bitmap_set_range(&ws->known[block], first, n);
	if (last && last->block == block && (uint64_t)last->first + last->pages == first && last->pages + n <= UINT16_MAX)
		last->pages = (uint16_t)(last->pages + n);
	else
		ws->fresh[ws->fresh_n++] = (struct gw__ws_run){(uint16_t)block, (uint16_t)n, (uint32_t)first};
	if (ws->fresh_n == CHUNK_ENTRIES)
		gw__working_set_flush(ws);
}

void gw__working_set_add(struct gw__working_set *ws, uint32_t block, uint64_t first, uint64_t n)
{
	const struct gw__bitmap *known = &ws->known[block];
	uint64_t end = gw__min(first + n, UINT64_C(1) << 32), next;
	for (uint64_t at = gw__bitmap_next_clear_before(known, first, end); ws->fd >= 0 && at < end;
		at = gw__bitmap_next_clear_before(known, next, end)) {
		next = gw__bitmap_next_set_before(known, at, gw__min(end, at + UINT16_MAX));
		add_fresh(ws, block, at, next - at);
	}
}

/* The first failure, or a full file, is the end of it: a hole in the middle would only be thrown away later. */
void gw__working_set_flush(struct gw__working_set *ws)
{
	struct gw__wr c = gw__wr_over(ws->bytes, GW__WS_CHUNK_BYTES_MAX);
	if (ws->fd < 0 || !ws->fresh_n)
		return;
	gw__ws_chunk_encode(&c, ws->head.seed, now_s(), ws->fresh, ws->fresh_n);
	ws->fresh_n = 0;
	bool full = ws->end_off + gw__wr_used(&c) > GW__WS_FILE_BYTES_MAX;
	if (!full && !gw__file_write(ws->fd, ws->path, ws->end_off, ws->bytes, gw__wr_used(&c), &ws->unrecorded)) {
		ws->end_off += gw__wr_used(&c);
		ws->is_new = false;
		return;
	}
	close(ws->fd);
	ws->fd = -1;
}

/* Deletes its name if that is still its own. */
static void unlink_empty(const char *path, int fd)
{
	struct stat ours, there;
	if (fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
		unlink(path);
}

void gw__ws_record_end(struct gw__working_set *ws)
{
	if (ws->fd >= 0)
		gw__working_set_flush(ws);
	if (ws->fd >= 0 && ws->is_new)
		unlink_empty(ws->path, ws->fd);
	if (ws->fd >= 0)
		close(ws->fd);
	ws->fd = -1;
	free(ws->fresh);
	free(ws->bytes);
}
