/* SPDX-License-Identifier: MIT */
/* The message being made: its text, its fields, and the saying of it, with no gap behind the one before. See dissector.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "dissect/dissector_private.h"

typedef unsigned long long ull;

const char *gw__dissector_size_text(uint64_t bytes, struct gw__dissector_size *s)
{
	static const struct {
		unsigned shift;
		const char *name;
	} units[] = {{40, "TiB"}, {30, "GiB"}, {20, "MiB"}, {10, "KiB"}};
	for (unsigned i = 0; i < GW__LEN(units); i++)
		if (bytes && gw__is_aligned(bytes, UINT64_C(1) << units[i].shift)) {
			snprintf(s->text, sizeof s->text, "%llu %s", (ull)(bytes >> units[i].shift), units[i].name);
			return s->text;
		}
	snprintf(s->text, sizeof s->text, "%llu bytes", (ull)bytes);
	return s->text;
}

static void append(struct gw__message *m, const char *fmt, va_list ap)
{
	size_t n = strlen(m->text);
	vsnprintf(m->text + n, sizeof m->text - n, fmt, ap);
}

struct gw__message *gw__dissector_make(struct gw__dissector *x, const char *name, const char *fmt, ...)
{
	struct gw__message *m = &x->message;
	va_list ap;
	m->name = name;
	m->detail = m->sum = false;
	m->fields_n = 0;
	m->text[0] = 0;
	va_start(ap, fmt);
	append(m, fmt, ap);
	va_end(ap);
	return m;
}

void gw__dissector_more(struct gw__message *m, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	append(m, fmt, ap);
	va_end(ap);
}

void gw__dissector_number(struct gw__message *m, const char *name, uint64_t v)
{
	if (m->fields_n < GW__MESSAGE_FIELDS_MAX)
		m->field[m->fields_n++] = (struct gw__message_field){.name = name, .number = v};
}

void gw__dissector_text(struct gw__message *m, const char *name, const char *text)
{
	if (m->fields_n < GW__MESSAGE_FIELDS_MAX)
		m->field[m->fields_n++] = (struct gw__message_field){.name = name, .text = text};
}

void gw__dissector_emit_at(struct gw__dissector *x, uint64_t off, uint64_t end_off)
{
	if (x->stopped)
		return;
	x->message.off = off;
	x->message.bytes = end_off - off;
	if (!x->o.say(x->o.ctx, &x->message))
		x->stopped = true;
}

void gw__dissector_emit(struct gw__dissector *x, uint64_t end_off)
{
	uint64_t off = x->said_off;
	x->said_off = end_off;
	if (gw__dissector_is_waiting(x)) { /* came before, is said before */
		struct gw__message later = x->message;
		gw__dissector_pause(x);
		x->message = later;
	}
	if (x->stopped)
		return;
	x->stats.messages += !x->message.detail;
	gw__dissector_emit_at(x, off, end_off);
}
