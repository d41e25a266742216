/* SPDX-License-Identifier: MIT */
/* gw_receive: peer to image. */
#include <errno.h>
#include <stdlib.h>

#include "engine/sink/image_sink.h"
#include "image/journal/recv_state.h"
#include "lib/outcome.h"
#include "lib/receive.h"
#include "lib/started.h"
#include "lib/states.h"

/* The engine has seen the rest. */
static void note_end(struct gw__receive_outcome *o, int r)
{
	struct gw__location *l = &o->result.location;
	if (r >= 0)
		return;
	if (!o->begun)
		gw__location_note(l, gw__location_event_before(r));
	else if (l->place == GW__PLACE_KEPT_IN_PART && !o->result.missing_pages)
		gw__location_note(l, o->image_committed ? GW__LOCATION_EV_COMMITTED_UNSAFE : GW__LOCATION_EV_NOTHING_MISSING);
}

void gw__receive_fill_result(struct gw__receive_outcome *o, int r, gw_job *job, struct gw_receive_result *to)
{
	note_end(o, r);
	struct gw_outcome *outcome = gw__job_end_at(job, o->result.location);
	outcome->missing_pages = o->result.missing_pages;
	outcome->peer_notified = o->told;
	outcome->committed = o->image_committed;
	const struct gw__stream_stats *t = &o->stats;
	const struct gw__incoming_result *result = &o->result;
	struct gw_receive_result ours = {
		.stream_bytes = t->stream_bytes + t->multifd.bytes,
		.ram_bytes = atomic_load(&job->run.counters.total_bytes),
		.pages = t->pages + t->multifd.pages,
		.zero_pages = t->zero_pages + t->multifd.zero_pages,
		.xbzrle_pages = t->xbzrle_pages,
		.devices = t->devices,
		.rounds = t->parts,
		.source_notified = o->told,
		.background = t->background,
		.trailing_bytes = t->trailing_bytes,
		.channels = t->multifd.channels,
		.multifd_bytes = t->multifd.bytes,
		.postcopy = o->postcopy,
		.recoverable = result->state == GW__POSTCOPY_DST_PAUSED || (o->postcopy && result->state == GW__POSTCOPY_DST_IN_DOUBT),
		.was_complete = o->was_complete,
		.host_crashed = o->host_crashed,
		.state = gw__migration_state_of_destination(result->state),
		.missing_pages = result->missing_pages,
		.breaks = o->breaks,
		.postcopy_possible = result->can_switch,
		.image_committed = o->image_committed,
		.outcome = *outcome,
	};
	gw__struct_out(to, to ? to->size : 0, &ours, sizeof ours);
}

/* `there`: what carries the stream, and whether that is asked for TLS, as abilities. */
static int check_combination(gw_job *job, uint64_t there, const struct gw_receive_opts *o)
{
	uint64_t wanted = there;
	wanted |= GW__OPT(o, channels) ? GW__ABILITY_BIT(GW__ABILITY_MULTIFD) : 0;
	wanted |= GW__OPT(o, direct_io) ? GW__ABILITY_BIT(GW__ABILITY_DIRECT_IO) : 0;
	wanted |= GW__OPT(o, image_offset) ? GW__ABILITY_BIT(GW__ABILITY_OFFSET) : 0;
	return gw__job_allow(job, GW__OPERATION_RECEIVE, wanted);
}

/*
 * The source of a drain has given its guest to a destination, and would run it beside that if it were spoken to as we do. What lacks nothing is
 * ended without a word to anybody.
 */
static int check_ours(gw_job *job, const char *path, const struct gw_receive_opts *o, struct gw__sink *held)
{
	if (gw__sink_is_committed(held))
		return 0;
	if (gw__sink_recovery_info(held).package.n || (GW__OPT(o, without_source) && !gw__sink_count_missing(held)))
		return 0;
	return gw__error_set(&job->run.error, -EALREADY, "%s.partial is memory that was drained; go on with godwit drain", path);
}

static int open_partial(gw_job *job, const char *path, const struct gw_receive_opts *o, struct gw__sink **sink,
	struct gw__receive_outcome *out)
{
	struct gw__view user_data;
	int r = gw__sink_image_resume(path, sink, &user_data, &out->host_crashed, &job->run.error);
	if (!r)
		r = check_ours(job, path, o, *sink);
	if (r)
		return r;
	out->begun = true;
	out->result.state = GW__POSTCOPY_DST_PAUSED;
	out->result.missing_pages = gw__sink_count_missing(*sink);
	out->postcopy = true;
	return 0;
}

