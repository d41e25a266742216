/* SPDX-License-Identifier: MIT */
/* What can be given lazily at all; see postcopy_session.h. Looks at the image only, before any QEMU is touched. */
#include <errno.h>
#include <string.h>

#include "cli/ui/check_caps.h"
#include "qemu/postcopy_session.h"

static bool can_listen(const char *uri)
{
	const char *kind = uri ? gw__cli_ability_of_uri(uri) : "unix";
	return kind && (!strcmp(kind, "tcp") || !strcmp(kind, "unix") || !strcmp(kind, "vsock"));
}

int gw__postcopy_session_check_opts(struct gw__postcopy_session_opts *w)
{
	if (!can_listen(w->listen) || !can_listen(w->connect))
		return gw__ui_error(GW__EXIT_USAGE, "QEMU can listen at tcp:HOST:PORT, unix:PATH and vsock:CID:PORT, not at %s",
			can_listen(w->listen) ? w->connect : w->listen);
	if (w->connect && !w->listen)
		return gw__ui_error(GW__EXIT_USAGE, "--connect needs --listen");
	if (w->tls.hostname && !w->tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-hostname needs --tls-creds");
	if ((w->tls.priority || w->tls.psk_name) && !w->tls.creds_dir)
		return gw__ui_error(GW__EXIT_USAGE, "--tls-priority and --tls-username need --tls-creds");
	return GW__CLI_GO;
}

int gw__postcopy_session_check(const char *path, const gw_info *info, struct gw__error *error)
{
	struct gw_info_summary sum = GW_INIT(sum);
	const char *cap;
	gw_info_summary(info, &sum);
	if (sum.format != GW_FORMAT_IMAGE)
		return gw__error_set(error, -EOPNOTSUPP,
			"%s is a stream, in which no page can be looked up; godwit convert makes an image of it", path);
	for (uint32_t i = 0; (cap = gw_info_capability(info, i)); i++)
		if (!strcmp(cap, "x-ignore-shared"))
			return gw__error_set(error, -EOPNOTSUPP,
				"%s was saved with x-ignore-shared and lacks the memory that was shared, but QEMU's post-copy has to be brought all memory; "
				"godwit restore without --lazy loads it",
				path);
	return 0;
}
