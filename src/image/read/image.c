/* SPDX-License-Identifier: MIT */
/* Opening, checking, closing and reading a mapped-ram image, and its fingerprint; see image.h. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/math.h"
#include "image/file/absent.h"
#include "image/file/fileio.h"
#include "image/read/image.h"
#include "wire/mapped.h"
#include "wire/stream.h"

/* While an image is being opened, and only then. One thread. */
struct gw__image_load {
	struct gw__image *image;
	struct gw__stream stream;
	uint8_t *buf; /* the decoder is shown [at, n) of it, and goes on after what it used up */
	size_t at, n, room;
	uint64_t off; /* in the file, of buf[at] */
	uint32_t devices_room;
	struct gw__error *error;
};

/* Fills everything after file_bytes. 0 or a negative errno; what was filled so far is the caller's to free.
 */
static int load(struct gw__image *image, struct gw__error *error);

/* Notes something legal that no QEMU writes; the first few are kept. */
static void note_anomaly(struct gw__image *image, const char *fmt, ...) GW__PRINTF(2, 3);

enum { HEAD_ROOM = 8192 }; /* magic, version, configuration: at most 5.4 kB */

static void note_anomaly(struct gw__image *image, const char *fmt, ...)
{
	if (image->anomaly_n == GW__IMAGE_ANOMALIES_MAX)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(image->anomaly[image->anomaly_n++], sizeof image->anomaly[0], fmt, ap);
	va_end(ap);
}

int gw__image_probe(int fd, uint64_t base_off, struct gw__error *error)
{
	uint8_t head[HEAD_ROOM];
	size_t n = 0;
	while (n < sizeof head) {
		ssize_t got = pread(fd, head + n, sizeof head - n, (off_t)(base_off + n));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return gw__error_errno(error, errno, "cannot read the head of the file");
		if (got == 0)
			break;
		n += (size_t)got;
	}
	struct gw__config config;
	struct gw__rd c = gw__rd_over(head, n);
	int r = gw__header_decode(&c, error);
	if (!r)
		r = gw__config_decode(&c, &config, error);
	if (r == GW__SHORT)
		return gw__error_set(error, -EPROTO, "the file ends inside the head of a migration stream (%zu bytes)", n);
	return r ? r : config.mapped_ram;
}

int gw__image_open(const char *path, uint64_t base_off, struct gw__image **image, struct gw__error *error)
{
	*image = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make us wait for its writer */
	if (fd < 0)
		return gw__error_errno(error, errno, "cannot open %s", path);
	return gw__image_open_fd(fd, path, base_off, image, error);
}

static int check_file(struct gw__image *image, struct gw__error *error)
{
	struct stat st;
	if (fstat(image->fd, &st))
		return gw__error_errno(error, errno, "cannot look at %s", image->path);
	off_t bytes = S_ISBLK(st.st_mode) ? lseek(image->fd, 0, SEEK_END) : st.st_size;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return gw__error_set(error, -EINVAL, "%s is neither a file nor a block device, so it cannot hold a mapped-ram image",
			image->path);
	if (bytes < 0)
		return gw__error_errno(error, errno, "cannot find out the size of %s", image->path);
	image->file_bytes = (uint64_t)bytes;
	if (image->base_off >= image->file_bytes)
		return gw__error_set(error, -EPROTO, "%s has %llu bytes, so no image can begin at offset %llu", image->path,
			(unsigned long long)image->file_bytes, (unsigned long long)image->base_off);
	return 0;
}

int gw__image_open_fd(int fd, const char *path, uint64_t base_off, struct gw__image **image, struct gw__error *error)
{
	*image = NULL;
	struct gw__image *im = calloc(1, sizeof *im);
	if (!im) {
		close(fd);
		return gw__error_set(error, -ENOMEM, "no memory to open %s", path);
	}
	im->fd = fd;
	im->base_off = base_off;
	snprintf(im->path, sizeof im->path, "%s", path);
	int r = check_file(im, error);
	if (!r)
		r = load(im, error);
	if (r) {
		gw__image_close(im);
		return r;
	}
	*image = im;
	return 0;
}

