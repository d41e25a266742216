/* SPDX-License-Identifier: MIT */
/*
 * The stream decoder: head, commands, and whose step is next. Sections are in stream_section.c, what stands inside the RAM
 * section in stream_ram.c, what comes after it in stream_trailer.c. See stream.h for the contract and docs/spec/stream.md for
 * every rule.
 */
#include "wire/stream_private.h"

#include <errno.h>
#include <stdlib.h>

typedef unsigned long long ull;

void gw__stream_init(struct gw__stream *s, const struct gw__stream_opts *o)
{
	memset(s, 0, sizeof *s);
	s->opts = *o;
	s->off = o->base_off;
	s->last_block = -1;
}

void gw__stream_fini(struct gw__stream *s)
{
	gw__blocks_fini(&s->blocks);
	gw__vmdesc_free(s->desc);
	s->desc = NULL;
	free(s->early);
	s->early = NULL;
	s->early_n = s->early_room = 0;
}

static int step_head(struct gw__stream *s, struct gw__stream_in *in)
{
	int r = gw__header_decode(&in->c, in->error);
	if (!r)
		r = gw__config_decode(&in->c, &s->config, in->error);
	if (r)
		return r;
	s->rule = (struct gw__blocks_rule){.address = s->config.ignore_shared, .mapped_ram = s->config.mapped_ram};
	r = gw__stream_begin_page_size(s, in->error);
	s->state = GW__STREAM_ITEM;
	in->ev->kind = GW__EVENT_CONFIG;
	return r;
}

static int note_advise(struct gw__stream *s, const struct gw__command *cmd, struct gw__error *error)
{
	if (s->advised)
		return gw__error_set(error, -EPROTO, "POSTCOPY_ADVISE came a second time");
	int r = cmd->length ? gw__stream_state_page_size(s, cmd->target_page_bytes, "POSTCOPY_ADVISE names", error) : 0;
	if (r)
		return r;
	s->advised = true;
	s->rule.page_summary = cmd->page_summary;
	if (cmd->length)
		s->postcopy = GW__STREAM_ADVISED;
	return 0;
}

static int note_command(struct gw__stream *s, const struct gw__command *cmd, struct gw__error *error)
{
	switch (cmd->number) {
	case GW__CMD_OPEN_RETURN_PATH:
		s->return_path = true;
		return 0;
	case GW__CMD_SWITCHOVER_START:
		s->switchover = true;
		return 0;
	case GW__CMD_PING:
		if (!s->return_path)
			return gw__error_set(error, -EPROTO, "a PING came before the return path was opened");
		return 0;
	case GW__CMD_POSTCOPY_ADVISE:
		return note_advise(s, cmd, error);
	default:
		if (s->opts.postcopy && cmd->number != GW__CMD_ENABLE_COLO)
			return gw__stream_note_postcopy(s, cmd, error);
		return gw__error_set(error, -EOPNOTSUPP, "command %s: the source left plain pre-copy (post-copy or COLO)",
			gw__command_name(cmd->number));
	}
}

int gw__stream_step_command(struct gw__stream *s, struct gw__stream_in *in)
{
	int r = gw__command_decode(&in->c, &in->ev->command, in->error);
	if (!r && s->checkpoint)
		r = gw__stream_check_checkpoint_command(&in->ev->command, in->error);
	if (!r)
		r = note_command(s, &in->ev->command, in->error);
	if (!r)
		in->ev->kind = GW__EVENT_COMMAND;
	return r;
}

static int step_item(struct gw__stream *s, struct gw__stream_in *in)
{
	static int (*const by_type[])(struct gw__stream * s, struct gw__stream_in * in) = {
		[GW__ITEM_EOF] = gw__stream_step_eof,
		[GW__ITEM_START] = gw__stream_step_start,
		[GW__ITEM_PART] = gw__stream_step_part_or_end,
		[GW__ITEM_END] = gw__stream_step_part_or_end,
		[GW__ITEM_FULL] = gw__stream_step_full,
		[GW__ITEM_COMMAND] = gw__stream_step_command,
	};
	if (gw__rd_left(&in->c) == 0)
		return GW__SHORT;
	uint8_t type = *in->c.p;
	int r = s->checkpoint ? gw__stream_check_checkpoint_item(s, type, in->error) : gw__stream_check_postcopy_item(s, type, in->error);
	if (r)
		return r;
	if (type < sizeof by_type / sizeof by_type[0] && by_type[type])
		return by_type[type](s, in);
	return gw__error_set(in->error, -EPROTO, "unknown section type %02x, expected 00 (end), 01-04 (sections) or 08 (command)", type);
}

