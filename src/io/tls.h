/* SPDX-License-Identifier: MIT */
/*
 * TLS on a channel, as QEMU does it (docs/spec/channels.md 4): credentials from a folder with QEMU's file
 * names, the source is the client, the destination the server, the handshake comes before the first byte of
 * the migration.
 *
 * Credentials are immutable once loaded and may serve many channels and threads. A TLS channel belongs to one
 * thread, like any channel.
 */
#ifndef GW_IO_TLS_H
#define GW_IO_TLS_H

#include "io/chan.h"

struct gw__tls_creds;

enum gw__tls_role { GW__TLS_CLIENT, GW__TLS_SERVER };

struct gw__tls_opts {
	const char *dir;      /* ca-cert.pem, server-cert.pem, ... or keys.psk */
	const char *hostname; /* client: what the certificate must name; NULL or "": the host of the URI */
	const char *authz;    /* server: the distinguished name a client must have, as QEMU's authz-simple takes
			      it: "C=DE,O=...,CN=...", in the order of the certificate; NULL: any */
	const char *priority; /* GnuTLS priority string instead of NORMAL; NULL: default */
	const char *username; /* PSK client; NULL: "qemu" */
	bool no_verify;       /* client: accept any certificate; server: ask for none */
};

/*
 * x509 or PSK, by which files are there. Our own certificates are checked (dates, key, purpose, CA) so that a
 * mistake shows here, with the name of the file. What `o` points to is not needed afterwards.
 */
int gw__tls_creds_load(enum gw__tls_role role, const struct gw__tls_opts *o, struct gw__tls_creds **creds, struct gw__error *error);
void gw__tls_creds_free(struct gw__tls_creds *creds); /* NULL is fine; after the channels that use it */

/*
 * Handshake on `*inner`, all of it within its idle limit, and take it over; on failure it is left to the
 * caller, broken. `host`: of the URI, "" or NULL if it has none; x509 clients then need a hostname in their
 * credentials.
 *
 * `clean_end`: end_writes says goodbye (close_notify), which QEMU from 10.0 on expects of multifd channels.
 * Close alone never does, so that a sender that gave up does not look done.
 *
 * Reading does not insist on a goodbye: no main channel has one, nor a multifd channel of QEMU 7.2
 * (channels.md 4.5). An abrupt end, be it inside a record, reads as the end, and it is the decoder that knows
 * whether the stream was whole.
 *
 * -EACCES: the one side does not accept who the other is. -EPROTO: no TLS, or none that both can speak.
 * -ETIMEDOUT, -ECANCELED. A client may learn only when it reads or writes that it was not accepted: TLS 1.3
 * lets it finish first.
 */
int gw__chan_start_tls(struct gw__chan **inner, const struct gw__tls_creds *creds, const char *host, bool clean_end,
	struct gw__error *error);

#endif
