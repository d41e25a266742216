/* SPDX-License-Identifier: MIT */
/* Opening whatever keeps a guest, naming what keeps none, and driving a sink from it; see stored_guest.h. */
#include "engine/files/stored_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/math.h"
#include "engine/core/run.h"
#include "engine/sink/image_sink.h"
#include "io/wait.h"
#include "wire/header.h"

typedef unsigned long long ull;

enum { WRITER_MS = 10000 };

/* --- what is no image and no stream, but people keep guests in: libvirt's save files, compressed ones, files of ours beside an image --- */

/* Heads only are read, and no number in them is believed. */
enum { HEAD_BYTES = 92, MAGIC_BYTES = 16, DATA_MAX_BYTES = 64 << 20 };

/* As libvirt numbers them. The two that are not compressed have no program. */
static const char *const programs[] = {NULL, "gzip", "bzip2", "xz", "lzop", "zstd", NULL};

static size_t read_at(int fd, uint64_t off, uint8_t *to, size_t n)
{
	size_t got = 0;
	for (ssize_t step; got < n; got += (size_t)step)
		if ((step = pread(fd, to + got, n - got, (off_t)(off + got))) <= 0)
			break;
	return got;
}

/* A path as it is in a command line, if a shell takes it for one word. */
static const char *shell_word(const char *path)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-";
	return *path != '-' && path[strspn(path, plain)] == 0 ? path : "FILE";
}

static uint32_t number_at(const uint8_t *head, unsigned off, bool little)
{
	uint32_t v = (uint32_t)gw__be_get(head + off, 4);
	return little ? __builtin_bswap32(v) : v;
}

static int say_libvirt(int fd, const char *path, uint64_t base_off, const uint8_t head[HEAD_BYTES], struct gw__error *error)
{
	struct stat st = {0};
	bool part = !memcmp(head + 12, "Part", 4), little = number_at(head, 16, true) <= 0xffff;
	uint32_t data_bytes = number_at(head, 20, little), format = number_at(head, 28, little);
	uint64_t off = base_off + HEAD_BYTES + data_bytes;
	const char *what = part ? "an unfinished save file of libvirt, whose end may be missing" : "a save file of libvirt (virsh save)";
	if (number_at(head, 16, little) > 2 || data_bytes > DATA_MAX_BYTES || format >= GW__LEN(programs) || fstat(fd, &st) ||
		(S_ISREG(st.st_mode) && off >= (uint64_t)st.st_size))
		return gw__error_set(error, -EPROTO, "%s is %s, but its head is damaged or newer than version 2", path, what);
	if (programs[format])
		return gw__error_set(error, -EPROTO,
			"%s is %s; its guest is compressed and begins at offset %llu: give 'exec:tail -c +%llu %s | %s -dc' instead of it",
			path, what, (ull)off, (ull)off + 1, shell_word(path), programs[format]);
	return gw__error_set(error, -EPROTO, "%s is %s; its guest begins at offset %llu: give --offset=%llu", path, what, (ull)off,
		(ull)off);
}

/* 0: nothing that is known. -EPROTO: a sentence names it and says the way to the guest in it. The descriptor's position stays. */
static int name_kind(int fd, const char *path, uint64_t base_off, struct gw__error *error)
{
	uint8_t head[HEAD_BYTES];
	size_t n = read_at(fd, base_off, head, sizeof head);
	if (n == sizeof head && (!memcmp(head, "LibvirtQemudSave", MAGIC_BYTES) || !memcmp(head, "LibvirtQemudPart", MAGIC_BYTES)))
		return say_libvirt(fd, path, base_off, head, error);
	const struct gw__other_format *other = n < 8 ? NULL : gw__header_other((uint32_t)gw__be_get(head, 4));
	if (!other)
		return 0;
	if (!other->program)
		return gw__error_set(error, -EPROTO, "%s is %s%s%s", path, other->what, other->advice ? "; " : "",
			other->advice ? other->advice : "");
	if (base_off)
		return gw__error_set(error, -EPROTO, "%s is %s at offset %llu: give 'exec:tail -c +%llu %s | %s -dc' instead of it", path,
			other->what, (ull)base_off, (ull)base_off + 1, shell_word(path), other->program);
	return gw__error_set(error, -EPROTO, "%s is %s: give 'exec:%s -dc %s' instead of it", path, other->what, other->program,
		shell_word(path));
}

