/* SPDX-License-Identifier: MIT */
/* How a live guest is written; see stream_out.h. */
#include "engine/guest/stream_out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/guest/deltas.h"
#include "engine/outgoing/await_reply.h"
#include "engine/outgoing/multifd_send.h"
#include "engine/outgoing/stream_writer.h"
#include "image/file/zero.h"
#include "plan/multifd_compat.h"
#include "wire/postcopy.h"
#include "wire/vmdesc_text.h"

enum {
	PAGES_PER_WRITE = 128,
	PART_BYTES = 64 << 20,
	LAST_WORD_MS = 1000,
	LOOK_MS = 100,
	KEEP_ALIVE_MS = 1000,
	FIRST_DEVICE_ID = 2,
	HOST_PAGE_BYTES = 4096,
};

struct gw__stream_out {
	struct gw__run *run;
	struct gw__guest *guest;
	struct gw__outgoing *out;
	struct gw__stream_out_opts o;
	struct gw__config config;
	struct gw__blocks blocks;
	struct gw__dirty_pages *dirty, *pages; /* the guest's; what is sent in this round */
	struct gw__stream_writer writer;
	struct gw__multifd_send *multifd_send; /* NULL: pages go over the main channel */
	struct gw__multifd_compat compat;
	struct gw__vmdesc_plain described; /* the devices that were written */
	uint32_t described_n;
	bool in_checkpoint;
	gw__stream_out_look_fn *look; /* while channels send; may be NULL */
	void *look_ctx;
	uint64_t keep_alive_ns;    /* then something goes over the main channel */
	uint8_t *copy;             /* PAGES_PER_WRITE pages */
	struct gw__deltas *deltas; /* NULL: pages go whole */
	uint64_t delta_pages, delta_bytes;
	uint64_t counted_bytes; /* of the main channel */
	uint8_t heads[PAGES_PER_WRITE][GW__RECORD_HEAD_MAX_BYTES];
	uint8_t bytes[4096];
};

/* A broken link is often the second half of the story: the destination may have said on the return path why it left. */
static int written(struct gw__stream_out *s, int r)
{
	struct gw__error said = {0};
	uint64_t out_bytes = s->out->main->out_bytes;
	atomic_fetch_add_explicit(&s->run->counters.moved_bytes, out_bytes - s->counted_bytes, memory_order_relaxed);
	s->counted_bytes = out_bytes;
	gw__run_tick(s->run);
	if ((r == -EPIPE || r == -ECONNRESET) && gw__await_reply(s->run, s->out->main, GW__RP_SHUT, 0, LAST_WORD_MS, &said) == -EREMOTEIO)
		s->run->error = said;
	return r ? s->run->error.code : 0;
}

static int put(struct gw__stream_out *s, const void *bytes, size_t n)
{
	return written(s, gw__chan_write_all(s->out->main, bytes, n, &s->run->error));
}

/* --- new and free --- */

static int list_blocks(struct gw__stream_out *s)
{
	const struct gw__guest_block *b;
	int r = 0;
	for (uint32_t i = 0; !r && (b = gw__guest_next_block(s->guest, &i));) {
		struct gw__block block = {.used_bytes = b->bytes};
		strcpy(block.name, b->name);
		r = gw__blocks_add(&s->blocks, &block);
	}
	if (r)
		return gw__error_set(&s->run->error, r, "no memory for a list of RAM blocks");
	if (!s->blocks.n)
		return gw__error_set(&s->run->error, -EINVAL, "the guest has no RAM block: add one with gw_guest_add_block");
	atomic_store(&s->run->counters.total_bytes, s->blocks.total_bytes);
	return gw__dirty_pages_new(s->guest, &s->blocks, &s->dirty, &s->run->error);
}

static void configure(struct gw__stream_out *s)
{
	struct gw__config *c = &s->config;
	strcpy(c->machine, s->guest->machine);
	c->page_bits = (uint32_t)__builtin_ctzll(s->guest->page_bytes);
	c->has_page_bits = c->page_bits != GW__PAGE_BITS_LEGACY;
	c->has_uuid = s->guest->has_uuid;
	memcpy(c->uuid, s->guest->uuid, sizeof c->uuid);
	s->compat = gw__multifd_compat_of(c->machine);
}

