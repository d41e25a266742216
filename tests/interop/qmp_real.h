/* SPDX-License-Identifier: MIT */
/* What the tests of the QMP client against real QEMUs share: one VM and one connection per test. */
#ifndef GW_TESTS_QMP_REAL_H
#define GW_TESTS_QMP_REAL_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "qmp/qmp.h"
#include "vm.h"

enum { PATIENCE_MS = 240000, SHORT_MS = 300 };

static const char *version; /* "10.0" */
static int version_number;  /* 1000 */
static char qemu[512];

struct bench {
	struct gw_test_vm vm;
	struct gw__qmp *q;
	struct gw__error error;
};

static inline void bench_start(struct bench *b, const char *const *args)
{
	*b = (struct bench){0};
	assert_int_equal(gw_test_vm_start(&b->vm, qemu, args), 0);
	int err = gw__qmp_open(b->vm.qmp, PATIENCE_MS, &b->q, &b->error);
	assert_string_equal(b->error.text, "");
	assert_int_equal(err, 0);
}

static inline void bench_stop(struct bench *b)
{
	gw__qmp_close(b->q);
	gw_test_vm_stop(&b->vm);
}

#define assert_ok(b, call)                                                                                                                 \
	do {                                                                                                                               \
		int failure_ = (call);                                                                                                     \
		assert_string_equal((b)->error.text, "");                                                                                  \
		assert_int_equal(failure_, 0);                                                                                             \
	} while (0)

static inline void assert_says(struct gw__error *error, int err, int want, const char *words)
{
	if (err != want || !strstr(error->text, words))
		fail_msg("wanted %d \"%s\", got %d \"%s\"", want, words, err, error->text);
	gw__error_clear(error);
}

/* The version in the command line, or the status to leave with. */
static inline int find_qemu(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: %s 7.2|10.0|11.1\n", argv[0]);
		return 2;
	}
	version = argv[1];
	unsigned major, minor;
	if (sscanf(version, "%u.%u", &major, &minor) != 2)
		return 2;
	version_number = (int)(100 * major + minor);
	int err = gw_test_qemu_path(version, qemu, sizeof qemu);
	if (err)
		fprintf(stderr, "QEMU %s is not available here\n", version);
	return err == GW_TEST_SKIP ? GW_TEST_SKIP : err ? 1 : 0;
}

#endif
