/* SPDX-License-Identifier: MIT */
/* gw_convert: a kept guest into another form; the result appears only when it is whole. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "engine/outgoing/peer_sink.h"
#include "engine/sink/image_sink.h"
#include "engine/sink/raw_sink.h"
#include "image/file/atomic_file.h"
#include "lib/combine.h"

static int to_image(gw_job *job, struct gw__stored_guest *from, const char *to, const struct gw_convert_opts *o)
{
	struct gw__image_writer *writer = NULL;
	struct gw__sink *sink = NULL;
	struct gw__image_writer_opts wo = {.base_off = GW__OPT(o, to_offset)};
	int r = gw__image_create(to, &wo, &writer, &job->run.error);
	if (!r)
		r = gw__sink_image_new(&writer, &sink, &job->run.error);
	if (!r)
		r = gw__stored_guest_run(&job->run, from, sink, NULL);
	if (r < 0 && sink && gw__sink_is_committed(sink))
		r = GW_UNSYNCED;
	gw__image_writer_close(writer);
	gw__sink_free(&sink);
	return r;
}

/* A channel at the right place of the unnamed file; the file itself stays ours. */
static int open_chan(gw_job *job, struct gw__atomic_file *f, uint64_t offset, const char *to, struct gw__chan **chan)
{
	struct gw__io_opts io = gw__job_io_opts(job, NULL);
	int fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return gw__error_errno(&job->run.error, errno, "cannot write %s", to);
	if (lseek(fd, (off_t)offset, SEEK_SET) < 0) {
		int err = errno;
		close(fd);
		return gw__error_errno(&job->run.error, err, "cannot go to offset %llu of %s", (unsigned long long)offset, to);
	}
	return gw__chan_take_fd(fd, to, &io, chan, &job->run.error);
}

static int put_stream(gw_job *job, struct gw__stored_guest *from, struct gw__atomic_file *f, const char *to,
	const struct gw_convert_opts *o)
{
	struct gw__chan *chan = NULL;
	struct gw__sink *sink = NULL;
	uint64_t offset = GW__OPT(o, to_offset);
	int r = gw__atomic_file_keep_head(f, offset, &job->run.error);
	if (!r)
		r = open_chan(job, f, offset, to, &chan);
	if (!r)
		r = gw__peer_sink_new(&job->run, chan, &(struct gw__peer_sink_opts){0}, &sink, &job->run.error);
	if (!r)
		r = gw__stored_guest_run(&job->run, from, sink, NULL);
	gw__sink_free(&sink);
	gw__chan_close(&chan, NULL);
	return r;
}

static const char *largest_block(const struct gw__image *image)
{
	uint32_t best = 0;
	for (uint32_t i = 1; i < image->blocks.n; i++)
		if (image->blocks.v[i].used_bytes > image->blocks.v[best].used_bytes)
			best = i;
	return image->blocks.v[best].name;
}

static int put_raw(gw_job *job, struct gw__stored_guest *from, struct gw__atomic_file *f, const struct gw_convert_opts *o)
{
	struct gw__sink *sink = NULL;
	int r = gw__stored_guest_as_image(&job->run, from);
	const char *block = GW__OPT(o, block);
	if (!r)
		r = gw__sink_raw_new(f->fd, block ? block : largest_block(from->image), &sink, &job->run.error);
	if (!r)
		r = gw__stored_guest_run(&job->run, from, sink, NULL);
	gw__sink_free(&sink);
	return r;
}

static int to_file(gw_job *job, struct gw__stored_guest *from, const char *to, const struct gw_convert_opts *o)
{
	struct gw__atomic_file f = {.fd = -1};
	int r = gw__atomic_file_open(to, false, &f, &job->run.error);
	if (!r)
		r = o->to == GW_FORMAT_RAW ? put_raw(job, from, &f, o) : put_stream(job, from, &f, to, o);
	if (!r)
		r = gw__atomic_file_commit(&f, false, &job->run.error);
	if (r < 0 && f.renamed)
		r = GW_UNSYNCED;
	gw__atomic_file_drop(&f);
	return r;
}

static int check_combination(gw_job *job, const struct gw__stored_guest *from, const struct gw_convert_opts *o)
{
	enum gw_format format = GW__OPT(o, to);
	uint64_t wanted = GW__ABILITY_BIT(from->image ? GW__ABILITY_IMAGE : GW__ABILITY_STREAM);
	wanted |= format == GW_FORMAT_STREAM ? GW__ABILITY_BIT(GW__ABILITY_TO_STREAM) : 0;
	wanted |= format == GW_FORMAT_RAW ? GW__ABILITY_BIT(GW__ABILITY_TO_RAW) : 0;
	wanted |= GW__OPT(o, to_offset) ? GW__ABILITY_BIT(GW__ABILITY_OFFSET) : 0;
	return gw__job_allow(job, GW__OPERATION_CONVERT, wanted);
}

struct convert_args {
	const char *from, *to;
	const struct gw_convert_opts *o;
};

static int convert(gw_job *job, void *args)
{
	const struct convert_args *a = args;
	const struct gw_convert_opts *o = a->o;
	struct gw__stored_guest stored = {0};
	enum gw_format format = GW__OPT(o, to);
	int r = gw__job_begin(job, GW__OPT(o, memory_limit));
	if (!r)
		r = GW__CHECK(o, &job->run.error);
	if (!r)
		r = GW__NEED(job, a->from);
	if (!r)
		r = GW__NEED(job, a->to);
	if (!r)
		r = gw__stored_guest_open(&job->run, a->from, GW__OPT(o, from_offset), &stored);
	if (!r)
		r = check_combination(job, &stored, o);
	if (!r)
		r = format == GW_FORMAT_STREAM || format == GW_FORMAT_RAW ? to_file(job, &stored, a->to, o)
									  : to_image(job, &stored, a->to, o);
	gw__stored_guest_close(&stored);
	return r;
}

int gw_convert(gw_job *job, const char *from, const char *to, const struct gw_convert_opts *o)
{
	const struct convert_args a = {from, to, o};
	return gw__call(job, convert, &a, sizeof a);
}
