/* SPDX-License-Identifier: MIT */
/* Opening whatever keeps a guest; see stored_guest.h. */
#include "engine/files/stored_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/files/file_kind.h"
#include "engine/core/run.h"
#include "engine/sink/image_sink.h"
#include "io/wait.h"

enum { WRITER_MS = 10000 };

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
		r = gw__stored_guest_name_kind(fd, path, base_off, &run->error);
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

int gw__stored_guest_run(struct gw__run *run, struct gw__stored_guest *stored, struct gw__sink *sink, struct gw__stream_stats *stats)
{
	int r = stored->image ? gw__image_source_run(run, stored->image, stored->left_out, sink)
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
