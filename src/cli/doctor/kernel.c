/* SPDX-License-Identifier: MIT */
/* What the kernel and its limits allow; see doctor.h. */
#include "cli/doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/ui/output.h"

/* In headers since Linux 6.7 only; docs: Documentation/admin-guide/mm/pagemap.rst. */
struct pagemap_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN_REQUEST _IOWR('f', 16, struct pagemap_scan_arg)
enum { PAGEMAP_CATEGORY_PRESENT = 1 << 3 };

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

void gw__check_kernel(struct gw__checkup *c)
{
	struct utsname u;
	unsigned major = 0, minor = 0;
	if (uname(&u) || sscanf(u.release, "%u.%u", &major, &minor) != 2) {
		gw__checkup_is(c, GW__FOUND_LIMITED, NULL, "the kernel does not report its version");
		return;
	}
	if (major < 5 || (major == 5 && minor < 7)) {
		gw__checkup_is(c, GW__FOUND_LIMITED, "a kernel from 5.7 on (Debian 12 has 6.1)", "%s %s on %s", u.sysname, u.release,
			u.machine);
		return;
	}
	gw__checkup_is(c, GW__FOUND_OK, NULL, "%s %s on %s", u.sysname, u.release, u.machine);
}

static int open_userfaultfd(const char **how)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	*how = "by the system call";
	if (fd >= 0)
		return fd;
	int err = errno;
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0) {
		errno = err;
		return -1;
	}
	*how = "by /dev/userfaultfd";
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
	close(dev);
	return fd;
}

static void say_features(struct gw__checkup *c, int fd, const char *how)
{
	struct uffdio_api api = {.api = UFFD_API};
	if (ioctl(fd, UFFDIO_API, &api)) {
		gw__checkup_is(c, GW__FOUND_MISSING, NULL, "it opens but refuses its API: %s", strerror(errno));
		return;
	}
	bool shared = api.features & UFFD_FEATURE_MISSING_SHMEM, huge = api.features & UFFD_FEATURE_MISSING_HUGETLBFS;
	bool protect = api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	gw__checkup_is(c, protect ? GW__FOUND_OK : GW__FOUND_LIMITED, protect ? NULL : "a kernel built with write protection",
		"%s; missing pages%s%s%s", how, shared ? ", shared memory" : "", huge ? ", huge pages" : "",
		protect ? ", write protection" : "; no write protection");
}

void gw__check_userfaultfd(struct gw__checkup *c)
{
	const char *how;
	int fd = open_userfaultfd(&how);
	if (fd >= 0) {
		say_features(c, fd, how);
		close(fd);
		return;
	}
	int err = errno;
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (fd >= 0) {
		gw__checkup_is(c, GW__FOUND_LIMITED, "sysctl vm.unprivileged_userfaultfd=1, or access to /dev/userfaultfd",
			"only for faults in user mode, which excludes KVM guests (otherwise: %s)", strerror(err));
		close(fd);
		return;
	}
	gw__checkup_is(c, GW__FOUND_MISSING,
		err == ENOSYS ? "a kernel with CONFIG_USERFAULTFD"
			      : "sysctl vm.unprivileged_userfaultfd=1, or access to /dev/userfaultfd; in a "
				"container also its seccomp filter",
		"%s", strerror(err));
}

void gw__check_kvm(struct gw__checkup *c)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		gw__checkup_is(c, GW__FOUND_MISSING,
			errno == EACCES ? "add the user to the group kvm"
					: "switch on virtualisation in the firmware and load kvm_intel or kvm_amd; without KVM QEMU is "
					  "slow (-accel tcg)",
			"/dev/kvm: %s", strerror(errno));
		return;
	}
	int version = ioctl(fd, KVM_GET_API_VERSION, 0);
	int vm = version < 0 ? -1 : ioctl(fd, KVM_CREATE_VM, 0);
	int err = errno;
	close(fd);
	if (vm < 0) {
		gw__checkup_is(c, GW__FOUND_MISSING, NULL, "/dev/kvm opens but makes no VM: %s", strerror(err));
		return;
	}
	close(vm);
	gw__checkup_is(c, GW__FOUND_OK, NULL, "/dev/kvm, API %d, makes a VM", version);
}

void gw__check_io_uring(struct gw__checkup *c)
{
	struct io_uring_params p = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (fd >= 0) {
		close(fd);
		gw__checkup_is(c, GW__FOUND_OK, NULL, "can be set up");
		return;
	}
	gw__checkup_is(c, GW__FOUND_MISSING,
		errno == EPERM ? "sysctl kernel.io_uring_disabled=0; in a container also its seccomp filter. "
				 "Plain reads and writes "
				 "are used instead"
			       : "a kernel with CONFIG_IO_URING. Plain reads and writes are used instead",
		"%s", strerror(errno));
}

