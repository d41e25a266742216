/* SPDX-License-Identifier: MIT */
/* Names of abilities; see requested_caps.h. */
#include "base/requested_caps.h"

#include <string.h>

#include "base/math.h"

void gw__requested_caps_add(struct gw__requested_caps *w, const char *ability)
{
	if (ability && w->n + 1 < GW__LEN(w->name))
		w->name[w->n++] = ability;
}

const char *gw__requested_caps_of_uri(const char *uri)
{
	static const char *const kinds[] = {"tcp", "unix", "vsock", "fd", "file", "exec"};
	size_t n = strcspn(uri, ":");
	for (unsigned i = 0; uri[n] && i < GW__LEN(kinds); i++)
		if (strlen(kinds[i]) == n && !strncmp(uri, kinds[i], n))
			return kinds[i];
	return NULL;
}
