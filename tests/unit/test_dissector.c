/* SPDX-License-Identifier: MIT */
/*
 * The explainer: what it says of each kind of channel, that messages lie one behind the other without gap, that it makes no
 * difference how the bytes come, and that nothing it is shown makes it fail.
 */
#include "unit.h"

#include <stdio.h>

#include "dissect/dissector.h"
#include "stream_builder.h"
#include "wire/multifd.h"

typedef unsigned long long ull;

enum { LOG_BYTES = 1 << 16 };

struct heard {
	struct gw__migration_view view;
	char log[LOG_BYTES];
	size_t log_n;
	uint64_t next_off; /* where the next message must begin */
	bool every_page;
	const char *stop_at; /* a name, to say no more behind it */
	uint64_t stop_off;
	struct gw__dissector_stats stats;
};

static bool hear(void *ctx, const struct gw__message *m)
{
	struct heard *h = ctx;
	if (!strcmp(m->name, "INCOMPLETE") && m->off < h->next_off) /* what was announced did not come */
		h->next_off = m->off;
	if (!m->sum) {
		assert_int_equal(m->off, h->next_off);
		h->next_off += m->bytes;
	}
	if (h->every_page ? !m->sum : !m->detail) {
		h->log_n += (size_t)snprintf(h->log + h->log_n, sizeof h->log - h->log_n, "%llu+%llu %s %s", (ull)m->off, (ull)m->bytes,
			m->name, m->text);
		for (unsigned i = 0; i < m->fields_n; i++)
			h->log_n += m->field[i].text ? (size_t)snprintf(h->log + h->log_n, sizeof h->log - h->log_n, " {%s %s}",
							       m->field[i].name, m->field[i].text)
						     : (size_t)snprintf(h->log + h->log_n, sizeof h->log - h->log_n, " {%s %llu}",
							       m->field[i].name, (ull)m->field[i].number);
		h->log_n += (size_t)snprintf(h->log + h->log_n, sizeof h->log - h->log_n, "\n");
		assert_true(h->log_n < sizeof h->log - 2048);
	}
	if (!h->stop_at || !gw__message_is(m, h->stop_at))
		return true;
	h->stop_off = m->off + m->bytes;
	return false;
}

/* Where the last messages were of pages, only the sums know where they lie; then gaps are fine. */
static void listen_to(struct heard *h, enum gw__dissector_kind kind, const uint8_t *p, size_t n, size_t piece, bool last)
{
	struct gw__dissector *x;
	struct gw__dissector_opts o =
		{.kind = kind, .view = &h->view, .tail_max_bytes = 1 << 20, .every_page = true, .say = hear, .ctx = h};
	assert_int_equal(gw__dissector_new(&o, &x), 0);
	size_t at = 0;
	for (size_t shown = 0; shown < n;) {
		shown = piece && shown + piece < n ? shown + piece : n;
		uint8_t *copy = malloc(shown - at + 1); /* so that ASan sees a look behind it */
		memcpy(copy, p + at, shown - at);
		size_t used = gw__dissector(x, copy, shown - at, false);
		assert_true(used <= shown - at);
		at += used;
		assert_int_equal(gw__dissector_off(x), at);
		free(copy);
		if (h->stop_off)
			break;
	}
	if (last && !h->stop_off)
		at += gw__dissector(x, p + at, n - at, true);
	gw__dissector_confirm(x);
	gw__dissector_stats(x, &h->stats);
	gw__dissector_free(x);
}

static void begin(struct heard *h)
{
	memset(h, 0, sizeof *h);
	gw__migration_view_init(&h->view);
}

/* The same words however the bytes come. The caller ends it with gw__migration_view_fini. */
static void explain(struct heard *h, enum gw__dissector_kind kind, const struct sb *b)
{
	static const size_t pieces[] = {1, 7, 1000};
	char *whole;
	listen_to(h, kind, b->p, b->n, 0, true);
	whole = strdup(h->log);
	for (unsigned i = 0; i < 3; i++) {
		h->log_n = h->next_off = 0;
		h->log[0] = 0;
		listen_to(h, kind, b->p, b->n, pieces[i], true);
		assert_string_equal(h->log, whole);
	}
	free(whole);
}

