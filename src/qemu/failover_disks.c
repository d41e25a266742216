/* SPDX-License-Identifier: MIT */
/* Disks for a guest that fails over; see failover_disks.h. */
#include "qemu/failover_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu/storage.h"
#include "qmp/qmp.h"

static const char PLACE[] = "{disk:";
enum { CONNECT_MS = 10000 };

static int no_memory(struct gw__error *error) { return gw__error_set(error, -ENOMEM, "no memory for disks"); }

/* disk-ID.S.N -> S.N; NULL: another name */
static const char *session_in(const char *name)
{
	const char *last = strrchr(name, '.'), *at = last;
	while (at && at > name && at[-1] != '.')
		at--;
	return at && at > name ? at : NULL;
}

/* disk-ID.S.N -> FOLDER/disks.used.S, which keeps all files of S; own: disk-ID.S.E-branch -> FOLDER/disks.used.S.E-branch */
static int mark_of(const char *folder, const struct gw__failover_disk *d, bool own, char mark[PATH_MAX], struct gw__error *error)
{
	const char *session = session_in(d->path);
	size_t bytes = !session ? 0 : own && strstr(session, GW__STORAGE_BRANCH) ? strlen(session) : strcspn(session, ".");
	int n = snprintf(mark, PATH_MAX, "%s/disks.used.%.*s", folder, (int)bytes, session ? session : "");
	return n > 0 && n < PATH_MAX ? 0 : gw__error_set(error, -ENAMETOOLONG, "%s: the name is too long", folder);
}

static bool is_newer(const struct stat *a, const struct stat *b)
{
	return a->st_mtim.tv_sec != b->st_mtim.tv_sec ? a->st_mtim.tv_sec > b->st_mtim.tv_sec : a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
}

static int check_unchanged(const char *folder, const struct gw__failover_disk *d, struct gw__error *error)
{
	char mark[PATH_MAX];
	struct stat used, now;
	int r = mark_of(folder, d, true, mark, error);
	if (r)
		return r;
	if (stat(d->path, &now))
		return gw__error_set(error, -ESTALE, "the disk %s of this epoch, %s, is not there: %s", d->id, d->path, strerror(errno));
	if (!stat(mark, &used) && is_newer(&now, &used))
		return gw__error_set(error, -ESTALE,
			"a guest that was started from this epoch has written to its disk %s, so the saved memory is too old: boot the "
			"guest from its disk %s",
			d->id, d->path);
	return 0;
}

/* The last epoch's file has its number; an older one's is on top of it, for this guest alone. */
static void name_epoch(char name[192], uint64_t epoch)
{
	char *number = strrchr(name, '.') + 1;
	if (strtoull(number, NULL, 10) != epoch)
		snprintf(number, 192 - (size_t)(number - name), "%llu" GW__STORAGE_BRANCH, (unsigned long long)epoch);
}

static int take_line(struct gw__failover_disks *d, const char *folder, const uint64_t *epoch, const char *line, struct gw__error *error)
{
	char name[192], id[64], real[PATH_MAX];
	if (sscanf(line, "%150s %63s", name, id) != 2 || strchr(name, '/') || !session_in(name))
		return gw__error_set(error, -EPROTO, "%s/disks is damaged", folder);
	if (epoch)
		name_epoch(name, *epoch);
	struct gw__failover_disk *more = realloc(d->disks, (d->n + 1) * sizeof *more);
	if (!more)
		return no_memory(error);
	d->disks = more;
	more[d->n].path = NULL;
	snprintf(more[d->n].id, sizeof more->id, "%s", id);
	if (!realpath(folder, real) || asprintf(&more[d->n].path, "%s/%s", real, name) < 0)
		return gw__error_errno(error, errno, "cannot find %s", folder);
	d->n++;
	return check_unchanged(folder, &more[d->n - 1], error);
}

int gw__failover_disks_find(struct gw__failover_disks *d, const char *folder, const uint64_t *epoch, struct gw__error *error)
{
	char path[PATH_MAX], line[300];
	*d = (struct gw__failover_disks){0};
	int n = snprintf(path, sizeof path, "%s/disks", folder), r = 0;
	FILE *f = n > 0 && n < PATH_MAX ? fopen(path, "re") : NULL;
	while (f && !r && fgets(line, sizeof line, f))
		r = take_line(d, folder, epoch, line, error);
	if (f)
		fclose(f);
	if (r)
		gw__failover_disks_fini(d);
	return r;
}

/* The argument with the first {disk:ID} replaced; NULL: no memory. */
static char *replace(const char *arg, const char *at, const char *end, const char *path)
{
	char *text;
	return asprintf(&text, "%.*s%s%s", (int)(at - arg), arg, path, end + 1) < 0 ? NULL : text;
}

