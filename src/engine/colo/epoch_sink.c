/* SPDX-License-Identifier: MIT */
/*
 * The sink of a COLO standby: during the initial migration an image sink behind it, in a checkpoint an epoch in memory. See epoch_sink.h.
 *
 * Device state is kept as a primary sends it in a checkpoint, that of the initial migration too: FULL sections and one byte 00, early devices
 * first. Those stand before RAM in the image, where they are replaced in place.
 */
#include "engine/colo/epoch_sink.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/colo/durable.h"
#include "engine/sink/image_sink.h"
#include "image/epochs/epoch.h"
#include "image/read/image.h"
#include "wire/device_buffer.h"
#include "wire/framing.h"
#include "wire/vmdesc_text.h"

typedef unsigned long long ull;

enum { NOTE_SWITCHOVER = 1, NOTE_HISTORY = 2 };  /* flags in the note */
enum { NOTE_FIXED = 1 + 4, NOTE_EARLY = 8 + 8 }; /* bytes of it */

/* A device before RAM: its place in the image. */
struct early {
	uint64_t off;
	size_t bytes;
	struct gw__section section;
};

/* Grows as it comes; the stream's limit on device state bounds it. */
struct device_state {
	uint8_t *bytes;
	size_t n;
};

struct gw__epoch_sink {
	struct gw__sink sink;   /* first */
	struct gw__sink *image; /* takes the writer over */
	struct gw__image_writer *writer;
	struct gw__epoch *epoch;     /* made with the block list, which tells the page size */
	struct gw__epoch_lane *main; /* of the main channel */
	struct gw__epoch_sink_opts o;
	uint64_t page_bytes;
	bool in_checkpoint; /* changed while no lane is in use */
	bool pending;       /* committed, and not applied yet */
	bool finished;
	bool ram_ended, switchover; /* in the initial migration */
	struct early *early;
	uint32_t early_n;
	struct device_state devices; /* of the last epoch that was applied */
	uint8_t *text;               /* the description, as it came */
	size_t text_bytes;
	const struct gw__vmdesc *desc; /* parsed; borrowed */
	struct gw__epoch_store_stats stats;

	/* Of a durable one. */
	char path[PATH_MAX];
	uint64_t number;             /* of the last epoch that was committed */
	uint64_t replayed_last;      /* while epochs of a dead standby are replayed: the last of them; else 0 */
	struct gw__config config;    /* of the image */
	struct gw__durable *journal; /* NULL: it was not started */
	uint8_t *note;               /* what a base says beyond what every image has */
	size_t note_bytes;
};

static struct gw__epoch_sink *own(struct gw__sink *s) { return (struct gw__epoch_sink *)s; }

/* --- the initial migration --- */

static int put_config(struct gw__sink *s, const struct gw__config *config, struct gw__error *error)
{
	if (config->ignore_shared)
		return gw__error_set(error, -EOPNOTSUPP,
			"the source leaves shared memory out (x-ignore-shared), which a standby on another host would lack; switch that off");
	own(s)->page_bytes = gw__config_page_bytes(config);
	own(s)->config = *config;
	gw__config_add_cap(&own(s)->config, "mapped-ram"); /* a list that is full is the writer's to refuse */
	if (own(s)->page_bytes > GW__EPOCH_BUFFER_BYTES)
		return gw__error_set(error, -EOPNOTSUPP, "guest pages of %llu bytes, at most %d can be protected", (ull)own(s)->page_bytes,
			GW__EPOCH_BUFFER_BYTES);
	return gw__sink_config(own(s)->image, config, error);
}

static int make_epoch(struct gw__epoch_sink *s, struct gw__error *error)
{
	s->epoch = gw__epoch_new(s->page_bytes, s->o.limit_bytes);
	s->main = s->epoch ? gw__epoch_add_lane(s->epoch) : NULL;
	return s->main ? 0 : gw__error_set(error, -ENOMEM, "no memory for epochs");
}

static int put_blocks(struct gw__sink *s, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error)
{
	struct gw__epoch_sink *o = own(s);
	int r = gw__sink_blocks(o->image, section_id, blocks, error);
	if (r)
		return r;
	return make_epoch(o, error);
}

