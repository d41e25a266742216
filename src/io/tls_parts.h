/* SPDX-License-Identifier: MIT */
/* What the files of TLS share and nobody else includes. */
#ifndef GW_IO_TLS_PARTS_H
#define GW_IO_TLS_PARTS_H

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "io/parts.h"
#include "io/tls.h"

/* --- credentials ---------------------------------------------------------------------------------------- */

struct gw__tls_key {
	char *name;
	gnutls_datum_t secret;
};

/* Only read after loading. What is not of its kind or role is NULL or 0. */
struct gw__tls_creds {
	enum gw__tls_role role;
	bool is_psk, no_verify;
	char *dir, *hostname, *authz, *username;
	gnutls_priority_t priority;
	gnutls_certificate_credentials_t x509;
	gnutls_psk_client_credentials_t psk_client;
	gnutls_psk_server_credentials_t psk_server;
	struct gw__tls_key *keys;
	size_t keys_n;
};

/* tls_file.c: a whole file, freed with gw__tls_forget. 1: there is no such file. */
int gw__tls_read_file(const char *path, gnutls_datum_t *bytes, struct gw__error *error);
void gw__tls_forget(gnutls_datum_t *secret);
/* "DIR/NAME", or "" if that is no path a system would take. */
enum { GW__TLS_PATH_MAX = 4096 };
void gw__tls_path(char path[GW__TLS_PATH_MAX], const char *dir, const char *name);

/* tls_x509.c, tls_psk.c */
int gw__tls_load_x509(struct gw__tls_creds *creds, struct gw__error *error);
int gw__tls_load_psk(struct gw__tls_creds *creds, struct gw__error *error);
const struct gw__tls_key *gw__tls_find_key(const struct gw__tls_creds *creds, const char *name);

/* tls_check.c: certificates of our own. `path` is for the sentence. */
int gw__tls_check_cas(gnutls_x509_crt_t *cas, unsigned n, const char *path, struct gw__error *error);
int gw__tls_check_own(gnutls_x509_crt_t crt, enum gw__tls_role role, const char *path, struct gw__error *error);

/* --- channel -------------------------------------------------------------------------------------------- */

enum {
	GW__TLS_RECORD_MAX = 5 + 16384 + 2048, /* header, content, the most that any version adds */
	GW__TLS_BUFFER = 128 * 1024,           /* several records for one system call */
	GW__TLS_PLAIN_MAX = 16384,
	GW__TLS_NAME_MAX = 64
};

struct gw__tls {
	struct gw__filter f;
	const struct gw__tls_creds *creds;
	const char *host; /* what the certificate must name; only while shaking hands */
	gnutls_session_t session;
	gnutls_alert_description_t alert; /* what the peer is told about `failure`; close_notify: nothing special */
	bool clean_end, clean_end_sent, not_tls, inner_ended, at_end;
	bool heard, is_up; /* a first byte of the peer; all of its handshake */
	uint64_t deadline; /* of the handshake */
	/*
	 * The first failure; GnuTLS' functions in between only know numbers. `lost`: the peer takes no more,
	 * but what it said before it closed can still be read.
	 */
	struct gw__error failure, lost;
	char user[GW__TLS_NAME_MAX]; /* of a PSK client, as a server hears it */
	bool is_known_user;

	/* Encrypted bytes on their way: in[in_from..in_to), out[0..out_n). */
	size_t in_from, in_to, out_n;
	unsigned char in[GW__TLS_BUFFER], out[GW__TLS_BUFFER];
	/* Small writes, gathered to a record. Once lost: what was read to hear why,
	 * plain[kept_from..kept_to). */
	size_t kept_from, kept_to;
	unsigned char plain[GW__TLS_PLAIN_MAX];
};

/* tls_wire.c: GnuTLS' way to the inner channel. */
void gw__tls_wire_init(struct gw__tls *t);
int gw__tls_flush(struct gw__tls *t); /* failures go to t->failure, or t->lost */
/* One more read of the inner channel; at its end sets inner_ended. */
int gw__tls_fill(struct gw__tls *t);
bool gw__tls_has_record(const struct gw__tls *t);

/* tls_verify.c: called by GnuTLS in the handshake; says in t->failure what is wrong. */
int gw__tls_verify_peer(gnutls_session_t session);

/* tls_chan.c */
extern const struct gw__chan_ops gw__tls_ops;
void gw__tls_free(struct gw__tls *t); /* not the inner channel */

/* tls_text.c: an error of GnuTLS, and the status of a certificate, without the dot at the end; an alert of
 * the peer as a failure. */
struct gw__tls_reason {
	char text[256];
};
struct gw__tls_reason gw__tls_reason(int r);
struct gw__tls_reason gw__tls_status(unsigned status);
int gw__tls_say_alert(struct gw__tls *t);

#endif
