/* SPDX-License-Identifier: MIT */
/* A qemu-storage-daemon and the overlays it is told to make; see storage.h. */
#include "qemu/storage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "godwit.h"
#include "qemu/descriptors.h"
#include "qmp/qmp.h"
#include "qmp/sleep.h"
#include "thread/thread.h"

enum {
	GREETING_MS = 10000,
	CALL_MS = 5000, /* also of a snapshot, within the pause: whoever guards the primary does not wait as long as that */
	JOB_MS = 20000,
	QUIT_MS = 3000,
	POLL_MS = 1,
	NOTHING_LEFT = 1, /* beside 0 and what is negative: no epoch to find */
};

static const char DURABLE_LIST[] = "disks.durable";

struct gw__storage {
	char folder[PATH_MAX], prefix[16];
	unsigned session;
	struct gw__storage_disk disks[GW__STORAGE_DISKS_MAX];
	unsigned n;
	bool durable;
	unsigned history;
	pid_t pid; /* 0: it has ended */
	struct gw__qmp *qmp;
	struct gw__error failed; /* outside the pause; told at the next boundary */
};

/* --- files --- */

static void name_of(const struct gw__storage *s, unsigned disk, uint64_t epoch, char name[160])
{
	snprintf(name, 160, "disk-%s.%u.%llu", s->disks[disk].id, s->session, (unsigned long long)epoch);
}

static int path_of(const struct gw__storage *s, unsigned disk, const char *what, char path[PATH_MAX], struct gw__error *error)
{
	int n = snprintf(path, PATH_MAX, "%s/disk-%s.%u.%s", s->folder, s->disks[disk].id, s->session, what);
	return n > 0 && n < PATH_MAX ? 0 : gw__error_set(error, -ENAMETOOLONG, "%s: the name is too long", s->folder);
}

static int overlay_path(const struct gw__storage *s, unsigned disk, uint64_t epoch, char path[PATH_MAX], struct gw__error *error)
{
	char what[24];
	snprintf(what, sizeof what, "%llu", (unsigned long long)epoch);
	return path_of(s, disk, what, path, error);
}

static void remove_durable_list(const char *folder)
{
	char path[PATH_MAX + 32];
	snprintf(path, sizeof path, "%s/%s", folder, DURABLE_LIST);
	unlink(path);
}

static void remove_overlay(const struct gw__storage *s, unsigned disk, uint64_t epoch)
{
	char path[PATH_MAX];
	if (!overlay_path(s, disk, epoch, path, NULL))
		unlink(path);
}

/* "disk-ID.S.what" -> S; 0: no such name. */
static unsigned session_of(const char *name)
{
	const char *last = strrchr(name, '.'), *at = last;
	if (strncmp(name, "disk-", strlen("disk-")) || !last)
		return 0;
	while (at > name && at[-1] != '.')
		at--;
	return at > name ? (unsigned)strtoul(at, NULL, 10) : 0;
}

static bool is_used(const char *folder, unsigned session)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/disks.used.%u", folder, session);
	return n >= (int)sizeof path || access(path, F_OK) == 0;
}

static unsigned last_session(const char *folder)
{
	unsigned last = 0, session;
	DIR *d = opendir(folder);
	for (struct dirent *e; d && (e = readdir(d));)
		if ((session = session_of(e->d_name)) > last)
			last = session;
	if (d)
		closedir(d);
	return last;
}

/* Of this session, or (others) of all others that no guest was given. */
static void remove_files(const struct gw__storage *s, bool others)
{
	DIR *d = opendir(s->folder);
	for (struct dirent *e; d && (e = readdir(d));) {
		unsigned session = session_of(e->d_name);
		if (session && (session != s->session) == others && (!others || !is_used(s->folder, session)))
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d && others)
		unlinkat(dirfd(d), "disks", 0);
	if (d)
		closedir(d);
}

static int make_file(const char *path, uint64_t bytes, struct gw__error *error)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return gw__error_errno(error, errno, "cannot make %s", path);
	int err = bytes && ftruncate(fd, (off_t)bytes) ? errno : 0;
	close(fd);
	return err ? gw__error_errno(error, err, "cannot make %s", path) : 0;
}

/* --- the disk below --- */

