/* SPDX-License-Identifier: MIT */
/* The page server's course: start or resume, push, end. See serve.h and docs/spec/postcopy.md 3, 6. */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/serve_internal.h"
#include "wire/postcopy.h"

enum {
	HEAD_ROOM = 8192,    /* magic, configuration, three commands */
	PACKAGE_SLACK = 64,  /* LISTEN, PINGs, RUN */
	HEAR_MS = 200,	     /* between looks at the clock while there is nothing to send */
};

int gw__serve_step(struct gw__serve *s, enum gw__pc_event event)
{
	enum gw__pc_state before = s->tally->state;
	int r = gw__pc_step(before, event, &s->tally->state, &s->run->why);
	if (!r)
		GW__TRACE(&s->run->trace, serve_state, "%s -> %s", gw__pc_state_name(before), gw__pc_state_name(s->tally->state));
	return r;
}

int gw__serve_write(struct gw__serve *s, const void *bytes, size_t n)
{
	return gw__chan_write_all(s->chan, bytes, n, &s->run->why);
}

static int put_head(struct gw__serve *s)
{
	uint8_t room[HEAD_ROOM];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	struct gw__config config = s->image->config;
	gw__config_drop_cap(&config, "mapped-ram");
	gw__header_encode(&c);
	gw__config_encode(&c, &config);
	gw__command_encode(&c, GW__CMD_OPEN_RETURN_PATH, NULL, 0);
	gw__ping_encode(&c, GW__PING_OPENED);
	gw__advise_encode(&c, s->page_summary, s->page_bytes);
	return gw__serve_write(s, room, gw__wr_used(&c));
}

static int put_devices(struct gw__serve *s, bool early, bool before_ram, uint8_t *to, size_t *n)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < s->image->devices_n; i++) {
		const struct gw__image_device *d = &s->image->devices[i];
		if (d->early != early || d->before_ram != before_ram)
			continue;
		r = gw__image_read_at(s->image, d->off, to + *n, d->bytes, &s->run->why);
		*n += d->bytes;
	}
	return r;
}

static size_t device_bytes(const struct gw__image *image)
{
	size_t sum = 0;
	for (uint32_t i = 0; i < image->devices_n; i++)
		sum += image->devices[i].bytes;
	return sum;
}

/* Early devices go straight out; `room` holds all devices of the image. */
static int put_early(struct gw__serve *s, bool before_ram, uint8_t *room)
{
	size_t n = 0;
	int r = put_devices(s, true, before_ram, room, &n);
	return r || !n ? r : gw__serve_write(s, room, n);
}

static int put_list(struct gw__serve *s)
{
	struct gw__blocks_rule rule = {
		.page_bytes = s->page_bytes, .page_summary = s->page_summary, .address = s->image->config.ignore_shared};
	uint8_t room[1024];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	gw__section_encode(&c,
		&(struct gw__section){.type = GW__ITEM_START, .id = s->image->ram_id, .idstr = "ram", .version = GW__RAM_VERSION});
	gw__wr_be64(&c, s->image->blocks.total_bytes | GW__RAM_MEM_SIZE);
	int r = gw__serve_write(s, room, gw__wr_used(&c));
	for (uint32_t i = 0; !r && i < s->image->blocks.n; i++) {
		struct gw__block b = s->image->blocks.v[i];
		b.page_bytes = s->host_page_bytes[i] > s->page_bytes ? s->host_page_bytes[i] : 0;
		c = gw__wr_over(room, sizeof room);
		gw__block_encode(&c, &rule, &b);
		r = gw__serve_write(s, room, gw__wr_used(&c));
	}
	s->in_part = true; /* what ends a PART ends START as well */
	return r ? r : gw__serve_end_part(s);
}

/*
 * Everything is still to come, so everything is discarded. It is not an optimisation: without a DISCARD a QEMU does not
 * even begin to trap missing pages.
 */
