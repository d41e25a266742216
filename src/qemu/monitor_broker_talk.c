/* SPDX-License-Identifier: MIT */
/* Messages between a page server and its monitor broker, with descriptors; see monitor_broker_private.h. Both ends are the same user's. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "qemu/monitor_broker_private.h"

enum { FILE_MAX_BYTES = 16 << 20 };

union control {
	char room[CMSG_SPACE(GW__MONITOR_BROKER_FDS * sizeof(int))];
	struct cmsghdr align;
};

int gw__monitor_broker_send(int socket, json_t *json, const int *fd, unsigned fds)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	struct iovec iov = {.iov_base = text, .iov_len = text ? strlen(text) : 0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control = {{0}};
	json_decref(json);
	if (!text)
		return -ENOMEM;
	if (fds) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fds * sizeof(int));
		memcpy(CMSG_DATA(c), fd, fds * sizeof(int));
	}
	ssize_t n = sendmsg(socket, &msg, MSG_NOSIGNAL);
	int err = errno;
	free(text);
	return n < 0 ? -err : 0;
}

static void take_fds(struct msghdr *msg, struct gw__monitor_broker_message *m)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return;
	m->fds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(m->fd, CMSG_DATA(c), m->fds * sizeof(int));
}

int gw__monitor_broker_receive(int socket, int ms, struct gw__monitor_broker_message *m)
{
	char text[GW__MONITOR_BROKER_MESSAGE_BYTES];
	struct iovec iov = {.iov_base = text, .iov_len = sizeof text};
	union control control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct pollfd p = {.fd = socket, .events = POLLIN};
	*m = (struct gw__monitor_broker_message){0};
	int ready;
	do
		ready = poll(&p, 1, ms);
	while (ready < 0 && errno == EINTR);
	if (ready != 1)
		return -ETIMEDOUT;
	ssize_t n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return -ECONNRESET;
	take_fds(&msg, m);
	m->json = msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? NULL : json_loadb(text, (size_t)n, 0, NULL);
	if (json_is_object(m->json))
		return 0;
	gw__monitor_broker_message_fini(m);
	return -EPROTO;
}

void gw__monitor_broker_message_fini(struct gw__monitor_broker_message *m)
{
	for (unsigned i = 0; i < m->fds; i++)
		if (m->fd[i] >= 0)
			close(m->fd[i]);
	json_decref(m->json);
	*m = (struct gw__monitor_broker_message){0};
}

int gw__monitor_broker_message_take(struct gw__monitor_broker_message *m, const char *name)
{
	size_t i;
	json_t *word;
	json_array_foreach(json_object_get(m->json, "fds"), i,
		word) if (i < m->fds && json_is_string(word) && !strcmp(json_string_value(word), name))
	{
		int fd = m->fd[i];
		m->fd[i] = -1;
		return fd;
	}
	return -1;
}

json_t *gw__monitor_broker_text(const char *text)
{
	enum { ROOM = sizeof((struct gw__monitor_broker_info *)0)->image };
	char clean[4 * ROOM + 1];
	json_t *whole = text ? json_string(text) : json_null(); /* NULL if it is not UTF-8 */
	if (!whole) {
		gw__text_filter(clean, sizeof clean, text, false);
		whole = json_string(clean);
	}
	const char *s = json_string_value(whole);
	size_t n = ROOM - 1;
	if (!s || strlen(s) <= n)
		return whole;
	while (((unsigned char)s[n] & 0xc0) == 0x80) /* the first byte left out begins a character */
		n--;
	json_t *cut = json_stringn(s, n);
	json_decref(whole);
	return cut;
}

int gw__monitor_broker_to_file(const json_t *j)
{
	int fd = memfd_create("godwit", MFD_CLOEXEC);
	if (fd >= 0 && json_dumpfd(j, fd, JSON_COMPACT)) {
		close(fd);
		return -1;
	}
	return fd;
}

json_t *gw__monitor_broker_from_file(int fd)
{
	off_t bytes = lseek(fd, 0, SEEK_END);
	char *text = bytes > 0 && bytes <= FILE_MAX_BYTES ? malloc((size_t)bytes) : NULL;
	json_t *j = NULL;
	if (text && pread(fd, text, (size_t)bytes, 0) == bytes)
		j = json_loadb(text, (size_t)bytes, 0, NULL);
	free(text);
	return j;
}
