/* SPDX-License-Identifier: MIT */
/* What GnuTLS means by an error and a peer by an alert, as parts of sentences. */
#include "io/tls_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct gw__tls_reason without_dot(const char *text)
{
	struct gw__tls_reason reason;
	snprintf(reason.text, sizeof reason.text, "%s", text);
	for (size_t n = strlen(reason.text); n && strchr(". ", reason.text[n - 1]);)
		reason.text[--n] = 0;
	return reason;
}

struct gw__tls_reason gw__tls_reason(int r) { return without_dot(gnutls_strerror(r)); }

struct gw__tls_reason gw__tls_status(unsigned status)
{
	gnutls_datum_t text = {0};
	if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) < 0)
		return without_dot("for a reason there is no memory to tell");
	struct gw__tls_reason reason = without_dot((char *)text.data);
	gnutls_free(text.data);
	return reason;
}

static const struct {
	gnutls_alert_description_t alert;
	const char *meaning;
} refusals[] = {
	{GNUTLS_A_BAD_CERTIFICATE, "our certificate is not good for it, or not for the name it knows us by"},
	{GNUTLS_A_UNSUPPORTED_CERTIFICATE, "it cannot use our kind of certificate"},
	{GNUTLS_A_CERTIFICATE_REVOKED, "our certificate is revoked"},
	{GNUTLS_A_CERTIFICATE_EXPIRED, "our certificate is not valid at its time"},
	{GNUTLS_A_CERTIFICATE_UNKNOWN, "it does not accept our certificate"},
	{GNUTLS_A_UNKNOWN_CA, "it does not know the CA of our certificate"},
	{GNUTLS_A_ACCESS_DENIED, "our distinguished name is not authorised"},
	{GNUTLS_A_CERTIFICATE_REQUIRED, "it wants a certificate and we have none of a CA it knows"},
	{GNUTLS_A_UNKNOWN_PSK_IDENTITY, "it has no key for our name"},
};

int gw__tls_say_alert(struct gw__tls *t)
{
	gnutls_alert_description_t alert = gnutls_alert_get(t->session);
	const char *called = gnutls_alert_get_name(alert), *name = t->f.chan.name;
	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
		if (refusals[i].alert == alert)
			return gw__error_set(&t->failure, -EACCES, "%s: the peer refused us: %s (TLS alert %d)", name, refusals[i].meaning,
				alert);
	return gw__error_set(&t->failure, -EPROTO, "%s: the peer ended TLS: %s (alert %d)%s", name, called ? called : "unknown alert",
		alert,
		t->is_up ? ""
			 : "; do both sides use the same kind of credentials, and with shared keys the same "
			   "key?");
}
