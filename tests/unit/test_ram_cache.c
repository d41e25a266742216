/* SPDX-License-Identifier: MIT */
/*
 * The RAM cache of a hot secondary (docs/spec/colo.md 6.1): what only one side wrote, what both wrote, zeros, the first copy, and that nothing is ever
 * reset. The guest is its pages; each test says what the primary sent and what the guest here wrote, and looks at both after the flush.
 */
#include "unit.h"

#include <sys/mman.h>

#include "engine/colo/ram_cache.h"

enum { PAGE = 4096, PAGES = 130 };

struct side {
	struct gw__guest *guest;
	struct gw__blocks blocks;
	struct gw__dirty_pages *written;
	struct gw__ram_cache *cache;
	uint8_t *ram;
};

static int set_up(void **state)
{
	static struct side s;
	struct gw__error error = {0};
	struct gw__guest_block block = {.name = "ram", .bytes = PAGES * PAGE, .page_bytes = PAGE, .fd = -1};
	struct gw__block listed = {.name = "ram", .used_bytes = PAGES * PAGE};
	s = (struct side){.guest = gw__guest_new()};
	s.ram = block.host = mmap(NULL, block.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s.guest->page_bytes = PAGE;
	assert_ptr_not_equal(s.ram, MAP_FAILED);
	assert_int_equal(gw__guest_add_block(s.guest, &block, &error), 0);
	assert_int_equal(gw__blocks_add(&s.blocks, &listed), 0);
	assert_int_equal(gw__dirty_pages_new(s.guest, &s.blocks, &s.written, &error), 0);
	assert_int_equal(gw__ram_cache_new(s.guest, &s.blocks, &s.cache, &error), 0);
	/* The first copy: every page has content, here and in the cache. */
	for (uint64_t i = 0; i < PAGES; i++) {
		memset(s.ram + i * PAGE, 'a', PAGE);
		gw__ram_cache_put(s.cache, 0, i * PAGE, s.ram + i * PAGE, 1, false);
	}
	assert_int_equal(gw__dirty_pages_start(s.written, &error), 0);
	assert_int_equal(gw__dirty_pages_forget(s.written, &error), 0);
	*state = &s;
	return 0;
}

static int tear_down(void **state)
{
	struct side *s = *state;
	gw__ram_cache_free(s->cache);
	gw__dirty_pages_free(s->written);
	gw__blocks_fini(&s->blocks);
	gw__guest_free(s->guest);
	munmap(s->ram, PAGES * PAGE);
	return 0;
}

static void primary_sends(struct side *s, uint64_t page, char content)
{
	uint8_t bytes[PAGE];
	memset(bytes, content, PAGE);
	if (content)
		gw__ram_cache_put(s->cache, 0, page * PAGE, bytes, 1, true);
	else
		gw__ram_cache_put_zeros(s->cache, 0, page * PAGE, 1, true);
}

static void secondary_writes(struct side *s, uint64_t page, char content)
{
	memset(s->ram + page * PAGE, content, PAGE);
	assert_int_equal(gw__guest_dirty(s->guest, "ram", page * PAGE, PAGE), 0);
}

static struct gw__ram_cache_flushed flush(struct side *s)
{
	struct gw__ram_cache_flushed flushed;
	struct gw__error error = {0};
	assert_int_equal(gw__ram_cache_flush(s->cache, s->written, &flushed, &error), 0);
	return flushed;
}

static void check(const struct side *s, uint64_t page, char content)
{
	for (unsigned i = 0; i < PAGE; i++)
		if (s->ram[page * PAGE + i] != (uint8_t)content)
			fail_msg("page %u, byte %u: %d, expected %d", (unsigned)page, i, s->ram[page * PAGE + i], content);
}

/* Every page but `changed` is that of the first copy. */
static void check_rest(const struct side *s, const uint64_t *changed, unsigned n)
{
	for (uint64_t i = 0; i < PAGES; i++) {
		bool skip = false;
		for (unsigned k = 0; k < n; k++)
			skip |= changed[k] == i;
		if (!skip)
			check(s, i, 'a');
	}
}

static void a_page_that_only_the_secondary_wrote_is_taken_back(void **state)
{
	struct side *s = *state;
	secondary_writes(s, 0, 's');
	secondary_writes(s, PAGES - 1, 's');
	struct gw__ram_cache_flushed f = flush(s);
	assert_int_equal(f.by_secondary, 2);
	assert_int_equal(f.by_primary, 0);
	check_rest(s, NULL, 0);
}

static void a_page_that_only_the_primary_wrote_comes_in(void **state)
{
	struct side *s = *state;
	primary_sends(s, 64, 'p');
	check(s, 64, 'a'); /* nothing of an epoch that is not flushed */
	assert_int_equal(flush(s).by_primary, 1);
	check(s, 64, 'p');
	check_rest(s, (uint64_t[]){64}, 1);
}

static void of_a_page_that_both_wrote_the_primary_has_the_say(void **state)
{
	struct side *s = *state;
	secondary_writes(s, 3, 's');
	primary_sends(s, 3, 'p');
	primary_sends(s, 3, 'q'); /* again in one epoch: the later one */
	struct gw__ram_cache_flushed f = flush(s);
	assert_int_equal(f.by_primary, 1);
	assert_int_equal(f.by_secondary, 0);
	check(s, 3, 'q');
	check_rest(s, (uint64_t[]){3}, 1);
}

static void zeros_are_content(void **state)
{
	struct side *s = *state;
	primary_sends(s, 5, 0);
	flush(s);
	check(s, 5, 0);
	primary_sends(s, 5, 'p');
	flush(s);
	check(s, 5, 'p');
	primary_sends(s, 5, 0);
	secondary_writes(s, 5, 's');
	flush(s);
	check(s, 5, 0);
	check_rest(s, (uint64_t[]){5}, 1);
}

/* What the primary sent three epochs ago is still what a page is taken back to. */
static void nothing_is_reset(void **state)
{
	struct side *s = *state;
	primary_sends(s, 7, 'p');
	flush(s);
	for (int epoch = 0; epoch < 3; epoch++) {
		assert_int_equal(flush(s).by_primary, 0); /* it is sent once */
		secondary_writes(s, 7, 's');
		secondary_writes(s, 8, 's');
		assert_int_equal(flush(s).by_secondary, 2);
		check(s, 7, 'p');
		check(s, 8, 'a');
	}
	assert_int_equal(flush(s).by_secondary, 0);
	check_rest(s, (uint64_t[]){7}, 1);
}

/* The link broke in the middle: the guest is what it was, its own writes included. */
static void of_half_an_epoch_nothing_is_flushed(void **state)
{
	struct side *s = *state;
	secondary_writes(s, 1, 's');
	primary_sends(s, 1, 'p');
	primary_sends(s, 2, 'p');
	check(s, 1, 's');
	check(s, 2, 'a');
	check_rest(s, (uint64_t[]){1}, 1);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		CASE(a_page_that_only_the_secondary_wrote_is_taken_back),
		CASE(a_page_that_only_the_primary_wrote_comes_in),
		CASE(of_a_page_that_both_wrote_the_primary_has_the_say),
		CASE(zeros_are_content),
		CASE(nothing_is_reset),
		CASE(of_half_an_epoch_nothing_is_flushed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
