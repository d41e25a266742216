/* SPDX-License-Identifier: MIT */
/*
 * A store that is a key of an etcd: its JSON gateway (/v3/kv/range, /v3/kv/txn) by libcurl. Reads are linearizable, as etcd's are unless asked otherwise, and changes
 * are transactions; etcd's own leases and keep-alives are not used.
 *
 * One member is asked at a time. One that cannot be connected to was sent nothing, and the next one is asked; one that does not answer may do what it was
 * asked for yet, so that call fails, and the next call goes to the next member.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/http.h"
#include "store/store_private.h"

enum { ENDPOINTS = 16, ENDPOINT_BYTES = 280, PATH_BYTES = GW__HTTP_PATH_BYTES, URL_BYTES = 400 };

struct etcd {
	const char *scheme;
	char endpoint[ENDPOINTS][ENDPOINT_BYTES];
	unsigned endpoints, current;
	char key[PATH_BYTES]; /* as base64 */
	char user[PATH_BYTES], password_file[PATH_BYTES];
	char token[PATH_BYTES]; /* "": none yet */
	struct gw__http http;
};

/* --- base64 --- */

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void encode64(const char *from, char *to)
{
	size_t n = strlen(from);
	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)(unsigned char)from[i] << 16;
		v |= i + 1 < n ? (unsigned)(unsigned char)from[i + 1] << 8 : 0;
		v |= i + 2 < n ? (unsigned char)from[i + 2] : 0;
		*to++ = DIGITS[v >> 18];
		*to++ = DIGITS[v >> 12 & 63];
		*to++ = i + 1 < n ? DIGITS[v >> 6 & 63] : '=';
		*to++ = i + 2 < n ? DIGITS[v & 63] : '=';
	}
	*to = 0;
}

/* False: it is none, has a NUL, or is too long. */
static bool decode64(const char *from, char *to, size_t to_bytes)
{
	unsigned v = 0, bits = 0;
	size_t n = 0;
	for (; *from && *from != '='; from++) {
		const char *digit = strchr(DIGITS, *from);
		if (!digit)
			return false;
		v = v << 6 | (unsigned)(digit - DIGITS);
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		to[n] = (char)(v >> bits & 255);
		if (!to[n] || ++n >= to_bytes)
			return false;
	}
	to[n] = 0;
	return true;
}

/* --- the URL --- */

static int add_endpoint(struct etcd *e, const char *text, size_t n, struct gw__error *error)
{
	if (!n || n >= ENDPOINT_BYTES || memchr(text, '@', n))
		return gw__error_set(error, -EINVAL, "\"%.*s\" is not a member of an etcd: expected HOST:PORT", (int)n, text);
	if (e->endpoints == ENDPOINTS)
		return gw__error_set(error, -EINVAL, "a lease takes at most %d members of an etcd", ENDPOINTS);
	memcpy(e->endpoint[e->endpoints++], text, n);
	return 0;
}

static int add_endpoints(struct etcd *e, const char *text, size_t n, struct gw__error *error)
{
	for (const char *end = text + n;; text++) {
		size_t m = 0;
		while (text + m < end && text[m] != ',')
			m++;
		int r = add_endpoint(e, text, m, error);
		text += m;
		if (r || text == end)
			return r;
	}
}

static int set_options(struct etcd *e, const char *text, struct gw__error *error)
{
	const struct gw__http_option more[] = {{"user=", e->user}, {"password-file=", e->password_file}};
	int r = gw__http_set_options(&e->http, text, !strcmp(e->scheme, "https"), more, 2, "etcd", error);
	if (!r && !e->user[0] != !e->password_file[0])
		r = gw__error_set(error, -EINVAL, "a user needs both user= and password-file=");
	return r;
}

