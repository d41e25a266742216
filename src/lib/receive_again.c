/* SPDX-License-Identifier: MIT */
/* A source that waits in postcopy-paused, and what another process left of its guest; see receive.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "image/partial.h"
#include "image/writer.h"
#include "lib/receive.h"

enum {
	VAIN_MAX = 5,		/* connections in a row that bring no page */
	FIRST_WORD_MS = 10000,	/* of a source that has connected */
};

/* What no other connection makes good. */
static bool is_ours(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -EFBIG || r == -EIO || r == -EROFS || r == -ENOMEM || r == -ECANCELED;
}

static bool says_something(struct gw__receive_again *a, struct gw__chan **chan)
{
	struct gw__why ignored = {0};
	char byte;
	if (a->tls)
		return gw__chan_start_tls(chan, a->tls, NULL, false, &ignored) == 0;
	return gw__chan_wait_readable(*chan, FIRST_WORD_MS, &ignored) == 1 && recv((*chan)->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

/* The next connection of a source. One that ends without a word, like a preempt channel of a life that is over, is passed by. */
static int accept_next(struct gw__receive_again *a, struct gw__chan **chan)
{
	for (;;) {
		int r = gw__listener_accept(a->listener, chan, &a->job->run.why);
		if (r)
			return r;
		if (says_something(a, chan))
			return gw__job_filter(a->job, a->link, 1, chan);
		gw__chan_close(chan, NULL);
	}
}

static int connect_again(struct gw__receive_again *a, struct gw__chan **chan)
{
	struct gw__why *why = &a->job->run.why;
	char story[GW__WHY_BYTES];
	memcpy(story, why->text, sizeof story);
	gw__why_clear(why);
	gw__run_phase(&a->job->run, GW__PHASE_WAITING);
	int r = a->on_paused ? a->on_paused(a->ctx, gw__listener_uri(a->listener), story) : 0;
	if (r)
		return gw__why_set(why, r, "%s", story[0] ? story : "the source was not made to come back");
	return accept_next(a, chan);
}

int gw__receive_again(struct gw__receive_again *a, int r, struct gw__sink *sink, struct gw__stream_tally *tally)
{
	unsigned in_vain = 0;
	bool again = tally->state == GW__PS_PAUSED && !is_ours(r);
	while (again && in_vain < VAIN_MAX) {
		struct gw__chan *chan = NULL;
		uint64_t missing = tally->missing_pages, devices = tally->devices;
		if (connect_again(a, &chan)) {
			gw__chan_close(&chan, NULL);
			return a->job->run.why.code;
		}
		gw__stream_tally_fini(tally);
		*tally = (struct gw__stream_tally){.missing_pages = missing};
		a->breaks++;
		r = gw__pull_again(&a->job->run, chan, &a->how, sink, tally);
		gw__chan_close(&chan, NULL);
		if (!tally->devices)
			tally->devices = (uint32_t)devices;
		again = tally->state == GW__PS_PAUSED && !is_ours(r);
		in_vain = tally->late_pages ? 0 : in_vain + 1;
	}
	return r;
}

/* --- what is left --- */

static int open_partial(gw_job *job, const char *path, struct gw__target *t, struct gw__partial **p, const struct gw__partial_saved **saved)
{
	bool fell_back;
	int r = gw__job_begin(job, 0);
	if (r)
		return r;
	r = gw__target_find(path, t, &job->run.why);
	return r ? r : gw__partial_open(t, p, saved, &fell_back, &job->run.why);
}

int gw_partial_note(gw_job *job, const char *path, void **note, size_t *note_bytes)
{
	struct gw__target *t = calloc(1, sizeof *t);
	struct gw__partial *p = NULL;
	const struct gw__partial_saved *saved = NULL;
	*note = NULL;
	*note_bytes = 0;
	if (!t)
		return -ENOMEM;
	t->dir_fd = -1;
	int r = open_partial(job, path, t, &p, &saved);
	if (!r) {
		*note = malloc(saved->note.n + 1);
		*note_bytes = *note ? saved->note.n : 0;
		if (*note && saved->note.n)
			memcpy(*note, saved->note.p, saved->note.n);
		if (!*note)
			r = gw__why_set(&job->run.why, -ENOMEM, "no memory for a note of %zu bytes", saved->note.n);
	}
	gw__partial_close(p);
	gw__target_fini(t);
	free(t);
	return r;
}

int gw_partial_drop(gw_job *job, const char *path)
{
	struct gw__image_writer *writer = NULL;
	const struct gw__partial_saved *saved;
	bool fell_back;
	int r = gw__job_begin(job, 0);
	if (!r)
		r = gw__image_resume(path, &writer, &saved, &fell_back, &job->run.why);
	if (!r)
		gw__image_forget_partial(writer);
	gw__image_writer_close(writer);
	return r;
}
