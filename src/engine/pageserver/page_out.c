/* SPDX-License-Identifier: MIT */
/* Pages onto the page server's connections; see page_out.h. */
#include "engine/pageserver/page_out.h"

#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/outgoing/stream_writer.h"

enum {
	PART_BYTES = 16 << 20,
	HEAD_BYTES = 8 + 1, /* of a record that goes on in its block, with the fill byte of a zero page */
	/* One piece. Pages of zeros are nothing but a head. */
	PIECE_PAGES = 8,
	FAR_PIECE_PAGES = 32,
	PIECE_IOV = 2 * FAR_PIECE_PAGES + 1,
	HEADS_BYTES = GW__RECORD_HEAD_MAX_BYTES + GW__PIECE_MAX_PAGES * HEAD_BYTES,
};

struct gw__page_out {
	struct gw__run *run;
	const struct gw__image *image;
	uint64_t page_bytes;
	struct gw__stream_writer main, preempt; /* the latter without a channel: there is only one */
	uint64_t zero_pages;

	/* The piece that is being put together. */
	uint8_t *heads, *pages;
	struct iovec *iov;
	int iov_n;
};

int gw__page_out_new(struct gw__run *run, const struct gw__image *image, struct gw__chan *main, struct gw__page_out **to)
{
	struct gw__page_out *out = calloc(1, sizeof *out);
	*to = out;
	if (!out)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a page server");
	out->run = run;
	out->image = image;
	out->page_bytes = gw__config_page_bytes(&image->config);
	gw__stream_writer_init(&out->main, main, &image->blocks, image->ram_id, PART_BYTES);
	gw__stream_writer_init(&out->preempt, NULL, &image->blocks, image->ram_id, PART_BYTES);
	out->heads = malloc(HEADS_BYTES);
	out->pages = malloc(FAR_PIECE_PAGES * out->page_bytes);
	out->iov = calloc(PIECE_IOV, sizeof *out->iov);
	if (out->heads && out->pages && out->iov)
		return 0;
	return gw__error_set(&run->error, -ENOMEM, "no memory for %d pages", FAR_PIECE_PAGES);
}

void gw__page_out_free(struct gw__page_out *out)
{
	if (!out)
		return;
	gw__chan_close(&out->preempt.chan, NULL);
	free(out->heads);
	free(out->pages);
	free(out->iov);
	free(out);
}

struct gw__chan *gw__page_out_main(const struct gw__page_out *out) { return out->main.chan; }
struct gw__chan *gw__page_out_preempt(const struct gw__page_out *out) { return out->preempt.chan; }

void gw__page_out_set_preempt(struct gw__page_out *out, struct gw__chan *chan)
{
	gw__chan_close(&out->preempt.chan, NULL);
	out->preempt.chan = chan;
}

uint64_t gw__page_out_bytes(const struct gw__page_out *out)
{
	return out->main.chan->out_bytes + (out->preempt.chan ? out->preempt.chan->out_bytes : 0);
}

uint64_t gw__page_out_zero_pages(const struct gw__page_out *out) { return out->zero_pages; }

int gw__page_out_write(struct gw__page_out *out, const void *bytes, size_t n)
{
	return gw__chan_write_all(out->main.chan, bytes, n, &out->run->error);
}

int gw__page_out_write_list(struct gw__page_out *out, const struct gw__blocks_rule *rule, const uint64_t *page_bytes)
{
	int r = gw__stream_writer_begin_list(&out->main, rule, page_bytes, &out->run->error);
	return r ? r : gw__stream_writer_end_section(&out->main, &out->run->error);
}

int gw__page_out_end_section(struct gw__page_out *out)
{
	out->main.last_block = -1;
	return gw__stream_writer_end_section(&out->main, &out->run->error);
}

