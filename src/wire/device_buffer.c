/* SPDX-License-Identifier: MIT */
/*
 * The device state of a COLO checkpoint. Its sections carry no length: the VM description of the initial migration tells, which lists the same
 * devices in the same order; where it does not fit, the footer. See device_buffer.h.
 */
#include "wire/device_buffer.h"

#include <errno.h>

#include "wire/trailer.h"

static int take(struct gw__device_buffer *b, struct gw__section *section, struct gw__view *raw, struct gw__error *error)
{
	size_t body_at, body_bytes, left = b->n - b->at;
	int r = gw__trailer_split(b->desc, b->index, b->bytes + b->at, left, true, section, &body_at, &body_bytes, NULL, error);
	if (r)
		return r;
	size_t bytes = body_at + body_bytes + GW__FOOTER_BYTES;
	if (bytes > left)
		return GW__SHORT;
	*raw = (struct gw__view){b->bytes + b->at, bytes};
	b->at += bytes;
	b->index++;
	return 0;
}

int gw__device_buffer_decode(const uint8_t *bytes, size_t n, const struct gw__vmdesc *desc, struct gw__device_buffer *b,
	struct gw__error *error)
{
	struct gw__section section;
	struct gw__view raw;
	*b = (struct gw__device_buffer){.bytes = bytes, .n = n, .desc = desc};
	while (b->at < n && bytes[b->at] == GW__ITEM_FULL) {
		int r = take(b, &section, &raw, error);
		if (r == GW__SHORT)
			return gw__error_set(error, -EPROTO, "the device state of a checkpoint ends inside device \"%s\"", section.idstr);
		if (r)
			return gw__error_where(error, "device state of a checkpoint, byte %zu of %zu", b->at, n);
		b->devices++;
	}
	if (b->at == n)
		return gw__error_set(error, -EPROTO, "the device state of a checkpoint (%zu bytes) does not end with the byte 00", n);
	if (bytes[b->at] != GW__ITEM_EOF)
		return gw__error_set(error, -EPROTO,
			"section type %02x at byte %zu of the device state of a checkpoint, expected 04 (device) or 00 (end)", bytes[b->at],
			b->at);
	if (b->at + 1 != n)
		return gw__error_set(error, -EPROTO, "%zu bytes follow the end of the device state of a checkpoint, expected none",
			n - b->at - 1);
	if (!b->devices)
		return gw__error_set(error, -EPROTO, "the device state of a checkpoint is empty");
	b->at = 0;
	b->index = 0;
	return 0;
}

int gw__device_buffer_next(struct gw__device_buffer *b, struct gw__section *section, struct gw__view *raw)
{
	return b->at + 1 < b->n && take(b, section, raw, NULL) == 0;
}
