/* SPDX-License-Identifier: MIT */
/* The control socket of a protected guest; see standby_control.h. */
#include "lib/standby_control.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/chan.h"
#include "io/wait.h"
#include "thread/thread.h"

enum { LINE_BYTES = 128, ANSWER_BYTES = 4600, IDLE_MS = 5000, AGAIN_MS = 100 };

struct gw__standby_control {
	const struct gw__standby_control_ops *ops;
	void *ctx;
	pthread_t thread;
	int quit_fd; /* eventfd: readable when it is to end */
	uint32_t uid;
	struct gw__listener *listener;
};

/* Up to the end of a line, without it. */
static int read_line(struct gw__chan *c, char line[LINE_BYTES])
{
	struct gw__error ignored = {0};
	size_t n = 0;
	for (; n + 1 < LINE_BYTES; n++) {
		if (gw__chan_read(c, line + n, 1, &ignored) != 1)
			return -EPROTO;
		if (line[n] == '\n') {
			line[n] = 0;
			return 0;
		}
	}
	return -EPROTO;
}

static void answer(struct gw__standby_control *k, struct gw__chan *c)
{
	char line[LINE_BYTES], text[ANSWER_BYTES] = "error expected \"status\", \"stats\" or \"failover\"";
	struct gw__error ignored = {0};
	if (read_line(c, line))
		return;
	if (!strcmp(line, "status"))
		k->ops->status(k->ctx, text, sizeof text - 1);
	else if (!strcmp(line, "stats"))
		k->ops->stats(k->ctx, text, sizeof text - 1);
	else if (!strncmp(line, "guard ", strlen("guard ")))
		snprintf(text, sizeof text, "%s",
			k->ops->guard(k->ctx, line + strlen("guard ")) ? "ok" : "error this is not said by a guard");
	else if (!strcmp(line, "failover"))
		k->ops->failover(k->ctx, text, sizeof text - 1);
	for (char *p = text; (p = strchr(p, '\n'));)
		*p = ' ';
	strcat(text, "\n");
	gw__chan_write_all(c, text, strlen(text), &ignored);
}

static void *serve(void *control)
{
	struct gw__standby_control *k = control;
	for (;;) {
		struct gw__error error = {0};
		struct gw__chan *c = NULL;
		int r = gw__listener_accept(k->listener, &c, &error);
		if (r == -ECANCELED)
			return NULL;
		if (r) { /* no descriptor just now, for instance */
			gw__io_pause(k->quit_fd, gw__io_deadline(AGAIN_MS));
			continue;
		}
		answer(k, c);
		gw__chan_close(&c, NULL);
	}
}

static int listen_in(struct gw__standby_control *k, int dir_fd, struct gw__error *error)
{
	char text[64]; /* the folder's own name may be too long for a socket */
	struct gw__uri *uri = malloc(sizeof *uri);
	struct gw__io_opts io = {.idle_ms = IDLE_MS, .connect_ms = -1, .cancel_fd = k->quit_fd, .peer_uid = &k->uid};
	snprintf(text, sizeof text, "unix:/proc/self/fd/%d/control", dir_fd);
	int r = uri ? gw__uri_parse(text, uri, error) : gw__error_set(error, -ENOMEM, "no memory");
	if (!r)
		r = gw__io_listen(uri, &io, &k->listener, error);
	free(uri);
	return r;
}

int gw__standby_control_start(int dir_fd, const struct gw__standby_control_ops *ops, void *ctx, struct gw__standby_control **control,
	struct gw__error *error)
{
	struct gw__standby_control *k = calloc(1, sizeof *k);
	if (!k)
		return gw__error_set(error, -ENOMEM, "no memory for a control socket");
	k->ops = ops;
	k->ctx = ctx;
	k->uid = geteuid();
	k->quit_fd = eventfd(0, EFD_CLOEXEC);
	int r = k->quit_fd < 0 ? gw__error_errno(error, errno, "no descriptor for a control socket") : listen_in(k, dir_fd, error);
	if (!r) {
		int err = gw__thread_start(&k->thread, serve, k);
		r = err ? gw__error_errno(error, err, "cannot start a thread for a control socket") : 0;
	}
	if (!r) {
		*control = k;
		return 0;
	}
	gw__listener_close(k->listener);
	if (k->quit_fd >= 0)
		close(k->quit_fd);
	free(k);
	return r;
}

void gw__standby_control_stop(struct gw__standby_control **control)
{
	struct gw__standby_control *k = *control;
	*control = NULL;
	if (!k)
		return;
	eventfd_write(k->quit_fd, 1);
	pthread_join(k->thread, NULL);
	gw__listener_close(k->listener);
	close(k->quit_fd);
	free(k);
}
