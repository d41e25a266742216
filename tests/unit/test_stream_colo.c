/* SPDX-License-Identifier: MIT */
/* The RAM and the device state of COLO checkpoints (docs/spec/colo.md 4, 5): the captured shapes are read, everything else is refused. */
#include "stream_check.h"

#include "wire/device_buffer.h"

/* A guest of put_ram, complete; the checkpoints of a test go on from here. Ended with feed_end_fini. */
static struct feed_end migrated(void)
{
	struct sb b = {0};
	put_ram(&b);
	put_rest(&b);
	return accepted(&b);
}

struct reading {
	char log[4096];
	size_t used;
	int code; /* 0: END came; GW__SHORT: it did not */
	struct gw__error error;
};

static void note(struct reading *r, const struct gw__stream *s, const struct gw__event *ev)
{
	size_t n = strlen(r->log);
	bool page = ev->kind == GW__EVENT_PAGE || ev->kind == GW__EVENT_ZERO;
	if (page)
		snprintf(r->log + n, sizeof r->log - n, "%s %s+%llx\n", gw__event_name(ev->kind), s->blocks.v[ev->where.block].name,
			(unsigned long long)ev->where.off);
	else
		snprintf(r->log + n, sizeof r->log - n, "%s\n", gw__event_name(ev->kind));
}

/* One checkpoint, shown in pieces that grow by `step` bytes. The decoder is changed as its owner's is. */
static struct reading read_checkpoint(struct gw__stream *s, const struct sb *b, size_t step)
{
	struct reading r = {.code = GW__SHORT};
	size_t shown = step < b->n ? step : b->n;
	gw__stream_begin_checkpoint(s);
	while (r.code == GW__SHORT) {
		struct gw__event ev;
		size_t used;
		int got = gw__stream_next(s, b->p + r.used, shown - r.used, false, &used, &ev, &r.error);
		if (got < 0) {
			r.code = got;
			break;
		}
		r.used += used;
		if (got) {
			note(&r, s, &ev);
			r.used += ev.kind == GW__EVENT_PAGE ? s->page_bytes : 0;
			shown = r.used > shown ? r.used : shown;
			r.code = ev.kind == GW__EVENT_END ? 0 : GW__SHORT;
		} else if (shown == b->n) {
			break;
		} else {
			shown = shown + step < b->n ? shown + step : b->n;
		}
	}
	return r;
}

/* In pieces of any size it is the same. */
static struct reading read_all_ways(struct gw__stream *s, const struct sb *b)
{
	struct gw__stream before = *s;
	struct reading first = read_checkpoint(s, b, b->n);
	static const size_t steps[] = {1, 2, 3, 7, 4099};
	for (unsigned i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		struct gw__stream copy = before; /* a checkpoint changes nothing that it points to */
		struct reading again = read_checkpoint(&copy, b, steps[i]);
		assert_string_equal(again.log, first.log);
		assert_int_equal(again.code, first.code);
		assert_string_equal(again.error.text, first.error.text);
		if (!first.code)
			assert_int_equal(again.used, first.used);
	}
	return first;
}

static void put_end(struct sb *b)
{
	sb_eos(b);
	sb_u8(b, 0);
}

