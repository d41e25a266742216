/* SPDX-License-Identifier: MIT */
/* Ends of things without a length: footers, device sections, the end of the stream (stream.md 8.2, 9). */
#include "error_text.h"

#include <errno.h>
#include <time.h>

#include "base/math.h"
#include "stream_builder.h"
#include "wire/trailer.h"

enum { ID = 0x28, OPEN_ID = 7 };

static bool seven_is_open(void *ctx, uint32_t id)
{
	(void)ctx;
	return id == OPEN_ID;
}

/* Searches a body that grows by a byte at a time; what is found must not depend on that. */
static int find_end(const struct sb *b, bool last, size_t *len)
{
	size_t from = 0, grown_len = 0;
	int grown = GW__SHORT;
	for (size_t n = 0; n <= b->n && grown == GW__SHORT; n++)
		grown = gw__body_find_end(b->p, n, last && n == b->n, ID, seven_is_open, NULL, &from, &grown_len);
	from = 0;
	*len = 0;
	int whole = gw__body_find_end(b->p, b->n, last, ID, seven_is_open, NULL, &from, len);
	assert_int_equal(grown, whole);
	assert_int_equal(grown_len, *len);
	return whole;
}

/* What follows a footer decides whether it is one. */
static void plausible_items(void **state)
{
	(void)state;
	static const struct {
		const char *behind;
		int last, more; /* the result when these are all bytes, and when more may come */
	} rows[] = {
		{"", -EPROTO, GW__SHORT},
		{"00", 0, GW__SHORT}, /* end of data */
		{"00 06", 0, 0},
		{"00 07", -EPROTO, GW__SHORT},
		{"01", -EPROTO, GW__SHORT},
		{"01 00000002 03 'ram' 00000000 00000004", 0, 0},
		{"04 00000002 04 'apic' 00000000 000000", -EPROTO, GW__SHORT},
		{"04 00000002 04 'apic' 00000000 00000003", 0, 0},
		{"04 00000002 00 00000000 00000003", -EPROTO, GW__SHORT},
		{"04 00000002 03 'a' 01 'c' 00000000 00000003", -EPROTO, GW__SHORT},
		{"02 00000007", 0, 0},
		{"03 00000007", 0, 0},
		{"03 000000", -EPROTO, GW__SHORT},
		{"02 00000008", -EPROTO, GW__SHORT},
		{"08 0001", 0, 0},
		{"08 000b", 0, 0},
		{"08 00", -EPROTO, GW__SHORT},
		{"08 0000", -EPROTO, GW__SHORT},
		{"08 000c", -EPROTO, GW__SHORT},
		{"05", -EPROTO, GW__SHORT},
		{"06 00000010 7b", -EPROTO, GW__SHORT},
		{"07", -EPROTO, GW__SHORT},
		{"7e 00000028", -EPROTO, GW__SHORT},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct sb b = {0};
		size_t len;
		sb_hex(&b, "0102 7e 030405 7e7e 00000028");
		sb_hex(&b, rows[i].behind);
		assert_int_equal(find_end(&b, true, &len), rows[i].last);
		assert_int_equal(len, rows[i].last ? 0 : 7);
		assert_int_equal(find_end(&b, false, &len), rows[i].more);
		assert_int_equal(len, rows[i].more ? 0 : 7);
		sb_fini(&b);
	}
}

static void footers_of_others_and_look_alikes_are_passed_over(void **state)
{
	(void)state;
	struct sb b = {0};
	size_t len;
	sb_hex(&b, "7e 00000029 00 06");       /* another section's */
	sb_hex(&b, "7e 00000028 00 05");       /* nothing stands behind EOF but a description */
	sb_hex(&b, "7e 00000028 02 00000001"); /* no such section is open */
	sb_hex(&b, "7e 7e 0000 7e 00000028 04 ffffffff 00");
	size_t end = b.n;
	sb_hex(&b, "7e 00000028 04 00000002 01 'x' 00000000 00000001");
	assert_int_equal(find_end(&b, false, &len), 0);
	assert_int_equal(len, end);
	sb_fini(&b);

	sb_hex(&b, "7e 00000028 00 06"); /* an empty body */
	assert_int_equal(find_end(&b, false, &len), 0);
	assert_int_equal(len, 0);
	sb_fini(&b);
}

