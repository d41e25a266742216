/* SPDX-License-Identifier: MIT */
/*
 * The dissector: its life, its way through the bytes of any channel, and what a message is in words and fields. What the bytes of a stream mean
 * is stream.c; what is known of the migration as a whole migration_view.c. See dissector.h.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/math.h"
#include "dissect/dissector.h"
#include "dissect/dissector_private.h"
#include "wire/colo.h"
#include "wire/postcopy.h"

/* The same where it stands, beside what else is said of these bytes. */
static void gw__dissector_emit_at(struct gw__dissector *x, uint64_t off, uint64_t end_off);
static int gw__dissector_multifd(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used);
static int gw__dissector_retpath(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used);

static const char *const OWN[] = {"BLOCKS", "CONFIGURATION", "DESCRIPTION", "DEVICE", "END", "EOF", "EOS", "FOOTER", "HELLO", "INCOMPLETE",
	"MULTIFD_FLUSH", "PACKET", "PAGE", "PAGES", "PART", "START", "SYNC", "UNINTERPRETED", "XBZRLE", "ZERO"};

static const char *without_prefix(const char *name)
{
	static const char prefix[] = "POSTCOPY";
	return !strncasecmp(name, prefix, sizeof prefix - 1) && (name[8] == '_' || name[8] == '-') ? name + sizeof prefix : name;
}

static bool is_same(const char *a, const char *b)
{
	a = without_prefix(a);
	b = without_prefix(b);
	for (; *a && *b; a++, b++)
		if ((*a == '-' ? '_' : toupper((unsigned char)*a)) != (*b == '-' ? '_' : toupper((unsigned char)*b)))
			return false;
	return !*a && !*b;
}

bool gw__message_is(const struct gw__message *m, const char *name) { return is_same(m->name, name); }

bool gw__message_is_page(const char *name) { return is_same(name, "PAGE") || is_same(name, "ZERO") || is_same(name, "XBZRLE"); }

bool gw__message_exists(const char *name)
{
	for (uint16_t i = GW__CMD_OPEN_RETURN_PATH; i <= GW__CMD_SWITCHOVER_START; i++)
		if (is_same(gw__command_name(i), name))
			return true;
	for (uint16_t i = GW__RP_SHUT; i <= GW__RP_SWITCHOVER_ACK; i++)
		if (is_same(gw__rp_name(i), name))
			return true;
	for (unsigned i = 0; i < GW__COLO_MESSAGES; i++)
		if (is_same(gw__colo_message_name(i), name))
			return true;
	for (size_t i = 0; i < GW__LEN(OWN); i++)
		if (is_same(OWN[i], name))
			return true;
	return false;
}

/* --- the message that is being made --- */

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

static void gw__dissector_emit_at(struct gw__dissector *x, uint64_t off, uint64_t end_off)
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

/* Pages: counted, gathered in runs of neighbours, and said run by run, or each by itself where that is wanted. See dissector.h. */

static const char *block_name(const struct gw__dissector *x, uint32_t block) { return x->stream.blocks.v[block].name; }

static void count_page(struct gw__dissector *x, const char *name)
{
	bool zero = !strcmp(name, "ZERO"), xbzrle = !strcmp(name, "XBZRLE");
	x->stats.zero_pages += zero;
	x->stats.xbzrle_pages += xbzrle;
	x->stats.pages += !zero && !xbzrle;
	x->run.zero_pages += zero;
	x->run.xbzrle_pages += xbzrle;
	x->run.pages += !zero && !xbzrle;
}

static void say_page(struct gw__dissector *x, const char *name, const struct gw__ram_where *where, uint64_t end_off)
{
	struct gw__message *m = gw__dissector_make(x, name, "%s 0x%llx", block_name(x, where->block), (ull)where->off);
	gw__dissector_text(m, "block", block_name(x, where->block));
	gw__dissector_number(m, "start", where->off);
	m->detail = true;
	gw__dissector_emit_at(x, x->said_off, end_off);
}

