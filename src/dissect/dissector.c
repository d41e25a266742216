/* SPDX-License-Identifier: MIT */
/*
 * The dissector: its life, its way through the bytes of any channel, and what they mean. What a message is in words and fields is message.c; what
 * is known of the migration as a whole migration_view.c. See dissector.h.
 */
#include "dissect/dissector.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "wire/colo.h"
#include "wire/multifd.h"
#include "wire/postcopy.h"
#include "wire/return_path.h"

typedef unsigned long long ull;

/* Pages that follow one another in a block and in the channel. */
struct gw__dissector_run {
	uint64_t pages, zero_pages, xbzrle_pages; /* none: no run */
	uint32_t block;
	uint64_t start_off, end_off; /* in the block */
	uint64_t at, end;            /* in the channel */
};

struct gw__dissector {
	struct gw__dissector_opts o;
	uint64_t off;      /* bytes used */
	uint64_t said_off; /* the next message begins here */
	uint64_t skip;     /* bytes of payload to pass by */
	bool stopped;      /* `say` wants nothing more now */
	bool opaque;       /* said to be unreadable */
	bool ended;
	struct gw__error error;
	struct gw__message message; /* being made */
	struct gw__dissector_run run;
	struct gw__dissector_stats stats;
	uint32_t sights; /* bit i: enum gw__observed_event, to be confirmed */

	/* COLO: after the end of a stream, and after SHUT 0 on the return path */
	bool colo;            /* messages of COLO were seen in this direction */
	uint64_t device_left; /* bytes of the device state of a checkpoint */
	uint32_t device_index;

	/* main, recovery and preempt channels */
	struct gw__stream stream;
	struct gw__dissector_stats section; /* what the tally was when the RAM section began */

	/* the return path */
	char asked_block[GW__NAME_MAX + 1]; /* of the previous request */
	struct gw__rp_msg bitmap;           /* whose bitmap is being read */
	enum { GW__BITMAP_NONE, GW__BITMAP_SIZE, GW__BITMAP_BITS, GW__BITMAP_MARK } bitmap_state;
	uint64_t bitmap_left, bitmap_pages, bitmap_at, bitmap_ones;

	/* multifd channels */
	bool said_hello;
	struct gw__multifd_packet packet;
};

/* To be confirmed when it has really arrived. */
static void observe(struct gw__dissector *x, enum gw__observed_event observed) { x->sights |= UINT32_C(1) << observed; }

/* Where it stands, beside what else is said of these bytes. */
static void emit_at(struct gw__dissector *x, uint64_t off, uint64_t end_off)
{
	if (x->stopped)
		return;
	x->message.off = off;
	x->message.bytes = end_off - off;
	if (!x->o.say(x->o.ctx, &x->message))
		x->stopped = true;
}

/* It ends at this offset of the channel. A run that waits is said before. */
static void emit(struct gw__dissector *x, uint64_t end_off)
{
	uint64_t off = x->said_off;
	x->said_off = end_off;
	if (gw__dissector_is_waiting(x)) { /* came before, is said before */
		struct gw__message later = x->message;
		gw__dissector_pause(x);
		x->message = later;
	}
	if (x->stopped)
		return;
	x->stats.messages += !x->message.detail;
	emit_at(x, off, end_off);
}

/* --- pages: counted, gathered in runs of neighbours, and emitted run by run, or page by page where that is wanted --- */

static const char *block_name(const struct gw__dissector *x, uint32_t block) { return x->stream.blocks.v[block].name; }

static void count_page(struct gw__dissector *x, const char *name)
{
	bool zero = !strcmp(name, "ZERO"), xbzrle = !strcmp(name, "XBZRLE");
	x->stats.zero_pages += zero;
	x->stats.xbzrle_pages += xbzrle;
	x->stats.pages += !zero && !xbzrle;
	x->run.zero_pages += zero;
	x->run.xbzrle_pages += xbzrle;
	x->run.pages += !zero && !xbzrle;
}

static void say_page(struct gw__dissector *x, const char *name, const struct gw__ram_where *where, uint64_t end_off)
{
	struct gw__message *m = gw__message_begin(&x->message, name, "%s 0x%llx", block_name(x, where->block), (ull)where->off);
	gw__message_text(m, "block", block_name(x, where->block));
	gw__message_number(m, "start", where->off);
	m->detail = true;
	emit_at(x, x->said_off, end_off);
}

