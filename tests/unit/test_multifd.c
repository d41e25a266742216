/* SPDX-License-Identifier: MIT */
/*
 * Multifd headers: the packets drawn in multifd.md both ways, those of QEMU 7.2 that are unlike, and every
 * rule of sections 2, 3, 4.1 and 7 broken once. Bytes are written here by hand, without the encoder.
 */
#include "error_text.h"

#include <errno.h>

#include "wire/multifd.h"

enum { PAGE = 4096, PAGES = 128, HEAD = 1344 };

static struct gw__multifd_packet got;

/* --- hello ---------------------------------------------------------------------------------------------- */

static int hello(const uint8_t *bytes, size_t n, struct gw__multifd_hello *h, struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(bytes, n);
	*error = (struct gw__error){0};
	int r = gw__multifd_hello_decode(&c, h, error);
	if (r == 0)
		assert_int_equal(gw__rd_used(&c), GW__MULTIFD_HELLO_BYTES);
	return r;
}

static void make_hello(uint8_t bytes[GW__MULTIFD_HELLO_BYTES])
{
	static const uint8_t head[] = {0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1};
	memset(bytes, 0, GW__MULTIFD_HELLO_BYTES);
	memcpy(bytes, head, sizeof head);
	for (uint8_t i = 0; i < 16; i++)
		bytes[8 + i] = (uint8_t)(0xa0 + i);
	bytes[24] = 2;
}

static void a_hello_has_uuid_and_id(void **state)
{
	(void)state;
	uint8_t bytes[GW__MULTIFD_HELLO_BYTES], again[sizeof bytes];
	struct gw__multifd_hello h;
	struct gw__error error;
	make_hello(bytes);
	for (size_t cut = 0; cut < sizeof bytes; cut++)
		assert_int_equal(hello(bytes, cut, &h, &error), GW__SHORT);
	assert_int_equal(hello(bytes, sizeof bytes, &h, &error), 0);
	assert_int_equal(h.id, 2);
	assert_memory_equal(h.uuid, bytes + 8, 16);

	struct gw__wr w = gw__wr_over(again, sizeof again);
	gw__multifd_hello_encode(&w, &h);
	assert_false(w.full);
	assert_memory_equal(again, bytes, sizeof bytes);
}

static void any_id_and_any_reserved_bytes_of_a_hello_are_taken(void **state)
{
	(void)state;
	uint8_t bytes[GW__MULTIFD_HELLO_BYTES];
	struct gw__multifd_hello h;
	struct gw__error error;
	make_hello(bytes);
	bytes[24] = 255;
	memset(bytes + 25, 0xff, 39);
	assert_int_equal(hello(bytes, sizeof bytes, &h, &error), 0);
	assert_int_equal(h.id, 255);
}

static void a_hello_of_another_magic_or_version_is_refused(void **state)
{
	(void)state;
	uint8_t bytes[GW__MULTIFD_HELLO_BYTES];
	struct gw__multifd_hello h;
	struct gw__error error;
	make_hello(bytes);
	bytes[3] = 0x45;
	assert_int_equal(hello(bytes, sizeof bytes, &h, &error), -EPROTO);
	assert_says(&error, -EPROTO, "hello", "magic is 11223345", "expected 11223344");
	make_hello(bytes);
	bytes[7] = 2;
	assert_int_equal(hello(bytes, sizeof bytes, &h, &error), -EPROTO);
	assert_says(&error, -EPROTO, "hello", "version is 2", "expected 1");
	assert_int_equal(hello(bytes, 8, &h, &error), -EPROTO); /* before the rest has come */
}

static void the_main_channel_is_known_by_name(void **state)
{
	(void)state;
	static const uint8_t bytes[] = {'Q', 'E', 'V', 'M', 0, 0, 0, 3};
	struct gw__multifd_hello h;
	struct gw__error error;
	assert_int_equal(hello(bytes, sizeof bytes, &h, &error), -EPROTO);
	assert_says(&error, -EPROTO, "5145564d", "main channel");
}

/* --- packets by hand ------------------------------------------------------------------------------------ */

struct fields {
	uint32_t magic, version, flags, alloc, normal, size, zero;
	uint64_t number;
	const char *block;
	uint64_t off[PAGES];
};

