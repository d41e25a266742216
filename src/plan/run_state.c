/* SPDX-License-Identifier: MIT */
/* The table of run states; see run_state.h. */
#include "plan/run_state.h"

#include <stdio.h>
#include <string.h>

#include "plan/qemu_quirks.h"

enum kind {
	RUNS,
	STANDS,  /* kept by releases that can */
	SLEEPS,  /* the same; older ones wake it up in the migration */
	HAS_NONE /* there is no guest to save, or not now */
};

static const struct row {
	const char *name;
	enum kind kind;
	const char *reason; /* of HAS_NONE */
} rows[] = {
	{"running", RUNS, NULL},
	{"paused", STANDS, NULL},
	{"prelaunch", STANDS, NULL},
	{"shutdown", STANDS, NULL},
	{"guest-panicked", STANDS, NULL},
	{"watchdog", STANDS, NULL},
	{"io-error", STANDS, NULL},
	{"suspended", SLEEPS, NULL},
	{"inmigrate", HAS_NONE, "it waits for an incoming migration itself, so it has no guest to save yet"},
	{"debug", HAS_NONE,
		"a debugger holds its guest, and a QEMU that is to put that state back after a migration aborts; let the guest go first (cont)"},
	{"internal-error", HAS_NONE, "its guest stopped on an error of QEMU's own, and what a save would make of that is not known"},
	{"preconfig", HAS_NONE, "its machine is not made yet"},
	{"postmigrate", HAS_NONE,
		"it has given its guest away in an earlier migration; only if this is still the QEMU that is to run it, and the guest was not suspended, "
		"let it run with the monitor command cont first"},
	{"finish-migrate", HAS_NONE, "a migration is about to end; wait for that and try again"},
	{"save-vm", HAS_NONE, "it is writing a snapshot; wait for its end and try again"},
	{"restore-vm", HAS_NONE, "it is loading a snapshot; wait for its end and try again"},
	{"colo", HAS_NONE, "it is one of a COLO pair; end that first"},
};

const char *gw__plan_run_state_name(unsigned i) { return i < sizeof rows / sizeof rows[0] ? rows[i].name : NULL; }

static enum gw__run_after stands(const char *name, unsigned version, bool stop, bool sleeps, char *reason, size_t room)
{
	if (gw__qemu_has_quirk(version, GW__QUIRK_KEEPS_RUN_STATE))
		return GW__RUN_KEPT;
	if (sleeps) {
		snprintf(reason, room,
			"its guest is suspended, and a QEMU before 10.0 wakes it up when it is saved; wake it up first (system_wakeup)");
		return GW__RUN_REFUSED;
	}
	if (stop)
		return GW__RUN_STOPPED;
	snprintf(reason, room,
		"a QEMU before 10.0 does not put the run state \"%s\" back after a save: it ends in postmigrate, where only cont leads on; "
		"let the guest run during the save (cont), or give --stop if that may be",
		name);
	return GW__RUN_REFUSED;
}

enum gw__run_after gw__plan_run_state(const char *name, unsigned version, bool stop, char *reason, size_t room)
{
	const struct row *row = NULL;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !row; i++)
		row = strcmp(rows[i].name, name) ? NULL : &rows[i];
	if (row && row->kind == RUNS)
		return GW__RUN_RUNS;
	if (row && row->kind != HAS_NONE)
		return stands(name, version, stop, row->kind == SLEEPS, reason, room);
	snprintf(reason, room, "%s (state %s)", row ? row->reason : "what a save would make of it is not known", name);
	return GW__RUN_REFUSED;
}
