/* SPDX-License-Identifier: MIT */
/* A line about a guest from its guard; see guard_report.h. */
#include "qemu/guard_report.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void gw__guard_report_print(const struct gw__guard_report *r, char words[GW__GUARD_REPORT_BYTES])
{
	int n = snprintf(words, GW__GUARD_REPORT_BYTES, "disk %s network %s", r->disk, r->network);
	if (r->lease_left_us != UINT64_MAX)
		snprintf(words + n, GW__GUARD_REPORT_BYTES - (size_t)n, " lease_left_us %" PRIu64, r->lease_left_us);
}

/* Through the folder's descriptor, as its name may be too long for a socket. */
static int connect_control(int folder)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/control", folder);
	if (fd < 0 || !connect(fd, (struct sockaddr *)&a, sizeof a))
		return fd;
	close(fd);
	return -1;
}

void gw__guard_report_send(const char *folder, const char *words)
{
	char line[GW__GUARD_REPORT_BYTES + 8];
	int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int fd = dir < 0 ? -1 : connect_control(dir);
	snprintf(line, sizeof line, "guard %s\n", words);
	if (fd >= 0) {
		(void)!send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
	}
	if (dir >= 0)
		close(dir);
}
