/* SPDX-License-Identifier: MIT */
/* What inspect found, for people. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/math.h"
#include "cli/inspect/inspect.h"
#include "cli/ui/output.h"

enum { NAME_COLUMNS = 28, LABEL_COLUMNS = 14 };

static void row(const char *label, const char *fmt, ...) GW__PRINTF(2, 3);
static void row(const char *label, const char *fmt, ...)
{
	char text[1200];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	gw__ui_print("  %-*s%s\n", LABEL_COLUMNS, label, text);
}

static void show_uuid(const uint8_t *u)
{
	row("UUID", "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7],
		u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

static void show_capabilities(const gw_info *info)
{
	char text[1024] = "";
	const char *c;
	for (uint32_t i = 0; (c = gw_info_capability(info, i)); i++)
		if (strlen(text) + strlen(c) + 3 < sizeof text) {
			strcat(text, i ? ", " : "");
			strcat(text, c);
		}
	if (*text)
		row("capabilities", "%s", text);
}

/* How the source sent it; said of a stream, and of an image as far as it can be seen there. */
static void show_history(const struct gw_info_summary *s)
{
	char text[200];
	snprintf(text, sizeof text, "%u %s over memory%s%s%s%s", s->rounds, s->rounds == 1 ? "pass" : "passes",
		s->background ? ", background snapshot" : "", s->return_path ? ", return path opened" : "",
		s->postcopy_advised ? ", post-copy advised" : "", s->switchover ? ", switchover marked" : "");
	row("sent with", "%s", text);
}

/* "3 hours". */
static const char *age(uint64_t since, char text[32])
{
	static const struct {
		uint64_t seconds;
		const char *name;
	} units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
	uint64_t now = (uint64_t)time(NULL), old = now > since ? now - since : 0, n = 0;
	unsigned u = 0;
	while (u < GW__LEN(units) - 1 && old < units[u].seconds)
		u++;
	n = old / units[u].seconds;
	snprintf(text, 32, "%ju %s%s", (uintmax_t)n, units[u].name, n == 1 ? "" : "s");
	return text;
}

static void show_working_set(const struct gw__inspect *in)
{
	struct gw_info_working_set w = GW_INIT(w);
	char begun[32], added[32], torn[80] = "";
	if (gw_info_working_set(in->info, &w))
		return;
	if (w.unused) {
		row("working set", "%s", w.unused);
		return;
	}
	if (w.torn_bytes)
		snprintf(torn, sizeof torn, "; %ju bytes at its end are torn", (uintmax_t)w.torn_bytes);
	row("working set", "%ju pages (%s) in %ju %s, begun %s ago, last added to %s ago%s", (uintmax_t)w.pages,
		GW__SIZE(w.pages * in->summary.page_bytes), (uintmax_t)w.runs, w.runs == 1 ? "run" : "runs", age(w.begun, begun),
		age(w.added ? w.added : w.begun, added), torn);
}

static void show_guest(const struct gw__inspect *in)
{
	const struct gw_info_summary *s = &in->summary;
	gw__ui_print("%s: %s, whole\n\n", GW__NAME(in->file), s->format == GW_FORMAT_IMAGE ? "mapped-ram image" : "stream");
	row("machine", "%s", s->machine);
	row("run state", "%s", s->run_state_name ? s->run_state_name : "not said");
	if (s->uuid)
		show_uuid(s->uuid);
	row("memory", "%s in %u %s, pages of %s", GW__SIZE(s->ram_bytes), s->blocks, s->blocks == 1 ? "block" : "blocks",
		GW__SIZE(s->page_bytes));
	if (s->memory_only)
		row("devices", "left out: this is memory that was drained from a source, to complete its destination with godwit serve");
	else
		row("devices", "%u%s", s->devices, s->described ? "" : ", without a description of their fields");
	show_capabilities(in->info);
	show_history(s);
	row("in the file", "from %ju to %ju", (uintmax_t)s->begin_off, (uintmax_t)s->end_off);
	if (s->checkpoints)
		row("checkpoints", "%ju after it, %s: %ju pages, %ju zero pages", (uintmax_t)s->checkpoints, GW__SIZE(s->checkpoint_bytes),
			(uintmax_t)s->checkpoint_pages, (uintmax_t)s->checkpoint_zero_pages);
	if (s->trailing_bytes)
		row("after it", "%ju bytes that do not belong to it", (uintmax_t)s->trailing_bytes);
	if (s->format == GW_FORMAT_IMAGE)
		row("clonable", "%s", s->clonable ? "yes" : s->not_clonable);
	show_working_set(in);
}

static void show_share(const char *what, uint64_t bytes, uint64_t total)
{
	if (bytes)
		gw__ui_print("  %-20s %11s %6.1f %%\n", what, GW__SIZE(bytes), total ? 100.0 * (double)bytes / (double)total : 0);
}

