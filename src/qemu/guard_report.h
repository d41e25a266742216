/* SPDX-License-Identifier: MIT */
/*
 * What a guard knows of its guest and the standby does not: whether its disks are mirrored and what it sends is held, and how much of its lease is left. It is one line
 * for the control socket of the guest, DIR/NAME/control, where the standby shows it to whoever asks (godwit top, metrics).
 *
 * The guard sends it itself where the standby's folder is on its host; else with its verdict about the disks, to who keeps these. Nobody waits for it, and nobody
 * decides anything by it. One thread at a time.
 */
#ifndef GW_QEMU_GUARD_REPORT_H
#define GW_QEMU_GUARD_REPORT_H

#include <stddef.h>
#include <stdint.h>

enum { GW__GUARD_REPORT_BYTES = 96 };

struct gw__guard_report {
	const char *disk;       /* "mirrored", "partly" (some were left out), "not-kept", "none" */
	const char *network;    /* "held", "not-held", "none" */
	uint64_t lease_left_us; /* UINT64_MAX: there is no lease, or it has no limit */
};

/* "disk WORD network WORD lease_left_us N" */
void gw__guard_report_print(const struct gw__guard_report *r, char words[GW__GUARD_REPORT_BYTES]);
/* To the standby of the guest in this folder; without one, or with one that is busy, it is lost. */
void gw__guard_report_send(const char *folder, const char *words);

#endif
