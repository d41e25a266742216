/* SPDX-License-Identifier: MIT */
/* gw_send: a kept guest to a waiting destination. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/outgoing/connect.h"
#include "engine/outgoing/multifd_send.h"
#include "engine/outgoing/peer_sink.h"
#include "lib/combine.h"
#include "lib/outcome.h"

enum { ANSWER_MS = 60000 };

/* All that stands between us and the destination. The credentials outlive the channels that use them. */
struct link {
	struct gw__tls_creds *tls;
	struct gw__outgoing out;
	struct gw__multifd_send *multifd_send; /* NULL without multifd */
};

static void close_link(struct link *l)
{
	gw__multifd_send_free(l->multifd_send);
	gw__outgoing_close(&l->out);
	gw__tls_creds_free(l->tls);
}

static int make_multifd_send(gw_job *job, const struct gw_send_opts *o, struct link *l)
{
	static const uint32_t methods[] =
		{[GW_COMPRESS_NONE] = 0, [GW_COMPRESS_ZLIB] = GW__MULTIFD_ZLIB, [GW_COMPRESS_ZSTD] = GW__MULTIFD_ZSTD};
	if (!l->out.multifd_n)
		return 0;
	struct gw__multifd_send_opts go = {
		.method = methods[GW__OPT(o, compression)],
		.level = GW__OPT(o, level) ? GW__OPT(o, level) : 1,
	};
	return gw__multifd_send_new(&job->run, &l->out, &go, &l->multifd_send);
}

static void send_ahead(struct gw__outgoing *out)
{
	gw__chan_set_deep_buffer(out->main, true);
	for (uint32_t i = 0; i < out->multifd_n; i++)
		gw__chan_set_deep_buffer(out->multifd[i], true);
}

static int filter_all(gw_job *job, struct gw__outgoing *out, const struct gw_link_opts *link)
{
	int r = gw__job_filter(job, link, &out->main);
	for (uint32_t i = 0; !r && i < out->multifd_n; i++)
		r = gw__job_filter(job, link, &out->multifd[i]);
	return r;
}

static int mark_mapped(gw_job *job, struct gw__stored_guest *stored, const char *name)
{
	const struct gw__blocks *blocks = &stored->image->blocks;
	for (uint32_t i = 0; name && i < blocks->n; i++)
		if (!strcmp(blocks->v[i].name, name)) {
			stored->left_out[i] = true;
			return 0;
		}
	return gw__error_set(&job->run.error, -EINVAL, "%s has no RAM block \"%s\" that its destination could have mapped", stored->name,
		name ? name : "");
}

/* The destination has them: it maps the image. */
static int leave_out_mapped(gw_job *job, struct gw__stored_guest *stored, const struct gw_send_opts *o)
{
	uint32_t n = GW__OPT(o, mapped_blocks);
	int r = 0;
	if (!n)
		return 0;
	if (!stored->image || GW__OPT(o, channels))
		return gw__error_set(&job->run.error, -EINVAL,
			"only an image that is sent over one channel can leave out what its destination maps");
	stored->left_out = calloc(stored->image->blocks.n, sizeof *stored->left_out);
	if (!stored->left_out)
		return gw__error_set(&job->run.error, -ENOMEM, "no memory for %u RAM blocks", stored->image->blocks.n);
	for (uint32_t i = 0; !r && i < n; i++)
		r = mark_mapped(job, stored, o->mapped_block ? o->mapped_block[i] : NULL);
	return r;
}

static int send_over(gw_job *job, struct gw__stored_guest *stored, struct link *l, const struct gw_send_opts *o)
{
	struct gw__sink *sink = NULL;
	int wait = GW__OPT(o, answer_timeout_ms);
	struct gw__peer_sink_opts so = {.ask_back = l->out.main->two_way, .answer_ms = wait ? wait : ANSWER_MS};
	send_ahead(&l->out);
	int r = filter_all(job, &l->out, GW__OPT(o, link));
	if (!r)
		r = make_multifd_send(job, o, l);
	so.multifd_send = l->multifd_send;
	if (!r)
		r = gw__peer_sink_new(&job->run, l->out.main, &so, &sink, &job->run.error);
	if (!r)
		r = gw__stored_guest_run(&job->run, stored, sink, NULL);
	if (r && so.ask_back)
		gw__outgoing_hint_settings(&job->run.error, l->out.multifd_n);
	gw__sink_free(&sink);
	for (uint32_t i = 0; !r && i < l->out.multifd_n; i++)
		gw__chan_end_writes(l->out.multifd[i],
			NULL); /* with TLS a goodbye, which QEMU expects there; the guest has arrived anyway */
	int closed = gw__chan_close(&l->out.main, &job->run.error);
	return r ? r : closed;
}

/* `there`: what carries the stream, and whether that is asked for TLS, as abilities. */
static int check_combination(gw_job *job, const struct gw__stored_guest *stored, uint64_t there, const struct gw_send_opts *o)
{
	static const uint64_t methods[] = {
		[GW_COMPRESS_NONE] = 0,
		[GW_COMPRESS_ZLIB] = GW__ABILITY_BIT(GW__ABILITY_ZLIB),
		[GW_COMPRESS_ZSTD] = GW__ABILITY_BIT(GW__ABILITY_ZSTD),
	};
	uint32_t channels = GW__OPT(o, channels);
	uint64_t wanted = there | methods[GW__OPT(o, compression)];
	wanted |= GW__ABILITY_BIT(stored->image ? GW__ABILITY_IMAGE : GW__ABILITY_STREAM);
	wanted |= channels ? GW__ABILITY_BIT(GW__ABILITY_MULTIFD) : 0;
	wanted |= GW__OPT(o, image_offset) ? GW__ABILITY_BIT(GW__ABILITY_OFFSET) : 0;
	if (channels > GW__MULTIFD_CHANNELS_MAX)
		return gw__error_set(&job->run.error, -EINVAL, "%u multifd channels, at most %d are possible", channels,
			GW__MULTIFD_CHANNELS_MAX);
	return gw__job_allow(job, GW__OPERATION_SEND, wanted);
}

