/* SPDX-License-Identifier: MIT */
/*
 * A channel: one ordered stream of bytes to or from a peer, a file or a command, and the filters that sit on one.
 *
 * Owned by one worker thread. Every wait is bounded by the idle limit and ends immediately when the cancel descriptor becomes
 * readable; a channel that never has to wait looks at it every few calls. A peer that may send a byte now and then for ever is
 * bounded by `until_ns`. SIGPIPE never reaches the program: sockets use
 * MSG_NOSIGNAL, writes to pipes block the signal in this thread.
 */
#ifndef GW_IO_CHAN_H
#define GW_IO_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/conditions.h"
#include "base/error.h"
#include "io/uri.h"

struct gw__chan;

struct gw__chan_ops {
	/* Like readv: bytes > 0, 0 at the end, or negative errno. May be short. May wait: idle limit -> -ETIMEDOUT. */
	ssize_t (*readv)(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error);
	ssize_t (*writev)(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error);
	/* Like sendfile, maybe short. NULL: the bytes have to pass through memory. */
	ssize_t (*send_file)(struct gw__chan *c, int file_fd, uint64_t off, size_t n, struct gw__error *error);
	/* Input, or its end, that poll on `fd` does not show (a buffer, a filter). NULL: never. */
	bool (*has_input)(struct gw__chan *c);
	/* Nothing more will be written; the peer reads the end. A file is synced. 0 or negative errno. */
	int (*end_writes)(struct gw__chan *c, struct gw__error *error);
	/*
	 * Free everything. Returns what only the end can tell: exec: -EIO and the exit status; file: close error. A command is
	 * asked for it if all its output was read, or after end_writes; otherwise it is killed, and 0.
	 */
	int (*close)(struct gw__chan *c, struct gw__error *error);
};

struct gw__chan {
	const struct gw__chan_ops *ops;
	char name[160];     /* for sentences: "tcp:[::1]:4444", "file:/a/b" */
	int fd;             /* readable/writable descriptor for poll and for zero-copy paths, or -1 */
	bool two_way;       /* a return path is possible */
	int idle_ms;        /* limit of a single wait; -1: for ever */
	uint64_t until_ns;  /* limit of all of them, on gw__io_now_ns (-ETIMEDOUT); 0: none */
	int cancel_fd;      /* becomes readable when the job is cancelled; -1: never. Borrowed. */
	unsigned gather_us; /* a read that has to wait lets small pieces gather for so long before it wants to be woken up */
	uint64_t in_bytes, out_bytes;
	unsigned calls; /* since cancel_fd was looked at */
};

/* Options of opening. A zeroed one is not useful: start from GW__IO_DEFAULTS. */
struct gw__io_opts {
	int idle_ms;    /* silence limit while reading or writing */
	int connect_ms; /* limit of connecting, and of waiting for a peer to connect; -1: for ever */
	int cancel_fd;
	const uint32_t *peer_uid; /* who may connect to a unix listener: this user and root. NULL: everybody */
	/* Shown each socket before it is connected; NULL: nobody. A copy of it keeps the connection from looking closed. */
	void (*on_socket)(void *ctx, int fd);
	void *ctx;
};
#define GW__IO_DEFAULTS ((struct gw__io_opts){.idle_ms = 30000, .connect_ms = 10000, .cancel_fd = -1})

/*
 * Open for writing towards a destination (connect, start the command, or create the file at its offset; fd:N is taken over).
 * connect_ms does not cover the resolver: looking up a host name takes what the system's configuration says.
 *
 * A command has stdin or stdout as its end of the channel, /dev/null as the other, our stderr and no other descriptor. It
 * runs in a process group of its own, so that all of a pipeline can be killed; it cannot ask for a password on the terminal.
 */
int gw__io_open_out(const struct gw__uri *uri, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error);
/* Open for reading what is there (file at its offset, the command's output, an inherited fd). Sockets: see listen. */
int gw__io_open_in(const struct gw__uri *uri, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error);
/* A descriptor we were given; taken over (also on failure). Two-way if it is a socket. */
int gw__chan_take_fd(int fd, const char *name, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error);

struct gw__listener;
bool gw__uri_listens(const struct gw__uri *uri); /* tcp, unix, vsock */
int gw__io_listen(const struct gw__uri *uri, const struct gw__io_opts *o, struct gw__listener **l, struct gw__error *error);
/* The address as a URI with the port the kernel chose. Valid as long as the listener. */
const char *gw__listener_uri(const struct gw__listener *l);
/*
 * -ETIMEDOUT after o->connect_ms, -ECANCELED. After a shortage (gw__error_is_shortage) the listener is as good as before: the caller waits a moment, as the next call would
 * find the same connection immediately, and tries again.
 */
int gw__listener_accept(struct gw__listener *l, struct gw__chan **c, struct gw__error *error);
/* The same with a limit of its own, and GW__NOBODY instead of a sentence when nobody came. */
int gw__listener_accept_within(struct gw__listener *l, int ms, struct gw__chan **c, struct gw__error *error);
int gw__listener_connect_ms(const struct gw__listener *l); /* the limit of accept; -1: none */
void gw__listener_close(struct gw__listener *l);           /* removes a unix socket file it made; NULL is fine */

