/* SPDX-License-Identifier: MIT */
/* The device state of real guests of QEMU 7.2, 10.0 and 11.1 (tests/data/trailers): every section is split
 * exactly. */
#include "unit.h"

#include <dirent.h>
#include <stdio.h>
#include <zstd.h>

#include "vmdesc_texts.h"
#include "wire/framing.h"

enum { TAIL_MAX = 4 << 20 };

struct tail {
	char name[256];
	uint8_t *bytes;
	size_t n, eof_at;
	struct gw__vmdesc *d;
};

/* The description: 00 06 length text, the text being the last of the bytes. */
static void find_description(struct tail *t)
{
	struct gw__error error = {0};
	for (size_t at = 0; at + 6 < t->n; at++) {
		const uint8_t *p = t->bytes + at;
		if (p[0] != GW__ITEM_EOF || p[1] != GW__ITEM_VMDESC || gw__be_get(p + 2, 4) != t->n - at - 6)
			continue;
		if (gw__vmdesc_parse(p + 6, t->n - at - 6, &t->d, &error))
			fail_msg("%s: %s", t->name, error.text);
		t->eof_at = at;
		return;
	}
	fail_msg("%s: no description", t->name);
}

static void open_tail(struct tail *t, const char *dir, const char *name)
{
	char path[4096 + 256];
	static uint8_t packed[1 << 16];
	*t = (struct tail){.bytes = malloc(TAIL_MAX)};
	snprintf(t->name, sizeof t->name, "%s", name);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "rb");
	assert_non_null(f);
	size_t n = fread(packed, 1, sizeof packed, f);
	fclose(f);
	t->n = ZSTD_decompress(t->bytes, TAIL_MAX, packed, n);
	assert_false(ZSTD_isError(t->n));
	find_description(t);
}

static void close_tail(struct tail *t)
{
	gw__vmdesc_free(t->d);
	free(t->bytes);
}

/* The next section's header and body length; false behind the last one. Its footer is checked. */
static bool next_section(const struct tail *t, size_t i, size_t *at, struct gw__section *s, const uint8_t **body, size_t *len)
{
	if (*at == t->eof_at)
		return false;
	struct gw__error error = {0};
	struct gw__rd c = gw__rd_over(t->bytes + *at, t->eof_at - *at);
	assert_int_equal(gw__section_decode(&c, s, &error), 0);
	assert_int_equal(s->type, GW__ITEM_FULL);
	*body = c.p;
	if (gw__vmdesc_walk(t->d, i, c.p, gw__rd_left(&c), len, NULL, NULL, &error))
		fail_msg("%s, %s: %s", t->name, s->idstr, error.text);
	gw__rd_take(&c, *len);
	if (gw__footer_decode(&c, s->id, &error))
		fail_msg("%s, %s: %s", t->name, s->idstr, error.text);
	*at += gw__rd_used(&c);
	return true;
}

static void splits_exactly(const struct tail *t)
{
	size_t at = 0, len, i;
	struct gw__section s;
	const uint8_t *body;
	for (i = 0; next_section(t, i, &at, &s, &body, &len); i++) {
		struct gw__vmdesc_device d = gw__vmdesc_device(t->d, i);
		assert_string_equal(d.name, s.idstr);
		assert_int_equal(d.instance, s.instance);
		assert_true(!d.has_version || d.version == s.version);
	}
	assert_int_equal(i, gw__vmdesc_count(t->d));
	assert_int_equal(gw__vmdesc_page_bytes(t->d), 4096);
}

static void asks_for_more(const struct tail *t)
{
	size_t at = 0, len, got;
	struct gw__section s;
	const uint8_t *body;
	for (size_t i = 0; next_section(t, i, &at, &s, &body, &len); i++)
		for (size_t n = 0; n < len; n += 1 + len / 1000)
			assert_int_equal(gw__vmdesc_walk(t->d, i, body, n, &got, NULL, NULL, NULL), GW__SHORT);
}

/* Fields as shown, seen as a tiling: each leaf and each subsection header begins where the one before it
 * ended. */
struct tiling {
	const uint8_t *body;
	uint64_t at, leaves;
	const char *where;
};

static bool lay(void *ctx, const struct gw__vmdesc_field *f)
{
	struct tiling *t = ctx;
	if (f->off != t->at)
		fail_msg("%s: %s begins at %llu, not at %llu", t->where, f->path, (unsigned long long)f->off, (unsigned long long)t->at);
	if (!strcmp(f->type, "subsection"))
		t->at += 2u + t->body[f->off + 1] + 4u;
	if (f->is_struct)
		return true;
	t->at += f->bytes;
	t->leaves++;
	return true;
}

static void is_shown_without_gaps(const struct tail *t)
{
	size_t at = 0, len, got;
	struct gw__section s;
	const uint8_t *body;
	uint64_t leaves = 0;
	for (size_t i = 0; next_section(t, i, &at, &s, &body, &len); i++) {
		struct tiling tiles = {.body = body, .where = s.idstr};
		assert_int_equal(gw__vmdesc_walk(t->d, i, body, len, &got, lay, &tiles, NULL), 0);
		assert_int_equal(got, len);
		assert_int_equal(tiles.at, len);
		leaves += tiles.leaves;
	}
	assert_true(leaves > gw__vmdesc_count(t->d));
}

static void for_each_tail(void (*check)(const struct tail *t))
{
	char dir[4096];
	const char *data = getenv("GW_TEST_DATA");
	assert_non_null(data);
	snprintf(dir, sizeof dir, "%s/trailers", data);
	DIR *all = opendir(dir);
	assert_non_null(all);
	unsigned n = 0;
	for (const struct dirent *e; (e = readdir(all));) {
		struct tail t;
		if (!strstr(e->d_name, ".zst"))
			continue;
		open_tail(&t, dir, e->d_name);
		check(&t);
		close_tail(&t);
		n++;
	}
	closedir(all);
	assert_true(n >= 7);
}

static void every_device_is_split_exactly(void **state)
{
	(void)state;
	for_each_tail(splits_exactly);
}

static void a_part_of_a_device_is_never_enough(void **state)
{
	(void)state;
	for_each_tail(asks_for_more);
}

static void every_byte_is_shown_once_and_in_order(void **state)
{
	(void)state;
	for_each_tail(is_shown_without_gaps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_device_is_split_exactly),
		cmocka_unit_test(a_part_of_a_device_is_never_enough),
		cmocka_unit_test(every_byte_is_shown_once_and_in_order),
	};
	return cmocka_run_group_tests_name("vmdesc_trailers", tests, NULL, NULL);
}
