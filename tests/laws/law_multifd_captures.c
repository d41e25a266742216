/* SPDX-License-Identifier: MIT */
/*
 * Multifd channels that QEMU wrote (tests/captures): RAM put together from the main stream and its channels,
 * in the order that the SYNCs make, has the sums that were taken from the guest; the order of the channels
 * between two SYNCs makes no difference, that of the SYNCs does; no payload is unpacked without those before
 * it.
 *
 * law_multifd_captures FOLDER: all captures of channels in it. Exit status 77 when there is none.
 */
#include <errno.h>
#include <glob.h>

#include "capture.h"
#include "stream_feed.h"
#include "wire/multifd.h"
#include "wire/compress.h"

enum { TAIL_MAX = 16 << 20, CHANNELS = 2, PAGE = 4096 };

struct packet {
	struct gw__multifd_packet head;
	const uint8_t *payload; /* borrowed from the channel */
	uint8_t *pages;         /* of the normal ones */
};

struct channel {
	uint8_t *bytes;
	size_t n;
	struct packet *v;
	size_t packets_n, syncs_n, next; /* the next one to apply */
};

struct capture {
	json_t *json;
	uint8_t *bytes;
	size_t n;
	uint32_t method;
	bool per_section; /* what marks a SYNC on the main channel: the end of a RAM section, else FLUSH */
	struct channel channel[CHANNELS];
};

/* --- a channel ------------------------------------------------------------------------------------------ */

static struct packet *add_packet(struct channel *ch)
{
	ch->v = realloc(ch->v, (ch->packets_n + 1) * sizeof *ch->v);
	CHECK(ch->v);
	struct packet *p = &ch->v[ch->packets_n++];
	memset(p, 0, sizeof *p);
	return p;
}

static void read_hello(const struct channel *ch, size_t index)
{
	static const uint8_t no_uuid[16];
	struct gw__multifd_hello h;
	struct gw__error error = {0};
	for (size_t cut = 0; cut < GW__MULTIFD_HELLO_BYTES; cut++) {
		struct gw__rd c = gw__rd_over(ch->bytes, cut);
		CHECK(gw__multifd_hello_decode(&c, &h, &error) == GW__SHORT);
	}
	struct gw__rd c = gw__rd_over(ch->bytes, ch->n);
	CHECK(gw__multifd_hello_decode(&c, &h, &error) == 0 && gw__rd_used(&c) == GW__MULTIFD_HELLO_BYTES);
	CHECK(h.id == index && !memcmp(h.uuid, no_uuid, sizeof no_uuid));
}

/* Its header once, and cut at some places. */
static void read_head(struct gw__rd *c, struct gw__multifd_packet *head)
{
	static const size_t cuts[] = {0, 3, 4, 11, 12, 100, 319, 320, 1343};
	struct gw__error error = {0};
	CHECK(gw__rd_left(c) >= gw__multifd_head_bytes(PAGE));
	for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
		struct gw__rd part = gw__rd_over(c->p, cuts[i]);
		CHECK(gw__multifd_packet_decode(&part, PAGE, head, NULL) == GW__SHORT);
	}
	int r = gw__multifd_packet_decode(c, PAGE, head, &error);
	if (r)
		fprintf(stderr, "%s: %s\n", current, error.text);
	CHECK(r == 0);
}

/* Packets up to the end of the channel, which must be the end of a packet. */
static void read_packets(const struct capture *cap, struct channel *ch)
{
	struct gw__rd c = gw__rd_over(ch->bytes + GW__MULTIFD_HELLO_BYTES, ch->n - GW__MULTIFD_HELLO_BYTES);
	while (gw__rd_left(&c)) {
		struct packet *p = add_packet(ch);
		read_head(&c, &p->head);
		p->payload = gw__rd_take(&c, p->head.payload_bytes);
		CHECK(p->payload);
		CHECK(p->head.normal == 0 || (p->head.flags & GW__MULTIFD_METHOD_MASK) == cap->method);
		ch->syncs_n += p->head.flags & GW__MULTIFD_SYNC;
	}
}

static void unpack_channel(const struct capture *cap, struct channel *ch)
{
	struct gw__decompressor *u;
	struct gw__error error = {0};
	CHECK(gw__decompressor_new(cap->method, &u, &error) == 0);
	for (size_t i = 0; i < ch->packets_n; i++) {
		struct packet *p = &ch->v[i];
		const size_t n = p->head.normal * (size_t)PAGE;
		if (n == 0)
			continue;
		p->pages = malloc(n);
		CHECK(p->pages);
		if (!u) {
			CHECK(p->head.payload_bytes == n);
			memcpy(p->pages, p->payload, n);
			continue;
		}
		int r = gw__decompress(u, p->payload, p->head.payload_bytes, p->pages, n, &error);
		if (r)
			fprintf(stderr, "%s: packet %llu: %s\n", current, (unsigned long long)p->head.number, error.text);
		CHECK(r == 0);
	}
	gw__decompressor_free(u);
}

