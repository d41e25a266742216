/* SPDX-License-Identifier: MIT */
/*
 * godwit drain: take from a source in postcopy-paused what it still has, for a destination that cannot be reached. Options, words and exit
 * statuses; the work is gw_qemu_drain().
 */
#include "cli/cmd/commands.h"
#include "cli/ui/command_ctx.h"

struct drain {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	const char *monitor, *path;
	struct gw_qemu_drain_opts o;
	struct gw_link_opts link;
	struct gw_tls_opts tls;
	struct gw_qemu_drain_result out;
};

static int report(const struct drain *d)
{
	const struct gw_qemu_drain_result *r = &d->out;
	if (d->common.json) {
		gw__cli_json(gw__cli_json_at(json_pack("{ss so so so so si sb}", "event", "drained", "image", gw__cli_json_text(d->path),
						     "ram_bytes", gw__cli_json_size(r->ram_bytes), "page_bytes_stored",
						     gw__cli_json_size(r->page_bytes_stored), "zero_pages",
						     gw__cli_json_size(r->zero_pages), "breaks", (int)r->breaks, "safe_to_stop", 1),
			&r->guest));
		return (int)r->guest.exit_status;
	}
	gw__ui_info("%s of the source's memory are in %s, synced and read back: it is safe to stop the source", GW__SIZE(r->ram_bytes),
		d->path);
	gw__ui_info("to give the destination its missing pages, start godwit serve %s --qmp QMP (the destination's monitor)", d->path);
	return (int)r->guest.exit_status;
}

static int end(struct drain *d)
{
	const char *error = gw__command_qemu_error(&d->work);
	switch (d->out.outcome) {
	case GW_QEMU_DRAIN_DONE:
		return report(d);
	case GW_QEMU_DRAIN_NOT_BEGUN:
		return gw__cli_failed_at(&d->common, &d->out.guest, "%s; nothing was changed", error);
	case GW_QEMU_DRAIN_REFUSED:
		return gw__cli_failed_at(&d->common, &d->out.guest, "%s; nothing was changed", error);
	case GW_QEMU_DRAIN_AGAIN:
		return gw__cli_failed_at(&d->common, &d->out.guest,
			"%s; the source still has its memory: do not stop it, and start godwit drain %s %s again", error, d->monitor,
			d->path);
	case GW_QEMU_DRAIN_NOT_READ:
		return gw__cli_failed_at(&d->common, &d->out.guest,
			"%s; the image cannot be read back: do not stop the source, which still has the memory", error);
	case GW_QEMU_DRAIN_SILENT:
		return gw__cli_failed_at(&d->common, &d->out.guest, "%s: the source did not confirm the end, so do not stop it", error);
	case GW_QEMU_DRAIN_QEMU_GONE:
		return gw__cli_failed_at(&d->common, &d->out.guest,
			"%s; the source does not answer any more: if its process is there, do not stop it and start godwit drain %s %s again; if it "
			"is gone, the pages that came are in %s.partial",
			error, d->monitor, d->path, d->path);
	default: /* GW_QEMU_DRAIN_NOT_SAFE */
		return gw__cli_failed_at(&d->common, &d->out.guest,
			"%s; %s is not synced, and the source cannot send its memory again: do not stop the source", error, d->path);
	}
}

static int run(struct drain *d)
{
	d->link.tls = d->tls.creds_dir ? &d->tls : NULL;
	d->o.link = &d->link;
	int status = gw__command_ctx_begin(&d->work, &d->common);
	if (status == GW__CLI_GO)
		status = gw__command_ctx_drive(&d->work);
	if (status != GW__CLI_GO)
		return status;
	gw_qemu_drain(d->work.qemu, d->monitor, d->path, &d->o, &d->out);
	gw__cli_progress_end(&d->work.progress);
	return end(d);
}

int gw__cli_drain(int argc, char **argv)
{
	struct drain d = {.common = GW__CLI_COMMON_INIT,
		.o = GW_INIT(d.o),
		.link = GW_INIT(d.link),
		.tls = GW_INIT(d.tls),
		.out = GW_INIT(d.out)};
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("listen", "URI", &d.o.listen, "let the source connect to this address (default: a private unix socket)"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &d.link.max_bandwidth, "read at most so many bytes per second"),
		GW__CLI_SECONDS("idle-timeout", &d.link.idle_timeout_ms,
			"silence that counts as a broken link (default: 30; none: wait without limit)"),
		GW__CLI_TEXT("tls-creds", "DIR", &d.tls.creds_dir,
			"use TLS with the credentials in this folder, if the source's parameter tls-creds is set"),
		GW__CLI_TLS_PRIORITY(&d.tls.priority),
		GW__CLI_COMMON(&d.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("QMP IMAGE [options]",
		"A source in postcopy-paused holds memory that its destination lacks. If the destination cannot be reached from there, this copies all of "
		"the source's memory into IMAGE. Stop the source only after exit status 0. Then: godwit serve IMAGE --qmp DESTINATION. IMAGE has no "
		"devices and cannot be restored. QMP is the monitor of the source. If both QEMUs reach each other, use QEMU's migrate-recover.",
		options, 2, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status == GW__CLI_GO)
		status = gw__cli_image_name(argv[0], &args.arg[1]);
	if (status != GW__CLI_GO)
		return status;
	if (d.tls.priority && !d.tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-priority needs --tls-creds");
	d.monitor = args.arg[0];
	d.path = args.arg[1];
	status = run(&d);
	gw__command_ctx_end(&d.work);
	return status;
}
