/* SPDX-License-Identifier: MIT */
/* The table of abilities: every row can be met, none is said twice, and the refusals that matter are there. */
#include "unit.h"

#include <stdio.h>

#include "plan/capability_rules.h"

#define A(name)  GW__ABILITY_BIT(GW__ABILITY_##name)
#define OP(name) GW__OPERATION_##name

static const unsigned releases[] = {702, 1000, 1101};

static uint64_t lowest(uint64_t bits) { return bits & -bits; }

/* Is there an operation, a release and a choice of abilities for which this row is the one that answers? */
static int is_met(const struct gw__rule *r)
{
	for (unsigned op = 0; op < GW__OPERATIONS; op++)
		for (unsigned v = 0; v < 3; v++)
			for (uint64_t any = r->any ? r->any : 1; any; any &= any - 1)
				if (gw__capability_check((enum gw__operation)op, r->with | (r->any ? lowest(any) : 0), releases[v]) == r)
					return 1;
	return 0;
}

static void every_row_answers_for_something(void **state)
{
	const struct gw__rule *r;
	for (unsigned i = 0; (r = gw__capability_rule(i)); i++)
		if (!is_met(r))
			fail_msg("row %u is never the answer: %s", i, r->reason);
}

static void every_row_is_well_formed(void **state)
{
	const struct gw__rule *r;
	for (unsigned i = 0; (r = gw__capability_rule(i)); i++) {
		size_t n = strlen(r->reason);
		assert_true(n > 20 && n < 300);
		assert_true(r->reason[n - 1] != '.' && r->reason[n - 1] != ' ');
		assert_true(r->with | r->any);
		assert_false((r->with & r->any) | (r->with & r->unless) | (r->any & r->unless));
		assert_int_equal((r->with | r->any | r->unless) >> GW__ABILITIES, 0);
		assert_true(r->operations && !(r->operations >> GW__OPERATIONS));
		assert_true(!r->last || r->first <= r->last);
		assert_non_null(gw__capability_found(r->found));
	}
}

/* Two rows that answer the same question in the same place: one of them is not needed. */
static void no_row_is_said_twice(void **state)
{
	const struct gw__rule *a, *b;
	for (unsigned i = 0; (a = gw__capability_rule(i)); i++)
		for (unsigned j = i + 1; (b = gw__capability_rule(j)); j++) {
			assert_string_not_equal(a->reason, b->reason);
			if (!(a->operations & b->operations) || a->with != b->with || a->unless != b->unless)
				continue;
			if ((a->last && b->first > a->last) || (b->last && a->first > b->last))
				continue;
			if (!a->any || !b->any || a->any & b->any)
				fail_msg("rows %u and %u are the same", i, j);
		}
}

/* A pair has no order: what a says of b, b says of a. And nothing refuses an empty wish. */
static void pairs_have_no_order(void **state)
{
	for (unsigned op = 0; op < GW__OPERATIONS; op++) {
		assert_null(gw__capability_check((enum gw__operation)op, 0, 0));
		for (unsigned a = 0; a < GW__ABILITIES; a++)
			for (unsigned b = 0; b < GW__ABILITIES; b++)
				assert_ptr_equal(
					gw__capability_check((enum gw__operation)op, GW__ABILITY_BIT(a) | GW__ABILITY_BIT(b), 1000),
					gw__capability_check((enum gw__operation)op, GW__ABILITY_BIT(b) | GW__ABILITY_BIT(a), 1000));
	}
}

static void names_are_found_again(void **state)
{
	for (unsigned i = 0; i < GW__ABILITIES; i++) {
		assert_non_null(gw__capability_ability(i));
		assert_int_equal(gw__capability_find(gw__capability_ability(i)), i);
	}
	for (unsigned i = 0; i < GW__OPERATIONS; i++)
		assert_non_null(gw__capability_operation(i));
	assert_null(gw__capability_ability(GW__ABILITIES));
	assert_null(gw__capability_operation(GW__OPERATIONS));
	assert_null(gw__capability_found(GW__FOUNDS));
	assert_int_equal(gw__capability_find("no-such-thing"), -1);
	assert_int_equal(gw__capability_find(""), -1);
	assert_true(GW__ABILITIES <= 64);
}

