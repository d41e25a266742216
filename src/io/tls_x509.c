/* SPDX-License-Identifier: MIT */
/*
 * Certificates from a folder as QEMU lays it out (docs/spec/channels.md 4.2): the CAs, what they revoked, and
 * our own identities, several since 11.1. Called while credentials are loaded, by one thread.
 */
#include "io/tls_parts.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { IDENTITIES_MAX = 16 }; /* -0 to -15 */

/* The folder, parsed; freed as a whole. */
struct folder {
	const char *dir;
	char ca_path[GW__TLS_PATH_MAX];
	gnutls_x509_crt_t *cas;
	unsigned cas_n;
	gnutls_x509_crl_t *crls;
	unsigned crls_n;
};

static void free_crts(gnutls_x509_crt_t *crts, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		gnutls_x509_crt_deinit(crts[i]);
	gnutls_free(crts);
}

static void free_folder(struct folder *d)
{
	free_crts(d->cas, d->cas_n);
	for (unsigned i = 0; i < d->crls_n; i++)
		gnutls_x509_crl_deinit(d->crls[i]);
	gnutls_free(d->crls);
}

static int say_unreadable(const char *path, const char *what, int r, struct gw__error *error)
{
	if (r == GNUTLS_E_MEMORY_ERROR)
		return gw__error_set(error, -ENOMEM, "%s: no memory for it", path);
	return gw__error_set(error, -EINVAL, "%s: holds no %s in PEM form (%s)", path, what, gw__tls_reason(r).text);
}

static int say_missing(const char *path, struct gw__error *error)
{
	return gw__error_set(error, -ENOENT, "%s: there is no such file, and TLS needs it", path);
}

/* 1: there is no such file. */
static int read_crts(const char *path, gnutls_x509_crt_t **crts, unsigned *n, struct gw__error *error)
{
	gnutls_datum_t pem;
	int r = gw__tls_read_file(path, &pem, error);
	if (r)
		return r;
	*crts = NULL;
	*n = 0;
	r = gnutls_x509_crt_list_import2(crts, n, &pem, GNUTLS_X509_FMT_PEM, 0);
	gw__tls_forget(&pem);
	return r < 0 ? say_unreadable(path, "certificate", r, error) : 0;
}

static int load_cas(struct folder *d, gnutls_certificate_credentials_t creds, struct gw__error *error)
{
	gw__tls_path(d->ca_path, d->dir, "ca-cert.pem");
	int r = read_crts(d->ca_path, &d->cas, &d->cas_n, error);
	if (r > 0)
		return say_missing(d->ca_path, error);
	r = r ? r : gw__tls_check_cas(d->cas, d->cas_n, d->ca_path, error);
	if (r)
		return r;
	r = gnutls_certificate_set_x509_trust(creds, d->cas, (int)d->cas_n);
	return r < 0 ? say_unreadable(d->ca_path, "CA", r, error) : 0;
}

/* Somebody else's list would be taken and never apply. An old one stays true as far as it goes; QEMU takes it
 * too. */
static int check_crl(const struct folder *d, gnutls_x509_crl_t crl, const char *path, struct gw__error *error)
{
	unsigned status = 0, old = GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED;
	int r = gnutls_x509_crl_verify(crl, d->cas, (int)d->cas_n, 0, &status);
	if (r < 0 || (status && (status & ~(old | GNUTLS_CERT_INVALID) || !(status & old))))
		return gw__error_set(error, -EKEYREJECTED, "%s: the revocation list was not signed by a CA of %s", path, d->ca_path);
	return 0;
}

static int load_crls(struct folder *d, gnutls_certificate_credentials_t creds, struct gw__error *error)
{
	char path[GW__TLS_PATH_MAX];
	gnutls_datum_t pem;
	gw__tls_path(path, d->dir, "ca-crl.pem");
	int r = gw__tls_read_file(path, &pem, error);
	if (r)
		return r > 0 ? 0 : r;
	r = gnutls_x509_crl_list_import2(&d->crls, &d->crls_n, &pem, GNUTLS_X509_FMT_PEM, 0);
	gw__tls_forget(&pem);
	if (r < 0)
		return say_unreadable(path, "revocation list", r, error);
	for (unsigned i = 0; i < d->crls_n; i++) {
		r = check_crl(d, d->crls[i], path, error);
		if (r)
			return r;
	}
	r = gnutls_certificate_set_x509_crl(creds, d->crls, (int)d->crls_n);
	return r < 0 ? say_unreadable(path, "revocation list", r, error) : 0;
}

/* --- identities ----------------------------------------------------------------------------------------- */

