/* SPDX-License-Identifier: MIT */
/* Descriptors that a process has from another one. Pure calls to the kernel, any thread; of a child after fork, too. */
#ifndef GW_QEMU_DESCRIPTORS_H
#define GW_QEMU_DESCRIPTORS_H

#include <stddef.h>

/*
 * Closes what was inherited: all but 0, 1, 2 and the n of `keep` (-1: none). What stays open by mistake holds a socket or a pipe
 * whose end somebody waits for.
 */
void gw__close_all_but(const int *keep, size_t n);

#endif
