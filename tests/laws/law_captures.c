/* SPDX-License-Identifier: MIT */
/*
 * The stream decoder on streams and images that QEMU wrote (tests/captures): RAM put together from its events
 * has the sums that were taken from the guest, devices are those the source listed and each is split exactly,
 * how the bytes are fed makes no difference, and no cut is taken for an end.
 *
 * law_captures FOLDER: all captures in it. Exit status 77 when the folder is missing.
 */
#include "laws.h"

#include <errno.h>
#include <glob.h>

#include "base/bitmap.h"
#include "capture.h"
#include "stream_feed.h"
#include "wire/xbzrle.h"

enum { TAIL_MAX = 16 << 20, CUTS = 12, DEVICES_MAX = 256 };

struct capture {
	char name[64];
	json_t *json;
	json_t *devices; /* borrowed */
	uint8_t *bytes;  /* from the stream's first byte on */
	size_t n;
	uint64_t start; /* offset of that byte in the file */
	bool multifd;   /* the pages are in files of their own, see law_multifd_captures.c */
};

/* What the events of a capture add up to. */
struct guest {
	const struct capture *c;
	uint8_t *ram[GW__BLOCKS_MAX];
	uint64_t records[GW__BLOCKS_MAX];
	uint8_t *body[DEVICES_MAX]; /* early devices are walked when the description has come */
	size_t body_n[DEVICES_MAX];
	struct gw__section device[DEVICES_MAX];
	size_t devices_n, described_n;
	bool config_seen, return_path;
	uint64_t eof_off;
};

static struct feed feed_of(const struct capture *c)
{
	return (struct feed){.bytes = c->bytes, .n = c->n, .opts = {.base_off = c->start, .tail_max_bytes = TAIL_MAX}};
}

/* The pages of a mapped-ram block: those with a bit; nothing else in the region counts. */
static void load_mapped(struct guest *g, const struct gw__stream *s, uint32_t i)
{
	const struct gw__block *b = &s->blocks.v[i];
	const struct capture *c = g->c;
	uint64_t pages = b->used_bytes / s->page_bytes, bitmap_n = gw__bitmap_wire_bytes(pages);
	struct gw__bitmap map;
	if (b->ignored)
		return;
	CHECK(b->bitmap_off - c->start + bitmap_n <= c->n && b->pages_off - c->start + b->used_bytes <= c->n);
	CHECK(gw__bitmap_init(&map, pages) == 0);
	CHECK(gw__bitmap_wire_get(&map, 0, c->bytes + (b->bitmap_off - c->start), bitmap_n));
	for (uint64_t p = gw__bitmap_next_set(&map, 0); p < pages; p = gw__bitmap_next_set(&map, p + 1)) {
		uint64_t off = p * s->page_bytes;
		memcpy(g->ram[i] + off, c->bytes + (b->pages_off - c->start) + off, s->page_bytes);
		g->records[i]++;
	}
	gw__bitmap_fini(&map);
}

static void take_blocks(struct guest *g, const struct gw__stream *s)
{
	for (uint32_t i = 0; i < s->blocks.n; i++) {
		g->ram[i] = calloc(1, s->blocks.v[i].used_bytes);
		CHECK(g->ram[i]);
		if (s->config.mapped_ram)
			load_mapped(g, s, i);
	}
}

static void take_record(struct guest *g, const struct gw__stream *s, const struct gw__event *ev, const uint8_t *payload)
{
	uint8_t *page = g->ram[ev->where.block] + ev->where.off;
	struct gw__error error = {0};
	g->records[ev->where.block]++;
	if (ev->kind == GW__EVENT_PAGE)
		memcpy(page, payload, s->page_bytes);
	if (ev->kind == GW__EVENT_ZERO)
		memset(page, 0, s->page_bytes);
	if (ev->kind == GW__EVENT_XBZRLE)
		CHECK(gw__xbzrle_decode(ev->delta.p, ev->delta.n, page, s->page_bytes, &error) == 0);
}

static void take_device(struct guest *g, const struct gw__event *ev)
{
	size_t i = g->devices_n++;
	CHECK(i < DEVICES_MAX);
	CHECK(!ev->anomaly); /* split by the description, not by a search */
	CHECK(ev->raw.p + 1 + 4 + 1 + strlen(ev->section.idstr) + 8 == ev->body.p);
	CHECK(ev->raw.n == (size_t)(ev->body.p - ev->raw.p) + ev->body.n + 5);
	g->device[i] = ev->section;
	g->body[i] = malloc(ev->body.n + 1);
	CHECK(g->body[i]);
	memcpy(g->body[i], ev->body.p, ev->body.n);
	g->body_n[i] = ev->body.n;
}

static void walk_devices(struct guest *g, const struct gw__vmdesc *desc)
{
	CHECK(gw__vmdesc_count(desc) == g->devices_n);
	for (size_t i = 0; i < g->devices_n; i++) {
		struct gw__error error = {0};
		size_t len;
		CHECK(gw__vmdesc_walk(desc, i, g->body[i], g->body_n[i], &len, NULL, NULL, &error) == 0);
		CHECK(len == g->body_n[i]);
		CHECK(!strcmp(gw__vmdesc_device(desc, i).name, g->device[i].idstr));
	}
	g->described_n = g->devices_n;
}

