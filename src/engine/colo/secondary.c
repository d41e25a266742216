/* SPDX-License-Identifier: MIT */
/* The protocol of a COLO secondary: one message after the other, by the table of plan/colo_secondary.h. See secondary.h. */
#include "base/conditions.h"
#include "engine/colo/secondary.h"

#include <assert.h>
#include <errno.h>

#include "engine/incoming/stream.h"
#include "wire/colo.h"
#include "wire/return_path.h"

#define EV(x) GW__COLO_SECONDARY_EV_##x

struct session {
	struct gw__run *run;
	struct gw__incoming *in;
	struct gw__incoming_stream *stream;
	const struct gw__epoch_store_ops *store;
	void *ctx; /* of the store */
	const struct gw__colo_secondary_opts *o;
	struct gw__colo_secondary_result *result;
	enum gw__colo_secondary_state state;
	struct gw__stream_stats stats;
	uint64_t replied_ns, merge_ns;
};

static uint64_t now(const struct session *s) { return gw__clock_now_ns(&s->run->clock); }

static int step(struct session *s, enum gw__colo_secondary_event event)
{
	int r = gw__colo_secondary_step(s->state, event, &s->state, &s->run->error);
	if (!r)
		GW__TRACE(&s->run->trace, colo_state, "%s", gw__colo_secondary_state_name(s->state));
	return r;
}

/* One word and the state after it. */
static int send_message(struct session *s, enum gw__colo_message type, enum gw__colo_secondary_event event)
{
	uint8_t bytes[GW__COLO_MESSAGE_MAX_BYTES];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__colo_encode(&c, &(struct gw__colo_msg){.type = type});
	GW__TRACE(&s->run->trace, colo_send, "%s", gw__colo_message_name(type));
	int r = gw__incoming_write(s->stream, bytes, gw__wr_used(&c));
	return r ? r : step(s, event);
}

/* SHUT 0 ends the return path; what follows belongs to COLO. */
static int send_ready(struct session *s)
{
	uint8_t bytes[8 + GW__COLO_MESSAGE_MAX_BYTES];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__rp_encode(&c, &(struct gw__rp_msg){.type = GW__RP_SHUT});
	gw__colo_encode(&c, &(struct gw__colo_msg){.type = GW__COLO_CHECKPOINT_READY});
	GW__TRACE(&s->run->trace, colo_send, "SHUT 0, %s", gw__colo_message_name(GW__COLO_CHECKPOINT_READY));
	int r = gw__incoming_write(s->stream, bytes, gw__wr_used(&c));
	return r ? r : step(s, EV(READY_SENT));
}

/* The next message, if it is the one that is due. */
static int receive_message(struct session *s, struct gw__colo_msg *m)
{
	int r = gw__incoming_receive_message(s->stream, m);
	if (r)
		return r;
	GW__TRACE(&s->run->trace, colo_receive, "%s %llu", gw__colo_message_name(m->type), (unsigned long long)m->bytes);
	int due = gw__colo_secondary_expects(s->state);
	assert(due >= 0);
	if ((int)m->type != due)
		return gw__error_set(&s->run->error, -EPROTO, "unexpected COLO message %s in state \"%s\", expected %s",
			gw__colo_message_name(m->type), gw__colo_secondary_state_name(s->state), gw__colo_message_name((unsigned)due));
	return step(s, (enum gw__colo_secondary_event)gw__colo_secondary_event_of(m->type));
}

static void report_epoch(struct session *s, uint64_t pause_ns)
{
	struct gw__epoch_store_stats stats = s->store->stats(s->ctx);
	struct gw__colo_epoch *e = &s->result->last;
	*e = (struct gw__colo_epoch){.number = s->result->epochs,
		.pages = stats.pages,
		.zero_pages = stats.zero_pages,
		.device_bytes = stats.device_bytes,
		.pause_ns = pause_ns,
		.merge_ns = s->merge_ns,
		.memory_bytes = stats.memory_bytes};
	if (s->o->on_epoch)
		s->o->on_epoch(s->o->ctx, e);
}

static int reach_boundary(struct session *s, uint64_t number)
{
	return s->o->on_boundary ? s->o->on_boundary(s->o->ctx, number, &s->run->error) : 0;
}

/* The guest that the primary has when protection begins. It stands still there until READY. */
static int receive_guest(struct session *s)
{
	struct gw__error *error = &s->run->error;
	const struct gw__vmdesc *description;
	int r = gw__incoming_receive_guest(s->run, s->in, s->store->sink(s->ctx), &s->stats, &s->stream, &description);
	if (!r)
		r = s->store->complete_guest(s->ctx, description, error);
	if (!r)
		r = reach_boundary(s, 0);
	if (!r)
		r = step(s, EV(GUEST_SAFE));
	return r ? r : send_ready(s);
}

/* The only moment at which we may end without a pause for the primary. 0: there is a message; GW__STOPPED: we were stopped. */
static int wait_for_request(struct session *s)
{
	int r = gw__incoming_wait(s->stream, s->o->checkpoint_ms, s->o->stop_fd);
	if (r == -ECANCELED) {
		gw__error_clear(&s->run->error);
		return GW__STOPPED;
	}
	if (r == 0)
		return gw__error_set(&s->run->error, -ETIMEDOUT, "the primary asked for no checkpoint within %d ms", s->o->checkpoint_ms);
	return r < 0 ? r : 0;
}

