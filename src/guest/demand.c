/* SPDX-License-Identifier: MIT */
/* userfaultfd in missing mode; see demand.h. */
#include "guest/demand.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "guest/userfaultfd.h"
#include "thread/thread.h"

typedef unsigned long long ull;

enum page_state { MISSING, PLACING, PLACED, ZERO };
enum { MESSAGES = 16 };

struct area {
	const struct gw__guest_block *block;
	uint64_t pages;
	_Atomic uint8_t *state; /* of each page */
	bool watched;
};

struct gw__demand {
	/* The owner's; constant while the thread runs. */
	uint64_t page_bytes;
	int uffd, stop_fd;
	bool lent, shared; /* the descriptor is the VMM's; some memory is shared */
	struct area *area;
	uint32_t areas;
	gw__demand_wanted *wanted;
	void *ctx;
	bool runs;
	pthread_t thread;

	/* Any thread's. */
	_Atomic uint64_t missing, requests;
	_Atomic bool failed;

	/* The fault thread's, and the owner's when it has ended. */
	struct gw__error error;
};

/* --- new and free -------------------------------------------------------------------------------------------------- */

static int take_lent(struct gw__demand *d, int uffd, struct gw__error *error)
{
	int flags = fcntl(uffd, F_GETFL);
	d->uffd = uffd;
	if (flags < 0 || fcntl(uffd, F_SETFL, flags | O_NONBLOCK))
		return gw__error_errno(error, errno, "cannot use descriptor %d as a userfaultfd", uffd);
	return 0;
}

static int open_own(struct gw__demand *d, bool user_mode, struct gw__error *error)
{
	d->uffd = gw__userfaultfd_open(user_mode);
	if (d->uffd >= 0)
		return 0;
	if (errno != EPERM)
		return gw__error_errno(error, errno, "cannot open a userfaultfd, which `lazy` needs");
	if (user_mode)
		return gw__error_set(error, -EPERM, "this process may not have a userfaultfd, which `lazy` needs; give it `uffd`");
	return gw__error_set(error, -EPERM,
		"this process may not have a userfaultfd for faults of the kernel, which `lazy` needs; give it `uffd`, access to "
		"/dev/userfaultfd, CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1, or, without KVM, set `user_mode`");
}

int gw__demand_new(struct gw__demand **d, uint64_t page_bytes, int uffd, bool user_mode, struct gw__error *error)
{
	struct gw__demand *new = calloc(1, sizeof *new);
	*d = NULL;
	if (!new)
		return gw__error_set(error, -ENOMEM, "no memory for pages on demand");
	new->page_bytes = page_bytes;
	new->lent = uffd >= 0;
	new->uffd = -1;
	new->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r = new->stop_fd < 0 ? gw__error_errno(error, errno, "cannot make an eventfd") : 0;
	if (!r)
		r = new->lent ? take_lent(new, uffd, error) : open_own(new, user_mode, error);
	if (r)
		gw__demand_free(new);
	else
		*d = new;
	return r;
}

static struct uffdio_range range_of(const struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n)
{
	return (struct uffdio_range){(uintptr_t)d->area[block].block->host + first * d->page_bytes, n * d->page_bytes};
}

static struct uffdio_range all_of(const struct gw__demand *d, uint32_t block) { return range_of(d, block, 0, d->area[block].pages); }

void gw__demand_free(struct gw__demand *d)
{
	if (!d)
		return;
	gw__demand_stop(d, NULL);
	for (uint32_t i = 0; i < d->areas; i++) {
		struct uffdio_range r = all_of(d, i);
		if (d->area[i].watched)
			ioctl(d->uffd, UFFDIO_UNREGISTER, &r); /* wakes who waits */
		free((void *)d->area[i].state);
	}
	if (d->uffd >= 0 && !d->lent)
		close(d->uffd);
	if (d->stop_fd >= 0)
		close(d->stop_fd);
	free(d->area);
	free(d);
}

/* --- what is watched ----------------------------------------------------------------------------------------------- */

static int add_block(struct gw__demand *d, const struct gw__guest_block *b, struct gw__error *error)
{
	uint64_t host_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	if (b->page_bytes != host_bytes || d->page_bytes != host_bytes)
		return gw__error_set(error, -EOPNOTSUPP,
			"RAM block \"%s\" has pages of %llu bytes, and the guest has pages of %llu bytes; `lazy` needs both to be %llu",
			b->name, (ull)b->page_bytes, (ull)d->page_bytes, (ull)host_bytes);
	struct area *a = &d->area[d->areas];
	*a = (struct area){.block = b, .pages = b->bytes / d->page_bytes, .state = calloc(b->bytes / d->page_bytes, sizeof *a->state)};
	if (!a->state)
		return gw__error_set(error, -ENOMEM, "no memory for the states of %llu pages", (ull)a->pages);
	d->areas++;
	d->shared = d->shared || b->fd >= 0;
	atomic_fetch_add(&d->missing, a->pages);
	return 0;
}

