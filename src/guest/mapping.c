/* SPDX-License-Identifier: MIT */
/* Mappings of this process, line by line; see mapping.h. */
#include "guest/mapping.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

typedef unsigned long long ull;

struct mapping {
	uint64_t from, to, off;
	char rights[5];
	unsigned major, minor;
	ull inode;
};

static bool read_mapping(FILE *maps, char **line, size_t *room, struct mapping *m)
{
	ull from, to, off;
	while (getline(line, room, maps) > 0)
		if (sscanf(*line, "%llx-%llx %4s %llx %x:%x %llu", &from, &to, m->rights, &off, &m->major, &m->minor, &m->inode) == 7) {
			m->from = from;
			m->to = to;
			m->off = off;
			return true;
		}
	return false;
}

/* `at`: where the memory begins that is asked for, within this mapping. */
static bool is_file(const struct mapping *m, uint64_t at, const struct stat *file, uint64_t fd_offset)
{
	return m->inode == file->st_ino && makedev(m->major, m->minor) == file->st_dev && m->off + (at - m->from) == fd_offset;
}

static int walk(FILE *maps, const char *what, uint64_t at, uint64_t end, const struct stat *file, uint64_t fd_offset,
	struct gw__error *error)
{
	struct mapping m;
	char *line = NULL;
	size_t room = 0;
	int r = 0;
	uint64_t first = at;
	while (!r && at < end && read_mapping(maps, &line, &room, &m)) {
		if (m.to <= at)
			continue;
		if (m.from > at)
			break;
		if (m.rights[0] != 'r' || m.rights[1] != 'w')
			r = gw__error_set(error, -EFAULT, "%s: the memory at %#llx is mapped \"%s\", expected to be read and written", what,
				(ull)at, m.rights);
		else if (file && !is_file(&m, at, file, fd_offset + (at - first)))
			r = gw__error_set(error, -EINVAL,
				"%s: the memory at %#llx is not that of the descriptor it was given with, from offset %llu on", what,
				(ull)at, (ull)(fd_offset + (at - first)));
		else if (file && m.rights[3] != 's')
			r = gw__error_set(error, -EINVAL, "%s: its descriptor is mapped privately, expected MAP_SHARED", what);
		else if (!file && (m.rights[3] == 's' || (m.inode && !strstr(line, "/anon_hugepage"))))
			r = gw__error_set(error, -EINVAL, "%s: the memory at %#llx is that of a file: give its descriptor", what, (ull)at);
		at = m.to;
	}
	free(line);
	if (!r && at < end)
		r = gw__error_set(error, -EFAULT, "%s: nothing is mapped at %#llx", what, (ull)at);
	return r;
}

int gw__mapping_check(const char *what, const void *host, uint64_t bytes, int fd, uint64_t fd_offset, struct gw__error *error)
{
	struct stat file;
	if (fd >= 0 && fstat(fd, &file))
		return gw__error_errno(error, errno, "%s: cannot look at its descriptor %d", what, fd);
	FILE *maps = fopen("/proc/self/maps", "re");
	if (!maps)
		return gw__error_errno(error, errno, "%s: cannot read /proc/self/maps", what);
	int r = walk(maps, what, (uintptr_t)host, (uintptr_t)host + bytes, fd >= 0 ? &file : NULL, fd_offset, error);
	fclose(maps);
	return r;
}
