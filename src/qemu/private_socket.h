/* SPDX-License-Identifier: MIT */
/*
 * A unix socket of our own that one QEMU connects to, the one whose monitor we hold, and nobody else: who comes to it hands us a guest,
 * or takes the place of one. Its file is of that QEMU's user and closed to others; the connections are looked at as well, because a QEMU
 * of another user can be let in by a privileged program only.
 */
#ifndef GW_QEMU_PRIVATE_SOCKET_H
#define GW_QEMU_PRIVATE_SOCKET_H

#include <godwit.h>

#include "qmp/qmp.h"

struct gw__private_socket {
	char folder[32]; /* "" without */
	char uri[64];
	uint32_t uid; /* of QEMU, for gw_link_opts.peer_uid */
};

/* 0, or a negative errno with a sentence. */
int gw__private_socket_make(struct gw__private_socket *s, struct gw__qmp *q, struct gw__error *error);
void gw__private_socket_listens(const struct gw__private_socket *s); /* it listens now: QEMU may reach it. Without one nothing */
void gw__private_socket_remove(struct gw__private_socket *s);        /* also on a zeroed one, also twice */

#endif
