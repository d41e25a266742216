/* SPDX-License-Identifier: MIT */
/*
 * gw_standby: one listener, and a thread for each guest that is protected. The caller's thread accepts; what a guest's thread has is its own,
 * but for the caller's callbacks, which are called under one lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/colo/epoch_sink.h"
#include "engine/colo/secondary.h"
#include "io/wait.h"
#include "lib/outcome.h"
#include "lib/standby_control.h"
#include "lib/standby_recover.h"
#include "lib/standby_stats.h"
#include "lib/started.h"
#include "thread/thread.h"

enum { NAMES_MAX = 100000, MEMORY_LIMIT_BYTES = 1 << 30, CHECKPOINT_MS = 60000, AGAIN_MS = 100 };

struct standby {
	gw_job *job;
	const struct gw_standby_opts *o;
	const char *dir;
	pthread_mutex_t report_lock;
	struct guest *guests; /* the caller's thread's */
};

/* One guest; its thread's, but for `next`, which is the caller's, and what is under the lock. */
struct guest {
	struct standby *standby;
	struct guest *next;
	pthread_t thread;
	atomic_bool done;
	struct gw__run run;
	struct gw__incoming in;
	struct gw__epoch_sink *sink;
	struct gw__standby_control *control;
	int dir_fd;  /* its folder, locked */
	int stop_fd; /* eventfd: readable when it is to end between two epochs */
	char name[NAME_MAX + 1], image[PATH_MAX];
	uint32_t channels;
	bool has_removed_older;
	bool has_made_folder; /* under a name that it was given here */

	pthread_mutex_t lock; /* for its control socket */
	pthread_cond_t changed;
	const char *state; /* "connected", "protected", "ended", "failed" */
	enum gw_place place;
	uint64_t epoch;
	struct gw__standby_stats stats;
	bool failed_over; /* it was asked to */
};

/* The primary's, as long as it is heard; what is kept of it then says nothing of whether it still runs. */
static struct gw_outcome find_guest(enum gw_standby_event_kind kind)
{
	struct gw_outcome outcome = {.size = sizeof outcome};
	struct gw__location l = gw__location_at(GW__PLACE_SOURCE_RUNS);
	if (kind == GW_STANDBY_ENDED)
		gw__location_note(&l, GW__LOCATION_EV_EPOCH_KEPT);
	gw__outcome_set(&outcome, &l);
	outcome.committed = kind == GW_STANDBY_ENDED;
	return outcome;
}

static void report(struct guest *g, struct gw_standby_event *event)
{
	const struct gw_standby_opts *o = g->standby->o;
	if (!GW__OPT(o, on_event))
		return;
	event->size = sizeof *event;
	event->vm = g->name;
	event->image = g->image;
	event->ram_bytes = atomic_load(&g->run.counters.total_bytes);
	event->channels = g->channels;
	event->outcome = find_guest(event->kind);
	pthread_mutex_lock(&g->standby->report_lock);
	o->on_event(GW__OPT(o, ctx), event);
	pthread_mutex_unlock(&g->standby->report_lock);
}

/* From now on an older image of this name would be a guest of long ago. Once: what comes after it is this guest's. */
static void remove_older(struct guest *g)
{
	if (g->has_removed_older)
		return;
	g->has_removed_older = true;
	unlinkat(g->dir_fd, "guest.img", 0);
	unlinkat(g->dir_fd, "disks", 0); /* the list of an older protection's; this one's is written when it ends */
	gw__epoch_history_remove_all(g->image);
}

/*
 * An older lock is free once its own primary is dead, and would prove the death of this one too (qemu/owner_lock.h). So it goes before there can be an image of
 * this guest, whatever becomes of this process. The folder is synced before epoch 0 of a durable one can be found (engine/colo/durable.h).
 */
static int remove_older_lock(struct guest *g, struct gw__error *error)
{
	if (!unlinkat(g->dir_fd, "owner.lock", 0) || errno == ENOENT)
		return 0;
	return gw__error_errno(error, errno, "cannot remove the owner.lock of an older guest beside %s", g->image);
}