void gw__check_pagemap_scan(struct gw__checkup *c)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	void *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct {
		uint64_t start, end, categories;
	} region[1];
	struct pagemap_scan_arg a = {.size = sizeof a,
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + page,
		.vec = (uintptr_t)region,
		.vec_len = 1,
		.return_mask = PAGEMAP_CATEGORY_PRESENT};
	int n = fd < 0 || p == MAP_FAILED ? -1 : ioctl(fd, PAGEMAP_SCAN_REQUEST, &a);
	int err = errno;
	if (p != MAP_FAILED)
		munmap(p, page);
	if (fd >= 0)
		close(fd);
	if (n < 0)
		gw__checkup_is(c, GW__FOUND_MISSING, "Linux 6.7 or later", "%s", strerror(err));
	else
		gw__checkup_is(c, GW__FOUND_OK, NULL, "works");
}

/* No fault has to be answered for it, so faults of user mode do. */
static bool tracks_writes(void)
{
	enum { WP_ASYNC = 1 << 15, WP_UNPOPULATED = 1 << 13 };
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | WP_UNPOPULATED | WP_ASYNC};
	const char *how;
	int fd = open_userfaultfd(&how);
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	bool agreed = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;
	if (fd >= 0)
		close(fd);
	struct gw__checkup scan = {0};
	gw__check_pagemap_scan(&scan);
	return agreed && scan.finding == GW__FOUND_OK;
}

/* Entries of a ring per vCPU, or -1; whether there is a log that is cleared by hand. */
static long kvm_ring(bool *log)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = fd < 0 ? -1 : ioctl(fd, KVM_CREATE_VM, 0);
	*log = vm >= 0 && ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) > 0;
	long bytes = vm < 0 ? -1 : ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING);
	if (vm >= 0)
		close(vm);
	if (fd >= 0)
		close(fd);
	return bytes > 0 ? bytes / (long)sizeof(struct kvm_dirty_gfn) : -1;
}

void gw__check_dirty_tracking(struct gw__checkup *c)
{
	bool log, writes = tracks_writes();
	long ring = kvm_ring(&log);
	char entries[48] = "";
	if (ring > 0)
		snprintf(entries, sizeof entries, ", KVM's rings of up to %ld entries", ring);
	if (!writes && !log) {
		gw__checkup_is(c, GW__FOUND_MISSING, "Linux 6.7 or later; until then a VMM has to report each write to its guest",
			"neither write protection by userfaultfd nor KVM's dirty log");
		return;
	}
	gw__checkup_is(c, writes ? GW__FOUND_OK : GW__FOUND_LIMITED, writes ? NULL : "Linux 6.7 or later", "%s%s%s%s",
		writes ? "write protection by userfaultfd" : "", writes && log ? ", " : "", log ? "KVM's dirty log" : "", entries);
}

void gw__check_memlock(struct gw__checkup *c)
{
	static const char advice[] = "ulimit -l unlimited, or LimitMEMLOCK= of the service";
	struct rlimit r;
	if (getrlimit(RLIMIT_MEMLOCK, &r)) {
		gw__checkup_is(c, GW__FOUND_MISSING, NULL, "%s", strerror(errno));
		return;
	}
	if (r.rlim_cur == RLIM_INFINITY) {
		gw__checkup_is(c, GW__FOUND_OK, NULL, "no limit");
		return;
	}
	bool enough = r.rlim_cur >= 64u << 20;
	gw__checkup_is(c, enough ? GW__FOUND_OK : GW__FOUND_LIMITED, enough ? NULL : advice, "%s", GW__SIZE(r.rlim_cur));
}

/* The number after `key` in /proc/meminfo, -1 if there is none. */
static long meminfo(const char *key)
{
	char line[128];
	long v = -1;
	FILE *f = fopen("/proc/meminfo", "re");
	while (f && v < 0 && fgets(line, sizeof line, f))
		if (!strncmp(line, key, strlen(key)))
			v = strtol(line + strlen(key), NULL, 10);
	if (f)
		fclose(f);
	return v;
}

void gw__check_hugepages(struct gw__checkup *c)
{
	long total = meminfo("HugePages_Total:"), unused = meminfo("HugePages_Free:"), kib = meminfo("Hugepagesize:");
	if (total < 0 || kib <= 0) {
		gw__checkup_is(c, GW__FOUND_MISSING, "a kernel with CONFIG_HUGETLBFS", "this kernel has none");
		return;
	}
	if (total == 0) {
		gw__checkup_is(c, GW__FOUND_LIMITED, "sysctl vm.nr_hugepages=N, if guests shall use them", "of %s, but none are reserved",
			GW__SIZE((uint64_t)kib << 10));
		return;
	}
	gw__checkup_is(c, GW__FOUND_OK, NULL, "%ld of %s, %ld free", total, GW__SIZE((uint64_t)kib << 10), unused);
}