/* The devices of a builder, parsed. */
static struct gw__vmdesc *description(const struct sb *b)
{
	struct sb d = {.devices = b->devices, .devices_bytes = b->devices_bytes};
	struct gw__vmdesc *desc = NULL;
	struct gw__error error = {0};
	sb_desc(&d, 4096);
	if (gw__vmdesc_parse(d.p + 5, d.n - 5, &desc, &error))
		fail_msg("%s", error.text);
	free(d.p);
	return desc;
}

static bool searched; /* of the last split */

static int split(const struct gw__vmdesc *desc, size_t i, const struct sb *b, struct gw__section *s, size_t *len, struct gw__error *error)
{
	size_t body_at = 0;
	*error = (struct gw__error){0};
	int r = gw__trailer_split(desc, i, b->p, b->n, true, s, &body_at, len, &searched, error);
	if (!r)
		assert_int_equal(body_at, 14 + strlen(s->idstr));
	return r;
}

static void a_walk_passes_over_look_alikes(void **state)
{
	(void)state;
	static const uint8_t body[] = {1, 0x7e, 0, 0, 0, ID, 0, 6, 2}; /* its own footer, EOF, description */
	struct sb b = {0};
	sb_device(&b, ID, "dev", 0, 3, body, sizeof body);
	sb_hex(&b, "00 06");
	struct gw__vmdesc *desc = description(&b);
	struct gw__section s;
	struct gw__error error;
	size_t len;
	assert_int_equal(split(desc, 0, &b, &s, &len, &error), 0);
	assert_int_equal(len, sizeof body);
	assert_false(searched);
	assert_int_equal(s.id, ID);
	assert_string_equal(s.idstr, "dev");
	assert_int_equal(s.version, 3);
	assert_int_equal(split(NULL, 0, &b, &s, &len, &error), 0); /* the search takes the first hit */
	assert_int_equal(len, 1);
	assert_false(searched);
	gw__vmdesc_free(desc);
	sb_fini(&b);
}

#define ARRAY_TRAP                                                                                                                         \
	"\"vmsd_name\": \"a\", \"version\": 1, \"fields\": "                                                                               \
	"[{\"name\": \"list\", \"array_len\": 2, \"type\": \"strange\", \"size\": 3}]"

/*
 * Compressed arrays state the size of their first element only (stream.md 8.1), so the walk is wrong; then
 * the footer is searched, and only one that the next described device stands behind is taken.
 */
static void a_wrong_walk_falls_back_to_the_footer(void **state)
{
	(void)state;
	struct sb body = {0}, b = {0};
	sb_hex(&body, "02 'ab' 04 'cdef'");
	sb_hex(&body, "7e 00000028 04 00000002 01 'x' 00000000 00000001"); /* looks like an end, but "x" is
									      not next */
	sb_hex(&body, "7e 00000028 00 06");                                /* nor is the end of the stream */
	sb_device_as(&b, ID, "dev", 0, 1, body.p, body.n, ARRAY_TRAP);
	sb_device(&b, 3, "next", 0, 1, "!", 1);
	sb_hex(&b, "00 06");
	struct gw__vmdesc *desc = description(&b);
	struct gw__section s;
	struct gw__error error;
	size_t len;
	assert_int_equal(split(desc, 0, &b, &s, &len, &error), 0);
	assert_int_equal(len, body.n);
	assert_true(searched);
	gw__vmdesc_free(desc);
	sb_fini(&b);
	sb_fini(&body);
}

