/* SPDX-License-Identifier: MIT */
/*
 * The disks of one protection at the standby: an existing engine, qemu-storage-daemon, serves them to the primary over NBD, and keeps each epoch's writes in an
 * overlay of its own. Files of the guest's folder, S being the number of the protection:
 *
 *   disk-ID.S.base              raw: all before the last epochs
 *   disk-ID.S.N                 qcow2 on top of it, or on N-1's: with it, the disk at epoch N
 *
 *   open: base <- 1        boundary 0: base | 1 <- ...        boundary N: base <- N | N+1        commit N: N-1 goes into base
 *
 * The primary writes to the last one. At a boundary it stands still and has flushed, so what is below the new overlay is the disk of that epoch, byte for byte.
 * An overlay is merged only when the epoch after it counts, so the last epoch's file is never written to again. With a history of H epochs commit N merges
 * N-1-H, and the overlays above it stay. One thread at a time.
 *
 * Durable: the disk of an epoch is on the standby's disk when gw__storage_boundary returns, and nothing that it needs is removed before what replaces it is.
 * FOLDER/disks.durable says which protection that is, and the memory's journal, which epoch is the last one. As long as it exists the journal alone is not
 * made an image.
 */
#ifndef GW_QEMU_STORAGE_H
#define GW_QEMU_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { GW__STORAGE_DISKS_MAX = 16, GW__STORAGE_ID_BYTES = 64 };
#define GW__STORAGE_BRANCH "-branch"
#define GW__STORAGE_DAEMON "qemu-storage-daemon" /* as PATH has it */

struct gw__storage;

struct gw__storage_disk {
	char id[GW__STORAGE_ID_BYTES];
	uint64_t bytes;
};

struct gw__storage_opts {
	const char *folder;
	const char *program; /* the engine */
	const char *server;  /* "unix:PATH" or "tcp:HOST:PORT", where the exports prefix-ID are */
	bool durable;
	unsigned history; /* epochs before the last one whose disks are kept */
};

int gw__storage_open(const struct gw__storage_opts *o, const struct gw__storage_disk *disks, unsigned n, struct gw__storage **s,
	struct gw__error *error);
const char *gw__storage_prefix(const struct gw__storage *s);
/* The primary stands still: what it has written is the disk of `epoch`. */
int gw__storage_boundary(struct gw__storage *s, uint64_t epoch, struct gw__error *error);
/* That epoch counts. Outside the pause; a failure is told at the next boundary. */
void gw__storage_commit(struct gw__storage *s, uint64_t epoch);
/* The engine ends. kept: the disk of `epoch` stays, and the folder's file "disks" names it; otherwise nothing stays. Frees it. */
void gw__storage_end(struct gw__storage **s, uint64_t epoch, bool kept);
/*
 * What a durable one that was killed has left: the folder's file "disks" names the disks of the last epoch in the journal. Before the journal is made an image:
 * then memory and disks are of one epoch, wherever this is killed in its turn. The caller has the folder's lock. Nothing was left: 0.
 */
int gw__storage_recover(const char *folder, struct gw__error *error);
/*
 * For a guest that goes on from an older epoch: for each disk of the folder's file "disks" an overlay of its own, disk-ID.S.EPOCH-branch, on top of that epoch's, if it
 * is not there already. Nothing is written to what later epochs are made of. The last epoch has none: its files are themselves at the top. -ENODATA: the disks
 * of this epoch are not kept. The caller has the folder's lock. No disks: 0.
 */
int gw__storage_branch(const char *folder, const char *program, uint64_t epoch, struct gw__error *error);

#endif