static int sync_path(const char *path, struct gw__error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = fd < 0 || fsync(fd) ? errno : 0;
	if (fd >= 0)
		close(fd);
	return err ? gw__error_errno(error, err, "cannot sync %s", path) : 0;
}

static int sync_file(const struct gw__storage *s, unsigned disk, uint64_t epoch, struct gw__error *error)
{
	char path[PATH_MAX];
	int r = overlay_path(s, disk, epoch, path, error);
	return r ? r : sync_path(path, error);
}

static int sync_base(const struct gw__storage *s, unsigned disk, struct gw__error *error)
{
	char path[PATH_MAX];
	int r = path_of(s, disk, "base", path, error);
	return r ? r : sync_path(path, error);
}

/* --- lists: a line for each disk --- */

typedef int line_fn(const struct gw__storage *s, unsigned disk, uint64_t epoch, char *line, size_t n);

static int say_file(const struct gw__storage *s, unsigned disk, uint64_t epoch, char *line, size_t n)
{
	char name[160];
	name_of(s, disk, epoch, name);
	return snprintf(line, n, "%s %s\n", name, s->disks[disk].id);
}

static int say_session(const struct gw__storage *s, unsigned disk, uint64_t epoch, char *line, size_t n)
{
	(void)epoch;
	return snprintf(line, n, "%u %s\n", s->session, s->disks[disk].id);
}

static int write_list(const struct gw__storage *s, const char *list, line_fn *say, uint64_t epoch, struct gw__error *error)
{
	char path[PATH_MAX + 32], new_path[PATH_MAX + 32], line[240];
	snprintf(path, sizeof path, "%s/%s", s->folder, list);
	snprintf(new_path, sizeof new_path, "%s/%s.new", s->folder, list);
	int fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool good = fd >= 0;
	for (unsigned i = 0; good && i < s->n; i++) {
		int n = say(s, i, epoch, line, sizeof line);
		good = write(fd, line, (size_t)n) == n;
	}
	good = good && (!s->durable || !fsync(fd));
	int err = good ? 0 : errno;
	if (fd >= 0 && close(fd) && !err)
		err = errno;
	if (!err && rename(new_path, path))
		err = errno;
	if (err)
		return gw__error_errno(error, err, "cannot write %s", path);
	return s->durable ? sync_path(s->folder, error) : 0;
}

typedef bool parse_fn(struct gw__storage *s, const char *line, char *id, uint64_t *epoch);

/* 0 also where there is none. */
static int read_list(struct gw__storage *s, const char *list, parse_fn *parse, uint64_t *epoch, struct gw__error *error)
{
	char path[PATH_MAX + 32], line[300];
	snprintf(path, sizeof path, "%s/%s", s->folder, list);
	FILE *f = fopen(path, "re");
	if (!f)
		return errno == ENOENT ? 0 : gw__error_errno(error, errno, "cannot read %s", path);
	int r = 0;
	while (!r && fgets(line, sizeof line, f)) {
		struct gw__storage_disk *d = &s->disks[s->n];
		if (s->n == GW__STORAGE_DISKS_MAX || !parse(s, line, d->id, epoch) || strchr(d->id, '/'))
			r = gw__error_set(error, -EPROTO,
				"%s is damaged: it has the line \"%.*s\"; restore the file from a copy of the folder", path,
				(int)strcspn(line, "\n"), line);
		else
			s->n++;
	}
	fclose(f);
	return r;
}

/* --- the engine --- */

static void run_engine(const char *program, int monitor)
{
	char chardev[64];
	snprintf(chardev, sizeof chardev, "socket,id=monitor,fd=%d", monitor);
	fcntl(monitor, F_SETFD, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	gw__thread_take_signals();
	setsid(); /* out of reach of what is sent to our group */
	int null = open("/dev/null", O_RDWR);
	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
	}
	gw__close_all_but((const int[]){monitor}, 1);
	execlp(program, program,
		"-"
		"-chardev",
		chardev,
		"-"
		"-monitor",
		"chardev=monitor", (char *)NULL); /* its own options */
	_exit(127);
}

