/* SPDX-License-Identifier: MIT */
/* What tests of TLS share: the folders of certs.h, two ends that shake hands, and a peer that is GnuTLS and
 * nothing of ours. */
#ifndef GW_TESTS_TLS_UNIT_H
#define GW_TESTS_TLS_UNIT_H

#include "chan_unit.h"

#include <gnutls/gnutls.h>
#include <sys/socket.h>

#include "certs.h"
#include "io/tls.h"

/* Test group state and nothing else: certs_dir is where the folders are. */
extern char certs_dir[64];
int make_certs(void **state);
int remove_certs(void **state);
/* certs_dir/NAME; the last few results stay valid. */
const char *certs_of(const char *name);

/* One side of a connection and what came of it. */
struct end {
	enum gw__tls_role role;
	const char *folder;       /* of certs.h; NULL: no TLS of ours, `chan` stays plain */
	struct gw__tls_opts opts; /* dir is filled in */
	const char *host;
	bool clean_end;
	struct gw__tls_creds *creds;
	struct gw__chan *chan;
	int r;
	struct gw__error error;
};

/* Both ends, connected; the server shakes hands in a thread. 0 or errors in r and why of each. */
void connect_ends(struct end *server, struct end *client, int ms);
/* The same, and both must succeed; `folder` for both. The client asks for CERTS_HOST. */
void connect_good(struct end *server, struct end *client, const char *folder, int ms);
void close_end(struct end *e);

/* --- a peer without our code ---------------------------------------------------------------------------- */

struct raw {
	int fd;
	gnutls_session_t session;
	gnutls_certificate_credentials_t creds;
	gnutls_priority_t priority;
	int r; /* of its handshake */
	pthread_t thread;
};

/* Starts a thread that shakes hands on `fd` with the certificates of "good"; `priority` NULL: NORMAL. */
void raw_start(struct raw *p, int fd, enum gw__tls_role role, const char *priority);
int raw_finish(struct raw *p); /* join: result of the handshake */
void raw_close(struct raw *p);
/* Our end of a pair whose other end is *fd. */
struct gw__chan *chan_and_fd(int *fd, int ms);

#endif
