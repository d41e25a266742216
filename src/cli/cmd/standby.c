/* SPDX-License-Identifier: MIT */
/* godwit standby: keep the last checkpoint of guests that run elsewhere, to go on from when they die. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli/cmd/commands.h"
#include "cli/cmd/standby_metrics.h"
#include "cli/ui/command_ctx.h"

struct standby {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	struct gw_link_opts link;
	struct gw_tls_opts tls;
	struct gw_standby_opts opts;
	const char *uri, *dir, *disks_at, *engine;
	gw_qemu_disks *disks; /* NULL: none are kept */
	struct gw__cli_metrics_opts metrics_opts;
	struct gw__cli_metrics *metrics; /* NULL: nobody looks */
	unsigned history;
};

static void on_listening(void *ctx, const char *uri)
{
	struct standby *s = ctx;
	gw__cli_progress_line(&s->work.progress, "listening %s", uri);
	if (s->common.json)
		gw__cli_json(json_pack("{ss so}", "event", "listening", "uri", gw__cli_json_text(uri)));
	gw__ui_info("listening at %s%s", uri, s->link.tls ? "" : "; without --tls-creds, any peer that connects is accepted as a primary");
	gw__cli_metrics_ready(s->metrics);
}

static void show_json(const struct gw_standby_event *e)
{
	static const char *const names[] = {"connected", "protected", "epoch", "ended", "failed"};
	gw__cli_json(gw__cli_json_at(
		json_pack("{ss so so so so so so so so so so si so}", "event", names[e->kind], "vm", gw__cli_json_text(e->vm), "image",
			gw__cli_json_text(e->image), "epoch", gw__cli_json_size(e->epoch), "ram_bytes", gw__cli_json_size(e->ram_bytes),
			"pages", gw__cli_json_size(e->pages), "zero_pages", gw__cli_json_size(e->zero_pages), "device_bytes",
			gw__cli_json_size(e->device_bytes), "memory_bytes", gw__cli_json_size(e->memory_bytes), "pause_us",
			gw__cli_json_size(e->pause_ns / 1000), "merge_us", gw__cli_json_size(e->merge_ns / 1000), "channels",
			(int)e->channels, "message", gw__cli_json_text(e->message)),
		&e->outcome));
}

static void on_event(void *ctx, const struct gw_standby_event *e)
{
	const struct standby *s = ctx;
	if (s->disks)
		gw_qemu_disks_event(s->disks, e);
	if (s->common.json)
		show_json(e);
	switch (e->kind) {
	case GW_STANDBY_CONNECTED:
		gw__ui_verbose("%s: a primary is connected, %u multifd channels", e->vm, (unsigned)e->channels);
		break;
	case GW_STANDBY_PROTECTED:
		gw__ui_info("%s: protected, %s of RAM", e->vm, GW__SIZE(e->ram_bytes));
		break;
	case GW_STANDBY_EPOCH:
		gw__ui_verbose("%s: epoch %ju, %ju pages, %ju zero pages, pause %.1f ms", e->vm, (uintmax_t)e->epoch, (uintmax_t)e->pages,
			(uintmax_t)e->zero_pages, (double)e->pause_ns / 1e6);
		break;
	case GW_STANDBY_ENDED:
		gw__ui_error(0,
			"%s: protection ended at epoch %ju: %s. That epoch is in %s. Restore it only if the primary no longer runs the "
			"guest",
			e->vm, (uintmax_t)e->epoch, e->message, e->image);
		break;
	case GW_STANDBY_FAILED:
		gw__ui_error(0, "%s%snot protected: %s. %s", e->vm ? e->vm : "", e->vm ? ": " : "", e->message,
			"The primary keeps its guest; if the guest is paused, yank its migration and send x-colo-lost-heartbeat");
		break;
	}
}

static int on_boundary(void *ctx, uint64_t epoch, char *why, size_t n)
{
	return gw_qemu_disks_boundary(((struct standby *)ctx)->disks, epoch, why, n);
}
static void on_kept(void *ctx, uint64_t epoch, bool kept) { gw_qemu_disks_end(((struct standby *)ctx)->disks, epoch, kept); }

static int keep_disks(struct standby *s)
{
	char folder[PATH_MAX];
	int n = snprintf(folder, sizeof folder, "%s/%s", s->dir, s->opts.name);
	int status = gw__command_ctx_drive(&s->work);
	if (status != GW__CLI_GO)
		return status;
	if (n >= (int)sizeof folder)
		return gw__ui_error(GW__EXIT_USAGE, "%s: the name is too long", s->dir);
	if (gw_qemu_disks_new(s->work.qemu, s->disks_at, folder, s->engine, s->opts.durable || s->history, s->history, &s->disks))
		return gw__ui_error(GW__EXIT_FAILED, "%s", gw__command_qemu_error(&s->work));
	s->opts.on_boundary = on_boundary;
	s->opts.on_kept = on_kept;
	return GW__CLI_GO;
}

static int show_metrics(struct standby *s)
{
	struct gw__error error = {0};
	const char *listen = s->metrics_opts.listen;
	if (gw__cli_metrics_start(&s->metrics_opts, &s->metrics, &error))
		return gw__cli_failed(&s->common, GW__EXIT_FAILED, "%s", error.text);
	if (gw__cli_metrics_port(s->metrics))
		gw__ui_info("metrics at http://%.*s:%u/metrics", (int)(strrchr(listen, ':') - listen), listen,
			gw__cli_metrics_port(s->metrics));
	return GW__CLI_GO;
}

