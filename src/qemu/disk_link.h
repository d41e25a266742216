/* SPDX-License-Identifier: MIT */
/*
 * Lines between a guard and the standby that has its guest's disks (qemu/standby_disks.c says which). The NBD server is beside that address: unix:PATH.nbd, or
 * the next port.
 */
#ifndef GW_QEMU_DISK_LINK_H
#define GW_QEMU_DISK_LINK_H

#include <stddef.h>

#include "base/error.h"
#include "qemu/mirror.h"

/* Where its NBD server is. -EINVAL: no address that we know. */
int gw__disk_link_server(const char *address, char *server, size_t n, struct gw__error *error);
/* Asks for these disks. 0: `*fd`, and `prefix` of their exports. */
int gw__disk_link_open(const char *address, const struct gw__mirror *m, int *fd, char prefix[16], struct gw__error *error);

/* A line, without its end; it has to come within the time. 0 or a negative errno. */
int gw__disk_link_read(int fd, char *line, size_t n, int ms);
int gw__disk_link_write(int fd, const char *line);

#endif
