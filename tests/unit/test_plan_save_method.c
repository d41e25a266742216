/* SPDX-License-Identifier: MIT */
/* Who writes the image of a save: every reason against direct, for each wish. */
#include "unit.h"

#include "base/math.h"
#include "plan/save_method.h"

#define ABLE .writes_images = true, .takes_files = true, .has_direct_io = true
#define RUNS ABLE, .guest_runs = true

enum { REFUSED = GW__SAVE_METHOD_REFUSED, DIRECT = GW__SAVE_METHOD_DIRECT, STREAM = GW__SAVE_METHOD_STREAM };

static const struct {
	struct gw__plan_save asked;
	int by_itself, wished; /* of auto, of direct */
	const char *says;      /* where it is not direct */
} rows[] = {
	{{RUNS}, DIRECT, DIRECT, NULL},
	{{RUNS, .channels = true, .direct_io = true, .stop = true}, DIRECT, DIRECT, NULL},
	{{RUNS, .max_bandwidth = true}, DIRECT, DIRECT, NULL},
	{{.takes_files = true, .guest_runs = true}, STREAM, REFUSED, "older than 9.0"},
	{{.writes_images = true, .guest_runs = true}, STREAM, REFUSED, "unix socket"},
	{{RUNS, .at_start = true}, STREAM, REFUSED, "background snapshot"},
	{{RUNS, .postcopy = true}, STREAM, REFUSED, "post-copy"},
	{{RUNS, .channels = true, .compression = true}, STREAM, REFUSED, "compressed"},
	{{RUNS, .tls = true}, STREAM, REFUSED, "TLS"},
	{{RUNS, .listen = true}, STREAM, REFUSED, "address"},
	{{RUNS, .memory_limit = true}, STREAM, REFUSED, "memory limit"},
	{{RUNS, .max_bandwidth = true, .channels = true}, STREAM, REFUSED, "bandwidth"},
	{{RUNS, .max_bandwidth = true, .direct_io = true}, STREAM, REFUSED, "bandwidth"},
	{{.writes_images = true, .takes_files = true, .guest_runs = true, .direct_io = true}, STREAM, REFUSED, "older than 9.1"},
	{{ABLE}, STREAM, REFUSED, "run state"},
	{{ABLE, .stop = true}, STREAM, DIRECT, "run state"},
};

static void every_answer(void **state)
{
	(void)state;
	for (size_t i = 0; i < GW__LEN(rows); i++) {
		char reason[300] = "";
		const struct gw__plan_save *p = &rows[i].asked;
		assert_int_equal(gw__plan_save_method(GW__SAVE_WISH_STREAM, p, reason, sizeof reason), STREAM);
		assert_non_null(strstr(reason, "QEMU sends"));
		int way = gw__plan_save_method(GW__SAVE_WISH_DIRECT, p, reason, sizeof reason);
		if (way != rows[i].wished || (way == REFUSED && !strstr(reason, rows[i].says)))
			fail_msg("row %zu, direct: %d, %s", i, way, reason);
		way = gw__plan_save_method(GW__SAVE_WISH_AUTO, p, reason, sizeof reason);
		if (way != rows[i].by_itself || !strstr(reason, way == STREAM ? rows[i].says : "shortest"))
			fail_msg("row %zu, auto: %d, %s", i, way, reason);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_answer)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
