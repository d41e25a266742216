/* SPDX-License-Identifier: MIT */
/*
 * Listeners: tcp (on every address of the host), unix, vsock. No connecting (connect.c). A listener belongs
 * to the thread that accepts; the channels it gives belong to whoever gets them.
 */
#include "base/bytes.h"
#include "io/parts.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/wait.h"

/* Of a unix socket's file, less the umask: Linux takes it from the socket at bind, so that there is no moment in which others may connect. */
enum { SOCKET_MODE = 0770 };

struct gw__listener {
	struct gw__io_opts opts;
	struct pollfd fds[GW__ADDRS_MAX + 1]; /* one more for the cancel descriptor */
	int n;
	char uri[GW__URI_TEXT_MAX];
	char path[GW__URI_TEXT_MAX]; /* unix: our file, "" if none */
	dev_t dev;
	ino_t ino;
};

bool gw__uri_listens(const struct gw__uri *uri)
{
	return uri->kind == GW__URI_TCP || uri->kind == GW__URI_UNIX || uri->kind == GW__URI_VSOCK;
}

/* A listening descriptor, or negative errno. */
static int listen_at(const struct gw__addr *addr, bool v6_only)
{
	int fd = gw__addr_socket(addr);
	if (fd < 0)
		return fd;
	if (addr->any.sa_family == AF_UNIX && fchmod(fd, SOCKET_MODE) < 0) {
		int err = errno;
		close(fd);
		return -err;
	}
	if (addr->any.sa_family == AF_INET || addr->any.sa_family == AF_INET6)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (addr->any.sa_family == AF_INET6) /* [::] takes IPv4 as well, whatever the system's default */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){v6_only}, sizeof(int));
	if (bind(fd, &addr->any, addr->bytes) < 0 || listen(fd, SOMAXCONN) < 0) {
		int err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

static int say_failed(const struct gw__uri *uri, int err, struct gw__error *error)
{
	if (err == EADDRINUSE)
		return gw__error_set(error, -err, "%.200s: another program listens there; stop it or choose another port (0: any)",
			uri->text);
	if (err == EADDRNOTAVAIL)
		return gw__error_set(error, -err, "%.200s: no network interface of this machine has this address", uri->text);
	if (err == EAFNOSUPPORT && uri->kind == GW__URI_VSOCK)
		return gw__error_set(error, -err, "%.200s: this machine has no vsock; load the module vsock or vsock_loopback", uri->text);
	return gw__error_errno(error, err, "cannot listen at %.200s", uri->text);
}

static int address_of(int fd, struct gw__addr *addr)
{
	*addr = (struct gw__addr){.bytes = sizeof addr->room};
	return getsockname(fd, &addr->any, &addr->bytes) < 0 ? -errno : 0;
}

/* May the next address of the host be tried after this failure? */
static bool is_skippable(int err, const struct gw__listener *l, const struct gw__uri *uri)
{
	if (err == EADDRNOTAVAIL || err == EAFNOSUPPORT)
		return true;
	/* IPv4 after [::], which has it already; or a port the kernel chose for another address. */
	return err == EADDRINUSE && l->n > 0 && (!*uri->target || !strcmp(uri->port, "0"));
}

static int listen_on_all(struct gw__listener *l, const struct gw__uri *uri, struct gw__addrs *addrs, struct gw__error *error)
{
	int failure = EADDRNOTAVAIL;
	uint16_t port = 0;
	for (int i = 0; i < addrs->n; i++) {
		struct gw__addr *addr = &addrs->list[i];
		if (port)
			gw__addr_set_port(addr, port);
		int fd = listen_at(addr, uri->family == GW__URI_IPV6);
		if (fd >= 0) {
			l->fds[l->n++] = (struct pollfd){.fd = fd, .events = POLLIN};
			struct gw__addr got;
			if (address_of(fd, &got) == 0)
				port = gw__addr_port(&got);
			continue;
		}
		failure = -fd;
		if (!is_skippable(failure, l, uri))
			return say_failed(uri, failure, error);
	}
	return l->n ? 0 : say_failed(uri, failure, error);
}

/* "to=": the first port of a range that nobody has. */
static int listen_on_first_free(struct gw__listener *l, const struct gw__uri *uri, struct gw__addrs *addrs, struct gw__error *error)
{
	uint16_t port = addrs->n ? gw__addr_port(&addrs->list[0]) : 0;
	for (;;) {
		int r = listen_on_all(l, uri, addrs, error);
		if (r != -EADDRINUSE || !port || port >= uri->port_to)
			return r;
		while (l->n)
			close(l->fds[--l->n].fd);
		gw__error_clear(error);
		port++;
		for (int i = 0; i < addrs->n; i++)
			gw__addr_set_port(&addrs->list[i], port);
	}
}

/* The host as it was given, the port as it is; without a host the address. */
static int name_listener(struct gw__listener *l, const struct gw__uri *uri, struct gw__error *error)
{
	struct gw__addr addr;
	int r = address_of(l->fds[0].fd, &addr);
	if (r)
		return gw__error_errno(error, -r, "%.200s: cannot find out the address of the listener", uri->text);
	if (uri->kind == GW__URI_UNIX)
		snprintf(l->uri, sizeof l->uri, "%s", uri->text);
	else if (uri->kind == GW__URI_TCP && *uri->target)
		snprintf(l->uri, sizeof l->uri, strchr(uri->target, ':') ? "tcp:[%.255s]:%u" : "tcp:%.255s:%u", uri->target,
			gw__addr_port(&addr));
	else
		gw__addr_text(&addr, l->uri, sizeof l->uri);
	return 0;
}

/* So that close removes our file and not one that has taken its place. */
static void remember_file(struct gw__listener *l, const struct gw__uri *uri)
{
	struct stat st;
	if (stat(uri->target, &st) < 0)
		return;
	memcpy(l->path, uri->target, sizeof l->path);
	l->dev = st.st_dev;
	l->ino = st.st_ino;
}

static int listen_there(struct gw__listener *l, const struct gw__uri *uri, struct gw__error *error)
{
	struct gw__addrs addrs;
	int r = uri->kind == GW__URI_UNIX ? gw__unix_clear(uri, error) : 0;
	if (r == 0)
		r = gw__addrs_find(uri, true, &addrs, error);
	if (r == 0)
		r = listen_on_first_free(l, uri, &addrs, error);
	if (r)
		return r;
	if (uri->kind == GW__URI_UNIX)
		remember_file(l, uri); /* before anything else can fail, or it would stay */
	return name_listener(l, uri, error);
}

int gw__io_listen(const struct gw__uri *uri, const struct gw__io_opts *o, struct gw__listener **l, struct gw__error *error)
{
	if (!gw__uri_listens(uri))
		return gw__error_set(error, -EINVAL, "%.200s: nobody can connect to this; expected tcp:, unix: or vsock:", uri->text);
	struct gw__listener *made = calloc(1, sizeof *made);
	if (!made)
		return gw__error_set(error, -ENOMEM, "%.200s: no memory for a listener", uri->text);
	made->opts = *o;
	int r = listen_there(made, uri, error);
	if (r) {
		gw__listener_close(made);
		return r;
	}
	*l = made;
	return 0;
}

const char *gw__listener_uri(const struct gw__listener *l) { return l->uri; }

/* Who reaches our socket could say that it is the source. */
static bool is_welcome(const struct gw__listener *l, int fd, const struct gw__addr *peer)
{
	struct ucred user;
	socklen_t n = sizeof user;
	if (!l->opts.peer_uid || peer->any.sa_family != AF_UNIX)
		return true;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &n) == 0 && (!user.uid || user.uid == *l->opts.peer_uid);
}