static void check_said(const struct heard *h, const char *text, int line)
{
	if (!strstr(h->log, text)) {
		print_error("line %d: nobody said \"%s\" in\n%s", line, text, h->log);
		_fail(__FILE__, line);
	}
}
#define assert_said(h, text) check_said(h, text, __LINE__)

/* --- COLO --- */

static void put_colo_guest(struct sb *b)
{
	sb_head(b, "pc-i440fx-11.1");
	sb_hex(b, "08 0001 0000");
	sb_start_ram(b);
	sb_be64(b, 0x4000 | 0x004);
	sb_block(b, "m0", 0x4000);
	sb_eos(b);
	sb_more(b, 0x03, 1);
	sb_eos(b);
	sb_device(b, 4, "apic", 0, 3, "0123456789", 10);
	sb_end(b);
}

static void checkpoints(void **state)
{
	(void)state;
	struct heard h;
	struct sb b = {0};
	begin(&h);
	put_colo_guest(&b);
	size_t guest = b.n;
	for (unsigned i = 0; i < 2; i++) {
		sb_hex(&b, "00000001 00000003");
		sb_more(&b, 0x03, 1);
		sb_zero(&b, 0x1000, i ? NULL : "m0");
		sb_eos(&b);
		sb_hex(&b, "00 00000004 0000000000000022");
		sb_named(&b, 0x04, 4, "apic", 0, 3);
		sb_hex(&b, "30313233343536373839");
		sb_footer(&b, 4);
		sb_u8(&b, 0);
	}
	explain(&h, GW__DISSECTOR_MAIN, &b);
	assert_int_equal(h.next_off, b.n);
	char where[160];
	snprintf(where, sizeof where, "%zu+4 CHECKPOINT_REQUEST stop, a checkpoint follows\n%zu+4 VMSTATE_SEND ", guest, guest + 4);
	assert_said(&h, where);
	assert_said(&h, " PAGES m0 0x1000-0x1fff: 1 zero page ");
	assert_said(&h, "+12 VMSTATE_SIZE 34 bytes of device state follow {length 34}\n");
	assert_said(&h, "+33 DEVICE apic, instance 0, version 3: 10 bytes {device apic} {instance 0} {length 10}\n");
	assert_said(&h, "+1 EOF end of the device state\n");
	assert_null(strstr(h.log, "UNINTERPRETED"));
	assert_int_equal(h.stats.zero_pages, 2);
	gw__migration_view_fini(&h.view);
	sb_fini(&b);
}

static void answers_of_a_secondary(void **state)
{
	(void)state;
	struct heard h;
	struct sb b = {0};
	begin(&h);
	gw__migration_view_begin(&h.view, 4096);
	sb_hex(&b, "0002 0004 00000001 0001 0004 00000000 00000000 00000002 00000005 00000006 00000009");
	explain(&h, GW__DISSECTOR_RETURN_PATH, &b);
	assert_said(&h, "8+8 SHUT status 0");
	assert_said(&h, "16+4 CHECKPOINT_READY the secondary has the guest\n20+4 CHECKPOINT_REPLY stopped\n24+4 VMSTATE_RECEIVED ");
	assert_said(&h, "28+4 VMSTATE_LOADED ");
	assert_said(&h, "UNINTERPRETED COLO message number 9");
	assert_int_equal(gw__migration_view_where(&h.view), GW__WHERE_UNKNOWN);
	assert_true(gw__message_exists("vmstate-loaded"));
	gw__migration_view_fini(&h.view);
	sb_fini(&b);
}

/* What is no request, or follows a stream that no checkpoint can follow, is bytes. */
static void no_checkpoints(void **state)
{
	static const char *const behind[] = {"00000003", "00000004 0000000000000021", "00000007", "ffffffff"};
	(void)state;
	for (unsigned i = 0; i < sizeof behind / sizeof behind[0]; i++) {
		struct heard h;
		struct sb b = {0};
		begin(&h);
		put_colo_guest(&b);
		sb_hex(&b, behind[i]);
		listen_to(&h, GW__DISSECTOR_MAIN, b.p, b.n, 1, true);
		assert_said(&h, "UNINTERPRETED bytes after the end of the stream");
		gw__migration_view_fini(&h.view);
		sb_fini(&b);
	}
}

