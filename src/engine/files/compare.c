/* SPDX-License-Identifier: MIT */
/* Compares two images page by page and device by device; see compare.h. */
#include "engine/files/compare.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"

typedef unsigned long long ull;

enum { BATCH_PAGES = 128 };

struct compare {
	struct gw__run *run;
	const struct gw__image *a, *b;
	struct gw__bitmap *differing; /* by block of a; NULL: nobody wants them */
	gw__difference_fn *fn;
	void *ctx;
	bool different, stopped;
	uint8_t *in_a, *in_b; /* BATCH_PAGES each */
};

static void differ(struct compare *c, const char *fmt, ...) GW__PRINTF(2, 3);
static void differ(struct compare *c, const char *fmt, ...)
{
	char sentence[512];
	c->different = true;
	if (!c->fn || c->stopped)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(sentence, sizeof sentence, fmt, ap);
	va_end(ap);
	c->stopped = !c->fn(c->ctx, sentence);
}

static uint64_t count_differing(struct compare *c, uint64_t page_bytes, uint64_t n, uint64_t *first)
{
	uint64_t count = 0;
	for (uint64_t i = 0; i < n; i++)
		if (memcmp(c->in_a + i * page_bytes, c->in_b + i * page_bytes, page_bytes)) {
			if (!count)
				*first = i;
			count++;
		}
	return count;
}

/* The next page that either side holds content for; pages absent on both sides are equal. */
static uint64_t next_page(const struct gw__bitmap *a, const struct gw__bitmap *b, uint64_t from)
{
	return gw__min(gw__bitmap_next_set(a, from), gw__bitmap_next_set(b, from));
}

static int compare_pages(struct compare *c, uint32_t ia, uint32_t ib)
{
	const struct gw__bitmap *pa = &c->a->present[ia], *pb = &c->b->present[ib];
	uint64_t page_bytes = gw__config_page_bytes(&c->a->config);
	uint64_t differing = 0, first_off = 0;
	for (uint64_t i = next_page(pa, pb, 0); i < pa->bits; i = next_page(pa, pb, i)) {
		uint64_t first = 0, n = gw__min(BATCH_PAGES, pa->bits - i);
		int r = gw__image_read_pages(c->a, ia, i, n, c->in_a, &c->run->error);
		if (!r)
			r = gw__image_read_pages(c->b, ib, i, n, c->in_b, &c->run->error);
		if (r)
			return r;
		uint64_t count = count_differing(c, page_bytes, n, &first);
		if (count && !differing)
			first_off = (i + first) * page_bytes;
		differing += count;
		for (uint64_t k = first; count && c->differing && k < n; k++)
			if (memcmp(c->in_a + k * page_bytes, c->in_b + k * page_bytes, page_bytes))
				gw__bitmap_set(&c->differing[ia], i + k);
		i += n;
		gw__run_tick(c->run);
		r = gw__run_check_cancel(c->run);
		if (r)
			return r;
	}
	if (differing)
		differ(c, "RAM block \"%s\": %llu of %llu pages differ, the first at offset 0x%llx", c->a->blocks.v[ia].name,
			(ull)differing, (ull)pa->bits, (ull)first_off);
	return 0;
}

static int compare_block(struct compare *c, uint32_t ia)
{
	const struct gw__block *a = &c->a->blocks.v[ia];
	int64_t ib = gw__blocks_find(&c->b->blocks, a->name);
	if (ib < 0) {
		differ(c, "RAM block \"%s\" is only in the first", a->name);
		return 0;
	}
	const struct gw__block *b = &c->b->blocks.v[ib];
	if (a->used_bytes != b->used_bytes || a->ignored != b->ignored) {
		differ(c, "RAM block \"%s\" has %llu bytes%s in the first and %llu%s in the second", a->name, (ull)a->used_bytes,
			a->ignored ? " (left out)" : "", (ull)b->used_bytes, b->ignored ? " (left out)" : "");
		return 0;
	}
	return a->ignored ? 0 : compare_pages(c, ia, (uint32_t)ib);
}

static int compare_ram(struct compare *c)
{
	int r = 0;
	for (uint32_t i = 0; !r && !c->stopped && i < c->a->blocks.n; i++)
		r = compare_block(c, i);
	for (uint32_t i = 0; !r && !c->stopped && i < c->b->blocks.n; i++)
		if (gw__blocks_find(&c->a->blocks, c->b->blocks.v[i].name) < 0)
			differ(c, "RAM block \"%s\" is only in the second", c->b->blocks.v[i].name);
	return r;
}

