/* SPDX-License-Identifier: MIT */
/*
 * A place for one text that several hosts change by compare-and-swap: the store of a lease (docs/LEASE.md). Linearizable, or it does not answer.
 *
 *   file:PATH                                  a file of this host: for processes that share its kernel
 *   etcd://HOST:PORT[,HOST:PORT...]/KEY        etcd 3.4 or later, by its JSON gateway, with transactions alone
 *   etcds://...?cacert=F&cert=F&key=F          (or etcd+https:) the same by TLS; user=NAME&password-file=F where etcd asks for them
 *   k8s://HOST:PORT/NAMESPACE/NAME?...         a Lease object of a Kubernetes by TLS: cacert=F&cert=F&key=F, token-file=F
 *   k8s+http://...                             the same in the clear, as kubectl proxy offers it
 *
 * It knows nothing of leases. One thread at a time per store; prints nothing.
 */
#ifndef GW_STORE_STORE_H
#define GW_STORE_STORE_H

#include "base/error.h"

enum { GW__STORE_TEXT_BYTES = 1024, GW__STORE_REFUSED = 1 };

struct gw__store;

/* Looks at the URL only: nobody is asked. -EINVAL: it is not one. */
int gw__store_open(const char *url, struct gw__store **store, struct gw__error *error);
/* 0: `text` is what is stored, "" nothing. A failure: it did not answer within the time. */
int gw__store_get(struct gw__store *s, int timeout_ms, char text[GW__STORE_TEXT_BYTES], struct gw__error *error);
/*
 * If `from` ("": nothing) is stored, put `to` in its place. 0: done. GW__STORE_REFUSED: something else is stored, `found`. A failure: it did not answer, and
 * may have done it, or do it yet.
 */
int gw__store_swap(struct gw__store *s, int timeout_ms, const char *from, const char *to, char found[GW__STORE_TEXT_BYTES],
	struct gw__error *error);
void gw__store_close(struct gw__store *s); /* NULL is fine */

#endif
