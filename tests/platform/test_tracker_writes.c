/* SPDX-License-Identifier: MIT */
/*
 * What asynchronous write protection sees of the writes to guest memory, and what it is blind for: for the latter there is gw_guest_dirty. One test
 * for each behaviour of the kernel that guest/tracker_writes.c leans on.
 */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/tracker.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
enum { PAGE = 4096, PAGES = 2048, HUGE = 2 << 20 };

enum kind { ANON, THP, MEMFD, HUGETLB, KINDS };
static const char *const KIND_NAMES[KINDS] = {"private memory", "transparent huge pages", "memfd", "huge pages"};

struct memory {
	uint8_t *p, *mapped;
	int fd;
	struct gw__tracker *t;
};

/* False: this machine has none. */
static bool get(struct memory *m, enum kind kind, bool populate)
{
	size_t bytes = PAGES * PAGE;
	m->fd = kind == MEMFD     ? memfd_create("tracked", MFD_CLOEXEC)
		: kind == HUGETLB ? memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB)
				  : -1;
	if ((kind == HUGETLB && m->fd < 0) || (m->fd >= 0 && ftruncate(m->fd, (off_t)bytes)))
		return false;
	m->mapped = mmap(NULL, bytes + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	m->p = (uint8_t *)(((uintptr_t)m->mapped + HUGE - 1) / HUGE * HUGE);
	if (mmap(m->p, bytes, PROT_READ | PROT_WRITE, MAP_FIXED | (m->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED), m->fd, 0) ==
		MAP_FAILED) {
		close(m->fd); /* no huge page is reserved */
		munmap(m->mapped, bytes + HUGE);
		return false;
	}
	madvise(m->p, bytes, kind == THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (populate)
		memset(m->p, 1, bytes);
	struct gw__error error = {0};
	struct gw__tracked block = {.host = m->p, .bytes = bytes};
	if (gw__tracker_new_writes(&m->t, &block, 1, PAGE, -1, NULL, &error) || gw__tracker_start(m->t, &error))
		fail_msg("%s: %s", KIND_NAMES[kind], error.text);
	return true;
}

static void put(struct memory *m)
{
	gw__tracker_free(m->t);
	munmap(m->mapped, PAGES * PAGE + HUGE);
	if (m->fd >= 0)
		close(m->fd);
}

static uint64_t bits[PAGES / 64];

static uint64_t look(struct memory *m, bool rearm)
{
	struct gw__error error = {0};
	memset(bits, 0, sizeof bits);
	if (rearm ? gw__tracker_take(m->t, 0, bits, &error) : gw__tracker_peek(m->t, 0, bits, &error))
		fail_msg("%s", error.text);
	return count_bits(bits, PAGES / 64);
}
static uint64_t taken(struct memory *m) { return look(m, true); }
static bool has(unsigned page) { return bits[page / 64] >> page % 64 & 1; }

/* --- Seen ---------------------------------------------------------------------------------------------------------- */

/* Each written page, once, and no other; of a huge page all of it may be reported. */
static void a_write_is_seen_once_and_again_when_it_is_made_again(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++)
		for (int populated = 0; populated < 2; populated++) {
			struct memory m;
			if (!get(&m, kind, populated)) {
				print_message("%s: none on this machine\n", KIND_NAMES[kind]);
				break;
			}
			assert_int_equal(taken(&m), 0);
			for (unsigned round = 0; round < 3; round++) {
				unsigned n = 0;
				for (unsigned page = round; page < PAGES; page += 37, n++)
					m.p[page * PAGE + 99]++;
				assert_true(look(&m, false) >= n); /* a peek changes nothing */
				assert_true(taken(&m) >= n);
				for (unsigned page = round; page < PAGES; page += 37)
					assert_true(has(page));
				if (kind == ANON || kind == MEMFD)
					assert_int_equal(count_bits(bits, PAGES / 64), n);
				assert_int_equal(taken(&m), 0);
			}
			put(&m);
		}
}

static void a_read_is_no_write(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++)
		for (int populated = 0; populated < 2; populated++) {
			struct memory m;
			volatile uint8_t sum = 0;
			if (!get(&m, kind, populated))
				break;
			for (unsigned page = 0; page < PAGES; page++)
				sum = (uint8_t)(sum + m.p[page * PAGE]);
			(void)sum;
			assert_int_equal(taken(&m), 0);
			m.p[77 * PAGE]++; /* behind a read too */
			assert_true(taken(&m) >= 1 && has(77));
			put(&m);
		}
}

