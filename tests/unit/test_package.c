/* SPDX-License-Identifier: MIT */
/* The package of post-copy as a whole: its devices are found, and what is not a package is refused. */
#include "error_text.h"

#include <errno.h>

#include "wire/package.h"

#define LISTEN  0x08, 0x00, 0x04, 0x00, 0x00
#define RUN     0x08, 0x00, 0x05, 0x00, 0x00
#define PING(t) 0x08, 0x00, 0x02, 0x00, 0x04, 0x00, 0x00, 0x00, t
/* FULL section `id`, instance 0, version 1. */
#define DEVICE(id, ...) 0x04, 0, 0, 0, id, 2, 'd', '0' + (id), 0, 0, 0, 0, 0, 0, 0, 1, __VA_ARGS__, 0x7e, 0, 0, 0, id

#define BLOB(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

static void devices_are_found(void **state)
{
	(void)state;
	static const uint8_t blob[] = {LISTEN, DEVICE(1, 7, 7, 7), DEVICE(2, 0x7e, 0, 0, 0, 2, 9), PING(3), PING(0x42), RUN};
	struct gw__package p;
	struct gw__error error = {0};
	struct gw__section s;
	const uint8_t *raw;
	size_t n;
	assert_int_equal(gw__package_decode(blob, sizeof blob, &p, &error), 0);
	assert_int_equal(p.pings_n, 2);
	assert_int_equal(p.ping[0], 3);
	assert_int_equal(p.ping[1], 0x42);
	assert_int_equal(gw__package_next(&p, &s, &raw, &n), 1);
	assert_string_equal(s.idstr, "d1");
	assert_ptr_equal(raw, blob + 5);
	assert_int_equal(n, 16 + 3 + 5);
	assert_int_equal(gw__package_next(&p, &s, &raw, &n), 1);
	assert_string_equal(s.idstr, "d2");
	assert_int_equal(n, 16 + 6 + 5); /* a footer of its own with no item behind it is content */
	assert_int_equal(gw__package_next(&p, &s, &raw, &n), 0);
}

static void without_devices_or_pings(void **state)
{
	(void)state;
	static const uint8_t blob[] = {LISTEN, RUN};
	struct gw__package p;
	struct gw__error error = {0};
	assert_int_equal(gw__package_decode(blob, sizeof blob, &p, &error), 0);
	assert_int_equal(p.pings_n, 0);
	assert_int_equal(p.at, p.devices_end);
}

static void refused(void **state)
{
	(void)state;
	const struct {
		const uint8_t *blob;
		size_t n;
		const char *says;
	} rows[] = {
		{BLOB(RUN), "LISTEN"},
		{BLOB(RUN, LISTEN), "LISTEN"},
		{BLOB(LISTEN, DEVICE(1, 0)), "RUN"},
		{BLOB(LISTEN, LISTEN, RUN), "type 08"},
		{BLOB(LISTEN, 0x04, 0, 0, 0, 1, 2, 'd', '1', RUN), "d"},
		{BLOB(LISTEN, DEVICE(1, 0), 0x02, 0, 0, 0, 1, RUN), "footer"},
		{BLOB(LISTEN, DEVICE(1, 0), PING(1), 0x00, RUN), "footer|type"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct gw__package p;
		struct gw__error error = {0};
		uint8_t *copy = malloc(rows[i].n); /* so that a sanitizer sees a read too far */
		memcpy(copy, rows[i].blob, rows[i].n);
		assert_int_equal(gw__package_decode(copy, rows[i].n, &p, &error), -EPROTO);
		assert_true(error.text[0]);
		if (!strchr(rows[i].says, '|') && !strstr(error.text, rows[i].says))
			fail_msg("row %zu: \"%s\" does not say \"%s\"", i, error.text, rows[i].says);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(devices_are_found),
		cmocka_unit_test(without_devices_or_pings),
		cmocka_unit_test(refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