static void take(void *ctx, const struct gw__stream *s, const struct gw__event *ev, const uint8_t *page)
{
	struct guest *g = ctx;
	switch (ev->kind) {
	case GW__EVENT_CONFIG:
		g->config_seen = true;
		return;
	case GW__EVENT_COMMAND:
		g->return_path |= ev->command.number == GW__CMD_OPEN_RETURN_PATH;
		return;
	case GW__EVENT_BLOCKS:
		take_blocks(g, s);
		return;
	case GW__EVENT_PAGE:
	case GW__EVENT_ZERO:
	case GW__EVENT_XBZRLE:
		take_record(g, s, ev, page);
		return;
	case GW__EVENT_DEVICE:
		take_device(g, ev);
		return;
	case GW__EVENT_EOF:
		g->eof_off = ev->off;
		return;
	case GW__EVENT_DESC:
		CHECK(!ev->anomaly);
		walk_devices(g, s->desc);
		return;
	default:
		return;
	}
}

static bool has(const json_t *list, const char *name)
{
	size_t i;
	const json_t *v;
	json_array_foreach(list, i, v) if (!strcmp(json_string_value(v), name)) return true;
	return false;
}

static void check_config(const struct capture *c, const struct gw__stream *s, const struct guest *g)
{
	const json_t *caps = json_object_get(c->json, "capabilities");
	const char *uuid = json_string_value(json_object_get(c->json, "uuid"));
	CHECK(g->config_seen);
	CHECK(!strcmp(s->config.machine, json_string_value(json_object_get(c->json, "machine"))));
	CHECK(s->config.mapped_ram == has(caps, "mapped-ram"));
	CHECK(s->config.ignore_shared == has(caps, "x-ignore-shared"));
	CHECK(s->advised == has(caps, "postcopy-ram"));
	CHECK(s->background == has(caps, "background-snapshot"));
	CHECK(g->return_path == json_is_true(json_object_get(c->json, "return_path")));
	CHECK(s->config.has_uuid == (uuid != NULL));
	char text[64] = "";
	for (int i = 0; i < 16; i++)
		snprintf(text + strlen(text), 8, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", s->config.uuid[i]);
	CHECK(!uuid || !strcmp(text, uuid));
}

static void check_ram(const struct capture *c, const struct gw__stream *s, const struct guest *g)
{
	const json_t *blocks = json_object_get(c->json, "blocks"), *main_block = json_object_get(c->json, "main_block"), *b;
	bool main_sent = json_is_true(json_object_get(main_block, "in_stream"));
	size_t k;
	CHECK(json_array_size(blocks) == s->blocks.n);
	json_array_foreach(blocks, k, b)
	{
		const char *name = json_string_value(json_object_get(b, "name"));
		const char *want = json_string_value(json_object_get(b, "sha256"));
		int64_t i = gw__blocks_find(&s->blocks, name);
		char sum[65];
		CHECK(i >= 0);
		CHECK(s->blocks.v[i].used_bytes == (uint64_t)json_integer_value(json_object_get(b, "used")));
		if (!main_sent && !strcmp(name, json_string_value(json_object_get(main_block, "name")))) {
			CHECK(g->records[i] == 0);
			continue;
		}
		if (c->multifd)
			continue;
		sha256(g->ram[i], s->blocks.v[i].used_bytes, sum);
		if (want && strcmp(sum, want)) {
			fprintf(stderr, "%s: block \"%s\" has the sum %s, expected %s\n", current, name, sum, want);
			exit(1);
		}
	}
}

static void check_devices(const struct capture *c, const struct guest *g)
{
	const json_t *pair;
	const char *run_state = json_string_value(json_object_get(c->json, "run_state"));
	size_t i;
	CHECK(json_array_size(c->devices) == g->devices_n);
	json_array_foreach(c->devices, i, pair)
	{
		CHECK(!strcmp(g->device[i].idstr, json_string_value(json_array_get(pair, 0))));
		CHECK(g->device[i].instance == (uint32_t)json_integer_value(json_array_get(pair, 1)));
		if (!strcmp(g->device[i].idstr, "globalstate"))
			CHECK(g->body_n[i] == 104 && !strcmp((const char *)g->body[i] + 4, run_state));
	}
}

static void free_guest(struct guest *g)
{
	for (size_t i = 0; i < GW__BLOCKS_MAX; i++)
		free(g->ram[i]);
	for (size_t i = 0; i < g->devices_n; i++)
		free(g->body[i]);
}

/* Gives the events of the whole, and where EOF stands. */
static uint64_t it_is_the_guest(const struct capture *c, struct feed_end *end)
{
	struct guest *g = calloc(1, sizeof *g);
	CHECK(g);
	g->c = c;
	struct feed f = feed_of(c);
	f.on_event = take;
	f.ctx = g;
	feed_run(&f, end);
	if (end->code)
		fprintf(stderr, "%s: %s\n", current, end->error.text);
	CHECK(end->code == 0 && end->trailing == 0);
	bool suppressed = json_is_null(json_object_get(c->json, "devices"));
	CHECK(g->described_n == (suppressed ? 0 : g->devices_n));
	check_config(c, &end->stream, g);
	check_devices(c, g);
	/* A mapped-ram background snapshot has no RAM in it, which its reader is told by `background`. */
	if (json_is_null(json_object_get(c->json, "damage")))
		check_ram(c, &end->stream, g);
	else
		CHECK(end->stream.background && end->stream.config.mapped_ram);
	uint64_t eof_off = g->eof_off;
	free_guest(g);
	free(g);
	return eof_off;
}

static size_t one_byte(void *ctx)
{
	(void)ctx;
	return 1;
}

static size_t any_piece(void *ctx)
{
	struct law *l = ctx;
	return 1 + law_below(l, law_below(l, 8) ? 20 : 200000);
}

static void how_it_is_fed_makes_no_difference(const struct capture *c, struct law *l, const struct feed_end *whole)
{
	struct feed f = feed_of(c);
	struct feed_end end;
	for (int pieces = 0; pieces < 2; pieces++) {
		f.piece = pieces ? any_piece : one_byte;
		f.ctx = l;
		f.open_end = whole->stream.desc; /* the end is known with its last byte */
		feed_run(&f, &end);
		LAW(l, end.code == 0 && end.log_n == whole->log_n && !memcmp(end.log, whole->log, end.log_n));
		feed_end_fini(&end);
	}
}

static void check_cut(const struct capture *c, struct law *l, size_t n, uint64_t eof_off)
{
	struct feed f = feed_of(c);
	struct feed_end end;
	f.n = n;
	f.quiet = true;
	feed_run(&f, &end);
	bool suppressed = c->start + n == eof_off + 1; /* how a stream without description ends */
	if (suppressed ? end.code != 0 : end.code >= 0)
		fprintf(stderr, "%s: cut to %zu bytes\n", current, n);
	LAW(l, suppressed ? end.code == 0 : end.code < 0);
	feed_end_fini(&end);
	f.open_end = true;
	feed_run(&f, &end);
	LAW(l, end.code != 0 && end.count[GW__EVENT_END] == 0);
	feed_end_fini(&end);
}

static void no_cut_is_taken_for_an_end(const struct capture *c, struct law *l, uint64_t eof_off)
{
	size_t tail = c->n - (size_t)(eof_off - c->start);
	for (int i = 0; i < CUTS; i++)
		check_cut(c, l, law_below(l, c->n), eof_off);
	for (int i = 0; i < CUTS; i++) /* the devices and the description are a small part of it */
		check_cut(c, l, c->n - 1 - law_below(l, law_below(l, 2) ? tail + 20 : 20), eof_off);
}

static void check_capture(const char *folder, const char *path, struct law *l)
{
	struct capture c = {0};
	struct feed_end whole;
	const char *base = strrchr(path, '/') + 1;
	snprintf(c.name, sizeof c.name, "%.*s", (int)(strstr(base, ".zst") - base), base);
	*strrchr(c.name, '.') = 0; /* .stream or .image */
	current = c.name;
	c.json = capture_json(folder, c.name);
	c.start = capture_number(c.json, "start");
	c.multifd = json_object_get(c.json, "channels");
	c.bytes = capture_bytes(folder, c.json, c.start, &c.n);

	/* Where nothing lists the devices, it is the same machine as in the plain capture of that release. */
	char plain[64];
	snprintf(plain, sizeof plain, "%.*splain", (int)(strchr(c.name, '-') + 1 - c.name), c.name);
	json_t *other = capture_json(folder, plain);
	c.devices = json_object_get(c.json, "devices");
	if (json_is_null(c.devices))
		c.devices = json_object_get(other, "devices");

	uint64_t eof_off = it_is_the_guest(&c, &whole);
	how_it_is_fed_makes_no_difference(&c, l, &whole);
	no_cut_is_taken_for_an_end(&c, l, eof_off);
	feed_end_fini(&whole);
	json_decref(other);
	json_decref(c.json);
	free(c.bytes);
}

int main(int argc, char **argv)
{
	char pattern[4096];
	glob_t found;
	struct law l = {.seed = law_env("GW_SEED", 1)};
	if (argc != 2)
		return 2;
	snprintf(pattern, sizeof pattern, "%s/*.stream.zst", argv[1]);
	int none = glob(pattern, 0, NULL, &found);
	snprintf(pattern, sizeof pattern, "%s/*.image.zst", argv[1]);
	if (none || glob(pattern, GLOB_APPEND, NULL, &found)) {
		fprintf(stderr, "law_captures: skipped, there is no capture in %s\n", argv[1]);
		return 77;
	}
	for (size_t i = 0; i < found.gl_pathc; i++) {
		l.round = i;
		l.state = l.seed << 32 ^ i;
		check_capture(argv[1], found.gl_pathv[i], &l);
	}
	printf("%zu captures, seed %llu\n", found.gl_pathc, (unsigned long long)l.seed);
	globfree(&found);
	return 0;
}
