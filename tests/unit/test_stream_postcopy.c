/* SPDX-License-Identifier: MIT */
/* Post-copy streams (docs/spec/postcopy.md 2 to 6): the captured shapes are read, every command out of its place is refused. */
#include "stream_check.h"

static const struct gw__stream_opts POSTCOPY = {.tail_max_bytes = 1 << 20, .postcopy = true};

/* Head, ADVISE, the block list of put_start and one page of pre-copy. */
static void put_advised(struct sb *b)
{
	sb_head(b, "pc-i440fx-11.1");
	sb_hex(b, "08 0001 0000");
	sb_hex(b, "08 0002 0004 00000001");
	sb_hex(b, "08 0003 0010 0000000000001000 0000000000001000");
	sb_start_ram(b);
	sb_be64(b, 0x6000 | 0x004);
	sb_block(b, "m0", 0x4000);
	sb_block(b, "rom", 0x2000);
	sb_eos(b);
	sb_more(b, 0x02, 1);
	sb_record(b, 0x008, "m0");
	sb_fill(b, 0xa5, 4096);
	sb_eos(b);
}

static void put_discard_alone(struct sb *b)
{
	sb_hex(b, "08 0006 0025 00 02 'm0' 00 0000000000000000 0000000000001000 0000000000002000 0000000000002000");
}

static void put_discard(struct sb *b)
{
	sb_hex(b, "08 000b 0000");
	put_discard_alone(b);
}

/* PACKAGED and what is in it. */
static void put_package(struct sb *b, const struct sb *inside)
{
	sb_hex(b, "08 0007 0004");
	sb_be32(b, (uint32_t)inside->n);
	sb_bytes(b, inside->p, inside->n);
}

static void put_devices_and_run(struct sb *b)
{
	sb_hex(b, "08 0004 0000");
	put_devices(b);
	sb_hex(b, "08 0002 0004 00000003");
	sb_hex(b, "08 0002 0004 00000042");
	sb_hex(b, "08 0005 0000");
}

static void put_good_package(struct sb *b)
{
	struct sb inside = {0};
	put_devices_and_run(&inside);
	put_package(b, &inside);
	sb_fini(&inside);
}

static void put_running(struct sb *b)
{
	put_advised(b);
	put_discard(b);
	put_good_package(b);
}

static void put_pages_and_end(struct sb *b)
{
	sb_more(b, 0x02, 1);
	sb_record(b, 0x1000 | 0x008, "m0");
	sb_fill(b, 0x5a, 4096);
	sb_zero(b, 0x2000, NULL);
	sb_eos(b);
	sb_more(b, 0x03, 1);
	sb_eos(b);
	sb_u8(b, 0);
}

static struct feed_end accepted_as(struct sb *b, struct feed f)
{
	struct feed_end end;
	f.bytes = b->p;
	f.n = b->n;
	f.opts = POSTCOPY;
	read_as(f, &end);
	if (end.code)
		fail_msg("refused: %s\n%s", end.error.text, end.log);
	assert_int_equal(end.trailing, 0);
	sb_fini(b);
	return end;
}

static void the_whole_sequence(void **state)
{
	(void)state;
	struct sb b = {0};
	put_running(&b);
	sb_hex(&b, "08 0002 0004 00000004");
	put_pages_and_end(&b);
	struct feed_end end = accept_with(&b, POSTCOPY, __FILE__, __LINE__);
	assert_order(&end, "config command command command section blocks eos section-end section page eos section-end "
			   "command command command command device device device command command command "
			   "command section page zero eos section-end section eos section-end eof end");
	assert_true(end.stream.advised && end.stream.ram_ended && !end.stream.background);
	assert_int_equal(end.stream.postcopy, GW__STREAM_RUNNING);
	assert_int_equal(end.stream.devices_n, 3);
	assert_int_equal(end.stream.package_left, 0);
	assert_null(end.stream.desc);
	feed_end_fini(&end);
}

/* 7.2 has no SWITCHOVER_START; what looks like a background snapshot is the package. */
static void without_a_switchover(void **state)
{
	(void)state;
	struct sb b = {0};
	put_advised(&b);
	sb_hex(&b, "08 0006 0015 00 02 'm0' 00 0000000000000000 0000000000001000");
	put_good_package(&b);
	put_pages_and_end(&b);
	struct feed_end end = accept_with(&b, POSTCOPY, __FILE__, __LINE__);
	assert_false(end.stream.background);
	assert_int_equal(end.count[GW__EVENT_DEVICE], 3);
	feed_end_fini(&end);
}

