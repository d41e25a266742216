/* SPDX-License-Identifier: MIT */
/* Each row of the table of QEMU's quirks names a section of docs/spec that is there, and holds for the releases that were seen. */
#include "unit.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/math.h"
#include "plan/qemu_quirks.h"

/* "postcopy.md 1.4": that file has a heading with this number. */
static void check_spec(const char *spec)
{
	char path[4096], file[64], number[16], line[4096];
	const char *root = getenv("SRC");
	assert_non_null(root);
	assert_int_equal(sscanf(spec, "%63s %15s", file, number), 2);
	snprintf(path, sizeof path, "%s/docs/spec/%s", root, file);
	FILE *f = fopen(path, "re");
	bool found = false;
	assert_non_null(f);
	while (!found && fgets(line, sizeof line, f)) {
		const char *at = line + strspn(line, "# ");
		size_t n = strlen(number);
		found = line[0] == '#' && !strncmp(at, number, n) && !isdigit((unsigned char)at[n + (at[n] == '.')]);
	}
	fclose(f);
	if (!found)
		fail_msg("there is no section %s", spec);
}

static void every_row_is_whole_and_names_a_section_of_the_specs(void **state)
{
	(void)state;
	for (unsigned i = 0; i < GW__QUIRKS; i++) {
		const struct gw__qemu_quirk_row *row = gw__qemu_quirk_row((enum gw__qemu_quirk)i);
		assert_true(row->first || row->last);
		assert_true(row->what && *row->what);
		check_spec(row->spec);
	}
	for (unsigned i = 0; i < GW__REFUSALS; i++) {
		const struct gw__qemu_refusal_row *row = gw__qemu_refusal_row((enum gw__qemu_refusal)i);
		assert_non_null(row->part[0]);
		assert_null(row->part[GW__LEN(row->part) - 1]);
		check_spec(row->spec);
	}
}

/* As seen in the QEMUs that the interop tests run. */
static void the_releases_that_were_seen_have_what_they_were_seen_to_have(void **state)
{
	static const struct {
		enum gw__qemu_quirk quirk;
		bool in_7_2, in_10_0, in_11_1;
	} seen[] = {
		{GW__QUIRK_HANGS_BEHIND_LAST_PAGE, true, false, false},
		{GW__QUIRK_TAKES_EARLY_SHUT, false, true, true},
		{GW__QUIRK_KEEPS_RUN_STATE, false, true, true},
		{GW__QUIRK_SPOILT_BY_SNAPSHOT, true, false, false},
		{GW__QUIRK_PREEMPT_FIRST, true, false, false},
		{GW__QUIRK_LATE_UNPLUGGED, true, false, false},
		{GW__QUIRK_EXIT_ON_ERROR, false, true, true},
		{GW__QUIRK_READS_IGNORED_BLOCKS, false, false, true},
		{GW__QUIRK_NO_CHECKPOINTS, true, true, false},
		{GW__QUIRK_MAPS_IMAGES, false, true, true},
	};
	(void)state;
	assert_int_equal(GW__LEN(seen), GW__QUIRKS);
	for (unsigned i = 0; i < GW__LEN(seen); i++) {
		assert_int_equal(gw__qemu_has_quirk(702, seen[i].quirk), seen[i].in_7_2);
		assert_int_equal(gw__qemu_has_quirk(1000, seen[i].quirk), seen[i].in_10_0);
		assert_int_equal(gw__qemu_has_quirk(1101, seen[i].quirk), seen[i].in_11_1);
	}
}

static void refusals_are_known_by_their_words(void **state)
{
	(void)state;
	assert_true(gw__qemu_refused("Migrate recover can only be run when postcopy is paused.", GW__REFUSAL_NOT_PAUSED));
	assert_true(gw__qemu_refused("Failed to find an available port: Address already in use", GW__REFUSAL_PORT_IN_USE));
	assert_true(gw__qemu_refused("Background-snapshot is not supported by host kernel", GW__REFUSAL_NO_USERFAULTFD));
	assert_true(gw__qemu_refused("Postcopy is not supported: Userfaultfd not available: Operation not permitted",
		GW__REFUSAL_NO_USERFAULTFD));
	assert_false(gw__qemu_refused("Failed to find an available port: Address already in use", GW__REFUSAL_NOT_PAUSED));
	assert_true(gw__qemu_refused("Sibling indicated error 1", GW__REFUSAL_SINK_FAILED));
	assert_false(gw__qemu_refused("Channel error: Input/output error", GW__REFUSAL_SINK_FAILED));
	assert_false(gw__qemu_refused("", GW__REFUSAL_NOT_PAUSED));
	assert_false(gw__qemu_refused("postcopy is pause", GW__REFUSAL_NOT_PAUSED));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_is_whole_and_names_a_section_of_the_specs),
		cmocka_unit_test(the_releases_that_were_seen_have_what_they_were_seen_to_have),
		cmocka_unit_test(refusals_are_known_by_their_words),
	};
	return cmocka_run_group_tests_name("qemu_quirks", tests, NULL, NULL);
}