static int put_discards(struct gw__serve *s)
{
	uint8_t room[512];
	struct gw__wr c;
	int r = 0;
	for (uint32_t i = 0; !r && i < s->image->blocks.n; i++) {
		const struct gw__block *b = &s->image->blocks.v[i];
		if (b->ignored)
			continue;
		c = gw__wr_over(room, sizeof room);
		gw__discard_encode(&c, b->name, &(struct gw__range){0, b->used_bytes}, 1);
		r = gw__serve_write(s, room, gw__wr_used(&c));
	}
	c = gw__wr_over(room, sizeof room);
	gw__ping_encode(&c, GW__PING_DISCARDED);
	return r ? r : gw__serve_write(s, room, gw__wr_used(&c));
}

static int put_package(struct gw__serve *s, uint8_t *devices)
{
	uint8_t lead[PACKAGE_SLACK], tail[PACKAGE_SLACK], head[16];
	struct gw__wr l = gw__wr_over(lead, sizeof lead), t = gw__wr_over(tail, sizeof tail), h = gw__wr_over(head, sizeof head);
	size_t n = 0;
	int r = put_devices(s, false, false, devices, &n);
	if (r)
		return r;
	gw__command_encode(&l, GW__CMD_POSTCOPY_LISTEN, NULL, 0);
	gw__ping_encode(&t, GW__PING_LOADED);
	gw__ping_encode(&t, GW__PING_RUNS);
	gw__command_encode(&t, GW__CMD_POSTCOPY_RUN, NULL, 0);
	size_t inside = gw__wr_used(&l) + n + gw__wr_used(&t);
	gw__packaged_encode(&h, (uint32_t)inside);
	struct iovec iov[] = {{head, gw__wr_used(&h)}, {lead, gw__wr_used(&l)}, {devices, n}, {tail, gw__wr_used(&t)}};
	return gw__chan_write_allv(s->chan, iov, GW__LEN(iov), &s->run->why);
}

/* With the last byte of the package the destination may run, whatever happens to what is written behind it. */
static int hand_over(struct gw__serve *s, uint8_t *devices)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	int r = put_package(s, devices);
	if (!r)
		r = gw__serve_step(s, GW__PC_EV_PACKAGE_SENT);
	gw__ping_encode(&c, GW__PING_SENT);
	return r ? r : gw__serve_write(s, room, gw__wr_used(&c));
}

static int start(struct gw__serve *s)
{
	uint8_t *devices = malloc(device_bytes(s->image) + 1);
	int r = devices ? put_head(s) : gw__why_set(&s->run->why, -ENOMEM, "no memory for the device state");
	if (!r)
		r = put_early(s, true, devices);
	if (!r)
		r = put_list(s);
	if (!r)
		r = put_early(s, false, devices);
	if (!r)
		r = put_discards(s);
	if (!r)
		r = gw__serve_step(s, GW__PC_EV_STREAM_BEGUN);
	if (!r)
		r = hand_over(s, devices);
	free(devices);
	return r;
}

/* Hear until `*done` is what is wanted, within the limit for an answer. */
static int await_word(struct gw__serve *s, const char *what, bool (*done)(const struct gw__serve *s))
{
	int r = 0;
	gw__serve_due(s, what);
	while (r >= 0 && !done(s)) {
		int left_ms = gw__serve_due_ms(s);
		r = left_ms ? gw__serve_hear(s, left_ms < 0 || left_ms > HEAR_MS ? HEAR_MS : left_ms) : gw__serve_overdue(s);
		gw__run_tick(s->run);
	}
	gw__serve_due(s, NULL);
	return r < 0 ? r : 0;
}

static bool bitmaps_came(const struct gw__serve *s) { return s->bitmap_due < 0; }
static bool ack_came(const struct gw__serve *s) { return s->resumed; }
static bool shut_came(const struct gw__serve *s) { return s->shut; }

static int ask_bitmaps(struct gw__serve *s)
{
	uint8_t room[512];
	int r = 0;
	s->bitmap_due = gw__serve_next_block(s, 0); /* answers may come before all is asked */
	for (uint32_t i = 0; !r && i < s->image->blocks.n; i++) {
		struct gw__wr c = gw__wr_over(room, sizeof room);
		if (s->image->blocks.v[i].ignored)
			continue;
		gw__ask_bitmap_encode(&c, s->image->blocks.v[i].name);
		r = gw__serve_write(s, room, gw__wr_used(&c));
	}
	return r ? r : await_word(s, "its received bitmaps", bitmaps_came);
}

