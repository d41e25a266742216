/* SPDX-License-Identifier: MIT */
/* The sink that keeps a guest in a mapped-ram image: puts the records between the writer's regions. */
#include <errno.h>
#include <stdlib.h>

#include "engine/sinks.h"

struct image_sink {
	struct gw__sink sink; /* first: ops find the rest through it */
	struct gw__image_writer *writer;
};

static struct gw__image_writer *writer_of(struct gw__sink *s) { return ((struct image_sink *)s)->writer; }

static int put_config(struct gw__sink *s, const struct gw__config *config, struct gw__why *why)
{
	return gw__image_put_config(writer_of(s), config, why);
}

static int put_blocks(struct gw__sink *s, uint32_t section_id, const struct gw__blocks *blocks, struct gw__why *why)
{
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

static int put_device(struct gw__sink *s, const struct gw__section *section, uint64_t off, struct gw__view raw,
	struct gw__why *why)
{
	(void)section, (void)off;
	return gw__image_put_raw(writer_of(s), raw.p, raw.n, why);
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

static int put_ram_end(struct gw__sink *s, struct gw__why *why) { return gw__image_put_ram_end(writer_of(s), why); }

static int put_end(struct gw__sink *s, struct gw__view description, struct gw__why *why)
{
	uint8_t bytes[8];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__wr_u8(&c, GW__ITEM_EOF);
	if (description.n) {
		gw__wr_u8(&c, GW__ITEM_VMDESC);
		gw__wr_be32(&c, (uint32_t)description.n);
	}
	int r = gw__image_put_raw(writer_of(s), bytes, gw__wr_used(&c), why);
	return r || !description.n ? r : gw__image_put_raw(writer_of(s), description.p, description.n, why);
}

static int commit(struct gw__sink *s, struct gw__why *why) { return gw__image_commit(writer_of(s), why); }

static void free_sink(struct gw__sink *s)
{
	gw__image_writer_close(writer_of(s));
	free(s);
}

int gw__sink_image_new(struct gw__image_writer **writer, struct gw__sink **sink, struct gw__why *why)
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
		.commit = commit,
		.free = free_sink,
	};
	struct image_sink *s = calloc(1, sizeof *s);
	if (!s)
		return gw__why_set(why, -ENOMEM, "no memory for an image");
	s->sink.ops = &ops;
	s->writer = *writer;
	*writer = NULL;
	*sink = &s->sink;
	return 0;
}