static int start_engine(struct gw__storage *s, const char *program, struct gw__error *error)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return gw__error_errno(error, errno, "cannot make a socket pair");
	s->pid = fork();
	if (s->pid == 0)
		run_engine(program, pair[0]);
	int err = errno;
	close(pair[0]);
	if (s->pid < 0) {
		s->pid = 0;
		close(pair[1]);
		return gw__error_errno(error, err, "cannot start %s", program);
	}
	if (gw__qmp_take_fd(pair[1], GREETING_MS, &s->qmp, NULL))
		return gw__error_set(error, -EIO, "%s does not serve disks: it did not start", program);
	gw__qmp_set_call_limit(s->qmp, CALL_MS);
	return 0;
}

static void end_engine(struct gw__storage *s)
{
	struct timespec start = gw__monotonic_now();
	if (s->qmp)
		gw__qmp_call(s->qmp, "quit", NULL, NULL, NULL);
	while (s->pid && s->qmp && gw__monotonic_seconds_since(&start) * 1e3 < QUIT_MS) {
		if (waitpid(s->pid, NULL, WNOHANG))
			s->pid = 0;
		else
			gw__sleep_ms(POLL_MS);
	}
	if (s->pid) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
		s->pid = 0;
	}
	gw__qmp_close(s->qmp);
	s->qmp = NULL;
}

static const json_t *find_job(const json_t *jobs, const char *id)
{
	const json_t *j;
	size_t i;
	json_array_foreach(jobs, i, j)
	{
		const char *name = json_string_value(json_object_get(j, "id"));
		if (name && !strcmp(name, id))
			return j;
	}
	return NULL;
}

/* A job that was made not to vanish by itself. */
static int finish_job(struct gw__storage *s, const char *id, struct gw__error *error)
{
	struct timespec start = gw__monotonic_now();
	for (;;) {
		json_t *jobs = NULL;
		int r = gw__qmp_call(s->qmp, "query-jobs", NULL, &jobs, error);
		const json_t *j = find_job(jobs, id);
		const char *status = json_string_value(json_object_get(j, "status")), *why = json_string_value(json_object_get(j, "error"));
		bool over = !j || (status && !strcmp(status, "concluded"));
		if (!r && over && why)
			r = gw__error_set(error, -EIO, "%.300s", why);
		json_decref(jobs);
		if (over && j)
			gw__qmp_call(s->qmp, "job-dismiss", json_pack("{s:s}", "id", id), NULL, NULL);
		if (r || over)
			return r;
		if (gw__monotonic_seconds_since(&start) * 1e3 > JOB_MS)
			return gw__error_set(error, -ETIMEDOUT, "the engine does not end its job %s", id);
		gw__sleep_ms(POLL_MS);
	}
}

/* --- overlays --- */

static int make_overlay(struct gw__storage *s, unsigned disk, const char *path, const char *below, const char *format,
	struct gw__error *error)
{
	int r = make_file(path, 0, error);
	if (!r)
		r = gw__qmp_call(s->qmp, "blockdev-create",
			json_pack("{s:s, s:{s:s, s:{s:s, s:s}, s:I, s:s, s:s}}", "job-id", "create", "options", "driver", "qcow2", "file",
				"driver", "file", "filename", path, "size", (json_int_t)s->disks[disk].bytes, "backing-file", below,
				"backing-fmt", format),
			NULL, error);
	if (!r)
		r = finish_job(s, "create", error);
	return r ? gw__error_where(error, "cannot make %s", path) : 0;
}

static void node_name(unsigned disk, uint64_t epoch, char name[40]) { snprintf(name, 40, "n%u-%llu", disk, (unsigned long long)epoch); }

/* An overlay that the next boundary puts in its place. */
static int open_overlay(struct gw__storage *s, unsigned disk, uint64_t epoch, struct gw__error *error)
{
	char path[PATH_MAX], node[40];
	node_name(disk, epoch, node);
	int r = overlay_path(s, disk, epoch, path, error);
	return r ? r
		 : gw__qmp_call(s->qmp, "blockdev-add",
			   json_pack("{s:s, s:s, s:n, s:s, s:{s:s, s:s}}", "driver", "qcow2", "node-name", node, "backing", "discard",
				   "unmap", "file", "driver", "file", "filename", path),
			   NULL, error);
}

