/* SPDX-License-Identifier: MIT */
/* godwit protect: let a standby hold the last checkpoint of a running QEMU's guest, and guard that. Options, words and exit statuses; the work is gw_qemu_protect(). */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/cmd/commands.h"
#include "cli/ui/command_ctx.h"

enum { INTERVAL_MS = 500, TIMEOUT_MS = 2000, SHORTEST_TIMEOUT_MS = 100 };

struct protect {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	const char *monitor, *uri;
	unsigned lease_term_ms, interval_ms, timeout_ms, channels, compression, level;
	struct gw_qemu_protect_opts o;
	struct gw_qemu_protect_result out;
	char name[256]; /* once an event has told it */
	bool stop;
	struct gw__cli_list unprotected;
};

static const char *name_of(const char *name) { return *name ? name : "the guest"; }

static void show_json(const struct gw_qemu_protect_event *e)
{
	static const char *const names[] = {[GW_QEMU_PROTECT_CONNECTING] = "connecting",
		[GW_QEMU_PROTECT_PROTECTED] = "protected",
		[GW_QEMU_PROTECT_CHECKPOINT] = "checkpoint",
		[GW_QEMU_PROTECT_UNPROTECTED] = "unprotected",
		[GW_QEMU_PROTECT_NOT_YET] = "not-yet",
		[GW_QEMU_PROTECT_NOTE] = "note"};
	gw__cli_json(json_pack("{ss so so so so so}", "event", names[e->kind], "vm", gw__cli_json_text(e->name), "checkpoints",
		gw__cli_json_size(e->checkpoints), "pause_us", gw__cli_json_size(e->pause_us), "longest_us",
		gw__cli_json_size(e->longest_us), "message", gw__cli_json_text(e->reason)));
}

static void on_event(void *ctx, const struct gw_qemu_protect_event *event)
{
	struct protect *p = ctx;
	struct gw_qemu_protect_event copy = *event;
	const struct gw_qemu_protect_event *e = &copy;
	char advice[1024];
	if (e->hint == GW_QEMU_HINT_STANDBY_NAME) {
		snprintf(advice, sizeof advice, "%s: start the standby with --name=%s, and give its folder with --dir", e->reason, e->name);
		copy.reason = advice;
	}
	const char *name = name_of(e->name);
	snprintf(p->name, sizeof p->name, "%s", e->name);
	if (p->common.json)
		show_json(e);
	switch (e->kind) {
	case GW_QEMU_PROTECT_CONNECTING:
		gw__ui_verbose("%s: sending the first copy to %s", name, p->uri);
		break;
	case GW_QEMU_PROTECT_PROTECTED:
		gw__ui_info("%s: protected by the standby at %s, a checkpoint every %d ms", name, p->uri, p->o.interval_ms);
		break;
	case GW_QEMU_PROTECT_CHECKPOINT:
		gw__ui_verbose("%s: checkpoint %ju, the guest was paused for %.1f ms", name, (uintmax_t)e->checkpoints,
			(double)e->pause_us / 1e3);
		break;
	case GW_QEMU_PROTECT_UNPROTECTED:
		gw__ui_error(0, "%s: no longer protected: %s; the guest runs, its last pause took %.1f ms. Trying again", name, e->reason,
			(double)e->pause_us / 1e3);
		break;
	case GW_QEMU_PROTECT_NOT_YET:
		gw__ui_verbose("%s: still not protected: %s", name, e->reason);
		break;
	case GW_QEMU_PROTECT_NOTE:
		gw__ui_error(0, "%s: %s", name, e->reason);
		break;
	}
}

/* Said by the second process. */
static void on_release(void *ctx, int r, const char *error)
{
	const struct protect *p = ctx;
	if (r == -ECONNRESET)
		return;
	if (r)
		gw__ui_error(0, "%s: its guard was killed, and the guest could not be released from its standby: %s", name_of(p->name),
			error);
	else
		gw__ui_error(0, "%s: its guard was killed%s%s; the guest runs unprotected, and its QEMU is as it was before",
			name_of(p->name), *error ? ", as " : "", error);
}

static void show_end(const struct protect *p)
{
	if (p->common.json)
		gw__cli_json(gw__cli_json_at(json_pack("{ss so}", "event", "ended", "vm", gw__cli_json_text(p->out.name)), &p->out.guest));
}

