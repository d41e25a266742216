/* SPDX-License-Identifier: MIT */
/* Which engine a URL means; see store.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_private.h"

struct gw__store {
	const struct gw__store_ops *ops;
	void *engine;
};

static int open_engine(struct gw__store *s, const char *url, struct gw__error *error)
{
	static const char *const etcd[] = {"etcd", "etcd+http", "etcd+https", "etcds"};
	const char *colon = strchr(url, ':');
	size_t n = colon ? (size_t)(colon - url) : 0;
	s->ops = &gw__store_file_ops;
	if (n == 4 && !strncmp(url, "file", n))
		return gw__store_open_file(colon + 1, &s->engine, error);
	s->ops = &gw__store_etcd_ops;
	for (unsigned i = 0; i < sizeof etcd / sizeof *etcd; i++)
		if (n == strlen(etcd[i]) && !strncmp(url, etcd[i], n))
			return gw__store_open_etcd(i >= 2 ? "https" : "http", colon + 1, &s->engine, error);
	return gw__error_set(error, -EINVAL, "\"%.200s\" is not a lease: expected etcd://HOST:PORT/KEY, etcds://HOST:PORT/KEY or file:PATH",
		url);
}

int gw__store_open(const char *url, struct gw__store **store, struct gw__error *error)
{
	struct gw__store *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(error, -ENOMEM, "no memory");
	int r = open_engine(s, url, error);
	if (r) {
		free(s);
		return r;
	}
	*store = s;
	return 0;
}

int gw__store_get(struct gw__store *s, int timeout_ms, char text[GW__STORE_TEXT_BYTES], struct gw__error *error)
{
	*text = 0;
	return s->ops->get(s->engine, timeout_ms, text, error);
}

int gw__store_swap(struct gw__store *s, int timeout_ms, const char *from, const char *to, char found[GW__STORE_TEXT_BYTES],
	struct gw__error *error)
{
	*found = 0;
	return s->ops->swap(s->engine, timeout_ms, from, to, found, error);
}

void gw__store_close(struct gw__store *s)
{
	if (!s)
		return;
	s->ops->close(s->engine);
	free(s);
}
