/* SPDX-License-Identifier: MIT */
/* The calls to a sink: each in each state, pages outside of their block, operations that fail or are not there. */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/sink/sink.h"

enum { PAGE = 4096, PAGES = 8 };

/* --- a sink that counts its operations, and lets them fail --- */

struct counting {
	struct gw__sink sink; /* first */
	unsigned calls;
	int result;
};

static int called(struct gw__sink *s)
{
	((struct counting *)s)->calls++;
	return ((struct counting *)s)->result;
}

static int config(struct gw__sink *s, const struct gw__config *c, struct gw__error *e) { return called(s); }
static int blocks(struct gw__sink *s, uint32_t id, const struct gw__blocks *b, struct gw__error *e) { return called(s); }
static int pages(struct gw__sink *s, uint32_t b, uint64_t off, const struct iovec *v, int n, struct gw__error *e) { return called(s); }
static int zeros(struct gw__sink *s, uint32_t b, uint64_t off, uint64_t n, struct gw__error *e) { return called(s); }
static int read_back(struct gw__sink *s, uint32_t b, uint64_t off, void *page, struct gw__error *e) { return called(s); }
static int plain(struct gw__sink *s, struct gw__error *e) { return called(s); }
static int end(struct gw__sink *s, struct gw__view text, struct gw__error *e) { return called(s); }
static int image(struct gw__sink *s, const struct gw__image *i, struct gw__error *e) { return called(s); }
static int number(struct gw__sink *s, uint32_t n, struct gw__error *e) { return called(s); }
static int package(struct gw__sink *s, uint8_t **p, size_t n, struct gw__error *e) { return called(s); }
static int device(struct gw__sink *s, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__error *e)
{
	return called(s);
}
static void nothing(struct gw__sink *s) {}

static uint8_t buffer[GW__SINK_LANE_BUFFER_BYTES];
static struct gw__sink_lane lane;
static unsigned lane_calls;

static int borrow(struct gw__sink_lane *l, void **to, struct gw__error *e)
{
	*to = buffer;
	lane_calls++;
	return 0;
}
static int submit(struct gw__sink_lane *l, uint32_t b, const uint64_t *off, uint32_t n, struct gw__error *e) { return lane_calls++, 0; }
static int lane_zeros(struct gw__sink_lane *l, uint32_t b, uint64_t off, uint64_t n, struct gw__error *e) { return lane_calls++, 0; }
static int add_lane(struct gw__sink *s, struct gw__sink_lane **l, struct gw__error *e)
{
	static const struct gw__sink_lane_ops ops = {.borrow = borrow, .submit = submit, .zeros = lane_zeros};
	lane = (struct gw__sink_lane){.ops = &ops};
	*l = &lane;
	return called(s);
}

static const struct gw__sink_postcopy_ops POSTCOPY = {.prepare_postcopy = plain,
	.begin = plain,
	.discard = zeros,
	.persist_handover = package,
	.learn_ram_id = number,
	.checkpoint = plain};
static const struct gw__sink_ops ALL = {config, blocks, pages, zeros, read_back, device, plain, plain, plain, plain, end, plain, plain,
	image, &POSTCOPY, add_lane, nothing};
static const struct gw__sink_ops FEW = {
	.pages = pages, .postcopy = &(struct gw__sink_postcopy_ops){.persist_handover = package}, .free = nothing};
static const struct gw__sink_ops WHOLE_ONLY = {.pages = pages, .free = nothing};

static struct gw__blocks one_block;
static const struct gw__config CONFIG = {.page_bits = 12};
static const struct gw__section SECTION = {.type = GW__ITEM_FULL, .idstr = "timer"};

/* --- the calls --- */