static void take_page(struct gw__dissector *x, const char *name, const struct gw__ram_where *where, uint64_t end_off)
{
	struct gw__dissector_run *run = &x->run;
	if (gw__dissector_is_waiting(x) && (run->block != where->block || run->end_off != where->off))
		gw__dissector_pause(x);
	if (x->stopped) /* the run before it was the last word */
		return;
	if (!gw__dissector_is_waiting(x))
		*run = (struct gw__dissector_run){.block = where->block, .start_off = where->off, .at = x->said_off};
	run->end_off = where->off + x->stream.page_bytes;
	run->end = end_off;
	count_page(x, name);
	if (x->o.every_page)
		say_page(x, name, where, end_off);
	x->said_off = end_off;
}

void gw__dissector_pause(struct gw__dissector *x)
{
	struct gw__dissector_run run = x->run;
	if (!gw__dissector_is_waiting(x))
		return;
	x->run = (struct gw__dissector_run){0};
	const char *name = block_name(x, run.block);
	struct gw__message *m =
		gw__message_begin(&x->message, "PAGES", "%s 0x%llx-0x%llx:", name, (ull)run.start_off, (ull)run.end_off - 1);
	const char *comma = "";
	if (run.pages) {
		gw__message_more(m, " %llu page%s", (ull)run.pages, run.pages == 1 ? "" : "s");
		comma = ",";
	}
	if (run.xbzrle_pages) {
		gw__message_more(m, "%s %llu changed (XBZRLE)", comma, (ull)run.xbzrle_pages);
		comma = ",";
	}
	if (run.zero_pages)
		gw__message_more(m, "%s %llu zero page%s", comma, (ull)run.zero_pages, run.zero_pages == 1 ? "" : "s");
	gw__message_text(m, "block", name);
	gw__message_number(m, "start", run.start_off);
	gw__message_number(m, "length", run.end_off - run.start_off);
	gw__message_number(m, "pages", run.pages);
	gw__message_number(m, "zero_pages", run.zero_pages);
	gw__message_number(m, "xbzrle_pages", run.xbzrle_pages);
	m->sum = true;
	emit_at(x, run.at, run.end);
}

/*
 * What follows are steps over the bytes at hand: 1 and *used, 0 when more bytes are needed, negative with x->error. A message is made while x->off
 * is still that of the first of these bytes.
 */

/* --- main, recovery and preempt channels: events of the stream decoder in words --- */

/* What a command says of where the guest is. */
static void observe_command(struct gw__dissector *x, const struct gw__command *cmd)
{
	if (cmd->number == GW__CMD_OPEN_RETURN_PATH)
		observe(x, GW__OBSERVED_RETURN_PATH);
	if (cmd->number == GW__CMD_PING && cmd->ping_token == GW__PING_RUNS)
		observe(x, GW__OBSERVED_PING_RUNS);
	if (cmd->number == GW__CMD_POSTCOPY_RUN)
		observe(x, GW__OBSERVED_RUN);
}

static int on_command(struct gw__dissector *x, const struct gw__event *ev)
{
	observe_command(x, &ev->command);
	gw__message_command(&x->message, &ev->command, x->asked_block); /* which has no other use in this direction */
	return 0;
}

static int on_config(struct gw__dissector *x, const struct gw__event *ev)
{
	const struct gw__config *c = &x->stream.config;
	(void)ev;
	if (c->mapped_ram)
		return gw__error_set(&x->error, -EPROTO, "the stream is one for files (mapped-ram)");
	gw__migration_view_begin(x->o.view, x->stream.page_bytes);
	struct gw__message *m =
		gw__message_begin(&x->message, "CONFIGURATION", "machine %s, pages of %llu bytes", c->machine, (ull)x->stream.page_bytes);
	for (uint32_t i = 0; i < c->caps_n; i++)
		gw__message_more(m, ", %s", c->caps[i]);
	gw__message_text(m, "machine", c->machine);
	gw__message_number(m, "page_bytes", x->stream.page_bytes);
	return 0;
}

