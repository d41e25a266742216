/* SPDX-License-Identifier: MIT */
/* Fields of a device: where they are and, as far as their type says, what they mean. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/inspect/inspect.h"
#include "cli/ui/output.h"

enum { SHOWN_BYTES = 16, SHOWN_ELEMENTS = 8, JSON_ELEMENTS = 4096 };

/* Bytes of the field that really are in the body: a description may promise more. */
static uint64_t bytes_there(const struct gw_info_field *f, const struct gw_info_device *d)
{
	if (f->off >= d->bytes)
		return 0;
	return f->bytes < d->bytes - f->off ? f->bytes : d->bytes - f->off;
}

/* Bytes per element when the type is a number, 0 when it is something else. */
static unsigned number_bytes(const struct gw_info_field *f)
{
	static const char *const numbers[] = {"int", "uint", "bool", "timer"};
	uint64_t n = f->array_len ? f->bytes / f->array_len : f->bytes;
	if ((n != 1 && n != 2 && n != 4 && n != 8) || (f->array_len && f->bytes % f->array_len))
		return 0;
	for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		if (!strncmp(f->type, numbers[i], strlen(numbers[i])))
			return (unsigned)n;
	return 0;
}

static uint64_t read_be(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;
	while (n--)
		v = v << 8 | *p++;
	return v;
}

static int64_t as_signed(uint64_t v, unsigned bytes)
{
	unsigned shift = 64 - 8 * bytes;
	return (int64_t)(v << shift) >> shift;
}

static bool is_zero(const uint8_t *p, uint64_t n)
{
	while (n && !*p) {
		p++;
		n--;
	}
	return !n;
}

static void add(struct gw__inspect_value *v, const char *fmt, ...) GW__PRINTF(2, 3);
static void add(struct gw__inspect_value *v, const char *fmt, ...)
{
	size_t at = strlen(v->text);
	va_list args;
	va_start(args, fmt);
	vsnprintf(v->text + at, sizeof v->text - at, fmt, args);
	va_end(args);
}

static void add_number(struct gw__inspect_value *to, const char *type, uint64_t v, unsigned bytes, bool alone)
{
	if (!strncmp(type, "bool", 4) && v <= 1)
		add(to, " %s", v ? "true" : "false");
	else if (!strncmp(type, "int", 3) && as_signed(v, bytes) < 0)
		add(to, " 0x%0*jx (%jd)", (int)bytes * 2, (uintmax_t)v, (intmax_t)as_signed(v, bytes));
	else if (v < 10)
		add(to, " %ju", (uintmax_t)v);
	else
		add(to, alone ? " 0x%jx (%ju)" : " 0x%jx", (uintmax_t)v, (uintmax_t)v);
}

static void add_bytes(struct gw__inspect_value *to, const uint8_t *p, uint64_t n)
{
	if (n > SHOWN_BYTES && is_zero(p, n)) {
		add(to, " zeros");
		return;
	}
	add(to, " ");
	for (uint64_t i = 0; i < n && i < SHOWN_BYTES; i++)
		add(to, "%02x", p[i]);
	if (n > SHOWN_BYTES)
		add(to, "...");
}

void gw__inspect_value(const struct gw_info_field *f, const struct gw_info_device *d, struct gw__inspect_value *to)
{
	uint64_t n = bytes_there(f, d);
	unsigned each = number_bytes(f);
	const uint8_t *p = d->body + (n ? f->off : 0);
	*to->text = 0;
	if (!n)
		return;
	if (!each || n < f->bytes) {
		add_bytes(to, p, n);
		return;
	}
	uint64_t count = n / each;
	if (count > SHOWN_ELEMENTS && is_zero(p, n)) {
		add(to, " zeros");
		return;
	}
	for (uint64_t i = 0; i < count && i < SHOWN_ELEMENTS; i++)
		add_number(to, f->type, read_be(p + i * each, each), each, count == 1);
	if (count > SHOWN_ELEMENTS)
		add(to, " ...");
}

struct table {
	const struct gw_info_device *device;
	int path_columns;
};