static int append_devices(struct device_state *d, struct gw__view raw, struct gw__error *error)
{
	uint8_t *bytes = realloc(d->bytes, d->n + raw.n + 1);
	if (!bytes)
		return gw__error_set(error, -ENOMEM, "no memory for %zu bytes of device state", raw.n);
	memcpy(bytes + d->n, raw.p, raw.n);
	d->bytes = bytes;
	d->n += raw.n;
	bytes[d->n] = GW__ITEM_EOF;
	return 0;
}

static int note_early(struct gw__epoch_sink *o, const struct gw__section *section, size_t bytes, struct gw__error *error)
{
	struct early *early = realloc(o->early, (o->early_n + 1) * sizeof *early);
	if (!early)
		return gw__error_set(error, -ENOMEM, "no memory for the list of devices");
	o->early = early;
	o->early[o->early_n++] = (struct early){gw__image_raw_off(o->writer), bytes, *section};
	return 0;
}

static int put_device(struct gw__sink *s, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__error *error)
{
	struct gw__epoch_sink *o = own(s);
	if (section->type != GW__ITEM_FULL)
		return gw__error_set(error, -EOPNOTSUPP,
			"section \"%s\" comes in pieces while the guest runs; checkpoints have no place for it", section->idstr);
	int r = append_devices(&o->devices, raw, error);
	if (r || o->ram_ended)
		return r;
	r = note_early(o, section, raw.n, error);
	return r ? r : gw__sink_device(o->image, section, off, raw, error);
}

static int note_switchover(struct gw__sink *s, struct gw__error *error)
{
	(void)error;
	own(s)->switchover = true;
	return 0;
}

/* The image's own end of RAM comes with `finish`. */
static int note_ram_end(struct gw__sink *s, struct gw__error *error)
{
	(void)error;
	own(s)->ram_ended = true;
	return 0;
}

static int keep_text(struct gw__epoch_sink *o, struct gw__view text, struct gw__error *error)
{
	o->text = malloc(text.n + 1);
	if (!o->text)
		return gw__error_set(error, -ENOMEM, "no memory for the VM description");
	if (text.n)
		memcpy(o->text, text.p, text.n);
	o->text_bytes = text.n;
	return 0;
}

static int keep_description(struct gw__sink *s, struct gw__view text, struct gw__error *error) { return keep_text(own(s), text, error); }

static int refuse_commit(struct gw__sink *s, struct gw__error *error)
{
	(void)s;
	return gw__error_set(error, -EINVAL, "a standby's guest is finished by its epochs");
}

/* --- pages: to the image, or to the epoch --- */

static int copy_to_epoch(struct gw__epoch_sink *o, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	enum { AT_ONCE = 64 };
	uint64_t offs[AT_ONCE];
	while (n) {
		void *buffer;
		int r = gw__epoch_borrow(o->main, &buffer, error), k = 0;
		if (r)
			return r;
		for (; k < n && k < AT_ONCE && (uint64_t)(k + 1) * o->page_bytes <= GW__EPOCH_BUFFER_BYTES; k++) {
			memcpy((uint8_t *)buffer + (uint64_t)k * o->page_bytes, pages[k].iov_base, o->page_bytes);
			offs[k] = off + (uint64_t)k * o->page_bytes;
		}
		r = gw__epoch_submit(o->main, block, offs, (uint32_t)k, error);
		if (r)
			return r;
		off += (uint64_t)k * o->page_bytes;
		pages += k;
		n -= k;
	}
	return 0;
}

static int put_pages(struct gw__sink *s, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	struct gw__epoch_sink *o = own(s);
	if (o->in_checkpoint)
		return copy_to_epoch(o, block, off, pages, n, error);
	return gw__sink_pages(o->image, block, off, pages, n, error);
}

static int put_zeros(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	struct gw__epoch_sink *o = own(s);
	if (o->in_checkpoint)
		return gw__epoch_put_zeros(o->main, block, off, pages, error);
	return gw__sink_zeros(o->image, block, off, pages, error);
}

static int read_back(struct gw__sink *s, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	return gw__sink_read_back(own(s)->image, block, off, page, error);
}

