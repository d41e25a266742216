/* SPDX-License-Identifier: MIT */
/*
 * The disks of a protected guest, on the side of its primary: QEMU mirrors each to a server at the standby, and a write of the guest is complete when it is in
 * both places (docs/spec/colo.md 12). Ours are the block nodes godwit-disk-N and the jobs godwit-mirror-N.
 *
 * A mirror that fails goes away without a word to anybody but by an event: whether all are there is asked for (`check`) while the guest stands still,
 * before an epoch counts.
 */
#ifndef GW_QEMU_MIRROR_H
#define GW_QEMU_MIRROR_H

#include <stdint.h>

#include "base/error.h"
#include "qmp/qmp.h"

struct gw__mirror_disk {
	char id[128];   /* of -drive, or the node's name: what its user knows it by */
	char node[128]; /* for QEMU */
	uint64_t bytes;
	bool is_blocking; /* its mirror: a write is complete when it is in both places */
};
struct gw__mirror { /* a zeroed one has none, and does nothing */
	struct gw__mirror_disk *disks;
	unsigned n;
};

/* All writable disks but for those named in `except` (`n` of them). -EINVAL: there is none of that name. */
int gw__mirror_find(struct gw__mirror *m, struct gw__qmp *q, const char *const *except, unsigned n, struct gw__error *error);
void gw__mirror_fini(struct gw__mirror *m);

/* Each to the export of the name PREFIX-ID of the NBD server at `server` ("unix:PATH" or "tcp:HOST:PORT"). They take their time until `check` is 0. */
int gw__mirror_start(struct gw__mirror *m, struct gw__qmp *q, const char *server, const char *prefix, struct gw__error *error);
/*
 * 0: all are there, and have all that was written; GW__NOT_YET: not yet; -EIO: one has failed. `*done_bytes` tells progress. The copy is made in the
 * background; a disk that is copied goes over to writes that wait for both places.
 */
int gw__mirror_check(struct gw__mirror *m, struct gw__qmp *q, uint64_t *done_bytes, struct gw__error *error);
/*
 * Breaks the connections of all mirrors, whoever made them, out of band, so that QEMU no longer waits for a server that hangs. Only for such a server: a
 * mirror whose connection works ends in order when it is cancelled.
 */
void gw__mirror_break(struct gw__qmp *q);
bool gw__mirror_is_ours(const char *job); /* NULL is none */
/* Removes all godwit-mirror-N jobs and godwit-disk-N nodes, whoever made them, and breaks connections that hang. Sets the call limit of `q`. */
int gw__mirror_remove(struct gw__qmp *q, struct gw__error *error);

#endif
