/* SPDX-License-Identifier: MIT */
/*
 * Writes noticed by KVM: a log of each memory slot, or a ring of each vCPU. Both see what vCPUs write, and nothing else.
 *
 * The log is read without being cleared (manual protection), and cleared in chunks: a clear re-arms exactly the pages whose bits it is given, so that a
 * page written between the two keeps its bit. What the VMM set up of the slots is put back by stop. tests/platform/tracker_kvm.c holds what they see.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest/tracker.h"

enum { KVM_PAGE_BYTES = 4096, BITS = 64, CLEAR_PAGES = 1024 };
#ifndef KVM_DIRTY_GFN_F_DIRTY
#define KVM_DIRTY_GFN_F_DIRTY 1
#define KVM_DIRTY_GFN_F_RESET 2
#endif
/* Where the ring lies in the mapping of a vCPU: asm/kvm.h of x86 and arm64; other architectures have none. */
#if KVM_DIRTY_LOG_PAGE_OFFSET
enum { RING_PAGE_OFFSET = KVM_DIRTY_LOG_PAGE_OFFSET };
#else
enum { RING_PAGE_OFFSET = 64 };
#endif

struct ring {
	struct kvm_dirty_gfn *entry;
	uint32_t next; /* to be harvested */
};

struct kvm_tracker {
	struct gw__tracker head;
	struct gw__tracker_kvm kvm;
	uint64_t *log; /* of the largest slot: what KVM says */

	/* The ring's, under `lock`, as vCPU threads harvest too. */
	pthread_mutex_t lock;
	uint32_t rings, ring_entries;
	struct ring *ring;
	uint64_t **pending; /* of each block: harvested, not taken */
};

static struct kvm_tracker *kvm_of(struct gw__tracker *t) { return (struct kvm_tracker *)(void *)t; }

static uint64_t words_of(uint64_t bytes) { return (bytes / KVM_PAGE_BYTES + BITS - 1) / BITS; }

/* --- Slots --------------------------------------------------------------------------------------------------------- */

/* With the same address and size only flags change, which KVM allows while vCPUs run. */
static int set_flags(const struct kvm_tracker *k, const struct gw__tracked *b, const struct gw__tracked_slot *s, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {.slot = s->slot,
		.flags = flags,
		.guest_phys_addr = s->address,
		.memory_size = s->bytes,
		.userspace_addr = (uintptr_t)b->host + s->offset};
	return ioctl(k->kvm.vm_fd, KVM_SET_USER_MEMORY_REGION, &region) ? -errno : 0;
}

static void stop(struct gw__tracker *t)
{
	struct kvm_tracker *k = kvm_of(t);
	for (uint32_t i = 0; i < t->blocks; i++)
		for (uint32_t j = 0; j < t->block[i].slots; j++)
			set_flags(k, &t->block[i], &t->block[i].slot[j], t->block[i].slot[j].flags);
}

static int start_slots(struct gw__tracker *t, struct gw__error *error)
{
	struct kvm_tracker *k = kvm_of(t);
	int r = 0;
	for (uint32_t i = 0; !r && i < t->blocks; i++)
		for (uint32_t j = 0; !r && j < t->block[i].slots; j++) {
			const struct gw__tracked_slot *s = &t->block[i].slot[j];
			r = set_flags(k, &t->block[i], s, s->flags | KVM_MEM_LOG_DIRTY_PAGES);
			if (r)
				gw__error_errno(error, -r, "cannot switch on the dirty log of memory slot %u", s->slot);
		}
	if (r)
		stop(t);
	return r;
}

/* Bits of pages of 4 KiB from `offset` of the block on, into those of the guest's pages. */
static void set_bits(const struct gw__tracker *t, uint64_t offset, uint64_t pages, const uint64_t *from, uint64_t *bitmap)
{
	for (uint64_t i = 0; i < (pages + BITS - 1) / BITS; i++)
		for (uint64_t bits = from[i]; bits; bits &= bits - 1) {
			uint64_t page = i * BITS + (uint64_t)__builtin_ctzll(bits);
			if (page >= pages)
				return;
			uint64_t bit = (offset + page * KVM_PAGE_BYTES) / t->page_bytes;
			bitmap[bit / BITS] |= UINT64_C(1) << bit % BITS;
		}
}

/* --- The log ------------------------------------------------------------------------------------------------------- */

/* Only what has bits set: nothing is to be armed elsewhere. */
static int clear(const struct kvm_tracker *k, const struct gw__tracked_slot *s)
{
	uint64_t pages = s->bytes / KVM_PAGE_BYTES;
	for (uint64_t at = 0; at < pages; at += CLEAR_PAGES) {
		uint64_t n = pages - at < CLEAR_PAGES ? pages - at : CLEAR_PAGES, any = 0;
		for (uint64_t i = 0; i < (n + BITS - 1) / BITS; i++)
			any |= k->log[at / BITS + i];
		struct kvm_clear_dirty_log c = {.slot = s->slot,
			.num_pages = (uint32_t)n,
			.first_page = at,
			.dirty_bitmap = k->log + at / BITS};
		if (any && ioctl(k->kvm.vm_fd, KVM_CLEAR_DIRTY_LOG, &c))
			return -errno;
	}
	return 0;
}

