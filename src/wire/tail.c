/* SPDX-License-Identifier: MIT */
/* Ends of things without a length; see tail.h and docs/spec/stream.md 8.2, 9. */
#include "wire/tail.h"

#include <errno.h>

enum { DESC_HEAD_BYTES = 6 /* 00 06 be32 */ };

/* Do these bytes look like the item behind a footer? 0 yes, GW__SHORT cannot tell yet, -1 no. */
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

int gw__body_find_end(const uint8_t *body, size_t n, bool last, uint32_t id, gw__section_open_fn *is_open, void *ctx,
	size_t *from, size_t *len)
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

static int check_described(const struct gw__vmdesc *desc, size_t i, const struct gw__section *s, struct gw__why *why)
{
	if (i >= gw__vmdesc_count(desc))
		return gw__why_set(why, -EPROTO, "device \"%s\" instance %u is not in the VM description, which lists %zu devices",
			s->idstr, s->instance, gw__vmdesc_count(desc));
	struct gw__vmdesc_device d = gw__vmdesc_device(desc, i);
	if (strcmp(d.name, s->idstr) || d.instance != s->instance)
		return gw__why_set(why, -EPROTO,
			"device %zu of the stream is \"%s\" instance %u, but the VM description says \"%s\" instance %u", i, s->idstr,
			s->instance, d.name, d.instance);
	if (d.has_version && d.version != s->version)
		return gw__why_set(why, -EPROTO, "device \"%s\" has version %u, but the VM description says %u", s->idstr, s->version,
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

/* Does what the description says come next stand here, behind device i? */
static bool next_follows(const struct gw__vmdesc *desc, size_t i, const uint8_t *bytes, size_t n)
{
	struct gw__rd c = gw__rd_over(bytes, n);
	struct gw__section s;
	if (n && bytes[0] == GW__ITEM_COMMAND)
		return true;
	if (i + 1 >= gw__vmdesc_count(desc))
		return n && bytes[0] == GW__ITEM_EOF;
	return gw__section_decode(&c, &s, NULL) == 0 && s.type == GW__ITEM_FULL && check_described(desc, i + 1, &s, NULL) == 0;
}

/* The body's length by its footer. With a description only a footer counts that the next described thing stands behind. */
static int search(const struct gw__vmdesc *desc, size_t i, const struct gw__section *s, const struct gw__rd *c, bool last,
	size_t *len)
{
	size_t left = gw__rd_left(c);
	for (size_t from = 0;; from = *len + 1) {
		int r = gw__body_find_end(c->p, left, last, s->id, NULL, NULL, &from, len);
		size_t next = r ? left : *len + GW__FOOTER_BYTES;
		if (r || !desc || next_follows(desc, i, c->p + next, left - next))
			return r;
	}
}

int gw__tail_split(const struct gw__vmdesc *desc, size_t i, const uint8_t *bytes, size_t n, bool last,
	struct gw__section *section, size_t *body_at, size_t *body_len, bool *searched, struct gw__why *why)
{
	struct gw__rd c = gw__rd_over(bytes, n);
	int r = gw__section_decode(&c, section, why);
	if (r)
		return r == GW__SHORT && last ? gw__why_set(why, -EPROTO, "the stream ends inside a section header") : r;
	*body_at = gw__rd_used(&c);
	if (section->type != GW__ITEM_FULL)
		return gw__why_set(why, -EPROTO, "section %u of type %02x stands among the devices, expected type 04", section->id,
			section->type);
	r = desc ? check_described(desc, i, section, why) : 0;
	if (r)
		return r;
	bool by_walk = desc && walked(desc, i, section, &c, body_len);
	if (searched)
		*searched = desc && !by_walk;
	if (by_walk)
		return 0;
	r = search(desc, i, section, &c, last, body_len);
	if (r < 0)
		return gw__why_set(why, -EPROTO, "device \"%s\" instance %u: no footer of section %u follows it", section->idstr,
			section->instance, section->id);
	return r;
}

/* The length of the command at the start of `bytes`, or -EPROTO. SWITCHOVER_START may stand anywhere. */
static int command_bytes(const uint8_t *bytes, size_t n, size_t *used, struct gw__why *why)
{
	struct gw__rd c = gw__rd_over(bytes, n);
	struct gw__command cmd;
	int r = gw__command_decode(&c, &cmd, why);
	*used = gw__rd_used(&c);
	return r == GW__SHORT ? gw__why_set(why, -EPROTO, "the stream ends inside a command") : r;
}

/* The length of the section at the start of `bytes`, with its footer, or -EPROTO. */
static int device_bytes(const struct gw__vmdesc *desc, size_t i, const uint8_t *bytes, size_t n, size_t *used, struct gw__why *why)
{
	struct gw__section s;
	size_t body_at, body_len;
	int r = gw__tail_split(desc, i, bytes, n, true, &s, &body_at, &body_len, NULL, why);
	if (!r)
		*used = body_at + body_len + GW__FOOTER_BYTES;
	return r;
}

/* Splits everything before the EOF byte at `eof_at`: 0 when the devices end exactly there and none is missing. */
static int split_all(const struct gw__vmdesc *desc, size_t early_n, const uint8_t *tail, size_t eof_at, size_t n,
	struct gw__why *why)
{
	size_t at = 0, i = early_n;
	while (at < eof_at) {
		size_t used = 0;
		int r = tail[at] == GW__ITEM_COMMAND ? command_bytes(tail + at, n - at, &used, why)
						     : device_bytes(desc, i++, tail + at, n - at, &used, why);
		if (r)
			return r;
		at += used;
	}
	if (at != eof_at)
		return gw__why_set(why, -EPROTO, "the last device runs past the end of the stream");
	if (desc && i != gw__vmdesc_count(desc))
		return gw__why_set(why, -EPROTO, "%zu devices are in the stream, but the VM description lists %zu", i,
			gw__vmdesc_count(desc));
	return 0;
}

static int check_early(const struct gw__vmdesc *desc, const struct gw__section *early, size_t early_n, struct gw__why *why)
{
	int r = 0;
	for (size_t i = 0; !r && i < early_n; i++)
		r = check_described(desc, i, &early[i], why);
	return r;
}

static size_t ends(const struct gw__tail_candidate *c) { return c->eof_at + DESC_HEAD_BYTES + c->text_len; }

/* What a look is about: all bytes so far, and the devices that came before them. */
struct look {
	const uint8_t *tail;
	size_t n;
	const struct gw__section *early;
	size_t early_n;
	struct gw__why miss; /* why a candidate does not fit */
};

/*
 * 0 with `*end`, or why this is not the end. Text never holds a byte 00, and each candidate begins with one: of those
 * that overlap only the last goes on to the parser, so that all of them together cost no more than the tail is long.
 */
static int try_candidate(struct look *l, const struct gw__tail_candidate *c, struct gw__tail_end *end)
{
	struct gw__vmdesc *desc = NULL;
	size_t text_at = c->eof_at + DESC_HEAD_BYTES;
	if (memchr(l->tail + text_at, 0, c->text_len))
		return -EPROTO;
	int r = gw__vmdesc_parse(l->tail + text_at, c->text_len, &desc, &l->miss);
	if (!r)
		r = check_early(desc, l->early, l->early_n, &l->miss);
	if (!r)
		r = split_all(desc, l->early_n, l->tail, c->eof_at, text_at, &l->miss);
	if (r) {
		gw__vmdesc_free(desc);
		return r;
	}
	*end = (struct gw__tail_end){
		.eof_at = c->eof_at, .text_at = text_at, .text_len = c->text_len, .end = ends(c), .desc = desc};
	return 0;
}

/* Tries a candidate behind whose end there are more bytes, and remembers it when it fits. 0, or -ENOMEM. */
static int try_passed(struct gw__tail *t, struct look *l, const struct gw__tail_candidate *c)
{
	struct gw__tail_end end;
	if (t->fits && ends(c) >= ends(&t->fit))
		return 0;
	int r = try_candidate(l, c, &end);
	if (r)
		return r == -ENOMEM ? r : 0;
	gw__vmdesc_free(end.desc);
	t->fits = true;
	t->fit = *c;
	return 0;
}

/* Settles what can be settled and forgets it, or else the oldest. */
static int make_room(struct gw__tail *t, struct look *l)
{
	unsigned kept = 0;
	for (unsigned k = 0; k < t->n; k++) {
		struct gw__tail_candidate c = t->candidate[k];
		if (ends(&c) >= l->n) {
			t->candidate[kept++] = c;
			continue;
		}
		int r = try_passed(t, l, &c);
		if (r)
			return r;
	}
	t->n = kept;
	if (kept == GW__TAIL_CANDIDATES)
		memmove(t->candidate, t->candidate + 1, --t->n * sizeof t->candidate[0]);
	return 0;
}

/* Notes each place in the new bytes where a description may begin: 00 06 length '{'. */
static int note_candidates(struct gw__tail *t, struct look *l)
{
	const size_t n = l->n;
	for (; t->seen + DESC_HEAD_BYTES < n; t->seen++) {
		const uint8_t *hit = memchr(l->tail + t->seen, GW__ITEM_EOF, n - DESC_HEAD_BYTES - t->seen);
		if (!hit) {
			t->seen = n - DESC_HEAD_BYTES;
			return 0;
		}
		t->seen = (size_t)(hit - l->tail);
		uint64_t len = gw__be_get(hit + 2, 4);
		if (hit[1] != GW__ITEM_VMDESC || hit[DESC_HEAD_BYTES] != '{' || len > GW__VMDESC_MAX_BYTES)
			continue;
		int r = t->n == GW__TAIL_CANDIDATES ? make_room(t, l) : 0;
		if (r)
			return r;
		t->candidate[t->n++] = (struct gw__tail_candidate){t->seen, (uint32_t)len};
	}
	return 0;
}

bool gw__tail_could_end(const uint8_t *tail, size_t n)
{
	return n > 0 && tail[n - 1] == GW__ITEM_EOF && split_all(NULL, 0, tail, n - 1, n, NULL) == 0;
}

/* No description fits. The sentence of the nearest miss explains more than "incomplete". */
static int look_without(const uint8_t *tail, size_t n, struct gw__tail_end *end, struct gw__why *miss, struct gw__why *why)
{
	if (gw__tail_could_end(tail, n)) {
		*end = (struct gw__tail_end){.eof_at = n - 1, .text_at = n, .end = n};
		return 0;
	}
	if (miss->code)
		return gw__why_set(why, -EPROTO, "the device state does not fit the VM description: %s", miss->text);
	return gw__why_set(why, -EPROTO,
		"the stream ends inside the device state (%zu bytes of it arrived): no end mark and no VM description; it was cut short", n);
}

/* An end at the last byte. 0 with `*end`, GW__SHORT when there is none, or -ENOMEM. */
static int look_at_last(struct gw__tail *t, struct look *l, struct gw__tail_end *end)
{
	for (unsigned k = 0; k < t->n; k++) {
		int r = ends(&t->candidate[k]) == l->n ? try_candidate(l, &t->candidate[k], end) : -EPROTO;
		if (r == 0 || r == -ENOMEM)
			return r;
	}
	return GW__SHORT;
}

/* Of the ends before the last byte, the first. As above. */
static int look_before(struct gw__tail *t, struct look *l, struct gw__tail_end *end)
{
	for (unsigned k = 0; k < t->n; k++) {
		int r = ends(&t->candidate[k]) < l->n ? try_passed(t, l, &t->candidate[k]) : 0;
		if (r)
			return r;
	}
	return t->fits ? try_candidate(l, &t->fit, end) : GW__SHORT;
}

int gw__tail_look(struct gw__tail *t, const uint8_t *tail, size_t n, bool last, const struct gw__section *early, size_t early_n,
	struct gw__tail_end *end, struct gw__why *why)
{
	struct look l = {.tail = tail, .n = n, .early = early, .early_n = early_n};
	int r = note_candidates(t, &l);
	if (!r)
		r = look_at_last(t, &l, end);
	if (r == GW__SHORT && last)
		r = look_before(t, &l, end);
	if (r < 0)
		return gw__why_set(why, r, "no memory for the VM description");
	return r == GW__SHORT && last ? look_without(tail, n, end, &l.miss, why) : r;
}
