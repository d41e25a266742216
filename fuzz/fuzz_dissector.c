/* SPDX-License-Identifier: MIT */
/*
 * The proxy's explainer, which is shown whatever a peer says. Input: kind of channel, a seed for chunk sizes, bytes. It is shown
 * them whole and in chunks: it must say the same, use no more than it was shown, and never say that it begins where it did not end.
 */
#include "fuzz.h"

#include "dissect/dissector.h"

enum { HEAD_BYTES = 2, FLAG_KNOWN = 8, KINDS = GW__DISSECTOR_RETURN_PATH + 1 };

struct heard {
	uint64_t sum, end;
	unsigned n, gave_up;
};

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)p)[i]) * UINT64_C(0x100000001b3);
	return h;
}

static bool hear(void *ctx, const struct gw__message *m)
{
	struct heard *h = ctx;
	bool incomplete = !strcmp(m->name, "INCOMPLETE");
	HOLDS(gw__message_exists(m->name));
	HOLDS(strlen(m->text) < GW__MESSAGE_TEXT_BYTES);
	HOLDS(m->fields_n <= GW__MESSAGE_FIELDS_MAX);
	h->gave_up += incomplete || !strcmp(m->name, "UNINTERPRETED");
	HOLDS(h->gave_up <= 1);
	if (m->sum)
		return true;
	HOLDS(m->off == h->end || (incomplete && m->off <= h->end));
	HOLDS(m->bytes <= UINT64_MAX - m->off);
	h->end = m->off + m->bytes;
	h->sum = mix(h->sum, m->name, strlen(m->name));
	h->sum = mix(h->sum, m->text, strlen(m->text));
	h->sum = mix(h->sum, &m->off, sizeof m->off);
	h->n++;
	return true;
}

static size_t next_piece(uint64_t *seed, size_t left)
{
	if (*seed == 0)
		return left;
	*seed = (*seed * UINT64_C(6364136223846793005) + 1442695040888963407u) | 2;
	size_t piece = 1 + (*seed >> 33) % 50;
	return piece < left ? piece : left;
}

/* What a recovery, a preempt channel and bitmaps are read with. */
static void know(struct gw__migration_view *view)
{
	struct gw__blocks blocks = {0};
	struct gw__block m0 = {.name = "m0", .used_bytes = 0x8000}, rom = {.name = "pc.rom", .used_bytes = 0x1000};
	HOLDS(gw__blocks_add(&blocks, &m0) == 0 && gw__blocks_add(&blocks, &rom) == 0);
	HOLDS(gw__migration_view_blocks(view, 4096, 1, &blocks) == 0);
	gw__blocks_fini(&blocks);
}

static struct heard listen_to(const uint8_t *data, size_t n, uint64_t seed)
{
	struct gw__migration_view view;
	struct gw__dissector *x;
	struct heard h = {0};
	gw__migration_view_init(&view);
	if (data[0] & FLAG_KNOWN)
		know(&view);
	struct gw__dissector_opts o = {.kind = (enum gw__dissector_kind)((data[0] & 7) % KINDS),
		.view = &view,
		.tail_max_bytes = 1 << 16,
		.every_page = true,
		.say = hear,
		.ctx = &h};
	HOLDS(gw__dissector_new(&o, &x) == 0);
	const uint8_t *p = data + HEAD_BYTES;
	n -= HEAD_BYTES;
	size_t at = 0;
	for (size_t shown = 0; shown < n;) {
		shown += next_piece(&seed, n - shown);
		size_t used = gw__dissector(x, p + at, shown - at, false);
		HOLDS(used <= shown - at);
		at += used;
		HOLDS(gw__dissector_off(x) == at);
	}
	HOLDS(gw__dissector(x, p + at, n - at, true) <= n - at);
	gw__dissector_confirm(x);
	gw__dissector_free(x);
	gw__migration_view_where(&view);
	gw__migration_view_fini(&view);
	return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < HEAD_BYTES)
		return 0;
	struct heard whole = listen_to(data, n, 0), parts = listen_to(data, n, data[1] ? data[1] : 1);
	/* A guest can write ends of streams into its devices; then the parts may show another one (fuzz_stream.c). */
	if ((data[0] & 7) % KINDS != GW__DISSECTOR_MAIN)
		HOLDS(whole.sum == parts.sum && whole.n == parts.n);
	return 0;
}
