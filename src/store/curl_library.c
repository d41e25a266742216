/* SPDX-License-Identifier: MIT */
/* Loads libcurl; see curl_library.h. */
#include "store/curl_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#define FUNCTION(name)                                                                                                                     \
	{                                                                                                                                  \
		"curl_" #name, offsetof(struct gw__curl_library, name)                                                                     \
	}
static const struct {
	const char *name;
	size_t place;
} FUNCTIONS[] = {FUNCTION(global_init), FUNCTION(easy_init), FUNCTION(easy_setopt), FUNCTION(easy_perform), FUNCTION(easy_getinfo),
	FUNCTION(easy_strerror), FUNCTION(easy_cleanup), FUNCTION(slist_append), FUNCTION(slist_free_all)};

/* Debian's build with GnuTLS, which this process has anyway, then whatever else is there. */
static const char *const NAMES[] = {"libcurl-gnutls.so.4", "libcurl.so.4"};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct gw__curl_library loaded;
static char failure[256];

static bool find_all(void *handle)
{
	for (size_t i = 0; i < sizeof FUNCTIONS / sizeof *FUNCTIONS; i++) {
		void *f = dlsym(handle, FUNCTIONS[i].name);
		if (!f)
			return false;
		memcpy((char *)&loaded + FUNCTIONS[i].place, &f, sizeof f);
	}
	return true;
}

static void load(void)
{
	void *handle = NULL;
	for (size_t i = 0; !handle && i < sizeof NAMES / sizeof *NAMES; i++)
		handle = dlopen(NAMES[i], RTLD_NOW | RTLD_LOCAL);
	if (handle && find_all(handle) && !loaded.global_init(CURL_GLOBAL_DEFAULT))
		return;
	const char *why = dlerror();
	strncpy(failure, why ? why : "it cannot be set up", sizeof failure - 1);
}

int gw__curl_library_get(const struct gw__curl_library **library, struct gw__error *error)
{
	pthread_once(&once, load);
	*library = &loaded;
	return failure[0]
		       ? gw__error_set(error, -ENOENT,
				 "a lease in etcd or Kubernetes needs libcurl, which cannot be loaded (%s): install it (Debian: libcurl3-gnutls)",
				 failure)
		       : 0;
}