static int connect_all(gw_job *job, const struct gw__uri *uri, const struct gw__stored_guest *stored, const struct gw_send_opts *o,
	struct link *l)
{
	struct gw__outgoing_opts d = {.io = gw__job_io_opts(job, GW__OPT(o, link)), .channels = GW__OPT(o, channels)};
	int r = gw__job_tls(job, GW__OPT(o, link), GW__TLS_CLIENT, &l->tls);
	d.tls = l->tls;
	if (GW__OPT(o, uuid))
		memcpy(d.uuid, o->uuid, sizeof d.uuid);
	else if (stored->image && stored->image->config.has_uuid)
		memcpy(d.uuid, stored->image->config.uuid, sizeof d.uuid);
	return r ? r : gw__outgoing_connect(&job->run, uri, &d, &l->out);
}

/* `two_way`: somebody could answer. */
static void note_end(gw_job *job, int r, bool connected, bool two_way)
{
	struct gw__location l = gw__location_at(GW__PLACE_KEPT_WHOLE);
	const struct gw__counters *c = &job->run.counters;
	bool sent = atomic_load(&c->phase) >= GW__PHASE_SYNC;
	enum gw__location_event event = GW__LOCATION_EV_BROKEN;
	if (!r)
		event = two_way ? GW__LOCATION_EV_ARRIVED : GW__LOCATION_EV_SENT_UNANSWERED;
	else if (!connected || (atomic_load(&c->phase) == GW__PHASE_WAITING && !atomic_load(&c->moved_bytes)))
		event = gw__location_event_before(r);
	else if (two_way && r == -EREMOTEIO)
		event = GW__LOCATION_EV_DESTINATION_FAILED;
	else if (two_way && sent)
		event = GW__LOCATION_EV_SENT;
	gw__location_note(&l, event);
	struct gw_outcome *outcome = gw__job_end_at(job, l);
	outcome->peer_notified = !r && two_way;
	outcome->committed = true;
}

struct send_args {
	const char *path, *uri;
	int fd;
	const struct gw_send_opts *o;
};

static int send_to(gw_job *job, void *args)
{
	const struct send_args *a = args;
	struct gw__stored_guest stored = {0};
	struct link l = {0};
	struct gw__uri *uri = malloc(sizeof *uri);
	int r = gw__job_begin(job, GW__OPT(a->o, memory_limit));
	if (!r)
		r = GW__CHECK(a->o, &job->run.error);
	if (!r)
		r = GW__NEED(job, a->path);
	if (!r)
		r = GW__NEED(job, a->uri);
	if (!r)
		r = uri ? gw__uri_parse(a->uri, uri, &job->run.error) : gw__error_set(&job->run.error, -ENOMEM, "no memory");
	if (!r) /* the image first: connecting to a QEMU and going away again would end its wait */
		r = gw__stored_guest_open(&job->run, a->path, GW__OPT(a->o, image_offset), &stored);
	if (!r)
		r = gw__job_check_devices(job, stored.image);
	if (!r)
		r = leave_out_mapped(job, &stored, a->o);
	if (!r)
		r = check_combination(job, &stored, gw__ability_of_uri(uri) | gw__ability_of_link(GW__OPT(a->o, link)), a->o);
	if (!r)
		r = connect_all(job, uri, &stored, a->o, &l);
	bool connected = !r, two_way = l.out.main && l.out.main->two_way;
	if (!r)
		r = send_over(job, &stored, &l, a->o);
	note_end(job, r, connected, two_way);
	close_link(&l);
	gw__stored_guest_close(&stored);
	free(uri);
	return r;
}

int gw_send(gw_job *job, const char *path, const char *uri, const struct gw_send_opts *o)
{
	const struct send_args a = {path, uri, -1, o};
	return gw__call(job, send_to, &a, sizeof a);
}

static int send_over_fd(gw_job *job, void *args)
{
	const struct send_args *a = args;
	struct gw__stored_guest stored = {0};
	struct link l = {0};
	int begun = gw__job_begin(job, GW__OPT(a->o, memory_limit));
	if (!begun)
		begun = GW__CHECK(a->o, &job->run.error);
	if (!begun)
		begun = GW__NEED(job, a->path);
	int r = gw__job_take_fd(job, a->fd, "the destination", begun ? NULL : GW__OPT(a->o, link), GW__TLS_CLIENT, &l.tls, &l.out.main);
	if (begun) /* which keeps its sentence */
		r = begun;
	if (!r)
		r = gw__stored_guest_open(&job->run, a->path, GW__OPT(a->o, image_offset), &stored);
	if (!r)
		r = gw__job_check_devices(job, stored.image);
	if (!r)
		r = leave_out_mapped(job, &stored, a->o);
	if (!r)
		r = check_combination(job, &stored, GW__ABILITY_BIT(GW__ABILITY_FD), a->o);
	bool connected = !r, two_way = l.out.main && l.out.main->two_way;
	if (!r)
		r = send_over(job, &stored, &l, a->o);
	note_end(job, r, connected, two_way);
	close_link(&l);
	gw__stored_guest_close(&stored);
	return r;
}

int gw_send_fd(gw_job *job, const char *path, int fd, const struct gw_send_opts *o)
{
	const struct send_args a = {path, NULL, fd, o};
	return gw__call_with_fd(job, send_over_fd, &a, sizeof a, fd);
}
