/* SPDX-License-Identifier: MIT */
/* The files of a standby, and what of them counts; see epoch_recover.h. */
#include "engine/colo/epoch_recover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/colo/durable.h"
#include "engine/colo/epoch_sink.h"
#include "image/file/fileio.h"

typedef unsigned long long ull;

/* --- after a death --- */

int gw__epoch_recover(const char *path, uint64_t *epoch, struct gw__error *error)
{
	struct gw__epoch_base base;
	struct gw__epoch_replay from = {.path = path, .base = &base};
	struct gw__image_writer *writer = NULL;
	int r = gw__durable_reopen(path, &from.journal, &base, &writer, error);
	if (r == -ENOENT)
		return r;
	from.epoch = *epoch = from.journal ? gw__epoch_journal_last(from.journal) : 0;
	if (!r)
		r = gw__epoch_sink_replay(&from, writer, error);
	gw__epoch_journal_close(from.journal);
	if (r)
		return gw__error_where(error, "the last epoch that a standby left beside %s cannot be recovered", path);
	gw__epoch_journal_remove(path);
	return 0;
}

/* --- an epoch as an image of its own --- */

struct source {
	char image[PATH_MAX + 16], journal[PATH_MAX + 16];
	bool live; /* it may be written to meanwhile */
};

static void find_source(const char *path, struct source *from)
{
	snprintf(from->image, sizeof from->image, "%.*s" GW__DURABLE_SUFFIX, PATH_MAX - 1, path);
	snprintf(from->journal, sizeof from->journal, "%.*s", PATH_MAX - 1, path);
	from->live = access(from->image, F_OK) == 0;
	if (from->live)
		return;
	snprintf(from->image, sizeof from->image, "%.*s", PATH_MAX - 1, path);
	snprintf(from->journal, sizeof from->journal, "%.*s" GW__EPOCH_HISTORY_SUFFIX, PATH_MAX - 1, path);
}

static int open_history(const char *path, struct source *from, struct gw__epoch_journal **j, struct gw__epoch_base *base,
	struct gw__error *error)
{
	find_source(path, from);
	int r = gw__epoch_journal_open(from->journal, j, base, error);
	return r == -ENOENT ? gw__error_set(error, -ENODATA, "%s has no history: it is kept by godwit standby --history", path) : r;
}

static int copy_file(const char *from, const char *to, struct gw__error *error)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out = in < 0 ? -1 : open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = in < 0    ? gw__error_errno(error, errno, "cannot open %s", from)
		: out < 0 ? gw__error_errno(error, errno, "cannot make %s", to)
			  : gw__file_copy(in, from, out, to, error);
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	if (r && out >= 0)
		unlink(to);
	return r;
}

/*
 * A copy, and a journal that leads from all that may be in it to the last epoch: of a guest that is protected meanwhile, one whose base is still the one that
 * it had before the copy began.
 */
static int copy_with_journal(const char *path, const char *to, struct gw__epoch_journal **j, struct gw__epoch_base *base,
	struct gw__error *error)
{
	enum { TRIES = 5 };
	struct source from;
	for (int i = 0; i < TRIES; i++) {
		int r = open_history(path, &from, j, base, error);
		if (r)
			return r;
		uint64_t before = base->epoch;
		r = copy_file(from.image, to, error);
		if (r || !from.live)
			return r;
		gw__epoch_journal_close(*j);
		*j = NULL;
		r = gw__epoch_journal_open(from.journal, j, base, error);
		if (!r && base->epoch == before && access(from.image, F_OK) == 0)
			return 0;
		unlink(to);
		gw__epoch_journal_close(*j);
		*j = NULL;
		if (r && r != -ENOENT)
			return r;
	}
	return gw__error_set(error, -EBUSY, "%s is replaced faster than it can be copied", path);
}

/* The image can have nothing of the last epoch as long as there is no way back from it: then the journal ends with the one before. */
static uint64_t settle_last(const char *path, struct gw__epoch_journal *j, uint64_t epoch)
{
	uint64_t last = gw__epoch_journal_last(j);
	if (epoch < last && !gw__epoch_history_has(path, last - 1))
		gw__epoch_journal_drop_last(j);
	return gw__epoch_journal_last(j);
}

static int export_copy(struct gw__epoch_replay *from, const char *to, const char *name, struct gw__error *error)
{
	struct gw__image_writer *writer = NULL;
	uint64_t last = gw__epoch_journal_last(from->journal);
	if (from->epoch > last)
		return gw__error_set(error, -ENODATA, "%s has no epoch %llu, the last one is %llu", from->path, (ull)from->epoch,
			(ull)last);
	settle_last(from->path, from->journal, from->epoch);
	int r = gw__image_reopen(to, name, true, &from->base->saved, from->base->maps, &writer, error);
	return r ? r : gw__epoch_sink_replay(from, writer, error);
}

int gw__epoch_export(const char *path, uint64_t epoch, const char *to, struct gw__error *error)
{
	char beside[PATH_MAX];
	struct gw__epoch_base base;
	struct gw__epoch_replay from = {.path = path, .base = &base, .epoch = epoch, .is_copy = true};
	const char *slash = strrchr(to, '/');
	int folder = slash ? (int)(slash + 1 - to) : 0;
	int n = snprintf(beside, sizeof beside, "%.*s.%s.%d.partial", folder, to, to + folder, (int)getpid());
	if (n < 0 || n >= (int)sizeof beside)
		return gw__error_set(error, -ENAMETOOLONG, "%s: the name is too long", to);
	int r = copy_with_journal(path, beside, &from.journal, &base, error);
	if (!r)
		r = export_copy(&from, to, beside + folder, error);
	if (r)
		unlink(beside);
	gw__epoch_journal_close(from.journal);
	return r;
}

int gw__epoch_list(const char *path, uint64_t *last, struct gw__epoch_past **past, size_t *n, struct gw__error *error)
{
	struct source from;
	struct gw__epoch_journal *j = NULL;
	struct gw__epoch_base base;
	int r = open_history(path, &from, &j, &base, error);
	if (r)
		return r;
	*last = gw__epoch_journal_last(j);
	uint64_t merged = *last ? settle_last(path, j, *last - 1) : 0;
	gw__epoch_journal_close(j);
	r = gw__epoch_history_list(path, merged, past, n, error);
	if (r || merged == *last)
		return r;
	struct gw__epoch_past *more = realloc(*past, (*n + 1) * sizeof *more);
	if (!more)
		return gw__error_set(error, -ENOMEM, "no memory for a list of epochs");
	memmove(more + 1, more, *n * sizeof *more);
	more[0] = (struct gw__epoch_past){.number = merged};
	*past = more;
	++*n;
	return 0;
}
