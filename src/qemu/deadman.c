/* SPDX-License-Identifier: MIT */
/* Kills at a moment; see deadman.h. The child makes system calls alone: it may be a fork of a process with threads. */
#include "qemu/deadman.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "qemu/descriptors.h"
#include "qemu/hw_watchdog.h"

enum { PRIORITY = 50, ANSWER_MS = 2000, EARLY_MS = 1000 /* with a watchdog */ };
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  (1000 * NS_PER_MS)

struct post {
	int fd, process, timer, watchdog;
	uint64_t moment_ns;
	bool starter_is_gone;
};

uint64_t gw__boottime_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static bool become_realtime(void)
{
	const struct sched_param p = {.sched_priority = PRIORITY};
	return !sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &p);
}

/* --- the process --- */

static bool send_byte(int fd, char byte)
{
	ssize_t n;
	do
		n = send(fd, &byte, 1, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

static uint64_t kill_at_ns(const struct post *p)
{
	uint64_t early_ns = p->watchdog >= 0 && p->moment_ns != GW__DEADMAN_NEVER ? EARLY_MS * NS_PER_MS : 0;
	return p->moment_ns > early_ns ? p->moment_ns - early_ns : 0;
}

/* The host is reset after the guest should have been dead, and before another may have the lease: a watchdog counts whole seconds. */
static bool set_watchdog(const struct post *p)
{
	uint64_t now_ns = gw__boottime_ns();
	if (p->watchdog < 0)
		return true;
	if (p->moment_ns != GW__DEADMAN_NEVER)
		return kill_at_ns(p) <= now_ns ||
		       gw__hw_watchdog_arm(p->watchdog, (unsigned)((p->moment_ns + GW__DEADMAN_RESET_MS * NS_PER_MS - now_ns) / NS_PER_S));
	gw__hw_watchdog_disarm(p->watchdog);
	return true;
}

/* A moment that is over is 1 ns after boot: 0 would disarm the timer. */
static void set_timer(const struct post *p)
{
	struct itimerspec t = {0};
	if (p->moment_ns != GW__DEADMAN_NEVER) {
		uint64_t ns = kill_at_ns(p) ? kill_at_ns(p) : 1;
		t.it_value = (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
	}
	timerfd_settime(p->timer, TFD_TIMER_ABSTIME, &t, NULL);
}

static void take_words(struct post *p)
{
	uint64_t moment_ns;
	for (;;) {
		ssize_t n = recv(p->fd, &moment_ns, sizeof moment_ns, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n != sizeof moment_ns) {
			p->starter_is_gone = true;
			return;
		}
		p->moment_ns = moment_ns;
		set_timer(p);
		send_byte(p->fd, set_watchdog(p) ? 's' : 'f');
	}
}

static void stand(struct post *p)
{
	struct pollfd all[] = {{.fd = p->process, .events = POLLIN}, {.fd = p->timer, .events = POLLIN}, {.fd = p->fd, .events = POLLIN}};
	for (;;) {
		all[2].fd = p->starter_is_gone ? -1 : p->fd;
		if (poll(all, 3, -1) < 0 && errno != EINTR)
			pidfd_send_signal(p->process, SIGKILL, NULL, 0); /* it cannot wait any more */
		if (all[0].revents) {
			if (p->watchdog >= 0)
				gw__hw_watchdog_disarm(p->watchdog); /* nothing is left to be ended */
			_exit(0);
		}
		if (!p->starter_is_gone)
			take_words(p);
		if (gw__boottime_ns() >= kill_at_ns(p))
			pidfd_send_signal(p->process, SIGKILL, NULL, 0), p->moment_ns = GW__DEADMAN_NEVER, set_timer(p);
		else if (p->starter_is_gone && p->moment_ns == GW__DEADMAN_NEVER)
			_exit(0);
	}
}

static void be_hard_to_hold_up(void)
{
	static const char never[] = "-1000";
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, never, sizeof never - 1) < 0) {
		/* it needs a right that we may not have */
	}
	if (fd >= 0)
		close(fd);
	mlockall(MCL_CURRENT);
}

static void begin(int fd, int process, int keep_fd, int watchdog)
{
	struct post p = {.fd = fd, .process = process, .watchdog = watchdog, .moment_ns = GW__DEADMAN_NEVER};
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	setsid(); /* out of reach of what is sent to our group */
	prctl(PR_SET_NAME, "godwit-deadman");
	p.timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (p.timer < 0)
		_exit(1);
	gw__close_all_but((const int[]){fd, process, keep_fd, watchdog, p.timer}, 5);
	be_hard_to_hold_up();
	if (!send_byte(fd, become_realtime() ? 'r' : 'n'))
		_exit(1);
	stand(&p);
}

/* --- whoever starts it --- */

static char read_byte(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char byte = 0;
	ssize_t n;
	if (poll(&p, 1, ANSWER_MS) <= 0)
		return 0;
	do
		n = recv(fd, &byte, 1, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n == 1 ? byte : 0;
}

int gw__deadman_start(struct gw__deadman *d, int process, int keep_fd, int watchdog, struct gw__error *error)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return gw__error_errno(error, errno, "cannot make a socket pair");
	pid_t pid = fork();
	if (pid == 0)
		begin(pair[0], process, keep_fd, watchdog);
	int err = errno;
	close(pair[0]);
	*d = (struct gw__deadman){.pid = pid, .fd = pair[1]};
	char word = pid > 0 ? read_byte(pair[1]) : 0;
	d->realtime = word == 'r';
	if (word)
		return 0;
	close(pair[1]);
	*d = (struct gw__deadman){0};
	if (pid < 0)
		return gw__error_errno(error, err, "cannot start the process that ends the guest in time");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return gw__error_set(error, -ECHILD, "the process that ends the guest in time has not begun");
}

bool gw__deadman_set(struct gw__deadman *d, uint64_t boottime_ns)
{
	if (!d->pid || d->is_late)
		return false;
	d->is_late = send(d->fd, &boottime_ns, sizeof boottime_ns, MSG_NOSIGNAL) != sizeof boottime_ns || read_byte(d->fd) != 's';
	return !d->is_late;
}

void gw__deadman_leave(struct gw__deadman *d)
{
	if (!d->pid)
		return;
	close(d->fd);
	waitpid(d->pid, NULL, WNOHANG);
	*d = (struct gw__deadman){0};
}

void gw__deadman_end(struct gw__deadman *d)
{
	if (!d->pid)
		return;
	kill(d->pid, SIGKILL);
	while (waitpid(d->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(d->fd);
	*d = (struct gw__deadman){0};
}
