/* SPDX-License-Identifier: MIT */
/* The sink that keeps a guest in a mapped-ram image: puts the records between the writer's regions. */
#include <errno.h>
#include <stdlib.h>

#include "engine/sink_image.h"
#include "image/image.h"
#include "image/lane.h"

static struct gw__image_writer *writer_of(struct gw__sink *s) { return ((struct gw__image_sink *)s)->writer; }

static int put_config(struct gw__sink *s, const struct gw__config *config, struct gw__why *why)
{
	struct gw__image_sink *own = (struct gw__image_sink *)s;
	own->config = *config;
	own->page_bytes = gw__config_page_bytes(config);
	gw__config_add_cap(&own->config, "mapped-ram"); /* a list that is full is the writer's to refuse */
	return gw__image_put_config(writer_of(s), config, why);
}

static int put_blocks(struct gw__sink *s, uint32_t section_id, const struct gw__blocks *blocks, struct gw__why *why)
{
	((struct gw__image_sink *)s)->ram_id = section_id;
	return gw__image_put_blocks(writer_of(s), section_id, blocks, why);
}

static int put_pages(struct gw__sink *s, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__why *why)
{
	return gw__image_put_pages(writer_of(s), block, off, pages, n, why);
}

static int put_zeros(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__why *why)
{
	(void)why;
	gw__image_put_zeros(writer_of(s), block, off, pages);
	return 0;
}

static int peek(struct gw__sink *s, uint32_t block, uint64_t off, void *page, struct gw__why *why)
{
	return gw__image_peek_page(writer_of(s), block, off, page, why);
}

/* What could not be read again is not written. Pieces of one iterable are one entry as long as they stand side by side. */
static int count_piece(struct gw__image_sink *s, const struct gw__section *section, size_t bytes, struct gw__why *why)
{
	s->pieces_bytes += bytes;
	if (s->pieces_n && section->type != GW__ITEM_START && s->pieces_id == section->id && s->pieces_bytes <= GW__IMAGE_PIECES_MAX_BYTES)
		return 0;
	s->pieces_id = section->id;
	s->pieces_bytes = bytes;
	if (++s->pieces_n <= GW__IMAGE_DEVICES_MAX / 2)
		return 0;
	return gw__why_set(why, -E2BIG, "the iterable sections came in more than %d pieces; pause the guest and try again",
		GW__IMAGE_DEVICES_MAX / 2);
}

static int put_device(struct gw__sink *s, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__why *why)
{
	struct gw__image_sink *own = (struct gw__image_sink *)s;
	(void)off;
	if (section->type != GW__ITEM_FULL) { /* no description names it, and it is in the image for whoever goes on */
		int r = count_piece(own, section, raw.n, why);
		return r ? r : gw__image_put_raw(writer_of(s), raw.p, raw.n, why);
	}
	if (gw__vmdesc_plain_add(&own->plain, section->idstr, section->instance, gw__section_body_bytes(section, raw.n)))
		return gw__why_set(why, -ENOMEM, "no memory for a list of devices");
	int r = own->ram_ended ? 0 : gw__sink_image_keep_early(own, raw, why);
	return r ? r : gw__image_put_raw(writer_of(s), raw.p, raw.n, why);
}

/* QEMU writes an empty PART per iteration; nobody needs them to load the image. */
static int note_round(struct gw__sink *s, struct gw__why *why)
{
	(void)s;
	(void)why;
	return 0;
}

static int put_switchover(struct gw__sink *s, struct gw__why *why)
{
	uint8_t bytes[8];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__command_encode(&c, GW__CMD_SWITCHOVER_START, NULL, 0);
	return gw__image_put_raw(writer_of(s), bytes, gw__wr_used(&c), why);
}

static int put_ram_end(struct gw__sink *s, struct gw__why *why)
{
	((struct gw__image_sink *)s)->ram_ended = true;
	return gw__image_put_ram_end(writer_of(s), why);
}

/*
 * The description is what tells a whole image from an interrupted one, so a guest that came without gets one. The
 * one that came describes the configuration of the stream, which the image does not have.
 */
static int describe(struct gw__image_sink *s, struct gw__view description, char **text, size_t *n)
{
	if (description.n)
		return gw__vmdesc_reconfigure(description.p, description.n, &s->config, text, n);
	return gw__vmdesc_plain_text(&s->plain, &s->config, text, n);
}

static int put_end(struct gw__sink *s, struct gw__view description, struct gw__why *why)
{
	char *text = NULL;
	size_t n = 0;
	if (describe((struct gw__image_sink *)s, description, &text, &n))
		return gw__why_set(why, -ENOMEM, "no memory for the VM description");
	uint8_t head[8];
	struct gw__wr c = gw__wr_over(head, sizeof head);
	gw__wr_u8(&c, GW__ITEM_EOF);
	gw__wr_u8(&c, GW__ITEM_VMDESC);
	gw__wr_be32(&c, (uint32_t)n);
	int r = gw__image_put_raw(writer_of(s), head, gw__wr_used(&c), why);
	if (!r)
		r = gw__image_put_raw(writer_of(s), text, n, why);
	free(text);
	return r;
}

static int sync_image(struct gw__sink *s, struct gw__why *why) { return gw__image_sync(writer_of(s), why); }

static int commit(struct gw__sink *s, struct gw__why *why)
{
	return gw__image_is_committed(writer_of(s)) ? 0 : gw__image_commit(writer_of(s), why);
}

static int open_lane(struct gw__sink *s, struct gw__lane **lane, struct gw__why *why) { return gw__lane_new(writer_of(s), lane, why); }

static void free_sink(struct gw__sink *s)
{
	gw__image_writer_close(writer_of(s));
	struct gw__image_sink *own = (struct gw__image_sink *)s;
	gw__vmdesc_plain_fini(&own->plain);
	free(own->early);
	free(own->package);
	free(s);
}

struct gw__image_sink *gw__sink_image_around(struct gw__image_writer **writer)
{
	static const struct gw__sink_ops ops = {
		.config = put_config,
		.blocks = put_blocks,
		.pages = put_pages,
		.zeros = put_zeros,
		.peek = peek,
		.device = put_device,
		.round = note_round,
		.switchover = put_switchover,
		.ram_end = put_ram_end,
		.end = put_end,
		.sync = sync_image,
		.commit = commit,
		.postcopy = &gw__sink_image_postcopy,
		.lane = open_lane,
		.free = free_sink,
	};
	struct gw__image_sink *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->sink.ops = &ops;
	s->writer = *writer;
	*writer = NULL;
	return s;
}

int gw__sink_image_new(struct gw__image_writer **writer, struct gw__sink **sink, struct gw__why *why)
{
	struct gw__image_sink *s = gw__sink_image_around(writer);
	if (!s)
		return gw__why_set(why, -ENOMEM, "no memory for an image");
	*sink = &s->sink;
	return 0;
}
