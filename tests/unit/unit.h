/* SPDX-License-Identifier: MIT */
/* What every unit test needs before cmocka.h may be included. */
#ifndef GW_TESTS_UNIT_H
#define GW_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* With the sentence in the failure line. */
#define assert_ok(call, error)                                                                                                             \
	do {                                                                                                                               \
		int r_ = (int)(call);                                                                                                      \
		if (r_)                                                                                                                    \
			fail_msg("%s: %d: %s", #call, r_, (error).text);                                                                   \
	} while (0)

#endif
