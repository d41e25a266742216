/* SPDX-License-Identifier: MIT */
/*
 * The link between a page server and its QEMU: where QEMU listens, and how we get there. See postcopy_session.h.
 *
 * Unless told otherwise that is a unix socket in a private folder. In a recovery QEMU cannot be asked what it listens at, so an
 * address with a port of its choosing is only good for the first time: afterwards that port is asked for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu/postcopy_session.h"

static int new_folder(struct gw__postcopy_session *l)
{
	snprintf(l->folder, sizeof l->folder, "/tmp/godwit-XXXXXX");
	l->folder_is_ours = mkdtemp(l->folder);
	int fd = l->folder_is_ours ? gw__monitor_broker_open_folder(l->folder) : -1;
	if (fd >= 0)
		return fd;
	int err = errno;
	l->folder[0] = 0;
	return gw__error_errno(&l->error, err, "cannot make a folder in /tmp for a socket");
}

/* What made the monitor's socket may have become another user since (-runas): its credentials there are those of that time. */
static bool runs_as_we_do(pid_t qemu)
{
	char path[64], line[128];
	unsigned uid[4], same = 0;
	snprintf(path, sizeof path, "/proc/%d/status", (int)qemu);
	FILE *f = qemu > 0 ? fopen(path, "re") : NULL;
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "Uid: %u %u %u %u", &uid[0], &uid[1], &uid[2], &uid[3]) == 4)
			for (unsigned i = 0; i < GW__LEN(uid); i++)
				same += uid[i] == geteuid();
	if (f)
		fclose(f);
	return same == GW__LEN(uid);
}

/* The broker's; but /tmp may have been cleaned since, and something else be there by now. */
static int make_folder(struct gw__postcopy_session *l)
{
	if (!l->folder[0])
		snprintf(l->folder, sizeof l->folder, "%s", l->broker.folder);
	int fd = l->folder[0] ? gw__monitor_broker_open_folder(l->folder) : -1;
	if (fd < 0)
		fd = new_folder(l);
	if (fd < 0)
		return fd;
	if (l->foreign_qemu && !runs_as_we_do(gw__monitor_broker_peer(gw__qmp_fd(l->qmp))))
		fchmod(fd, 01733); /* QEMU makes the socket; nobody can list what is there */
	close(fd);
	return 0;
}

/* Never one that was used before: QEMU may have left a socket there. Nor one that anybody can foresee, and put something at. */
static int private_address(struct gw__postcopy_session *l)
{
	uint64_t name;
	if (getrandom(&name, sizeof name, 0) != sizeof name)
		return gw__error_set(&l->error, -EIO, "this system gives no random name for a socket");
	int r = make_folder(l);
	snprintf(l->listen, sizeof l->listen, "unix:%s/%016jx", l->folder, (uintmax_t)name);
	snprintf(l->uri, sizeof l->uri, "%s", l->listen);
	return r;
}

static bool lets_qemu_choose(const char *uri)
{
	size_t n = strlen(uri);
	return !strncmp(uri, "tcp:", 4) && n > 2 && !strcmp(uri + n - 2, ":0");
}

/* "tcp:0.0.0.0:4444" is a place to listen at, not to connect to: it is on this host. */
static void reach(struct gw__postcopy_session *l)
{
	static const char *const any[] = {"tcp::", "tcp:0:", "tcp:0.0.0.0:", "tcp:[::]:"};
	if (l->opts.listen)
		snprintf(l->reached, sizeof l->reached, "%s", l->opts.connect ? l->opts.connect : "");
	const char *to = l->reached[0] ? l->reached : l->listen;
	snprintf(l->uri, sizeof l->uri, "%s", to);
	for (unsigned i = 0; i < GW__LEN(any); i++)
		if (!strncmp(to, any[i], strlen(any[i])))
			snprintf(l->uri, sizeof l->uri, "tcp:localhost:%s", to + strlen(any[i]));
}

/* Certificates name a host, and an address of this machine alone has none. Better now than when QEMU listens. */
static int check_name(struct gw__postcopy_session *l)
{
	const struct gw_tls_opts *tls = &l->tls_opts;
	char path[4096];
	if (!tls->creds_dir || tls->hostname || !strncmp(l->uri, "tcp:", 4))
		return 0;
	if (snprintf(path, sizeof path, "%s/ca-cert.pem", tls->creds_dir) >= (int)sizeof path || access(path, F_OK))
		return 0;
	l->refused = true;
	gw__error_advise(&l->driver->error, GW_QEMU_HINT_TLS_HOSTNAME);
	return gw__error_set(&l->error, -EINVAL, "certificates over a unix socket need the name that QEMU's certificate has");
}

