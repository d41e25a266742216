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
#include <sys/stat.h>

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

/* By its owner's rights and everybody's; whether one of its groups may is not known. */
static enum gw__userfaultfd_right right_to_device(uid_t uid)
{
	enum { BOTH = 6, OWNER = BOTH << 6, GROUP = BOTH << 3, OTHERS = BOTH };
	struct stat st;
	if (stat("/dev/userfaultfd", &st))
		return GW__USERFAULTFD_FORBIDDEN;
	if ((st.st_uid == uid && (st.st_mode & OWNER) == OWNER) || (st.st_mode & OTHERS) == OTHERS)
		return GW__USERFAULTFD_ALLOWED;
	return st.st_gid && (st.st_mode & GROUP) == GROUP ? GW__USERFAULTFD_UNKNOWN : GW__USERFAULTFD_FORBIDDEN;
}

enum gw__userfaultfd_right gw__qmp_userfaultfd_right(struct gw__qmp *q, uid_t *uid)
{
	struct ucred peer = {0};
	socklen_t n = sizeof peer;
	if (!gw__qmp_can_pass_fds(q) || getsockopt(gw__qmp_fd(q), SOL_SOCKET, SO_PEERCRED, &peer, &n) || !peer.pid)
		return GW__USERFAULTFD_UNKNOWN;
	*uid = peer.uid;
	if (!only_for_privileged() || !lacks_ptrace(peer.pid))
		return GW__USERFAULTFD_ALLOWED;
	return right_to_device(peer.uid);
}

int gw__qmp_hint_userfaultfd(struct gw__qmp *q, struct gw__error *error)
{
	uid_t uid = 0;
	bool about = gw__qemu_refused(error->text, GW__REFUSAL_NO_USERFAULTFD) && !gw__qemu_refused(error->text, GW__REFUSAL_BACKEND);
	if (!about || gw__qmp_userfaultfd_right(q, &uid) != GW__USERFAULTFD_FORBIDDEN)
		return error->code;
	return gw__error_hint(error, "QEMU's user %u may not use userfaultfd: " GW__USERFAULTFD_CURE, (unsigned)uid);
}
