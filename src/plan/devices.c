/* SPDX-License-Identifier: MIT */
/*
 * Do the CPUs and devices of a kept guest fit those of a destination? See restore.h.
 *
 * An image names its device sections, a QEMU its devices; both give PCI addresses, and USB devices a port. Only that can be
 * compared, and the kind of device where the table below knows both names. Root buses other than 0000:00 are left out:
 * QEMU does not tell their number before firmware has run.
 */
#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "plan/restore_method.h"

static const char root[] = "0000:00:";

/* A section's name, and how the QEMU devices that write it begin. Seen with QEMU 7.2, 10.0 and 11.1. */
static const struct {
	const char *section, *type;
} kinds[] = {
	{"virtio-net", "virtio-net-"},
	{"virtio-blk", "virtio-blk-"},
	{"virtio-scsi", "virtio-scsi-"},
	{"virtio-rng", "virtio-rng-"},
	{"virtio-balloon", "virtio-balloon-"},
	{"virtio-console", "virtio-serial-"},
	{"virtio-gpu", "virtio-gpu-"},
	{"virtio-gpu", "virtio-vga"},
	{"virtio-input", "virtio-mouse-"},
	{"virtio-input", "virtio-keyboard-"},
	{"virtio-input", "virtio-tablet-"},
	{"e1000", "e1000"},
	{"e1000e", "e1000e"},
	{"rtl8139", "rtl8139"},
	{"pcnet", "pcnet"},
	{"ne2000", "ne2k_pci"},
	{"vmxnet3", "vmxnet3"},
	{"vga", "VGA"},
	{"cirrus_vga", "cirrus-vga"},
	{"uhci", "piix3-usb-uhci"},
	{"ehci", "usb-ehci"},
	{"xhci", "qemu-xhci"},
	{"xhci", "nec-usb-xhci"},
	{"lsiscsi", "lsi53c895a"},
	{"megasas", "megasas"},
	{"pcie-root-port", "pcie-root-port"},
	{"pci_bridge", "pci-bridge"},
};

/* A name that ends with '-' stands for all that begin so. */
static bool is_type(const char *known, const char *type)
{
	size_t n = strlen(known);
	return known[n - 1] == '-' ? !strncmp(known, type, n) : !strcmp(known, type);
}

/* Certainly another kind of device: both names are in the table, and never in one row. */
static bool is_other_kind(const char *section, const char *type)
{
	bool section_known = false, type_known = false;
	for (size_t i = 0; i < GW__LEN(kinds); i++) {
		bool s = !strcmp(kinds[i].section, section), t = is_type(kinds[i].type, type);
		if (s && t)
			return false;
		section_known |= s;
		type_known |= t;
	}
	return section_known && type_known;
}

/*
 * "0000:00:05.0/virtio-net" is 12 bytes of address and a name, "0000:00:05.0/2.1/usb-kbd" 16 and a name. False: no address
 * that can be compared.
 */
static bool split(const char *section, size_t *address_bytes, const char **name)
{
	if (strncmp(section, root, sizeof root - 1))
		return false;
	const char *slash = strchr(section, '/');
	if (!slash)
		return false;
	const char *part = slash + 1, *second = strchr(part, '/');
	bool port = second && strspn(part, "0123456789.") == (size_t)(second - part);
	if (second && !port)
		return false;
	*address_bytes = (size_t)((port ? second : slash) - section);
	*name = (port ? second : slash) + 1;
	return true;
}

static bool is_at(const struct gw__plan_device *d, const char *address, size_t bytes)
{
	return strlen(d->address) == bytes && !memcmp(d->address, address, bytes);
}

/* Two root buses may give one address twice: then any that fits will do. */
static bool section_fits(const char *section, const struct gw__plan_destination *d, char *reason, unsigned why_bytes)
{
	size_t bytes;
	const char *name;
	const struct gw__plan_device *other = NULL;
	if (!split(section, &bytes, &name))
		return true;
	for (uint32_t i = 0; i < d->devices_n; i++) {
		if (!is_at(&d->device[i], section, bytes))
			continue;
		if (!is_other_kind(name, d->device[i].type))
			return true;
		other = &d->device[i];
	}
	if (other)
		snprintf(reason, why_bytes,
			"the saved guest has a device \"%.60s\" at %.*s, the destination has \"%.60s\" there; start it with the same devices in "
			"the same slots",
			name, (int)bytes, section, other->type);
	else
		snprintf(reason, why_bytes,
			"the saved guest has a device \"%.60s\" at %.*s, where the destination has none; start it with the same devices in the "
			"same slots",
			name, (int)bytes, section);
	return false;
}

bool gw__plan_devices_differ(const struct gw__plan_guest *g, const struct gw__plan_destination *d, char *reason, unsigned why_bytes)
{
	if (g->cpus && d->cpus && g->cpus != d->cpus) {
		snprintf(reason, why_bytes, "the guest was saved with %u CPU%s, the destination has %u; start it with -smp %u", g->cpus,
			g->cpus == 1 ? "" : "s", d->cpus, g->cpus);
		return true;
	}
	for (uint32_t i = 0; d->devices_n && i < g->sections_n; i++)
		if (!section_fits(g->section[i], d, reason, why_bytes))
			return true;
	return false;
}

static bool is_kept(const struct gw__plan_guest *g, const struct gw__plan_device *d)
{
	for (uint32_t i = 0; i < g->sections_n; i++)
		if (!strncmp(g->section[i], d->address, strlen(d->address)))
			return true;
	return false;
}

void gw__plan_devices_compared(const struct gw__plan_guest *g, const struct gw__plan_destination *d, char *text, unsigned text_bytes)
{
	bool cpus = g->cpus && d->cpus;
	if (!d->devices_n) {
		snprintf(text, text_bytes, ". Its devices are not known and were not compared%s",
			cpus ? ", but the number of CPUs fits" : "");
		return;
	}
	snprintf(text, text_bytes,
		". Its %sPCI and USB devices fit. Its CPU model and devices without such an address (ISA, SCSI) cannot be compared",
		cpus ? "number of CPUs and its " : "");
	for (uint32_t i = 0; i < d->devices_n; i++) {
		size_t n = strlen(text);
		if (is_kept(g, &d->device[i]))
			continue;
		snprintf(text + n, text_bytes - n, ". The image has nothing for its device \"%.60s\" at %.60s", d->device[i].type,
			d->device[i].address);
		return;
	}
}
