/* SPDX-License-Identifier: MIT */
/*
 * Reading what a dead standby left of its guest's epochs; see epoch_journal.h. A record that is not whole is the end of its extent: it was never
 * acknowledged. An extent that is not whole is one of three (docs/spec/epoch-journal.md 4): given up, begun when the host died, or damaged.
 */
#include "image/epochs/epoch_journal_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/math.h"
#include "image/file/fileio.h"

typedef unsigned long long ull;

enum { PIECE_BYTES = 1 << 20 };

enum fate {
	NONE,     /* never begun */
	GIVEN_UP, /* the other one has all that counts */
	WHOLE,
	TORN, /* its head is right, what is known is not */
};

/* --- a record --- */

struct record {
	struct gw__epoch_head head;
	uint8_t *index; /* with its devices, up to the pages */
	uint64_t off, index_bytes, bytes;
};

static bool sum_is(XXH3_state_t *state, const uint8_t want[GW__EPOCH_SUM_BYTES])
{
	XXH128_canonical_t c;
	XXH128_canonicalFromHash(&c, XXH3_128bits_digest(state));
	return !memcmp(c.digest, want, GW__EPOCH_SUM_BYTES);
}

/* The head and where the rest of it must be: 1. 0: there is none here. */
static int find_record(const struct gw__epoch_journal *j, const struct gw__epoch_extent *e, uint64_t file_bytes, struct record *rec,
	struct gw__error *error)
{
	uint8_t bytes[GW__EPOCH_HEAD_BYTES];
	struct gw__epoch_head *h = &rec->head;
	uint64_t left = file_bytes - gw__min(rec->off, file_bytes);
	if (left < sizeof bytes)
		return 0;
	int r = gw__file_read(e->fd, e->path, rec->off, bytes, sizeof bytes, error);
	if (r)
		return r;
	if (!gw__epoch_head_decode(bytes, GW__EPOCH_RECORD_MAGIC, h) || memcmp(h->id, j->id, sizeof j->id) || h->epoch != e->last + 1)
		return 0;
	if (h->first > left / GW__EPOCH_ENTRY_BYTES || h->second > left || h->third > left)
		return 0;
	rec->index_bytes = gw__round_up(GW__EPOCH_HEAD_BYTES + h->first * GW__EPOCH_ENTRY_BYTES + h->second, GW__EPOCH_ALIGN);
	rec->bytes = gw__round_up(rec->index_bytes + h->third, GW__EPOCH_ALIGN);
	return rec->index_bytes + h->third <= left;
}

static int read_index(const struct gw__epoch_extent *e, struct record *rec, struct gw__error *error)
{
	rec->index = malloc(rec->index_bytes);
	if (!rec->index)
		return gw__error_set(error, -ENOMEM, "no memory for an epoch of %s", e->path);
	return gw__file_read(e->fd, e->path, rec->off, rec->index, rec->index_bytes, error);
}

/* 1: it is whole. 0: it is not. */
static int check_record(const struct gw__epoch_extent *e, struct record *rec, struct gw__error *error)
{
	XXH3_state_t *state = XXH3_createState();
	uint8_t *piece = malloc(PIECE_BYTES);
	int r = state && piece ? 0 : gw__error_set(error, -ENOMEM, "no memory to check an epoch of %s", e->path);
	if (!r)
		r = read_index(e, rec, error);
	if (!r) {
		XXH3_128bits_reset(state);
		XXH3_128bits_update(state, rec->index + GW__EPOCH_HEAD_BYTES, rec->index_bytes - GW__EPOCH_HEAD_BYTES);
	}
	for (uint64_t at = 0, n; !r && at < rec->head.third; at += n) {
		n = gw__min((uint64_t)PIECE_BYTES, rec->head.third - at);
		r = gw__file_read(e->fd, e->path, rec->off + rec->index_bytes + at, piece, n, error);
		if (!r)
			XXH3_128bits_update(state, piece, n);
	}
	if (!r)
		r = sum_is(state, rec->head.sum);
	free(piece);
	XXH3_freeState(state);
	free(rec->index);
	rec->index = NULL;
	return r;
}

