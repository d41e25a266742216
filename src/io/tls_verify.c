/* SPDX-License-Identifier: MIT */
/*
 * Is the peer who it must be? Its chain, its name, its distinguished name. Runs inside the handshake, so that
 * the peer is told. Called by GnuTLS in the thread that owns the channel.
 */
#include "io/tls_parts.h"

#include <errno.h>
#include <string.h>

static int refuse(struct gw__tls *t, gnutls_alert_description_t alert)
{
	t->alert = alert;
	return GNUTLS_E_CERTIFICATE_ERROR;
}

static const char *peer_is(const struct gw__tls *t) { return t->creds->role == GW__TLS_CLIENT ? "server" : "client"; }

/* The first that applies, most telling first. */
static const struct {
	unsigned status;
	gnutls_alert_description_t alert;
	const char *text;
} faults[] = {
	{GNUTLS_CERT_REVOKED, GNUTLS_A_CERTIFICATE_REVOKED, "is revoked by our ca-crl.pem"},
	{GNUTLS_CERT_SIGNER_NOT_FOUND, GNUTLS_A_UNKNOWN_CA, "was not signed by a CA of our ca-cert.pem"},
	{GNUTLS_CERT_SIGNER_NOT_CA, GNUTLS_A_UNKNOWN_CA, "was signed by somebody who is no CA"},
	{GNUTLS_CERT_SIGNATURE_FAILURE, GNUTLS_A_BAD_CERTIFICATE, "carries a signature that is not true"},
	{GNUTLS_CERT_EXPIRED, GNUTLS_A_CERTIFICATE_EXPIRED, "has expired, or a CA it hangs on has"},
	{GNUTLS_CERT_NOT_ACTIVATED, GNUTLS_A_CERTIFICATE_EXPIRED, "is not valid yet; are both clocks right?"},
	{GNUTLS_CERT_INSECURE_ALGORITHM, GNUTLS_A_BAD_CERTIFICATE, "uses an algorithm that is not secure any more"},
};

static int say_fault(struct gw__tls *t, unsigned status)
{
	const char *name = t->f.chan.name;
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		if (status & faults[i].status) {
			gw__error_set(&t->failure, -EACCES, "%s: the certificate of the %s %s", name, peer_is(t), faults[i].text);
			return refuse(t, faults[i].alert);
		}
	if (status & GNUTLS_CERT_UNEXPECTED_OWNER) {
		gw__error_set(&t->failure, -EACCES,
			"%s: the server's certificate is not for \"%s\"; if it is the right server, say "
			"which name it has (tls-hostname)",
			name, t->host);
		return refuse(t, GNUTLS_A_BAD_CERTIFICATE);
	}
	gw__error_set(&t->failure, -EACCES, "%s: the certificate of the %s does not stand the test: %s", name, peer_is(t),
		gw__tls_status(status).text);
	return refuse(t, GNUTLS_A_BAD_CERTIFICATE);
}

/* As QEMU's authz-simple does: the whole name, byte for byte, escaped as in RFC 4514 but in the order of
 * encoding. */
static int check_name(struct gw__tls *t, const gnutls_datum_t *raw)
{
	gnutls_x509_crt_t crt;
	gnutls_datum_t dn = {0};
	int r = gnutls_x509_crt_init(&crt);
	if (r < 0)
		return r;
	r = gnutls_x509_crt_import(crt, raw, GNUTLS_X509_FMT_DER);
	r = r < 0 ? r : gnutls_x509_crt_get_dn3(crt, &dn, GNUTLS_X509_DN_FLAG_COMPAT);
	gnutls_x509_crt_deinit(crt);
	if (r < 0)
		return r;
	bool is_it = dn.size == strlen(t->creds->authz) && memcmp(dn.data, t->creds->authz, dn.size) == 0;
	if (!is_it)
		gw__error_set(&t->failure, -EACCES, "%s: the client is \"%.*s\"; only \"%s\" is authorised", t->f.chan.name, (int)dn.size,
			(char *)dn.data, t->creds->authz);
	gnutls_free(dn.data);
	return is_it ? 0 : refuse(t, GNUTLS_A_ACCESS_DENIED);
}

int gw__tls_verify_peer(gnutls_session_t session)
{
	struct gw__tls *t = gnutls_session_get_ptr(session);
	unsigned n = 0, status = 0;
	gnutls_typed_vdata_st host = {.type = GNUTLS_DT_DNS_HOSTNAME, .data = (unsigned char *)t->host};
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);
	if (!chain || n == 0)
		return GNUTLS_E_NO_CERTIFICATE_FOUND;
	int r = gnutls_certificate_verify_peers(session, &host, t->host ? 1 : 0, &status);
	if (r < 0)
		return r;
	if (status)
		return say_fault(t, status);
	return t->creds->authz ? check_name(t, &chain[0]) : 0;
}
