/* SPDX-License-Identifier: MIT */
/* Record words and the block list. Input: what rule holds (one byte), how many bytes the list sums to, then
 * entries. */
#include "fuzz.h"

#include <errno.h>

#include "base/math.h"
#include "wire/ram.h"

enum { RULE_BYTES = 2 };

static struct gw__blocks_rule choose_rule(const uint8_t *data)
{
	struct gw__blocks_rule rule = {.page_bytes = UINT64_C(1) << (8 + data[0] % 13)};
	rule.address = data[1] & 1;
	rule.mapped_ram = data[1] & 2;
	if (data[1] & 4)
		rule.page_summary = rule.page_bytes | rule.page_bytes << (1 + (data[1] >> 4));
	return rule;
}

static void check_word(uint64_t word, uint64_t page_bytes)
{
	struct gw__ram_word w;
	struct gw__error error = {0};
	uint8_t again[8], was[8];
	int r = gw__ram_word_decode(word, page_bytes, &w, &error);
	fuzz_result_is_sound(r, &error);
	if (r)
		return;
	HOLDS(gw__is_power_of_2(w.kind));
	HOLDS(gw__is_aligned(w.value, page_bytes));
	HOLDS((w.value | w.kind | (w.same_block ? GW__RAM_CONTINUE : 0u)) == word);
	if (!w.same_block)
		return;
	struct gw__wr c = gw__wr_over(again, sizeof again);
	gw__ram_record_encode(&c, w.kind, w.value, NULL);
	gw__be_put(was, word, 8);
	fuzz_same_bytes(&c, was, 8);
}

static void check_block(const struct gw__block *b, const struct gw__blocks_rule *rule, uint64_t left)
{
	HOLDS(gw__name_ok(b->name, strlen(b->name)));
	HOLDS(b->used_bytes > 0 && b->used_bytes <= left && gw__is_aligned(b->used_bytes, rule->page_bytes));
	HOLDS(b->page_bytes == 0 || (gw__is_power_of_2(b->page_bytes) && b->page_bytes > rule->page_bytes));
}

static void check_list(const struct gw__blocks *list)
{
	uint64_t sum = 0;
	HOLDS(list->n <= GW__BLOCKS_MAX);
	for (uint32_t i = 0; i < list->n; i++) {
		HOLDS(gw__blocks_find(list, list->v[i].name) == i);
		sum += list->v[i].used_bytes;
	}
	HOLDS(sum == list->total_bytes);
	HOLDS(gw__blocks_find(list, "") < 0);
}

static void read_list(const struct gw__blocks_rule *rule, uint64_t left, struct gw__rd *c)
{
	struct gw__blocks list = {0};
	while (left > 0) {
		struct gw__error error = {0};
		struct gw__block block;
		uint8_t again[GW__NAME_MAX + 32];
		const uint8_t *from = c->p;
		int r = gw__block_decode(c, rule, left, &block, &error);
		fuzz_result_is_sound(r, &error);
		if (r)
			break;
		check_block(&block, rule, left);
		struct gw__wr w = gw__wr_over(again, sizeof again);
		gw__block_encode(&w, rule, &block);
		fuzz_same_bytes(&w, from, (size_t)(c->p - from));
		left -= block.used_bytes;
		r = gw__blocks_add(&list, &block);
		HOLDS(r == 0 || r == -EEXIST || r == -E2BIG);
	}
	check_list(&list);
	gw__blocks_fini(&list);
	gw__blocks_fini(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < RULE_BYTES + 8)
		return 0;
	struct gw__blocks_rule rule = choose_rule(data);
	struct gw__rd c = gw__rd_over(data + RULE_BYTES, n - RULE_BYTES);
	uint64_t word = gw__rd_be64(&c);
	check_word(word, rule.page_bytes);
	read_list(&rule, word & ~(rule.page_bytes - 1), &c);
	return 0;
}
