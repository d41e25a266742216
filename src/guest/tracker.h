/* SPDX-License-Identifier: MIT */
/*
 * Who notices that pages of a guest were written: one interface before what a kernel offers. Each is blind for something, which has to be reported
 * (gw__guest_dirty): writes sees neither other mappings of the same memory nor what devices do to pinned pages; KVM's see vCPUs alone.
 *
 * Re-arm before read, always: gw__tracker_take re-arms the pages it reports before it returns, so that whoever reads them then misses no later write.
 * A peek reports and changes nothing. Read first and re-arm later loses what was written in between, and nothing but a burst of writes that is
 * followed by silence shows it.
 *
 * One thread at a time, except gw__tracker_ring_full, which vCPU threads call.
 */
#ifndef GW_GUEST_TRACKER_H
#define GW_GUEST_TRACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* A slot of KVM's, as the VMM made it. */
struct gw__tracked_slot {
	uint32_t slot;  /* with the address space in the upper 16 bits */
	uint32_t flags; /* it was made with */
	uint64_t address, offset, bytes;
};

/* One block of RAM. */
struct gw__tracked {
	uint8_t *host;
	uint64_t bytes;
	uint32_t slots; /* KVM's alone */
	const struct gw__tracked_slot *slot;
};

/* What KVM's need of the VMM. */
struct gw__tracker_kvm {
	int vm_fd;
	const int *vcpu_fd; /* the ring's */
	uint32_t vcpus, ring_bytes;
};

struct gw__tracker;
struct gw__tracker_kind {
	const char *name; /* "writes", "kvm-log", "kvm-ring" */
	int (*start)(struct gw__tracker *t, struct gw__error *error);
	int (*take)(struct gw__tracker *t, uint32_t block, uint64_t *bitmap, bool rearm, struct gw__error *error);
	void (*stop)(struct gw__tracker *t);
	void (*free)(struct gw__tracker *t);
};

/* Head of each kind's own struct. */
struct gw__tracker {
	const struct gw__tracker_kind *kind;
	bool started;
	uint64_t page_bytes; /* of the guest */
	uint32_t blocks;
	struct gw__tracked *block; /* a copy, with its slots */
};

/*
 * Blocks are copied. `uffd`: one to use, and which stays open; -1: opened here. `agreed`: was its API agreed on here before? Set, for the next tracker
 * with it; NULL: no. -EPERM and -EOPNOTSUPP say what is missing, and how to get it.
 */
int gw__tracker_new_writes(struct gw__tracker **t, const struct gw__tracked *blocks, uint32_t n, uint64_t page_bytes, int uffd,
	bool *agreed, struct gw__error *error);
int gw__tracker_new_kvm_log(struct gw__tracker **t, const struct gw__tracked *blocks, uint32_t n, uint64_t page_bytes,
	const struct gw__tracker_kvm *kvm, struct gw__error *error);
int gw__tracker_new_kvm_ring(struct gw__tracker **t, const struct gw__tracked *blocks, uint32_t n, uint64_t page_bytes,
	const struct gw__tracker_kvm *kvm, struct gw__error *error);
void gw__tracker_free(struct gw__tracker *t); /* NULL is fine; stops */

/* From now on writes are noticed; every page counts as not written. */
int gw__tracker_start(struct gw__tracker *t, struct gw__error *error);
/* ORs into `bitmap`, a bit for each page of the block, what was written since it was taken last, or since the start; these pages are armed again. */
int gw__tracker_take(struct gw__tracker *t, uint32_t block, uint64_t *bitmap, struct gw__error *error);
/* The same, and nothing changes. */
int gw__tracker_peek(struct gw__tracker *t, uint32_t block, uint64_t *bitmap, struct gw__error *error);
void gw__tracker_stop(struct gw__tracker *t);

/* The ring of this vCPU is full, its thread says: makes room in it. Any thread; never waits for a link. 0 or a negative errno. */
int gw__tracker_ring_full(struct gw__tracker *t);

/* For the kinds: the fields of the head, `bytes` of memory in all, zero; NULL: no memory, or a block is empty. */
void *gw__tracker_alloc(size_t bytes, const struct gw__tracker_kind *kind, const struct gw__tracked *blocks, uint32_t n,
	uint64_t page_bytes, struct gw__error *error);

#endif
