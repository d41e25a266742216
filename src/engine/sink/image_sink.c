/* SPDX-License-Identifier: MIT */
/* The sink that keeps a guest in a mapped-ram image: puts the records between the writer's regions. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "engine/sink/image_sink.h"
#include "image/read/image.h"
#include "image/write/page_writer.h"
#include "wire/package.h"
#include "wire/trailer.h"
#include "wire/vmdesc_text.h"

struct gw__image_sink {
	struct gw__sink sink; /* first: ops find the rest through it */
	struct gw__image_writer *writer;
	struct gw__config config;      /* of the image: with mapped-ram */
	struct gw__vmdesc_plain plain; /* in case no description comes */

	uint32_t pieces_id, pieces_n; /* of the last piece of an iterable; entries that the reader makes of them all */
	uint64_t pieces_bytes;        /* in the last entry */

	/* For who has to go on in our place (post-copy). */
	uint32_t ram_id;
	bool ram_ended;
	bool ram_section_id_unknown;
	uint64_t page_bytes;
	uint8_t *early; /* device sections before the end of RAM, and an EOF mark after their bytes */
	size_t early_bytes;
	uint8_t *package;
	size_t package_bytes;
	struct gw__view user_data; /* the caller's; borrowed */
};

extern const struct gw__sink_postcopy_ops gw__sink_image_postcopy;

/* An early device: kept beside what is written. 0 or -ENOMEM with a sentence. */
static int keep_early(struct gw__image_sink *s, struct gw__view raw, struct gw__error *error);
/* The sink of a writer, taken over. NULL: no memory. */
static struct gw__image_sink *wrap_writer(struct gw__image_writer **writer);

static struct gw__image_writer *writer_of(struct gw__sink *s) { return ((struct gw__image_sink *)s)->writer; }

static int put_config(struct gw__sink *s, const struct gw__config *config, struct gw__error *error)
{
	struct gw__image_sink *own = (struct gw__image_sink *)s;
	own->config = *config;
	own->page_bytes = gw__config_page_bytes(config);
	gw__config_add_cap(&own->config, "mapped-ram"); /* a list that is full is the writer's to refuse */
	return gw__image_put_config(writer_of(s), config, error);
}

static int put_blocks(struct gw__sink *s, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error)
{
	((struct gw__image_sink *)s)->ram_id = section_id;
	return gw__image_put_blocks(writer_of(s), section_id, blocks, error);
}

static int put_pages(struct gw__sink *s, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	return gw__image_put_pages(writer_of(s), block, off, pages, n, error);
}

static int put_zeros(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	(void)error;
	gw__image_put_zeros(writer_of(s), block, off, pages);
	return 0;
}

static int read_back(struct gw__sink *s, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	return gw__image_read_back_page(writer_of(s), block, off, page, error);
}

/* What could not be read again is not written. Pieces of one iterable are one entry as long as they stand side by side. */
static int count_piece(struct gw__image_sink *s, const struct gw__section *section, size_t bytes, struct gw__error *error)
{
	s->pieces_bytes += bytes;
	if (s->pieces_n && section->type != GW__ITEM_START && s->pieces_id == section->id && s->pieces_bytes <= GW__IMAGE_PIECES_MAX_BYTES)
		return 0;
	s->pieces_id = section->id;
	s->pieces_bytes = bytes;
	if (++s->pieces_n <= GW__IMAGE_DEVICES_MAX / 2)
		return 0;
	return gw__error_set(error, -E2BIG, "the iterable sections came in more than %d pieces; pause the guest and try again",
		GW__IMAGE_DEVICES_MAX / 2);
}

static int put_device(struct gw__sink *s, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__error *error)
{
	struct gw__image_sink *own = (struct gw__image_sink *)s;
	(void)off;
	if (section->type != GW__ITEM_FULL) { /* no description names it, and it is in the image for whoever goes on */
		int r = count_piece(own, section, raw.n, error);
		return r ? r : gw__image_put_raw(writer_of(s), raw.p, raw.n, error);
	}
	if (!gw__vmdesc_can_name(section->idstr))
		return gw__error_set(error, -EPROTO, "section %u names a device that no description can name: it is not UTF-8",
			section->id);
	if (gw__vmdesc_plain_add(&own->plain, section->idstr, section->instance, gw__section_body_bytes(section, raw.n)))
		return gw__error_set(error, -ENOMEM, "no memory for a list of devices");
	int r = own->ram_ended ? 0 : keep_early(own, raw, error);
	return r ? r : gw__image_put_raw(writer_of(s), raw.p, raw.n, error);
}

