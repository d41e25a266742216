/* SPDX-License-Identifier: MIT */
/* gw_drain, gw_source_rollback and gw_partial_source_rollback: standing in for the destination of a source that waits in postcopy-paused. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sink/image_sink.h"
#include "engine/sink/rollback.h"
#include "base/math.h"
#include "image/write/writer.h"
#include "lib/outcome.h"
#include "lib/receive.h"
#include "lib/started.h"

enum { RAM_SECTION_ID = 1 /* until the source says what it is */ };

/* --- what the monitor said of the source --- */

static int take_blocks(gw_job *job, const struct gw_drain_opts *o, struct gw__blocks *blocks)
{
	struct gw__error *error = &job->run.error;
	for (uint32_t i = 0; i < GW__OPT(o, blocks); i++) {
		const struct gw_drain_block *given = GW_AT(o->block, i);
		const char *name = GW__OPT(given, name);
		uint64_t backing_bytes = GW__OPT(given, page_bytes);
		struct gw__block b = {.used_bytes = GW__OPT(given, used_bytes),
			.page_bytes = backing_bytes > o->page_bytes ? backing_bytes : 0};
		if (!name || !gw__name_ok(name, strlen(name)) || !b.used_bytes || b.used_bytes > INT64_MAX / 4 ||
			b.used_bytes % gw__max(o->page_bytes, b.page_bytes) || (b.page_bytes && !gw__is_power_of_2(b.page_bytes)))
			return gw__error_set(error, -EINVAL, "a RAM block of %llu bytes in pages of %llu is not possible",
				(unsigned long long)b.used_bytes, (unsigned long long)backing_bytes);
		memcpy(b.name, name, strlen(name) + 1);
		int r = gw__blocks_add(blocks, &b);
		if (r)
			return gw__error_set(error, r == -EEXIST ? -EINVAL : r, "the RAM block \"%s\" cannot be taken", b.name);
	}
	return blocks->n ? 0 : gw__error_set(error, -EINVAL, "a guest without RAM blocks");
}

static int take_config(gw_job *job, const struct gw_drain_opts *o, struct gw__config *config)
{
	const char *machine = GW__OPT(o, machine);
	uint64_t page_bytes = GW__OPT(o, page_bytes);
	*config = (struct gw__config){.page_bits = GW__PAGE_BITS_LEGACY};
	if (!machine || !gw__name_ok(machine, strlen(machine)))
		return gw__error_set(&job->run.error, -EINVAL, "a guest without a machine type");
	if (!gw__is_power_of_2(page_bytes) || page_bytes < 1 << GW__PAGE_BITS_MIN || page_bytes > 1 << GW__PAGE_BITS_MAX)
		return gw__error_set(&job->run.error, -EINVAL, "pages of %llu bytes", (unsigned long long)page_bytes);
	memcpy(config->machine, machine, strlen(machine) + 1);
	config->page_bits = (uint32_t)__builtin_ctzll(page_bytes);
	config->has_page_bits = config->page_bits != GW__PAGE_BITS_LEGACY;
	gw__config_add_cap(config, GW__CAP_MEMORY_ONLY);
	return 0;
}

/* --- where it goes --- */

/* What is asked for of a guest is all that it has: with other blocks it would be called whole too early. */
static bool same_blocks(const struct gw__sink_recovery_info *recovery_info, const struct gw__blocks *blocks, uint64_t page_bytes)
{
	bool same = recovery_info->page_bytes == page_bytes && recovery_info->blocks->n == blocks->n;
	for (uint32_t i = 0; same && i < blocks->n; i++) {
		int64_t k = gw__blocks_find(recovery_info->blocks, blocks->v[i].name);
		same = k >= 0 && recovery_info->blocks->v[k].used_bytes == blocks->v[i].used_bytes &&
		       recovery_info->blocks->v[k].page_bytes == blocks->v[i].page_bytes;
	}
	return same;
}

/* What was begun before is gone on with: it may have come further than this source still could. */
static int open_begun(gw_job *job, const char *path, const struct gw_drain_opts *o, const struct gw__blocks *blocks, struct gw__sink **sink,
	struct gw__receive_outcome *out)
{
	struct gw__view user_data;
	int r = gw__sink_image_resume(path, sink, &user_data, &out->host_crashed, &job->run.error);
	if (r)
		return r;
	const struct gw__sink_recovery_info recovery_info = gw__sink_recovery_info(*sink);
	if (recovery_info.package.n)
		r = gw__error_set(&job->run.error, -EALREADY,
			"%s.partial is a guest that is being received whole, by godwit receive or save; go on with that", path);
	else if (!same_blocks(&recovery_info, blocks, o->page_bytes))
		r = gw__error_set(&job->run.error, -EALREADY, "%s.partial is of a guest with other memory than this source has", path);
	if (r)
		gw__sink_free(sink);
	return r;
}