/* --- streams --- */

static void put_head(struct sb *b)
{
	sb_head(b, "pc-i440fx-11.1");
	sb_hex(b, "08 0001 0000");
	sb_hex(b, "08 0002 0004 00000001");
	sb_hex(b, "08 0003 0010 0000000000001000 0000000000001000");
	sb_start_ram(b);
	sb_be64(b, 0x6000 | 0x004);
	sb_block(b, "m0", 0x4000);
	sb_block(b, "rom", 0x2000);
	sb_eos(b);
}

static void put_page(struct sb *b, uint64_t off, const char *name)
{
	sb_record(b, off | 0x008, name);
	sb_fill(b, 0x77, 4096);
}

static void put_pages(struct sb *b)
{
	sb_more(b, 0x02, 1);
	put_page(b, 0, "m0");
	sb_zero(b, 0x1000, NULL);
	put_page(b, 0x2000, NULL);
	sb_xbzrle(b, 0, NULL, "", 0);
	put_page(b, 0, "rom");
	sb_eos(b);
}

static void put_package(struct sb *b)
{
	sb_hex(b, "08 0006 0015 00 02 'm0' 00 0000000000002000 0000000000002000");
	sb_hex(b, "08 0007 0004 0000003c");
	sb_hex(b, "08 0004 0000");
	sb_hex(b, "04 00000003 04 'apic' 00000001 00000002 'stateofit' 7e 00000003");
	sb_hex(b, "08 0002 0004 00000042");
	sb_hex(b, "08 0002 0004 00000003");
	sb_hex(b, "08 0005 0000");
}

static void put_rest(struct sb *b)
{
	sb_more(b, 0x03, 1);
	put_page(b, 0x2000, "m0");
	sb_eos(b);
	sb_u8(b, 0);
}

static void a_postcopy_stream(void **state)
{
	(void)state;
	struct heard h;
	struct sb b = {0};
	begin(&h);
	put_head(&b);
	put_pages(&b);
	size_t package = b.n;
	put_package(&b);
	put_rest(&b);
	explain(&h, GW__DISSECTOR_MAIN, &b);
	assert_int_equal(h.next_off, b.n);
	assert_said(&h, "0+27 CONFIGURATION machine pc-i440fx-11.1, pages of 4096 bytes {machine pc-i440fx-11.1} {page_bytes 4096}\n");
	assert_said(&h, "27+5 OPEN_RETURN_PATH ");
	assert_said(&h, "32+9 PING token 1 {token 1}\n");
	assert_said(&h, "41+21 POSTCOPY_ADVISE ");
	assert_said(&h, "62+17 START section 1, ram {section 1}\n");
	assert_said(&h, "79+31 BLOCKS 2, together 24 KiB: m0 16 KiB, rom 8 KiB {blocks 2} {length 24576}\n");
	assert_said(&h,
		" PAGES m0 0x0-0x2fff: 2 pages, 1 zero page {block m0} {start 0} {length 12288} {pages 2} {zero_pages 1} {xbzrle_pages 0}\n");
	assert_said(&h, " PAGES m0 0x0-0xfff: 1 changed (XBZRLE) {block m0}");
	assert_said(&h, " PAGES rom 0x0-0xfff: 1 page {block rom}");
	assert_said(&h, "+5 FOOTER of section 1: 3 pages, 1 zero pages, 1 changed (XBZRLE) ");
	char where[160];
	snprintf(where, sizeof where,
		"%zu+26 POSTCOPY_RAM_DISCARD m0: 8 KiB in 1 range must come again {block m0} {ranges 1} {length 8192}\n", package);
	assert_said(&h, where);
	snprintf(where, sizeof where, "%zu+9 PACKAGED 60 bytes ", package + 26);
	assert_said(&h, where);
	assert_said(&h, " DEVICE apic, instance 1, version 2: 9 bytes {device apic} {section 3} {instance 1} {version 2} {length 9}\n");
	assert_said(&h, " PING token 0x42 {token 66}\n");
	assert_said(&h, "+5 POSTCOPY_RUN the guest runs at the destination\n");
	assert_said(&h, "+1 EOF ");
	assert_null(strstr(h.log, "EOS"));
	assert_int_equal(h.stats.pages, 4);
	assert_int_equal(h.stats.zero_pages, 1);
	assert_int_equal(h.stats.xbzrle_pages, 1);
	assert_int_equal(gw__migration_view_ask_pages(&h.view, "rom"), 2);
	gw__migration_view_note(&h.view, GW__OBSERVED_PONG_RUNS);
	assert_int_equal(gw__migration_view_where(&h.view), GW__WHERE_UNKNOWN); /* all has gone, and nobody confirmed it */
	gw__migration_view_fini(&h.view);
	sb_fini(&b);
}