/* Its records, up to the first that is not whole. */
int gw__epoch_extent_scan(const struct gw__epoch_journal *j, struct gw__epoch_extent *e, struct gw__error *error)
{
	struct stat st;
	if (fstat(e->fd, &st))
		return gw__error_errno(error, errno, "cannot look at %s", e->path);
	for (;;) {
		struct record rec = {.off = e->end_off};
		int r = find_record(j, e, (uint64_t)st.st_size, &rec, error);
		if (r > 0)
			r = check_record(e, &rec, error);
		if (r <= 0)
			return r;
		e->last++;
		e->end_off += rec.bytes;
	}
}

/* --- an extent --- */

static int read_known(struct gw__epoch_extent *e, const struct gw__epoch_head *h, enum fate *fate, struct gw__error *error)
{
	uint64_t n = h->first + h->second;
	XXH128_canonical_t c;
	e->known = malloc(n + 1);
	if (!e->known)
		return gw__error_set(error, -ENOMEM, "no memory for what is known of %s", e->path);
	int r = gw__file_read(e->fd, e->path, GW__EPOCH_ALIGN, e->known, n, error);
	if (r)
		return r;
	XXH128_canonicalFromHash(&c, XXH3_128bits(e->known, n));
	e->meta_bytes = h->first;
	e->maps_bytes = h->second;
	*fate = memcmp(c.digest, h->sum, sizeof h->sum) ? TORN : WHOLE;
	return 0;
}

static int read_extent(struct gw__epoch_journal *j, unsigned i, struct gw__epoch_head *h, enum fate *fate, struct gw__error *error)
{
	struct gw__epoch_extent *e = &j->extent[i];
	uint8_t bytes[GW__EPOCH_HEAD_BYTES], zeros[GW__EPOCH_HEAD_BYTES] = {0};
	struct stat st;
	*fate = NONE;
	int r = gw__epoch_journal_open_extent(j, i, O_RDWR, error);
	if (r == -ENOENT)
		return 0;
	if (!r)
		r = gw__recv_state_check_ours(e->fd, e->path, error);
	if (!r && fstat(e->fd, &st))
		r = gw__error_errno(error, errno, "cannot look at %s", e->path);
	if (r || (uint64_t)st.st_size < sizeof bytes)
		return r;
	*fate = GIVEN_UP;
	r = gw__file_read(e->fd, e->path, 0, bytes, sizeof bytes, error);
	if (r || !memcmp(bytes, zeros, sizeof bytes))
		return r;
	if (!gw__epoch_head_decode(bytes, GW__EPOCH_EXTENT_MAGIC, h))
		return gw__error_set(error, -EPROTO, "%s is damaged: its head has a wrong checksum", e->path);
	uint64_t left = gw__max((uint64_t)st.st_size, (uint64_t)GW__EPOCH_ALIGN) - GW__EPOCH_ALIGN;
	e->base = e->last = h->epoch;
	*fate = TORN;
	if (h->first > GW__RECV_STATE_META_MAX || h->first > left || h->second > left - h->first || !h->third)
		return 0;
	e->begin_off = e->end_off = gw__round_up(GW__EPOCH_ALIGN + h->first + h->second, GW__EPOCH_ALIGN);
	return read_known(e, h, fate, error);
}

/* One that is torn was never begun, if it is the newer one: the other has all. */
static int settle(struct gw__epoch_journal *j, const struct gw__epoch_head head[2], const enum fate fate[2], struct gw__error *error)
{
	if (fate[0] <= GIVEN_UP && fate[1] <= GIVEN_UP)
		return -ENOENT;
	unsigned first = fate[0] <= GIVEN_UP || (fate[1] > GIVEN_UP && head[1].epoch < head[0].epoch) ? 1 : 0;
	bool both = fate[!first] > GIVEN_UP;
	const struct gw__epoch_extent *e = &j->extent[first];
	if (fate[first] == TORN && fate[!first] == NONE)
		return -ENOENT;
	if (fate[first] == TORN)
		return gw__error_set(error, -EPROTO, "%s is damaged: what is known of the guest has a wrong checksum", e->path);
	memcpy(j->id, head[first].id, sizeof j->id);
	j->page_bytes = head[first].third;
	j->active = first;
	int r = gw__epoch_extent_scan(j, &j->extent[first], error);
	j->order_n = 1;
	if (r || !both || fate[!first] == TORN)
		return r;
	if (memcmp(head[!first].id, j->id, sizeof j->id) || e->last != head[!first].epoch)
		return gw__error_set(error, -EPROTO, "%s is damaged: it ends with epoch %llu, and %s begins with epoch %llu", e->path,
			(ull)e->last, j->extent[!first].path, (ull)head[!first].epoch);
	j->order_n = 2;
	return gw__epoch_extent_scan(j, &j->extent[!first], error);
}