void gw__dissector_page(struct gw__dissector *x, const char *name, const struct gw__ram_where *where, uint64_t end_off)
{
	struct gw__dissector_run *run = &x->run;
	if (gw__dissector_is_waiting(x) && (run->block != where->block || run->end_off != where->off))
		gw__dissector_pause(x);
	if (x->stopped) /* the run before it was the last word */
		return;
	if (!gw__dissector_is_waiting(x))
		*run = (struct gw__dissector_run){.block = where->block, .start_off = where->off, .at = x->said_off};
	run->end_off = where->off + x->stream.page_bytes;
	run->end = end_off;
	count_page(x, name);
	if (x->o.every_page)
		say_page(x, name, where, end_off);
	x->said_off = end_off;
}

void gw__dissector_pause(struct gw__dissector *x)
{
	struct gw__dissector_run run = x->run;
	if (!gw__dissector_is_waiting(x))
		return;
	x->run = (struct gw__dissector_run){0};
	const char *name = block_name(x, run.block);
	struct gw__message *m = gw__dissector_make(x, "PAGES", "%s 0x%llx-0x%llx:", name, (ull)run.start_off, (ull)run.end_off - 1);
	const char *comma = "";
	if (run.pages) {
		gw__dissector_more(m, " %llu page%s", (ull)run.pages, run.pages == 1 ? "" : "s");
		comma = ",";
	}
	if (run.xbzrle_pages) {
		gw__dissector_more(m, "%s %llu changed (XBZRLE)", comma, (ull)run.xbzrle_pages);
		comma = ",";
	}
	if (run.zero_pages)
		gw__dissector_more(m, "%s %llu zero page%s", comma, (ull)run.zero_pages, run.zero_pages == 1 ? "" : "s");
	gw__dissector_text(m, "block", name);
	gw__dissector_number(m, "start", run.start_off);
	gw__dissector_number(m, "length", run.end_off - run.start_off);
	gw__dissector_number(m, "pages", run.pages);
	gw__dissector_number(m, "zero_pages", run.zero_pages);
	gw__dissector_number(m, "xbzrle_pages", run.xbzrle_pages);
	m->sum = true;
	gw__dissector_emit_at(x, run.at, run.end);
}

/* The dissector on multifd channels: hello and packet heads; payload is passed by (docs/spec/multifd.md 2, 3). See dissector.h. */

enum {
	PAGE_BYTES_USUAL = 4096,
	PATIENCE_BYTES = 1 << 20, /* as long as the page size is not known, which the main channel tells at its very start */
};

