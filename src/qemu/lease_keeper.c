/* SPDX-License-Identifier: MIT */
/* The thread that beats a lease; see lease_keeper.h. `client` and `deadman` are the thread's while it runs; what both see is atomic, or under `lock`. */
#include "qemu/lease_keeper.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "qemu/deadman.h"
#include "qemu/hw_watchdog.h"
#include "qemu/process_identity.h"
#include "qmp/sleep.h"
#include "thread/thread.h"

enum { STEP_MS = 500, POLL_MS = 5, NOT_SETTLED = -1, WISHES = 4, TERM_MIN_MS = 5000 /* with a watchdog, which counts whole seconds */ };
_Static_assert((int)GW__DEADMAN_RESET_MS <= (int)GW__LEASE_KILL_MS,
	"a host that is reset later may run the guest when another has the lease");

struct gw__lease_keeper {
	struct gw__lease_client client;
	struct gw__deadman deadman;
	int process, keep_fd, watchdog, wake;
	pthread_t thread;
	bool runs;
	/* The number of the wish times WISHES, and the enum gw__lease_wish: one that is wished for again is not settled because it was so before. */
	_Atomic int wish, settled;
	_Atomic uint64_t *deadline; /* in memory that is shared with forks */
	_Atomic bool end, lost;
	pthread_mutex_t lock;
	struct gw__error trouble; /* by `lock` */
};

/*
 * The older one may merely have had no processor. It would go on later, and kill at its moment, which is not that of the lease any more; but until another is in its place,
 * that moment is the one that counts.
 */
static bool replace_deadman(struct gw__lease_keeper *k, uint64_t moment_ns)
{
	struct gw__deadman older = k->deadman, next;
	if (gw__deadman_start(&next, k->process, k->keep_fd, k->watchdog, NULL))
		return false;
	bool is_set = gw__deadman_set(&next, moment_ns);
	if (is_set)
		k->deadman = next;
	gw__deadman_end(is_set ? &older : &next);
	return is_set;
}

static bool on_deadline(void *ctx, uint64_t ns)
{
	struct gw__lease_keeper *k = ctx;
	uint64_t moment_ns = ns == GW__LEASE_NO_LIMIT ? GW__DEADMAN_NEVER : ns;
	atomic_store(k->deadline, ns);
	if (gw__lease_keeper_saw_death(k, 0)) /* nothing is left to be ended */
		return true;
	if (gw__deadman_set(&k->deadman, moment_ns))
		return true;
	return replace_deadman(k, moment_ns);
}

/* It is looked at even when there is nothing to tell it. */
static void check_deadman(struct gw__lease_keeper *k)
{
	struct pollfd p = {.fd = k->deadman.fd, .events = POLLIN};
	if (!k->deadman.pid || poll(&p, 1, 0) > 0)
		k->client.is_told = false;
}

static void note_trouble(struct gw__lease_keeper *k)
{
	pthread_mutex_lock(&k->lock);
	if (k->client.trouble.code)
		k->trouble = k->client.trouble;
	pthread_mutex_unlock(&k->lock);
}

static void *keep(void *ctx)
{
	struct gw__lease_keeper *k = ctx;
	uint64_t woken;
	while (!atomic_load(&k->end) && !(atomic_load(&k->lost) && k->client.is_told)) {
		int wish = atomic_load(&k->wish);
		gw__lease_set_wish(&k->client.lease, (enum gw__lease_wish)(wish % WISHES));
		check_deadman(k);
		gw__lease_client_step(&k->client, STEP_MS, k->wake);
		if (read(k->wake, &woken, sizeof woken) < 0 && errno != EAGAIN)
			break;
		note_trouble(k);
		atomic_store(&k->settled, k->client.is_told && gw__lease_is_settled(&k->client.lease) ? wish : NOT_SETTLED);
		atomic_store(&k->lost, k->client.lease.state == GW__LEASE_LOST);
	}
	return NULL;
}

static int start_thread(struct gw__lease_keeper *k, struct gw__error *error)
{
	int err = gw__thread_start(&k->thread, keep, k);
	k->runs = !err;
	return err ? gw__error_errno(error, err, "cannot start the thread that keeps the lease") : 0;
}

static int open_watchdog(struct gw__lease_keeper *k, const struct gw__lease_keeper_opts *o, struct gw__error *error)
{
	if (!o->watchdog)
		return 0;
	if (o->term_ms && o->term_ms < TERM_MIN_MS)
		return gw__error_set(error, -EINVAL, "a lease of %u ms is too short for a watchdog: at least %d ms", o->term_ms,
			TERM_MIN_MS);
	int fd = gw__hw_watchdog_open(o->watchdog, error);
	if (fd < 0)
		return fd;
	k->watchdog = fd;
	return 0;
}

