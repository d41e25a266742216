/* SPDX-License-Identifier: MIT */
/*
 * Says what the proxy has seen: a queue with a bound, and a thread that empties it into the caller's functions. Whoever
 * listens may be slow or stand still; then messages are lost, counted, and that is said, but no byte of the migration waits.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/proxy/event_queue.h"
#include "thread/thread.h"

enum { QUEUE_MAX_BYTES = 16 << 20, SUMS_MAX_BYTES = 1 << 20 /* which must not be lost among messages */ };

struct item {
	struct item *next;
	size_t bytes;
	bool is_sum;
	struct gw__proxy_queued_message said;
	struct gw__proxy_channel_stats sum;
	struct gw__message_field field[GW__MESSAGE_FIELDS_MAX];
	char texts[]; /* what the pointers above point to */
};

struct gw__event_queue {
	const struct gw__proxy_opts *o;
	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t more;
	struct item *first, **last;
	size_t queued_bytes;
	uint64_t dropped, dropped_now; /* in all, since it was last said */
	bool stop;
};

static size_t text_bytes(const char *text) { return text ? strlen(text) + 1 : 0; }

static const char *keep(char **to, const char *text)
{
	if (!text)
		return NULL;
	size_t n = strlen(text) + 1;
	char *at = *to;
	memcpy(at, text, n);
	*to += n;
	return at;
}

static void put(struct gw__event_queue *t, struct item *i, size_t bytes)
{
	pthread_mutex_lock(&t->lock);
	if (!i || t->queued_bytes + bytes > (size_t)QUEUE_MAX_BYTES + (i->is_sum ? SUMS_MAX_BYTES : 0)) {
		t->dropped++;
		t->dropped_now++;
		free(i);
	} else {
		i->bytes = bytes;
		t->queued_bytes += bytes;
		*t->last = i;
		t->last = &i->next;
		pthread_cond_signal(&t->more);
	}
	pthread_mutex_unlock(&t->lock);
}

void gw__event_queue_push(struct gw__event_queue *t, const struct gw__proxy_queued_message *said)
{
	size_t bytes = sizeof(struct item) + text_bytes(said->channel) + text_bytes(said->text);
	for (unsigned k = 0; k < said->fields_n; k++)
		bytes += text_bytes(said->field[k].text);
	struct item *i = calloc(1, bytes);
	if (i) {
		char *to = i->texts;
		i->said = *said;
		i->said.channel = keep(&to, said->channel);
		i->said.text = keep(&to, said->text);
		i->said.field = i->field;
		for (unsigned k = 0; k < said->fields_n; k++) {
			i->field[k] = said->field[k];
			i->field[k].text = keep(&to, said->field[k].text);
		}
	}
	put(t, i, bytes);
}

void gw__event_queue_push_stats(struct gw__event_queue *t, const struct gw__proxy_channel_stats *sum)
{
	size_t bytes = sizeof(struct item) + text_bytes(sum->channel);
	struct item *i = calloc(1, bytes);
	if (i) {
		char *to = i->texts;
		i->is_sum = true;
		i->sum = *sum;
		i->sum.channel = keep(&to, sum->channel);
	}
	put(t, i, bytes);
}

/* The next item, or NULL at the end; and what was dropped before it. */
static struct item *take(struct gw__event_queue *t, uint64_t *dropped)
{
	pthread_mutex_lock(&t->lock);
	while (!t->first && !t->stop)
		pthread_cond_wait(&t->more, &t->lock);
	struct item *i = t->first;
	if (i) {
		t->queued_bytes -= i->bytes;
		t->first = i->next;
		if (!t->first)
			t->last = &t->first;
	}
	/* The gap comes after what is still queued. */
	*dropped = t->first ? 0 : t->dropped_now;
	if (*dropped)
		t->dropped_now = 0;
	pthread_mutex_unlock(&t->lock);
	return i;
}

static void tell_gap(struct gw__event_queue *t, uint64_t dropped)
{
	char text[128];
	struct gw__message_field field = {.name = "messages", .number = dropped};
	struct gw__proxy_queued_message said = {.channel = "", .name = "NOT_SHOWN", .text = text, .fields_n = 1, .field = &field};
	snprintf(text, sizeof text, "%llu messages, because nobody took them in time", (unsigned long long)dropped);
	if (t->o->on_message)
		t->o->on_message(t->o->ctx, &said);
}

static void *teller_thread(void *ctx)
{
	struct gw__event_queue *t = ctx;
	for (;;) {
		uint64_t dropped;
		struct item *i = take(t, &dropped);
		if (i && i->is_sum && t->o->on_sum)
			t->o->on_sum(t->o->ctx, &i->sum);
		if (i && !i->is_sum && t->o->on_message)
			t->o->on_message(t->o->ctx, &i->said);
		if (dropped)
			tell_gap(t, dropped);
		if (!i)
			return NULL;
		free(i);
	}
}

int gw__event_queue_start(const struct gw__proxy_opts *o, struct gw__event_queue **t, struct gw__error *error)
{
	struct gw__event_queue *made = calloc(1, sizeof *made);
	if (!made)
		return gw__error_set(error, -ENOMEM, "no memory for a queue");
	made->o = o;
	made->last = &made->first;
	pthread_mutex_init(&made->lock, NULL);
	pthread_cond_init(&made->more, NULL);
	int err = gw__thread_start(&made->thread, teller_thread, made);
	if (err) {
		free(made);
		return gw__error_errno(error, err, "cannot start a thread");
	}
	*t = made;
	return 0;
}

uint64_t gw__event_queue_stop(struct gw__event_queue *t)
{
	if (!t)
		return 0;
	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_signal(&t->more);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	uint64_t dropped = t->dropped;
	pthread_cond_destroy(&t->more);
	pthread_mutex_destroy(&t->lock);
	free(t);
	return dropped;
}