/* The connection that waits at `fd`; -EAGAIN when it went away again; other negative errno. */
static int accept_at(int fd, struct gw__addr *peer)
{
	peer->bytes = sizeof peer->room;
	int got = accept4(fd, &peer->any, &peer->bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (got >= 0)
		return got;
	switch (errno) {
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
	case ENETDOWN:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENONET:
	case ENOPROTOOPT:
		return -EAGAIN; /* troubles of that peer, not of the listener */
	default:
		return -errno;
	}
}

static int take_peer(struct gw__listener *l, int fd, const struct gw__addr *peer, struct gw__chan **c, struct gw__error *error)
{
	char name[GW__URI_TEXT_MAX];
	snprintf(name, sizeof name, "%s", l->uri);
	if (peer->any.sa_family != AF_UNIX)
		gw__addr_text(peer, name, sizeof name);
	gw__addr_set_no_delay(peer, fd);
	return gw__chan_take_fd(fd, name, &l->opts, c, error);
}

/* 0 and a channel, GW__NOBODY when nobody came before the deadline, or a negative errno. */
static int accept_until(struct gw__listener *l, uint64_t deadline, struct gw__chan **c, struct gw__error *error)
{
	for (;;) {
		int r = gw__io_poll(l->fds, l->n, l->opts.cancel_fd, deadline);
		if (r == 0)
			return GW__NOBODY;
		if (r == -ECANCELED)
			return gw__error_set(error, r, "%.200s: cancelled while waiting for a connection", l->uri);
		for (int i = 0; r > 0 && i < l->n; i++) {
			struct gw__addr peer;
			int fd = l->fds[i].revents ? accept_at(l->fds[i].fd, &peer) : -EAGAIN;
			if (fd >= 0 && is_welcome(l, fd, &peer))
				return take_peer(l, fd, &peer, c, error);
			if (fd >= 0)
				close(fd);
			r = fd >= 0 || fd == -EAGAIN ? r : fd;
		}
		if (r < 0)
			return gw__error_errno(error, -r, "%.200s: accepting a connection", l->uri);
	}
}

int gw__listener_accept(struct gw__listener *l, struct gw__chan **c, struct gw__error *error)
{
	int r = accept_until(l, gw__io_deadline(l->opts.connect_ms), c, error);
	if (r != GW__NOBODY)
		return r;
	return gw__error_set(error, -ETIMEDOUT, "nobody connected to %.200s for %d ms; start the source, or check its address", l->uri,
		l->opts.connect_ms);
}

int gw__listener_accept_within(struct gw__listener *l, int ms, struct gw__chan **c, struct gw__error *error)
{
	return accept_until(l, gw__io_deadline(ms), c, error);
}

int gw__listener_connect_ms(const struct gw__listener *l) { return l->opts.connect_ms; }

void gw__listener_close(struct gw__listener *l)
{
	struct stat st;
	if (!l)
		return;
	for (int i = 0; i < l->n; i++)
		close(l->fds[i].fd);
	if (*l->path && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
	free(l);
}
