/* SPDX-License-Identifier: MIT */
/* Record words, exhaustively, and entries of the block list with every case of the page-size rule (stream.md
 * 7). */
#include "error_text.h"

#include <errno.h>

#include "stream_builder.h"
#include "wire/ram.h"
#include "wire/ram_section.h"

/* Exactly one kind, CONTINUE only beside a page kind (stream.md 7.1). */
static bool flags_are_legal(uint32_t flags)
{
	static const uint32_t legal[] = {0x002, 0x022, 0x008, 0x028, 0x040, 0x060, 0x004, 0x010, 0x200};
	for (size_t i = 0; i < sizeof legal / sizeof legal[0]; i++)
		if (flags == legal[i])
			return true;
	return false;
}

static void every_combination_of_flags(void **state)
{
	(void)state;
	for (uint32_t flags = 0; flags < 4096; flags++) {
		struct gw__ram_word w;
		struct gw__error error = {0};
		int r = gw__ram_word_decode(flags, 4096, &w, &error);
		assert_int_equal(r, flags_are_legal(flags) ? 0 : -EPROTO);
		if (r) {
			char got[16];
			snprintf(got, sizeof got, "%03x", flags & 0x180 ? flags & 0x180 : flags);
			assert_says(&error, -EPROTO, "RAM record");
			continue;
		}
		assert_int_equal(w.kind, flags & ~0x020u);
		assert_int_equal(w.same_block, (flags & 0x020) != 0);
		assert_int_equal(w.value, 0);
	}
}

static void refusals_name_the_word(void **state)
{
	(void)state;
	static const struct {
		uint64_t word;
		const char *say[2];
	} bad[] = {
		{0x0000000000005001, {"0000000000005001", "001"}}, /* FULL, obsolete */
		{0x000000000000500a, {"000000000000500a", "00a"}}, /* ZERO and PAGE */
		{0x0000000000005000, {"0000000000005000", "000"}},
		{0x0000000000005020, {"0000000000005020", "020"}}, /* CONTINUE of nothing */
		{0x0000000000005024, {"0000000000005024", "024"}},
		{0x0000000000000030, {"0000000000000030", "030"}},
		{0x0000000000000080, {"HOOK", "RDMA"}},
		{0x0000000000005100, {"COMPRESS_PAGE", "compress"}},
		{0x0000000000001010, {"0000000000001010", "expected 0"}}, /* EOS has no value */
		{0x0000000000001200, {"0000000000001200", "expected 0"}},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct gw__ram_word w;
		struct gw__error error = {0};
		assert_int_equal(gw__ram_word_decode(bad[i].word, 4096, &w, &error), -EPROTO);
		assert_says(&error, -EPROTO, bad[i].say[0], bad[i].say[1]);
	}
}

static void words_are_split_at_the_target_page(void **state)
{
	(void)state;
	struct gw__ram_word w;
	assert_int_equal(gw__ram_word_decode(UINT64_C(0x0000000008082004), 4096, &w, NULL), 0);
	assert_int_equal(w.kind, GW__RAM_MEM_SIZE);
	assert_int_equal(w.value, 0x8082000);
	assert_int_equal(gw__ram_word_decode(UINT64_C(0x0000000001144060), 4096, &w, NULL), 0);
	assert_int_equal(w.kind, GW__RAM_XBZRLE);
	assert_true(w.same_block);
	assert_int_equal(w.value, 0x1144000);
	assert_int_equal(gw__ram_word_decode(UINT64_C(0xfffffffffff0008), 65536, &w, NULL), 0);
	assert_int_equal(w.value, UINT64_C(0xfffffffffff0000));
	/* 4096 is a page offset for pages of 4096 bytes, and an unknown flag for pages of 64 KiB */
	assert_int_equal(gw__ram_word_decode(UINT64_C(0x1008), 4096, &w, NULL), 0);
	assert_int_equal(gw__ram_word_decode(UINT64_C(0x1008), 65536, &w, NULL), -EPROTO);
}

