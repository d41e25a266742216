/* SPDX-License-Identifier: MIT */
/*
 * Which keepers there are, and what they say of themselves; see keeper.h. It changes nothing in them: not attaching (keeper.c),
 * nor where their folders are (keeper_place.c). No state: any thread.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/keeper_parts.h"

bool gw__keeper_socket(const char *folder, const char *name, struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	return (size_t)snprintf(a->sun_path, sizeof a->sun_path, "%s/%s", folder, name) < sizeof a->sun_path;
}

int gw__keeper_call(const char *folder, const char *name)
{
	struct sockaddr_un a;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (!gw__keeper_socket(folder, name, &a) || connect(fd, (struct sockaddr *)&a, sizeof a)) {
		int err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

int gw__keeper_each(int (*fn)(void *ctx, const char *folder, const char *name), void *ctx)
{
	char folder[GW__KEEPER_PATH_BYTES];
	int r = 0;
	for (unsigned i = 0; !r && gw__keeper_folder(i, folder); i++) {
		DIR *dir = gw__keeper_check_folder(folder, NULL) ? NULL : opendir(folder);
		for (struct dirent *e; dir && !r && (e = readdir(dir));)
			if (strstr(e->d_name, ".keeper"))
				r = fn(ctx, folder, e->d_name);
		if (dir)
			closedir(dir);
	}
	return r;
}

int gw__keeper_ask_info(const char *folder, const char *name, struct gw__keeper_info *info)
{
	struct gw__keeper_message m = {0};
	int fd = gw__keeper_call(folder, name);
	if (fd < 0)
		return fd;
	int r = gw__keeper_say(fd, json_pack("{s:s}", "want", "info"), NULL, 0);
	if (!r)
		r = gw__keeper_hear(fd, GW__KEEPER_ANSWER_MS, &m);
	close(fd);
	if (r)
		return r;
	*info = (struct gw__keeper_info){.pid = (pid_t)json_integer_value(json_object_get(m.json, "pid")),
		.server = (pid_t)json_integer_value(json_object_get(m.json, "server")),
		.qemu = (pid_t)json_integer_value(json_object_get(m.json, "qemu"))};
	const char *address = json_string_value(json_object_get(m.json, "address"));
	const char *image = json_string_value(json_object_get(m.json, "image"));
	snprintf(info->address, sizeof info->address, "%s", address ? address : "");
	snprintf(info->image, sizeof info->image, "%s", image ? image : "");
	gw__keeper_message_fini(&m);
	return 0;
}

struct listing {
	gw__keeper_fn *fn;
	void *ctx;
};

static int show(void *ctx, const char *folder, const char *name)
{
	struct listing *l = ctx;
	struct gw__keeper_info info;
	if (!gw__keeper_ask_info(folder, name, &info))
		l->fn(l->ctx, &info);
	return 0;
}

void gw__keeper_list(gw__keeper_fn *fn, void *ctx)
{
	gw__keeper_each(show, &(struct listing){fn, ctx});
}

struct question {
	char name[32];
	struct gw__keeper_info *info;
};

static int show_named(void *ctx, const char *folder, const char *name)
{
	struct question *q = ctx;
	return !strcmp(name, q->name) && !gw__keeper_ask_info(folder, name, q->info);
}

int gw__keeper_ask(const char *address, struct gw__keeper_info *info)
{
	struct question q = {.info = info};
	return !gw__keeper_name(address, q.name) && gw__keeper_each(show_named, &q) == 1 ? 0 : -ENOENT;
}
