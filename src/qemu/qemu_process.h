/* SPDX-License-Identifier: MIT */
/*
 * Which process a QEMU is, for those who watch it, or end it. The kernel tells only which process called listen() (or connect()) at the other end of a monitor: that may be a
 * proxy, or a launcher that passed the socket on. A thread of QEMU's, whose number QEMU itself tells, is in one process alone.
 */
#ifndef GW_QEMU_QEMU_PROCESS_H
#define GW_QEMU_QEMU_PROCESS_H

#include <sys/types.h>

#include "base/error.h"
#include "qmp/qmp.h"

/* The thread of a CPU, as QEMU numbers it; 0: not told. */
pid_t gw__qemu_cpu_thread(struct gw__qmp *q);
/*
 * The process at the other end of the monitor, if it is the QEMU. -EOPNOTSUPP: it is not, or cannot be seen from here (a monitor over tcp, another process namespace); another
 * errno: QEMU did not answer.
 */
int gw__qemu_process(struct gw__qmp *q, pid_t *pid, struct gw__error *error);

#endif
