/* SPDX-License-Identifier: MIT */
/* See http.h. */
#include "store/http.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int gw__http_open(struct gw__http *h, struct gw__error *error)
{
	int r = gw__curl_library_get(&h->lib, error);
	if (!r && !(h->curl = h->lib->easy_init()))
		r = gw__error_set(error, -ENOMEM, "libcurl cannot be set up");
	return r;
}

void gw__http_close(struct gw__http *h)
{
	if (h->curl)
		h->lib->easy_cleanup(h->curl);
	h->curl = NULL;
}

/* --- options of a URL --- */

static bool set_option(const struct gw__http_option *o, const char *text, size_t n)
{
	size_t m = strlen(o->name);
	if (n <= m || n - m >= GW__HTTP_PATH_BYTES || strncmp(text, o->name, m))
		return false;
	memcpy(o->to, text + m, n - m);
	o->to[n - m] = 0;
	return true;
}

static int unknown(const char *text, size_t n, const struct gw__http_option *more, unsigned more_n, const char *what,
	struct gw__error *error)
{
	char list[200] = "cacert=, cert=, key=";
	size_t used = strlen(list);
	for (unsigned i = 0; i < more_n && used < sizeof list; i++)
		used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i + 1 < more_n ? ", " : " or ", more[i].name);
	return gw__error_set(error, -EINVAL, "\"%.*s\" is not an option of a lease in %s: expected %s", (int)n, text, what, list);
}

int gw__http_set_options(struct gw__http *h, const char *text, bool tls, const struct gw__http_option *more, unsigned n, const char *what,
	struct gw__error *error)
{
	const struct gw__http_option own[] = {{"cacert=", h->cacert}, {"cert=", h->cert}, {"key=", h->key}};
	while (*text) {
		size_t bytes = strcspn(text, "&");
		bool known = false;
		for (unsigned i = 0; !known && i < sizeof own / sizeof *own; i++)
			known = set_option(&own[i], text, bytes);
		for (unsigned i = 0; !known && i < n; i++)
			known = set_option(&more[i], text, bytes);
		if (!known)
			return unknown(text, bytes, more, n, what, error);
		text += bytes + (text[bytes] == '&');
	}
	if (!tls && (h->cacert[0] || h->cert[0] || h->key[0]))
		return gw__error_set(error, -EINVAL, "cacert=, cert= and key= are for TLS, and this URL uses none");
	if (!h->cert[0] != !h->key[0])
		return gw__error_set(error, -EINVAL, "a certificate needs both cert= and key=");
	return 0;
}

/* --- one question --- */

static size_t on_bytes(char *bytes, size_t one, size_t n, void *ctx)
{
	struct gw__http *h = ctx;
	n *= one;
	if (n >= sizeof h->answer - h->answer_n)
		return 0;
	memcpy(h->answer + h->answer_n, bytes, n);
	h->answer_n += n;
	return n;
}

static void set_up(struct gw__http *h, const struct gw__http_request *q, struct curl_slist *headers)
{
	__typeof__(h->lib->easy_setopt) set = h->lib->easy_setopt;
	set(h->curl, CURLOPT_URL, q->url);
	set(h->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	set(h->curl, CURLOPT_NOPROXY, "*");
	set(h->curl, CURLOPT_NOSIGNAL, 1L);
	if (q->body)
		set(h->curl, CURLOPT_POSTFIELDS, q->body);
	else
		set(h->curl, CURLOPT_HTTPGET, 1L);
	set(h->curl, CURLOPT_CUSTOMREQUEST, q->method);
	set(h->curl, CURLOPT_HTTPHEADER, headers);
	set(h->curl, CURLOPT_TIMEOUT_MS, (long)q->timeout_ms);
	set(h->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)(q->timeout_ms / 2 + 1));
	set(h->curl, CURLOPT_WRITEFUNCTION, on_bytes);
	set(h->curl, CURLOPT_WRITEDATA, h);
	if (h->cacert[0])
		set(h->curl, CURLOPT_CAINFO, h->cacert);
	if (h->cert[0]) {
		set(h->curl, CURLOPT_SSLCERT, h->cert);
		set(h->curl, CURLOPT_SSLKEY, h->key);
	}
}

static struct curl_slist *headers_of(const struct gw__http *h, const struct gw__http_request *q)
{
	char line[4200];
	struct curl_slist *all = h->lib->slist_append(NULL, "Content-Type: application/json");
	if (!q->authorization)
		return all;
	snprintf(line, sizeof line, "Authorization: %s", q->authorization);
	struct curl_slist *more = h->lib->slist_append(all, line);
	explicit_bzero(line, sizeof line);
	return more ? more : all;
}

CURLcode gw__http_ask(struct gw__http *h, const struct gw__http_request *q, long *status, json_t **answer)
{
	struct curl_slist *headers = headers_of(h, q);
	h->answer_n = 0;
	set_up(h, q, headers);
	CURLcode c = h->lib->easy_perform(h->curl);
	h->lib->slist_free_all(headers);
	*answer = NULL;
	*status = 0;
	if (c != CURLE_OK)
		return c;
	h->lib->easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, status);
	*answer = json_loadb(h->answer, h->answer_n, 0, NULL);
	return c;
}

bool gw__http_was_not_sent(CURLcode c) { return c == CURLE_COULDNT_CONNECT || c == CURLE_COULDNT_RESOLVE_HOST; }
