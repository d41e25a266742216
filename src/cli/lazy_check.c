/* SPDX-License-Identifier: MIT */
/* What can be given lazily at all; see lazy.h. Looks at the image only, before any QEMU is touched. */
#include <errno.h>
#include <string.h>

#include "cli/lazy.h"

int gw__lazy_check(const char *path, const gw_info *info, struct gw__why *why)
{
	struct gw_info_summary sum = GW_INIT(sum);
	const char *cap;
	gw_info_summary(info, &sum);
	if (sum.format != GW_FORMAT_IMAGE)
		return gw__why_set(why, -EOPNOTSUPP, "%s is a stream, in which no page can be looked up; godwit convert makes an image of it", path);
	for (uint32_t i = 0; (cap = gw_info_capability(info, i)); i++)
		if (!strcmp(cap, "x-ignore-shared"))
			return gw__why_set(why, -EOPNOTSUPP,
				"%s was saved with x-ignore-shared and lacks the memory that was shared, but QEMU's post-copy has to be brought all memory; "
				"godwit restore without --lazy loads it",
				path);
	return 0;
}
