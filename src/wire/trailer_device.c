/* SPDX-License-Identifier: MIT */
/*
 * Where one section ends that carries no length: by its footer, or, after RAM, by what the VM description says of the device;
 * see trailer.h and docs/spec/stream.md 8.2. Not where the stream ends (trailer.c). No state: any thread, on its own bytes.
 */
#include <errno.h>

#include "wire/trailer_private.h"

/* Do these bytes look like the item after a footer? 0 yes, GW__SHORT cannot tell yet, -1 no. */
static int plausible_item(const uint8_t *p, size_t n, bool last, gw__section_open_fn *is_open, void *ctx)
{
	const int unsure = last ? -1 : GW__SHORT;
	if (n == 0)
		return unsure;
	struct gw__rd c = gw__rd_over(p, n);
	struct gw__section s;
	switch (p[0]) {
	case GW__ITEM_EOF:
		if (n == 1)
			return last ? 0 : GW__SHORT;
		return p[1] == GW__ITEM_VMDESC ? 0 : -1;
	case GW__ITEM_START:
	case GW__ITEM_FULL: {
		int r = gw__section_decode(&c, &s, NULL);
		return r == GW__SHORT ? unsure : r;
	}
	case GW__ITEM_PART:
	case GW__ITEM_END:
		if (gw__section_decode(&c, &s, NULL))
			return unsure;
		return is_open && is_open(ctx, s.id) ? 0 : -1;
	case GW__ITEM_COMMAND:
		if (n < 3)
			return unsure;
		return gw__be_get(p + 1, 2) >= 1 && gw__be_get(p + 1, 2) <= GW__CMD_SWITCHOVER_START ? 0 : -1;
	default:
		return -1;
	}
}

int gw__body_find_end(const uint8_t *body, size_t n, bool last, uint32_t id, gw__section_open_fn *is_open, void *ctx, size_t *from,
	size_t *len)
{
	for (;;) {
		const uint8_t *hit = *from < n ? memchr(body + *from, GW__ITEM_FOOTER, n - *from) : NULL;
		if (!hit) {
			*from = n;
			return last ? -EPROTO : GW__SHORT;
		}
		size_t at = (size_t)(hit - body);
		*from = at;
		if (n - at < GW__FOOTER_BYTES)
			return last ? -EPROTO : GW__SHORT;
		if (gw__be_get(hit + 1, 4) == id) {
			int r = plausible_item(hit + GW__FOOTER_BYTES, n - at - GW__FOOTER_BYTES, last, is_open, ctx);
			if (r == GW__SHORT)
				return GW__SHORT;
			if (r == 0) {
				*len = at;
				return 0;
			}
		}
		*from = at + 1;
	}
}

int gw__trailer_check_described(const struct gw__vmdesc *desc, size_t i, const struct gw__section *s, struct gw__error *error)
{
	if (i >= gw__vmdesc_count(desc))
		return gw__error_set(error, -EPROTO, "device \"%s\" instance %u is not in the VM description, which lists %zu devices",
			s->idstr, s->instance, gw__vmdesc_count(desc));
	struct gw__vmdesc_device d = gw__vmdesc_device(desc, i);
	if (strcmp(d.name, s->idstr) || d.instance != s->instance)
		return gw__error_set(error, -EPROTO,
			"device %zu of the stream is \"%s\" instance %u, but the VM description says \"%s\" instance %u", i, s->idstr,
			s->instance, d.name, d.instance);
	if (d.has_version && d.version != s->version)
		return gw__error_set(error, -EPROTO, "device \"%s\" has version %u, but the VM description says %u", s->idstr, s->version,
			d.version);
	return 0;
}

/* Is the footer where the walk says? The walk can be wrong: compressed arrays state the first element's size only. */
static bool walked(const struct gw__vmdesc *desc, size_t i, const struct gw__section *s, const struct gw__rd *c, size_t *len)
{
	size_t left = gw__rd_left(c);
	if (gw__vmdesc_walk(desc, i, c->p, left, len, NULL, NULL, NULL))
		return false;
	struct gw__rd footer = gw__rd_over(c->p + *len, left - *len);
	return gw__footer_decode(&footer, s->id, NULL) == 0;
}

/* Does what the description says come next stand here, after device i? */
static bool next_follows(const struct gw__vmdesc *desc, size_t i, const uint8_t *bytes, size_t n)
{
	struct gw__rd c = gw__rd_over(bytes, n);
	struct gw__section s;
	if (n && bytes[0] == GW__ITEM_COMMAND)
		return true;
	if (i + 1 >= gw__vmdesc_count(desc))
		return n && bytes[0] == GW__ITEM_EOF;
	return gw__section_decode(&c, &s, NULL) == 0 && s.type == GW__ITEM_FULL && gw__trailer_check_described(desc, i + 1, &s, NULL) == 0;
}

/* The body's length by its footer. With a description only a footer counts that the next described thing follows. */
static int search(const struct gw__vmdesc *desc, size_t i, const struct gw__section *s, const struct gw__rd *c, bool last, size_t *len)
{
	size_t left = gw__rd_left(c);
	for (size_t from = 0;; from = *len + 1) {
		int r = gw__body_find_end(c->p, left, last, s->id, NULL, NULL, &from, len);
		size_t next = r ? left : *len + GW__FOOTER_BYTES;
		if (r || !desc || next_follows(desc, i, c->p + next, left - next))
			return r;
	}
}

int gw__trailer_split(const struct gw__vmdesc *desc, size_t i, const uint8_t *bytes, size_t n, bool last, struct gw__section *section,
	size_t *body_at, size_t *body_len, bool *searched, struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(bytes, n);
	int r = gw__section_decode(&c, section, error);
	if (r)
		return r == GW__SHORT && last ? gw__error_set(error, -EPROTO, "the stream ends inside a section header") : r;
	*body_at = gw__rd_used(&c);
	if (section->type != GW__ITEM_FULL)
		return gw__error_set(error, -EPROTO, "section %u of type %02x stands among the devices, expected type 04", section->id,
			section->type);
	r = desc ? gw__trailer_check_described(desc, i, section, error) : 0;
	if (r)
		return r;
	bool by_walk = desc && walked(desc, i, section, &c, body_len);
	if (searched)
		*searched = desc && !by_walk;
	if (by_walk)
		return 0;
	r = search(desc, i, section, &c, last, body_len);
	if (r < 0)
		return gw__error_set(error, -EPROTO, "device \"%s\" instance %u: no footer of section %u follows it", section->idstr,
			section->instance, section->id);
	return r;
}
