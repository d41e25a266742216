/* SPDX-License-Identifier: MIT */
/* godwit guest: a guest that proves itself, in a process of its own, to be sent, received and checked. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "cli/cmd/commands.h"
#include "cli/guest/control.h"
#include "cli/guest/mem_vmm.h"

struct guest {
	struct gw__cli_common common;
	struct gw__mem_vmm_opts vmm;
	struct gw_tls_opts tls;
	const char *copy;
	uint64_t offset, max_bandwidth, xbzrle_cache;
	unsigned channels, compression, workload, seed, writers, rate;
	int downtime_ms;
	unsigned postcopy;
	bool give_up, resume, preempt;
};

static json_t *request_of(const struct guest *g, const char *what, const char *uri)
{
	json_t *r = json_pack("{ss}", "do", what);
	if (!r)
		return NULL;
	if (uri)
		json_object_update_new(r, json_pack("{so sI sI sI sI sI sb sI sb sb so* so*}", "uri", gw__cli_json_text(uri), "channels",
						  (json_int_t)g->channels, "compression", (json_int_t)g->compression, "downtime_ms",
						  (json_int_t)g->downtime_ms, "max_bandwidth", (json_int_t)g->max_bandwidth, "xbzrle_cache",
						  (json_int_t)g->xbzrle_cache, "give_up", g->give_up, "postcopy", (json_int_t)g->postcopy,
						  "resume", g->resume, "preempt", g->preempt, "tls_creds",
						  g->tls.creds_dir ? gw__cli_json_text(g->tls.creds_dir) : NULL, "tls_hostname",
						  g->tls.hostname ? gw__cli_json_text(g->tls.hostname) : NULL));
	if (g->copy)
		json_object_set_new(r, "copy", gw__cli_json_text(g->copy));
	if (g->offset)
		json_object_set_new(r, "first_page", json_integer((json_int_t)(g->offset / GW__MEM_PAGE_BYTES)));
	return r;
}

/* The answer is the result: its text on standard output, or as a message if it is not good. */
static int ask(const struct guest *g, const char *control, json_t *request)
{
	struct gw__error error = {0};
	json_t *answer;
	gw__ui_set_verbosity(g->common.quiet, g->common.verbose);
	if (gw__control_ask(control, request, &answer, &error))
		return gw__cli_failed(&g->common, GW__EXIT_FAILED, "%s", error.text);
	int status = (int)json_integer_value(json_object_get(answer, "status"));
	const char *text = json_string_value(json_object_get(answer, "text"));
	if (status != GW__EXIT_DONE)
		gw__ui_error(0, "%s", text ? text : "the guest says nothing");
	else if (!g->common.json)
		gw__ui_print("%s\n", text ? text : "");
	if (g->common.json)
		gw__cli_json(answer);
	else
		json_decref(answer);
	return status;
}

static int run(struct guest *g, const struct gw__cli_args *args)
{
	struct gw__command_ctx ctx;
	if (args->n != 1 || !g->vmm.control || !g->vmm.mem.bytes)
		return gw__ui_error(GW__EXIT_USAGE, "godwit guest run needs --memory and --control, and no other argument");
	if (g->vmm.lazy && !g->vmm.incoming)
		return gw__ui_error(GW__EXIT_USAGE, "--lazy needs a guest that comes: --incoming");
	g->vmm.mem.workload = (enum gw__mem_workload)g->workload;
	g->vmm.mem.seed = g->seed;
	g->vmm.mem.writers = g->writers;
	g->vmm.mem.steps_per_second = g->rate;
	g->vmm.channels = g->channels;
	g->vmm.link = (struct gw_link_opts){.size = sizeof g->vmm.link, .tls = g->tls.creds_dir ? &g->tls : NULL};
	if (g->workload >= GW__MEM_TOLD) /* they write through another mapping */
		g->vmm.mem.shared = true;
	int status = gw__command_ctx_begin(&ctx, &g->common);
	if (status == GW__CLI_GO)
		status = gw__mem_vmm_run(&ctx, &g->vmm);
	gw__command_ctx_end(&ctx);
	return status;
}

static int send_it(struct guest *g, const struct gw__cli_args *args)
{
	if (args->n != 3)
		return gw__ui_error(GW__EXIT_USAGE, "godwit guest send CONTROL URI");
	return ask(g, args->arg[1], request_of(g, "send", args->arg[2]));
}

static int check_it(struct guest *g, const struct gw__cli_args *args)
{
	char copy[PATH_MAX];
	if (args->n != 2)
		return gw__ui_error(GW__EXIT_USAGE, "godwit guest check CONTROL");
	if (g->offset % GW__MEM_PAGE_BYTES)
		return gw__ui_error(GW__EXIT_USAGE, "--offset is a multiple of 4K");
	if (g->copy && !realpath(g->copy, copy)) /* it is opened in another folder */
		return gw__ui_error(GW__EXIT_FAILED, "cannot find %s: %s", g->copy, strerror(errno));
	g->copy = g->copy ? copy : NULL;
	return ask(g, args->arg[1], request_of(g, "check", NULL));
}

