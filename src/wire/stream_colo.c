/* SPDX-License-Identifier: MIT */
/*
 * The stream decoder in COLO: the RAM of one checkpoint after the other on the channel of the initial migration (docs/spec/colo.md 5.1). Not the
 * messages around it (colo.h), nor the device state, which has a length of its own (device_buffer.h).
 */
#include <assert.h>
#include <errno.h>

#include "wire/stream_private.h"

bool gw__stream_takes_checkpoints(const struct gw__stream *s)
{
	return s->state == GW__STREAM_DONE && s->ram_ended && s->open_n == 0 && !s->config.mapped_ram;
}

void gw__stream_begin_checkpoint(struct gw__stream *s)
{
	assert(gw__stream_takes_checkpoints(s));
	s->checkpoint = true;
	s->state = GW__STREAM_ITEM;
	s->ram_ended = false;
	gw__stream_open_section(s, s->ram_id, "ram");
}

int gw__stream_check_checkpoint_item(const struct gw__stream *s, uint8_t type, struct gw__error *error)
{
	uint8_t due = s->ram_ended ? GW__ITEM_EOF : GW__ITEM_END;
	if (type == due || (type == GW__ITEM_COMMAND && !s->ram_ended))
		return 0;
	return gw__error_set(error, -EPROTO, "section type %02x in a checkpoint, expected %02x (%s)", type, due,
		s->ram_ended ? "the end of the checkpoint's RAM" : "END of the RAM section");
}

/* A primary of 10.0 would say it each time. */
int gw__stream_check_checkpoint_command(const struct gw__command *cmd, struct gw__error *error)
{
	if (cmd->number == GW__CMD_SWITCHOVER_START)
		return 0;
	return gw__error_set(error, -EPROTO, "command %s in a checkpoint, expected SWITCHOVER_START or the END of the RAM section",
		gw__command_name(cmd->number));
}

int gw__stream_check_checkpoint_record(uint32_t kind, struct gw__error *error)
{
	if (kind == GW__RAM_ZERO || kind == GW__RAM_PAGE || kind == GW__RAM_EOS || kind == GW__RAM_FLUSH)
		return 0;
	return gw__error_set(error, -EPROTO,
		"RAM record of kind %03x in a checkpoint, expected ZERO (002), PAGE (008), EOS (010) or MULTIFD_FLUSH (200)", kind);
}
