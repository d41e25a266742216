/* SPDX-License-Identifier: MIT */
/* Waits of the io room, see wait.h. No state; any thread. */
#include "io/wait.h"

#include <errno.h>
#include <time.h>

enum { NS_PER_MS = 1000000 };

uint64_t gw__io_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 * NS_PER_MS + (uint64_t)t.tv_nsec;
}

uint64_t gw__io_deadline(int ms) { return ms < 0 ? UINT64_MAX : gw__io_now_ns() + (uint64_t)ms * NS_PER_MS; }

bool gw__io_is_over(uint64_t deadline) { return deadline != UINT64_MAX && gw__io_now_ns() >= deadline; }

/* What is left, for ppoll; NULL for ever. */
static struct timespec *time_left(uint64_t deadline, struct timespec *left)
{
	if (deadline == UINT64_MAX)
		return NULL;
	uint64_t now = gw__io_now_ns(), ns = deadline > now ? deadline - now : 0;
	*left = (struct timespec){.tv_sec = (time_t)(ns / (1000 * NS_PER_MS)), .tv_nsec = (long)(ns % (1000 * NS_PER_MS))};
	return left;
}

int gw__io_poll(struct pollfd *p, int n, int cancel_fd, uint64_t deadline)
{
	struct timespec left;
	p[n] = (struct pollfd){.fd = cancel_fd, .events = POLLIN};
	for (;;) {
		/* A signal must neither end the wait nor start its limit anew. */
		int ready = ppoll(p, (nfds_t)n + 1, time_left(deadline, &left), NULL);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready < 0)
			return -errno;
		if (p[n].revents)
			return -ECANCELED;
		return ready > 0;
	}
}

int gw__io_wait(int fd, short events, int cancel_fd, uint64_t deadline)
{
	struct pollfd p[2] = {{.fd = fd, .events = events}};
	return gw__io_poll(p, 1, cancel_fd, deadline);
}

int gw__io_pause(int cancel_fd, uint64_t deadline)
{
	struct pollfd p[1];
	return gw__io_poll(p, 0, cancel_fd, deadline);
}

bool gw__io_cancelled(int cancel_fd) { return cancel_fd >= 0 && gw__io_pause(cancel_fd, 0) == -ECANCELED; }
