/* SPDX-License-Identifier: MIT */
/*
 * Peer to sink: runs the stream decoder over a channel and hands what comes out to a sink.
 *
 * The way of a page: socket -> stream buffer -> sink, in batches of consecutive pages that point into the buffer. In COLO the stream goes on
 * after its guest. Not the pages of multifd channels (multifd_recv.c), nor the messages to and from the source (session.c), nor what a
 * checkpoint means (engine/colo). See stream.h; the main thread's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/incoming/stream.h"
#include "engine/incoming/stream_private.h"
#include "wire/colo.h"
#include "wire/package.h"
#include "wire/postcopy.h"
#include "wire/xbzrle.h"

static int fill(struct gw__incoming_stream *p);

typedef unsigned long long ull;

#define CHECKPOINT_NS UINT64_C(5000000000)

static void count(_Atomic uint64_t *counter, uint64_t by) { atomic_fetch_add_explicit(counter, by, memory_order_relaxed); }

static int flush_zeros(struct gw__incoming_stream *p)
{
	uint64_t n = p->zeros_n;
	p->zeros_n = 0;
	count(&p->run->counters.zero_pages, n);
	p->stats->zero_pages += n;
	p->stats->block[p->batch_block].zero_pages += n;
	return gw__sink_zeros(p->sink, p->batch_block, p->batch_off, n, &p->run->error);
}

/* What was gathered goes to the sink: before the stream buffer moves, and before anything that must not overtake it. */
static int flush_batch(struct gw__incoming_stream *p)
{
	if (p->zeros_n)
		return flush_zeros(p);
	if (!p->batch_n)
		return 0;
	int n = p->batch_n;
	p->batch_n = 0;
	count(&p->run->counters.pages, (uint64_t)n);
	return gw__sink_pages(p->sink, p->batch_block, p->batch_off, p->batch, n, &p->run->error);
}

/* The payload of a page is in the buffer, or is brought there; the decoder never sees it. */
static int take_payload(struct gw__incoming_stream *p, const uint8_t **payload)
{
	while (gw__stream_buf_left(&p->buf) < p->stream.page_bytes) {
		if (p->buf.ended)
			return gw__error_set(&p->run->error, -EPROTO,
				"at stream offset %llu: the stream ends inside a page; it was cut short", (ull)p->stream.off);
		int r = fill(p);
		if (r)
			return r;
	}
	*payload = gw__stream_buf_bytes(&p->buf);
	gw__stream_buf_use(&p->buf, p->stream.page_bytes);
	return 0;
}

/* Is this page the next one of the batch, which has `n` pages of its kind? */
static bool continues(const struct gw__incoming_stream *p, const struct gw__event *ev, uint64_t n)
{
	return n && ev->where.block == p->batch_block && ev->where.off == p->batch_off + n * p->stream.page_bytes;
}

static int begin_batch(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	int r = flush_batch(p);
	if (r)
		return r;
	p->batch_block = ev->where.block;
	p->batch_off = ev->where.off;
	return 0;
}

static int add_page(struct gw__incoming_stream *p, const struct gw__event *ev, const uint8_t *payload)
{
	uint64_t page_bytes = p->stream.page_bytes;
	int r = 0;
	if (!continues(p, ev, (uint64_t)p->batch_n) || p->batch_n == GW__BATCH_PAGES)
		r = begin_batch(p, ev);
	if (r)
		return r;
	p->batch[p->batch_n++] = (struct iovec){(void *)payload, page_bytes};
	p->stats->pages++;
	p->stats->page_payload_bytes += page_bytes;
	p->stats->block[ev->where.block].pages++;
	return 0;
}

static int on_page(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	const uint8_t *payload = NULL;
	int r = take_payload(p, &payload); /* may flush: look at the batch afterwards */
	return r ? r : add_page(p, ev, payload);
}