typedef int call(struct gw__sink *s, struct gw__error *e);
static int call_config(struct gw__sink *s, struct gw__error *e) { return gw__sink_config(s, &CONFIG, e); }
static int call_blocks(struct gw__sink *s, struct gw__error *e) { return gw__sink_blocks(s, 1, &one_block, e); }
static int call_pages(struct gw__sink *s, struct gw__error *e) { return gw__sink_put(s, 0, PAGE, buffer, 2, e); }
static int call_zeros(struct gw__sink *s, struct gw__error *e) { return gw__sink_put(s, 0, 0, NULL, PAGES, e); }
static int call_read_back(struct gw__sink *s, struct gw__error *e) { return gw__sink_read_back(s, 0, 0, buffer, e); }
static int call_device(struct gw__sink *s, struct gw__error *e) { return gw__sink_device(s, &SECTION, 0, (struct gw__view){0}, e); }
static int call_end(struct gw__sink *s, struct gw__error *e) { return gw__sink_end(s, (struct gw__view){0}, e); }
static int call_image(struct gw__sink *s, struct gw__error *e) { return gw__sink_ram_of_image(s, NULL, e); }
static int call_discard(struct gw__sink *s, struct gw__error *e) { return gw__sink_discard(s, 0, 0, 1, e); }
static int call_persist(struct gw__sink *s, struct gw__error *e) { return gw__sink_persist_handover(s, NULL, 0, e); }
static int call_learn(struct gw__sink *s, struct gw__error *e) { return gw__sink_learn_ram_id(s, 5, e); }
static int call_lane(struct gw__sink *s, struct gw__error *e)
{
	struct gw__sink_lane *l;
	return gw__sink_add_lane(s, &l, e);
}

#define AT(state)  (1u << GW__SINK_##state)
#define PAGES_COME (AT(RAM) | AT(LATE) | AT(CHECKPOINT))

/* What sink.h says of the order, once more. */
static const struct {
	const char *name;
	call *call;
	unsigned allowed;
	int to; /* the state afterwards, -1: the same */
} ROWS[] = {
	{"config", call_config, AT(NEW), GW__SINK_CONFIGURED},
	{"blocks", call_blocks, AT(CONFIGURED), GW__SINK_RAM},
	{"pages", call_pages, PAGES_COME, -1},
	{"zeros", call_zeros, PAGES_COME, -1},
	{"read_back", call_read_back, AT(RAM), -1},
	{"device", call_device, AT(CONFIGURED) | AT(RAM) | AT(LATE) | AT(RAM_ENDED), -1},
	{"round", gw__sink_round, PAGES_COME, -1},
	{"barrier", gw__sink_barrier, AT(RAM) | AT(CHECKPOINT), -1},
	{"switchover", gw__sink_switchover, AT(CONFIGURED) | AT(RAM) | AT(RAM_ENDED) | AT(CHECKPOINT), -1},
	{"ram_end", gw__sink_ram_end, PAGES_COME, GW__SINK_RAM_ENDED},
	{"end", call_end, AT(RAM_ENDED), GW__SINK_ENDED},
	{"sync", gw__sink_sync, AT(ENDED), -1},
	{"commit", gw__sink_commit, AT(ENDED), GW__SINK_COMMITTED},
	{"ram_of_image", call_image, AT(RAM), -1},
	{"add_lane", call_lane, AT(RAM), -1},
	{"prepare_postcopy", gw__sink_prepare_postcopy, AT(RAM), -1},
	{"begin_postcopy", gw__sink_begin_postcopy, AT(RAM), GW__SINK_SWITCHING},
	{"discard", call_discard, AT(SWITCHING) | AT(LATE), -1},
	{"persist_handover", call_persist, AT(SWITCHING), GW__SINK_LATE},
	{"learn_ram_id", call_learn, AT(LATE), -1},
	{"checkpoint", gw__sink_checkpoint, AT(LATE), -1},
};

static struct counting made(const struct gw__sink_ops *ops, unsigned state)
{
	struct counting c = {.sink.ops = ops};
	struct gw__error error = {0};
	assert_int_equal(gw__sink_begin_in(&c.sink, state, PAGE, &one_block, &error), 0);
	return c;
}

