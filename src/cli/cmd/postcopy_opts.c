/* SPDX-License-Identifier: MIT */
/* The options of post-copy from an image; see postcopy_opts.h. */
#include "cli/cmd/postcopy_opts.h"

#include <string.h>

#include "base/requested_caps.h"
#include "cli/ui/command_ctx.h"

static bool can_listen(const char *uri)
{
	const char *kind = uri ? gw__requested_caps_of_uri(uri) : "unix";
	return kind && (!strcmp(kind, "tcp") || !strcmp(kind, "unix") || !strcmp(kind, "vsock"));
}

int gw__cli_postcopy_opts_check(const struct gw__cli_postcopy_opts *w)
{
	if (!can_listen(w->o.listen) || !can_listen(w->o.connect))
		return gw__ui_error(GW__EXIT_USAGE, "QEMU can listen at tcp:HOST:PORT, unix:PATH and vsock:CID:PORT, not at %s",
			can_listen(w->o.listen) ? w->o.connect : w->o.listen);
	if (w->o.connect && !w->o.listen)
		return gw__ui_error(GW__EXIT_USAGE, "--connect needs --listen");
	if (w->tls.hostname && !w->tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-hostname needs --tls-creds");
	if ((w->tls.priority || w->tls.psk_name) && !w->tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-priority and --tls-username need --tls-creds");
	return GW__CLI_GO;
}

bool gw__cli_postcopy_opts_given(const struct gw__cli_postcopy_opts *w)
{
	return w->o.listen || w->o.connect || w->link.connect_timeout_ms || w->o.answer_timeout_ms || w->tls.creds_dir || w->tls.hostname ||
	       w->tls.priority || w->tls.psk_name || w->o.preempt || w->without_working_set;
}

int gw__cli_postcopy_opts_fill(struct gw__cli_postcopy_opts *w, const char *image)
{
	w->working_set = w->without_working_set ? NULL : gw__working_set_path(image);
	if (!w->without_working_set && !w->working_set)
		return gw__ui_error(GW__EXIT_FAILED, "no memory for the name of a working set");
	w->o.size = sizeof w->o;
	w->link.size = sizeof w->link;
	w->tls.size = sizeof w->tls;
	w->link.tls = w->tls.creds_dir ? &w->tls : NULL;
	w->o.link = &w->link;
	w->o.working_set = w->working_set;
	return GW__CLI_GO;
}
