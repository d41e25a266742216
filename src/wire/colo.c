/* SPDX-License-Identifier: MIT */
/*
 * The messages of COLO: be32 number, and be64 value after VMSTATE_SIZE. There is no length, no checksum and no sequence number, so one byte
 * too many or too few shows as a number that is none. No state: any thread, on its own buffers.
 */
#include "wire/colo.h"

#include <assert.h>
#include <errno.h>

const char *gw__colo_message_name(unsigned type)
{
	static const char *const names[GW__COLO_MESSAGES] = {"CHECKPOINT_READY", "CHECKPOINT_REQUEST", "CHECKPOINT_REPLY", "VMSTATE_SEND",
		"VMSTATE_SIZE", "VMSTATE_RECEIVED", "VMSTATE_LOADED"};
	return type < GW__COLO_MESSAGES ? names[type] : "?";
}

int gw__colo_decode(struct gw__rd *c, struct gw__colo_msg *m, struct gw__error *error)
{
	*m = (struct gw__colo_msg){0};
	uint32_t number = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	if (number >= GW__COLO_MESSAGES)
		return gw__error_set(error, -EPROTO, "COLO message number %u, expected 0 (%s) to %d (%s)", number, gw__colo_message_name(0),
			GW__COLO_MESSAGES - 1, gw__colo_message_name(GW__COLO_MESSAGES - 1));
	m->type = (enum gw__colo_message)number;
	if (m->type != GW__COLO_VMSTATE_SIZE)
		return 0;
	m->bytes = gw__rd_be64(c);
	return c->cut ? GW__SHORT : 0;
}

void gw__colo_encode(struct gw__wr *c, const struct gw__colo_msg *m)
{
	assert(m->type < GW__COLO_MESSAGES);
	gw__wr_be32(c, m->type);
	if (m->type == GW__COLO_VMSTATE_SIZE)
		gw__wr_be64(c, m->bytes);
}
