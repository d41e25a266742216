/* SPDX-License-Identifier: MIT */
/*
 * The sink that speaks to a destination: writes a plain pre-copy stream as a QEMU source does (docs/spec/stream.md 6)
 * and listens on the return path for how it went.
 *
 * SWITCHOVER_START is never sent: releases before 10.0 die of it and the others do without. mapped-ram is taken out of the
 * configuration, because both ends must agree on it. One thread.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/outgoing/await_reply.h"
#include "engine/core/run.h"
#include "engine/outgoing/peer_sink.h"
#include "engine/outgoing/stream_writer.h"
#include "plan/multifd_compat.h"
#include "wire/vmdesc_text.h"

enum {
	PAGES_PER_WRITE = 128,
	ZEROS_PER_WRITE = 4096,
	PART_BYTES = 64 << 20, /* so that a destination gets to look at other things in between */
	LAST_WORD_MS = 1000,
};

/* The main thread's. */
struct gw__peer_sink {
	struct gw__sink sink; /* first */
	struct gw__run *run;
	struct gw__chan *chan;
	struct gw__peer_sink_opts o;
	struct gw__config config;
	struct gw__blocks blocks;
	uint64_t page_bytes;
	struct gw__stream_writer writer; /* once the blocks are known */
	struct gw__multifd_compat compat;

	/* Of an image, whose pages multifd workers send; they share the cursor, under the lock. */
	const struct gw__image *image; /* NULL without */
	const struct gw__bitmap *only; /* by block; NULL: all pages */
	pthread_mutex_t image_lock;
	uint32_t at_block;
	uint64_t at_page;

	uint8_t heads[PAGES_PER_WRITE][GW__RECORD_HEAD_MAX_BYTES];
	uint8_t records[ZEROS_PER_WRITE * 9 + GW__RECORD_HEAD_MAX_BYTES];
};

/* A broken link is often the second half of the story: the destination may have said on the return path why it left. */
static int written(struct gw__peer_sink *s, int r, struct gw__error *error)
{
	atomic_store_explicit(&s->run->counters.moved_bytes, s->chan->out_bytes, memory_order_relaxed);
	gw__run_tick(s->run);
	if ((r != -EPIPE && r != -ECONNRESET) || !s->o.ask_back)
		return r;
	struct gw__error said = {0};
	if (gw__await_reply(s->run, s->chan, GW__RP_SHUT, 0, LAST_WORD_MS, &said) == -EREMOTEIO)
		*error = said;
	return error->code;
}

static int put(struct gw__peer_sink *s, const void *bytes, size_t n, struct gw__error *error)
{
	return written(s, gw__chan_write_all(s->chan, bytes, n, error), error);
}

static int put_config(struct gw__sink *sink, const struct gw__config *config, struct gw__error *error)
{
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	struct gw__wr c = gw__wr_over(s->records, sizeof s->records);
	s->config = *config;
	gw__config_drop_cap(&s->config, "mapped-ram");
	s->page_bytes = gw__config_page_bytes(&s->config);
	s->compat = gw__multifd_compat_of(s->config.machine);
	gw__header_encode(&c);
	gw__config_encode(&c, &s->config);
	if (s->o.ask_back) {
		const uint8_t token[4] = {0, 0, 0, 1};
		gw__command_encode(&c, GW__CMD_OPEN_RETURN_PATH, NULL, 0);
		gw__command_encode(&c, GW__CMD_PING, token, sizeof token);
	} else if (s->o.colo) {
		gw__command_encode(&c, GW__CMD_ENABLE_COLO, NULL, 0);
	}
	return put(s, s->records, gw__wr_used(&c), error);
}

static int read_back(struct gw__sink *sink, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	(void)sink;
	(void)block;
	(void)off;
	(void)page;
	return gw__error_set(error, -EOPNOTSUPP,
		"a stream with XBZRLE deltas cannot be passed on as a stream; convert it to an image first");
}

static int put_device(struct gw__sink *sink, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__error *error)
{
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	(void)section, (void)off;
	int r = gw__stream_writer_end_section(&s->writer, error); /* no other section may begin inside a PART */
	return r ? r : put(s, raw.p, raw.n, error);
}

static int put_end(struct gw__sink *sink, struct gw__view description, struct gw__error *error)
{
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	uint8_t head[8];
	char *text = NULL;
	size_t n = 0;
	struct gw__wr c = gw__wr_over(head, sizeof head);
	gw__wr_u8(&c, GW__ITEM_EOF);
	if (description.n) {
		if (gw__vmdesc_reconfigure(description.p, description.n, &s->config, &text, &n))
			return gw__error_set(error, -ENOMEM, "no memory for the VM description");
		gw__wr_u8(&c, GW__ITEM_VMDESC);
		gw__wr_be32(&c, (uint32_t)n);
	}
	int r = put(s, head, gw__wr_used(&c), error);
	if (!r)
		r = put(s, text, n, error);
	free(text);
	return r;
}

