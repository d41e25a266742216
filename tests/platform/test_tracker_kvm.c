/* SPDX-License-Identifier: MIT */
/*
 * What KVM's dirty log and dirty rings see, and what they are blind for. The guest is a few instructions of real mode: each run counts up a byte in each
 * of 224 pages, then halts.
 */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/tracker.h"

#if !defined(__x86_64__)
int main(void) { cannot_run("the guest of this test is one of x86"); }
#else
#include <linux/kvm.h>

enum { PAGE = 4096, PAGES = 256, FIRST = 16, WRITTEN = 224, WORDS = PAGES / 64, SPLIT = 32, RING = 4096 * 16 };

/* for (es = 0x1000; es != 0xf000; es += 0x100) es:[0]++; hlt; again */
static const uint8_t PROGRAM[] = {0xb8, 0x00, 0x10, 0x8e, 0xc0, 0x26, 0xfe, 0x06, 0x00, 0x00, 0x05, 0x00, 0x01, 0x3d, 0x00, 0xf0, 0x75,
	0xf1, 0xf4, 0xeb, 0xeb};

struct vm {
	int kvm, vm, vcpu;
	uint8_t *ram;
	struct kvm_run *run;
	size_t run_bytes;
	bool ring;
	struct gw__tracked_slot slot[2];
	struct gw__tracker *t;
	int exits_full; /* of a full ring */
};

/* Two slots, the second with clean pages behind the written ones: what is counted in one must not land in the other. */
static void add_slots(struct vm *v)
{
	v->slot[0] = (struct gw__tracked_slot){.slot = 0, .address = 0, .offset = 0, .bytes = SPLIT * PAGE};
	v->slot[1] = (struct gw__tracked_slot){.slot = 3, .address = SPLIT * PAGE, .offset = SPLIT * PAGE, .bytes = (PAGES - SPLIT) * PAGE};
	for (unsigned i = 0; i < 2; i++) {
		struct kvm_userspace_memory_region r = {.slot = v->slot[i].slot,
			.guest_phys_addr = v->slot[i].address,
			.memory_size = v->slot[i].bytes,
			.userspace_addr = (uintptr_t)v->ram + v->slot[i].offset};
		assert_int_equal(ioctl(v->vm, KVM_SET_USER_MEMORY_REGION, &r), 0);
	}
}

