/* SPDX-License-Identifier: MIT */
/* godwit protect: let a standby hold the last checkpoint of a running QEMU's guest, and guard that. The words; the work is in qemu/protect.c. */
#include <errno.h>
#include <string.h>

#include "cli/cmd/commands.h"
#include "cli/ui/command_ctx.h"
#include "qemu/protect.h"

enum { INTERVAL_MS = 500, TIMEOUT_MS = 2000, SHORTEST_TIMEOUT_MS = 100, SILENCE_MS = 30000, STOP_PATIENCE_MS = 90000 };

struct protect {
	struct gw__cli_common common;
	struct gw__protect_opts opts;
	struct gw__protect *session;
	bool stop;
};

static bool is_stopped(void *ctx) { return gw__cli_stopped() != 0; }

static const char *name_of(const struct protect *p)
{
	const char *name = p->session ? gw__protect_name(p->session) : "";
	return *name ? name : "the guest";
}

static void show_json(const struct protect *p, const struct gw__protect_event *e)
{
	static const char *const names[] = {"connecting", "protected", "checkpoint", "unprotected", "not-yet", "note"};
	gw__cli_json(json_pack("{ss so so so so so}", "event", names[e->kind], "vm",
		gw__cli_json_text(p->session ? gw__protect_name(p->session) : NULL), "checkpoints", gw__cli_json_size(e->checkpoints),
		"pause_us", gw__cli_json_size(e->pause_us), "longest_us", gw__cli_json_size(e->longest_us), "message",
		gw__cli_json_text(e->reason)));
}

static void on_event(void *ctx, const struct gw__protect_event *e)
{
	const struct protect *p = ctx;
	if (p->common.json)
		show_json(p, e);
	switch (e->kind) {
	case GW__PROTECT_CONNECTING:
		gw__ui_verbose("%s: the first copy goes to %s", name_of(p), p->opts.uri);
		break;
	case GW__PROTECT_PROTECTED:
		gw__ui_info("%s: protected by the standby at %s, a checkpoint every %d ms", name_of(p), p->opts.uri, p->opts.interval_ms);
		break;
	case GW__PROTECT_CHECKPOINT:
		gw__ui_verbose("%s: checkpoint %ju, the guest stood still for %.1f ms", name_of(p), (uintmax_t)e->checkpoints,
			(double)e->pause_us / 1e3);
		break;
	case GW__PROTECT_UNPROTECTED:
		gw__ui_error(0, "%s: not protected any more: %s; it runs on, and its last standstill took %.1f ms. Trying again",
			name_of(p), e->reason, (double)e->pause_us / 1e3);
		break;
	case GW__PROTECT_NOT_YET:
		gw__ui_verbose("%s: still not protected: %s", name_of(p), e->reason);
		break;
	case GW__PROTECT_NOTE:
		gw__ui_error(0, "%s: %s", name_of(p), e->reason);
		break;
	}
}

/* Said by the second process. */
static void on_release(void *ctx, int r, const struct gw__error *error)
{
	const struct protect *p = ctx;
	if (r == -ECONNRESET)
		return;
	if (r)
		gw__ui_error(0, "%s: its guard was killed, and it could not be released from its standby: %s", name_of(p), error->text);
	else
		gw__ui_error(0, "%s: its guard was killed; it runs on, not protected, and its QEMU is as it was before", name_of(p));
}

static int ended(const struct protect *p, enum gw__protect_end end, const struct gw__error *error)
{
	switch (end) {
	case GW__PROTECT_STOPPED:
		gw__ui_info("%s: released; it runs on, not protected, and its QEMU is as it was before", name_of(p));
		return GW__EXIT_DONE;
	case GW__PROTECT_SHUT_DOWN:
		gw__ui_info("%s: its QEMU was shut down", name_of(p));
		return GW__EXIT_DONE;
	case GW__PROTECT_NEVER:
		return gw__cli_failed(&p->common, GW__EXIT_FAILED, "%s: not protected: %s; it runs on, and its QEMU is as it was before",
			name_of(p), error->text);
	case GW__PROTECT_LOST:
		return gw__cli_failed(&p->common, GW__EXIT_RECOVERABLE,
			"%s: its QEMU has gone; if it is dead, godwit failover lets the guest go on from its last checkpoint", name_of(p));
	case GW__PROTECT_IN_DOUBT:
		break;
	}
	return gw__cli_failed(&p->common, GW__EXIT_IN_DOUBT,
		"%s: it could not be released from its standby: %s; look at it with query-status", name_of(p), error->text);
}

static int not_opened(const struct protect *p, int r, const struct gw__error *error)
{
	int status = r == -EOPNOTSUPP || r == -EBUSY ? GW__EXIT_REFUSED : r == -EINVAL ? GW__EXIT_USAGE : GW__EXIT_FAILED;
	return gw__cli_failed(&p->common, status, "%s; nothing was changed", error->text);
}

static int start(struct protect *p)
{
	struct gw__error error = {0};
	int r = gw__protect_open(&p->opts, &p->session, &error);
	if (r)
		return not_opened(p, r, &error);
	enum gw__protect_end end = gw__protect_run(p->session, &error);
	int status = ended(p, end, &error);
	gw__protect_close(p->session);
	return status;
}