static int commit(struct gw__sink *sink, struct gw__error *error)
{
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	if (s->o.ask_back)
		return gw__await_reply(s->run, s->chan, GW__RP_SHUT, 0, s->o.answer_ms, error);
	if (s->o.colo)
		return 0;
	return gw__chan_end_writes(s->chan, error);
}

static void free_sink(struct gw__sink *sink)
{
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	pthread_mutex_destroy(&s->image_lock);
	gw__blocks_fini(&s->blocks);
	free(s);
}

/*
 * The RAM section of a stream to a destination: START with the blocks, pages in PARTs, END (docs/spec/stream.md 6). Over multifd the pages
 * themselves go over other channels, and here stands what keeps these in step.
 */

static int copy_blocks(struct gw__peer_sink *s, const struct gw__blocks *blocks, struct gw__error *error)
{
	return gw__blocks_add_all(&s->blocks, blocks) ? gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", blocks->n) : 0;
}

/* Where START and END of RAM end, all channels are brought in step; the mark goes out after the last SYNC. */
static int put_sync(struct gw__peer_sink *s, struct gw__error *error)
{
	uint8_t word[8];
	struct gw__wr c = gw__wr_over(word, sizeof word);
	if (!s->o.multifd_send)
		return 0;
	int r = gw__multifd_send_sync(s->o.multifd_send, s->page_bytes);
	gw__wr_be64(&c, GW__RAM_FLUSH);
	return r || s->compat.sync_per_section ? r : put(s, word, gw__wr_used(&c), error);
}

static int put_blocks(struct gw__sink *sink, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error)
{
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	struct gw__blocks_rule rule = {.page_bytes = s->page_bytes, .address = s->config.ignore_shared};
	int r = copy_blocks(s, blocks, error);
	gw__stream_writer_init(&s->writer, s->chan, &s->blocks, section_id, PART_BYTES);
	if (!r)
		r = written(s, gw__stream_writer_begin_list(&s->writer, &rule, NULL, error), error);
	if (!r)
		r = put_sync(s, error);
	return r ? r : written(s, gw__stream_writer_end_section(&s->writer, error), error);
}

static int put_pages(struct gw__sink *sink, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	int r = 0;
	for (int done = 0; !r && done < n;) {
		struct iovec iov[2 * PAGES_PER_WRITE];
		int batch = n - done < PAGES_PER_WRITE ? n - done : PAGES_PER_WRITE;
		r = written(s, gw__stream_writer_begin_part(&s->writer, (uint64_t)batch * s->page_bytes, error), error);
		for (int i = 0; i < batch; i++) {
			struct gw__wr c = gw__wr_over(s->heads[i], sizeof s->heads[i]);
			gw__stream_writer_encode_record(&s->writer, &c, GW__RAM_PAGE, block, off + (uint64_t)(done + i) * s->page_bytes);
			iov[2 * i] = (struct iovec){s->heads[i], gw__wr_used(&c)};
			iov[2 * i + 1] = pages[done + i];
		}
		if (!r)
			r = written(s, gw__chan_write_allv(s->chan, iov, 2 * batch, error), error);
		done += batch;
	}
	return r;
}

static int put_zeros(struct gw__sink *sink, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	int r = 0;
	while (!r && pages) {
		uint64_t batch = gw__min(pages, ZEROS_PER_WRITE);
		r = written(s, gw__stream_writer_begin_part(&s->writer, batch * 9, error), error);
		struct gw__wr c = gw__wr_over(s->records, sizeof s->records);
		for (uint64_t i = 0; i < batch; i++, off += s->page_bytes)
			gw__stream_writer_encode_record(&s->writer, &c, GW__RAM_ZERO, block, off);
		if (!r)
			r = put(s, s->records, gw__wr_used(&c), error);
		pages -= batch;
	}
	return r;
}

/* --- the pages of an image: over the multifd channels, and what of them stands on the main one --- */

/* Packets say which pages are zero. */
static bool names_zeros(const struct gw__peer_sink *s) { return !s->compat.zeros_on_main; }

/* The first page of the block, from the cursor on, of which there is something to say. */
static uint64_t next_page(const struct gw__peer_sink *s)
{
	if (s->only)
		return gw__bitmap_next_set(&s->only[s->at_block], s->at_page);
	return names_zeros(s) ? s->at_page : gw__bitmap_next_set(&s->image->present[s->at_block], s->at_page);
}