static int fill_arg(struct gw__failover_disks *d, char **arg, bool *mentioned, struct gw__error *error)
{
	const char *at, *end;
	while ((at = strstr(*arg, PLACE)) && (end = strchr(at, '}'))) {
		const char *id = at + strlen(PLACE);
		unsigned i = 0;
		while (i < d->n && (strlen(d->disks[i].id) != (size_t)(end - id) || strncmp(d->disks[i].id, id, (size_t)(end - id))))
			i++;
		if (i == d->n)
			return gw__error_set(error, -EINVAL, "%.*s}: this epoch has no such disk", (int)(end - at), at);
		if (strpbrk(d->disks[i].path, ",\"\\"))
			return gw__error_set(error, -EINVAL, "%s: QEMU would not understand the comma or quote in this name",
				d->disks[i].path);
		char *text = replace(*arg, at, end, d->disks[i].path);
		if (!text)
			return no_memory(error);
		free(*arg);
		*arg = text;
		mentioned[i] = true;
	}
	return 0;
}

int gw__failover_disks_fill(struct gw__failover_disks *d, char *const *command, struct gw__error *error)
{
	unsigned n = 0;
	while (command[n])
		n++;
	bool *mentioned = calloc(d->n + 1, sizeof *mentioned);
	d->command = calloc(n + 1, sizeof *d->command);
	int r = mentioned && d->command ? 0 : no_memory(error);
	for (unsigned i = 0; !r && i < n; i++) {
		d->command[i] = strdup(command[i]);
		r = d->command[i] ? fill_arg(d, &d->command[i], mentioned, error) : no_memory(error);
	}
	for (unsigned i = 0; !r && i < d->n; i++)
		if (!mentioned[i])
			r = gw__error_set(error, -EINVAL,
				"the guest's disk %s is not in the command: write {disk:%s} where the name of its file belongs, with format=qcow2",
				d->disks[i].id, d->disks[i].id);
	free(mentioned);
	return r;
}

static bool has_file(const json_t *blocks, const char *path)
{
	const json_t *d;
	size_t i;
	json_array_foreach(blocks, i, d)
	{
		const char *file = json_string_value(json_object_get(json_object_get(json_object_get(d, "inserted"), "image"), "filename"));
		if (file && !strcmp(file, path))
			return true;
	}
	return false;
}

int gw__failover_disks_are_in(const struct gw__failover_disks *d, const char *monitor, struct gw__error *error)
{
	struct gw__qmp *q = NULL;
	json_t *blocks = NULL;
	char list[400] = "";
	size_t used = 0;
	int r = d->n ? gw__qmp_open(monitor, CONNECT_MS, &q, error) : 0;
	if (!r && d->n)
		r = gw__qmp_call(q, "query-block", NULL, &blocks, error);
	bool all = true;
	for (unsigned i = 0; i < d->n; i++) {
		all &= has_file(blocks, d->disks[i].path);
		used += (size_t)snprintf(list + used, used < sizeof list ? sizeof list - used : 0, "%s %s is %s", i ? "," : "",
			d->disks[i].id, d->disks[i].path);
	}
	if (!r && !all)
		r = gw__error_set(error, -EBUSY, "the QEMU at %s does not have all of the guest's disks of this epoch (qcow2):%s", monitor,
			list);
	json_decref(blocks);
	gw__qmp_close(q);
	return r;
}

/* `now`: nothing was written until now. */
static int make_mark(const char *mark, bool now, struct gw__error *error)
{
	int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return gw__error_errno(error, errno, "cannot make %s", mark);
	if (now)
		futimens(fd, NULL);
	close(fd);
	return 0;
}

/* A branch does not say anything about the last epoch's files, except that they stay. */
int gw__failover_disks_use(const struct gw__failover_disks *d, const char *folder, struct gw__error *error)
{
	char all[PATH_MAX], own[PATH_MAX];
	if (!d->n)
		return 0;
	int r = mark_of(folder, &d->disks[0], false, all, error);
	if (!r)
		r = mark_of(folder, &d->disks[0], true, own, error);
	if (!r)
		r = make_mark(all, !strcmp(all, own), error);
	return r || !strcmp(all, own) ? r : make_mark(own, true, error);
}

void gw__failover_disks_fini(struct gw__failover_disks *d)
{
	for (unsigned i = 0; i < d->n; i++)
		free(d->disks[i].path);
	for (char **c = d->command; c && *c; c++)
		free(*c);
	free(d->command);
	free(d->disks);
	*d = (struct gw__failover_disks){0};
}
