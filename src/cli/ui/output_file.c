/* SPDX-License-Identifier: MIT */
/* A result in a file; see output_file.h. */
#include "cli/ui/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of the folder in `path`, with its slash; 0: the current one. */
static int folder_bytes(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? (int)(slash + 1 - path) : 0;
}

int gw__cli_output_file_open(struct gw__cli_output_file *f, const char *path)
{
	int folder = folder_bytes(path);
	*f = (struct gw__cli_output_file){.path = path};
	if (!path[folder])
		return -EISDIR;
	if (asprintf(&f->partial, "%.*s.%s.XXXXXX", folder, path, path + folder) < 0) {
		f->partial = NULL;
		return -ENOMEM;
	}
	int fd = mkostemp(f->partial, O_CLOEXEC);
	int err = errno;
	if (fd >= 0) {
		f->to = fdopen(fd, "w");
		return f->to ? 0 : -ENOMEM; /* the descriptor is lost with the process, which ends */
	}
	free(f->partial);
	f->partial = NULL;
	return -err;
}

static int sync_folder(const char *path)
{
	char *folder = strndup(path, (size_t)folder_bytes(path));
	int fd = folder ? open(*folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int r = fd < 0 || fsync(fd) ? -errno : 0;
	if (fd >= 0)
		close(fd);
	free(folder);
	return r;
}

int gw__cli_output_file_commit(struct gw__cli_output_file *f)
{
	errno = 0;
	int r = fflush(f->to) || ferror(f->to) || fsync(fileno(f->to)) ? -(errno ? errno : EIO) : 0;
	if (fclose(f->to) && !r)
		r = -errno;
	f->to = NULL;
	if (!r && rename(f->partial, f->path))
		r = -errno;
	if (r)
		return r;
	free(f->partial);
	f->partial = NULL;
	return sync_folder(f->path);
}

void gw__cli_output_file_drop(struct gw__cli_output_file *f)
{
	if (f->to)
		fclose(f->to);
	if (f->partial)
		unlink(f->partial);
	free(f->partial);
	*f = (struct gw__cli_output_file){0};
}
