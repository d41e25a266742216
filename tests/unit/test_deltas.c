/* SPDX-License-Identifier: MIT */
/* Pages that are sent again as deltas: a destination that does what the records say has what the guest has, whatever falls out of the memory for sent pages. */
#include "unit.h"

#include "engine/guest/deltas.h"
#include "wire/ram.h"
#include "wire/xbzrle.h"

enum { PAGE = 4096, PAGES = 64, BLOCKS = 2, BATCH = 8 };

static uint8_t here[BLOCKS][PAGES][PAGE], there[BLOCKS][PAGES][PAGE];
static unsigned long seed = 5;

static unsigned random_below(unsigned n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % n;
}

struct tally {
	unsigned zero, whole, delta, nothing;
};

/* What a destination does (docs/spec/stream.md 7). */
static void arrives(uint8_t *page, uint32_t flag, const struct iovec *body, struct tally *t)
{
	const uint8_t *b = body->iov_base;
	struct gw__error error = {0};
	switch (flag) {
	case 0:
		t->nothing++;
		return;
	case GW__RAM_ZERO:
		t->zero++;
		memset(page, 0, PAGE);
		return;
	case GW__RAM_PAGE:
		t->whole++;
		assert_int_equal(body->iov_len, PAGE);
		memcpy(page, b, PAGE);
		return;
	case GW__RAM_XBZRLE:
		t->delta++;
		assert_int_equal(b[0], GW__XBZRLE_TYPE);
		assert_int_equal(body->iov_len, 3u + ((unsigned)b[1] << 8 | b[2]));
		assert_true(body->iov_len < PAGE);
		assert_ok(gw__xbzrle_decode(b + 3, body->iov_len - 3, page, PAGE, &error), error);
		return;
	default:
		fail_msg("a record of kind %x", (unsigned)flag);
	}
}

static void change(uint8_t *page)
{
	unsigned how = random_below(8);
	if (how == 0)
		memset(page, 0, PAGE);
	for (unsigned i = 0; how == 1 && i < PAGE; i++)
		page[i] = (uint8_t)random_below(256);
	for (unsigned i = random_below(20); how > 2 && i > 0; i--)
		page[random_below(PAGE)] ^= (uint8_t)(1 + random_below(255));
}

/* Rounds of a guest; a batch is looked at only when all of it was taken, because a batch is written as a whole. */
static struct tally rounds(struct gw__deltas *d, unsigned n)
{
	struct tally t = {0};
	while (n--) {
		for (unsigned done = 0; done < PAGES;) {
			unsigned block = random_below(BLOCKS), first = done, k;
			uint32_t flag[BATCH];
			struct iovec body[BATCH];
			for (k = 0; k < BATCH && done < PAGES; k++, done++) {
				change(here[block][done]);
				flag[k] = gw__deltas_take(d, k, block * PAGES + done, here[block][done], &body[k]);
			}
			uint8_t kept[BATCH][PAGE];
			for (unsigned i = 0; i < k; i++) {
				memcpy(kept[i], here[block][first + i], PAGE);
				memset(here[block][first + i], 0xee, PAGE); /* the guest goes on writing; what was taken does not change */
				arrives(there[block][first + i], flag[i], &body[i], &t);
				memcpy(here[block][first + i], kept[i], PAGE);
				assert_memory_equal(there[block][first + i], kept[i], PAGE);
			}
		}
	}
	return t;
}

static void the_destination_has_what_the_guest_has(void **state)
{
	static const uint64_t bytes[] = {1, 5 * PAGE, PAGES * PAGE, 4 * BLOCKS * PAGES * PAGE};
	unsigned deltas_before = 0;
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct gw__deltas *d = NULL;
		struct gw__error error = {0};
		memset(here, 0, sizeof here);
		memset(there, 0, sizeof there);
		assert_ok(gw__deltas_new(bytes[i], PAGE, BATCH, &d, &error), error);
		struct tally t = rounds(d, 200);
		gw__deltas_free(d);
		assert_true(t.zero && t.whole);
		assert_true(t.delta >= deltas_before);
		deltas_before = t.delta;
		if (i == 3)
			assert_true(t.nothing && t.delta > t.whole);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_destination_has_what_the_guest_has),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
