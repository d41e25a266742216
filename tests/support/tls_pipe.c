/* SPDX-License-Identifier: MIT */
/*
 * tls-pipe: connections with TLS, their bytes to or from files; for tests that are scripts.
 *
 * tls-pipe take URI DIR FILE [OPTION...]   listens, prints the URI with its port, is the TLS server, writes
 * FILE tls-pipe give URI DIR FILE [OPTION...]   connects, is the TLS client, sends FILE OPTION: host=NAME
 * authz=DN  user=NAME  priority=TEXT  no-verify many=N      N connections, FILE.0 to FILE.N-1; give opens one
 * after the other, then sends on all at once clean-end   give: say goodbye (with many: not on the first,
 * which is the main channel) keep-open   give: wait for the peer's end DIR "-": no TLS. Status 0, or 1 and a
 * sentence on stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/tls.h"

enum { BLOCK = 1 << 20, MANY_MAX = 16, LIMIT_MS = 60000 };

struct job {
	bool is_out, clean_end, keep_open;
	struct gw__chan *chan;
	const struct gw__tls_creds *creds; /* NULL: no TLS */
	const char *host;
	char file[4096];
	struct gw__error error;
	int r;
	pthread_t thread;
	bool is_running;
};

static int say(const struct gw__error *error)
{
	fprintf(stderr, "tls-pipe: %s\n", error->text);
	return 1;
}

/* --- one channel ---------------------------------------------------------------------------------------- */

static int start_tls(struct job *j) { return j->creds ? gw__chan_start_tls(&j->chan, j->creds, j->host, j->clean_end, &j->error) : 0; }

static int copy_in(struct job *j, int fd, char *block)
{
	for (;;) {
		ssize_t got = gw__chan_read(j->chan, block, BLOCK, &j->error);
		if (got <= 0)
			return (int)got;
		if (write(fd, block, (size_t)got) != got)
			return gw__error_set(&j->error, -EIO, "%s: cannot be written", j->file);
	}
}

static int copy_out(struct job *j, int fd, char *block)
{
	ssize_t got;
	int r = 0;
	while (r == 0 && (got = read(fd, block, BLOCK)) > 0)
		r = gw__chan_write_all(j->chan, block, (size_t)got, &j->error);
	r = r ? r : gw__chan_end_writes(j->chan, &j->error);
	while (r == 0 && j->keep_open) {
		got = gw__chan_read(j->chan, block, BLOCK, &j->error);
		if (got <= 0)
			return (int)got;
	}
	return r;
}

