/* SPDX-License-Identifier: MIT */
/*
 * What a guest sends is kept in QEMU until its epoch is safe: a filter-buffer on each netdev (docs/spec/colo.md 12). Ours are named godwit-buffer-N.
 *
 * Packets that nobody releases leave by themselves after `fallback_ms` of the guest's time, so that a guest whose guards are all dead is not cut off for ever.
 */
#ifndef GW_QEMU_NET_BUFFERS_H
#define GW_QEMU_NET_BUFFERS_H

#include "base/error.h"
#include "qmp/qmp.h"

struct gw__net_buffers { /* a zeroed one has none, and does nothing */
	char (*netdevs)[256];
	unsigned n;
};

/* All netdevs of this QEMU; free with fini. */
int gw__net_buffers_find(struct gw__net_buffers *b, struct gw__qmp *q, struct gw__error *error);
void gw__net_buffers_fini(struct gw__net_buffers *b);

/* They exist and let everything pass. -EOPNOTSUPP: QEMU has none for this netdev, with its reason; then there are none. */
int gw__net_buffers_add(const struct gw__net_buffers *b, struct gw__qmp *q, int fallback_ms, struct gw__error *error);
int gw__net_buffers_hold(const struct gw__net_buffers *b, struct gw__qmp *q, struct gw__error *error);    /* from now on */
int gw__net_buffers_release(const struct gw__net_buffers *b, struct gw__qmp *q, struct gw__error *error); /* what is held now */
/* Whoever added them, and also if there are none; what is held leaves, in order. */
int gw__net_buffers_remove(struct gw__qmp *q, struct gw__error *error);

#endif