static void set_state(struct guest *g, enum gw_standby_event_kind kind, uint64_t epoch)
{
	static const char *const states[] = {[GW_STANDBY_CONNECTED] = "connected",
		[GW_STANDBY_PROTECTED] = "protected",
		[GW_STANDBY_EPOCH] = "protected",
		[GW_STANDBY_ENDED] = "ended",
		[GW_STANDBY_FAILED] = "failed"};
	pthread_mutex_lock(&g->lock);
	g->state = states[kind];
	g->place = find_guest(kind).place;
	g->epoch = epoch;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

static void on_epoch(void *ctx, const struct gw__colo_epoch *e)
{
	struct guest *g = ctx;
	if (!e->number)
		remove_older(g);
	enum gw_standby_event_kind kind = e->number ? GW_STANDBY_EPOCH : GW_STANDBY_PROTECTED;
	set_state(g, kind, e->number);
	pthread_mutex_lock(&g->lock);
	gw__standby_stats_note(&g->stats, e, gw__clock_now_ns(&g->run.clock));
	pthread_mutex_unlock(&g->lock);
	report(g, &(struct gw_standby_event){.kind = kind,
			  .epoch = e->number,
			  .pages = e->pages,
			  .zero_pages = e->zero_pages,
			  .device_bytes = e->device_bytes,
			  .pause_ns = e->pause_ns,
			  .merge_ns = e->merge_ns,
			  .memory_bytes = e->memory_bytes});
}

static int on_boundary(void *ctx, uint64_t number, struct gw__error *error)
{
	struct guest *g = ctx;
	const struct gw_standby_opts *o = g->standby->o;
	char why[400] = "";
	int r = GW__OPT(o, on_boundary) ? o->on_boundary(GW__OPT(o, ctx), number, why, sizeof why) : 0;
	if (r)
		return gw__error_set(error, r < 0 ? r : -EIO, "%s", why);
	return number ? 0 : remove_older_lock(g, error);
}

/* A guest whose link broke right after its epoch 0 has an image too, and on_epoch was not called. */
static void on_kept(void *ctx, uint64_t number, bool kept)
{
	struct guest *g = ctx;
	const struct gw_standby_opts *o = g->standby->o;
	if (kept)
		remove_older(g);
	if (GW__OPT(o, on_kept))
		o->on_kept(GW__OPT(o, ctx), number, kept);
}

static bool is_over(const struct guest *g) { return !strcmp(g->state, "ended") || !strcmp(g->state, "failed"); }

/* What is asked at its control socket, from that one's thread. */

static void say_state(struct guest *g, char *line, size_t n)
{
	bool there = !strcmp(g->state, "ended");
	snprintf(line, n, "%s epoch %llu place %s%s%s", g->state, (unsigned long long)g->epoch, gw_place_name(g->place),
		there ? " image " : "", there ? g->image : "");
}

static void tell_status(void *ctx, char *line, size_t n)
{
	struct guest *g = ctx;
	pthread_mutex_lock(&g->lock);
	say_state(g, line, n);
	pthread_mutex_unlock(&g->lock);
}

static void tell_stats(void *ctx, char *line, size_t n)
{
	struct guest *g = ctx;
	pthread_mutex_lock(&g->lock);
	snprintf(line, n, "%s epoch %llu place %s ram_bytes %llu channels %u durable %d", g->state, (unsigned long long)g->epoch,
		gw_place_name(g->place), (unsigned long long)atomic_load(&g->run.counters.total_bytes), (unsigned)g->channels,
		(int)GW__OPT(g->standby->o, durable));
	gw__standby_stats_print(&g->stats, gw__clock_now_ns(&g->run.clock), line, n);
	pthread_mutex_unlock(&g->lock);
}

static bool hear_guard(void *ctx, const char *words)
{
	struct guest *g = ctx;
	pthread_mutex_lock(&g->lock);
	bool understood = gw__standby_stats_hear_guard(&g->stats, words, gw__clock_now_ns(&g->run.clock));
	pthread_mutex_unlock(&g->lock);
	return understood;
}

/* Whatever the primary does: an epoch that is under way never becomes whole now. */
static void fail_over(void *ctx, char *line, size_t n)
{
	struct guest *g = ctx;
	pthread_mutex_lock(&g->lock);
	if (!is_over(g)) {
		g->failed_over = true;
		for (uint32_t i = 0; i < g->in.multifd_n; i++)
			gw__sock_break(g->in.multifd[i]->fd);
		gw__sock_break(g->in.main->fd);
	}
	while (!is_over(g))
		pthread_cond_wait(&g->changed, &g->lock);
	say_state(g, line, n);
	pthread_mutex_unlock(&g->lock);
}

/* One that was empty before, and still is: there was no epoch. Otherwise each stranger that connects would leave a vm-N. */
static void remove_empty_folder(const struct guest *g)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/%s", g->standby->dir, g->name);
	if (g->has_made_folder && n > 0 && (size_t)n < sizeof path)
		rmdir(path);
}