static int put_switchover(struct gw__sink *s, struct gw__error *error)
{
	uint8_t bytes[8];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__command_encode(&c, GW__CMD_SWITCHOVER_START, NULL, 0);
	return gw__image_put_raw(writer_of(s), bytes, gw__wr_used(&c), error);
}

static int put_ram_end(struct gw__sink *s, struct gw__error *error)
{
	((struct gw__image_sink *)s)->ram_ended = true;
	return gw__image_put_ram_end(writer_of(s), error);
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

static int put_end(struct gw__sink *s, struct gw__view description, struct gw__error *error)
{
	char *text = NULL;
	size_t n = 0;
	if (describe((struct gw__image_sink *)s, description, &text, &n))
		return gw__error_set(error, -ENOMEM, "no memory for the VM description");
	uint8_t head[8];
	struct gw__wr c = gw__wr_over(head, sizeof head);
	gw__wr_u8(&c, GW__ITEM_EOF);
	gw__wr_u8(&c, GW__ITEM_VMDESC);
	gw__wr_be32(&c, (uint32_t)n);
	int r = gw__image_put_raw(writer_of(s), head, gw__wr_used(&c), error);
	if (!r)
		r = gw__image_put_raw(writer_of(s), text, n, error);
	free(text);
	return r;
}

static int sync_image(struct gw__sink *s, struct gw__error *error) { return gw__image_sync(writer_of(s), error); }

static int commit(struct gw__sink *s, struct gw__error *error)
{
	return gw__image_is_committed(writer_of(s)) ? 0 : gw__image_commit(writer_of(s), error);
}

/* --- a page writer as a lane --- */

static_assert((int)GW__PAGE_WRITER_BUFFER_BYTES == (int)GW__SINK_LANE_BUFFER_BYTES, "what is borrowed has the size of all lanes");

struct image_lane {
	struct gw__sink_lane lane; /* first */
	struct gw__image_writer *writer;
	struct gw__page_writer *page_writer;
};

static struct gw__page_writer *page_writer_of(struct gw__sink_lane *l) { return ((struct image_lane *)l)->page_writer; }

static int borrow(struct gw__sink_lane *l, void **buffer, struct gw__error *error)
{
	return gw__page_writer_borrow_buffer(page_writer_of(l), buffer, error);
}

static int submit(struct gw__sink_lane *l, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error)
{
	return gw__page_writer_submit(page_writer_of(l), block, off, n, error);
}

static int put_lane_zeros(struct gw__sink_lane *l, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	(void)error;
	gw__image_put_zeros(((struct image_lane *)l)->writer, block, off, pages);
	return 0;
}

static int flush(struct gw__sink_lane *l, struct gw__error *error) { return gw__page_writer_flush(page_writer_of(l), error); }

static void free_lane(struct gw__sink_lane *l)
{
	gw__page_writer_free(page_writer_of(l));
	free(l);
}

static int add_lane(struct gw__sink *s, struct gw__sink_lane **lane, struct gw__error *error)
{
	static const struct gw__sink_lane_ops ops = {borrow, submit, put_lane_zeros, flush, free_lane};
	struct image_lane *l = calloc(1, sizeof *l);
	if (!l)
		return gw__error_set(error, -ENOMEM, "no memory for a page writer");
	l->lane.ops = &ops;
	l->writer = writer_of(s);
	int r = gw__page_writer_new(l->writer, &l->page_writer, error);
	if (r)
		free(l);
	else
		*lane = &l->lane;
	return r;
}

static void free_sink(struct gw__sink *s)
{
	gw__image_writer_close(writer_of(s));
	struct gw__image_sink *own = (struct gw__image_sink *)s;
	gw__vmdesc_plain_fini(&own->plain);
	free(own->early);
	free(own->package);
	free(s);
}

static struct gw__image_sink *wrap_writer(struct gw__image_writer **writer)
{
	static const struct gw__sink_ops ops = {
		.config = put_config,
		.blocks = put_blocks,
		.pages = put_pages,
		.zeros = put_zeros,
		.read_back = read_back,
		.device = put_device,
		.switchover = put_switchover,
		.ram_end = put_ram_end,
		.end = put_end,
		.sync = sync_image,
		.commit = commit,
		.postcopy = &gw__sink_image_postcopy,
		.add_lane = add_lane,
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

int gw__sink_image_new(struct gw__image_writer **writer, struct gw__sink **sink, struct gw__error *error)
{
	struct gw__image_sink *s = wrap_writer(writer);
	if (!s)
		return gw__error_set(error, -ENOMEM, "no memory for an image");
	*sink = &s->sink;
	return 0;
}

/*
 * The image sink for a source that switches to post-copy, and for who comes after us: what has to be known beyond the pages is
 * kept in the image's state file (image/journal/recv_state.h). See sink.h for the order of calls.
 */

static struct gw__image_sink *own(struct gw__sink *s) { return (struct gw__image_sink *)s; }

static int keep_early(struct gw__image_sink *s, struct gw__view raw, struct gw__error *error)
{
	uint8_t *early = realloc(s->early, s->early_bytes + raw.n + 1);
	if (!early)
		return gw__error_set(error, -ENOMEM, "no memory for %zu bytes of device state", raw.n);
	memcpy(early + s->early_bytes, raw.p, raw.n);
	s->early = early;
	s->early_bytes += raw.n;
	s->early[s->early_bytes] = GW__ITEM_EOF;
	return 0;
}

static int begin(struct gw__sink *s, struct gw__error *error)
{
	if (own(s)->config.ignore_shared)
		return gw__error_set(error, -EOPNOTSUPP, "post-copy next to x-ignore-shared, which no QEMU does");
	return gw__image_begin_recv_state(own(s)->writer, error);
}

static int prepare_postcopy(struct gw__sink *s, struct gw__error *error)
{
	if (own(s)->config.ignore_shared)
		return 0;
	int r = gw__image_prepare_recv_state(own(s)->writer, error);
	return r ? r : gw__image_put_list(own(s)->writer, &own(s)->config, own(s)->user_data, error);
}

static int discard(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	(void)error;
	gw__image_discard(own(s)->writer, block, off, pages);
	return 0;
}

static int persist_handover(struct gw__sink *s, uint8_t **package, size_t bytes, struct gw__error *error)
{
	struct gw__image_sink *o = own(s);
	o->package = *package;
	o->package_bytes = bytes;
	*package = NULL;
	o->ram_section_id_unknown = !bytes; /* who drains never heard it */
	return gw__image_persist_handover(o->writer, &o->config, (struct gw__view){o->early, o->early_bytes},
		(struct gw__view){o->package, bytes}, o->user_data, error);
}

static void recovery_info(struct gw__sink *s, struct gw__sink_recovery_info *k)
{
	const struct gw__image_sink *o = own(s);
	*k = (struct gw__sink_recovery_info){.blocks = gw__image_blocks(o->writer),
		.page_bytes = o->page_bytes,
		.ram_id = o->ram_id,
		.ram_section_id_unknown = o->ram_section_id_unknown,
		.devices_n = o->plain.n,
		.early = {o->early, o->early_bytes},
		.package = {o->package, o->package_bytes}};
}

static const struct gw__bitmap *received(struct gw__sink *s, uint32_t block) { return gw__image_received(own(s)->writer, block); }
static int checkpoint(struct gw__sink *s, struct gw__error *error) { return gw__image_checkpoint(own(s)->writer, error); }
static int learn_ram_id(struct gw__sink *s, uint32_t id, struct gw__error *error)
{
	own(s)->ram_id = id;
	return gw__image_set_ram_id(own(s)->writer, id, error);
}

static bool is_committed(struct gw__sink *s) { return gw__image_is_committed(own(s)->writer); }
static void discard_checkpoint(struct gw__sink *s) { gw__image_discard_recv_state(own(s)->writer); }

const struct gw__sink_postcopy_ops gw__sink_image_postcopy = {
	.prepare_postcopy = prepare_postcopy,
	.begin = begin,
	.discard = discard,
	.persist_handover = persist_handover,
	.recovery_info = recovery_info,
	.received = received,
	.learn_ram_id = learn_ram_id,
	.checkpoint = checkpoint,
	.is_committed = is_committed,
	.discard_checkpoint = discard_checkpoint,
};

/* The devices that stand in the image already are described by their sections alone. */
static int describe_early(struct gw__image_sink *o, struct gw__error *error)
{
	for (size_t at = 0; at < o->early_bytes;) {
		struct gw__section section;
		size_t body_at, body_bytes;
		size_t left = o->early_bytes + 1 - at; /* with the end mark, so that the footer of the last one is believed */
		int r = gw__trailer_split(NULL, 0, o->early + at, left, true, &section, &body_at, &body_bytes, NULL, error);
		if (r || gw__vmdesc_plain_add(&o->plain, section.idstr, section.instance, body_bytes))
			return r ? gw__error_where(error, "the early devices of the partial image")
				 : gw__error_set(error, -ENOMEM, "no memory for a list of devices");
		at += body_at + body_bytes + GW__FOOTER_BYTES;
	}
	return 0;
}

static int take_saved(struct gw__image_sink *o, const struct gw__recv_state_saved *saved, struct gw__error *error)
{
	o->config = saved->config;
	o->page_bytes = gw__config_page_bytes(&saved->config);
	o->ram_id = saved->ram_id;
	o->ram_section_id_unknown = !saved->package.n; /* who drains never heard it */
	o->package = malloc(saved->package.n + 1);
	if (!o->package)
		return gw__error_set(error, -ENOMEM, "no memory for %zu bytes of device state", saved->package.n);
	if (saved->package.n)
		memcpy(o->package, saved->package.p, saved->package.n);
	o->package_bytes = saved->package.n;
	struct gw__package package;
	int bad = saved->package.n ? gw__package_decode(o->package, o->package_bytes, &package, error) : 0;
	if (bad)
		return gw__error_where(error, "the device state of the partial image");
	int r = saved->early.n ? keep_early(o, saved->early, error) : 0;
	return r ? r : describe_early(o, error);
}

int gw__sink_image_resume(const char *path, struct gw__sink **sink, struct gw__view *user_data, bool *rolled_back, struct gw__error *error)
{
	struct gw__image_writer *writer = NULL;
	const struct gw__recv_state_saved *saved = NULL;
	int r = gw__image_resume(path, &writer, &saved, rolled_back, error);
	if (r)
		return r;
	struct gw__image_sink *o = wrap_writer(&writer);
	if (!o) {
		gw__image_writer_close(writer);
		return gw__error_set(error, -ENOMEM, "no memory for an image");
	}
	r = take_saved(o, saved, error);
	if (!r)
		r = gw__sink_begin_in(&o->sink, gw__image_is_committed(o->writer) ? GW__SINK_COMMITTED : GW__SINK_LATE, o->page_bytes,
			gw__image_blocks(o->writer), error);
	*user_data = saved->user_data;
	*sink = &o->sink;
	if (r)
		gw__sink_free(sink);
	return r;
}

int gw__sink_image_reopen(struct gw__image_writer **writer, const struct gw__recv_state_saved *saved, struct gw__sink **sink,
	struct gw__error *error)
{
	struct gw__image_sink *o = wrap_writer(writer);
	if (!o) {
		gw__image_writer_close(*writer);
		return gw__error_set(error, -ENOMEM, "no memory for an image");
	}
	*sink = &o->sink;
	o->config = saved->config;
	o->page_bytes = gw__config_page_bytes(&saved->config);
	o->ram_id = saved->ram_id;
	int r = saved->early.n ? keep_early(o, saved->early, error) : 0;
	if (!r)
		r = describe_early(o, error);
	if (!r)
		r = gw__sink_begin_in(*sink, GW__SINK_RAM, o->page_bytes, gw__image_blocks(o->writer), error);
	if (r)
		gw__sink_free(sink);
	return r;
}

void gw__sink_image_set_user_data(struct gw__sink *sink, struct gw__view user_data) { own(sink)->user_data = user_data; }
