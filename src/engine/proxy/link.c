/* SPDX-License-Identifier: MIT */
/* A connection of the proxy and its pair: two directions, one name, and one end. See proxy_private.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/math.h"
#include "engine/proxy/proxy_private.h"
#include "wire/multifd.h"

enum { HELLO_ID_OFF = 24 };

/* --- the name --- */

static void set_name(struct gw__link *l, const char *name) { snprintf(l->name, sizeof l->name, "%s", name); }

static void name_multifd(struct gw__link *l, const uint8_t *first, size_t n)
{
	set_name(l, "multifd");
	if (n > HELLO_ID_OFF)
		snprintf(l->name, sizeof l->name, "multifd%u", first[HELLO_ID_OFF]);
}

static bool is_tls(const uint8_t *first, size_t n) { return first[0] == 0x16 && (n < 2 || first[1] == 0x03); }

static void name_by(struct gw__link *l, const uint8_t *first, size_t n)
{
	l->kind = gw__dissector_kind_of(first[0]);
	switch (l->kind) {
	case GW__DISSECTOR_MAIN:
		set_name(l, "main");
		break;
	case GW__DISSECTOR_RECOVERY:
		set_name(l, "recovery");
		break;
	case GW__DISSECTOR_PREEMPT:
		set_name(l, "preempt");
		break;
	case GW__DISSECTOR_MULTIFD:
		name_multifd(l, first, n);
		break;
	default:
		set_name(l, is_tls(first, n) ? "tls" : "unknown");
	}
}

static void tell_name(struct gw__link *l)
{
	if (!strcmp(l->name, "tls")) {
		gw__migration_view_note(&l->proxy->view, GW__OBSERVED_OPAQUE);
		gw__link_emit(l, GW__PROXY_NEITHER, 0, "UNINTERPRETED",
			"TLS: what the two say to each other is passed on and cannot be read");
	}
	if (!strcmp(l->name, "unknown"))
		gw__link_emit(l, GW__PROXY_NEITHER, 0, "UNINTERPRETED", "not a channel of a migration: passed on as it is");
}

static enum gw__first_word compare(const uint8_t *first, size_t n, const char *magic, size_t magic_n, size_t needed,
	enum gw__first_word found)
{
	if (memcmp(first, magic, gw__min(n, magic_n)))
		return GW__FIRST_WORD_STRANGE;
	return n < needed ? GW__FIRST_WORD_UNDECIDED : found;
}

enum gw__first_word gw__link_first_word(const uint8_t *first, size_t n)
{
	if (!n)
		return GW__FIRST_WORD_UNDECIDED;
	switch (gw__dissector_kind_of(first[0])) {
	case GW__DISSECTOR_MAIN:
		return compare(first, n, "QEVM", 4, 4, GW__FIRST_WORD_OPENS);
	case GW__DISSECTOR_RECOVERY:
		return compare(first, n, "\x08\0", 2, 2, GW__FIRST_WORD_OPENS);
	case GW__DISSECTOR_MULTIFD:
		return compare(first, n, "\x11\x22\x33\x44", 4, GW__LINK_FIRST_BYTES, GW__FIRST_WORD_JOINS);
	case GW__DISSECTOR_PREEMPT:
		return GW__FIRST_WORD_JOINS;
	default:
		return compare(first, n, "\x16\x03", 2, 2, GW__FIRST_WORD_OPENS);
	}
}

void gw__link_name(struct gw__link *l, const uint8_t *first, size_t n)
{
	pthread_mutex_lock(&l->lock);
	bool now = !l->named;
	if (now) {
		l->named = true;
		l->kind = GW__DISSECTOR_OPAQUE;
		if (n)
			name_by(l, first, n);
		else
			set_name(l, first ? "silent" : "unknown");
	}
	pthread_mutex_unlock(&l->lock);
	if (!now)
		return;
	if (l->kind == GW__DISSECTOR_RECOVERY)
		atomic_store(&l->may_postcopy, true);
	if (n || !first)
		atomic_store(&l->proxy->spoken, true);
	tell_name(l);
}

/* Device state of main channels is held in memory until it can be read: of a few only. */
static enum gw__dissector_kind admit(struct gw__link *l)
{
	if (l->kind != GW__DISSECTOR_MAIN && l->kind != GW__DISSECTOR_RECOVERY)
		return l->kind;
	if (atomic_fetch_add(&l->proxy->mains, 1) < GW__MAINS_MAX) {
		l->admitted = true;
		return l->kind;
	}
	atomic_fetch_sub(&l->proxy->mains, 1);
	atomic_store(&l->may_postcopy, true);
	gw__link_emit(l, GW__PROXY_FORWARD, 0, "UNINTERPRETED", "there are too many main channels at once");
	return GW__DISSECTOR_OPAQUE;
}

enum gw__dissector_kind gw__link_explain_as(struct gw__link *l, enum gw__proxy_direction d)
{
	if (d == GW__PROXY_FORWARD)
		return admit(l);
	if (l->kind == GW__DISSECTOR_MAIN || l->kind == GW__DISSECTOR_RECOVERY)
		return GW__DISSECTOR_RETURN_PATH;
	return l->kind == GW__DISSECTOR_OPAQUE ? GW__DISSECTOR_OPAQUE : GW__DISSECTOR_SILENT;
}