static void a_last_device_with_a_wrong_walk_ends_at_the_end(void **state)
{
	(void)state;
	struct sb body = {0}, b = {0};
	sb_hex(&body, "02 'ab' 04 'cdef' 7e 00000028 04 00000002 01 'x' 00000000 00000001");
	sb_device_as(&b, ID, "dev", 0, 1, body.p, body.n, ARRAY_TRAP);
	sb_hex(&b, "00 06");
	struct gw__vmdesc *desc = description(&b);
	struct gw__section s;
	struct gw__error error;
	size_t len;
	assert_int_equal(split(desc, 0, &b, &s, &len, &error), 0);
	assert_int_equal(len, body.n);
	assert_true(searched);
	gw__vmdesc_free(desc);
	sb_fini(&b);
	sb_fini(&body);
}

#define SPLIT_REFUSED(desc, i, b, ...)                                                                                                     \
	do {                                                                                                                               \
		struct gw__section s_;                                                                                                     \
		struct gw__error why_;                                                                                                     \
		size_t len_;                                                                                                               \
		assert_int_equal(split(desc, i, b, &s_, &len_, &why_), -EPROTO);                                                           \
		assert_says(&why_, -EPROTO, __VA_ARGS__);                                                                                  \
	} while (0)

static void devices_are_those_of_the_description(void **state)
{
	(void)state;
	struct sb is = {0}, said = {0};
	sb_device(&is, ID, "apic", 1, 3, "abc", 3);
	sb_hex(&is, "00 06");
	static const struct {
		const char *idstr;
		uint32_t instance, version;
		const char *say[3];
	} rows[] = {
		{"apix", 1, 3, {"\"apic\" instance 1", "\"apix\" instance 1", "device 0"}},
		{"apic", 0, 3, {"\"apic\" instance 1", "\"apic\" instance 0", "device 0"}},
		{"apic", 1, 4, {"\"apic\"", "version 3", "4"}},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		sb_device(&said, ID, rows[i].idstr, rows[i].instance, rows[i].version, "abc", 3);
		struct gw__vmdesc *desc = description(&said);
		SPLIT_REFUSED(desc, 0, &is, rows[i].say[0], rows[i].say[1], rows[i].say[2]);
		SPLIT_REFUSED(desc, 1, &is, "\"apic\" instance 1", "not in the VM description", "1 devices");
		gw__vmdesc_free(desc);
		sb_fini(&said);
	}
	sb_fini(&is);
}

static void legacy_devices_have_no_version_to_compare(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_device_as(&b, ID, "old", 0, 77, "abc", 3, "\"size\": 3, \"fields\": [{\"name\": \"data\", \"size\": 3, \"type\": \"buffer\"}]");
	sb_hex(&b, "00 06");
	struct gw__vmdesc *desc = description(&b);
	struct gw__section s;
	struct gw__error error;
	size_t len;
	assert_int_equal(split(desc, 0, &b, &s, &len, &error), 0);
	assert_int_equal(len, 3);
	gw__vmdesc_free(desc);
	sb_fini(&b);
}

static void only_full_sections_are_devices(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_hex(&b, "02 00000007 7e 00000007 00");
	SPLIT_REFUSED(NULL, 0, &b, "section 7", "02", "expected type 04");
	sb_fini(&b);
	sb_hex(&b, "04 00000028 03 'dev' 00000000");
	struct gw__section section;
	size_t at, len;
	assert_int_equal(/* more may come */
		gw__trailer_split(NULL, 0, b.p, b.n, false, &section, &at, &len, NULL, NULL), GW__SHORT);
	SPLIT_REFUSED(NULL, 0, &b, "inside a section header");
	sb_hex(&b, "00000001 'abc'");
	SPLIT_REFUSED(NULL, 0, &b, "\"dev\" instance 0", "footer", "section 40");
	sb_fini(&b);
}

static void put_devices(struct sb *b)
{
	sb_device(b, 3, "timer", 0, 2, "0123456789", 10);
	sb_device(b, 0, "apic", 0, 3, "", 0);
	sb_device(b, 1, "apic", 1, 3, "abc", 3);
}

/* Looks after each byte. Where the end was found, or 0. */
static size_t look_along(const struct sb *b, bool last, struct gw__trailer_end *end, struct gw__error *error)
{
	struct gw__trailer t = {0};
	for (size_t n = 0; n <= b->n; n++) {
		*error = (struct gw__error){0};
		int r = gw__trailer_look(&t, b->p, n, last && n == b->n, NULL, 0, end, error);
		assert_true(t.n <= GW__TRAILER_CANDIDATES && t.seen <= n);
		if (r == 0)
			return n;
		assert_int_equal(r, last && n == b->n ? -EPROTO : GW__SHORT);
	}
	return 0;
}