static const struct fields NOTHING = {.magic = 0x11223344, .version = 1};

static void put(uint8_t *at, uint64_t v, int n)
{
	while (n--) {
		at[n] = (uint8_t)v;
		v >>= 8;
	}
}

static void make_packet(uint8_t bytes[HEAD], const struct fields *f)
{
	memset(bytes, 0, HEAD);
	put(bytes, f->magic, 4);
	put(bytes + 4, f->version, 4);
	put(bytes + 8, f->flags, 4);
	put(bytes + 12, f->alloc, 4);
	put(bytes + 16, f->normal, 4);
	put(bytes + 20, f->size, 4);
	put(bytes + 24, f->number, 8);
	put(bytes + 32, f->zero, 4);
	if (f->block)
		memcpy(bytes + 64, f->block, strlen(f->block));
	for (int i = 0; i < PAGES; i++)
		put(bytes + 320 + 8 * i, f->off[i], 8);
}

static int packet(const uint8_t *bytes, size_t n, struct gw__error *error)
{
	/* Of exactly this size, for the sanitizers. */
	uint8_t *copy = malloc(n ? n : 1);
	assert_non_null(copy);
	memcpy(copy, bytes, n);
	struct gw__rd c = gw__rd_over(copy, n);
	*error = (struct gw__error){0};
	int r = gw__multifd_packet_decode(&c, PAGE, &got, error);
	if (r == 0)
		assert_int_equal(gw__rd_used(&c), HEAD);
	assert_int_equal(error->code, r < 0 ? r : 0);
	free(copy);
	return r;
}

static void accepted(const uint8_t bytes[HEAD])
{
	struct gw__error error;
	for (size_t cut = 0; cut < HEAD; cut++)
		assert_int_equal(packet(bytes, cut, &error), GW__SHORT);
	int r = packet(bytes, HEAD, &error);
	if (r)
		print_error("%s\n", error.text);
	assert_int_equal(r, 0);
}

static void written_the_same(const uint8_t bytes[HEAD])
{
	uint8_t again[HEAD];
	struct gw__wr w = gw__wr_over(again, sizeof again);
	accepted(bytes);
	gw__multifd_packet_encode(&w, PAGE, &got);
	assert_false(w.full);
	assert_int_equal(gw__wr_used(&w), HEAD);
	assert_memory_equal(again, bytes, HEAD);
}

#define REFUSED(f, code, ...)                                                                                                              \
	do {                                                                                                                               \
		uint8_t bytes_[HEAD];                                                                                                      \
		struct gw__error why_;                                                                                                     \
		make_packet(bytes_, f);                                                                                                    \
		assert_int_equal(packet(bytes_, HEAD, &why_), code);                                                                       \
		assert_says(&why_, code, __VA_ARGS__);                                                                                     \
	} while (0)

/* Two pages with content, one without. */
static struct fields three_pages(void)
{
	struct fields f = NOTHING;
	f.alloc = PAGES;
	f.normal = 2;
	f.size = 2 * PAGE;
	f.number = 7;
	f.zero = 1;
	f.block = "mem0";
	f.off[0] = 0xff000;
	f.off[1] = 0xfe000;
	f.off[2] = 0;
	return f;
}

/* --- packets that come ---------------------------------------------------------------------------------- */

static void the_packet_of_the_spec_is_read_and_written(void **state)
{
	(void)state;
	uint8_t bytes[HEAD];
	struct fields f = NOTHING;
	f.alloc = 128;
	f.normal = 0x25;
	f.size = 0x25000;
	f.number = 7;
	f.zero = 0x5b;
	f.block = "mem0";
	for (uint64_t i = 0; i < PAGES; i++)
		f.off[i] = 0xff000 - i * PAGE;
	make_packet(bytes, &f);
	written_the_same(bytes);
	assert_int_equal(got.pages_alloc, 128);
	assert_int_equal(got.normal, 37);
	assert_int_equal(got.zero, 91);
	assert_int_equal(got.payload_bytes, 151552);
	assert_int_equal(got.number, 7);
	assert_string_equal(got.block, "mem0");
	assert_int_equal(got.off[0], 0xff000);
	assert_int_equal(got.off[127], 0x80000);
}

