/* SPDX-License-Identifier: MIT */
/*
 * The program in the guest, and the proof that the guest arrived whole.
 *
 * The program counts. For each number n it writes n and ~n into page n mod COUNTED of the counted pages. It adds n to a sum in a register, and writes n into
 * the counter's page last. So all of memory follows from the counter. A page that was lost on the way has an older number. The program uses integers
 * only, because a KVM that emulates instructions may not have any others.
 *
 *   0x1000   three page tables, which map the memory to itself by pages of 2 MiB
 *   0x4000   the program
 *   0x5000   the counter
 *   4 MiB    the counted pages, to the end
 *
 * The program uses few registers. The others, and the state of other parts, get marks. They must be there after arrival, too.
 */
#include "vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TABLES = 0x1000, PROGRAM = 0x4000, COUNTER = 0x5000, COUNTED_FROM = RAM_BYTES / 2, COUNTED = RAM_PAGES / 2, LAST = PAGE - 8 };
enum { CR4_PAE = 0x20, EFER_LONG = 0x500, TABLE = 0x63, PAGE_2M = 0xe3 };
static const uint32_t CR0 = 0x80000031, KERNEL_GS_BASE = 0xc0000102;

/* rbx has the number, rsi the address of the counted pages, rbp COUNTED - 1, rdi the address of the counter, r15 the sum. */
extern const uint8_t guest_program[], guest_program_end[];
__asm__(".pushsection .rodata\n"
	".globl guest_program, guest_program_end\n"
	"guest_program:\n"
	"	inc %rbx\n"
	"	mov %rbx, %rax\n"
	"	and %rbp, %rax\n"
	"	shl $12, %rax\n"
	"	add %rsi, %rax\n"
	"	mov %rbx, (%rax)\n"
	"	mov %rbx, %rdx\n"
	"	not %rdx\n"
	"	mov %rdx, 4088(%rax)\n"
	"	add %rbx, %r15\n"
	"	mov %rbx, (%rdi)\n"
	"	jmp guest_program\n"
	"guest_program_end:\n"
	".popsection\n");

static void put(uint8_t *ram, uint64_t at, uint64_t value) { memcpy(ram + at, &value, sizeof value); }

static uint64_t get(const uint8_t *ram, uint64_t at)
{
	uint64_t value;
	memcpy(&value, ram + at, sizeof value);
	return value;
}

/* --- Memory --- */

/* Of a guest that has counted to `n`. The tables have "accessed" and "dirty" set already, so the processor does not write into them. */
static void build(uint8_t *ram, uint64_t n)
{
	put(ram, TABLES, (TABLES + PAGE) | TABLE);
	put(ram, TABLES + PAGE, (TABLES + 2 * PAGE) | TABLE);
	for (uint64_t at = 0, entry = TABLES + 2 * PAGE; at < RAM_BYTES; at += 2 << 20, entry += 8)
		put(ram, entry, at | PAGE_2M);
	memcpy(ram + PROGRAM, guest_program, (size_t)(guest_program_end - guest_program));
	put(ram, COUNTER, n);
	for (uint64_t i = n < COUNTED ? 1 : n - COUNTED + 1; i <= n; i++) {
		put(ram, COUNTED_FROM + i % COUNTED * PAGE, i);
		put(ram, COUNTED_FROM + i % COUNTED * PAGE + LAST, ~i);
	}
}

/* The guest was stopped between two instructions, so the next number may have been written in part. */
static void allow(uint8_t *expected, const uint8_t *ram, uint64_t at, uint64_t value)
{
	if (get(ram, at) == value)
		put(expected, at, value);
}

static int check_memory(const struct vm *vm, uint64_t n)
{
	unsigned wrong = 0;
	uint8_t *expected = (uint8_t *)calloc(RAM_PAGES, PAGE);
	if (!expected)
		return -ENOMEM;
	build(expected, n);
	allow(expected, vm->ram, COUNTED_FROM + (n + 1) % COUNTED * PAGE, n + 1);
	allow(expected, vm->ram, COUNTED_FROM + (n + 1) % COUNTED * PAGE + LAST, ~(n + 1));
	for (uint64_t at = 0; at < RAM_BYTES; at += PAGE)
		if (memcmp(vm->ram + at, expected + at, PAGE) && wrong++ < 3)
			fprintf(stderr, "page 0x%llx is wrong: it begins with %llu, expected %llu\n", (unsigned long long)at,
				(unsigned long long)get(vm->ram, at), (unsigned long long)get(expected, at));
	free(expected);
	if (wrong)
		fprintf(stderr, "%u of %u pages are wrong\n", wrong, (unsigned)RAM_PAGES);
	return wrong ? -EBADMSG : 0;
}

/* --- State --- */

enum { XMM0 = 160 / 4, XSTATE_BV = 512 / 4, X87_AND_SSE = 3, LAPIC_TPR = 0x80, MASKED_IRQ = 0x10035 };
static const uint64_t MARK = 0x600d317;