static int on_blocks(struct gw__dissector *x, const struct gw__event *ev)
{
	const struct gw__blocks *b = &x->stream.blocks;
	(void)ev;
	int r = gw__migration_view_blocks(x->o.view, x->stream.page_bytes, x->stream.ram_id, b);
	if (r)
		return gw__error_set(&x->error, r, "no memory for the list of blocks");
	struct gw__message *m = gw__message_begin(&x->message, "BLOCKS", "%u, together %s:", b->n, GW__MESSAGE_SIZE(b->total_bytes));
	for (uint32_t i = 0; i < b->n; i++) {
		gw__message_more(m, "%s %s %s", i ? "," : "", b->v[i].name, GW__MESSAGE_SIZE(b->v[i].used_bytes));
		if (b->v[i].page_bytes)
			gw__message_more(m, " in pages of %s", GW__MESSAGE_SIZE(b->v[i].page_bytes));
	}
	gw__message_number(m, "blocks", b->n);
	gw__message_number(m, "length", b->total_bytes);
	return 0;
}

static const char *section_name(uint8_t type)
{
	static const char *const names[] =
		{[GW__ITEM_START] = "START", [GW__ITEM_PART] = "PART", [GW__ITEM_END] = "END", [GW__ITEM_FULL] = "FULL"};
	return names[type];
}

static int on_section(struct gw__dissector *x, const struct gw__event *ev)
{
	x->section = x->stats;
	struct gw__message *m = gw__message_begin(&x->message, section_name(ev->section.type), "section %u, ram", ev->section.id);
	gw__message_number(m, "section", ev->section.id);
	return 0;
}

static int on_section_end(struct gw__dissector *x, const struct gw__event *ev)
{
	const struct gw__dissector_stats *now = &x->stats, *before = &x->section;
	uint64_t pages = now->pages - before->pages, zero = now->zero_pages - before->zero_pages,
		 xbzrle = now->xbzrle_pages - before->xbzrle_pages;
	struct gw__message *m = gw__message_begin(&x->message, "FOOTER", "of section %u: %llu pages, %llu zero pages", ev->section.id,
		(ull)pages, (ull)zero);
	if (xbzrle)
		gw__message_more(m, ", %llu changed (XBZRLE)", (ull)xbzrle);
	gw__message_number(m, "section", ev->section.id);
	gw__message_number(m, "pages", pages);
	gw__message_number(m, "zero_pages", zero);
	gw__message_number(m, "xbzrle_pages", xbzrle);
	return 0;
}

static int on_flush(struct gw__dissector *x, const struct gw__event *ev)
{
	(void)ev;
	gw__message_begin(&x->message, "MULTIFD_FLUSH", "what the multifd channels carried so far comes before what follows");
	return 0;
}

static int on_eos(struct gw__dissector *x, const struct gw__event *ev)
{
	(void)ev;
	gw__message_begin(&x->message, "EOS", "end of the section's records")->detail = true;
	return 0;
}

static int on_seek(struct gw__dissector *x, const struct gw__event *ev)
{
	(void)ev; /* refused with the configuration already */
	return gw__error_set(&x->error, -EPROTO, "the stream is one for files (mapped-ram)");
}

static int on_device(struct gw__dissector *x, const struct gw__event *ev)
{
	const struct gw__section *s = &ev->section;
	bool device = ev->kind == GW__EVENT_DEVICE;
	struct gw__message *m = gw__message_begin(&x->message, device ? "DEVICE" : section_name(s->type), "%s", s->idstr);
	if (device)
		gw__message_more(m, ", instance %u, version %u", s->instance, s->version);
	gw__message_more(m, ": %zu bytes", ev->body.n);
	if (ev->anomaly)
		gw__message_more(m, " (%s)", ev->anomaly);
	gw__message_text(m, "device", s->idstr);
	gw__message_number(m, "section", s->id);
	gw__message_number(m, "instance", s->instance);
	gw__message_number(m, "version", s->version);
	gw__message_number(m, "length", ev->body.n);
	return 0;
}

static int on_eof(struct gw__dissector *x, const struct gw__event *ev)
{
	(void)ev;
	observe(x, GW__OBSERVED_WHOLE); /* a destination needs no description to run the guest */
	gw__message_begin(&x->message, "EOF", "end of the sections");
	return 0;
}