static int run(struct standby *s)
{
	gw__cli_raise_descriptor_limit(); /* each guest takes a dozen of them, and one for each of its channels */
	int status = gw__command_ctx_begin(&s->work, &s->common);
	if (status == GW__CLI_GO && s->disks_at)
		status = keep_disks(s);
	if (status == GW__CLI_GO)
		status = show_metrics(s);
	if (status != GW__CLI_GO) {
		gw_qemu_disks_free(s->disks);
		gw__command_ctx_end(&s->work);
		return status;
	}
	int rc = gw_standby(s->work.job, s->uri, s->dir, &s->opts);
	gw__cli_metrics_stop(s->metrics);
	if (rc)
		status = gw__command_ctx_failed(&s->work, gw__cli_status_before(rc), NULL);
	gw_qemu_disks_free(s->disks);
	gw__command_ctx_end(&s->work);
	return rc ? status : GW__EXIT_DONE;
}

int gw__cli_standby(int argc, char **argv)
{
	struct standby s = {.common = GW__CLI_COMMON_INIT,
		.link = {.size = sizeof s.link},
		.tls = {.size = sizeof s.tls},
		.opts = {.size = sizeof s.opts}};
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("name", "NAME", &s.opts.name,
			"the folder of the guest in DIR, one guest at a time (default: vm-1, vm-2, ...)"),
		GW__CLI_TEXT("disks", "ADDRESS", &s.disks_at,
			"also keep the guest's disks: unix:PATH or tcp:HOST:PORT for protect; its QEMU uses PATH.nbd or the next port"),
		GW__CLI_TEXT("storage-daemon", "PROGRAM", &s.engine, "the qemu-storage-daemon that serves them (default: found in PATH)"),
		GW__CLI_FLAG("durable", &s.opts.durable,
			"sync each epoch before it is acknowledged, so that it survives this command and its host"),
		GW__CLI_COUNT("history", "N", &s.history, "keep N epochs before the last one, each as IMAGE@EPOCH; implies --durable"),
		GW__CLI_BYTES("memory-limit", "BYTES", &s.opts.memory_limit,
			"memory that one epoch of a guest may take; above it protection ends (default: 1G)"),
		GW__CLI_SECONDS("idle-timeout", &s.link.idle_timeout_ms,
			"silence within an epoch that counts as a broken link (default: 30; none: wait without limit)"),
		GW__CLI_SECONDS("checkpoint-timeout", &s.opts.checkpoint_timeout_ms,
			"how long a primary may send no checkpoint (default: 60; none: no limit)"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &s.link.max_bandwidth,
			"read at most so many bytes per second, of all guests together"),
		GW__CLI_CHANNELS(&s.opts.channels, "multifd channels to wait for (default: as many as connect)"),
		GW__CLI_TEXT("metrics-file", "FILE", &s.metrics_opts.file,
			"write metrics of the guests to this file every second, in Prometheus' text format"),
		GW__CLI_TEXT("metrics-listen", "HOST:PORT", &s.metrics_opts.listen, "serve them at http://HOST:PORT/metrics"),
		GW__CLI_TEXT("tls-creds", "DIR", &s.tls.creds_dir, "use TLS with the credentials in this folder"),
		GW__CLI_TEXT("tls-authz", "DN", &s.tls.authz, "let only a primary with this distinguished name connect"),
		GW__CLI_TLS_PRIORITY(&s.tls.priority),
		GW__CLI_COMMON(&s.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("URI DIR [options]",
		"Waits at URI for guests that are protected by checkpoints (COLO, QEMU 11.1 as the primary). Keeps the last whole checkpoint of each guest "
		"in a folder of DIR, without running it. When protection ends, for any reason, the checkpoint is DIR/NAME/guest.img. The primary may "
		"still run the guest then: use godwit failover, not restore. Runs until interrupted. "
		"URI is tcp:HOST:PORT, unix:PATH or vsock:CID:PORT.",
		options, 2, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	s.uri = args.arg[0];
	s.dir = args.arg[1];
	s.metrics_opts.dir = s.dir;
	s.link.tls = s.tls.creds_dir ? &s.tls : NULL;
	if (s.tls.authz && !s.tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-authz needs --tls-creds");
	if (s.tls.priority && !s.tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-priority needs --tls-creds");
	if (s.engine && !s.disks_at)
		return gw__ui_error(GW__EXIT_USAGE, "--storage-daemon needs --disks");
	if (s.disks_at && s.history > GW_QEMU_DISKS_HISTORY_MAX)
		return gw__ui_error(GW__EXIT_USAGE, "--disks keeps the disks of at most %d epochs: give --history=%d or less",
			GW_QEMU_DISKS_HISTORY_MAX, GW_QEMU_DISKS_HISTORY_MAX);
	if (s.disks_at && !s.opts.name)
		return gw__ui_error(GW__EXIT_USAGE, "--disks needs --name: it is for one guest");
	s.opts.link = &s.link;
	s.opts.history = s.history;
	s.opts.on_listening = on_listening;
	s.opts.on_event = on_event;
	s.opts.ctx = &s;
	return run(&s);
}