static void a_sync_has_no_pages(void **state)
{
	(void)state;
	uint8_t bytes[HEAD];
	struct fields f = NOTHING;
	f.flags = GW__MULTIFD_SYNC;
	f.number = 1;
	make_packet(bytes, &f);
	written_the_same(bytes);
	assert_int_equal(got.flags, GW__MULTIFD_SYNC);
	assert_int_equal(got.normal + got.zero + got.payload_bytes, 0);
	assert_string_equal(got.block, "");
}

static void neither_pages_nor_sync_is_legal(void **state)
{
	(void)state;
	uint8_t bytes[HEAD];
	make_packet(bytes, &NOTHING);
	written_the_same(bytes);
}

static void compressed_payload_may_be_larger_than_its_pages(void **state)
{
	(void)state;
	uint8_t bytes[HEAD];
	for (uint32_t method = GW__MULTIFD_ZLIB; method <= GW__MULTIFD_ZSTD; method *= 2)
		for (uint32_t size = 1; size <= GW__MULTIFD_PAYLOAD_MAX; size += GW__MULTIFD_PAYLOAD_MAX - 1) {
			struct fields f = three_pages();
			f.flags = method;
			f.size = size;
			make_packet(bytes, &f);
			written_the_same(bytes);
			assert_int_equal(got.payload_bytes, size);
		}
}

static void only_zero_pages_name_their_method(void **state)
{
	(void)state;
	uint8_t bytes[HEAD];
	struct fields f = three_pages();
	f.flags = GW__MULTIFD_ZLIB;
	f.zero = 3;
	f.normal = 0;
	f.size = 0;
	make_packet(bytes, &f);
	written_the_same(bytes);
}

/* QEMU 7.2: pages_alloc always full; size, name and offsets of an earlier packet where there are no pages. */
static void a_sync_of_7_2_has_old_numbers_and_no_payload(void **state)
{
	(void)state;
	uint8_t bytes[HEAD];
	struct fields f = three_pages();
	f.flags = GW__MULTIFD_SYNC;
	f.normal = f.zero = 0;
	f.off[1] = 0x123; /* not looked at */
	f.size = GW__MULTIFD_PACKET_BYTES;
	make_packet(bytes, &f);
	memset(bytes + 64, 'x', 256);
	accepted(bytes);
	assert_int_equal(got.payload_bytes, 0);
	assert_int_equal(got.pages_alloc, PAGES);
	assert_string_equal(got.block, "");
}

static void a_sync_of_7_2_may_have_pages(void **state)
{
	(void)state;
	uint8_t bytes[HEAD];
	struct fields f = three_pages();
	f.flags = GW__MULTIFD_SYNC | GW__MULTIFD_ZLIB;
	f.size = 99;
	make_packet(bytes, &f);
	written_the_same(bytes);
	assert_int_equal(got.normal, 2);
}

static void reserved_bytes_padding_and_later_offsets_are_not_looked_at(void **state)
{
	(void)state;
	uint8_t bytes[HEAD];
	struct fields f = three_pages();
	make_packet(bytes, &f);
	memset(bytes + 36, 0xee, 28);
	memset(bytes + 64 + 5, 0xee, 250); /* behind the name's NUL */
	memset(bytes + 320 + 3 * 8, 0xee, (PAGES - 3) * 8);
	accepted(bytes);
	assert_string_equal(got.block, "mem0");
}

