/* SPDX-License-Identifier: MIT */
/* What an engine of a store is; see store.h. */
#ifndef GW_STORE_STORE_PRIVATE_H
#define GW_STORE_STORE_PRIVATE_H

#include "store/store.h"

struct gw__store_ops {
	int (*get)(void *engine, int timeout_ms, char *text, struct gw__error *error);
	int (*swap)(void *engine, int timeout_ms, const char *from, const char *to, char *found, struct gw__error *error);
	void (*close)(void *engine);
};

/* `rest`: of the URL, what follows the scheme and its colon. */
int gw__store_open_file(const char *rest, void **engine, struct gw__error *error);
int gw__store_open_etcd(const char *scheme, const char *rest, void **engine, struct gw__error *error);
int gw__store_open_kubernetes(const char *scheme, const char *rest, void **engine, struct gw__error *error);
extern const struct gw__store_ops gw__store_file_ops, gw__store_etcd_ops, gw__store_kubernetes_ops;

#endif
