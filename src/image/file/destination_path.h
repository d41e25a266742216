/* SPDX-License-Identifier: MIT */
/*
 * Where a new image will appear: the folder, the name in it, and whether what is there may be replaced.
 * Everything that can be known is checked before a byte is received, because finding out afterwards costs the
 * guest's state. It changes nothing. Owned by its output file; one thread.
 */
#ifndef GW_IMAGE_FILE_DESTINATION_PATH_H
#define GW_IMAGE_FILE_DESTINATION_PATH_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/error.h"

struct gw__destination_path {
	char path[PATH_MAX];     /* of the file to replace, links followed */
	char name[NAME_MAX + 1]; /* its last part, within the folder */
	int dir_fd;              /* the folder, readable, so that it can be synced; -1: none */
	bool exists;             /* a regular file is there now */
};

/* 0, or a negative errno with a sentence. `*t` needs a fini in either case. */
int gw__destination_path_find(const char *path, struct gw__destination_path *t, struct gw__error *error);
void gw__destination_path_fini(struct gw__destination_path *t); /* also twice */

/* May another user have put what lstat() found at this path there? See base/owner.h. */
bool gw__path_is_foreign(const char *path, const struct stat *st);

/*
 * Gives a new file the owner, group, access list and permissions of the one it is going to replace, as far as
 * this process may. Where the group or the list cannot be kept, the group's rights shrink to everybody's:
 * guest memory is secret. Nothing is kept of a file that another user may have put there (base/owner.h).
 */
void gw__destination_path_keep_rights(const struct gw__destination_path *t, int fd);

/* The names, in its folder, of a file that is not whole yet and of what is known of it (image/journal/). -ENAMETOOLONG with a sentence. */
int gw__destination_path_partial_names(const struct gw__destination_path *t, char partial[NAME_MAX + 1], char state[NAME_MAX + 1],
	struct gw__error *error);

#endif
