/* SPDX-License-Identifier: MIT */
/* See deltas.h. */
#include "engine/guest/deltas.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "image/file/zero.h"
#include "wire/ram.h"
#include "wire/xbzrle.h"

enum { HEAD_BYTES = 3 }; /* of a delta: its type, and be16 its length */

struct gw__deltas {
	uint64_t page_bytes, places;
	uint64_t *number; /* of the page in each place, and one more; 0: none */
	uint8_t *sent;    /* a page for each place */
	uint8_t *pages;   /* a page for each entry of a batch: what does not change any more; and */
	uint8_t *delta;   /* HEAD_BYTES and room for as much */
};

int gw__deltas_new(uint64_t bytes, uint64_t page_bytes, uint32_t batch, struct gw__deltas **deltas, struct gw__error *error)
{
	struct gw__deltas *d = calloc(1, sizeof *d);
	if (!d)
		return gw__error_set(error, -ENOMEM, "no memory for deltas");
	d->page_bytes = page_bytes;
	d->places = gw__max(bytes / page_bytes, 1);
	d->number = calloc(d->places, sizeof *d->number);
	d->sent = malloc(d->places * page_bytes);
	d->pages = malloc(batch * page_bytes);
	d->delta = malloc(batch * (HEAD_BYTES + page_bytes));
	if (!d->number || !d->sent || !d->pages || !d->delta) {
		gw__deltas_free(d);
		return gw__error_set(error, -ENOMEM, "no memory for %llu bytes of pages as they were sent", (unsigned long long)bytes);
	}
	*deltas = d;
	return 0;
}

void gw__deltas_free(struct gw__deltas *d)
{
	if (!d)
		return;
	free(d->number);
	free(d->sent);
	free(d->pages);
	free(d->delta);
	free(d);
}

static size_t encode(struct gw__deltas *d, const uint8_t *old, const uint8_t *new, uint8_t *delta)
{
	int n = gw__xbzrle_encode(old, new, d->page_bytes, delta + HEAD_BYTES, gw__min(d->page_bytes, UINT16_MAX));
	if (n <= 0)
		return n ? SIZE_MAX : 0;
	delta[0] = GW__XBZRLE_TYPE;
	delta[1] = (uint8_t)(n >> 8);
	delta[2] = (uint8_t)n;
	return HEAD_BYTES + (size_t)n;
}

uint32_t gw__deltas_take(struct gw__deltas *d, uint32_t i, uint64_t number, const uint8_t *page, struct iovec *body)
{
	uint64_t at = number % d->places;
	uint8_t *sent = d->sent + at * d->page_bytes, *now = d->pages + i * d->page_bytes;
	uint8_t *delta = d->delta + i * (HEAD_BYTES + d->page_bytes);
	bool known = d->number[at] == number + 1;
	memcpy(now, page, d->page_bytes);
	*body = (struct iovec){0};
	if (gw__is_zero(now, d->page_bytes)) {
		d->number[at] = known ? 0 : d->number[at];
		return GW__RAM_ZERO;
	}
	size_t n = known ? encode(d, sent, now, delta) : SIZE_MAX;
	if (!n)
		return 0;
	d->number[at] = number + 1;
	memcpy(sent, now, d->page_bytes);
	if (n < d->page_bytes) {
		*body = (struct iovec){delta, n};
		return GW__RAM_XBZRLE;
	}
	*body = (struct iovec){now, d->page_bytes};
	return GW__RAM_PAGE;
}