static int step_done(struct gw__stream *s, struct gw__stream_in *in)
{
	(void)s;
	in->ev->kind = GW__EVENT_END;
	return 0;
}

static int (*const by_state[])(struct gw__stream *s, struct gw__stream_in *in) = {
	[GW__STREAM_HEAD] = step_head,
	[GW__STREAM_ITEM] = step_item,
	[GW__STREAM_RECORD] = gw__stream_step_record,
	[GW__STREAM_LIST] = gw__stream_step_list,
	[GW__STREAM_FOOTER] = gw__stream_step_footer,
	[GW__STREAM_TRAILER] = gw__stream_step_tail,
	[GW__STREAM_TAIL_ITEM] = gw__stream_step_tail_item,
	[GW__STREAM_DONE] = step_done,
};

/* What was being read, for "the stream ends inside ...". */
static const char *place(const struct gw__stream *s)
{
	static const char *const names[] = {
		[GW__STREAM_HEAD] = "the header and configuration",
		[GW__STREAM_ITEM] = "the sections, before the guest was complete",
		[GW__STREAM_RECORD] = "the RAM section",
		[GW__STREAM_LIST] = "the list of RAM blocks",
		[GW__STREAM_FOOTER] = "the footer of the RAM section",
		[GW__STREAM_TRAILER] = "the device state",
		[GW__STREAM_TAIL_ITEM] = "the device state",
	};
	return s->state < sizeof names / sizeof names[0] && names[s->state] ? names[s->state] : "the stream";
}

static int fail(struct gw__stream *s, struct gw__error *error)
{
	if (s->state != GW__STREAM_BROKEN) {
		gw__error_where(&s->broken, "at stream offset %llu", (ull)s->off);
		s->state = GW__STREAM_BROKEN;
	}
	return gw__error_set(error, s->broken.code, "%s", s->broken.text);
}

/* A section may be as long as the limit, and its end is known only when the next item's head was seen. */
enum { LOOK_AHEAD = 512 };

static int ask_for_more(struct gw__stream *s, size_t n, bool last, struct gw__error *error)
{
	if (last) {
		gw__error_set(&s->broken, -EPROTO, "the stream ends inside %s; it was cut short", place(s));
		return fail(s, error);
	}
	if (n <= LOOK_AHEAD || n - LOOK_AHEAD <= s->opts.tail_max_bytes)
		return 0;
	gw__stream_too_much(s, &s->broken);
	return fail(s, error);
}

int gw__stream_next(struct gw__stream *s, const uint8_t *bytes, size_t n, bool last, size_t *used, struct gw__event *ev,
	struct gw__error *error)
{
	static const uint8_t nothing[1];
	*used = 0;
	if (s->state == GW__STREAM_BROKEN)
		return fail(s, error);
	if (!bytes)
		bytes = nothing; /* C has no NULL + 0 */
	ev->kind = GW__EVENT_NONE;
	ev->body = ev->delta = (struct gw__view){0};
	ev->anomaly = NULL;
	for (;;) {
		size_t left = n - *used, package = s->package_left;
		bool whole = package && left >= package; /* what is in the package ends with it */
		struct gw__stream_in in = {.c = gw__rd_over(bytes + *used, whole ? package : left),
			.last = last || whole,
			.ev = ev,
			.error = &s->broken};
		int r = by_state[s->state](s, &in);
		size_t step = gw__rd_used(&in.c);
		if (r == GW__SHORT && whole)
			r = gw__error_set(&s->broken, -EPROTO, "the package ends inside an item");
		if (!r && package)
			r = gw__stream_leave_package(s, step, &s->broken);
		if (r < 0)
			return fail(s, error);
		if (r == GW__SHORT)
			return ask_for_more(s, left, last, error);
		ev->off = s->off;
		ev->raw = (struct gw__view){bytes + *used, step};
		*used += step;
		s->off += step;
		s->search_from = 0;
		if (ev->kind != GW__EVENT_NONE)
			break;
	}
	if (ev->kind == GW__EVENT_PAGE)
		s->off += s->page_bytes;
	if (ev->kind == GW__EVENT_SEEK)
		s->off = ev->seek_off;
	return 1;
}

const char *gw__event_name(enum gw__event_kind kind)
{
	static const char *const names[] = {"none", "config", "command", "blocks", "section", "section-end", "page", "zero", "xbzrle",
		"flush", "eos", "seek", "device", "opaque", "eof", "description", "end"};
	return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "?";
}
