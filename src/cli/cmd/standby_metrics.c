/* SPDX-License-Identifier: MIT */
/* Who looks at a standby every second: the metrics file, HTTP, systemd. See standby_metrics.h; the text is standby_metrics_text.c. */
#include "cli/cmd/standby_metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/math.h"
#include "cli/cmd/standby_guests.h"

enum { PERIOD_MS = 1000, HTTP_IDLE_S = 10, HTTP_CONNECTIONS = 32 };

struct gw__cli_metrics {
	const char *dir, *file;
	struct MHD_Daemon *http;
	pthread_t thread;
	int notify_fd; /* connected to systemd's socket; -1: none */
	bool watched;  /* systemd wants to hear of us again and again */
	unsigned period_ms;

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	bool quits, is_ready;
};

/* --- systemd --- */

/* Unset, so that nobody whom we start speaks for us. */
static int connect_notify(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof a.sun_path)
		return -1;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path, path, strlen(path));
	if (path[0] == '@')
		a.sun_path[0] = 0;
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Twice as often as is asked for. */
static void find_watchdog(struct gw__cli_metrics *m)
{
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	unsigned long long n = us ? strtoull(us, NULL, 10) : 0;
	if (m->notify_fd < 0 || !n || (pid && strtol(pid, NULL, 10) != getpid()))
		return;
	m->watched = true;
	m->period_ms = (unsigned)gw__max(1ULL, gw__min(n / 2000, (unsigned long long)PERIOD_MS));
}

static void notify(const struct gw__cli_metrics *m, const char *text)
{
	if (m->notify_fd >= 0)
		(void)!send(m->notify_fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void notify_status(const struct gw__cli_metrics *m)
{
	struct gw__cli_guests all;
	char text[128];
	unsigned is_protected = 0, died = 0;
	if (m->notify_fd < 0 || gw__cli_guests_look(m->dir, &all))
		return;
	for (size_t i = 0; i < all.n; i++) {
		is_protected += !strcmp(all.v[i].state, "protected");
		died += !strcmp(all.v[i].state, "died");
	}
	snprintf(text, sizeof text, "STATUS=%u of %zu guests protected%s", is_protected, all.n, died ? ", some cannot be recovered" : "");
	notify(m, text);
	gw__cli_guests_free(&all);
}

/* --- the file --- */

static int write_all(int fd, const char *text)
{
	for (size_t n = strlen(text); n;) {
		ssize_t done = write(fd, text, n);
		if (done < 0 && errno != EINTR)
			return -errno;
		text += done > 0 ? done : 0;
		n -= done > 0 ? (size_t)done : 0;
	}
	return 0;
}

/* As a whole: who reads it finds the old one or the new one. It is for others to read. */
static int replace_file(const char *path, const char *text)
{
	char beside[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int folder = slash ? (int)(slash + 1 - path) : 0;
	if (snprintf(beside, sizeof beside, "%.*s.%s.XXXXXX", folder, path, path + folder) >= (int)sizeof beside)
		return -ENAMETOOLONG;
	int fd = mkostemp(beside, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = write_all(fd, text);
	if (!r && fchmod(fd, 0644))
		r = -errno;
	close(fd);
	if (!r && rename(beside, path))
		r = -errno;
	if (r)
		unlink(beside);
	return r;
}

static int write_file(const struct gw__cli_metrics *m)
{
	char *text = m->file ? gw__cli_metrics_text(m->dir) : NULL;
	int r = !text ? m->file ? -EIO : 0 : replace_file(m->file, text);
	free(text);
	return r;
}

/* --- HTTP --- */

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned status, char *text, const char *type)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result done = MHD_NO;
	if (r && MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES)
		done = MHD_queue_response(c, status, r);
	if (r)
		MHD_destroy_response(r);
	return done;
}

static enum MHD_Result answer(void *metrics, struct MHD_Connection *c, const char *url, const char *method, const char *version,
	const char *upload, size_t *upload_bytes, void **state)
{
	static char unknown[] = "the metrics are at /metrics\n", wrong[] = "GET /metrics\n", trouble[] = "the guests cannot be read\n";
	const struct gw__cli_metrics *m = metrics;
	(void)version, (void)upload, (void)upload_bytes, (void)state;
	if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
		return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, wrong, "text/plain");
	if (strcmp(url, "/metrics"))
		return answer_text(c, MHD_HTTP_NOT_FOUND, unknown, "text/plain");
	char *text = gw__cli_metrics_text(m->dir);
	enum MHD_Result done = text ? answer_text(c, MHD_HTTP_OK, text, "text/plain; version=0.0.4; charset=utf-8")
				    : answer_text(c, MHD_HTTP_INTERNAL_SERVER_ERROR, trouble, "text/plain");
	free(text);
	return done;
}

/* HOST:PORT with the brackets of an IPv6 address. */
static int resolve(const char *listen, struct addrinfo **a, struct gw__error *error)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	char host[256] = "";
	const char *colon = strrchr(listen, ':');
	size_t n = colon ? (size_t)(colon - listen) : 0;
	if (!colon || !colon[1] || n >= sizeof host)
		return gw__error_set(error, -EINVAL, "%s is not an address for metrics, expected HOST:PORT", listen);
	bool bracketed = n > 1 && listen[0] == '[' && listen[n - 1] == ']';
	memcpy(host, listen + bracketed, n - 2 * (size_t)bracketed);
	int bad = getaddrinfo(host[0] ? host : "127.0.0.1", colon + 1, &hints, a);
	return bad ? gw__error_set(error, -EINVAL, "cannot find the address %s for metrics: %s", listen, gai_strerror(bad)) : 0;
}