static int look_once(const struct sb *b, bool last, struct gw__trailer_end *end, struct gw__error *error)
{
	struct gw__trailer t = {0};
	*error = (struct gw__error){0};
	return gw__trailer_look(&t, b->p, b->n, last, NULL, 0, end, error);
}

static void the_end_is_found_with_its_last_byte(void **state)
{
	(void)state;
	struct sb b = {0};
	struct gw__trailer_end end;
	struct gw__error error;
	put_devices(&b);
	size_t eof_at = b.n;
	sb_end(&b);
	assert_int_equal(look_along(&b, false, &end, &error), b.n);
	for (int last = 0; last < 2; last++) {
		assert_int_equal(end.eof_at, eof_at);
		assert_int_equal(end.text_at, eof_at + 6);
		assert_int_equal(end.text_len, b.n - eof_at - 6);
		assert_int_equal(end.end, b.n);
		assert_int_equal(gw__vmdesc_count(end.desc), 3);
		gw__vmdesc_free(end.desc);
		assert_int_equal(look_once(&b, last, &end, &error), 0);
	}
	gw__vmdesc_free(end.desc);
	sb_fini(&b);
}

static void bytes_behind_the_end_are_left_when_nothing_else_comes(void **state)
{
	(void)state;
	struct sb b = {0};
	struct gw__trailer_end end;
	struct gw__error error;
	put_devices(&b);
	sb_end(&b);
	size_t n = b.n;
	sb_hex(&b, "00 06 00000001 7b deadbeef 00");
	assert_int_equal(look_once(&b, false, &end, &error), GW__SHORT);
	assert_int_equal(look_once(&b, true, &end, &error), 0);
	assert_int_equal(end.end, n);
	gw__vmdesc_free(end.desc);
	sb_fini(&b);
}

/* Bytes in device bodies that look like the beginning of a description: far more than a watch can remember.
 */
static void candidates_inside_bodies(void **state)
{
	(void)state;
	struct sb body = {0}, b = {0};
	struct gw__trailer_end end;
	struct gw__error error;
	for (uint32_t i = 0; i < 100; i++) {
		sb_hex(&body, "00 06");
		sb_be32(&body, i % 3 ? i : 2);
		sb_hex(&body, i % 2 ? "'{}'" : "'{'");
	}
	sb_device(&b, 3, "timer", 0, 2, body.p, body.n);
	put_devices(&b);
	sb_end(&b);
	assert_int_equal(look_along(&b, false, &end, &error), b.n);
	gw__vmdesc_free(end.desc);
	assert_int_equal(look_once(&b, true, &end, &error), 0);
	assert_int_equal(end.end, b.n);
	gw__vmdesc_free(end.desc);
	sb_fini(&b);
	sb_fini(&body);
}

/* An end that was passed by is remembered, however much looks like one behind it. */
static void candidates_behind_the_end(void **state)
{
	(void)state;
	struct sb b = {0};
	struct gw__trailer_end end;
	struct gw__error error;
	put_devices(&b);
	sb_end(&b);
	size_t n = b.n;
	for (int i = 0; i < 100; i++)
		sb_hex(&b, i % 2 ? "00 06 00000002 '{}'" : "00 06 00100000 '{'");
	assert_int_equal(look_once(&b, true, &end, &error), 0);
	assert_int_equal(end.end, n);
	gw__vmdesc_free(end.desc);
	struct gw__trailer t = {0}; /* in two pieces, neither of which ends there */
	assert_int_equal(gw__trailer_look(&t, b.p, n + 10, false, NULL, 0, &end, &error), GW__SHORT);
	assert_int_equal(gw__trailer_look(&t, b.p, b.n, false, NULL, 0, &end, &error), GW__SHORT);
	assert_int_equal(gw__trailer_look(&t, b.p, b.n, true, NULL, 0, &end, &error), 0);
	assert_int_equal(end.end, n);
	gw__vmdesc_free(end.desc);
	sb_fini(&b);
}