static void checkpoints_follow_each_other(void **state)
{
	(void)state;
	struct feed_end end = migrated();
	struct sb b = {0};
	sb_more(&b, 0x03, 1);
	sb_record(&b, 0x1000 | 0x008, "m0");
	sb_fill(&b, 0x11, 4096);
	sb_zero(&b, 0x2000, NULL);
	put_end(&b);
	struct reading r = read_all_ways(&end.stream, &b);
	assert_int_equal(r.code, 0);
	assert_int_equal(r.used, b.n);
	assert_string_equal(r.log, "section\npage m0+1000\nzero m0+2000\neos\nsection-end\neof\nend\n");
	sb_fini(&b);

	/* The first record of the next one may mean the last block of this one. */
	sb_more(&b, 0x03, 1);
	sb_record(&b, 0x3000 | 0x008, NULL);
	sb_fill(&b, 0x22, 4096);
	sb_zero(&b, 0, "rom");
	put_end(&b);
	r = read_all_ways(&end.stream, &b);
	assert_int_equal(r.code, 0);
	assert_string_equal(r.log, "section\npage m0+3000\nzero rom+0\neos\nsection-end\neof\nend\n");
	sb_fini(&b);

	/* And an empty one changes nothing of that. */
	sb_more(&b, 0x03, 1);
	put_end(&b);
	r = read_all_ways(&end.stream, &b);
	assert_string_equal(r.log, "section\neos\nsection-end\neof\nend\n");
	sb_fini(&b);
	sb_more(&b, 0x03, 1);
	sb_zero(&b, 0x1000, NULL);
	put_end(&b);
	r = read_all_ways(&end.stream, &b);
	assert_string_equal(r.log, "section\nzero rom+1000\neos\nsection-end\neof\nend\n");
	sb_fini(&b);
	feed_end_fini(&end);
}

/* As captured, over two channels: 27 and 35 bytes. */
static void pages_may_be_elsewhere(void **state)
{
	(void)state;
	struct feed_end end = migrated();
	struct sb b = {0};
	sb_hex(&b, "03 00000001 0000000000000200 0000000000000010 7e 00000001 00");
	assert_int_equal(b.n, 27);
	struct reading r = read_all_ways(&end.stream, &b);
	assert_string_equal(r.log, "section\nflush\neos\nsection-end\neof\nend\n");
	sb_fini(&b);
	sb_hex(&b, "03 00000001 0000000000000200 0000000000000200 0000000000000010 7e 00000001 00");
	assert_int_equal(b.n, 35);
	r = read_all_ways(&end.stream, &b);
	assert_string_equal(r.log, "section\nflush\nflush\neos\nsection-end\neof\nend\n");
	sb_fini(&b);
	feed_end_fini(&end);
}

static void an_old_primary_may_say_that_it_switches(void **state)
{
	(void)state;
	struct feed_end end = migrated();
	struct sb b = {0};
	sb_switchover(&b);
	sb_more(&b, 0x03, 1);
	put_end(&b);
	assert_string_equal(read_all_ways(&end.stream, &b).log, "command\nsection\neos\nsection-end\neof\nend\n");
	sb_fini(&b);
	feed_end_fini(&end);
}

static void refuse(const char *bytes, const char *sentence, const char *expected)
{
	struct feed_end end = migrated();
	struct sb b = {0};
	sb_hex(&b, bytes);
	struct reading r = read_all_ways(&end.stream, &b);
	assert_says(&r.error, -EPROTO, sentence, expected, "at stream offset");
	sb_fini(&b);
	feed_end_fini(&end);
}

static void all_else_is_refused(void **state)
{
	(void)state;
	/* items */
	refuse("01 00000001 03 'ram' 00000000 00000004", "section type 01 in a checkpoint", "END of the RAM section");
	refuse("02 00000001", "section type 02 in a checkpoint", "03");
	refuse("04 00000003 05 'timer' 00000000 00000002", "section type 04 in a checkpoint", "03");
	refuse("00", "section type 00 in a checkpoint", "03");
	refuse("00 000001", "section type 00 in a checkpoint", "03"); /* CHECKPOINT_REQUEST */
	refuse("03 00000002", "section 2", "no section of that id is open");
	refuse("03 00000001 0000000000000010 7e 00000002", "footer", "1");
	refuse("03 00000001 0000000000000010 7e 00000001 03 00000001", "section type 03 in a checkpoint, expected 00", "RAM");
	refuse("03 00000001 0000000000000010 7e 00000001 08 000b 0000", "section type 08 in a checkpoint, expected 00", "RAM");
	/* commands */
	refuse("08 0008 0000", "command ENABLE_COLO in a checkpoint", "SWITCHOVER_START");
	refuse("08 0001 0000", "command OPEN_RETURN_PATH in a checkpoint", "SWITCHOVER_START");
	/* records: a block list, a delta, a page outside, an unknown block */
	refuse("03 00000001 0000000000006004", "RAM record of kind 004 in a checkpoint", "ZERO");
	refuse("03 00000001 0000000000000040 02 'm0' 01 0001 00", "RAM record of kind 040 in a checkpoint", "PAGE");
	refuse("03 00000001 0000000000004008 02 'm0'", "offset 4000", "m0");
	refuse("03 00000001 0000000000000008 02 'm1'", "m1", "not in the block list");
}

