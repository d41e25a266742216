/* SPDX-License-Identifier: MIT */
/* The checks of `godwit doctor`. Each tries the thing itself rather than reading a version number. */
#ifndef GW_CLI_DOCTOR_DOCTOR_H
#define GW_CLI_DOCTOR_DOCTOR_H

#include "base/error.h"

enum gw__finding { GW__FOUND_OK, GW__FOUND_LIMITED, GW__FOUND_MISSING };

struct gw__checkup {
	const char *dir;  /* in: where images shall be kept */
	const char *qemu; /* in: the QEMU to ask */
	const char *qmp;  /* in: the monitor of one that runs */
	enum gw__finding finding;
	char what[320];   /* was found */
	char advice[320]; /* to the user, or "" */
};

/* What was found and the advice (may be NULL). */
void gw__checkup_is(struct gw__checkup *c, enum gw__finding finding, const char *advice, const char *fmt, ...) GW__PRINTF(4, 5);

typedef void gw__checkup_fn(struct gw__checkup *c);

gw__checkup_fn gw__check_kernel, gw__check_userfaultfd, gw__check_kvm, gw__check_io_uring, gw__check_pagemap_scan;
gw__checkup_fn gw__check_dirty_tracking, gw__check_memlock, gw__check_hugepages, gw__check_lease;
gw__checkup_fn gw__check_tmpfile, gw__check_direct_io, gw__check_holes;
gw__checkup_fn gw__check_qemu, gw__check_clones, gw__check_qemu_userfaultfd, gw__check_monitor_brokers;

#endif
