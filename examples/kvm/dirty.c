/* SPDX-License-Identifier: MIT */
/*
 * Which pages the vCPU wrote: the hooks of GW_TRACKER_OWN.
 *
 * The rule: dirty_take re-arms a page before it returns, so the library reads the page after that. In the other order a write between the two would be lost:
 *
 *   right   re-arm     write        read              the page is reported again, and sent again
 *   wrong   read       write        re-arm            nothing reports the write
 *
 *   Log    KVM has a bit for each page of a slot. KVM_GET_DIRTY_LOG only reads the bits here (manual protection). KVM_CLEAR_DIRTY_LOG clears and re-arms the pages
 *          whose bits it is given. A page that is first written between both keeps its bit. A clear holds a lock that vCPUs need, so it is done in chunks.
 *   Ring   KVM appends each page that was written to a ring of the vCPU. This process takes the entries in order and marks them for a reset. Then
 *          KVM_RESET_DIRTY_RINGS re-arms their pages. The ring costs time for written pages only, the log for all pages. When the ring is full, the vCPU exits,
 *          and its thread empties the ring. A processor may hold pages in a buffer of its own until the vCPU leaves the guest. They are reported and
 *          re-armed later. None is lost, because the last dirty_take of a call comes after `pause`.
 *
 * Both see writes of the vCPU, and of KVM for the vCPU. They do not see writes of this process. If it had devices, they would report theirs by gw_guest_dirty.
 */
#include "vm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* The guest fills a ring of this size now and then. On Intel's processors KVM keeps 576 of these entries in reserve. */
enum { SLOT = 0, CLEAR_PAGES = 512, RING_ENTRIES = 1024, RING_BYTES = RING_ENTRIES * sizeof(struct kvm_dirty_gfn) };

/* With the same address and size only the flags change, which KVM allows while the vCPU runs. */
int dirty_set_slot(struct vm *vm, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {.slot = SLOT,
		.flags = flags,
		.memory_size = RAM_BYTES,
		.userspace_addr = (uintptr_t)vm->ram};
	return VM_CALL(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/* --- The log --- */

static int take_log(struct vm *vm, uint64_t first, uint64_t pages)
{
	struct kvm_dirty_log log = {.slot = SLOT, .dirty_bitmap = vm->dirty};
	int r = VM_CALL(vm->fd, KVM_GET_DIRTY_LOG, &log); /* of the whole slot */
	for (uint64_t at = first; !r && at < first + pages; at += CLEAR_PAGES) {
		uint64_t left = first + pages - at;
		struct kvm_clear_dirty_log clear = {.slot = SLOT,
			.num_pages = (uint32_t)(left < CLEAR_PAGES ? left : CLEAR_PAGES),
			.first_page = at,
			.dirty_bitmap = vm->dirty + at / 64};
		r = VM_CALL(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear);
	}
	return r;
}

/* --- The ring --- */

/* `flags` says who owns an entry: KVM sets DIRTY, and this process sets RESET. Under the lock. */
static int harvest(struct vm *vm)
{
	uint32_t taken = 0;
	for (;; taken++) {
		struct kvm_dirty_gfn *entry = &vm->ring[vm->ring_next % RING_ENTRIES];
		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		if (entry->slot == SLOT && entry->offset < RAM_PAGES)
			vm->dirty[entry->offset / 64] |= UINT64_C(1) << entry->offset % 64;
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		vm->ring_next++;
	}
	return taken ? VM_CALL(vm->fd, KVM_RESET_DIRTY_RINGS, NULL) : 0;
}

int dirty_ring_full(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	int r = harvest(vm);
	pthread_mutex_unlock(&vm->lock);
	return r;
}

static int enable_ring(struct vm *vm)
{
	static const uint32_t CAPS[] = {KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_DIRTY_LOG_RING}; /* the older one is for x86 only */
	for (size_t i = 0; i < sizeof CAPS / sizeof *CAPS; i++) {
		struct kvm_enable_cap ring = {.cap = CAPS[i], .args = {RING_BYTES}};
		if (ioctl(vm->fd, KVM_CHECK_EXTENSION, CAPS[i]) >= (int)RING_BYTES)
			return VM_CALL(vm->fd, KVM_ENABLE_CAP, &ring);
	}
	fprintf(stderr, "this KVM has no dirty ring\n");
	return -ENOTSUP;
}

int dirty_map_ring(struct vm *vm)
{
	if (!vm->wants_ring)
		return 0;
	void *ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * PAGE);
	if (ring == MAP_FAILED)
		return -errno;
	vm->ring = (struct kvm_dirty_gfn *)ring;
	return 0;
}

void dirty_unmap_ring(struct vm *vm)
{
	if (vm->ring)
		munmap(vm->ring, RING_BYTES);
	vm->ring = NULL;
}

/* --- Both --- */

/* A VM has either a log or rings. */
int dirty_prepare(struct vm *vm)
{
	struct kvm_enable_cap manual = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}};
	return vm->wants_ring ? enable_ring(vm) : VM_CALL(vm->fd, KVM_ENABLE_CAP, &manual);
}

/* Entries that an earlier call left in the ring are of no use: the library sends every page once anyway. */
int dirty_start(void *ctx)
{
	struct vm *vm = (struct vm *)ctx;
	int r = vm->ring ? dirty_ring_full(vm) : 0;
	pthread_mutex_lock(&vm->lock);
	memset(vm->dirty, 0, sizeof vm->dirty);
	pthread_mutex_unlock(&vm->lock);
	return r ? r : dirty_set_slot(vm, KVM_MEM_LOG_DIRTY_PAGES);
}

/* There is only one block, so its name does not matter. The library asks for ranges that KVM_CLEAR_DIRTY_LOG takes. */
int dirty_take(void *ctx, const char *block, uint64_t first, uint64_t pages, uint64_t *bitmap)
{
	struct vm *vm = (struct vm *)ctx;
	(void)block;
	pthread_mutex_lock(&vm->lock);
	int r = vm->ring ? harvest(vm) : take_log(vm, first, pages);
	for (uint64_t i = 0; !r && i < (pages + 63) / 64; i++) {
		bitmap[i] |= vm->dirty[first / 64 + i];
		vm->dirty[first / 64 + i] = 0;
	}
	pthread_mutex_unlock(&vm->lock);
	return r;
}

void dirty_stop(void *ctx) { dirty_set_slot((struct vm *)ctx, 0); }
