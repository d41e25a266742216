/* SPDX-License-Identifier: MIT */
/* gw_proxy: look on between the two ends of a migration. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/proxy/proxy.h"
#include "lib/outcome.h"
#include "lib/started.h"

static_assert((int)GW_PROXY_NEITHER == (int)GW__PROXY_NEITHER && (int)GW_PROXY_FORWARD == (int)GW__PROXY_FORWARD &&
		      (int)GW_PROXY_RETURN == (int)GW__PROXY_RETURN && (int)GW_PROXY_CUT_AFTER == (int)GW__FAULT_CUT_AFTER &&
		      (int)GW_PROXY_CUT_AT == (int)GW__FAULT_CUT_AT && (int)GW_PROXY_RATE == (int)GW__FAULT_RATE,
	"directions and faults are the engine's");

static const char *or_null(const char *text) { return *text ? text : NULL; }

static void on_message(void *ctx, const struct gw__proxy_queued_message *said)
{
	const struct gw_proxy_opts *o = ctx;
	struct gw_proxy_field field[GW__MESSAGE_FIELDS_MAX];
	for (unsigned i = 0; i < said->fields_n; i++)
		field[i] = (struct gw_proxy_field){sizeof *field, said->field[i].name, said->field[i].text, said->field[i].number};
	const struct gw_proxy_message m = {.size = sizeof m,
		.time_ns = said->time_ns,
		.connection = said->connection,
		.channel = or_null(said->channel),
		.direction = (enum gw_proxy_direction)said->direction,
		.off = said->off,
		.bytes = said->bytes,
		.name = said->name,
		.text = said->text,
		.fields = said->fields_n,
		.field = field};
	o->on_message(o->ctx, &m);
}

static void on_sum(void *ctx, const struct gw__proxy_channel_stats *sum)
{
	const struct gw_proxy_opts *o = ctx;
	const struct gw__dissector_stats *forward = &sum->stats[0], *back = &sum->stats[1];
	const struct gw_proxy_channel c = {.size = sizeof c,
		.connection = sum->connection,
		.channel = or_null(sum->channel),
		.bytes = {sum->bytes[0], sum->bytes[1]},
		.messages = {forward->messages, back->messages},
		.pages = forward->pages,
		.zero_pages = forward->zero_pages,
		.xbzrle_pages = forward->xbzrle_pages,
		.packets = forward->packets,
		.cut = sum->cut};
	o->on_channel(o->ctx, &c);
}

static void on_listening(void *ctx, const char *uri)
{
	const struct gw_proxy_opts *o = ctx;
	o->on_listening(o->ctx, uri);
}

static struct gw__fault *copy_faults(const struct gw_proxy_opts *o)
{
	struct gw__fault *v = calloc(o->faults + 1, sizeof *v);
	for (uint32_t i = 0; v && i < o->faults; i++) {
		const struct gw_proxy_fault *f = GW_AT(o->fault, i);
		v[i] = (struct gw__fault){(enum gw__fault_kind)GW__OPT(f, kind), GW__OPT(f, channel),
			(enum gw__proxy_direction)GW__OPT(f, direction), GW__OPT(f, amount), GW__OPT(f, message)};
	}
	return v;
}

/* Of a migration that was only looked at. `r`: but for the end that was asked for, nothing was passed on. */
static struct gw__location find_guest(enum gw__guest_location where, int r)
{
	static const enum gw__location_event events[] = {
		[GW__WHERE_NO_MIGRATION] = GW__LOCATION_EV_UNCHANGED,
		[GW__WHERE_SOURCE] = GW__LOCATION_EV_BROKEN,
		[GW__WHERE_DESTINATION] = GW__LOCATION_EV_ARRIVED,
		[GW__WHERE_UNCONFIRMED] = GW__LOCATION_EV_SENT_UNANSWERED,
		[GW__WHERE_PAUSED] = GW__LOCATION_EV_SPLIT,
		[GW__WHERE_UNKNOWN] = GW__LOCATION_EV_SOURCE_UNCLEAR,
	};
	struct gw__location l = gw__location_at(GW__PLACE_SOURCE_RUNS);
	gw__location_note(&l, r && r != -ECANCELED ? gw__location_event_before(r) : events[where]);
	return l;
}

