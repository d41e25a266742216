/* SPDX-License-Identifier: MIT */
/* Loading credentials: which kind a folder holds, which options fit, what may be negotiated. See tls.h. */
#include "io/tls_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* x509 or PSK: whichever is there. Both would make it a matter of luck how a peer is checked. */
static int find_kind(struct gw__tls_creds *c, struct gw__error *error)
{
	char self[GW__TLS_PATH_MAX], ca[GW__TLS_PATH_MAX], psk[GW__TLS_PATH_MAX];
	gw__tls_path(self, c->dir, ".");
	gw__tls_path(ca, c->dir, "ca-cert.pem");
	gw__tls_path(psk, c->dir, "keys.psk");
	if (!self[0])
		return gw__error_set(error, -ENAMETOOLONG, "the name of the folder of TLS credentials is too long");
	if (access(self, X_OK) < 0)
		return gw__error_errno(error, errno, "%s: cannot be used as a folder of TLS credentials", c->dir);
	bool has_ca = access(ca, F_OK) == 0, has_psk = access(psk, F_OK) == 0;
	if (has_ca && has_psk)
		return gw__error_set(error, -EINVAL,
			"%s holds certificates (ca-cert.pem) and shared keys (keys.psk); put each in a "
			"folder of its own",
			c->dir);
	if (!has_ca && !has_psk)
		return gw__error_set(error, -ENOENT,
			"%s holds no TLS credentials: neither ca-cert.pem (certificates) nor keys.psk "
			"(shared keys)",
			c->dir);
	c->is_psk = has_psk;
	return 0;
}

static int refuse(const struct gw__tls_creds *c, const char *what, const char *because, struct gw__error *error)
{
	return gw__error_set(error, -EINVAL, "TLS credentials of %s: %s, because %s", c->dir, what, because);
}

/* An option that would silently do nothing is a mistake. */
static int check_options(const struct gw__tls_creds *c, const struct gw__tls_opts *o, struct gw__error *error)
{
	bool is_server = c->role == GW__TLS_SERVER;
	if (o->authz && !is_server)
		return refuse(c, "a distinguished name to authorise has no use", "only a server authorises clients", error);
	if (o->authz && c->is_psk)
		return refuse(c, "no distinguished name can be authorised", "a peer with a shared key has none", error);
	if (o->authz && o->no_verify)
		return refuse(c, "no distinguished name can be authorised", "clients are not to be verified", error);
	if (o->no_verify && c->is_psk)
		return refuse(c, "verifying cannot be left out", "a shared key is nothing but that", error);
	if (o->username && is_server)
		return refuse(c, "a user name has no use", "a server takes the name its client sends", error);
	if (o->username && !c->is_psk)
		return refuse(c, "a user name has no use", "there are certificates and no keys.psk", error);
	return 0;
}

static int copy_text(char **to, const char *text, struct gw__error *error)
{
	if (!text)
		return 0;
	*to = strdup(text);
	return *to ? 0 : gw__error_set(error, -ENOMEM, "no memory for TLS credentials");
}

static int copy_options(struct gw__tls_creds *c, const struct gw__tls_opts *o, struct gw__error *error)
{
	c->no_verify = o->no_verify;
	int r = copy_text(&c->dir, o->dir, error);
	r = r ? r : copy_text(&c->hostname, o->hostname, error);
	r = r ? r : copy_text(&c->authz, o->authz, error);
	return r ? r : copy_text(&c->username, o->username, error);
}

/*
 * A shared key goes with the ciphers of SHA-256 only, and of those NORMAL puts ChaCha20 first, five times
 * slower than AES on machines that run VMs. The server has the last word, so that a QEMU at the other end
 * gains too.
 */
#define NORMAL_PSK "NORMAL:-CHACHA20-POLY1305:+CHACHA20-POLY1305:%SERVER_PRECEDENCE"

/* RFC 8996; after everything else, so that no priority string brings the old versions back. */
#define AT_LEAST_1_2 ":-VERS-TLS1.1:-VERS-TLS1.0"

static int set_priority(struct gw__tls_creds *c, const char *given, struct gw__error *error)
{
	char text[1024];
	const char *at = "";
	const char *base = c->is_psk ? NORMAL_PSK : "NORMAL", *also = c->is_psk ? ":+ECDHE-PSK:+DHE-PSK:+PSK" : "";
	int n = snprintf(text, sizeof text, "%s%s" AT_LEAST_1_2, given ? given : base, also);
	if (n < 0 || n >= (int)sizeof text)
		return gw__error_set(error, -EINVAL, "the TLS priority string is longer than %zu bytes", sizeof text);
	int r = gnutls_priority_init(&c->priority, text, &at);
	if (r < 0 && given) { /* without what was added to it */
		size_t from = at ? (size_t)(at - text) : 0, whole = strlen(given);
		return gw__error_set(error, -EINVAL, "TLS priority string \"%s\": not understood from \"%s\" on (%s)", given,
			from < whole ? given + from : "", gw__tls_reason(r).text);
	}
	if (r < 0)
		return gw__error_set(error, -EINVAL, "TLS priority string \"%s\": %s", text, gw__tls_reason(r).text);
	return 0;
}

static int load(struct gw__tls_creds *c, const struct gw__tls_opts *o, struct gw__error *error)
{
	int r = copy_options(c, o, error);
	r = r ? r : find_kind(c, error);
	r = r ? r : check_options(c, o, error);
	r = r ? r : set_priority(c, o->priority, error);
	if (r)
		return r;
	return c->is_psk ? gw__tls_load_psk(c, error) : gw__tls_load_x509(c, error);
}

int gw__tls_creds_load(enum gw__tls_role role, const struct gw__tls_opts *o, struct gw__tls_creds **creds, struct gw__error *error)
{
	struct gw__tls_creds *c = calloc(1, sizeof *c);
	if (!c)
		return gw__error_set(error, -ENOMEM, "no memory for TLS credentials");
	c->role = role;
	int r = load(c, o, error);
	if (r) {
		gw__tls_creds_free(c);
		return r;
	}
	*creds = c;
	return 0;
}

void gw__tls_creds_free(struct gw__tls_creds *c)
{
	if (!c)
		return;
	if (c->x509)
		gnutls_certificate_free_credentials(c->x509);
	if (c->psk_client)
		gnutls_psk_free_client_credentials(c->psk_client);
	if (c->psk_server)
		gnutls_psk_free_server_credentials(c->psk_server);
	if (c->priority)
		gnutls_priority_deinit(c->priority);
	for (size_t i = 0; i < c->keys_n; i++) {
		gw__tls_forget(&c->keys[i].secret);
		free(c->keys[i].name);
	}
	free(c->keys);
	free(c->username);
	free(c->authz);
	free(c->hostname);
	free(c->dir);
	free(c);
}