/* Advised but never begun: pre-copy as ever, description included. */
static void only_advised(void **state)
{
	(void)state;
	struct sb b = {0};
	put_advised(&b);
	put_ram_end(&b);
	put_rest(&b);
	struct feed_end end = accept_with(&b, POSTCOPY, __FILE__, __LINE__);
	assert_int_equal(end.count[GW__EVENT_DESC], 1);
	assert_int_equal(end.stream.postcopy, GW__STREAM_ADVISED);
	feed_end_fini(&end);
}

static void not_for_who_does_not_ask_for_it(void **state)
{
	(void)state;
	struct sb b = {0};
	put_running(&b);
	REFUSED_WITH(&b, NO_LIMIT, -EOPNOTSUPP, "POSTCOPY_RAM_DISCARD", "left plain pre-copy");
}

/* What is known of a guest from its first main channel. */
struct known {
	struct gw__blocks blocks;
	struct gw__stream_guest guest;
};

static void know(struct known *k)
{
	struct gw__block m0 = {.name = "m0", .used_bytes = 0x4000}, rom = {.name = "rom", .used_bytes = 0x2000};
	memset(k, 0, sizeof *k);
	assert_int_equal(gw__blocks_add(&k->blocks, &m0), 0);
	assert_int_equal(gw__blocks_add(&k->blocks, &rom), 0);
	k->guest = (struct gw__stream_guest){.page_bytes = 4096, .ram_id = 1, .blocks = &k->blocks};
}

static void put_recovery(struct sb *b)
{
	sb_hex(b, "08 000a 0003 02 'm0'");
	sb_hex(b, "08 000a 0004 03 'rom'");
	sb_hex(b, "08 0009 0000");
	put_pages_and_end(b);
}

static void a_recovery(void **state)
{
	(void)state;
	struct known k;
	struct sb b = {0};
	know(&k);
	put_recovery(&b);
	struct feed_end end = accepted_as(&b, (struct feed){.init = gw__stream_init_recovery, .guest = &k.guest});
	assert_order(&end, "command command command section page zero eos section-end section eos section-end eof end");
	assert_logged(&end, "27 page 0+1000 ");
	feed_end_fini(&end);
	put_recovery(&b); /* of a guest nobody has seen */
	end = accepted_as(&b, (struct feed){.init = gw__stream_init_recovery});
	assert_order(&end, "command command command section page zero eos section-end section eos section-end eof end");
	feed_end_fini(&end);
	gw__blocks_fini(&k.blocks);
}

static void put_bare_pages(struct sb *b)
{
	sb_record(b, 0x3000 | 0x008, "m0");
	sb_fill(b, 0x33, 4096);
	sb_zero(b, 0x1000, NULL);
	sb_record(b, 0x1000 | 0x008, "rom");
	sb_fill(b, 0x44, 4096);
}

static void the_preempt_channel(void **state)
{
	(void)state;
	struct known k;
	struct sb b = {0};
	know(&k);
	for (int with_eos = 0; with_eos < 2; with_eos++) {
		put_bare_pages(&b);
		if (with_eos)
			sb_be64(&b, 0x10); /* machine types up to 7.2 */
		struct feed_end end = accepted_as(&b, (struct feed){.init = gw__stream_init_preempt, .guest = &k.guest});
		assert_order(&end, with_eos ? "page zero page eos end" : "page zero page end");
		assert_logged(&end, "4107 zero 0+1000");
		feed_end_fini(&end);
	}
	put_bare_pages(&b);
	struct feed_end end = accepted_as(&b, (struct feed){.init = gw__stream_init_preempt});
	assert_order(&end, "page zero page end");
	feed_end_fini(&end);
	gw__blocks_fini(&k.blocks);
}

#define WRONG(put_before, put, ...)                                                                                                        \
	do {                                                                                                                               \
		struct sb b = {0};                                                                                                         \
		put_before(&b);                                                                                                            \
		struct place at = place_of(&b);                                                                                            \
		put;                                                                                                                       \
		sb_fill(&b, 0, 600);                                                                                                       \
		REFUSED_WITH(&b, POSTCOPY, -EPROTO, at.text, __VA_ARGS__);                                                                 \
	} while (0)

