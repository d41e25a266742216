/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a guest that does not run when a QEMU that we drive sends it to us and keeps it? One row for each state of query-status
 * (docs/spec/channels.md 3.2). Pure; asked before anything is changed.
 */
#ifndef GW_PLAN_RUN_STATE_H
#define GW_PLAN_RUN_STATE_H

#include <stdbool.h>
#include <stddef.h>

enum gw__run_after {
	GW__RUN_REFUSED, /* nothing may be begun */
	GW__RUN_RUNS,    /* it is set running again */
	GW__RUN_KEPT,    /* its QEMU is told "failed" once all is safe, and puts the state back by itself */
	GW__RUN_STOPPED, /* it is left in postmigrate, as was asked for */
};

/* `version`: 100 * major + minor. `stop`: postmigrate is what is wanted. A refusal has its sentence in `why`. */
enum gw__run_after gw__plan_run_state(const char *name, unsigned version, bool stop, char *reason, size_t room);

/* The names of the rows; NULL past the end. */
const char *gw__plan_run_state_name(unsigned i);

#endif