static int log_take(struct gw__tracker *t, uint32_t block, uint64_t *bitmap, bool rearm, struct gw__error *error)
{
	struct kvm_tracker *k = kvm_of(t);
	for (uint32_t i = 0; i < t->block[block].slots; i++) {
		const struct gw__tracked_slot *s = &t->block[block].slot[i];
		struct kvm_dirty_log log = {.slot = s->slot, .dirty_bitmap = k->log};
		memset(k->log, 0, words_of(s->bytes) * 8);
		if (ioctl(k->kvm.vm_fd, KVM_GET_DIRTY_LOG, &log))
			return gw__error_errno(error, errno, "cannot read the dirty log of memory slot %u%s", s->slot,
				errno == ENXIO ? ", as the VM has dirty rings" : "");
		int r = rearm ? clear(k, s) : 0;
		if (r)
			return gw__error_errno(error, -r, "cannot clear the dirty log of memory slot %u", s->slot);
		set_bits(t, s->offset, s->bytes / KVM_PAGE_BYTES, k->log, bitmap);
	}
	return 0;
}

static int log_start(struct gw__tracker *t, struct gw__error *error)
{
	struct kvm_tracker *k = kvm_of(t);
	struct kvm_enable_cap manual = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}};
	if (ioctl(k->kvm.vm_fd, KVM_ENABLE_CAP, &manual))
		return gw__error_errno(error, errno, "cannot have the dirty log cleared by hand: expected Linux 5.2 or later");
	return start_slots(t, error);
}

/* --- The ring ------------------------------------------------------------------------------------------------------ */

static void note(struct kvm_tracker *k, uint32_t slot, uint64_t page)
{
	struct gw__tracker *t = &k->head;
	for (uint32_t i = 0; i < t->blocks; i++)
		for (uint32_t j = 0; j < t->block[i].slots; j++) {
			const struct gw__tracked_slot *s = &t->block[i].slot[j];
			if (s->slot != slot || page >= s->bytes / KVM_PAGE_BYTES)
				continue;
			uint64_t bit = (s->offset + page * KVM_PAGE_BYTES) / t->page_bytes;
			k->pending[i][bit / BITS] |= UINT64_C(1) << bit % BITS;
			return;
		}
}

