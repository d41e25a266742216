/* SPDX-License-Identifier: MIT */
/*
 * The machine: memory, interrupt controllers, timer, one vCPU.
 *
 * The thread of the vCPU does KVM_RUN only. All other calls on the vCPU come from the main thread while the vCPU is paused. Otherwise KVM would let them
 * wait for the end of KVM_RUN.
 */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int vm_call(int fd, unsigned long request, const char *name, void *argument)
{
	if (ioctl(fd, request, argument) >= 0)
		return 0;
	int error = errno;
	fprintf(stderr, "%s: %s\n", name, strerror(error));
	return -error;
}

/* --- The thread of the vCPU --- */

static void ignore(int number) { (void)number; } /* the signal only ends KVM_RUN, with EINTR */

/* False: this vCPU does not go on. */
static bool handle_exit(struct vm *vm)
{
	if (vm->run->exit_reason == KVM_EXIT_DIRTY_RING_FULL)
		return !dirty_ring_full(vm);
	fprintf(stderr, "the vCPU stopped: exit reason %u", vm->run->exit_reason);
	if (vm->run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		fprintf(stderr, ", suberror %u", vm->run->internal.suberror);
	fprintf(stderr, "\n");
	return false;
}

/*
 * The vCPU may be stopped only after EINTR. After an exit for a device (I/O, MMIO) the next KVM_RUN completes the instruction. Registers that were read before
 * would be in the middle of it. With `immediate_exit` this KVM_RUN does nothing else.
 */
static void *run_vcpu(void *argument)
{
	struct vm *vm = (struct vm *)argument;
	bool complete = true;
	pthread_mutex_lock(&vm->lock);
	while (!vm->quits) {
		if (vm->paused && complete) {
			vm->stopped = true;
			pthread_cond_broadcast(&vm->changed);
			pthread_cond_wait(&vm->changed, &vm->lock);
			continue;
		}
		vm->stopped = false;
		pthread_mutex_unlock(&vm->lock);
		int error = ioctl(vm->vcpu, KVM_RUN, 0) ? errno : 0;
		bool goes_on = error ? error == EINTR : handle_exit(vm);
		complete = error == EINTR;
		pthread_mutex_lock(&vm->lock);
		if (!goes_on) {
			if (error)
				fprintf(stderr, "KVM_RUN: %s\n", strerror(error));
			vm->failed = vm->stopped = true;
			pthread_cond_broadcast(&vm->changed);
			break;
		}
	}
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}

static int start_thread(struct vm *vm)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_handler = ignore;
	sigaction(SIGUSR1, &action, NULL);
	vm->paused = true;
	int r = -pthread_create(&vm->thread, NULL, run_vcpu, vm);
	vm->started = !r;
	return r;
}

/* A signal alone could come just before KVM_RUN, and be lost. `immediate_exit` alone would not end a KVM_RUN that has begun. So both are needed. */
int vm_pause(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->paused = true;
	__atomic_store_n(&vm->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (!vm->stopped)
		pthread_kill(vm->thread, SIGUSR1);
	while (!vm->stopped)
		pthread_cond_wait(&vm->changed, &vm->lock);
	bool failed = vm->failed;
	pthread_mutex_unlock(&vm->lock);
	return failed ? -EIO : 0;
}

int vm_run(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	bool failed = vm->failed;
	if (!failed) {
		vm->paused = vm->stopped = false;
		__atomic_store_n(&vm->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		pthread_cond_broadcast(&vm->changed);
	}
	pthread_mutex_unlock(&vm->lock);
	return failed ? -EIO : 0;
}

/* --- Made and ended --- */

/* Other calls that this example uses are older than the last two. */
static int check_kvm(const struct vm *vm)
{
	static const struct {
		int cap;
		const char *name;
	} NEEDED[] = {{KVM_CAP_IRQCHIP, "irqchip"}, {KVM_CAP_PIT_STATE2, "PIT"}, {KVM_CAP_XSAVE, "XSAVE"}, {KVM_CAP_XCRS, "XCRS"},
		{KVM_CAP_DEBUGREGS, "debug registers"}, {KVM_CAP_ADJUST_CLOCK, "clock"}, {KVM_CAP_GET_TSC_KHZ, "TSC frequency"},
		{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"}, {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "dirty log that is cleared by hand"}};
	for (size_t i = 0; i < sizeof NEEDED / sizeof *NEEDED; i++)
		if (ioctl(vm->kvm, KVM_CHECK_EXTENSION, NEEDED[i].cap) <= 0) {
			fprintf(stderr, "this KVM has no %s\n", NEEDED[i].name);
			return -ENOTSUP;
		}
	return 0;
}

static int open_kvm(struct vm *vm)
{
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0) {
		fprintf(stderr, "no KVM here: /dev/kvm: %s\n", strerror(errno));
		return -ENOTSUP;
	}
	int r = check_kvm(vm);
	if (r)
		return r;
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0) {
		fprintf(stderr, "KVM makes no VM here: %s\n", strerror(errno));
		return -ENOTSUP;
	}
	return 0;
}

static int add_board(struct vm *vm)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000)) /* three pages below 4 GiB where no memory is; processors of Intel need them */
		return -errno;
	int r = VM_CALL(vm->fd, KVM_CREATE_IRQCHIP, NULL); /* before the vCPU, which gets its LAPIC by it */
	return r ? r : VM_CALL(vm->fd, KVM_CREATE_PIT2, &pit);
}

static int add_memory(struct vm *vm)
{
	vm->ram = (uint8_t *)mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->ram == MAP_FAILED) {
		vm->ram = NULL;
		return -ENOMEM;
	}
	return dirty_set_slot(vm, 0);
}

static int add_vcpu(struct vm *vm)
{
	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	int bytes = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (vm->vcpu < 0 || bytes < 0)
		return -errno;
	void *run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (run == MAP_FAILED)
		return -errno;
	vm->run = (struct kvm_run *)run;
	vm->run_bytes = (size_t)bytes;
	vm->run->immediate_exit = 1; /* until vm_run */
	return 0;
}

int vm_new(struct vm *vm, bool ring)
{
	memset(vm, 0, sizeof *vm);
	vm->kvm = vm->fd = vm->vcpu = -1;
	vm->wants_ring = ring;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	int r = open_kvm(vm);
	if (!r)
		r = dirty_prepare(vm);
	if (!r)
		r = add_board(vm);
	if (!r)
		r = add_memory(vm);
	if (!r)
		r = add_vcpu(vm);
	if (!r)
		r = dirty_map_ring(vm);
	if (!r)
		r = start_thread(vm);
	if (r && r != -ENOTSUP)
		fprintf(stderr, "cannot make the machine: %s\n", strerror(-r));
	return r;
}

void vm_free(struct vm *vm)
{
	if (vm->started) {
		vm_pause(vm);
		pthread_mutex_lock(&vm->lock);
		vm->quits = true;
		pthread_cond_broadcast(&vm->changed);
		pthread_mutex_unlock(&vm->lock);
		pthread_join(vm->thread, NULL);
	}
	dirty_unmap_ring(vm);
	int fd[] = {vm->vcpu, vm->fd, vm->kvm};
	for (size_t i = 0; i < 3; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	if (vm->run)
		munmap(vm->run, vm->run_bytes);
	if (vm->ram)
		munmap(vm->ram, RAM_BYTES);
	pthread_cond_destroy(&vm->changed);
	pthread_mutex_destroy(&vm->lock);
}