static void the_length_follows_the_page_size(void **state)
{
	(void)state;
	static const struct {
		uint64_t page;
		size_t head;
	} rows[] = {{256, 320 + 8 * 2048}, {1024, 320 + 8 * 512}, {4096, 1344}, {65536, 320 + 8 * 8}, {524288, 328}};
	static uint8_t bytes[320 + 8 * 2048];
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct gw__wr w = gw__wr_over(bytes, sizeof bytes);
		memset(&got, 0, sizeof got);
		got.pages_alloc = got.zero = gw__multifd_pages(rows[i].page);
		strcpy(got.block, "r");
		for (uint32_t k = 0; k < got.zero; k++)
			got.off[k] = k * rows[i].page;
		gw__multifd_packet_encode(&w, rows[i].page, &got);
		assert_int_equal(gw__multifd_head_bytes(rows[i].page), rows[i].head);
		assert_int_equal(gw__wr_used(&w), rows[i].head);

		struct gw__rd c = gw__rd_over(bytes, rows[i].head - 1);
		assert_int_equal(gw__multifd_packet_decode(&c, rows[i].page, &got, NULL), GW__SHORT);
		c = gw__rd_over(bytes, rows[i].head);
		assert_int_equal(gw__multifd_packet_decode(&c, rows[i].page, &got, NULL), 0);
		assert_int_equal(got.off[got.zero - 1], GW__MULTIFD_PACKET_BYTES - rows[i].page);
	}
}

static void a_packet_that_does_not_fit_is_not_written(void **state)
{
	(void)state;
	uint8_t bytes[HEAD];
	struct fields f = three_pages();
	make_packet(bytes, &f);
	accepted(bytes);
	struct gw__wr w = gw__wr_over(bytes, HEAD - 1);
	gw__multifd_packet_encode(&w, PAGE, &got);
	assert_true(w.full);
}

/* --- packets that are refused --------------------------------------------------------------------------- */

static void another_magic_or_version_is_refused(void **state)
{
	(void)state;
	struct fields f = three_pages();
	f.magic = 0x11223340;
	REFUSED(&f, -EPROTO, "packet", "magic is 11223340", "expected 11223344");
	f = three_pages();
	f.version = 0x01000000;
	REFUSED(&f, -EPROTO, "packet", "version is 16777216", "expected 1");
}

static void unknown_flags_are_refused(void **state)
{
	(void)state;
	for (unsigned bit = 7; bit < 32; bit++) {
		struct fields f = three_pages();
		f.flags = 1u << bit;
		REFUSED(&f, -EPROTO, "flags", "expected");
	}
}

static void two_methods_are_refused(void **state)
{
	(void)state;
	struct fields f = three_pages();
	f.flags = GW__MULTIFD_ZLIB | GW__MULTIFD_ZSTD;
	REFUSED(&f, -EPROTO, "method 06", "expected one of");
	f.flags = 0x3e;
	REFUSED(&f, -EPROTO, "method 3e", "expected one of");
}

static void methods_we_do_not_have_are_named(void **state)
{
	(void)state;
	static const struct {
		uint32_t flag;
		const char *name;
	} rows[] = {{GW__MULTIFD_QPL, "qpl"}, {GW__MULTIFD_UADK, "uadk"}, {GW__MULTIFD_QATZIP, "qatzip"}};
	for (size_t i = 0; i < 3; i++) {
		struct fields f = three_pages();
		f.flags = rows[i].flag;
		f.size = 100;
		REFUSED(&f, -EOPNOTSUPP, rows[i].name, "none, zlib or zstd");
		assert_string_equal(gw__multifd_method_name(rows[i].flag | GW__MULTIFD_SYNC), rows[i].name);
	}
	assert_string_equal(gw__multifd_method_name(GW__MULTIFD_SYNC), "none");
	assert_string_equal(gw__multifd_method_name(GW__MULTIFD_ZLIB), "zlib");
	assert_string_equal(gw__multifd_method_name(GW__MULTIFD_ZSTD), "zstd");
	assert_null(gw__multifd_method_name(0x06));
}

static void more_pages_than_a_packet_has_are_refused(void **state)
{
	(void)state;
	struct fields f = three_pages();
	f.alloc = PAGES + 1;
	REFUSED(&f, -EPROTO, "packet 7", "pages_alloc is 129", "at most 128");
	f.alloc = UINT32_MAX;
	REFUSED(&f, -EPROTO, "pages_alloc is 4294967295", "at most 128");
}

static void more_normal_pages_than_pages_alloc_are_refused(void **state)
{
	(void)state;
	struct fields f = three_pages();
	f.alloc = 1;
	REFUSED(&f, -EPROTO, "packet 7", "normal_pages is 2", "at most the 1");
	f.normal = UINT32_MAX;
	REFUSED(&f, -EPROTO, "normal_pages is 4294967295", "at most the 1");
}

