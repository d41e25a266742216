/* SPDX-License-Identifier: MIT */
/*
 * The stream decoder. Input: flags, a seed for chunk sizes, the stream. It is fed whole and in chunks,
 * payload taken after each page and seeks followed; both must give the same events and the same end.
 */
#include "fuzz.h"

#include "wire/stream.h"
#include "wire/vmdesc.h"

enum { FLAG_OFFSET = 2, FLAG_SMALL_TAIL = 4, FLAG_POSTCOPY = 8, FLAG_RECOVERY = 16, FLAG_PREEMPT = 32, HEAD_BYTES = 2 };

/* How it ended, noted behind the last event. */
enum { ENDED_CUT_IN_PAYLOAD = 1000, ENDED_CUT_AFTER_SEEK, ENDED_FAILED };

struct note {
	unsigned kind;
	uint64_t off, a, b;
};

struct notes {
	struct note *v;
	size_t n, room;
	size_t end; /* where behind RAM the decoder found the end, 0 if nowhere */
};

struct feed {
	struct gw__stream s;
	const uint8_t *bytes;
	size_t n;
	size_t at, shown; /* first byte not used; bytes the decoder may see */
	uint64_t base_off, seed;
	struct notes notes;
};

static void note(struct notes *notes, unsigned kind, uint64_t off, uint64_t a, uint64_t b)
{
	if (notes->n == notes->room) {
		notes->room = notes->room ? notes->room * 2 : 64;
		notes->v = realloc(notes->v, notes->room * sizeof *notes->v);
		HOLDS(notes->v);
	}
	notes->v[notes->n++] = (struct note){kind, off, a, b};
}

