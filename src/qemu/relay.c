/* SPDX-License-Identifier: MIT */
/* Bytes between a primary and its standby, two of whose words wait; see relay.h. */
#include "qemu/relay.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/math.h"
#include "qemu/private_socket.h"
#include "qemu/standby_address.h"
#include "thread/thread.h"

enum {
	LINKS_MAX = 256,
	/* the main channel, and as many multifd channels as there may be */ BUFFER_BYTES = 256 << 10,
	CONNECT_MS = 10000,
	AGAIN_MS = 100
};
enum { RP_SHUT = 1, COLO_RECEIVED = 5 }; /* docs/spec/postcopy.md 1.3, colo.md 3 */

struct link {
	struct gw__relay *relay;
	int qemu, standby;
	pthread_t forward, back;
};

struct gw__relay {
	struct gw__private_socket socket;
	char to[4096];
	struct gw__standby_address at;
	int listener, quit_fd, waits_fd;
	pthread_t accepter;
	struct link links[LINKS_MAX]; /* the accepter's; and after its end the caller's */
	unsigned n_links;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum gw__relay_point waits;
	bool ending;
	bool failed;
	char failure[400];
};

/* --- the two words --- */

/* False: it is over. */
static bool wait_for_guard(struct gw__relay *r, enum gw__relay_point point)
{
	pthread_mutex_lock(&r->lock);
	if (!r->ending) {
		r->waits = point;
		eventfd_write(r->waits_fd, 1);
	}
	while (!r->ending && r->waits != GW__RELAY_NOTHING)
		pthread_cond_wait(&r->changed, &r->lock);
	bool over = r->ending;
	pthread_mutex_unlock(&r->lock);
	return !over;
}

/* What the standby says: messages of the return path up to SHUT, then COLO's, of four bytes each. */
struct words {
	uint8_t head[4];
	unsigned n, skip; /* skip: of the message that `head` begins, still to come */
	bool colo;
};

/* How many of these bytes may pass before `*point` is waited for, which is NOTHING for all of them. */
static size_t look(struct words *w, const uint8_t *bytes, size_t n, enum gw__relay_point *point)
{
	*point = GW__RELAY_NOTHING;
	for (size_t i = 0; i < n; i++) {
		if (w->skip) {
			w->skip--;
			continue;
		}
		w->head[w->n++] = bytes[i];
		if (w->n < sizeof w->head)
			continue;
		w->n = 0;
		unsigned first = (unsigned)w->head[0] << 8 | w->head[1], second = (unsigned)w->head[2] << 8 | w->head[3];
		if (w->colo) {
			*point = !first && second == COLO_RECEIVED ? GW__RELAY_SAFE : GW__RELAY_NOTHING;
		} else {
			w->skip = second;
			w->colo = first == RP_SHUT;
			*point = w->colo ? GW__RELAY_READY : GW__RELAY_NOTHING;
		}
		if (*point != GW__RELAY_NOTHING)
			return i; /* its last byte is held back, and so is all of it for whoever reads words */
	}
	return n;
}

/* --- bytes --- */

static bool write_all(int fd, const uint8_t *bytes, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return false;
		bytes += sent;
		n -= (size_t)sent;
	}
	return true;
}

