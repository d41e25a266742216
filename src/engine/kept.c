/* SPDX-License-Identifier: MIT */
/* Opening whatever keeps a guest; see kept.h. */
#include "engine/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/sinks.h"

/* What can be read but not sought can only be a stream. */
static int open_pipe(struct gw__run *run, const struct gw__uri *uri, struct gw__kept *kept)
{
	struct gw__io_opts o = GW__IO_DEFAULTS;
	o.cancel_fd = run->cancel_fd;
	return gw__io_open_in(uri, &o, &kept->stream, &run->why);
}

static int open_file(struct gw__run *run, const char *path, uint64_t base_off, struct gw__kept *kept)
{
	struct gw__io_opts o = GW__IO_DEFAULTS;
	o.cancel_fd = run->cancel_fd;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return gw__why_errno(&run->why, errno, "cannot open %s", path);
	struct stat st;
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return gw__chan_take_fd(fd, path, &o, &kept->stream, &run->why);
	int image = gw__image_probe(fd, base_off, &run->why);
	if (image < 0) {
		close(fd);
		return gw__why_where(&run->why, "%s", path);
	}
	if (image)
		return gw__image_open_fd(fd, path, base_off, &kept->image, &run->why);
	if (lseek(fd, (off_t)base_off, SEEK_SET) < 0) {
		int err = errno;
		close(fd);
		return gw__why_errno(&run->why, err, "cannot go to offset %llu of %s", (unsigned long long)base_off, path);
	}
	return gw__chan_take_fd(fd, path, &o, &kept->stream, &run->why);
}

static bool is_uri(const char *where) { return !strncmp(where, "file:", 5) || !strncmp(where, "exec:", 5) || !strncmp(where, "fd:", 3); }

static void tell_odd(struct gw__run *run, const struct gw__image *image)
{
	for (uint32_t i = 0; image && i < image->odd_n; i++)
		gw__run_warn(run, "%s", image->odd[i]);
}

static int open_kept(struct gw__run *run, const char *where, uint64_t base_off, struct gw__kept *kept)
{
	memset(kept, 0, sizeof *kept);
	kept->base_off = base_off;
	snprintf(kept->name, sizeof kept->name, "%s", where);
	if (!is_uri(where))
		return open_file(run, where, base_off, kept);
	struct gw__uri *uri = malloc(sizeof *uri);
	if (!uri)
		return gw__why_set(&run->why, -ENOMEM, "no memory");
	int r = gw__uri_parse(where, uri, &run->why);
	if (!r && uri->kind == GW__URI_FILE) {
		kept->base_off = uri->offset;
		r = open_file(run, uri->target, uri->offset, kept);
	} else if (!r) {
		r = open_pipe(run, uri, kept);
	}
	free(uri);
	return r;
}

int gw__kept_open(struct gw__run *run, const char *where, uint64_t base_off, struct gw__kept *kept)
{
	int r = open_kept(run, where, base_off, kept);
	tell_odd(run, kept->image);
	return r;
}

void gw__kept_close(struct gw__kept *kept)
{
	gw__image_close(kept->image);
	kept->image = NULL;
	gw__chan_close(&kept->stream, NULL);
}

int gw__kept_pull(struct gw__run *run, struct gw__kept *kept, struct gw__sink *sink, struct gw__stream_tally *tally)
{
	int r = kept->image ? gw__pull_image(run, kept->image, sink) : gw__pull_stream(run, kept->stream, sink, tally);
	return r ? gw__why_where(&run->why, "%s", kept->name) : 0;
}

/* A folder for one image that loses its name as soon as it is open. */
static int unpack(struct gw__run *run, struct gw__kept *kept, const char *dir, struct gw__image **image)
{
	char path[4096];
	struct gw__image_writer *writer = NULL;
	struct gw__sink *sink = NULL;
	snprintf(path, sizeof path, "%s/image", dir);
	int r = gw__image_create(path, &(struct gw__image_writer_opts){.unsynced = true}, &writer, &run->why);
	if (!r)
		r = gw__sink_image_new(&writer, &sink, &run->why);
	if (!r)
		r = gw__kept_pull(run, kept, sink, NULL);
	gw__image_writer_close(writer);
	gw__sink_free(&sink);
	if (!r)
		r = gw__image_open(path, 0, image, &run->why);
	unlink(path);
	return r;
}

int gw__kept_as_image(struct gw__run *run, struct gw__kept *kept)
{
	if (kept->image)
		return 0;
	const char *tmp = getenv("TMPDIR");
	char dir[4000];
	snprintf(dir, sizeof dir, "%s/godwit-XXXXXX", tmp && *tmp ? tmp : "/var/tmp");
	if (!mkdtemp(dir))
		return gw__why_errno(&run->why, errno, "cannot make a temporary folder %s (set TMPDIR to a place with room for the guest)",
			dir);
	struct gw__image *image = NULL;
	int r = unpack(run, kept, dir, &image);
	rmdir(dir);
	if (r)
		return r;
	gw__chan_close(&kept->stream, NULL);
	kept->image = image;
	return 0;
}