static int prepare_next(struct gw__storage *s, uint64_t epoch, struct gw__error *error)
{
	char below[PATH_MAX], path[PATH_MAX];
	int r = 0;
	for (unsigned i = 0; !r && i < s->n; i++) {
		r = epoch > 1 ? overlay_path(s, i, epoch - 1, below, error) : path_of(s, i, "base", below, error);
		if (!r)
			r = overlay_path(s, i, epoch, path, error);
		if (!r)
			r = make_overlay(s, i, path, below, epoch > 1 ? "qcow2" : "raw", error);
		if (!r)
			r = open_overlay(s, i, epoch, error);
	}
	return r || !s->durable ? r : sync_path(s->folder, error);
}

/* What `epoch` wrote goes into the base, below an overlay that has all of it until then. The primary writes to the overlay of `current`. */
static int merge(struct gw__storage *s, unsigned disk, uint64_t epoch, uint64_t current, struct gw__error *error)
{
	char top[40], active[40], base[40];
	node_name(disk, epoch, top);
	node_name(disk, current, active);
	node_name(disk, 0, base);
	int r = gw__qmp_call(s->qmp, "block-commit",
		json_pack("{s:s, s:s, s:s, s:s, s:b}", "job-id", "merge", "device", active, "top-node", top, "base-node", base,
			"auto-dismiss", 0),
		NULL, error);
	if (!r)
		r = finish_job(s, "merge", error);
	if (!r)
		r = gw__qmp_call(s->qmp, "blockdev-del", json_pack("{s:s}", "node-name", top), NULL, error);
	if (!r && s->durable)
		r = sync_base(s, disk, error);
	if (!r && s->durable)
		r = sync_file(s, disk, epoch + 1, error); /* which does not name the merged one any more */
	if (!r)
		remove_overlay(s, disk, epoch);
	return r;
}

static int serve(struct gw__storage *s, unsigned disk, struct gw__error *error)
{
	char path[PATH_MAX], epoch_0[PATH_MAX], export[GW__STORAGE_ID_BYTES + 32], node[40], id[16];
	node_name(disk, 0, node);
	snprintf(id, sizeof id, "e%u", disk);
	snprintf(export, sizeof export, "%s-%s", s->prefix, s->disks[disk].id);
	int r = path_of(s, disk, "base", path, error);
	if (!r)
		r = make_file(path, s->disks[disk].bytes, error);
	if (!r)
		r = overlay_path(s, disk, 0, epoch_0, error);
	if (!r)
		r = make_overlay(s, disk, epoch_0, path, "raw", error);
	if (!r)
		r = gw__qmp_call(s->qmp, "blockdev-add",
			json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:s}}", "driver", "raw", "node-name", node, "discard", "unmap", "file",
				"driver", "file", "filename", path, "discard", "unmap"),
			NULL, error);
	return r ? r
		 : gw__qmp_call(s->qmp, "block-export-add",
			   json_pack("{s:s, s:s, s:s, s:s, s:b}", "type", "nbd", "id", id, "node-name", node, "name", export, "writable",
				   1),
			   NULL, error);
}

static int listen_at(struct gw__storage *s, const char *server, struct gw__error *error)
{
	const char *at = strchr(server, ':') + 1, *port = strrchr(at, ':');
	if (!strncmp(server, "unix:", strlen("unix:"))) {
		unlink(at);
		return gw__qmp_call(s->qmp, "nbd-server-start", json_pack("{s:{s:s, s:{s:s}}}", "addr", "type", "unix", "data", "path", at),
			NULL, error);
	}
	return gw__qmp_call(s->qmp, "nbd-server-start",
		json_pack("{s:{s:s, s:{s:s%, s:s}}}", "addr", "type", "inet", "data", "host", at, (size_t)(port - at), "port", port + 1),
		NULL, error);
}

/* --- one protection --- */

int gw__storage_open(const struct gw__storage_opts *o, const struct gw__storage_disk *disks, unsigned n, struct gw__storage **to,
	struct gw__error *error)
{
	struct gw__storage *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(error, -ENOMEM, "no memory for disks");
	snprintf(s->folder, sizeof s->folder, "%s", o->folder);
	memcpy(s->disks, disks, n * sizeof *disks);
	s->n = n;
	s->durable = o->durable;
	s->history = o->history;
	s->session = last_session(o->folder) + 1;
	snprintf(s->prefix, sizeof s->prefix, "%u", s->session);
	int r = start_engine(s, o->program, error);
	if (!r)
		r = listen_at(s, o->server, error);
	for (unsigned i = 0; !r && i < n; i++)
		r = serve(s, i, error);
	if (!r)
		r = prepare_next(s, 1, error);
	if (r)
		gw__storage_end(&s, 0, false);
	else
		*to = s;
	return r;
}