static int receive_devices(struct session *s)
{
	struct gw__colo_msg m;
	uint8_t *to;
	int r = receive_message(s, &m);
	if (r)
		return r;
	if (m.bytes > s->run->tail_max_bytes)
		return gw__error_set(&s->run->error, -E2BIG, "VMSTATE_SIZE announces %llu bytes of device state, at most %zu are taken",
			(unsigned long long)m.bytes, s->run->tail_max_bytes);
	r = s->store->reserve_devices(s->ctx, m.bytes, &to, &s->run->error);
	return r ? r : gw__incoming_read(s->stream, to, m.bytes);
}

/* From VMSTATE_SEND to the last byte; nothing of the epoch before is touched. */
static int receive_epoch(struct session *s)
{
	struct gw__colo_msg m;
	int r = receive_message(s, &m);
	if (r)
		return r;
	r = gw__incoming_receive_checkpoint(s->stream);
	if (!r)
		r = step(s, EV(RAM_END));
	if (!r)
		r = receive_devices(s);
	if (!r)
		r = s->store->check(s->ctx, &s->run->error);
	return r ? r : gw__incoming_check_turn(s->stream);
}

static int take_checkpoint(struct session *s)
{
	struct gw__colo_msg m;
	int r = receive_message(s, &m);
	if (!r) /* who runs the guest here stops it first */
		r = s->store->begin(s->ctx, &s->run->error);
	if (!r)
		r = send_message(s, GW__COLO_CHECKPOINT_REPLY, EV(REPLY_SENT));
	s->replied_ns = now(s);
	if (!r)
		r = receive_epoch(s);
	if (!r)
		r = reach_boundary(s, s->result->epochs + 1);
	if (!r) /* last: one that is on the disk is an epoch, whatever becomes of us */
		r = s->store->persist(s->ctx, &s->run->error);
	if (!r)
		r = step(s, EV(EPOCH_SAFE));
	if (r)
		return r;
	s->store->commit(s->ctx);
	s->result->epochs++;
	r = send_message(s, GW__COLO_VMSTATE_RECEIVED, EV(RECEIVED_SENT));
	if (!r)
		r = s->store->load(s->ctx, &s->run->error);
	if (!r)
		r = send_message(s, GW__COLO_VMSTATE_LOADED, EV(LOADED_SENT));
	uint64_t loaded_ns = now(s);
	report_epoch(s, loaded_ns - s->replied_ns);
	if (!r)
		r = s->store->apply(s->ctx, &s->run->error);
	s->merge_ns = now(s) - loaded_ns;
	return r;
}

/* Who stops us waits for the end of an epoch: broken off, it would leave the primary's guest standing still. */
static void stop_between_epochs(struct session *s)
{
	s->run->cancel_fd = -1;
	s->in->main->cancel_fd = -1;
}

static int protect(struct session *s)
{
	for (uint32_t i = 0; i < s->in->multifd_n; i++) /* the main channel ends them */
		s->in->multifd[i]->cancel_fd = -1;
	int r = receive_guest(s);
	if (r)
		return r;
	stop_between_epochs(s);
	r = s->store->start(s->ctx, &s->run->error);
	if (r)
		return r;
	report_epoch(s, 0);
	while (!(r = wait_for_request(s)) && !(r = take_checkpoint(s)))
		;
	return r;
}

/*
 * The link is closed first, so that the primary hears of the end: one that is not told stays in its loop (docs/spec/colo.md 9). The image is made
 * of the last epoch after that.
 */
static int finish(struct session *s, int r)
{
	struct gw__error why = s->run->error;
	bool had_epoch = gw__colo_secondary_has_epoch(s->state);
	gw__error_clear(&s->run->error);
	step(s, EV(BROKEN));
	s->result->stopped = r == GW__STOPPED;
	s->result->state = s->state;
	for (uint32_t i = 0; i < s->in->multifd_n; i++)
		gw__sock_break(s->in->multifd[i]->fd);
	gw__sock_break(s->in->main->fd);
	gw__incoming_stop_channels(s->stream); /* one may be writing into the epoch that is dropped now */
	int made = 0;
	if (s->o->on_kept)
		s->o->on_kept(s->o->ctx, s->result->epochs, had_epoch);
	if (had_epoch) {
		s->store->drop(s->ctx);
		made = s->store->finish(s->ctx, !s->result->epochs, &s->run->error);
	}
	s->result->image_failed = made != 0;
	gw__incoming_close_stream(&s->stream);
	gw__stream_stats_fini(&s->stats);
	if (made)
		return gw__error_where(&s->run->error, "the image of epoch %llu cannot be made",
			(unsigned long long)s->result->last.number);
	s->run->error = why;
	return r == GW__STOPPED ? 0 : r;
}

int gw__colo_secondary_run(struct gw__run *run, struct gw__incoming *in, const struct gw__epoch_store *store,
	const struct gw__colo_secondary_opts *o, struct gw__colo_secondary_result *result)
{
	struct session s =
		{.run = run, .in = in, .store = store->ops, .ctx = store->ctx, .o = o, .result = result, .state = GW__COLO_SECONDARY_SETUP};
	*result = (struct gw__colo_secondary_result){0};
	return finish(&s, protect(&s));
}