/* An image on a block device: what stands behind it is no concern, as long as no guest could have written the end into a device. */
static void an_end_that_is_far_behind(void **state)
{
	(void)state;
	struct sb b = {0};
	struct gw__trailer_end end;
	struct gw__error error;
	put_devices(&b);
	sb_end(&b);
	const size_t n = b.n;
	const struct {
		uint8_t fill;
		size_t enough;
	} ways[] = {{0, 1 << 20}, {0xa5, 16 << 20}};
	for (size_t w = 0; w < GW__LEN(ways); w++) {
		struct gw__trailer t = {0};
		b.n = n;
		sb_fill(&b, ways[w].fill, ways[w].enough + 4096);
		assert_int_equal(gw__trailer_look(&t, b.p, n + 1, false, NULL, 0, &end, &error), GW__SHORT);
		assert_int_equal(gw__trailer_look(&t, b.p, n + ways[w].enough - 1, false, NULL, 0, &end, &error), GW__SHORT);
		assert_int_equal(gw__trailer_look(&t, b.p, n + ways[w].enough, false, NULL, 0, &end, &error), 0);
		assert_int_equal(end.end, n);
		gw__vmdesc_free(end.desc);
	}
	sb_fini(&b);
}

/* A million candidates, each as long as may be: this must not take a million times as long. */
static void overlapping_candidates_cost_little(void **state)
{
	(void)state;
	struct sb b = {0};
	struct gw__trailer_end end;
	struct gw__error error;
	while (b.n < 8 << 20)
		sb_bytes(&b, "\0\6\0\x3f\xff\xf0{", 7);
	assert_int_equal(look_once(&b, true, &end, &error), -EPROTO);
	assert_says(&error, -EPROTO, "cut short");
	sb_fini(&b);
}

/*
 * Ten thousand texts that describe the first device, with sizes that do not lead to its footer, so that all bytes behind are searched: only
 * some of them are. The true end is found all the same.
 */
static void small_candidates_cost_little(void **state)
{
	(void)state;
	struct sb body = {0}, fake = {0}, b = {0};
	struct gw__trailer_end end;
	struct gw__error error;
	sb_device(&fake, 3, "timer", 0, 2, "x", 1);
	struct sb text = {.devices = fake.devices, .devices_bytes = fake.devices_bytes};
	sb_end(&text);
	for (unsigned i = 0; i < 10000; i++) {
		sb_bytes(&body, text.p, text.n);
		sb_fill(&body, 0x7e, 200);
	}
	sb_device(&b, 3, "timer", 0, 2, body.p, body.n);
	put_devices(&b);
	sb_end(&b);
	clock_t begin = clock();
	assert_int_equal(look_once(&b, false, &end, &error), 0);
	assert_true(clock() - begin < 5 * CLOCKS_PER_SEC);
	assert_int_equal(end.end, b.n);
	gw__vmdesc_free(end.desc);
	free(text.p);
	sb_fini(&fake);
	sb_fini(&body);
	sb_fini(&b);
}

/*
 * A guest that controls bytes of a device can write a whole end of the stream into them. Who sees the file to
 * its end is not taken in: the end that ends where the bytes end is the better one.
 */
static void of_two_ends_that_fit_the_exact_one_is_taken(void **state)
{
	(void)state;
	struct sb body = {0}, fake = {0}, b = {0};
	struct gw__trailer_end end;
	struct gw__error error;
	sb_device(&fake, ID, "dev", 0, 1, "real", 4);
	sb_hex(&body, "'real' 7e 00000028");
	struct sb text = {.devices = fake.devices, .devices_bytes = fake.devices_bytes};
	sb_end(&text);
	sb_bytes(&body, text.p, text.n);
	free(text.p);
	sb_hex(&body, "'more of the body'");
	sb_device(&b, ID, "dev", 0, 1, body.p, body.n);
	put_devices(&b);
	sb_end(&b);
	assert_int_equal(look_once(&b, true, &end, &error), 0);
	assert_int_equal(end.end, b.n);
	assert_int_equal(gw__vmdesc_count(end.desc), 4);
	gw__vmdesc_free(end.desc);
	sb_fini(&b);
	sb_fini(&fake);
	sb_fini(&body);
}

