/* SPDX-License-Identifier: MIT */
/* A process by when and where it was started; see process_identity.h. */
#include "qemu/process_identity.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PLACE_BYTES = 100 };

static bool read_file(const char *path, char *text, size_t n)
{
	FILE *f = fopen(path, "re");
	size_t got = f ? fread(text, 1, n - 1, f) : 0;
	text[got] = 0;
	if (f)
		fclose(f);
	return got > 0;
}

/* Field 22 of /proc/PID/stat, in ticks since boot; the name of the program before it may have spaces and brackets. 0: none, or it is dead. */
static uint64_t start_of(pid_t pid)
{
	char path[64], text[1024], state;
	unsigned long long start;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (!read_file(path, text, sizeof text))
		return 0;
	const char *p = strrchr(text, ')');
	if (!p || sscanf(p + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &state, &start) != 2)
		return 0;
	return state == 'Z' || state == 'X' ? 0 : start;
}

/* The host's name is for people; the boot and the namespace of processes are what counts. */
static bool place(char text[PLACE_BYTES])
{
	char host[48] = "", boot[64];
	struct stat st;
	if (gethostname(host, sizeof host - 1) || !read_file("/proc/sys/kernel/random/boot_id", boot, sizeof boot) ||
		stat("/proc/self/ns/pid", &st))
		return false;
	for (char *p = host; *p; p++)
		if (*p <= ' ' || *p > '~' || *p == ':' || *p == '/')
			*p = '_';
	boot[strcspn(boot, "\n")] = 0;
	snprintf(text, PLACE_BYTES, "%s/%.36s-%ju", host, boot, (uintmax_t)st.st_ino);
	return true;
}

/* The last number of NSpid is the thread's in its own namespace. */
static bool is_inside(pid_t pid, const char *task, pid_t thread)
{
	char path[320], line[512];
	bool same = false;
	snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)pid, task);
	FILE *f = fopen(path, "re");
	while (f && !same && fgets(line, sizeof line, f)) {
		const char *last = strncmp(line, "NSpid:", 6) ? NULL : strrchr(line, '\t');
		same = last && strtol(last, NULL, 10) == thread;
	}
	if (f)
		fclose(f);
	return same;
}

bool gw__process_is_in_our_namespace(pid_t pid)
{
	char path[64];
	struct stat own, its;
	snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
	return !stat("/proc/self/ns/pid", &own) && !stat(path, &its) && own.st_ino == its.st_ino;
}

bool gw__process_has_thread(pid_t pid, pid_t thread)
{
	char path[64];
	if (pid <= 0 || thread <= 0)
		return false;
	snprintf(path, sizeof path, "/proc/%d/task/%d", (int)pid, (int)thread);
	if (!access(path, F_OK))
		return true;
	*strrchr(path, '/') = 0;
	DIR *tasks = opendir(path);
	bool found = false;
	for (const struct dirent *e; tasks && !found && (e = readdir(tasks));)
		found = e->d_name[0] != '.' && is_inside(pid, e->d_name, thread);
	if (tasks)
		closedir(tasks);
	return found;
}

int gw__process_identity(pid_t pid, char name[GW__IDENTITY_BYTES], struct gw__error *error)
{
	char here[PLACE_BYTES];
	uint64_t start = start_of(pid);
	if (!start)
		return gw__error_set(error, -ESRCH, "there is no process %d", (int)pid);
	if (!place(here))
		return gw__error_set(error, -EIO, "cannot find out which host this is: /proc is not as expected");
	snprintf(name, GW__IDENTITY_BYTES, "%s/%d.%ju", here, (int)pid, (uintmax_t)start);
	return 0;
}

enum gw__process_seen gw__process_look(const char *name)
{
	char here[PLACE_BYTES];
	const char *boot = strchr(name, '/'), *process = boot ? strchr(boot + 1, '/') : NULL;
	int pid;
	unsigned long long start;
	if (!place(here) || !process || sscanf(process + 1, "%d.%llu", &pid, &start) != 2)
		return GW__PROCESS_ELSEWHERE;
	const char *own = strchr(here, '/');
	if ((size_t)(process - boot) != strlen(own) || strncmp(boot, own, strlen(own)))
		return GW__PROCESS_ELSEWHERE;
	return start_of(pid) == start ? GW__PROCESS_LIVES : GW__PROCESS_DEAD;
}