/* May this page of post-copy be taken? A page that has arrived already is not taken twice. */
static bool page_is_needed(struct gw__incoming_stream *p, const struct gw__ram_where *where)
{
	if (gw__bitmap_test(gw__sink_received(p->sink, where->block), where->off / p->stream.page_bytes))
		return false;
	p->late_pages++;
	return true;
}

static int on_late_page(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	const uint8_t *payload = NULL;
	int r = take_payload(p, &payload);
	return r || !page_is_needed(p, &ev->where) ? r : add_page(p, ev, payload);
}

static int on_zero(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	int r = continues(p, ev, p->zeros_n) ? 0 : begin_batch(p, ev);
	p->zeros_n += !r;
	return r;
}

static int on_late_zero(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	return page_is_needed(p, &ev->where) ? on_zero(p, ev) : 0;
}

static int on_xbzrle(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	struct gw__error *error = &p->run->error;
	const char *name = p->stream.blocks.v[ev->where.block].name;
	int r = flush_batch(p);
	if (!r)
		r = gw__sink_read_back(p->sink, ev->where.block, ev->where.off, p->scratch, error);
	if (r == GW__NO_PAGE)
		return gw__error_set(error, -EPROTO,
			"at stream offset %llu: an XBZRLE delta for page %llx of block \"%s\", which was never sent", (ull)ev->off,
			(ull)ev->where.off, name);
	if (!r)
		r = gw__xbzrle_decode(ev->delta.p, ev->delta.n, p->scratch, p->stream.page_bytes, error);
	if (r)
		return gw__error_where(error, "at stream offset %llu, page %llx of block \"%s\"", (ull)ev->off, (ull)ev->where.off, name);
	struct iovec page = {p->scratch, p->stream.page_bytes};
	p->stats->xbzrle_pages++;
	p->stats->xbzrle_bytes += ev->delta.n;
	p->stats->block[ev->where.block].xbzrle_pages++;
	return gw__sink_pages(p->sink, ev->where.block, ev->where.off, &page, 1, error);
}

/* --- the switch to post-copy, and its package --- */

/* The source has stopped its guest, whatever becomes of that here. */
static void note_switch(struct gw__incoming_stream *p)
{
	if (p->result->has_switched)
		return;
	p->result->has_switched = true;
	if (p->role != GW__POSTCOPY_DST_RUN) /* of a guest that is run here its caller knows */
		gw__location_note(&p->result->location, GW__LOCATION_EV_SWITCH_BEGUN);
}

/* The first word of a switch. What can be foreseen was refused before (prepare). */
static int begin_switch(struct gw__incoming_stream *p)
{
	if (p->multifd_recv)
		return gw__error_set(&p->run->error, -EOPNOTSUPP,
			"the source switches to post-copy next to multifd channels, which is not taken; leave one of them out");
	if (!p->stream.return_path || !p->buf.chan->two_way)
		return gw__error_set(&p->run->error, -EOPNOTSUPP,
			"the source switches to post-copy, for which it has to be answered; let it connect to a socket");
	int r = gw__sink_begin_postcopy(p->sink, &p->run->error);
	return r ? r : gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_DISCARD);
}

static int on_discard(struct gw__incoming_stream *p, const struct gw__command *cmd)
{
	char name[GW__NAME_MAX + 1];
	const uint8_t *ranges;
	unsigned n;
	int r = flush_batch(p);
	if (!r)
		r = p->state == GW__POSTCOPY_DST_ACTIVE ? begin_switch(p) : gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_DISCARD);
	if (!r)
		r = gw__discard_split(cmd->payload, cmd->length, name, &ranges, &n, &p->run->error);
	if (r)
		return r;
	int64_t block = gw__blocks_find(&p->stream.blocks, name); /* the decoder has judged it, and the ranges */
	for (unsigned i = 0; !r && i < n; i++) {
		struct gw__range range = gw__range_at(ranges, i);
		r = gw__sink_discard(p->sink, (uint32_t)block, range.start_off, range.bytes / p->stream.page_bytes, &p->run->error);
	}
	return r;
}