static int choose(struct gw__postcopy_session *l, bool again)
{
	const char *opts = l->opts.listen ? l->opts.listen : l->listened;
	if (again && l->listened[0] && lets_qemu_choose(opts))
		opts = l->listened;
	if (!opts[0])
		return private_address(l);
	if (again && lets_qemu_choose(opts)) {
		gw__error_advise(&l->driver->error, GW_QEMU_HINT_FIXED_PORT);
		return gw__error_set(&l->error, -EINVAL, "a QEMU that may be held up cannot say which port it chose");
	}
	if (strlen(opts) >= sizeof l->listen || (l->opts.connect && strlen(l->opts.connect) >= sizeof l->uri))
		return gw__error_set(&l->error, -ENAMETOOLONG, "the address %.40s... is too long", opts);
	if (opts != l->listen)
		snprintf(l->listen, sizeof l->listen, "%s", opts);
	reach(l);
	return 0;
}

int gw__postcopy_session_address(struct gw__postcopy_session *l, bool again)
{
	int r = choose(l, again);
	return r ? r : check_name(l);
}

/* QEMU gives hosts in its own way. */
bool gw__postcopy_session_is_wished(const struct gw__postcopy_session *l, const char *address)
{
	const char *opts = l->opts.listen, *port = strrchr(address, ':'), *ours = opts ? strrchr(opts, ':') : NULL;
	if (!ours || !port || strncmp(opts, address, 4))
		return false;
	return !strcmp(opts, address) || (!strncmp(opts, "tcp:", 4) && !strcmp(port, ours));
}

/* After migrate-incoming, which QEMU has answered. */
int gw__postcopy_session_listening(struct gw__postcopy_session *l)
{
	struct gw__qmp_migration m;
	if (!l->opts.listen)
		return 0;
	snprintf(l->listened, sizeof l->listened, "%s", l->listen);
	if (!lets_qemu_choose(l->listen))
		return 0;
	int r = gw__qmp_query_migrate(l->qmp, &m, &l->error);
	const char *port = strrchr(m.address, ':');
	if (r || strncmp(m.address, "tcp:", 4) || !port)
		return r ? r : gw__error_set(&l->error, -EPROTO, "QEMU does not say which port it listens at");
	snprintf(l->listened, sizeof l->listened, "%.*s%.12s", (int)strlen(l->listen) - 2, l->listen, port);
	snprintf(l->listen, sizeof l->listen, "%s", l->listened);
	reach(l);
	return 0;
}

/* QEMU says it, whom nobody has to believe: what is taken for ours is removed in the end. */
bool gw__postcopy_session_is_private(const char *address)
{
	static const char start[] = "unix:/tmp/godwit-", letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	if (strncmp(address, start, strlen(start)) || strspn(address + strlen(start), letters) != 6)
		return false;
	const char *name = address + strlen(start) + 6;
	size_t n = strlen(name);
	return n > 1 && n <= 33 && name[0] == '/' && strspn(name + 1, "0123456789abcdef.") == n - 1;
}

static int say_not_qemu(struct gw__postcopy_session *l, const char *who)
{
	l->refused = true;
	return gw__error_set(&l->error, -EPERM,
		"%s at %s, where this QEMU listens for its page server: this QEMU cannot be reached any more, start it again", who,
		l->listen);
}

/* Its folder may have been cleaned away, and another user's be in its place. */
bool gw__postcopy_session_is_qemu(struct gw__postcopy_session *l, int fd)
{
	char who[64];
	pid_t qemu = gw__monitor_broker_peer(gw__qmp_fd(l->qmp)), there = gw__monitor_broker_peer(fd);
	if (!qemu || qemu == there) /* 0: a monitor over tcp, whose folder was looked at */
		return true;
	snprintf(who, sizeof who, "process %d and not QEMU (%d) is", (int)there, (int)qemu);
	say_not_qemu(l, who);
	return false;
}

int gw__postcopy_session_take_address(struct gw__postcopy_session *l, const char *uri)
{
	const char *path = uri + strlen("unix:"), *name = strrchr(uri, '/');
	snprintf(l->uri, sizeof l->uri, "%s", uri);
	snprintf(l->listen, sizeof l->listen, "%s", uri);
	snprintf(l->folder, sizeof l->folder, "%.*s", (int)(name - path), path);
	l->folder_is_ours = strcmp(l->folder, l->broker.folder);
	l->taken = true;
	int fd = gw__monitor_broker_open_folder(l->folder);
	if (fd < 0 && !gw__monitor_broker_peer(gw__qmp_fd(l->qmp)))
		return say_not_qemu(l, "there is no folder of this user");
	if (fd >= 0)
		close(fd);
	return check_name(l);
}

static void unlink_in(const char *folder, const char *name)
{
	int fd = gw__monitor_broker_open_folder(folder);
	if (fd < 0)
		return;
	unlinkat(fd, name, 0);
	close(fd);
}

/* What was asked for by the user is his. */
void gw__postcopy_session_remove_socket(struct gw__postcopy_session *l)
{
	if (!l->folder[0])
		return;
	if (!strncmp(l->uri, "unix:", 5) && !strncmp(l->uri + 5, l->folder, strlen(l->folder)))
		unlink_in(l->folder, strrchr(l->uri, '/') + 1);
	if (!l->folder_is_ours)
		return;
	rmdir(l->folder);
	l->folder[0] = 0;
}
