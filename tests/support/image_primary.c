/* SPDX-License-Identifier: MIT */
/* The protocol of a COLO primary, by the table of plan/colo_primary.h; see image_primary.h. */
#include "image_primary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/colo/primary_talk.h"
#include "engine/files/stored_guest.h"
#include "engine/outgoing/peer_sink.h"
#include "wire/colo.h"

#define EV(x) GW__COLO_PRIMARY_EV_##x

enum { COMPARE_PAGES = 64 };

struct image_primary {
	struct gw__run *run;
	struct gw__outgoing *out;
	struct image_primary_opts o;
	struct gw__primary_talk talk;
	struct gw__multifd_send *multifd_send; /* NULL without */
	struct gw__sink *sink;
	const struct gw__image *image; /* what the secondary has; borrowed */
	struct gw__bitmap *changed;    /* one per block of it */
	uint32_t changed_n;
};

/* --- the guest --- */

static int make_bitmaps(struct image_primary *p, const struct gw__image *image)
{
	p->changed = calloc(image->blocks.n + 1, sizeof *p->changed);
	bool ok = p->changed;
	for (; ok && p->changed_n < image->blocks.n; p->changed_n++)
		ok = !gw__bitmap_init(&p->changed[p->changed_n], image->present[p->changed_n].bits);
	return ok ? 0 : gw__error_set(&p->run->error, -ENOMEM, "no memory for bitmaps");
}

static int check_image(struct image_primary *p, const struct gw__image *image)
{
	if (image->config.ignore_shared)
		return gw__error_set(&p->run->error, -EOPNOTSUPP, "%s leaves memory out (x-ignore-shared), which a secondary would lack",
			image->path);
	for (uint32_t i = 0; i < image->devices_n; i++)
		if (image->devices[i].section.type != GW__ITEM_FULL)
			return gw__error_set(&p->run->error, -EOPNOTSUPP,
				"%s: device \"%s\" comes in pieces; checkpoints have no place for it", image->path,
				image->devices[i].section.idstr);
	return 0;
}

static int open_stream(struct image_primary *p)
{
	struct gw__multifd_send_opts mo = {.method = p->o.method, .level = p->o.level};
	struct gw__peer_sink_opts so = {.ask_back = !p->o.old_dialect, .answer_ms = p->o.answer_ms, .colo = true};
	int r = p->out->multifd_n ? gw__multifd_send_new(p->run, p->out, &mo, &p->multifd_send) : 0;
	so.multifd_send = p->multifd_send;
	return r ? r : gw__peer_sink_new(p->run, p->out->main, &so, &p->sink, &p->run->error);
}

/* The sink's commit waits for SHUT in the new dialect. */
static int send_guest(struct image_primary *p, struct gw__image *image)
{
	int r = check_image(p, image);
	if (!r)
		r = make_bitmaps(p, image);
	if (!r)
		r = open_stream(p);
	if (!r)
		r = gw__stored_guest_run(p->run, &(struct gw__stored_guest){.image = image}, p->sink, NULL);
	if (!r)
		r = gw__primary_talk_step(&p->talk, p->o.old_dialect ? EV(GUEST_SENT_OLD) : EV(GUEST_SENT));
	if (!r && !p->o.old_dialect)
		r = gw__primary_talk_step(&p->talk, EV(SHUT));
	p->image = image;
	return r ? r : gw__primary_talk_await(&p->talk);
}

int image_primary_send_guest(struct image_primary *p, struct gw__image *image)
{
	return gw__primary_talk_lost(&p->talk, send_guest(p, image));
}

/* --- checkpoints --- */

static int check_same_vm(struct image_primary *p, const struct gw__image *image)
{
	const struct gw__blocks *a = &p->image->blocks, *b = &image->blocks;
	bool same = a->n == b->n && !strcmp(p->image->config.machine, image->config.machine) && p->image->ram_id == image->ram_id;
	for (uint32_t i = 0; same && i < a->n; i++)
		same = !strcmp(a->v[i].name, b->v[i].name) && a->v[i].used_bytes == b->v[i].used_bytes;
	return same ? check_image(p, image)
		    : gw__error_set(&p->run->error, -EINVAL, "%s and %s are not of one VM: machine or RAM blocks differ", p->image->path,
			      image->path);
}

static int compare_run(struct image_primary *p, const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n, uint8_t *room)
{
	uint64_t page_bytes = gw__config_page_bytes(&image->config);
	uint8_t *before = room, *now = room + COMPARE_PAGES * page_bytes;
	int r = gw__image_read_pages(p->image, block, first, n, before, &p->run->error);
	if (!r)
		r = gw__image_read_pages(image, block, first, n, now, &p->run->error);
	for (uint64_t i = 0; !r && i < n; i++)
		if (memcmp(before + i * page_bytes, now + i * page_bytes, page_bytes))
			gw__bitmap_set(&p->changed[block], first + i);
	return r;
}