static int begin_package(struct gw__incoming_stream *p)
{
	int r = flush_batch(p);
	p->package_came = true;
	if (!r && p->state == GW__POSTCOPY_DST_ACTIVE)
		r = begin_switch(p);
	size_t most = p->run->tail_max_bytes - p->stream.early_bytes;
	if (!r && p->stream.package_left > most)
		r = gw__error_set(&p->run->error, -E2BIG,
			"a package with %zu bytes of device state, at most %zu are taken; raise the limit if this guest really has so much",
			p->stream.package_left, most);
	return r;
}

static int append(struct gw__incoming_stream *p, struct gw__view raw)
{
	if (p->package_bytes + raw.n > p->package_room) {
		size_t bytes = p->package_bytes + raw.n, room = gw__min(bytes * 2, bytes + p->stream.package_left);
		uint8_t *package = realloc(p->package, room);
		if (!package)
			return gw__error_set(&p->run->error, -ENOMEM, "no memory for %zu bytes of device state", room);
		p->package = package;
		p->package_room = room;
	}
	memcpy(p->package + p->package_bytes, raw.p, raw.n);
	p->package_bytes += raw.n;
	return 0;
}

/*
 * The source takes PONG 0x42 for the word that its guest is ours, and cannot go back in any case: so first everything is made to survive
 * us, and then its PINGs are answered.
 */
static int take_package(struct gw__incoming_stream *p)
{
	struct gw__package package;
	int r = gw__package_decode(p->package, p->package_bytes, &package, &p->run->error);
	if (!r)
		r = gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_PACKAGE);
	if (!r)
		gw__stream_buf_trim(&p->buf);
	if (!r)
		r = gw__sink_persist_handover(p->sink, &p->package, p->package_bytes, &p->run->error);
	if (!r)
		r = gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_HELD);
	p->handover_persisted = !r;
	if (gw__incoming_is_to_run(p)) /* its PINGs are answered when its devices are loaded */
		return 0;
	for (unsigned i = 0; !r && i < package.pings_n; i++)
		r = gw__incoming_rp_send_pong(p, package.ping[i]);
	return r;
}

/* A device or a command of the package; POSTCOPY_RUN is its last. */
static int take_package_item(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	bool command = ev->kind == GW__EVENT_COMMAND;
	if (ev->kind == GW__EVENT_DEVICE) {
		GW__TRACE(&p->run->trace, device, "%s/%u %zu bytes", ev->section.idstr, ev->section.instance, ev->body.n);
		p->stats->device_bytes += ev->raw.n;
	}
	int r = append(p, ev->raw);
	return r || !command || ev->command.number != GW__CMD_POSTCOPY_RUN ? r : take_package(p);
}

static int on_switch(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	note_switch(p);
	int r = ev->command.number == GW__CMD_PACKAGED ? begin_package(p) : on_discard(p, &ev->command);
	if (!r && ev->command.number == GW__CMD_PACKAGED)
		p->phase = GW__INCOMING_PACKAGE;
	return r;
}

static int on_package_item(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	int r = take_package_item(p, ev);
	if (!r && p->handover_persisted)
		p->phase = GW__INCOMING_POSTCOPY;
	return r;
}

/* --- the end of post-copy --- */

/* A device that says so came on this connection, or on the first one. */
static bool has_unplugged_memory(const struct gw__incoming_stream *p)
{
	bool any = p->has_unplugged_memory;
	for (uint32_t i = 0; !any && i < p->stream.early_n; i++)
		any = strstr(p->stream.early[i].idstr, "virtio-mem");
	return any;
}

static int check_whole(struct gw__incoming_stream *p)
{
	uint64_t missing = gw__sink_count_missing(p->sink);
	if (!missing || has_unplugged_memory(p))
		return 0;
	return gw__error_set(&p->run->error, -EPROTO, "the source says that it has sent everything, but %llu pages never came",
		(ull)missing);
}

