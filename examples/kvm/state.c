/* SPDX-License-Identifier: MIT */
/*
 * The state that is not memory. It travels as the structs of the kernel's interface, which do not change. The library does not look into it.
 *
 * In which order it is read and written matters, as some of it acts on other parts. The vCPU comes before the board: an interrupt that the IOAPIC still has to
 * deliver goes to a LAPIC that has its state already. The clock comes last.
 *
 * Not here: nested guests (KVM_GET_NESTED_STATE), PAE without long mode (KVM_GET_SREGS2), AMX (KVM_GET_XSAVE2).
 */
#include "vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define GET(what, field) VM_CALL(vm->vcpu, KVM_GET_##what, &s->field)
#define SET(what, field) VM_CALL(vm->vcpu, KVM_SET_##what, (void *)(uintptr_t)&s->field)

/* --- CPUID --- */

static struct kvm_cpuid2 *new_cpuid(uint32_t n)
{
	struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)calloc(1, sizeof *cpuid + CPUIDS * sizeof *cpuid->entries);
	if (cpuid)
		cpuid->nent = n;
	return cpuid;
}

static int get_cpuid(int fd, unsigned long request, const char *name, struct cpu_state *s)
{
	struct kvm_cpuid2 *cpuid = new_cpuid(CPUIDS);
	int r = cpuid ? vm_call(fd, request, name, cpuid) : -ENOMEM;
	if (!r) {
		s->cpuids = cpuid->nent;
		memcpy(s->cpuid, cpuid->entries, s->cpuids * sizeof *s->cpuid);
	}
	free(cpuid);
	return r;
}