static int compare(struct image_primary *p, const struct gw__image *image)
{
	uint8_t *room = malloc(2 * COMPARE_PAGES * gw__config_page_bytes(&image->config));
	int r = room ? 0 : gw__error_set(&p->run->error, -ENOMEM, "no memory to compare pages");
	for (uint32_t b = 0; !r && b < p->changed_n; b++) {
		struct gw__bitmap *changed = &p->changed[b];
		gw__bitmap_clear_range(changed, 0, changed->bits);
		for (uint64_t i = 0; !r && image != p->image && i < changed->bits; i += COMPARE_PAGES)
			r = compare_run(p, image, b, i, gw__min(COMPARE_PAGES, changed->bits - i), room);
	}
	free(room);
	return r;
}

/* FULL sections in the order of the image, in which early ones stand first, and one byte 00. */
static int send_devices(struct image_primary *p, const struct gw__image *image)
{
	uint64_t bytes = 1, at = 0;
	for (uint32_t i = 0; i < image->devices_n; i++)
		bytes += image->devices[i].bytes;
	uint8_t *all = calloc(1, bytes);
	int r = all ? 0 : gw__error_set(&p->run->error, -ENOMEM, "no memory for %llu bytes of device state", (unsigned long long)bytes);
	for (uint32_t i = 0; !r && i < image->devices_n; at += image->devices[i++].bytes)
		r = gw__image_read_at(image, image->devices[i].off, all + at, image->devices[i].bytes, &p->run->error);
	if (!r)
		r = gw__primary_talk_send(&p->talk, GW__COLO_VMSTATE_SIZE, bytes);
	if (!r)
		r = gw__chan_write_all(p->out->main, all, bytes, &p->run->error);
	free(all);
	return r ? r : gw__primary_talk_step(&p->talk, EV(DEVICES_SENT));
}

static int checkpoint(struct image_primary *p, const struct gw__image *image)
{
	int r = gw__primary_talk_send(&p->talk, GW__COLO_CHECKPOINT_REQUEST, 0);
	if (!r)
		r = gw__primary_talk_step(&p->talk, EV(REQUEST_SENT));
	if (!r)
		r = gw__primary_talk_await(&p->talk);
	if (!r)
		r = gw__primary_talk_send(&p->talk, GW__COLO_VMSTATE_SEND, 0);
	if (!r)
		r = gw__primary_talk_step(&p->talk, EV(SEND_SENT));
	if (!r)
		r = gw__peer_sink_put_checkpoint(p->sink, image, p->changed, &p->run->error);
	if (!r)
		r = gw__primary_talk_step(&p->talk, EV(RAM_SENT));
	if (!r)
		r = send_devices(p, image);
	if (!r)
		r = gw__primary_talk_await(&p->talk); /* VMSTATE_RECEIVED */
	if (!r)
		r = gw__primary_talk_await(&p->talk); /* VMSTATE_LOADED */
	if (!r)
		p->image = image;
	return r;
}

int image_primary_checkpoint(struct image_primary *p, const struct gw__image *image)
{
	int r = check_same_vm(p, image);
	if (!r)
		r = compare(p, image);
	return r ? r : gw__primary_talk_lost(&p->talk, checkpoint(p, image));
}

/* --- its life --- */

enum gw__colo_primary_state image_primary_state(const struct image_primary *p) { return p->talk.state; }

int image_primary_new(struct gw__run *run, struct gw__outgoing *out, const struct image_primary_opts *o, struct image_primary **p)
{
	*p = NULL;
	if (o->old_dialect && out->multifd_n)
		return gw__error_set(&run->error, -EOPNOTSUPP, "the old dialect of COLO (QEMU 10.0) goes over one channel");
	struct image_primary *made = calloc(1, sizeof *made);
	if (!made)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a COLO primary");
	made->run = run;
	made->out = out;
	made->o = *o;
	made->talk = (struct gw__primary_talk){.run = run, .chan = out->main, .answer_ms = o->answer_ms};
	*p = made;
	return 0;
}

void image_primary_free(struct image_primary *p)
{
	if (!p)
		return;
	gw__sink_free(&p->sink);
	gw__multifd_send_free(p->multifd_send);
	for (uint32_t i = 0; p->changed && i < p->changed_n; i++)
		gw__bitmap_fini(&p->changed[i]);
	free(p->changed);
	free(p);
}