struct lane {
	struct gw__sink_lane lane; /* first */
	struct gw__epoch_sink *sink;
	struct gw__sink_lane *image;
	struct gw__epoch_lane *epoch;
};

static int borrow(struct gw__sink_lane *lane, void **buffer, struct gw__error *error)
{
	struct lane *l = (struct lane *)lane;
	return l->sink->in_checkpoint ? gw__epoch_borrow(l->epoch, buffer, error) : gw__sink_lane_borrow(l->image, buffer, error);
}

static int submit(struct gw__sink_lane *lane, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error)
{
	struct lane *l = (struct lane *)lane;
	return l->sink->in_checkpoint ? gw__epoch_submit(l->epoch, block, off, n, error)
				      : gw__sink_lane_submit(l->image, block, off, n, error);
}

static int put_lane_zeros(struct gw__sink_lane *lane, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	struct lane *l = (struct lane *)lane;
	return l->sink->in_checkpoint ? gw__epoch_put_zeros(l->epoch, block, off, pages, error)
				      : gw__sink_lane_zeros(l->image, block, off, pages, error);
}

static int flush(struct gw__sink_lane *lane, struct gw__error *error)
{
	struct lane *l = (struct lane *)lane;
	return gw__sink_lane_flush(l->image, error);
}

static void free_lane(struct gw__sink_lane *lane)
{
	gw__sink_lane_free(&((struct lane *)lane)->image);
	free(lane);
}

static int add_lane(struct gw__sink *s, struct gw__sink_lane **lane, struct gw__error *error)
{
	static const struct gw__sink_lane_ops ops = {borrow, submit, put_lane_zeros, flush, free_lane};
	struct lane *l = calloc(1, sizeof *l);
	if (!l)
		return gw__error_set(error, -ENOMEM, "no memory for a channel's epochs");
	l->lane.ops = &ops;
	l->sink = own(s);
	l->epoch = gw__epoch_add_lane(l->sink->epoch);
	int r = l->epoch ? gw__sink_add_lane(l->sink->image, &l->image, error)
			 : gw__error_set(error, -ENOMEM, "no memory for a channel's epochs");
	if (r)
		free(l);
	else
		*lane = &l->lane;
	return r;
}

/* A barrier of the main channel and all others: what comes after it is newer. */
static int note_barrier(struct gw__sink *s, struct gw__error *error)
{
	(void)error;
	if (own(s)->in_checkpoint)
		gw__epoch_barrier(own(s)->epoch);
	return 0;
}

/* --- devices --- */

/* The early devices come first, and fit where they stand in the image. */
static int check_early(const struct gw__epoch_sink *s, uint32_t i, const struct gw__section *section, size_t bytes, struct gw__error *error)
{
	if (i >= s->early_n)
		return 0;
	const struct early *e = &s->early[i];
	if (!strcmp(section->idstr, e->section.idstr) && section->instance == e->section.instance && bytes == e->bytes)
		return 0;
	return gw__error_set(error, -EPROTO,
		"device %u is \"%s\" with %zu bytes, expected \"%s\" with %zu bytes, as in the initial migration", i, section->idstr, bytes,
		e->section.idstr, e->bytes);
}

/* Whatever an image could not hold has to be found here, while there still is the epoch before. */
static int check_devices(const struct gw__epoch_sink *s, const uint8_t *bytes, size_t n, struct gw__error *error)
{
	struct gw__device_buffer b;
	struct gw__section section;
	struct gw__view raw;
	int r = gw__device_buffer_decode(bytes, n, s->desc, &b, error);
	if (!r && b.devices > GW__IMAGE_DEVICES_MAX)
		r = gw__error_set(error, -E2BIG, "%u devices, an image holds at most %d", b.devices, GW__IMAGE_DEVICES_MAX);
	if (!r && b.devices <= s->early_n)
		r = gw__error_set(error, -EPROTO, "%u devices, expected more than the %u that come before RAM", b.devices, s->early_n);
	for (uint32_t i = 0; !r && gw__device_buffer_next(&b, &section, &raw); i++) {
		r = check_early(s, i, &section, raw.n, error);
		if (!r && !gw__vmdesc_can_name(section.idstr))
			r = gw__error_set(error, -EPROTO, "the name of device %u is not UTF-8", i);
	}
	return r;
}