/* The head of one comes between the head of another and its blocks; somebody asks all the time. */
static void two_main_channels(void **state)
{
	(void)state;
	struct gw__migration_view view;
	struct gw__blocks blocks = {0};
	struct gw__block m0 = {.name = "m0", .used_bytes = 0x4000};
	gw__migration_view_init(&view);
	assert_int_equal(gw__blocks_add(&blocks, &m0), 0);
	assert_int_equal(gw__migration_view_ask_pages(&view, "m0"), 0);
	assert_int_equal(gw__migration_view_blocks(&view, 4096, 1, &blocks), 0); /* behind what it has not seen */
	assert_int_equal(gw__migration_view_ask_pages(&view, "m0"), 4);
	gw__migration_view_begin(&view, 4096);
	assert_int_equal(gw__migration_view_ask_pages(&view, "m0"), 0);
	gw__migration_view_begin(&view, 1024);
	assert_int_equal(gw__migration_view_blocks(&view, 4096, 1, &blocks), 0);
	assert_int_equal(gw__migration_view_ask_pages(&view, "m0"), 4);
	assert_int_equal(gw__migration_view_where(&view), GW__WHERE_SOURCE);
	gw__migration_view_fini(&view);
	gw__blocks_fini(&blocks);
}

static void every_page(void **state)
{
	(void)state;
	struct heard h;
	struct sb b = {0};
	begin(&h);
	h.every_page = true;
	put_head(&b);
	put_pages(&b);
	put_package(&b);
	put_rest(&b);
	explain(&h, GW__DISSECTOR_MAIN, &b);
	assert_said(&h, "+4107 PAGE m0 0x0 {block m0} {start 0}\n");
	assert_said(&h, "+9 ZERO m0 0x1000 {block m0} {start 4096}\n");
	assert_said(&h, "+11 XBZRLE m0 0x0 ");
	assert_said(&h, "+8 EOS ");
	assert_null(strstr(h.log, "PAGES"));
	gw__migration_view_fini(&h.view);
	sb_fini(&b);
}

static void a_plain_stream(void **state)
{
	(void)state;
	struct heard h;
	struct sb b = {0};
	begin(&h);
	sb_head(&b, "pc");
	sb_start_ram(&b);
	sb_be64(&b, 0x4000 | 0x004);
	sb_block(&b, "m0", 0x4000);
	sb_eos(&b);
	sb_switchover(&b);
	sb_more(&b, 0x03, 1);
	sb_eos(&b);
	sb_device(&b, 4, "timer", 0, 2, "0123456789", 10);
	sb_device(&b, 5, "apic", 7, 3, "", 0);
	sb_end(&b);
	explain(&h, GW__DISSECTOR_MAIN, &b);
	assert_int_equal(h.next_off, b.n);
	assert_said(&h, " SWITCHOVER_START ");
	assert_said(&h, "+34 DEVICE timer, instance 0, version 2: 10 bytes ");
	assert_said(&h, "+23 DEVICE apic, instance 7, version 3: 0 bytes ");
	assert_said(&h, " DESCRIPTION of 2 devices, ");
	assert_int_equal(gw__migration_view_where(&h.view), GW__WHERE_UNCONFIRMED);
	gw__migration_view_fini(&h.view);
	sb_fini(&b);
}

/* --- where the guest is --- */