static int on_description(struct gw__dissector *x, const struct gw__event *ev)
{
	size_t devices = gw__vmdesc_count(x->stream.desc);
	struct gw__message *m = gw__message_begin(&x->message, "DESCRIPTION", "of %zu devices, %zu bytes", devices, ev->body.n);
	gw__message_number(m, "devices", devices);
	gw__message_number(m, "length", ev->body.n);
	return 0;
}

/* Each makes its message, which is emitted after it. Pages have their own way, and the end is none. */
static int (*const by_event[GW__EVENT_END + 1])(struct gw__dissector *x, const struct gw__event *ev) = {
	[GW__EVENT_CONFIG] = on_config,
	[GW__EVENT_COMMAND] = on_command,
	[GW__EVENT_BLOCKS] = on_blocks,
	[GW__EVENT_SECTION] = on_section,
	[GW__EVENT_SECTION_END] = on_section_end,
	[GW__EVENT_FLUSH] = on_flush,
	[GW__EVENT_EOS] = on_eos,
	[GW__EVENT_SEEK] = on_seek,
	[GW__EVENT_DEVICE] = on_device,
	[GW__EVENT_OPAQUE] = on_device,
	[GW__EVENT_EOF] = on_eof,
	[GW__EVENT_DESC] = on_description,
};

static void on_page(struct gw__dissector *x, const struct gw__event *ev, uint64_t end_off)
{
	const char *name = ev->kind == GW__EVENT_PAGE ? "PAGE" : ev->kind == GW__EVENT_ZERO ? "ZERO" : "XBZRLE";
	if (ev->kind == GW__EVENT_PAGE)
		x->skip = x->stream.page_bytes;
	take_page(x, name, &ev->where, end_off);
}

static int on_event(struct gw__dissector *x, const struct gw__event *ev)
{
	if (ev->kind == GW__EVENT_PAGE || ev->kind == GW__EVENT_ZERO || ev->kind == GW__EVENT_XBZRLE) {
		on_page(x, ev, x->stream.off);
		return 0;
	}
	if (ev->kind == GW__EVENT_END) {
		x->ended = true;
		return 0;
	}
	int r = by_event[ev->kind](x, ev);
	if (!r)
		emit(x, x->stream.off);
	return r;
}

static int step_stream(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	struct gw__event ev = {0};
	int r = gw__stream_next(&x->stream, bytes, n, last, used, &ev, &x->error);
	if (r <= 0)
		return r;
	r = on_event(x, &ev);
	return r < 0 ? r : 1;
}

static int begin_stream(struct gw__dissector *x)
{
	const struct gw__stream_opts o = {.tail_max_bytes = x->o.tail_max_bytes, .postcopy = true, .page_bytes = x->o.page_bytes};
	switch (x->o.kind) {
	case GW__DISSECTOR_MAIN:
		gw__stream_init(&x->stream, &o);
		return 0;
	case GW__DISSECTOR_RECOVERY:
		gw__migration_view_note(x->o.view, GW__OBSERVED_RECOVERY);
		return gw__migration_view_init_stream(x->o.view, &x->stream, &o, gw__stream_init_recovery);
	case GW__DISSECTOR_PREEMPT:
		return gw__migration_view_init_stream(x->o.view, &x->stream, &o, gw__stream_init_preempt);
	default:
		return 0;
	}
}

/* --- COLO: what follows a guest in both directions; the RAM of a checkpoint is the stream decoder's (docs/spec/colo.md) --- */

static void say_checkpoint_message(struct gw__dissector *x, const struct gw__colo_msg *m, size_t used)
{
	static const char *const meanings[GW__COLO_MESSAGES] = {"the secondary has the guest", "stop, a checkpoint follows", "stopped",
		"the guest is paused, its memory follows", "", "all of the checkpoint is here", "it is in use, the guest may run on"};
	struct gw__message *out = gw__message_begin(&x->message, gw__colo_message_name(m->type), "%s", meanings[m->type]);
	if (m->type == GW__COLO_VMSTATE_SIZE) {
		gw__message_more(out, "%llu bytes of device state follow", (ull)m->bytes);
		gw__message_number(out, "length", m->bytes);
	}
	emit(x, x->off + used);
}

