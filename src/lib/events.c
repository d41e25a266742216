/* SPDX-License-Identifier: MIT */
/* The queue of a started call; see events.h. All but the two descriptors is under the lock. No lock is held across a wait. */
#include "lib/events.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "io/wait.h"

enum {
	COMMON_MAX = 1024, /* events in the queue before those that come often are dropped */
	RARE_MAX = 4096,   /* and before all others but questions and the end are */
};

/* What an event owns: freed with it. */
struct piece {
	struct piece *next;
	max_align_t bytes[];
};

struct item {
	struct item *next;
	struct piece *pieces;
	bool no_memory;
	struct gw_event event;
};

struct gw__events {
	int fd;        /* eventfd: readable while there is something for the owner */
	int answer_fd; /* eventfd: readable when there is an answer */
	uint64_t wanted;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct item *first, **last;
	unsigned n;
	uint64_t dropped; /* since the last event that was taken */
	bool ended;
	const struct item *question; /* in the queue; NULL: there is none, or the owner has taken it */
	bool asking;                 /* its answer is waited for */
	enum gw_event_kind asked;    /* by the question that the owner has taken; NONE: it has not */
	int answer;
	struct item *current; /* the owner's, whose strings it may look at */
};

int gw__events_new(struct gw__events **events)
{
	struct gw__events *e = calloc(1, sizeof *e);
	pthread_condattr_t attr;
	if (!e)
		return -ENOMEM;
	e->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->last = &e->first;
	pthread_mutex_init(&e->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (e->fd < 0 || e->answer_fd < 0) {
		gw__events_free(e);
		return -EMFILE;
	}
	*events = e;
	return 0;
}

/* --- one event and what it points to --- */

static void free_item(struct item *item)
{
	while (item && item->pieces) {
		struct piece *piece = item->pieces;
		item->pieces = piece->next;
		free(piece);
	}
	free(item);
}

static void *keep(struct item *item, const void *from, size_t n)
{
	struct piece *piece = from ? malloc(sizeof *piece + n) : NULL;
	if (from && !piece)
		item->no_memory = true;
	if (!piece)
		return NULL;
	memcpy(piece->bytes, from, n);
	piece->next = item->pieces;
	item->pieces = piece;
	return piece->bytes;
}

static const char *keep_text(struct item *item, const char *text) { return keep(item, text, text ? strlen(text) + 1 : 0); }

static const struct gw_whole *keep_whole(struct item *item, const struct gw_whole *from)
{
	struct gw_whole *whole = keep(item, from, sizeof *whole);
	if (!whole)
		return NULL;
	struct gw_whole_block *block = keep(item, from->block, from->blocks * sizeof *block);
	whole->machine = keep_text(item, from->machine);
	whole->run_state_name = keep_text(item, from->run_state_name);
	whole->block = block;
	for (uint32_t i = 0; block && i < from->blocks; i++)
		block[i].name = keep_text(item, from->block[i].name);
	return whole;
}

static const struct gw_proxy_message *keep_message(struct item *item, const struct gw_proxy_message *from)
{
	struct gw_proxy_message *m = keep(item, from, sizeof *m);
	if (!m)
		return NULL;
	struct gw_proxy_field *field = keep(item, from->field, from->fields * sizeof *field);
	m->channel = keep_text(item, from->channel);
	m->name = keep_text(item, from->name);
	m->text = keep_text(item, from->text);
	m->field = field;
	for (uint32_t i = 0; field && i < from->fields; i++) {
		field[i].name = keep_text(item, from->field[i].name);
		field[i].text = keep_text(item, from->field[i].text);
	}
	return m;
}

static const struct gw_proxy_channel *keep_channel(struct item *item, const struct gw_proxy_channel *from)
{
	struct gw_proxy_channel *c = keep(item, from, sizeof *c);
	if (c)
		c->channel = keep_text(item, from->channel);
	return c;
}

static const struct gw_standby_event *keep_standby(struct item *item, const struct gw_standby_event *from)
{
	struct gw_standby_event *s = keep(item, from, sizeof *s);
	if (!s)
		return NULL;
	s->vm = keep_text(item, from->vm);
	s->image = keep_text(item, from->image);
	s->message = keep_text(item, from->message);
	return s;
}

static struct item *copy(const struct gw_event *from)
{
	struct item *item = calloc(1, sizeof *item);
	if (!item)
		return NULL;
	item->event = *from;
	item->event.size = sizeof item->event;
	item->event.time_ns = gw__io_now_ns();
	item->event.name = keep_text(item, from->name);
	item->event.text = keep_text(item, from->text);
	item->event.whole = keep_whole(item, from->whole);
	item->event.message = keep_message(item, from->message);
	item->event.channel = keep_channel(item, from->channel);
	item->event.standby = keep_standby(item, from->standby);
	if (!item->no_memory)
		return item;
	free_item(item);
	return NULL;
}

/* --- the queue --- */

static void forget(struct gw__events *e)
{
	while (e->first) {
		struct item *item = e->first;
		e->first = item->next;
		free_item(item);
	}
	free_item(e->current);
	e->current = NULL;
	e->last = &e->first;
	e->n = 0;
}

void gw__events_free(struct gw__events *e)
{
	if (!e)
		return;
	forget(e);
	if (e->fd >= 0)
		close(e->fd);
	if (e->answer_fd >= 0)
		close(e->answer_fd);
	pthread_cond_destroy(&e->changed);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static void drain_fd(int fd)
{
	eventfd_t n;
	eventfd_read(fd, &n);
}

void gw__events_begin(struct gw__events *e, uint64_t wanted)
{
	pthread_mutex_lock(&e->lock);
	forget(e);
	e->wanted = wanted;
	e->dropped = 0;
	e->ended = e->asking = false;
	e->asked = GW_EVENT_NONE;
	e->question = NULL;
	drain_fd(e->fd);
	drain_fd(e->answer_fd);
	pthread_mutex_unlock(&e->lock);
}

bool gw__events_wants(const struct gw__events *e, enum gw_event_kind kind) { return e->wanted & GW_EVENT_BIT(kind); }

static bool has_room(const struct gw__events *e, const struct gw_event *event)
{
	if (event->wants_answer || event->kind == GW_EVENT_DONE)
		return true;
	bool often = event->kind == GW_EVENT_TRACE || event->kind == GW_EVENT_MESSAGE || event->kind == GW_EVENT_DIFFERENCE ||
		     (event->kind == GW_EVENT_STANDBY && event->standby->kind == GW_STANDBY_EPOCH);
	return e->n < (often ? COMMON_MAX : RARE_MAX);
}

/* Takes `item`, which may be NULL. False: it was dropped. Locked. */
static bool append(struct gw__events *e, struct item *item)
{
	if (!item || !has_room(e, &item->event)) {
		free_item(item);
		e->dropped++;
		return false;
	}
	*e->last = item;
	e->last = &item->next;
	e->n++;
	eventfd_write(e->fd, 1);
	pthread_cond_signal(&e->changed);
	return true;
}

void gw__events_push(struct gw__events *e, const struct gw_event *event)
{
	struct item *item = copy(event);
	pthread_mutex_lock(&e->lock);
	append(e, item);
	pthread_mutex_unlock(&e->lock);
}

int gw__events_ask(struct gw__events *e, const struct gw_event *event, int cancel_fd)
{
	struct item *item = copy(event);
	if (item)
		item->event.wants_answer = true;
	pthread_mutex_lock(&e->lock);
	bool asked = append(e, item);
	e->asking = asked;
	e->asked = GW_EVENT_NONE;
	e->question = asked ? item : NULL;
	pthread_mutex_unlock(&e->lock);
	if (!asked)
		return -ENOMEM;
	int r = gw__io_wait(e->answer_fd, POLLIN, cancel_fd, UINT64_MAX);
	pthread_mutex_lock(&e->lock);
	int answer = r < 0 ? r : e->answer;
	e->asking = false;
	e->asked = GW_EVENT_NONE;
	drain_fd(e->answer_fd);
	pthread_mutex_unlock(&e->lock);
	return answer;
}

void gw__events_end(struct gw__events *e)
{
	struct item *item = copy(&(struct gw_event){.kind = GW_EVENT_DONE});
	pthread_mutex_lock(&e->lock);
	append(e, item);
	e->ended = true;
	eventfd_write(e->fd, 1); /* also where there was no memory for the event */
	pthread_cond_signal(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

/* --- the owner --- */

int gw__events_fd(const struct gw__events *e) { return e->fd; }

int gw__events_next(struct gw__events *e, struct gw_event *event)
{
	pthread_mutex_lock(&e->lock);
	struct item *item = e->first;
	free_item(e->current);
	e->current = item;
	if (item) {
		e->first = item->next;
		e->last = e->first ? e->last : &e->first;
		e->n--;
		if (item == e->question) {
			e->asked = item->event.kind;
			e->question = NULL;
		}
		*event = item->event;
		event->dropped = e->dropped;
		e->dropped = 0;
	}
	if (!e->first && !e->ended)
		drain_fd(e->fd);
	pthread_mutex_unlock(&e->lock);
	return item ? 0 : -EAGAIN;
}

int gw__events_answer(struct gw__events *e, int answer)
{
	int r = 0;
	pthread_mutex_lock(&e->lock);
	if (e->asked == GW_EVENT_NONE)
		r = -ESRCH;
	else if (answer > (e->asked == GW_EVENT_WHOLE ? GW_SAY_FAILED : 0))
		r = -EINVAL;
	if (!r) {
		e->answer = answer;
		e->asking = false;
		e->asked = GW_EVENT_NONE;
		eventfd_write(e->answer_fd, 1);
	}
	pthread_mutex_unlock(&e->lock);
	return r;
}

static struct timespec deadline_in(int ms)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000L;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

int gw__events_wait_end(struct gw__events *e, int timeout_ms)
{
	struct timespec until = deadline_in(timeout_ms < 0 ? 0 : timeout_ms);
	int r = 0;
	pthread_mutex_lock(&e->lock);
	while (!r && !e->ended && !e->asking)
		r = timeout_ms < 0 ? pthread_cond_wait(&e->changed, &e->lock) : pthread_cond_timedwait(&e->changed, &e->lock, &until);
	bool ended = e->ended;
	pthread_mutex_unlock(&e->lock);
	return ended ? 0 : -EAGAIN;
}