/* A source that waits for an answer before it ends: behind whole devices only, at the very end only. */
static void a_ping_behind_the_devices_asks(void **state)
{
	(void)state;
	static const uint8_t ping[] = {8, 0, 2, 0, 4, 1, 2, 3, 4}, not_ping[] = {8, 0, 11, 0, 0};
	struct sb b = {0};
	uint32_t token = 0;
	put_devices(&b);
	size_t devices = b.n;
	sb_bytes(&b, not_ping, sizeof not_ping);
	assert_false(gw__trailer_asks(b.p, b.n, &token));
	sb_bytes(&b, ping, sizeof ping);
	for (size_t n = 0; n < b.n; n++)
		assert_false(gw__trailer_asks(b.p, n, &token));
	assert_true(gw__trailer_asks(b.p, b.n, &token));
	assert_int_equal(token, 0x01020304);
	b.p[devices - 1] ^= 1; /* the last footer */
	assert_false(gw__trailer_asks(b.p, b.n, &token));
	sb_fini(&b);
}

static void without_a_description_the_last_byte_must_be_the_end_mark(void **state)
{
	(void)state;
	struct sb b = {0};
	struct gw__trailer_end end;
	struct gw__error error;
	put_devices(&b);
	for (size_t n = 0; n <= b.n; n++)
		assert_false(gw__trailer_could_end(b.p, n));
	sb_eof(&b);
	assert_true(gw__trailer_could_end(b.p, b.n));
	assert_int_equal(look_along(&b, false, &end, &error), 0);
	assert_int_equal(look_once(&b, true, &end, &error), 0);
	assert_int_equal(end.eof_at, b.n - 1);
	assert_int_equal(end.text_len, 0);
	assert_int_equal(end.end, b.n);
	assert_null(end.desc);
	sb_eof(&b);
	assert_false(gw__trailer_could_end(b.p, b.n));
	assert_int_equal(look_once(&b, true, &end, &error), -EPROTO);
	sb_fini(&b);
}

static void what_is_cut_short_is_refused(void **state)
{
	(void)state;
	struct sb b = {0};
	put_devices(&b);
	size_t eof_at = b.n;
	sb_end(&b);
	for (size_t n = 1; n < b.n; n++) {
		struct gw__trailer_end end;
		struct gw__error error;
		struct sb cut = {.p = b.p, .n = n};
		if (n == eof_at + 1) /* this is how a suppressed description looks */
			continue;
		assert_int_equal(look_once(&cut, true, &end, &error), -EPROTO);
		assert_says(&error, -EPROTO, "cut short");
	}
	sb_fini(&b);
}

#define LOOK_REFUSED(b, ...)                                                                                                               \
	do {                                                                                                                               \
		struct gw__trailer_end end_;                                                                                               \
		struct gw__error why_;                                                                                                     \
		assert_int_equal(look_along(b, true, &end_, &why_), 0);                                                                    \
		assert_says(&why_, -EPROTO, __VA_ARGS__);                                                                                  \
		assert_int_equal(look_once(b, true, &end_, &why_), -EPROTO);                                                               \
		assert_says(&why_, -EPROTO, __VA_ARGS__);                                                                                  \
		sb_fini(b);                                                                                                                \
	} while (0)

static void every_device_of_the_description_is_there(void **state)
{
	(void)state;
	struct sb b = {0}, missing = {0};
	put_devices(&b);
	sb_device_as(&b, 5, "extra", 0, 1, "x", 1, NULL);
	sb_end(&b);
	LOOK_REFUSED(&b, "\"extra\" instance 0", "not in the VM description", "3 devices");

	put_devices(&b);
	sb_device(&missing, 5, "lost", 0, 1, "x", 1);
	sb_eof(&b);
	char json[2048];
	snprintf(json, sizeof json, "{\"page_size\": 4096, \"devices\": [%.*s, %.*s]}", (int)b.devices_bytes, b.devices,
		(int)missing.devices_bytes, missing.devices);
	sb_desc_text(&b, json);
	LOOK_REFUSED(&b, "3 devices are in the stream", "lists 4");
	sb_fini(&missing);
}

