/* SPDX-License-Identifier: MIT */
/*
 * Certificates of our own, looked at before any peer does: a peer only says that it does not like them.
 * Stricter than GnuTLS and, where it can be seen from outside, exactly as strict as QEMU when its credentials
 * object is made. No state; any thread.
 */
#include "io/tls_parts.h"

#include <errno.h>
#include <time.h>

static int check_dates(gnutls_x509_crt_t crt, const char *path, struct gw__error *error)
{
	char day[32] = "an unknown day";
	struct tm tm;
	time_t now = time(NULL), from = gnutls_x509_crt_get_activation_time(crt), to = gnutls_x509_crt_get_expiration_time(crt);
	bool is_over = now > to;
	if (!is_over && now >= from)
		return 0;
	if (gmtime_r(is_over ? &to : &from, &tm))
		strftime(day, sizeof day, "%Y-%m-%d %H:%M:%S UTC", &tm);
	if (is_over)
		return gw__error_set(error, -EKEYEXPIRED, "%s: the certificate expired on %s; have it renewed", path, day);
	return gw__error_set(error, -EKEYREJECTED, "%s: the certificate is not valid before %s; is the clock right?", path, day);
}

static int check_is_ca(gnutls_x509_crt_t crt, bool must, const char *path, struct gw__error *error)
{
	unsigned is_ca = 0;
	int r = gnutls_x509_crt_get_basic_constraints(crt, NULL, &is_ca, NULL);
	if (r < 0 && r != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return gw__error_set(error, -EKEYREJECTED, "%s: its basic constraints cannot be read: %s", path, gw__tls_reason(r).text);
	if (must && !is_ca)
		return gw__error_set(error, -EKEYREJECTED, "%s: the certificate is not one of a CA (its basic constraints do not say so)",
			path);
	if (!must && is_ca)
		return gw__error_set(error, -EKEYREJECTED,
			"%s: the certificate is one of a CA; a host needs one of its own, signed by the CA", path);
	return 0;
}

static int check_usage(gnutls_x509_crt_t crt, unsigned need, const char *called, const char *path, struct gw__error *error)
{
	unsigned usage = 0;
	int r = gnutls_x509_crt_get_key_usage(crt, &usage, NULL);
	if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
		return 0;
	if (r < 0)
		return gw__error_set(error, -EKEYREJECTED, "%s: its key usage cannot be read: %s", path, gw__tls_reason(r).text);
	if (!(usage & need))
		return gw__error_set(error, -EKEYREJECTED, "%s: the certificate's key usage does not allow %s", path, called);
	return 0;
}

/* Only where the issuer meant it: QEMU lets a purpose that is not critical pass. */
static int check_purpose(gnutls_x509_crt_t crt, enum gw__tls_role role, const char *path, struct gw__error *error)
{
	const char *oid = role == GW__TLS_SERVER ? GNUTLS_KP_TLS_WWW_SERVER : GNUTLS_KP_TLS_WWW_CLIENT;
	unsigned critical = 0;
	char any[128];
	size_t bytes = sizeof any;
	int r = gnutls_x509_crt_get_key_purpose_oid(crt, 0, any, &bytes, &critical);
	if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE || !critical)
		return 0;
	if (gnutls_x509_crt_check_key_purpose(crt, oid, 0))
		return 0;
	return gw__error_set(error, -EKEYREJECTED, "%s: the certificate's purpose (extended key usage) does not allow a TLS %s", path,
		role == GW__TLS_SERVER ? "server" : "client");
}

static int check_ca(gnutls_x509_crt_t crt, const char *path, struct gw__error *error)
{
	int r = check_dates(crt, path, error);
	r = r ? r : check_is_ca(crt, true, path, error);
	return r ? r : check_usage(crt, GNUTLS_KEY_KEY_CERT_SIGN, "signing certificates", path, error);
}

int gw__tls_check_cas(gnutls_x509_crt_t *cas, unsigned n, const char *path, struct gw__error *error)
{
	struct gw__error first = {0};
	/* A bundle may keep an old CA beside the new one; what counts is that there is one to go by. */
	for (unsigned i = 0; i < n; i++)
		if (check_ca(cas[i], path, &first) == 0)
			return 0;
	return gw__error_set(error, first.code, "%s", first.text);
}

int gw__tls_check_own(gnutls_x509_crt_t crt, enum gw__tls_role role, const char *path, struct gw__error *error)
{
	int r = check_dates(crt, path, error);
	r = r ? r : check_is_ca(crt, false, path, error);
	r = r ? r : check_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE, "digital signatures", path, error);
	return r ? r : check_purpose(crt, role, path, error);
}