static int set_cpuid(struct vm *vm, const struct cpu_state *s)
{
	struct kvm_cpuid2 *cpuid = new_cpuid(s->cpuids);
	if (!cpuid)
		return -ENOMEM;
	memcpy(cpuid->entries, s->cpuid, s->cpuids * sizeof *s->cpuid);
	int r = VM_CALL(vm->vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
	return r;
}

/* --- MSRs --- */

static int transfer_msr(struct vm *vm, unsigned long request, struct kvm_msr_entry *entry)
{
	struct kvm_msrs *one = (struct kvm_msrs *)calloc(1, sizeof *one + sizeof *one->entries);
	if (!one)
		return -ENOMEM;
	one->nmsrs = 1;
	one->entries[0] = *entry;
	int done = ioctl(vm->vcpu, request, one); /* how many, or -1 */
	*entry = one->entries[0];
	free(one);
	return done == 1 ? 0 : -EIO;
}

/* One call for all of them would be faster, which counts in the pause of a guest with many vCPUs. KVM lists MSRs that this vCPU does not have. */
static int get_msrs(struct vm *vm, struct cpu_state *s)
{
	struct kvm_msr_list *list = (struct kvm_msr_list *)calloc(1, sizeof *list + MSRS * sizeof *list->indices);
	if (!list)
		return -ENOMEM;
	list->nmsrs = MSRS;
	int r = VM_CALL(vm->kvm, KVM_GET_MSR_INDEX_LIST, list);
	for (uint32_t i = 0; !r && i < list->nmsrs; i++) {
		struct kvm_msr_entry entry = {.index = list->indices[i]};
		if (!transfer_msr(vm, KVM_GET_MSRS, &entry))
			s->msr[s->msrs++] = entry;
	}
	free(list);
	return r;
}

/* Some MSRs cannot be written. That is fine if they have the value already. */
static int set_msrs(struct vm *vm, const struct cpu_state *s)
{
	for (uint32_t i = 0; i < s->msrs; i++) {
		struct kvm_msr_entry entry = s->msr[i], here = {.index = entry.index};
		if (!transfer_msr(vm, KVM_SET_MSRS, &entry))
			continue;
		if (transfer_msr(vm, KVM_GET_MSRS, &here) || here.data != s->msr[i].data) {
			fprintf(stderr, "MSR 0x%x cannot be 0x%llx here\n", entry.index, (unsigned long long)s->msr[i].data);
			return -EIO;
		}
	}
	return 0;
}

/* --- The vCPU --- */

/* MP_STATE comes first: reading it can complete an INIT or SIPI, which changes registers. The order of the others does not matter. */
int cpu_get(struct vm *vm, struct cpu_state *s)
{
	memset(s, 0, sizeof *s); /* padding leaves this process, too */
	int khz = ioctl(vm->vcpu, KVM_GET_TSC_KHZ, 0);
	s->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	if (GET(MP_STATE, mp) || GET(VCPU_EVENTS, events) || GET(REGS, regs) || GET(SREGS, sregs) || GET(DEBUGREGS, debug) ||
		GET(XCRS, xcrs) || GET(XSAVE, xsave) || GET(LAPIC, lapic))
		return -EIO;
	int r = get_cpuid(vm->vcpu, KVM_GET_CPUID2, "KVM_GET_CPUID2", s);
	return r ? r : get_msrs(vm, s);
}

/* A TSC of another frequency needs a processor that scales it. */
static int set_tsc_khz(struct vm *vm, uint32_t khz)
{
	if (!khz || ioctl(vm->vcpu, KVM_GET_TSC_KHZ, 0) == (int)khz || !ioctl(vm->vcpu, KVM_SET_TSC_KHZ, (unsigned long)khz))
		return 0;
	fprintf(stderr, "the TSC cannot count %u kHz here\n", khz);
	return -EIO;
}

/*
 * In this order:
 *
 *   CPUID         first. KVM decides by it which bits of the others may be set
 *   TSC kHz       before the TSC, which is an MSR
 *   SREGS         before the LAPIC, which is enabled by the APIC base in SREGS
 *   XCRS          before XSAVE, because they say which parts XSAVE has
 *   LAPIC         before MSRs. KVM ignores TSC_DEADLINE while the timer of the LAPIC is not in that mode
 *   VCPU_EVENTS   after REGS, which drop a pending exception
 *   MP_STATE      last
 */
int cpu_set(struct vm *vm, const struct cpu_state *s)
{
	int r = set_cpuid(vm, s);
	if (!r)
		r = set_tsc_khz(vm, s->tsc_khz);
	if (r || SET(SREGS, sregs) || SET(XCRS, xcrs) || SET(XSAVE, xsave) || SET(REGS, regs) || SET(DEBUGREGS, debug) || SET(LAPIC, lapic))
		return r ? r : -EIO;
	r = set_msrs(vm, s);
	return r || SET(VCPU_EVENTS, events) || SET(MP_STATE, mp) ? -EIO : 0;
}

/*
 * CPUID leaves 1, 0xb and 0x1f have the APIC ID of the processor that answered, and this vCPU has APIC ID 0. A VMM whose guests move between different
 * processors also leaves out features here that one of them lacks.
 */
int cpu_new(struct vm *vm, struct cpu_state *s)
{
	memset(s, 0, sizeof *s);
	int r = get_cpuid(vm->kvm, KVM_GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID", s);
	for (uint32_t i = 0; !r && i < s->cpuids; i++) {
		if (s->cpuid[i].function == 1)
			s->cpuid[i].ebx &= 0x00ffffff;
		if (s->cpuid[i].function == 0xb || s->cpuid[i].function == 0x1f)
			s->cpuid[i].edx = 0;
	}
	if (!r)
		r = set_cpuid(vm, s);
	return r ? r : cpu_get(vm, s);
}

/* --- The board --- */

int board_get(struct vm *vm, struct board_state *s)
{
	memset(s, 0, sizeof *s);
	for (uint32_t i = 0; i < 3; i++) {
		s->chip[i].chip_id = i; /* KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE, _IOAPIC */
		if (VM_CALL(vm->fd, KVM_GET_IRQCHIP, &s->chip[i]))
			return -EIO;
	}
	return VM_CALL(vm->fd, KVM_GET_PIT2, &s->pit) || VM_CALL(vm->fd, KVM_GET_CLOCK, &s->clock) ? -EIO : 0;
}

/* The clock goes on from where it was read. With KVM_CLOCK_REALTIME it would go on as if the guest had never been paused. */
int board_set(struct vm *vm, const struct board_state *s)
{
	struct kvm_clock_data clock = {.clock = s->clock.clock};
	struct board_state copy = *s;
	for (uint32_t i = 0; i < 3; i++)
		if (VM_CALL(vm->fd, KVM_SET_IRQCHIP, &copy.chip[i]))
			return -EIO;
	return VM_CALL(vm->fd, KVM_SET_PIT2, &copy.pit) || VM_CALL(vm->fd, KVM_SET_CLOCK, &clock) ? -EIO : 0;
}
