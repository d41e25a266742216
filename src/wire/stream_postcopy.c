/* SPDX-License-Identifier: MIT */
/*
 * The stream decoder in post-copy: commands and their order, the package, and channels that begin without a head (docs/spec/postcopy.md
 * 2, 3, 5, 6). Not the answers of the destination, which go the other way (return_path.h).
 */
#include <errno.h>

#include "wire/postcopy.h"
#include "wire/stream_private.h"

typedef unsigned long long ull;

enum {
	DISCARD_TIMES = 4, /* a source discards each page at most once; one range costs work for all of its pages */
};
#define BLOCK_BYTES_UNKNOWN (UINT64_C(1) << 50)

static const char *state_name(enum gw__stream_postcopy p)
{
	static const char *const names[GW__STREAM_POSTCOPY_STATES] = {"pre-copy", "advised", "discarding", "listening", "running",
		"recovering"};
	return p < GW__STREAM_POSTCOPY_STATES ? names[p] : "?";
}

static const struct {
	uint16_t number;
	bool packaged;
	enum gw__stream_postcopy state, next;
} ROWS[] = {
	/* command		      in the package  state		     next */
	{GW__CMD_POSTCOPY_RAM_DISCARD, false, GW__STREAM_ADVISED, GW__STREAM_DISCARDED},
	{GW__CMD_POSTCOPY_RAM_DISCARD, false, GW__STREAM_DISCARDED, GW__STREAM_DISCARDED},
	{GW__CMD_PACKAGED, false, GW__STREAM_ADVISED, GW__STREAM_ADVISED},
	{GW__CMD_PACKAGED, false, GW__STREAM_DISCARDED, GW__STREAM_DISCARDED},
	{GW__CMD_POSTCOPY_LISTEN, true, GW__STREAM_ADVISED, GW__STREAM_LISTENING},
	{GW__CMD_POSTCOPY_LISTEN, true, GW__STREAM_DISCARDED, GW__STREAM_LISTENING},
	{GW__CMD_POSTCOPY_RUN, true, GW__STREAM_LISTENING, GW__STREAM_RUNNING},
	{GW__CMD_RECV_BITMAP, false, GW__STREAM_RECOVERING, GW__STREAM_RECOVERING},
	{GW__CMD_POSTCOPY_RESUME, false, GW__STREAM_RECOVERING, GW__STREAM_RUNNING},
};

/* 16 bytes name any number of pages, so it is the pages that are counted. */
static int count_discarded(struct gw__stream *s, uint64_t bytes, struct gw__error *error)
{
	s->discarded_bytes += bytes;
	if (s->discarded_bytes / DISCARD_TIMES <= s->blocks.total_bytes)
		return 0;
	return gw__error_set(error, -EPROTO, "RAM_DISCARDs of %llu bytes in all, expected at most the %llu bytes of the guest",
		(ull)s->discarded_bytes, (ull)s->blocks.total_bytes);
}

static int check_discard(struct gw__stream *s, const struct gw__command *cmd, struct gw__error *error)
{
	char name[GW__NAME_MAX + 1];
	const uint8_t *ranges;
	unsigned n;
	int r = gw__discard_split(cmd->payload, cmd->length, name, &ranges, &n, error);
	if (r)
		return r;
	int64_t i = gw__blocks_find(&s->blocks, name);
	if (i < 0)
		return gw__error_set(error, -EPROTO, "RAM_DISCARD of block \"%s\", which is not in the block list", name);
	uint64_t used = s->blocks.v[i].used_bytes;
	uint64_t page_bytes = s->blocks.v[i].page_bytes ? s->blocks.v[i].page_bytes : s->page_bytes;
	for (unsigned k = 0; k < n; k++) {
		struct gw__range v = gw__range_at(ranges, k);
		if (!v.bytes || (v.start_off | v.bytes) % page_bytes || v.start_off > used || v.bytes > used - v.start_off)
			return gw__error_set(error, -EPROTO,
				"RAM_DISCARD of %llu bytes at offset %llx of block \"%s\"; expected whole pages of %llu inside its %llu bytes",
				(ull)v.bytes, (ull)v.start_off, name, (ull)page_bytes, (ull)used);
		r = count_discarded(s, v.bytes, error);
		if (r)
			return r;
	}
	return 0;
}

static int enter_package(struct gw__stream *s, const struct gw__command *cmd, struct gw__error *error)
{
	s->package_left = gw__be_get(cmd->payload, 4);
	return s->package_left ? 0 : gw__error_set(error, -EPROTO, "the package is empty, expected device state");
}

/* The switch is one of a guest whose blocks are known and whose RAM has not ended. */
static int check_switch(const struct gw__stream *s, const struct gw__command *cmd, struct gw__error *error)
{
	if (s->blocks.n && !s->ram_ended)
		return 0;
	return gw__error_set(error, -EPROTO, "command %s %s", gw__command_name(cmd->number),
		s->blocks.n ? "after the end of the RAM section" : "before the block list");
}