static int add_channels(struct gw__stream_out *s)
{
	struct gw__multifd_send_opts go = {.method = s->o.method, .copies = s->o.copies, .level = s->o.level};
	return s->out->multifd_n ? gw__multifd_send_new(s->run, s->out, &go, &s->multifd_send) : 0;
}

int gw__stream_out_new(struct gw__run *run, struct gw__guest *guest, struct gw__outgoing *out, const struct gw__stream_out_opts *o,
	struct gw__stream_out **made)
{
	struct gw__stream_out *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a stream");
	s->run = run;
	s->guest = guest;
	s->out = out;
	s->o = *o;
	configure(s);
	int r = list_blocks(s);
	if (!r)
		r = add_channels(s);
	if (!r && o->copies && !(s->copy = malloc(PAGES_PER_WRITE * guest->page_bytes)))
		r = gw__error_set(&run->error, -ENOMEM, "no memory for copies of pages");
	if (!r && o->delta_bytes)
		r = gw__deltas_new(gw__min(o->delta_bytes, s->blocks.total_bytes), guest->page_bytes, PAGES_PER_WRITE, &s->deltas,
			&run->error);
	gw__stream_writer_init(&s->writer, out->main, &s->blocks, GW__STREAM_OUT_RAM_ID, PART_BYTES);
	if (r)
		gw__stream_out_free(s);
	else
		*made = s;
	return r;
}

void gw__stream_out_free(struct gw__stream_out *s)
{
	if (!s)
		return;
	gw__multifd_send_free(s->multifd_send);
	gw__dirty_pages_free(s->dirty);
	gw__blocks_fini(&s->blocks);
	gw__vmdesc_plain_fini(&s->described);
	gw__deltas_free(s->deltas);
	free(s->copy);
	free(s);
}

struct gw__dirty_pages *gw__stream_out_dirty(struct gw__stream_out *s) { return s->dirty; }
const struct gw__blocks *gw__stream_out_blocks(const struct gw__stream_out *s) { return &s->blocks; }
const struct gw__config *gw__stream_out_config(const struct gw__stream_out *s) { return &s->config; }

void gw__stream_out_count_deltas(const struct gw__stream_out *s, uint64_t *pages, uint64_t *bytes)
{
	*pages = s->delta_pages;
	*bytes = s->delta_bytes;
}

/* --- the head --- */

/* The page sizes of all blocks, or-ed, and by block where one is larger than usual: as the destination has to have them too. */
static uint64_t page_sizes(const struct gw__stream_out *s, uint64_t *page_bytes)
{
	uint64_t usual = gw__max(s->guest->page_bytes, HOST_PAGE_BYTES), all = 0;
	for (uint32_t i = 0; i < s->blocks.n; i++) {
		uint64_t bytes = gw__max(gw__guest_find_block(s->guest, s->blocks.v[i].name)->page_bytes, usual);
		page_bytes[i] = bytes > usual ? bytes : 0;
		all |= bytes;
	}
	return all;
}

static int put_config(struct gw__stream_out *s, uint64_t page_summary)
{
	struct gw__wr c = gw__wr_over(s->bytes, sizeof s->bytes);
	gw__header_encode(&c);
	gw__config_encode(&c, &s->config);
	if (s->o.old_colo) {
		gw__command_encode(&c, GW__CMD_ENABLE_COLO, NULL, 0);
	} else {
		gw__command_encode(&c, GW__CMD_OPEN_RETURN_PATH, NULL, 0);
		gw__ping_encode(&c, GW__PING_OPENED);
	}
	if (s->o.postcopy)
		gw__advise_encode(&c, page_summary, s->guest->page_bytes);
	return put(s, s->bytes, gw__wr_used(&c));
}

/* All channels are in step where START and each round end; the mark goes out after the last SYNC (docs/spec/multifd.md 5). */
static int put_sync(struct gw__stream_out *s)
{
	uint8_t word[8];
	struct gw__wr c = gw__wr_over(word, sizeof word);
	if (!s->multifd_send)
		return 0;
	int r = written(s, gw__multifd_send_sync(s->multifd_send, s->guest->page_bytes));
	gw__wr_be64(&c, GW__RAM_FLUSH);
	return r || s->compat.sync_per_section ? r : put(s, word, gw__wr_used(&c));
}