int gw__incoming_put_devices(struct gw__sink *sink, struct gw__view raw, struct gw__error *error)
{
	struct gw__package package;
	struct gw__section section;
	const uint8_t *at;
	size_t bytes;
	if (!raw.n)
		return 0;
	int r = gw__package_decode(raw.p, raw.n, &package, error);
	while (!r && gw__package_next(&package, &section, &at, &bytes))
		r = gw__sink_device(sink, &section, 0, (struct gw__view){at, bytes}, error);
	return r;
}

/* The source has sent its last byte: is anything missing? Then the end of RAM and the devices of the package, which come after it. */
static int end_postcopy(struct gw__incoming_stream *p)
{
	int r = check_whole(p); /* else it is an END like any other break: whoever said it, the source may still have the rest */
	if (!r)
		r = gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_END);
	gw__run_phase(p->run, GW__PHASE_DEVICES);
	if (!r && p->stream.learns_id)
		r = gw__sink_learn_ram_id(p->sink, p->stream.ram_id, &p->run->error);
	if (!r)
		r = gw__sink_ram_end(p->sink, &p->run->error);
	if (r || p->role == GW__POSTCOPY_DST_RUN) /* who has loaded its devices */
		return r;
	return gw__incoming_put_devices(p->sink, gw__sink_recovery_info(p->sink).package, &p->run->error);
}

/* Now and then, between two sections of post-copy. */
static int persist_pages(struct gw__incoming_stream *p)
{
	uint64_t now = gw__clock_now_ns(&p->run->clock);
	if (p->late_pages == p->checkpoint_pages || now - p->checkpoint_ns < CHECKPOINT_NS)
		return 0;
	int r = gw__sink_checkpoint(p->sink, &p->run->error);
	p->checkpoint_pages = p->late_pages;
	p->checkpoint_ns = gw__clock_now_ns(&p->run->clock);
	return r;
}

/* --- what each event means for the sink --- */

/* After the first DISCARD it is too late to refuse anything: QEMU may stand in postcopy-paused then. Next to multifd it is not taken at all. */
static int prepare_switch(struct gw__incoming_stream *p)
{
	bool possible = p->stream.advised && p->stream.return_path && p->buf.chan->two_way && !p->multifd_recv;
	return possible && p->sink->ops->postcopy ? gw__sink_prepare_postcopy(p->sink, &p->run->error) : 0;
}

static int give_config(struct gw__incoming_stream *p)
{
	bool owed = p->owes_config;
	p->owes_config = false;
	return owed ? gw__sink_config(p->sink, &p->stream.config, &p->run->error) : 0;
}

static int on_blocks(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	(void)ev;
	struct gw__stream *s = &p->stream;
	p->scratch = malloc(s->page_bytes);
	p->stats->block = calloc(s->blocks.n, sizeof *p->stats->block);
	p->stats->blocks_n = s->blocks.n;
	if (!p->scratch || !p->stats->block)
		return gw__error_set(&p->run->error, -ENOMEM, "no memory for %u RAM blocks", s->blocks.n);
	atomic_store(&p->run->counters.total_bytes, s->blocks.total_bytes);
	if (p->in && p->stream.postcopy == GW__STREAM_PRECOPY) { /* one migration: others are refused from here on */
		gw__listener_close(p->in->listener);
		p->in->listener = NULL;
	}
	gw__run_phase(p->run, GW__PHASE_RAM);
	int r = give_config(p);
	if (!r)
		r = gw__sink_blocks(p->sink, s->ram_id, &s->blocks, &p->run->error);
	if (!r)
		r = prepare_switch(p);
	return r || !p->multifd_recv ? r : gw__multifd_recv_set_block_list(p->multifd_recv, &s->blocks, s->page_bytes);
}

static int on_config(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	(void)ev;
	if (p->stream.config.mapped_ram)
		return gw__error_set(&p->run->error, -EOPNOTSUPP,
			"this is a mapped-ram image, which has to be read as a file, not as a stream");
	p->owes_config = true;
	return gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_STREAM_BEGUN);
}

