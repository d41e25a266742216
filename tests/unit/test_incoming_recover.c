/* SPDX-License-Identifier: MIT */
/* A source that comes back, to a guest of large pages: what is thrown away before it is told what came, and in which time. */
#include "unit.h"

#include <sys/socket.h>
#include <unistd.h>

#include "engine/core/run.h"
#include "engine/sink/rollback.h"
#include "engine/incoming/stream.h"

enum { PAGE = 4096, LARGE = 2 << 20, PIECES = LARGE / PAGE };

/* A connection that ends before a word was said. */
static void connect_once(struct gw__sink *sink, struct gw__incoming_result *result)
{
	struct gw__stream_stats stats = {0};
	struct gw__run run;
	struct gw__incoming in = {0};
	struct gw__io_opts io = {.idle_ms = 10000, .connect_ms = 10000, .cancel_fd = -1};
	int pair[2];
	gw__run_init(&run);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(gw__chan_take_fd(pair[0], "the source", &io, &in.main, &run.error), 0);
	close(pair[1]);
	assert_true(
		gw__incoming_recover(&run, &in, &(struct gw__incoming_recover){.role = GW__POSTCOPY_DST_KEEP}, sink, &stats, result) < 0);
	gw__stream_stats_fini(&stats);
	assert_int_equal(result->state, GW__POSTCOPY_DST_PAUSED);
	gw__chan_close(&in.main, NULL);
}

static struct gw__blocks one_block(uint64_t bytes)
{
	struct gw__blocks blocks = {0};
	assert_int_equal(gw__blocks_add(&blocks, &(struct gw__block){.name = "huge", .used_bytes = bytes, .page_bytes = LARGE}), 0);
	return blocks;
}

/* 2^19 large pages: looking from each of them to the end of the guest would take many minutes. */
static void a_huge_guest_is_looked_through_once(void **state)
{
	(void)state;
	struct gw__blocks blocks = one_block(UINT64_C(1) << 40);
	struct gw__incoming_result result = {0};
	struct gw__sink *sink = NULL;
	struct gw__error error = {0};
	assert_int_equal(
		gw__sink_rollback_new(&(struct gw__rollback_opts){.blocks = &blocks, .page_bytes = PAGE, .ram_section_id_unknown = true},
			&sink, &error),
		0);
	connect_once(sink, &result);
	assert_int_equal(result.missing_pages, 0);
	gw__sink_free(&sink);
	gw__blocks_fini(&blocks);
}

/* --- what is thrown away --- */

static struct gw__bitmap received;
static uint64_t void_off, void_pages;
static const struct gw__blocks *guest;

static void recovery_info(struct gw__sink *s, struct gw__sink_recovery_info *k)
{
	(void)s;
	*k = (struct gw__sink_recovery_info){.blocks = guest, .page_bytes = PAGE, .ram_id = 1};
}

static const struct gw__bitmap *get_received(struct gw__sink *s, uint32_t block)
{
	(void)s;
	assert_int_equal(block, 0);
	return &received;
}

static int discard(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	(void)s, (void)block, (void)error;
	assert_int_equal(void_pages, 0); /* once */
	void_off = off;
	void_pages = pages;
	gw__bitmap_clear_range(&received, off / PAGE, pages);
	return 0;
}

static void a_large_page_counts_as_a_whole(void **state)
{
	(void)state;
	static const struct gw__sink_postcopy_ops postcopy = {.recovery_info = recovery_info, .received = get_received, .discard = discard};
	static const struct gw__sink_ops ops = {.postcopy = &postcopy};
	struct gw__sink sink = {.ops = &ops};
	struct gw__incoming_result result = {0};
	struct gw__blocks blocks = one_block(5 * LARGE);
	guest = &blocks;
	assert_int_equal(gw__sink_begin_in(&sink, GW__SINK_LATE, PAGE, &blocks, NULL), 0);
	assert_int_equal(gw__bitmap_init(&received, 5 * PIECES), 0);
	gw__bitmap_set_range(&received, PIECES, PIECES); /* whole, between nothing and a part */
	gw__bitmap_set_range(&received, 2 * PIECES + 5, PIECES - 5);
	gw__bitmap_set_range(&received, 4 * PIECES, PIECES);
	connect_once(&sink, &result);
	assert_int_equal(void_off, 2 * LARGE);
	assert_int_equal(void_pages, PIECES);
	assert_int_equal(result.missing_pages, 3 * PIECES);
	gw__bitmap_fini(&received);
	gw__blocks_fini(&blocks);
	free(sink.block_bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_huge_guest_is_looked_through_once),
		cmocka_unit_test(a_large_page_counts_as_a_whole)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
