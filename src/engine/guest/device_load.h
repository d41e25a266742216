/* SPDX-License-Identifier: MIT */
/* Device sections that came for a guest of this process, checked and kept until they are loaded, in the order in which they came. One thread. */
#ifndef GW_ENGINE_GUEST_DEVICE_LOAD_H
#define GW_ENGINE_GUEST_DEVICE_LOAD_H

#include "base/error.h"
#include "guest/guest.h"
#include "wire/framing.h"
#include "base/bytes.h"

struct gw__device_load {
	const struct gw__guest *guest;
	struct gw__device_state *state;
	uint32_t n;
	bool hook; /* a hook failed */
};

/* A whole section, header and footer included; it is copied. -ENODEV, -ENOTSUP, -EPROTO: this guest cannot take it. */
int gw__device_load_add(struct gw__device_load *l, const struct gw__section *section, struct gw__view raw, struct gw__error *error);
/* Is everything there that this guest needs? */
int gw__device_load_check(const struct gw__device_load *l, struct gw__error *error);
/* The guest stands still. */
int gw__device_load_run(struct gw__device_load *l, struct gw__error *error);
void gw__device_load_clear(struct gw__device_load *l);

#endif
