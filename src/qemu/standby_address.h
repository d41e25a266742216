/* SPDX-License-Identifier: MIT */
/*
 * Where a standby listens, and connections to there. A name is looked up once, by a caller who may wait for the resolver, which has no limit of ours; so a
 * connection never takes longer than its own limit, and a thread that makes one can be told to end.
 */
#ifndef GW_QEMU_STANDBY_ADDRESS_H
#define GW_QEMU_STANDBY_ADDRESS_H

#include <sys/socket.h>

#include "base/error.h"

enum { GW__STANDBY_ADDRESSES = 8 };

struct gw__standby_address {
	struct {
		struct sockaddr_storage to;
		socklen_t bytes;
	} one[GW__STANDBY_ADDRESSES]; /* of a name there may be several, which are tried in this order */
	unsigned n;
};

/* Of unix:PATH, tcp:HOST:PORT or vsock:CID:PORT. May take as long as the resolver does. */
int gw__standby_address_look_up(const char *uri, struct gw__standby_address *a, struct gw__error *error);
/*
 * A connected descriptor, which blocks; or -errno. -ETIMEDOUT: not within the limit; -ECANCELED: `quit_fd` (-1: none) became readable. Any thread.
 */
int gw__standby_address_dial(const struct gw__standby_address *a, int quit_fd, int timeout_ms);

#endif
