/* SPDX-License-Identifier: MIT */
/* Which library is in use. Any thread. */
#include "godwit.h"

#include <errno.h>

const char *gw_version(void) { return GW__VERSION; }

int gw_version_check(unsigned major, unsigned minor, unsigned patch)
{
	if (major != GW_VERSION_MAJOR)
		return -EOPNOTSUPP;
	if (minor != GW_VERSION_MINOR)
		return minor < GW_VERSION_MINOR ? 0 : -EOPNOTSUPP;
	return patch <= GW_VERSION_PATCH ? 0 : -EOPNOTSUPP;
}
