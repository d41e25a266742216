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

typedef int open_fn(const char *scheme, const char *rest, void **engine, struct gw__error *error);

static int open_file(const char *scheme, const char *rest, void **engine, struct gw__error *error)
{
	(void)scheme;
	return gw__store_open_file(rest, engine, error);
}

static const struct {
	const char *url, *scheme; /* and what is spoken there */
	const struct gw__store_ops *ops;
	open_fn *open;
} ENGINES[] = {{"file:", NULL, &gw__store_file_ops, open_file}, {"etcd:", "http", &gw__store_etcd_ops, gw__store_open_etcd},
	{"etcd+http:", "http", &gw__store_etcd_ops, gw__store_open_etcd},
	{"etcd+https:", "https", &gw__store_etcd_ops, gw__store_open_etcd}, {"etcds:", "https", &gw__store_etcd_ops, gw__store_open_etcd},
	{"k8s:", "https", &gw__store_kubernetes_ops, gw__store_open_kubernetes},
	{"k8s+http:", "http", &gw__store_kubernetes_ops, gw__store_open_kubernetes}};

static int open_engine(struct gw__store *s, const char *url, struct gw__error *error)
{
	for (unsigned i = 0; i < sizeof ENGINES / sizeof *ENGINES; i++) {
		size_t n = strlen(ENGINES[i].url);
		if (strncmp(url, ENGINES[i].url, n))
			continue;
		s->ops = ENGINES[i].ops;
		return ENGINES[i].open(ENGINES[i].scheme, url + n, &s->engine, error);
	}
	return gw__error_set(error, -EINVAL,
		"\"%.200s\" is not a lease: expected etcd://HOST:PORT/KEY, etcds://HOST:PORT/KEY, k8s://HOST:PORT/NAMESPACE/NAME or file:PATH",
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
