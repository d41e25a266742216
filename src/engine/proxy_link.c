/* SPDX-License-Identifier: MIT */
/* A connection of the proxy and its pair: two directions, one name, and one end. See proxy_internal.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/proxy_internal.h"
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
	l->kind = gw__explain_kind_of(first[0]);
	switch (l->kind) {
	case GW__EXPLAIN_MAIN:
		set_name(l, "main");
		break;
	case GW__EXPLAIN_RECOVERY:
		set_name(l, "recovery");
		break;
	case GW__EXPLAIN_PREEMPT:
		set_name(l, "preempt");
		break;
	case GW__EXPLAIN_MULTIFD:
		name_multifd(l, first, n);
		break;
	default:
		set_name(l, is_tls(first, n) ? "tls" : "unknown");
	}
}

static void tell_name(struct gw__link *l)
{
	if (!strcmp(l->name, "tls")) {
		gw__seen_note(&l->proxy->seen, GW__SIGHT_OPAQUE);
		gw__link_say(l, GW__PROXY_NEITHER, 0, "UNINTERPRETED",
			"TLS: what the two say to each other is passed on and cannot be read");
	}
	if (!strcmp(l->name, "unknown"))
		gw__link_say(l, GW__PROXY_NEITHER, 0, "UNINTERPRETED", "not a channel of a migration: passed on as it is");
}

void gw__link_name(struct gw__link *l, const uint8_t *first, size_t n)
{
	pthread_mutex_lock(&l->lock);
	bool now = !l->named;
	if (now) {
		l->named = true;
		l->kind = GW__EXPLAIN_OPAQUE;
		if (n)
			name_by(l, first, n);
		else
			set_name(l, first ? "silent" : "unknown");
	}
	pthread_mutex_unlock(&l->lock);
	if (!now)
		return;
	if (n || !first)
		atomic_store(&l->proxy->spoken, true);
	tell_name(l);
}

/* Device state of main channels is held in memory until it can be read: of a few only. */
static enum gw__explain_kind admit(struct gw__link *l)
{
	if (l->kind != GW__EXPLAIN_MAIN && l->kind != GW__EXPLAIN_RECOVERY)
		return l->kind;
	if (atomic_fetch_add(&l->proxy->mains, 1) < GW__MAINS_MAX) {
		l->admitted = true;
		return l->kind;
	}
	atomic_fetch_sub(&l->proxy->mains, 1);
	gw__link_say(l, GW__PROXY_FORWARD, 0, "UNINTERPRETED", "there are too many main channels at once");
	return GW__EXPLAIN_OPAQUE;
}

enum gw__explain_kind gw__link_explain_as(struct gw__link *l, enum gw__proxy_direction d)
{
	if (d == GW__PROXY_FORWARD)
		return admit(l);
	if (l->kind == GW__EXPLAIN_MAIN || l->kind == GW__EXPLAIN_RECOVERY)
		return GW__EXPLAIN_RETURN_PATH;
	return l->kind == GW__EXPLAIN_OPAQUE ? GW__EXPLAIN_OPAQUE : GW__EXPLAIN_SILENT;
}

void gw__link_say(struct gw__link *l, enum gw__proxy_direction d, uint64_t off, const char *name, const char *text)
{
	struct gw__proxy *p = l->proxy;
	struct gw__proxy_said said = {.time_ns = gw__clock_now_ns(&p->run->clock) - p->start_ns,
		.connection = l->number,
		.channel = l->name,
		.direction = d,
		.off = off,
		.name = name,
		.text = text};
	pthread_mutex_lock(&l->lock); /* the name may be found just now */
	gw__teller_say(p->teller, &said);
	pthread_mutex_unlock(&l->lock);
}

/* --- its life --- */

void gw__link_break(struct gw__link *l)
{
	gw__sock_break(l->grip[0]);
	gw__sock_break(l->grip[1]);
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

static void sum_up(struct gw__link *l)
{
	struct gw__proxy *p = l->proxy;
	struct gw__proxy_sum sum = {.connection = l->number, .channel = l->name, .cut = l->cut};
	for (unsigned i = 0; i < 2; i++) {
		sum.bytes[i] = l->flow[i].out_off;
		sum.tally[i] = l->flow[i].tally;
		p->bytes[i] += sum.bytes[i];
	}
	gw__teller_sum(p->teller, &sum);
}

void gw__link_drop(struct gw__link *l)
{
	for (unsigned i = 0; i < 2; i++) {
		gw__chan_close(&l->flow[i].from, NULL);
		gw__chan_close(&l->flow[i].to, NULL);
		if (l->grip[i] >= 0)
			close(l->grip[i]);
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

static int grip(int fd, int *to, struct gw__why *why)
{
	*to = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return *to < 0 ? gw__why_errno(why, errno, "no descriptor for a connection") : 0;
}

/* Each thread gets one end of each socket of its own. */
static int share_out(struct gw__link *l, struct gw__chan **source, struct gw__chan **destination, struct gw__why *why)
{
	int r = grip((*source)->fd, &l->grip[0], why);
	if (!r)
		r = grip((*destination)->fd, &l->grip[1], why);
	if (!r)
		r = gw__chan_twin(*source, &l->flow[1].to, why);
	if (!r)
		r = gw__chan_twin(*destination, &l->flow[1].from, why);
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
	struct gw__why *why = &p->run->why;
	struct gw__link *made = calloc(1, sizeof *made);
	int r = made ? 0 : gw__why_set(why, -ENOMEM, "no memory for a connection");
	if (!r) {
		made->proxy = p;
		made->number = ++p->connections;
		made->grip[0] = made->grip[1] = -1;
		pthread_mutex_init(&made->lock, NULL);
		r = share_out(made, source, destination, why);
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
	struct gw__why *why = &l->proxy->run->why;
	int err = pthread_create(&l->flow[0].thread, NULL, gw__flow_thread, &l->flow[0]);
	if (err)
		return gw__why_errno(why, err, "cannot start a thread");
	err = pthread_create(&l->flow[1].thread, NULL, gw__flow_thread, &l->flow[1]);
	if (!err)
		return 0;
	gw__link_break(l);
	pthread_join(l->flow[0].thread, NULL);
	return gw__why_errno(why, err, "cannot start a thread");
}