static int end(struct protect *p)
{
	const struct gw_outcome *guest = &p->out.guest;
	const char *name = name_of(p->out.name), *error = gw__command_qemu_error(&p->work);
	switch (p->out.outcome) {
	case GW_QEMU_PROTECT_STOPPED:
	case GW_QEMU_PROTECT_SHUT_DOWN:
		show_end(p);
		gw__ui_info("%s: %s", name,
			guest->place == GW_PLACE_DESTINATION_RUNS
				? "its guest was migrated to another QEMU or into a file, and is not protected there; do not start godwit failover, as "
				  "the standby's copy is older"
			: p->out.outcome == GW_QEMU_PROTECT_SHUT_DOWN
				? "its QEMU was shut down"
				: "released; the guest runs unprotected, and its QEMU is as it was before");
		return (int)guest->exit_status;
	case GW_QEMU_PROTECT_NEVER:
		return gw__cli_failed_at(&p->common, guest, "%s: not protected: %s; the guest runs, and its QEMU is as it was before", name,
			error);
	case GW_QEMU_PROTECT_LOST:
		return gw__cli_failed_at(&p->common, guest,
			"%s: its QEMU has gone; if it is dead, godwit failover starts the guest from its last checkpoint", name);
	case GW_QEMU_PROTECT_IN_DOUBT:
		return gw__cli_failed_at(&p->common, guest,
			"%s: the guest could not be released from its standby: %s; check its query-status", name, error);
	default: /* GW_QEMU_PROTECT_REFUSED, GW_QEMU_PROTECT_NOT_BEGUN */
		return gw__cli_failed_at(&p->common, guest, "%s; nothing was changed", error);
	}
}

static int start(struct protect *p)
{
	gw__cli_raise_descriptor_limit(); /* for each channel that is passed on, two */
	p->o.interval_ms = (int)p->interval_ms;
	p->o.lease_term_ms = p->lease_term_ms;
	p->o.timeout_ms = (int)p->timeout_ms;
	p->o.channels = p->channels;
	p->o.compression = (enum gw_compression)p->compression;
	p->o.level = (int)p->level;
	p->o.unprotected_disks = p->unprotected.v;
	p->o.unprotected_n = p->unprotected.n;
	p->o.on_event = on_event;
	p->o.on_release = on_release;
	p->o.ctx = p;
	gw_qemu_protect(p->work.qemu, p->monitor, p->uri, &p->o, &p->out);
	return end(p);
}

/* Of a guest that another process protects, as far as it is known. */
static struct gw_outcome guest_after_stop(int r)
{
	struct gw_outcome o = GW_INIT(o);
	bool not_known = r == -ETIMEDOUT || r == -EBUSY;
	gw_outcome_at(&o, GW_PLACE_SOURCE_RUNS);
	gw_outcome_note(&o, !r ? GW_EVIDENCE_RELEASED : not_known ? GW_EVIDENCE_SOURCE_UNCLEAR : GW_EVIDENCE_UNCHANGED);
	return o;
}

static int stop(struct protect *p)
{
	static const char *const words[] = {[GW_QEMU_WAS_PROTECTED] = "the guest of the QEMU at %s is no longer protected",
		[GW_QEMU_WAS_UNPROTECTED] = "no godwit protects the guest of the QEMU at %s",
		[GW_QEMU_WAS_LEFT] =
			("the godwit that protected the guest of the QEMU at %s was killed; the guest is released, and QEMU's other "
			 "parameters and capabilities were not reset")};
	enum gw_qemu_protection was;
	char text[512];
	int r = gw_qemu_protect_stop(p->work.qemu, p->monitor, &was);
	struct gw_outcome guest = guest_after_stop(r);
	if (r)
		return gw__cli_failed_at(&p->common, &guest, "%s", gw__command_qemu_error(&p->work));
	json_t *event = p->common.json ? json_pack("{ss}", "event", "stopped") : NULL;
	if (event) /* of a guest that nobody protected nothing was learnt */
		gw__cli_json(was == GW_QEMU_WAS_UNPROTECTED ? event : gw__cli_json_at(event, &guest));
	snprintf(text, sizeof text, words[was], p->monitor);
	gw__ui_info("%s", text);
	return (int)guest.exit_status;
}

static int check(const struct protect *p, int n)
{
	if (n != (p->stop ? 1 : 2))
		return gw__ui_error(GW__EXIT_USAGE, p->stop ? "--stop takes QMP alone" : "protect needs QMP and the URI of a standby");
	if (p->compression && !p->channels)
		return gw__ui_error(GW__EXIT_USAGE, "--compress needs --channels: only multifd channels compress");
	if (p->level && !p->compression)
		return gw__ui_error(GW__EXIT_USAGE, "--level needs --compress");
	if ((p->lease_term_ms || p->o.watchdog) && !p->o.lease)
		return gw__ui_error(GW__EXIT_USAGE, "%s needs --lease", p->lease_term_ms ? "--lease-term" : "--watchdog");
	if (p->o.memory_only && (p->o.disks || p->unprotected.n))
		return gw__ui_error(GW__EXIT_USAGE, "--memory-only leaves all disks out: leave out --disks and --unprotected-disk");
	if (!p->interval_ms)
		return gw__ui_error(GW__EXIT_USAGE, "--interval must be at least 1 ms");
	if (p->timeout_ms < SHORTEST_TIMEOUT_MS)
		return gw__ui_error(GW__EXIT_USAGE, "--timeout must be at least %d ms", SHORTEST_TIMEOUT_MS);
	return GW__CLI_GO;
}