void gw__image_close(struct gw__image *image)
{
	if (!image)
		return;
	for (uint32_t i = 0; image->present && i < image->blocks.n; i++)
		gw__bitmap_fini(&image->present[i]);
	free(image->present);
	gw__blocks_fini(&image->blocks);
	free(image->devices);
	gw__vmdesc_free(image->desc);
	close(image->fd);
	free(image);
}

int gw__image_clear_stale(const struct gw__image *image, int fd, struct gw__cancel_check cancel, struct gw__error *error)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < image->blocks.n; i++) {
		const struct gw__absent a = {.fd = fd,
			.path = image->path,
			.pages_off = image->blocks.v[i].pages_off,
			.page_bytes = gw__config_page_bytes(&image->config),
			.present = &image->present[i],
			.cancel = cancel};
		r = image->blocks.v[i].ignored ? 0 : gw__absent_clear(&a, error);
	}
	return r;
}

/* be32 length, then the name, NUL-padded. */
int gw__image_run_state(const struct gw__image *image, char name[GW__IMAGE_RUN_STATE_BYTES], struct gw__error *error)
{
	enum { AT = 4, N = GW__IMAGE_RUN_STATE_BYTES - 1 };
	int r = 0;
	memset(name, 0, GW__IMAGE_RUN_STATE_BYTES);
	for (uint32_t i = 0; !r && i < image->devices_n; i++)
		if (!strcmp(image->devices[i].section.idstr, "globalstate") && image->devices[i].body_bytes >= AT + N)
			r = gw__image_read_at(image, image->devices[i].body_off + AT, name, N, error);
	if (strspn(name, "abcdefghijklmnopqrstuvwxyz-") != strlen(name))
		name[0] = 0;
	return r;
}

int gw__image_read_at(const struct gw__image *image, uint64_t off, void *to, size_t n, struct gw__error *error)
{
	return gw__file_read(image->fd, image->path, off, to, n, error);
}

static uint64_t page_off(const struct gw__image *image, uint32_t block, uint64_t page)
{
	return image->blocks.v[block].pages_off + (page << image->config.page_bits);
}

int gw__image_read_pages(const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n, void *to, struct gw__error *error)
{
	assert(block < image->blocks.n && !image->blocks.v[block].ignored);
	const struct gw__bitmap *present = &image->present[block];
	assert(first <= present->bits && n <= present->bits - first);
	uint64_t page_bytes = gw__config_page_bytes(&image->config), end = first + n;
	uint8_t *p = to;
	for (uint64_t i = first; i < end;) {
		bool there = gw__bitmap_test(present, i);
		uint64_t next = there ? gw__bitmap_next_clear_before(present, i, end) : gw__bitmap_next_set_before(present, i, end);
		size_t bytes = (next - i) * page_bytes;
		if (!there)
			memset(p, 0, bytes);
		int r = there ? gw__image_read_at(image, page_off(image, block, i), p, bytes, error) : 0;
		if (r)
			return gw__error_where(error, "block \"%s\"", image->blocks.v[block].name);
		p += bytes;
		i = next;
	}
	return 0;
}

int gw__image_find_stale(const struct gw__image *image, uint32_t block, struct gw__cancel_check cancel, uint64_t *page,
	struct gw__error *error)
{
	const struct gw__absent a = {.fd = image->fd,
		.path = image->path,
		.pages_off = page_off(image, block, 0),
		.page_bytes = gw__config_page_bytes(&image->config),
		.present = &image->present[block],
		.cancel = cancel};
	return gw__absent_find(&a, 0, page, error);
}

int gw__image_read_pages_now(const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n, void *to)
{
	return gw__file_read_now(image->fd, page_off(image, block, first), to, n << image->config.page_bits);
}

void gw__image_readahead(const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n)
{
	posix_fadvise(image->fd, (off_t)page_off(image, block, first), (off_t)(n << image->config.page_bits), POSIX_FADV_WILLNEED);
}

/*
 * The bitmaps of an image: which pages have content. By now every region is known to lie inside the file, so
 * their length is bounded by its size; and because a file of holes costs its author nothing, holes are
 * stepped over.
 */