static int replace_early(struct gw__epoch_sink *s, struct gw__view devices, struct gw__error *error)
{
	struct gw__device_buffer b;
	struct gw__section section;
	struct gw__view raw;
	int r = s->early_n ? gw__device_buffer_decode(devices.p, devices.n, s->desc, &b, error) : 0;
	for (uint32_t i = 0; !r && i < s->early_n && gw__device_buffer_next(&b, &section, &raw); i++)
		r = gw__image_replace_raw(s->writer, s->early[i].off, raw.p, raw.n, error);
	return r;
}

/* Those after RAM. */
static int put_devices(struct gw__epoch_sink *s, struct gw__error *error)
{
	struct gw__device_buffer b;
	struct gw__section section;
	struct gw__view raw;
	int r = gw__device_buffer_decode(s->devices.bytes, s->devices.n, s->desc, &b, error);
	for (uint32_t i = 0; !r && gw__device_buffer_next(&b, &section, &raw); i++)
		r = i < s->early_n ? 0 : gw__sink_device(s->image, &section, 0, raw, error);
	return r;
}

/* --- epochs --- */

/* What `finish` writes after the pages: bitmaps, devices, description, small records. */
static uint64_t finish_bytes(const struct gw__epoch_sink *s)
{
	enum { PER_BLOCK = 2 * 65536, SOME = 1 << 18 };
	const struct gw__blocks *blocks = gw__image_blocks(s->writer);
	return s->stats.device_bytes + 2 * s->text_bytes + blocks->total_bytes / s->page_bytes / 8 + blocks->n * (uint64_t)PER_BLOCK + SOME;
}

struct absent {
	struct gw__epoch_sink *sink;
	uint64_t pages;
};

static int count_absent(void *ctx, uint32_t block, uint64_t off, const uint8_t *pages, uint64_t n, struct gw__error *error)
{
	struct absent *a = ctx;
	uint64_t first = off / a->sink->page_bytes;
	(void)error;
	for (uint64_t i = first; pages && i < first + n; i++)
		a->pages += !gw__bitmap_test(gw__image_present(a->sink->writer, block), i);
	return 0;
}

/* Pages that are in the file already take no more room; they are counted where room is scarce. */
static int check_room(struct gw__epoch_sink *s, struct gw__error *error)
{
	struct absent absent = {.sink = s};
	uint64_t record = s->journal ? gw__durable_bytes(s->journal, s->epoch) + finish_bytes(s) : 0; /* and a new extent's base */
	uint64_t other = finish_bytes(s) + record + (s->o.history ? record : 0);
	if (!gw__image_check_room(s->writer, other + s->stats.pages * s->page_bytes, NULL))
		return 0;
	int r = gw__epoch_apply(s->epoch, count_absent, &absent, error);
	return r ? r : gw__image_check_room(s->writer, other + absent.pages * s->page_bytes, error);
}

static int complete_guest(void *ctx, const struct gw__vmdesc *desc, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	s->desc = desc;
	if (!s->devices.n)
		return gw__error_set(error, -EPROTO, "the guest came without any device");
	s->devices.n++; /* the byte 00 */
	s->stats.device_bytes = s->devices.n;
	int r = check_devices(s, s->devices.bytes, s->devices.n, error);
	return r ? r : gw__image_check_room(s->writer, finish_bytes(s), error);
}

static int begin_epoch(void *ctx, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	assert(!s->pending && !s->finished);
	s->in_checkpoint = true;
	return gw__sink_begin_checkpoint(&s->sink, error);
}

static int reserve_devices(void *ctx, uint64_t bytes, uint8_t **to, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	return gw__epoch_reserve_devices(s->epoch, bytes, to, error);
}

static void note_stats(struct gw__epoch_sink *s)
{
	struct gw__epoch_stats e = gw__epoch_stats(s->epoch);
	s->stats =
		(struct gw__epoch_store_stats){e.pages, e.zero_pages, gw__epoch_devices(s->epoch).n, e.memory_bytes, e.memory_most_bytes};
}

