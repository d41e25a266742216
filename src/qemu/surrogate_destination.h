/* SPDX-License-Identifier: MIT */
/*
 * Standing in for the destination of a QEMU source in postcopy-paused, between the commands that do it: `drain` takes what it still has,
 * giving back makes it run its guest. Drives the source's monitor; one thread. Owned by its user.
 */
#ifndef GW_QEMU_SURROGATE_DESTINATION_H
#define GW_QEMU_SURROGATE_DESTINATION_H

#include <godwit.h>

#include "qemu/watchdog.h"
#include "qemu/private_socket.h"
#include "qmp/qmp.h"

struct gw__surrogate {
	struct gw__qmp *qmp;       /* borrowed */
	const char *listen;        /* URI; NULL: a socket of our own */
	struct gw_link_opts *link; /* borrowed; only the source may come to a socket of our own */
	struct gw_drain_opts opts;

	struct gw__private_socket own;
	char listening[4096];
	struct gw__qmp_block *names;
	struct gw_drain_block *block;
	struct gw__qmp_machine machine;
	struct gw__error error; /* of the monitor */
	bool stayed_away;       /* the source, when it was to connect: `error` says why, and that explains more than our end of the link */
};

/* Asks the monitor what the source is, and makes an address. 0, or a negative errno with a sentence. */
int gw__surrogate_open(struct gw__surrogate *s);
void gw__surrogate_close(struct gw__surrogate *s); /* also on a zeroed one, also twice */

/*
 * Until a source has noticed that its link broke. 0: it is paused; GW__ENDED: it has ended, in *m; or what went wrong. `image`: of a save, by
 * which alone it was connected, so that it may be told to pause; NULL: it is only waited for.
 */
int gw__surrogate_await_paused(struct gw__qmp *q, const char *image, struct gw__qmp_migration *m, struct gw__error *error);
struct gw__surrogate_address {
	const char *uri;
	bool others_may_connect; /* then a source that waits to be taken is let wait */
};
/* The same, and it connects to the address. 0, or what went wrong. */
int gw__surrogate_come_back(struct gw__qmp *q, const char *image, struct gw__surrogate_address at, struct gw__error *error);

/* Where the source came to before, if it was an address of the user's: a QEMU of another host cannot come to a socket of ours. */
struct gw__surrogate_link {
	const char *listen; /* NULL: a socket of our own, in plain */
	const struct gw_tls_opts *tls;
};
/*
 * A source whose destination was ours alone runs its guest on (or stands as before), its settings are put back. 0, or why not.
 */
int gw__surrogate_rollback(struct gw__qmp *q, const struct gw__qmp_settings *before, struct gw__was was, struct gw__surrogate_link where,
	struct gw__error *error);

#endif