const char *gw__storage_prefix(const struct gw__storage *s) { return s->prefix; }

/* All that the disk of this epoch is made of. What is below it was safe before it counted. */
static int make_safe(struct gw__storage *s, uint64_t epoch, struct gw__error *error)
{
	int r = 0;
	for (unsigned i = 0; !r && i < s->n; i++) {
		r = sync_file(s, i, epoch, error);
		if (!r && !epoch)
			r = sync_base(s, i, error);
	}
	return r || epoch ? r : write_list(s, DURABLE_LIST, say_session, epoch, error);
}

int gw__storage_boundary(struct gw__storage *s, uint64_t epoch, struct gw__error *error)
{
	char below[40], next[40];
	int r = s->failed.code ? gw__error_set(error, s->failed.code, "%s", s->failed.text) : 0;
	for (unsigned i = 0; !r && i < s->n; i++) {
		node_name(i, epoch, below);
		node_name(i, epoch + 1, next);
		r = gw__qmp_call(s->qmp, "blockdev-snapshot", json_pack("{s:s, s:s}", "node", below, "overlay", next), NULL, error);
		if (r)
			gw__error_where(error, "the disk %s of epoch %llu cannot be closed", s->disks[i].id, (unsigned long long)epoch);
	}
	return r || !s->durable ? r : make_safe(s, epoch, error);
}

void gw__storage_commit(struct gw__storage *s, uint64_t epoch)
{
	int r = 0;
	if (s->failed.code)
		return;
	if (!epoch)
		remove_files(s, true);
	for (unsigned i = 0; !r && epoch > s->history && i < s->n; i++) {
		uint64_t dropped = epoch - 1 - s->history;
		if (dropped)
			r = merge(s, i, dropped, epoch + 1, &s->failed);
		else
			remove_overlay(s, i, 0);
	}
	if (!r)
		r = prepare_next(s, epoch + 2, &s->failed);
	if (r && !s->failed.code)
		gw__error_set(&s->failed, r, "the disks of epoch %llu cannot be prepared", (unsigned long long)epoch + 2);
}

void gw__storage_end(struct gw__storage **storage, uint64_t epoch, bool kept)
{
	struct gw__storage *s = *storage;
	*storage = NULL;
	if (!s)
		return;
	end_engine(s);
	if (kept) {
		uint64_t last = epoch + (getenv("GODWIT_TEST_NO_DISK_BOUNDARY") != NULL); /* the control of a test: it must find that */
		for (unsigned i = 0; i < s->n; i++) {                                     /* what no epoch has */
			remove_overlay(s, i, last + 1);
			remove_overlay(s, i, epoch + 2);
		}
		write_list(s, "disks", say_file, last, NULL);
	} else {
		remove_files(s, false);
	}
	remove_durable_list(s->folder);
	free(s);
}

/* --- an older epoch --- */

/* The epoch that the names in the folder's file "disks" end with. */
static bool parse_file(struct gw__storage *s, const char *line, char *id, uint64_t *epoch)
{
	char name[192];
	if (sscanf(line, "%191s %63s", name, id) != 2)
		return false;
	s->session = session_of(name);
	*epoch = s->session ? strtoull(strrchr(name, '.') + 1, NULL, 10) : 0;
	return s->session;
}

static int find_size(struct gw__storage *s, unsigned disk, struct gw__error *error)
{
	char path[PATH_MAX];
	struct stat st;
	int r = path_of(s, disk, "base", path, error);
	if (!r && stat(path, &st))
		r = gw__error_errno(error, errno, "cannot stat %s", path);
	s->disks[disk].bytes = r ? 0 : (uint64_t)st.st_size;
	return r;
}

