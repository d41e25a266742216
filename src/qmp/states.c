/* SPDX-License-Identifier: MIT */
/* QEMU's words for its states; see states.h. */
#include "qmp/states.h"

#include <string.h>

static const char *const migration_words[GW__MIGRATION_STATES] = {
	[GW__MIGRATION_NONE] = "none",
	[GW__MIGRATION_SETUP] = "setup",
	[GW__MIGRATION_WAIT_UNPLUG] = "wait-unplug",
	[GW__MIGRATION_ACTIVE] = "active",
	[GW__MIGRATION_PRE_SWITCHOVER] = "pre-switchover",
	[GW__MIGRATION_DEVICE] = "device",
	[GW__MIGRATION_POSTCOPY_DEVICE] = "postcopy-device",
	[GW__MIGRATION_POSTCOPY_ACTIVE] = "postcopy-active",
	[GW__MIGRATION_POSTCOPY_PAUSED] = "postcopy-paused",
	[GW__MIGRATION_POSTCOPY_RECOVER_SETUP] = "postcopy-recover-setup",
	[GW__MIGRATION_POSTCOPY_RECOVER] = "postcopy-recover",
	[GW__MIGRATION_COLO] = "colo",
	[GW__MIGRATION_CANCELLING] = "cancelling",
	[GW__MIGRATION_CANCELLED] = "cancelled",
	[GW__MIGRATION_FAILING] = "failing",
	[GW__MIGRATION_FAILED] = "failed",
	[GW__MIGRATION_COMPLETED] = "completed",
};

static const char *const run_words[GW__RUN_STATE_STATES] = {
	[GW__RUN_STATE_COLO] = "colo",
	[GW__RUN_STATE_DEBUG] = "debug",
	[GW__RUN_STATE_FINISH_MIGRATE] = "finish-migrate",
	[GW__RUN_STATE_GUEST_PANICKED] = "guest-panicked",
	[GW__RUN_STATE_INMIGRATE] = "inmigrate",
	[GW__RUN_STATE_INTERNAL_ERROR] = "internal-error",
	[GW__RUN_STATE_IO_ERROR] = "io-error",
	[GW__RUN_STATE_PAUSED] = "paused",
	[GW__RUN_STATE_POSTMIGRATE] = "postmigrate",
	[GW__RUN_STATE_PRECONFIG] = "preconfig",
	[GW__RUN_STATE_PRELAUNCH] = "prelaunch",
	[GW__RUN_STATE_RESTORE_VM] = "restore-vm",
	[GW__RUN_STATE_RUNNING] = "running",
	[GW__RUN_STATE_SAVE_VM] = "save-vm",
	[GW__RUN_STATE_SHUTDOWN] = "shutdown",
	[GW__RUN_STATE_SUSPENDED] = "suspended",
	[GW__RUN_STATE_WATCHDOG] = "watchdog",
};

/* 0, which is UNKNOWN in both, where there is no such word. */
static unsigned find(const char *const *words, unsigned n, const char *word)
{
	for (unsigned i = 0; i < n; i++)
		if (words[i] && !strcmp(words[i], word))
			return i;
	return 0;
}

enum gw__qmp_migration_state gw__qmp_migration_state_of(const char *word)
{
	static const char postcopy[] = "postcopy";
	if (!word[0])
		return GW__MIGRATION_NONE;
	unsigned state = find(migration_words, GW__MIGRATION_STATES, word);
	if (state == GW__MIGRATION_UNKNOWN && !strncmp(word, postcopy, sizeof postcopy - 1))
		return GW__MIGRATION_POSTCOPY_OTHER;
	return (enum gw__qmp_migration_state)state;
}

bool gw__qmp_has_ended(enum gw__qmp_migration_state state)
{
	return state == GW__MIGRATION_COMPLETED || state == GW__MIGRATION_FAILED || state == GW__MIGRATION_CANCELLED;
}

bool gw__qmp_is_postcopy(enum gw__qmp_migration_state state)
{
	switch (state) {
	case GW__MIGRATION_POSTCOPY_DEVICE:
	case GW__MIGRATION_POSTCOPY_ACTIVE:
	case GW__MIGRATION_POSTCOPY_PAUSED:
	case GW__MIGRATION_POSTCOPY_RECOVER_SETUP:
	case GW__MIGRATION_POSTCOPY_RECOVER:
	case GW__MIGRATION_POSTCOPY_OTHER:
		return true;
	default:
		return false;
	}
}

bool gw__qmp_is_migrations(enum gw__qmp_run_state state)
{
	return state == GW__RUN_STATE_COLO || state == GW__RUN_STATE_FINISH_MIGRATE || state == GW__RUN_STATE_POSTMIGRATE;
}

enum gw__qmp_run_state gw__qmp_run_state_of(const char *word)
{
	return (enum gw__qmp_run_state)find(run_words, GW__RUN_STATE_STATES, word);
}