static int check_epoch(void *ctx, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	struct gw__view devices = gw__epoch_devices(s->epoch);
	note_stats(s);
	int r = check_devices(s, devices.p, devices.n, error);
	return r ? r : check_room(s, error);
}

static void commit_epoch(void *ctx)
{
	struct gw__epoch_sink *s = ctx;
	s->pending = true;
	s->number++;
}

/* --- what outlives us --- */

static const struct gw__bitmap *present(void *sink, uint32_t block)
{
	return gw__image_present(((struct gw__epoch_sink *)sink)->writer, block);
}

/* Views of what the sink has. */
static void describe_base(struct gw__epoch_sink *s, struct gw__epoch_base *base)
{
	size_t early = 0;
	for (uint32_t i = 0; i < s->early_n; i++)
		early += s->early[i].bytes;
	*base = (struct gw__epoch_base){.epoch = s->number, .present = present, .ctx = s};
	base->saved.config = s->config;
	base->saved.early = (struct gw__view){s->devices.bytes, early};
	base->saved.package = (struct gw__view){s->devices.bytes, s->devices.n};
	base->saved.user_data = (struct gw__view){s->note, s->note_bytes};
	gw__image_describe(s->writer, &base->saved);
}

static int make_note(struct gw__epoch_sink *s, struct gw__error *error)
{
	s->note_bytes = NOTE_FIXED + s->early_n * (size_t)NOTE_EARLY + s->text_bytes;
	s->note = malloc(s->note_bytes);
	if (!s->note)
		return gw__error_set(error, -ENOMEM, "no memory for what is known of the guest");
	struct gw__wr c = gw__wr_over(s->note, s->note_bytes);
	gw__wr_u8(&c, (s->switchover ? NOTE_SWITCHOVER : 0) | (s->o.history ? NOTE_HISTORY : 0));
	gw__wr_be32(&c, s->early_n);
	for (uint32_t i = 0; i < s->early_n; i++) {
		gw__wr_be64(&c, s->early[i].off);
		gw__wr_be64(&c, s->early[i].bytes);
	}
	gw__wr_bytes(&c, s->text, s->text_bytes);
	return 0;
}

static int start(void *ctx, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	struct gw__epoch_base base;
	if (!s->o.durable)
		return 0;
	int r = make_note(s, error);
	if (r)
		return r;
	describe_base(s, &base);
	return gw__durable_start(s->path, s->o.extent_bytes, s->writer, &base, &s->journal, error);
}

/* Of a durable one. */
static int persist(void *ctx, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	return s->journal ? gw__durable_append(s->journal, s->epoch, error) : 0;
}

/* Pages of an epoch go to their places; `pages` NULL: zeros. */
static int apply_run(void *ctx, uint32_t block, uint64_t off, const uint8_t *pages, uint64_t n, struct gw__error *error)
{
	return gw__sink_put(((struct gw__epoch_sink *)ctx)->image, block, off, pages, n, error);
}

/* The devices of an epoch take the place of those that are there. */
static int take_devices(struct gw__epoch_sink *s, struct gw__view devices, struct gw__error *error)
{
	uint8_t *copy = malloc(devices.n + 1);
	if (!copy)
		return gw__error_set(error, -ENOMEM, "no memory for %zu bytes of device state", devices.n);
	memcpy(copy, devices.p, devices.n);
	int r = replace_early(s, devices, error);
	if (r) {
		free(copy);
		return r;
	}
	free(s->devices.bytes);
	s->devices = (struct device_state){copy, devices.n};
	return 0;
}

/* --- the way back --- */

/* What the image has now of a page that is going to be replaced. */
static int read_past(void *ctx, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	bool present = gw__bitmap_test(gw__image_present(s->writer, block), off / s->page_bytes);
	return present ? gw__image_read_back_page(s->writer, block, off, page, error) : GW__NO_PAGE;
}

/*
 * Before its pages are replaced, the epoch before is kept. Of those that are replayed after a death only the last one may not have come so far: what the
 * image has of the others is of any epoch.
 */