static int on_command(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	const struct gw__command *cmd = &ev->command;
	GW__TRACE(&p->run->trace, command, "%s", gw__command_name(cmd->number));
	if (cmd->number == GW__CMD_POSTCOPY_RAM_DISCARD || cmd->number == GW__CMD_PACKAGED)
		return on_switch(p, ev);
	if (cmd->number == GW__CMD_PING && p->buf.chan->two_way && (!p->answered_off || ev->off != p->answered_off))
		return gw__incoming_rp_send_pong(p, cmd->ping_token);
	if (cmd->number != GW__CMD_SWITCHOVER_START)
		return 0;
	int r = give_config(p); /* it may stand anywhere, also before the first section */
	return r ? r : gw__sink_switchover(p->sink, &p->run->error);
}

static int end_ram(struct gw__incoming_stream *p)
{
	int r = flush_batch(p);
	if (r || p->ram_ended)
		return r;
	r = p->multifd_recv ? gw__multifd_recv_finish(p->multifd_recv) : 0;
	if (r)
		return r;
	p->ram_ended = true;
	gw__run_phase(p->run, GW__PHASE_DEVICES);
	return gw__sink_ram_end(p->sink, &p->run->error);
}

/*
 * Two styles of telling that all channels are to be in step: a FLUSH record per round, or, from machine types up to 8.0, the
 * end of every RAM section (docs/spec/multifd.md 5). Which one shows in START, that has a FLUSH or not. It is the EOS that
 * counts: the footer after it may still be in the source's buffer while its channels wait for us.
 */
static int on_eos(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	(void)ev;
	int r = flush_batch(p);
	if (r || !p->multifd_recv)
		return r;
	if (p->stream.section_type == GW__ITEM_START)
		p->sync_per_section = !p->flush_came;
	return p->sync_per_section ? gw__multifd_recv_sync_main(p->multifd_recv) : 0;
}

static int end_round(struct gw__incoming_stream *p)
{
	atomic_fetch_add_explicit(&p->run->counters.rounds, 1, memory_order_relaxed);
	return gw__sink_round(p->sink, &p->run->error);
}

static int on_section_end(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	int r = flush_batch(p);
	if (r)
		return r;
	if (ev->section.type == GW__ITEM_END)
		return end_ram(p);
	return ev->section.type == GW__ITEM_PART ? end_round(p) : 0;
}

/* Until its very last byte the source may have to come back: END is no end yet. */
static int on_late_section_end(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	int r = flush_batch(p);
	if (r || ev->section.type != GW__ITEM_PART)
		return r;
	r = end_round(p);
	return r ? r : persist_pages(p);
}

/* be32 length, 32 bytes of text (docs/spec/stream.md 8.4): the run state. A hint, as good as who sent it. */
static void note_run_state(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	enum { AT = 4, N = 32 };
	char *to = p->stats->run_state;
	if (strcmp(ev->section.idstr, "globalstate") || ev->body.n < AT + N)
		return;
	memcpy(to, ev->body.p + AT, N);
	to[N] = 0;
	if (strspn(to, "abcdefghijklmnopqrstuvwxyz-") != strlen(to))
		to[0] = 0;
}

static int on_device(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	/* A background snapshot never ends its RAM section: the first device after it does. */
	int r = give_config(p);
	if (!r && p->stream.background)
		r = end_ram(p);
	if (r)
		return r;
	GW__TRACE(&p->run->trace, device, "%s/%u %zu bytes", ev->section.idstr, ev->section.instance, ev->body.n);
	note_run_state(p, ev);
	p->stats->device_bytes += ev->raw.n;
	return gw__sink_device(p->sink, &ev->section, ev->off, ev->raw, &p->run->error);
}

/*
 * Sections that only their device understands are kept as they came, in their order. These need more than the stream has: the disks whose
 * dirty pages they name, the disks' content, the state of a real device.
 */
static bool is_refused(const char *idstr)
{
	const char *vfio = strstr(idstr, "/vfio");
	return !strcmp(idstr, "dirty-bitmap") || !strcmp(idstr, "block") || (vfio && !vfio[strlen("/vfio")]);
}

