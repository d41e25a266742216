/* SPDX-License-Identifier: MIT */
/*
 * The primary of COLO as a command, whose guest is kept in images of one VM:
 *   colo-tool URI IMAGE [old] [channels=N] [zlib|zstd]
 * Sends the guest and says "ready". Then each line of stdin is the image of the next checkpoint, after which it says "loaded". Ends with its stdin. The
 * sentence of a failure goes to stderr, status 1. Not the godwit command.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image_primary.h"

enum { ANSWER_MS = 60000, IMAGES_MAX = 64 };

static struct gw__image *image[IMAGES_MAX];
static unsigned images_n;

static int open_image(struct gw__run *run, const char *path)
{
	if (images_n == IMAGES_MAX)
		return gw__error_set(&run->error, -1, "more than %d images", IMAGES_MAX);
	return gw__image_open(path, 0, &image[images_n++], &run->error);
}

static int take_checkpoints(struct gw__run *run, struct image_primary *p)
{
	char line[4096];
	int r = 0;
	while (!r && fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		r = open_image(run, line);
		if (!r)
			r = image_primary_checkpoint(p, image[images_n - 1]);
		if (!r)
			puts("loaded");
		fflush(stdout);
	}
	return r;
}

static int be_primary(struct gw__run *run, char **argv, struct gw__outgoing *out, struct image_primary **p)
{
	struct image_primary_opts o = {.answer_ms = ANSWER_MS, .level = 1};
	struct gw__outgoing_opts d = {.io = GW__IO_DEFAULTS};
	static struct gw__uri uri;
	for (char **a = argv + 3; *a; a++) {
		if (!strcmp(*a, "old"))
			o.old_dialect = true;
		else if (!strncmp(*a, "channels=", 9))
			d.channels = (uint32_t)atoi(*a + 9);
		else
			o.method = !strcmp(*a, "zlib") ? GW__MULTIFD_ZLIB : GW__MULTIFD_ZSTD;
	}
	int r = gw__uri_parse(argv[1], &uri, &run->error);
	if (!r)
		r = open_image(run, argv[2]);
	if (!r)
		r = gw__outgoing_connect(run, &uri, &d, out);
	if (!r)
		r = image_primary_new(run, out, &o, p);
	if (!r)
		r = image_primary_send_guest(*p, image[0]);
	if (!r)
		puts("ready");
	fflush(stdout);
	return r ? r : take_checkpoints(run, *p);
}

int main(int argc, char **argv)
{
	static struct gw__run run;
	struct gw__outgoing out = {0};
	struct image_primary *p = NULL;
	if (argc < 3)
		return 2;
	gw__run_init(&run);
	int r = be_primary(&run, argv, &out, &p);
	if (r)
		fprintf(stderr, "%s\n", run.error.text);
	image_primary_free(p);
	gw__outgoing_close(&out);
	while (images_n)
		gw__image_close(image[--images_n]);
	return r ? 1 : 0;
}