/* The compressed stream of a channel does not begin anew with a packet. */
static void no_payload_stands_for_itself(const struct capture *cap, const struct channel *ch)
{
	size_t seen = 0;
	for (size_t i = 0; i < ch->packets_n; i++) {
		const struct packet *p = &ch->v[i];
		const size_t n = p->head.normal * (size_t)PAGE;
		struct gw__decompressor *u;
		if (n == 0 || seen++ == 0)
			continue;
		uint8_t *pages = malloc(n);
		CHECK(pages && gw__decompressor_new(cap->method, &u, NULL) == 0);
		CHECK(gw__decompress(u, p->payload, p->head.payload_bytes, pages, n, NULL) == -EPROTO);
		gw__decompressor_free(u);
		free(pages);
	}
	CHECK(seen > 1);
}

/* --- the guest ------------------------------------------------------------------------------------------ */

struct guest {
	struct capture *cap;
	uint8_t *ram[GW__BLOCKS_MAX];
	size_t marks_n;
	enum order { FORWARDS, BACKWARDS, NO_ORDER } order;
};

static void apply(struct guest *g, const struct gw__stream *s, const struct packet *p)
{
	const struct gw__multifd_packet *h = &p->head;
	if (h->normal + h->zero == 0)
		return;
	int64_t i = gw__blocks_find(&s->blocks, h->block);
	CHECK(i >= 0);
	for (uint32_t k = 0; k < h->normal + h->zero; k++) {
		CHECK(h->off[k] <= s->blocks.v[i].used_bytes - PAGE);
		if (k < h->normal)
			memcpy(g->ram[i] + h->off[k], p->pages + k * (size_t)PAGE, PAGE);
		else
			memset(g->ram[i] + h->off[k], 0, PAGE);
	}
}

static void apply_until_sync(struct guest *g, const struct gw__stream *s, struct channel *ch)
{
	for (;;) {
		CHECK(ch->next < ch->packets_n);
		const struct packet *p = &ch->v[ch->next++];
		apply(g, s, p);
		if (p->head.flags & GW__MULTIFD_SYNC)
			return;
	}
}

/* Without order: everything at the first mark. */
static void take_mark(struct guest *g, const struct gw__stream *s)
{
	const bool first = g->marks_n++ == 0;
	for (size_t i = 0; i < CHANNELS; i++) {
		struct channel *ch = &g->cap->channel[g->order == BACKWARDS ? CHANNELS - 1 - i : i];
		size_t syncs = g->order != NO_ORDER ? 1 : first ? ch->syncs_n : 0;
		while (syncs--)
			apply_until_sync(g, s, ch);
	}
}

static void take(void *ctx, const struct gw__stream *s, const struct gw__event *ev, const uint8_t *page)
{
	struct guest *g = ctx;
	uint8_t *to = g->ram[ev->where.block] + ev->where.off;
	switch (ev->kind) {
	case GW__EVENT_BLOCKS:
		CHECK(s->page_bytes == PAGE);
		for (uint32_t i = 0; i < s->blocks.n; i++) {
			g->ram[i] = calloc(1, s->blocks.v[i].used_bytes);
			CHECK(g->ram[i]);
		}
		return;
	case GW__EVENT_PAGE:
		memcpy(to, page, PAGE);
		return;
	case GW__EVENT_ZERO:
		memset(to, 0, PAGE);
		return;
	case GW__EVENT_FLUSH:
		CHECK(!g->cap->per_section);
		take_mark(g, s);
		return;
	case GW__EVENT_SECTION_END:
		if (g->cap->per_section)
			take_mark(g, s);
		return;
	default:
		return;
	}
}

/* 7.2 lets a packet without pages follow a SYNC that had some, even the last. */
static void nothing_is_left(const struct channel *ch)
{
	for (size_t i = ch->next; i < ch->packets_n; i++)
		CHECK(ch->v[i].head.normal + ch->v[i].head.zero == 0 && !(ch->v[i].head.flags & GW__MULTIFD_SYNC));
}