static uint64_t sum_up(struct gw__view v)
{
	uint64_t h = v.n;
	for (size_t i = 0; i < v.n; i++)
		h = (h ^ v.p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* Seed 0: whole. 1: byte by byte. Others: chunks of up to 40 bytes. */
static void show_more(struct feed *f)
{
	size_t more = f->n;
	if (f->seed == 1)
		more = 1;
	if (f->seed > 1) {
		f->seed = f->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
		f->seed |= 2;
		more = 1 + (f->seed >> 33) % 40;
	}
	f->shown = more < f->n - f->shown ? f->shown + more : f->n;
}

static void check_view(const struct feed *f, struct gw__view v, size_t from)
{
	HOLDS(v.n == 0 || (v.p >= f->bytes + from && v.p + v.n <= f->bytes + f->at));
}

static void check_event(const struct feed *f, const struct gw__event *ev, size_t from)
{
	const struct gw__stream *s = &f->s;
	HOLDS(ev->kind > GW__EVENT_NONE && ev->kind <= GW__EVENT_END);
	HOLDS(strcmp(gw__event_name(ev->kind), "?"));
	HOLDS(ev->off >= f->base_off + from);
	check_view(f, ev->raw, from);
	check_view(f, ev->body, from);
	check_view(f, ev->delta, from);
	if (ev->kind == GW__EVENT_PAGE || ev->kind == GW__EVENT_ZERO || ev->kind == GW__EVENT_XBZRLE) {
		HOLDS(ev->where.block < s->blocks.n);
		HOLDS(s->page_bytes <= s->blocks.v[ev->where.block].used_bytes);
		HOLDS(ev->where.off <= s->blocks.v[ev->where.block].used_bytes - s->page_bytes);
		HOLDS(ev->where.off % s->page_bytes == 0);
	}
	if (ev->kind == GW__EVENT_XBZRLE)
		HOLDS(ev->delta.n <= s->page_bytes);
	if (ev->kind == GW__EVENT_SEEK)
		HOLDS(ev->seek_off > ev->off);
	if (ev->kind == GW__EVENT_END) {
		HOLDS(s->ram_started);
		HOLDS(!s->desc || gw__vmdesc_count(s->desc) == s->devices_n);
		HOLDS(s->package_left == 0);
	}
}

/* Goes where the event says the stream goes on; false when the input ends before that. */
static bool follow(struct feed *f, const struct gw__event *ev)
{
	if (ev->kind == GW__EVENT_PAGE) {
		if (f->n - f->at < f->s.page_bytes) {
			note(&f->notes, ENDED_CUT_IN_PAYLOAD, 0, 0, 0);
			return false;
		}
		f->at += f->s.page_bytes;
	}
	if (ev->kind == GW__EVENT_SEEK) {
		if (ev->seek_off - f->base_off > f->n) {
			note(&f->notes, ENDED_CUT_AFTER_SEEK, 0, 0, 0);
			return false;
		}
		f->at = ev->seek_off - f->base_off;
	}
	f->shown = f->at > f->shown ? f->at : f->shown;
	HOLDS(f->s.off == f->base_off + f->at);
	return true;
}

/* An end stays: the same answer again, and nothing more is used. */
static void check_stays(struct feed *f, int end, const struct gw__event *ev)
{
	struct gw__event more;
	struct gw__error error = {0};
	size_t used = 1;
	int r = gw__stream_next(&f->s, f->bytes + f->at, f->n - f->at, true, &used, &more, &error);
	HOLDS(r == end && used == 0);
	HOLDS(r < 0 || (ev->kind == GW__EVENT_END && more.kind == GW__EVENT_END));
}

static void run(struct feed *f)
{
	for (;;) {
		struct gw__event ev = {0};
		struct gw__error error = {0};
		size_t used = SIZE_MAX, from = f->at;
		bool last = f->shown == f->n;
		int r = gw__stream_next(&f->s, f->bytes + f->at, f->shown - f->at, last, &used, &ev, &error);
		HOLDS(error.code == (r < 0 ? r : 0));
		HOLDS(used <= f->shown - f->at);
		f->at += used;
		if (r < 0) {
			note(&f->notes, ENDED_FAILED, 0, (uint64_t)-r, 0);
			check_stays(f, r, &ev);
			return;
		}
		if (r == 0) {
			HOLDS(!last);
			show_more(f);
			continue;
		}
		check_event(f, &ev, from);
		note(&f->notes, ev.kind, ev.off, sum_up(ev.raw), sum_up(ev.body) + sum_up(ev.delta));
		if (ev.kind == GW__EVENT_END) {
			check_stays(f, r, &ev);
			return;
		}
		if (!follow(f, &ev))
			return;
	}
}

static struct notes feed(const uint8_t *data, size_t n, uint64_t seed, size_t tail_max_bytes)
{
	static struct feed f;
	f = (struct feed){.bytes = data + HEAD_BYTES, .n = n - HEAD_BYTES, .seed = seed};
	f.base_off = data[0] & FLAG_OFFSET ? 4096 : 0;
	const struct gw__stream_opts o = {.base_off = f.base_off, .tail_max_bytes = tail_max_bytes, .postcopy = data[0] & FLAG_POSTCOPY};
	if (data[0] & FLAG_RECOVERY)
		gw__stream_init_recovery(&f.s, &o, NULL);
	else if (data[0] & FLAG_PREEMPT)
		gw__stream_init_preempt(&f.s, &o, NULL);
	else
		gw__stream_init(&f.s, &o);
	run(&f);
	f.notes.end = f.s.end.end;
	gw__stream_fini(&f.s);
	gw__stream_fini(&f.s);
	return f.notes;
}

/*
 * A guest can write whole ends of the stream into a device. Shown in parts one at the end of a part is taken, as on a
 * socket it must be; shown whole, the one at the last byte. In this alone, and in what is then said of it, the two may differ.
 */
static bool has_two_ends(const struct notes *whole, const struct notes *parts)
{
	return whole->end && parts->end && whole->end != parts->end;
}

static void compare(const struct notes *whole, const struct notes *parts)
{
	if (has_two_ends(whole, parts))
		return;
	HOLDS(whole->n == parts->n);
	for (size_t i = 0; i < whole->n; i++) {
		HOLDS(whole->v[i].kind == parts->v[i].kind);
		HOLDS(whole->v[i].off == parts->v[i].off);
		HOLDS(whole->v[i].a == parts->v[i].a);
		HOLDS(whole->v[i].b == parts->v[i].b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < HEAD_BYTES)
		return 0;
	if (data[0] & FLAG_SMALL_TAIL)
		free(feed(data, n, data[1], 64).v);
	struct notes whole = feed(data, n, 0, n), parts = feed(data, n, data[1] ? data[1] : 1, n);
	compare(&whole, &parts);
	free(whole.v);
	free(parts.v);
	return 0;
}