static void set_marks(struct cpu_state *cpu, struct board_state *board)
{
	cpu->regs.r12 = MARK;
	cpu->xsave[XMM0] = (uint32_t)MARK;
	cpu->xsave[XSTATE_BV] |= X87_AND_SSE;
	cpu->debug.db[0] = MARK;
	cpu->lapic.regs[LAPIC_TPR] = 0x20;
	cpu->msr[0] = (struct kvm_msr_entry){.index = KERNEL_GS_BASE, .data = MARK};
	cpu->msrs = 1; /* the others keep what a reset gave them */
	board->chip[KVM_IRQCHIP_PIC_MASTER].chip.pic.imr = 0xfb;
	board->chip[KVM_IRQCHIP_IOAPIC].chip.ioapic.redirtbl[5].bits = MASKED_IRQ;
	board->pit.channels[2].count = 0x1234;
}

static int check_marks(const struct cpu_state *cpu, const struct board_state *board)
{
	uint64_t msr = 0;
	for (uint32_t i = 0; i < cpu->msrs; i++)
		if (cpu->msr[i].index == KERNEL_GS_BASE)
			msr = cpu->msr[i].data;
	const struct {
		const char *name;
		bool right;
	} MARKS[] = {{"a register", cpu->regs.r12 == MARK}, {"the FPU", cpu->xsave[XMM0] == (uint32_t)MARK},
		{"a debug register", cpu->debug.db[0] == MARK}, {"the LAPIC", cpu->lapic.regs[LAPIC_TPR] == 0x20}, {"an MSR", msr == MARK},
		{"the PIC", board->chip[KVM_IRQCHIP_PIC_MASTER].chip.pic.imr == 0xfb},
		{"the IOAPIC", board->chip[KVM_IRQCHIP_IOAPIC].chip.ioapic.redirtbl[5].bits == MASKED_IRQ},
		{"the PIT", board->pit.channels[2].count == 0x1234}};
	int r = 0;
	for (size_t i = 0; i < sizeof MARKS / sizeof *MARKS; i++)
		if (!MARKS[i].right) {
			fprintf(stderr, "%s has lost its mark\n", MARKS[i].name);
			r = -EBADMSG;
		}
	return r;
}

/* The registers have counted to `n`, or are one ahead. */
static int check_registers(const struct kvm_regs *regs, uint64_t n)
{
	uint64_t sum = n % 2 ? (n + 1) / 2 * n : n / 2 * (n + 1); /* as the sum in the register, it may wrap around */
	if ((regs->rbx == n || regs->rbx == n + 1) && (regs->r15 == sum || regs->r15 == sum + n + 1))
		return 0;
	fprintf(stderr, "memory has counted to %llu, registers to %llu with a sum of %llu\n", (unsigned long long)n,
		(unsigned long long)regs->rbx, (unsigned long long)regs->r15);
	return -EBADMSG;
}

/* --- The guest --- */

static void enter_long_mode(struct kvm_sregs *s)
{
	const struct kvm_segment code = {.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1},
				 data = {.limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
	s->cs = code;
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->cr0 = CR0;
	s->cr3 = TABLES;
	s->cr4 = CR4_PAE;
	s->efer = EFER_LONG;
}

int guest_create(struct vm *vm)
{
	struct cpu_state cpu;
	struct board_state board;
	build(vm->ram, 0);
	if (cpu_new(vm, &cpu) || board_get(vm, &board))
		return -EIO;
	enter_long_mode(&cpu.sregs);
	memset(&cpu.regs, 0, sizeof cpu.regs);
	cpu.regs.rip = PROGRAM;
	cpu.regs.rflags = 2;
	cpu.regs.rsi = COUNTED_FROM;
	cpu.regs.rbp = COUNTED - 1;
	cpu.regs.rdi = COUNTER;
	set_marks(&cpu, &board);
	int r = cpu_set(vm, &cpu);
	return r ? r : board_set(vm, &board);
}

uint64_t guest_counter(const struct vm *vm)
{
	return __atomic_load_n((const uint64_t *)(const void *)(vm->ram + COUNTER), __ATOMIC_ACQUIRE);
}

int guest_count_on(struct vm *vm, uint64_t n)
{
	const struct timespec MOMENT = {.tv_nsec = 1000000};
	uint64_t until = guest_counter(vm) + n;
	while (guest_counter(vm) < until) {
		pthread_mutex_lock(&vm->lock);
		bool failed = vm->failed;
		pthread_mutex_unlock(&vm->lock);
		if (failed)
			return -EIO;
		nanosleep(&MOMENT, NULL);
	}
	return 0;
}

int guest_check(struct vm *vm)
{
	struct cpu_state cpu;
	struct board_state board;
	uint64_t n = guest_counter(vm);
	if (cpu_get(vm, &cpu) || board_get(vm, &board))
		return -EIO;
	int memory = check_memory(vm, n), registers = check_registers(&cpu.regs, n), marks = check_marks(&cpu, &board);
	return memory ? memory : registers ? registers : marks;
}
