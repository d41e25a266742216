/* SPDX-License-Identifier: MIT */
/* What the files of this room share and nobody else includes: how channels are built from descriptors and
 * each other. */
#ifndef GW_IO_PARTS_H
#define GW_IO_PARTS_H

#include <sys/stat.h>
#include <sys/socket.h>

#include "io/chan.h"

/* --- chan.c --- */

void gw__chan_init(struct gw__chan *c, const struct gw__chan_ops *ops, const char *name, int fd, const struct gw__io_opts *o);
/* One write, counted, maybe short. */
ssize_t gw__chan_writev(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error);
/* POLLIN or POLLOUT before `deadline`: 0, -ETIMEDOUT, -ECANCELED, each with its sentence. */
int gw__chan_wait(struct gw__chan *c, short events, uint64_t deadline, struct gw__error *error);

/* --- iov.c --- */

/* The first `bytes` of `iov`, at most `max` entries, into `to`. Returns how many entries. */
int gw__iov_clip(const struct iovec *iov, int n, uint64_t bytes, struct iovec *to, int max);
/* Step over `bytes` that are done. Returns how many whole entries are done. */
int gw__iov_advance(struct iovec *iov, int n, size_t bytes);
size_t gw__iov_bytes(const struct iovec *iov, int n);

/* --- chan_fd.c: sockets and pipes; the base of exec --- */

struct gw__fd_chan {
	struct gw__chan chan;
	bool is_socket;
	int given_flags; /* to be put back on close: the description may be shared with other programs */
};

/* Takes `fd` over, also on failure. */
int gw__fd_chan_init(struct gw__fd_chan *f, const struct gw__chan_ops *ops, int fd, const char *name, const struct gw__io_opts *o,
	struct gw__error *error);
ssize_t gw__fd_readv(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error);
ssize_t gw__fd_writev(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error);
int gw__fd_end_writes(struct gw__chan *c, struct gw__error *error);
void gw__fd_fini(struct gw__fd_chan *f); /* closes; twice is fine */
/* To stable storage, where the descriptor has such. */
int gw__fd_sync(int fd, const char *name, struct gw__error *error);

/* --- one function per kind of URI --- */

/* May another user have put what lstat() found at this path there (base/owner.h)? */
bool gw__io_is_foreign(const char *path, const struct stat *st);
int gw__file_open(const struct gw__uri *uri, bool out, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error);
int gw__exec_open(const struct gw__uri *uri, bool out, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error);
int gw__connect(const struct gw__uri *uri, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error);

/* --- addr.c: addresses of tcp, unix and vsock --- */

enum { GW__ADDRS_MAX = 16 };

struct gw__addr {
	socklen_t bytes;
	union {
		struct sockaddr any;
		struct sockaddr_storage room;
	};
};

struct gw__addrs {
	int n;
	struct gw__addr list[GW__ADDRS_MAX];
};

/* Look the host up; `to_listen`: an empty host is any address, IPv6 (which takes IPv4 as well) before IPv4.
 */
int gw__addrs_find(const struct gw__uri *uri, bool to_listen, struct gw__addrs *addrs, struct gw__error *error);
/* As a URI, "tcp:[::1]:4444". The path of a unix socket is left out: "unix:". */
void gw__addr_text(const struct gw__addr *addr, char *to, size_t bytes);
uint16_t gw__addr_port(const struct gw__addr *addr); /* 0 unless tcp */
void gw__addr_set_port(struct gw__addr *addr, uint16_t port);
/* A non-blocking stream socket for this address; negative errno. */
int gw__addr_socket(const struct gw__addr *addr);
/* Small records must not wait for the acknowledgement of earlier ones. */
void gw__addr_set_no_delay(const struct gw__addr *addr, int fd);

/* --- unix_file.c: the file a listening unix socket has --- */

/* Make room for a new socket: remove a file nobody listens at any more, refuse everything else that is in the
 * way. */
int gw__unix_clear(const struct gw__uri *uri, struct gw__error *error);

/* --- filter.c: the base of filters --- */

struct gw__filter {
	struct gw__chan chan;
	struct gw__chan *inner;
};

/* Stands for *inner and takes it; nothing can fail after it. */
void gw__filter_init(struct gw__filter *f, const struct gw__chan_ops *ops, struct gw__chan **inner);
/* The inner channel, with the limits that were set on the outer one. */
struct gw__chan *gw__filter_inner(struct gw__chan *c);
bool gw__filter_has_input(struct gw__chan *c);
int gw__filter_end_writes(struct gw__chan *c, struct gw__error *error);
int gw__filter_close(struct gw__chan *c, struct gw__error *error);

#endif