int gw__receive_check_free(gw_job *job, const char *path)
{
	struct gw__destination_path *t = malloc(sizeof *t);
	if (!t)
		return gw__error_set(&job->run.error, -ENOMEM, "no memory");
	int r = gw__destination_path_find(path, t, &job->run.error);
	if (!r)
		r = gw__recv_state_check_free(t, &job->run.error);
	gw__destination_path_fini(t);
	free(t);
	return r;
}

/* The target is checked before the peer is waited for: nobody wants to learn after an hour that a folder is read-only. */
static int open_sink(gw_job *job, const char *path, const struct gw_receive_opts *o, struct gw__sink **sink,
	struct gw__receive_outcome *out)
{
	struct gw__image_writer *writer = NULL;
	struct gw__image_writer_opts wo = {.base_off = GW__OPT(o, image_offset), .direct = GW__OPT(o, direct_io)};
	if (GW__OPT(o, resume))
		return open_partial(job, path, o, sink, out);
	int r = gw__receive_check_free(job, path);
	if (!r)
		r = gw__image_create(path, &wo, &writer, &job->run.error);
	if (!r)
		r = gw__sink_image_new(&writer, sink, &job->run.error);
	if (!r)
		gw__sink_image_set_user_data(*sink, (struct gw__view){GW__OPT(o, note), GW__OPT(o, note_bytes)});
	gw__image_writer_close(writer);
	return r;
}

int gw__receive_filter(gw_job *job, struct gw__incoming *in, const struct gw_link_opts *link)
{
	int r = gw__job_filter(job, link, &in->main);
	for (uint32_t i = 0; !r && i < in->multifd_n; i++)
		r = gw__job_filter(job, link, &in->multifd[i]);
	return r;
}

static int on_whole(void *ctx, const char *machine, const char *run_state, const struct gw__blocks *blocks)
{
	const struct gw_receive_opts *o = ctx;
	struct gw_whole whole = {.size = sizeof whole,
		.machine = *machine ? machine : NULL,
		.run_state = gw_run_state_find(run_state),
		.run_state_name = *run_state ? run_state : NULL,
		.blocks = blocks ? blocks->n : 0};
	struct gw_whole_block *block = calloc(whole.blocks + 1, sizeof *block);
	if (!block)
		return -ENOMEM;
	for (uint32_t i = 0; i < whole.blocks; i++)
		block[i] = (struct gw_whole_block){sizeof *block, blocks->v[i].name, blocks->v[i].used_bytes};
	whole.block = block;
	int r = o->on_whole(o->ctx, &whole);
	free(block);
	return r == GW_SAY_FAILED ? r : gw__callback_result(r);
}

static int on_source_notified(void *ctx)
{
	const struct gw_receive_opts *o = ctx;
	return gw__callback_result(o->on_source_notified(o->ctx));
}

static struct gw__say say_of(const struct gw_receive_opts *o)
{
	return (struct gw__say){
		GW__OPT(o, on_whole) ? on_whole : NULL,
		GW__OPT(o, on_source_notified) ? on_source_notified : NULL,
		(void *)(uintptr_t)o,
	};
}

/* The first connection, and all that follow when it breaks after the switch. */
static int receive(gw_job *job, struct gw__receive_link *l, struct gw__sink *sink, const struct gw_receive_opts *o,
	struct gw__receive_outcome *out)
{
	struct gw__receive_again again = {.job = job,
		.listener = l->in.listener,
		.tls = l->tls,
		.link = GW__OPT(o, link),
		.on_paused = GW__OPT(o, on_paused),
		.ctx = GW__OPT(o, ctx),
		.source_is_called = GW__OPT(o, on_ready) && GW__OPT(o, on_paused),
		.is_private = GW__OPT(GW__OPT(o, link), peer_uid)};
	job->run.say = say_of(o);
	int r = GW__OPT(o, resume) ? 0 : gw__receive_filter(job, &l->in, GW__OPT(o, link));
	bool can_answer = GW__OPT(o, resume) || l->in.main->two_way;
	out->begun = out->begun || !r;
	if (!r && !GW__OPT(o, resume))
		r = gw__incoming_run(&job->run, &l->in, sink, &out->stats, &out->result);
	out->postcopy = out->postcopy || out->result.has_switched;
	if (!r && GW__OPT(o, resume) && !l->in.listener)
		r = gw__receive_again_over(&again, &l->in.main, sink, out);
	gw__chan_close(&l->in.main, NULL);
	if (l->in.listener && out->result.state == GW__POSTCOPY_DST_PAUSED)
		r = gw__receive_again(&again, r, sink, out);
	out->breaks = again.breaks;
	job->run.say = (struct gw__say){0};
	out->told = !r && out->result.can_be_told && can_answer;
	return r;
}