static int on_opaque(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	p->stats->opaque_sections++;
	if (is_refused(ev->section.idstr))
		return gw__error_set(&p->run->error, -EOPNOTSUPP,
			"at stream offset %llu: section \"%s\" cannot be kept; switch off what makes the source send it "
			"(for dirty-bitmap: the capability dirty-bitmaps)",
			(ull)ev->off, ev->section.idstr);
	int r = give_config(p);
	if (!r)
		r = flush_batch(p);
	GW__TRACE(&p->run->trace, device, "%s, a piece of %zu bytes", ev->section.idstr, ev->body.n);
	p->stats->device_bytes += ev->raw.n;
	return r ? r : gw__sink_device(p->sink, &ev->section, ev->off, ev->raw, &p->run->error);
}

static int on_desc(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	p->stats->description_bytes = ev->raw.n;
	p->described = true;
	return gw__sink_end(p->sink, ev->body, &p->run->error);
}

static int on_checkpoint_end(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	(void)ev;
	p->done = true;
	p->stats->trailing_bytes = gw__stream_buf_left(&p->buf);
	return 0;
}

static int on_end(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	on_checkpoint_end(p, ev);
	return p->described ? 0 : gw__sink_end(p->sink, (struct gw__view){0}, &p->run->error);
}

static int on_late_end(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	on_checkpoint_end(p, ev);
	int r = end_postcopy(p);
	return r ? r : gw__sink_end(p->sink, (struct gw__view){0}, &p->run->error);
}

static int on_flush(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	int r = flush_batch(p); /* a ZERO here and the page on a channel must not change places */
	p->flush_came = true;
	if (r)
		return r;
	if (p->multifd_recv)
		return gw__multifd_recv_sync_main(p->multifd_recv);
	if (!p->expects_multifd)
		return 0;
	return gw__error_set(&p->run->error, -EPROTO,
		"at stream offset %llu: the source sends its pages over multifd channels, but none of them had come when the main channel "
		"began; say how many with --channels, or receive at an address where several can connect",
		(ull)ev->off);
}

static void warn(struct gw__run *run, const struct gw__event *ev)
{
	if (ev->kind == GW__EVENT_DEVICE)
		gw__run_warn(run, "at stream offset %llu, device \"%s\": %s", (ull)ev->off, ev->section.idstr, ev->anomaly);
	else
		gw__run_warn(run, "at stream offset %llu: %s", (ull)ev->off, ev->anomaly);
}

/*
 * What is not in a table needs nothing done: SECTION and EOF, whose meaning comes by itself, and what the decoder refuses there (wire/stream_postcopy,
 * wire/stream_colo).
 */
typedef int handler(struct gw__incoming_stream *p, const struct gw__event *ev);
static handler *const HANDLERS[GW__INCOMING_PHASES][GW__EVENT_END + 1] = {
	[GW__INCOMING_PRECOPY] =
		{
			[GW__EVENT_CONFIG] = on_config,
			[GW__EVENT_COMMAND] = on_command,
			[GW__EVENT_BLOCKS] = on_blocks,
			[GW__EVENT_SECTION_END] = on_section_end,
			[GW__EVENT_PAGE] = on_page,
			[GW__EVENT_ZERO] = on_zero,
			[GW__EVENT_XBZRLE] = on_xbzrle,
			[GW__EVENT_FLUSH] = on_flush,
			[GW__EVENT_EOS] = on_eos,
			[GW__EVENT_DEVICE] = on_device,
			[GW__EVENT_OPAQUE] = on_opaque,
			[GW__EVENT_DESC] = on_desc,
			[GW__EVENT_END] = on_end,
		},
	[GW__INCOMING_PACKAGE] =
		{
			[GW__EVENT_COMMAND] = on_package_item,
			[GW__EVENT_DEVICE] = on_package_item,
		},
	[GW__INCOMING_POSTCOPY] =
		{
			[GW__EVENT_COMMAND] = gw__incoming_postcopy_command,
			[GW__EVENT_SECTION_END] = on_late_section_end,
			[GW__EVENT_PAGE] = on_late_page,
			[GW__EVENT_ZERO] = on_late_zero,
			[GW__EVENT_EOS] = on_eos,
			[GW__EVENT_OPAQUE] = on_opaque,
			[GW__EVENT_END] = on_late_end,
		},
	[GW__INCOMING_CHECKPOINT] =
		{
			[GW__EVENT_COMMAND] = on_command,
			[GW__EVENT_SECTION_END] = on_section_end,
			[GW__EVENT_PAGE] = on_page,
			[GW__EVENT_ZERO] = on_zero,
			[GW__EVENT_FLUSH] = on_flush,
			[GW__EVENT_EOS] = on_eos,
			[GW__EVENT_END] = on_checkpoint_end,
		},
};

