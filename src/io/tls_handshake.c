/* SPDX-License-Identifier: MIT */
/* The handshake: set a session up, run it against one deadline, and say why it failed. See tls.h. */
#include "io/tls_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/wait.h"

/* --- what went wrong ------------------------------------------------------------------------------------ */

static int say_not_tls(struct gw__tls *t)
{
	static const struct {
		const char *begin;
		size_t n;
		const char *what;
	} known[] = {
		{"QEVM", 4, "a migration stream"},
		{"\x11\x22\x33\x44", 4, "a multifd channel"},
		{"\x08\x00", 2, "a command, as a source in recovery"},
	};
	const unsigned char *b = t->in + t->in_from;
	size_t n = t->in_to - t->in_from;
	const char *name = t->f.chan.name;
	for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
		if (n >= known[i].n && memcmp(b, known[i].begin, known[i].n) == 0)
			return gw__error_set(&t->failure, -EPROTO,
				"%s: the peer does not speak TLS: it sent %s at once; set tls-creds at the source", name, known[i].what);
	return gw__error_set(&t->failure, -EPROTO, "%s: the peer does not speak TLS: it began with byte %02x, expected 16 (a handshake)",
		name, b[0]);
}

static int say_no_certificate(struct gw__tls *t)
{
	if (t->creds->role == GW__TLS_CLIENT)
		return gw__error_set(&t->failure, -EACCES, "%s: the server showed no certificate", t->f.chan.name);
	return gw__error_set(&t->failure, -EACCES,
		"%s: the client showed no certificate; it has none (client-cert.pem), or of no CA in our "
		"ca-cert.pem",
		t->f.chan.name);
}

/* Somebody with another key cannot be told from damage: the first thing that depends on the key does not fit.
 */
static int say_user(struct gw__tls *t, int r)
{
	if (!t->is_known_user)
		return gw__error_set(&t->failure, -EACCES, "%s: the client calls itself \"%s\", and %s/keys.psk has no such name",
			t->f.chan.name, t->user, t->creds->dir);
	return gw__error_set(&t->failure, -EACCES,
		"%s: the client calls itself \"%s\", but seems to have another key than %s/keys.psk (TLS: "
		"%s)",
		t->f.chan.name, t->user, t->creds->dir, gw__tls_reason(r).text);
}

/* A peer that does not like what it sees may leave without a word. */
static int say_lost(struct gw__tls *t, const char *kind)
{
	struct gw__error said = t->failure;
	gw__error_clear(&t->failure);
	return gw__error_set(&t->failure, said.code, "%s, in the TLS handshake; does the peer use TLS, and with %s as we do?", said.text,
		kind);
}

static int say_failed(struct gw__tls *t, int r)
{
	const char *name = t->f.chan.name, *kind = t->creds->is_psk ? "shared keys" : "certificates";
	if (t->failure.code == -ETIMEDOUT) {
		gw__error_clear(&t->failure);
		return gw__error_set(&t->failure, -ETIMEDOUT,
			"%s: the TLS handshake was not done after %d ms; is the peer alive, and does it "
			"speak TLS?",
			name, t->f.chan.idle_ms);
	}
	if (t->failure.code == -ECONNRESET || t->failure.code == -EPIPE)
		return say_lost(t, kind);
	if (t->failure.code)
		return t->failure.code;
	if (t->not_tls)
		return say_not_tls(t);
	if (t->user[0])
		return say_user(t, r);
	if (r == GNUTLS_E_FATAL_ALERT_RECEIVED)
		return gw__tls_say_alert(t);
	if (r == GNUTLS_E_NO_CERTIFICATE_FOUND || r == GNUTLS_E_CERTIFICATE_REQUIRED)
		return say_no_certificate(t);
	if (t->inner_ended)
		return gw__error_set(&t->failure, -EPROTO,
			"%s: the peer closed the connection in the TLS handshake; does it use TLS, and with "
			"%s as we do?",
			name, kind);
	return gw__error_set(&t->failure, -EPROTO, "%s: no TLS with this peer: %s; does it use %s as we do?", name, gw__tls_reason(r).text,
		kind);
}

/* As far as it can be said without waiting; the connection is lost anyway. */
static void tell_peer(struct gw__tls *t, int r)
{
	struct gw__error error = t->failure;
	if (t->alert != GNUTLS_A_CLOSE_NOTIFY)
		gnutls_alert_send(t->session, GNUTLS_AL_FATAL, t->alert);
	else
		gnutls_alert_send_appropriate(t->session, r);
	if (gw__io_wait(t->f.inner->fd, POLLOUT, -1, 0) > 0)
		gw__tls_flush(t);
	t->failure = error;
}

