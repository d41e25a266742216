/* SPDX-License-Identifier: MIT */
/* The dissector on main, recovery and preempt channels: events of the stream decoder in words. See dissector.h. */
#include <errno.h>

#include "dissect/dissector_private.h"
#include "wire/postcopy.h"

/* 0 or -ENOMEM */
static void gw__dissector_command(struct gw__dissector *x, const struct gw__command *cmd);

typedef unsigned long long ull;

int gw__dissector_begin_stream(struct gw__dissector *x)
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

static int on_config(struct gw__dissector *x, const struct gw__event *ev)
{
	const struct gw__config *c = &x->stream.config;
	(void)ev;
	if (c->mapped_ram)
		return gw__error_set(&x->error, -EPROTO, "the stream is one for files (mapped-ram)");
	gw__migration_view_begin(x->o.view, x->stream.page_bytes);
	struct gw__message *m =
		gw__dissector_make(x, "CONFIGURATION", "machine %s, pages of %llu bytes", c->machine, (ull)x->stream.page_bytes);
	for (uint32_t i = 0; i < c->caps_n; i++)
		gw__dissector_more(m, ", %s", c->caps[i]);
	gw__dissector_text(m, "machine", c->machine);
	gw__dissector_number(m, "page_bytes", x->stream.page_bytes);
	return 0;
}

static int on_command(struct gw__dissector *x, const struct gw__event *ev)
{
	gw__dissector_command(x, &ev->command);
	return 0;
}

static int on_blocks(struct gw__dissector *x, const struct gw__event *ev)
{
	const struct gw__blocks *b = &x->stream.blocks;
	(void)ev;
	int r = gw__migration_view_blocks(x->o.view, x->stream.page_bytes, x->stream.ram_id, b);
	if (r)
		return gw__error_set(&x->error, r, "no memory for the list of blocks");
	struct gw__message *m = gw__dissector_make(x, "BLOCKS", "%u, together %s:", b->n, GW__DISSECTOR_SIZE(b->total_bytes));
	for (uint32_t i = 0; i < b->n; i++) {
		gw__dissector_more(m, "%s %s %s", i ? "," : "", b->v[i].name, GW__DISSECTOR_SIZE(b->v[i].used_bytes));
		if (b->v[i].page_bytes)
			gw__dissector_more(m, " in pages of %s", GW__DISSECTOR_SIZE(b->v[i].page_bytes));
	}
	gw__dissector_number(m, "blocks", b->n);
	gw__dissector_number(m, "length", b->total_bytes);
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
	struct gw__message *m = gw__dissector_make(x, section_name(ev->section.type), "section %u, ram", ev->section.id);
	gw__dissector_number(m, "section", ev->section.id);
	return 0;
}

static int on_section_end(struct gw__dissector *x, const struct gw__event *ev)
{
	const struct gw__dissector_stats *now = &x->stats, *before = &x->section;
	uint64_t pages = now->pages - before->pages, zero = now->zero_pages - before->zero_pages,
		 xbzrle = now->xbzrle_pages - before->xbzrle_pages;
	struct gw__message *m =
		gw__dissector_make(x, "FOOTER", "of section %u: %llu pages, %llu zero pages", ev->section.id, (ull)pages, (ull)zero);
	if (xbzrle)
		gw__dissector_more(m, ", %llu changed (XBZRLE)", (ull)xbzrle);
	gw__dissector_number(m, "section", ev->section.id);
	gw__dissector_number(m, "pages", pages);
	gw__dissector_number(m, "zero_pages", zero);
	gw__dissector_number(m, "xbzrle_pages", xbzrle);
	return 0;
}

static int on_flush(struct gw__dissector *x, const struct gw__event *ev)
{
	(void)ev;
	gw__dissector_make(x, "MULTIFD_FLUSH", "what the multifd channels carried so far comes before what follows");
	return 0;
}

static int on_eos(struct gw__dissector *x, const struct gw__event *ev)
{
	(void)ev;
	gw__dissector_make(x, "EOS", "end of the section's records")->detail = true;
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
	struct gw__message *m = gw__dissector_make(x, device ? "DEVICE" : section_name(s->type), "%s", s->idstr);
	if (device)
		gw__dissector_more(m, ", instance %u, version %u", s->instance, s->version);
	gw__dissector_more(m, ": %zu bytes", ev->body.n);
	if (ev->anomaly)
		gw__dissector_more(m, " (%s)", ev->anomaly);
	gw__dissector_text(m, "device", s->idstr);
	gw__dissector_number(m, "section", s->id);
	gw__dissector_number(m, "instance", s->instance);
	gw__dissector_number(m, "version", s->version);
	gw__dissector_number(m, "length", ev->body.n);
	return 0;
}

static int on_eof(struct gw__dissector *x, const struct gw__event *ev)
{
	(void)ev;
	gw__dissector_observed_event(x, GW__OBSERVED_WHOLE); /* a destination needs no description to run the guest */
	gw__dissector_make(x, "EOF", "end of the sections");
	return 0;
}

