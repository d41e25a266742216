/* SPDX-License-Identifier: MIT */
/*
 * What releases of QEMU do differently from each other, and the refusals of QEMU that are told apart by their words: one row each, with the place in docs/spec
 * where it stands how that was seen. Nobody else compares releases or looks into QEMU's sentences. Not which capabilities go together, which is
 * capability_rules.h. Pure: any thread.
 */
#ifndef GW_PLAN_QEMU_QUIRKS_H
#define GW_PLAN_QEMU_QUIRKS_H

#include <stdbool.h>

enum gw__qemu_quirk {
	GW__QUIRK_HANGS_BEHIND_LAST_PAGE,
	GW__QUIRK_TAKES_EARLY_SHUT,
	GW__QUIRK_KEEPS_RUN_STATE,
	GW__QUIRK_SPOILT_BY_SNAPSHOT,
	GW__QUIRK_PREEMPT_FIRST,
	GW__QUIRK_LATE_UNPLUGGED,
	GW__QUIRK_EXIT_ON_ERROR,
	GW__QUIRK_READS_IGNORED_BLOCKS,
	GW__QUIRK_NO_CHECKPOINTS,
	GW__QUIRK_MAPS_IMAGES,
	GW__QUIRKS
};

struct gw__qemu_quirk_row {
	unsigned first, last; /* releases, 100 * major + minor; 0: open. Between releases that were tried the cautious side is taken */
	const char *spec;     /* "postcopy.md 1.4" */
	const char *what;     /* that QEMU does: a sentence without its subject */
};
const struct gw__qemu_quirk_row *gw__qemu_quirk_row(enum gw__qemu_quirk quirk);

/* `release`: 100 * major + minor, as gw__qmp_version gives it. */
bool gw__qemu_has_quirk(unsigned release, enum gw__qemu_quirk quirk);

/* Why QEMU has refused a command or ended a migration, where its error class does not tell. */
enum gw__qemu_refusal {
	GW__REFUSAL_NOT_PAUSED,     /* migrate-recover: its post-copy is not paused, or not yet */
	GW__REFUSAL_PORT_IN_USE,    /* migrate-recover: the listener before has not let go of its port yet */
	GW__REFUSAL_NO_USERFAULTFD, /* a capability: it has no userfaultfd, as the kernel or its rights say */
	GW__REFUSAL_BACKEND,        /* a capability: its memory is of a kind that cannot do it */
	GW__REFUSAL_SINK_FAILED,    /* a migration: the sink, which is us, has sent SHUT with a failure */
	GW__REFUSALS
};
struct gw__qemu_refusal_row {
	const char *part[4]; /* any of these is in the sentence, in capitals or not; ends with NULL */
	const char *spec;
};
const struct gw__qemu_refusal_row *gw__qemu_refusal_row(enum gw__qemu_refusal refusal);
bool gw__qemu_refused(const char *sentence, enum gw__qemu_refusal refusal);

#endif