/* A row as it was found; what the command carries is judged by whom it concerns. */
static int take_command(struct gw__stream *s, const struct gw__command *cmd, enum gw__stream_postcopy next, struct gw__error *error)
{
	bool discard = cmd->number == GW__CMD_POSTCOPY_RAM_DISCARD, package = cmd->number == GW__CMD_PACKAGED;
	int r = discard || package ? check_switch(s, cmd, error) : 0;
	if (!r && discard)
		r = check_discard(s, cmd, error);
	if (!r && package)
		r = enter_package(s, cmd, error);
	if (!r)
		s->postcopy = next;
	return r;
}

int gw__stream_note_postcopy(struct gw__stream *s, const struct gw__command *cmd, struct gw__error *error)
{
	for (size_t i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		if (ROWS[i].number == cmd->number && ROWS[i].state == s->postcopy && ROWS[i].packaged == (s->package_left > 0))
			return take_command(s, cmd, ROWS[i].next, error);
	return gw__error_set(error, -EPROTO, "command %s has no place %s in state %s", gw__command_name(cmd->number),
		s->package_left ? "in the package" : "outside of the package", state_name(s->postcopy));
}

int gw__stream_leave_package(struct gw__stream *s, size_t step, struct gw__error *error)
{
	s->package_left -= step;
	bool runs = s->postcopy == GW__STREAM_RUNNING;
	if (runs && s->package_left)
		return gw__error_set(error, -EPROTO, "%zu bytes of the package follow POSTCOPY_RUN, which must be its end",
			s->package_left);
	if (!runs && !s->package_left)
		return gw__error_set(error, -EPROTO, "the package ends in state %s, expected POSTCOPY_RUN at its end",
			state_name(s->postcopy));
	return 0;
}

/* Devices come in the package, pages outside of it. */
int gw__stream_check_postcopy_item(const struct gw__stream *s, uint8_t type, struct gw__error *error)
{
	if (s->package_left && type != GW__ITEM_FULL && type != GW__ITEM_COMMAND)
		return gw__error_set(error, -EPROTO, "section type %02x in the package, expected 04 (device) or 08 (command)", type);
	if (!s->package_left && s->postcopy == GW__STREAM_DISCARDED && (type == GW__ITEM_END || type == GW__ITEM_FULL))
		return gw__error_set(error, -EPROTO, "section type %02x after RAM_DISCARD, expected PACKAGED first", type);
	if (s->postcopy == GW__STREAM_RECOVERING && !s->discover_blocks && type != GW__ITEM_COMMAND)
		return gw__error_set(error, -EPROTO, "section type %02x before POSTCOPY_RESUME, expected 08 (command)", type);
	if (!s->package_left && s->postcopy >= GW__STREAM_LISTENING && (type == GW__ITEM_START || type == GW__ITEM_FULL))
		return gw__error_set(error, -EPROTO,
			"section type %02x after the package; expected 02 or 03 (pages), 08 (command) or 00 (end)", type);
	return 0;
}

int gw__stream_check_postcopy_record(const struct gw__stream *s, uint32_t kind, struct gw__error *error)
{
	if (s->postcopy < GW__STREAM_LISTENING || kind == GW__RAM_ZERO || kind == GW__RAM_PAGE || kind == GW__RAM_EOS)
		return 0;
	return gw__error_set(error, -EPROTO, "RAM record of kind %03x in post-copy, expected ZERO (002), PAGE (008) or EOS (010)", kind);
}

int64_t gw__stream_learn_block(struct gw__stream *s, const char *name)
{
	struct gw__block block = {.used_bytes = BLOCK_BYTES_UNKNOWN};
	memcpy(block.name, name, strlen(name) + 1);
	return gw__blocks_add(&s->blocks, &block) ? -1 : (int64_t)s->blocks.n - 1;
}

static int init_headless(struct gw__stream *s, const struct gw__stream_opts *o, const struct gw__stream_guest *g)
{
	gw__stream_init(s, o);
	s->opts.postcopy = true;
	s->return_path = s->advised = s->switchover = true;
	s->ram_started = true;
	s->page_bytes = g ? g->page_bytes : gw__stream_usual_page_bytes(o);
	s->discover_blocks = !g;
	s->learns_id = !g || g->ram_section_id_unknown;
	if (!g)
		return 0;
	s->ram_id = g->ram_id;
	if (!s->learns_id)
		gw__stream_open_section(s, g->ram_id, "ram");
	return gw__blocks_add_all(&s->blocks, g->blocks);
}

int gw__stream_init_recovery(struct gw__stream *s, const struct gw__stream_opts *o, const struct gw__stream_guest *g)
{
	int r = init_headless(s, o, g);
	s->state = GW__STREAM_ITEM;
	s->postcopy = GW__STREAM_RECOVERING;
	return r;
}

int gw__stream_init_preempt(struct gw__stream *s, const struct gw__stream_opts *o, const struct gw__stream_guest *g)
{
	int r = init_headless(s, o, g);
	s->state = GW__STREAM_RECORD;
	s->postcopy = GW__STREAM_RUNNING;
	s->headless = true;
	return r;
}
