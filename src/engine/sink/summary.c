/* SPDX-License-Identifier: MIT */
/* The sink that only remembers what a guest consists of; pages pass by. For inspect and verify. */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/sink/summary.h"

struct gist_sink {
	struct gw__sink sink; /* first */
	struct gw__guest_summary *summary;
	size_t max_bytes;
	bool ram_ended;
};

static struct gw__guest_summary *gist_of(struct gw__sink *s) { return ((struct gist_sink *)s)->summary; }

static int keep_config(struct gw__sink *s, const struct gw__config *config, struct gw__error *error)
{
	(void)error;
	gist_of(s)->config = *config;
	return 0;
}

/* Bitmaps for the blocks from `first` on. Of what a stream claims only what it fills takes memory. */
static int make_bitmaps(struct gw__guest_summary *g, uint32_t first)
{
	struct gw__bitmap *grown = realloc(g->present, g->blocks.n * sizeof *grown);
	if (!grown)
		return -ENOMEM;
	g->present = grown;
	memset(grown + first, 0, (g->blocks.n - first) * sizeof *grown);
	g->present_n = g->blocks.n;
	int r = 0;
	for (uint32_t i = first; !r && i < g->blocks.n; i++)
		r = gw__bitmap_init(&grown[i], g->blocks.v[i].used_bytes / gw__config_page_bytes(&g->config));
	return r;
}

static int keep_blocks(struct gw__sink *s, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error)
{
	struct gw__guest_summary *g = gist_of(s);
	uint32_t first = g->blocks.n;
	(void)section_id;
	int r = gw__blocks_add_all(&g->blocks, blocks);
	if (!r && g->wants_present && blocks->n)
		r = make_bitmaps(g, first);
	return r ? gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", blocks->n) : 0;
}

static int see_pages(struct gw__sink *s, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	struct gw__guest_summary *g = gist_of(s);
	uint64_t bytes = 0, page_bytes = gw__config_page_bytes(&g->config);
	(void)error;
	for (int i = 0; g->present && i < n; i++)
		bytes += pages[i].iov_len;
	if (bytes)
		gw__bitmap_set_range(&g->present[block], off / page_bytes, bytes / page_bytes);
	return 0;
}

static int see_zeros(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	struct gw__guest_summary *g = gist_of(s);
	(void)error;
	if (g->present)
		gw__bitmap_clear_range(&g->present[block], off / gw__config_page_bytes(&g->config), pages);
	return 0;
}

/* Deltas are applied to a page of zeros: the result is thrown away, only their form is checked. */
static int peek_zeros(struct gw__sink *s, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	(void)block, (void)off, (void)error;
	memset(page, 0, gw__config_page_bytes(&gist_of(s)->config));
	return 0;
}

static int grow(void **p, size_t need, size_t unit, size_t *room)
{
	if (need <= *room)
		return 0;
	size_t more = *room * 2 > need ? *room * 2 : need;
	void *bigger = realloc(*p, more * unit);
	if (!bigger)
		return -ENOMEM;
	*p = bigger;
	*room = more;
	return 0;
}

/* Nobody can look into it, so it only counts. */
static int add_piece(struct gw__guest_summary *g, const struct gw__section *section, size_t bytes, struct gw__error *error)
{
	for (uint32_t i = g->iterables_n; i-- > 0;)
		if (g->device[g->iterable[i]].section.id == section->id) {
			g->device[g->iterable[i]].more += bytes;
			g->piece_bytes += bytes;
			return 0;
		}
	return gw__error_set(error, -EPROTO, "section %u goes on, but did not begin", section->id);
}

static int keep_device(struct gw__sink *s, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__error *error)
{
	struct gw__guest_summary *g = gist_of(s);
	struct gist_sink *own = (struct gist_sink *)s;
	size_t devices_room = g->devices_room;
	bool iterable = section->type != GW__ITEM_FULL;
	if (iterable && section->type != GW__ITEM_START)
		return add_piece(g, section, raw.n, error);
	if (iterable && g->iterables_n == GW__LEN(g->iterable))
		return gw__error_set(error, -E2BIG, "more than %zu iterable sections", GW__LEN(g->iterable));
	if (g->raw_bytes + raw.n > own->max_bytes)
		return gw__error_set(error, -E2BIG, "more than %zu bytes of device state", own->max_bytes);
	void *raw_now = g->raw, *devices_now = g->device;
	int r = grow(&raw_now, g->raw_bytes + raw.n, 1, &g->raw_room);
	g->raw = raw_now;
	if (!r)
		r = grow(&devices_now, g->devices_n + 1, sizeof *g->device, &devices_room);
	g->device = devices_now;
	g->devices_room = (uint32_t)devices_room;
	if (r)
		return gw__error_set(error, r, "no memory for the device state");
	g->device[g->devices_n].section = *section;
	g->device[g->devices_n].off = off;
	g->device[g->devices_n].at = g->raw_bytes;
	g->device[g->devices_n].bytes = raw.n;
	g->device[g->devices_n].more = 0;
	g->device[g->devices_n].described = iterable ? UINT32_MAX : g->described_n++;
	if (iterable)
		g->iterable[g->iterables_n++] = g->devices_n;
	g->device[g->devices_n++].early = !own->ram_ended;
	memcpy(g->raw + g->raw_bytes, raw.p, raw.n);
	g->raw_bytes += raw.n;
	return 0;
}

static int note_ram_end(struct gw__sink *s, struct gw__error *error)
{
	(void)error;
	((struct gist_sink *)s)->ram_ended = true;
	return 0;
}

static int keep_text(struct gw__sink *s, struct gw__view description, struct gw__error *error)
{
	struct gw__guest_summary *g = gist_of(s);
	if (!description.n)
		return 0;
	g->text = malloc(description.n + 1);
	if (!g->text)
		return gw__error_set(error, -ENOMEM, "no memory for the VM description");
	memcpy(g->text, description.p, description.n);
	g->text[description.n] = 0;
	g->text_bytes = description.n;
	return 0;
}

static void free_sink(struct gw__sink *s) { free(s); }

void gw__guest_summary_fini(struct gw__guest_summary *summary)
{
	for (uint32_t i = 0; i < summary->present_n; i++)
		gw__bitmap_fini(&summary->present[i]);
	free(summary->present);
	gw__blocks_fini(&summary->blocks);
	free(summary->device);
	free(summary->raw);
	free(summary->text);
	memset(summary, 0, sizeof *summary);
}

int gw__sink_summary_new(struct gw__guest_summary *summary, size_t max_bytes, struct gw__sink **sink, struct gw__error *error)
{
	static const struct gw__sink_ops ops = {
		.config = keep_config,
		.blocks = keep_blocks,
		.pages = see_pages,
		.zeros = see_zeros,
		.read_back = peek_zeros,
		.device = keep_device,
		.ram_end = note_ram_end,
		.end = keep_text,
		.free = free_sink,
	};
	struct gist_sink *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(error, -ENOMEM, "no memory");
	s->sink.ops = &ops;
	s->summary = summary;
	s->max_bytes = max_bytes;
	*sink = &s->sink;
	return 0;
}
