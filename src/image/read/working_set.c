/* SPDX-License-Identifier: MIT */
/* Reading a working set; see working_set.h. */
#include "image/read/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "image/file/fileio.h"
#include "image/file/destination_path.h"
#include "image/read/working_set_record.h"

/* --- chunks --- */

static bool fits(const struct gw__image *image, const struct gw__ws_run *e)
{
	const struct gw__block *b = e->block < image->blocks.n ? &image->blocks.v[e->block] : NULL;
	uint64_t pages = b && !b->ignored ? b->used_bytes / gw__config_page_bytes(&image->config) : 0;
	return e->first < pages && e->pages <= pages - e->first;
}

static int by_place(const void *a, const void *b)
{
	const struct gw__ws_run *x = a, *y = b;
	if (x->block != y->block)
		return x->block < y->block ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

static int add_run(struct gw__working_set *ws, const struct gw__ws_run *e, bool may_join)
{
	struct gw__ws_pages *last = ws->runs ? &ws->run[ws->runs - 1] : NULL;
	uint64_t end = (uint64_t)e->first + e->pages;
	gw__bitmap_set_range(&ws->known[e->block], e->first, e->pages);
	if (may_join && last->block == e->block && e->first <= last->first + last->n) {
		last->n = end > last->first + last->n ? end - last->first : last->n;
		return 0;
	}
	if (ws->runs == ws->room) {
		uint32_t room = ws->room ? 2 * ws->room : 1024;
		struct gw__ws_pages *v = realloc(ws->run, room * sizeof *v);
		if (!v)
			return -ENOMEM;
		ws->run = v;
		ws->room = room;
	}
	ws->run[ws->runs++] = (struct gw__ws_pages){e->block, e->first, e->pages};
	return 0;
}

/* Runs of a chunk are joined with each other only: the next one was asked for later. */
static int add_chunk(struct gw__working_set *ws, struct gw__ws_run *v, uint32_t n)
{
	int r = 0;
	for (uint32_t i = 0; i < n; i++)
		if (!fits(ws->image, &v[i]))
			return -EPROTO;
	qsort(v, n, sizeof *v, by_place);
	for (uint32_t i = 0; !r && i < n; i++)
		r = add_run(ws, &v[i], i > 0);
	return r;
}

/* As far as they are whole. 0 or -ENOMEM. */
static int take_chunks(struct gw__working_set *ws, struct gw__rd *c)
{
	struct gw__ws_run *v = calloc(GW__WS_ENTRIES_MAX, sizeof *v);
	int r = v ? 0 : -ENOMEM;
	ws->end_off = gw__rd_used(c);
	while (!r && gw__rd_left(c)) {
		uint64_t when_s;
		uint32_t n;
		r = gw__ws_chunk_decode(c, ws->head.seed, &when_s, v, &n, NULL);
		if (!r)
			r = add_chunk(ws, v, n);
		if (r)
			break;
		ws->added_s = when_s;
		ws->end_off = gw__rd_used(c);
	}
	free(v);
	return r == -ENOMEM ? r : 0;
}

/* --- the file --- */

static int judge(struct gw__working_set *ws, const char *path, struct gw__rd *c, struct gw__error *note)
{
	uint8_t fingerprint[GW__WS_FINGERPRINT_BYTES];
	struct gw__error error = {0};
	int r = gw__ws_head_decode(c, &ws->head, &error);
	ws->state = GW__WS_UNKNOWN;
	if (r == GW__SHORT)
		gw__error_set(&error, -EPROTO, "no working set: it is too short");
	if (!r)
		r = gw__image_fingerprint(ws->image, fingerprint, &error);
	if (r == -ENOMEM)
		return r;
	if (r) {
		gw__error_set(note, -EPROTO, "%s is %s; it is not used and left as it is", path, error.text);
		return 0;
	}
	ws->state = GW__WS_THERE;
	if (ws->head.page_bytes == gw__config_page_bytes(&ws->image->config) &&
		!memcmp(fingerprint, ws->head.fingerprint, sizeof fingerprint))
		return take_chunks(ws, c);
	ws->state = GW__WS_FOREIGN;
	gw__error_set(note, -ESTALE, "%s was recorded of another image than what is in %s now, and is not used", path, ws->image->path);
	return 0;
}

/* Everything that counts of it, into memory of its own. */
static int load(struct gw__working_set *ws, int fd, const char *path, struct gw__error *note)
{
	struct stat st;
	struct gw__error error = {0};
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		ws->state = GW__WS_UNKNOWN;
		gw__error_set(note, -EINVAL, "%s is not a regular file, and so no working set", path);
		return 0;
	}
	if (gw__path_is_foreign(path, &st)) {
		ws->state = GW__WS_UNKNOWN;
		gw__error_set(note, -EPERM, "%s may be the work of user %u: no working set is used, and none recorded", path,
			(unsigned)st.st_uid);
		return 0;
	}
	ws->dev = st.st_dev;
	ws->ino = st.st_ino;
	size_t n = gw__min((uint64_t)st.st_size, GW__WS_FILE_BYTES_MAX);
	uint8_t *bytes = malloc(n + 1);
	int r = bytes ? gw__file_read(fd, path, 0, bytes, n, &error) : -ENOMEM;
	if (!r) {
		struct gw__rd c = gw__rd_over(bytes, n);
		r = judge(ws, path, &c, note);
		ws->torn_bytes = ws->state == GW__WS_THERE ? (uint64_t)st.st_size - ws->end_off : 0;
	} else if (r != -ENOMEM) {
		ws->state = GW__WS_UNKNOWN;
		gw__error_set(note, r, "%s; no working set is used", error.text);
		r = 0;
	}
	free(bytes);
	return r;
}

static int init(struct gw__working_set *ws, const char *path, const struct gw__image *image)
{
	ws->image = image;
	ws->fd = -1;
	ws->path = strdup(path);
	ws->known = calloc(image->blocks.n, sizeof *ws->known);
	if (!ws->known || !ws->path)
		return -ENOMEM;
	for (uint32_t i = 0; i < image->blocks.n; i++)
		if (!image->blocks.v[i].ignored &&
			gw__bitmap_init(&ws->known[i], image->blocks.v[i].used_bytes / gw__config_page_bytes(&image->config)))
			return -ENOMEM;
	return 0;
}

static void say_not_opened(const char *path, int err, struct gw__error *note)
{
	if (err == ELOOP)
		gw__error_set(note, -err, "no working set is used: %s cannot be opened without following a link", path);
	else
		gw__error_errno(note, err, "no working set is used: cannot open %s", path);
}

int gw__working_set_open(const char *path, const struct gw__image *image, bool record, struct gw__working_set **ws, struct gw__error *note)
{
	struct gw__working_set *made = calloc(1, sizeof *made);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW), err = errno;
	int r = made ? init(made, path, image) : -ENOMEM;
	if (!r && fd < 0 && err != ENOENT) {
		made->state = GW__WS_UNKNOWN;
		say_not_opened(path, err, note);
	}
	if (!r && fd >= 0)
		r = load(made, fd, path, note);
	if (fd >= 0)
		close(fd);
	if (!r && record)
		r = gw__ws_record_begin(made);
	if (r) {
		gw__working_set_close(made);
		return r;
	}
	*ws = made;
	return 0;
}

void gw__working_set_close(struct gw__working_set *ws)
{
	if (!ws)
		return;
	gw__ws_record_end(ws);
	for (uint32_t i = 0; ws->known && i < ws->image->blocks.n; i++)
		gw__bitmap_fini(&ws->known[i]);
	free(ws->known);
	free(ws->run);
	free(ws->path);
	free(ws);
}
