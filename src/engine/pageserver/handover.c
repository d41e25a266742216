/* SPDX-License-Identifier: MIT */
/* The beginning of a post-copy from an image; see handover.h. */
#include "engine/pageserver/handover.h"

#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "wire/postcopy.h"

enum {
	HEAD_ROOM = 8192,   /* magic, configuration, three commands */
	PACKAGE_SLACK = 64, /* LISTEN, PINGs, RUN */
};

static int put_head(struct gw__handover *h)
{
	uint8_t room[HEAD_ROOM];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	struct gw__config config = h->image->config;
	gw__config_drop_cap(&config, "mapped-ram");
	gw__header_encode(&c);
	gw__config_encode(&c, &config);
	gw__command_encode(&c, GW__CMD_OPEN_RETURN_PATH, NULL, 0);
	gw__ping_encode(&c, GW__PING_OPENED);
	gw__advise_encode(&c, gw__page_scheduler_page_summary(h->pages), gw__config_page_bytes(&config));
	return gw__page_out_write(h->out, room, gw__wr_used(&c));
}

static int put_devices(struct gw__handover *h, bool early, bool before_ram, uint8_t *to, size_t *n)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < h->image->devices_n; i++) {
		const struct gw__image_device *d = &h->image->devices[i];
		/* A piece of an iterable: its END may stand behind RAM's, and belongs before the package. */
		bool piece = d->section.type != GW__ITEM_FULL;
		if ((d->early || piece) != early || d->before_ram != before_ram)
			continue;
		r = gw__image_read_at(h->image, d->off, to + *n, d->bytes, &h->run->error);
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
static int put_early(struct gw__handover *h, bool before_ram, uint8_t *room)
{
	size_t n = 0;
	int r = put_devices(h, true, before_ram, room, &n);
	return r || !n ? r : gw__page_out_write(h->out, room, n);
}

static int put_list(struct gw__handover *h)
{
	const struct gw__blocks_rule rule = {.page_bytes = gw__config_page_bytes(&h->image->config),
		.page_summary = gw__page_scheduler_page_summary(h->pages),
		.address = h->image->config.ignore_shared};
	return gw__page_out_write_list(h->out, &rule, gw__page_scheduler_host_page_bytes(h->pages));
}

/*
 * What was not sent is discarded. It is not an optimisation: without a DISCARD a QEMU does not even begin to trap missing
 * pages.
 */
static int put_block_discards(struct gw__handover *h, uint32_t block)
{
	uint64_t page_bytes = gw__config_page_bytes(&h->image->config), at = 0;
	struct gw__range range[GW__DISCARD_RANGES_MAX];
	uint8_t room[GW__NAME_MAX + 16 + sizeof range];
	struct gw__page_run run;
	unsigned n = 1;
	int r = 0;
	while (!r && n) {
		for (n = 0; n < GW__DISCARD_RANGES_MAX && gw__page_scheduler_next_unsent(h->pages, block, &at, &run);)
			range[n++] = (struct gw__range){run.first * page_bytes, (run.end - run.first) * page_bytes};
		struct gw__wr c = gw__wr_over(room, sizeof room);
		if (n)
			gw__discard_encode(&c, h->image->blocks.v[block].name, range, n);
		r = n ? gw__page_out_write(h->out, room, gw__wr_used(&c)) : 0;
	}
	return r;
}

static int put_discards(struct gw__handover *h)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	int r = 0;
	for (uint32_t i = 0; !r && i < h->image->blocks.n; i++)
		r = put_block_discards(h, i);
	gw__ping_encode(&c, GW__PING_DISCARDED);
	return r ? r : gw__page_out_write(h->out, room, gw__wr_used(&c));
}

static int put_package(struct gw__handover *h, uint8_t *devices)
{
	uint8_t head[16], first[PACKAGE_SLACK], last[PACKAGE_SLACK];
	struct gw__wr c = gw__wr_over(head, sizeof head), f = gw__wr_over(first, sizeof first), l = gw__wr_over(last, sizeof last);
	size_t n = 0;
	int r = put_devices(h, false, false, devices, &n);
	if (r)
		return r;
	gw__command_encode(&f, GW__CMD_POSTCOPY_LISTEN, NULL, 0);
	gw__ping_encode(&l, GW__PING_LOADED);
	gw__ping_encode(&l, GW__PING_RUNS);
	gw__command_encode(&l, GW__CMD_POSTCOPY_RUN, NULL, 0);
	gw__packaged_encode(&c, (uint32_t)(gw__wr_used(&f) + n + gw__wr_used(&l)));
	struct iovec iov[] = {{head, gw__wr_used(&c)}, {first, gw__wr_used(&f)}, {devices, n}, {last, gw__wr_used(&l)}};
	return gw__chan_write_allv(gw__page_out_main(h->out), iov, GW__LEN(iov), &h->run->error);
}

/* With the last byte of the package the destination may run, whatever happens to what is written behind it. */
static int hand_over(struct gw__handover *h, uint8_t *devices)
{
	uint8_t room[16];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	int r = put_package(h, devices);
	if (!r)
		r = h->event(h->ctx, GW__POSTCOPY_SRC_EV_PACKAGE_SENT);
	gw__ping_encode(&c, GW__PING_SENT);
	return r ? r : gw__page_out_write(h->out, room, gw__wr_used(&c));
}

int gw__handover_run(struct gw__handover *h)
{
	uint8_t *devices = malloc(device_bytes(h->image) + 1);
	int r = devices ? put_head(h) : gw__error_set(&h->run->error, -ENOMEM, "no memory for the device state");
	if (!r)
		r = h->connect_preempt(h->ctx);
	if (!r)
		r = put_early(h, true, devices);
	if (!r)
		r = put_list(h);
	if (!r)
		r = put_early(h, false, devices);
	if (!r)
		r = gw__page_scheduler_send_first(h->pages);
	if (!r)
		r = put_discards(h);
	if (!r)
		r = h->event(h->ctx, GW__POSTCOPY_SRC_EV_STREAM_BEGUN);
	if (!r)
		r = hand_over(h, devices);
	free(devices);
	return r;
}