/* The next range of pages: false when there is none. */
static bool take_range(struct gw__peer_sink *s, uint32_t *block, uint64_t *first, uint64_t *n)
{
	const struct gw__image *image = s->image;
	uint64_t most = gw__multifd_pages(s->page_bytes);
	pthread_mutex_lock(&s->image_lock);
	while (s->at_block < image->blocks.n &&
		(image->blocks.v[s->at_block].ignored || (s->at_page = next_page(s)) >= image->present[s->at_block].bits)) {
		s->at_block++;
		s->at_page = 0;
	}
	bool any = s->at_block < image->blocks.n;
	if (any) {
		const struct gw__bitmap *present = &image->present[s->at_block];
		*block = s->at_block;
		*first = s->at_page;
		*n = gw__min(most, present->bits - s->at_page);
		s->at_page += *n;
	}
	pthread_mutex_unlock(&s->image_lock);
	return any;
}

static bool take_of_image(void *ctx, uint32_t worker, struct gw__multifd_packet *packet, uint32_t *block)
{
	struct gw__peer_sink *s = ctx;
	uint64_t first, n;
	(void)worker;
	if (!take_range(s, block, &first, &n))
		return false;
	const struct gw__bitmap *present = &s->image->present[*block], *only = s->only ? &s->only[*block] : NULL;
	for (uint64_t i = first; i < first + n; i++)
		if (gw__bitmap_test(present, i) && (!only || gw__bitmap_test(only, i)))
			packet->off[packet->normal++] = i * s->page_bytes;
	for (uint64_t i = first; names_zeros(s) && i < first + n; i++)
		if (!gw__bitmap_test(present, i) && (!only || gw__bitmap_test(only, i)))
			packet->off[packet->normal + packet->zero++] = i * s->page_bytes;
	return true;
}

/* How many pages from page `i` of the packet on stand one after the other. */
static uint32_t count_run(const struct gw__multifd_packet *packet, uint32_t i, uint64_t page_bytes)
{
	uint32_t n = 1;
	while (i + n < packet->normal && packet->off[i + n] == packet->off[i] + n * page_bytes)
		n++;
	return n;
}

/* Straight from the page cache into the socket. */
static int send_of_image(void *ctx, uint32_t block, const struct gw__multifd_packet *packet, struct gw__chan *chan,
	const struct iovec *head, struct gw__error *error)
{
	const struct gw__peer_sink *s = ctx;
	uint64_t page_bytes = s->page_bytes, pages_off = s->image->blocks.v[block].pages_off;
	int r = gw__chan_write_all(chan, head->iov_base, head->iov_len, error);
	for (uint32_t i = 0, n; !r && i < packet->normal; i += n) {
		n = count_run(packet, i, page_bytes);
		r = gw__chan_send_file(chan, s->image->fd, pages_off + packet->off[i], n * page_bytes, error);
	}
	return r;
}

static int read_of_image(void *ctx, uint32_t block, const struct gw__multifd_packet *packet, uint8_t *to, struct gw__error *error)
{
	const struct gw__peer_sink *s = ctx;
	uint64_t page_bytes = s->page_bytes, pages_off = s->image->blocks.v[block].pages_off;
	int r = 0;
	for (uint32_t i = 0, n; !r && i < packet->normal; i += n) {
		n = count_run(packet, i, page_bytes);
		r = gw__image_read_at(s->image, pages_off + packet->off[i], to + i * page_bytes, n * page_bytes, error);
	}
	return r;
}

/* All pages, or of each block those whose bit is set in `only`; until all is written. */
static int send_image(struct gw__peer_sink *s, const struct gw__image *image, const struct gw__bitmap *only)
{
	s->image = image;
	s->only = only;
	s->at_block = 0;
	s->at_page = 0;
	return gw__multifd_send_run(s->o.multifd_send, &(struct gw__multifd_source){.blocks = &image->blocks,
							       .page_bytes = s->page_bytes,
							       .take = take_of_image,
							       .send = send_of_image,
							       .read = read_of_image,
							       .ctx = s});
}

static int take_ram(struct gw__sink *sink, const struct gw__image *image, struct gw__error *error)
{
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	(void)error; /* is run->why, which the workers' main thread writes */
	return send_image(s, image, NULL);
}

static int put_zeros_of(struct gw__peer_sink *s, uint32_t block, struct gw__error *error)
{
	const struct gw__bitmap *present = &s->image->present[block];
	int r = 0;
	for (uint64_t i = gw__bitmap_next_clear(present, 0), n; !r && i < present->bits; i = gw__bitmap_next_clear(present, i + n)) {
		n = gw__bitmap_next_set(present, i) - i;
		atomic_fetch_add_explicit(&s->run->counters.zero_pages, n, memory_order_relaxed);
		r = put_zeros(&s->sink, block, i * s->page_bytes, n, error);
	}
	return r;
}

