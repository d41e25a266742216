/* SPDX-License-Identifier: MIT */
/* How surely a host ends a guest whose lease is over (docs/LEASE.md, 5). */
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
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

static bool says(const char *device, const char *file, const char *word)
{
	char path[160], text[32] = "";
	snprintf(path, sizeof path, "%s/%s", device, file);
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	if (f)
		fclose(f);
	text[n] = 0;
	return !strncmp(text, word, strlen(word));
}

/* A hardware watchdog that nobody uses and that can be stopped; by what the kernel says, as opening one starts it. */
static bool find_watchdog(char name[32])
{
	glob_t g = {0};
	bool found = false;
	if (!glob("/sys/class/watchdog/watchdog*", 0, NULL, &g))
		for (size_t i = 0; !found && i < g.gl_pathc; i++) {
			found = says(g.gl_pathv[i], "state", "inactive") && says(g.gl_pathv[i], "nowayout", "0");
			snprintf(name, 32, "%s", strrchr(g.gl_pathv[i], '/') + 1);
		}
	globfree(&g);
	return found;
}

void gw__check_lease(struct gw__checkup *c)
{
	char watchdog[32], advice[160];
	if (!may_be_realtime()) {
		gw__checkup_is(c, GW__FOUND_LIMITED, "LimitRTPRIO=50 of the service, or CAP_SYS_NICE; and failover --fence=exec:CMD",
			"level 1 of 3: a process of ordinary priority kills the guest in time");
		return;
	}
	bool found = find_watchdog(watchdog);
	if (found)
		snprintf(advice, sizeof advice, "protect --watchdog=/dev/%s", watchdog);
	gw__checkup_is(c, GW__FOUND_LIMITED, found ? advice : "failover --fence=exec:CMD, which ends the other host",
		"level 2 of 3: a process of real-time priority kills the guest in time, and a host that hangs is not fenced; there is %s",
		found ? "a hardware watchdog for level 3" : "no free hardware watchdog that can be stopped");
}