static void cut_short(void **state)
{
	(void)state;
	static const struct {
		size_t cut;
		const char *said;
	} rows[] = {{5, "INCOMPLETE at stream offset 0"}, {30, "27+3 INCOMPLETE at stream offset 27"},
		{100, "INCOMPLETE at stream offset "}};
	struct sb b = {0};
	put_head(&b);
	put_pages(&b);
	for (unsigned i = 0; i < 3; i++) {
		struct heard h;
		struct sb some = b;
		begin(&h);
		some.n = rows[i].cut;
		explain(&h, GW__DISSECTOR_MAIN, &some);
		assert_said(&h, rows[i].said);
		assert_int_equal(h.next_off, some.n);
		gw__migration_view_fini(&h.view);
	}
	struct heard h;
	struct sb some = b;
	begin(&h);
	some.n = b.n - 13 - 100; /* inside the content of the last page */
	explain(&h, GW__DISSECTOR_MAIN, &some);
	assert_said(&h, "INCOMPLETE the connection ends 100 bytes before the end of what was announced");
	assert_int_equal(h.next_off, some.n);
	assert_int_equal(gw__migration_view_where(&h.view), GW__WHERE_SOURCE);
	gw__migration_view_fini(&h.view);
	sb_fini(&b);
}

static void where_the_guest_is(void **state)
{
	static const struct {
		enum gw__observed_event sights[6];
		enum gw__guest_location where;
	} rows[] = {
		{{GW__SIGHTS}, GW__WHERE_NO_MIGRATION}, {{GW__OBSERVED_OPAQUE, GW__SIGHTS}, GW__WHERE_UNKNOWN},
		{{GW__OBSERVED_BEGUN, GW__SIGHTS}, GW__WHERE_SOURCE},
		{{GW__OBSERVED_BEGUN, GW__OBSERVED_WHOLE, GW__SIGHTS}, GW__WHERE_UNCONFIRMED},
		{{GW__OBSERVED_BEGUN, GW__OBSERVED_RETURN_PATH, GW__OBSERVED_WHOLE, GW__SIGHTS}, GW__WHERE_UNKNOWN},
		{{GW__OBSERVED_BEGUN, GW__OBSERVED_RETURN_PATH, GW__OBSERVED_WHOLE, GW__OBSERVED_SHUT_ERROR, GW__SIGHTS}, GW__WHERE_SOURCE},
		{{GW__OBSERVED_BEGUN, GW__OBSERVED_RETURN_PATH, GW__OBSERVED_WHOLE, GW__OBSERVED_SHUT, GW__SIGHTS}, GW__WHERE_DESTINATION},
		{{GW__OBSERVED_BEGUN, GW__OBSERVED_RUN, GW__SIGHTS}, GW__WHERE_PAUSED}, /* before 10.2 nobody asks to be told */
		{{GW__OBSERVED_BEGUN, GW__OBSERVED_RUN, GW__OBSERVED_PING_RUNS, GW__SIGHTS}, GW__WHERE_UNKNOWN},
		{{GW__OBSERVED_BEGUN, GW__OBSERVED_RUN, GW__OBSERVED_PING_RUNS, GW__OBSERVED_PONG_RUNS, GW__SIGHTS}, GW__WHERE_PAUSED},
		{{GW__OBSERVED_BEGUN, GW__OBSERVED_RUN, GW__OBSERVED_WHOLE, GW__SIGHTS}, GW__WHERE_UNKNOWN},
		{{GW__OBSERVED_BEGUN, GW__OBSERVED_RUN, GW__OBSERVED_RECOVERY, GW__SIGHTS}, GW__WHERE_PAUSED},
		{{GW__OBSERVED_RECOVERY, GW__OBSERVED_WHOLE, GW__SIGHTS}, GW__WHERE_UNKNOWN},
		{{GW__OBSERVED_RECOVERY, GW__OBSERVED_WHOLE, GW__OBSERVED_RECOVERY, GW__SIGHTS}, GW__WHERE_PAUSED},
		{{GW__OBSERVED_RECOVERY, GW__OBSERVED_SHUT, GW__OBSERVED_BEGUN, GW__SIGHTS}, GW__WHERE_SOURCE}, /* another migration */
	};
	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct gw__migration_view view;
		gw__migration_view_init(&view);
		for (unsigned k = 0; rows[i].sights[k] != GW__SIGHTS; k++)
			if (rows[i].sights[k] == GW__OBSERVED_BEGUN)
				gw__migration_view_begin(&view, 4096);
			else
				gw__migration_view_note(&view, rows[i].sights[k]);
		if (gw__migration_view_where(&view) != rows[i].where)
			fail_msg("row %u: %d, expected %d", i, gw__migration_view_where(&view), rows[i].where);
		gw__migration_view_fini(&view);
	}
}

