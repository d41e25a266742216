/* SPDX-License-Identifier: MIT */
/*
 * A store that is a Lease object of a Kubernetes (coordination.k8s.io/v1): the text is its spec.holderIdentity. A change names the resourceVersion that was read, and
 * Kubernetes refuses it when there is a newer one; reads name none, and are as linearizable as its etcd is. The other fields of spec and what its clients make of time
 * are not used.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/http.h"
#include "store/store_private.h"

enum {
	NAME_BYTES = 254,
	SERVER_BYTES = 280,
	URL_BYTES = 1024,
	TOKEN_BYTES = 4096,
	OK = 200,
	CREATED = 201,
	NOT_FOUND = 404,
	CONFLICT = 409
};

struct kubernetes {
	const char *scheme;
	char server[SERVER_BYTES], namespace[NAME_BYTES], name[NAME_BYTES];
	char token_file[GW__HTTP_PATH_BYTES];
	struct gw__http http;
};

/* --- the URL --- */

/* What a name of Kubernetes is made of; so it needs no escapes in a URL. */
static bool take_name(const char **text, char stop, char *name)
{
	size_t n = strspn(*text, "abcdefghijklmnopqrstuvwxyz0123456789.-");
	if (!n || n >= NAME_BYTES || ((*text)[n] != stop && (*text)[n] != 0 && (*text)[n] != '?'))
		return false;
	memcpy(name, *text, n);
	name[n] = 0;
	*text += n;
	return true;
}

static int parse(struct kubernetes *k, const char *rest, struct gw__error *error)
{
	size_t n = strncmp(rest, "//", 2) ? 0 : strcspn(rest + 2, "/?");
	if (!n || n >= sizeof k->server || memchr(rest + 2, '@', n))
		return gw__error_set(error, -EINVAL, "a lease in Kubernetes is k8s://HOST:PORT/NAMESPACE/NAME");
	memcpy(k->server, rest + 2, n);
	rest += 2 + n;
	if (*rest++ != '/' || !take_name(&rest, '/', k->namespace) || *rest++ != '/' || !take_name(&rest, '?', k->name))
		return gw__error_set(error, -EINVAL,
			"a lease in Kubernetes needs a namespace and a name, in small letters: k8s://HOST:PORT/NAMESPACE/NAME");
	const struct gw__http_option more[] = {{"token-file=", k->token_file}};
	return gw__http_set_options(&k->http, rest + (*rest == '?'), !strcmp(k->scheme, "https"), more, 1, "Kubernetes", error);
}

int gw__store_open_kubernetes(const char *scheme, const char *rest, void **engine, struct gw__error *error)
{
	struct kubernetes *k = calloc(1, sizeof *k);
	if (!k)
		return gw__error_set(error, -ENOMEM, "no memory");
	k->scheme = scheme;
	int r = parse(k, rest, error);
	if (!r)
		r = gw__http_open(&k->http, error);
	if (r) {
		free(k);
		return r;
	}
	*engine = k;
	return 0;
}

static void close_kubernetes(void *engine)
{
	struct kubernetes *k = engine;
	gw__http_close(&k->http);
	free(k);
}

/* --- one question --- */

/* Read each time: Kubernetes renews the token of a pod in its file. */
static int read_token(const struct kubernetes *k, char *value, size_t n, struct gw__error *error)
{
	size_t used = (size_t)snprintf(value, n, "Bearer ");
	FILE *f = fopen(k->token_file, "re");
	if (!f)
		return gw__error_errno(error, errno, "cannot open %s", k->token_file);
	bool got = fgets(value + used, (int)(n - used), f);
	fclose(f);
	value[strcspn(value, "\r\n")] = 0;
	return got && value[used] ? 0 : gw__error_set(error, -EINVAL, "%s has no token", k->token_file);
}

static int ask(struct kubernetes *k, const char *method, const json_t *object, int timeout_ms, long *status, json_t **answer,
	struct gw__error *error)
{
	char url[URL_BYTES], token[TOKEN_BYTES];
	bool creates = !strcmp(method, "POST");
	snprintf(url, sizeof url, "%s://%s/apis/coordination.k8s.io/v1/namespaces/%s/leases%s%s", k->scheme, k->server, k->namespace,
		creates ? "" : "/", creates ? "" : k->name);
	int r = k->token_file[0] ? read_token(k, token, sizeof token, error) : 0;
	if (r)
		return r;
	char *body = object ? json_dumps(object, JSON_COMPACT) : NULL;
	const struct gw__http_request q = {method, url, body, k->token_file[0] ? token : NULL, timeout_ms};
	CURLcode c = object && !body ? CURLE_OUT_OF_MEMORY : gw__http_ask(&k->http, &q, status, answer);
	free(body);
	if (c != CURLE_OK)
		return gw__error_set(error, -EREMOTEIO, "Kubernetes at %s does not answer: %s", k->server, k->http.lib->easy_strerror(c));
	const char *kind = json_string_value(json_object_get(*answer, "kind"));
	if (kind && (!strcmp(kind, "Lease") || !strcmp(kind, "Status")))
		return 0;
	json_decref(*answer);
	*answer = NULL;
	return gw__error_set(error, -EPROTO, "what answers at %s is no Kubernetes: status %ld, and neither a Lease nor a Status", k->server,
		*status);
}

