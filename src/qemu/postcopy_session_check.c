/* SPDX-License-Identifier: MIT */
/* What is asked for, and what can be given lazily at all; see postcopy_session.h. Before any QEMU is touched. */
#include <errno.h>
#include <string.h>

#include "base/requested_caps.h"
#include "qemu/postcopy_session.h"

static bool can_listen(const char *uri)
{
	const char *kind = uri ? gw__requested_caps_of_uri(uri) : "unix";
	return kind && (!strcmp(kind, "tcp") || !strcmp(kind, "unix") || !strcmp(kind, "vsock"));
}

int gw__postcopy_session_set_opts(struct gw__postcopy_session *l, const struct gw_qemu_postcopy_opts *o)
{
	int r = gw__qemu_copy_opts("gw_qemu_postcopy_opts", o, &l->opts, sizeof l->opts, &l->error);
	if (!r)
		r = gw__qemu_copy_opts("gw_link_opts", l->opts.link, &l->link_opts, sizeof l->link_opts, &l->error);
	if (!r)
		r = gw__qemu_copy_opts("gw_tls_opts", l->link_opts.tls, &l->tls_opts, sizeof l->tls_opts, &l->error);
	if (r)
		return r;
	if (!can_listen(l->opts.listen) || !can_listen(l->opts.connect))
		return gw__error_set(&l->error, -EINVAL, "QEMU can listen at tcp:HOST:PORT, unix:PATH and vsock:CID:PORT, not at %s",
			can_listen(l->opts.listen) ? l->opts.connect : l->opts.listen);
	if (l->opts.connect && !l->opts.listen)
		return gw__error_set(&l->error, -EINVAL, "an address to connect to (%s) needs one to listen at", l->opts.connect);
	return 0;
}

int gw__postcopy_session_check(gw_qemu *driver, const char *path, const gw_info *info, struct gw__error *error)
{
	struct gw_info_summary sum = GW_INIT(sum);
	const char *cap;
	gw_info_summary(info, &sum);
	if (sum.format != GW_FORMAT_IMAGE) {
		gw__error_advise(&driver->error, GW_QEMU_HINT_CONVERT);
		return gw__error_set(error, -EOPNOTSUPP, "%s is a stream, and a page server needs an image", path);
	}
	for (uint32_t i = 0; (cap = gw_info_capability(info, i)); i++)
		if (!strcmp(cap, "x-ignore-shared")) {
			gw__error_advise(&driver->error, GW_QEMU_HINT_NOT_LAZY);
			return gw__error_set(error, -EOPNOTSUPP,
				"%s was saved with x-ignore-shared and lacks the shared memory, but post-copy needs all memory", path);
		}
	return 0;
}
