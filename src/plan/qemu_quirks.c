/* SPDX-License-Identifier: MIT */
/* The table of QEMU's quirks; see qemu_quirks.h. */
#include "plan/qemu_quirks.h"

#include <assert.h>
#include <ctype.h>
#include <stddef.h>

static const struct gw__qemu_quirk_row quirks[GW__QUIRKS] = {
	[GW__QUIRK_HANGS_BEHIND_LAST_PAGE] = {0, 999, "postcopy.md 1.4",
		"never ends its migration, and never runs its guest again, if a post-copy loses its link after the last page"},
	[GW__QUIRK_TAKES_EARLY_SHUT] = {1000, 0, "postcopy.md 1.4",
		"takes a SHUT 0 before the first page of a recovery, and then never runs its guest again, whatever becomes of its destination"},
	[GW__QUIRK_KEEPS_RUN_STATE] = {1000, 0, "channels.md 3.2",
		"puts the run state of a guest that does not run back, if it is told that its migration failed after the last byte"},
	[GW__QUIRK_SPOILT_BY_SNAPSHOT] = {0, 999, "channels.md 5.3", "may refuse to migrate after a background snapshot that failed"},
	[GW__QUIRK_PREEMPT_FIRST] = {0, 799, "postcopy.md 5", "reads nothing before the preempt channel is there"},
	[GW__QUIRK_LATE_UNPLUGGED] = {0, 799, "stream.md 10",
		"does not say before its pages that a virtio-mem device is not plugged in full, so that pages which never come would be missed"},
	[GW__QUIRK_EXIT_ON_ERROR] = {901, 0, "channels.md 5.2", "can be told to stay and say why, if it cannot load a guest"},
	[GW__QUIRK_READS_IGNORED_BLOCKS] = {1101, 0, "mapped-ram.md 4", "reads images whose shared blocks were left out (x-ignore-shared)"},
	[GW__QUIRK_MAPS_IMAGES] = {802, 0, "mapped-ram.md 11",
		"takes a part of a file as memory that is copied on write (offset=, readonly=on with rom=off)"},
	[GW__QUIRK_NO_CHECKPOINTS] = {0, 1100, "colo.md 1", "completes the migration instead of sending checkpoints (COLO)"},
};

static const struct gw__qemu_refusal_row refusals[GW__REFUSALS] = {
	[GW__REFUSAL_NOT_PAUSED] = {{"postcopy is paused"}, "postcopy.md 6.5"},
	[GW__REFUSAL_PORT_IN_USE] = {{"address already in use"}, "postcopy.md 6.5"},
	[GW__REFUSAL_NO_USERFAULTFD] = {{"userfaultfd", "not supported by host kernel", "postcopy is not supported"}, "channels.md 5.7"},
	[GW__REFUSAL_BACKEND] = {{"backend"}, "channels.md 5.7"},
	[GW__REFUSAL_SINK_FAILED] = {{"sibling indicated error"}, "channels.md 3.2"},
};

const struct gw__qemu_quirk_row *gw__qemu_quirk_row(enum gw__qemu_quirk quirk)
{
	assert(quirk < GW__QUIRKS);
	return &quirks[quirk];
}

bool gw__qemu_has_quirk(unsigned release, enum gw__qemu_quirk quirk)
{
	const struct gw__qemu_quirk_row *row = gw__qemu_quirk_row(quirk);
	return release >= row->first && (!row->last || release <= row->last);
}

const struct gw__qemu_refusal_row *gw__qemu_refusal_row(enum gw__qemu_refusal refusal)
{
	assert(refusal < GW__REFUSALS);
	return &refusals[refusal];
}

static bool begins_with(const char *text, const char *part)
{
	while (*part && tolower((unsigned char)*text) == *part)
		text++, part++;
	return !*part;
}

bool gw__qemu_refused(const char *sentence, enum gw__qemu_refusal refusal)
{
	const struct gw__qemu_refusal_row *row = gw__qemu_refusal_row(refusal);
	for (; *sentence; sentence++)
		for (unsigned i = 0; row->part[i]; i++)
			if (begins_with(sentence, row->part[i]))
				return true;
	return false;
}
