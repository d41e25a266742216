/* SPDX-License-Identifier: MIT */
/* The last epochs of standbys that died: made images of, when a standby begins or when somebody asks. See standby_recover.h. */
#include "lib/standby_recover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "engine/colo/epoch_recover.h"
#include "lib/call.h"
#include "lib/job.h"

static int image_of(const char *folder, char image[PATH_MAX], struct gw__error *error)
{
	int n = snprintf(image, PATH_MAX, "%s/guest.img", folder);
	return n >= 0 && n < PATH_MAX ? 0 : gw__error_set(error, -ENAMETOOLONG, "%s/guest.img: the name is too long", folder);
}

/* Memory without the disks of its moment would be run with others. Without a journal that list means nothing. */
int gw__standby_recover_image(int folder_fd, const char *image, uint64_t *epoch, struct gw__error *error)
{
	char journal[PATH_MAX + 16];
	snprintf(journal, sizeof journal, "%s.journal.0", image);
	if (faccessat(folder_fd, GW__STANDBY_DISKS, F_OK, 0) || access(journal, F_OK))
		return gw__epoch_recover(image, epoch, error);
	return gw__error_set(error, -EBUSY,
		"the last epoch that a standby left beside %s has disks too: start godwit standby with --disks, or godwit failover", image);
}

static void recover_one(const char *dir, const char *vm, gw__standby_recovered_fn *fn, void *ctx)
{
	char folder[PATH_MAX], image[PATH_MAX];
	struct gw__error error = {0};
	uint64_t epoch = 0;
	int n = snprintf(folder, sizeof folder, "%s/%s", dir, vm);
	if (n < 0 || n >= (int)sizeof folder || image_of(folder, image, &error))
		return;
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB)) {
		if (fd >= 0)
			close(fd);
		return;
	}
	int r = gw__standby_recover_image(fd, image, &epoch, &error);
	if (!r)
		unlinkat(fd, "control", 0); /* nobody answers there */
	if (r != -ENOENT)
		fn(ctx, vm, image, epoch, r ? &error : NULL);
	close(fd);
}

void gw__standby_recover_all(const char *dir, gw__standby_recovered_fn *fn, void *ctx)
{
	DIR *d = opendir(dir);
	for (struct dirent *entry; d && (entry = readdir(d));)
		if (entry->d_name[0] != '.')
			recover_one(dir, entry->d_name, fn, ctx);
	if (d)
		closedir(d);
}

struct recover_args {
	const char *dir;
	uint64_t *epoch;
};

static int recover(gw_job *job, void *args)
{
	const struct recover_args *a = args;
	char image[PATH_MAX];
	int r = gw__job_begin(job, 0);
	if (!r)
		r = GW__NEED(job, a->dir);
	if (!r)
		r = GW__NEED(job, a->epoch);
	if (!r)
		r = image_of(a->dir, image, &job->run.error);
	int fd = r ? -1 : open(a->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!r && fd < 0)
		r = gw__error_errno(&job->run.error, errno, "cannot open the folder %s", a->dir);
	if (!r)
		r = gw__standby_recover_image(fd, image, a->epoch, &job->run.error);
	if (fd >= 0)
		close(fd);
	return r == -ENOENT ? gw__error_set(&job->run.error, r, "no standby has left anything in %s", a->dir) : r;
}

int gw_standby_recover(gw_job *job, const char *dir, uint64_t *epoch)
{
	const struct recover_args a = {dir, epoch};
	return gw__call(job, recover, &a, sizeof a);
}

struct history_args {
	const char *image, *to;
	uint64_t epoch;
	void (*on_epoch)(void *ctx, const struct gw_epoch *epoch);
	void *ctx;
};

static int list(gw_job *job, void *args)
{
	const struct history_args *a = args;
	struct gw__epoch_past *past = NULL;
	uint64_t last = 0;
	size_t n = 0;
	int r = gw__job_begin(job, 0);
	if (!r)
		r = GW__NEED(job, a->image);
	if (!r)
		r = GW__NEED(job, a->on_epoch);
	if (!r)
		r = gw__epoch_list(a->image, &last, &past, &n, &job->run.error);
	if (!r)
		a->on_epoch(a->ctx, &(struct gw_epoch){.size = sizeof(struct gw_epoch), .epoch = last, .is_last = true});
	for (size_t i = 0; !r && i < n; i++)
		a->on_epoch(a->ctx, &(struct gw_epoch){.size = sizeof(struct gw_epoch),
					    .epoch = past[i].number,
					    .bytes = past[i].bytes,
					    .time_ns = past[i].time_ns});
	free(past);
	return r;
}

int gw_standby_history(gw_job *job, const char *image, void (*on_epoch)(void *ctx, const struct gw_epoch *epoch), void *ctx)
{
	const struct history_args a = {.image = image, .on_epoch = on_epoch, .ctx = ctx};
	return gw__call(job, list, &a, sizeof a);
}

static int export_epoch(gw_job *job, void *args)
{
	const struct history_args *a = args;
	int r = gw__job_begin(job, 0);
	if (!r)
		r = GW__NEED(job, a->image);
	if (!r)
		r = GW__NEED(job, a->to);
	return r ? r : gw__epoch_export(a->image, a->epoch, a->to, &job->run.error);
}

int gw_standby_export(gw_job *job, const char *image, uint64_t epoch, const char *to)
{
	const struct history_args a = {.image = image, .epoch = epoch, .to = to};
	return gw__call(job, export_epoch, &a, sizeof a);
}