static void more_zero_pages_than_are_left_are_refused(void **state)
{
	(void)state;
	struct fields f = three_pages();
	f.alloc = 2;
	REFUSED(&f, -EPROTO, "packet 7", "zero_pages is 1", "at most 0");
	f.alloc = PAGES;
	f.zero = PAGES - 1;
	REFUSED(&f, -EPROTO, "zero_pages is 127", "at most 126");
	f.zero = UINT32_MAX; /* the sum would be 1 */
	REFUSED(&f, -EPROTO, "zero_pages is 4294967295", "at most 126");
}

static void a_payload_unlike_its_pages_is_refused(void **state)
{
	(void)state;
	struct fields f = three_pages();
	f.size = 2 * PAGE - 1;
	REFUSED(&f, -EPROTO, "packet 7", "next_packet_size is 8191", "expected 8192");
	f.size = 2 * PAGE + 1;
	REFUSED(&f, -EPROTO, "next_packet_size is 8193", "expected 8192");
	f.size = 0;
	REFUSED(&f, -EPROTO, "next_packet_size is 0", "expected 8192");
}

static void a_payload_above_the_bound_is_refused(void **state)
{
	(void)state;
	struct fields f = three_pages();
	f.flags = GW__MULTIFD_ZLIB;
	f.size = GW__MULTIFD_PAYLOAD_MAX + 1;
	REFUSED(&f, -EPROTO, "packet 7", "next_packet_size is 1048577", "at most 1048576");
	f.size = 0x7fffffff;
	REFUSED(&f, -EPROTO, "next_packet_size is 2147483647", "at most 1048576");
	f.flags = GW__MULTIFD_SYNC; /* nor when nothing follows: no source has such a number */
	f.normal = f.zero = 0;
	REFUSED(&f, -EPROTO, "next_packet_size is 2147483647", "at most 1048576");
}

static void compressed_pages_of_no_bytes_are_refused(void **state)
{
	(void)state;
	struct fields f = three_pages();
	f.flags = GW__MULTIFD_ZSTD;
	f.size = 0;
	REFUSED(&f, -EPROTO, "packet 7", "next_packet_size is 0", "zstd", "2 normal pages");
}

static void a_name_without_end_is_refused(void **state)
{
	(void)state;
	char name[257];
	memset(name, 'n', 256);
	name[256] = 0;
	struct fields f = three_pages();
	f.block = name;
	REFUSED(&f, -EPROTO, "packet 7", "block name", "does not end", "256");
	name[255] = 0;
	uint8_t bytes[HEAD];
	make_packet(bytes, &f);
	written_the_same(bytes);
}

static void an_unusable_name_is_refused(void **state)
{
	(void)state;
	struct fields f = three_pages();
	f.block = "";
	REFUSED(&f, -EPROTO, "packet 7", "block name", "0 unusable");
	f.block = "a\nb";
	REFUSED(&f, -EPROTO, "packet 7", "block name", "3 unusable");
}

static void an_offset_inside_a_page_is_refused(void **state)
{
	(void)state;
	struct fields f = three_pages();
	f.off[1] = 0xfe001;
	REFUSED(&f, -EPROTO, "packet 7", "offset fe001", "normal page 1", "mem0", "page size 4096");
	f = three_pages();
	f.off[2] = 0x800;
	REFUSED(&f, -EPROTO, "offset 800", "zero page 2", "page size 4096");
	f.off[2] = UINT64_MAX;
	REFUSED(&f, -EPROTO, "offset ffffffffffffffff", "zero page 2");
}

/* --- device state --------------------------------------------------------------------------------------- */

static size_t make_state(uint8_t bytes[GW__MULTIFD_STATE_HEAD_BYTES], const char *idstr, uint32_t size)
{
	memset(bytes, 0, GW__MULTIFD_STATE_HEAD_BYTES);
	put(bytes, 0x11223344, 4);
	put(bytes + 4, 1, 4);
	put(bytes + 8, GW__MULTIFD_DEVICE_STATE, 4);
	memcpy(bytes + 12, idstr, strlen(idstr));
	put(bytes + 268, 3, 4);
	put(bytes + 272, size, 4);
	return GW__MULTIFD_STATE_HEAD_BYTES;
}

