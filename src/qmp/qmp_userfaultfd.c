/* SPDX-License-Identifier: MIT */
/*
 * Why a QEMU may have no userfaultfd: it says "not supported by host kernel" where only its user may not.
 *
 * The kernel grants it with CAP_SYS_PTRACE, with vm.unprivileged_userfaultfd=1, or to who may open /dev/userfaultfd. Says nothing where
 * one of them holds, or where the monitor's socket does not tell which process QEMU is.
 */
#include "qmp/parts.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { CAP_SYS_PTRACE_BIT = 19 };

/* Its capabilities are those of the process that listens; false where that cannot be seen. */
static bool lacks_ptrace(pid_t pid)
{
	char path[64], line[256];
	unsigned long long caps = ~0ull;
	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	if (f)
		fclose(f);
	return !(caps >> CAP_SYS_PTRACE_BIT & 1);
}

static bool only_for_privileged(void)
{
	FILE *f = fopen("/proc/sys/vm/unprivileged_userfaultfd", "re");
	int c = f ? fgetc(f) : EOF;
	if (f)
		fclose(f);
	return c == '0';
}

int gw__qmp_hint_userfaultfd(struct gw__qmp *q, struct gw__error *error)
{
	struct ucred peer = {0};
	socklen_t n = sizeof peer;
	bool about = strcasestr(error->text, "userfaultfd") || strcasestr(error->text, "not supported by host kernel") ||
		     strcasestr(error->text, "postcopy is not supported");
	if (!about || !gw__qmp_can_pass_fds(q) || getsockopt(gw__qmp_fd(q), SOL_SOCKET, SO_PEERCRED, &peer, &n) || !peer.pid)
		return error->code;
	if (strcasestr(error->text, "backend") || !only_for_privileged() || !lacks_ptrace(peer.pid))
		return error->code;
	return gw__error_hint(error,
		"QEMU's user %u may not use userfaultfd: set sysctl vm.unprivileged_userfaultfd=1, or give QEMU access to /dev/userfaultfd "
		"or CAP_SYS_PTRACE",
		(unsigned)peer.uid);
}