static int take_base(struct gw__epoch_journal *j, struct gw__epoch_base *base, struct gw__error *error)
{
	const struct gw__epoch_extent *e = &j->extent[j->active];
	uint64_t ignored, maps = 0;
	int r = gw__recv_state_meta_decode(e->known, e->meta_bytes, &j->saved, &ignored, error);
	if (r)
		return r;
	bool known = j->page_bytes == gw__config_page_bytes(&j->saved.config);
	for (uint32_t i = 0; known && i < j->saved.blocks.n; i++) {
		maps += gw__bitmap_wire_bytes(j->saved.blocks.v[i].used_bytes / j->page_bytes);
		known = !j->saved.blocks.v[i].ignored;
	}
	if (!known || maps != e->maps_bytes)
		return gw__error_set(error, -EPROTO, "%s has %zu bytes of bitmaps, expected %llu", e->path, e->maps_bytes, (ull)maps);
	*base = (struct gw__epoch_base){.epoch = e->base, .saved = j->saved, .maps = {e->known + e->meta_bytes, e->maps_bytes}};
	return 0;
}

int gw__epoch_journal_open(const char *path, struct gw__epoch_journal **journal, struct gw__epoch_base *base, struct gw__error *error)
{
	struct gw__epoch_journal *j;
	struct gw__epoch_head head[2];
	enum fate fate[2];
	memset(head, 0, sizeof head);
	int r = gw__epoch_journal_new(path, &j, error);
	if (r)
		return r;
	for (unsigned i = 0; !r && i < 2; i++)
		r = read_extent(j, i, &head[i], &fate[i], error);
	if (!r)
		r = settle(j, head, fate, error);
	if (!r)
		r = take_base(j, base, error);
	if (r) {
		gw__epoch_journal_close(j);
		return r;
	}
	*journal = j;
	return 0;
}

bool gw__epoch_journal_drop_last(struct gw__epoch_journal *j)
{
	struct gw__epoch_extent *e = &j->extent[j->order_n == 2 ? !j->active : j->active];
	if (e->last == e->base)
		return false;
	e->last--;
	return true;
}

/* --- replaying --- */

/* Its checksum was right when it was scanned; the guest's pages are nobody's promise all the same. */
static int take_entry(const struct gw__epoch_journal *j, struct gw__rd *c, uint32_t *block, uint64_t *off, uint64_t *n, bool *zeros,
	struct gw__error *error)
{
	*block = gw__rd_be32(c);
	uint32_t kind = gw__rd_be32(c);
	*off = gw__rd_be64(c);
	*n = gw__rd_be64(c);
	*zeros = kind == 1;
	uint64_t used = *block < j->saved.blocks.n ? j->saved.blocks.v[*block].used_bytes : 0;
	if (kind <= 1 && *off % j->page_bytes == 0 && *off < used && *n && *n <= (used - *off) / j->page_bytes)
		return 0;
	return gw__error_set(error, -EPROTO, "a record has %llu pages at offset %llu of block %u, which the guest does not have", (ull)*n,
		(ull)*off, *block);
}

struct reader {
	struct gw__epoch_journal *j;
	const struct gw__epoch_extent *e;
	gw__epoch_apply_fn *fn;
	gw__epoch_replayed_fn *done;
	void *ctx;
	uint8_t *piece;
};

