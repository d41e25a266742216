/* SPDX-License-Identifier: MIT */
/* Questions by HTTP that are answered with JSON, by libcurl: what the stores behind a server have in common. One thread at a time. */
#ifndef GW_STORE_HTTP_H
#define GW_STORE_HTTP_H

#include <jansson.h>
#include <stdbool.h>

#include "store/curl_library.h"

enum { GW__HTTP_PATH_BYTES = 512, GW__HTTP_ANSWER_BYTES = 65536 };

struct gw__http { /* zeroed: none */
	const struct gw__curl_library *lib;
	CURL *curl;
	char cacert[GW__HTTP_PATH_BYTES], cert[GW__HTTP_PATH_BYTES], key[GW__HTTP_PATH_BYTES];
	char answer[GW__HTTP_ANSWER_BYTES];
	size_t answer_n;
};

struct gw__http_request {
	const char *method, *url;
	const char *body;          /* JSON; NULL: none */
	const char *authorization; /* the value of that header; NULL: none */
	int timeout_ms;
};

/* An option of a URL and where its value goes, GW__HTTP_PATH_BYTES of it. */
struct gw__http_option {
	const char *name; /* with its "=" */
	char *to;
};

/* -ENOENT: libcurl is not here. */
int gw__http_open(struct gw__http *h, struct gw__error *error);
void gw__http_close(struct gw__http *h);
/* "NAME=VALUE&..." of a URL: cacert=, cert=, key= and `more` (n of them). -EINVAL: another one, or they do not go together. `what` it is, for the message. */
int gw__http_set_options(struct gw__http *h, const char *text, bool tls, const struct gw__http_option *more, unsigned n, const char *what,
	struct gw__error *error);
/* CURLE_OK: *status, and *answer is JSON or NULL. */
CURLcode gw__http_ask(struct gw__http *h, const struct gw__http_request *q, long *status, json_t **answer);
/* Nothing was sent, so that another server may be asked the same. */
bool gw__http_was_not_sent(CURLcode c);

#endif