static void show_bytes(const struct gw_info_summary *s)
{
	uint64_t total = s->end_off - s->begin_off;
	uint64_t known = s->page_bytes_stored + s->xbzrle_bytes + s->device_bytes + s->description_bytes + s->framing_bytes;
	gw__ui_print("\nwhere the bytes are\n");
	show_share("pages", s->page_bytes_stored, total);
	show_share("page deltas", s->xbzrle_bytes, total);
	show_share("devices", s->device_bytes, total);
	show_share("description", s->description_bytes, total);
	show_share("framing", s->framing_bytes, total);
	if (total > known)
		show_share(s->format == GW_FORMAT_IMAGE ? "holes and headers" : "other", total - known, total);
	show_share("all", total, total);
	gw__ui_print("  %ju zero pages (%s) are %s\n", (uintmax_t)s->zero_pages, GW__SIZE(s->zero_pages * s->page_bytes),
		s->format == GW_FORMAT_IMAGE ? "left out" : "only named");
}

static void show_block(const struct gw_info_block *b, bool image, uint64_t page_bytes)
{
	char note[120] = "", huge[32] = "", address[32] = "", wanted[48] = "";
	if (b->backing_page_bytes && b->backing_page_bytes != page_bytes)
		snprintf(huge, sizeof huge, " on %s pages", GW__SIZE(b->backing_page_bytes));
	if (b->address)
		snprintf(address, sizeof address, " at 0x%jx", (uintmax_t)b->address);
	if (b->working_set_pages)
		snprintf(wanted, sizeof wanted, " %ju in the working set", (uintmax_t)b->working_set_pages);
	snprintf(note, sizeof note, "%s%s%s%s", b->ignored ? " shared, not in the file" : "", huge, address, wanted);
	gw__ui_print("  %-*s %10s %9ju %9ju", NAME_COLUMNS, b->name, GW__SIZE(b->used_bytes), (uintmax_t)b->pages,
		(uintmax_t)b->zero_pages);
	if (image) {
		double filled = b->used_bytes ? 100.0 * (double)(b->pages * page_bytes) / (double)b->used_bytes : 0;
		gw__ui_print(" %5.1f %% %#12jx %#12jx%s\n", filled, (uintmax_t)b->bitmap_off, (uintmax_t)b->pages_off, note);
	} else {
		gw__ui_print(" %9ju%s\n", (uintmax_t)b->xbzrle_pages, note);
	}
}

static void show_blocks(const struct gw__inspect *in)
{
	bool image = in->summary.format == GW_FORMAT_IMAGE;
	struct gw_info_block b = GW_INIT(b);
	gw__ui_print("%-*s %10s %9s %9s", NAME_COLUMNS + 2, "RAM blocks", "size", image ? "pages" : "sent", "zero");
	gw__ui_print(image ? "  filled       bitmap        pages\n" : "    deltas\n");
	for (uint32_t i = 0; gw_info_block(in->info, i, &b) == 0; i++)
		show_block(&b, image, in->summary.page_bytes);
}

static void show_devices(const struct gw__inspect *in)
{
	struct gw_info_device d = GW_INIT(d);
	gw__ui_print("%-*s %10s %8s %9s %12s\n", NAME_COLUMNS + 10, "devices", "instance", "version", "bytes", "offset");
	for (uint32_t i = 0; gw_info_device(in->info, i, &d) == 0; i++)
		gw__ui_print("  %-*s %10u %8u %9ju %#12jx%s\n", NAME_COLUMNS + 8, d.name, d.instance, d.version, (uintmax_t)d.bytes,
			(uintmax_t)d.off, d.early ? " before memory" : "");
}

static void show_warnings(const struct gw__inspect *in)
{
	const char *w;
	for (uint32_t i = 0; (w = gw_info_warning(in->info, i)); i++)
		gw__ui_print("%s%s\n", i ? "  " : "\nwarnings\n  ", w);
}

static void show_wanted_devices(const struct gw__inspect *in)
{
	struct gw_info_device d = GW_INIT(d);
	bool first = true;
	for (uint32_t i = 0; gw_info_device(in->info, i, &d) == 0; i++) {
		if (!gw__inspect_wants(in, &d))
			continue;
		gw__ui_print("%s%s instance %u: version %u, %ju bytes at %#jx\n", first ? "" : "\n", d.name, d.instance, d.version,
			(uintmax_t)d.bytes, (uintmax_t)d.off);
		gw__inspect_fields(in, i, &d);
		first = false;
	}
}

void gw__inspect_text(const struct gw__inspect *in)
{
	bool all = !in->blocks && !in->devices && !in->device;
	if (all) {
		show_guest(in);
		show_bytes(&in->summary);
		gw__ui_print("\n");
	}
	if (all || in->blocks)
		show_blocks(in);
	if (all || (in->blocks && in->devices))
		gw__ui_print("\n");
	if (all || in->devices)
		show_devices(in);
	if (all)
		show_warnings(in);
	if (in->device)
		show_wanted_devices(in);
}