static int start_http(struct gw__cli_metrics *m, const char *listen, struct gw__error *error)
{
	struct addrinfo *a = NULL;
	int r = resolve(listen, &a, error);
	if (r)
		return r;
	unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD /* not select(): there may be many descriptors */ |
			 (a->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0);
	m->http = MHD_start_daemon(flags, 0, NULL, NULL, answer, m, MHD_OPTION_SOCK_ADDR, a->ai_addr, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)HTTP_IDLE_S, MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS, MHD_OPTION_END);
	int err = errno;
	freeaddrinfo(a);
	return m->http ? 0 : gw__error_errno(error, err ? err : EIO, "cannot serve metrics at %s", listen);
}

unsigned gw__cli_metrics_port(const struct gw__cli_metrics *m)
{
	const union MHD_DaemonInfo *info = m && m->http ? MHD_get_daemon_info(m->http, MHD_DAEMON_INFO_BIND_PORT) : NULL;
	return info ? info->port : 0;
}

/* --- the thread --- */

static void await_period(struct gw__cli_metrics *m)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	uint64_t ns = (uint64_t)until.tv_nsec + m->period_ms * UINT64_C(1000000);
	until.tv_sec += (time_t)(ns / 1000000000);
	until.tv_nsec = (long)(ns % 1000000000);
	pthread_cond_timedwait(&m->changed, &m->lock, &until);
}

static void *look_again_and_again(void *metrics)
{
	struct gw__cli_metrics *m = metrics;
	pthread_mutex_lock(&m->lock);
	while (!m->quits) {
		bool ready = m->is_ready;
		pthread_mutex_unlock(&m->lock);
		write_file(m); /* a disk that is full for a while: the next one may be written */
		if (ready)
			notify_status(m);
		if (m->watched)
			notify(m, "WATCHDOG=1");
		pthread_mutex_lock(&m->lock);
		if (!m->quits)
			await_period(m);
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

/* The signals that end the command are its own. */
static int start_thread(struct gw__cli_metrics *m, struct gw__error *error)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(&m->thread, NULL, look_again_and_again, m);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err ? gw__error_errno(error, err, "cannot start a thread for metrics") : 0;
}

static void free_metrics(struct gw__cli_metrics *m)
{
	if (m->http)
		MHD_stop_daemon(m->http);
	if (m->notify_fd >= 0)
		close(m->notify_fd);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

int gw__cli_metrics_start(const struct gw__cli_metrics_opts *o, struct gw__cli_metrics **metrics, struct gw__error *error)
{
	pthread_condattr_t monotonic;
	int notify_fd = connect_notify();
	*metrics = NULL;
	if (!o->file && !o->listen && notify_fd < 0)
		return 0;
	struct gw__cli_metrics *m = calloc(1, sizeof *m);
	if (!m)
		return gw__error_set(error, -ENOMEM, "no memory for metrics");
	*m = (struct gw__cli_metrics){.dir = o->dir, .file = o->file, .notify_fd = notify_fd, .period_ms = PERIOD_MS};
	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&m->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	find_watchdog(m);
	int r = write_file(m);
	if (r)
		gw__error_errno(error, -r, "cannot write metrics to %s", o->file);
	if (!r && o->listen)
		r = start_http(m, o->listen, error);
	if (!r)
		r = start_thread(m, error);
	if (r) {
		free_metrics(m);
		return r;
	}
	*metrics = m;
	return 0;
}

void gw__cli_metrics_ready(struct gw__cli_metrics *m)
{
	if (!m)
		return;
	notify(m, "READY=1");
	pthread_mutex_lock(&m->lock);
	m->is_ready = true;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

void gw__cli_metrics_stop(struct gw__cli_metrics *m)
{
	if (!m)
		return;
	notify(m, "STOPPING=1");
	pthread_mutex_lock(&m->lock);
	m->quits = true;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
	pthread_join(m->thread, NULL);
	free_metrics(m);
}
