/* SPDX-License-Identifier: MIT */
/*
 * A result that a command writes to a file: it has its name when it is whole and synced, and replaces what had the name. Until then it is
 * .NAME.XXXXXX in the same folder. Only its owner may read it, as what is known of a guest may be confidential. One thread.
 */
#ifndef GW_CLI_UI_OUTPUT_FILE_H
#define GW_CLI_UI_OUTPUT_FILE_H

#include <stdio.h>

struct gw__cli_output_file {
	FILE *to;
	const char *path; /* borrowed */
	char *partial;
};

/* 0, or a negative errno. Drop it in either case. */
int gw__cli_output_file_open(struct gw__cli_output_file *f, const char *path);
/* The end: a write that failed before is found here. 0, or a negative errno; the old file is then as it was. */
int gw__cli_output_file_commit(struct gw__cli_output_file *f);
void gw__cli_output_file_drop(struct gw__cli_output_file *f); /* also of a zeroed one, also twice */

#endif
