/* SPDX-License-Identifier: MIT */
/* What an image notes of each event of its stream, and the checks that need the file; see image_load.h. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "image/image_load.h"
#include "wire/mapped.h"

typedef unsigned long long ull;

/* A block's header was read, and ends at `header_end`: the decoder has checked it, but does not know the
 * file. */
static int check_regions(struct gw__image_load *l, uint64_t header_end, uint64_t seek_off)
{
	const struct gw__block *b = &l->stream.blocks.v[l->stream.blocks.n - 1];
	assert(seek_off == b->pages_off + b->used_bytes);
	if (seek_off > l->image->file_bytes)
		return gw__why_set(l->why, -EPROTO,
			"%s: the pages of block \"%s\" reach to offset %llu, but the file ends at %llu; the "
			"save was interrupted, or the "
			"file was cut",
			l->image->path, b->name, (ull)seek_off, (ull)l->image->file_bytes);
	if (b->bitmap_off != header_end)
		gw__image_note_odd(l->image, "block \"%s\": its bitmap is at offset %llu, expected right behind its header (%llu)", b->name,
			(ull)b->bitmap_off, (ull)header_end);
	if (!gw__is_aligned(b->pages_off, GW__MAPPED_ALIGN))
		gw__image_note_odd(l->image, "block \"%s\": its pages begin at offset %llu, expected a multiple of 1 MiB", b->name,
			(ull)b->pages_off);
	return 0;
}

static int note_config(struct gw__image_load *l)
{
	l->image->config = l->stream.config; /* but for the page size, which may come with the blocks */
	if (l->image->config.mapped_ram)
		return 0;
	return gw__why_set(l->why, -EPROTO,
		"%s is a plain migration stream, not a mapped-ram image; `godwit inspect` reads it and "
		"`godwit convert` makes an "
		"image of it",
		l->image->path);
}

/* Is this one more piece of what the last entry is? */
static bool goes_on(const struct gw__image_load *l, const struct gw__event *ev)
{
	const struct gw__image *image = l->image;
	if (ev->kind != GW__EVENT_OPAQUE || !image->devices_n || ev->section.type == GW__ITEM_START)
		return false;
	const struct gw__image_device *d = &image->devices[image->devices_n - 1];
	return d->section.type != GW__ITEM_FULL && d->section.id == ev->section.id && d->off + d->bytes == ev->off &&
	       d->early == !l->stream.ram_ended && d->bytes + ev->raw.n <= GW__IMAGE_PIECES_MAX_BYTES;
}

static int note_device(struct gw__image_load *l, const struct gw__event *ev)
{
	struct gw__image *image = l->image;
	if (goes_on(l, ev)) {
		image->devices[image->devices_n - 1].bytes += ev->raw.n;
		image->devices[image->devices_n - 1].body_bytes += ev->raw.n;
		return 0;
	}
	if (image->devices_n == GW__IMAGE_DEVICES_MAX)
		return gw__why_set(l->why, -E2BIG, "%s: more than %d device sections", image->path, GW__IMAGE_DEVICES_MAX);
	if (image->devices_n == l->devices_room) {
		uint32_t room = l->devices_room ? l->devices_room * 2 : 64;
		struct gw__image_device *v = realloc(image->devices, room * sizeof *v);
		if (!v)
			return gw__why_set(l->why, -ENOMEM, "%s: no memory for %u devices", image->path, room);
		image->devices = v;
		l->devices_room = room;
	}
	if (ev->odd)
		gw__image_note_odd(image, "device \"%s\" at offset %llu: %s", ev->section.idstr, (ull)ev->off, ev->odd);
	image->devices[image->devices_n++] = (struct gw__image_device){
		.section = ev->section,
		.off = ev->off,
		.bytes = ev->raw.n,
		.body_off = ev->off + (uint64_t)(ev->body.p - ev->raw.p),
		.body_bytes = ev->body.n,
		.early = !l->stream.ram_ended,
		.before_ram = !l->stream.ram_started,
	};
	return 0;
}

static int note_end(struct gw__image_load *l)
{
	struct gw__image *image = l->image;
	struct gw__stream *s = &l->stream;
	image->end_off = s->off;
	if (s->background)
		return gw__why_set(l->why, -EPROTO,
			"%s: RAM has a start but no end, so its bitmaps were never written: a save with "
			"background-snapshot and "
			"mapped-ram together, which QEMU reports as completed although it holds no memory "
			"(docs/spec/mapped-ram.md 3)",
			image->path);
	if (!s->desc)
		return gw__why_set(l->why, -EPROTO,
			"%s ends at offset %llu without a VM description: the save was interrupted (or the "
			"machine has "
			"suppress-vmdesc=on, whose files cannot be told from interrupted ones)",
			image->path, (ull)s->off);
	uint64_t page_bytes = gw__vmdesc_page_bytes(s->desc);
	if (page_bytes && page_bytes != s->page_bytes)
		gw__image_note_odd(image, "the VM description names a page size of %llu, the blocks one of %llu", (ull)page_bytes,
			(ull)s->page_bytes);
	image->config = s->config;
	image->ram_id = s->ram_id;
	image->switchover = s->switchover;
	image->parts = s->parts;
	image->blocks = s->blocks;
	image->desc = s->desc;
	s->blocks = (struct gw__blocks){0};
	s->desc = NULL;
	return 0;
}

static int note_command(struct gw__image_load *l, const struct gw__event *ev)
{
	if (ev->command.number != GW__CMD_SWITCHOVER_START)
		gw__image_note_odd(l->image, "command %s at offset %llu, which means nothing in a file",
			gw__command_name(ev->command.number), (ull)ev->off);
	return 0;
}

int gw__image_take(struct gw__image_load *l, const struct gw__event *ev, uint64_t end_off)
{
	switch (ev->kind) {
	case GW__EVENT_CONFIG:
		return note_config(l);
	case GW__EVENT_COMMAND:
		return note_command(l, ev);
	case GW__EVENT_SEEK:
		return check_regions(l, end_off, ev->seek_off);
	case GW__EVENT_DEVICE:
	case GW__EVENT_OPAQUE:
		return note_device(l, ev);
	case GW__EVENT_DESC:
		l->image->text_off = ev->off + (uint64_t)(ev->body.p - ev->raw.p);
		l->image->text_bytes = ev->body.n;
		return 0;
	case GW__EVENT_END:
		return note_end(l);
	default:
		return 0; /* the ends of RAM sections; page records are the decoder's to refuse */
	}
}
