/* SPDX-License-Identifier: MIT */
/* The VM description. Input: the JSON text, a byte 00, the body that every device of it is walked over. */
#include "fuzz.h"

#include "wire/vmdesc.h"

enum { DEVICES = 16 };

struct seen {
	uint64_t len, leaf_end;
	size_t calls;
};

static bool look(void *ctx, const struct gw__vmdesc_field *f)
{
	struct seen *seen = ctx;
	HOLDS(f->off <= seen->len && f->bytes <= seen->len - f->off);
	HOLDS(f->off >= seen->leaf_end);
	HOLDS(f->path[0] && f->type[0]);
	HOLDS(strlen(f->path) >= f->depth);
	if (!f->is_struct)
		seen->leaf_end = f->off + f->bytes;
	seen->calls++;
	return true;
}

static void walk(const struct gw__vmdesc *d, size_t i, const uint8_t *body, size_t n)
{
	size_t len = SIZE_MAX, again;
	struct gw__error error = {0};
	int r = gw__vmdesc_walk(d, i, body, n, &len, NULL, NULL, &error);
	fuzz_result_is_sound(r, &error);
	if (r)
		return;
	HOLDS(len <= n);
	struct seen seen = {.len = len};
	r = gw__vmdesc_walk(d, i, body, n, &again, look, &seen, &error);
	fuzz_result_is_sound(r, &error);
	HOLDS(r <= 0 && (r || again == len));
	if (len)
		HOLDS(gw__vmdesc_walk(d, i, body, len - 1, &again, NULL, NULL, NULL) == GW__SHORT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const uint8_t *end = n ? memchr(data, 0, n) : NULL;
	size_t text_n = end ? (size_t)(end - data) : n, body_n = end ? n - text_n - 1 : 0;
	/* Copies of the exact size: the walk must not read before its body either. */
	uint8_t *body = malloc(body_n + 1);
	if (body_n)
		memcpy(body, end + 1, body_n);
	struct gw__vmdesc *d = NULL;
	struct gw__error error = {0};
	int r = gw__vmdesc_parse(data, text_n, &d, &error);
	fuzz_result_is_sound(r, &error);
	HOLDS(r <= 0 && (r == 0) == (d != NULL));
	for (size_t i = 0; d && i < gw__vmdesc_count(d) && i < DEVICES; i++) {
		struct gw__vmdesc_device device = gw__vmdesc_device(d, i);
		HOLDS(gw__name_ok(device.name, strlen(device.name)));
		HOLDS(device.has_version == (device.vmsd_name != NULL));
		walk(d, i, body, body_n);
	}
	gw__vmdesc_free(d);
	free(body);
	return 0;
}