static int open_new(gw_job *job, const char *path, const struct gw_drain_opts *o, const struct gw__blocks *blocks, struct gw__sink **sink)
{
	struct gw__image_writer *writer = NULL;
	struct gw__config config;
	struct gw__error *error = &job->run.error;
	int r = take_config(job, o, &config);
	if (!r)
		r = gw__image_create(path, &(struct gw__image_writer_opts){.visible = false}, &writer, error);
	if (!r)
		r = gw__sink_image_new(&writer, sink, error);
	if (!r)
		gw__sink_image_set_user_data(*sink, (struct gw__view){GW__OPT(o, note), GW__OPT(o, note_bytes)});
	if (!r)
		r = gw__sink_config(*sink, &config, error);
	if (!r)
		r = gw__sink_blocks(*sink, RAM_SECTION_ID, blocks, error);
	if (!r)
		r = gw__sink_begin_postcopy(*sink, error);
	uint8_t *no_package = NULL;
	if (!r)
		r = gw__sink_persist_handover(*sink, &no_package, 0, error);
	gw__image_writer_close(writer);
	return r;
}

static int open_sink(gw_job *job, const char *path, const struct gw_drain_opts *o, const struct gw__blocks *blocks, struct gw__sink **sink,
	struct gw__receive_outcome *out)
{
	int r = gw__receive_check_free(job, path);
	if (r != -EALREADY)
		return r ? r : open_new(job, path, o, blocks, sink);
	gw__error_clear(&job->run.error);
	return open_begun(job, path, o, blocks, sink, out);
}

/* --- the source --- */

static struct gw__receive_again again_of(gw_job *job, const struct gw_drain_opts *o, struct gw__incoming_recover how)
{
	return (struct gw__receive_again){.job = job,
		.link = GW__OPT(o, link),
		.how = how,
		.on_paused = GW__OPT(o, on_paused),
		.ctx = GW__OPT(o, ctx),
		.source_is_called = GW__OPT(o, on_paused),
		.is_private = GW__OPT(GW__OPT(o, link), peer_uid)};
}

/* One that has connected already. */
static int stand_in_over(gw_job *job, struct gw__chan **source, const struct gw_drain_opts *o, struct gw__incoming_recover how,
	struct gw__sink *sink, struct gw__receive_outcome *out)
{
	struct gw__receive_again again = again_of(job, o, how);
	out->listened = out->begun = true;
	out->result.state = GW__POSTCOPY_DST_PAUSED;
	int r = gw__receive_again_over(&again, source, sink, out);
	out->breaks = again.breaks;
	return r;
}

static int stand_in(gw_job *job, const char *uri_text, const struct gw_drain_opts *o, struct gw__incoming_recover how,
	struct gw__sink *sink, struct gw__receive_outcome *out)
{
	struct gw__receive_again again = again_of(job, o, how);
	struct gw__io_opts io = gw__job_io_opts(job, GW__OPT(o, link));
	struct gw__tls_creds *tls = NULL;
	struct gw__uri *uri = malloc(sizeof *uri);
	int r = uri ? gw__uri_parse(uri_text, uri, &job->run.error) : gw__error_set(&job->run.error, -ENOMEM, "no memory");
	if (!r && !gw__uri_listens(uri))
		r = gw__error_set(&job->run.error, -EINVAL, "%s: a source can come back only to an address: tcp, unix or vsock", uri->text);
	if (!r)
		r = gw__job_tls(job, GW__OPT(o, link), GW__TLS_SERVER, &tls);
	io.connect_ms = GW__OPT(GW__OPT(o, link), connect_timeout_ms) ? o->link->connect_timeout_ms : -1;
	if (!r)
		r = gw__io_listen(uri, &io, &again.listener, &job->run.error);
	out->listened = !r;
	if (!r && GW__OPT(o, on_listening))
		o->on_listening(GW__OPT(o, ctx), gw__listener_uri(again.listener));
	again.tls = tls;
	out->begun = true;
	out->result.state = GW__POSTCOPY_DST_PAUSED;
	if (!r)
		r = gw__receive_again(&again, r, sink, out);
	out->breaks = again.breaks;
	gw__listener_close(again.listener);
	gw__tls_creds_free(tls);
	free(uri);
	return r;
}