static void device_state_is_named_and_refused(void **state)
{
	(void)state;
	uint8_t bytes[GW__MULTIFD_STATE_HEAD_BYTES];
	struct gw__error error;
	size_t n = make_state(bytes, "0000:00:02.0/vfio", 4096);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(packet(bytes, cut, &error), GW__SHORT);
	assert_int_equal(packet(bytes, n, &error), -EOPNOTSUPP);
	assert_says(&error, -EOPNOTSUPP, "device state", "0000:00:02.0/vfio", "instance 3");
}

static void device_state_that_is_wrong_in_itself_is_refused_as_such(void **state)
{
	(void)state;
	uint8_t bytes[GW__MULTIFD_STATE_HEAD_BYTES];
	struct gw__error error;
	size_t n = make_state(bytes, "vfio", 0);
	assert_int_equal(packet(bytes, n, &error), -EPROTO);
	assert_says(&error, -EPROTO, "vfio", "0 bytes");
	make_state(bytes, "", 10);
	assert_int_equal(packet(bytes, n, &error), -EPROTO);
	assert_says(&error, -EPROTO, "idstr", "0 unusable");
	memset(bytes + 12, 'i', 256);
	assert_int_equal(packet(bytes, n, &error), -EPROTO);
	assert_says(&error, -EPROTO, "idstr", "does not end", "256");
	make_state(bytes, "vfio", 10);
	bytes[11] |= GW__MULTIFD_SYNC;
	assert_int_equal(packet(bytes, 12, &error), -EPROTO);
	assert_says(&error, -EPROTO, "device state", "flags are 41", "expected 40");
	make_state(bytes, "vfio", 10);
	bytes[11] |= GW__MULTIFD_ZLIB;
	assert_int_equal(packet(bytes, 12, &error), -EPROTO);
	assert_says(&error, -EPROTO, "device state", "flags are 42", "expected 40");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hello_has_uuid_and_id),
		cmocka_unit_test(any_id_and_any_reserved_bytes_of_a_hello_are_taken),
		cmocka_unit_test(a_hello_of_another_magic_or_version_is_refused),
		cmocka_unit_test(the_main_channel_is_known_by_name),
		cmocka_unit_test(the_packet_of_the_spec_is_read_and_written),
		cmocka_unit_test(a_sync_has_no_pages),
		cmocka_unit_test(neither_pages_nor_sync_is_legal),
		cmocka_unit_test(compressed_payload_may_be_larger_than_its_pages),
		cmocka_unit_test(only_zero_pages_name_their_method),
		cmocka_unit_test(a_sync_of_7_2_has_old_numbers_and_no_payload),
		cmocka_unit_test(a_sync_of_7_2_may_have_pages),
		cmocka_unit_test(reserved_bytes_padding_and_later_offsets_are_not_looked_at),
		cmocka_unit_test(the_length_follows_the_page_size),
		cmocka_unit_test(a_packet_that_does_not_fit_is_not_written),
		cmocka_unit_test(another_magic_or_version_is_refused),
		cmocka_unit_test(unknown_flags_are_refused),
		cmocka_unit_test(two_methods_are_refused),
		cmocka_unit_test(methods_we_do_not_have_are_named),
		cmocka_unit_test(more_pages_than_a_packet_has_are_refused),
		cmocka_unit_test(more_normal_pages_than_pages_alloc_are_refused),
		cmocka_unit_test(more_zero_pages_than_are_left_are_refused),
		cmocka_unit_test(a_payload_unlike_its_pages_is_refused),
		cmocka_unit_test(a_payload_above_the_bound_is_refused),
		cmocka_unit_test(compressed_pages_of_no_bytes_are_refused),
		cmocka_unit_test(a_name_without_end_is_refused),
		cmocka_unit_test(an_unusable_name_is_refused),
		cmocka_unit_test(an_offset_inside_a_page_is_refused),
		cmocka_unit_test(device_state_is_named_and_refused),
		cmocka_unit_test(device_state_that_is_wrong_in_itself_is_refused_as_such),
	};
	return cmocka_run_group_tests_name("multifd", tests, NULL, NULL);
}
