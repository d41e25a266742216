/* SPDX-License-Identifier: MIT */
/* IMAGE@EPOCH on the command line: an epoch that a standby keeps, made an image of for as long as the command runs. */
#ifndef GW_CLI_CMD_EPOCH_IMAGE_H
#define GW_CLI_CMD_EPOCH_IMAGE_H

#include <limits.h>

#include <godwit.h>

struct gw__cli_epoch_image {
	char path[PATH_MAX]; /* "": there is none */
};

/*
 * The path to open for what was given: itself, unless it is IMAGE@EPOCH and no file of that name; then a file beside IMAGE. NULL: it cannot be had, and the job
 * has the sentence.
 */
const char *gw__cli_epoch_image_open(struct gw__cli_epoch_image *e, gw_job *job, const char *given);
void gw__cli_epoch_image_close(struct gw__cli_epoch_image *e); /* deletes the file; also twice */

/* IMAGE and EPOCH of IMAGE@EPOCH. False: it is none. */
bool gw__cli_split_epoch(const char *given, char image[PATH_MAX], uint64_t *epoch);

#endif
