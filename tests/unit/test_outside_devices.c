/* SPDX-License-Identifier: MIT */
/* Devices that keep something of a guest outside QEMU: each kind with its reason, and those that look like one. */
#include "unit.h"

#include "base/math.h"
#include "plan/outside_devices.h"

static const struct {
	const char *type, *says; /* NULL: nothing is outside */
} rows[] = {
	{"vhost-user-blk-pci", "its disk"},
	{"vhost-user-blk", "its disk"},
	{"vhost-user-scsi-pci-non-transitional", "its disk"},
	{"vhost-scsi-ccw", "its disk"},
	{"vhost-vdpa-device-pci", "its disk"},
	{"x-pci-proxy-dev", "its disk"},
	{"vhost-user-fs-pci", "the files that it shares"},
	{"vhost-user-fs-device", "the files that it shares"},
	{"vhost-user-vsock-pci", "in another process"},
	{"vhost-user-gpu-pci", "in another process"},
	{"vhost-user-vga", "in another process"},
	{"vhost-user-device-pci", "in another process"},
	{"vfio-pci", "hardware of the host"},
	{"vfio-pci-nohotplug", "hardware of the host"},
	{"vfio-ccw", "hardware of the host"},
	{"vfio-user-pci", "hardware of the host"},
	{"vhost-user-rng-pci", NULL},
	{"vhost-user-input-pci", NULL},
	{"virtio-blk-pci", NULL},
	{"virtio-net-pci", NULL},
	{"virtio-scsi-pci", NULL},
	{"nvme", NULL},
	{"", NULL},
};

static void every_kind(void **state)
{
	(void)state;
	for (size_t i = 0; i < GW__LEN(rows); i++) {
		const char *why = gw__plan_outside_device(rows[i].type);
		if (!why != !rows[i].says || (why && !strstr(why, rows[i].says)))
			fail_msg("%s: \"%s\", expected \"%s\"", rows[i].type, why ? why : "nothing",
				rows[i].says ? rows[i].says : "nothing");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_kind)};
	return cmocka_run_group_tests_name("outside_devices", tests, NULL, NULL);
}