static int agree(const struct gw__demand *d, struct gw__error *error)
{
	struct uffdio_api api = {.api = UFFD_API, .features = d->shared ? UFFD_FEATURE_MISSING_SHMEM : 0};
	if (ioctl(d->uffd, UFFDIO_API, &api) == 0)
		return 0;
	return gw__error_set(error, d->lent ? -EINVAL : -EOPNOTSUPP, "the userfaultfd cannot be used for missing pages (%s): expected %s",
		strerror(errno), d->lent ? "one whose API was not agreed on before" : "Linux 4.11 or later");
}

int gw__demand_add_blocks(struct gw__demand *d, struct gw__guest_block *const *blocks, uint32_t n, struct gw__error *error)
{
	int r = 0;
	d->area = calloc(n, sizeof *d->area);
	if (!d->area && n)
		return gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", n);
	for (uint32_t i = 0; !r && i < n; i++)
		r = add_block(d, blocks[i], error);
	return r ? r : agree(d, error);
}

void gw__demand_promise_zeros(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++)
		atomic_store_explicit(&d->area[block].state[i], ZERO, memory_order_relaxed);
	atomic_fetch_sub(&d->missing, n);
}

static int watch(struct gw__demand *d, uint32_t block, struct gw__error *error)
{
	const uint64_t needed = UINT64_C(1) << _UFFDIO_COPY | UINT64_C(1) << _UFFDIO_ZEROPAGE;
	const char *name = d->area[block].block->name;
	struct uffdio_register r = {.range = all_of(d, block), .mode = UFFDIO_REGISTER_MODE_MISSING};
	if (ioctl(d->uffd, UFFDIO_REGISTER, &r))
		return gw__error_errno(error, errno, "cannot watch RAM block \"%s\" for missing pages%s", name,
			errno == EBUSY ? ", as another userfaultfd watches it" : "");
	d->area[block].watched = true;
	if ((r.ioctls & needed) == needed)
		return 0;
	return gw__error_set(error, -EOPNOTSUPP, "the memory of RAM block \"%s\" cannot be filled page by page, which `lazy` needs", name);
}

int gw__demand_watch(struct gw__demand *d, struct gw__error *error)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < d->areas; i++)
		r = watch(d, i, error);
	return r;
}

static void wake(const struct gw__demand *d, struct uffdio_range range) { ioctl(d->uffd, UFFDIO_WAKE, &range); }

void gw__demand_repeat(struct gw__demand *d)
{
	for (uint32_t i = 0; i < d->areas; i++)
		wake(d, all_of(d, i));
}

/* --- pages --------------------------------------------------------------------------------------------------------- */

static void set_states(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n, enum page_state state)
{
	for (uint64_t i = first; i < first + n; i++)
		atomic_store_explicit(&d->area[block].state[i], (uint8_t)state, memory_order_release);
	if (state == PLACED)
		atomic_fetch_sub(&d->missing, n);
}

void gw__demand_mark_placed(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n) { set_states(d, block, first, n, PLACED); }

uint64_t gw__demand_next_missing(const struct gw__demand *d, uint32_t block, uint64_t page, uint64_t end)
{
	while (page < end && atomic_load_explicit(&d->area[block].state[page], memory_order_relaxed) != MISSING)
		page++;
	return page;
}

uint64_t gw__demand_claim(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		uint8_t missing = MISSING;
		if (!atomic_compare_exchange_strong(&d->area[block].state[first + i], &missing, PLACING))
			return i;
	}
	return n;
}

/* A fault that found them PLACING was not passed on: it comes again. */
void gw__demand_unclaim(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n)
{
	if (!n)
		return;
	set_states(d, block, first, n, MISSING);
	wake(d, range_of(d, block, first, n));
}

static int say_not_placed(const struct gw__demand *d, uint32_t block, uint64_t page, int failed, struct gw__error *error)
{
	const char *name = d->area[block].block->name;
	ull off = page * d->page_bytes;
	if (failed == EEXIST)
		return gw__error_set(error, -EIO,
			"RAM block \"%s\" was written at offset 0x%llx before its page came: nothing but the guest may use this memory, and by "
			"this mapping alone",
			name, off);
	return gw__error_errno(error, failed, "cannot fill RAM block \"%s\" at offset 0x%llx", name, off);
}

int gw__demand_place(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n, const uint8_t *bytes, struct gw__error *error)
{
	const struct uffdio_range to = range_of(d, block, first, n);
	uint64_t done = 0;
	int failed = 0;
	while (!failed && done < to.len) {
		struct uffdio_copy c = {.dst = to.start + done, .src = (uintptr_t)bytes + done, .len = to.len - done};
		int r = ioctl(d->uffd, UFFDIO_COPY, &c);
		done += c.copy > 0 ? (uint64_t)c.copy : 0;
		if (r && errno != EAGAIN)
			failed = errno;
	}
	uint64_t placed = done / d->page_bytes;
	set_states(d, block, first, placed, PLACED);
	if (!failed)
		return 0;
	gw__demand_unclaim(d, block, first + placed, n - placed);
	return say_not_placed(d, block, first + placed, failed, error);
}

