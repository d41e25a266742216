/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing at an offset of a regular file, whole or not at all, with a sentence that names the
 * place. Positioned calls only, so any number of threads may share a descriptor. Never through a mapping: a
 * full disk must be an error, not a SIGBUS.
 */
#ifndef GW_IMAGE_FILE_FILEIO_H
#define GW_IMAGE_FILE_FILEIO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/conditions.h"
#include "base/error.h"

/* `path` is for the sentence. -ENODATA when the file ends before `n` bytes were read. */
int gw__file_read(int fd, const char *path, uint64_t off, void *to, size_t n, struct gw__error *error);
/* The same if it need not wait for the disk; GW__WOULD_BLOCK if it would, or if anything else is in the way. */
int gw__file_read_now(int fd, uint64_t off, void *to, size_t n);
int gw__file_write(int fd, const char *path, uint64_t off, const void *from, size_t n, struct gw__error *error);
/* `iov` is used up: its entries are changed. At most IOV_MAX of them. */
int gw__file_writev(int fd, const char *path, uint64_t off, struct iovec *iov, int n, struct gw__error *error);

/* All of a file into an empty one: shared blocks where the file system can, else its data without its holes. */
int gw__file_copy(int from, const char *from_path, int to, const char *to_path, struct gw__error *error);

/* The sentence of a failed write of `n` bytes: the place, and what is free in the file system. Returns -err.
 */
int gw__file_write_failed(int fd, const char *path, uint64_t off, uint64_t n, int err, struct gw__error *error);

#endif
