/* SPDX-License-Identifier: MIT */
/*
 * The image sink for a source that switches to post-copy, and for who comes after us: what has to be known beyond the pages is
 * kept in the image's state file (image/partial.h). See sink.h for the order of calls.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/sink_image.h"
#include "wire/package.h"
#include "wire/tail.h"

static struct gw__image_sink *own(struct gw__sink *s) { return (struct gw__image_sink *)s; }

int gw__sink_image_keep_early(struct gw__image_sink *s, struct gw__view raw, struct gw__why *why)
{
	uint8_t *early = realloc(s->early, s->early_bytes + raw.n + 1);
	if (!early)
		return gw__why_set(why, -ENOMEM, "no memory for %zu bytes of device state", raw.n);
	memcpy(early + s->early_bytes, raw.p, raw.n);
	s->early = early;
	s->early_bytes += raw.n;
	s->early[s->early_bytes] = GW__ITEM_EOF;
	return 0;
}

static int begin(struct gw__sink *s, struct gw__why *why)
{
	if (own(s)->config.ignore_shared)
		return gw__why_set(why, -EOPNOTSUPP, "post-copy next to x-ignore-shared, which no QEMU does");
	return gw__image_begin_partial(own(s)->writer, why);
}

static int prepare(struct gw__sink *s, struct gw__why *why)
{
	if (own(s)->config.ignore_shared)
		return 0;
	int r = gw__image_prepare_partial(own(s)->writer, why);
	return r ? r : gw__image_put_list(own(s)->writer, &own(s)->config, own(s)->note, why);
}

static int discard(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__why *why)
{
	(void)why;
	gw__image_discard(own(s)->writer, block, off, pages);
	return 0;
}

static int hold(struct gw__sink *s, uint8_t **package, size_t bytes, struct gw__why *why)
{
	struct gw__image_sink *o = own(s);
	o->package = *package;
	o->package_bytes = bytes;
	*package = NULL;
	o->any_ram_id = !bytes; /* who drains never heard it */
	return gw__image_hold(o->writer, &o->config, (struct gw__view){o->early, o->early_bytes}, (struct gw__view){o->package, bytes},
		o->note, why);
}

static void known(struct gw__sink *s, struct gw__sink_known *k)
{
	const struct gw__image_sink *o = own(s);
	*k = (struct gw__sink_known){.blocks = gw__image_blocks(o->writer),
		.page_bytes = o->page_bytes,
		.ram_id = o->ram_id,
		.any_ram_id = o->any_ram_id,
		.devices_n = o->plain.n,
		.early = {o->early, o->early_bytes},
		.package = {o->package, o->package_bytes}};
}

static const struct gw__bitmap *received(struct gw__sink *s, uint32_t block) { return gw__image_received(own(s)->writer, block); }
static int checkpoint(struct gw__sink *s, struct gw__why *why) { return gw__image_checkpoint(own(s)->writer, why); }
static int learn_ram_id(struct gw__sink *s, uint32_t id, struct gw__why *why)
{
	own(s)->ram_id = id;
	return gw__image_set_ram_id(own(s)->writer, id, why);
}

static bool is_committed(struct gw__sink *s) { return gw__image_is_committed(own(s)->writer); }
static void forget(struct gw__sink *s) { gw__image_forget_partial(own(s)->writer); }

const struct gw__sink_postcopy_ops gw__sink_image_postcopy = {
	.prepare = prepare,
	.begin = begin,
	.discard = discard,
	.hold = hold,
	.known = known,
	.received = received,
	.learn_ram_id = learn_ram_id,
	.checkpoint = checkpoint,
	.is_committed = is_committed,
	.forget = forget,
};

/* The devices that stand in the image already are described by their sections alone. */
static int describe_early(struct gw__image_sink *o, struct gw__why *why)
{
	for (size_t at = 0; at < o->early_bytes;) {
		struct gw__section section;
		size_t body_at, body_bytes;
		size_t left = o->early_bytes + 1 - at; /* with the end mark, so that the footer of the last one is believed */
		int r = gw__tail_split(NULL, 0, o->early + at, left, true, &section, &body_at, &body_bytes, NULL, why);
		if (r || gw__vmdesc_plain_add(&o->plain, section.idstr, section.instance, body_bytes))
			return r ? gw__why_where(why, "the early devices of the partial image")
				 : gw__why_set(why, -ENOMEM, "no memory for a list of devices");
		at += body_at + body_bytes + GW__FOOTER_BYTES;
	}
	return 0;
}

static int take_saved(struct gw__image_sink *o, const struct gw__partial_saved *saved, struct gw__why *why)
{
	o->config = saved->config;
	o->page_bytes = gw__config_page_bytes(&saved->config);
	o->ram_id = saved->ram_id;
	o->any_ram_id = !saved->package.n; /* who drains never heard it */
	o->package = malloc(saved->package.n + 1);
	if (!o->package)
		return gw__why_set(why, -ENOMEM, "no memory for %zu bytes of device state", saved->package.n);
	if (saved->package.n)
		memcpy(o->package, saved->package.p, saved->package.n);
	o->package_bytes = saved->package.n;
	struct gw__package package;
	int bad = saved->package.n ? gw__package_decode(o->package, o->package_bytes, &package, why) : 0;
	if (bad)
		return gw__why_where(why, "the device state of the partial image");
	int r = saved->early.n ? gw__sink_image_keep_early(o, saved->early, why) : 0;
	return r ? r : describe_early(o, why);
}

int gw__sink_image_resume(const char *path, struct gw__sink **sink, struct gw__view *note, bool *fell_back, struct gw__why *why)
{
	struct gw__image_writer *writer = NULL;
	const struct gw__partial_saved *saved = NULL;
	int r = gw__image_resume(path, &writer, &saved, fell_back, why);
	if (r)
		return r;
	struct gw__image_sink *o = gw__sink_image_around(&writer);
	if (!o) {
		gw__image_writer_close(writer);
		return gw__why_set(why, -ENOMEM, "no memory for an image");
	}
	r = take_saved(o, saved, why);
	*note = saved->note;
	*sink = &o->sink;
	if (r)
		gw__sink_free(sink);
	return r;
}

void gw__sink_image_note(struct gw__sink *sink, struct gw__view note) { own(sink)->note = note; }