static void records_are_written_as_captured(void **state)
{
	(void)state;
	struct sb want = {0};
	sb_hex(&want, "0000000000000008 02 6d30");
	sb_hex(&want, "0000000001144060");
	sb_hex(&want, "0000000000005002 06 'pc.rom'");
	uint8_t bytes[64];
	struct gw__wr w = gw__wr_over(bytes, sizeof bytes);
	gw__ram_record_encode(&w, GW__RAM_PAGE, 0, "m0");
	gw__ram_record_encode(&w, GW__RAM_XBZRLE, 0x1144000, NULL);
	gw__ram_record_encode(&w, GW__RAM_ZERO, 0x5000, "pc.rom");
	assert_int_equal(gw__wr_used(&w), want.n);
	assert_memory_equal(bytes, want.p, want.n);
	sb_fini(&want);
}

enum { TWO_MIB = 0x200000 };

static const struct gw__blocks_rule PLAIN = {.page_bytes = 4096};
static const struct gw__blocks_rule ADVISED = {.page_bytes = 4096, .page_summary = 0x201000};
static const struct gw__blocks_rule ADVISED_SMALL = {.page_bytes = 4096, .page_summary = 0x1000};
static const struct gw__blocks_rule SHARED = {.page_bytes = 4096, .address = true};
static const struct gw__blocks_rule ADVISED_SHARED = {.page_bytes = 4096, .page_summary = 0x40201000, .address = true};

/*
 * Decodes `entry` with `behind` after it, wants exactly `entry` used, the same for all that is too short
 * SHORT, and the same bytes when it is written again.
 */
static struct gw__block entry_both_ways(const struct gw__blocks_rule *rule, uint64_t left, const char *entry, const char *behind)
{
	struct sb b = {0};
	sb_hex(&b, entry);
	size_t n = b.n;
	sb_hex(&b, behind);
	struct gw__block block;
	struct gw__error error = {0};
	bool decided = false;
	for (size_t have = 0; have <= b.n; have++) {
		struct gw__rd c = gw__rd_over(b.p, have);
		int r = gw__block_decode(&c, rule, left, &block, &error);
		if (r < 0)
			fail_msg("refused with %zu of %zu bytes: %s", have, b.n, error.text);
		assert_true(r == GW__SHORT ? !decided : have >= n && gw__rd_used(&c) == n);
		decided = r == 0;
	}
	assert_true(decided);
	uint8_t again[512];
	struct gw__wr w = gw__wr_over(again, sizeof again);
	gw__block_encode(&w, rule, &block);
	assert_int_equal(gw__wr_used(&w), n);
	assert_memory_equal(again, b.p, n);
	sb_fini(&b);
	return block;
}

#define REFUSED(rule, left, entry, ...)                                                                                                    \
	do {                                                                                                                               \
		struct sb b_ = {0};                                                                                                        \
		sb_hex(&b_, entry);                                                                                                        \
		struct gw__rd c_ = gw__rd_over(b_.p, b_.n);                                                                                \
		struct gw__block block_;                                                                                                   \
		struct gw__error why_ = {0};                                                                                               \
		assert_int_equal(gw__block_decode(&c_, rule, left, &block_, &why_), -EPROTO);                                              \
		assert_says(&why_, -EPROTO, __VA_ARGS__);                                                                                  \
		sb_fini(&b_);                                                                                                              \
	} while (0)

static void captured_entries(void **state)
{
	(void)state;
	struct gw__block b = entry_both_ways(&PLAIN, 0x8082000, "02 6d30 0000000008000000", "");
	assert_string_equal(b.name, "m0");
	assert_int_equal(b.used_bytes, 0x8000000);
	assert_int_equal(b.page_bytes, 0);
	b = entry_both_ways(&PLAIN, 0x82000, "14 2f726f6d406574632f616370692f7461626c6573 0000000000020000", "07 70632e62696f73");
	assert_string_equal(b.name, "/rom@etc/acpi/tables");
	assert_int_equal(b.used_bytes, 0x20000);
}