/* Whether every block has the sum that was taken from the guest. */
static bool sums_are_right(const struct guest *g, const struct gw__stream *s)
{
	const json_t *b;
	size_t k, compared = 0, right = 0;
	json_array_foreach(json_object_get(g->cap->json, "blocks"), k, b)
	{
		char sum[65];
		int64_t i = gw__blocks_find(&s->blocks, capture_text(b, "name"));
		CHECK(i >= 0 && s->blocks.v[i].used_bytes == capture_number(b, "used"));
		if (!capture_text(b, "sha256"))
			continue;
		sha256(g->ram[i], s->blocks.v[i].used_bytes, sum);
		compared++;
		right += !strcmp(sum, capture_text(b, "sha256"));
	}
	CHECK(compared >= 2);
	return right == compared;
}

static bool is_the_guest(struct capture *cap, enum order order)
{
	static struct guest g;
	struct feed_end end;
	struct feed f =
		{.bytes = cap->bytes, .n = cap->n, .opts = {.tail_max_bytes = TAIL_MAX}, .quiet = true, .on_event = take, .ctx = &g};
	g = (struct guest){.cap = cap, .order = order};
	for (size_t i = 0; i < CHANNELS; i++)
		cap->channel[i].next = 0;
	feed_run(&f, &end);
	if (end.code)
		fprintf(stderr, "%s: %s\n", current, end.error.text);
	CHECK(end.code == 0);
	for (size_t i = 0; i < CHANNELS; i++) {
		CHECK(cap->channel[i].syncs_n == g.marks_n);
		nothing_is_left(&cap->channel[i]);
	}
	bool right = sums_are_right(&g, &end.stream);
	for (uint32_t i = 0; i < end.stream.blocks.n; i++)
		free(g.ram[i]);
	feed_end_fini(&end);
	return right;
}

/* --- a capture ------------------------------------------------------------------------------------------ */

static void load(struct capture *cap, const char *folder)
{
	const json_t *params = json_object_get(cap->json, "parameters"), *channels = json_object_get(cap->json, "channels");
	const char *method = capture_text(params, "multifd-compression");
	CHECK(json_array_size(channels) == CHANNELS);
	cap->bytes = capture_bytes(folder, cap->json, 0, &cap->n);
	cap->per_section = !strcmp(capture_text(cap->json, "sync"), "section");
	if (method)
		cap->method = !strcmp(method, "zlib") ? GW__MULTIFD_ZLIB : GW__MULTIFD_ZSTD;
	for (size_t i = 0; i < CHANNELS; i++) {
		struct channel *ch = &cap->channel[i];
		ch->bytes = capture_bytes(folder, json_array_get(channels, i), 0, &ch->n);
		read_hello(ch, i);
		read_packets(cap, ch);
		unpack_channel(cap, ch);
		if (cap->method)
			no_payload_stands_for_itself(cap, ch);
	}
}

static void unload(struct capture *cap)
{
	for (size_t i = 0; i < CHANNELS; i++) {
		for (size_t k = 0; k < cap->channel[i].packets_n; k++)
			free(cap->channel[i].v[k].pages);
		free(cap->channel[i].v);
		free(cap->channel[i].bytes);
	}
	free(cap->bytes);
	json_decref(cap->json);
}

/* Whether it also shows that the order matters. */
static bool check_capture(const char *folder, const char *path)
{
	static char name[64];
	struct capture cap = {0};
	const char *base = strrchr(path, '/') + 1;
	snprintf(name, sizeof name, "%.*s", (int)(strstr(base, ".channel0.zst") - base), base);
	current = name;
	cap.json = capture_json(folder, name);
	load(&cap, folder);
	CHECK(is_the_guest(&cap, FORWARDS));
	CHECK(is_the_guest(&cap, BACKWARDS));
	bool order_matters = !is_the_guest(&cap, NO_ORDER);
	unload(&cap);
	return order_matters;
}

int main(int argc, char **argv)
{
	char pattern[4096];
	glob_t found;
	if (argc != 2)
		return 2;
	snprintf(pattern, sizeof pattern, "%s/*.channel0.zst", argv[1]);
	if (glob(pattern, 0, NULL, &found)) {
		fprintf(stderr, "law_multifd_captures: skipped, there is no capture of channels in %s\n", argv[1]);
		return 77;
	}
	size_t order_matters = 0;
	for (size_t i = 0; i < found.gl_pathc; i++)
		order_matters += check_capture(argv[1], found.gl_pathv[i]);
	CHECK(order_matters >= 3);
	printf("%zu captures, wrong without order: %zu\n", found.gl_pathc, order_matters);
	globfree(&found);
	return 0;
}
