/* SPDX-License-Identifier: MIT */
/* An epoch as a file while a command runs; see epoch_image.h. */
#include "cli/cmd/epoch_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool gw__cli_split_epoch(const char *given, char image[PATH_MAX], uint64_t *epoch)
{
	const char *at = strrchr(given, '@');
	char *end;
	if (!at || at == given || at[1] < '0' || at[1] > '9' || at - given >= PATH_MAX)
		return false;
	errno = 0;
	*epoch = strtoull(at + 1, &end, 10);
	snprintf(image, PATH_MAX, "%.*s", (int)(at - given), given);
	return !errno && !*end;
}

const char *gw__cli_epoch_image_open(struct gw__cli_epoch_image *e, gw_job *job, const char *given)
{
	char image[PATH_MAX];
	uint64_t epoch;
	e->path[0] = 0;
	if (access(given, F_OK) == 0 || !gw__cli_split_epoch(given, image, &epoch))
		return given;
	const char *slash = strrchr(given, '/');
	int folder = slash ? (int)(slash + 1 - given) : 0;
	static unsigned n;
	if (snprintf(e->path, sizeof e->path, "%.*s.%s.%d.%u", folder, given, given + folder, (int)getpid(), n++) >= (int)sizeof e->path)
		return NULL;
	if (gw_standby_export(job, image, epoch, e->path) == 0)
		return e->path;
	e->path[0] = 0;
	return NULL;
}

void gw__cli_epoch_image_close(struct gw__cli_epoch_image *e)
{
	if (e->path[0])
		unlink(e->path);
	e->path[0] = 0;
}
