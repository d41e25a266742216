/* SPDX-License-Identifier: MIT */
/*
 * A clone: a guest whose QEMU maps the image as its memory, copy-on-write (docs/spec/mapped-ram.md 11). What restore.c does besides: make sure that
 * the file is fit for it, stays the same file from the first look to the last byte sent, and is what the QEMU has mapped. One thread.
 */
#ifndef GW_QEMU_CLONE_H
#define GW_QEMU_CLONE_H

#include "qemu/clone_command.h"
#include "qemu/destination.h"
#include "qemu/driver.h"

struct gw__clone {
	int image_fd;  /* the image, whatever gets its name meanwhile */
	char *image;   /* its absolute path */
	char proc[32]; /* a path to image_fd */
	struct gw__clone_command command;
	const char **mapped; /* names of blocks, which belong to the info */
	uint32_t mapped_n;
};
#define GW__CLONE_INIT                                                                                                                     \
	{                                                                                                                                  \
		.image_fd = -1                                                                                                             \
	}

/* Before the image is looked at. */
int gw__clone_open(struct gw__clone *c, const char *path, struct gw__error *error);
/* Then: can the image be mapped, is it still that file? -EOPNOTSUPP: no. `command`: to be rewritten; NULL: none. */
int gw__clone_check(struct gw__clone *c, const gw_info *info, char *const *command, struct gw__error *error);
/* Marks the blocks of a destination that are the image's, at the right place and private. -EOPNOTSUPP: none is, or it cannot be known. */
int gw__clone_find_mapped(struct gw__clone *c, struct gw__qmp *q, const gw_info *info, struct gw__qemu_destination *there,
	struct gw__error *error);
/* A QEMU that was started with such a command line has ended: is it too old? Then -EOPNOTSUPP with that reason; else the error stays as it is. */
int gw__clone_explain_end(const char *program, struct gw__error *error);
void gw__clone_close(struct gw__clone *c);

#endif