static int handle_event(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	if (ev->anomaly)
		warn(p->run, ev);
	handler *h = HANDLERS[p->phase][ev->kind];
	return h ? h(p, ev) : 0;
}

/* --- the loop --- */

enum {
	ASKS_MAX = 64,
	QUIET_MS = 5000, /* docs/spec/stream.md 9: after a possible end without a description */
};

static int fill(struct gw__incoming_stream *p)
{
	int r = flush_batch(p);
	if (!r && p->late)
		r = gw__incoming_late_wait(p);
	if (r)
		return r;
	uint64_t before = p->buf.chan->in_bytes;
	r = gw__stream_buf_fill(&p->buf, &p->run->error);
	atomic_fetch_add_explicit(&p->run->counters.moved_bytes, p->buf.chan->in_bytes - before, memory_order_relaxed);
	gw__run_tick(p->run);
	return r;
}

/*
 * What comes after RAM is handed out when its end has arrived. A source may ask before that whether all of it has come, and send the end when it
 * knows (docs/spec/stream.md 9).
 */
static int answer_in_tail(struct gw__incoming_stream *p)
{
	size_t n = gw__stream_buf_left(&p->buf);
	uint64_t off = p->stream.off + n - GW__PING_BYTES;
	uint32_t token;
	if (!p->buf.chan->two_way || !p->stream.return_path || p->asks >= ASKS_MAX || n < GW__PING_BYTES || off == p->answered_off)
		return 0;
	if (gw__stream_buf_bytes(&p->buf)[n - GW__PING_BYTES] != GW__ITEM_COMMAND) /* each look costs as much as there is */
		return 0;
	p->asks++;
	if (!gw__trailer_asks(gw__stream_buf_bytes(&p->buf), n, &token))
		return 0;
	p->answered_off = off;
	return gw__incoming_rp_send_pong(p, token);
}

/* More bytes for the decoder. `*last`: there will be none, or the source is silent after what may be the end. */
static int more(struct gw__incoming_stream *p, bool *last)
{
	if (p->stream.state == GW__STREAM_TRAILER && gw__stream_buf_left(&p->buf)) {
		int r = answer_in_tail(p);
		if (r < 0)
			return r;
		r = gw__chan_wait_readable(p->buf.chan, QUIET_MS, &p->run->error);
		if (r < 0)
			return r;
		if (r == 0 && gw__trailer_could_end(gw__stream_buf_bytes(&p->buf), gw__stream_buf_left(&p->buf))) {
			*last = true;
			return 0;
		}
	}
	int r = fill(p);
	*last = p->buf.ended;
	return r;
}

