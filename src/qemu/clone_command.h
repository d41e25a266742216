/* SPDX-License-Identifier: MIT */
/*
 * The command line of a QEMU, made into that of a clone: its memory backends become mappings of the image (docs/spec/mapped-ram.md 11), and what gives
 * the guest a new identity is asked for. Pure but for a look at the file systems it names; starts nothing. One thread.
 */
#ifndef GW_QEMU_CLONE_COMMAND_H
#define GW_QEMU_CLONE_COMMAND_H

#include <godwit.h>

#include "base/error.h"

struct gw__clone_command {
	char **argv;  /* ends with NULL */
	char *mapped; /* for people: what maps the image now, as options of QEMU */
	bool new_id;  /* a vmgenid device gets another number */
};

/*
 * `image`: an absolute path. -EOPNOTSUPP: what this command asks for does not go with memory that is copied on write, or it names no memory that the image
 * could be. -EINVAL: another size of it. Free it in any case.
 */
int gw__clone_command_make(char *const *command, const gw_info *info, const char *image, struct gw__clone_command *c,
	struct gw__error *error);
void gw__clone_command_free(struct gw__clone_command *c); /* a zeroed one is fine */

#endif