static void garbage(void **state)
{
	(void)state;
	static const enum gw__dissector_kind kinds[] = {GW__DISSECTOR_MAIN, GW__DISSECTOR_RECOVERY, GW__DISSECTOR_PREEMPT,
		GW__DISSECTOR_MULTIFD, GW__DISSECTOR_RETURN_PATH, GW__DISSECTOR_SILENT};
	for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		struct heard h;
		struct sb b = {0};
		begin(&h);
		sb_fill(&b, 0xee, 5000);
		explain(&h, kinds[i], &b);
		const char *said = strstr(h.log, "UNINTERPRETED ");
		assert_non_null(said);
		assert_null(strstr(said + 1, "UNINTERPRETED ")); /* once */
		gw__migration_view_fini(&h.view);
		sb_fini(&b);
	}
	struct heard h;
	struct sb b = {0};
	begin(&h);
	sb_fill(&b, 0xee, 5000);
	explain(&h, GW__DISSECTOR_OPAQUE, &b);
	assert_string_equal(h.log, "");
	gw__migration_view_fini(&h.view);
	put_head(&b); /* behind an end */
	sb_fini(&b);
	begin(&h);
	put_head(&b);
	put_package(&b);
	put_rest(&b);
	sb_fill(&b, 1, 10);
	explain(&h, GW__DISSECTOR_MAIN, &b);
	assert_said(&h, "UNINTERPRETED bytes after the end of the stream");
	gw__migration_view_fini(&h.view);
	sb_fini(&b);
}

/* --- the return path --- */

static void answers(void **state)
{
	(void)state;
	struct heard h;
	struct sb main = {0}, b = {0};
	begin(&h);
	put_head(&main);
	listen_to(&h, GW__DISSECTOR_MAIN, main.p, main.n, 0, false);
	h.log_n = h.next_off = 0;
	sb_hex(&b, "0002 0004 00000001");
	sb_hex(&b, "0004 000c 0000000000001000 00001000");
	sb_hex(&b, "0003 000f 0000000000002000 00001000 02 'm0'");
	sb_hex(&b, "0004 000c 0000000000003000 00002000");
	sb_hex(&b, "0005 0003 02 'm0' 0000000000000008 f500000000000000 0123456789abcdef");
	sb_hex(&b, "0005 0004 03 'new' 0000000000000010 ffffffff000000000100000000000000 0123456789abcdef");
	sb_hex(&b, "0006 0004 00000001");
	sb_hex(&b, "0007 0000");
	sb_hex(&b, "0001 0004 00000000");
	explain(&h, GW__DISSECTOR_RETURN_PATH, &b);
	assert_int_equal(h.next_off, b.n);
	assert_said(&h, "0+8 PONG token 1 {token 1}\n");
	assert_said(&h, "8+16 REQ_PAGES 4 KiB at 0x1000 of (no block was named before) ");
	assert_said(&h, "24+19 REQ_PAGES_ID 4 KiB at 0x2000 of m0 {block m0} {start 8192} {length 4096}\n");
	assert_said(&h, "43+16 REQ_PAGES 8 KiB at 0x3000 of m0 {block m0} ");
	assert_said(&h, "59+31 RECV_BITMAP 2 of 4 pages of m0 are there {block m0} {received 2} {pages 4}\n"); /* the others mean nothing */
	assert_said(&h, "90+40 RECV_BITMAP 33 pages of new are there {block new} {received 33}\n");
	assert_said(&h, "+8 RESUME_ACK value 1: ");
	assert_said(&h, "+4 SWITCHOVER_ACK ");
	assert_said(&h, "+8 SHUT status 0: ");
	assert_int_equal(gw__migration_view_where(&h.view), GW__WHERE_DESTINATION);
	sb_fini(&b);
	static const char *const wrong[] = {"0005 0003 02 'm0' 0000000000000010", "0005 0003 02 'm0' 0000000000000008 0000000000000000 00",
		"0009 0000", "0002 0003 000000"};
	for (unsigned i = 0; i < 4; i++) {
		h.log_n = h.next_off = 0;
		sb_hex(&b, wrong[i]);
		sb_fill(&b, 0, 40);
		explain(&h, GW__DISSECTOR_RETURN_PATH, &b);
		assert_said(&h, "UNINTERPRETED ");
		sb_fini(&b);
	}
	h.log_n = h.next_off = 0;
	sb_hex(&b, "0001 0004 00000001 0002 00");
	explain(&h, GW__DISSECTOR_RETURN_PATH, &b);
	assert_said(&h, "0+8 SHUT status 1: the destination failed {status 1}\n");
	assert_said(&h, "8+3 INCOMPLETE the connection ends inside a message, of which 3 bytes came");
	gw__migration_view_fini(&h.view);
	sb_fini(&main);
	sb_fini(&b);
}