/* The destination knows best what it has; what we believed to have sent is forgotten. */
static int resume(struct gw__serve *s)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	s->tally->state = GW__PC_PAUSED;
	int r = gw__serve_step(s, GW__PC_EV_CONNECTED_AGAIN);
	if (!r)
		r = ask_bitmaps(s);
	if (r)
		return r;
	gw__serve_count_unsent(s);
	gw__command_encode(&c, GW__CMD_POSTCOPY_RESUME, NULL, 0);
	s->resume_sent = true;
	r = gw__serve_write(s, room, gw__wr_used(&c));
	return r ? r : await_word(s, "RESUME_ACK", ack_came);
}

/* Requests first: every round hears what is there before it pushes the next batch. */
static int push_all(struct gw__serve *s)
{
	int r = 0;
	while (r >= 0 && (s->unsent_pages || s->tally->state == GW__PC_DEVICE)) {
		r = gw__serve_hear(s, s->unsent_pages ? 0 : HEAR_MS);
		if (r >= 0 && s->unsent_pages)
			r = gw__serve_push(s);
		gw__run_tick(s->run);
	}
	return r < 0 ? r : 0;
}

static int finish(struct gw__serve *s)
{
	uint8_t room[32];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	int r = gw__serve_end_part(s);
	gw__section_encode(&c, &(struct gw__section){.type = GW__ITEM_END, .id = s->image->ram_id});
	gw__wr_be64(&c, GW__RAM_EOS);
	gw__footer_encode(&c, s->image->ram_id);
	gw__wr_u8(&c, GW__ITEM_EOF);
	if (!r)
		r = gw__serve_write(s, room, gw__wr_used(&c));
	if (!r)
		r = gw__serve_step(s, GW__PC_EV_ALL_SENT);
	gw__run_phase(s->run, GW__PHASE_SYNC);
	if (!r)
		r = await_word(s, "its last word", shut_came);
	return r ? r : gw__serve_step(s, GW__PC_EV_SHUT_OK);
}

static int serve(struct gw__serve *s)
{
	int r = gw__serve_pages_init(s);
	if (!r)
		r = gw__feed_init(&s->ear, s->chan, 1 << 20, &s->run->why);
	if (!r)
		r = s->o->resume ? resume(s) : start(s);
	gw__run_phase(s->run, GW__PHASE_RAM);
	if (!r)
		r = push_all(s);
	return r ? r : finish(s);
}

int gw__serve(struct gw__run *run, const struct gw__image *image, struct gw__chan *chan, const struct gw__serve_opts *o,
	struct gw__serve_tally *tally)
{
	struct gw__serve *s = calloc(1, sizeof *s);
	*tally = (struct gw__serve_tally){.state = o->resume ? GW__PC_PAUSED : GW__PC_SETUP};
	if (!s)
		return gw__why_set(&run->why, -ENOMEM, "no memory for a page server");
	s->run = run;
	s->image = image;
	s->chan = chan;
	s->o = o;
	s->tally = tally;
	s->page_bytes = s->page_summary = gw__config_page_bytes(&image->config);
	s->last_block = s->asked_block = s->bitmap_due = -1;
	atomic_store(&run->counters.total_bytes, image->blocks.total_bytes);
	int r = serve(s);
	if (r) {
		struct gw__why ignored = {0};
		enum gw__pc_event event = s->shut && s->shut_status ? GW__PC_EV_SHUT_ERROR : GW__PC_EV_BROKEN;
		gw__pc_step(tally->state, event, &tally->state, &ignored);
	} else {
		gw__run_phase(run, GW__PHASE_DONE);
	}
	gw__serve_pages_fini(s);
	gw__feed_fini(&s->ear);
	free(s);
	return r;
}