/* Else it is pieces of an iterable, which have no instances. */
static bool is_device(const struct gw__image_device *d) { return d->section.type == GW__ITEM_FULL; }

static const struct gw__image_device *find_device(const struct gw__image *image, const struct gw__section *s)
{
	for (uint32_t i = 0; i < image->devices_n; i++)
		if (is_device(&image->devices[i]) && !strcmp(image->devices[i].section.idstr, s->idstr) &&
			image->devices[i].section.instance == s->instance)
			return &image->devices[i];
	return NULL;
}

static int compare_bodies(struct compare *c, const struct gw__image_device *a, const struct gw__image_device *b)
{
	uint8_t *in_a = malloc(a->body_bytes + 1), *in_b = malloc(b->body_bytes + 1);
	int r = in_a && in_b ? 0 : gw__error_set(&c->run->error, -ENOMEM, "no memory for device \"%s\"", a->section.idstr);
	if (!r)
		r = gw__image_read_at(c->a, a->body_off, in_a, a->body_bytes, &c->run->error);
	if (!r)
		r = gw__image_read_at(c->b, b->body_off, in_b, b->body_bytes, &c->run->error);
	if (!r && (a->body_bytes != b->body_bytes || memcmp(in_a, in_b, a->body_bytes)))
		differ(c, "the state of device \"%s\" instance %u differs", a->section.idstr, a->section.instance);
	free(in_a);
	free(in_b);
	return r;
}

/* They have no names to be found by, only an order. */
static const struct gw__image_device *next_pieces(const struct gw__image *image, uint32_t *at)
{
	while (*at < image->devices_n && is_device(&image->devices[*at]))
		(*at)++;
	return *at < image->devices_n ? &image->devices[(*at)++] : NULL;
}

static int compare_iterables(struct compare *c)
{
	uint32_t in_a = 0, in_b = 0;
	int r = 0;
	while (!r && !c->stopped) {
		const struct gw__image_device *a = next_pieces(c->a, &in_a), *b = next_pieces(c->b, &in_b);
		if (!a && !b)
			break;
		if (a && b && !strcmp(a->section.idstr, b->section.idstr)) {
			r = compare_bodies(c, a, b);
			continue;
		}
		differ(c, "the sections of \"%s\" differ in number or order", (a ? a : b)->section.idstr);
		break;
	}
	return r;
}

static int compare_devices(struct compare *c)
{
	int r = 0;
	for (uint32_t i = 0; !r && !c->stopped && i < c->a->devices_n; i++) {
		const struct gw__image_device *a = &c->a->devices[i], *b = is_device(a) ? find_device(c->b, &a->section) : NULL;
		if (!is_device(a))
			continue;
		if (!b)
			differ(c, "device \"%s\" instance %u is only in the first", a->section.idstr, a->section.instance);
		else if (a->section.version != b->section.version)
			differ(c, "device \"%s\" instance %u has version %u in the first and %u in the second", a->section.idstr,
				a->section.instance, a->section.version, b->section.version);
		else
			r = compare_bodies(c, a, b);
	}
	for (uint32_t i = 0; !r && !c->stopped && i < c->b->devices_n; i++)
		if (is_device(&c->b->devices[i]) && !find_device(c->a, &c->b->devices[i].section))
			differ(c, "device \"%s\" instance %u is only in the second", c->b->devices[i].section.idstr,
				c->b->devices[i].section.instance);
	return r;
}

int gw__compare_images(struct gw__run *run, const struct gw__image *a, const struct gw__image *b, struct gw__bitmap *differing,
	gw__difference_fn *fn, void *ctx)
{
	struct compare c = {.run = run, .a = a, .b = b, .differing = differing, .fn = fn, .ctx = ctx};
	if (strcmp(a->config.machine, b->config.machine))
		differ(&c, "the machine type is %s in the first and %s in the second", a->config.machine, b->config.machine);
	if (a->config.page_bits != b->config.page_bits) {
		differ(&c, "the page size is %llu in the first and %llu in the second", (ull)gw__config_page_bytes(&a->config),
			(ull)gw__config_page_bytes(&b->config));
		return 1;
	}
	size_t room = BATCH_PAGES * gw__config_page_bytes(&a->config);
	c.in_a = malloc(room);
	c.in_b = malloc(room);
	int r = c.in_a && c.in_b ? compare_ram(&c) : gw__error_set(&run->error, -ENOMEM, "no memory for pages");
	if (!r)
		r = compare_devices(&c);
	if (!r && !c.stopped)
		r = compare_iterables(&c);
	free(c.in_a);
	free(c.in_b);
	return r ? r : c.different;
}