static int replay_run(const struct reader *p, uint64_t from, uint32_t block, uint64_t off, uint64_t n, struct gw__error *error)
{
	uint64_t most = PIECE_BYTES / p->j->page_bytes, k;
	int r = 0;
	for (uint64_t done = 0; !r && done < n; done += k) {
		k = gw__min(most, n - done);
		r = gw__file_read(p->e->fd, p->e->path, from + done * p->j->page_bytes, p->piece, k * p->j->page_bytes, error);
		if (!r)
			r = p->fn(p->ctx, block, off + done * p->j->page_bytes, p->piece, k, error);
	}
	return r;
}

static int replay_record(const struct reader *p, struct record *rec, struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(rec->index + GW__EPOCH_HEAD_BYTES, rec->head.first * GW__EPOCH_ENTRY_BYTES);
	uint64_t from = rec->off + rec->index_bytes, end = from + rec->head.third;
	int r = 0;
	for (uint64_t i = 0; !r && i < rec->head.first; i++) {
		uint32_t block;
		uint64_t off, n;
		bool zeros;
		r = take_entry(p->j, &c, &block, &off, &n, &zeros, error);
		if (!r && zeros) {
			r = p->fn(p->ctx, block, off, NULL, n, error);
		} else if (!r && n * p->j->page_bytes > end - from) {
			r = gw__error_set(error, -EPROTO, "a record of %s has more pages than it says", p->e->path);
		} else if (!r) {
			r = replay_run(p, from, block, off, n, error);
			from += n * p->j->page_bytes;
		}
	}
	return r;
}

static struct gw__view devices_of(const struct record *rec)
{
	return (struct gw__view){rec->index + GW__EPOCH_HEAD_BYTES + rec->head.first * GW__EPOCH_ENTRY_BYTES, rec->head.second};
}

static int keep_devices(struct gw__epoch_journal *j, const struct record *rec, struct gw__view *devices, struct gw__error *error)
{
	uint64_t n = rec->head.second;
	*devices = (struct gw__view){NULL, 0};
	free(j->devices);
	j->devices = malloc(n + 1);
	if (!j->devices)
		return gw__error_set(error, -ENOMEM, "no memory for %llu bytes of device state", (ull)n);
	memcpy(j->devices, devices_of(rec).p, n);
	*devices = (struct gw__view){j->devices, n};
	return 0;
}

static int replay_extent(const struct reader *p, struct gw__view *devices, struct gw__error *error)
{
	struct gw__epoch_extent at = *p->e; /* walks the epochs once more */
	int r = 0;
	at.last = at.base;
	for (at.end_off = at.begin_off; !r && at.last != p->e->last; at.last++) {
		struct record rec = {.off = at.end_off};
		r = find_record(p->j, &at, p->e->end_off, &rec, error);
		if (!r)
			r = gw__error_set(error, -EPROTO, "%s has changed while it was read", p->e->path);
		if (r > 0)
			r = read_index(&at, &rec, error);
		if (!r)
			r = replay_record(p, &rec, error);
		if (!r && p->done)
			r = p->done(p->ctx, at.last + 1, devices_of(&rec), error);
		if (!r && at.last + 1 == p->e->last)
			r = keep_devices(p->j, &rec, devices, error);
		at.end_off += rec.bytes;
		free(rec.index);
	}
	return r;
}

int gw__epoch_journal_replay(struct gw__epoch_journal *j, gw__epoch_apply_fn *fn, gw__epoch_replayed_fn *done, void *ctx,
	struct gw__view *devices, struct gw__error *error)
{
	struct reader p = {.j = j, .fn = fn, .done = done, .ctx = ctx, .piece = malloc(PIECE_BYTES)};
	*devices = j->saved.package;
	int r = p.piece ? 0 : gw__error_set(error, -ENOMEM, "no memory to read the journal of %s", j->dest.path);
	for (unsigned i = 0; !r && i < j->order_n; i++) {
		p.e = &j->extent[i ? !j->active : j->active];
		r = replay_extent(&p, devices, error);
	}
	free(p.piece);
	return r;
}
