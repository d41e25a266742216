/* SPDX-License-Identifier: MIT */
/*
 * Between a COLO primary and its standby: all bytes pass as they are, but the two words that a guard has to act on before the primary reads them wait for
 * it. So there is a moment at which the standby has an epoch and the primary's guest does not run on yet (docs/spec/colo.md 4, 12).
 *
 *   QEMU == private socket ==> relay == unix, tcp, vsock ==> standby       as many connections as QEMU makes
 *
 * It has threads of its own; the guard's thread polls `gw__relay_fd`. When the relay ends, for whatever reason, both sides find their links broken.
 * What QEMU sends over TLS cannot be looked at.
 */
#ifndef GW_QEMU_RELAY_H
#define GW_QEMU_RELAY_H

#include "base/error.h"
#include "qmp/qmp.h"

struct gw__relay;

enum gw__relay_point {
	GW__RELAY_NOTHING, /* nobody waits */
	GW__RELAY_READY,   /* the standby has the first copy, and the primary is about to hear it */
	GW__RELAY_SAFE,    /* the standby has an epoch: VMSTATE_RECEIVED waits */
};

/* Looks the standby's name up, which has no limit of ours. */
int gw__relay_start(const char *to, struct gw__qmp *q, struct gw__relay **relay, struct gw__error *error);
void gw__relay_stop(struct gw__relay **relay);         /* breaks all links, also those that are being made; NULL inside is fine */
void gw__relay_remove_left(const struct gw__relay *r); /* its socket's folder, in a fork of a process that was killed; NULL is fine */

const char *gw__relay_uri(const struct gw__relay *r); /* for QEMU's migrate */
const char *gw__relay_failure(struct gw__relay *r);   /* why the standby could not be reached last; NULL: it could */
int gw__relay_fd(const struct gw__relay *r);          /* readable while somebody waits */
enum gw__relay_point gw__relay_waits(struct gw__relay *r);
void gw__relay_go_on(struct gw__relay *r);

#endif
