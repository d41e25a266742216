/* SPDX-License-Identifier: MIT */
/*
 * Which devices keep something of a guest where QEMU neither mirrors nor holds back: in another process, in the kernel, in hardware. After a failover that would be
 * ahead of the guest's memory. Of disks that are block nodes of QEMU, and of netdevs, it says nothing: QEMU is asked about those. One table. Pure.
 */
#ifndef GW_PLAN_OUTSIDE_DEVICES_H
#define GW_PLAN_OUTSIDE_DEVICES_H

/* `type`: a QOM type, as "vhost-user-fs-pci". What of it is outside, and why it cannot be kept: the middle of a sentence. NULL: nothing is. */
const char *gw__plan_outside_device(const char *type);

#endif