/* Our peers have the same CA, so what is wrong here is wrong there. */
static int check_chain(const struct folder *d, gnutls_x509_crt_t *crts, unsigned n, const char *path, struct gw__error *error)
{
	unsigned status = 0;
	int r = gnutls_x509_crt_list_verify(crts, (int)n, d->cas, (int)d->cas_n, d->crls, (int)d->crls_n, 0, &status);
	if (r < 0)
		return gw__error_set(error, -EKEYREJECTED, "%s: cannot be checked against %s: %s", path, d->ca_path,
			gw__tls_reason(r).text);
	if (status & GNUTLS_CERT_REVOKED)
		return gw__error_set(error, -EKEYREVOKED, "%s: the certificate is revoked by %s/ca-crl.pem", path, d->dir);
	if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
		return gw__error_set(error, -EKEYREJECTED, "%s: the certificate was not signed by a CA of %s", path, d->ca_path);
	if (status & GNUTLS_CERT_EXPIRED)
		return gw__error_set(error, -EKEYEXPIRED, "%s: a CA that the certificate hangs on has expired", path);
	if (status)
		return gw__error_set(error, -EKEYREJECTED, "%s: the certificate does not stand the test against %s: %s", path, d->ca_path,
			gw__tls_status(status).text);
	return 0;
}

static int say_bad_key(const char *cert, const char *key, int r, struct gw__error *error)
{
	if (r == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
		return gw__error_set(error, -EKEYREJECTED, "%s is not the key of the certificate in %s", key, cert);
	if (r == GNUTLS_E_DECRYPTION_FAILED)
		return gw__error_set(error, -EINVAL, "%s: the key is encrypted; store it without a passphrase, readable for its user only",
			key);
	return say_unreadable(key, "private key", r, error);
}

/* 1: there is no such file. */
static int read_key(const char *path, gnutls_x509_privkey_t *key, struct gw__error *error)
{
	gnutls_datum_t pem;
	int r = gw__tls_read_file(path, &pem, error);
	if (r)
		return r;
	r = gnutls_x509_privkey_init(key);
	if (r == 0) {
		r = gnutls_x509_privkey_import2(*key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
		if (r < 0)
			gnutls_x509_privkey_deinit(*key);
	}
	gw__tls_forget(&pem);
	return r < 0 ? say_bad_key("", path, r, error) : 0;
}

static int use_identity(gnutls_certificate_credentials_t creds, gnutls_x509_crt_t *crts, unsigned n, const char *cert, const char *key,
	struct gw__error *error)
{
	gnutls_x509_privkey_t private;
	int r = read_key(key, &private, error);
	if (r > 0)
		return gw__error_set(error, -ENOENT, "%s: there is no such file; it is the key of %s", key, cert);
	if (r)
		return r;
	r = gnutls_certificate_set_x509_key(creds, crts, (int)n, private);
	gnutls_x509_privkey_deinit(private);
	return r < 0 ? say_bad_key(cert, key, r, error) : 0;
}

/* 1: there is none of that number. */
static int load_identity(struct folder *d, struct gw__tls_creds *c, const char *number, struct gw__error *error)
{
	char name[64], cert[GW__TLS_PATH_MAX], key[GW__TLS_PATH_MAX];
	gnutls_x509_crt_t *crts;
	unsigned n;
	const char *role = c->role == GW__TLS_SERVER ? "server" : "client";
	snprintf(name, sizeof name, "%s-cert%s.pem", role, number);
	gw__tls_path(cert, d->dir, name);
	snprintf(name, sizeof name, "%s-key%s.pem", role, number);
	gw__tls_path(key, d->dir, name);
	int r = read_crts(cert, &crts, &n, error);
	if (r > 0 && access(key, F_OK) == 0)
		return gw__error_set(error, -ENOENT, "%s: there is no such file, but its key %s", cert, key);
	if (r)
		return r;
	r = gw__tls_check_own(crts[0], c->role, cert, error);
	r = r ? r : check_chain(d, crts, n, cert, error);
	r = r ? r : use_identity(c->x509, crts, n, cert, key, error);
	free_crts(crts, n);
	return r;
}

/* Without a number, or from 0 on as far as they go, or both. */
static int load_identities(struct folder *d, struct gw__tls_creds *c, struct gw__error *error)
{
	char path[GW__TLS_PATH_MAX], number[16];
	int r = load_identity(d, c, "", error);
	bool has_any = r == 0;
	for (int i = 0; r >= 0 && i < IDENTITIES_MAX; i++) {
		snprintf(number, sizeof number, "-%d", i);
		r = load_identity(d, c, number, error);
		if (r > 0)
			break;
		has_any = true;
	}
	if (r < 0)
		return r;
	if (has_any || c->role == GW__TLS_CLIENT)
		return 0;
	gw__tls_path(path, d->dir, "server-cert.pem");
	return say_missing(path, error);
}

int gw__tls_load_x509(struct gw__tls_creds *c, struct gw__error *error)
{
	struct folder d = {.dir = c->dir};
	int r = gnutls_certificate_allocate_credentials(&c->x509);
	if (r < 0)
		return gw__error_set(error, -ENOMEM, "%s: no memory for TLS credentials", c->dir);
	r = load_cas(&d, c->x509, error);
	r = r ? r : load_crls(&d, c->x509, error);
	r = r ? r : load_identities(&d, c, error);
	free_folder(&d);
	return r;
}
