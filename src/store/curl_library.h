/* SPDX-License-Identifier: MIT */
/*
 * libcurl, loaded when it is first needed. It brings 18 libraries more, which would be half of the start of every command, and only a lease behind a server needs it.
 */
#ifndef GW_STORE_CURL_LIBRARY_H
#define GW_STORE_CURL_LIBRARY_H

#include <curl/curl.h>

#include "base/error.h"

struct gw__curl_library { /* its functions, under their names */
	__typeof__(curl_global_init) *global_init;
	__typeof__(curl_easy_init) *easy_init;
	__typeof__(curl_easy_setopt) *easy_setopt;
	__typeof__(curl_easy_perform) *easy_perform;
	__typeof__(curl_easy_getinfo) *easy_getinfo;
	__typeof__(curl_easy_strerror) *easy_strerror;
	__typeof__(curl_easy_cleanup) *easy_cleanup;
	__typeof__(curl_slist_append) *slist_append;
	__typeof__(curl_slist_free_all) *slist_free_all;
};

/* It stays loaded, and is set up. -ENOENT: it is not installed, or lacks something. Any thread. */
int gw__curl_library_get(const struct gw__curl_library **library, struct gw__error *error);

#endif