/* --- channels without a head --- */

static void recovery_and_preempt(void **state)
{
	(void)state;
	for (int known = 0; known < 2; known++) {
		struct heard h;
		struct sb main = {0}, b = {0};
		begin(&h);
		put_head(&main);
		if (known)
			listen_to(&h, GW__DISSECTOR_MAIN, main.p, main.n, 0, false);
		h.log_n = h.next_off = 0;
		sb_hex(&b, "08 000a 0003 02 'm0'");
		sb_hex(&b, "08 0009 0000");
		put_rest(&b);
		explain(&h, GW__DISSECTOR_RECOVERY, &b);
		assert_int_equal(h.next_off, b.n);
		assert_said(&h, "0+8 RECV_BITMAP which pages of m0 are there? {block m0}\n");
		assert_said(&h, "8+5 POSTCOPY_RESUME ");
		assert_said(&h, " PAGES m0 0x2000-0x2fff: 1 page ");
		sb_fini(&b);
		h.log_n = h.next_off = 0;
		put_page(&b, 0x1000, "m0");
		put_page(&b, 0x2000, NULL);
		put_page(&b, 0x1000, "rom");
		explain(&h, GW__DISSECTOR_PREEMPT, &b);
		assert_said(&h, "0+8211 PAGES m0 0x1000-0x2fff: 2 pages ");
		assert_said(&h, "8211+4108 PAGES rom 0x1000-0x1fff: 1 page ");
		assert_null(strstr(h.log, "INCOMPLETE"));
		assert_int_equal(gw__migration_view_where(&h.view), GW__WHERE_UNKNOWN); /* the recovery came to its end, unconfirmed */
		gw__migration_view_fini(&h.view);
		sb_fini(&main);
		sb_fini(&b);
	}
}

static void put_multifd(struct sb *b, uint32_t flags, const char *block, uint32_t normal, uint32_t zero, uint32_t payload)
{
	static struct gw__multifd_packet p;
	static uint8_t head[4096];
	struct gw__wr c = gw__wr_over(head, sizeof head);
	memset(&p, 0, sizeof p);
	p.flags = flags;
	p.pages_alloc = normal + zero;
	p.normal = normal;
	p.zero = zero;
	p.payload_bytes = payload;
	p.number = 7;
	snprintf(p.block, sizeof p.block, "%s", block);
	gw__multifd_packet_encode(&c, 4096, &p);
	sb_bytes(b, head, gw__wr_used(&c));
	sb_fill(b, 0x11, payload); /* the first byte of a packet's magic, all over */
}

