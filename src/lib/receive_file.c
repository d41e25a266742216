/* SPDX-License-Identifier: MIT */
/* gw_receive_file: the source writes the image itself, into a file of ours. Checked, made fit to be mapped, synced and named here. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/file/atomic_file.h"
#include "image/read/image.h"
#include "io/wait.h"
#include "lib/outcome.h"
#include "lib/receive.h"

enum { IDLE_MS = 30000, POLL_MAX_NS = 10000000, POLL_MIN_NS = 1000000, POLLS_PER_TIME = 64 };

struct receive_file {
	gw_job *job;
	struct gw_receive_file_opts o;
	struct gw__atomic_file file;
	int fd, direct_fd; /* the source's; -1: none */
	struct gw__image *image;
	struct gw__receive_outcome out;
};

/* --- while the source writes --- */

static int open_descriptors(struct receive_file *f)
{
	struct gw__error *error = &f->job->run.error;
	int r = gw__atomic_file_open_writer(&f->file, false, &f->fd, error);
	return r || !f->o.direct_io ? r : gw__atomic_file_open_writer(&f->file, true, &f->direct_fd, error);
}

static void close_descriptors(struct receive_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	if (f->direct_fd >= 0)
		close(f->direct_fd);
	f->fd = f->direct_fd = -1;
}

static int start(struct receive_file *f)
{
	int r = gw__callback_result(f->o.on_file(f->o.ctx, f->fd, f->direct_fd));
	close_descriptors(f);
	f->out.begun = true;
	return r ? gw__error_set(&f->job->run.error, r, "the source could not be started") : 0;
}

static void note_progress(gw_job *job, const struct gw_progress *p)
{
	struct gw__counters *c = &job->run.counters;
	atomic_store(&c->total_bytes, p->ram_bytes);
	atomic_store(&c->moved_bytes, p->moved_bytes);
	atomic_store(&c->pages, p->pages);
	atomic_store(&c->zero_pages, p->zero_pages);
	atomic_store(&c->rounds, p->rounds);
	if (atomic_load(&c->phase) != (uint32_t)p->phase && p->phase < GW_PHASE_SYNC)
		gw__run_phase(&job->run, (enum gw__phase)p->phase);
	gw__run_tick(&job->run);
}

static bool has_moved(const struct gw_progress *a, const struct gw_progress *b)
{
	return a->phase != b->phase || a->moved_bytes != b->moved_bytes || a->pages != b->pages || a->zero_pages != b->zero_pages ||
	       a->rounds != b->rounds;
}

/* A short save is looked at often, a long one not so: its end is noticed within a small part of the time it took. */
static uint64_t pause_ns(uint64_t since_ns)
{
	uint64_t ns = since_ns / POLLS_PER_TIME;
	return ns < POLL_MIN_NS ? POLL_MIN_NS : ns > POLL_MAX_NS ? POLL_MAX_NS : ns;
}

static int await_written(struct receive_file *f)
{
	struct gw__error *error = &f->job->run.error;
	struct gw_progress last = GW_INIT(last), now = GW_INIT(now);
	int idle_ms = f->o.idle_timeout_ms ? f->o.idle_timeout_ms : IDLE_MS;
	uint64_t begin = gw__io_now_ns(), deadline = gw__io_deadline(idle_ms);
	for (;;) {
		int r = f->o.on_poll(f->o.ctx, &now);
		note_progress(f->job, &now);
		if (r != GW_WRITING)
			return r ? gw__error_set(error, gw__callback_result(r), "the source has not written its image") : 0;
		if (has_moved(&last, &now))
			deadline = gw__io_deadline(idle_ms);
		last = now;
		if (gw__io_is_over(deadline))
			return gw__error_set(error, -ETIMEDOUT, "the source has written nothing for %d ms", idle_ms);
		if (gw__io_pause(f->job->run.cancel_fd, gw__io_now_ns() + pause_ns(gw__io_now_ns() - begin)))
			return gw__error_set(error, -ECANCELED, "cancelled");
	}
}

/* --- after the stream --- */