static void lengths_of_blocks(void **state)
{
	(void)state;
	entry_both_ways(&PLAIN, 0x1000, "02 'm0' 0000000000001000", "");
	REFUSED(&PLAIN, 0x4000, "02 'm0' 0000000000000000", "\"m0\"", "0 bytes", "4096");
	REFUSED(&PLAIN, 0x4000, "02 'm0' 0000000000001800", "\"m0\"", "6144 bytes", "4096");
	REFUSED(&PLAIN, 0x4000, "02 'm0' 0000000000005000", "\"m0\"", "20480 bytes", "16384");
	REFUSED(&PLAIN, 0x4000, "02 'm0' fffffffffffff000", "\"m0\"", "18446744073709547520 bytes", "16384");
	REFUSED(&PLAIN, 0x4000, "00 0000000000001000", "0", "1..255");
	REFUSED(&PLAIN, 0x4000, "03 'm' 00 '0' 0000000000001000", "3", "1..255");
}

static void a_page_size_between_blocks(void **state)
{
	(void)state;
	struct gw__block b = entry_both_ways(&ADVISED, 0x8000000, "02 'm0' 0000000004000000 0000000000200000", "14");
	assert_int_equal(b.page_bytes, TWO_MIB);
	b = entry_both_ways(&ADVISED, 0x8000000, "02 'm0' 0000000004000000", "14");
	assert_int_equal(b.page_bytes, 0);
}

static void a_page_size_behind_the_last_block(void **state)
{
	(void)state;
	/* what follows is a record word: EOS, the repeated flush, or a page far up */
	static const char *const words[] = {"0000000000000010", "0000000000000200", "0000000000200008", "0000000000200002"};
	for (size_t i = 0; i < 4; i++) {
		struct gw__block b = entry_both_ways(&ADVISED, 0x4000000, "02 'm0' 0000000004000000 0000000000200000", words[i]);
		assert_int_equal(b.page_bytes, TWO_MIB);
		b = entry_both_ways(&ADVISED, 0x4000000, "02 'm0' 0000000004000000", words[i]);
		assert_int_equal(b.page_bytes, 0);
	}
	/* a word whose first byte is not 0 needs no second look */
	struct gw__block b = entry_both_ways(&ADVISED, 0x4000000, "02 'm0' 0000000004000000", "01");
	assert_int_equal(b.page_bytes, 0);
}

static void without_large_pages_nothing_is_looked_for(void **state)
{
	(void)state;
	entry_both_ways(&PLAIN, 0x4000000, "02 'm0' 0000000004000000", "");
	entry_both_ways(&ADVISED_SMALL, 0x4000000, "02 'm0' 0000000004000000", "");
	struct gw__block b = entry_both_ways(&ADVISED_SMALL, 0x4000000, "02 'm0' 0000000004000000", "0000000000200000");
	assert_int_equal(b.page_bytes, 0);
}

