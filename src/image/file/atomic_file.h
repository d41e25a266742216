/* SPDX-License-Identifier: MIT */
/*
 * A file that appears under its name only when it is whole and synced.
 *
 * Until then it has no name at all (O_TMPFILE), so that a crash leaves nothing behind; where the file system
 * or a missing /proc rules that out it is `.NAME.XXXXXXXX.partial` beside the target. Not a writer of any
 * format: it hands out a descriptor. Owned by a writer; one thread.
 */
#ifndef GW_IMAGE_FILE_ATOMIC_FILE_H
#define GW_IMAGE_FILE_ATOMIC_FILE_H

#include <stdint.h>

#include "image/file/destination_path.h"

struct gw__atomic_file {
	struct gw__destination_path dest;
	int fd;                     /* read and write; -1: none */
	char partial[NAME_MAX + 1]; /* its name in the folder for now; "" while it has none */
	bool keep_partial;          /* it stays under that name when we go */
	bool renamed;               /* it has the target's name, also when its folder could not be synced after that */
};

/*
 * `visible`: give it the partial name in any case. 0, or a negative errno with a sentence; `*f` needs a drop
 * either way.
 */
int gw__atomic_file_open(const char *path, bool visible, struct gw__atomic_file *f, struct gw__error *error);

/*
 * A second descriptor of it for direct I/O, whether it has a name or not; the caller closes it. Where the file system has no
 * direct I/O: -EINVAL and a sentence.
 */
int gw__atomic_file_open_direct(const struct gw__atomic_file *f, int *fd, struct gw__error *error);
/* Write-only ones, for another process; `direct`: past the page cache, as above. */
int gw__atomic_file_open_writer(const struct gw__atomic_file *f, bool direct, int *fd, struct gw__error *error);

/* One more descriptor, of a partial one, on which the kernel reports again what failed meanwhile; the caller closes it. -1: it cannot be had. */
int gw__atomic_file_open_witness(const struct gw__atomic_file *f);

/* Gives it this name in the folder, for now. -EEXIST when something has it. */
int gw__atomic_file_name_partial(struct gw__atomic_file *f, const char *name, struct gw__error *error);

/* Finds the target and opens nothing: the first half of coming back to a partial one. */
int gw__atomic_file_find(const char *path, struct gw__atomic_file *f, struct gw__error *error);
/* The second half: NAME.partial. -ENOENT when it is not there. */
int gw__atomic_file_reopen_partial(struct gw__atomic_file *f, struct gw__error *error);

/* Copies the first `n` bytes of the file that is to be replaced; where it has none there will be a hole. */
int gw__atomic_file_keep_head(struct gw__atomic_file *f, uint64_t n, struct gw__error *error);

/*
 * Syncs it, gives it its name and syncs the folder. The file that was there is gone when this returns 0, not
 * before; a failure with `in_place` is that of the last sync. `unsynced` leaves out both syncs, for a file that need not survive a crash of the machine.
 */
int gw__atomic_file_commit(struct gw__atomic_file *f, bool unsynced, struct gw__error *error);

/* The last step alone, for a file that is in place. */
int gw__atomic_file_sync_folder(const struct gw__atomic_file *f, struct gw__error *error);

/* Closes it, and deletes what has no right to stay. After a commit it only closes. Also twice. */
void gw__atomic_file_drop(struct gw__atomic_file *f);
void gw__atomic_file_close_file(struct gw__atomic_file *f); /* the target remains, for whoever still needs its folder */

#endif
