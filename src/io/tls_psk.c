/* SPDX-License-Identifier: MIT */
/*
 * Shared keys from keys.psk, lines NAME:HEXKEY (docs/spec/channels.md 4.2). The file is read once, so that
 * the keys of a server do not change under its connections. Loaded by one thread, then only read.
 */
#include "io/tls_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_NAME "qemu"

static int say_line(const char *path, int line, const char *what, struct gw__error *error)
{
	return gw__error_set(error, -EINVAL, "%s: line %d %s; a line is NAME:KEY, the key in hexadecimal", path, line, what);
}

/* `text` is NUL-terminated. */
static int decode_hex(const char *text, gnutls_datum_t *secret)
{
	gnutls_datum_t hex = {(unsigned char *)text, (unsigned)strlen(text)}, raw = {0};
	if (hex.size == 0 || hex.size % 2 || strspn(text, "0123456789abcdefABCDEF") != hex.size)
		return -EINVAL;
	if (gnutls_hex_decode2(&hex, &raw) < 0)
		return -ENOMEM;
	*secret = (gnutls_datum_t){malloc(raw.size), raw.size};
	if (secret->data)
		memcpy(secret->data, raw.data, raw.size);
	gnutls_memset(raw.data, 0, raw.size);
	gnutls_free(raw.data);
	return secret->data ? 0 : -ENOMEM;
}

static int add_key(struct gw__tls_creds *c, const char *name, const char *hex, const char *path, int line, struct gw__error *error)
{
	struct gw__tls_key *more = reallocarray(c->keys, c->keys_n + 1, sizeof *more);
	if (!more)
		return gw__error_set(error, -ENOMEM, "%s: no memory for its keys", path);
	c->keys = more;
	struct gw__tls_key key = {.name = strdup(name)};
	int r = key.name ? decode_hex(hex, &key.secret) : -ENOMEM;
	if (r == 0) {
		c->keys[c->keys_n++] = key;
		return 0;
	}
	free(key.name);
	if (r == -ENOMEM)
		return gw__error_set(error, r, "%s: no memory for its keys", path);
	return say_line(path, line, "has a key that is no even number of hexadecimal digits", error);
}

/* `line` is changed. */
static int parse_line(struct gw__tls_creds *c, char *line, const char *path, int n, struct gw__error *error)
{
	size_t end = strlen(line);
	while (end && strchr(" \t\r", line[end - 1]))
		line[--end] = 0;
	if (end == 0)
		return 0;
	char *colon = strchr(line, ':');
	if (!colon || colon == line)
		return say_line(path, n, "has no name and colon", error);
	*colon = 0;
	return add_key(c, line, colon + 1, path, n, error);
}

static int parse(struct gw__tls_creds *c, char *text, const char *path, struct gw__error *error)
{
	for (int n = 1; text; n++) {
		char *end = strchr(text, '\n');
		if (end)
			*end = 0;
		int r = parse_line(c, text, path, n, error);
		if (r)
			return r;
		text = end ? end + 1 : NULL;
	}
	if (c->keys_n == 0)
		return gw__error_set(error, -EINVAL, "%s: holds no keys; a line is NAME:KEY, the key in hexadecimal", path);
	return 0;
}

static int load_keys(struct gw__tls_creds *c, const char *path, struct gw__error *error)
{
	gnutls_datum_t text;
	int r = gw__tls_read_file(path, &text, error);
	if (r > 0)
		return gw__error_set(error, -ENOENT, "%s: there is no such file", path);
	if (r)
		return r;
	if (memchr(text.data, 0, text.size))
		r = gw__error_set(error, -EINVAL, "%s: has bytes of zero in it; is it a text file?", path);
	else {
		text.data[text.size - (text.size > 0)] = 0;
		r = parse(c, (char *)text.data, path, error);
	}
	gw__tls_forget(&text);
	return r;
}

/* Of a name that comes twice, the first one counts, as with QEMU. */
const struct gw__tls_key *gw__tls_find_key(const struct gw__tls_creds *c, const char *name)
{
	for (size_t i = 0; i < c->keys_n; i++)
		if (strcmp(c->keys[i].name, name) == 0)
			return &c->keys[i];
	return NULL;
}

/* --- client --------------------------------------------------------------------------------------------- */

static int set_client(struct gw__tls_creds *c, const char *path, struct gw__error *error)
{
	const char *name = c->username ? c->username : DEFAULT_NAME;
	const struct gw__tls_key *key = gw__tls_find_key(c, name);
	if (!key)
		return gw__error_set(error, -ENOKEY, "%s: has no key for the name \"%s\"", path, name);
	if (gnutls_psk_allocate_client_credentials(&c->psk_client) < 0 ||
		gnutls_psk_set_client_credentials(c->psk_client, name, &key->secret, GNUTLS_PSK_KEY_RAW) < 0)
		return gw__error_set(error, -ENOMEM, "%s: no memory for TLS credentials", path);
	return 0;
}

/* --- server --------------------------------------------------------------------------------------------- */

/* What a peer calls itself, for a sentence. */
static void keep_name(char to[GW__TLS_NAME_MAX], const char *name)
{
	size_t i = 0;
	for (; name[i] && i < GW__TLS_NAME_MAX - 1; i++)
		to[i] = name[i] >= ' ' && name[i] <= '~' ? name[i] : '?';
	to[i] = 0;
}

/* Called by GnuTLS in the handshake of a server. */
static int give_key(gnutls_session_t session, const char *name, gnutls_datum_t *secret)
{
	struct gw__tls *t = gnutls_session_get_ptr(session);
	const struct gw__tls_key *key = gw__tls_find_key(t->creds, name);
	keep_name(t->user, name);
	t->is_known_user = key;
	if (!key)
		return -1;
	secret->data = gnutls_malloc(key->secret.size);
	if (!secret->data)
		return -1;
	memcpy(secret->data, key->secret.data, key->secret.size);
	secret->size = key->secret.size;
	return 0;
}

static int set_server(struct gw__tls_creds *c, const char *path, struct gw__error *error)
{
	if (gnutls_psk_allocate_server_credentials(&c->psk_server) < 0 ||
		gnutls_psk_set_server_known_dh_params(c->psk_server, GNUTLS_SEC_PARAM_MEDIUM) < 0)
		return gw__error_set(error, -ENOMEM, "%s: no memory for TLS credentials", path);
	gnutls_psk_set_server_credentials_function(c->psk_server, give_key);
	return 0;
}

int gw__tls_load_psk(struct gw__tls_creds *c, struct gw__error *error)
{
	char path[GW__TLS_PATH_MAX];
	gw__tls_path(path, c->dir, "keys.psk");
	int r = load_keys(c, path, error);
	if (r)
		return r;
	return c->role == GW__TLS_SERVER ? set_server(c, path, error) : set_client(c, path, error);
}
