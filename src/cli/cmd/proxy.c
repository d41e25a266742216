/* SPDX-License-Identifier: MIT */
/* godwit proxy: a wire between the two ends of a migration that explains what passes, and breaks on demand. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cmd/commands.h"
#include "cli/cmd/proxy.h"
#include "cli/cmd/proxy_trace.h"
#include "cli/ui/command_ctx.h"

struct proxy {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	struct gw_link_opts link;
	struct gw_proxy_opts opts;
	struct gw__cli_list cut_after, cut_at, rate;
	struct gw__cli_faults faults;
	struct gw__cli_proxy_table table;
	const char *listen, *connect;
	const char *perfetto; /* the trace's file, or NULL */
	struct gw__proxy_trace *trace;
};

static void on_listening(void *ctx, const char *uri)
{
	struct proxy *p = ctx;
	if (p->common.json)
		gw__cli_json(json_pack("{ss so}", "event", "listening", "uri", gw__cli_json_text(uri)));
	gw__ui_info("listening at %s", uri);
}

static void on_message(void *ctx, const struct gw_proxy_message *m)
{
	struct proxy *p = ctx;
	gw__proxy_trace_message(p->trace, m);
	if (p->common.quiet)
		return;
	if (p->common.json)
		gw__cli_proxy_json(m);
	else
		gw__cli_proxy_line(m);
}

static void on_channel(void *ctx, const struct gw_proxy_channel *c)
{
	struct proxy *p = ctx;
	if (p->common.json)
		gw__cli_proxy_channel_json(c);
	else
		gw__cli_proxy_remember(&p->table, c);
}

static const struct {
	const char *name, *text;
} outcomes[] = {
	[GW_PROXY_NO_MIGRATION] = {"none", "no migration was seen"},
	[GW_PROXY_AT_SOURCE] = {"source", "the migration broke off before the guest had left: it is the source's as before"},
	[GW_PROXY_ARRIVED] = {"arrived", "the guest arrived, and the source was told so"},
	[GW_PROXY_UNCONFIRMED] = {"unconfirmed",
		"everything went through; without a return path (return-path at the source) nobody could say that the guest arrived"},
	[GW_PROXY_PAUSED] = {"paused",
		"the link ended in post-copy: the guest is the destination's, runs until it lacks a page, and waits then; migrate-recover there, and "
		"migrate with resume at the source, through a proxy that listens, go on"},
	[GW_PROXY_IN_DOUBT] = {"in-doubt", "what could be seen does not tell where the guest is: ask both monitors (query-migrate)"},
};

static void report(const struct proxy *p, const struct gw_proxy_result *r)
{
	gw__cli_proxy_show_table(&p->table);
	if (r->strangers)
		gw__ui_info("%u connections were dropped before the destination heard of them", (unsigned)r->strangers);
	if (p->common.json)
		gw__cli_json(gw__cli_json_at(json_pack("{ss ss so si si si so so so}", "event", "ended", "outcome",
						     outcomes[r->outcome].name, "text", gw__cli_json_text(outcomes[r->outcome].text),
						     "connections", (int)r->connections, "strangers", (int)r->strangers, "cuts",
						     (int)r->cuts, "forward_bytes", gw__cli_json_size(r->bytes[0]), "return_bytes",
						     gw__cli_json_size(r->bytes[1]), "missed", gw__cli_json_size(r->dropped_messages)),
			&r->guest));
}

/* Being stopped is how --keep ends, so it says nothing about the guest. */
static int end(struct proxy *p, int rc, const struct gw_proxy_result *r)
{
	if (rc && (rc != -ECANCELED || r->outcome == GW_PROXY_NO_MIGRATION)) {
		report(p, r);
		return gw__command_ctx_failed_at(&p->work, &r->guest, r->connections ? outcomes[r->outcome].text : "nothing was passed on");
	}
	report(p, r);
	if (r->guest.exit_status == GW__EXIT_DONE)
		gw__ui_info("%s", outcomes[r->outcome].text);
	else
		gw__ui_error(0, "%s", outcomes[r->outcome].text);
	return (int)r->guest.exit_status;
}

/* A trace that is not whole changes nothing about the guest, nor the exit status. */
static void end_trace(struct proxy *p, const struct gw_proxy_result *r)
{
	int error = gw__proxy_trace_close(p->trace);
	p->trace = NULL;
	if (error)
		gw__ui_error(0, "the trace %s is not complete: %s; the migration is not affected", p->perfetto, strerror(error));
	else if (p->perfetto && r->dropped_messages)
		gw__ui_error(0,
			"the trace %s lacks %ju messages, which came faster than they could be written; the migration is not affected",
			p->perfetto, (uintmax_t)r->dropped_messages);
}

