/* SPDX-License-Identifier: MIT */
/* Owners of files and folders; see owner.h. */
#include "base/owner.h"

#include <string.h>

enum { OTHERS_WRITE = 022 };

bool gw__folder_is_ours(uint64_t me, struct gw__owned folder)
{
	return (folder.uid == me || folder.uid == 0) && !(folder.mode & OTHERS_WRITE);
}

bool gw__file_is_foreign(uint64_t me, struct gw__owned file, struct gw__owned folder)
{
	return !gw__folder_is_ours(me, folder) && (file.uid != me || file.links > 1);
}

bool gw__link_is_foreign(uint64_t me, struct gw__owned link, struct gw__owned folder)
{
	return !gw__folder_is_ours(me, folder) && link.uid != me && link.uid != 0;
}

bool gw__path_folder(const char *path, char *folder, size_t folder_bytes)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 1;
	if (n == 0)
		n = 1; /* the root */
	if (n >= folder_bytes)
		return false;
	memcpy(folder, slash ? path : ".", n);
	folder[n] = 0;
	return true;
}
