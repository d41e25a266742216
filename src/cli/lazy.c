/* SPDX-License-Identifier: MIT */
/* Drives a QEMU through post-copy from an image, and through its recoveries; see lazy.h. */
#include "cli/lazy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/pause.h"

#define OUR_ADDRESS "unix:/tmp/godwit-"

enum {
	POLL_MS = 10,
	PAUSE_MS = 5000,    /* for QEMU to notice that the link broke, before it is told so */
	END_MS = 30000,	    /* from its last word to "completed" */
	ATTEMPTS_MAX = 5,   /* recoveries in a row that bring no page */
};

static int make_folder(struct gw__lazy *l)
{
	if (l->folder[0])
		return 0;
	snprintf(l->folder, sizeof l->folder, "/tmp/godwit-XXXXXX");
	if (!mkdtemp(l->folder)) {
		int err = errno;
		l->folder[0] = 0;
		return gw__why_errno(&l->why, err, "cannot make a folder in /tmp for a socket");
	}
	if (l->foreign_qemu)
		chmod(l->folder, 01733); /* QEMU makes the socket; nobody can list what is there */
	return 0;
}

static void address(struct gw__lazy *l, char uri[64])
{
	snprintf(uri, 64, "unix:%s/%u", l->folder, l->attempts);
}

static int query(struct gw__lazy *l, struct gw__qmp_migration *m)
{
	return gw__qmp_query_migrate(l->qmp, m, &l->why);
}

/* What the page server must know of the destination's memory. */
static struct gw_serve_block *page_sizes(struct gw__lazy *l, struct gw__qmp_block **names, uint32_t *n)
{
	unsigned blocks_n = 0;
	if (gw__qmp_query_blocks(l->qmp, names, &blocks_n, &l->why))
		return NULL;
	struct gw_serve_block *v = calloc(blocks_n + 1, sizeof *v);
	for (unsigned i = 0; v && i < blocks_n; i++)
		v[i] = (struct gw_serve_block){(*names)[i].name, (*names)[i].page_bytes};
	*n = blocks_n;
	return v;
}

/* A server that is killed from here on leaves nothing behind. */
static void remove_folder(void *ctx)
{
	struct gw__lazy *l = ctx;
	char path[64];
	if (!l->folder[0])
		return;
	snprintf(path, sizeof path, "%s/%u", l->folder, l->attempts);
	unlink(path);
	rmdir(l->folder);
	l->folder[0] = 0;
}

static int serve_once(struct gw__lazy *l, const char *uri, bool resume)
{
	struct gw_link_opts link = GW_INIT(link);
	struct gw_serve_opts o = GW_INIT(o);
	struct gw__qmp_block *names = NULL;
	struct gw_serve_block *blocks = page_sizes(l, &names, &o.blocks);
	gw__why_clear(&l->why); /* a QEMU that does not list them has ordinary ones */
	link.max_bandwidth = l->max_bandwidth;
	o.link = &link;
	o.image_offset = l->offset;
	o.resume = resume;
	o.block = blocks;
	o.on_connected = remove_folder;
	o.ctx = l;
	l->result = (struct gw_serve_result)GW_INIT(l->result);
	int r = gw_serve(l->work->job, l->path, uri, &o, &l->result);
	free(blocks);
	free(names);
	if (r)
		gw__why_set(&l->why, r, "%s", gw_job_error(l->work->job));
	return r;
}

static int begin(struct gw__lazy *l, char uri[64])
{
	const struct gw__qmp_capability caps[] = {{"postcopy-ram", true}};
	int r = gw__qmp_settings_save(l->qmp, &l->before, &l->why);
	if (!r)
		r = gw__qmp_clear_capabilities(l->qmp, l->before, &l->why);
	if (!r && gw__qmp_settings_parameter(l->before, "tls-creds"))
		r = gw__qmp_call(l->qmp, "migrate-set-parameters", json_pack("{s:s}", "tls-creds", ""), NULL, &l->why);
	if (!r)
		r = gw__qmp_set_capabilities(l->qmp, caps, 1, &l->why);
	if (!r)
		r = make_folder(l);
	address(l, uri);
	return r ? r : gw__qmp_call(l->qmp, "migrate-incoming", json_pack("{s:s}", "uri", uri), NULL, &l->why);
}

enum { HAS_ALL = 1 }; /* what a break came too late for: QEMU has its last page */

