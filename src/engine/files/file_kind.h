/* SPDX-License-Identifier: MIT */
/* What a file is that keeps no guest the way we read it; see file_kind.c. Any thread. */
#ifndef GW_ENGINE_FILES_FILE_KIND_H
#define GW_ENGINE_FILES_FILE_KIND_H

#include <stdint.h>

#include "base/error.h"

/* 0: nothing that is known. -EPROTO: a sentence names it and says the way to the guest in it. The descriptor's position stays. */
int gw__stored_guest_name_kind(int fd, const char *path, uint64_t base_off, struct gw__error *error);

#endif
