/* SPDX-License-Identifier: MIT */
/*
 * Every call the io room makes fails once. Whatever happens next, there is an error with a sentence or the
 * job was done all the same; no descriptor and no child is left. The linker puts the functions below in place
 * of the real ones.
 */
#include "chan_unit.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/math.h"

enum { FAR_MS = 20000 };

static struct {
	long calls, fail_at; /* -1: never */
	const char *failed;
} torture = {.fail_at = -1};

static bool is_due(const char *name)
{
	if (torture.calls++ != torture.fail_at)
		return false;
	torture.failed = name;
	return true;
}

#define FAIL_WITH(err, name) (is_due(name) && (errno = (err)))

#define WRAP(err, type, failure, name, params, args)                                                                                       \
	type __real_##name params;                                                                                                         \
	type __wrap_##name params;                                                                                                         \
	type __wrap_##name params { return FAIL_WITH(err, #name) ? (failure) : __real_##name args; }

WRAP(ENOMEM, void *, NULL, calloc, (size_t n, size_t size), (n, size))
WRAP(EMFILE, int, -1, socket, (int family, int type, int protocol), (family, type, protocol))
WRAP(EMFILE, int, -1, socketpair, (int family, int type, int protocol, int *fds), (family, type, protocol, fds))
WRAP(EMFILE, int, -1, pipe2, (int *fds, int flags), (fds, flags))
WRAP(EIO, int, -1, fstat64, (int fd, struct stat *st), (fd, st))
WRAP(EIO, int, -1, lstat64, (const char *path, struct stat *st), (path, st))
WRAP(EIO, int, -1, stat64, (const char *path, struct stat *st), (path, st))
WRAP(EIO, int, -1, getsockopt, (int fd, int level, int name, void *v, socklen_t *n), (fd, level, name, v, n))
WRAP(EIO, int, -1, setsockopt, (int fd, int level, int name, const void *v, socklen_t n), (fd, level, name, v, n))
WRAP(EIO, int, -1, getsockname, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n))
WRAP(EACCES, int, -1, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
WRAP(EIO, int, -1, listen, (int fd, int n), (fd, n))
WRAP(EMFILE, int, -1, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags))
WRAP(EIO, int, -1, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
WRAP(EIO, int, -1, shutdown, (int fd, int how), (fd, how))
WRAP(EIO, ssize_t, -1, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
WRAP(EIO, ssize_t, -1, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
WRAP(EIO, ssize_t, -1, readv, (int fd, const struct iovec *iov, int n), (fd, iov, n))
WRAP(ENOSPC, ssize_t, -1, writev, (int fd, const struct iovec *iov, int n), (fd, iov, n))
WRAP(EIO, int, -1, fsync, (int fd), (fd))
WRAP(EIO, int, -1, ftruncate64, (int fd, off_t bytes), (fd, bytes))
WRAP(EIO, off_t, -1, lseek64, (int fd, off_t off, int whence), (fd, off, whence))
WRAP(EIO, int, -1, ppoll, (struct pollfd * p, nfds_t n, const struct timespec *t, const sigset_t *s), (p, n, t, s))
WRAP(EAGAIN, int, EAGAIN, posix_spawn,
	(pid_t * pid, const char *path, const posix_spawn_file_actions_t *f, const posix_spawnattr_t *a, char *const *argv,
		char *const *env),
	(pid, path, f, a, argv, env))
WRAP(ENOMEM, int, ENOMEM, posix_spawn_file_actions_init, (posix_spawn_file_actions_t * f), (f))
WRAP(ENOMEM, int, ENOMEM, posix_spawnattr_init, (posix_spawnattr_t * a), (a))
WRAP(ENOMEM, int, ENOMEM, posix_spawn_file_actions_adddup2, (posix_spawn_file_actions_t * f, int a, int b), (f, a, b))
WRAP(ENOMEM, int, EAI_MEMORY, getaddrinfo, (const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found),
	(node, service, hints, found))

int __real_fcntl64(int fd, int cmd, ...);
int __wrap_fcntl64(int fd, int cmd, ...);
int __wrap_fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	va_start(ap, cmd);
	long arg = cmd == F_GETFL || cmd == F_GETFD ? 0 : va_arg(ap, int);
	va_end(ap);
	return FAIL_WITH(EIO, "fcntl") ? -1 : __real_fcntl64(fd, cmd, arg);
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
	va_end(ap);
	return FAIL_WITH(EACCES, "open") ? -1 : __real_open64(path, flags, mode);
}

/* --- what is done: 0 or the first failure; everything is closed
 * ------------------------------------------------- */

static const struct gw__io_opts far_away = {.idle_ms = FAR_MS, .connect_ms = FAR_MS, .cancel_fd = -1};

static int first(int a, int b) { return a ? a : b; }

static int close_all(struct gw__chan *chans[2], int r, struct gw__error *error)
{
	for (int i = 0; i < 2; i++)
		r = first(r, gw__chan_close(&chans[i], error));
	return r;
}

static int send_and_end(struct gw__chan *from, struct gw__chan *to, struct gw__error *error)
{
	char got[8];
	int r = gw__chan_write_all(from, "stream", 6, error);
	r = r ? r : gw__chan_end_writes(from, error);
	while (r == 0) {
		ssize_t n = gw__chan_read(to, got, sizeof got, error);
		if (n <= 0)
			return (int)n;
	}
	return r;
}

static int use_filters(struct folder *f, struct gw__error *error)
{
	struct gw__chan *pair[2] = {0};
	int r = gw__chan_pair(pair, &far_away, error);
	r = r ? r : gw__chan_limit_rate(&pair[0], 1000000000, error);
	r = r ? r : gw__chan_cut_after(&pair[0], 100, 100, error);
	r = r ? r : gw__chan_tap(&pair[0], NULL, NULL, error);
	r = r ? r : send_and_end(pair[0], pair[1], error);
	return close_all(pair, r, error);
}

static int use_file(struct folder *f, struct gw__error *error)
{
	struct gw__chan *c[2] = {0};
	struct gw__uri uri = uri_in(f, "file", "f", ",offset=4");
	int r = gw__io_open_out(&uri, &far_away, &c[0], error);
	r = r ? r : gw__io_open_in(&uri, &far_away, &c[1], error);
	r = r ? r : send_and_end(c[0], c[1], error);
	return close_all(c, r, error);
}

static int use_command(struct folder *f, struct gw__error *error)
{
	char got[8];
	struct gw__chan *c[2] = {0};
	struct gw__uri out = uri_of("exec:cat >/dev/null"), in = uri_of("exec:printf 12345678");
	int r = gw__io_open_out(&out, &far_away, &c[0], error);
	r = r ? r : gw__chan_write_all(c[0], "stream", 6, error);
	r = r ? r : gw__chan_end_writes(c[0], error);
	r = r ? r : gw__io_open_in(&in, &far_away, &c[1], error);
	while (r == 0) {
		ssize_t n = gw__chan_read(c[1], got, sizeof got, error);
		if (n == 0)
			break;
		r = n < 0 ? (int)n : 0;
	}
	return close_all(c, r, error);
}

static int meet(const struct gw__uri *there, struct gw__error *error)
{
	struct gw__listener *l;
	struct gw__chan *c[2] = {0};
	struct gw__uri uri;
	int r = gw__io_listen(there, &far_away, &l, error);
	if (r)
		return r;
	r = gw__uri_parse(gw__listener_uri(l), &uri, error);
	r = r ? r : gw__io_open_out(&uri, &far_away, &c[0], error);
	r = r ? r : gw__listener_accept(l, &c[1], error);
	r = r ? r : send_and_end(c[0], c[1], error);
	r = close_all(c, r, error);
	gw__listener_close(l);
	return r;
}

static int use_tcp(struct folder *f, struct gw__error *error)
{
	struct gw__uri uri = uri_of("tcp:127.0.0.1:0");
	return meet(&uri, error);
}

static int use_tcp_anywhere(struct folder *f, struct gw__error *error)
{
	struct gw__uri uri = uri_of("tcp:0:0");
	return meet(&uri, error);
}

/* Over a left-over socket file. */
static int use_unix(struct folder *f, struct gw__error *error)
{
	struct gw__listener *l;
	struct gw__uri uri = uri_in(f, "unix", "s", "");
	char moved[160];
	long fail_at = torture.fail_at;
	torture.fail_at = -1;
	snprintf(moved, sizeof moved, "%s/moved", f->path);
	assert_int_equal(gw__io_listen(&uri, &far_away, &l, NULL), 0);
	assert_int_equal(rename(path_of(f, "s"), moved), 0);
	gw__listener_close(l);
	assert_int_equal(rename(moved, path_of(f, "s")), 0);
	torture.calls = 0;
	torture.fail_at = fail_at;
	return meet(&uri, error);
}

/* --- the loop
 * --------------------------------------------------------------------------------------------------- */

static int count_fds(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		n++;
	closedir(d);
	return n;
}

static void fail_every_call_of(const char *name, int (*use)(struct folder *, struct gw__error *), struct folder *f)
{
	int fds = count_fds();
	long at = 0;
	for (;; at++) {
		struct gw__error error = {0};
		torture.calls = 0;
		torture.failed = NULL;
		torture.fail_at = at;
		int r = use(f, &error);
		torture.fail_at = -1;
		unlink(path_of(f, "s"));
		if (r > 0 || (r < 0 && (!*error.text || error.code >= 0)))
			fail_msg("%s: call %ld (%s): returned %d, said \"%s\"", name, at, torture.failed, r, error.text);
		if (!torture.failed && r)
			fail_msg("%s: nothing failed, but: %s", name, error.text);
		if (count_fds() != fds)
			fail_msg("%s: call %ld (%s): %d descriptors before, %d now", name, at, torture.failed, fds, count_fds());
		if (waitpid(-1, NULL, WNOHANG) != -1)
			fail_msg("%s: call %ld (%s): a child is left", name, at, torture.failed);
		if (!torture.failed)
			break;
	}
	assert_true(at > 5);
}

static void every_call_fails_once(void **state)
{
	static const struct {
		const char *name;
		int (*use)(struct folder *, struct gw__error *);
	} uses[] = {{"filters", use_filters}, {"file", use_file}, {"command", use_command}, {"tcp", use_tcp},
		{"tcp anywhere", use_tcp_anywhere}, {"unix", use_unix}};
	for (size_t i = 0; i < GW__LEN(uses); i++)
		fail_every_call_of(uses[i].name, uses[i].use, *state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_call_fails_once, make_folder, remove_folder),
	};
	return cmocka_run_group_tests_name("io_torture", tests, NULL, NULL);
}
