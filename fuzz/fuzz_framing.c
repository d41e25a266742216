/* SPDX-License-Identifier: MIT */
/* Section headers, footers and commands, one after another as their first bytes say; each is written again as
 * it was. */
#include "fuzz.h"

#include "wire/framing.h"

static int section(struct gw__rd *c, struct gw__wr *w, struct gw__error *error)
{
	struct gw__section s;
	int r = gw__section_decode(c, &s, error);
	if (r)
		return r;
	gw__section_encode(w, &s);
	HOLDS(memchr(s.idstr, 0, sizeof s.idstr));
	return 0;
}

static int footer(struct gw__rd *c, struct gw__wr *w, struct gw__error *error)
{
	int r = gw__footer_decode(c, 7, error);
	if (!r)
		gw__footer_encode(w, 7);
	return r;
}

static int command(struct gw__rd *c, struct gw__wr *w, struct gw__error *error)
{
	struct gw__command cmd;
	int r = gw__command_decode(c, &cmd, error);
	if (r)
		return r;
	HOLDS(strcmp(gw__command_name(cmd.number), "?"));
	HOLDS(cmd.payload + cmd.length == c->p);
	gw__command_encode(w, cmd.number, cmd.payload, cmd.length);
	return 0;
}

typedef int decode_fn(struct gw__rd *c, struct gw__wr *w, struct gw__error *error);

static decode_fn *choose(uint8_t type)
{
	if (type == GW__ITEM_COMMAND)
		return command;
	return type == GW__ITEM_FOOTER ? footer : section;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static uint8_t again[1 << 17];
	for (size_t at = 0; at < n;) {
		struct gw__rd c = gw__rd_over(data + at, n - at);
		struct gw__wr w = gw__wr_over(again, sizeof again);
		struct gw__error error = {0};
		decode_fn *decode = choose(data[at]);
		int r = decode(&c, &w, &error);
		fuzz_result_is_sound(r, &error);
		if (r)
			return 0;
		size_t used = gw__rd_used(&c);
		fuzz_same_bytes(&w, data + at, used);
		for (size_t k = 0; k < used && k < 600; k++) {
			c = gw__rd_over(data + at, k);
			HOLDS(decode(&c, &w, NULL) == GW__SHORT);
		}
		at += used;
	}
	return 0;
}