static int ready(gw_job *job, const struct gw_receive_opts *o)
{
	int r = gw__callback_result(GW__OPT(o, on_ready) ? o->on_ready(GW__OPT(o, ctx)) : 0);
	return r ? gw__error_set(&job->run.error, r, "the source could not be started") : 0;
}

void gw__receive_close_link(struct gw__receive_link *l)
{
	gw__incoming_close(&l->in);
	gw__tls_creds_free(l->tls);
}

static int wait_for_source(gw_job *job, const struct gw__uri *uri, const struct gw_receive_opts *o, struct gw__receive_link *l)
{
	const struct gw_link_opts *link = GW__OPT(o, link);
	struct gw__io_opts io = gw__job_io_opts(job, link);
	struct gw__accept_opts go = GW__ACCEPT_DEFAULTS;
	struct gw__listener *listener = NULL;
	int r = gw__job_tls(job, link, GW__TLS_SERVER, &l->tls);
	if (r)
		return r;
	go.channels = GW__OPT(o, channels);
	go.idle_ms = io.idle_ms;
	if (io.idle_ms >= 0) { /* who wants to hear of silence early, wants it here as well */
		go.hello_ms = io.idle_ms < go.hello_ms ? io.idle_ms : go.hello_ms;
		go.accept_ms = io.idle_ms < go.accept_ms ? io.idle_ms : go.accept_ms;
	}
	go.tls = l->tls;
	go.source_is_first = GW__OPT(o, on_ready);
	io.connect_ms = GW__OPT(link, connect_timeout_ms) ? GW__OPT(link, connect_timeout_ms) : -1;
	r = gw__io_listen(uri, &io, &listener, &job->run.error);
	if (r)
		return r;
	if (GW__OPT(o, on_listening))
		o->on_listening(GW__OPT(o, ctx), gw__listener_uri(listener));
	r = ready(job, o);
	if (!r && !GW__OPT(o, resume))
		r = gw__accept(&job->run, listener, &go, &l->in);
	l->in.listener = listener;
	return r;
}

/* What does not listen is one channel, without a peer to shake hands with. */
int gw__receive_open_source(gw_job *job, const struct gw__uri *uri, const struct gw_receive_opts *o, struct gw__receive_link *l)
{
	struct gw__io_opts io = gw__job_io_opts(job, GW__OPT(o, link));
	if (GW__OPT(o, channels) > GW__MULTIFD_CHANNELS_MAX)
		return gw__error_set(&job->run.error, -EINVAL, "%u multifd channels, at most %d are possible", GW__OPT(o, channels),
			GW__MULTIFD_CHANNELS_MAX);
	if (gw__uri_listens(uri))
		return wait_for_source(job, uri, o, l);
	if (GW__OPT(o, resume))
		return gw__error_set(&job->run.error, -EINVAL, "a source can come back only to an address: tcp, unix or vsock");
	int r = ready(job, o);
	return r ? r : gw__io_open_in(uri, &io, &l->in.main, &job->run.error);
}

static bool was_whole(struct gw__sink *sink, struct gw__receive_outcome *out)
{
	if (!gw__sink_is_committed(sink))
		return false;
	gw__sink_discard_checkpoint(sink);
	out->was_complete = true;
	gw__location_note(&out->result.location, GW__LOCATION_EV_COMMITTED);
	out->result.state = GW__POSTCOPY_DST_COMPLETED;
	return true;
}

int gw__receive_alone(gw_job *job, struct gw__sink *sink, struct gw__receive_outcome *out)
{
	if (was_whole(sink, out))
		return 0;
	int r = gw__incoming_finish_offline(&job->run, sink, &out->stats, &out->result);
	out->was_complete = !r;
	if (!r)
		gw__location_note(&out->result.location, GW__LOCATION_EV_COMMITTED);
	return r;
}

static int resume_alone(gw_job *job, struct gw__sink *sink, struct gw__receive_outcome *out)
{
	int r = gw__receive_alone(job, sink, out);
	if (r != GW__MISSING)
		return r;
	return gw__error_set(&job->run.error, -EAGAIN, "%llu pages are missing, which nobody but the source has",
		(unsigned long long)out->result.missing_pages);
}