/* Whoever writes by this mapping, the kernel included. */
static void what_the_kernel_writes_for_us_is_seen(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind <= MEMFD; kind++) {
		struct memory m;
		get(&m, kind, true);
		int zero = open("/dev/zero", O_RDONLY), mem = open("/proc/self/mem", O_RDWR);
		assert_int_equal(read(zero, m.p + 3 * PAGE, PAGE), PAGE);
		assert_true(taken(&m) >= 1 && has(3));
		uint8_t byte = 5;
		struct iovec from = {&byte, 1}, to = {m.p + 9 * PAGE, 1};
		assert_int_equal(process_vm_writev(getpid(), &from, 1, &to, 1, 0), 1);
		assert_true(taken(&m) >= 1 && has(9));
		assert_int_equal(pwrite(mem, &byte, 1, (off_t)(uintptr_t)(m.p + 12 * PAGE)), 1);
		assert_true(taken(&m) >= 1 && has(12));
		close(zero);
		close(mem);
		put(&m);
	}
}

static void private_memory_given_back_is_seen(void **state)
{
	(void)state;
	struct memory m;
	get(&m, ANON, true);
	assert_int_equal(madvise(m.p + 16 * PAGE, 32 * PAGE, MADV_DONTNEED), 0);
	assert_int_equal(taken(&m), 32);
	put(&m);
}

/* --- Blind: each of these needs gw_guest_dirty --------------------------------------------------------------------- */

static void another_mapping_is_not_seen(void **state)
{
	(void)state;
	struct memory m;
	get(&m, MEMFD, true);
	uint8_t *alias = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	for (unsigned page = 0; page < 256; page++)
		alias[page * PAGE] = 7;
	assert_int_equal(m.p[255 * PAGE], 7);
	assert_int_equal(taken(&m), 0);
	munmap(alias, PAGES * PAGE);
	put(&m);
}

static void a_write_to_the_file_is_not_seen(void **state)
{
	(void)state;
	struct memory m;
	get(&m, MEMFD, true);
	uint8_t byte = 7;
	for (unsigned page = 0; page < 256; page++)
		assert_int_equal(pwrite(m.fd, &byte, 1, page * PAGE), 1);
	assert_int_equal(m.p[255 * PAGE], 7);
	assert_int_equal(taken(&m), 0);
	put(&m);
}

static void a_hole_in_the_file_is_not_seen(void **state)
{
	(void)state;
	struct memory m;
	get(&m, MEMFD, true);
	assert_int_equal(fallocate(m.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 256 * PAGE), 0);
	assert_int_equal(m.p[255 * PAGE], 0);
	assert_int_equal(taken(&m), 0);
	assert_int_equal(madvise(m.p + 256 * PAGE, 256 * PAGE, MADV_REMOVE), 0);
	assert_int_equal(m.p[511 * PAGE], 0);
	assert_int_equal(taken(&m), 0);
	m.p[100 * PAGE] = 1; /* but what is written there later is */
	assert_int_equal(taken(&m), 1);
	put(&m);
}

/* --- Rights and other users of userfaultfd ------------------------------------------------------------------------- */