static int keep_past(struct gw__epoch_sink *s, struct gw__error *error)
{
	const struct gw__epoch_guest now = {s->page_bytes, {s->devices.bytes, s->devices.n}, read_past, s};
	uint64_t number = s->number - 1;
	bool was_kept = s->replayed_last && s->replayed_last != s->number;
	if (!s->o.history || was_kept || gw__epoch_history_has(s->path, number))
		return 0;
	int r = gw__epoch_history_keep(s->path, number, s->epoch, &now, error);
	if (!r && number >= s->o.history)
		gw__epoch_history_remove(s->path, number - s->o.history);
	return r;
}

static int apply(struct gw__epoch_sink *s, struct gw__error *error)
{
	struct gw__error ignored = {0};
	int r = keep_past(s, s->finished ? &ignored : error);
	if (r && s->finished) {
		gw__epoch_history_remove_all(s->path);
		s->o.history = 0;
		r = 0;
	}
	if (!r)
		r = gw__epoch_apply(s->epoch, apply_run, s, error);
	if (!r)
		r = take_devices(s, gw__epoch_devices(s->epoch), error);
	if (r)
		return r;
	s->pending = false;
	gw__epoch_reset(s->epoch, true);
	return 0;
}

/* A failure leaves the epoch what it is: again, or with `finish`. */
static int apply_epoch(void *ctx, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	int r = s->pending ? apply(s, error) : 0;
	if (r || !s->journal || !gw__durable_wants_base(s->journal))
		return r;
	struct gw__epoch_base base;
	describe_base(s, &base);
	return gw__durable_turn(s->journal, &base, error);
}

/* What came of an epoch that was not committed. */
static void drop(void *ctx)
{
	struct gw__epoch_sink *s = ctx;
	if (s->epoch && !s->pending)
		gw__epoch_reset(s->epoch, false);
}

/* What is known of the last epoch stays, to go back from; but it is worth more than what was before it. */
static void keep_last(struct gw__epoch_sink *s)
{
	struct gw__error ignored = {0};
	struct gw__epoch_base base;
	if (!s->o.history)
		return;
	describe_base(s, &base);
	if (gw__epoch_history_keep_last(s->path, &base, &ignored))
		gw__epoch_history_remove_all(s->path);
}

/* The image of the last epoch gets its name, without being synced unless `sync`, or it is durable. Nothing may follow. */
static int finish(void *ctx, bool sync, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	struct gw__view text = {s->text, s->text_bytes};
	s->finished = true;
	int r = s->pending ? apply(s, error) : 0;
	if (!r)
		keep_last(s);
	if (!r && s->switchover)
		r = gw__sink_switchover(s->image, error);
	if (!r)
		r = gw__sink_ram_end(s->image, error);
	if (!r)
		r = put_devices(s, error);
	if (!r)
		r = gw__sink_end(s->image, text, error);
	if (!r && (sync || s->o.durable))
		r = gw__sink_sync(s->image, error);
	if (!r)
		r = gw__sink_commit(s->image, error);
	if (!r && s->journal)
		gw__durable_end(s->journal);
	return r;
}

/* --- as the store of a secondary --- */

static struct gw__sink *sink(void *ctx) { return &((struct gw__epoch_sink *)ctx)->sink; }
static struct gw__epoch_store_stats stats(void *ctx) { return ((struct gw__epoch_sink *)ctx)->stats; }

/* Nobody runs it here. */
static int load(void *ctx, struct gw__error *error)
{
	(void)ctx, (void)error;
	return 0;
}

struct gw__epoch_store gw__epoch_sink_store(struct gw__epoch_sink *s)
{
	static const struct gw__epoch_store_ops ops = {.sink = sink,
		.complete_guest = complete_guest,
		.start = start,
		.begin = begin_epoch,
		.reserve_devices = reserve_devices,
		.check = check_epoch,
		.persist = persist,
		.commit = commit_epoch,
		.load = load,
		.apply = apply_epoch,
		.drop = drop,
		.finish = finish,
		.stats = stats};
	return (struct gw__epoch_store){&ops, s};
}

/* --- its life --- */

