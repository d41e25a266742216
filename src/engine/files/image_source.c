/* SPDX-License-Identifier: MIT */
/* Image to sink: reads a mapped-ram image in order and hands it on. One thread, the main thread. */
#include <errno.h>
#include <stdlib.h>

#include "engine/incoming/stream.h"

enum { BATCH_PAGES = 128 };

struct run_all {
	struct gw__run *run;
	const struct gw__image *image;
	struct gw__sink *sink;
	const bool *left_out; /* one per block; NULL: none */
	uint64_t page_bytes;
	uint8_t *pages; /* BATCH_PAGES of them */
};

static int put_run(struct run_all *p, uint32_t block, uint64_t first, uint64_t n)
{
	struct iovec iov[BATCH_PAGES];
	int r = gw__image_read_pages(p->image, block, first, n, p->pages, &p->run->error);
	if (r)
		return r;
	for (uint64_t i = 0; i < n; i++)
		iov[i] = (struct iovec){p->pages + i * p->page_bytes, p->page_bytes};
	atomic_fetch_add_explicit(&p->run->counters.pages, n, memory_order_relaxed);
	return p->sink->ops->pages(p->sink, block, first * p->page_bytes, iov, (int)n, &p->run->error);
}

static int put_block(struct run_all *p, uint32_t block)
{
	const struct gw__bitmap *present = &p->image->present[block];
	uint64_t i = 0;
	int r = 0;
	while (!r && i < present->bits) {
		uint64_t next = gw__bitmap_next_set(present, i);
		if (next > i) {
			atomic_fetch_add_explicit(&p->run->counters.zero_pages, next - i, memory_order_relaxed);
			r = p->sink->ops->zeros(p->sink, block, i * p->page_bytes, next - i, &p->run->error);
		} else {
			next = gw__bitmap_next_clear_before(present, i, i + BATCH_PAGES);
			r = put_run(p, block, i, next - i);
		}
		i = next;
		gw__run_tick(p->run);
		if (!r)
			r = gw__run_check_cancel(p->run);
	}
	return r;
}

static int put_device(struct run_all *p, const struct gw__image_device *d)
{
	struct gw__error *error = &p->run->error;
	uint8_t *raw = malloc(d->bytes);
	if (!raw)
		return gw__error_set(error, -ENOMEM, "no memory for %llu bytes of device \"%s\"", (unsigned long long)d->bytes,
			d->section.idstr);
	int r = gw__image_read_at(p->image, d->off, raw, d->bytes, error);
	if (!r)
		r = p->sink->ops->device(p->sink, &d->section, d->off, (struct gw__view){raw, d->bytes}, error);
	free(raw);
	return r;
}

enum when { BEFORE_RAM, BEFORE_PAGES, AFTER_RAM };

static enum when when(const struct gw__image_device *d)
{
	if (d->before_ram)
		return BEFORE_RAM;
	return d->early ? BEFORE_PAGES : AFTER_RAM;
}

static int put_devices(struct run_all *p, enum when w)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < p->image->devices_n; i++)
		if (when(&p->image->devices[i]) == w)
			r = put_device(p, &p->image->devices[i]);
	return r;
}

static int put_ram(struct run_all *p)
{
	const struct gw__image *image = p->image;
	gw__run_phase(p->run, GW__PHASE_RAM);
	int r = 0;
	if (p->sink->ops->ram_of_image)
		r = p->sink->ops->ram_of_image(p->sink, image, &p->run->error);
	for (uint32_t b = 0; !r && !p->sink->ops->ram_of_image && b < image->blocks.n; b++)
		if (!image->blocks.v[b].ignored && !(p->left_out && p->left_out[b]))
			r = put_block(p, b);
	if (!r && image->switchover)
		r = p->sink->ops->switchover(p->sink, &p->run->error);
	return r;
}

static int put_end(struct run_all *p)
{
	const struct gw__image *image = p->image;
	struct gw__error *error = &p->run->error;
	uint8_t *text = malloc(image->text_bytes + 1);
	if (!text)
		return gw__error_set(error, -ENOMEM, "no memory for the VM description");
	int r = gw__image_read_at(image, image->text_off, text, image->text_bytes, error);
	if (!r)
		r = p->sink->ops->end(p->sink, (struct gw__view){text, image->text_bytes}, error);
	free(text);
	return r;
}

static int put_head(struct run_all *p)
{
	const struct gw__image *image = p->image;
	struct gw__error *error = &p->run->error;
	atomic_store(&p->run->counters.total_bytes, image->blocks.total_bytes);
	int r = p->sink->ops->config(p->sink, &image->config, error);
	if (!r)
		r = put_devices(p, BEFORE_RAM);
	if (!r)
		r = p->sink->ops->blocks(p->sink, image->ram_id, &image->blocks, error);
	return r ? r : put_devices(p, BEFORE_PAGES);
}

static int put_tail(struct run_all *p)
{
	gw__run_phase(p->run, GW__PHASE_DEVICES);
	int r = p->sink->ops->ram_end(p->sink, &p->run->error);
	if (!r)
		r = put_devices(p, AFTER_RAM);
	return r ? r : put_end(p);
}

int gw__image_source_run(struct gw__run *run, const struct gw__image *image, const bool *left_out, struct gw__sink *sink)
{
	struct run_all p = {.run = run,
		.image = image,
		.sink = sink,
		.left_out = left_out,
		.page_bytes = gw__config_page_bytes(&image->config)};
	p.pages = malloc(BATCH_PAGES * p.page_bytes);
	if (!p.pages)
		return gw__error_set(&run->error, -ENOMEM, "no memory for %d pages", BATCH_PAGES);
	int r = put_head(&p);
	if (!r)
		r = put_ram(&p);
	if (!r)
		r = put_tail(&p);
	free(p.pages);
	if (r)
		return r;
	gw__run_phase(run, GW__PHASE_SYNC);
	r = sink->ops->commit(sink, &run->error);
	if (!r)
		gw__run_phase(run, GW__PHASE_DONE);
	return r;
}

int gw__image_source_describe(struct gw__run *run, const struct gw__image *image, struct gw__sink *sink)
{
	struct run_all p = {.run = run, .image = image, .sink = sink, .page_bytes = gw__config_page_bytes(&image->config)};
	int r = put_head(&p);
	return r ? r : put_tail(&p);
}
