/* SPDX-License-Identifier: MIT */
/* The page server's beginning: header, block list, discards, the package. See serve.h and docs/spec/postcopy.md 3. */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/pageserver/pageserver_private.h"
#include "wire/postcopy.h"

enum {
	HEAD_ROOM = 8192,   /* magic, configuration, three commands */
	PACKAGE_SLACK = 64, /* LISTEN, PINGs, RUN */
};

static int put_head(struct gw__pageserver *s)
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
	return gw__pageserver_write(s, room, gw__wr_used(&c));
}

static int put_devices(struct gw__pageserver *s, bool early, bool before_ram, uint8_t *to, size_t *n)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < s->image->devices_n; i++) {
		const struct gw__image_device *d = &s->image->devices[i];
		bool piece = d->section.type !=
			     GW__ITEM_FULL; /* of an iterable: its END may stand behind RAM's, and belongs before the package */
		if ((d->early || piece) != early || d->before_ram != before_ram)
			continue;
		r = gw__image_read_at(s->image, d->off, to + *n, d->bytes, &s->run->error);
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
static int put_early(struct gw__pageserver *s, bool before_ram, uint8_t *room)
{
	size_t n = 0;
	int r = put_devices(s, true, before_ram, room, &n);
	return r || !n ? r : gw__pageserver_write(s, room, n);
}

static int put_list(struct gw__pageserver *s)
{
	struct gw__blocks_rule rule = {.page_bytes = s->page_bytes,
		.page_summary = s->page_summary,
		.address = s->image->config.ignore_shared};
	uint8_t room[1024];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	gw__section_encode(&c,
		&(struct gw__section){.type = GW__ITEM_START, .id = s->image->ram_id, .idstr = "ram", .version = GW__RAM_VERSION});
	gw__wr_be64(&c, s->image->blocks.total_bytes | GW__RAM_MEM_SIZE);
	int r = gw__pageserver_write(s, room, gw__wr_used(&c));
	for (uint32_t i = 0; !r && i < s->image->blocks.n; i++) {
		struct gw__block b = s->image->blocks.v[i];
		b.page_bytes = s->host_page_bytes[i] > s->page_bytes ? s->host_page_bytes[i] : 0;
		c = gw__wr_over(room, sizeof room);
		gw__block_encode(&c, &rule, &b);
		r = gw__pageserver_write(s, room, gw__wr_used(&c));
	}
	s->main.in_part = true; /* what ends a PART ends START as well */
	return r ? r : gw__pageserver_end_part(s);
}

/*
 * What was not sent is discarded. It is not an optimisation: without a DISCARD a QEMU does not even begin to trap missing
 * pages.
 */
static int put_block_discards(struct gw__pageserver *s, uint32_t block)
{
	const struct gw__block *b = &s->image->blocks.v[block];
	const struct gw__bitmap *sent = &s->sent[block];
	struct gw__range range[GW__DISCARD_RANGES_MAX];
	uint8_t room[GW__NAME_MAX + 16 + sizeof range];
	uint64_t at = gw__bitmap_next_clear(sent, 0), end;
	int r = 0;
	while (!r && at < sent->bits) {
		unsigned n = 0;
		for (; n < GW__DISCARD_RANGES_MAX && at < sent->bits; at = gw__bitmap_next_clear(sent, end)) {
			end = gw__bitmap_next_set_before(sent, at, sent->bits);
			range[n++] = (struct gw__range){at * s->page_bytes, (end - at) * s->page_bytes};
		}
		struct gw__wr c = gw__wr_over(room, sizeof room);
		gw__discard_encode(&c, b->name, range, n);
		r = gw__pageserver_write(s, room, gw__wr_used(&c));
	}
	return r;
}

static int put_discards(struct gw__pageserver *s)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	int r = 0;
	for (uint32_t i = 0; !r && i < s->image->blocks.n; i++)
		r = put_block_discards(s, i);
	gw__ping_encode(&c, GW__PING_DISCARDED);
	return r ? r : gw__pageserver_write(s, room, gw__wr_used(&c));
}

static int put_package(struct gw__pageserver *s, uint8_t *devices)
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
	return gw__chan_write_allv(s->main.chan, iov, GW__LEN(iov), &s->run->error);
}

/* With the last byte of the package the destination may run, whatever happens to what is written behind it. */
static int hand_over(struct gw__pageserver *s, uint8_t *devices)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	int r = put_package(s, devices);
	if (!r)
		r = gw__pageserver_set_state(s, GW__POSTCOPY_SRC_EV_PACKAGE_SENT);
	gw__ping_encode(&c, GW__PING_SENT);
	return r ? r : gw__pageserver_write(s, room, gw__wr_used(&c));
}

static bool is_opened(const struct gw__pageserver *s) { return s->opened; }

/*
 * The first PONG tells that the destination has the main connection, so that another one cannot be taken for it. One that reads
 * nothing before both are there cannot tell.
 */
static int connect_preempt(struct gw__pageserver *s)
{
	int r = gw__pageserver_connect_preempt(s, GW__PREEMPT_EARLY);
	if (!r && s->o->preempt == GW__PREEMPT_ON)
		r = gw__pageserver_await(s, "its first PONG", is_opened);
	return r ? r : gw__pageserver_connect_preempt(s, GW__PREEMPT_ON);
}

int gw__pageserver_handover(struct gw__pageserver *s)
{
	uint8_t *devices = malloc(device_bytes(s->image) + 1);
	int r = devices ? put_head(s) : gw__error_set(&s->run->error, -ENOMEM, "no memory for the device state");
	if (!r)
		r = connect_preempt(s);
	if (!r)
		r = put_early(s, true, devices);
	if (!r)
		r = put_list(s);
	if (!r)
		r = put_early(s, false, devices);
	if (!r)
		r = gw__pageserver_send_working_set_head(s);
	if (!r)
		r = put_discards(s);
	if (!r)
		r = gw__pageserver_set_state(s, GW__POSTCOPY_SRC_EV_STREAM_BEGUN);
	if (!r)
		r = hand_over(s, devices);
	free(devices);
	return r;
}