static int parse(struct etcd *e, const char *rest, struct gw__error *error)
{
	char key[PATH_BYTES / 2];
	if (strncmp(rest, "//", 2))
		return gw__error_set(error, -EINVAL, "a lease in etcd is etcd://HOST:PORT[,HOST:PORT]/KEY");
	rest += 2;
	size_t n = strcspn(rest, "/?");
	int r = add_endpoints(e, rest, n, error);
	if (r)
		return r;
	rest += n;
	n = strcspn(rest, "?");
	if (n < 2 || n >= sizeof key)
		return gw__error_set(error, -EINVAL, "a lease in etcd needs a key: etcd://HOST:PORT/KEY");
	memcpy(key, rest + 1, n - 1); /* as etcdctl would be told it: without the slash of the URL */
	key[n - 1] = 0;
	encode64(key, e->key);
	return set_options(e, rest + n + (rest[n] == '?'), error);
}

int gw__store_open_etcd(const char *scheme, const char *rest, void **engine, struct gw__error *error)
{
	struct etcd *e = calloc(1, sizeof *e);
	if (!e)
		return gw__error_set(error, -ENOMEM, "no memory");
	e->scheme = scheme;
	int r = parse(e, rest, error);
	if (!r)
		r = gw__http_open(&e->http, error);
	if (r) {
		free(e);
		return r;
	}
	*engine = e;
	return 0;
}

static void close_etcd(void *engine)
{
	struct etcd *e = engine;
	gw__http_close(&e->http);
	explicit_bzero(e->token, sizeof e->token);
	free(e);
}

/* --- one question --- */

static int refused_by_etcd(struct etcd *e, const json_t *answer, long status, struct gw__error *error)
{
	const char *text = json_string_value(json_object_get(answer, "message"));
	if (!text)
		text = json_string_value(json_object_get(answer, "error"));
	e->token[0] = 0; /* if that is why, a new one is asked for */
	return gw__error_set(error, -EREMOTEIO, "etcd at %s answered with status %ld: %.200s", e->endpoint[e->current], status,
		text ? text : "no reason was given");
}

static CURLcode ask_one(struct etcd *e, const char *path, const char *body, int timeout_ms, long *status, json_t **answer)
{
	char url[URL_BYTES];
	snprintf(url, sizeof url, "%s://%s/v3/%s", e->scheme, e->endpoint[e->current], path);
	const struct gw__http_request q = {"POST", url, body, e->token[0] ? e->token : NULL, timeout_ms};
	return gw__http_ask(&e->http, &q, status, answer);
}

static int ask(struct etcd *e, const char *path, json_t *question, int timeout_ms, json_t **answer, struct gw__error *error)
{
	char *body = json_dumps(question, JSON_COMPACT);
	long status = 0;
	json_t *j = NULL;
	CURLcode c = CURLE_OUT_OF_MEMORY;
	json_decref(question);
	for (unsigned i = 0; body && i < e->endpoints; i++) {
		c = ask_one(e, path, body, timeout_ms, &status, &j);
		if (!gw__http_was_not_sent(c))
			break;
		e->current = (e->current + 1) % e->endpoints;
	}
	free(body);
	int r = 0;
	if (c != CURLE_OK)
		r = gw__error_set(error, -EREMOTEIO, "etcd at %s does not answer: %s", e->endpoint[e->current],
			e->http.lib->easy_strerror(c));
	else if (status != 200)
		r = refused_by_etcd(e, j, status, error);
	else if (!json_is_object(j))
		r = gw__error_set(error, -EPROTO, "what answers at %s is no etcd: expected JSON", e->endpoint[e->current]);
	if (r) {
		e->current = (e->current + 1) % e->endpoints;
		json_decref(j);
		return r;
	}
	*answer = j;
	return 0;
}

/* --- who asks --- */

static int read_password(const struct etcd *e, char *password, size_t n, struct gw__error *error)
{
	FILE *f = fopen(e->password_file, "re");
	if (!f)
		return gw__error_errno(error, errno, "cannot open %s", e->password_file);
	bool got = fgets(password, (int)n, f);
	fclose(f);
	if (!got)
		return gw__error_set(error, -EINVAL, "%s has no password", e->password_file);
	password[strcspn(password, "\r\n")] = 0;
	return 0;
}

