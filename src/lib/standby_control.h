/* SPDX-License-Identifier: MIT */
/*
 * The control socket of a protected guest, DIR/NAME/control: for whoever fails over on this host. One line in, one line out, then the connection
 * ends:
 *
 *   status     what the session says of itself
 *   stats      the same, without the image, and figures: words and numbers
 *   guard WORD VALUE ...   what a guard knows of its guest (qemu/guard_report.h); answered "ok"
 *   failover   protection ends now, whatever the link does; answered when the image is there
 *
 * Only this user and root may connect. It has a thread of its own, which calls the session back.
 */
#ifndef GW_LIB_STANDBY_CONTROL_H
#define GW_LIB_STANDBY_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct gw__standby_control;

struct gw__standby_control_ops {
	void (*status)(void *ctx, char *line, size_t n);
	void (*stats)(void *ctx, char *line, size_t n);
	bool (*guard)(void *ctx, const char *words);       /* false: these are none */
	void (*failover)(void *ctx, char *line, size_t n); /* returns when protection is over */
};

/* In the folder of this descriptor, which stays open as long as it lives. */
int gw__standby_control_start(int dir_fd, const struct gw__standby_control_ops *ops, void *ctx, struct gw__standby_control **control,
	struct gw__error *error);
void gw__standby_control_stop(struct gw__standby_control **control); /* NULL inside is fine */

#endif
