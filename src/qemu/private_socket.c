/* SPDX-License-Identifier: MIT */
/* A unix socket that one QEMU alone may connect to; see private_socket.h. */
#include "qemu/private_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu/process_identity.h"
#include "qemu/qemu_process.h"

/* The effective user of a process now; false: not to be found out. */
static bool user_of(pid_t pid, uint32_t *uid)
{
	char path[64], line[256];
	bool found = false;
	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof line, f))
		found = sscanf(line, "Uid: %*u %u", uid) == 1;
	if (f)
		fclose(f);
	return found;
}

/*
 * The kernel tells who listened. A QEMU that root started for another user (-runas) is that user by now. Over tcp nobody tells, but who comes
 * to our socket is on this host, where its threads can be seen.
 */
static int find_user(struct gw__qmp *q, uint32_t *uid, struct gw__error *error)
{
	struct ucred peer = {0};
	socklen_t n = sizeof peer;
	uint32_t now;
	if (!gw__qmp_can_pass_fds(q)) {
		*uid = user_of(gw__qemu_cpu_thread(q), &now) ? now : geteuid();
		return 0;
	}
	if (getsockopt(gw__qmp_fd(q), SOL_SOCKET, SO_PEERCRED, &peer, &n))
		return gw__error_errno(error, errno, "cannot find out which user QEMU is of");
	bool root_then = !peer.uid && peer.pid && user_of(peer.pid, &now) && now;
	*uid = root_then && gw__process_has_thread(peer.pid, gw__qemu_cpu_thread(q)) ? now : peer.uid;
	return 0;
}

int gw__private_socket_make(struct gw__private_socket *s, struct gw__qmp *q, struct gw__error *error)
{
	int r = find_user(q, &s->uid, error);
	if (r)
		return r;
	snprintf(s->folder, sizeof s->folder, "/tmp/godwit-XXXXXX");
	if (!mkdtemp(s->folder)) {
		int err = errno;
		s->folder[0] = 0;
		return gw__error_errno(error, err, "cannot make a folder in /tmp for a socket");
	}
	snprintf(s->uri, sizeof s->uri, "unix:%s/migration", s->folder);
	return 0;
}

void gw__private_socket_listens(const struct gw__private_socket *s)
{
	const char *path = s->uri + strlen("unix:");
	if (!s->folder[0])
		return;
	bool given = s->uid == geteuid() || !s->uid || lchown(path, s->uid, (gid_t)-1) == 0;
	chmod(path, given ? 0600 : 0666);
	if (s->uid && s->uid != geteuid())
		chmod(s->folder, 0711); /* last: until then nobody else can put anything there, and then it is no folder of theirs */
}

void gw__private_socket_remove(struct gw__private_socket *s)
{
	if (!s->folder[0])
		return;
	unlink(s->uri + strlen("unix:")); /* of a listener that was killed */
	rmdir(s->folder);
	s->folder[0] = 0;
}