/* All but the struct, which the caller's thread frees. The folder is anybody's then. */
static void let_go(struct guest *g)
{
	gw__standby_control_stop(&g->control);
	gw__epoch_sink_free(&g->sink);
	gw__incoming_close(&g->in);
	remove_empty_folder(g);
	g->has_made_folder = false; /* from now on it may be another guest's */
	if (g->dir_fd >= 0)
		close(g->dir_fd);
	g->dir_fd = -1;
}

/* The event comes last: whoever hears it may connect another guest of this name immediately. */
static void end_guest(struct guest *g, int r, const struct gw__colo_secondary_result *result)
{
	bool kept = result->state == GW__COLO_SECONDARY_LOST && !result->image_failed;
	enum gw_standby_event_kind kind = kept ? GW_STANDBY_ENDED : GW_STANDBY_FAILED;
	set_state(g, kind, result->last.number);
	let_go(g);
	report(g, &(struct gw_standby_event){.kind = kind,
			  .epoch = result->last.number,
			  .message = !r                       ? "it was stopped here"
				     : g->failed_over && kept ? "it was failed over"
							      : g->run.error.text});
}

static void *protect(void *guest)
{
	struct guest *g = guest;
	const struct gw_standby_opts *o = g->standby->o;
	int timeout_ms = GW__OPT(o, checkpoint_timeout_ms);
	struct gw__colo_secondary_opts so = {.checkpoint_ms = timeout_ms ? timeout_ms : CHECKPOINT_MS,
		.stop_fd = g->stop_fd,
		.on_epoch = on_epoch,
		.on_boundary = on_boundary,
		.on_kept = on_kept,
		.ctx = g};
	struct gw__colo_secondary_result result;
	report(g, &(struct gw_standby_event){.kind = GW_STANDBY_CONNECTED});
	const struct gw__epoch_store store = gw__epoch_sink_store(g->sink);
	int r = gw__colo_secondary_run(&g->run, &g->in, &store, &so, &result);
	end_guest(g, r, &result);
	atomic_store(&g->done, true);
	return NULL;
}

static void free_guest(struct guest *g)
{
	let_go(g);
	if (g->stop_fd >= 0)
		close(g->stop_fd);
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* --- its folder --- */

static int lock_folder(struct guest *g, struct gw__error *error)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/%s", g->standby->dir, g->name);
	int m = snprintf(g->image, sizeof g->image, "%s/%s/guest.img", g->standby->dir, g->name);
	if (n < 0 || m < 0 || (size_t)m >= sizeof g->image)
		return gw__error_set(error, -ENAMETOOLONG, "%s/%s: the name is too long", g->standby->dir, g->name);
	g->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (g->dir_fd < 0)
		return gw__error_errno(error, errno, "cannot open the folder %s", path);
	if (flock(g->dir_fd, LOCK_EX | LOCK_NB))
		return gw__error_set(error, -EBUSY, "%s is in use: a guest of that name is protected already, or failed over", path);
	return 0;
}

/* 0, -EEXIST, or another failure; only the latter with a sentence. */
static int make_folder(struct guest *g, struct gw__error *error)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/%s", g->standby->dir, g->name);
	if (n < 0 || (size_t)n >= sizeof path)
		return gw__error_set(error, -ENAMETOOLONG, "%s/%s: the name is too long", g->standby->dir, g->name);
	if (mkdir(path, 0700) == 0)
		return 0;
	return errno == EEXIST ? -EEXIST : gw__error_errno(error, errno, "cannot make the folder %s", path);
}

static int find_folder(struct guest *g, struct gw__error *error)
{
	const char *name = GW__OPT(g->standby->o, name);
	int r = -EEXIST;
	if (name) {
		snprintf(g->name, sizeof g->name, "%s", name);
		r = make_folder(g, error);
	}
	for (unsigned i = 1; !name && r == -EEXIST && i <= NAMES_MAX; i++) {
		snprintf(g->name, sizeof g->name, "vm-%u", i);
		r = make_folder(g, error);
		g->has_made_folder = !r;
	}
	if (!name && r == -EEXIST)
		return gw__error_set(error, r, "%s has %d guests: remove folders that are not needed", g->standby->dir, NAMES_MAX);
	return r && r != -EEXIST ? r : lock_folder(g, error);
}

/* What an earlier standby left in it is the last epoch of this guest until there is another one. */
static int recover(struct guest *g)
{
	uint64_t ignored;
	int r = gw__standby_recover_image(g->dir_fd, g->image, &ignored, &g->run.error);
	if (r == -ENOENT)
		unlinkat(g->dir_fd, GW__STANDBY_DISKS, 0); /* a journal that comes is of another protection */
	return r == -ENOENT ? 0 : r;
}

