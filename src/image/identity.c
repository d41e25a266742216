/* SPDX-License-Identifier: MIT */
/* What tells one kept guest from every other; see image.h and docs/spec/working-set.md 3. */
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/math.h"
#include "image/image.h"

enum { CHUNK = 65536 };

static void add_number(XXH3_state_t *x, uint64_t v, unsigned bytes)
{
	uint8_t b[8];
	gw__be_put(b, v, bytes);
	XXH3_128bits_update(x, b, bytes);
}

static void add_text(XXH3_state_t *x, const char *text) { XXH3_128bits_update(x, text, strlen(text) + 1); }

static int add_body(XXH3_state_t *x, const struct gw__image *image, const struct gw__image_device *d, struct gw__why *why)
{
	uint8_t buf[CHUNK];
	int r = 0;
	for (uint64_t at = 0, n; !r && at < d->body_bytes; at += n) {
		n = gw__min(sizeof buf, d->body_bytes - at);
		r = gw__image_read_at(image, d->body_off + at, buf, n, why);
		if (!r)
			XXH3_128bits_update(x, buf, n);
	}
	return r;
}

int gw__image_identity(const struct gw__image *image, uint8_t id[GW__IMAGE_IDENTITY_BYTES], struct gw__why *why)
{
	XXH3_state_t *x = XXH3_createState();
	XXH128_canonical_t canonical;
	int r = 0;
	if (!x)
		return gw__why_set(why, -ENOMEM, "no memory for a checksum");
	XXH3_128bits_reset(x);
	add_text(x, image->config.machine);
	add_number(x, gw__config_page_bytes(&image->config), 8);
	add_number(x, image->blocks.n, 4);
	for (uint32_t i = 0; i < image->blocks.n; i++) {
		const struct gw__block *b = &image->blocks.v[i];
		add_text(x, b->name);
		add_number(x, b->used_bytes, 8);
		add_number(x, b->ignored, 1);
	}
	for (uint32_t i = 0; !r && i < image->devices_n; i++)
		r = add_body(x, image, &image->devices[i], why);
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(x));
	XXH3_freeState(x);
	memcpy(id, &canonical, GW__IMAGE_IDENTITY_BYTES);
	return r;
}