static void descriptions_that_are_none(void **state)
{
	(void)state;
	static const char *const texts[] = {"{not json}", "{\"page_size\": 4096}", "{\"devices\": 3}"};
	for (size_t i = 0; i < 3; i++) {
		struct sb b = {0};
		put_devices(&b);
		sb_eof(&b);
		sb_desc_text(&b, texts[i]);
		LOOK_REFUSED(&b, "VM description");
	}
	struct sb b = {0};
	put_devices(&b);
	sb_hex(&b, "00 06 ffffffff '{}'"); /* longer than what there is */
	LOOK_REFUSED(&b, "cut short");
	put_devices(&b);
	sb_hex(&b, "00 05 00000002 '{}'");
	LOOK_REFUSED(&b, "cut short");
}

static void early_devices_are_those_of_the_description_too(void **state)
{
	(void)state;
	struct sb early_part = {0}, b = {0};
	sb_device(&b, 9, "virtio-mem-early", 0, 1, "early", 5);
	size_t from = b.n;
	put_devices(&b);
	sb_end(&b);
	static const struct {
		struct gw__section early;
		const char *say;
	} rows[] = {
		{{.idstr = "virtio-mem-early", .version = 1}, NULL},
		{{.idstr = "virtio-mem-late", .version = 1}, "\"virtio-mem-late\" instance 0"},
		{{.idstr = "virtio-mem-early", .version = 1, .instance = 1}, "\"virtio-mem-early\" instance 1"},
		{{.idstr = "virtio-mem-early", .version = 2}, "version 2"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct gw__trailer t = {0};
		struct gw__trailer_end end;
		struct gw__error error = {0};
		int r = gw__trailer_look(&t, b.p + from, b.n - from, true, &rows[i].early, 1, &end, &error);
		assert_int_equal(r, rows[i].say ? -EPROTO : 0);
		if (r)
			assert_says(&error, -EPROTO, "VM description", rows[i].say);
		else
			gw__vmdesc_free(end.desc);
	}
	sb_fini(&early_part);
	sb_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plausible_items),
		cmocka_unit_test(footers_of_others_and_look_alikes_are_passed_over),
		cmocka_unit_test(a_walk_passes_over_look_alikes),
		cmocka_unit_test(a_wrong_walk_falls_back_to_the_footer),
		cmocka_unit_test(a_last_device_with_a_wrong_walk_ends_at_the_end),
		cmocka_unit_test(devices_are_those_of_the_description),
		cmocka_unit_test(legacy_devices_have_no_version_to_compare),
		cmocka_unit_test(only_full_sections_are_devices),
		cmocka_unit_test(the_end_is_found_with_its_last_byte),
		cmocka_unit_test(bytes_behind_the_end_are_left_when_nothing_else_comes),
		cmocka_unit_test(candidates_inside_bodies),
		cmocka_unit_test(candidates_behind_the_end),
		cmocka_unit_test(an_end_that_is_far_behind),
		cmocka_unit_test(overlapping_candidates_cost_little),
		cmocka_unit_test(small_candidates_cost_little),
		cmocka_unit_test(of_two_ends_that_fit_the_exact_one_is_taken),
		cmocka_unit_test(a_ping_behind_the_devices_asks),
		cmocka_unit_test(without_a_description_the_last_byte_must_be_the_end_mark),
		cmocka_unit_test(what_is_cut_short_is_refused),
		cmocka_unit_test(every_device_of_the_description_is_there),
		cmocka_unit_test(descriptions_that_are_none),
		cmocka_unit_test(early_devices_are_those_of_the_description_too),
	};
	return cmocka_run_group_tests_name("tail", tests, NULL, NULL);
}
