/* SPDX-License-Identifier: MIT */
/* Pages: counted, gathered in runs of neighbours, and said run by run, or each by itself where that is wanted. See dissector.h. */
#include <string.h>

#include "dissect/dissector_private.h"

typedef unsigned long long ull;

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
