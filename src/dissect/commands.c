/* SPDX-License-Identifier: MIT */
/* The explainer on commands of a main channel (docs/spec/postcopy.md 2). See dissector.h. */
#include "dissect/dissector_private.h"
#include "wire/postcopy.h"

typedef unsigned long long ull;

static void on_return_path(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)cmd;
	gw__dissector_observed_event(x, GW__OBSERVED_RETURN_PATH);
	gw__dissector_more(m, "the destination may answer");
}

static void on_ping(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	if (cmd->ping_token == GW__PING_RUNS)
		gw__dissector_observed_event(x, GW__OBSERVED_PING_RUNS);
	gw__dissector_more(m, cmd->ping_token > 9 ? "token 0x%x" : "token %u", cmd->ping_token);
	gw__dissector_number(m, "token", cmd->ping_token);
}

static void on_advise(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)x;
	gw__dissector_more(m,
		cmd->length ? "post-copy may follow; sizes of pages 0x%llx, of the guest's 0x%llx" : "post-copy may follow, but not of RAM",
		(ull)cmd->page_summary, (ull)cmd->target_page_bytes);
	gw__dissector_number(m, "page_sizes", cmd->page_summary);
	gw__dissector_number(m, "page_bytes", cmd->target_page_bytes);
}

static void on_listen(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)x, (void)cmd;
	gw__dissector_more(m, "a page that is missing is asked for from here on");
}

static void on_run(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)cmd;
	gw__dissector_observed_event(x, GW__OBSERVED_RUN);
	gw__dissector_more(m, "the guest runs at the destination");
}

/* The decoder has checked it. The name lives as long as the message; asked_block has no other use in this direction. */
static void on_discard(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	const uint8_t *ranges;
	unsigned n;
	uint64_t bytes = 0;
	char *block = x->asked_block;
	if (gw__discard_split(cmd->payload, cmd->length, block, &ranges, &n, NULL))
		return;
	for (unsigned i = 0; i < n; i++)
		bytes += gw__range_at(ranges, i).bytes;
	gw__dissector_more(m, "%s: %s in %u range%s must come again", block, GW__DISSECTOR_SIZE(bytes), n, n == 1 ? "" : "s");
	gw__dissector_text(m, "block", block);
	gw__dissector_number(m, "ranges", n);
	gw__dissector_number(m, "length", bytes);
}

static void on_packaged(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	uint64_t bytes = gw__be_get(cmd->payload, 4);
	(void)x;
	gw__dissector_more(m, "%llu bytes of device state follow, which is loaded as a whole", (ull)bytes);
	gw__dissector_number(m, "length", bytes);
}

static void on_resume(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)x, (void)cmd;
	gw__dissector_more(m, "the pages that are missing follow");
}

static void on_ask_bitmap(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	if (gw__ask_bitmap_decode(cmd->payload, cmd->length, x->asked_block, NULL))
		return;
	gw__dissector_more(m, "which pages of %s are there?", x->asked_block);
	gw__dissector_text(m, "block", x->asked_block);
}

static void on_switchover(struct gw__dissector *x, const struct gw__command *cmd, struct gw__message *m)
{
	(void)x, (void)cmd;
	gw__dissector_more(m, "the guest stands still");
}

void gw__dissector_command(struct gw__dissector *x, const struct gw__command *cmd)
{
	static void (*const by_number[])(struct gw__dissector * x, const struct gw__command *cmd, struct gw__message *m) = {
		[GW__CMD_OPEN_RETURN_PATH] = on_return_path,
		[GW__CMD_PING] = on_ping,
		[GW__CMD_POSTCOPY_ADVISE] = on_advise,
		[GW__CMD_POSTCOPY_LISTEN] = on_listen,
		[GW__CMD_POSTCOPY_RUN] = on_run,
		[GW__CMD_POSTCOPY_RAM_DISCARD] = on_discard,
		[GW__CMD_PACKAGED] = on_packaged,
		[GW__CMD_POSTCOPY_RESUME] = on_resume,
		[GW__CMD_RECV_BITMAP] = on_ask_bitmap,
		[GW__CMD_SWITCHOVER_START] = on_switchover,
	};
	struct gw__message *m = gw__dissector_make(x, gw__command_name(cmd->number), "%s", "");
	if (cmd->number < sizeof by_number / sizeof by_number[0] && by_number[cmd->number])
		by_number[cmd->number](x, cmd, m);
}
