/* SPDX-License-Identifier: MIT */
/*
 * tls-pipe: one connection with TLS, its bytes to or from a file; for tests that are scripts.
 *
 * tls-pipe take URI DIR FILE [OPTION...]   listens, prints the URI with its port, is the TLS server, writes
 * FILE tls-pipe give URI DIR FILE [OPTION...]   connects, is the TLS client, sends FILE OPTION: host=NAME
 * authz=DN  user=NAME  priority=TEXT  no-verify clean-end (give: say goodbye)  keep-open (give: wait for the
 * peer's end) many=N (take: N connections, FILE.0 to FILE.N-1) DIR "-": no TLS. Status 0, or 1 and a sentence
 * on stderr.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/tls.h"

enum { BLOCK = 1 << 20, MANY_MAX = 16, LIMIT_MS = 60000 };

struct pipe_job {
	struct gw__chan *chan;
	const struct gw__tls_creds *creds; /* NULL: no TLS */
	const char *host;
	bool clean_end, keep_open;
	char file[4096];
	struct gw__why why;
	int r;
};

static int say(const struct gw__why *why)
{
	fprintf(stderr, "tls-pipe: %s\n", why->text);
	return 1;
}

/* --- one channel ---------------------------------------------------------------------------------------- */

static int copy_in(struct pipe_job *j, int fd, char *block)
{
	for (;;) {
		ssize_t got = gw__chan_read(j->chan, block, BLOCK, &j->why);
		if (got <= 0)
			return (int)got;
		if (write(fd, block, (size_t)got) != got)
			return gw__why_set(&j->why, -5, "%s: cannot be written", j->file);
	}
}

static int copy_out(struct pipe_job *j, int fd, char *block)
{
	ssize_t got;
	int r = 0;
	while (r == 0 && (got = read(fd, block, BLOCK)) > 0)
		r = gw__chan_write_all(j->chan, block, (size_t)got, &j->why);
	r = r ? r : gw__chan_end_writes(j->chan, &j->why);
	while (r == 0 && j->keep_open) {
		got = gw__chan_read(j->chan, block, BLOCK, &j->why);
		if (got <= 0)
			return (int)got;
	}
	return r;
}

static int run(struct pipe_job *j, bool is_out)
{
	char *block = malloc(BLOCK);
	int fd = is_out ? open(j->file, O_RDONLY) : open(j->file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	int r = fd < 0 || !block ? gw__why_set(&j->why, -5, "%s: cannot be opened", j->file) : 0;
	if (r == 0 && j->creds)
		r = gw__chan_start_tls(&j->chan, j->creds, j->host, j->clean_end, &j->why);
	r = r ? r : is_out ? copy_out(j, fd, block) : copy_in(j, fd, block);
	int closed = gw__chan_close(&j->chan, &j->why);
	close(fd);
	free(block);
	return r ? r : closed;
}

static void *take_one(void *arg)
{
	struct pipe_job *j = arg;
	j->r = run(j, false);
	return NULL;
}

/* --- commands ------------------------------------------------------------------------------------------- */

static int take(const struct gw__uri *uri, const struct gw__io_opts *o, struct pipe_job *model, int many)
{
	static struct pipe_job jobs[MANY_MAX];
	pthread_t threads[MANY_MAX];
	struct gw__listener *l;
	int n = 0, r = gw__io_listen(uri, o, &l, &model->why);
	if (r)
		return say(&model->why);
	printf("%s\n", gw__listener_uri(l));
	fflush(stdout);
	for (; n < many && r == 0; n++) {
		jobs[n] = *model;
		if (many > 1)
			snprintf(jobs[n].file, sizeof jobs[n].file, "%.4000s.%d", model->file, n);
		r = gw__listener_accept(l, &jobs[n].chan, &model->why);
		if (r == 0 && pthread_create(&threads[n], NULL, take_one, &jobs[n]))
			r = gw__why_set(&model->why, -11, "no thread");
		if (r)
			break;
	}
	gw__listener_close(l);
	int bad = r ? say(&model->why) : 0;
	for (int i = 0; i < n; i++) {
		pthread_join(threads[i], NULL);
		if (jobs[i].r < 0)
			bad = say(&jobs[i].why);
	}
	return bad;
}

static int give(const struct gw__uri *uri, const struct gw__io_opts *o, struct pipe_job *j)
{
	int r = gw__io_open_out(uri, o, &j->chan, &j->why);
	j->host = uri->kind == GW__URI_TCP ? uri->target : "";
	return r || run(j, true) < 0 ? say(&j->why) : 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: tls-pipe take|give URI DIR|- FILE [host= authz= user= priority= no-verify clean-end "
		"keep-open many=]\n");
	return 2;
}

static const char *value(const char *arg, const char *name)
{
	size_t n = strlen(name);
	return strncmp(arg, name, n) == 0 ? arg + n : NULL;
}

static bool set_option(const char *arg, struct gw__tls_opts *tls, struct pipe_job *j, int *many)
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
		j->clean_end = true;
	else if (strcmp(arg, "keep-open") == 0)
		j->keep_open = true;
	else
		return false;
	return *many >= 1 && *many <= MANY_MAX;
}

int main(int argc, char **argv)
{
	struct gw__uri uri;
	struct pipe_job j = {0};
	struct gw__tls_creds *creds = NULL;
	struct gw__io_opts o = {.idle_ms = LIMIT_MS, .connect_ms = LIMIT_MS, .cancel_fd = -1};
	struct gw__tls_opts tls = {.dir = argc > 3 ? argv[3] : ""};
	int many = 1;
	if (argc < 5)
		return usage();
	bool is_take = strcmp(argv[1], "take") == 0;
	for (int i = 5; i < argc; i++)
		if (!set_option(argv[i], &tls, &j, &many))
			return usage();
	snprintf(j.file, sizeof j.file, "%s", argv[4]);
	if (gw__uri_parse(argv[2], &uri, &j.why))
		return say(&j.why);
	if (strcmp(tls.dir, "-") &&
		gw__tls_creds_load(is_take ? GW__TLS_SERVER : GW__TLS_CLIENT, &tls, &creds, &j.why))
		return say(&j.why);
	j.creds = creds;
	int r = is_take ? take(&uri, &o, &j, many) : give(&uri, &o, &j);
	gw__tls_creds_free(creds);
	return r;
}
