/* SPDX-License-Identifier: MIT */
/* Keeps the first failure's sentence; see error.h. No thread, no global, no allocation. */
#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int gw__why_set(struct gw__why *why, int code, const char *fmt, ...)
{
	assert(code < 0);
	if (!why || why->code)
		return code;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why->text, sizeof why->text, fmt, ap);
	va_end(ap);
	why->code = code;
	return code;
}

int gw__why_errno(struct gw__why *why, int err, const char *fmt, ...)
{
	assert(err > 0);
	if (!why || why->code)
		return -err;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why->text, sizeof why->text, fmt, ap);
	va_end(ap);
	size_t used = strlen(why->text);
	snprintf(why->text + used, sizeof why->text - used, ": %s", strerror(err));
	why->code = -err;
	return -err;
}

int gw__why_where(struct gw__why *why, const char *fmt, ...)
{
	char where[256];
	char sentence[GW__WHY_BYTES];
	if (!why)
		return -1;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(where, sizeof where, fmt, ap);
	va_end(ap);
	memcpy(sentence, why->text, sizeof sentence);
	snprintf(why->text, sizeof why->text, "%s: ", where);
	size_t at = strlen(why->text), room = sizeof why->text - at - 1, n = strlen(sentence);
	memcpy(why->text + at, sentence, n < room ? n : room);
	why->text[at + (n < room ? n : room)] = 0;
	return why->code;
}

void gw__why_clear(struct gw__why *why)
{
	why->code = 0;
	why->text[0] = 0;
}