static void *run(void *arg)
{
	struct job *j = arg;
	char *block = malloc(BLOCK);
	int fd = j->is_out ? open(j->file, O_RDONLY) : open(j->file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	j->r = fd < 0 || !block ? gw__error_set(&j->error, -EIO, "%s: cannot be opened", j->file) : 0;
	if (j->r == 0 && !j->is_out) /* each in its thread: a source may wait for another of its channels */
		j->r = start_tls(j);
	if (j->r == 0)
		j->r = j->is_out ? copy_out(j, fd, block) : copy_in(j, fd, block);
	close(fd);
	free(block);
	return NULL;
}

/* --- all of them ---------------------------------------------------------------------------------------- */

static int start(struct job *j)
{
	if (pthread_create(&j->thread, NULL, run, j))
		return gw__error_set(&j->error, -EAGAIN, "no thread");
	j->is_running = true;
	return 0;
}

static int finish(struct job *jobs, int n)
{
	int bad = 0;
	for (int i = 0; i < n; i++) {
		if (jobs[i].is_running)
			pthread_join(jobs[i].thread, NULL);
		int closed = gw__chan_close(&jobs[i].chan, &jobs[i].error);
		if (jobs[i].r < 0 || closed < 0)
			bad = say(&jobs[i].error);
	}
	return bad;
}

static int take(const struct gw__uri *uri, const struct gw__io_opts *o, struct job *jobs, int n)
{
	struct gw__listener *l;
	int r = gw__io_listen(uri, o, &l, &jobs[0].error);
	if (r)
		return say(&jobs[0].error);
	printf("%s\n", gw__listener_uri(l));
	fflush(stdout);
	for (int i = 0; i < n && r == 0; i++) {
		r = jobs[i].r = gw__listener_accept(l, &jobs[i].chan, &jobs[i].error);
		r = r ? r : start(&jobs[i]);
	}
	gw__listener_close(l);
	return finish(jobs, n) || r;
}

/* QEMU reads the first bytes of a multifd channel before it looks at the next connection: they follow at
 * once. */
static int give(const struct gw__uri *uri, const struct gw__io_opts *o, struct job *jobs, int n)
{
	int r = 0;
	for (int i = 0; i < n && r == 0; i++) {
		jobs[i].host = uri->kind == GW__URI_TCP ? uri->target : "";
		r = gw__io_open_out(uri, o, &jobs[i].chan, &jobs[i].error);
		r = r ? r : start_tls(&jobs[i]);
		jobs[i].r = r = r || i == 0 ? r : start(&jobs[i]);
	}
	if (r == 0)
		jobs[0].r = start(&jobs[0]);
	return finish(jobs, n);
}

/* --- the command line ----------------------------------------------------------------------------------- */

static int usage(void)
{
	fprintf(stderr, "usage: tls-pipe take|give URI DIR|- FILE [host= authz= user= priority= many= no-verify "
			"clean-end keep-open]\n");
	return 2;
}

static const char *value(const char *arg, const char *name)
{
	size_t n = strlen(name);
	return strncmp(arg, name, n) == 0 ? arg + n : NULL;
}

static bool set_option(const char *arg, struct gw__tls_opts *tls, struct job *model, int *many)
{
	const char *v;
	if ((v = value(arg, "host=")))
		tls->hostname = v;
	else if ((v = value(arg, "authz=")))
		tls->authz = v;
	else if ((v = value(arg, "user=")))
		tls->username = v;
	else if ((v = value(arg, "priority=")))
		tls->priority = v;
	else if ((v = value(arg, "many=")))
		*many = atoi(v);
	else if (strcmp(arg, "no-verify") == 0)
		tls->no_verify = true;
	else if (strcmp(arg, "clean-end") == 0)
		model->clean_end = true;
	else if (strcmp(arg, "keep-open") == 0)
		model->keep_open = true;
	else
		return false;
	return *many >= 0 && *many <= MANY_MAX;
}

int main(int argc, char **argv)
{
	static struct job jobs[MANY_MAX];
	struct gw__uri uri;
	struct gw__error error = {0};
	struct job model = {0};
	struct gw__tls_creds *creds = NULL;
	struct gw__io_opts o = {.idle_ms = LIMIT_MS, .connect_ms = LIMIT_MS, .cancel_fd = -1};
	struct gw__tls_opts tls = {.dir = argc > 3 ? argv[3] : ""};
	int many = 0;
	if (argc < 5)
		return usage();
	for (int i = 5; i < argc; i++)
		if (!set_option(argv[i], &tls, &model, &many))
			return usage();
	model.is_out = strcmp(argv[1], "give") == 0;
	if (gw__uri_parse(argv[2], &uri, &error))
		return say(&error);
	if (strcmp(tls.dir, "-") && gw__tls_creds_load(model.is_out ? GW__TLS_CLIENT : GW__TLS_SERVER, &tls, &creds, &error))
		return say(&error);
	model.creds = creds;
	for (int i = 0; i < (many ? many : 1); i++) {
		jobs[i] = model;
		jobs[i].clean_end = model.clean_end && (!many || i > 0);
		snprintf(jobs[i].file, sizeof jobs[i].file, many ? "%.4000s.%d" : "%.4000s", argv[4], i);
	}
	int r = (model.is_out ? give : take)(&uri, &o, jobs, many ? many : 1);
	gw__tls_creds_free(creds);
	return r ? 1 : 0;
}
