/* SPDX-License-Identifier: MIT */
/* godwit send: be the source of a migration, from an image or a stream file, towards a waiting destination.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cmd/commands.h"
#include "cli/cmd/epoch_image.h"
#include "cli/ui/command_ctx.h"

struct send {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	struct gw_link_opts link;
	struct gw_tls_opts tls;
	struct gw_send_opts opts;
	uint8_t uuid[16];
	unsigned compression, level;
	const char *image, *uri;
};

/* Only a socket answers. After a pipe or a file no answer says that the guest was loaded. */
static bool answers(const char *uri)
{
	struct stat st;
	if (strncmp(uri, "fd:", 3) == 0)
		return fstat(atoi(uri + 3), &st) == 0 && S_ISSOCK(st.st_mode);
	return strncmp(uri, "exec:", 5) && strncmp(uri, "file:", 5);
}

static void report(struct send *s)
{
	struct gw_progress p = GW_INIT(p);
	struct gw_outcome outcome = GW_INIT(outcome);
	gw_job_progress(s->work.job, &p);
	gw_job_outcome(s->work.job, &outcome);
	if (s->common.json)
		gw__cli_json(gw__cli_json_at(json_pack("{ss so so so so sb}", "event", "done", "image", gw__cli_json_text(s->image), "uri",
						     gw__cli_json_text(s->uri), "ram_bytes", gw__cli_json_size(p.ram_bytes), "bytes",
						     gw__cli_json_size(p.moved_bytes), "confirmed", outcome.peer_notified),
			&outcome));
	if (answers(s->uri))
		gw__ui_info("the destination has loaded the guest of %s (%s of RAM)", s->image, GW__SIZE(p.ram_bytes));
	else
		gw__ui_info("the guest of %s (%s of RAM) was written to %s", s->image, GW__SIZE(p.ram_bytes), s->uri);
}

static int failed(struct send *s)
{
	struct gw_progress p = GW_INIT(p);
	struct gw_outcome outcome = GW_INIT(outcome);
	gw_job_progress(s->work.job, &p);
	gw_job_outcome(s->work.job, &outcome);
	if (outcome.place == GW_PLACE_BOTH_POSSIBLE)
		return gw__command_ctx_failed_at(&s->work, &outcome,
			"everything was sent, but the destination did not confirm that it loaded the guest; check it before you send again");
	if (p.phase == GW_PHASE_WAITING && !p.moved_bytes)
		return gw__command_ctx_failed_at(&s->work, &outcome, "nothing was sent");
	return gw__command_ctx_failed_at(&s->work, &outcome,
		answers(s->uri) ? "the destination does not have the guest; the image is unchanged" : "the image is untouched");
}

static int run(struct send *s)
{
	int status = gw__command_ctx_begin(&s->work, &s->common);
	if (status != GW__CLI_GO)
		return status;
	struct gw__cli_epoch_image epoch;
	const char *path = gw__cli_epoch_image_open(&epoch, s->work.job, s->image);
	int rc = path ? gw_send(s->work.job, path, s->uri, &s->opts) : -ENODATA;
	gw__cli_epoch_image_close(&epoch);
	gw__cli_progress_end(&s->work.progress);
	if (rc)
		status = failed(s);
	else
		report(s);
	gw__command_ctx_end(&s->work);
	return rc ? status : GW__EXIT_DONE;
}

int gw__cli_send(int argc, char **argv)
{
	struct send s = {.common = GW__CLI_COMMON_INIT,
		.link = {.size = sizeof s.link},
		.tls = {.size = sizeof s.tls},
		.opts = {.size = sizeof s.opts}};
	const char *uuid = NULL;
	const struct gw__cli_option options[] = {
		GW__CLI_BYTES("offset", "BYTES", &s.opts.image_offset, "where the image or stream begins in IMAGE"),
		GW__CLI_SECONDS("idle-timeout", &s.link.idle_timeout_ms,
			"silence that counts as a broken link (default: 30; none: wait without limit)"),
		GW__CLI_SECONDS("connect-timeout", &s.link.connect_timeout_ms, "how long to try to reach the destination (default: 10)"),
		GW__CLI_SECONDS("answer-timeout", &s.opts.answer_timeout_ms,
			"how long the destination may take to confirm that it loaded the guest (default: 60)"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &s.link.max_bandwidth, "send at most so many bytes per second"),
		GW__CLI_CHANNELS(&s.opts.channels,
			"send memory over N multifd channels, as many as the destination expects (default: none)"),
		GW__CLI_CHOICE("compress", "none|zlib|zstd", &s.compression,
			"compress the pages on the multifd channels, as the destination expects it"),
		GW__CLI_COUNT("level", "N", &s.level, "how hard to compress: zlib 1..9, zstd 1..20 (default: 1)"),
		GW__CLI_TEXT("uuid", "UUID", &uuid, "the destination's -uuid, which multifd channels must name"),
		GW__CLI_TEXT("tls-creds", "DIR", &s.tls.creds_dir, "use TLS with the credentials in this folder"),
		GW__CLI_TEXT("tls-hostname", "NAME", &s.tls.hostname,
			"the name that the destination's certificate must have (default: the host of a tcp: URI)"),
		GW__CLI_TLS_PRIORITY(&s.tls.priority),
		GW__CLI_TLS_USERNAME(&s.tls.psk_name),
		GW__CLI_BYTES("memory-limit", "BYTES", &s.opts.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&s.common),
		GW__CLI_COMMON(&s.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("IMAGE URI [options]",
		"Sends the guest kept in IMAGE (a mapped-ram image or a stream file) to the destination that waits at URI: tcp:HOST:PORT, "
		"unix:PATH, vsock:CID:PORT; or writes it to fd:N, exec:COMMAND, file:PATH.",
		options, 2, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	s.image = args.arg[0];
	s.uri = args.arg[1];
	if (s.tls.hostname && !s.tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-hostname needs --tls-creds");
	if ((s.tls.priority || s.tls.psk_name) && !s.tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-priority and --tls-username need --tls-creds");
	if (s.level && !s.compression)
		return gw__ui_error(GW__EXIT_USAGE, "--level needs --compress");
	if (uuid && !gw__cli_parse_uuid(uuid, s.uuid))
		return gw__ui_error(GW__EXIT_USAGE, "--uuid %s: expected 32 hexadecimal digits in groups of 8-4-4-4-12", uuid);
	s.opts.uuid = uuid ? s.uuid : NULL;
	s.opts.compression = (enum gw_compression)s.compression;
	s.opts.level = (int)s.level;
	s.link.tls = s.tls.creds_dir ? &s.tls : NULL;
	s.opts.link = &s.link;
	return run(&s);
}
