/* SPDX-License-Identifier: MIT */
/* A failure is tested by its errno and by what its sentence must name: the place, what was expected, what
 * came. */
#ifndef GW_TESTS_SAYS_H
#define GW_TESTS_SAYS_H

#include "unit.h"

#include <stdio.h>

#include "base/error.h"

static inline void check_says(const struct gw__error *error, int code, const char *const *needles, const char *file, int line)
{
	if (error->code != code) {
		print_error("%s:%d: code %d, expected %d: \"%s\"\n", file, line, error->code, code, error->text);
		_fail(file, line);
	}
	for (; *needles; needles++)
		if (!strstr(error->text, *needles)) {
			print_error("%s:%d: \"%s\" does not say \"%s\"\n", file, line, error->text, *needles);
			_fail(file, line);
		}
}

#define assert_says(error, code, ...) check_says(error, code, (const char *const[]){__VA_ARGS__, NULL}, __FILE__, __LINE__)

#endif