/* --- the session ---------------------------------------------------------------------------------------- */

static int set_credentials(struct gw__tls *t)
{
	const struct gw__tls_creds *c = t->creds;
	if (c->psk_client)
		return gnutls_credentials_set(t->session, GNUTLS_CRD_PSK, c->psk_client);
	if (c->psk_server)
		return gnutls_credentials_set(t->session, GNUTLS_CRD_PSK, c->psk_server);
	return gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, c->x509);
}

static bool is_address(const char *host)
{
	unsigned char bytes[sizeof(struct in6_addr)];
	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

static int set_up(struct gw__tls *t, const char *host)
{
	bool is_server = t->creds->role == GW__TLS_SERVER;
	/* A ticket is a word the peer never reads, and unread words destroy the end of a stream
	 * (channels.md 3.3). */
	int r = gnutls_init(&t->session, (is_server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NO_TICKETS);
	if (r < 0)
		return r;
	gnutls_session_set_ptr(t->session, t);
	gw__tls_wire_init(t);
	r = gnutls_priority_set(t->session, t->creds->priority);
	r = r < 0 ? r : set_credentials(t);
	if (r == 0 && !is_server && host && *host && !is_address(host))
		r = gnutls_server_name_set(t->session, GNUTLS_NAME_DNS, host, strlen(host));
	if (r < 0 || t->creds->is_psk || t->creds->no_verify)
		return r;
	if (is_server)
		gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_REQUIRE);
	else
		t->host = host;
	gnutls_session_set_verify_function(t->session, gw__tls_verify_peer);
	return 0;
}

static int shake_hands(struct gw__tls *t)
{
	t->deadline = gw__io_deadline(t->f.chan.idle_ms);
	int r;
	do
		r = gnutls_handshake(t->session);
	while (r < 0 && !gnutls_error_is_fatal(r) && !t->failure.code);
	if (r == 0 && gw__tls_flush(t) == 0) {
		t->is_up = true;
		return 0;
	}
	if (t->lost.code && !t->failure.code)
		t->failure = t->lost;
	bool has_peer = !t->not_tls && !t->inner_ended && !t->lost.code;
	say_failed(t, r);
	if (has_peer && r != GNUTLS_E_PULL_ERROR && r != GNUTLS_E_PUSH_ERROR)
		tell_peer(t, r);
	return t->failure.code;
}

/* --- the whole ------------------------------------------------------------------------------------------ */

static int check_use(const struct gw__chan *inner, const struct gw__tls_creds *c, const char *host, struct gw__error *error)
{
	if (!inner->two_way)
		return gw__error_set(error, -EINVAL, "%s: TLS needs a connection in both directions, such as tcp: or unix:", inner->name);
	if (c->role == GW__TLS_CLIENT && !c->is_psk && !c->no_verify && (!host || !*host))
		return gw__error_set(error, -EINVAL,
			"%s: no host name to check the server's certificate against; say which one it has "
			"(tls-hostname)",
			inner->name);
	return 0;
}

int gw__chan_start_tls(struct gw__chan **inner, const struct gw__tls_creds *creds, const char *host, bool clean_end,
	struct gw__error *error)
{
	host = creds->hostname && creds->hostname[0] ? creds->hostname : host;
	int r = check_use(*inner, creds, host, error);
	if (r)
		return r;
	struct gw__tls *t = calloc(1, sizeof *t);
	if (!t)
		return gw__error_set(error, -ENOMEM, "%s: no memory for TLS", (*inner)->name);
	struct gw__chan *given = *inner;
	int idle_ms = given->idle_ms;
	gw__filter_init(&t->f, &gw__tls_ops, inner);
	t->creds = creds;
	t->clean_end = clean_end;
	r = set_up(t, host);
	if (r < 0)
		r = gw__error_set(&t->failure, -ENOMEM, "%s: TLS cannot be set up: %s", given->name, gw__tls_reason(r).text);
	r = r ? r : shake_hands(t);
	t->host = NULL;
	given->idle_ms = idle_ms;
	if (r == 0)
		return 0;
	*inner = given;
	r = gw__error_set(error, t->failure.code, "%s", t->failure.text);
	gw__tls_free(t);
	return r;
}