/* No privilege is needed: there is no fault that anybody answers, and the kernel's own writes are seen all the same. */
static void without_privilege_it_works_as_well(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		struct memory m;
		if (setuid(65534) && getuid() == 0)
			_exit(3);
		prctl(PR_SET_DUMPABLE, 1);
		get(&m, ANON, true);
		int zero = open("/dev/zero", O_RDONLY);
		ssize_t n = read(zero, m.p + 3 * PAGE, PAGE);
		m.p[5 * PAGE]++;
		_exit(n == PAGE && taken(&m) == 2 && has(3) && has(5) ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void memory_of_another_userfaultfd_is_refused(void **state)
{
	(void)state;
	struct memory m;
	struct gw__error error = {0};
	struct gw__tracker *second;
	get(&m, ANON, true);
	assert_int_equal(
		gw__tracker_new_writes(&second, &(struct gw__tracked){.host = m.p, .bytes = PAGES * PAGE}, 1, PAGE, -1, NULL, &error), 0);
	assert_int_equal(gw__tracker_start(second, &error), -EBUSY);
	assert_non_null(strstr(error.text, "another userfaultfd"));
	gw__tracker_free(second);
	m.p[0]++;
	assert_int_equal(taken(&m), 1); /* the first is not harmed */
	put(&m);
}

static void a_userfaultfd_that_was_lent_is_used_and_stays_open(void **state)
{
	(void)state;
	struct memory m;
	struct gw__error error = {0};
	struct gw__tracker *t;
	get(&m, ANON, true);
	gw__tracker_stop(m.t);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	struct gw__tracked block = {.host = m.p, .bytes = PAGES * PAGE};
	bool agreed = false;
	for (unsigned i = 0; i < 3; i++) { /* who knows that its API was agreed on uses it again */
		assert_int_equal(gw__tracker_new_writes(&t, &block, 1, PAGE, fd, &agreed, &error), 0);
		assert_true(agreed);
		assert_int_equal(gw__tracker_start(t, &error), 0);
		m.p[9 * PAGE]++;
		memset(bits, 0, sizeof bits);
		assert_int_equal(gw__tracker_take(t, 0, bits, &error), 0);
		assert_int_equal(count_bits(bits, PAGES / 64), 1);
		gw__tracker_free(t);
		assert_true(fcntl(fd, F_GETFD) >= 0);
	}
	assert_int_equal(gw__tracker_new_writes(&t, &block, 1, PAGE, fd, NULL, &error), -EOPNOTSUPP); /* its API was agreed on */
	assert_null(t);
	close(fd);
	put(&m);
}

static void after_a_stop_it_starts_again_with_nothing_written(void **state)
{
	(void)state;
	struct memory m;
	struct gw__error error = {0};
	get(&m, MEMFD, true);
	m.p[0]++;
	gw__tracker_stop(m.t);
	m.p[PAGE]++;
	assert_int_equal(gw__tracker_start(m.t, &error), 0);
	assert_int_equal(gw__tracker_start(m.t, &error), -EALREADY);
	assert_int_equal(taken(&m), 0);
	m.p[2 * PAGE]++;
	assert_int_equal(taken(&m), 1);
	assert_true(has(2));
	put(&m);
}

/* A guest page of 64 KiB is written when any part of it is. */
static void pages_of_a_guest_may_be_larger(void **state)
{
	(void)state;
	struct memory m;
	struct gw__error error = {0};
	get(&m, ANON, true);
	gw__tracker_free(m.t);
	assert_int_equal(
		gw__tracker_new_writes(&m.t, &(struct gw__tracked){.host = m.p, .bytes = PAGES * PAGE}, 1, 16 * PAGE, -1, NULL, &error), 0);
	assert_int_equal(gw__tracker_start(m.t, &error), 0);
	m.p[16 * PAGE] = m.p[33 * PAGE] = m.p[47 * PAGE] = m.p[(PAGES - 1) * PAGE] = 9;
	assert_int_equal(taken(&m), 3);
	assert_true(has(1) && has(2) && has(PAGES / 16 - 1));
	put(&m);
}

static int probe(void **state)
{
	(void)state;
	struct gw__tracker *t;
	struct gw__error error = {0};
	uint8_t *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (gw__tracker_new_writes(&t, &(struct gw__tracked){.host = p, .bytes = PAGE}, 1, PAGE, -1, NULL, &error))
		cannot_run("no asynchronous write protection here: %s", error.text);
	gw__tracker_free(t);
	munmap(p, PAGE);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_write_is_seen_once_and_again_when_it_is_made_again),
		cmocka_unit_test(a_read_is_no_write),
		cmocka_unit_test(what_the_kernel_writes_for_us_is_seen),
		cmocka_unit_test(private_memory_given_back_is_seen),
		cmocka_unit_test(another_mapping_is_not_seen),
		cmocka_unit_test(a_write_to_the_file_is_not_seen),
		cmocka_unit_test(a_hole_in_the_file_is_not_seen),
		cmocka_unit_test(without_privilege_it_works_as_well),
		cmocka_unit_test(memory_of_another_userfaultfd_is_refused),
		cmocka_unit_test(a_userfaultfd_that_was_lent_is_used_and_stays_open),
		cmocka_unit_test(after_a_stop_it_starts_again_with_nothing_written),
		cmocka_unit_test(pages_of_a_guest_may_be_larger),
	};
	return cmocka_run_group_tests_name("tracker_writes", tests, probe, NULL);
}