/*
 * A destination too old to read zero pages in packets hears of them here, in the END section: a PART of their own would be
 * one more sync for those to whom every section's end is one.
 */
static int put_absent_pages(struct gw__peer_sink *s, struct gw__error *error)
{
	int r = 0;
	if (!s->image || names_zeros(s))
		return 0;
	for (uint32_t i = 0; !r && i < s->image->blocks.n; i++)
		r = s->image->blocks.v[i].ignored ? 0 : put_zeros_of(s, i, error);
	return r;
}

static int put_ram_end(struct gw__sink *sink, struct gw__error *error)
{
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	int r = written(s, gw__stream_writer_begin_end(&s->writer, error), error);
	if (!r)
		r = put_absent_pages(s, error);
	if (!r)
		r = put_sync(s, error);
	return r ? r : written(s, gw__stream_writer_end_section(&s->writer, error), error);
}

/* --- the RAM of a checkpoint --- */

static int put_changed_run(struct gw__peer_sink *s, const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n,
	uint8_t *room, struct gw__error *error)
{
	struct iovec iov[PAGES_PER_WRITE];
	if (!gw__bitmap_test(&image->present[block], first))
		return put_zeros(&s->sink, block, first * s->page_bytes, n, error);
	int r = gw__image_read_pages(image, block, first, n, room, error);
	for (uint64_t i = 0; i < n; i++)
		iov[i] = (struct iovec){room + i * s->page_bytes, s->page_bytes};
	return r ? r : put_pages(&s->sink, block, first * s->page_bytes, iov, (int)n, error);
}

/* Runs of pages that are all there, or all not. */
static int put_changed(struct gw__peer_sink *s, const struct gw__image *image, uint32_t block, const struct gw__bitmap *changed,
	uint8_t *room, struct gw__error *error)
{
	const struct gw__bitmap *present = &image->present[block];
	int r = 0;
	for (uint64_t i = gw__bitmap_next_set(changed, 0), n; !r && i < changed->bits; i = gw__bitmap_next_set(changed, i + n)) {
		bool there = gw__bitmap_test(present, i);
		for (n = 1; n < PAGES_PER_WRITE && i + n < changed->bits && gw__bitmap_test(changed, i + n) &&
			    gw__bitmap_test(present, i + n) == there;)
			n++;
		bool told = !there && s->o.multifd_send && names_zeros(s);
		if (!told && !(there && s->o.multifd_send))
			r = put_changed_run(s, image, block, i, n, room, error);
	}
	return r;
}

int gw__peer_sink_put_checkpoint(struct gw__sink *sink, const struct gw__image *image, const struct gw__bitmap *changed,
	struct gw__error *error)
{
	static const uint8_t eof[] = {GW__ITEM_EOF};
	struct gw__peer_sink *s = (struct gw__peer_sink *)sink;
	uint8_t *room = malloc(PAGES_PER_WRITE * s->page_bytes);
	int r = room ? 0 : gw__error_set(error, -ENOMEM, "no memory for %d pages", PAGES_PER_WRITE);
	if (!r && s->o.multifd_send)
		r = send_image(s, image, changed);
	if (!r)
		r = written(s, gw__stream_writer_begin_end(&s->writer, error), error);
	for (uint32_t i = 0; !r && i < image->blocks.n; i++)
		r = put_changed(s, image, i, &changed[i], room, error);
	free(room);
	if (!r)
		r = put_sync(s, error);
	if (!r)
		r = written(s, gw__stream_writer_end_section(&s->writer, error), error);
	return r ? r : put(s, eof, sizeof eof, error);
}

#define STREAM_OPS                                                                                                                         \
	.config = put_config, .blocks = put_blocks, .pages = put_pages, .zeros = put_zeros, .read_back = read_back, .device = put_device,  \
	.ram_end = put_ram_end, .end = put_end, .commit = commit, .free = free_sink

static const struct gw__sink_ops one_channel = {STREAM_OPS};
static const struct gw__sink_ops many_channels = {STREAM_OPS, .ram_of_image = take_ram};

int gw__peer_sink_new(struct gw__run *run, struct gw__chan *chan, const struct gw__peer_sink_opts *o, struct gw__sink **sink,
	struct gw__error *error)
{
	struct gw__peer_sink *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(error, -ENOMEM, "no memory for a stream");
	s->sink.ops = o->multifd_send ? &many_channels : &one_channel;
	s->run = run;
	s->chan = chan;
	s->o = *o;
	pthread_mutex_init(&s->image_lock, NULL);
	*sink = &s->sink;
	return 0;
}
