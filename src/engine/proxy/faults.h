/* SPDX-License-Identifier: MIT */
/* Which faults of a proxy hold for which channel, and which cuts have happened. Any thread. */
#ifndef GW_ENGINE_PROXY_FAULTS_H
#define GW_ENGINE_PROXY_FAULTS_H

#include <stdatomic.h>

#include "engine/proxy/proxy.h"

struct gw__faults {
	const struct gw__fault *v;
	unsigned n;
	_Atomic bool spent[GW__FAULTS_MAX];
};
/* The first of this kind, not spent, that fits; -1: none. */
int gw__faults_find(const struct gw__faults *f, enum gw__fault_kind kind, const char *channel, enum gw__proxy_direction d);
/* Slow a channel that is read from, by all rates that fit. */
int gw__faults_slow(const struct gw__faults *f, const char *channel, enum gw__proxy_direction d, struct gw__chan **from,
	struct gw__error *error);
int gw__faults_check(const struct gw__fault *v, unsigned n, struct gw__error *error); /* 0 or -EINVAL */

#endif