static void finish(gw_job *job, int r, struct gw__receive_outcome *out, struct gw__sink **sink, struct gw__receive_link *l,
	struct gw_receive_result *result)
{
	out->image_committed = *sink && gw__sink_is_committed(*sink);
	gw__receive_fill_result(out, r, job, result);
	gw__stream_stats_fini(&out->stats);
	gw__sink_free(sink);
	gw__receive_close_link(l);
}

/* `uri` NULL: not known yet, or a descriptor. A file or a command keeps its guest. */
static struct gw__location begins_at(const struct gw__uri *uri, const struct gw_receive_opts *o)
{
	if (GW__OPT(o, resume))
		return gw__location_at(GW__PLACE_KEPT_IN_PART);
	bool stored = uri && (uri->kind == GW__URI_FILE || uri->kind == GW__URI_EXEC);
	return gw__location_at(stored ? GW__PLACE_KEPT_WHOLE : GW__PLACE_SOURCE_RUNS);
}

/* One call. */
struct receive_args {
	const char *uri, *path;
	int fd;
	const struct gw_receive_opts *o;
	struct gw_receive_result *result;
};

static int begin(gw_job *job, const struct receive_args *a, struct gw_receive_opts *o)
{
	int r = gw__job_begin(job, GW__OPT(a->o, memory_limit));
	int bad = gw__take_receive_opts(job, a->o, o);
	r = r ? r : bad;
	if (!r)
		r = GW__CHECK(a->result, &job->run.error);
	if (!r)
		r = GW__NEED(job, a->path);
	return r;
}

static int receive_at(gw_job *job, void *args)
{
	const struct receive_args *a = args;
	struct gw__receive_link l = {0};
	struct gw__receive_outcome out = {0};
	struct gw_receive_opts o;
	struct gw__sink *sink = NULL;
	struct gw__uri *uri = malloc(sizeof *uri);
	int r = begin(job, a, &o);
	out.result.location = begins_at(NULL, &o);
	if (!r)
		r = GW__NEED(job, a->uri);
	if (!r && o.without_source && !o.resume)
		r = gw__error_set(&job->run.error, -EINVAL, "without a source only what was begun can be ended");
	if (!r)
		r = uri ? gw__uri_parse(a->uri, uri, &job->run.error) : gw__error_set(&job->run.error, -ENOMEM, "no memory");
	if (!r)
		out.result.location = begins_at(uri, &o);
	if (!r)
		r = check_combination(job, gw__ability_of_uri(uri) | gw__ability_of_link(o.link), &o);
	if (!r)
		r = open_sink(job, a->path, &o, &sink, &out);
	if (!r && o.without_source) {
		r = resume_alone(job, sink, &out);
	} else if (!r && !(o.resume && was_whole(sink, &out))) {
		r = gw__receive_open_source(job, uri, &o, &l);
		if (!r)
			r = receive(job, &l, sink, &o, &out);
	}
	finish(job, r, &out, &sink, &l, a->result);
	free(uri);
	return r;
}

int gw_receive(gw_job *job, const char *uri, const char *path, const struct gw_receive_opts *o, struct gw_receive_result *result)
{
	const struct receive_args a = {uri, path, -1, o, result};
	return gw__call(job, receive_at, &a, sizeof a);
}

static int receive_from(gw_job *job, void *args)
{
	const struct receive_args *a = args;
	struct gw__receive_link l = {0};
	struct gw__receive_outcome out = {0};
	struct gw_receive_opts o;
	struct gw__sink *sink = NULL;
	int begun = begin(job, a, &o);
	out.result.location = begins_at(NULL, &o);
	int r = gw__job_take_fd(job, a->fd, "the source", begun ? NULL : o.link, GW__TLS_SERVER, &l.tls, &l.in.main);
	if (begun) /* which keeps its sentence */
		r = begun;
	if (!r && o.without_source)
		r = gw__error_set(&job->run.error, -EINVAL, "a descriptor is given, and no source is wanted");
	if (!r)
		r = check_combination(job, GW__ABILITY_BIT(GW__ABILITY_FD), &o);
	if (!r)
		r = open_sink(job, a->path, &o, &sink, &out);
	if (!r && !(o.resume && was_whole(sink, &out))) {
		r = ready(job, &o);
		if (!r)
			r = receive(job, &l, sink, &o, &out);
	}
	finish(job, r, &out, &sink, &l, a->result);
	return r;
}

int gw_receive_fd(gw_job *job, int fd, const char *path, const struct gw_receive_opts *o, struct gw_receive_result *result)
{
	const struct receive_args a = {NULL, path, fd, o, result};
	return gw__call_with_fd(job, receive_from, &a, sizeof a, fd);
}
