/* SPDX-License-Identifier: MIT */
/*
 * The journal of a standby and its thread; see durable.h. An extent is given up in three steps, each safe before the next begins: the new extent
 * has its base, the image is synced, the old extent has no head any more. A death between any two of them leaves one that begins early enough.
 */
#include "engine/colo/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "thread/thread.h"

enum work { IDLE, SYNC, QUIT };

struct gw__durable {
	struct gw__epoch_journal *journal;
	struct gw__image_writer *writer;
	char path[PATH_MAX];
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	enum work work;
	struct gw__error error; /* of the thread; the first one is the last */
};

static int make_name(const char *path, char name[NAME_MAX + 1], struct gw__error *error)
{
	const char *slash = strrchr(path, '/');
	int n = snprintf(name, NAME_MAX + 1, "%s%s", slash ? slash + 1 : path, GW__DURABLE_SUFFIX);
	return n <= NAME_MAX ? 0 : gw__error_set(error, -ENAMETOOLONG, "%s%s: the name is too long", path, GW__DURABLE_SUFFIX);
}

/* The extent that grows has its base on the disk, then the image all up to it, then the other one goes. */
static int give_up_extent(struct gw__durable *d, struct gw__error *error)
{
	int r = gw__epoch_journal_sync(d->journal, error);
	if (!r)
		r = gw__image_sync_pages(d->writer, error);
	return r ? r : gw__epoch_journal_release(d->journal, error);
}

static void *sync_in_background(void *durable)
{
	struct gw__durable *d = durable;
	pthread_mutex_lock(&d->lock);
	for (;;) {
		while (d->work == IDLE)
			pthread_cond_wait(&d->changed, &d->lock);
		if (d->work == QUIT)
			break;
		pthread_mutex_unlock(&d->lock);
		struct gw__error error = {0};
		give_up_extent(d, &error);
		pthread_mutex_lock(&d->lock);
		d->error = error;
		if (d->work == SYNC)
			d->work = IDLE;
		pthread_cond_broadcast(&d->changed);
		if (error.code)
			break;
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* Until the other extent is free. The thread's failure is ours. */
static int await_sync(struct gw__durable *d, struct gw__error *error)
{
	pthread_mutex_lock(&d->lock);
	while (d->work == SYNC)
		pthread_cond_wait(&d->changed, &d->lock);
	int r = d->error.code ? gw__error_set(error, d->error.code, "%s", d->error.text) : 0;
	pthread_mutex_unlock(&d->lock);
	return r;
}

static void order(struct gw__durable *d, enum work work)
{
	pthread_mutex_lock(&d->lock);
	d->work = work;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

int gw__durable_append(struct gw__durable *d, const struct gw__epoch *epoch, struct gw__error *error)
{
	return gw__epoch_journal_append(d->journal, epoch, error);
}

uint64_t gw__durable_bytes(const struct gw__durable *d, const struct gw__epoch *epoch)
{
	return gw__epoch_journal_bytes(d->journal, epoch);
}

bool gw__durable_wants_base(const struct gw__durable *d) { return gw__epoch_journal_is_full(d->journal); }

int gw__durable_turn(struct gw__durable *d, struct gw__epoch_base *base, struct gw__error *error)
{
	int r = await_sync(d, error);
	if (!r)
		r = gw__epoch_journal_begin(d->journal, base, error);
	if (!r)
		order(d, SYNC);
	return r;
}

/* --- its life --- */

static int start_thread(struct gw__durable *d, struct gw__error *error)
{
	int err = gw__thread_start(&d->thread, sync_in_background, d);
	d->has_thread = !err;
	return err ? gw__error_errno(error, err, "cannot start a thread that syncs %s", d->path) : 0;
}

static int begin(struct gw__durable *d, uint64_t extent_bytes, struct gw__epoch_base *base, struct gw__error *error)
{
	char name[NAME_MAX + 1];
	int r = make_name(d->path, name, error);
	if (!r)
		r = gw__epoch_journal_create(d->path, extent_bytes, &d->journal, error);
	if (!r)
		r = gw__epoch_journal_begin(d->journal, base, error);
	if (!r)
		r = gw__epoch_journal_sync(d->journal, error); /* and the folder */
	if (!r)
		r = gw__image_sync_pages(d->writer, error);
	if (!r)
		r = start_thread(d, error);
	return r ? r : gw__image_keep_as(d->writer, name, error); /* last: from here on it is found */
}

int gw__durable_start(const char *path, uint64_t extent_bytes, struct gw__image_writer *writer, struct gw__epoch_base *base,
	struct gw__durable **durable, struct gw__error *error)
{
	struct gw__durable *d = calloc(1, sizeof *d);
	if (!d)
		return gw__error_set(error, -ENOMEM, "no memory for a journal");
	d->writer = writer;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->changed, NULL);
	snprintf(d->path, sizeof d->path, "%s", path);
	int r = begin(d, extent_bytes, base, error);
	if (r) {
		gw__epoch_journal_remove(path);
		gw__durable_free(d);
		return r;
	}
	*durable = d;
	return 0;
}

static void join_thread(struct gw__durable *d)
{
	struct gw__error ignored = {0};
	if (!d->has_thread)
		return;
	await_sync(d, &ignored);
	order(d, QUIT);
	pthread_join(d->thread, NULL);
	d->has_thread = false;
}

void gw__durable_end(struct gw__durable *d)
{
	join_thread(d);
	gw__epoch_journal_remove(d->path);
}

void gw__durable_free(struct gw__durable *d)
{
	if (!d)
		return;
	join_thread(d);
	gw__epoch_journal_close(d->journal);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* --- after a death --- */

/* A journal whose image never got its name belongs to a guest that was never protected, or to one whose image is finished. */
static int find_left(const char *path, const char *name, struct gw__error *error)
{
	struct gw__destination_path dest;
	int r = gw__destination_path_find(path, &dest, error);
	if (!r && faccessat(dest.dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW))
		r = errno == ENOENT ? -ENOENT : gw__error_errno(error, errno, "cannot look for %s beside %s", name, path);
	gw__destination_path_fini(&dest);
	return r;
}

int gw__durable_reopen(const char *path, struct gw__epoch_journal **j, struct gw__epoch_base *base, struct gw__image_writer **w,
	struct gw__error *error)
{
	char name[NAME_MAX + 1];
	int r = make_name(path, name, error);
	if (r)
		return r;
	r = find_left(path, name, error);
	if (r == -ENOENT && !error->code)
		gw__epoch_journal_remove(path);
	if (r)
		return r;
	r = gw__epoch_journal_open(path, j, base, error);
	if (r == -ENOENT)
		return gw__error_set(error, -EPROTO, "%s%s has no journal, so no epoch of it is whole", path, GW__DURABLE_SUFFIX);
	if (r)
		return r;
	r = gw__image_reopen(path, name, false, &base->saved, base->maps, w, error);
	if (r) {
		gw__epoch_journal_close(*j);
		*j = NULL;
	}
	return r;
}
