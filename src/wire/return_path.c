/* SPDX-License-Identifier: MIT */
/*
 * Messages of the return path (docs/spec/postcopy.md 1.2): be16 type, be16 length, payload.
 *
 * Not the bitmap that follows RECV_BITMAP (base/bitmap.h) and not the rules of when a message is right (the
 * engine's). No state: any thread, on its own buffers.
 */
#include "wire/return_path.h"

#include <assert.h>
#include <errno.h>

#include "base/math.h"

enum shape { SHAPE_VALUE, SHAPE_ID, SHAPE_RANGE, SHAPE_NAME, SHAPE_EMPTY };

/* min and max bytes of the payload; a name has 1 to 255 of them. */
static const struct row {
	const char *name;
	enum shape shape;
	uint16_t min, max;
} rows[] = {
	[GW__RP_SHUT] = {"SHUT", SHAPE_VALUE, 4, 4},
	[GW__RP_PONG] = {"PONG", SHAPE_VALUE, 4, 4},
	[GW__RP_REQ_PAGES_ID] = {"REQ_PAGES_ID", SHAPE_ID, 13 + 1, 13 + GW__NAME_MAX},
	[GW__RP_REQ_PAGES] = {"REQ_PAGES", SHAPE_RANGE, 12, 12},
	[GW__RP_RECV_BITMAP] = {"RECV_BITMAP", SHAPE_NAME, 1 + 1, 1 + GW__NAME_MAX},
	[GW__RP_RESUME_ACK] = {"RESUME_ACK", SHAPE_VALUE, 4, 4},
	[GW__RP_SWITCHOVER_ACK] = {"SWITCHOVER_ACK", SHAPE_EMPTY, 0, 0},
};

static const struct row *find_row(uint16_t type) { return type < GW__LEN(rows) && rows[type].name ? &rows[type] : NULL; }

const char *gw__rp_name(uint16_t type)
{
	const struct row *row = find_row(type);
	return row ? row->name : "?";
}

static int check_length(const struct row *row, uint16_t length, struct gw__error *error)
{
	if (length >= row->min && length <= row->max)
		return 0;
	if (row->min == row->max)
		return gw__error_set(error, -EPROTO, "return path: %s: expected a length of %u bytes, got %u", row->name, row->min, length);
	return gw__error_set(error, -EPROTO, "return path: %s: expected a length of %u to %u bytes, got %u", row->name, row->min, row->max,
		length);
}

/* The str8 that must be all that is left of the message. */
static int take_name(struct gw__rd *c, const struct row *row, char block[GW__NAME_MAX + 1], struct gw__error *error)
{
	size_t left = gw__rd_left(c) - 1;
	uint8_t n = gw__rd_str8(c, block);
	if (n != left)
		return gw__error_set(error, -EPROTO, "return path: %s: a block name of %u bytes in a space of %zu", row->name, n, left);
	if (!gw__name_ok(block, n))
		return gw__error_set(error, -EPROTO, "return path: %s: the block name has a control character in it", row->name);
	return 0;
}

int gw__rp_decode(struct gw__rd *c, struct gw__rp_msg *m, struct gw__error *error)
{
	*m = (struct gw__rp_msg){.type = gw__rd_be16(c)};
	uint16_t length = gw__rd_be16(c);
	if (c->cut)
		return GW__SHORT;
	const struct row *row = find_row(m->type);
	if (!row)
		return gw__error_set(error, -EPROTO, "return path: expected a message type of 1 to 7, got %u", m->type);
	int err = check_length(row, length, error);
	if (err)
		return err;
	const uint8_t *payload = gw__rd_take(c, length);
	if (!payload)
		return GW__SHORT;

	struct gw__rd in = gw__rd_over(payload, length);
	if (row->shape == SHAPE_VALUE)
		m->value = gw__rd_be32(&in);
	if (row->shape == SHAPE_ID || row->shape == SHAPE_RANGE) {
		m->start_off = gw__rd_be64(&in);
		m->length_bytes = gw__rd_be32(&in);
	}
	if (row->shape == SHAPE_ID || row->shape == SHAPE_NAME)
		return take_name(&in, row, m->block, error);
	return 0;
}

void gw__rp_encode(struct gw__wr *c, const struct gw__rp_msg *m)
{
	const struct row *row = find_row(m->type);
	assert(row);
	uint16_t length = row->min;
	if (row->shape == SHAPE_ID || row->shape == SHAPE_NAME) {
		size_t n = strlen(m->block);
		assert(gw__name_ok(m->block, n));
		length = (uint16_t)(length - 1 + n);
	}

	gw__wr_be16(c, m->type);
	gw__wr_be16(c, length);
	if (row->shape == SHAPE_VALUE)
		gw__wr_be32(c, m->value);
	if (row->shape == SHAPE_ID || row->shape == SHAPE_RANGE) {
		gw__wr_be64(c, m->start_off);
		gw__wr_be32(c, m->length_bytes);
	}
	if (row->shape == SHAPE_ID || row->shape == SHAPE_NAME)
		gw__wr_str8(c, m->block);
}