/* Count bytes and forward. Reading less than asked is normal; 0 is the end. */
ssize_t gw__chan_readv(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error);
ssize_t gw__chan_read(struct gw__chan *c, void *to, size_t n, struct gw__error *error);
/* Read until all is filled or the channel ends: 0 and how many bytes in *got, or a negative errno. `iov` is used up (changed). */
int gw__chan_read_fullv(struct gw__chan *c, struct iovec *iov, int n, size_t *got, struct gw__error *error);
int gw__chan_read_full(struct gw__chan *c, void *to, size_t n, size_t *got, struct gw__error *error);
/* Write everything, or fail. `iov` is used up (changed). */
int gw__chan_write_allv(struct gw__chan *c, struct iovec *iov, int n, struct gw__error *error);
int gw__chan_write_all(struct gw__chan *c, const void *from, size_t n, struct gw__error *error);
/* `n` bytes of a file from `off`, by sendfile where the channel allows it. A file that ends before is -ENODATA. */
int gw__chan_send_file(struct gw__chan *c, int file_fd, uint64_t off, size_t n, struct gw__error *error);
/*
 * Let so many bytes be under way to the peer that both ends run on instead of waking each other up: unix sockets only, because
 * TCP finds its own size. For bulk; what is urgent would stand behind it, so `far` may be taken back. Where the system does not
 * allow it, nothing changes.
 */
void gw__chan_set_deep_buffer(struct gw__chan *c, bool far);
int gw__chan_end_writes(struct gw__chan *c, struct gw__error *error);
int gw__chan_close(struct gw__chan **c, struct gw__error *error); /* *c may be NULL; nulls it; 0 or what close told */

/*
 * Wait until the channel can be read. 1 readable (or at its end), 0 nothing within `ms` (-1: idle limit never applies),
 * negative errno (-ECANCELED). A source uses it to hear an early word on the return path while it writes.
 */
int gw__chan_wait_readable(struct gw__chan *c, int ms, struct gw__error *error);
/*
 * Wait at most `ns` until there is input or, with `room_too`, until much can be written without a wait: bits of GW__CHAN_INPUT and
 * GW__CHAN_ROOM, 0 when neither came, negative errno. 0 ns only looks. The end of the channel is input.
 */
enum { GW__CHAN_INPUT = 1, GW__CHAN_ROOM = 2 };
int gw__chan_wait_either(struct gw__chan *c, bool room_too, uint64_t ns, struct gw__error *error);
/*
 * From now on there is ROOM only while the kernel holds less than half of `bytes` that are not on their way yet, so that what is
 * written next does not wait behind much. For sockets whose buffer grows as it likes (tcp); others have a small one.
 */
void gw__chan_set_unsent_low_watermark(struct gw__chan *c, int bytes);

/*
 * A second channel over the same socket, so that one thread can read and another write. Each is closed separately; what ends the
 * writes of one ends those of both. -EOPNOTSUPP for what is no socket.
 */
int gw__chan_dup(const struct gw__chan *c, struct gw__chan **copy, struct gw__error *error);
/* The sentence for a peer that takes nothing within the idle limit: -ETIMEDOUT. */
int gw__chan_say_stuck(const struct gw__chan *c, struct gw__error *error);
/* What waits to be read on a socket, without taking it: bytes > 0, 0 at the end, or negative errno. Waits as reading does. */
ssize_t gw__chan_peek(struct gw__chan *c, void *to, size_t n, struct gw__error *error);
/* What was written last was not taken: the peer has gone. Waits at most `ms` to hear of it; an end of what can be read says nothing. */
bool gw__chan_is_reset(struct gw__chan *c, int ms);
/* The link breaks, from any thread: what was written arrives, then both ends find it closed. `fd` is a socket of a channel. */
void gw__sock_break(int fd);

/* Filters: a channel that takes over `*inner` and stands for it. On failure `*inner` is left alone. */

/* On somebody else's time, which is copied. `wait_ns`: 0 when `ns` have passed, or -ECANCELED. */
struct gw__pace {
	struct gw__clock clock;
	int (*wait_ns)(void *ctx, uint64_t ns, int cancel_fd); /* ctx is that of the clock */
};
/* One limit for all channels that share it, in each direction separately; bytes_per_s > 0; `pace` NULL: real time. Its maker frees it, at any time. */
struct gw__rate;
int gw__rate_new(uint64_t bytes_per_s, const struct gw__pace *pace, struct gw__rate **rate, struct gw__error *error);
void gw__rate_free(struct gw__rate *rate); /* NULL is fine */
int gw__chan_share_rate(struct gw__chan **inner, struct gw__rate *rate, struct gw__error *error);
/* A limit for one channel alone; 0: no limit, no filter. */
int gw__chan_limit_rate(struct gw__chan **inner, uint64_t bytes_per_s, struct gw__error *error);
int gw__chan_limit_rate_paced(struct gw__chan **inner, uint64_t bytes_per_s, const struct gw__pace *pace, struct gw__error *error);
/* Behaves as a broken link (reads: end; writes: -EPIPE) after so many bytes in that direction; UINT64_MAX: never. */
int gw__chan_cut_after(struct gw__chan **inner, uint64_t read_bytes, uint64_t write_bytes, struct gw__error *error);
/* Copies everything read and written to two channels (either may be NULL), which it takes over. */
int gw__chan_tap(struct gw__chan **inner, struct gw__chan **reads, struct gw__chan **writes, struct gw__error *error);

/* Two connected channels inside this process, for tests and demos. */
int gw__chan_pair(struct gw__chan *pair[2], const struct gw__io_opts *o, struct gw__error *error);

#endif