static void add_vcpu(struct vm *v)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2, .rsp = 0x800};
	v->vcpu = ioctl(v->vm, KVM_CREATE_VCPU, 0);
	assert_true(v->vcpu >= 0);
	v->run_bytes = (size_t)ioctl(v->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	v->run = mmap(NULL, v->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->vcpu, 0);
	assert_true(v->run != MAP_FAILED);
	assert_int_equal(ioctl(v->vcpu, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = sregs.cs.selector = 0;
	assert_int_equal(ioctl(v->vcpu, KVM_SET_SREGS, &sregs), 0);
	assert_int_equal(ioctl(v->vcpu, KVM_SET_REGS, &regs), 0);
}

static bool enable_ring(const struct vm *v, uint32_t bytes)
{
	int most = ioctl(v->vm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING);
	struct kvm_enable_cap cap = {.cap = KVM_CAP_DIRTY_LOG_RING, .args = {bytes}};
	return most >= (int)bytes && ioctl(v->vm, KVM_ENABLE_CAP, &cap) == 0;
}

static struct gw__tracked block_of(const struct vm *v)
{
	return (struct gw__tracked){.host = v->ram, .bytes = PAGES * PAGE, .slots = 2, .slot = v->slot};
}

/* False: no ring here. */
static bool start(struct vm *v, bool ring, uint32_t ring_bytes)
{
	struct gw__error error = {0};
	*v = (struct vm){.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), .ring = ring};
	v->vm = ioctl(v->kvm, KVM_CREATE_VM, 0);
	v->ram = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(v->ram + 0x1000, PROGRAM, sizeof PROGRAM);
	if (ring && !enable_ring(v, ring_bytes)) {
		close(v->vm);
		close(v->kvm);
		munmap(v->ram, PAGES * PAGE);
		return false;
	}
	add_slots(v);
	add_vcpu(v);
	struct gw__tracked block = block_of(v);
	struct gw__tracker_kvm kvm = {.vm_fd = v->vm, .vcpu_fd = &v->vcpu, .vcpus = 1, .ring_bytes = ring_bytes};
	int r = ring ? gw__tracker_new_kvm_ring(&v->t, &block, 1, PAGE, &kvm, &error)
		     : gw__tracker_new_kvm_log(&v->t, &block, 1, PAGE, &kvm, &error);
	if (r || gw__tracker_start(v->t, &error))
		fail_msg("%s", error.text);
	return true;
}

static void end(struct vm *v)
{
	gw__tracker_free(v->t);
	munmap(v->run, v->run_bytes);
	close(v->vcpu);
	close(v->vm);
	close(v->kvm);
	munmap(v->ram, PAGES * PAGE);
}

static void run_once(struct vm *v)
{
	for (;;) {
		int r = ioctl(v->vcpu, KVM_RUN, 0);
		if (r < 0 && errno == EINTR)
			continue;
		assert_int_equal(r, 0);
		if (v->run->exit_reason != KVM_EXIT_DIRTY_RING_FULL)
			break;
		v->exits_full++;
		assert_int_equal(gw__tracker_ring_full(v->t), 0);
	}
	assert_int_equal(v->run->exit_reason, KVM_EXIT_HLT);
}

static uint64_t bits[WORDS];

static uint64_t look(struct vm *v, bool rearm)
{
	struct gw__error error = {0};
	memset(bits, 0, sizeof bits);
	if (rearm ? gw__tracker_take(v->t, 0, bits, &error) : gw__tracker_peek(v->t, 0, bits, &error))
		fail_msg("%s", error.text);
	return count_bits(bits, WORDS);
}

static void assert_the_written(void)
{
	for (unsigned page = 0; page < PAGES; page++)
		assert_int_equal(bits[page / 64] >> page % 64 & 1, page >= FIRST && page < FIRST + WRITTEN);
}

/* --- Both ---------------------------------------------------------------------------------------------------------- */

static void what_a_vcpu_writes_is_seen_once_and_again_when_it_is_written_again(bool ring)
{
	struct vm v;
	if (!start(&v, ring, RING))
		cannot_test("this KVM has no dirty ring");
	for (unsigned round = 0; round < 3; round++) {
		run_once(&v);
		assert_int_equal(v.ram[FIRST * PAGE], round + 1);
		assert_int_equal(look(&v, false), WRITTEN);
		assert_int_equal(look(&v, false), WRITTEN); /* a peek takes nothing */
		assert_int_equal(look(&v, true), WRITTEN);
		assert_the_written();
		assert_int_equal(look(&v, true), 0);
	}
	gw__tracker_stop(v.t);
	run_once(&v); /* after a stop it runs on */
	end(&v);
}

static void the_log_sees_vcpus(void **state) { (void)state, what_a_vcpu_writes_is_seen_once_and_again_when_it_is_written_again(false); }
static void the_ring_sees_vcpus(void **state) { (void)state, what_a_vcpu_writes_is_seen_once_and_again_when_it_is_written_again(true); }

static void what_this_process_writes_is_not_seen(void **state)
{
	(void)state;
	for (int ring = 0; ring < 2; ring++) {
		struct vm v;
		if (!start(&v, ring, RING))
			break;
		for (unsigned page = FIRST; page < FIRST + WRITTEN; page++)
			v.ram[page * PAGE + 8] = 1;
		assert_int_equal(look(&v, true), 0);
		end(&v);
	}
}

/* The guest runs between look and read, and not again: only who re-armed first has all of it. */
static void the_order_matters(void **state)
{
	(void)state;
	for (int ring = 0; ring < 2; ring++)
		for (int right = 0; right < 2; right++) {
			static uint8_t copy[PAGES * PAGE];
			struct vm v;
			uint64_t n = 0;
			if (!start(&v, ring, RING))
				break;
			run_once(&v);
			look(&v, right);
			for (unsigned page = 0; page < PAGES; page++) {
				memcpy(copy + page * PAGE, v.ram + page * PAGE, PAGE);
				if (page == FIRST + WRITTEN / 2)
					run_once(&v);
			}
			uint64_t ignored = right ? 0 : look(&v, true); /* armed as if it had been read */
			assert_int_equal(ignored, right ? 0 : WRITTEN);
			look(&v, true);
			for (unsigned page = 0; page < PAGES; page++)
				if (bits[page / 64] >> page % 64 & 1)
					memcpy(copy + page * PAGE, v.ram + page * PAGE, PAGE);
			for (unsigned page = 0; page < PAGES; page++)
				n += memcmp(copy + page * PAGE, v.ram + page * PAGE, PAGE) != 0;
			assert_int_equal(n, right ? 0 : WRITTEN / 2 + 1);
			end(&v);
		}
}

static void slots_that_leave_a_hole_are_refused(void **state)
{
	(void)state;
	struct vm v;
	struct gw__tracker *t;
	struct gw__error error = {0};
	start(&v, false, 0);
	struct gw__tracker_kvm kvm = {.vm_fd = v.vm};
	struct gw__tracked block = block_of(&v);
	block.slots = 1;
	assert_int_equal(gw__tracker_new_kvm_log(&t, &block, 1, PAGE, &kvm, &error), -EINVAL);
	assert_non_null(strstr(error.text, "cover"));
	end(&v);
}

/* --- The log ------------------------------------------------------------------------------------------------------- */

/* With manual protection a look clears nothing: what the tracker's peek leans on. */
static void a_second_tracker_of_the_log_finds_what_the_first_has_not_taken(void **state)
{
	(void)state;
	struct vm v;
	start(&v, false, 0);
	run_once(&v);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t raw[WORDS] = {0};
		struct kvm_dirty_log log = {.slot = 3, .dirty_bitmap = raw};
		assert_int_equal(ioctl(v.vm, KVM_GET_DIRTY_LOG, &log), 0);
		assert_int_equal(count_bits(raw, WORDS), FIRST + WRITTEN - SPLIT);
	}
	assert_int_equal(look(&v, true), WRITTEN);
	end(&v);
}

