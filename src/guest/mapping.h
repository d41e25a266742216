/* SPDX-License-Identifier: MIT */
/* What the kernel says of memory of this process. Any thread; reads /proc/self/maps. */
#ifndef GW_GUEST_MAPPING_H
#define GW_GUEST_MAPPING_H

#include <stdint.h>

#include "base/error.h"

/*
 * Is all of it mapped, to be read and written, and with `fd` not -1 of that file, from `fd_offset` on? 0; -EFAULT: not mapped, or not writable;
 * -EINVAL: something else is mapped there, or it can not be emptied: memory of a file is
 * known by its descriptor, and shared; or why that cannot be known. `what` is for the sentence.
 */
int gw__mapping_check(const char *what, const void *host, uint64_t bytes, int fd, uint64_t fd_offset, struct gw__error *error);

#endif