int gw__page_out_write_end(struct gw__page_out *out, bool mark)
{
	uint8_t eos[8];
	const uint8_t eof = GW__ITEM_EOF;
	gw__be_put(eos, GW__RAM_EOS, sizeof eos);
	int r = mark ? gw__chan_write_all(out->preempt.chan, eos, sizeof eos, &out->run->error) : 0;
	if (!r)
		r = gw__stream_writer_begin_end(&out->main, &out->run->error);
	if (!r)
		r = gw__stream_writer_end_section(&out->main, &out->run->error);
	return r ? r : gw__page_out_write(out, &eof, sizeof eof);
}

/* Neighbours in memory are one entry. */
static void add_bytes(struct gw__page_out *out, void *bytes, size_t n)
{
	struct iovec *last = out->iov_n ? &out->iov[out->iov_n - 1] : NULL;
	if (last && (uint8_t *)last->iov_base + last->iov_len == bytes)
		last->iov_len += n;
	else
		out->iov[out->iov_n++] = (struct iovec){bytes, n};
}

static void add_records(struct gw__page_out *out, struct gw__stream_writer *w, struct gw__wr *heads, uint32_t block, uint64_t first,
	uint64_t n, uint8_t *pages)
{
	for (uint64_t i = 0; i < n; i++) {
		uint8_t *head = heads->p;
		gw__stream_writer_encode_record(w, heads, pages ? GW__RAM_PAGE : GW__RAM_ZERO, block, (first + i) * out->page_bytes);
		add_bytes(out, head, (size_t)(heads->p - head));
		if (pages)
			add_bytes(out, pages + i * out->page_bytes, out->page_bytes);
	}
}

/* Fills the piece with runs of pages that have content and runs of those that do not; up to which page in *end. */
static int fill_piece(struct gw__page_out *out, struct gw__stream_writer *w, const struct gw__page_run *run, uint64_t pages_max,
	bool may_wait, uint64_t *end)
{
	const struct gw__bitmap *present = &out->image->present[run->block];
	struct gw__wr heads = gw__wr_over(out->heads, HEADS_BYTES);
	uint64_t at = run->first, next, pages = 0, limit = gw__min(run->end, run->first + GW__PIECE_MAX_PAGES);
	int r = 0;
	out->iov_n = 0;
	for (; at < limit && pages < pages_max; at = next) {
		uint8_t *to = out->pages + pages * out->page_bytes;
		next = gw__bitmap_next_set_before(present, at, limit);
		if (next > at) {
			out->zero_pages += next - at;
			add_records(out, w, &heads, run->block, at, next - at, NULL);
			continue;
		}
		next = gw__bitmap_next_clear_before(present, at, gw__min(limit, at + pages_max - pages));
		r = may_wait ? gw__image_read_pages(out->image, run->block, at, next - at, to, &out->run->error)
			     : gw__image_read_pages_now(out->image, run->block, at, next - at, to);
		if (r)
			break;
		add_records(out, w, &heads, run->block, at, next - at, to);
		pages += next - at;
	}
	*end = at;
	return r < 0 || at == run->first ? r : 0;
}

int gw__page_out_send(struct gw__page_out *out, const struct gw__page_run *run, enum gw__page_urgency urgency, bool may_wait, uint64_t *n)
{
	struct gw__stream_writer *w = urgency == GW__PAGES_REQUESTED && out->preempt.chan ? &out->preempt : &out->main;
	uint64_t end, pages_max = urgency == GW__PAGES_PUSHED_FAR && !out->preempt.chan ? FAR_PIECE_PAGES : PIECE_PAGES;
	/* The preempt channel carries records and nothing else. */
	int r = w == &out->main ? gw__stream_writer_begin_part(w, pages_max * out->page_bytes, &out->run->error) : 0;
	if (!r)
		r = fill_piece(out, w, run, pages_max, may_wait, &end);
	if (!r)
		r = gw__chan_write_allv(w->chan, out->iov, out->iov_n, &out->run->error);
	if (r)
		return r;
	*n = end - run->first;
	atomic_fetch_add_explicit(&out->run->counters.pages, *n, memory_order_relaxed);
	atomic_store_explicit(&out->run->counters.moved_bytes, gw__page_out_bytes(out), memory_order_relaxed);
	return 0;
}
