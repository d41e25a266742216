/* SPDX-License-Identifier: MIT */
/* The package of post-copy; see package.h. */
#include "wire/package.h"

#include <errno.h>

#include "wire/trailer.h"

enum { BARE_COMMAND_BYTES = 5, PING_BYTES = 9 };

static bool stands(const uint8_t *p, uint16_t number, uint16_t length)
{
	return p[0] == GW__ITEM_COMMAND && gw__be_get(p + 1, 2) == number && gw__be_get(p + 3, 2) == length;
}

static int take_ends(struct gw__package *p, struct gw__error *error)
{
	if (p->bytes < 2 * BARE_COMMAND_BYTES || !stands(p->blob, GW__CMD_POSTCOPY_LISTEN, 0))
		return gw__error_set(error, -EPROTO, "a package of %zu bytes that does not begin with POSTCOPY_LISTEN", p->bytes);
	p->at = BARE_COMMAND_BYTES;
	p->devices_end = p->bytes - BARE_COMMAND_BYTES;
	if (!stands(p->blob + p->devices_end, GW__CMD_POSTCOPY_RUN, 0))
		return gw__error_set(error, -EPROTO, "a package of %zu bytes that does not end with POSTCOPY_RUN", p->bytes);
	uint32_t backwards[GW__PACKAGE_PINGS_MAX];
	while (p->pings_n < GW__PACKAGE_PINGS_MAX && p->devices_end - p->at >= PING_BYTES &&
		stands(p->blob + p->devices_end - PING_BYTES, GW__CMD_PING, 4)) {
		backwards[p->pings_n++] = (uint32_t)gw__be_get(p->blob + p->devices_end - 4, 4);
		p->devices_end -= PING_BYTES;
	}
	for (unsigned i = 0; i < p->pings_n; i++)
		p->ping[i] = backwards[p->pings_n - 1 - i];
	return 0;
}

/* The commands after the devices are shown too: they are what makes the last footer plausible. */
static int take_device(struct gw__package *p, struct gw__section *section, const uint8_t **raw, size_t *raw_bytes, struct gw__error *error)
{
	size_t body_at, body_bytes;
	int r = gw__trailer_split(NULL, 0, p->blob + p->at, p->bytes - p->at, true, section, &body_at, &body_bytes, NULL, error);
	if (r)
		return r;
	*raw = p->blob + p->at;
	*raw_bytes = body_at + body_bytes + GW__FOOTER_BYTES;
	if (*raw_bytes > p->devices_end - p->at)
		return gw__error_set(error, -EPROTO, "device \"%s\" runs past the end of the devices in the package", section->idstr);
	p->at += *raw_bytes;
	return 0;
}

int gw__package_decode(const uint8_t *blob, size_t n, struct gw__package *p, struct gw__error *error)
{
	struct gw__section section;
	const uint8_t *raw;
	size_t raw_bytes;
	*p = (struct gw__package){.blob = blob, .bytes = n};
	int r = take_ends(p, error);
	while (!r && p->at < p->devices_end)
		r = take_device(p, &section, &raw, &raw_bytes, error);
	p->at = BARE_COMMAND_BYTES;
	return r == GW__SHORT ? gw__error_set(error, -EPROTO, "the package ends inside a device") : r;
}

int gw__package_next(struct gw__package *p, struct gw__section *section, const uint8_t **raw, size_t *raw_bytes)
{
	return p->at < p->devices_end && take_device(p, section, raw, raw_bytes, NULL) == 0;
}
