/* SPDX-License-Identifier: MIT */
/* The way back from the last epoch; see epoch_history.h. Each file is one record of a journal (epoch_journal_private.h), read and written as there. */
#include "image/epochs/epoch_history.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conditions.h"
#include "image/epochs/epoch_journal_private.h"

typedef unsigned long long ull;

static void name_of(const struct gw__destination_path *dest, uint64_t number, char name[NAME_MAX + 40])
{
	snprintf(name, NAME_MAX + 40, "%s" GW__EPOCH_HISTORY_SUFFIX ".%llu", dest->name, (ull)number);
}

/* A journal of this one file, which was not scanned. -ENOENT without a sentence: it is not there. */
static int open_past(const char *path, uint64_t number, int flags, struct gw__epoch_journal **journal, struct gw__error *error)
{
	char name[NAME_MAX + 40];
	struct gw__epoch_journal *j;
	int r = gw__epoch_journal_new(path, &j, error);
	if (r)
		return r;
	struct gw__epoch_extent *e = &j->extent[0];
	name_of(&j->dest, number, name);
	snprintf(e->path, sizeof e->path, "%.*s.%llu", PATH_MAX - 64, path, (ull)number);
	e->fd = openat(j->dest.dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (e->fd < 0)
		r = errno == ENOENT ? -ENOENT : gw__error_errno(error, errno, "cannot open epoch %llu of %s", (ull)number, path);
	else
		r = gw__recv_state_check_ours(e->fd, name, error);
	if (r) {
		gw__epoch_journal_close(j);
		return r;
	}
	e->base = e->last = number - 1;
	j->order_n = 1;
	*journal = j;
	return 0;
}

struct past {
	const struct gw__epoch_guest *now;
	struct gw__epoch_lane *lane;
};

static int put_past(void *ctx, uint32_t block, uint64_t off, const uint8_t *ignored, uint64_t n, struct gw__error *error)
{
	const struct past *p = ctx;
	const uint64_t page_bytes = p->now->page_bytes;
	int r = 0;
	(void)ignored;
	for (uint64_t at = off, end = off + n * page_bytes; !r && at < end; at += page_bytes) {
		void *buffer;
		r = gw__epoch_borrow(p->lane, &buffer, error);
		if (!r)
			r = p->now->read(p->now->ctx, block, at, buffer, error);
		if (r == GW__NO_PAGE)
			r = gw__epoch_put_zeros(p->lane, block, at, 1, error);
		else if (!r)
			r = gw__epoch_submit(p->lane, block, &at, 1, error);
	}
	return r;
}

/* An epoch that leads back: about as large as the one that leads there, which was within the limit. */
static int gather_past(struct gw__epoch *past, const struct gw__epoch *next, const struct gw__epoch_guest *now, struct gw__error *error)
{
	struct past p = {now, past ? gw__epoch_add_lane(past) : NULL};
	uint8_t *devices;
	int r = p.lane ? gw__epoch_apply(next, put_past, &p, error) : gw__error_set(error, -ENOMEM, "no memory for the epoch before");
	if (!r)
		r = gw__epoch_reserve_devices(past, now->devices.n, &devices, error);
	if (!r)
		memcpy(devices, now->devices.p, now->devices.n);
	return r;
}

static int write_past(const char *path, uint64_t number, uint64_t page_bytes, const struct gw__epoch *past, struct gw__error *error)
{
	struct gw__epoch_journal *j;
	int r = open_past(path, number, O_RDWR | O_CREAT | O_TRUNC, &j, error);
	if (r)
		return r;
	j->page_bytes = page_bytes;
	r = gw__epoch_journal_append(j, past, error);
	if (!r && fsync(j->dest.dir_fd) && errno != EINVAL)
		r = gw__error_errno(error, errno, "cannot sync the folder of %s", path);
	gw__epoch_journal_close(j);
	return r;
}

int gw__epoch_history_keep(const char *path, uint64_t number, const struct gw__epoch *next, const struct gw__epoch_guest *now,
	struct gw__error *error)
{
	struct gw__epoch *past = gw__epoch_new(now->page_bytes, UINT64_MAX / 2);
	int r = gather_past(past, next, now, error);
	if (!r)
		r = write_past(path, number, now->page_bytes, past, error);
	gw__epoch_free(past);
	return r;
}

/* 0: it is whole. -ENODATA: it is not. */
static int open_whole(const char *path, uint64_t number, uint64_t page_bytes, struct gw__epoch_journal **j, struct gw__error *error)
{
	int r = open_past(path, number, O_RDONLY, j, error);
	if (r)
		return r;
	(*j)->page_bytes = page_bytes;
	r = gw__epoch_extent_scan(*j, &(*j)->extent[0], error);
	if (!r && (*j)->extent[0].last != number)
		r = -ENODATA;
	if (r)
		gw__epoch_journal_close(*j);
	return r;
}

bool gw__epoch_history_has(const char *path, uint64_t number)
{
	struct gw__epoch_journal *j;
	struct gw__error ignored = {0};
	bool has = !open_whole(path, number, 0, &j, &ignored);
	if (has)
		gw__epoch_journal_close(j);
	return has;
}

int gw__epoch_history_keep_last(const char *path, struct gw__epoch_base *base, struct gw__error *error)
{
	char name[PATH_MAX + sizeof GW__EPOCH_HISTORY_SUFFIX];
	struct gw__epoch_journal *j = NULL;
	snprintf(name, sizeof name, "%s" GW__EPOCH_HISTORY_SUFFIX, path);
	int r = gw__epoch_journal_create(name, 0, &j, error);
	if (!r)
		r = gw__epoch_journal_begin(j, base, error);
	if (!r)
		r = gw__epoch_journal_sync(j, error);
	gw__epoch_journal_close(j);
	return r;
}

void gw__epoch_history_remove(const char *path, uint64_t number)
{
	struct gw__destination_path dest;
	struct gw__error ignored = {0};
	char name[NAME_MAX + 40];
	if (!gw__destination_path_find(path, &dest, &ignored)) {
		name_of(&dest, number, name);
		unlinkat(dest.dir_fd, name, 0);
	}
	gw__destination_path_fini(&dest);
}

/* NULL: none. The caller closes it. */
static DIR *open_folder(const struct gw__destination_path *dest)
{
	int fd = openat(dest->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d && fd >= 0)
		close(fd);
	return d;
}

/* NAME@NUMBER, which a failover to an earlier epoch has made. */
static bool is_exported(const char *file, const char *name)
{
	size_t n = strlen(name);
	if (strncmp(file, name, n) || file[n] != '@' || !file[n + 1])
		return false;
	return strspn(file + n + 1, "0123456789") == strlen(file + n + 1);
}

void gw__epoch_history_remove_all(const char *path)
{
	struct gw__destination_path dest;
	struct gw__error ignored = {0};
	char start[NAME_MAX + 40];
	if (!gw__destination_path_find(path, &dest, &ignored)) {
		DIR *d = open_folder(&dest);
		int n = snprintf(start, sizeof start, "%s" GW__EPOCH_HISTORY_SUFFIX ".", dest.name);
		for (struct dirent *entry; d && (entry = readdir(d));)
			if (!strncmp(entry->d_name, start, (size_t)n) || is_exported(entry->d_name, dest.name))
				unlinkat(dest.dir_fd, entry->d_name, 0);
		if (d)
			closedir(d);
	}
	gw__destination_path_fini(&dest);
}

int gw__epoch_history_list(const char *path, uint64_t last, struct gw__epoch_past **past, size_t *n, struct gw__error *error)
{
	*past = NULL;
	*n = 0;
	for (uint64_t number = last; number-- > 0;) {
		struct gw__epoch_journal *j;
		struct stat st;
		int r = open_past(path, number, O_RDONLY, &j, error);
		if (r)
			return r == -ENOENT ? 0 : r;
		struct gw__epoch_past *more = realloc(*past, (*n + 1) * sizeof *more);
		if (!more)
			r = gw__error_set(error, -ENOMEM, "no memory for a list of epochs");
		else if (fstat(j->extent[0].fd, &st))
			r = gw__error_errno(error, errno, "cannot look at epoch %llu of %s", (ull)number, path);
		*past = more ? more : *past;
		gw__epoch_journal_close(j);
		if (r)
			return r;
		more[(*n)++] =
			(struct gw__epoch_past){number, (uint64_t)st.st_size, st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec};
	}
	return 0;
}

int gw__epoch_history_replay(const char *path, uint64_t number, uint64_t page_bytes, const struct gw__blocks *blocks,
	gw__epoch_apply_fn *fn, void *ctx, uint8_t **devices, size_t *devices_bytes, struct gw__error *error)
{
	struct gw__epoch_journal *j;
	struct gw__view found;
	*devices = NULL;
	int r = open_whole(path, number, page_bytes, &j, error);
	if (r == -ENOENT || r == -ENODATA)
		return gw__error_set(error, -ENODATA, "epoch %llu of %s is not kept any more", (ull)number, path);
	if (r)
		return r;
	j->saved.blocks = *blocks; /* a view */
	r = gw__epoch_journal_replay(j, fn, NULL, ctx, &found, error);
	memset(&j->saved, 0, sizeof j->saved);
	if (!r) {
		*devices = j->devices;
		*devices_bytes = found.n;
		j->devices = NULL;
	}
	gw__epoch_journal_close(j);
	return r;
}