static int open_image(struct receive_file *f)
{
	struct gw__error *error = &f->job->run.error;
	int fd = fcntl(f->file.fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return gw__error_errno(error, errno, "cannot read %s back", f->file.dest.path);
	int r = gw__image_open_fd(fd, f->file.dest.path, f->o.image_offset, &f->image, error);
	if (r)
		return gw__error_where(error, "what its source has written of %s is not whole", f->file.dest.path);
	if (f->image->end_off != f->image->file_bytes)
		return gw__error_set(error, -EPROTO, "the source has written %llu bytes after the end of the image",
			(unsigned long long)(f->image->file_bytes - f->image->end_off));
	return gw__job_check_devices(f->job, f->image);
}

static int ask_on_whole(struct receive_file *f)
{
	const struct gw__blocks *blocks = &f->image->blocks;
	char state[GW__IMAGE_RUN_STATE_BYTES];
	int r = f->o.on_whole ? gw__image_run_state(f->image, state, &f->job->run.error) : 0;
	struct gw_whole_block *block = calloc(blocks->n + 1, sizeof *block);
	if (r || !block || !f->o.on_whole) {
		free(block);
		return r || block ? r : gw__error_set(&f->job->run.error, -ENOMEM, "no memory");
	}
	for (uint32_t i = 0; i < blocks->n; i++)
		block[i] = (struct gw_whole_block){sizeof *block, blocks->v[i].name, blocks->v[i].used_bytes};
	const struct gw_whole whole = {.size = sizeof whole,
		.machine = f->image->config.machine,
		.run_state = gw_run_state_find(state),
		.run_state_name = *state ? state : NULL,
		.blocks = blocks->n,
		.block = block};
	r = gw__callback_result(f->o.on_whole(f->o.ctx, &whole));
	free(block);
	return r ? gw__error_set(&f->job->run.error, r, "the source was not taken for the one whose guest this is") : 0;
}

static void count(struct receive_file *f)
{
	struct gw__stream_stats *t = &f->out.stats;
	t->devices = f->image->devices_n;
	t->parts = f->image->parts;
	for (uint32_t i = 0; i < f->image->blocks.n; i++) {
		const struct gw__bitmap *present = &f->image->present[i];
		uint64_t pages = gw__bitmap_count(present);
		t->pages += pages;
		t->zero_pages += present->bits - pages;
	}
	/* The rest of the file is holes, or what QEMU puts between its blocks. */
	t->stream_bytes = t->pages * gw__config_page_bytes(&f->image->config) + f->image->end_off - f->image->base_off;
	for (uint32_t i = 0; i < f->image->blocks.n; i++)
		t->stream_bytes -= f->image->blocks.v[i].ignored ? 0 : f->image->blocks.v[i].used_bytes;
	atomic_store(&f->job->run.counters.total_bytes, f->image->blocks.total_bytes);
}

static int check_cancel(void *run) { return gw__run_check_cancel(run); }

static int commit(struct receive_file *f)
{
	struct gw__error *error = &f->job->run.error;
	gw__run_phase(&f->job->run, GW__PHASE_SYNC);
	int r = gw__image_clear_stale(f->image, f->file.fd, (struct gw__cancel_check){check_cancel, &f->job->run}, error);
	if (!r && gw__io_cancelled(f->job->run.cancel_fd))
		r = gw__error_set(error, -ECANCELED, "cancelled");
	if (!r)
		r = gw__atomic_file_commit(&f->file, false, error);
	f->out.image_committed = f->file.renamed;
	if (!r) {
		gw__location_note(&f->out.result.location, GW__LOCATION_EV_COMMITTED);
		f->out.result.state = GW__POSTCOPY_DST_COMPLETED;
		gw__run_phase(&f->job->run, GW__PHASE_DONE);
	}
	return r;
}

/* --- the call --- */

static int receive_file(struct receive_file *f, const char *path)
{
	struct gw__error *error = &f->job->run.error;
	int r = gw__receive_check_free(f->job, path);
	if (!r)
		r = gw__atomic_file_open(path, false, &f->file, error);
	if (!r)
		r = gw__atomic_file_keep_head(&f->file, f->o.image_offset, error);
	if (!r)
		r = open_descriptors(f);
	if (!r)
		r = start(f);
	if (!r)
		r = await_written(f);
	if (!r)
		r = open_image(f);
	if (!r)
		r = ask_on_whole(f);
	if (!r) {
		count(f);
		r = commit(f);
	}
	if (r && f->out.begun)
		gw__location_note(&f->out.result.location,
			f->out.image_committed ? GW__LOCATION_EV_COMMITTED_UNSAFE : GW__LOCATION_EV_BROKEN);
	gw__image_close(f->image);
	close_descriptors(f);
	gw__atomic_file_drop(&f->file);
	return r;
}

struct receive_file_args {
	const char *path;
	const struct gw_receive_file_opts *o;
	struct gw_receive_result *result;
};

static int begin(gw_job *job, const struct receive_file_args *a, struct gw_receive_file_opts *o)
{
	int r = gw__job_begin(job, 0), bad = GW__CHECK(a->o, &job->run.error);
	memset(o, 0, sizeof *o);
	if (!bad && a->o)
		memcpy(o, a->o, a->o->size < sizeof *o ? a->o->size : sizeof *o);
	r = r ? r : bad;
	if (!r)
		r = GW__CHECK(a->result, &job->run.error);
	if (!r)
		r = GW__NEED(job, a->path);
	if (!r)
		r = GW__NEED(job, o->on_file);
	if (!r)
		r = GW__NEED(job, o->on_poll);
	if (!r && gw__call_is_started(&job->call))
		r = gw__error_set(&job->run.error, -EINVAL, "a call that was started has no callbacks, and gw_receive_file needs them");
	return r;
}

static int call(gw_job *job, void *args)
{
	const struct receive_file_args *a = args;
	struct receive_file *f = calloc(1, sizeof *f);
	struct gw_receive_file_opts o;
	int r = begin(job, a, &o);
	if (!f)
		return r ? r : gw__error_set(&job->run.error, -ENOMEM, "no memory");
	*f = (struct receive_file){.job = job, .o = o, .file = {.fd = -1, .dest = {.dir_fd = -1}}, .fd = -1, .direct_fd = -1};
	f->out.result.location = gw__location_at(GW__PLACE_SOURCE_RUNS);
	if (!r)
		r = receive_file(f, a->path);
	gw__receive_fill_result(&f->out, r, job, a->result);
	free(f);
	return r;
}

int gw_receive_file(gw_job *job, const char *path, const struct gw_receive_file_opts *o, struct gw_receive_result *result)
{
	const struct receive_file_args a = {path, o, result};
	return gw__call(job, call, &a, sizeof a);
}