int gw__cli_protect(int argc, char **argv)
{
	struct protect p = {.common = GW__CLI_COMMON_INIT,
		.interval_ms = INTERVAL_MS,
		.timeout_ms = TIMEOUT_MS,
		.o = GW_INIT(p.o),
		.out = GW_INIT(p.out)};
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("name", "NAME", &p.o.name, "the guest's name at the standby (default: QEMU's -name)"),
		GW__CLI_TEXT("dir", "DIR", &p.o.dir,
			"the standby's folder, if it is on this host: failover then sees in DIR/NAME/owner.lock whether this QEMU lives"),
		GW__CLI_TEXT("lease", "URL", &p.o.lease,
			"hold this lease while the guest runs; QEMU is killed before the lease ends if it cannot be renewed (etcd://HOST:PORT/KEY, k8s://HOST:PORT/NAMESPACE/NAME, file:PATH)"),
		GW__CLI_COUNT("lease-term", "MS", &p.lease_term_ms,
			"milliseconds until the lease ends if it is not renewed (default: 10000)"),
		GW__CLI_TEXT("watchdog", "DEVICE", &p.o.watchdog,
			"with --lease: a hardware watchdog (/dev/watchdogN) that resets this host if QEMU cannot be killed in time"),
		GW__CLI_COUNT("interval", "MS", &p.interval_ms, "milliseconds from one checkpoint to the next (default: 500)"),
		GW__CLI_COUNT("timeout", "MS", &p.timeout_ms,
			"the longest pause of the guest, in milliseconds, before it is released (default: 2000)"),
		GW__CLI_SECONDS("checkpoint-timeout", &p.o.silence_ms,
			"how long the standby may take no checkpoint while the guest runs (default: 30; none: no limit)"),
		GW__CLI_FLAG("memory-only", &p.o.memory_only, "protect the memory alone, without disks and network"),
		GW__CLI_TEXT("disks", "ADDRESS", &p.o.disks,
			"where the standby takes the guest's disks: the address of its own option "
			"--disks"),
		GW__CLI_LIST("unprotected-disk", "ID", &p.unprotected, "leave this writable disk out; may be given several times"),
		GW__CLI_FLAG("no-output-commit", &p.o.no_output_commit,
			"let network packets of the guest leave immediately, not after the checkpoint that covers them"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &p.o.max_bandwidth, "let QEMU send the first copy no faster than this"),
		GW__CLI_CHANNELS(&p.channels, "let QEMU send over N multifd channels (default: none)"),
		GW__CLI_CHOICE("compress", "none|zlib|zstd", &p.compression, "let QEMU compress the pages on these channels"),
		GW__CLI_COUNT("level", "N", &p.level, "how hard to compress: zlib 1..9, zstd 1..20 (default: 1)"),
		GW__CLI_FLAG("stop", &p.stop, "end the protection that another godwit protect began; the guest runs on"),
		GW__CLI_VERBOSE(&p.common),
		GW__CLI_QUIET(&p.common),
		GW__CLI_JSON(&p.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("QMP URI [options], or QMP --stop",
		"Sends checkpoints of the guest of a running QEMU (11.1) to the standby (godwit standby) at URI. A guest that is paused "
		"for too long is released, runs, and is protected again when the standby is back. Runs until interrupted. QMP is the path "
		"of QEMU's monitor socket, unix:PATH or tcp:HOST:PORT; it must have no other client meanwhile.",
		options, 1, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status == GW__CLI_GO)
		status = check(&p, args.n);
	if (status != GW__CLI_GO)
		return status;
	p.monitor = args.arg[0];
	p.uri = p.stop ? NULL : args.arg[1];
	status = gw__command_ctx_begin(&p.work, &p.common);
	if (status == GW__CLI_GO)
		status = gw__command_ctx_drive(&p.work);
	if (status == GW__CLI_GO)
		status = p.stop ? stop(&p) : start(&p);
	gw__command_ctx_end(&p.work);
	return status;
}
