/* SPDX-License-Identifier: MIT */
/* Pages and devices of an image for the page server; see image_pages.h. */
#include "engine/pageserver/image_pages.h"

static const struct gw__image *image_of(const struct gw__page_source *s) { return s->ctx; }

static uint64_t next_content(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t end)
{
	return gw__bitmap_next_set_before(&image_of(s)->present[block], first, end);
}

static uint64_t next_zero(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t end)
{
	return gw__bitmap_next_clear_before(&image_of(s)->present[block], first, end);
}

static int read_pages(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t n, bool may_wait, uint8_t *room,
	const uint8_t **pages, struct gw__error *error)
{
	*pages = room;
	return may_wait ? gw__image_read_pages(image_of(s), block, first, n, room, error)
			: gw__image_read_pages_now(image_of(s), block, first, n, room);
}

static void readahead(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t n)
{
	gw__image_readahead(image_of(s), block, first, n);
}

/* A piece of an iterable: its END may stand after RAM's, and belongs before the package. */
static enum gw__device_place place_of(const struct gw__image_device *d)
{
	bool early = d->early || d->section.type != GW__ITEM_FULL;
	if (d->before_ram)
		return GW__DEVICES_BEFORE_LIST;
	return early ? GW__DEVICES_BEFORE_PACKAGE : GW__DEVICES_IN_PACKAGE;
}

static int read_devices(const struct gw__page_source *s, enum gw__device_place place, uint8_t *to, size_t *n, struct gw__error *error)
{
	const struct gw__image *image = image_of(s);
	int r = 0;
	*n = 0;
	for (uint32_t i = 0; !r && i < image->devices_n; i++) {
		const struct gw__image_device *d = &image->devices[i];
		if (place_of(d) != place)
			continue;
		r = gw__image_read_at(image, d->off, to + *n, d->bytes, error);
		*n += d->bytes;
	}
	return r;
}

struct gw__page_source gw__image_pages(const struct gw__image *image)
{
	static const struct gw__page_source_ops ops = {.next_content = next_content,
		.next_zero = next_zero,
		.read = read_pages,
		.readahead = readahead,
		.read_devices = read_devices};
	struct gw__page_source s = {.ops = &ops, .config = &image->config, .blocks = &image->blocks, .ram_id = image->ram_id, .ctx = image};
	for (uint32_t i = 0; i < image->devices_n; i++)
		s.device_bytes += image->devices[i].bytes;
	return s;
}