static int open_keeper(struct gw__lease_keeper *k, const struct gw__lease_keeper_opts *o, struct gw__error *error)
{
	char owner[GW__IDENTITY_BYTES + sizeof GW__LEASE_WATCHDOG];
	if (o->qemu <= 0)
		return gw__error_set(error, -EOPNOTSUPP,
			"a lease needs to know the process of its QEMU: that takes a monitor at a unix socket");
	k->process = pidfd_open(o->qemu, 0);
	if (k->process < 0)
		return gw__error_errno(error, errno, "cannot watch the process %d", (int)o->qemu);
	k->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (k->wake < 0)
		return gw__error_errno(error, errno, "cannot make an eventfd");
	int r = gw__process_identity(o->qemu, owner, error);
	if (!r)
		r = open_watchdog(k, o, error);
	if (!r && o->watchdog)
		strcat(owner, GW__LEASE_WATCHDOG);
	return r ? r : gw__lease_client_open(&k->client, o->url, owner, o->term_ms, error);
}

int gw__lease_keeper_take(const struct gw__lease_keeper_opts *o, struct gw__lease_keeper **to, struct gw__error *error)
{
	struct gw__lease_keeper *k = calloc(1, sizeof *k);
	if (!k)
		return gw__error_set(error, -ENOMEM, "no memory");
	k->process = k->watchdog = k->wake = -1;
	k->deadline = mmap(NULL, sizeof *k->deadline, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (k->deadline == MAP_FAILED) {
		free(k);
		return gw__error_set(error, -ENOMEM, "no memory");
	}
	atomic_init(k->deadline, GW__LEASE_NO_LIMIT);
	k->keep_fd = o->keep_fd;
	k->settled = NOT_SETTLED;
	k->wish = GW__LEASE_WISH_HOLD;
	pthread_mutex_init(&k->lock, NULL);
	int r = open_keeper(k, o, error);
	if (!r)
		r = gw__deadman_start(&k->deadman, k->process, k->keep_fd, k->watchdog, error);
	if (!r)
		r = gw__lease_client_take(&k->client, GW__LEASE_WAIT_OUT, o->stopped, o->ctx, error);
	k->client.on_deadline = on_deadline;
	k->client.ctx = k;
	if (!r)
		r = start_thread(k, error);
	if (r) {
		gw__lease_keeper_end(k);
		return r;
	}
	*to = k;
	return 0;
}

void gw__lease_keeper_wish(struct gw__lease_keeper *k, enum gw__lease_wish wish)
{
	int last = k ? atomic_load(&k->wish) : 0;
	if (!k || last % WISHES == (int)wish)
		return;
	atomic_store(&k->wish, (last / WISHES + 1) % (INT_MAX / WISHES) * WISHES + (int)wish);
	eventfd_write(k->wake, 1);
}

bool gw__lease_keeper_is_settled(const struct gw__lease_keeper *k)
{
	return !k || (!atomic_load(&k->lost) && atomic_load(&k->settled) == atomic_load(&k->wish));
}

const _Atomic uint64_t *gw__lease_keeper_deadline(const struct gw__lease_keeper *k) { return k ? k->deadline : NULL; }

int gw__lease_keeper_settle(struct gw__lease_keeper *k, enum gw__lease_wish wish, int patience_ms, struct gw__error *error)
{
	struct timespec start = gw__monotonic_now();
	gw__lease_keeper_wish(k, wish);
	while (!gw__lease_keeper_is_settled(k)) {
		if (gw__lease_keeper_is_lost(k, error))
			return -EOWNERDEAD;
		if (gw__monotonic_seconds_since(&start) * 1e3 > patience_ms)
			return gw__error_set(error, -ETIMEDOUT,
				"the store of the lease does not confirm that it was released: its guest ends with its term");
		gw__sleep_ms(POLL_MS);
	}
	return 0;
}

bool gw__lease_keeper_is_lost(struct gw__lease_keeper *k, struct gw__error *why)
{
	if (!k || !atomic_load(&k->lost))
		return false;
	pthread_mutex_lock(&k->lock);
	gw__error_set(why, -EOWNERDEAD, "the lease was lost (%s), so the guest was ended",
		k->trouble.text[0] ? k->trouble.text : "another has taken it");
	pthread_mutex_unlock(&k->lock);
	return true;
}

bool gw__lease_keeper_saw_death(const struct gw__lease_keeper *k, int patience_ms)
{
	struct pollfd p = {.fd = k ? k->process : -1, .events = POLLIN};
	return k && poll(&p, 1, patience_ms) > 0;
}

bool gw__lease_keeper_end(struct gw__lease_keeper *k)
{
	if (!k)
		return false;
	atomic_store(&k->end, true);
	if (k->runs) {
		eventfd_write(k->wake, 1);
		pthread_join(k->thread, NULL);
	}
	/* one that did not answer has an earlier moment than is wished for */
	bool may_end = k->deadman.pid && (k->deadman.is_late || atomic_load(k->deadline) != GW__LEASE_NO_LIMIT);
	may_end = may_end && !gw__lease_keeper_saw_death(k, 0);
	gw__deadman_leave(&k->deadman);
	gw__lease_client_close(&k->client);
	if (k->wake >= 0)
		close(k->wake);
	if (k->process >= 0)
		close(k->process);
	if (k->watchdog >= 0)
		close(k->watchdog); /* a deadman that has a moment keeps it open */
	pthread_mutex_destroy(&k->lock);
	munmap((void *)k->deadline, sizeof *k->deadline);
	free(k);
	return may_end;
}
