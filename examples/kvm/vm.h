/* SPDX-License-Identifier: MIT */
/*
 * A very small VMM for KVM on x86-64. It shows what a VMM has to do to link libgodwit:
 *
 *   main.c   the guest as the library sees it (hooks, block, devices), and save, restore, send, receive. Read it first
 *   vm.c     the machine (memory, one vCPU in a thread of its own), and how it is paused
 *   dirty.c  the pages that the vCPU wrote, from the dirty log or the dirty ring of KVM
 *   state.c  the state that is not memory (registers, MSRs, interrupt controllers, timer, clock)
 *   guest.c  the program in the guest, and the proof that the guest arrived whole
 *
 * A function that returns int returns 0 or a negative errno, and has printed why.
 */
#ifndef KVM_EXAMPLE_VM_H
#define KVM_EXAMPLE_VM_H

#ifndef __x86_64__
#error "the guest of this example is one of x86-64"
#endif
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS and sigaction(), with -std=c17 */
#endif

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGE = 4096, RAM_PAGES = 2048, RAM_BYTES = RAM_PAGES * PAGE, CPUIDS = 256, MSRS = 512 };

struct vm {
	int kvm, fd, vcpu;
	uint8_t *ram;
	struct kvm_run *run;
	size_t run_bytes;

	/* Of dirty.c. `ring` is NULL with the log. */
	bool wants_ring;
	struct kvm_dirty_gfn *ring;
	uint32_t ring_next;
	uint64_t dirty[RAM_PAGES / 64]; /* log: as KVM reports it. Ring: not taken yet, under `lock` */

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool started;                /* the thread exists */
	bool paused, stopped, quits; /* wanted, reached, and an order to the thread */
	bool failed;                 /* the vCPU cannot go on */
};

/* --- vm.c --- */

int vm_new(struct vm *vm, bool ring); /* -ENOTSUP: KVM is not there, or lacks something. The vCPU does not run yet */
void vm_free(struct vm *vm);          /* also of a machine that vm_new made in part */
int vm_pause(struct vm *vm);          /* -EIO: the vCPU has failed. Else it does not write any more */
int vm_run(struct vm *vm);
int vm_call(int fd, unsigned long request, const char *name, void *argument); /* ioctl(2) */
#define VM_CALL(fd, request, argument) vm_call(fd, request, #request, argument)

/* --- dirty.c: hooks of GW_TRACKER_OWN --- */

int dirty_prepare(struct vm *vm);  /* before there is a vCPU */
int dirty_map_ring(struct vm *vm); /* after */
void dirty_unmap_ring(struct vm *vm);
int dirty_start(void *ctx);
int dirty_take(void *ctx, const char *block, uint64_t first, uint64_t pages, uint64_t *bitmap);
void dirty_stop(void *ctx);
int dirty_ring_full(struct vm *vm); /* from the vCPU's thread, after KVM_EXIT_DIRTY_RING_FULL */
int dirty_set_slot(struct vm *vm, uint32_t flags);

/* --- state.c: of a vCPU that is paused --- */

struct cpu_state {
	uint32_t cpuids, msrs, tsc_khz, reserved;
	struct kvm_mp_state mp;
	struct kvm_vcpu_events events;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debug;
	struct kvm_xcrs xcrs;
	uint32_t xsave[sizeof(struct kvm_xsave) / 4];
	struct kvm_lapic_state lapic;
	struct kvm_cpuid_entry2 cpuid[CPUIDS];
	struct kvm_msr_entry msr[MSRS];
};

struct board_state {
	struct kvm_irqchip chip[3]; /* PIC master, PIC slave, IOAPIC */
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
};

int cpu_get(struct vm *vm, struct cpu_state *s);
int cpu_set(struct vm *vm, const struct cpu_state *s);
int cpu_new(struct vm *vm, struct cpu_state *s); /* as after a reset, with all that this host's KVM can offer */
int board_get(struct vm *vm, struct board_state *s);
int board_set(struct vm *vm, const struct board_state *s);

/* --- guest.c --- */

int guest_create(struct vm *vm);               /* in empty memory */
uint64_t guest_counter(const struct vm *vm);   /* also while it runs */
int guest_count_on(struct vm *vm, uint64_t n); /* waits until it has counted on by `n` */
int guest_check(struct vm *vm);                /* while it is paused. -EBADMSG: memory or state is wrong */

#endif