static void put_head_only(struct sb *b) { sb_head(b, "pc"); }

static void commands_out_of_place(void **state)
{
	(void)state;
	WRONG(put_head_only, sb_hex(&b, "08 0006 0015 00 02 'm0' 00 0000000000000000 0000000000001000"), "RAM_DISCARD", "pre-copy");
	WRONG(put_head_only, sb_hex(&b, "08 0007 0004 00000010"), "PACKAGED", "pre-copy");
	WRONG(put_advised, sb_hex(&b, "08 0004 0000"), "LISTEN", "outside of the package");
	WRONG(put_advised, sb_hex(&b, "08 0005 0000"), "RUN", "outside of the package", "advised");
	WRONG(put_advised, sb_hex(&b, "08 0009 0000"), "RESUME", "advised");
	WRONG(put_advised, sb_hex(&b, "08 000a 0003 02 'm0'"), "RECV_BITMAP", "advised");
	WRONG(put_running, sb_hex(&b, "08 0006 0015 00 02 'm0' 00 0000000000000000 0000000000001000"), "RAM_DISCARD", "running");
	WRONG(put_running, put_good_package(&b), "PACKAGED", "running");
	WRONG(put_running, sb_hex(&b, "08 0009 0000"), "RESUME", "running");
	struct sb colo = {0};
	put_advised(&colo);
	sb_hex(&colo, "08 0008 0000");
	REFUSED_WITH(&colo, POSTCOPY, -EOPNOTSUPP, "ENABLE_COLO");
}

static void put_advised_head(struct sb *b)
{
	sb_head(b, "pc");
	sb_hex(b, "08 0001 0000");
	sb_hex(b, "08 0003 0010 0000000000001000 0000000000001000");
}

static void put_advised_and_ended(struct sb *b)
{
	put_advised(b);
	put_ram_end(b);
}

static void put_discarding(struct sb *b)
{
	put_advised(b);
	put_discard(b);
}

/* The switch stands between the block list and the end of RAM, and nothing between its discards and its package. */
static void a_switch_out_of_place(void **state)
{
	(void)state;
	WRONG(put_advised_head, put_discard_alone(&b), "RAM_DISCARD before the block list");
	WRONG(put_advised_head, put_good_package(&b), "PACKAGED before the block list");
	WRONG(put_advised_and_ended, put_discard_alone(&b), "RAM_DISCARD after the end of the RAM section");
	WRONG(put_advised_and_ended, put_good_package(&b), "PACKAGED after the end of the RAM section");
	WRONG(put_discarding, sb_more(&b, 0x03, 1), "type 03 after RAM_DISCARD", "expected PACKAGED");
	WRONG(put_discarding, put_devices(&b), "type 04 after RAM_DISCARD", "expected PACKAGED");
}

static void bad_discards(void **state)
{
	(void)state;
	WRONG(put_advised, sb_hex(&b, "08 0006 0015 00 02 'm9' 00 0000000000000000 0000000000001000"), "m9", "not in the block list");
	WRONG(put_advised, sb_hex(&b, "08 0006 0015 00 02 'm0' 00 0000000000000000 0000000000000000"), "0 bytes", "whole pages");
	WRONG(put_advised, sb_hex(&b, "08 0006 0015 00 02 'm0' 00 0000000000000800 0000000000001000"), "whole pages");
	WRONG(put_advised, sb_hex(&b, "08 0006 0015 00 02 'm0' 00 0000000000003000 0000000000002000"),
		"whole pages of 4096 inside its 16384");
	WRONG(put_advised, sb_hex(&b, "08 0006 0015 00 02 'm0' 00 fffffffffffff000 0000000000001000"), "whole pages");
	WRONG(put_advised, sb_hex(&b, "08 0006 0014 00 02 'm0' 00 0000000000003000 00000000000010"), "RAM_DISCARD");
}

