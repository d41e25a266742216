/* SPDX-License-Identifier: MIT */
/*
 * Which bitmaps of a state file hold (docs/spec/partial.md): the live ones as long as the boot lasts in which they were written and no sync
 * failed, otherwise those of the last of two checkpoints. See partial.h; the thread of whoever has it open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "image/fileio.h"
#include "image/partial_parts.h"

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

static int put_live_head(struct gw__partial *p, const char id[BOOT_ID_BYTES], struct gw__why *why)
{
	uint8_t head[LIVE_HEAD_BYTES];
	memcpy(head, id, BOOT_ID_BYTES);
	gw__be_put(head + BOOT_ID_BYTES, p->fell_back, 4);
	return gw__file_write(p->fd, p->path, GW__PARTIAL_LIVE_HEAD_OFF, head, sizeof head, why);
}

/* Without a boot id nobody can tell that it is still the same boot, and checkpoints alone count. */
int gw__partial_trust_live(struct gw__partial *p, struct gw__why *why)
{
	char id[BOOT_ID_BYTES];
	memset(id, 0, sizeof id);
	read_boot_id(id);
	return put_live_head(p, id, why);
}

void gw__partial_distrust(struct gw__partial *p)
{
	static const char nobody[BOOT_ID_BYTES];
	p->distrusted = true;
	put_live_head(p, nobody, NULL);
}

int gw__partial_sync(struct gw__partial *p, struct gw__why *why)
{
	if (fdatasync(p->fd) == 0)
		return 0;
	int r = gw__why_errno(why, errno, "cannot make %s safe on its disk", p->path);
	gw__partial_distrust(p);
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
		return gw__why_set(why, -EIO, "an earlier write of what %s speaks of failed, or making it safe on its disk", p->path);
	gw__partial_sum(p->live, p->maps_bytes, sum);
	encode_slot(p->seq + 1, sum, page);
	int r = gw__file_write(p->fd, p->path, gw__partial_slot_off(p->maps_bytes, slot), p->live, p->maps_bytes, why);
	if (!r)
		r = gw__partial_sync(p, why);
	if (!r)
		r = gw__file_write(p->fd, p->path, GW__PARTIAL_SLOT_HEAD_OFF + slot * GW__PARTIAL_PAGE, page, sizeof page, why);
	if (!r)
		r = gw__partial_sync(p, why);
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

/* NULL: no checkpoint, and all clear. */
static int make_live(struct gw__partial *p, const uint8_t *maps, struct gw__why *why)
{
	if (maps)
		memcpy(p->live, maps, p->maps_bytes);
	else
		memset(p->live, 0, p->maps_bytes);
	if (msync(p->live, p->maps_bytes, MS_SYNC))
		return gw__why_errno(why, errno, "cannot make %s safe on its disk", p->path);
	return gw__partial_trust_live(p, why);
}

/* The next checkpoint goes behind the last one in any case; `restore`: the live bitmaps become those of the last. */
static int find_checkpoint(struct gw__partial *p, bool restore, struct gw__why *why)
{
	uint8_t *maps[2] = {malloc(p->maps_bytes), malloc(p->maps_bytes)};
	uint64_t seq[2] = {0, 0};
	int r = 0;
	for (unsigned i = 0; i < 2; i++)
		seq[i] = maps[i] ? judge_slot(p, i, maps[i]) : 0;
	unsigned last = seq[1] > seq[0];
	p->seq = seq[last];
	if (!maps[0] || !maps[1])
		r = gw__why_set(why, -ENOMEM, "no memory for bitmaps of %llu bytes", (unsigned long long)p->maps_bytes);
	else if (restore)
		r = make_live(p, p->seq ? maps[last] : NULL, why);
	free(maps[0]);
	free(maps[1]);
	return r;
}

/* After a crash of the host the live bitmaps may speak of pages that never reached the disk. It is kept that it was so, for whoever ends it. */
int gw__partial_settle_maps(struct gw__partial *p, bool *fell_back, struct gw__why *why)
{
	uint8_t head[LIVE_HEAD_BYTES];
	char now[BOOT_ID_BYTES];
	int r = gw__file_read(p->fd, p->path, GW__PARTIAL_LIVE_HEAD_OFF, head, sizeof head, why);
	if (r)
		return r;
	bool crashed = !p->finished_bytes && (!read_boot_id(now) || memcmp(head, now, sizeof now)); /* what is finished was synced */
	p->fell_back = crashed || gw__be_get(head + BOOT_ID_BYTES, 4);
	*fell_back = p->fell_back;
	return find_checkpoint(p, crashed, why);
}
