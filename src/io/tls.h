/* SPDX-License-Identifier: MIT */
/*
 * TLS on a channel, as QEMU does it (docs/spec/channels.md 4): credentials from a folder with QEMU's file names, the
 * source is the client, the destination the server, the handshake comes before the first byte of the migration.
 *
 * Credentials are immutable once loaded and may serve many channels and threads. A TLS channel belongs to one thread,
 * like any channel.
 */
#ifndef GW_IO_TLS_H
#define GW_IO_TLS_H

#include "io/chan.h"

struct gw__tls_creds;

enum gw__tls_role { GW__TLS_CLIENT, GW__TLS_SERVER };

struct gw__tls_opts {
	const char *dir;      /* ca-cert.pem, server-cert.pem, ... or keys.psk */
	const char *hostname; /* client: what the certificate must name; NULL: the host of the URI. "" is refused with x509 */
	const char *authz;    /* server: the distinguished name a client must have; NULL: any that the CA signed */
	const char *priority; /* GnuTLS priority string instead of NORMAL; NULL: default */
	const char *username; /* PSK client; NULL: "qemu" */
	bool no_verify;	      /* client: accept any certificate; server: accept clients without one */
};

/* x509 or PSK, by which files are there. Our own certificates are checked (dates, key, purpose) so that a mistake shows here. */
int gw__tls_creds_load(enum gw__tls_role role, const struct gw__tls_opts *o, struct gw__tls_creds **creds, struct gw__why *why);
void gw__tls_creds_free(struct gw__tls_creds *creds); /* NULL is fine; after the channels that use it */

/*
 * Handshake on `*inner` within its idle limit, and take it over; on failure it is left to the caller, broken.
 * `clean_end`: say goodbye on close and expect it (multifd channels); the main channel ends without (channels.md 4.5),
 * so an abrupt end there reads as the end, and it is the decoder that knows whether the stream was whole.
 */
int gw__chan_start_tls(struct gw__chan **inner, const struct gw__tls_creds *creds, const char *host, bool clean_end,
	struct gw__why *why);

#endif