/* One call of any of them. */
struct drain_args {
	const char *uri, *path;
	bool has_fd; /* gw_drain_fd, instead of the URI */
	int fd;
	const void *o; /* of gw_partial_source_rollback a struct gw_receive_opts, else a struct gw_drain_opts */
	struct gw_receive_result *result;
};

static int begin(gw_job *job, const struct drain_args *a, struct gw_drain_opts *o)
{
	int r = gw__job_begin(job, 0);
	int bad = gw__take_drain_opts(job, a->o, o);
	r = r ? r : bad;
	if (!r)
		r = GW__CHECK(a->result, &job->run.error);
	if (!r && !a->has_fd)
		r = GW__NEED(job, a->uri);
	return r ? r : GW__NEED(job, a->path);
}

static int drain(gw_job *job, void *args)
{
	const struct drain_args *a = args;
	struct gw__receive_outcome out = {.postcopy = true, .result.location = gw__location_at(GW__PLACE_SPLIT)};
	struct gw__blocks blocks = {0};
	struct gw__tls_creds *tls = NULL;
	struct gw__chan *source = NULL;
	struct gw__sink *sink = NULL;
	struct gw_drain_opts o;
	int r = begin(job, a, &o);
	const struct gw__incoming_recover how = {.role = GW__POSTCOPY_DST_DRAIN, .early_shut = o.early_answer};
	int taken = !a->has_fd ? 0 : gw__job_take_fd(job, a->fd, "the source", r ? NULL : o.link, GW__TLS_SERVER, &tls, &source);
	r = r ? r : taken;
	if (!r)
		r = take_blocks(job, &o, &blocks);
	if (!r)
		r = open_sink(job, a->path, &o, &blocks, &sink, &out);
	if (!r)
		r = gw__receive_alone(job, sink, &out);
	if (r == GW__MISSING)
		r = source ? stand_in_over(job, &source, &o, how, sink, &out) : stand_in(job, a->uri, &o, how, sink, &out);
	out.told = !r && !out.was_complete;
	out.image_committed = sink && gw__sink_is_committed(sink);
	if (r < 0 && !out.begun) { /* whatever is wrong with the words of the monitor, its user did not say them */
		gw__location_note(&out.result.location, r == -EALREADY ? GW__LOCATION_EV_REFUSED : GW__LOCATION_EV_UNCHANGED);
		out.begun = true;
	}
	gw__receive_fill_result(&out, r, job, a->result);
	gw__stream_stats_fini(&out.stats);
	gw__sink_free(&sink);
	gw__blocks_fini(&blocks);
	gw__chan_close(&source, NULL);
	gw__tls_creds_free(tls);
	return r;
}

int gw_drain(gw_job *job, const char *uri, const char *path, const struct gw_drain_opts *o, struct gw_receive_result *result)
{
	const struct drain_args a = {uri, path, false, -1, o, result};
	return gw__call(job, drain, &a, sizeof a);
}

int gw_drain_fd(gw_job *job, int fd, const char *path, const struct gw_drain_opts *o, struct gw_receive_result *result)
{
	const struct drain_args a = {NULL, path, true, fd, o, result};
	return gw__call_with_fd(job, drain, &a, sizeof a, fd);
}

/* The source hears that we have it all, and then that we cannot use it. */
static int give_back(gw_job *job, const char *uri, const struct gw_drain_opts *o, const struct gw__rollback_opts *so,
	struct gw__incoming_recover how, bool *listened)
{
	struct gw__receive_outcome out = {.result.location = gw__location_at(GW__PLACE_KEPT_IN_PART)};
	struct gw__sink *sink = NULL;
	int r = gw__sink_rollback_new(so, &sink, &job->run.error);
	if (!r)
		r = stand_in(job, uri, o, how, sink, &out);
	*listened = out.listened;
	if (out.result.given_back) { /* which is what was wanted */
		gw__error_clear(&job->run.error);
		r = gw__sink_rollback_met_anomaly(sink)
			    ? gw__error_set(&job->run.error, -ESTALE,
				      "what connected sent other memory than came before: it is not the source, or one with release-ram")
			    : 0;
	}
	gw__stream_stats_fini(&out.stats);
	gw__sink_free(&sink);
	return r;
}

/* What is wrong with what is here of the guest, or was asked for, is found before anybody could come. */
static bool is_refused(int r, bool listened)
{
	return r == -ENOENT || r == -EINVAL || r == -EALREADY || r == -EBUSY ||
	       (!listened && (r == -EPROTO || r == -EPERM || r == -ENOMEM));
}