static ssize_t read_some(int fd, uint8_t *to)
{
	ssize_t n;
	do
		n = recv(fd, to, BUFFER_BYTES, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static void break_link(const struct link *l)
{
	shutdown(l->qemu, SHUT_RDWR);
	shutdown(l->standby, SHUT_RDWR);
}

static void *forward(void *link)
{
	struct link *l = link;
	uint8_t *buffer = malloc(BUFFER_BYTES);
	ssize_t n = -1;
	while (buffer && (n = read_some(l->qemu, buffer)) > 0)
		if (!write_all(l->standby, buffer, (size_t)n)) {
			n = -1;
			break;
		}
	if (n == 0)
		shutdown(l->standby, SHUT_WR);
	else
		break_link(l);
	free(buffer);
	return NULL;
}

static bool pass_back(struct link *l, struct words *w, const uint8_t *bytes, size_t n)
{
	while (n) {
		enum gw__relay_point point;
		size_t first = look(w, bytes, n, &point);
		if (!write_all(l->qemu, bytes, first))
			return false;
		bytes += first;
		n -= first;
		if (point == GW__RELAY_NOTHING)
			return true;
		if (!wait_for_guard(l->relay, point) || !write_all(l->qemu, bytes, 1))
			return false;
		bytes++;
		n--;
	}
	return true;
}

static void *back(void *link)
{
	struct link *l = link;
	struct words words = {0};
	uint8_t *buffer = malloc(BUFFER_BYTES);
	ssize_t n = -1;
	while (buffer && (n = read_some(l->standby, buffer)) > 0)
		if (!pass_back(l, &words, buffer, (size_t)n)) {
			n = -1;
			break;
		}
	if (n == 0)
		shutdown(l->qemu, SHUT_WR);
	else
		break_link(l);
	free(buffer);
	return NULL;
}

/* --- connections --- */

static void note_dial(struct gw__relay *r, int err)
{
	pthread_mutex_lock(&r->lock);
	r->failed = err < 0;
	if (r->failed)
		snprintf(r->failure, sizeof r->failure, "the standby at %.300s was not reached: %s", r->to, strerror(-err));
	pthread_mutex_unlock(&r->lock);
}

static bool is_qemu(const struct gw__relay *r, int fd)
{
	struct ucred peer = {0};
	socklen_t n = sizeof peer;
	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) && (!peer.uid || peer.uid == r->socket.uid);
}

static bool start_link(struct gw__relay *r, int qemu)
{
	struct link *l = &r->links[r->n_links];
	int standby = r->n_links < LINKS_MAX && is_qemu(r, qemu) ? gw__standby_address_dial(&r->at, r->quit_fd, CONNECT_MS) : -EPERM;
	note_dial(r, standby);
	if (standby < 0)
		return false;
	*l = (struct link){.relay = r, .qemu = qemu, .standby = standby};
	if (gw__thread_start(&l->forward, forward, l)) {
		close(standby);
		return false;
	}
	if (gw__thread_start(&l->back, back, l)) {
		break_link(l);
		pthread_join(l->forward, NULL);
		close(standby);
		return false;
	}
	r->n_links++;
	return true;
}

static void *accept_links(void *relay)
{
	struct gw__relay *r = relay;
	struct pollfd p[2] = {{.fd = r->listener, .events = POLLIN}, {.fd = r->quit_fd, .events = POLLIN}};
	while (poll(p, 2, -1) >= 0 || errno == EINTR) {
		if (p[1].revents)
			break;
		int fd = p[0].revents ? accept4(r->listener, NULL, NULL, SOCK_CLOEXEC) : -1;
		if (fd >= 0 && !start_link(r, fd))
			close(fd);
		if (fd < 0 && p[0].revents) /* no descriptor, for instance: the next look would find it again immediately */
			poll(&p[1], 1, AGAIN_MS);
	}
	return NULL;
}

/* --- from the guard --- */

static int listen_privately(struct gw__relay *r, struct gw__qmp *q, struct gw__error *error)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int e = gw__private_socket_make(&r->socket, q, error);
	if (e)
		return e;
	snprintf(at.sun_path, sizeof at.sun_path, "%s", r->socket.uri + strlen("unix:"));
	r->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (r->listener < 0 || bind(r->listener, (struct sockaddr *)&at, sizeof at) || listen(r->listener, LINKS_MAX))
		return gw__error_errno(error, errno, "cannot listen at %s", r->socket.uri);
	gw__private_socket_listens(&r->socket);
	return 0;
}

static void free_relay(struct gw__relay *r)
{
	const int fds[] = {r->listener, r->quit_fd, r->waits_fd};
	for (unsigned i = 0; i < GW__LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	gw__private_socket_remove(&r->socket);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

int gw__relay_start(const char *to, struct gw__qmp *q, struct gw__relay **relay, struct gw__error *error)
{
	struct gw__relay *r = calloc(1, sizeof *r);
	if (!r)
		return gw__error_set(error, -ENOMEM, "no memory for a relay");
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	r->listener = -1;
	r->quit_fd = eventfd(0, EFD_CLOEXEC);
	r->waits_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	snprintf(r->to, sizeof r->to, "%s", to);
	int e = r->quit_fd < 0 || r->waits_fd < 0 ? gw__error_errno(error, errno, "no descriptor for a relay")
						  : gw__standby_address_look_up(to, &r->at, error);
	if (!e)
		e = listen_privately(r, q, error);
	if (!e) {
		int err = gw__thread_start(&r->accepter, accept_links, r);
		e = err ? gw__error_errno(error, err, "cannot start a thread for a relay") : 0;
	}
	if (e)
		free_relay(r);
	else
		*relay = r;
	return e;
}

void gw__relay_stop(struct gw__relay **relay)
{
	struct gw__relay *r = *relay;
	*relay = NULL;
	if (!r)
		return;
	eventfd_write(r->quit_fd, 1);
	pthread_join(r->accepter, NULL);
	pthread_mutex_lock(&r->lock);
	r->ending = true;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	for (unsigned i = 0; i < r->n_links; i++) {
		struct link *l = &r->links[i];
		break_link(l);
		pthread_join(l->forward, NULL);
		pthread_join(l->back, NULL);
		close(l->qemu);
		close(l->standby);
	}
	free_relay(r);
}

void gw__relay_remove_left(const struct gw__relay *r)
{
	struct gw__private_socket socket = r ? r->socket : (struct gw__private_socket){0};
	gw__private_socket_remove(&socket);
}

const char *gw__relay_uri(const struct gw__relay *r) { return r->socket.uri; }
int gw__relay_fd(const struct gw__relay *r) { return r->waits_fd; }

const char *gw__relay_failure(struct gw__relay *r)
{
	pthread_mutex_lock(&r->lock);
	bool failed = r->failed;
	pthread_mutex_unlock(&r->lock);
	return failed ? r->failure : NULL;
}

enum gw__relay_point gw__relay_waits(struct gw__relay *r)
{
	eventfd_t n;
	pthread_mutex_lock(&r->lock);
	enum gw__relay_point point = r->waits;
	eventfd_read(r->waits_fd, &n);
	pthread_mutex_unlock(&r->lock);
	return point;
}

void gw__relay_go_on(struct gw__relay *r)
{
	pthread_mutex_lock(&r->lock);
	r->waits = GW__RELAY_NOTHING;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}
