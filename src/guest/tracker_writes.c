/* SPDX-License-Identifier: MIT */
/*
 * Writes noticed by the kernel's write protection: userfaultfd with WP_ASYNC protects, a write lifts the protection without a fault that anybody has
 * to answer, and PAGEMAP_SCAN reports and protects again in one walk. Linux 6.7. tests/platform/tracker_writes.c holds what it sees and what it does
 * not.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "guest/tracker.h"
#include "guest/userfaultfd.h"

/* In headers since Linux 6.7 only; docs: Documentation/admin-guide/mm/pagemap.rst, userfaultfd.rst. */
struct pagemap_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct region {
	uint64_t start, end, categories;
};
#define PAGEMAP_SCAN_REQUEST _IOWR('f', 16, struct pagemap_scan_arg)
enum { CATEGORY_WRITTEN = 1 << 1, SCAN_WP_MATCHING = 1 << 0, SCAN_CHECK_WPASYNC = 1 << 1 };
enum { FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12, FEATURE_WP_UNPOPULATED = 1 << 13, FEATURE_WP_ASYNC = 1 << 15 };

enum { REGIONS = 512, BITS = 64 };

struct writes {
	struct gw__tracker head;
	int uffd, pagemap;
	bool lent;           /* the userfaultfd is the VMM's */
	uint32_t registered; /* blocks */
	struct region region[REGIONS];
};

/* --- Opening ------------------------------------------------------------------------------------------------------- */

/* Once in the life of a descriptor. */
static int agree(int uffd, bool *agreed, struct gw__error *error)
{
	struct uffdio_api api = {.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | FEATURE_WP_HUGETLBFS_SHMEM | FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC};
	bool before = agreed && *agreed; /* then it is refused, and what was agreed on holds */
	if (ioctl(uffd, UFFDIO_API, &api) == 0 || before) {
		if (agreed)
			*agreed = true;
		return 0;
	}
	return gw__error_set(error, -EOPNOTSUPP,
		"userfaultfd refuses asynchronous write protection (%s): expected Linux 6.7 or later, or "
		"a userfaultfd whose API was not agreed on before",
		strerror(errno));
}

/* Asks with nothing to scan: a kernel without it says so. */
static int open_pagemap(struct gw__error *error)
{
	struct pagemap_scan_arg none = {.size = sizeof none, .return_mask = CATEGORY_WRITTEN};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return gw__error_errno(error, errno, "cannot open /proc/self/pagemap");
	if (ioctl(fd, PAGEMAP_SCAN_REQUEST, &none) == 0 || errno != ENOTTY)
		return fd;
	close(fd);
	return gw__error_set(error, -EOPNOTSUPP, "this kernel has no PAGEMAP_SCAN: expected Linux 6.7 or later");
}

/* --- Arm, scan, disarm --------------------------------------------------------------------------------------------- */

static struct writes *writes_of(struct gw__tracker *t) { return (struct writes *)(void *)t; }

static int arm(struct writes *w, const struct gw__tracked *b, struct gw__error *error)
{
	struct uffdio_register r = {.range = {(uintptr_t)b->host, b->bytes}, .mode = UFFDIO_REGISTER_MODE_WP};
	struct uffdio_writeprotect p = {.range = r.range, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
	if (ioctl(w->uffd, UFFDIO_REGISTER, &r))
		return gw__error_errno(error, errno, "cannot watch %llu bytes of guest memory for writes%s", (unsigned long long)b->bytes,
			errno == EBUSY ? ", as another userfaultfd does" : "");
	w->registered++;
	if (ioctl(w->uffd, UFFDIO_WRITEPROTECT, &p))
		return gw__error_errno(error, errno, "cannot write-protect %llu bytes of guest memory", (unsigned long long)b->bytes);
	return 0;
}

static void stop(struct gw__tracker *t)
{
	struct writes *w = writes_of(t);
	for (; w->registered; w->registered--) {
		const struct gw__tracked *b = &t->block[w->registered - 1];
		struct uffdio_range r = {(uintptr_t)b->host, b->bytes};
		ioctl(w->uffd, UFFDIO_UNREGISTER, &r); /* lifts the protection too */
	}
}

static int start(struct gw__tracker *t, struct gw__error *error)
{
	struct writes *w = writes_of(t);
	int r = 0;
	for (uint32_t i = 0; !r && i < t->blocks; i++)
		r = arm(w, &t->block[i], error);
	if (r)
		stop(t);
	return r;
}

static void set_bits(const struct gw__tracker *t, const struct gw__tracked *b, const struct region *r, uint64_t *bitmap)
{
	uint64_t first = (r->start - (uintptr_t)b->host) / t->page_bytes;
	uint64_t end = (r->end - (uintptr_t)b->host + t->page_bytes - 1) / t->page_bytes;
	while (first < end) {
		uint64_t from = first % BITS, n = end - first < BITS - from ? end - first : BITS - from;
		bitmap[first / BITS] |= (n == BITS ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << from;
		first += n;
	}
}

/* Report and re-arm in one walk of the kernel: between the two nobody writes. */
static int take(struct gw__tracker *t, uint32_t block, uint64_t *bitmap, bool rearm, struct gw__error *error)
{
	struct writes *w = writes_of(t);
	const struct gw__tracked *b = &t->block[block];
	struct pagemap_scan_arg a = {.size = sizeof a,
		.flags = SCAN_CHECK_WPASYNC | (rearm ? SCAN_WP_MATCHING : 0),
		.start = (uintptr_t)b->host,
		.end = (uintptr_t)b->host + b->bytes,
		.vec = (uintptr_t)w->region,
		.vec_len = REGIONS,
		.category_mask = CATEGORY_WRITTEN,
		.return_mask = CATEGORY_WRITTEN};
	while (a.start < a.end) {
		int n = ioctl(w->pagemap, PAGEMAP_SCAN_REQUEST, &a);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return gw__error_errno(error, errno, "cannot scan guest memory for writes");
		for (int i = 0; i < n; i++)
			set_bits(t, b, &w->region[i], bitmap);
		a.start = a.walk_end;
	}
	return 0;
}

static void release(struct gw__tracker *t)
{
	struct writes *w = writes_of(t);
	if (w->uffd >= 0 && !w->lent)
		close(w->uffd);
	if (w->pagemap >= 0)
		close(w->pagemap);
}

static const struct gw__tracker_kind WRITES = {"writes", start, take, stop, release};

int gw__tracker_new_writes(struct gw__tracker **t, const struct gw__tracked *blocks, uint32_t n, uint64_t page_bytes, int uffd,
	bool *agreed, struct gw__error *error)
{
	*t = NULL;
	struct writes *w = gw__tracker_alloc(sizeof *w, &WRITES, blocks, n, page_bytes, error);
	if (!w)
		return -ENOMEM;
	w->lent = uffd >= 0;
	w->pagemap = -1;
	w->uffd = w->lent ? uffd : gw__userfaultfd_open(true); /* no fault is ever answered here */
	int r = 0;
	if (w->uffd < 0)
		r = gw__error_errno(error, errno, "cannot open a userfaultfd: expected the system call, or access to /dev/userfaultfd");
	if (!r)
		r = agree(w->uffd, w->lent ? agreed : NULL, error);
	if (!r) {
		w->pagemap = open_pagemap(error);
		r = w->pagemap < 0 ? w->pagemap : 0;
	}
	if (r) {
		gw__tracker_free(&w->head);
		return r;
	}
	*t = &w->head;
	return 0;
}
