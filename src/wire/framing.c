/* SPDX-License-Identifier: MIT */
/* Section headers, footers and commands; see framing.h and docs/spec/stream.md 4, 5. */
#include "wire/framing.h"

#include <errno.h>

static bool carries_name(uint8_t type) { return type == GW__ITEM_START || type == GW__ITEM_FULL; }

int gw__section_decode(struct gw__rd *c, struct gw__section *s, struct gw__error *error)
{
	memset(s, 0, sizeof *s);
	s->type = gw__rd_u8(c);
	s->id = gw__rd_be32(c);
	if (!carries_name(s->type))
		return c->cut ? GW__SHORT : 0;
	uint8_t n = gw__rd_str8(c, s->idstr);
	if (c->cut)
		return GW__SHORT;
	if (!gw__name_ok(s->idstr, n))
		return gw__error_set(error, -EPROTO, "section %u has an unusable name of %u bytes, expected 1..255 printable ones", s->id,
			n);
	s->instance = gw__rd_be32(c);
	s->version = gw__rd_be32(c);
	return c->cut ? GW__SHORT : 0;
}

void gw__section_encode(struct gw__wr *c, const struct gw__section *s)
{
	gw__wr_u8(c, s->type);
	gw__wr_be32(c, s->id);
	if (!carries_name(s->type))
		return;
	gw__wr_str8(c, s->idstr);
	gw__wr_be32(c, s->instance);
	gw__wr_be32(c, s->version);
}

static size_t header_bytes(const struct gw__section *s) { return 1 + 4 + (carries_name(s->type) ? 1 + strlen(s->idstr) + 4 + 4 : 0); }

size_t gw__section_body_bytes(const struct gw__section *s, size_t raw_bytes) { return raw_bytes - header_bytes(s) - GW__FOOTER_BYTES; }

int gw__footer_decode(struct gw__rd *c, uint32_t id, struct gw__error *error)
{
	uint8_t type = gw__rd_u8(c);
	if (c->cut)
		return GW__SHORT;
	if (type != GW__ITEM_FOOTER)
		return gw__error_set(error, -EPROTO, "expected the footer (7e) of section %u, got byte %02x", id, type);
	uint32_t got = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	if (got != id)
		return gw__error_set(error, -EPROTO, "footer names section %u, expected section %u", got, id);
	return 0;
}

void gw__footer_encode(struct gw__wr *c, uint32_t id)
{
	gw__wr_u8(c, GW__ITEM_FOOTER);
	gw__wr_be32(c, id);
}

enum { ANY_LENGTH = -1, SIXTEEN_OR_NONE = -2 };

static const struct {
	const char *name;
	int length;
} COMMANDS[] = {
	[GW__CMD_OPEN_RETURN_PATH] = {"OPEN_RETURN_PATH", 0},
	[GW__CMD_PING] = {"PING", 4},
	[GW__CMD_POSTCOPY_ADVISE] = {"POSTCOPY_ADVISE", SIXTEEN_OR_NONE},
	[GW__CMD_POSTCOPY_LISTEN] = {"POSTCOPY_LISTEN", 0},
	[GW__CMD_POSTCOPY_RUN] = {"POSTCOPY_RUN", 0},
	[GW__CMD_POSTCOPY_RAM_DISCARD] = {"POSTCOPY_RAM_DISCARD", ANY_LENGTH},
	[GW__CMD_PACKAGED] = {"PACKAGED", 4},
	[GW__CMD_ENABLE_COLO] = {"ENABLE_COLO", 0},
	[GW__CMD_POSTCOPY_RESUME] = {"POSTCOPY_RESUME", 0},
	[GW__CMD_RECV_BITMAP] = {"RECV_BITMAP", ANY_LENGTH},
	[GW__CMD_SWITCHOVER_START] = {"SWITCHOVER_START", 0},
};

static bool known(uint16_t number) { return number >= 1 && number < sizeof COMMANDS / sizeof COMMANDS[0]; }

const char *gw__command_name(uint16_t number) { return known(number) ? COMMANDS[number].name : "?"; }

static int check_length(uint16_t number, uint16_t length, struct gw__error *error)
{
	int want = COMMANDS[number].length;
	if (want == ANY_LENGTH || (want == SIXTEEN_OR_NONE && (length == 0 || length == 16)) || want == length)
		return 0;
	return gw__error_set(error, -EPROTO, "command %s has %u bytes of arguments, expected %d", gw__command_name(number), length,
		want == SIXTEEN_OR_NONE ? 16 : want);
}

int gw__command_decode(struct gw__rd *c, struct gw__command *cmd, struct gw__error *error)
{
	memset(cmd, 0, sizeof *cmd);
	gw__rd_u8(c); /* GW__ITEM_COMMAND, seen by the caller */
	cmd->number = gw__rd_be16(c);
	cmd->length = gw__rd_be16(c);
	if (c->cut)
		return GW__SHORT;
	if (!known(cmd->number))
		return gw__error_set(error, -EPROTO, "unknown command %u, expected 1..11", cmd->number);
	int r = check_length(cmd->number, cmd->length, error);
	if (r)
		return r;
	cmd->payload = gw__rd_take(c, cmd->length);
	if (!cmd->payload)
		return GW__SHORT;
	struct gw__rd in = gw__rd_over(cmd->payload, cmd->length);
	if (cmd->number == GW__CMD_PING)
		cmd->ping_token = gw__rd_be32(&in);
	if (cmd->number == GW__CMD_POSTCOPY_ADVISE && cmd->length) {
		cmd->page_summary = gw__rd_be64(&in);
		cmd->target_page_bytes = gw__rd_be64(&in);
	}
	return 0;
}

void gw__command_encode(struct gw__wr *c, uint16_t number, const void *payload, uint16_t length)
{
	gw__wr_u8(c, GW__ITEM_COMMAND);
	gw__wr_be16(c, number);
	gw__wr_be16(c, length);
	gw__wr_bytes(c, payload, length);
}
