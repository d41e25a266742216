/* SPDX-License-Identifier: MIT */
/*
 * Where a stream ends on a socket that stays open: at a description that fits the devices before it; see trailer.h and
 * docs/spec/stream.md 9. Not where a single device ends (trailer_device.c). The watch belongs to whoever shows it the bytes.
 */
#include <errno.h>

#include "wire/trailer_private.h"

enum {
	DESC_HEAD_BYTES = 6, /* 00 06 be32 */
	BEHIND_BYTES = 16 << 20,
	BEHIND_ZEROS = 1 << 20,
};

/* The length of the command at the start of `bytes`, or -EPROTO. SWITCHOVER_START may stand anywhere. */
static int command_bytes(const uint8_t *bytes, size_t n, size_t *used, struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(bytes, n);
	struct gw__command cmd;
	int r = gw__command_decode(&c, &cmd, error);
	*used = gw__rd_used(&c);
	return r == GW__SHORT ? gw__error_set(error, -EPROTO, "the stream ends inside a command") : r;
}

/* The length of the section at the start of `bytes`, with its footer, or -EPROTO. */
static int device_bytes(const struct gw__vmdesc *desc, size_t i, const uint8_t *bytes, size_t n, size_t *used, struct gw__error *error)
{
	struct gw__section s;
	size_t body_at, body_len;
	int r = gw__trailer_split(desc, i, bytes, n, true, &s, &body_at, &body_len, NULL, error);
	if (!r)
		*used = body_at + body_len + GW__FOOTER_BYTES;
	return r;
}

/* Splits everything before the EOF byte at `eof_at`: 0 when the devices end exactly there and none is missing. */
static int split_all(const struct gw__vmdesc *desc, size_t early_n, const uint8_t *tail, size_t eof_at, size_t n, struct gw__error *error)
{
	size_t at = 0, i = early_n;
	while (at < eof_at) {
		size_t used = 0;
		int r = tail[at] == GW__ITEM_COMMAND ? command_bytes(tail + at, n - at, &used, error)
						     : device_bytes(desc, i++, tail + at, n - at, &used, error);
		if (r)
			return r;
		at += used;
	}
	if (at != eof_at)
		return gw__error_set(error, -EPROTO, "the last device runs past the end of the stream");
	if (desc && i != gw__vmdesc_count(desc))
		return gw__error_set(error, -EPROTO, "%zu devices are in the stream, but the VM description lists %zu", i,
			gw__vmdesc_count(desc));
	return 0;
}

static int check_early(const struct gw__vmdesc *desc, const struct gw__section *early, size_t early_n, struct gw__error *error)
{
	int r = 0;
	for (size_t i = 0; !r && i < early_n; i++)
		r = gw__trailer_check_described(desc, i, &early[i], error);
	return r;
}

static size_t ends(const struct gw__trailer_candidate *c) { return c->eof_at + DESC_HEAD_BYTES + c->text_len; }

/* What a look is about: all bytes so far, and the devices that came before them. */
struct look {
	const uint8_t *tail;
	size_t n;
	const struct gw__section *early;
	size_t early_n;
	struct gw__trailer *t;
};

/*
 * 0 with `*end`, or why this is not the end. Text never holds a byte 00, and each candidate begins with one: of those
 * that overlap only the last goes on to the parser, so that all of them together cost no more than the tail is long.
 */
static int try_candidate(struct look *l, unsigned *tries, const struct gw__trailer_candidate *c, struct gw__trailer_end *end)
{
	struct gw__vmdesc *desc = NULL;
	size_t text_at = c->eof_at + DESC_HEAD_BYTES;
	if (memchr(l->tail + text_at, 0, c->text_len))
		return -EPROTO;
	int r = gw__vmdesc_parse(l->tail + text_at, c->text_len, &desc, &l->t->miss);
	if (!r)
		r = check_early(desc, l->early, l->early_n, &l->t->miss);
	if (!r && (*tries)++ >= GW__TRAILER_TRIES) /* each costs as much as the tail is long */
		r = gw__error_set(&l->t->miss, -EPROTO, "the device state holds more than %d texts that look like a VM description",
			GW__TRAILER_TRIES);
	if (!r)
		r = split_all(desc, l->early_n, l->tail, c->eof_at, text_at, &l->t->miss);
	if (r) {
		gw__vmdesc_free(desc);
		return r;
	}
	*end = (struct gw__trailer_end){.eof_at = c->eof_at, .text_at = text_at, .text_len = c->text_len, .end = ends(c), .desc = desc};
	return 0;
}

/* Tries a candidate after whose end there are more bytes, and remembers it when it fits. 0, or -ENOMEM. */
static int try_passed(struct gw__trailer *t, struct look *l, const struct gw__trailer_candidate *c)
{
	struct gw__trailer_end end;
	if (t->fits && ends(c) >= ends(&t->fit))
		return 0;
	int r = try_candidate(l, &t->passed_tries, c, &end);
	if (r)
		return r == -ENOMEM ? r : 0;
	gw__vmdesc_free(end.desc);
	t->fits = true;
	t->not_zero = false;
	t->fit = *c;
	return 0;
}

/* Tries all that were passed by, once, and forgets them. 0, or -ENOMEM. */
static int settle_passed(struct gw__trailer *t, struct look *l)
{
	unsigned kept = 0;
	for (unsigned k = 0; k < t->n; k++) {
		struct gw__trailer_candidate c = t->candidate[k];
		if (ends(&c) >= l->n) {
			t->candidate[kept++] = c;
			continue;
		}
		t->whole = true;
		int r = try_passed(t, l, &c);
		if (r)
			return r;
	}
	t->n = kept;
	return 0;
}