static int refused_by_kubernetes(const struct kubernetes *k, const json_t *answer, long status, struct gw__error *error)
{
	const char *text = json_string_value(json_object_get(answer, "message"));
	return gw__error_set(error, -EREMOTEIO, "Kubernetes at %s answered with status %ld: %.200s", k->server, status,
		text ? text : "no reason was given");
}

/* The object and its text; NULL and "": there is none. */
static int read_object(struct kubernetes *k, int timeout_ms, json_t **object, char *text, struct gw__error *error)
{
	long status;
	*text = 0;
	*object = NULL;
	int r = ask(k, "GET", NULL, timeout_ms, &status, object, error);
	if (!r && status != OK && status != NOT_FOUND)
		r = refused_by_kubernetes(k, *object, status, error);
	if (!r && status == OK) {
		const char *holder = json_string_value(json_object_get(json_object_get(*object, "spec"), "holderIdentity"));
		size_t n = holder ? strlen(holder) : 0;
		if (n < GW__STORE_TEXT_BYTES)
			memcpy(text, holder ? holder : "", n + 1);
		else
			r = gw__error_set(error, -EPROTO, "the Lease %s/%s has a holder that is not a lease", k->namespace, k->name);
		if (!r && !json_string_value(json_object_get(json_object_get(*object, "metadata"), "resourceVersion")))
			r = gw__error_set(error, -EPROTO, "the Lease %s/%s has no resourceVersion", k->namespace, k->name);
	}
	if (r || status != OK) {
		json_decref(*object);
		*object = NULL;
	}
	return r;
}

/* --- the two operations --- */

static int get(void *engine, int timeout_ms, char *text, struct gw__error *error)
{
	json_t *object;
	int r = read_object(engine, timeout_ms, &object, text, error);
	json_decref(object);
	return r;
}

/* All else of the object stays as it was read, its resourceVersion among it. */
static json_t *changed(const struct kubernetes *k, json_t *object, const char *to)
{
	if (!object)
		return json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "apiVersion", "coordination.k8s.io/v1", "kind", "Lease", "metadata",
			"name", k->name, "namespace", k->namespace, "spec", "holderIdentity", to);
	json_t *spec = json_object_get(object, "spec");
	if (!spec && !json_object_set_new(object, "spec", json_object()))
		spec = json_object_get(object, "spec");
	json_object_set_new(spec, "holderIdentity", json_string(to));
	return json_incref(object);
}

static int write_object(struct kubernetes *k, json_t *object, const char *to, int timeout_ms, long *status, struct gw__error *error)
{
	json_t *answer = NULL, *next = changed(k, object, to);
	int r = next ? ask(k, object ? "PUT" : "POST", next, timeout_ms, status, &answer, error)
		     : gw__error_set(error, -ENOMEM, "no memory");
	if (!r && *status != OK && *status != CREATED && *status != CONFLICT)
		r = refused_by_kubernetes(k, answer, *status, error);
	json_decref(answer);
	json_decref(next);
	return r;
}

static int swap(void *engine, int timeout_ms, const char *from, const char *to, char *found, struct gw__error *error)
{
	struct kubernetes *k = engine;
	json_t *object;
	long status = 0;
	int ms = timeout_ms / 3 + 1; /* it is asked up to three times */
	int r = read_object(k, ms, &object, found, error);
	if (!r && strcmp(found, from))
		r = GW__STORE_REFUSED;
	if (!r)
		r = write_object(k, object, to, ms, &status, error);
	json_decref(object);
	if (r || status != CONFLICT)
		return r;
	r = get(k, ms, found, error);
	if (!r && !strcmp(found, from))
		r = gw__error_set(error, -EREMOTEIO, "the Lease %s/%s was changed by somebody else, but not its holder", k->namespace,
			k->name);
	return r ? r : GW__STORE_REFUSED;
}

const struct gw__store_ops gw__store_kubernetes_ops = {get, swap, close_kubernetes};