/* Of 40 KB that named a large guest again and again came minutes of work. A page may be named twice, but not without end. */
static void discards_beyond_the_guest(void **state)
{
	(void)state;
	struct sb b = {0};
	put_advised(&b);
	for (unsigned i = 0; i < 4; i++)
		sb_hex(&b, "08 0006 0025 00 02 'm0' 00 0000000000000000 0000000000004000 0000000000002000 0000000000002000");
	put_good_package(&b);
	put_pages_and_end(&b);
	struct feed_end end = accepted_as(&b, (struct feed){.opts = POSTCOPY});
	feed_end_fini(&end);
	struct sb over = {0};
	put_advised(&over);
	for (unsigned i = 0; i < 7; i++)
		sb_hex(&over, "08 0006 0015 00 02 'm0' 00 0000000000000000 0000000000004000");
	REFUSED_WITH(&over, POSTCOPY, -EPROTO, "RAM_DISCARDs of 114688 bytes", "24576 bytes of the guest");
}

#define WRONG_PACKAGE(at_byte, put, ...)                                                                                                   \
	do {                                                                                                                               \
		struct sb inside = {0}, b = {0};                                                                                           \
		put;                                                                                                                       \
		put_advised(&b);                                                                                                           \
		put_discard(&b);                                                                                                           \
		size_t head = b.n + 9;                                                                                                     \
		put_package(&b, &inside);                                                                                                  \
		char where[64];                                                                                                            \
		snprintf(where, sizeof where, "at stream offset %zu: ", head + (at_byte));                                                 \
		put_pages_and_end(&b);                                                                                                     \
		sb_fini(&inside);                                                                                                          \
		REFUSED_WITH(&b, POSTCOPY, -EPROTO, where, __VA_ARGS__);                                                                   \
	} while (0)

static void bad_packages(void **state)
{
	(void)state;
	size_t good;
	{
		struct sb inside = {0};
		put_devices_and_run(&inside);
		good = inside.n;
		sb_fini(&inside);
	}
	WRONG_PACKAGE(0, sb_hex(&inside, "08 0005 0000"), "RUN", "in the package", "discarding");
	WRONG_PACKAGE(0, sb_hex(&inside, "08 0004"), "the package ends inside");
	WRONG_PACKAGE(0, sb_hex(&inside, "08 0004 0000"), "the package ends in state listening", "expected POSTCOPY_RUN");
	WRONG_PACKAGE(0, sb_hex(&inside, "02 00000001 0000000000000010"), "type 02 in the package");
	WRONG_PACKAGE(0, sb_hex(&inside, "00 00"), "type 00 in the package");
	WRONG_PACKAGE(5, sb_hex(&inside, "08 0004 0000 08 0004 0000"), "LISTEN", "listening");
	WRONG_PACKAGE(good - 5, (put_devices_and_run(&inside), sb_u8(&inside, 0x08)), "1 bytes of the package follow POSTCOPY_RUN");
	WRONG_PACKAGE(5, sb_hex(&inside, "08 0004 0000 04 00000003 03 'abc' 00000000 00000001 'body' 7e 00000004 08 0005 0000"),
		"section 3", "footer did not come");
	WRONG(put_advised, sb_hex(&b, "08 0007 0004 00000000"), "the package is empty");
}

static void put_in_part(struct sb *b)
{
	put_running(b);
	sb_more(b, 0x02, 1);
}

static void records_without_a_place(void **state)
{
	(void)state;
	WRONG(put_in_part, sb_be64(&b, 0x200), "record of kind 200 in post-copy");
	WRONG(put_in_part, sb_be64(&b, 0x6004), "record of kind 004 in post-copy");
	WRONG(put_in_part, sb_xbzrle(&b, 0, "m0", "", 0), "record of kind 040 in post-copy");
	WRONG(put_running, sb_device(&b, 9, "late", 0, 1, "", 0), "type 04 after the package");
	WRONG(put_running, sb_start_ram(&b), "type 01 after the package");
	WRONG(put_running, sb_eof(&b), "RAM section is open");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_whole_sequence),
		cmocka_unit_test(without_a_switchover),
		cmocka_unit_test(only_advised),
		cmocka_unit_test(not_for_who_does_not_ask_for_it),
		cmocka_unit_test(a_recovery),
		cmocka_unit_test(the_preempt_channel),
		cmocka_unit_test(commands_out_of_place),
		cmocka_unit_test(a_switch_out_of_place),
		cmocka_unit_test(bad_discards),
		cmocka_unit_test(discards_beyond_the_guest),
		cmocka_unit_test(bad_packages),
		cmocka_unit_test(records_without_a_place),
	};
	return cmocka_run_group_tests_name("stream_postcopy", tests, NULL, NULL);
}