static int on_description(struct gw__dissector *x, const struct gw__event *ev)
{
	size_t devices = gw__vmdesc_count(x->stream.desc);
	struct gw__message *m = gw__dissector_make(x, "DESCRIPTION", "of %zu devices, %zu bytes", devices, ev->body.n);
	gw__dissector_number(m, "devices", devices);
	gw__dissector_number(m, "length", ev->body.n);
	return 0;
}

/* Each makes its message, which is said behind it. Pages have their own way, and the end is none. */
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
	gw__dissector_page(x, name, &ev->where, end_off);
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
		gw__dissector_emit(x, x->stream.off);
	return r;
}

int gw__dissector_stream(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	struct gw__event ev = {0};
	int r = gw__stream_next(&x->stream, bytes, n, last, used, &ev, &x->error);
	if (r <= 0)
		return r;
	r = on_event(x, &ev);
	return r < 0 ? r : 1;
}

/* --- The dissector on commands of a main channel (docs/spec/postcopy.md 2). See dissector.h. --- */

static void on_return_path(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)cmd;
	gw__dissector_observed_event(x, GW__OBSERVED_RETURN_PATH);
	gw__dissector_more(m, "the destination may answer");
}

static void on_ping(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	if (cmd->ping_token == GW__PING_RUNS)
		gw__dissector_observed_event(x, GW__OBSERVED_PING_RUNS);
	gw__dissector_more(m, cmd->ping_token > 9 ? "token 0x%x" : "token %u", cmd->ping_token);
	gw__dissector_number(m, "token", cmd->ping_token);
}

static void on_advise(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)x;
	gw__dissector_more(m,
		cmd->length ? "post-copy may follow; sizes of pages 0x%llx, of the guest's 0x%llx" : "post-copy may follow, but not of RAM",
		(ull)cmd->page_summary, (ull)cmd->target_page_bytes);
	gw__dissector_number(m, "page_sizes", cmd->page_summary);
	gw__dissector_number(m, "page_bytes", cmd->target_page_bytes);
}

static void on_listen(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)x, (void)cmd;
	gw__dissector_more(m, "a page that is missing is asked for from here on");
}

static void on_run(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)cmd;
	gw__dissector_observed_event(x, GW__OBSERVED_RUN);
	gw__dissector_more(m, "the guest runs at the destination");
}

/* The decoder has checked it. The name lives as long as the message; asked_block has no other use in this direction. */
static void on_discard(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	const uint8_t *ranges;
	unsigned n;
	uint64_t bytes = 0;
	char *block = x->asked_block;
	if (gw__discard_split(cmd->payload, cmd->length, block, &ranges, &n, NULL))
		return;
	for (unsigned i = 0; i < n; i++)
		bytes += gw__range_at(ranges, i).bytes;
	gw__dissector_more(m, "%s: %s in %u range%s must come again", block, GW__DISSECTOR_SIZE(bytes), n, n == 1 ? "" : "s");
	gw__dissector_text(m, "block", block);
	gw__dissector_number(m, "ranges", n);
	gw__dissector_number(m, "length", bytes);
}

static void on_packaged(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	uint64_t bytes = gw__be_get(cmd->payload, 4);
	(void)x;
	gw__dissector_more(m, "%llu bytes of device state follow, which is loaded as a whole", (ull)bytes);
	gw__dissector_number(m, "length", bytes);
}

static void on_resume(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)x, (void)cmd;
	gw__dissector_more(m, "the pages that are missing follow");
}

static void on_ask_bitmap(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	if (gw__ask_bitmap_decode(cmd->payload, cmd->length, x->asked_block, NULL))
		return;
	gw__dissector_more(m, "which pages of %s are there?", x->asked_block);
	gw__dissector_text(m, "block", x->asked_block);
}

static void on_switchover(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)x, (void)cmd;
	gw__dissector_more(m, "the guest stands still");
}

static void gw__dissector_command(struct gw__dissector *x, const struct gw__command *cmd)
{
	static void (*const by_number[])(struct gw__dissector * x, const struct gw__command *cmd, struct gw__message *m) = {
		[GW__CMD_OPEN_RETURN_PATH] = on_return_path,
		[GW__CMD_PING] = on_ping,
		[GW__CMD_POSTCOPY_ADVISE] = on_advise,
		[GW__CMD_POSTCOPY_LISTEN] = on_listen,
		[GW__CMD_POSTCOPY_RUN] = on_run,
		[GW__CMD_POSTCOPY_RAM_DISCARD] = on_discard,
		[GW__CMD_PACKAGED] = on_packaged,
		[GW__CMD_POSTCOPY_RESUME] = on_resume,
		[GW__CMD_RECV_BITMAP] = on_ask_bitmap,
		[GW__CMD_SWITCHOVER_START] = on_switchover,
	};
	struct gw__message *m = gw__dissector_make(x, gw__command_name(cmd->number), "%s", "");
	if (cmd->number < sizeof by_number / sizeof by_number[0] && by_number[cmd->number])
		by_number[cmd->number](x, cmd, m);
}