static void measure(struct table *t, const struct gw_info_field *f)
{
	enum { MOST = 64 };
	int n = (int)strnlen(f->path, MOST);
	t->path_columns = n > t->path_columns ? n : t->path_columns;
}

static void print_field(const struct table *t, const struct gw_info_field *f)
{
	char type[80];
	if (f->array_len > 1)
		snprintf(type, sizeof type, "%.50s x %ju", f->type, (uintmax_t)f->array_len);
	else
		snprintf(type, sizeof type, "%.70s", f->type);
	gw__ui_print("  %-*s %-14s %8ju %7ju", t->path_columns, f->path, type, (uintmax_t)f->off, (uintmax_t)f->bytes);
	struct gw__inspect_value value = {""};
	if (!f->is_struct)
		gw__inspect_value(f, t->device, &value);
	gw__ui_print("%s\n", value.text);
}

bool gw__inspect_say_too_many(const struct gw_info_device *d, int r)
{
	if (r == -E2BIG)
		gw__ui_error(0, "the fields of %s beyond what is shown need more memory than --memory-limit allows", d->name);
	return r == -E2BIG;
}

void gw__inspect_fields(const struct gw__inspect *in, uint32_t i, const struct gw_info_device *d)
{
	struct table t = {d, 20};
	struct gw_info_field f = GW_INIT(f);
	int r = 0;
	if (!in->summary.described)
		return;
	for (uint32_t k = 0; gw_info_field(in->info, i, k, &f) == 0; k++)
		measure(&t, &f);
	gw__ui_print("  %-*s %-14s %8s %7s value\n", t.path_columns, "field", "type", "offset", "bytes");
	for (uint32_t k = 0; (r = gw_info_field(in->info, i, k, &f)) == 0; k++)
		print_field(&t, &f);
	if (!gw__inspect_say_too_many(d, r) && r != -ERANGE)
		gw__ui_error(0, "the description of %s does not fit its bytes beyond what is shown", d->name);
}

static json_t *hex(const uint8_t *p, uint64_t n)
{
	static const char digits[] = "0123456789abcdef";
	char *text = malloc(2 * n + 1);
	if (!text)
		return NULL;
	for (uint64_t i = 0; i < n; i++) {
		text[2 * i] = digits[p[i] >> 4];
		text[2 * i + 1] = digits[p[i] & 15];
	}
	text[2 * n] = 0;
	json_t *o = json_stringn(text, 2 * n);
	free(text);
	return o;
}

/* JSON integers end at 2^63 - 1; what is above has its hex digits only. */
static json_t *number_json(const char *type, uint64_t v, unsigned bytes)
{
	if (!strncmp(type, "bool", 4) && v <= 1)
		return json_boolean(v);
	if (!strncmp(type, "int", 3))
		return json_integer(as_signed(v, bytes));
	return v <= INT64_MAX ? json_integer((json_int_t)v) : json_null();
}

static json_t *value_json(const struct gw_info_field *f, const uint8_t *p, unsigned each)
{
	if (f->array_len <= 1)
		return number_json(f->type, read_be(p, each), each);
	json_t *a = json_array();
	for (uint64_t at = 0; at < f->bytes; at += each)
		json_array_append_new(a, number_json(f->type, read_be(p + at, each), each));
	return a;
}

json_t *gw__inspect_field_json(const struct gw_info_field *f, const struct gw_info_device *d)
{
	uint64_t n = bytes_there(f, d);
	unsigned each = number_bytes(f);
	json_t *o = json_pack("{so so so so si}", "path", gw__cli_json_text(f->path), "type", gw__cli_json_text(f->type), "offset",
		gw__cli_json_size(f->off), "bytes", gw__cli_json_size(f->bytes), "depth", (int)f->depth);
	if (f->array_len > 1)
		json_object_set_new(o, "elements", gw__cli_json_size(f->array_len));
	if (f->is_struct) {
		json_object_set_new(o, "struct", json_true());
		return o;
	}
	json_object_set_new(o, "hex", hex(d->body + (n ? f->off : 0), n));
	if (each && n == f->bytes && n / each <= JSON_ELEMENTS) /* hex has the rest, in less memory */
		json_object_set_new(o, "value", value_json(f, d->body + f->off, each));
	return o;
}
