/* SPDX-License-Identifier: MIT */
/* Keeps the first failure's sentence; see error.h. No thread, no global, no allocation. */
#include "base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int gw__error_set(struct gw__error *error, int code, const char *fmt, ...)
{
	assert(code < 0);
	if (!error || error->code)
		return code;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(error->text, sizeof error->text, fmt, ap);
	va_end(ap);
	error->code = code;
	return code;
}

int gw__error_errno(struct gw__error *error, int err, const char *fmt, ...)
{
	assert(err > 0);
	if (!error || error->code)
		return -err;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(error->text, sizeof error->text, fmt, ap);
	va_end(ap);
	size_t used = strlen(error->text);
	snprintf(error->text + used, sizeof error->text - used, ": %s", strerror(err));
	error->code = -err;
	return -err;
}

int gw__error_where(struct gw__error *error, const char *fmt, ...)
{
	char where[256];
	char sentence[GW__ERROR_BYTES];
	if (!error)
		return -1;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(where, sizeof where, fmt, ap);
	va_end(ap);
	memcpy(sentence, error->text, sizeof sentence);
	snprintf(error->text, sizeof error->text, "%s: ", where);
	size_t at = strlen(error->text), room = sizeof error->text - at - 1, n = strlen(sentence);
	memcpy(error->text + at, sentence, n < room ? n : room);
	error->text[at + (n < room ? n : room)] = 0;
	return error->code;
}

int gw__error_hint(struct gw__error *error, const char *fmt, ...)
{
	size_t used = strlen(error->text);
	va_list ap;
	if (used + 3 > sizeof error->text)
		return error->code;
	memcpy(error->text + used, "; ", 3);
	va_start(ap, fmt);
	vsnprintf(error->text + used + 2, sizeof error->text - used - 2, fmt, ap);
	va_end(ap);
	return error->code;
}

int gw__error_advise(struct gw__error *error, int hint)
{
	if (!error)
		return -1;
	if (!error->hint)
		error->hint = hint;
	return error->code;
}

bool gw__error_is_shortage(int code)
{
	return code == -EMFILE || code == -ENFILE || code == -ENOBUFS || code == -ENOMEM || code == -EAGAIN;
}

void gw__error_clear(struct gw__error *error)
{
	error->code = 0;
	error->hint = 0;
	error->text[0] = 0;
}
