/* SPDX-License-Identifier: MIT */
/*
 * How does a kept guest get into a waiting destination, or why can it not? A pure decision from two descriptions;
 * nothing is touched and nothing is asked.
 */
#ifndef GW_PLAN_RESTORE_METHOD_H
#define GW_PLAN_RESTORE_METHOD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct gw__plan_block {
	const char *name;
	uint64_t used_bytes, max_bytes; /* max: how far a resizeable block may grow; 0: not known */
	bool ignored;                   /* kept without content (x-ignore-shared) */
	bool unshared;                  /* the destination's is certainly not shared memory */
	bool mapped;                    /* the destination's is the image itself, mapped copy-on-write */
};

struct gw__plan_device {     /* with a PCI address */
	const char *address; /* "0000:00:02.0", behind a bridge "0000:00:02.0:01.0"; a USB device's ends with "/" and its port */
	const char *type;    /* as its end calls it: a section "virtio-net", a QEMU device "virtio-net-pci" */
};

struct gw__plan_guest { /* what is kept */
	const char *machine;
	bool image; /* a mapped-ram image, not a stream file */
	bool ignore_shared;
	bool memory_only; /* without devices */
	bool xbzrle;      /* a stream with deltas, which cannot be passed on as it is */
	uint64_t page_bytes;
	uint32_t blocks_n;
	const struct gw__plan_block *block;
	uint32_t cpus; /* 0: not known */
	uint32_t sections_n;
	const char *const *section; /* names of its device sections */
};

struct gw__plan_destination {
	const char *machine;         /* NULL: not known, not compared */
	bool reads_images;           /* knows the capability mapped-ram */
	bool accepts_ignored_blocks; /* also images that leave out ignored blocks */
	bool same_host;              /* can open our files */
	uint32_t blocks_n;           /* 0: not known */
	const struct gw__plan_block *block;
	uint32_t cpus;      /* 0: not known */
	uint32_t devices_n; /* 0: not known */
	const struct gw__plan_device *device;
};

enum gw__restore_method { GW__RESTORE_METHOD_REFUSED, GW__RESTORE_METHOD_DIRECT, GW__RESTORE_METHOD_STREAM, GW__RESTORE_METHOD_CLONE };

/* The sentence in `*why` is set for every answer. */
enum gw__restore_method gw__plan_restore_method(const struct gw__plan_guest *g, const struct gw__plan_destination *d, char *reason,
	unsigned why_bytes);

/* devices.c: the first difference of CPUs or devices as a sentence in `why`, or false. */
bool gw__plan_devices_differ(const struct gw__plan_guest *g, const struct gw__plan_destination *d, char *reason, unsigned why_bytes);
/* How far they could be compared, to follow a sentence */
void gw__plan_devices_compared(const struct gw__plan_guest *g, const struct gw__plan_destination *d, char *text, unsigned text_bytes);

#endif
