/* SPDX-License-Identifier: MIT */
/* Tables; see states.h. A state that QEMU has no word for is the one it would call itself. */
#include "lib/states.h"

#include <assert.h>
#include <string.h>

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

static const char *const run_states[] = {
	[GW_RUN_STATE_UNKNOWN] = "unknown",
	[GW_RUN_STATE_RUNNING] = "running",
	[GW_RUN_STATE_PAUSED] = "paused",
	[GW_RUN_STATE_PRELAUNCH] = "prelaunch",
	[GW_RUN_STATE_SHUTDOWN] = "shutdown",
	[GW_RUN_STATE_GUEST_PANICKED] = "guest-panicked",
	[GW_RUN_STATE_WATCHDOG] = "watchdog",
	[GW_RUN_STATE_IO_ERROR] = "io-error",
	[GW_RUN_STATE_SUSPENDED] = "suspended",
	[GW_RUN_STATE_INMIGRATE] = "inmigrate",
	[GW_RUN_STATE_DEBUG] = "debug",
	[GW_RUN_STATE_INTERNAL_ERROR] = "internal-error",
	[GW_RUN_STATE_PRECONFIG] = "preconfig",
	[GW_RUN_STATE_POSTMIGRATE] = "postmigrate",
	[GW_RUN_STATE_FINISH_MIGRATE] = "finish-migrate",
	[GW_RUN_STATE_SAVE_VM] = "save-vm",
	[GW_RUN_STATE_RESTORE_VM] = "restore-vm",
	[GW_RUN_STATE_COLO] = "colo",
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

const char *gw_run_state_name(uint32_t i) { return i < GW__LEN(run_states) ? run_states[i] : NULL; }

enum gw_run_state gw_run_state_find(const char *name)
{
	for (uint32_t i = GW_RUN_STATE_UNKNOWN + 1; name && i < GW__LEN(run_states); i++)
		if (!strcmp(run_states[i], name))
			return (enum gw_run_state)i;
	return GW_RUN_STATE_UNKNOWN;
}