static const struct {
	enum gw__operation op;
	uint64_t wanted;
	unsigned qemu;
	enum gw__found found;
	const char *says; /* NULL: nothing refuses */
} questions[] = {
	/* docs/spec/mapped-ram.md 7 */
	{OP(QEMU_SOURCE), A(MAPPED_RAM) | A(XBZRLE), 1000, GW__FOUND_CAPABILITIES, "XBZRLE"},
	{OP(QEMU_SOURCE), A(MAPPED_RAM) | A(POSTCOPY_RAM), 1101, GW__FOUND_CAPABILITIES, "post-copy"},
	{OP(QEMU_SOURCE), A(MAPPED_RAM) | A(ZLIB), 1000, GW__FOUND_START, "compressed"},
	{OP(QEMU_DESTINATION), A(MAPPED_RAM) | A(ZSTD), 1101, GW__FOUND_CRASH, "crash"},
	{OP(QEMU_SOURCE), A(MAPPED_RAM) | A(TLS), 1101, GW__FOUND_START, "TLS"},
	{OP(QEMU_SOURCE), A(MAPPED_RAM) | A(UNIX), 1101, GW__FOUND_START, "fixed places"},
	{OP(QEMU_DESTINATION), A(MAPPED_RAM) | A(FD), 1000, GW__FOUND_START, "fixed places"},
	{OP(QEMU_SOURCE), A(MAPPED_RAM) | A(FILE) | A(RETURN_PATH), 1000, GW__FOUND_LATE, "return path"},
	{OP(QEMU_SOURCE), A(MAPPED_RAM) | A(X_IGNORE_SHARED) | A(SHARED_MEMORY), 1000, GW__FOUND_LATE, "shared memory"},
	{OP(QEMU_SOURCE), A(MAPPED_RAM) | A(X_IGNORE_SHARED) | A(SHARED_MEMORY), 1101, GW__FOUND_GODWIT, NULL},
	{OP(QEMU_SOURCE), A(MAPPED_RAM) | A(BACKGROUND_SNAPSHOT), 1101, GW__FOUND_NEVER, "bitmaps"},
	{OP(QEMU_SOURCE),
		A(MAPPED_RAM) | A(FILE) | A(VALIDATE_UUID) | A(AUTO_CONVERGE) | A(RELEASE_RAM) | A(DIRTY_BITMAPS) | A(EVENTS) |
			A(PAUSE_BEFORE_SWITCHOVER),
		1000, GW__FOUND_GODWIT, NULL},
	{OP(QEMU_SOURCE), A(MULTIFD) | A(FILE), 1000, GW__FOUND_START, "several channels"},
	{OP(QEMU_SOURCE), A(MULTIFD) | A(EXEC), 1000, GW__FOUND_START, "several channels"},
	{OP(QEMU_SOURCE), A(MULTIFD) | A(EXEC), 702, GW__FOUND_LATE, "several channels"},
	{OP(QEMU_SOURCE), A(MULTIFD) | A(FILE) | A(MAPPED_RAM), 1000, GW__FOUND_GODWIT, NULL},
	/* docs/spec/channels.md 5.3 and 5.6 */
	{OP(QEMU_SOURCE), A(MULTIFD) | A(XBZRLE), 702, GW__FOUND_GODWIT, NULL},
	{OP(QEMU_SOURCE), A(MULTIFD) | A(XBZRLE), 1000, GW__FOUND_CAPABILITIES, "XBZRLE"},
	{OP(QEMU_SOURCE), A(MULTIFD) | A(POSTCOPY_RAM), 702, GW__FOUND_GODWIT, NULL},
	{OP(QEMU_SOURCE), A(MULTIFD) | A(POSTCOPY_RAM), 1002, GW__FOUND_CAPABILITIES, "release"},
	{OP(QEMU_SOURCE), A(MULTIFD) | A(POSTCOPY_RAM), 1101, GW__FOUND_GODWIT, NULL},
	{OP(QEMU_SOURCE), A(MULTIFD) | A(POSTCOPY_RAM), 0, GW__FOUND_GODWIT, NULL}, /* unknown: not all refuse */
	{OP(QEMU_SOURCE), A(POSTCOPY_RAM) | A(X_IGNORE_SHARED), 0, GW__FOUND_CAPABILITIES, "shared memory"},
	{OP(QEMU_SOURCE), A(POSTCOPY_PREEMPT), 0, GW__FOUND_CAPABILITIES, "postcopy-ram"},
	{OP(QEMU_SOURCE), A(POSTCOPY_PREEMPT) | A(POSTCOPY_RAM), 0, GW__FOUND_GODWIT, NULL},
	{OP(QEMU_SOURCE), A(SWITCHOVER_ACK), 0, GW__FOUND_CAPABILITIES, "return-path"},
	{OP(QEMU_SOURCE), A(SWITCHOVER_ACK) | A(RETURN_PATH), 0, GW__FOUND_GODWIT, NULL},
	{OP(QEMU_SOURCE), A(X_COLO), 1000, GW__FOUND_GODWIT, NULL},
	{OP(QEMU_SOURCE), A(X_COLO), 1101, GW__FOUND_CAPABILITIES, "return-path"},
	{OP(QEMU_SOURCE), A(MAPPED_RAM) | A(MULTIFD) | A(DIRECT_IO) | A(FILE) | A(FDSET), 1000, GW__FOUND_CRASH, "second descriptor"},
	{OP(QEMU_DESTINATION), A(MAPPED_RAM) | A(MULTIFD) | A(DIRECT_IO) | A(FILE) | A(FDSET), 1000, GW__FOUND_GODWIT, NULL},
	/* ours */
	{OP(SAVE), A(BACKGROUND_SNAPSHOT) | A(MULTIFD) | A(UNIX), 1000, GW__FOUND_CAPABILITIES, "one channel"},
	{OP(SAVE), A(RETURN_PATH) | A(MULTIFD) | A(ZSTD) | A(TLS) | A(DIRECT_IO) | A(OFFSET) | A(UNIX), 702, GW__FOUND_GODWIT, NULL},
	{OP(SAVE), A(EXEC), 0, GW__FOUND_GODWIT, "socket"},
	{OP(RECEIVE), A(MULTIFD) | A(EXEC), 0, GW__FOUND_GODWIT, "tcp, unix or vsock"},
	{OP(RECEIVE), A(TLS) | A(FILE), 0, GW__FOUND_GODWIT, "tcp, unix or vsock"},
	{OP(RECEIVE), A(DIRECT_IO) | A(OFFSET) | A(EXEC), 0, GW__FOUND_GODWIT, NULL},
	{OP(SEND), A(MULTIFD) | A(STREAM) | A(TCP), 0, GW__FOUND_GODWIT, "godwit convert"},
	{OP(SEND), A(ZLIB) | A(IMAGE) | A(TCP), 0, GW__FOUND_GODWIT, "multifd"},
	{OP(SEND), A(ZLIB) | A(MULTIFD) | A(IMAGE) | A(TCP) | A(TLS) | A(OFFSET), 0, GW__FOUND_GODWIT, NULL},
	{OP(RESTORE_DIRECT), A(IMAGE) | A(MAPPED_RAM) | A(MULTIFD) | A(FILE) | A(FDSET) | A(OFFSET), 1101, GW__FOUND_GODWIT, NULL},
	{OP(RESTORE_DIRECT), A(IMAGE) | A(MAPPED_RAM) | A(ZLIB), 1101, GW__FOUND_CRASH, "crash"},
	{OP(RESTORE_DIRECT), A(STREAM), 0, GW__FOUND_GODWIT, "godwit convert"},
	{OP(RESTORE_STREAM), A(IMAGE) | A(FD) | A(MULTIFD), 0, GW__FOUND_GODWIT, "one socket"},
	{OP(RESTORE_STREAM), A(STREAM) | A(FD) | A(XBZRLE), 0, GW__FOUND_GODWIT, "deltas"},
	{OP(CONVERT), A(STREAM) | A(XBZRLE), 0, GW__FOUND_GODWIT, NULL},
	{OP(CONVERT), A(STREAM) | A(XBZRLE) | A(TO_STREAM), 0, GW__FOUND_GODWIT, "deltas"},
	{OP(CONVERT), A(IMAGE) | A(TO_RAW) | A(OFFSET), 0, GW__FOUND_GODWIT, "offset"},
};

static void questions_are_answered(void **state)
{
	for (unsigned i = 0; i < sizeof questions / sizeof questions[0]; i++) {
		const struct gw__rule *r = gw__capability_check(questions[i].op, questions[i].wanted, questions[i].qemu);
		if (!questions[i].says && r)
			fail_msg("question %u: refused: %s", i, r->reason);
		if (!questions[i].says)
			continue;
		if (!r || !strstr(r->reason, questions[i].says) || r->found != questions[i].found)
			fail_msg("question %u: expected \"%s\", got \"%s\"", i, questions[i].says, r ? r->reason : "nothing");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_answers_for_something),
		cmocka_unit_test(every_row_is_well_formed),
		cmocka_unit_test(no_row_is_said_twice),
		cmocka_unit_test(pairs_have_no_order),
		cmocka_unit_test(names_are_found_again),
		cmocka_unit_test(questions_are_answered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
