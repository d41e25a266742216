/* SPDX-License-Identifier: MIT */
/* Head and configuration of a stream: what is accepted, written and read again, is the same configuration. */
#include "fuzz.h"

#include "wire/header.h"

static void check(const struct gw__config *config)
{
	HOLDS(config->caps_n <= GW__CAPS_MAX);
	HOLDS(config->page_bits >= GW__PAGE_BITS_MIN && config->page_bits <= GW__PAGE_BITS_MAX);
	HOLDS(config->machine[0] && memchr(config->machine, 0, sizeof config->machine));
	for (uint32_t i = 0; i < config->caps_n; i++)
		HOLDS(gw__name_ok(config->caps[i], strnlen(config->caps[i], sizeof config->caps[i])));
}

static void write_and_read(const struct gw__config *config, size_t n)
{
	static uint8_t bytes[1 << 17];
	static struct gw__config again;
	struct gw__wr w = gw__wr_over(bytes, sizeof bytes);
	gw__config_encode(&w, config);
	HOLDS(!w.full && gw__wr_used(&w) <= n);
	gw__wr_u8(&w, 0); /* the byte that tells that no subsection follows */
	struct gw__rd c = gw__rd_over(bytes, gw__wr_used(&w));
	HOLDS(gw__config_decode(&c, &again, NULL) == 0);
	HOLDS(gw__rd_used(&c) == gw__wr_used(&w) - 1);
	HOLDS(memcmp(config, &again, sizeof again) == 0);
}

static void change_caps(struct gw__config *config)
{
	uint32_t n = config->caps_n;
	if (gw__config_add_cap(config, "mapped-ram") == 0)
		HOLDS(config->mapped_ram && config->has_caps && config->caps_n <= n + 1);
	gw__config_drop_cap(config, "mapped-ram");
	HOLDS(!config->mapped_ram);
	HOLDS(config->has_caps == (config->caps_n > 0));
	check(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct gw__config config, part;
	struct gw__rd c = gw__rd_over(data, n);
	struct gw__error error = {0};
	int r = gw__header_decode(&c, &error);
	if (!r)
		r = gw__config_decode(&c, &config, &error);
	fuzz_result_is_sound(r, &error);
	if (r)
		return 0;
	check(&config);
	write_and_read(&config, gw__rd_used(&c) - 8);
	/* One byte less than was looked at is never enough. */
	struct gw__rd less = gw__rd_over(data + 8, gw__rd_used(&c) - 8);
	HOLDS(gw__config_decode(&less, &part, NULL) == GW__SHORT);
	change_caps(&config);
	return 0;
}