static int run(struct proxy *p)
{
	struct gw_proxy_result result = GW_INIT(result);
	gw__cli_raise_descriptor_limit(); /* each connection takes six */
	int status = gw__command_ctx_begin(&p->work, &p->common);
	if (status != GW__CLI_GO)
		return status;
	int r = p->perfetto ? gw__proxy_trace_open(p->perfetto, &p->trace) : 0;
	if (r) {
		gw__command_ctx_end(&p->work);
		return gw__cli_failed(&p->common, GW__EXIT_FAILED, "cannot write the trace %s: %s; nothing was passed on", p->perfetto,
			strerror(-r));
	}
	int rc = gw_proxy(p->work.job, p->listen, p->connect, &p->opts, &result);
	gw__cli_progress_end(&p->work.progress);
	end_trace(p, &result);
	status = end(p, rc, &result);
	gw__command_ctx_end(&p->work);
	return status;
}

static int read_faults(struct proxy *p)
{
	int r = gw__cli_faults_add(&p->faults, "cut-after", GW_PROXY_CUT_AFTER, &p->cut_after);
	if (!r)
		r = gw__cli_faults_add(&p->faults, "cut-at", GW_PROXY_CUT_AT, &p->cut_at);
	if (!r)
		r = gw__cli_faults_add(&p->faults, "rate", GW_PROXY_RATE, &p->rate);
	p->opts.fault = p->faults.v;
	p->opts.faults = p->faults.n;
	return r;
}

int gw__cli_proxy(int argc, char **argv)
{
	struct proxy p = {.common = GW__CLI_COMMON_INIT, .link = {.size = sizeof p.link}, .opts = {.size = sizeof p.opts}};
	const struct gw__cli_option options[] = {
		GW__CLI_FLAG("keep", &p.opts.keep, "go on when all connections ended, for a recovery, until interrupted"),
		GW__CLI_LIST("cut-after", "[CHANNEL:][DIRECTION:]BYTES", &p.cut_after,
			"break the connection after so many bytes; may be repeated"),
		GW__CLI_LIST("cut-at", "[CHANNEL:][DIRECTION:]MESSAGE[:N]", &p.cut_at,
			"break it after the Nth message of that name; may be repeated"),
		GW__CLI_FLAG("cut-all", &p.opts.cut_all, "a cut breaks all connections there are, as when the network goes"),
		GW__CLI_LIST("rate", "[CHANNEL:][DIRECTION:]BYTES", &p.rate, "pass at most so many bytes per second; may be repeated"),
		GW__CLI_TEXT("tap", "DIR", &p.opts.tap_dir, "record what passes: a file for each direction of each connection"),
		GW__CLI_TEXT("perfetto", "FILE", &p.perfetto, "write the migration as a trace for ui.perfetto.dev or chrome://tracing"),
		GW__CLI_BYTES("memory-limit", "BYTES", &p.opts.memory_limit, "device state looked at in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&p.common),
		GW__CLI_SECONDS("connect-timeout", &p.link.connect_timeout_ms,
			"how long to try to connect (default: 10), and to wait for a source (default: none)"),
		{.name = "verbose",
			.letter = 'v',
			.help = "explain each page and mark, not only runs of pages",
			.to.flag = &p.opts.every_page},
		{.name = "quiet", .letter = 'q', .help = "explain nothing, and say only what goes wrong", .to.flag = &p.common.quiet},
		GW__CLI_JSON(&p.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("LISTEN-URI CONNECT-URI [options]",
		"Waits at LISTEN-URI for the source of a migration, and passes each connection that comes on to CONNECT-URI, where the "
		"destination waits: byte for byte and at once, whatever the kind of migration. Explains each message it sees. CHANNEL is main, "
		"recovery, preempt, multifd, multifd0 and so on, tls or unknown; DIRECTION is forward (what the source says) or return.",
		options, 2, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	p.listen = args.arg[0];
	p.connect = args.arg[1];
	p.opts.link = &p.link;
	p.opts.on_listening = on_listening;
	p.opts.on_message = p.common.quiet && !p.perfetto ? NULL : on_message;
	p.opts.on_channel = p.common.quiet && !p.common.json ? NULL : on_channel;
	p.opts.ctx = &p;
	status = read_faults(&p) ? GW__EXIT_USAGE : run(&p);
	gw__cli_faults_free(&p.faults);
	gw__cli_proxy_table_free(&p.table);
	return status;
}
