/* SPDX-License-Identifier: MIT */
/* A source that waits in postcopy-paused, and what another process left of its guest; see receive.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/receive.h"

enum {
	VAIN_MAX = 5,          /* connections in a row that bring no page */
	FIRST_WORD_MS = 10000, /* of a source that has connected */
	TLS_HANDSHAKE = 0x16,  /* its first byte; of a recovery without TLS it is that of a command */
};

/* What no other connection makes good. */
static bool is_ours(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -EFBIG || r == -EIO || r == -EROFS || r == -ENOMEM || r == -ECANCELED;
}

/*
 * The source, or why it cannot be spoken with. GW__SHORT: one that ends without a word, like a preempt channel of a life that is over, or who
 * only looks at a port.
 */
static int greet(struct gw__receive_again *a, struct gw__chan **chan)
{
	struct gw__error *error = &a->job->run.error;
	unsigned char first = 0;
	int r = gw__chan_wait_readable(*chan, FIRST_WORD_MS, error);
	if (r < 0)
		return r;
	if (!r || recv((*chan)->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) != 1)
		return GW__SHORT;
	if (!a->tls && first == TLS_HANDSHAKE)
		return gw__error_set(error, -EPROTO,
			"%s: the source speaks TLS and we do not; give --tls-creds here, or switch TLS off there (tls-creds)",
			(*chan)->name);
	return a->tls ? gw__chan_start_tls(chan, a->tls, NULL, false, error) : 0;
}

/* The next connection of a source. GW__SHORT: there was one, but the two cannot speak; the sentence says why. */
static int accept_next(struct gw__receive_again *a, struct gw__chan **chan)
{
	for (;;) {
		int r = gw__listener_accept(a->listener, chan, &a->job->run.error);
		if (r)
			return r;
		r = greet(a, chan);
		if (!r)
			return gw__job_filter(a->job, a->link, chan);
		gw__chan_close(chan, NULL);
		if (r != GW__SHORT)
			return is_ours(r) ? r : GW__SHORT;
	}
}

static int connect_again(struct gw__receive_again *a, struct gw__chan **chan)
{
	struct gw__error *error = &a->job->run.error;
	char story[GW__ERROR_BYTES];
	memcpy(story, error->text, sizeof story);
	gw__error_clear(error);
	gw__run_phase(&a->job->run, GW__PHASE_WAITING);
	int r = a->on_paused ? a->on_paused(a->ctx, gw__listener_uri(a->listener), story) : 0;
	if (r)
		return gw__error_set(error, r, "%s", story[0] ? story : "the source was not made to come back");
	return accept_next(a, chan);
}

/* A source that checks certificates does so behind the handshake, and says nothing. */
static void blame_certificate(struct gw__error *error)
{
	char story[GW__ERROR_BYTES];
	int code = error->code;
	memcpy(story, error->text, sizeof story);
	gw__error_clear(error);
	gw__error_set(error, code, "%s; the source may not have accepted our certificate: see its log", story);
}

/* What came over the connections before counts as well. */
static void add_counts(struct gw__stream_stats *t, const struct gw__stream_stats *earlier)
{
	t->stream_bytes += earlier->stream_bytes;
	t->pages += earlier->pages;
	t->zero_pages += earlier->zero_pages;
	t->xbzrle_pages += earlier->xbzrle_pages;
	t->parts += earlier->parts;
	t->advised = t->advised || earlier->advised;
}

static int recover(struct gw__receive_again *a, struct gw__chan *chan, struct gw__sink *sink, struct gw__stream_stats *stats)
{
	gw__stream_stats_fini(stats);
	const struct gw__stream_stats earlier = *stats;
	*stats = (struct gw__stream_stats){.missing_pages = earlier.missing_pages};
	a->breaks++;
	int r = gw__incoming_recover(&a->job->run, chan, &a->how, sink, stats);
	add_counts(stats, &earlier);
	if (r < 0 && a->tls && !chan->in_bytes && !is_ours(r))
		blame_certificate(&a->job->run.error);
	return r;
}

int gw__receive_again(struct gw__receive_again *a, int r, struct gw__sink *sink, struct gw__stream_stats *stats)
{
	unsigned in_vain = 0;
	bool again = stats->state == GW__POSTCOPY_DST_PAUSED && !is_ours(r);
	while (again && in_vain < VAIN_MAX) {
		struct gw__chan *chan = NULL;
		uint64_t late_pages = 0;
		r = connect_again(a, &chan);
		if (!r) {
			r = recover(a, chan, sink, stats);
			late_pages = stats->late_pages;
		} else if (r == GW__SHORT) {
			r = a->job->run.error.code;
		} else {
			again = false;
		}
		gw__chan_close(&chan, NULL);
		again = again && stats->state == GW__POSTCOPY_DST_PAUSED && !is_ours(r);
		in_vain = late_pages ? 0 : in_vain + 1;
	}
	return r;
}

/* --- what is left --- */

int gw__begun_open(gw_job *job, const char *path, struct gw__begun *b)
{
	int r = gw__job_begin(job, 0);
	if (r)
		return r;
	b->target = calloc(1, sizeof *b->target);
	if (!b->target)
		return gw__error_set(&job->run.error, -ENOMEM, "no memory");
	r = gw__destination_path_find(path, b->target, &job->run.error);
	return r ? r : gw__recv_state_look(b->target, &b->partial, &b->saved, &job->run.error);
}

void gw__begun_close(struct gw__begun *b)
{
	gw__recv_state_close(b->partial);
	if (b->target)
		gw__destination_path_fini(b->target);
	free(b->target);
}

int gw_partial_user_data(gw_job *job, const char *path, void **note, size_t *note_bytes)
{
	struct gw__begun begun = {0};
	*note = NULL;
	*note_bytes = 0;
	int r = gw__begun_open(job, path, &begun);
	if (!r) {
		const struct gw__view *words = &begun.saved->note;
		*note = malloc(words->n + 1);
		*note_bytes = *note ? words->n : 0;
		if (*note && words->n)
			memcpy(*note, words->p, words->n);
		if (!*note)
			r = gw__error_set(&job->run.error, -ENOMEM, "no memory for a note of %zu bytes", words->n);
	}
	gw__begun_close(&begun);
	return r;
}

int gw_partial_drop(gw_job *job, const char *path)
{
	struct gw__begun begun = {0};
	int r = gw__begun_open(job, path, &begun);
	if (!r)
		r = gw__recv_state_drop(begun.partial, &job->run.error);
	gw__begun_close(&begun);
	return r;
}