/* Settles what can be settled, or else forgets the oldest. */
static int make_room(struct gw__trailer *t, struct look *l)
{
	int r = settle_passed(t, l);
	if (!r && t->n == GW__TRAILER_CANDIDATES)
		memmove(t->candidate, t->candidate + 1, --t->n * sizeof t->candidate[0]);
	return r;
}

/* Notes each place in the new bytes where a description may begin: 00 06 length '{'. */
static int note_candidates(struct gw__trailer *t, struct look *l)
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
		int r = t->n == GW__TRAILER_CANDIDATES ? make_room(t, l) : 0;
		if (r)
			return r;
		t->candidate[t->n++] = (struct gw__trailer_candidate){t->seen, (uint32_t)len};
	}
	return 0;
}

int gw__trailer_find_description(const uint8_t *bytes, size_t n, size_t *text_at, size_t *text_len)
{
	const uint8_t *zero = n ? memrchr(bytes, 0, n) : NULL;
	size_t last = zero ? (size_t)(zero - bytes) : 0;
	for (size_t at = last < DESC_HEAD_BYTES ? 0 : last - DESC_HEAD_BYTES + 1; zero && at <= last && at + DESC_HEAD_BYTES < n; at++) {
		*text_at = at + DESC_HEAD_BYTES;
		*text_len = n - *text_at;
		if (bytes[at] == GW__ITEM_EOF && bytes[at + 1] == GW__ITEM_VMDESC && gw__be_get(bytes + at + 2, 4) == *text_len)
			return 0;
	}
	return -ENOENT;
}

bool gw__trailer_could_end(const uint8_t *tail, size_t n)
{
	return n > 0 && tail[n - 1] == GW__ITEM_EOF && split_all(NULL, 0, tail, n - 1, n, NULL) == 0;
}

bool gw__trailer_asks(const uint8_t *tail, size_t n, uint32_t *ping_token)
{
	struct gw__command cmd;
	if (n < GW__PING_BYTES || tail[n - GW__PING_BYTES] != GW__ITEM_COMMAND)
		return false;
	struct gw__rd c = gw__rd_over(tail + n - GW__PING_BYTES, GW__PING_BYTES);
	if (gw__command_decode(&c, &cmd, NULL) || cmd.number != GW__CMD_PING || gw__rd_left(&c))
		return false;
	*ping_token = cmd.ping_token;
	return split_all(NULL, 0, tail, n - GW__PING_BYTES, n, NULL) == 0;
}

/* No description fits. The sentence of the nearest miss explains more than "incomplete". */
static int look_without(const uint8_t *tail, size_t n, struct gw__trailer_end *end, struct gw__error *miss, struct gw__error *error)
{
	if (gw__trailer_could_end(tail, n)) {
		*end = (struct gw__trailer_end){.eof_at = n - 1, .text_at = n, .end = n};
		return 0;
	}
	if (miss->code)
		return gw__error_set(error, -EPROTO, "the device state does not fit the VM description: %s", miss->text);
	return gw__error_set(error, -EPROTO,
		"the stream ends inside the device state (%zu bytes of it arrived): no end mark and no VM description; it was cut short",
		n);
}

/* An end at the last byte. 0 with `*end`, GW__SHORT when there is none, or -ENOMEM. */
static int look_at_last(struct gw__trailer *t, struct look *l, struct gw__trailer_end *end)
{
	for (unsigned k = 0; k < t->n; k++) {
		int r = ends(&t->candidate[k]) == l->n ? try_candidate(l, &t->last_tries, &t->candidate[k], end) : -EPROTO;
		if (r == 0 || r == -ENOMEM)
			return r;
	}
	return GW__SHORT;
}

static bool is_zero(const uint8_t *p, size_t n) { return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0; }

/* Is there so much after this end, or so many zeros, that it cannot be part of a device? */
static bool is_far_behind(struct gw__trailer *t, const struct look *l)
{
	size_t behind = l->n - ends(&t->fit);
	if (behind < BEHIND_ZEROS || t->not_zero)
		return behind >= BEHIND_BYTES;
	t->not_zero = !is_zero(l->tail + ends(&t->fit), BEHIND_ZEROS);
	return !t->not_zero;
}

/* Of the ends before the last byte, the first: in any case, or only if so much follows it. As above. */
static int look_before(struct gw__trailer *t, struct look *l, bool last, struct gw__trailer_end *end)
{
	int r = settle_passed(t, l);
	if (r)
		return r;
	return t->fits && (last || is_far_behind(t, l)) ? try_candidate(l, &t->last_tries, &t->fit, end) : GW__SHORT;
}

int gw__trailer_look(struct gw__trailer *t, const uint8_t *tail, size_t n, bool last, const struct gw__section *early, size_t early_n,
	struct gw__trailer_end *end, struct gw__error *error)
{
	struct look l = {.t = t, .tail = tail, .n = n, .early = early, .early_n = early_n};
	int r = note_candidates(t, &l);
	if (!r)
		r = look_at_last(t, &l, end);
	if (r == GW__SHORT)
		r = look_before(t, &l, last, end);
	if (r < 0)
		return gw__error_set(error, r, "no memory for the VM description");
	return r == GW__SHORT && last ? look_without(tail, n, end, &t->miss, error) : r;
}