/* Devices are shown one by one if all of them can be looked at together; what is not device state is passed by. */
static int take_device(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__section section;
	size_t body_at, body_bytes;
	if (n < x->device_left)
		return 0;
	if (x->device_left == 1 && *bytes == GW__ITEM_EOF) {
		gw__message_begin(&x->message, "EOF", "end of the device state");
		*used = 1;
	} else {
		int r = gw__trailer_split(x->stream.desc, x->device_index++, bytes, x->device_left, true, &section, &body_at, &body_bytes,
			NULL, &x->error);
		*used = body_at + body_bytes + GW__FOOTER_BYTES;
		if (r || *bytes != GW__ITEM_FULL || *used > x->device_left)
			return r < 0 ? r : gw__error_set(&x->error, -EPROTO, "no device where the device state of a checkpoint has one");
		struct gw__message *m = gw__message_begin(&x->message, "DEVICE", "%s, instance %u, version %u: %zu bytes", section.idstr,
			section.instance, section.version, body_bytes);
		gw__message_text(m, "device", section.idstr);
		gw__message_number(m, "instance", section.instance);
		gw__message_number(m, "length", body_bytes);
	}
	x->device_left -= *used;
	emit(x, x->off + *used);
	return 1;
}

static void begin_devices(struct gw__dissector *x, uint64_t bytes)
{
	x->device_index = 0;
	if (bytes > x->o.tail_max_bytes)
		x->skip = bytes;
	else
		x->device_left = bytes;
}

/* After the last byte of a guest: messages, and device states. What is none of COLO is refused as bytes after the end. */
static int step_checkpoints(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__colo_msg m;
	struct gw__rd c = gw__rd_over(bytes, n);
	if (!n)
		return 0;
	if (x->device_left)
		return take_device(x, bytes, n, used);
	int r = gw__colo_decode(&c, &m, x->colo ? &x->error : NULL);
	if (r == GW__SHORT)
		return 0;
	if (!x->colo && (r || m.type != GW__COLO_CHECKPOINT_REQUEST)) /* no checkpoint begins otherwise */
		return gw__error_set(&x->error, -EPROTO, "bytes after the end of the stream");
	if (r)
		return r;
	x->colo = true;
	*used = gw__rd_used(&c);
	say_checkpoint_message(x, &m, *used);
	if (m.type == GW__COLO_VMSTATE_SIZE)
		begin_devices(x, m.bytes);
	if (m.type != GW__COLO_VMSTATE_SEND)
		return 1;
	x->ended = false;
	gw__stream_begin_checkpoint(&x->stream);
	x->stream.off = x->off + *used;
	return 1;
}