/* --- opening --- */

/* What can be read but not sought can only be a stream. */
static int open_pipe(struct gw__run *run, const struct gw__uri *uri, struct gw__stored_guest *stored)
{
	struct gw__io_opts o = GW__IO_DEFAULTS;
	o.cancel_fd = run->cancel_fd;
	return gw__io_open_in(uri, &o, &stored->stream, &run->error);
}

static int check_type(struct gw__run *run, int fd, const char *path, const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return gw__error_set(&run->error, -EISDIR, "%s is a folder, expected an image or a stream", path);
	if (!S_ISFIFO(st->st_mode))
		return 0;
	int r = gw__io_wait(fd, POLLIN, run->cancel_fd, gw__io_deadline(WRITER_MS));
	if (r == -ECANCELED)
		return gw__error_set(&run->error, r, "cancelled while waiting for somebody to write to the pipe %s", path);
	if (r < 0)
		return gw__error_errno(&run->error, -r, "cannot wait for the pipe %s", path);
	return r ? 0
		 : gw__error_set(&run->error, -ETIMEDOUT, "%s is a pipe, and nobody wrote to it for %d s; start its writer first", path,
			   WRITER_MS / 1000);
}

static int open_file(struct gw__run *run, const char *path, uint64_t base_off, struct gw__stored_guest *stored)
{
	struct gw__io_opts o = GW__IO_DEFAULTS;
	o.cancel_fd = run->cancel_fd;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* or a pipe nobody writes to would hold us for ever */
	if (fd < 0)
		return gw__error_errno(&run->error, errno, "cannot open %s", path);
	struct stat st = {0};
	int r = fstat(fd, &st) ? gw__error_errno(&run->error, errno, "cannot look at %s", path) : check_type(run, fd, path, &st);
	if (!r && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		r = name_kind(fd, path, base_off, &run->error);
	if (r) {
		close(fd);
		return r;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return gw__chan_take_fd(fd, path, &o, &stored->stream, &run->error);
	int image = gw__image_probe(fd, base_off, &run->error);
	if (image < 0) {
		close(fd);
		return gw__error_where(&run->error, "%s", path);
	}
	if (image)
		return gw__image_open_fd(fd, path, base_off, &stored->image, &run->error);
	if (lseek(fd, (off_t)base_off, SEEK_SET) < 0) {
		int err = errno;
		close(fd);
		return gw__error_errno(&run->error, err, "cannot go to offset %llu of %s", (unsigned long long)base_off, path);
	}
	return gw__chan_take_fd(fd, path, &o, &stored->stream, &run->error);
}

/* A file that has this name goes first: a name that a shell has put in for a pattern must never be a command. */
static bool is_uri(const char *where)
{
	struct stat st;
	bool looks_so = !strncmp(where, "file:", 5) || !strncmp(where, "exec:", 5) || !strncmp(where, "fd:", 3);
	return looks_so && lstat(where, &st) != 0;
}

static void tell_odd(struct gw__run *run, const struct gw__image *image)
{
	for (uint32_t i = 0; image && i < image->anomaly_n; i++)
		gw__run_warn(run, "%s", image->anomaly[i]);
}

static int open_kept(struct gw__run *run, const char *where, uint64_t base_off, struct gw__stored_guest *stored)
{
	memset(stored, 0, sizeof *stored);
	stored->base_off = base_off;
	snprintf(stored->name, sizeof stored->name, "%s", where);
	if (!is_uri(where))
		return open_file(run, where, base_off, stored);
	struct gw__uri *uri = malloc(sizeof *uri);
	if (!uri)
		return gw__error_set(&run->error, -ENOMEM, "no memory");
	int r = gw__uri_parse(where, uri, &run->error);
	if (!r && uri->kind == GW__URI_FILE) {
		stored->base_off = uri->offset;
		r = open_file(run, uri->target, uri->offset, stored);
	} else if (!r) {
		r = open_pipe(run, uri, stored);
	}
	free(uri);
	return r;
}

int gw__stored_guest_open(struct gw__run *run, const char *where, uint64_t base_off, struct gw__stored_guest *stored)
{
	int r = open_kept(run, where, base_off, stored);
	tell_odd(run, stored->image);
	return r;
}

void gw__stored_guest_close(struct gw__stored_guest *stored)
{
	gw__image_close(stored->image);
	stored->image = NULL;
	free(stored->left_out);
	stored->left_out = NULL;
	gw__chan_close(&stored->stream, NULL);
}

/* --- image to sink, in order --- */

enum { BATCH_PAGES = 128 };

struct run_all {
	struct gw__run *run;
	const struct gw__image *image;
	struct gw__sink *sink;
	const bool *left_out; /* one per block; NULL: none */
	uint64_t page_bytes;
	uint8_t *pages; /* BATCH_PAGES of them */
};

static int put_run(struct run_all *p, uint32_t block, uint64_t first, uint64_t n)
{
	int r = gw__image_read_pages(p->image, block, first, n, p->pages, &p->run->error);
	if (r)
		return r;
	atomic_fetch_add_explicit(&p->run->counters.pages, n, memory_order_relaxed);
	return gw__sink_put(p->sink, block, first * p->page_bytes, p->pages, n, &p->run->error);
}

static int put_block(struct run_all *p, uint32_t block)
{
	const struct gw__bitmap *present = &p->image->present[block];
	uint64_t i = 0;
	int r = 0;
	while (!r && i < present->bits) {
		uint64_t next = gw__bitmap_next_set(present, i);
		if (next > i) {
			atomic_fetch_add_explicit(&p->run->counters.zero_pages, next - i, memory_order_relaxed);
			r = gw__sink_zeros(p->sink, block, i * p->page_bytes, next - i, &p->run->error);
		} else {
			next = gw__bitmap_next_clear_before(present, i, i + BATCH_PAGES);
			r = put_run(p, block, i, next - i);
		}
		i = next;
		gw__run_tick(p->run);
		if (!r)
			r = gw__run_check_cancel(p->run);
	}
	return r;
}

static int put_device(struct run_all *p, const struct gw__image_device *d)
{
	struct gw__error *error = &p->run->error;
	uint8_t *raw = malloc(d->bytes);
	if (!raw)
		return gw__error_set(error, -ENOMEM, "no memory for %llu bytes of device \"%s\"", (unsigned long long)d->bytes,
			d->section.idstr);
	int r = gw__image_read_at(p->image, d->off, raw, d->bytes, error);
	if (!r)
		r = gw__sink_device(p->sink, &d->section, d->off, (struct gw__view){raw, d->bytes}, error);
	free(raw);
	return r;
}

enum when { BEFORE_RAM, BEFORE_PAGES, AFTER_RAM };

static enum when when(const struct gw__image_device *d)
{
	if (d->before_ram)
		return BEFORE_RAM;
	return d->early ? BEFORE_PAGES : AFTER_RAM;
}

static int put_devices(struct run_all *p, enum when w)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < p->image->devices_n; i++)
		if (when(&p->image->devices[i]) == w)
			r = put_device(p, &p->image->devices[i]);
	return r;
}