/* Returns what it was before. */
static enum page_state make_zero(_Atomic uint8_t *state)
{
	uint8_t was = atomic_load(state);
	for (;;) {
		if (was == PLACING) {
			sched_yield();
			was = atomic_load(state);
		} else if (atomic_compare_exchange_weak(state, &was, ZERO)) {
			return (enum page_state)was;
		}
	}
}

void gw__demand_discard(struct gw__demand *d, const struct gw__guest_block *block, uint64_t off, uint64_t bytes)
{
	uint32_t i = 0;
	while (i < d->areas && d->area[i].block != block)
		i++;
	if (i == d->areas)
		return;
	uint64_t first = off / d->page_bytes, n = bytes / d->page_bytes;
	for (uint64_t page = first; page < first + n; page++)
		if (make_zero(&d->area[i].state[page]) == MISSING)
			atomic_fetch_sub(&d->missing, 1);
	wake(d, range_of(d, i, first, n)); /* who waits for what does not come any more */
}

uint64_t gw__demand_missing(const struct gw__demand *d) { return atomic_load(&d->missing); }
uint64_t gw__demand_requests(const struct gw__demand *d) { return atomic_load(&d->requests); }

/* --- the fault thread ---------------------------------------------------------------------------------------------- */

/* A page that was there, and is not any more, was released by who knows that it is zero then. */
static int place_zero(struct gw__demand *d, uint32_t block, uint64_t page)
{
	struct uffdio_zeropage z = {.range = range_of(d, block, page, 1)};
	while (ioctl(d->uffd, UFFDIO_ZEROPAGE, &z)) {
		if (errno == EEXIST) {
			wake(d, z.range);
			return 0;
		}
		if (errno != EAGAIN)
			return say_not_placed(d, block, page, errno, &d->error);
	}
	return 0;
}

static int answer(struct gw__demand *d, uint64_t address)
{
	uint32_t i = 0;
	while (i < d->areas && address - (uintptr_t)d->area[i].block->host >= d->area[i].block->bytes)
		i++;
	if (i == d->areas)
		return 0;
	uint64_t page = (address - (uintptr_t)d->area[i].block->host) / d->page_bytes;
	atomic_fetch_add_explicit(&d->requests, 1, memory_order_relaxed);
	switch ((enum page_state)atomic_load(&d->area[i].state[page])) {
	case MISSING:
		return d->wanted(d->ctx, i, page, &d->error);
	case PLACING: /* who places it wakes */
		return 0;
	default:
		return place_zero(d, i, page);
	}
}

static int answer_all(struct gw__demand *d)
{
	struct uffd_msg m[MESSAGES];
	ssize_t n = read(d->uffd, m, sizeof m);
	int r = 0;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : gw__error_errno(&d->error, errno, "cannot read from the userfaultfd");
	for (size_t i = 0; !r && i < (size_t)n / sizeof m[0]; i++)
		if (m[i].event == UFFD_EVENT_PAGEFAULT)
			r = answer(d, m[i].arg.pagefault.address);
	return r;
}

static void *serve(void *arg)
{
	struct gw__demand *d = arg;
	struct pollfd p[2] = {{.fd = d->uffd, .events = POLLIN}, {.fd = d->stop_fd, .events = POLLIN}};
	int r = 0;
	while (!r) {
		int n = poll(p, 2, -1);
		if (n < 0 && errno != EINTR)
			r = gw__error_errno(&d->error, errno, "cannot wait for page faults");
		if (n <= 0)
			continue;
		if (p[1].revents)
			break;
		if (p[0].revents & ~POLLIN)
			r = gw__error_set(&d->error, -EIO, "the userfaultfd tells of no more page faults");
		else
			r = answer_all(d);
	}
	if (r)
		atomic_store(&d->failed, true);
	return NULL;
}

int gw__demand_start(struct gw__demand *d, gw__demand_wanted *wanted, void *ctx, struct gw__error *error)
{
	eventfd_t ignored;
	d->wanted = wanted;
	d->ctx = ctx;
	gw__error_clear(&d->error);
	atomic_store(&d->failed, false);
	eventfd_read(d->stop_fd, &ignored);
	int r = gw__thread_start(&d->thread, serve, d);
	if (r)
		return gw__error_errno(error, r, "cannot make a thread for page faults");
	d->runs = true;
	gw__demand_repeat(d);
	return 0;
}

bool gw__demand_has_failed(const struct gw__demand *d) { return atomic_load(&d->failed); }

int gw__demand_stop(struct gw__demand *d, struct gw__error *error)
{
	if (!d || !d->runs)
		return 0;
	eventfd_write(d->stop_fd, 1);
	pthread_join(d->thread, NULL);
	d->runs = false;
	return atomic_load(&d->failed) ? gw__error_set(error, d->error.code, "%s", d->error.text) : 0;
}