int gw__stream_out_begin(struct gw__stream_out *s)
{
	struct gw__blocks_rule rule = {.page_bytes = s->guest->page_bytes};
	uint64_t *page_bytes = calloc(s->blocks.n, sizeof *page_bytes);
	if (!page_bytes)
		return gw__error_set(&s->run->error, -ENOMEM, "no memory for a list of RAM blocks");
	rule.page_summary = s->o.postcopy ? page_sizes(s, page_bytes) : 0;
	int r = put_config(s, rule.page_summary);
	if (!r)
		r = written(s, gw__stream_writer_begin_list(&s->writer, &rule, page_bytes, &s->run->error));
	free(page_bytes);
	if (!r)
		r = put_sync(s);
	return r ? r : written(s, gw__stream_writer_end_section(&s->writer, &s->run->error));
}

/* --- pages over the main channel --- */

/* Of a page among all of the guest. */
static uint64_t number_of(const struct gw__stream_out *s, uint32_t block, uint64_t off)
{
	uint64_t bytes = off;
	for (uint32_t i = 0; i < block; i++)
		bytes += s->blocks.v[i].used_bytes;
	return bytes / s->guest->page_bytes;
}

/* The flag of its record, 0: it does not have to go, and what follows the head. From a copy where it is enciphered: it may change while that is done. */
static uint32_t content(struct gw__stream_out *s, uint32_t i, uint32_t block, uint64_t off, struct iovec *body)
{
	const uint8_t *page = gw__dirty_pages_host(s->pages, block) + off;
	uint64_t page_bytes = s->guest->page_bytes;
	if (s->deltas)
		return gw__deltas_take(s->deltas, i, number_of(s, block, off), page, body);
	bool zero = gw__is_zero(page, page_bytes);
	if (!zero && s->copy)
		page = memcpy(s->copy + i * page_bytes, page, page_bytes);
	*body = (struct iovec){(void *)(uintptr_t)page, zero ? 0 : page_bytes};
	return zero ? GW__RAM_ZERO : GW__RAM_PAGE;
}

static int put_batch(struct gw__stream_out *s, uint32_t block, const uint64_t *off, uint32_t n)
{
	struct iovec iov[2 * PAGES_PER_WRITE], body;
	uint32_t zeros = 0, records = 0;
	int iov_n = 0;
	int r = written(s, gw__stream_writer_begin_part(&s->writer, n * s->guest->page_bytes, &s->run->error));
	for (uint32_t i = 0; !r && i < n; i++) {
		struct gw__wr c = gw__wr_over(s->heads[i], sizeof s->heads[i]);
		uint32_t flag = content(s, i, block, off[i], &body);
		if (!flag)
			continue;
		gw__stream_writer_encode_record(&s->writer, &c, flag, block, off[i]);
		iov[iov_n++] = (struct iovec){s->heads[i], gw__wr_used(&c)};
		if (body.iov_len)
			iov[iov_n++] = body;
		records++;
		zeros += flag == GW__RAM_ZERO;
		s->delta_pages += flag == GW__RAM_XBZRLE;
		s->delta_bytes += flag == GW__RAM_XBZRLE ? body.iov_len : 0;
	}
	atomic_fetch_add_explicit(&s->run->counters.zero_pages, zeros, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->run->counters.pages, records - zeros, memory_order_relaxed);
	return r || !iov_n ? r : written(s, gw__chan_write_allv(s->out->main, iov, iov_n, &s->run->error));
}

static int put_on_main(struct gw__stream_out *s, gw__stream_out_look_fn *look, void *ctx)
{
	uint64_t off[PAGES_PER_WRITE], next_ns = gw__clock_now_ns(&s->run->clock) + LOOK_MS * 1000000;
	uint32_t block, n;
	int r = 0;
	while (!r && (n = gw__dirty_pages_take(s->pages, 0, PAGES_PER_WRITE, &block, off))) {
		r = put_batch(s, block, off, n);
		uint64_t now_ns = gw__clock_now_ns(&s->run->clock);
		if (r || !look || now_ns < next_ns)
			continue;
		r = look(ctx);
		next_ns = now_ns + LOOK_MS * 1000000;
	}
	return r;
}

/* --- pages over channels: called by their threads --- */