/* --- The ring ------------------------------------------------------------------------------------------------------ */

static void a_log_of_a_vm_with_rings_is_refused(void **state)
{
	(void)state;
	struct vm v;
	struct gw__tracker *t;
	struct gw__error error = {0};
	if (!start(&v, true, RING))
		cannot_test("this KVM has no dirty ring");
	struct gw__tracked block = block_of(&v);
	assert_int_equal(gw__tracker_new_kvm_log(&t, &block, 1, PAGE, &(struct gw__tracker_kvm){.vm_fd = v.vm}, &error), 0);
	int r = gw__tracker_start(t, &error);
	if (r == 0)
		r = gw__tracker_take(t, 0, bits, &error);
	assert_int_equal(r, -ENXIO);
	gw__tracker_free(t);
	end(&v);
}

/* The smallest ring has room for fewer pages than the guest writes: its thread makes room, and nothing is lost. */
static void a_full_ring_is_emptied_by_the_vcpu_s_thread(void **state)
{
	(void)state;
	struct vm v;
	if (!start(&v, true, PAGE))
		cannot_test("this KVM has no dirty ring");
	run_once(&v);
	assert_true(v.exits_full > 0);
	assert_int_equal(look(&v, true), WRITTEN);
	assert_the_written();
	end(&v);
}

static void a_ring_that_was_not_enabled_is_refused(void **state)
{
	(void)state;
	struct vm v;
	struct gw__tracker *t;
	struct gw__error error = {0};
	start(&v, false, 0);
	struct gw__tracked block = block_of(&v);
	struct gw__tracker_kvm kvm = {.vm_fd = v.vm, .vcpu_fd = &v.vcpu, .vcpus = 1, .ring_bytes = RING};
	assert_int_equal(gw__tracker_new_kvm_ring(&t, &block, 1, PAGE, &kvm, &error), -EINVAL);
	assert_non_null(strstr(error.text, "enabled before"));
	end(&v);
}

static int probe(void **state)
{
	(void)state;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		cannot_run("no KVM here: %s", strerror(errno));
	close(vm);
	close(kvm);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_log_sees_vcpus),
		cmocka_unit_test(the_ring_sees_vcpus),
		cmocka_unit_test(what_this_process_writes_is_not_seen),
		cmocka_unit_test(the_order_matters),
		cmocka_unit_test(slots_that_leave_a_hole_are_refused),
		cmocka_unit_test(a_second_tracker_of_the_log_finds_what_the_first_has_not_taken),
		cmocka_unit_test(a_log_of_a_vm_with_rings_is_refused),
		cmocka_unit_test(a_full_ring_is_emptied_by_the_vcpu_s_thread),
		cmocka_unit_test(a_ring_that_was_not_enabled_is_refused),
	};
	return cmocka_run_group_tests_name("tracker_kvm", tests, probe, NULL);
}
#endif
