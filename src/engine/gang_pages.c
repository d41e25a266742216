/* SPDX-License-Identifier: MIT */
/* What a receiving worker does with the pages of a packet that was judged: each straight to its place. See gang.h. */
#include <errno.h>
#include <stdlib.h>

#include "engine/gang_internal.h"
#include "image/lane.h"

/* Nothing announces the method: the first packet with pages does, for the life of the channel. */
static int agree_method(struct gw__gang_worker *w, struct gw__why *why)
{
	uint32_t method = w->packet.flags & GW__MULTIFD_METHOD_MASK;
	if (w->has_method && method == atomic_load(&w->method))
		return 0;
	if (w->has_method)
		return gw__why_set(why, -EPROTO, "compression method %02x after %02x on the same channel", method, atomic_load(&w->method));
	w->has_method = true;
	atomic_store(&w->method, method);
	if (!method)
		return 0;
	w->packed = malloc(GW__MULTIFD_PAYLOAD_MAX + GW__MULTIFD_PACKET_BYTES);
	if (!w->packed)
		return gw__why_set(why, -ENOMEM, "no memory to unpack pages");
	return gw__unpacker_new(method, &w->unpacker, why);
}

struct page {
	uint64_t off;
	uint32_t at; /* in the payload */
};

static int compare_pages(const void *a, const void *b)
{
	const struct page *x = a, *y = b;
	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	return x->at < y->at ? -1 : 1; /* of one that comes twice the last counts */
}

static bool is_ascending(const uint64_t *off, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++)
		if (off[i] < off[i - 1])
			return false;
	return true;
}

/*
 * A source that names zero pages in its packets sends the others in no order, often backwards (docs/spec/multifd.md 3). In the
 * order of the block they stand together, and are written in runs. slot[i]: where the i-th of the payload belongs then.
 */
static void sort_pages(struct gw__multifd_packet *p, uint32_t *slot)
{
	struct page sorted[GW__MULTIFD_PAGES_MAX];
	for (uint32_t i = 0; i < p->normal; i++)
		sorted[i] = (struct page){p->off[i], i};
	qsort(sorted, p->normal, sizeof *sorted, compare_pages);
	for (uint32_t i = 0; i < p->normal; i++) {
		p->off[i] = sorted[i].off;
		slot[sorted[i].at] = i;
	}
}

/* Where the payload goes, from its first byte on; the packet's pages are in order afterwards. Returns how many places. */
static int find_places(struct gw__gang_worker *w, uint8_t *to)
{
	const size_t page_bytes = w->gang->page_bytes;
	uint32_t slot[GW__MULTIFD_PAGES_MAX];
	int n = 0;
	if (is_ascending(w->packet.off, w->packet.normal)) {
		w->places[0] = (struct iovec){to, w->packet.normal * page_bytes};
		return 1;
	}
	sort_pages(&w->packet, slot);
	for (uint32_t i = 0; i < w->packet.normal; i++) {
		if (i && slot[i] == slot[i - 1] + 1)
			w->places[n - 1].iov_len += page_bytes;
		else
			w->places[n++] = (struct iovec){to + slot[i] * page_bytes, page_bytes};
	}
	return n;
}

static int read_payload(struct gw__gang_worker *w, struct iovec *places, int places_n, struct gw__why *why)
{
	const size_t n = w->packet.payload_bytes;
	size_t got;
	int r = gw__chan_read_fullv(w->chan, places, places_n, &got, why);
	if (r || got == n)
		return r;
	if (got == 0)
		return gw__why_set(why, -EPROTO, "the channel ends between a packet's header and its %zu bytes of pages", n);
	return gw__why_set(why, -EPROTO, "the channel ends inside the pages of a packet (%zu of %zu bytes)", got, n);
}

static int unpack_pages(struct gw__gang_worker *w, int places_n, struct gw__why *why)
{
	const size_t n = w->packet.payload_bytes, bytes = w->packet.normal * w->gang->page_bytes;
	struct iovec packed = {w->packed, n};
	uint8_t *plain = places_n == 1 ? w->places[0].iov_base : w->packed + GW__MULTIFD_PAYLOAD_MAX;
	int r = read_payload(w, &packed, 1, why);
	if (!r)
		r = gw__unpack(w->unpacker, w->packed, n, plain, bytes, why);
	for (int i = 0; !r && places_n > 1 && i < places_n; i++) {
		memcpy(w->places[i].iov_base, plain, w->places[i].iov_len);
		plain += w->places[i].iov_len;
	}
	return r;
}

int gw__gang_put_normal(struct gw__gang_worker *w, uint32_t block, struct gw__why *why)
{
	void *buffer;
	int r = agree_method(w, why);
	if (!r)
		r = gw__lane_take(w->lane, &buffer, why);
	if (r)
		return r;
	int places_n = find_places(w, buffer);
	r = w->unpacker ? unpack_pages(w, places_n, why) : read_payload(w, w->places, places_n, why);
	return r ? r : gw__lane_put(w->lane, block, w->packet.off, w->packet.normal, why);
}

/* How many pages from the first on follow each other, upwards or downwards; *low: the lowest of them. */
static uint32_t run_of_zeros(const uint64_t *off, uint32_t n, uint64_t page_bytes, uint64_t *low)
{
	const uint64_t step = n > 1 && off[1] < off[0] ? -page_bytes : page_bytes;
	uint32_t i = 1;
	while (i < n && off[i] == off[i - 1] + step)
		i++;
	*low = step == page_bytes ? off[0] : off[i - 1];
	return i;
}

int gw__gang_put_zeros(struct gw__gang_worker *w, uint32_t block, struct gw__why *why)
{
	const uint64_t *off = w->packet.off + w->packet.normal;
	for (uint32_t left = w->packet.zero, n; left; off += n, left -= n) {
		uint64_t low;
		n = run_of_zeros(off, left, w->gang->page_bytes, &low);
		int r = w->gang->sink->ops->zeros(w->gang->sink, block, low, n, why);
		if (r)
			return r;
	}
	return 0;
}