/* QEMU sees a closed socket by itself; a silent one it is told of. 0, HAS_ALL, or a negative errno. */
static int await_paused(struct gw__lazy *l)
{
	for (int waited = 0;; waited += POLL_MS) {
		struct gw__qmp_migration m;
		int r = query(l, &m);
		if (r == -ECONNRESET) /* it has ended, and with it what it had of the guest */
			l->result.recoverable = false;
		if (r || !strcmp(m.status, "postcopy-paused"))
			return r;
		if (m.completed)
			return HAS_ALL;
		if (m.ended) {
			l->result.recoverable = false;
			return gw__why_set(&l->why, -EREMOTEIO, "QEMU ended the migration with status \"%s\": %s", m.status,
				m.error[0] ? m.error : "it does not say why");
		}
		if (waited == PAUSE_MS)
			gw__qmp_call_oob(l->qmp, "migrate-pause", NULL, NULL, NULL);
		if (waited > 2 * PAUSE_MS)
			return gw__why_set(&l->why, -ETIMEDOUT, "QEMU does not notice that its pages have stopped (status \"%s\")", m.status);
		gw__cli_sleep_ms(POLL_MS);
	}
}

/* 0: it listens there; HAS_ALL, or a negative errno. */
static int recover(struct gw__lazy *l, char uri[64])
{
	int r = await_paused(l);
	remove_folder(l);
	if (!r)
		r = make_folder(l);
	l->attempts++;
	address(l, uri);
	return r ? r : gw__qmp_call_oob(l->qmp, "migrate-recover", json_pack("{s:s}", "uri", uri), NULL, &l->why);
}

static int await_completed(struct gw__lazy *l)
{
	for (int waited = 0; waited < END_MS; waited += POLL_MS) {
		struct gw__qmp_migration m;
		int r = query(l, &m);
		if (r || m.completed)
			return r;
		if (m.ended)
			return gw__why_set(&l->why, -EREMOTEIO, "QEMU ended the migration with status \"%s\": %s", m.status,
				m.error[0] ? m.error : "it does not say why");
		gw__cli_sleep_ms(POLL_MS);
	}
	return gw__why_set(&l->why, -ETIMEDOUT, "QEMU has every page but does not end the migration");
}

/* Again and again while the guest waits and each connection brings it something. 0, HAS_ALL, or a negative errno. */
static int serve_until_done(struct gw__lazy *l, char uri[64], bool resume)
{
	unsigned in_vain = 0;
	int r = serve_once(l, uri, resume);
	while (r && l->result.recoverable && !gw__cli_stopped()) {
		in_vain = l->result.pushed_pages + l->result.requested_pages ? 0 : in_vain + 1;
		if (in_vain == ATTEMPTS_MAX)
			return r;
		gw__cli_detail("%s; the guest waits, a new connection is made", l->why.text);
		gw__why_clear(&l->why);
		int again = recover(l, uri);
		if (again)
			return again;
		r = serve_once(l, uri, true);
	}
	return r;
}

/* Whether it waits for a guest at all is asked before any setting is changed. */
static int check_waits(struct gw__lazy *l)
{
	struct gw__qmp_status s;
	int r = gw__qmp_query_status(l->qmp, &s, &l->why);
	if (r || !strcmp(s.name, "inmigrate"))
		return r;
	l->refused = true;
	return gw__why_set(&l->why, -EINVAL, "this QEMU waits for no guest (it is \"%s\"), start one with -incoming defer", s.name);
}

/* `uri`: where it listens for us, or will. A predecessor that died before it connected left its address. */
static int make_ready(struct gw__lazy *l, const struct gw__qmp_migration *m, char uri[64])
{
	int r = check_waits(l);
	if (r)
		return r;
	if (l->memory_only) {
		l->refused = true;
		return gw__why_set(&l->why, -EOPNOTSUPP, "%s holds memory without devices (godwit drain): it can complete a QEMU in postcopy-paused, and this one "
			"has no guest yet", l->path);
	}
	if (!strncmp(m->address, OUR_ADDRESS, sizeof OUR_ADDRESS - 1) && strlen(m->address) < 64) {
		memcpy(uri, m->address, strlen(m->address) + 1);
		return 0;
	}
	return begin(l, uri);
}

/* A QEMU that did not take the guest keeps no setting of ours; where it is gone or stuck, there is nothing to put back. */
static int put_back(struct gw__lazy *l, int r)
{
	if (!l->before || r == -ETIMEDOUT || r == -ECONNRESET)
		return r;
	return r ? (gw__qmp_settings_restore(l->qmp, l->before, NULL), r) : gw__qmp_settings_restore(l->qmp, l->before, &l->why);
}

int gw__lazy_run(struct gw__lazy *l)
{
	char uri[64];
	struct gw__qmp_migration m;
	int r = query(l, &m);
	if (r)
		return r;
	if (m.completed) /* somebody else brought the last page */
		return 0;
	bool resume = !strncmp(m.status, "postcopy", 8);
	l->result.recoverable = resume;
	r = resume ? recover(l, uri) : make_ready(l, &m, uri);
	if (!r)
		r = serve_until_done(l, uri, resume);
	if (r == HAS_ALL)
		r = 0;
	if (!r)
		r = await_completed(l);
	return r && l->result.recoverable ? r : put_back(l, r);
}

void gw__lazy_end(struct gw__lazy *l)
{
	gw__qmp_settings_free(l->before);
	remove_folder(l);
}