static void free_parts(struct gw__sink *s)
{
	struct gw__epoch_sink *o = own(s);
	gw__durable_free(o->journal); /* before the writer, which its thread uses */
	gw__sink_free(&o->image);
	free(o->note);
	gw__epoch_free(o->epoch);
	free(o->early);
	free(o->devices.bytes);
	free(o->text);
	free(o);
}

void gw__epoch_sink_free(struct gw__epoch_sink **s)
{
	struct gw__sink *sink = *s ? &(*s)->sink : NULL;
	gw__sink_free(&sink);
	*s = NULL;
}

int gw__epoch_sink_new(const char *path, const struct gw__epoch_sink_opts *o, struct gw__epoch_sink **sink, struct gw__error *error)
{
	static const struct gw__sink_ops ops = {
		.config = put_config,
		.blocks = put_blocks,
		.pages = put_pages,
		.zeros = put_zeros,
		.read_back = read_back,
		.device = put_device,
		.barrier = note_barrier,
		.switchover = note_switchover,
		.ram_end = note_ram_end,
		.end = keep_description,
		.commit = refuse_commit,
		.add_lane = add_lane,
		.free = free_parts,
	};
	struct gw__image_writer *writer = NULL;
	struct gw__epoch_sink *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(error, -ENOMEM, "no memory for a standby");
	s->sink.ops = &ops;
	s->o = *o;
	snprintf(s->path, sizeof s->path, "%s", path);
	int r = gw__image_create(path, &(struct gw__image_writer_opts){.unsynced = !o->durable}, &writer, error);
	s->writer = writer;
	if (!r)
		r = gw__sink_image_new(&writer, &s->image, error);
	if (r) {
		gw__image_writer_close(writer);
		free_parts(&s->sink);
		return r;
	}
	*sink = s;
	return 0;
}

/* --- from the disk: record by record, as if it came just now --- */

/* The places of the early devices, whose names are those of the base. */
static int take_early(struct gw__epoch_sink *s, struct gw__rd *c, const struct gw__recv_state_saved *saved, struct gw__error *error)
{
	struct gw__device_buffer b;
	struct gw__section section;
	struct gw__view raw;
	uint32_t n = gw__rd_be32(c);
	int r = gw__device_buffer_decode(saved->package.p, saved->package.n, s->desc, &b, error);
	if (r)
		return r;
	if (n > b.devices || n > gw__rd_left(c) / NOTE_EARLY)
		return gw__error_set(error, -EPROTO, "%u devices are said to come before RAM, of %u in all", n, b.devices);
	s->early = calloc(n + 1, sizeof *s->early);
	if (!s->early)
		return gw__error_set(error, -ENOMEM, "no memory for the list of devices");
	for (; s->early_n < n && gw__device_buffer_next(&b, &section, &raw); s->early_n++) {
		struct early *e = &s->early[s->early_n];
		*e = (struct early){gw__rd_be64(c), gw__rd_be64(c), section};
		if (e->bytes != raw.n || e->off > saved->start_off || e->bytes > saved->start_off - e->off)
			return gw__error_set(error, -EPROTO, "device \"%s\" cannot stand at offset %llu", section.idstr, (ull)e->off);
	}
	return 0;
}

static int take_note(struct gw__epoch_sink *s, const struct gw__recv_state_saved *saved, struct gw__vmdesc **desc, struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(saved->user_data.p, saved->user_data.n);
	unsigned flags = gw__rd_u8(&c);
	s->switchover = flags & NOTE_SWITCHOVER;
	s->o.history = flags & NOTE_HISTORY ? UINT64_MAX : 0; /* nothing of it goes away here */
	struct gw__rd text = c;
	gw__rd_take(&text, (size_t)gw__rd_be32(&text) * NOTE_EARLY);
	if (text.cut)
		return gw__error_set(error, -EPROTO, "what is known of the guest is cut short");
	struct gw__view rest = {text.p, gw__rd_left(&text)};
	int r = rest.n ? gw__vmdesc_parse(rest.p, rest.n, desc, error) : 0;
	s->desc = *desc;
	if (!r)
		r = keep_text(s, rest, error);
	return r ? r : take_early(s, &c, saved, error);
}

