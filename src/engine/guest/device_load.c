/* SPDX-License-Identifier: MIT */
/* Device state on its way into a guest; see device_load.h. */
#include "engine/guest/device_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct gw__device_state {
	const struct gw__guest_device *device;
	uint32_t version;
	uint8_t *bytes;
	size_t n;
};

static const struct gw__guest_device *find_device(const struct gw__guest *g, const struct gw__section *section)
{
	for (uint32_t i = 0; i < g->devices_n; i++)
		if (g->device[i].instance == section->instance && !strcmp(g->device[i].name, section->idstr))
			return &g->device[i];
	return NULL;
}

static int check_device(const struct gw__device_load *l, const struct gw__section *section, const struct gw__guest_device *d,
	struct gw__error *error)
{
	if (section->type != GW__ITEM_FULL)
		return gw__error_set(error, -EOPNOTSUPP, "device \"%s\" comes in pieces, which nobody here can load", section->idstr);
	if (!d)
		return gw__error_set(error, -ENODEV, "the guest that comes has a device \"%s\", instance %u, which this one has not",
			section->idstr, section->instance);
	if (section->version > d->version || section->version < d->oldest)
		return gw__error_set(error, -ENOTSUP, "device \"%s\" comes in version %u, expected %u to %u", d->name, section->version,
			d->oldest, d->version);
	for (uint32_t i = 0; i < l->n; i++)
		if (l->state[i].device == d)
			return gw__error_set(error, -EPROTO, "device \"%s\" comes a second time", d->name);
	return 0;
}

/* be32 n and n bytes. */
static int keep_state(struct gw__device_load *l, const struct gw__section *section, const struct gw__guest_device *d, struct gw__view body,
	struct gw__error *error)
{
	if (body.n < 4 || gw__be_get(body.p, 4) != body.n - 4)
		return gw__error_set(error, -EPROTO, "device \"%s\": %zu bytes came, expected their number in the first four", d->name,
			body.n);
	struct gw__device_state *states = realloc(l->state, (l->n + 1) * sizeof *states);
	if (!states)
		return gw__error_set(error, -ENOMEM, "no memory for device \"%s\"", d->name);
	l->state = states;
	struct gw__device_state *to = &l->state[l->n];
	*to = (struct gw__device_state){.device = d, .version = section->version, .bytes = malloc(body.n), .n = body.n - 4};
	if (!to->bytes)
		return gw__error_set(error, -ENOMEM, "no memory for device \"%s\"", d->name);
	memcpy(to->bytes, body.p + 4, to->n);
	l->n++;
	return 0;
}

int gw__device_load_add(struct gw__device_load *l, const struct gw__section *section, struct gw__view raw, struct gw__error *error)
{
	const struct gw__guest_device *d = find_device(l->guest, section);
	size_t body_bytes = gw__section_body_bytes(section, raw.n);
	int r = check_device(l, section, d, error);
	struct gw__view body = {raw.p + (raw.n - GW__FOOTER_BYTES - body_bytes), body_bytes};
	return r ? r : keep_state(l, section, d, body, error);
}

int gw__device_load_check(const struct gw__device_load *l, struct gw__error *error)
{
	for (uint32_t i = 0; i < l->guest->devices_n; i++) {
		const struct gw__guest_device *d = &l->guest->device[i];
		uint32_t k = 0;
		while (k < l->n && l->state[k].device != d)
			k++;
		if (k == l->n && !d->optional)
			return gw__error_set(error, -ENODATA, "the guest that comes has no device \"%s\", instance %u, which this one has",
				d->name, d->instance);
	}
	return 0;
}

static int load(struct gw__device_load *l, const struct gw__device_state *state, struct gw__error *error)
{
	int r = state->device->load(state->device->ctx, state->version, state->bytes, state->n);
	if (!r)
		return 0;
	l->hook = true;
	return gw__error_set(error, r > 0 ? -EPROTO : r, "the hook that loads device \"%s\" failed", state->device->name);
}

int gw__device_load_run(struct gw__device_load *l, struct gw__error *error)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < l->n; i++)
		r = load(l, &l->state[i], error);
	return r;
}

void gw__device_load_clear(struct gw__device_load *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		free(l->state[i].bytes);
	free(l->state);
	*l = (struct gw__device_load){.guest = l->guest};
}
