/* SPDX-License-Identifier: MIT */
/* How surely a host ends a guest whose lease is over (docs/LEASE.md, 5). */
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/doctor/doctor.h"

enum { PRIORITY = 50 }; /* of src/qemu/deadman.c */

static bool may_be_realtime(void)
{
	const struct sched_param p = {.sched_priority = PRIORITY};
	int status = 1;
	pid_t pid = fork();
	if (pid == 0)
		_exit(sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &p) != 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

void gw__check_lease(struct gw__checkup *c)
{
	if (may_be_realtime())
		gw__checkup_is(c, GW__FOUND_LIMITED, "failover --fence=exec:CMD, which ends the other host",
			"level 2 of 3: a process of real-time priority kills the guest in time; there is no hardware watchdog, so a host "
			"that hangs is not fenced");
	else
		gw__checkup_is(c, GW__FOUND_LIMITED, "LimitRTPRIO=50 of the service, or CAP_SYS_NICE; and failover --fence=exec:CMD",
			"level 1 of 3: a process of ordinary priority kills the guest in time; no hardware watchdog");
}