static void make_result(const struct gw__proxy_result *r, const struct gw_outcome *guest, struct gw_proxy_result *result)
{
	struct gw_proxy_result ours = {.connections = r->connections,
		.cuts = r->cuts,
		.bytes = {r->bytes[0], r->bytes[1]},
		.dropped_messages = r->dropped,
		.outcome = (enum gw_proxy_outcome)r->where,
		.strangers = r->strangers,
		.guest = *guest};
	gw__struct_out(result, result ? result->size : 0, &ours, sizeof ours);
}

static int run(gw_job *job, const struct gw__uri *listen_uri, const struct gw__uri *connect_uri, struct gw_proxy_opts *o,
	struct gw__proxy_result *result)
{
	struct gw__fault *faults = o->faults <= GW__FAULTS_MAX ? copy_faults(o) : NULL;
	struct gw__proxy_opts po = {.listen = listen_uri,
		.connect = connect_uri,
		.io = gw__job_io_opts(job, o->link),
		.listen_ms = GW__OPT(o->link, connect_timeout_ms) ? GW__OPT(o->link, connect_timeout_ms) : -1,
		.keep = o->keep,
		.every_page = o->every_page,
		.cut_all = o->cut_all,
		.tap_dir = o->tap_dir,
		.tail_max_bytes = job->run.tail_max_bytes,
		.fault = faults,
		.faults_n = o->faults,
		.on_listening = o->on_listening ? on_listening : NULL,
		.on_message = o->on_message ? on_message : NULL,
		.on_sum = o->on_channel ? on_sum : NULL,
		.ctx = o};
	if (!faults && o->faults <= GW__FAULTS_MAX)
		return gw__error_set(&job->run.error, -ENOMEM, "no memory for a list of faults");
	int r = gw__proxy(&job->run, &po, result);
	free(faults);
	return r;
}

struct proxy_args {
	const char *listen_uri, *connect_uri;
	const struct gw_proxy_opts *o;
	struct gw_proxy_result *result;
};

static int pass_on(gw_job *job, void *args)
{
	const struct proxy_args *a = args;
	struct gw__uri *uri = calloc(2, sizeof *uri);
	struct gw__proxy_result got = {.where = GW__WHERE_NO_MIGRATION};
	struct gw_proxy_opts o;
	int r = gw__job_begin(job, GW__OPT(a->o, memory_limit));
	int bad = gw__take_proxy_opts(job, a->o, &o);
	r = r ? r : bad;
	if (!r)
		r = GW__CHECK(a->result, &job->run.error);
	if (!r)
		r = GW__NEED(job, a->listen_uri);
	if (!r)
		r = GW__NEED(job, a->connect_uri);
	if (!r && !uri)
		r = gw__error_set(&job->run.error, -ENOMEM, "no memory");
	if (!r)
		r = gw__uri_parse(a->listen_uri, &uri[0], &job->run.error);
	if (!r)
		r = gw__uri_parse(a->connect_uri, &uri[1], &job->run.error);
	if (!r)
		r = run(job, &uri[0], &uri[1], &o, &got);
	make_result(&got, gw__job_end_at(job, find_guest(got.where, r)), a->result);
	free(uri);
	return r;
}

int gw_proxy(gw_job *job, const char *listen_uri, const char *connect_uri, const struct gw_proxy_opts *o, struct gw_proxy_result *result)
{
	const struct proxy_args a = {listen_uri, connect_uri, o, result};
	return gw__call(job, pass_on, &a, sizeof a);
}