static int take_hello(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__multifd_hello h;
	struct gw__rd c = gw__rd_over(bytes, n);
	int r = gw__multifd_hello_decode(&c, &h, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	struct gw__message *m = gw__dissector_make(x, "HELLO", "channel %u, guest ", h.id);
	for (unsigned i = 0; i < sizeof h.uuid; i++)
		gw__dissector_more(m, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", h.uuid[i]);
	gw__dissector_number(m, "id", h.id);
	x->said_hello = true;
	*used = gw__rd_used(&c);
	gw__dissector_emit(x, x->off + *used);
	return 1;
}

static void say_packet(struct gw__dissector *x, size_t head_bytes)
{
	const struct gw__multifd_packet *p = &x->packet;
	const char *method = gw__multifd_method_name(p->flags);
	bool sync = p->flags & GW__MULTIFD_SYNC, empty = !p->normal && !p->zero;
	struct gw__message *m = gw__dissector_make(x, sync ? "SYNC" : "PACKET", "number %llu", (ull)p->number);
	if (!empty)
		gw__dissector_more(m, ", %s: %u page%s, %u zero page%s, %u bytes", p->block, p->normal, p->normal == 1 ? "" : "s", p->zero,
			p->zero == 1 ? "" : "s", p->payload_bytes);
	if (p->payload_bytes && p->flags & GW__MULTIFD_METHOD_MASK)
		gw__dissector_more(m, " (%s)", method);
	gw__dissector_number(m, "number", p->number);
	gw__dissector_number(m, "flags", p->flags);
	gw__dissector_number(m, "pages", p->normal);
	gw__dissector_number(m, "zero_pages", p->zero);
	gw__dissector_number(m, "length", p->payload_bytes);
	if (!empty)
		gw__dissector_text(m, "block", p->block);
	if (p->payload_bytes)
		gw__dissector_text(m, "compression", method);
	gw__dissector_emit(x, x->off + head_bytes + p->payload_bytes);
}

static int take_packet(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	uint64_t page_bytes = gw__migration_view_ask_page_bytes(x->o.view);
	struct gw__rd c = gw__rd_over(bytes, n);
	if (!page_bytes && n < PATIENCE_BYTES && !last)
		return 0;
	int r = gw__multifd_packet_decode(&c, page_bytes ? page_bytes : PAGE_BYTES_USUAL, &x->packet, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	*used = gw__rd_used(&c);
	x->stats.packets++;
	x->stats.pages += x->packet.normal;
	x->stats.zero_pages += x->packet.zero;
	x->skip = x->packet.payload_bytes;
	say_packet(x, *used);
	return 1;
}

static int gw__dissector_multifd(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	return x->said_hello ? take_packet(x, bytes, n, last, used) : take_hello(x, bytes, n, used);
}

/* --- the return path (docs/spec/postcopy.md 1.2, 6.3) --- */

static void on_value(struct gw__dissector *x, const struct gw__rp_msg *m)
{
	struct gw__message *out;
	switch (m->type) {
	case GW__RP_SHUT:
		gw__dissector_observed_event(x, m->value ? GW__OBSERVED_SHUT_ERROR : GW__OBSERVED_SHUT);
		x->colo =
			!m->value; /* a word of the return path behind it would begin with 00 01 to 00 07, one of COLO begins with 00 00 */
		out = gw__dissector_make(x, "SHUT",
			m->value ? "status %u: the destination failed" : "status %u: the destination has everything", m->value);
		gw__dissector_number(out, "status", m->value);
		return;
	case GW__RP_PONG:
		if (m->value == GW__PING_RUNS)
			gw__dissector_observed_event(x, GW__OBSERVED_PONG_RUNS);
		out = gw__dissector_make(x, "PONG", m->value > 9 ? "token 0x%x" : "token %u", m->value);
		gw__dissector_number(out, "token", m->value);
		return;
	case GW__RP_RESUME_ACK:
		gw__dissector_observed_event(x, GW__OBSERVED_RESUMED);
		out = gw__dissector_make(x, "RESUME_ACK", m->value == 1 ? "value %u: the pages are awaited" : "value %u, expected 1",
			m->value);
		gw__dissector_number(out, "value", m->value);
		return;
	default:
		gw__dissector_make(x, gw__rp_name(m->type), "the source may stop the guest");
	}
}

static void on_request(struct gw__dissector *x, const struct gw__rp_msg *m)
{
	if (m->type == GW__RP_REQ_PAGES_ID)
		memcpy(x->asked_block, m->block, sizeof x->asked_block);
	const char *block = *x->asked_block ? x->asked_block : "(no block was named before)";
	struct gw__message *out = gw__dissector_make(x, gw__rp_name(m->type), "%s at 0x%llx of %s", GW__DISSECTOR_SIZE(m->length_bytes),
		(ull)m->start_off, block);
	gw__dissector_text(out, "block", block);
	gw__dissector_number(out, "start", m->start_off);
	gw__dissector_number(out, "length", m->length_bytes);
}

static void begin_bitmap(struct gw__dissector *x, const struct gw__rp_msg *m)
{
	x->bitmap = *m;
	x->bitmap_pages = gw__migration_view_ask_pages(x->o.view, m->block);
	x->bitmap_at = x->bitmap_ones = 0;
	x->bitmap_state = GW__BITMAP_SIZE;
}

/* Bits behind the last page mean nothing; where the number of pages is not known, all of them may. */
static void count_ones(struct gw__dissector *x, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++, x->bitmap_at += 8) {
		unsigned byte = bytes[i];
		if (x->bitmap_pages && x->bitmap_at + 8 > x->bitmap_pages)
			byte &= x->bitmap_at < x->bitmap_pages ? (1u << (x->bitmap_pages - x->bitmap_at)) - 1 : 0;
		x->bitmap_ones += (unsigned)__builtin_popcount(byte);
	}
}

static int take_size(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	if (n < GW__RECV_BITMAP_HEAD_BYTES)
		return 0;
	x->bitmap_left = gw__be_get(bytes, 8);
	int r = x->bitmap_pages ? gw__recv_bitmap_check_size(x->bitmap_left, x->bitmap.block, x->bitmap_pages, &x->error) : 0;
	*used = GW__RECV_BITMAP_HEAD_BYTES;
	x->bitmap_state = x->bitmap_left ? GW__BITMAP_BITS : GW__BITMAP_MARK;
	return r ? r : 1;
}

static int take_bits(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	*used = gw__min(n, x->bitmap_left);
	count_ones(x, bytes, *used);
	x->bitmap_left -= *used;
	if (!x->bitmap_left)
		x->bitmap_state = GW__BITMAP_MARK;
	return *used > 0;
}

static int take_mark(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	if (n < GW__RECV_BITMAP_END_BYTES)
		return 0;
	int r = gw__recv_bitmap_check_end(gw__be_get(bytes, 8), x->bitmap.block, &x->error);
	if (r)
		return r;
	struct gw__message *m = gw__dissector_make(x, "RECV_BITMAP", "%llu ", (ull)x->bitmap_ones);
	if (x->bitmap_pages)
		gw__dissector_more(m, "of %llu ", (ull)x->bitmap_pages);
	gw__dissector_more(m, "pages of %s are there", x->bitmap.block);
	gw__dissector_text(m, "block", x->bitmap.block);
	gw__dissector_number(m, "received", x->bitmap_ones);
	if (x->bitmap_pages)
		gw__dissector_number(m, "pages", x->bitmap_pages);
	*used = GW__RECV_BITMAP_END_BYTES;
	x->bitmap_state = GW__BITMAP_NONE;
	gw__dissector_emit(x, x->off + *used);
	return 1;
}

static int take_message(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__rp_msg m;
	struct gw__rd c = gw__rd_over(bytes, n);
	int r = gw__rp_decode(&c, &m, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	*used = gw__rd_used(&c);
	if (m.type == GW__RP_RECV_BITMAP) { /* said when its bitmap has passed */
		begin_bitmap(x, &m);
		return 1;
	}
	if (m.type == GW__RP_REQ_PAGES || m.type == GW__RP_REQ_PAGES_ID)
		on_request(x, &m);
	else
		on_value(x, &m);
	gw__dissector_emit(x, x->off + *used);
	return 1;
}

static int gw__dissector_retpath(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	(void)last;
	switch (x->bitmap_state) {
	case GW__BITMAP_SIZE:
		return take_size(x, bytes, n, used);
	case GW__BITMAP_BITS:
		return take_bits(x, bytes, n, used);
	case GW__BITMAP_MARK:
		return take_mark(x, bytes, n, used);
	default:
		return x->colo ? gw__dissector_colo_back(x, bytes, n, used) : take_message(x, bytes, n, used);
	}
}

/* --- its life --- */

enum { FIRST_OF_MAIN = 'Q', FIRST_OF_MULTIFD = 0x11, FIRST_OF_TLS = 0x16, FIRST_OF_PAGE = 0x00 };

enum gw__dissector_kind gw__dissector_kind_of(uint8_t first)
{
	switch (first) {
	case FIRST_OF_MAIN:
		return GW__DISSECTOR_MAIN;
	case FIRST_OF_MULTIFD:
		return GW__DISSECTOR_MULTIFD;
	case GW__ITEM_COMMAND:
		return GW__DISSECTOR_RECOVERY;
	case FIRST_OF_PAGE: /* the high byte of an offset */
		return GW__DISSECTOR_PREEMPT;
	default:
		return GW__DISSECTOR_OPAQUE;
	}
}

int gw__dissector_new(const struct gw__dissector_opts *o, struct gw__dissector **x)
{
	struct gw__dissector *made = calloc(1, sizeof *made);
	if (!made)
		return -ENOMEM;
	made->o = *o;
	made->opaque = o->kind == GW__DISSECTOR_OPAQUE;
	int r = gw__dissector_begin_stream(made);
	if (r) {
		gw__dissector_free(made);
		return r;
	}
	*x = made;
	return 0;
}

void gw__dissector_free(struct gw__dissector *x)
{
	if (!x)
		return;
	gw__stream_fini(&x->stream);
	free(x);
}

uint64_t gw__dissector_off(const struct gw__dissector *x) { return x->off; }
bool gw__dissector_is_waiting(const struct gw__dissector *x) { return x->run.end != x->run.at; }
void gw__dissector_stats(const struct gw__dissector *x, struct gw__dissector_stats *t) { *t = x->stats; }

void gw__dissector_observed_event(struct gw__dissector *x, enum gw__observed_event observed) { x->sights |= UINT32_C(1) << observed; }

void gw__dissector_confirm(struct gw__dissector *x)
{
	for (unsigned i = 0; x->sights; x->sights &= ~(UINT32_C(1) << i), i++)
		if (x->sights >> i & 1)
			gw__migration_view_note(x->o.view, (enum gw__observed_event)i);
}

/* --- bytes --- */

/* Once: whatever follows in this direction is bytes. */
static void give_up(struct gw__dissector *x, const char *name, size_t left)
{
	x->opaque = true;
	struct gw__message *m = gw__dissector_make(x, name, "%s", x->error.text);
	gw__dissector_text(m, "why", x->error.text);
	gw__dissector_emit(x, x->off + left);
}

static int step_silent(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	(void)bytes;
	(void)last;
	*used = 0;
	return n ? gw__error_set(&x->error, -EPROTO, "bytes in a direction in which nobody speaks") : 0;
}

static int step(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	static int (*const by_kind[])(struct gw__dissector * x, const uint8_t *bytes, size_t n, bool last, size_t *used) = {
		[GW__DISSECTOR_SILENT] = step_silent,
		[GW__DISSECTOR_MAIN] = gw__dissector_stream,
		[GW__DISSECTOR_RECOVERY] = gw__dissector_stream,
		[GW__DISSECTOR_PREEMPT] = gw__dissector_stream,
		[GW__DISSECTOR_MULTIFD] = gw__dissector_multifd,
		[GW__DISSECTOR_RETURN_PATH] = gw__dissector_retpath,
	};
	*used = 0;
	if (!x->ended)
		return by_kind[x->o.kind](x, bytes, n, last, used);
	if (x->o.kind == GW__DISSECTOR_MAIN && gw__stream_takes_checkpoints(&x->stream))
		return gw__dissector_colo_forward(x, bytes, n, used);
	return n ? gw__error_set(&x->error, -EPROTO, "bytes behind the end of the stream") : 0;
}

/* Payload, of which only the length matters. */
static size_t pass_by(struct gw__dissector *x, size_t n)
{
	size_t now = gw__min(x->skip, n);
	x->skip -= now;
	x->off += now;
	return now;
}

/* The last bytes are there: what is unfinished now stays so. */
static void end_here(struct gw__dissector *x, size_t left)
{
	gw__dissector_pause(x);
	if (x->opaque)
		return;
	if (x->skip) {
		gw__error_set(&x->error, -EPROTO, "the connection ends %llu bytes before the end of what was announced", (ull)x->skip);
		x->said_off = x->off; /* which was said to be longer */
	} else if (left)
		gw__error_set(&x->error, -EPROTO, "the connection ends inside a message, of which %zu bytes came", left);
	x->skip = 0;
	if (x->error.code)
		give_up(x, "INCOMPLETE", left);
}

/* 1: go on; 0: more bytes are needed. */
static int take_step(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	int r = step(x, bytes, n, false, used);
	const char *name = "UNINTERPRETED";
	if (r == 0 && *used) /* something that is no message by itself */
		return 1;
	if (r == 0 && last) {
		r = step(x, bytes, n, true, used);
		name = "INCOMPLETE";
	}
	if (r >= 0)
		return r;
	*used = 0;
	give_up(x, name, last ? n : 0);
	return 1;
}

size_t gw__dissector(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last)
{
	size_t at = 0;
	for (x->stopped = false; !x->stopped;) {
		size_t used = x->skip ? pass_by(x, n - at) : 0;
		at += used;
		if (x->skip)
			break;
		if (x->opaque) {
			x->off += n - at;
			x->said_off = x->off;
			return n;
		}
		int r = take_step(x, bytes + at, n - at, last, &used);
		if (r == 0)
			break;
		at += used;
		x->off += used;
	}
	if (last && !x->stopped)
		end_here(x, n - at);
	return at;
}