void gw__link_emit(struct gw__link *l, enum gw__proxy_direction d, uint64_t off, const char *name, const char *text)
{
	struct gw__proxy *p = l->proxy;
	struct gw__proxy_queued_message said = {.time_ns = gw__clock_now_ns(&p->run->clock) - p->start_ns,
		.connection = l->number,
		.channel = l->name,
		.direction = d,
		.off = off,
		.name = name,
		.text = text};
	pthread_mutex_lock(&l->lock); /* the name may be found just now */
	gw__event_queue_push(p->teller, &said);
	pthread_mutex_unlock(&l->lock);
}

/* --- its life --- */

void gw__link_break(struct gw__link *l)
{
	gw__sock_break(l->control_fd[0]);
	gw__sock_break(l->control_fd[1]);
}

void gw__link_cut(struct gw__link *l)
{
	atomic_store(&l->cut, true);
	gw__link_break(l);
}

bool gw__link_is_over(const struct gw__link *l)
{
	return atomic_load_explicit(&l->flow[0].done, memory_order_acquire) && atomic_load_explicit(&l->flow[1].done, memory_order_acquire);
}

bool gw__link_is_named(struct gw__link *l)
{
	pthread_mutex_lock(&l->lock);
	bool named = l->named;
	pthread_mutex_unlock(&l->lock);
	return named;
}

bool gw__link_is_main(struct gw__link *l)
{
	if (gw__link_is_over(l) || !gw__link_is_named(l))
		return false;
	return l->kind == GW__DISSECTOR_MAIN || l->kind == GW__DISSECTOR_RECOVERY || !strcmp(l->name, "tls");
}

static void sum_up(struct gw__link *l)
{
	struct gw__proxy *p = l->proxy;
	struct gw__proxy_channel_stats sum = {.connection = l->number, .channel = l->name, .cut = l->cut};
	for (unsigned i = 0; i < 2; i++) {
		sum.bytes[i] = l->flow[i].out_off;
		sum.stats[i] = l->flow[i].stats;
		p->bytes[i] += sum.bytes[i];
	}
	gw__event_queue_push_stats(p->teller, &sum);
}

void gw__link_drop(struct gw__link *l)
{
	for (unsigned i = 0; i < 2; i++) {
		gw__chan_close(&l->flow[i].from, NULL);
		gw__chan_close(&l->flow[i].to, NULL);
		if (l->control_fd[i] >= 0)
			close(l->control_fd[i]);
	}
	pthread_mutex_destroy(&l->lock);
	free(l);
}

void gw__link_free(struct gw__link *l)
{
	pthread_join(l->flow[0].thread, NULL);
	pthread_join(l->flow[1].thread, NULL);
	if (l->admitted)
		atomic_fetch_sub(&l->proxy->mains, 1);
	sum_up(l);
	gw__link_drop(l);
}

static int control_fd(int fd, int *to, struct gw__error *error)
{
	*to = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return *to < 0 ? gw__error_errno(error, errno, "no descriptor for a connection") : 0;
}

/* Each thread gets one end of each socket of its own. */
static int share_out(struct gw__link *l, struct gw__chan **source, struct gw__chan **destination, struct gw__error *error)
{
	int r = control_fd((*source)->fd, &l->control_fd[0], error);
	if (!r)
		r = control_fd((*destination)->fd, &l->control_fd[1], error);
	if (!r)
		r = gw__chan_dup(*source, &l->flow[1].to, error);
	if (!r)
		r = gw__chan_dup(*destination, &l->flow[1].from, error);
	if (r)
		return r;
	l->flow[0].from = *source;
	l->flow[0].to = *destination;
	*source = *destination = NULL;
	for (unsigned i = 0; i < 2; i++) {
		struct gw__flow *f = &l->flow[i];
		f->link = l;
		f->direction = i ? GW__PROXY_RETURN : GW__PROXY_FORWARD;
		f->cut_off = UINT64_MAX;
		f->cut_at = f->cut_after = -1;
		f->from->idle_ms = f->to->idle_ms = -1; /* a migration may be silent as long as it likes */
	}
	return 0;
}

int gw__link_new(struct gw__proxy *p, struct gw__chan **source, struct gw__chan **destination, struct gw__link **l)
{
	struct gw__error *error = &p->run->error;
	struct gw__link *made = calloc(1, sizeof *made);
	int r = made ? 0 : gw__error_set(error, -ENOMEM, "no memory for a connection");
	if (!r) {
		made->proxy = p;
		made->number = ++p->connections;
		made->control_fd[0] = made->control_fd[1] = -1;
		pthread_mutex_init(&made->lock, NULL);
		r = share_out(made, source, destination, error);
	}
	gw__chan_close(source, NULL);
	gw__chan_close(destination, NULL);
	if (!r)
		*l = made;
	else if (made)
		gw__link_drop(made);
	return r;
}

int gw__link_start(struct gw__link *l)
{
	struct gw__error *error = &l->proxy->run->error;
	int err = pthread_create(&l->flow[0].thread, NULL, gw__flow_thread, &l->flow[0]);
	if (err)
		return gw__error_errno(error, err, "cannot start a thread");
	err = pthread_create(&l->flow[1].thread, NULL, gw__flow_thread, &l->flow[1]);
	l->started = !err;
	if (!err)
		return 0;
	gw__link_break(l);
	pthread_join(l->flow[0].thread, NULL);
	return gw__error_errno(error, err, "cannot start a thread");
}
