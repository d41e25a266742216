/* SPDX-License-Identifier: MIT */
/*
 * The second process of a protection: it releases the primary and puts its settings back when the first one is killed.
 *
 * It shares the monitor's socket, which QEMU serves to one client only, and does not touch it while the first process lives: then it goes on with it, and
 * QEMU notices nothing of the death. It waits on a socket pair, which the kernel closes with the first process.
 */
#ifndef GW_QEMU_PROTECT_GUARD_H
#define GW_QEMU_PROTECT_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "qemu/relay.h"
#include "qmp/qmp.h"

struct gw__protect_guard {
	pid_t pid; /* 0: none */
	int fd;
};

/* In the second process, at its end: 0, or why QEMU could not be released. */
typedef void gw__protect_guard_fn(void *ctx, int r, const struct gw__error *error);

/* Returns when it is in its place. `before` is what it puts back; the folder of `relay` (may be NULL) it removes; `keep_fd` (-1: none) it holds as long as it lives. */
int gw__protect_guard_start(struct gw__protect_guard *g, struct gw__qmp *q, const struct gw__qmp_settings *before,
	const struct gw__relay *relay, int keep_fd, gw__protect_guard_fn *report, void *ctx, struct gw__error *error);
bool gw__protect_guard_lives(const struct gw__protect_guard *g);
void gw__protect_guard_dismiss(struct gw__protect_guard *g); /* also of none, also twice */

#endif