static int stop_it(struct guest *g, const struct gw__cli_args *args)
{
	if (args->n != 2)
		return gw__ui_error(GW__EXIT_USAGE, "godwit guest stop CONTROL");
	return ask(g, args->arg[1], request_of(g, "stop", NULL));
}

static const struct {
	const char *name;
	int (*run)(struct guest *g, const struct gw__cli_args *args);
} verbs[] = {{"run", run}, {"send", send_it}, {"check", check_it}, {"stop", stop_it}};

int gw__cli_guest(int argc, char **argv)
{
	struct guest g = {.common = GW__CLI_COMMON_INIT,
		.tls = {.size = sizeof g.tls},
		.downtime_ms = 300,
		.seed = 1,
		.writers = 1,
		.vmm = {.machine = "godwit-mem", .block = "ram"}};
	const struct gw__cli_option options[] = {
		GW__CLI_BYTES("memory", "BYTES", &g.vmm.mem.bytes, "run: how much RAM the guest has"),
		GW__CLI_TEXT("control", "PATH", &g.vmm.control, "run: the socket that accepts send, check and stop"),
		GW__CLI_CHOICE("workload", "uniform|hot|sweep|burst|discard|sparse|told|untold", &g.workload,
			"run: how it writes (default: uniform)"),
		GW__CLI_COUNT("seed", "N", &g.seed, "run: the seed of its content (default: 1)"),
		GW__CLI_COUNT("writers", "N", &g.writers, "run: threads that write (default: 1, at most 16)"),
		GW__CLI_COUNT("rate", "N", &g.rate, "run: pages it writes per second (default: as many as possible)"),
		GW__CLI_FLAG("shared", &g.vmm.mem.shared, "run: its RAM is shared memory"),
		GW__CLI_FLAG("report", &g.vmm.told, "run: the guest reports its writes itself; they are not tracked"),
		GW__CLI_TEXT("incoming", "URI", &g.vmm.incoming,
			"run: wait at this address for a guest, or take it out of the image file:IMAGE, and run it"),
		GW__CLI_FLAG("lazy", &g.vmm.lazy, "run: run the guest that comes before its memory is here"),
		GW__CLI_TEXT("machine", "NAME", &g.vmm.machine, "run: the machine, the same at both ends (default: godwit-mem)"),
		GW__CLI_TEXT("block", "NAME", &g.vmm.block, "run: the name of its RAM block (default: ram)"),
		GW__CLI_FLAG("ram-only", &g.vmm.no_device, "run: without device state, for a QEMU as the destination"),
		GW__CLI_CHANNELS(&g.channels, "run, send: multifd channels (default: none; run: as many as connect)"),
		GW__CLI_CHOICE("compression", "none|zlib|zstd", &g.compression,
			"send: compression of pages, with --channels (default: "
			"none)"),
		GW__CLI_BYTES("xbzrle-cache", "BYTES", &g.xbzrle_cache,
			"send: memory for pages as they were sent; of such a page only the difference is sent again (default: none)"),
		GW__CLI_SECONDS("downtime", &g.downtime_ms, "send: the longest pause of the guest, in seconds (default: 0.3)"),
		GW__CLI_FLAG("give-up", &g.give_up, "send: what to do instead of a longer pause"),
		GW__CLI_CHOICE("postcopy", "never|if-needed|after-round|at-once", &g.postcopy,
			"send: when it runs at the destination before its pages are there (default: never)"),
		GW__CLI_FLAG("resume", &g.resume, "send: recover a post-copy whose link broke"),
		GW__CLI_FLAG("preempt", &g.preempt, "send, with --postcopy or --resume: requested pages go over a second connection"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &g.max_bandwidth, "send: at most so many bytes per second"),
		GW__CLI_TEXT("copy", "FILE", &g.copy, "check: this copy of the RAM, instead of the guest's own"),
		GW__CLI_BYTES("offset", "BYTES", &g.offset, "check: begin at this offset in the RAM"),
		GW__CLI_TEXT("tls-creds", "DIR", &g.tls.creds_dir, "run, send: use TLS with the credentials in this folder"),
		GW__CLI_TEXT("tls-hostname", "NAME", &g.tls.hostname, "send: the name in the destination's certificate"),
		GW__CLI_COMMON(&g.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("run|send|check|stop [CONTROL [URI]] [options]",
		"A test guest: memory that threads write to. Its content is a function of its device state, so every byte can be checked "
		"at any place. run makes a guest or, with --incoming, receives one. send moves it to URI while it runs. check exits with 0 "
		"if every byte is right, otherwise with 6. stop ends it. send, check and stop connect to the run whose --control is "
		"CONTROL.",
		options, 1, 3);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	for (unsigned i = 0; i < GW__LEN(verbs); i++)
		if (!strcmp(args.arg[0], verbs[i].name))
			return verbs[i].run(&g, &args);
	return gw__ui_error(GW__EXIT_USAGE, "\"%s\" is unknown, expected run, send, check or stop", args.arg[0]);
}
