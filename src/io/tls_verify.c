/* SPDX-License-Identifier: MIT */
/*
 * Is the peer who it must be? Its chain, its name, its distinguished name. Runs inside the handshake, so that
 * the peer is told. Called by GnuTLS in the thread that owns the channel.
 */
#include "io/tls_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
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

enum { NAMES_MAX = 64, NAMES_BYTES = 240 };

/* Somebody else's text: what is not plain ASCII would do things to a terminal. */
static void add_name(char *names, const char *name, size_t n)
{
	size_t used = strlen(names);
	if (used + n + sizeof ", \"\", ..." > NAMES_BYTES) {
		if (used + sizeof ", ..." <= NAMES_BYTES && !strstr(names, "..."))
			strcat(names, used ? ", ..." : "...");
		return;
	}
	used += (size_t)sprintf(names + used, "%s\"", used ? ", " : "");
	for (size_t i = 0; i < n; i++)
		names[used++] = name[i] > ' ' && name[i] < 0x7f && name[i] != '"' ? name[i] : '?';
	strcpy(names + used, "\"");
}

/* One that a client may ask for. False after the last. */
static bool add_alternative(char *names, gnutls_x509_crt_t crt, unsigned i)
{
	char name[128], text[INET6_ADDRSTRLEN];
	size_t n = sizeof name;
	int type = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &n, NULL);
	if (type == GNUTLS_E_SHORT_MEMORY_BUFFER)
		add_name(names, name, NAMES_BYTES);
	else if (type == GNUTLS_SAN_DNSNAME)
		add_name(names, name, n && !name[n - 1] ? n - 1 : n);
	else if (type == GNUTLS_SAN_IPADDRESS && inet_ntop(n == 4 ? AF_INET : AF_INET6, name, text, sizeof text) && (n == 4 || n == 16))
		add_name(names, text, strlen(text));
	return type >= 0 || type == GNUTLS_E_SHORT_MEMORY_BUFFER;
}

/* The names the certificate is for, in quotes; "no name" where it has none. Without alternatives its common name counts. */
static void list_names(const struct gw__tls *t, char names[NAMES_BYTES])
{
	unsigned n = 0, i = 0;
	char cn[128];
	size_t bytes = sizeof cn;
	gnutls_x509_crt_t crt;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(t->session, &n);
	names[0] = 0;
	if (chain && n && gnutls_x509_crt_init(&crt) >= 0) {
		bool read = gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER) >= 0;
		while (read && i < NAMES_MAX && add_alternative(names, crt, i))
			i++;
		if (read && !names[0] && gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, cn, &bytes) >= 0)
			add_name(names, cn, bytes && !cn[bytes - 1] ? bytes - 1 : bytes);
		gnutls_x509_crt_deinit(crt);
	}
	if (!names[0])
		strcpy(names, "no name");
}

static int say_fault(struct gw__tls *t, unsigned status)
{
	const char *name = t->f.chan.name;
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		if (status & faults[i].status) {
			gw__error_set(&t->failure, -EACCES, "%s: the certificate of the %s %s", name, peer_is(t), faults[i].text);
			return refuse(t, faults[i].alert);
		}
	if (status & GNUTLS_CERT_UNEXPECTED_OWNER) {
		char names[NAMES_BYTES];
		list_names(t, names);
		gw__error_set(&t->failure, -EACCES,
			"%s: the server's certificate is not for \"%s\" but for %s; if it is the right server, say which name it has "
			"(tls-hostname)",
			name, t->host, names);
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