/* Of zero pages it is said in the packet that they are; a destination too old for that gets them as they are. */
static bool take(void *ctx, uint32_t worker, struct gw__multifd_packet *packet, uint32_t *block)
{
	struct gw__stream_out *s = ctx;
	uint64_t page_bytes = s->guest->page_bytes;
	uint64_t zero[GW__MULTIFD_PAGES_MAX];
	uint32_t n = gw__dirty_pages_take(s->pages, worker, packet->pages_alloc, block, packet->off);
	if (!n)
		return false;
	const uint8_t *host = gw__dirty_pages_host(s->pages, *block);
	for (uint32_t i = 0; i < n; i++)
		if (!s->compat.zeros_on_main && gw__is_zero(host + packet->off[i], page_bytes))
			zero[packet->zero++] = packet->off[i];
		else
			packet->off[packet->normal++] = packet->off[i];
	memcpy(packet->off + packet->normal, zero, packet->zero * sizeof zero[0]);
	return true;
}

static int send_packet(void *ctx, uint32_t block, const struct gw__multifd_packet *packet, struct gw__chan *chan, const struct iovec *head,
	struct gw__error *error)
{
	struct gw__stream_out *s = ctx;
	const uint8_t *host = gw__dirty_pages_host(s->pages, block);
	uint64_t page_bytes = s->guest->page_bytes;
	struct iovec iov[1 + PAGES_PER_WRITE] = {*head};
	int n = 1, r = 0;
	for (uint32_t i = 0; !r && i < packet->normal; i++) {
		if (i && packet->off[i] == packet->off[i - 1] + page_bytes && n > 1)
			iov[n - 1].iov_len += page_bytes;
		else
			iov[n++] = (struct iovec){(void *)(uintptr_t)(host + packet->off[i]), page_bytes};
		if (n == 1 + PAGES_PER_WRITE) { /* pages smaller than 4 KiB */
			r = gw__chan_write_allv(chan, iov, n, error);
			n = 0;
		}
	}
	return r || !n ? r : gw__chan_write_allv(chan, iov, n, error);
}

static int read_packet(void *ctx, uint32_t block, const struct gw__multifd_packet *packet, uint8_t *to, struct gw__error *error)
{
	const struct gw__stream_out *s = ctx;
	const uint8_t *host = gw__dirty_pages_host(s->pages, block);
	uint64_t page_bytes = s->guest->page_bytes;
	(void)error;
	for (uint32_t i = 0; i < packet->normal; i++)
		memcpy(to + i * page_bytes, host + packet->off[i], page_bytes);
	return 0;
}

/*
 * While pages go over other channels the main channel is silent, which a destination takes for a broken link after a while: an empty section says that
 * there is somebody. Where the end of each section is a sync of all channels that cannot be said (docs/spec/multifd.md 5).
 */
static int keep_alive(struct gw__stream_out *s)
{
	uint64_t now_ns = gw__clock_now_ns(&s->run->clock);
	if (s->compat.sync_per_section || s->in_checkpoint || now_ns < s->keep_alive_ns)
		return 0;
	s->keep_alive_ns = now_ns + KEEP_ALIVE_MS * UINT64_C(1000000);
	int r = written(s, gw__stream_writer_begin_part(&s->writer, 0, &s->run->error));
	return r ? r : written(s, gw__stream_writer_end_section(&s->writer, &s->run->error));
}

static int look_meanwhile(void *ctx)
{
	struct gw__stream_out *s = ctx;
	gw__run_tick(s->run);
	int r = s->look ? s->look(s->look_ctx) : 0;
	return r ? r : keep_alive(s);
}

static int put_on_channels(struct gw__stream_out *s, gw__stream_out_look_fn *look, void *ctx)
{
	const struct gw__multifd_source source = {.blocks = &s->blocks,
		.page_bytes = s->guest->page_bytes,
		.copies = true,
		.take = take,
		.send = send_packet,
		.read = read_packet,
		.look = look_meanwhile,
		.ctx = s};
	s->look = look;
	s->look_ctx = ctx;
	s->keep_alive_ns = gw__clock_now_ns(&s->run->clock) + KEEP_ALIVE_MS * UINT64_C(1000000);
	return written(s, gw__multifd_send_run(s->multifd_send, &source));
}

