/* SPDX-License-Identifier: MIT */
/* What the file system of the folder for images can do, tried with a file that has no name; see doctor.h. */
#include "cli/doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/ui/output.h"

/* O_TMPFILE, or where it is missing a named file that is unlinked immediately. */
static int unnamed_file(const char *dir, int flags)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd;
	char path[4096];
	int n = snprintf(path, sizeof path, "%s/.godwit-doctor.XXXXXX", dir);
	if (n < 0 || n >= (int)sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(path, O_CLOEXEC | flags);
	int err = errno;
	if (fd >= 0)
		unlink(path);
	errno = err;
	return fd;
}

void gw__check_tmpfile(struct gw__checkup *c)
{
	int fd = open(c->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0) {
		close(fd);
		gw__checkup_is(c, GW__FOUND_OK, NULL, "O_TMPFILE works in %s", c->dir);
		return;
	}
	int err = errno;
	bool plain = err == EOPNOTSUPP || err == EISDIR;
	gw__checkup_is(c, plain ? GW__FOUND_LIMITED : GW__FOUND_MISSING,
		plain ? "ext4, xfs, btrfs or tmpfs; on this file system a killed save may leave a file"
		      : "another folder: godwit doctor DIR",
		"%s: %s", c->dir, strerror(err));
}

void gw__check_direct_io(struct gw__checkup *c)
{
	enum { BLOCK_BYTES = 4096 };
	int fd = unnamed_file(c->dir, O_DIRECT);
	void *block = NULL;
	if (fd < 0) {
		gw__checkup_is(c, GW__FOUND_MISSING, "a disk file system; tmpfs has it from Linux 6.6 on", "%s: %s", c->dir,
			strerror(errno));
		return;
	}
	if (posix_memalign(&block, BLOCK_BYTES, BLOCK_BYTES)) {
		gw__checkup_is(c, GW__FOUND_MISSING, NULL, "no memory to try it");
	} else {
		memset(block, 1, BLOCK_BYTES);
		ssize_t n = pwrite(fd, block, BLOCK_BYTES, 0);
		if (n == BLOCK_BYTES)
			gw__checkup_is(c, GW__FOUND_OK, NULL, "O_DIRECT works in %s", c->dir);
		else
			gw__checkup_is(c, GW__FOUND_MISSING, "another file system", "%s: writing: %s", c->dir,
				n < 0 ? strerror(errno) : "cut short");
	}
	free(block);
	close(fd);
}

void gw__check_holes(struct gw__checkup *c)
{
	enum { HOLE_BYTES = 8 << 20 };
	int fd = unnamed_file(c->dir, 0);
	struct stat s;
	if (fd < 0 || pwrite(fd, "x", 1, HOLE_BYTES) != 1 || fstat(fd, &s)) {
		gw__checkup_is(c, GW__FOUND_MISSING, "another folder: godwit doctor DIR", "%s: %s", c->dir, strerror(errno));
	} else if ((uint64_t)s.st_blocks * 512 >= HOLE_BYTES) {
		gw__checkup_is(c, GW__FOUND_LIMITED, "a file system with sparse files; on this one an image takes the guest's full size",
			"%s fills holes", c->dir);
	} else {
		gw__checkup_is(c, GW__FOUND_OK, NULL, "files in %s may have holes", c->dir);
	}
	if (fd >= 0)
		close(fd);
}
