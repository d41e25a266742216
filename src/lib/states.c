/* SPDX-License-Identifier: MIT */
/* Tables; see states.h. A state that QEMU has no word for is the one it would call itself. */
#include "lib/states.h"

#include <assert.h>

#include "base/math.h"

static const char *const names[] = {
	[GW_MIGRATION_NONE] = "none",
	[GW_MIGRATION_SETUP] = "setup",
	[GW_MIGRATION_ACTIVE] = "active",
	[GW_MIGRATION_POSTCOPY_DEVICE] = "postcopy-device",
	[GW_MIGRATION_POSTCOPY_ACTIVE] = "postcopy-active",
	[GW_MIGRATION_POSTCOPY_PAUSED] = "postcopy-paused",
	[GW_MIGRATION_POSTCOPY_RECOVER] = "postcopy-recover",
	[GW_MIGRATION_COMPLETED] = "completed",
	[GW_MIGRATION_FAILED] = "failed",
};

static const enum gw_migration_state of_destination[] = {
	[GW__POSTCOPY_DST_SETUP] = GW_MIGRATION_SETUP,
	[GW__POSTCOPY_DST_ACTIVE] = GW_MIGRATION_ACTIVE,
	[GW__POSTCOPY_DST_DISCARDING] = GW_MIGRATION_ACTIVE,
	[GW__POSTCOPY_DST_DEVICE] = GW_MIGRATION_POSTCOPY_DEVICE,
	[GW__POSTCOPY_DST_POSTCOPY_ACTIVE] = GW_MIGRATION_POSTCOPY_ACTIVE,
	[GW__POSTCOPY_DST_ENDING] = GW_MIGRATION_POSTCOPY_ACTIVE,
	[GW__POSTCOPY_DST_PAUSED] = GW_MIGRATION_POSTCOPY_PAUSED,
	[GW__POSTCOPY_DST_RECOVER] = GW_MIGRATION_POSTCOPY_RECOVER,
	[GW__POSTCOPY_DST_IN_DOUBT] = GW_MIGRATION_POSTCOPY_ACTIVE,
	[GW__POSTCOPY_DST_COMPLETED] = GW_MIGRATION_COMPLETED,
	[GW__POSTCOPY_DST_FAILED] = GW_MIGRATION_FAILED,
};
static_assert(sizeof of_destination / sizeof of_destination[0] == GW__POSTCOPY_DST_STATES, "a row for each state");

static const enum gw_migration_state of_source[] = {
	[GW__POSTCOPY_SRC_SETUP] = GW_MIGRATION_SETUP,
	[GW__POSTCOPY_SRC_ACTIVE] = GW_MIGRATION_ACTIVE,
	[GW__POSTCOPY_SRC_DEVICE] = GW_MIGRATION_POSTCOPY_DEVICE,
	[GW__POSTCOPY_SRC_POSTCOPY_ACTIVE] = GW_MIGRATION_POSTCOPY_ACTIVE,
	[GW__POSTCOPY_SRC_ENDING] = GW_MIGRATION_POSTCOPY_ACTIVE,
	[GW__POSTCOPY_SRC_PAUSED] = GW_MIGRATION_POSTCOPY_PAUSED,
	[GW__POSTCOPY_SRC_RECOVER] = GW_MIGRATION_POSTCOPY_RECOVER,
	[GW__POSTCOPY_SRC_COMPLETED] = GW_MIGRATION_COMPLETED,
	[GW__POSTCOPY_SRC_FAILED] = GW_MIGRATION_FAILED,
};
static_assert(sizeof of_source / sizeof of_source[0] == GW__POSTCOPY_SRC_STATES, "a row for each state");

const char *gw_migration_state_name(uint32_t i) { return i < GW__LEN(names) ? names[i] : NULL; }

enum gw_migration_state gw__migration_state_of_destination(enum gw__postcopy_dst_state state) { return of_destination[state]; }

enum gw_migration_state gw__migration_state_of_source(enum gw__postcopy_src_state state) { return of_source[state]; }
