/* SPDX-License-Identifier: MIT */
/* Whole transfers at an offset; see fileio.h. */
#include "image/file/fileio.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef unsigned long long ull;

enum { COPY_BYTES = 1 << 20 };

int gw__file_read(int fd, const char *path, uint64_t off, void *to, size_t n, struct gw__error *error)
{
	uint8_t *p = to;
	while (n) {
		ssize_t got = pread(fd, p, n, (off_t)off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return gw__error_errno(error, errno, "cannot read %zu bytes at offset %llu of %s", n, (ull)off, path);
		if (got == 0)
			return gw__error_set(error, -ENODATA, "%s ends at offset %llu, where %zu more bytes were expected", path, (ull)off,
				n);
		p += got;
		off += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

int gw__file_read_now(int fd, uint64_t off, void *to, size_t n)
{
	struct iovec iov = {.iov_base = to, .iov_len = n};
	ssize_t got = preadv2(fd, &iov, 1, (off_t)off, RWF_NOWAIT);
	if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) /* where nobody can tell, it is tried */
		got = pread(fd, to, n, (off_t)off);
	return got == (ssize_t)n ? 0 : GW__WOULD_BLOCK;
}

int gw__file_write_failed(int fd, const char *path, uint64_t off, uint64_t n, int err, struct gw__error *error)
{
	struct statvfs fs;
	if (fstatvfs(fd, &fs))
		return gw__error_errno(error, err, "cannot write %llu bytes at offset %llu of %s", (ull)n, (ull)off, path);
	return gw__error_errno(error, err, "cannot write %llu bytes at offset %llu of %s (%llu bytes free in its file system)", (ull)n,
		(ull)off, path, (ull)fs.f_bavail * fs.f_frsize);
}

int gw__file_write(int fd, const char *path, uint64_t off, const void *from, size_t n, struct gw__error *error)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)from, .iov_len = n};
	return gw__file_writev(fd, path, off, &iov, 1, error);
}

/* Steps over `done` bytes; returns the entries that are used up. */
static int advance(struct iovec *iov, int n, size_t done)
{
	int i = 0;
	for (; i < n && done >= iov[i].iov_len; i++)
		done -= iov[i].iov_len;
	if (done) {
		iov[i].iov_base = (uint8_t *)iov[i].iov_base + done;
		iov[i].iov_len -= done;
	}
	return i;
}

static uint64_t sum_bytes(const struct iovec *iov, int n)
{
	uint64_t sum = 0;
	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

int gw__file_writev(int fd, const char *path, uint64_t off, struct iovec *iov, int n, struct gw__error *error)
{
	for (;;) {
		int skip = advance(iov, n, 0); /* entries of no length: a write of nothing returns 0 for ever */
		iov += skip;
		n -= skip;
		if (n == 0)
			return 0;
		ssize_t put = pwritev(fd, iov, n, (off_t)off);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return gw__file_write_failed(fd, path, off, sum_bytes(iov, n), put ? errno : EIO, error);
		off += (uint64_t)put;
		skip = advance(iov, n, (size_t)put);
		iov += skip;
		n -= skip;
	}
}

/* One stretch of data. */
static int copy_data(int from, const char *from_path, int to, const char *to_path, uint64_t off, uint64_t end, struct gw__error *error)
{
	uint8_t *room = malloc(COPY_BYTES);
	int r = room ? 0 : gw__error_set(error, -ENOMEM, "no memory to copy %s", from_path);
	for (uint64_t n; !r && off < end; off += n) {
		n = end - off < COPY_BYTES ? end - off : COPY_BYTES;
		r = gw__file_read(from, from_path, off, room, n, error);
		if (!r)
			r = gw__file_write(to, to_path, off, room, n, error);
	}
	free(room);
	return r;
}

int gw__file_copy(int from, const char *from_path, int to, const char *to_path, struct gw__error *error)
{
	struct stat st;
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (fstat(from, &st) || ftruncate(to, st.st_size))
		return gw__error_errno(error, errno, "cannot copy %s to %s", from_path, to_path);
	for (off_t off = 0, end; off < st.st_size; off = end) {
		off = lseek(from, off, SEEK_DATA);
		if (off < 0 && errno == ENXIO)
			return 0;
		end = off < 0 ? -1 : lseek(from, off, SEEK_HOLE);
		if (end < 0)
			return gw__error_errno(error, errno, "cannot find the data of %s", from_path);
		if (end > st.st_size) /* it grows */
			end = st.st_size;
		int r = off < end ? copy_data(from, from_path, to, to_path, (uint64_t)off, (uint64_t)end, error) : 0;
		if (r)
			return r;
	}
	return 0;
}
