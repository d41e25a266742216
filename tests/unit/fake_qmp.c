/* SPDX-License-Identifier: MIT */
/* Runs a script against the client under test; see fake_qmp.h. */
#include "unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_qmp.h"

static bool say(int fd, const char *text, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);
		if (sent < 0)
			return false; /* the client has gone */
		text += sent;
		n -= (size_t)sent;
	}
	return true;
}

/* One byte with whatever descriptor travels beside it. */
static ssize_t hear_byte(struct fake_qmp *f, char *c)
{
	struct iovec iov = {.iov_base = c, .iov_len = 1};
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};
	ssize_t n = recvmsg(f->fd, &msg, 0);
	struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (h && h->cmsg_type == SCM_RIGHTS) {
		int passed;
		memcpy(&passed, CMSG_DATA(h), sizeof passed);
		close(passed);
		f->fds++;
	}
	return n;
}

static bool hear(struct fake_qmp *f, const char *want)
{
	char line[4096];
	size_t n = 0;
	while (n + 1 < sizeof line && hear_byte(f, &line[n]) == 1 && line[n] != '\n')
		n++;
	line[n] = 0;
	if (strstr(line, want))
		return true;
	snprintf(f->complaint, sizeof f->complaint, "wanted %.100s, heard %.150s", want, line);
	return false;
}

static bool drip(int fd, const char *text)
{
	for (; *text; text++) {
		if (!say(fd, text, 1))
			return false;
	}
	return true;
}

static void wait_for_end(int fd)
{
	char c;
	while (recv(fd, &c, 1, 0) > 0)
		;
}

/* False: the script ends here. */
static bool run_step(struct fake_qmp *f, const struct fake_step *s)
{
	switch (s->kind) {
	case FAKE_CLOSE:
		return false;
	case FAKE_SAY:
		return say(f->fd, s->text, strlen(s->text));
	case FAKE_DRIP:
		return drip(f->fd, s->text);
	case FAKE_HEAR:
		return hear(f, s->text);
	case FAKE_REPEAT:
		while (say(f->fd, s->text, strlen(s->text)))
			;
		return false;
	case FAKE_SILENT:
		wait_for_end(f->fd);
		return false;
	}
	return false;
}

static void *run(void *arg)
{
	struct fake_qmp *f = arg;
	const struct fake_step *s = f->steps;
	while (run_step(f, s))
		s++;
	close(f->fd);
	return NULL;
}

void fake_start(struct fake_qmp *f, const struct fake_step *steps)
{
	int pair[2];
	*f = (struct fake_qmp){.steps = steps};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	f->client_fd = pair[0];
	f->fd = pair[1];
	assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
}

void fake_join(struct fake_qmp *f) { pthread_join(f->thread, NULL); }

void begin(struct session *s, const struct fake_step *steps)
{
	*s = (struct session){0};
	fake_start(&s->fake, steps);
	int err = gw__qmp_take_fd(s->fake.client_fd, PATIENCE_MS, &s->q, &s->error);
	assert_string_equal(s->error.text, "");
	assert_int_equal(err, 0);
}

void finish(struct session *s)
{
	gw__qmp_close(s->q);
	fake_join(&s->fake);
	assert_string_equal(s->fake.complaint, "");
}