/* --- accepting --- */

static struct guest *new_guest(struct standby *s, struct gw__incoming *in)
{
	struct guest *g = calloc(1, sizeof *g);
	if (!g)
		return NULL;
	g->standby = s;
	g->dir_fd = -1;
	g->stop_fd = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->changed, NULL);
	set_state(g, GW_STANDBY_CONNECTED, 0);
	gw__run_init(&g->run);
	g->run.trace = s->job->run.trace;
	g->run.page_bytes = s->job->run.page_bytes;
	g->run.cancel_fd = s->job->cancel_fd;
	g->in = *in;
	g->in.listener = NULL; /* which serves all guests */
	g->channels = in->multifd_n;
	*in = (struct gw__incoming){0};
	return g;
}

static int filter_all(struct standby *s, struct guest *g)
{
	const struct gw_link_opts *link = GW__OPT(s->o, link);
	int r = gw__job_filter(s->job, link, &g->in.main);
	for (uint32_t i = 0; !r && i < g->in.multifd_n; i++)
		r = gw__job_filter(s->job, link, &g->in.multifd[i]);
	return r;
}

/* A guest that cannot be protected is told so and loses its connection; the others go on. */
static int start_guest(struct standby *s, struct gw__incoming *in)
{
	static const struct gw__standby_control_ops control = {tell_status, tell_stats, hear_guard, fail_over};
	struct guest *g = new_guest(s, in);
	if (!g) {
		gw__incoming_close(in);
		return gw__error_set(&s->job->run.error, -ENOMEM, "no memory for a guest");
	}
	uint64_t limit = GW__OPT(s->o, memory_limit);
	struct gw__epoch_sink_opts so = {.limit_bytes = limit ? limit : MEMORY_LIMIT_BYTES,
		.durable = GW__OPT(s->o, durable) || GW__OPT(s->o, history),
		.history = GW__OPT(s->o, history)};
	int r = find_folder(g, &g->run.error);
	if (!r)
		r = recover(g);
	if (!r)
		r = gw__epoch_sink_new(g->image, &so, &g->sink, &g->run.error);
	if (!r)
		r = filter_all(s, g);
	if (!r && g->stop_fd < 0)
		r = gw__error_set(&g->run.error, -EMFILE, "no descriptor for %s", g->name);
	if (!r)
		r = gw__standby_control_start(g->dir_fd, &control, g, &g->control, &g->run.error);
	if (!r) {
		int err = gw__thread_start(&g->thread, protect, g);
		r = err ? gw__error_errno(&g->run.error, err, "cannot start a thread for %s", g->name) : 0;
	}
	if (r) {
		report(g, &(struct gw_standby_event){.kind = GW_STANDBY_FAILED, .message = g->run.error.text});
		free_guest(g);
		return 0;
	}
	g->next = s->guests;
	s->guests = g;
	return 0;
}

static void join_guests(struct standby *s, bool all)
{
	for (struct guest *g = s->guests; all && g; g = g->next)
		eventfd_write(g->stop_fd, 1);
	for (struct guest **at = &s->guests, *g; (g = *at);) {
		if (!all && !atomic_load(&g->done)) {
			at = &g->next;
			continue;
		}
		*at = g->next;
		pthread_join(g->thread, NULL);
		free_guest(g);
	}
}

/* What one source did wrong, and nothing of ours. */
static bool is_of_a_source(int r) { return r == -EPROTO || r == -ETIMEDOUT || r == -ECONNRESET || r == -EPIPE || r == -EOPNOTSUPP; }

/* Of connections that did not become a guest. */
static void report_nobody(struct standby *s)
{
	struct gw_standby_event event = {.size = sizeof event, .kind = GW_STANDBY_FAILED, .message = s->job->run.error.text};
	if (!GW__OPT(s->o, on_event))
		return;
	pthread_mutex_lock(&s->report_lock);
	s->o->on_event(GW__OPT(s->o, ctx), &event);
	pthread_mutex_unlock(&s->report_lock);
}

/* A shortage ends nothing: guests that are protected need no more than they have, and when one ends there is room again. */
static int accept_guests(struct standby *s, struct gw__listener *listener, const struct gw__accept_opts *go)
{
	struct gw__error *error = &s->job->run.error;
	for (bool is_short = false;;) {
		struct gw__incoming in = {0};
		int r = gw__accept(&s->job->run, listener, go, &in);
		join_guests(s, false);
		if (!r)
			r = start_guest(s, &in);
		else
			gw__incoming_close(&in);
		if (r && !is_of_a_source(r) && !gw__error_is_shortage(r))
			return r;
		if (r && !(is_short && gw__error_is_shortage(r))) /* once for as long as it lasts */
			report_nobody(s);
		is_short = gw__error_is_shortage(r);
		if (is_short)
			gw__io_pause(s->job->cancel_fd, gw__io_deadline(AGAIN_MS)); /* the next accept sees a cancel */
		gw__error_clear(error);
	}
}

