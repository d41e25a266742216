/* SPDX-License-Identifier: MIT */
/*
 * The sentence that explains a failure.
 *
 * A function that fails returns a negative errno and writes one sentence into the `struct gw__error` it was lent:
 * what, where, expected, got. The first failure wins: later calls leave the sentence alone, so a caller may always
 * pass an error up untouched. Owned by the job (or a test); used by one thread at a time.
 */
#ifndef GW_BASE_ERROR_H
#define GW_BASE_ERROR_H

#include <stdbool.h>

enum { GW__ERROR_BYTES = 640 };

struct gw__error {
	int code; /* negative errno of the first failure, 0 if none */
	int hint; /* what may be done about it, as the room numbers such things; 0: nothing is known */
	char text[GW__ERROR_BYTES];
};

#if defined(__GNUC__)
#define GW__PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define GW__PRINTF(f, a)
#endif

/* Record the first failure; returns `code` (which must be negative). `why` may be NULL. */
int gw__error_set(struct gw__error *error, int code, const char *fmt, ...) GW__PRINTF(3, 4);

/* The same for a failed system call: appends ": <strerror(err)>" and returns -err. */
int gw__error_errno(struct gw__error *error, int err, const char *fmt, ...) GW__PRINTF(3, 4);

/* Put "<context>: " before the sentence that is already there, for a caller that knows where. Returns why->code. */
int gw__error_where(struct gw__error *error, const char *fmt, ...) GW__PRINTF(2, 3);

/* Append "; <text>" to the sentence that is already there: a probable cause, and what to do. Returns error->code. */
int gw__error_hint(struct gw__error *error, const char *fmt, ...) GW__PRINTF(2, 3);

/* What may be done about the failure that is there, or will be; the first hint wins. `error` may be NULL. Returns error->code. */
int gw__error_advise(struct gw__error *error, int hint);

/*
 * Of descriptors, memory, buffers or threads: nothing is wrong with what was asked for, and when something else ends there is some again. `code`: negative errno.
 * Whoever waits for connections goes on: those that came wait in the queue of the kernel.
 */
bool gw__error_is_shortage(int code);

/* Forget the failure, for a caller that handled it. */
void gw__error_clear(struct gw__error *error);

#endif