static void multifd(void **state)
{
	(void)state;
	struct heard h;
	struct sb main = {0}, b = {0};
	begin(&h);
	sb_hex(&b, "11223344 00000001 000102030405060708090a0b0c0d0e0f 03");
	sb_fill(&b, 0, 39);
	put_multifd(&b, GW__MULTIFD_SYNC, "", 0, 0, 0);
	put_multifd(&b, 0, "m0", 2, 1, 8192);
	put_multifd(&b, GW__MULTIFD_ZSTD, "m0", 1, 0, 100);
	put_head(&main);
	for (int known = 0; known < 2; known++) { /* without the page size it waits, and takes the usual one in the end */
		h.log_n = h.next_off = 0;
		explain(&h, GW__DISSECTOR_MULTIFD, &b);
		assert_int_equal(h.next_off, b.n);
		assert_said(&h, "0+64 HELLO channel 3, guest 00010203-0405-0607-0809-0a0b0c0d0e0f {id 3}\n");
		assert_said(&h, "64+1344 SYNC number 7 ");
		assert_said(&h,
			"1408+9536 PACKET number 7, m0: 2 pages, 1 zero page, 8192 bytes {number 7} {flags 0} {pages 2} {zero_pages 1} {length 8192}");
		assert_said(&h, "10944+1444 PACKET number 7, m0: 1 page, 0 zero pages, 100 bytes (zstd) ");
		assert_int_equal(h.stats.packets, 3);
		assert_int_equal(h.stats.pages, 3);
		h.next_off = 0;
		listen_to(&h, GW__DISSECTOR_MAIN, main.p, main.n, 0, false);
	}
	gw__migration_view_fini(&h.view);
	sb_fini(&main);
	sb_fini(&b);
}

/* --- stopping, for a cut --- */

static void it_stops_where_it_is_told_to(void **state)
{
	(void)state;
	static const char *const names[] = {"ping", "Advise", "BLOCKS", "page", "zero", "footer", "packaged", "device", "run", "eos"};
	struct sb b = {0};
	put_head(&b);
	put_pages(&b);
	put_package(&b);
	put_rest(&b);
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
		assert_true(gw__message_exists(names[i]));
		for (size_t piece = 0; piece < 3; piece++) {
			struct heard h;
			begin(&h);
			h.stop_at = names[i];
			listen_to(&h, GW__DISSECTOR_MAIN, b.p, b.n, piece, false);
			assert_int_equal(h.stop_off, h.next_off);
			assert_true(h.stop_off > 0 && h.stop_off < b.n);
			gw__migration_view_fini(&h.view);
		}
	}
	assert_false(gw__message_exists("nothing"));
	assert_true(gw__message_exists("recv-bitmap") && gw__message_exists("postcopy-resume") && gw__message_exists("resume"));
	assert_true(gw__message_is_page("Zero") && !gw__message_is_page("PAGES"));
	sb_fini(&b);
}

static void first_bytes(void **state)
{
	(void)state;
	assert_int_equal(gw__dissector_kind_of('Q'), GW__DISSECTOR_MAIN);
	assert_int_equal(gw__dissector_kind_of(0x11), GW__DISSECTOR_MULTIFD);
	assert_int_equal(gw__dissector_kind_of(0x08), GW__DISSECTOR_RECOVERY);
	assert_int_equal(gw__dissector_kind_of(0x00), GW__DISSECTOR_PREEMPT);
	assert_int_equal(gw__dissector_kind_of(0x16), GW__DISSECTOR_OPAQUE);
	assert_int_equal(gw__dissector_kind_of('G'), GW__DISSECTOR_OPAQUE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_postcopy_stream),
		cmocka_unit_test(two_main_channels),
		cmocka_unit_test(every_page),
		cmocka_unit_test(a_plain_stream),
		cmocka_unit_test(cut_short),
		cmocka_unit_test(where_the_guest_is),
		cmocka_unit_test(garbage),
		cmocka_unit_test(answers),
		cmocka_unit_test(recovery_and_preempt),
		cmocka_unit_test(multifd),
		cmocka_unit_test(it_stops_where_it_is_told_to),
		cmocka_unit_test(first_bytes),
		cmocka_unit_test(checkpoints),
		cmocka_unit_test(answers_of_a_secondary),
		cmocka_unit_test(no_checkpoints),
	};
	return cmocka_run_group_tests_name("explain", tests, NULL, NULL);
}