static int put_blocks(struct run_all *p)
{
	const struct gw__blocks *blocks = &p->image->blocks;
	int r = 0;
	for (uint32_t b = 0; !r && b < blocks->n; b++)
		if (!blocks->v[b].ignored && !(p->left_out && p->left_out[b]))
			r = put_block(p, b);
	return r;
}

static int put_ram(struct run_all *p)
{
	const struct gw__image *image = p->image;
	gw__run_phase(p->run, GW__PHASE_RAM);
	int r = gw__sink_ram_of_image(p->sink, image, &p->run->error);
	if (r == GW__NOT_MINE)
		r = put_blocks(p);
	if (!r && image->switchover)
		r = gw__sink_switchover(p->sink, &p->run->error);
	return r;
}

static int put_end(struct run_all *p)
{
	const struct gw__image *image = p->image;
	struct gw__error *error = &p->run->error;
	uint8_t *text = malloc(image->text_bytes + 1);
	if (!text)
		return gw__error_set(error, -ENOMEM, "no memory for the VM description");
	int r = gw__image_read_at(image, image->text_off, text, image->text_bytes, error);
	if (!r)
		r = gw__sink_end(p->sink, (struct gw__view){text, image->text_bytes}, error);
	free(text);
	return r;
}

static int put_head(struct run_all *p)
{
	const struct gw__image *image = p->image;
	struct gw__error *error = &p->run->error;
	atomic_store(&p->run->counters.total_bytes, image->blocks.total_bytes);
	int r = gw__sink_config(p->sink, &image->config, error);
	if (!r)
		r = put_devices(p, BEFORE_RAM);
	if (!r)
		r = gw__sink_blocks(p->sink, image->ram_id, &image->blocks, error);
	return r ? r : put_devices(p, BEFORE_PAGES);
}

