/* SPDX-License-Identifier: MIT */
/*
 * The states of a QEMU, in its own words and as enums (docs/spec/channels.md 5.4). Parsed here and nowhere else; a word that QEMU may invent later is
 * UNKNOWN, which never ends a wait and never lets a guest run. Pure: any thread.
 */
#ifndef GW_QMP_STATES_H
#define GW_QMP_STATES_H

#include <stdbool.h>

/* Of query-migrate. */
enum gw__qmp_migration_state {
	GW__MIGRATION_UNKNOWN, /* counts as still under way */
	GW__MIGRATION_NONE,    /* also where QEMU says no state: nothing ever ran, and in 7.2 while it only listens */
	GW__MIGRATION_SETUP,
	GW__MIGRATION_WAIT_UNPLUG,
	GW__MIGRATION_ACTIVE,
	GW__MIGRATION_PRE_SWITCHOVER,
	GW__MIGRATION_DEVICE,
	GW__MIGRATION_POSTCOPY_DEVICE,
	GW__MIGRATION_POSTCOPY_ACTIVE,
	GW__MIGRATION_POSTCOPY_PAUSED,
	GW__MIGRATION_POSTCOPY_RECOVER_SETUP,
	GW__MIGRATION_POSTCOPY_RECOVER,
	GW__MIGRATION_POSTCOPY_OTHER, /* a word we do not know, of a post-copy */
	GW__MIGRATION_COLO,
	GW__MIGRATION_CANCELLING,
	GW__MIGRATION_CANCELLED,
	GW__MIGRATION_FAILING, /* not final */
	GW__MIGRATION_FAILED,
	GW__MIGRATION_COMPLETED,
	GW__MIGRATION_STATES
};
enum gw__qmp_migration_state gw__qmp_migration_state_of(const char *word);
bool gw__qmp_has_ended(enum gw__qmp_migration_state state);   /* completed, failed or cancelled */
bool gw__qmp_is_postcopy(enum gw__qmp_migration_state state); /* its guest cannot simply be put back any more */

/* Of query-status, and of the configuration in a stream. */
enum gw__qmp_run_state {
	GW__RUN_STATE_UNKNOWN,
	GW__RUN_STATE_COLO,
	GW__RUN_STATE_DEBUG,
	GW__RUN_STATE_FINISH_MIGRATE, /* a source has stopped its guest to send the rest */
	GW__RUN_STATE_GUEST_PANICKED,
	GW__RUN_STATE_INMIGRATE, /* it waits for a guest */
	GW__RUN_STATE_INTERNAL_ERROR,
	GW__RUN_STATE_IO_ERROR,
	GW__RUN_STATE_PAUSED,
	GW__RUN_STATE_POSTMIGRATE, /* it has given its guest away */
	GW__RUN_STATE_PRECONFIG,
	GW__RUN_STATE_PRELAUNCH,
	GW__RUN_STATE_RESTORE_VM,
	GW__RUN_STATE_RUNNING,
	GW__RUN_STATE_SAVE_VM,
	GW__RUN_STATE_SHUTDOWN,
	GW__RUN_STATE_SUSPENDED,
	GW__RUN_STATE_WATCHDOG,
	GW__RUN_STATE_STATES
};
enum gw__qmp_run_state gw__qmp_run_state_of(const char *word);
bool gw__qmp_is_migrations(enum gw__qmp_run_state state); /* a migration of ours, not the user, is why the guest does not run */

#endif