static unsigned state_of(struct counting *c) { return c->sink.state; }
static void done_with(struct counting *c) { free(c->sink.block_bytes); }

static void each_call_in_each_state(void **unused)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		for (unsigned state = 0; state < GW__SINK_STATES; state++) {
			struct counting c = made(&ALL, state);
			struct gw__error error = {0};
			int r = ROWS[i].call(&c.sink, &error);
			if (ROWS[i].allowed >> state & 1) {
				unsigned to = ROWS[i].to >= 0 ? (unsigned)ROWS[i].to : state;
				if (state == GW__SINK_CHECKPOINT && to == GW__SINK_RAM_ENDED)
					to = GW__SINK_ENDED; /* its devices come another way */
				assert_ok(r, error);
				assert_int_equal(c.calls, 1);
				assert_int_equal(state_of(&c), to);
			} else {
				assert_int_equal(r, -EINVAL);
				assert_non_null(strstr(error.text, "a fault of Godwit"));
				assert_int_equal(c.calls, 0);
				assert_int_equal(state_of(&c), state);
			}
			done_with(&c);
		}
}

static void a_call_that_failed_changes_nothing(void **unused)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		for (unsigned state = 0; state < GW__SINK_STATES; state++) {
			struct counting c = made(&ALL, state);
			struct gw__error error = {0};
			c.result = -EIO;
			if (ROWS[i].allowed >> state & 1)
				assert_int_equal(ROWS[i].call(&c.sink, &error), -EIO);
			assert_int_equal(state_of(&c), state);
			done_with(&c);
		}
}

static void epochs_follow_each_other(void **unused)
{
	struct counting c = made(&ALL, GW__SINK_ENDED);
	struct gw__error error = {0};
	for (int epoch = 0; epoch < 3; epoch++) {
		assert_ok(gw__sink_begin_checkpoint(&c.sink, &error), error);
		assert_ok(call_pages(&c.sink, &error), error);
		assert_int_equal(gw__sink_begin_checkpoint(&c.sink, &error), -EINVAL); /* half of one is not left */
		gw__error_clear(&error);
		assert_ok(gw__sink_ram_end(&c.sink, &error), error);
	}
	assert_int_equal(call_pages(&c.sink, &error), -EINVAL);
	done_with(&c);
}

/* --- pages that are not in their block --- */

static const struct {
	uint32_t block;
	uint64_t off, n;
} OUTSIDE[] = {{1, 0, 1}, {UINT32_MAX, 0, 1}, {0, 1, 1}, {0, PAGE / 2, 1}, {0, PAGES *PAGE, 1}, {0, PAGE, PAGES}, {0, 0, PAGES + 1},
	{0, 0, UINT64_MAX / PAGE}, {0, UINT64_MAX - PAGE + 1, 1}, {0, UINT64_MAX - PAGE + 1, 2}};

static void pages_outside_are_refused(void **unused)
{
	struct counting c = made(&ALL, GW__SINK_RAM), late = made(&ALL, GW__SINK_LATE);
	struct gw__sink_lane *l;
	struct gw__error error = {0};
	void *to;
	assert_ok(gw__sink_add_lane(&c.sink, &l, &error), error);
	c.calls = lane_calls = 0;
	for (unsigned i = 0; i < sizeof OUTSIDE / sizeof OUTSIDE[0]; i++) {
		const uint32_t block = OUTSIDE[i].block;
		const uint64_t off = OUTSIDE[i].off, n = OUTSIDE[i].n;
		struct iovec iov[PAGES + 1];
		const uint64_t end = off + (n - 1) * PAGE, last = end < off ? off : end;
		assert_int_equal(gw__sink_zeros(&c.sink, block, off, n, &error), -EINVAL);
		assert_int_equal(gw__sink_discard(&late.sink, block, off, n, &error), -EINVAL);
		assert_int_equal(gw__sink_lane_zeros(l, block, off, n, &error), -EINVAL);
		if (n <= PAGES + 1)
			assert_int_equal(gw__sink_pages(&c.sink, block, off, iov, (int)n, &error), -EINVAL);
		assert_int_equal(gw__sink_lane_borrow(l, &to, &error), 0);
		assert_int_equal(gw__sink_lane_submit(l, block, &last, 1, &error), -EINVAL);
		gw__error_clear(&error);
	}
	assert_int_equal(c.calls + late.calls, 0);
	assert_int_equal(lane_calls, sizeof OUTSIDE / sizeof OUTSIDE[0]); /* borrowed */
	done_with(&c);
	done_with(&late);
}