typedef unsigned long long ull;

enum { CHUNK = 65536 };

/* Where data begins at or after `at`, `end` when there is only a hole. */
static uint64_t next_data(int fd, uint64_t at, uint64_t end)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? end : at; /* a file system that does not say: all of it is data */
	return gw__min((uint64_t)data, end);
}

static int load_one(struct gw__image *image, const struct gw__block *b, struct gw__bitmap *present, struct gw__error *error)
{
	uint8_t buf[CHUNK];
	uint64_t n = gw__bitmap_wire_bytes(present->bits);
	for (uint64_t at = 0; at < n;) {
		at = gw__round_down(next_data(image->fd, b->bitmap_off + at, b->bitmap_off + n) - b->bitmap_off, 8);
		size_t step = gw__min(sizeof buf, n - at);
		int r = gw__image_read_at(image, b->bitmap_off + at, buf, step, error);
		if (r)
			return gw__error_where(error, "bitmap of block \"%s\"", b->name);
		if (!gw__bitmap_wire_get(present, at, buf, step))
			return gw__error_set(error, -EPROTO,
				"%s: the bitmap of block \"%s\" (at offset %llu) has bits after its last "
				"page %llu; it is damaged, or "
				"a big-endian host wrote it",
				image->path, b->name, (ull)b->bitmap_off, (ull)present->bits - 1);
		at += step;
	}
	return 0;
}

/* The bitmaps of all blocks, whose regions were checked. */
static int load_bitmaps(struct gw__image *image, struct gw__error *error)
{
	uint64_t page_bytes = gw__config_page_bytes(&image->config);
	image->present = calloc(image->blocks.n, sizeof *image->present);
	if (!image->present)
		return gw__error_set(error, -ENOMEM, "no memory for %u bitmaps", image->blocks.n);
	for (uint32_t i = 0; i < image->blocks.n; i++) {
		const struct gw__block *b = &image->blocks.v[i];
		if (b->ignored)
			continue;
		if (gw__bitmap_init(&image->present[i], b->used_bytes / page_bytes))
			return gw__error_set(error, -ENOMEM, "no memory for the bitmap of block \"%s\" with %llu bytes", b->name,
				(ull)b->used_bytes);
		int r = load_one(image, b, &image->present[i], error);
		if (r)
			return r;
	}
	return 0;
}

/* --- what is noted of each event of its stream, and the checks that need the file --- */

typedef unsigned long long ull;

/* A block's header was read, and ends at `header_end`: the decoder has checked it, but does not know the
 * file. */
static int check_regions(struct gw__image_load *l, uint64_t header_end, uint64_t seek_off)
{
	const struct gw__block *b = &l->stream.blocks.v[l->stream.blocks.n - 1];
	assert(seek_off == b->pages_off + b->used_bytes);
	if (seek_off > l->image->file_bytes)
		return gw__error_set(l->error, -EPROTO,
			"%s: the pages of block \"%s\" reach to offset %llu, but the file ends at %llu; the "
			"save was interrupted, or the "
			"file was cut",
			l->image->path, b->name, (ull)seek_off, (ull)l->image->file_bytes);
	if (b->bitmap_off != header_end)
		note_anomaly(l->image, "block \"%s\": its bitmap is at offset %llu, expected right after its header (%llu)", b->name,
			(ull)b->bitmap_off, (ull)header_end);
	if (!gw__is_aligned(b->pages_off, GW__MAPPED_ALIGN))
		note_anomaly(l->image, "block \"%s\": its pages begin at offset %llu, expected a multiple of 1 MiB", b->name,
			(ull)b->pages_off);
	return 0;
}

static int note_config(struct gw__image_load *l)
{
	l->image->config = l->stream.config; /* but for the page size, which may come with the blocks */
	if (l->image->config.mapped_ram)
		return 0;
	return gw__error_set(l->error, -EPROTO,
		"%s is a plain migration stream, not a mapped-ram image; `godwit inspect` reads it and "
		"`godwit convert` makes an "
		"image of it",
		l->image->path);
}