/* A channel that ended in an error does not become good by a checkpoint. */
static void the_block_of_the_migration_is_kept(void **state)
{
	(void)state;
	struct feed_end end = migrated(); /* its last record was one of "rom" */
	struct sb b = {0};
	sb_more(&b, 0x03, 1);
	sb_zero(&b, 0, NULL);
	put_end(&b);
	assert_string_equal(read_all_ways(&end.stream, &b).log, "section\nzero rom+0\neos\nsection-end\neof\nend\n");
	sb_fini(&b);
	feed_end_fini(&end);
}

/* --- device state --- */

static void put_state(struct sb *b)
{
	put_devices(b);
	sb_u8(b, 0);
}

static unsigned count_devices(const struct sb *b, const struct gw__vmdesc *desc)
{
	struct gw__device_buffer d;
	struct gw__error error = {0};
	struct gw__section section;
	struct gw__view raw;
	unsigned n = 0;
	size_t bytes = 0;
	if (gw__device_buffer_decode(b->p, b->n, desc, &d, &error))
		fail_msg("%s", error.text);
	for (; gw__device_buffer_next(&d, &section, &raw); n++)
		bytes += raw.n;
	assert_int_equal(bytes + 1, b->n);
	assert_int_equal(n, d.devices);
	return n;
}

static void devices_are_found_with_and_without_a_description(void **state)
{
	(void)state;
	struct feed_end end = migrated();
	struct sb b = {0};
	put_state(&b);
	assert_non_null(end.stream.desc);
	assert_int_equal(count_devices(&b, end.stream.desc), 3);
	assert_int_equal(count_devices(&b, NULL), 3);
	sb_fini(&b);
	feed_end_fini(&end);
}

static void refuse_state(const struct sb *b, const struct gw__vmdesc *desc, const char *sentence)
{
	struct gw__device_buffer d;
	struct gw__error error = {0};
	assert_int_equal(gw__device_buffer_decode(b->p, b->n, desc, &d, &error), -EPROTO);
	assert_says(&error, -EPROTO, sentence);
}

static void device_state_that_is_not_whole_is_refused(void **state)
{
	(void)state;
	struct feed_end end = migrated();
	struct sb good = {0}, b = {0};
	put_state(&good);
	for (size_t n = 0; n < good.n; n++) { /* cut anywhere */
		struct gw__device_buffer d;
		struct gw__error error = {0};
		assert_int_equal(gw__device_buffer_decode(good.p, n, end.stream.desc, &d, &error), -EPROTO);
		assert_true(error.text[0]);
	}
	sb_copy(&b, &good);
	sb_u8(&b, 0);
	refuse_state(&b, end.stream.desc, "1 bytes follow the end");
	sb_fini(&b);
	sb_u8(&b, 0);
	refuse_state(&b, end.stream.desc, "is empty");
	sb_fini(&b);
	put_devices(&b);
	sb_hex(&b, "03 00000001 0000000000000010 7e 00000001 00");
	refuse_state(&b, NULL, "device state of a checkpoint");
	sb_fini(&b);
	sb_fini(&good);
	feed_end_fini(&end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checkpoints_follow_each_other),
		cmocka_unit_test(pages_may_be_elsewhere),
		cmocka_unit_test(an_old_primary_may_say_that_it_switches),
		cmocka_unit_test(all_else_is_refused),
		cmocka_unit_test(the_block_of_the_migration_is_kept),
		cmocka_unit_test(devices_are_found_with_and_without_a_description),
		cmocka_unit_test(device_state_that_is_not_whole_is_refused),
	};
	return cmocka_run_group_tests_name("stream_colo", tests, NULL, NULL);
}