static int decode_all(struct gw__incoming_stream *p)
{
	bool last = false;
	while (!p->done && !gw__incoming_is_to_run(p)) {
		struct gw__event ev;
		size_t used;
		int r = gw__stream_next(&p->stream, gw__stream_buf_bytes(&p->buf), gw__stream_buf_left(&p->buf), last, &used, &ev,
			&p->run->error);
		if (r < 0)
			return r;
		gw__stream_buf_use(&p->buf, used);
		r = r ? handle_event(p, &ev) : more(p, &last);
		if (r >= 0)
			r = gw__run_check_cancel(p->run);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What a worker saw first explains what the main thread saw after it. */
static int check_multifd(struct gw__incoming_stream *p, int r)
{
	if (!p->multifd_recv)
		return r;
	int failed = gw__multifd_recv_check(p->multifd_recv, r ? NULL : &p->stats->multifd);
	return failed ? failed : r;
}

int gw__incoming_decode(struct gw__incoming_stream *p) { return check_multifd(p, decode_all(p)); }

/* --- COLO: a stream that goes on after its guest (docs/spec/colo.md 5). The decoder, the channels and what they know are not reset in between --- */

int gw__incoming_receive_checkpoint(struct gw__incoming_stream *p)
{
	gw__stream_begin_checkpoint(&p->stream);
	p->phase = GW__INCOMING_CHECKPOINT;
	p->done = p->ram_ended = false;
	if (p->multifd_recv)
		gw__multifd_recv_go_on(p->multifd_recv);
	return gw__incoming_decode(p);
}

/* At least `n` bytes, few, without using them up. */
static int peek(struct gw__incoming_stream *p, size_t n)
{
	while (gw__stream_buf_left(&p->buf) < n) {
		int r = fill(p);
		if (r)
			return r;
		if (p->buf.ended)
			return gw__error_set(&p->run->error, -ECONNRESET, "%s: the connection was closed", p->buf.chan->name);
	}
	return 0;
}

int gw__incoming_receive_message(struct gw__incoming_stream *p, struct gw__colo_msg *m)
{
	int r = GW__SHORT;
	for (size_t n = 4; r == GW__SHORT; n = GW__COLO_MESSAGE_MAX_BYTES) {
		int got = peek(p, n);
		if (got)
			return got;
		struct gw__rd c = gw__rd_over(gw__stream_buf_bytes(&p->buf), n);
		r = gw__colo_decode(&c, m, &p->run->error);
		if (r)
			continue;
		gw__stream_buf_use(&p->buf, gw__rd_used(&c));
		p->stream.off += gw__rd_used(&c);
	}
	return r;
}

int gw__incoming_read(struct gw__incoming_stream *p, void *to, size_t n)
{
	size_t here = gw__stream_buf_left(&p->buf), got = 0;
	here = here < n ? here : n;
	if (here) {
		memcpy(to, gw__stream_buf_bytes(&p->buf), here);
		gw__stream_buf_use(&p->buf, here);
	}
	int r = here < n ? gw__chan_read_full(p->buf.chan, (uint8_t *)to + here, n - here, &got, &p->run->error) : 0;
	p->stream.off += here + got;
	if (r || here + got == n)
		return r;
	return gw__error_set(&p->run->error, -ECONNRESET, "%s: the connection was closed after %zu of %zu bytes", p->buf.chan->name,
		here + got, n);
}

int gw__incoming_wait(struct gw__incoming_stream *p, int ms, int cancel_fd)
{
	if (gw__stream_buf_left(&p->buf) || p->buf.ended)
		return 1;
	int before = p->buf.chan->cancel_fd;
	p->buf.chan->cancel_fd = cancel_fd;
	int r = gw__chan_wait_readable(p->buf.chan, ms, &p->run->error);
	p->buf.chan->cancel_fd = before;
	return r;
}

int gw__incoming_check_turn(struct gw__incoming_stream *p)
{
	size_t early = gw__stream_buf_left(&p->buf);
	if (!early)
		return 0;
	return gw__error_set(&p->run->error, -EPROTO,
		"at stream offset %llu: %zu bytes or more came before the source was answered: %02x ...", (ull)p->stream.off, early,
		*gw__stream_buf_bytes(&p->buf));
}

int gw__incoming_write(struct gw__incoming_stream *p, const void *bytes, size_t n)
{
	int r = gw__incoming_check_turn(p);
	return r ? r : gw__chan_write_all(p->buf.chan, bytes, n, &p->run->error);
}