/* Is this one more piece of what the last entry is? */
static bool goes_on(const struct gw__image_load *l, const struct gw__event *ev)
{
	const struct gw__image *image = l->image;
	if (ev->kind != GW__EVENT_OPAQUE || !image->devices_n || ev->section.type == GW__ITEM_START)
		return false;
	const struct gw__image_device *d = &image->devices[image->devices_n - 1];
	return d->section.type != GW__ITEM_FULL && d->section.id == ev->section.id && d->off + d->bytes == ev->off &&
	       d->early == !l->stream.ram_ended && d->bytes + ev->raw.n <= GW__IMAGE_PIECES_MAX_BYTES;
}

static int note_device(struct gw__image_load *l, const struct gw__event *ev)
{
	struct gw__image *image = l->image;
	if (goes_on(l, ev)) {
		image->devices[image->devices_n - 1].bytes += ev->raw.n;
		image->devices[image->devices_n - 1].body_bytes += ev->raw.n;
		return 0;
	}
	if (image->devices_n == GW__IMAGE_DEVICES_MAX)
		return gw__error_set(l->error, -E2BIG, "%s: more than %d device sections", image->path, GW__IMAGE_DEVICES_MAX);
	if (image->devices_n == l->devices_room) {
		uint32_t room = l->devices_room ? l->devices_room * 2 : 64;
		struct gw__image_device *v = realloc(image->devices, room * sizeof *v);
		if (!v)
			return gw__error_set(l->error, -ENOMEM, "%s: no memory for %u devices", image->path, room);
		image->devices = v;
		l->devices_room = room;
	}
	if (ev->anomaly)
		note_anomaly(image, "device \"%s\" at offset %llu: %s", ev->section.idstr, (ull)ev->off, ev->anomaly);
	image->devices[image->devices_n++] = (struct gw__image_device){
		.section = ev->section,
		.off = ev->off,
		.bytes = ev->raw.n,
		.body_off = ev->off + (uint64_t)(ev->body.p - ev->raw.p),
		.body_bytes = ev->body.n,
		.early = !l->stream.ram_ended,
		.before_ram = !l->stream.ram_started,
	};
	return 0;
}

static int note_end(struct gw__image_load *l)
{
	struct gw__image *image = l->image;
	struct gw__stream *s = &l->stream;
	image->end_off = s->off;
	if (s->background)
		return gw__error_set(l->error, -EPROTO,
			"%s: RAM has a start but no end, so its bitmaps were never written: a save with "
			"background-snapshot and "
			"mapped-ram together, which QEMU reports as completed although it holds no memory "
			"(docs/spec/mapped-ram.md 3)",
			image->path);
	if (!s->desc)
		return gw__error_set(l->error, -EPROTO,
			"%s ends at offset %llu without a VM description: the save was interrupted (or the "
			"machine has "
			"suppress-vmdesc=on, whose files cannot be told from interrupted ones)",
			image->path, (ull)s->off);
	uint64_t page_bytes = gw__vmdesc_page_bytes(s->desc);
	if (page_bytes && page_bytes != s->page_bytes)
		note_anomaly(image, "the VM description names a page size of %llu, the blocks one of %llu", (ull)page_bytes,
			(ull)s->page_bytes);
	image->config = s->config;
	image->ram_id = s->ram_id;
	image->switchover = s->switchover;
	image->parts = s->parts;
	image->blocks = s->blocks;
	image->desc = s->desc;
	s->blocks = (struct gw__blocks){0};
	s->desc = NULL;
	return 0;
}

static int note_command(struct gw__image_load *l, const struct gw__event *ev)
{
	if (ev->command.number != GW__CMD_SWITCHOVER_START)
		note_anomaly(l->image, "command %s at offset %llu, which means nothing in a file", gw__command_name(ev->command.number),
			(ull)ev->off);
	return 0;
}