/* Under another name first: what has its name is whole. */
static int branch(struct gw__storage *s, unsigned disk, uint64_t epoch, const char *program, struct gw__error *error)
{
	char below[PATH_MAX], path[PATH_MAX], new_path[PATH_MAX], what[48], new[48];
	snprintf(what, sizeof what, "%llu" GW__STORAGE_BRANCH, (unsigned long long)epoch);
	snprintf(new, sizeof new, "%llu-new", (unsigned long long)epoch);
	int r = overlay_path(s, disk, epoch, below, error);
	if (!r)
		r = path_of(s, disk, what, path, error);
	if (!r)
		r = path_of(s, disk, new, new_path, error);
	if (r || access(path, F_OK) == 0)
		return r;
	if (access(below, F_OK))
		return gw__error_set(error, -ENODATA, "the disk %s of epoch %llu is not kept: %s does not exist", s->disks[disk].id,
			(unsigned long long)epoch, below);
	unlink(new_path);
	r = find_size(s, disk, error);
	if (!r && !s->pid)
		r = start_engine(s, program, error);
	if (!r)
		r = make_overlay(s, disk, new_path, below, "qcow2", error);
	if (!r)
		r = sync_path(new_path, error);
	if (!r && rename(new_path, path))
		r = gw__error_errno(error, errno, "cannot make %s", path);
	return r ? r : sync_path(s->folder, error);
}

int gw__storage_branch(const char *folder, const char *program, uint64_t epoch, struct gw__error *error)
{
	uint64_t last = epoch;
	struct gw__storage *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(error, -ENOMEM, "no memory for disks");
	snprintf(s->folder, sizeof s->folder, "%s", folder);
	int r = read_list(s, "disks", parse_file, &last, error);
	for (unsigned i = 0; !r && epoch != last && i < s->n; i++)
		r = branch(s, i, epoch, program, error);
	end_engine(s);
	free(s);
	return r;
}

/* --- after its death --- */

static bool parse_session(struct gw__storage *s, const char *line, char *id, uint64_t *epoch)
{
	(void)epoch;
	return sscanf(line, "%u %63s", &s->session, id) == 2;
}

static int find_overlays(const struct gw__storage *s, uint64_t epoch, struct gw__error *error)
{
	char path[PATH_MAX];
	for (unsigned i = 0; i < s->n; i++) {
		int r = overlay_path(s, i, epoch, path, error);
		if (r)
			return r;
		if (access(path, F_OK))
			return gw__error_set(error, -ENODATA,
				"the disk %s of the last epoch, %s, is missing. Restore the file, or remove %s/%s to get only the memory",
				s->disks[i].id, path, s->folder, DURABLE_LIST);
	}
	return 0;
}

static void note_last(void *ctx, const struct gw_epoch *e)
{
	if (e->is_last)
		*(uint64_t *)ctx = e->epoch;
}

/* 0, NOTHING_LEFT, or a failure. */
static int find_last_epoch(const char *folder, uint64_t *epoch, struct gw__error *error)
{
	char path[PATH_MAX];
	gw_job *job = NULL;
	int n = snprintf(path, sizeof path, "%s/guest.img.standby",
		folder); /* an image that is whole has no journal, but may have a history */
	if (n < 0 || n >= (int)sizeof path || access(path, F_OK))
		return NOTHING_LEFT;
	if (gw_job_new(&job))
		return gw__error_set(error, -ENOMEM, "no memory for a job");
	path[n - (int)strlen(".standby")] = '\0';
	int r = gw_standby_history(job, path, note_last, epoch);
	if (r && r != -ENODATA)
		gw__error_set(error, r, "the last epoch that a standby left in %s cannot be recovered: %s", folder, gw_job_error(job));
	gw_job_free(job);
	return r == -ENODATA ? NOTHING_LEFT : r;
}

int gw__storage_recover(const char *folder, struct gw__error *error)
{
	uint64_t epoch;
	struct gw__storage *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(error, -ENOMEM, "no memory for disks");
	snprintf(s->folder, sizeof s->folder, "%s", folder);
	s->durable = true;
	int r = read_list(s, DURABLE_LIST, parse_session, NULL, error);
	if (!r && s->n)
		r = find_last_epoch(folder, &epoch, error);
	if (!r && s->n)
		r = find_overlays(s, epoch, error);
	if (!r && s->n)
		r = write_list(s, "disks", say_file, epoch, error);
	for (unsigned i = 0; !r && i < s->n; i++) /* what the primary wrote after it */
		for (uint64_t later = epoch + 1; later <= epoch + 3; later++)
			remove_overlay(s, i, later);
	if (r == NOTHING_LEFT) /* it died before its first epoch was safe */
		r = 0;
	if (!r)
		remove_durable_list(folder);
	free(s);
	return r;
}
