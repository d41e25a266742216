/* SPDX-License-Identifier: MIT */
/* What all calls of the driver share; see driver.h. */
#include "qemu/driver.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_BYTES = 2048, STRUCT_BYTES_MAX = 16384 };

int gw_qemu_new(gw_job *job, gw_qemu **qemu)
{
	*qemu = calloc(1, sizeof **qemu);
	if (!*qemu)
		return -ENOMEM;
	(*qemu)->job = job;
	return 0;
}

void gw_qemu_free(gw_qemu *qemu)
{
	if (qemu)
		free(qemu->path);
	free(qemu);
}

const char *gw_qemu_error(const gw_qemu *qemu) { return qemu->error.text; }

enum gw_qemu_hint gw_qemu_hint(const gw_qemu *qemu) { return (enum gw_qemu_hint)qemu->error.hint; }

void gw_qemu_on_log(gw_qemu *qemu, gw_qemu_log_fn *fn, void *ctx)
{
	qemu->log = fn;
	qemu->log_ctx = ctx;
}

void gw_qemu_cancel(gw_qemu *qemu, const char *reason)
{
	atomic_store(&qemu->cancelled, reason ? reason : "cancelled");
	gw_job_cancel(qemu->job);
}

int gw_qemu_rate(const gw_qemu *qemu, struct gw_qemu_rate *rate)
{
	struct gw_qemu_rate now = {.known = atomic_load(&qemu->rate_known),
		.remaining_bytes = atomic_load(&qemu->remaining_bytes),
		.dirty_bytes_per_s = atomic_load(&qemu->dirty_bytes_per_s)};
	if (!rate || rate->size <= sizeof rate->size || rate->size > STRUCT_BYTES_MAX)
		return -EINVAL;
	gw__qemu_give_result(rate, &now, sizeof now);
	return 0;
}

bool gw__qemu_cancelled(const gw_qemu *d) { return atomic_load(&d->cancelled); }

const char *gw__qemu_job_error(const gw_qemu *d)
{
	const char *cancelled = atomic_load(&d->cancelled), *error = gw_job_error(d->job);
	return cancelled ? cancelled : *error ? error : "it failed without saying why";
}

static void log_line(const gw_qemu *d, enum gw_qemu_log_level level, const char *fmt, va_list args)
{
	char text[LOG_BYTES];
	if (!d->log)
		return;
	vsnprintf(text, sizeof text, fmt, args);
	d->log(d->log_ctx, level, text);
}

void gw__qemu_warn(const gw_qemu *d, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	log_line(d, GW_QEMU_LOG_WARNING, fmt, args);
	va_end(args);
}

void gw__qemu_note(const gw_qemu *d, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	log_line(d, GW_QEMU_LOG_NOTE, fmt, args);
	va_end(args);
}

void gw__qemu_detail(const gw_qemu *d, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	log_line(d, GW_QEMU_LOG_DETAIL, fmt, args);
	va_end(args);
}

static bool is_size(size_t size) { return size > sizeof size && size <= STRUCT_BYTES_MAX; }

int gw__qemu_copy_opts(const char *name, const void *o, void *copy, size_t ours, struct gw__error *error)
{
	size_t size = o ? *(const size_t *)o : ours;
	memset(copy, 0, ours);
	if (!is_size(size))
		return gw__error_set(error, -EINVAL,
			"struct %s has the size %zu, expected %zu: set it with GW_INIT (struct %s o = GW_INIT(o);)", name, size, ours,
			name);
	for (size_t i = ours; o && i < size; i++)
		if (((const uint8_t *)o)[i])
			return gw__error_set(error, -E2BIG,
				"struct %s has %zu bytes and a field is set that this library does not know (it knows %zu bytes): use a newer libgodwit-qemu",
				name, size, ours);
	if (o)
		memcpy(copy, o, size < ours ? size : ours);
	*(size_t *)copy = ours;
	return 0;
}

int gw__qemu_begin(gw_qemu *d, const char *name, const void *o, void *copy, size_t ours, const void *result)
{
	gw__error_clear(&d->error);
	if (!result || !is_size(*(const size_t *)result))
		return gw__error_set(&d->error, -EINVAL, "the struct for the result of this call has no size: set it with GW_INIT");
	return gw__qemu_copy_opts(name, o, copy, ours, &d->error);
}

void gw__qemu_give_result(void *to, const void *from, size_t ours)
{
	size_t size = *(size_t *)to;
	memset(to, 0, size);
	memcpy(to, from, size < ours ? size : ours);
	*(size_t *)to = size;
}

int gw__qemu_fail(gw_qemu *d, int code, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(d->error.text, sizeof d->error.text, fmt, args);
	va_end(args);
	return d->error.code = code < 0 ? code : -EIO;
}