/* Notes one event, whose bytes end at `end_off` of the file. */
static int handle_event(struct gw__image_load *l, const struct gw__event *ev, uint64_t end_off)
{
	switch (ev->kind) {
	case GW__EVENT_CONFIG:
		return note_config(l);
	case GW__EVENT_COMMAND:
		return note_command(l, ev);
	case GW__EVENT_SEEK:
		return check_regions(l, end_off, ev->seek_off);
	case GW__EVENT_DEVICE:
	case GW__EVENT_OPAQUE:
		return note_device(l, ev);
	case GW__EVENT_DESC:
		l->image->text_off = ev->off + (uint64_t)(ev->body.p - ev->raw.p);
		l->image->text_bytes = ev->body.n;
		return 0;
	case GW__EVENT_END:
		return note_end(l);
	default:
		return 0; /* the ends of RAM sections; page records are the decoder's to refuse */
	}
}

/*
 * Drives the stream decoder over the file: reads what it asks for, follows it over the page regions, and
 * notes where everything stands. The decoder judges the bytes; what needs the file (regions inside it, a save
 * that was interrupted) is judged here. One thread, while the image is being opened.
 */

typedef unsigned long long ull;

enum { FIRST_ROOM = 65536, HOLE_BYTES = 64 };

static int grow(struct gw__image_load *l)
{
	const size_t most = (size_t)GW__IMAGE_TRAILER_MAX + FIRST_ROOM;
	if (l->room == most)
		return gw__error_set(l->error, -E2BIG, "%s: what stands at offset %llu is longer than %d bytes", l->image->path,
			(ull)l->off, GW__IMAGE_TRAILER_MAX);
	size_t room = l->room ? gw__min(l->room * 2, most) : FIRST_ROOM;
	uint8_t *buf = realloc(l->buf, room);
	if (!buf)
		return gw__error_set(l->error, -ENOMEM, "%s: no memory for %zu bytes from offset %llu", l->image->path, room, (ull)l->off);
	l->buf = buf;
	l->room = room;
	return 0;
}

static uint64_t bytes_not_read(const struct gw__image_load *l) { return l->image->file_bytes - (l->off + (l->n - l->at)); }

/* Reads on after what is there. */
static int fill(struct gw__image_load *l)
{
	if (l->at) {
		memmove(l->buf, l->buf + l->at, l->n - l->at);
		l->n -= l->at;
		l->at = 0;
	}
	int r = l->n == l->room ? grow(l) : 0;
	if (r)
		return r;
	size_t step = gw__min(l->room - l->n, bytes_not_read(l));
	r = gw__file_read(l->image->fd, l->image->path, l->off + l->n, l->buf + l->n, step, l->error);
	if (!r)
		l->n += step;
	return r;
}

/* Does a description that lies wholly in the file begin somewhere in the tail? */
static bool has_description(const struct gw__trailer *t, size_t tail_bytes)
{
	if (t->whole)
		return true;
	for (unsigned k = 0; k < t->n; k++)
		if (t->candidate[k].eof_at + 6 + t->candidate[k].text_len <= tail_bytes)
			return true;
	return false;
}

/* Do only zeros stand where the decoder stumbled, as in a hole? */
static bool only_zeros(const struct gw__image_load *l)
{
	size_t at = l->at + (size_t)(l->stream.off - l->off), end = gw__min(l->n, at + HOLE_BYTES);
	bool any = at < end;
	while (at < end)
		if (l->buf[at++])
			return false;
	return any;
}

/*
 * Why a decoder fails: most is damage, also a device that does not match a description that is there. But
 * where the file ends, or goes on as a hole, before it is complete, a save did not get to its end.
 */
static const char *hint(const struct gw__image_load *l, bool file_ended)
{
	const struct gw__stream *s = &l->stream;
	if (!file_ended)
		return only_zeros(l) ? "; only zeros follow: the save was interrupted, or the file was damaged" : "";
	if (s->ram_started && !s->ram_ended)
		return "; RAM has no end: the save was interrupted, or the file was cut";
	if (s->ram_ended && has_description(&s->tail, l->n - l->at))
		return "";
	return "; the save was interrupted, or the file was cut";
}