static void report_recovered(void *ctx, const char *vm, const char *image, uint64_t epoch, const struct gw__error *error)
{
	const struct standby *s = ctx;
	struct gw_standby_event event = {.size = sizeof event,
		.kind = error ? GW_STANDBY_FAILED : GW_STANDBY_ENDED,
		.vm = vm,
		.image = image,
		.epoch = epoch,
		.message = error ? error->text : "its standby died"};
	event.outcome = find_guest(event.kind);
	if (GW__OPT(s->o, on_event))
		s->o->on_event(GW__OPT(s->o, ctx), &event);
}

static int listen_for_guests(struct standby *s, const struct gw__uri *uri, const struct gw__tls_creds *tls)
{
	const struct gw_link_opts *link = GW__OPT(s->o, link);
	struct gw__io_opts io = gw__job_io_opts(s->job, link);
	struct gw__accept_opts go = GW__ACCEPT_DEFAULTS;
	struct gw__listener *listener = NULL;
	go.channels = GW__OPT(s->o, channels);
	go.idle_ms = io.idle_ms;
	go.tls = tls;
	go.many_sources = true;

	io.connect_ms = -1;
	gw__standby_recover_all(s->dir, report_recovered, s);
	int r = gw__io_listen(uri, &io, &listener, &s->job->run.error);
	if (r)
		return r;
	if (GW__OPT(s->o, on_listening))
		s->o->on_listening(GW__OPT(s->o, ctx), gw__listener_uri(listener));
	r = accept_guests(s, listener, &go);
	gw__listener_close(listener);
	join_guests(s, true);
	return r;
}

static int check_name(gw_job *job, const char *name)
{
	bool good = !name || (*name && *name != '.' && strlen(name) <= NAME_MAX && !strchr(name, '/'));
	return good ? 0
		    : gw__error_set(&job->run.error, -EINVAL,
			      "\"%s\" cannot be the name of a guest: it names a folder, without / and not hidden", name);
}

static int check_folder(gw_job *job, const char *dir)
{
	struct stat st;
	if (stat(dir, &st))
		return gw__error_errno(&job->run.error, errno, "cannot keep guests in %s", dir);
	return S_ISDIR(st.st_mode) ? 0 : gw__error_set(&job->run.error, -ENOTDIR, "cannot keep guests in %s: it is no folder", dir);
}

struct standby_args {
	const char *uri, *dir;
	const struct gw_standby_opts *o;
};

static int stand_by(gw_job *job, void *args)
{
	const struct standby_args *a = args;
	struct gw_standby_opts o;
	struct standby s = {.job = job, .o = &o, .dir = a->dir};
	struct gw__tls_creds *tls = NULL;
	struct gw__uri *uri = malloc(sizeof *uri);
	int begun = gw__job_begin(job, 0);
	int bad = gw__take_standby_opts(job, a->o, &o);
	int r = begun ? begun : bad;
	if (!r)
		r = GW__NEED(job, a->uri);
	if (!r)
		r = GW__NEED(job, a->dir);
	if (!r)
		r = uri ? gw__uri_parse(a->uri, uri, &job->run.error) : gw__error_set(&job->run.error, -ENOMEM, "no memory");
	if (!r && !gw__uri_listens(uri))
		r = gw__error_set(&job->run.error, -EINVAL, "%s: a standby listens, at tcp:, unix: or vsock:", a->uri);
	if (!r)
		r = check_name(job, o.name);
	if (!r)
		r = check_folder(job, a->dir);
	if (!r)
		r = gw__job_tls(job, o.link, GW__TLS_SERVER, &tls);
	pthread_mutex_init(&s.report_lock, NULL);
	if (!r)
		r = listen_for_guests(&s, uri, tls);
	pthread_mutex_destroy(&s.report_lock);
	gw__tls_creds_free(tls);
	free(uri);
	if (r != -ECANCELED || begun)
		return r;
	gw__error_clear(&job->run.error);
	return 0;
}

int gw_standby(gw_job *job, const char *uri, const char *dir, const struct gw_standby_opts *o)
{
	const struct standby_args a = {uri, dir, o};
	return gw__call(job, stand_by, &a, sizeof a);
}