/* The flags say who owns an entry: KVM fills it, we take it and give it back, a reset arms its page again. */
static int harvest(struct kvm_tracker *k)
{
	uint64_t taken = 0;
	for (uint32_t i = 0; i < k->rings; i++)
		for (;;) {
			struct kvm_dirty_gfn *e = &k->ring[i].entry[k->ring[i].next % k->ring_entries];
			if (!(__atomic_load_n(&e->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
				break;
			note(k, e->slot, e->offset);
			__atomic_store_n(&e->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
			k->ring[i].next++;
			taken++;
		}
	return taken && ioctl(k->kvm.vm_fd, KVM_RESET_DIRTY_RINGS, 0) < 0 ? -errno : 0;
}

int gw__tracker_ring_full(struct gw__tracker *t)
{
	struct kvm_tracker *k = kvm_of(t);
	pthread_mutex_lock(&k->lock);
	int r = harvest(k);
	pthread_mutex_unlock(&k->lock);
	return r;
}

/* A ring is harvested and armed in any case: what a peek saw waits here until it is taken. */
static int ring_take(struct gw__tracker *t, uint32_t block, uint64_t *bitmap, bool rearm, struct gw__error *error)
{
	struct kvm_tracker *k = kvm_of(t);
	uint64_t words = (t->block[block].bytes / t->page_bytes + BITS - 1) / BITS;
	pthread_mutex_lock(&k->lock);
	int r = harvest(k);
	for (uint64_t i = 0; i < words; i++) {
		bitmap[i] |= k->pending[block][i];
		if (rearm)
			k->pending[block][i] = 0;
	}
	pthread_mutex_unlock(&k->lock);
	return r ? gw__error_errno(error, -r, "cannot reset the dirty rings") : 0;
}

static int ring_start(struct gw__tracker *t, struct gw__error *error)
{
	struct kvm_tracker *k = kvm_of(t);
	for (uint32_t i = 0; i < t->blocks; i++)
		memset(k->pending[i], 0, (t->block[i].bytes / t->page_bytes + BITS) / BITS * 8);
	return start_slots(t, error);
}

/* The mapping of a ring that is not there, or smaller, is refused only by a fault: the kernel is asked to read its ends. */
static bool is_there(const struct gw__tracker_kvm *kvm, const struct kvm_dirty_gfn *ring)
{
	struct kvm_dirty_gfn first, last;
	struct iovec to[2] = {{&first, sizeof first}, {&last, sizeof last}};
	struct iovec from[2] = {{(void *)(uintptr_t)ring, sizeof first},
		{(void *)(uintptr_t)(ring + kvm->ring_bytes / sizeof last - 1), sizeof last}};
	return process_vm_readv(getpid(), to, 2, from, 2, 0) == (ssize_t)(sizeof first + sizeof last);
}

static int map_rings(struct kvm_tracker *k, struct gw__error *error)
{
	if (k->kvm.ring_bytes < sizeof(struct kvm_dirty_gfn))
		return gw__error_set(error, -EINVAL, "a dirty ring of %u bytes", k->kvm.ring_bytes);
	k->ring = calloc(k->kvm.vcpus + 1, sizeof *k->ring);
	if (!k->ring)
		return gw__error_set(error, -ENOMEM, "no memory for %u dirty rings", k->kvm.vcpus);
	k->ring_entries = k->kvm.ring_bytes / (uint32_t)sizeof(struct kvm_dirty_gfn);
	for (uint32_t i = 0; i < k->kvm.vcpus; i++) {
		void *p = mmap(NULL, k->kvm.ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, k->kvm.vcpu_fd[i],
			RING_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
		if (p != MAP_FAILED) {
			k->ring[i].entry = p;
			k->rings++;
		}
		if (p == MAP_FAILED || !is_there(&k->kvm, p))
			return gw__error_set(error, -EINVAL,
				"vCPU %u has no dirty ring of %u bytes: expected KVM_CAP_DIRTY_LOG_RING to be "
				"enabled before vCPUs were made",
				i, k->kvm.ring_bytes);
	}
	return 0;
}

/* --- Both ---------------------------------------------------------------------------------------------------------- */

static void release(struct gw__tracker *t)
{
	struct kvm_tracker *k = kvm_of(t);
	for (uint32_t i = 0; i < k->rings; i++)
		munmap(k->ring[i].entry, k->kvm.ring_bytes);
	for (uint32_t i = 0; k->pending && i < t->blocks; i++)
		free(k->pending[i]);
	free(k->pending);
	free(k->ring);
	free(k->log);
	pthread_mutex_destroy(&k->lock);
}

static const struct gw__tracker_kind KVM_LOG = {"kvm-log", log_start, log_take, stop, release};
static const struct gw__tracker_kind KVM_RING = {"kvm-ring", ring_start, ring_take, stop, release};

/* Do the slots cover each block, in order? KVM itself does not mind, and would not see the rest. */
static int check_slots(const struct gw__tracker *t, struct gw__error *error)
{
	for (uint32_t i = 0; i < t->blocks; i++) {
		uint64_t covered = 0;
		for (uint32_t j = 0; j < t->block[i].slots; j++) {
			if (t->block[i].slot[j].offset != covered)
				break;
			covered += t->block[i].slot[j].bytes;
		}
		if (covered != t->block[i].bytes)
			return gw__error_set(error, -EINVAL, "the memory slots of block %u cover its first %llu of %llu bytes", i,
				(unsigned long long)covered, (unsigned long long)t->block[i].bytes);
	}
	return 0;
}

static int get_memory(struct kvm_tracker *k, struct gw__error *error)
{
	uint64_t words = 1;
	const struct gw__tracker *t = &k->head;
	for (uint32_t i = 0; i < t->blocks; i++)
		for (uint32_t j = 0; j < t->block[i].slots; j++)
			if (words_of(t->block[i].slot[j].bytes) > words)
				words = words_of(t->block[i].slot[j].bytes);
	k->log = calloc(words, 8);
	k->pending = calloc(t->blocks + 1, sizeof *k->pending);
	bool missing = !k->log || !k->pending;
	for (uint32_t i = 0; !missing && t->kind == &KVM_RING && i < t->blocks; i++) {
		k->pending[i] = calloc((t->block[i].bytes / t->page_bytes + BITS) / BITS, 8);
		missing = !k->pending[i];
	}
	return missing ? gw__error_set(error, -ENOMEM, "no memory for a dirty log") : 0;
}

static int new_tracker(struct gw__tracker **t, const struct gw__tracker_kind *kind, const struct gw__tracked *blocks, uint32_t n,
	uint64_t page_bytes, const struct gw__tracker_kvm *kvm, struct gw__error *error)
{
	*t = NULL;
	struct kvm_tracker *k = gw__tracker_alloc(sizeof *k, kind, blocks, n, page_bytes, error);
	if (!k)
		return -ENOMEM;
	k->kvm = *kvm;
	pthread_mutex_init(&k->lock, NULL);
	int r = check_slots(&k->head, error);
	if (!r)
		r = get_memory(k, error);
	if (!r && kind == &KVM_RING)
		r = map_rings(k, error);
	if (r) {
		gw__tracker_free(&k->head);
		return r;
	}
	*t = &k->head;
	return 0;
}

int gw__tracker_new_kvm_log(struct gw__tracker **t, const struct gw__tracked *blocks, uint32_t n, uint64_t page_bytes,
	const struct gw__tracker_kvm *kvm, struct gw__error *error)
{
	return new_tracker(t, &KVM_LOG, blocks, n, page_bytes, kvm, error);
}

int gw__tracker_new_kvm_ring(struct gw__tracker **t, const struct gw__tracked *blocks, uint32_t n, uint64_t page_bytes,
	const struct gw__tracker_kvm *kvm, struct gw__error *error)
{
	return new_tracker(t, &KVM_RING, blocks, n, page_bytes, kvm, error);
}