static int step_colo_back(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__colo_msg m;
	struct gw__rd c = gw__rd_over(bytes, n);
	int r = gw__colo_decode(&c, &m, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	*used = gw__rd_used(&c);
	observe(x, GW__OBSERVED_COLO);
	say_checkpoint_message(x, &m, *used);
	return 1;
}

/* --- multifd channels: hello and packet heads; payload is passed by (docs/spec/multifd.md 2, 3) --- */

enum {
	PAGE_BYTES_USUAL = 4096,
	PATIENCE_BYTES = 1 << 20, /* as long as the page size is not known, which the main channel tells at its very start */
};

static int take_hello(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__multifd_hello h;
	struct gw__rd c = gw__rd_over(bytes, n);
	int r = gw__multifd_hello_decode(&c, &h, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	struct gw__message *m = gw__message_begin(&x->message, "HELLO", "channel %u, guest ", h.id);
	for (unsigned i = 0; i < sizeof h.uuid; i++)
		gw__message_more(m, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", h.uuid[i]);
	gw__message_number(m, "id", h.id);
	x->said_hello = true;
	*used = gw__rd_used(&c);
	emit(x, x->off + *used);
	return 1;
}

static void say_packet(struct gw__dissector *x, size_t head_bytes)
{
	const struct gw__multifd_packet *p = &x->packet;
	const char *method = gw__multifd_method_name(p->flags);
	bool sync = p->flags & GW__MULTIFD_SYNC, empty = !p->normal && !p->zero;
	struct gw__message *m = gw__message_begin(&x->message, sync ? "SYNC" : "PACKET", "number %llu", (ull)p->number);
	if (!empty)
		gw__message_more(m, ", %s: %u page%s, %u zero page%s, %u bytes", p->block, p->normal, p->normal == 1 ? "" : "s", p->zero,
			p->zero == 1 ? "" : "s", p->payload_bytes);
	if (p->payload_bytes && p->flags & GW__MULTIFD_METHOD_MASK)
		gw__message_more(m, " (%s)", method);
	gw__message_number(m, "number", p->number);
	gw__message_number(m, "flags", p->flags);
	gw__message_number(m, "pages", p->normal);
	gw__message_number(m, "zero_pages", p->zero);
	gw__message_number(m, "length", p->payload_bytes);
	if (!empty)
		gw__message_text(m, "block", p->block);
	if (p->payload_bytes)
		gw__message_text(m, "compression", method);
	emit(x, x->off + head_bytes + p->payload_bytes);
}

static int take_packet(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	uint64_t page_bytes = gw__migration_view_ask_page_bytes(x->o.view);
	struct gw__rd c = gw__rd_over(bytes, n);
	if (!page_bytes && n < PATIENCE_BYTES && !last)
		return 0;
	int r = gw__multifd_packet_decode(&c, page_bytes ? page_bytes : PAGE_BYTES_USUAL, &x->packet, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	*used = gw__rd_used(&c);
	x->stats.packets++;
	x->stats.pages += x->packet.normal;
	x->stats.zero_pages += x->packet.zero;
	x->skip = x->packet.payload_bytes;
	say_packet(x, *used);
	return 1;
}

static int step_multifd(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	return x->said_hello ? take_packet(x, bytes, n, last, used) : take_hello(x, bytes, n, used);
}

/* --- the return path (docs/spec/postcopy.md 1.2, 6.3) --- */

static void on_value(struct gw__dissector *x, const struct gw__rp_msg *m)
{
	struct gw__message *out;
	switch (m->type) {
	case GW__RP_SHUT:
		observe(x, m->value ? GW__OBSERVED_SHUT_ERROR : GW__OBSERVED_SHUT);
		x->colo = !m->value; /* a word of the return path after it would begin with 00 01 to 00 07, one of COLO begins with 00 00 */
		out = gw__message_begin(&x->message, "SHUT",
			m->value ? "status %u: the destination failed" : "status %u: the destination has everything", m->value);
		gw__message_number(out, "status", m->value);
		return;
	case GW__RP_PONG:
		if (m->value == GW__PING_RUNS)
			observe(x, GW__OBSERVED_PONG_RUNS);
		out = gw__message_begin(&x->message, "PONG", m->value > 9 ? "token 0x%x" : "token %u", m->value);
		gw__message_number(out, "token", m->value);
		return;
	case GW__RP_RESUME_ACK:
		observe(x, GW__OBSERVED_RESUMED);
		out = gw__message_begin(&x->message, "RESUME_ACK",
			m->value == 1 ? "value %u: the pages are awaited" : "value %u, expected 1", m->value);
		gw__message_number(out, "value", m->value);
		return;
	default:
		gw__message_begin(&x->message, gw__rp_name(m->type), "the source may stop the guest");
	}
}

static void on_request(struct gw__dissector *x, const struct gw__rp_msg *m)
{
	if (m->type == GW__RP_REQ_PAGES_ID)
		memcpy(x->asked_block, m->block, sizeof x->asked_block);
	const char *block = *x->asked_block ? x->asked_block : "(no block was named before)";
	struct gw__message *out = gw__message_begin(&x->message, gw__rp_name(m->type), "%s at 0x%llx of %s",
		GW__MESSAGE_SIZE(m->length_bytes), (ull)m->start_off, block);
	gw__message_text(out, "block", block);
	gw__message_number(out, "start", m->start_off);
	gw__message_number(out, "length", m->length_bytes);
}

static void begin_bitmap(struct gw__dissector *x, const struct gw__rp_msg *m)
{
	x->bitmap = *m;
	x->bitmap_pages = gw__migration_view_ask_pages(x->o.view, m->block);
	x->bitmap_at = x->bitmap_ones = 0;
	x->bitmap_state = GW__BITMAP_SIZE;
}

/* Bits after the last page mean nothing; where the number of pages is not known, all of them may. */
static void count_ones(struct gw__dissector *x, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++, x->bitmap_at += 8) {
		unsigned byte = bytes[i];
		if (x->bitmap_pages && x->bitmap_at + 8 > x->bitmap_pages)
			byte &= x->bitmap_at < x->bitmap_pages ? (1u << (x->bitmap_pages - x->bitmap_at)) - 1 : 0;
		x->bitmap_ones += (unsigned)__builtin_popcount(byte);
	}
}

static int take_size(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	if (n < GW__RECV_BITMAP_HEAD_BYTES)
		return 0;
	x->bitmap_left = gw__be_get(bytes, 8);
	int r = x->bitmap_pages ? gw__recv_bitmap_check_size(x->bitmap_left, x->bitmap.block, x->bitmap_pages, &x->error) : 0;
	*used = GW__RECV_BITMAP_HEAD_BYTES;
	x->bitmap_state = x->bitmap_left ? GW__BITMAP_BITS : GW__BITMAP_MARK;
	return r ? r : 1;
}

static int take_bits(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	*used = gw__min(n, x->bitmap_left);
	count_ones(x, bytes, *used);
	x->bitmap_left -= *used;
	if (!x->bitmap_left)
		x->bitmap_state = GW__BITMAP_MARK;
	return *used > 0;
}

static int take_mark(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	if (n < GW__RECV_BITMAP_END_BYTES)
		return 0;
	int r = gw__recv_bitmap_check_end(gw__be_get(bytes, 8), x->bitmap.block, &x->error);
	if (r)
		return r;
	struct gw__message *m = gw__message_begin(&x->message, "RECV_BITMAP", "%llu ", (ull)x->bitmap_ones);
	if (x->bitmap_pages)
		gw__message_more(m, "of %llu ", (ull)x->bitmap_pages);
	gw__message_more(m, "pages of %s are there", x->bitmap.block);
	gw__message_text(m, "block", x->bitmap.block);
	gw__message_number(m, "received", x->bitmap_ones);
	if (x->bitmap_pages)
		gw__message_number(m, "pages", x->bitmap_pages);
	*used = GW__RECV_BITMAP_END_BYTES;
	x->bitmap_state = GW__BITMAP_NONE;
	emit(x, x->off + *used);
	return 1;
}

static int take_message(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__rp_msg m;
	struct gw__rd c = gw__rd_over(bytes, n);
	int r = gw__rp_decode(&c, &m, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	*used = gw__rd_used(&c);
	if (m.type == GW__RP_RECV_BITMAP) { /* said when its bitmap has passed */
		begin_bitmap(x, &m);
		return 1;
	}
	if (m.type == GW__RP_REQ_PAGES || m.type == GW__RP_REQ_PAGES_ID)
		on_request(x, &m);
	else
		on_value(x, &m);
	emit(x, x->off + *used);
	return 1;
}

static int step_return_path(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	(void)last;
	switch (x->bitmap_state) {
	case GW__BITMAP_SIZE:
		return take_size(x, bytes, n, used);
	case GW__BITMAP_BITS:
		return take_bits(x, bytes, n, used);
	case GW__BITMAP_MARK:
		return take_mark(x, bytes, n, used);
	default:
		return x->colo ? step_colo_back(x, bytes, n, used) : take_message(x, bytes, n, used);
	}
}

/* --- its life --- */

enum { FIRST_OF_MAIN = 'Q', FIRST_OF_MULTIFD = 0x11, FIRST_OF_TLS = 0x16, FIRST_OF_PAGE = 0x00 };

enum gw__dissector_kind gw__dissector_kind_of(uint8_t first)
{
	switch (first) {
	case FIRST_OF_MAIN:
		return GW__DISSECTOR_MAIN;
	case FIRST_OF_MULTIFD:
		return GW__DISSECTOR_MULTIFD;
	case GW__ITEM_COMMAND:
		return GW__DISSECTOR_RECOVERY;
	case FIRST_OF_PAGE: /* the high byte of an offset */
		return GW__DISSECTOR_PREEMPT;
	default:
		return GW__DISSECTOR_OPAQUE;
	}
}

int gw__dissector_new(const struct gw__dissector_opts *o, struct gw__dissector **x)
{
	struct gw__dissector *made = calloc(1, sizeof *made);
	if (!made)
		return -ENOMEM;
	made->o = *o;
	made->opaque = o->kind == GW__DISSECTOR_OPAQUE;
	int r = begin_stream(made);
	if (r) {
		gw__dissector_free(made);
		return r;
	}
	*x = made;
	return 0;
}

void gw__dissector_free(struct gw__dissector *x)
{
	if (!x)
		return;
	gw__stream_fini(&x->stream);
	free(x);
}

uint64_t gw__dissector_off(const struct gw__dissector *x) { return x->off; }
bool gw__dissector_is_waiting(const struct gw__dissector *x) { return x->run.end != x->run.at; }
void gw__dissector_stats(const struct gw__dissector *x, struct gw__dissector_stats *t) { *t = x->stats; }

void gw__dissector_confirm(struct gw__dissector *x)
{
	for (unsigned i = 0; x->sights; x->sights &= ~(UINT32_C(1) << i), i++)
		if (x->sights >> i & 1)
			gw__migration_view_note(x->o.view, (enum gw__observed_event)i);
}

/* --- bytes --- */

/* Once: whatever follows in this direction is bytes. */
static void give_up(struct gw__dissector *x, const char *name, size_t left)
{
	x->opaque = true;
	struct gw__message *m = gw__message_begin(&x->message, name, "%s", x->error.text);
	gw__message_text(m, "why", x->error.text);
	emit(x, x->off + left);
}

static int step_silent(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	(void)bytes;
	(void)last;
	*used = 0;
	return n ? gw__error_set(&x->error, -EPROTO, "bytes in a direction in which nobody speaks") : 0;
}

static int step(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	static int (*const by_kind[])(struct gw__dissector * x, const uint8_t *bytes, size_t n, bool last, size_t *used) = {
		[GW__DISSECTOR_SILENT] = step_silent,
		[GW__DISSECTOR_MAIN] = step_stream,
		[GW__DISSECTOR_RECOVERY] = step_stream,
		[GW__DISSECTOR_PREEMPT] = step_stream,
		[GW__DISSECTOR_MULTIFD] = step_multifd,
		[GW__DISSECTOR_RETURN_PATH] = step_return_path,
	};
	*used = 0;
	if (!x->ended)
		return by_kind[x->o.kind](x, bytes, n, last, used);
	if (x->o.kind == GW__DISSECTOR_MAIN && gw__stream_takes_checkpoints(&x->stream))
		return step_checkpoints(x, bytes, n, used);
	return n ? gw__error_set(&x->error, -EPROTO, "bytes after the end of the stream") : 0;
}

/* Payload, of which only the length matters. */
static size_t pass_by(struct gw__dissector *x, size_t n)
{
	size_t now = gw__min(x->skip, n);
	x->skip -= now;
	x->off += now;
	return now;
}

/* The last bytes have arrived: what is unfinished now stays so. */
static void end_here(struct gw__dissector *x, size_t left)
{
	gw__dissector_pause(x);
	if (x->opaque)
		return;
	if (x->skip) {
		gw__error_set(&x->error, -EPROTO, "the connection ends %llu bytes before the end of what was announced", (ull)x->skip);
		x->said_off = x->off; /* which was said to be longer */
	} else if (left)
		gw__error_set(&x->error, -EPROTO, "the connection ends inside a message, of which %zu bytes came", left);
	x->skip = 0;
	if (x->error.code)
		give_up(x, "INCOMPLETE", left);
}

/* 1: go on; 0: more bytes are needed. */
static int take_step(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	int r = step(x, bytes, n, false, used);
	const char *name = "UNINTERPRETED";
	if (r == 0 && *used) /* something that is not a message of its own */
		return 1;
	if (r == 0 && last) {
		r = step(x, bytes, n, true, used);
		name = "INCOMPLETE";
	}
	if (r >= 0)
		return r;
	*used = 0;
	give_up(x, name, last ? n : 0);
	return 1;
}

size_t gw__dissector(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last)
{
	size_t at = 0;
	for (x->stopped = false; !x->stopped;) {
		size_t used = x->skip ? pass_by(x, n - at) : 0;
		at += used;
		if (x->skip)
			break;
		if (x->opaque) {
			x->off += n - at;
			x->said_off = x->off;
			return n;
		}
		int r = take_step(x, bytes + at, n - at, last, &used);
		if (r == 0)
			break;
		at += used;
		x->off += used;
	}
	if (last && !x->stopped)
		end_here(x, n - at);
	return at;
}