/* 1: an event. 0: read more. Negative: this is no good image. */
static int ask_decoder(struct gw__image_load *l, struct gw__event *ev, size_t *used)
{
	struct gw__error error = {0};
	int r = gw__stream_next(&l->stream, l->buf + l->at, l->n - l->at, false, used, ev, &error);
	bool ended = r == 0 && *used == 0 && bytes_not_read(l) == 0;
	if (ended)
		r = gw__stream_next(&l->stream, l->buf + l->at, l->n - l->at, true, used, ev, &error);
	if (r < 0)
		return gw__error_set(l->error, r, "%s: %s%s", l->image->path, error.text, hint(l, ended));
	return r;
}

static void step_over(struct gw__image_load *l, size_t used)
{
	l->at += used;
	l->off += used;
}

static void seek_to(struct gw__image_load *l, uint64_t off)
{
	l->at = l->n = 0;
	l->off = off;
}

/* Until the end of the stream. */
static int load_stream(struct gw__image_load *l)
{
	int r = fill(l);
	while (!r) {
		struct gw__event ev = {0};
		size_t used = 0;
		int got = ask_decoder(l, &ev, &used);
		if (got < 0)
			return got;
		if (got) /* before the bytes it points into are stepped over */
			r = handle_event(l, &ev, l->off + used);
		step_over(l, used);
		if (!r && ev.kind == GW__EVENT_END)
			break;
		if (!r && ev.kind == GW__EVENT_SEEK)
			seek_to(l, ev.seek_off);
		if (!r && !got && !used)
			r = fill(l);
	}
	return r;
}

static int load(struct gw__image *image, struct gw__error *error)
{
	struct gw__image_load l = {.image = image, .off = image->base_off, .error = error};
	const struct gw__stream_opts o = {.base_off = image->base_off, .tail_max_bytes = GW__IMAGE_TRAILER_MAX};
	gw__stream_init(&l.stream, &o);
	int r = load_stream(&l);
	gw__stream_fini(&l.stream);
	free(l.buf);
	return r ? r : load_bitmaps(image, error);
}

/* --- the fingerprint: docs/spec/working-set.md 3 --- */

enum { HASH_PIECE_BYTES = 65536 };

static void add_number(XXH3_state_t *x, uint64_t v, unsigned bytes)
{
	uint8_t b[8];
	gw__be_put(b, v, bytes);
	XXH3_128bits_update(x, b, bytes);
}

static void add_text(XXH3_state_t *x, const char *text) { XXH3_128bits_update(x, text, strlen(text) + 1); }

static int add_body(XXH3_state_t *x, const struct gw__image *image, const struct gw__image_device *d, struct gw__error *error)
{
	uint8_t buf[HASH_PIECE_BYTES];
	int r = 0;
	for (uint64_t at = 0, n; !r && at < d->body_bytes; at += n) {
		n = gw__min(sizeof buf, d->body_bytes - at);
		r = gw__image_read_at(image, d->body_off + at, buf, n, error);
		if (!r)
			XXH3_128bits_update(x, buf, n);
	}
	return r;
}

int gw__image_fingerprint(const struct gw__image *image, uint8_t id[GW__IMAGE_FINGERPRINT_BYTES], struct gw__error *error)
{
	XXH3_state_t *x = XXH3_createState();
	XXH128_canonical_t canonical;
	int r = 0;
	if (!x)
		return gw__error_set(error, -ENOMEM, "no memory for a checksum");
	XXH3_128bits_reset(x);
	add_text(x, image->config.machine);
	add_number(x, gw__config_page_bytes(&image->config), 8);
	add_number(x, image->blocks.n, 4);
	for (uint32_t i = 0; i < image->blocks.n; i++) {
		const struct gw__block *b = &image->blocks.v[i];
		add_text(x, b->name);
		add_number(x, b->used_bytes, 8);
		add_number(x, b->ignored, 1);
	}
	for (uint32_t i = 0; !r && i < image->devices_n; i++)
		r = add_body(x, image, &image->devices[i], error);
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(x));
	XXH3_freeState(x);
	memcpy(id, &canonical, GW__IMAGE_FINGERPRINT_BYTES);
	return r;
}
