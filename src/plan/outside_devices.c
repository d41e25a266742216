/* SPDX-License-Identifier: MIT */
/* Devices that QEMU does not have alone; see outside_devices.h. */
#include "plan/outside_devices.h"

#include <stddef.h>
#include <string.h>

#include "base/math.h"

#define DISK "its disk is outside QEMU and cannot be mirrored"

/* The first row counts whose word the type begins with: after it come -pci, -ccw, -device and the like. */
static const struct {
	const char *type, *why; /* NULL: nothing of the guest is in it that another one could not give */
} rows[] = {
	{"vhost-user-blk", DISK},
	{"vhost-user-scsi", DISK},
	{"vhost-scsi", DISK},
	{"vhost-vdpa-device", DISK},
	{"x-pci-proxy-dev", DISK},
	{"vhost-user-fs", "the files that it shares are outside QEMU and cannot be mirrored"},
	{"vhost-user-rng", NULL},
	{"vhost-user-input", NULL},
	{"vhost-user-", "its state is in another process and cannot be mirrored"},
	{"vfio-", "it is hardware of the host, and what the guest does with it cannot be mirrored or held back"},
};

const char *gw__plan_outside_device(const char *type)
{
	for (size_t i = 0; i < GW__LEN(rows); i++)
		if (!strncmp(type, rows[i].type, strlen(rows[i].type)))
			return rows[i].why;
	return NULL;
}
