/* SPDX-License-Identifier: MIT */
/* Messages in words; see message.h. */
#include "dissect/message.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/math.h"
#include "wire/colo.h"
#include "wire/postcopy.h"
#include "wire/return_path.h"
#include "wire/stream.h"

typedef unsigned long long ull;

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

/* --- one is made --- */

static void append(struct gw__message *m, const char *fmt, va_list ap)
{
	size_t n = strlen(m->text);
	vsnprintf(m->text + n, sizeof m->text - n, fmt, ap);
}

struct gw__message *gw__message_begin(struct gw__message *m, const char *name, const char *fmt, ...)
{
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

void gw__message_more(struct gw__message *m, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	append(m, fmt, ap);
	va_end(ap);
}

void gw__message_number(struct gw__message *m, const char *name, uint64_t v)
{
	if (m->fields_n < GW__MESSAGE_FIELDS_MAX)
		m->field[m->fields_n++] = (struct gw__message_field){.name = name, .number = v};
}

void gw__message_text(struct gw__message *m, const char *name, const char *text)
{
	if (m->fields_n < GW__MESSAGE_FIELDS_MAX)
		m->field[m->fields_n++] = (struct gw__message_field){.name = name, .text = text};
}

const char *gw__message_size(uint64_t bytes, struct gw__message_size *s)
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

/* --- commands of a main channel (docs/spec/postcopy.md 2) --- */

static void add_ping(struct gw__message *m, const struct gw__command *cmd, char *block)
{
	(void)block;
	gw__message_more(m, cmd->ping_token > 9 ? "token 0x%x" : "token %u", cmd->ping_token);
	gw__message_number(m, "token", cmd->ping_token);
}

static void add_advise(struct gw__message *m, const struct gw__command *cmd, char *block)
{
	(void)block;
	gw__message_more(m,
		cmd->length ? "post-copy may follow; sizes of pages 0x%llx, of the guest's 0x%llx" : "post-copy may follow, but not of RAM",
		(ull)cmd->page_summary, (ull)cmd->target_page_bytes);
	gw__message_number(m, "page_sizes", cmd->page_summary);
	gw__message_number(m, "page_bytes", cmd->target_page_bytes);
}

/* The decoder has checked it. */
static void add_discard(struct gw__message *m, const struct gw__command *cmd, char *block)
{
	const uint8_t *ranges;
	unsigned n;
	uint64_t bytes = 0;
	if (gw__discard_split(cmd->payload, cmd->length, block, &ranges, &n, NULL))
		return;
	for (unsigned i = 0; i < n; i++)
		bytes += gw__range_at(ranges, i).bytes;
	gw__message_more(m, "%s: %s in %u range%s must come again", block, GW__MESSAGE_SIZE(bytes), n, n == 1 ? "" : "s");
	gw__message_text(m, "block", block);
	gw__message_number(m, "ranges", n);
	gw__message_number(m, "length", bytes);
}

static void add_packaged(struct gw__message *m, const struct gw__command *cmd, char *block)
{
	uint64_t bytes = gw__be_get(cmd->payload, 4);
	(void)block;
	gw__message_more(m, "%llu bytes of device state follow, which is loaded as a whole", (ull)bytes);
	gw__message_number(m, "length", bytes);
}

static void add_ask_bitmap(struct gw__message *m, const struct gw__command *cmd, char *block)
{
	if (gw__ask_bitmap_decode(cmd->payload, cmd->length, block, NULL))
		return;
	gw__message_more(m, "which pages of %s are there?", block);
	gw__message_text(m, "block", block);
}

void gw__message_command(struct gw__message *m, const struct gw__command *cmd, char *block)
{
	static const struct {
		const char *text;
		void (*add)(struct gw__message *m, const struct gw__command *cmd, char *block);
	} by_number[] = {
		[GW__CMD_OPEN_RETURN_PATH] = {"the destination may answer", NULL},
		[GW__CMD_PING] = {"", add_ping},
		[GW__CMD_POSTCOPY_ADVISE] = {"", add_advise},
		[GW__CMD_POSTCOPY_LISTEN] = {"a page that is missing is asked for from here on", NULL},
		[GW__CMD_POSTCOPY_RUN] = {"the guest runs at the destination", NULL},
		[GW__CMD_POSTCOPY_RAM_DISCARD] = {"", add_discard},
		[GW__CMD_PACKAGED] = {"", add_packaged},
		[GW__CMD_POSTCOPY_RESUME] = {"the pages that are missing follow", NULL},
		[GW__CMD_RECV_BITMAP] = {"", add_ask_bitmap},
		[GW__CMD_SWITCHOVER_START] = {"the guest stands still", NULL},
	};
	bool known = cmd->number < GW__LEN(by_number) && by_number[cmd->number].text;
	gw__message_begin(m, gw__command_name(cmd->number), "%s", known ? by_number[cmd->number].text : "");
	if (known && by_number[cmd->number].add)
		by_number[cmd->number].add(m, cmd, block);
}