static int put_tail(struct run_all *p)
{
	gw__run_phase(p->run, GW__PHASE_DEVICES);
	int r = gw__sink_ram_end(p->sink, &p->run->error);
	if (!r)
		r = put_devices(p, AFTER_RAM);
	return r ? r : put_end(p);
}

static int run_image(struct gw__run *run, const struct gw__image *image, const bool *left_out, struct gw__sink *sink)
{
	struct run_all p = {.run = run,
		.image = image,
		.sink = sink,
		.left_out = left_out,
		.page_bytes = gw__config_page_bytes(&image->config)};
	p.pages = malloc(BATCH_PAGES * p.page_bytes);
	if (!p.pages)
		return gw__error_set(&run->error, -ENOMEM, "no memory for %d pages", BATCH_PAGES);
	int r = put_head(&p);
	if (!r)
		r = put_ram(&p);
	if (!r)
		r = put_tail(&p);
	free(p.pages);
	if (r)
		return r;
	gw__run_phase(run, GW__PHASE_SYNC);
	r = gw__sink_commit(sink, &run->error);
	if (!r)
		gw__run_phase(run, GW__PHASE_DONE);
	return r;
}

int gw__stored_guest_describe(struct gw__run *run, const struct gw__stored_guest *stored, struct gw__sink *sink)
{
	const struct gw__image *image = stored->image;
	struct run_all p = {.run = run, .image = image, .sink = sink, .page_bytes = gw__config_page_bytes(&image->config)};
	int r = put_head(&p);
	return r ? r : put_tail(&p);
}

/* --- whatever it is --- */

int gw__stored_guest_run(struct gw__run *run, struct gw__stored_guest *stored, struct gw__sink *sink, struct gw__stream_stats *stats)
{
	int r = stored->image ? run_image(run, stored->image, stored->left_out, sink)
			      : gw__incoming_run_channel(run, stored->stream, sink, stats, NULL);
	bool is_named = !strncmp(run->error.text, stored->name, strlen(stored->name)); /* by the channel */
	return r && !is_named ? gw__error_where(&run->error, "%s", stored->name) : r;
}

/* A folder for one image that loses its name as soon as it is open. */
static int unpack(struct gw__run *run, struct gw__stored_guest *stored, const char *dir, struct gw__image **image)
{
	char path[4096];
	struct gw__image_writer *writer = NULL;
	struct gw__sink *sink = NULL;
	snprintf(path, sizeof path, "%s/image", dir);
	int r = gw__image_create(path, &(struct gw__image_writer_opts){.unsynced = true}, &writer, &run->error);
	if (!r)
		r = gw__sink_image_new(&writer, &sink, &run->error);
	if (!r)
		r = gw__stored_guest_run(run, stored, sink, NULL);
	gw__image_writer_close(writer);
	gw__sink_free(&sink);
	if (!r)
		r = gw__image_open(path, 0, image, &run->error);
	unlink(path);
	return r;
}

int gw__stored_guest_as_image(struct gw__run *run, struct gw__stored_guest *stored)
{
	if (stored->image)
		return 0;
	const char *tmp = getenv("TMPDIR");
	char dir[4000];
	snprintf(dir, sizeof dir, "%s/godwit-XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
	if (!mkdtemp(dir))
		return gw__error_errno(&run->error, errno,
			"cannot make a temporary folder %s (set TMPDIR to a place with room for the guest)", dir);
	struct gw__image *image = NULL;
	int r = unpack(run, stored, dir, &image);
	rmdir(dir);
	if (r)
		return r;
	gw__chan_close(&stored->stream, NULL);
	stored->image = image;
	return 0;
}