static void lanes_give_what_was_borrowed(void **unused)
{
	struct counting c = made(&ALL, GW__SINK_RAM);
	static uint64_t off[GW__SINK_LANE_BUFFER_BYTES / PAGE + 1];
	struct gw__error error = {0};
	struct gw__sink_lane *l;
	void *to;
	assert_ok(gw__sink_add_lane(&c.sink, &l, &error), error);
	assert_int_equal(gw__sink_lane_submit(l, 0, off, 1, &error), -EINVAL);
	gw__error_clear(&error);
	assert_ok(gw__sink_lane_borrow(l, &to, &error), error);
	assert_int_equal(gw__sink_lane_submit(l, 0, off, sizeof off / sizeof off[0], &error), -EINVAL);
	gw__error_clear(&error);
	assert_ok(gw__sink_lane_submit(l, 0, off, 2, &error), error);
	assert_int_equal(gw__sink_lane_submit(l, 0, off, 2, &error), -EINVAL);
	gw__error_clear(&error);
	assert_ok(gw__sink_lane_flush(l, &error), error); /* without an operation */
	done_with(&c);
}

/* --- what is not there --- */

static void without_an_operation(void **unused)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		for (unsigned state = 0; state < GW__SINK_STATES; state++) {
			struct counting c = made(&FEW, state);
			struct gw__error error = {0};
			bool may = ROWS[i].allowed >> state & 1;
			int r = ROWS[i].call(&c.sink, &error);
			if (may && ROWS[i].call == call_image)
				assert_int_equal(r, GW__NOT_MINE);
			else if (may && ROWS[i].call == call_read_back)
				assert_int_equal(r, -EOPNOTSUPP);
			else
				assert_int_equal(r, may && ROWS[i].call != call_lane ? 0 : -EINVAL);
			done_with(&c);
		}
	struct counting c = made(&WHOLE_ONLY, GW__SINK_RAM);
	struct gw__error error = {0};
	assert_int_equal(gw__sink_begin_postcopy(&c.sink, &error), -EINVAL);
	assert_false(gw__sink_is_committed(&c.sink));
	gw__sink_discard_checkpoint(&c.sink);
	done_with(&c);
}

/* Its devices may be loaded when the stream has ended already. */
static void who_runs_the_guest(void **unused)
{
	const struct gw__sink_run_ops run = {0};
	const struct gw__sink_postcopy_ops postcopy = {.run = &run};
	const struct gw__sink_ops ops = {.device = device, .postcopy = &postcopy, .free = nothing};
	struct counting c = made(&ops, GW__SINK_ENDED);
	struct gw__error error = {0};
	assert_ok(call_device(&c.sink, &error), error);
	assert_int_equal(c.calls, 1);
	done_with(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(each_call_in_each_state), cmocka_unit_test(a_call_that_failed_changes_nothing),
		cmocka_unit_test(epochs_follow_each_other), cmocka_unit_test(pages_outside_are_refused),
		cmocka_unit_test(lanes_give_what_was_borrowed), cmocka_unit_test(without_an_operation),
		cmocka_unit_test(who_runs_the_guest)};
	struct gw__block block = {.name = "ram", .used_bytes = PAGES * PAGE};
	if (gw__blocks_add(&one_block, &block))
		return 1;
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	gw__blocks_fini(&one_block);
	return r;
}