static int stop(const struct protect *p)
{
	struct gw__error error = {0};
	int r = gw__protect_stop(p->opts.address, STOP_PATIENCE_MS, &error);
	if (r < 0)
		return gw__cli_failed(&p->common, r == -ETIMEDOUT || r == -EBUSY ? GW__EXIT_IN_DOUBT : GW__EXIT_FAILED, "%s", error.text);
	if (p->common.json)
		gw__cli_json(json_pack("{ss}", "event", "stopped"));
	gw__ui_info(r == GW__PROTECT_WAS_IDLE ? "nobody protects the guest of the QEMU at %s"
		    : r == GW__PROTECT_WAS_LEFT
			    ? "whoever protected the guest of the QEMU at %s was killed; it is released, and its parameters and other "
			      "capabilities were left as they are"
			    : "the guest of the QEMU at %s is not protected any more",
		p->opts.address);
	return GW__EXIT_DONE;
}

static int check(const struct protect *p, int n)
{
	if (n != (p->stop ? 1 : 2))
		return gw__ui_error(GW__EXIT_USAGE, p->stop ? "--stop takes QMP alone" : "protect needs QMP and the URI of a standby");
	if (p->opts.compression && !p->opts.channels)
		return gw__ui_error(GW__EXIT_USAGE, "--compress needs --channels: multifd channels alone compress");
	if (p->opts.level && !p->opts.compression)
		return gw__ui_error(GW__EXIT_USAGE, "--level needs --compress");
	if (!p->opts.interval_ms)
		return gw__ui_error(GW__EXIT_USAGE, "--interval must be at least 1 ms");
	if (p->opts.timeout_ms < SHORTEST_TIMEOUT_MS)
		return gw__ui_error(GW__EXIT_USAGE, "--timeout must be at least %d ms", SHORTEST_TIMEOUT_MS);
	return GW__CLI_GO;
}

int gw__cli_protect(int argc, char **argv)
{
	struct protect p = {.common = GW__CLI_COMMON_INIT,
		.opts = {.silence_ms = SILENCE_MS, .stopped = is_stopped, .on_event = on_event, .on_release = on_release}};
	struct gw__command_ctx work;
	unsigned interval_ms = INTERVAL_MS, timeout_ms = TIMEOUT_MS;
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("name", "NAME", &p.opts.name, "the guest's name at the standby (default: QEMU's -name)"),
		GW__CLI_TEXT("dir", "DIR", &p.opts.dir,
			"the standby's folder, if it is on this host: DIR/NAME/owner.lock then tells failover whether this QEMU lives"),
		GW__CLI_COUNT("interval", "MS", &interval_ms, "milliseconds from one checkpoint to the next (default: 500)"),
		GW__CLI_COUNT("timeout", "MS", &timeout_ms,
			"the longest standstill of the guest, in milliseconds, before it is released (default: 2000)"),
		GW__CLI_SECONDS("checkpoint-timeout", &p.opts.silence_ms,
			"how long the standby may take no checkpoint while the guest runs (default: 30; none: for ever)"),
		GW__CLI_FLAG("memory-only", &p.opts.memory_only, "protect a guest whose disks and network are not protected with it"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &p.opts.max_bandwidth, "let QEMU send the first copy no faster than this"),
		GW__CLI_CHANNELS(&p.opts.channels, "let QEMU send over N multifd channels (default: none)"),
		GW__CLI_CHOICE("compress", "none|zlib|zstd", &p.opts.compression, "let QEMU compress what it sends over them"),
		GW__CLI_COUNT("level", "N", &p.opts.level, "how hard to compress: zlib 1..9, zstd 1..20 (default: 1)"),
		GW__CLI_FLAG("stop", &p.stop, "end the protection of this QEMU by another process, and leave nothing of it"),
		GW__CLI_VERBOSE(&p.common),
		GW__CLI_QUIET(&p.common),
		GW__CLI_JSON(&p.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("QMP URI [options], or QMP --stop",
		"Lets the standby (godwit standby) at URI hold the last checkpoint of the guest of a running QEMU (11.1), and guards that: a guest that "
		"stands still too long is released, runs on, and is protected again when the standby is back. Runs until interrupted. QMP is the path of "
		"QEMU's monitor socket, unix:PATH or tcp:HOST:PORT; nobody else can use it meanwhile.",
		options, 1, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	p.opts.interval_ms = (int)interval_ms;
	p.opts.timeout_ms = (int)timeout_ms;
	if (status == GW__CLI_GO)
		status = check(&p, args.n);
	if (status != GW__CLI_GO)
		return status;
	p.opts.address = args.arg[0];
	p.opts.uri = p.stop ? NULL : args.arg[1];
	p.opts.ctx = &p;
	status = gw__command_ctx_begin(&work, &p.common);
	if (status == GW__CLI_GO)
		status = p.stop ? stop(&p) : start(&p);
	gw__command_ctx_end(&work);
	return status;
}