static void page_sizes_are_checked(void **state)
{
	(void)state;
	const struct gw__blocks_rule many = {.page_bytes = 4096, .page_summary = 0x40301000};
	static const struct {
		const char *entry, *got;
	} bad[] = {
		{"02 'm0' 0000000040000000 0000000000300000 14", "3145728"}, /* no power of two */
		{"02 'm0' 0000000040000000 0000000000001000 14", "4096"},    /* not larger than a target page */
		{"02 'm0' 0000000040000000 0000000000000800 14", "2048"},
		{"02 'm0' 0000000040000000 0000000000400000 14", "4194304"}, /* not announced */
		{"02 'm0' 0000000040000000 0000000000000000 14", "of 0 bytes"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		REFUSED(&many, 0x80000000, bad[i].entry, "\"m0\"", "page size", bad[i].got, "40301000");
	/* behind the last block a page size is what has no flag bits; it is judged the same way */
	REFUSED(&many, 0x40000000, "02 'm0' 0000000040000000 0000000000400000 0000000000000010", "\"m0\"", "4194304");
	REFUSED(&many, 0x40000000, "02 'm0' 0000000040000000 0000000000001000 0000000000000010", "\"m0\"", "4096");
}

static void addresses_of_x_ignore_shared(void **state)
{
	(void)state;
	struct gw__block b = entry_both_ways(&SHARED, 0x8000, "02 'm0' 0000000000004000 00000000fffc0000", "02");
	assert_int_equal(b.address, 0xfffc0000);
	b = entry_both_ways(&SHARED, 0x4000, "02 'm0' 0000000000004000 0000000000200000", "");
	assert_int_equal(b.address, 0x200000);
	assert_int_equal(b.page_bytes, 0);
}

/* The grammar allows both fields, though no release lets both capabilities be set. */
static void addresses_beside_page_sizes(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t value;
	} addresses[] = {{"0000000000000000", 0}, {"00000000fffc0000", 0xfffc0000}, {"0000000000200000", 0x200000},
		{"0000000040000000", 0x40000000}, {"0000000100000000", UINT64_C(0x100000000)}};
	for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
		for (int last = 0; last < 2; last++)
			for (int sized = 0; sized < 2; sized++) {
				char entry[128];
				snprintf(entry, sizeof entry, "02 'm0' 0000000004000000 %s %s", sized ? "0000000000200000" : "",
					addresses[i].text);
				struct gw__block b = entry_both_ways(&ADVISED_SHARED, last ? 0x4000000 : 0x8000000, entry,
					last ? "0000000000000010" : "02 'm1'");
				assert_int_equal(b.page_bytes, sized ? TWO_MIB : 0);
				assert_int_equal(b.address, addresses[i].value);
			}
}

/* mapped-ram.md 4: never written there, and the header's own zeros must not be taken for one. */
static void no_page_size_in_mapped_ram(void **state)
{
	(void)state;
	struct gw__blocks_rule rule = {.page_bytes = 4096, .page_summary = UINT64_C(0x100201000), .mapped_ram = true};
	struct gw__block b = entry_both_ways(&rule, 0x4000000, "02 'm0' 0000000004000000",
		"00000001 0000000000001000 000000000000008e 0000000000100000");
	assert_int_equal(b.page_bytes, 0);
}

static void lists_keep_names_apart(void **state)
{
	(void)state;
	struct gw__blocks list = {0};
	struct gw__block block = {.name = "m0", .used_bytes = 4096};
	assert_int_equal(gw__blocks_add(&list, &block), 0);
	assert_int_equal(gw__blocks_add(&list, &block), -EEXIST);
	for (int i = 1; i < GW__BLOCKS_MAX; i++) {
		snprintf(block.name, sizeof block.name, "m%d", i);
		assert_int_equal(gw__blocks_add(&list, &block), 0);
	}
	strcpy(block.name, "one-more");
	assert_int_equal(gw__blocks_add(&list, &block), -E2BIG);
	assert_int_equal(list.n, GW__BLOCKS_MAX);
	assert_int_equal(list.total_bytes, GW__BLOCKS_MAX * 4096ull);
	assert_int_equal(gw__blocks_find(&list, "m0"), 0);
	assert_int_equal(gw__blocks_find(&list, "m4095"), 4095);
	assert_int_equal(gw__blocks_find(&list, "one-more"), -1);
	gw__blocks_fini(&list);
	gw__blocks_fini(&list);
	assert_int_equal(gw__blocks_find(&list, "m0"), -1);
}

/* Every name is found where it was put, whatever the order of the names; comparing all of them for each page was work without a bound. */
static void names_in_any_order(void **state)
{
	(void)state;
	struct gw__blocks list = {0};
	struct gw__block block = {.used_bytes = 4096};
	for (uint32_t i = 0; i < GW__BLOCKS_MAX; i++) {
		snprintf(block.name, sizeof block.name, "%x", i * 2654435761u);
		assert_int_equal(gw__blocks_add(&list, &block), 0);
		assert_int_equal(gw__blocks_find(&list, block.name), i);
	}
	for (uint32_t i = 0; i < GW__BLOCKS_MAX; i++) {
		snprintf(block.name, sizeof block.name, "%x", i * 2654435761u);
		assert_int_equal(gw__blocks_find(&list, block.name), i);
		strcat(block.name, "!");
		assert_int_equal(gw__blocks_find(&list, block.name), -1);
		if (i)
			assert_true(strcmp(list.v[list.by_name[i - 1]].name, list.v[list.by_name[i]].name) < 0);
	}
	gw__blocks_fini(&list);
}

/* START, an entry and the end as QEMU 10.0 and we write them; the entry of a mapped-ram file goes on with its header. */
static void the_frame_of_the_section(void **state)
{
	(void)state;
	const struct gw__block block = {.name = "m0", .used_bytes = 0x8000000, .address = 0x40, .bitmap_off = 0x8a, .pages_off = 0x100000};
	const struct gw__blocks_rule rules[] = {{.page_bytes = 4096}, {.page_bytes = 4096, .address = true, .mapped_ram = true}};
	static const char *const entry[] = {"02 6d30 0000000008000000",
		"02 6d30 0000000008000000 0000000000000040 00000001 0000000000001000 000000000000008a 0000000000100000"};
	for (unsigned i = 0; i < 2; i++) {
		struct sb b = {0};
		uint8_t got[512];
		struct gw__wr w = gw__wr_over(got, sizeof got);
		gw__ram_section_encode_start(&w, 2, 0x8000000);
		gw__ram_section_encode_entry(&w, &rules[i], &block);
		gw__ram_section_encode_end(&w, 2);
		sb_hex(&b, "01 00000002 03 72616d 00000000 00000004 0000000008000004");
		sb_hex(&b, entry[i]);
		sb_hex(&b, "0000000000000010 7e 00000002");
		assert_int_equal(gw__wr_used(&w), b.n);
		assert_memory_equal(got, b.p, b.n);
		sb_fini(&b);
	}
}

/* A buffer of this size holds any entry, whatever the rule. */
static void the_longest_entry(void **state)
{
	(void)state;
	uint8_t room[GW__RAM_ENTRY_MAX_BYTES];
	struct gw__block block = {.used_bytes = 4096, .page_bytes = 1 << 21};
	const struct gw__blocks_rule mapped = {.page_bytes = 4096, .address = true, .mapped_ram = true},
				     plain = {.page_bytes = 4096, .page_summary = 1 << 21, .address = true};
	memset(block.name, 'b', GW__NAME_MAX);
	struct gw__wr w = gw__wr_over(room, sizeof room);
	gw__ram_section_encode_entry(&w, &mapped, &block);
	assert_false(w.full);
	assert_int_equal(gw__wr_used(&w), 1 + GW__NAME_MAX + 8 + 8 + GW__MAPPED_HEADER_BYTES);
	w = gw__wr_over(room, sizeof room);
	gw__ram_section_encode_entry(&w, &plain, &block);
	assert_false(w.full);
	assert_int_equal(gw__wr_used(&w), 1 + GW__NAME_MAX + 8 + 8 + 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_combination_of_flags),
		cmocka_unit_test(refusals_name_the_word),
		cmocka_unit_test(words_are_split_at_the_target_page),
		cmocka_unit_test(records_are_written_as_captured),
		cmocka_unit_test(captured_entries),
		cmocka_unit_test(lengths_of_blocks),
		cmocka_unit_test(a_page_size_between_blocks),
		cmocka_unit_test(a_page_size_behind_the_last_block),
		cmocka_unit_test(without_large_pages_nothing_is_looked_for),
		cmocka_unit_test(page_sizes_are_checked),
		cmocka_unit_test(addresses_of_x_ignore_shared),
		cmocka_unit_test(addresses_beside_page_sizes),
		cmocka_unit_test(no_page_size_in_mapped_ram),
		cmocka_unit_test(lists_keep_names_apart),
		cmocka_unit_test(names_in_any_order),
		cmocka_unit_test(the_frame_of_the_section),
		cmocka_unit_test(the_longest_entry),
	};
	return cmocka_run_group_tests_name("ram", tests, NULL, NULL);
}
