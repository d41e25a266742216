/* SPDX-License-Identifier: MIT */
/* A source that waits in postcopy-paused; see receive.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/receive.h"

enum {
	VAIN_MAX = 5,          /* attempts of the source in a row that bring no page */
	FIRST_WORD_MS = 10000, /* of whoever has connected */
	TOLD_MAX = 8,          /* sentences about those who may be the source, and have not proved it: until it comes */
};

/* One wait, over all its connections. */
struct wait {
	struct gw__accept_opts how;
	unsigned in_vain;
	unsigned told;              /* sentences that nobody is known to be the source of, since it was here */
	char last[GW__ERROR_BYTES]; /* of those, without the address */
};

/* What no other connection makes good. */
static bool is_ours(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -EFBIG || r == -EIO || r == -EROFS || r == -ENOMEM || r == -ECANCELED;
}

/* The source came, or failed to: the wait for it begins anew. */
static void begin_anew(struct wait *w)
{
	w->how.begun_ns = 0;
	w->told = 0;
}

/* Whose address differs each time is not told each time. */
static bool is_news(struct wait *w, const char *text)
{
	const char *words = strstr(text, ": ");
	words = words ? words : text;
	if (w->told >= TOLD_MAX || !strcmp(w->last, words))
		return false;
	snprintf(w->last, sizeof w->last, "%s", words);
	w->told++;
	return true;
}

static int tell_paused(struct gw__receive_again *a)
{
	struct gw__error *error = &a->job->run.error;
	char story[GW__ERROR_BYTES];
	memcpy(story, error->text, sizeof story);
	gw__error_clear(error);
	gw__run_phase(&a->job->run, GW__PHASE_WAITING);
	int r = gw__callback_result(a->on_paused ? a->on_paused(a->ctx, a->listener ? gw__listener_uri(a->listener) : NULL, story) : 0);
	if (r)
		return gw__error_set(error, r, "%s", story[0] ? story : "the source was not made to come back");
	return 0;
}

/* Strangers can come as often as they like. Whoever calls the source has to hear of each attempt that may have been its own. */
static int tell_paused_again(struct gw__receive_again *a, struct wait *w)
{
	if (a->source_is_called || w->told <= TOLD_MAX)
		return tell_paused(a);
	gw__error_clear(&a->job->run.error);
	gw__run_phase(&a->job->run, GW__PHASE_WAITING);
	return 0;
}

/* The next connection of a source. GW__DROPPED: there was one, but the two cannot speak; the sentence says why. */
static int accept_next(struct gw__receive_again *a, struct wait *w, struct gw__incoming *in)
{
	int r = tell_paused_again(a, w);
	if (!w->how.begun_ns)
		w->how.begun_ns = gw__clock_now_ns(&a->job->run.clock);
	while (!r) {
		r = gw__accept(&a->job->run, a->listener, &w->how, in);
		if (!r)
			return gw__job_filter(a->job, a->link, &in->main);
		bool proved = in->handshake_done;
		if (r != GW__DROPPED || proved || a->source_is_called) {
			if (r == GW__DROPPED) {
				w->in_vain++;
				begin_anew(w);
			}
			return r;
		}
		r = is_news(w, a->job->run.error.text) ? tell_paused(a) : 0;
		gw__error_clear(&a->job->run.error);
	}
	return r;
}

/* What came over the connections before counts as well. */
static void add_counts(struct gw__stream_stats *t, const struct gw__stream_stats *earlier)
{
	t->stream_bytes += earlier->stream_bytes;
	t->pages += earlier->pages;
	t->zero_pages += earlier->zero_pages;
	t->xbzrle_pages += earlier->xbzrle_pages;
	t->parts += earlier->parts;
}

static int recover(struct gw__receive_again *a, struct gw__incoming *in, struct gw__sink *sink, struct gw__receive_outcome *out)
{
	gw__stream_stats_fini(&out->stats);
	const struct gw__stream_stats earlier = out->stats;
	const struct gw__incoming_result before = out->result;
	out->stats = (struct gw__stream_stats){0};
	out->result = (struct gw__incoming_result){.location = before.location, .missing_pages = before.missing_pages};
	a->breaks++;
	int r = gw__incoming_recover(&a->job->run, in, &a->how, sink, &out->stats, &out->result);
	add_counts(&out->stats, &earlier);
	out->result.can_switch = out->result.can_switch || before.can_switch;
	return r;
}

/* Whoever connects is the source, which we have called. */
static bool is_sole(const struct gw__receive_again *a) { return a->source_is_called && a->is_private; }

/* Only who has proved to be the source ends the wait for it: by its certificate, or because it knows the guest. */
static void count(const struct gw__receive_again *a, struct wait *w, const struct gw__incoming *in,
	const struct gw__incoming_result *result)
{
	if (!result->brought_pages && !is_sole(a) && !in->handshake_done && !result->resumed) {
		w->told++;
		return;
	}
	w->in_vain = result->brought_pages ? 0 : w->in_vain + 1;
	begin_anew(w);
}

static int receive_again(struct gw__receive_again *a, struct wait *w, int r, struct gw__sink *sink, struct gw__receive_outcome *out)
{
	bool again = true;
	while (again && w->in_vain < VAIN_MAX) {
		struct gw__incoming in = {0};
		r = accept_next(a, w, &in);
		if (!r) {
			r = recover(a, &in, sink, out);
			count(a, w, &in, &out->result);
		} else if (r == GW__DROPPED) {
			r = a->job->run.error.code;
		} else {
			again = false;
		}
		gw__chan_close(&in.main, NULL);
		again = again && out->result.state == GW__POSTCOPY_DST_PAUSED && !is_ours(r);
	}
	return r;
}

int gw__receive_again(struct gw__receive_again *a, int r, struct gw__sink *sink, struct gw__receive_outcome *out)
{
	struct wait w = {.how = GW__ACCEPT_DEFAULTS};
	if (out->result.state != GW__POSTCOPY_DST_PAUSED || is_ours(r))
		return r;
	w.how.idle_ms = gw__job_io_opts(a->job, a->link).idle_ms;
	w.how.hello_ms = FIRST_WORD_MS;
	w.how.tls = a->tls;
	w.how.comes_again = true;
	w.how.source_is_first = is_sole(a);
	w.how.pending = gw__pending_channels_new();
	if (!w.how.pending)
		return gw__error_set(&a->job->run.error, -ENOMEM, "no memory for connections");
	r = receive_again(a, &w, r, sink, out);
	gw__pending_channels_free(w.how.pending);
	return r;
}

int gw__receive_again_over(struct gw__receive_again *a, struct gw__chan **chan, struct gw__sink *sink, struct gw__receive_outcome *out)
{
	struct gw__incoming in = {.main = *chan};
	*chan = NULL;
	int r = tell_paused(a);
	if (!r)
		r = gw__job_filter(a->job, a->link, &in.main);
	if (!r)
		r = recover(a, &in, sink, out);
	gw__chan_close(&in.main, NULL);
	return r;
}
