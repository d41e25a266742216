/* SPDX-License-Identifier: MIT */
/*
 * Whose file is it? A name in a folder where others may write, /tmp first of all, can be anybody's work: who acts as root, or as any user,
 * must not give memory of a guest to its owner, follow its link, or delete what it names. Pure judgement of numbers that stat() gave.
 */
#ifndef GW_BASE_OWNER_H
#define GW_BASE_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gw__owned {
	uint64_t uid, links;
	unsigned mode;
};
/* Of a struct stat. */
#define GW__OWNED(st) ((struct gw__owned){.uid = (st).st_uid, .links = (st).st_nlink, .mode = (st).st_mode})

/* Nobody but this user and root can have put anything into the folder. */
bool gw__folder_is_ours(uint64_t me, struct gw__owned folder);
/* A file in it that another user may have put there: another's, or one of ours by a second name. */
bool gw__file_is_foreign(uint64_t me, struct gw__owned file, struct gw__owned folder);
/* A link in it that another user than root may have put there. */
bool gw__link_is_foreign(uint64_t me, struct gw__owned link, struct gw__owned folder);

/* The folder part of a path, "." for a bare name. False: it does not fit. */
bool gw__path_folder(const char *path, char *folder, size_t folder_bytes);

#endif