static void note_rollback(gw_job *job, enum gw__place place, int r, bool listened)
{
	struct gw__location l = gw__location_at(place);
	bool back = r == 0 || r == GW_CLEANUP_INCOMPLETE;
	gw__location_note(&l, back                      ? GW__LOCATION_EV_GIVEN_BACK
			      : is_refused(r, listened) ? GW__LOCATION_EV_REFUSED
							: GW__LOCATION_EV_NOT_GIVEN_BACK);
	if (r == GW_CLEANUP_INCOMPLETE)
		gw__location_note(&l, GW__LOCATION_EV_FILES_LEFT);
	gw__job_end_at(job, l)->peer_notified = back;
}

static int source_rollback(gw_job *job, void *args)
{
	const struct drain_args *a = args;
	struct gw__blocks blocks = {0};
	bool listened = false;
	struct gw_drain_opts o;
	int r = gw__job_begin(job, 0);
	int bad = gw__take_drain_opts(job, a->o, &o);
	r = r ? r : bad;
	if (!r)
		r = GW__NEED(job, a->uri);
	if (!r)
		r = take_blocks(job, &o, &blocks);
	if (!r)
		r = give_back(job, a->uri, &o,
			&(struct gw__rollback_opts){.blocks = &blocks, .page_bytes = o.page_bytes, .ram_section_id_unknown = true},
			(struct gw__incoming_recover){.role = GW__POSTCOPY_DST_KEEP, .may_skip_blocks = true}, &listened);
	note_rollback(job, GW__PLACE_SOURCE_PAUSED, r, listened);
	gw__blocks_fini(&blocks);
	return r;
}

int gw_source_rollback(gw_job *job, const char *uri, const struct gw_drain_opts *o)
{
	const struct drain_args a = {uri, NULL, false, -1, o, NULL};
	return gw__call(job, source_rollback, &a, sizeof a);
}

/* The source of a drain has given its guest to a destination, and one of an image that is whole may have. */
static int check_ours(gw_job *job, const char *path, const struct gw__begun *begun)
{
	if (gw__recv_state_finished_bytes(begun->partial))
		return gw__error_set(&job->run.error, -EALREADY,
			"%s is a whole guest that lacks its name at most; it is not given back, end it with --resume", path);
	if (begun->saved->package.n || gw__recv_state_is_layout_only(begun->partial))
		return 0;
	return gw__error_set(&job->run.error, -EALREADY,
		"%s.partial is memory that was drained; the guest is in the destination of that source", path);
}

static int partial_source_rollback(gw_job *job, void *args)
{
	const struct drain_args *a = args;
	struct gw_receive_opts o;
	struct gw__begun begun = {0};
	struct gw__recv_state_samples samples = {0};
	bool listened = false;
	int r = gw__job_begin(job, 0);
	int bad = gw__take_receive_opts(job, a->o, &o);
	r = r ? r : bad;
	if (!r)
		r = GW__NEED(job, a->uri);
	if (!r)
		r = gw__begun_open(job, a->path, &begun);
	if (!r)
		r = check_ours(job, a->path, &begun);
	if (!r && !gw__recv_state_is_layout_only(begun.partial))
		r = gw__recv_state_sample(begun.partial, &samples, &job->run.error);
	if (!r) {
		struct gw_drain_opts how = {.size = sizeof how,
			.link = o.link,
			.on_listening = o.on_listening,
			.on_paused = o.on_paused,
			.ctx = o.ctx};
		const struct gw__rollback_opts so = {.blocks = &begun.saved->blocks,
			.page_bytes = gw__config_page_bytes(&begun.saved->config),
			.ram_id = begun.saved->ram_id,
			.samples = &samples};
		r = give_back(job, a->uri, &how, &so, (struct gw__incoming_recover){.role = GW__POSTCOPY_DST_KEEP}, &listened);
	}
	gw__recv_state_samples_fini(&samples);
	if (!r && gw__recv_state_drop(begun.partial, &job->run.error))
		r = GW_CLEANUP_INCOMPLETE;
	note_rollback(job, GW__PLACE_KEPT_IN_PART, r, listened);
	gw__begun_close(&begun);
	return r;
}

int gw_partial_source_rollback(gw_job *job, const char *uri, const char *path, const struct gw_receive_opts *o)
{
	const struct drain_args a = {uri, path, false, -1, o, NULL};
	return gw__call(job, partial_source_rollback, &a, sizeof a);
}
