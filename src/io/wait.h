/* SPDX-License-Identifier: MIT */
/* The one way this room waits: poll, with a deadline and a cancel descriptor, undisturbed by signals. */
#ifndef GW_IO_WAIT_H
#define GW_IO_WAIT_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

/* Nanoseconds of CLOCK_MONOTONIC; UINT64_MAX is never. `ms` < 0: no limit. */
uint64_t gw__io_now_ns(void);
uint64_t gw__io_deadline(int ms);
bool gw__io_is_over(uint64_t deadline);

/*
 * Until one of `n` descriptors is ready: 1; 0 at the deadline; -ECANCELED when cancel_fd (-1: none) is
 * readable, which goes first; -errno. `p` has room for one more entry.
 */
int gw__io_poll(struct pollfd *p, int n, int cancel_fd, uint64_t deadline);
int gw__io_wait(int fd, short events, int cancel_fd, uint64_t deadline);
/* Only time and cancel: 0 or -ECANCELED. */
int gw__io_pause(int cancel_fd, uint64_t deadline);
bool gw__io_cancelled(int cancel_fd);

#endif