static int authenticate(struct etcd *e, int timeout_ms, struct gw__error *error)
{
	char password[256];
	json_t *answer = NULL;
	if (!e->user[0] || e->token[0])
		return 0;
	int r = read_password(e, password, sizeof password, error);
	if (r)
		return r;
	r = ask(e, "auth/authenticate", json_pack("{s:s, s:s}", "name", e->user, "password", password), timeout_ms, &answer, error);
	explicit_bzero(password, sizeof password);
	const char *token = json_string_value(json_object_get(answer, "token"));
	if (!r && !token)
		r = gw__error_set(error, -EPROTO, "etcd gave no token for the user %s", e->user);
	if (!r)
		snprintf(e->token, sizeof e->token, "%s", token);
	json_decref(answer);
	return r;
}

/* --- the two operations --- */

static int value_of(const struct etcd *e, const json_t *range, char *text, struct gw__error *error)
{
	const json_t *kv = json_array_get(json_object_get(range, "kvs"), 0);
	const char *value = json_string_value(json_object_get(kv, "value"));
	*text = 0;
	if (value && !decode64(value, text, GW__STORE_TEXT_BYTES))
		return gw__error_set(error, -EPROTO, "the key in the etcd at %s has a value that is not a lease", e->endpoint[e->current]);
	return 0;
}

static int get(void *engine, int timeout_ms, char *text, struct gw__error *error)
{
	struct etcd *e = engine;
	json_t *answer = NULL;
	int r = authenticate(e, timeout_ms, error);
	if (!r)
		r = ask(e, "kv/range", json_pack("{s:s}", "key", e->key), timeout_ms, &answer, error);
	if (!r)
		r = value_of(e, answer, text, error);
	json_decref(answer);
	return r;
}

static json_t *transaction(const struct etcd *e, const char *from, const char *to)
{
	char old[GW__STORE_TEXT_BYTES * 2], new[GW__STORE_TEXT_BYTES * 2];
	encode64(from, old);
	encode64(to, new);
	json_t *compare =
		*from ? json_pack("{s:s, s:s, s:s, s:s}", "key", e->key, "target", "VALUE", "result", "EQUAL", "value", old)
		      : json_pack("{s:s, s:s, s:s, s:s}", "key", e->key, "target", "CREATE", "result", "EQUAL", "create_revision", "0");
	return json_pack("{s:[o], s:[{s:{s:s, s:s}}], s:[{s:{s:s}}]}", "compare", compare, "success", "request_put", "key", e->key, "value",
		new, "failure", "request_range", "key", e->key);
}

static int swap(void *engine, int timeout_ms, const char *from, const char *to, char *found, struct gw__error *error)
{
	struct etcd *e = engine;
	json_t *answer = NULL;
	if (strlen(from) >= GW__STORE_TEXT_BYTES || strlen(to) >= GW__STORE_TEXT_BYTES)
		return gw__error_set(error, -EINVAL, "the text for etcd is too long");
	int r = authenticate(e, timeout_ms, error);
	if (!r)
		r = ask(e, "kv/txn", transaction(e, from, to), timeout_ms, &answer, error);
	if (!r && !json_object_get(answer, "header"))
		r = gw__error_set(error, -EPROTO, "what answers at %s is no etcd: its answer has no header", e->endpoint[e->current]);
	if (!r && !json_is_true(json_object_get(answer, "succeeded"))) {
		const json_t *first = json_array_get(json_object_get(answer, "responses"), 0);
		r = value_of(e, json_object_get(first, "response_range"), found, error);
		r = r ? r : GW__STORE_REFUSED;
	}
	json_decref(answer);
	return r;
}

const struct gw__store_ops gw__store_etcd_ops = {get, swap, close_etcd};