int gw__stream_out_put_round(struct gw__stream_out *s, struct gw__dirty_pages *pages, bool last, gw__stream_out_look_fn *look, void *ctx)
{
	struct gw__error *error = &s->run->error;
	s->pages = pages;
	int r = s->multifd_send ? put_on_channels(s, look, ctx) : 0;
	if (!r && last)
		r = written(s, gw__stream_writer_begin_end(&s->writer, error));
	else if (!r && s->multifd_send)
		r = written(s, gw__stream_writer_begin_part(&s->writer, 0, error));
	if (!r)
		r = s->multifd_send ? put_sync(s) : put_on_main(s, look, ctx);
	if (r < 0)
		return r;
	int ended = written(s, gw__stream_writer_end_section(&s->writer, error));
	return ended ? ended : r;
}

/* --- after RAM --- */

/* be32 n and n bytes between header and footer. */
static int add_section(struct gw__stream_out *s, uint32_t id, const struct gw__guest_device *d, const struct gw_out *state,
	struct gw_out *to)
{
	struct gw__section section = {.type = GW__ITEM_FULL, .id = id, .instance = d->instance, .version = d->version};
	uint8_t head[512], foot[16];
	struct gw__wr c = gw__wr_over(head, sizeof head), f = gw__wr_over(foot, sizeof foot);
	strcpy(section.idstr, d->name);
	gw__section_encode(&c, &section);
	gw__wr_be32(&c, (uint32_t)state->n);
	gw__footer_encode(&f, id);
	int r = gw__out_write(to, head, gw__wr_used(&c));
	if (!r)
		r = gw__out_write(to, state->bytes, state->n);
	if (!r)
		r = gw__out_write(to, foot, gw__wr_used(&f));
	if (!r && s->described_n == id - FIRST_DEVICE_ID) { /* the first time */
		r = gw__vmdesc_plain_add(&s->described, d->name, d->instance, 4 + state->n);
		s->described_n++;
	}
	return r ? gw__error_set(&s->run->error, -ENOMEM, "no memory for the state of device \"%s\"", d->name) : 0;
}

static int save_device(struct gw__stream_out *s, uint32_t i, size_t *left, struct gw_out *to, bool *hook)
{
	const struct gw__guest_device *d = &s->guest->device[i];
	struct gw_out state = {.max_bytes = *left};
	int r = gw__guest_device_save(d, &state, s->run->tail_max_bytes, hook, &s->run->error);
	if (!r)
		r = add_section(s, FIRST_DEVICE_ID + i, d, &state, to);
	*left -= state.n;
	free(state.bytes);
	return r;
}

int gw__stream_out_save_devices(struct gw__stream_out *s, struct gw_out *to, bool *hook)
{
	size_t left = gw__min(s->run->tail_max_bytes, UINT32_MAX);
	int r = 0;
	*to = (struct gw_out){.max_bytes = SIZE_MAX};
	for (uint32_t i = 0; !r && i < s->guest->devices_n; i++)
		r = save_device(s, i, &left, to, hook);
	return r;
}

int gw__stream_out_put_devices(struct gw__stream_out *s, const struct gw_out *saved) { return put(s, saved->bytes, saved->n); }

int gw__stream_out_put_ping(struct gw__stream_out *s, uint32_t token)
{
	struct gw__wr c = gw__wr_over(s->bytes, sizeof s->bytes);
	gw__ping_encode(&c, token);
	return put(s, s->bytes, gw__wr_used(&c));
}

int gw__stream_out_put_end(struct gw__stream_out *s)
{
	uint8_t head[8];
	char *text = NULL;
	size_t n = 0;
	struct gw__wr c = gw__wr_over(head, sizeof head);
	if (gw__vmdesc_plain_text(&s->described, &s->config, &text, &n))
		return gw__error_set(&s->run->error, -ENOMEM, "no memory for the VM description");
	gw__wr_u8(&c, GW__ITEM_EOF);
	gw__wr_u8(&c, GW__ITEM_VMDESC);
	gw__wr_be32(&c, (uint32_t)n);
	struct iovec iov[] = {{head, gw__wr_used(&c)}, {text, n}};
	int r = written(s, gw__chan_write_allv(s->out->main, iov, 2, &s->run->error));
	free(text);
	return r;
}

int gw__stream_out_put_checkpoint(struct gw__stream_out *s, struct gw__dirty_pages *pages)
{
	static const uint8_t eof[] = {GW__ITEM_EOF};
	s->in_checkpoint = true; /* which has one section */
	int r = gw__stream_out_put_round(s, pages, true, NULL, NULL);
	return r ? r : put(s, eof, sizeof eof);
}