/* The sink of a guest that is known, with a writer that it takes over in any case. `*desc` is the caller's. */
static int reopen(struct gw__epoch_sink *s, const struct gw__epoch_base *base, struct gw__image_writer *writer, struct gw__vmdesc **desc,
	struct gw__error *error)
{
	static const struct gw__sink_ops ops = {.free = free_parts};
	s->sink.ops = &ops;
	s->writer = writer;
	s->config = base->saved.config;
	s->page_bytes = gw__config_page_bytes(&base->saved.config);
	s->o.limit_bytes = UINT64_MAX / 2; /* what is on the disk was within its limit */
	int r = gw__sink_image_reopen(&writer, &base->saved, &s->image, error);
	if (r)
		return r;
	r = take_note(s, &base->saved, desc, error);
	s->note = r ? NULL : malloc(base->saved.user_data.n + 1);
	if (!r && !s->note)
		r = gw__error_set(error, -ENOMEM, "no memory for what is known of the guest");
	if (r)
		return r;
	memcpy(s->note, base->saved.user_data.p, base->saved.user_data.n);
	s->note_bytes = base->saved.user_data.n;
	return 0;
}

static int load_run(void *ctx, uint32_t block, uint64_t off, const uint8_t *pages, uint64_t n, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	int r = pages ? 0 : gw__epoch_put_zeros(s->main, block, off, n, error);
	for (uint64_t i = 0; !r && pages && i < n; i++) {
		struct iovec page = {(void *)(uintptr_t)(pages + i * s->page_bytes), s->page_bytes};
		r = copy_to_epoch(s, block, off + i * s->page_bytes, &page, 1, error);
	}
	return r;
}

static int load_devices(void *ctx, uint64_t epoch, struct gw__view devices, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	uint8_t *to;
	int r = check_devices(s, devices.p, devices.n, error);
	if (!r)
		r = gw__epoch_reserve_devices(s->epoch, devices.n, &to, error);
	if (r)
		return r;
	memcpy(to, devices.p, devices.n);
	s->number = epoch;
	s->pending = true;
	return apply_epoch(s, error);
}

/* From the last epoch back to this one. */
static int go_back(struct gw__epoch_sink *s, uint64_t epoch, struct gw__error *error)
{
	int r = 0;
	for (uint64_t n = s->replayed_last; !r && n-- > epoch;) {
		uint8_t *devices = NULL;
		size_t devices_bytes = 0;
		r = gw__epoch_history_replay(s->path, n, s->page_bytes, gw__image_blocks(s->writer), apply_run, s, &devices, &devices_bytes,
			error);
		if (!r && n == epoch)
			r = check_devices(s, devices, devices_bytes, error);
		if (!r && n == epoch)
			r = take_devices(s, (struct gw__view){devices, devices_bytes}, error);
		free(devices);
	}
	return r;
}

/* The epochs of the journal, one after the other, over what its base has; then back. */
static int replay(struct gw__epoch_sink *s, const struct gw__epoch_replay *from, struct gw__error *error)
{
	struct gw__view ignored;
	int r = make_epoch(s, error);
	s->number = from->base->epoch;
	if (!r)
		r = take_devices(s, from->base->saved.package, error);
	if (!r)
		r = gw__epoch_journal_replay(from->journal, load_run, load_devices, s, &ignored, error);
	return r ? r : go_back(s, from->epoch, error);
}

int gw__epoch_sink_replay(const struct gw__epoch_replay *from, struct gw__image_writer *writer, struct gw__error *error)
{
	struct gw__vmdesc *desc = NULL;
	struct gw__epoch_sink *s = calloc(1, sizeof *s);
	if (!s) {
		gw__image_writer_close(writer);
		return gw__error_set(error, -ENOMEM, "no memory for a standby");
	}
	snprintf(s->path, sizeof s->path, "%s", from->path);
	s->replayed_last = gw__epoch_journal_last(from->journal);
	int r = reopen(s, from->base, writer, &desc, error);
	if (from->is_copy)
		s->o.history = 0;
	if (!r)
		r = replay(s, from, error);
	if (!r)
		r = finish(s, !from->is_copy, error);
	gw__vmdesc_free(desc);
	gw__epoch_sink_free(&s);
	return r;
}
