/* SPDX-License-Identifier: MIT */
/*
 * A guest that never stops writing is protected by another VM of this process: hot and passive, over one channel and many. Whenever the primary is taken
 * away the standby runs on, every byte right; whenever the standby is taken away the primary runs on. What is compared is the proof that the guest
 * carries: its memory is a function of its device state.
 *
 * GODWIT_EPOCHS: checkpoints of each way (5). GODWIT_CUTS: links cut (12). GODWIT_SEED.
 */
#include "../unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/math.h"
#include "guest_kit.h"

static uint64_t seed = 1;

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static struct gw__mem_guest_opts ram_of(uint64_t mib, enum gw__mem_workload workload)
{
	return (struct gw__mem_guest_opts){.bytes = mib << 20, .seed = 7, .workload = workload, .writers = 2, .steps_per_second = 20000};
}

/* --- a pair --- */

struct pair {
	struct vm primary, standby;
	struct gw_guest_protect_opts protect;
	struct gw_guest_standby_opts stand_by;
	struct cut *cut; /* NULL: none */
	uint64_t until;  /* epochs, then the protection is ended in order; UINT64_MAX: the cut ends it */
	int protected, stood_by;

	pthread_t thread;
	char folder[32], uri[64];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool listens;
	uint64_t committed, received;             /* the last epoch, at either end */
	uint64_t flushed_pages, taken_back_pages; /* by all flushes of a hot one */
	uint64_t cancel_at;                       /* epoch after which the standby is cancelled; 0: none */
	int too_early;                            /* answer to a failover that was ordered before there was anything to run */
	bool wrong;                               /* a flushed standby was not what its primary was */
};

static void on_listening(void *ctx, const char *uri)
{
	struct pair *p = ctx;
	(void)uri;
	pthread_mutex_lock(&p->lock);
	p->listens = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

/* A hot one stands still here, flushed and loaded: its memory is what its primary's devices say. */
static void on_epoch(void *ctx, const struct gw_guest_epoch *e)
{
	struct pair *p = ctx;
	if (p->stand_by.hot && e->number && !vm_is_right(&p->standby))
		p->wrong = true;
	p->flushed_pages += e->flushed_pages;
	p->taken_back_pages += e->taken_back_pages;
	if (p->stand_by.hot && e->number) /* it runs ahead of its primary: pages that only it has written */
		gw__mem_guest_step(p->standby.mem, 0, 900);
	pthread_mutex_lock(&p->lock);
	p->received = e->number;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

/* From the primary's thread. */
static void on_committed(void *ctx, const struct gw_guest_epoch *e)
{
	struct pair *p = ctx;
	p->committed = e->number;
	assert_true(e->pause_us < 10000000);
	if (e->number >= p->until)
		gw_job_order(p->primary.job, GW_ORDER_FINISH);
	if (p->cancel_at && e->number == p->cancel_at)
		gw_job_cancel(p->standby.job);
}

static void *stand_by(void *ctx)
{
	struct pair *p = ctx;
	struct gw_guest_standby_opts o = p->stand_by;
	o.size = sizeof o;
	o.on_listening = on_listening;
	o.on_epoch = on_epoch;
	o.ctx = p;
	p->stood_by = gw_guest_standby(p->standby.job, p->standby.guest, p->uri, &o, &p->standby.result);
	on_listening(p, NULL);
	return NULL;
}

static void pair_new(struct pair *p, const struct gw__mem_guest_opts *ram, bool hot)
{
	*p = (struct pair){.until = UINT64_MAX, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	strcpy(p->folder, "/tmp/godwit-pair-XXXXXX");
	assert_non_null(mkdtemp(p->folder));
	snprintf(p->uri, sizeof p->uri, "unix:%s/in", p->folder);
	p->stand_by.hot = hot;
	p->protect.standby_timeout_ms = 20000; /* of a busy machine */
	vm_new(&p->primary, ram, false);
	vm_new(&p->standby, ram, true);
	assert_false(gw__mem_guest_resume(p->primary.mem));
	p->primary.runs = true;
}

static void pair_free(struct pair *p)
{
	vm_free(&p->primary);
	vm_free(&p->standby);
	unlink(p->uri + 5);
	assert_false(rmdir(p->folder));
}

/* Both calls begin; returns when the protection has ended. The standby waits for its order then, if it has an epoch. */
static void protect(struct pair *p)
{
	struct gw_guest_protect_opts o = p->protect;
	struct gw_limits limits = {.size = sizeof limits, .checkpoint_ms = 10};
	struct relay *relay = NULL;
	o.size = sizeof o;
	o.limits = &limits;
	o.on_committed = on_committed;
	o.ctx = p;
	p->stand_by.channels = o.channels;
	assert_false(pthread_create(&p->thread, NULL, stand_by, p));
	pthread_mutex_lock(&p->lock);
	while (!p->listens)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	p->too_early = gw_job_order(p->standby.job, GW_ORDER_FAILOVER);
	if (p->cut)
		relay = relay_start(p->folder, p->cut);
	p->protected = gw_guest_protect(p->primary.job, p->primary.guest, relay ? relay_uri(relay) : p->uri, &o, &p->primary.result);
	if (relay)
		relay_end(relay);
	assert_int_equal(gw_guest_where(p->primary.guest), GW_HERE); /* whatever came */
	assert_true(p->primary.runs);
	assert_true(vm_is_right(&p->primary));
}

/* A standby says LOADED first, and tells of it then. */
static void wait_received(struct pair *p, uint64_t epoch)
{
	pthread_mutex_lock(&p->lock);
	while (p->received < epoch)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	assert_int_equal(p->received, epoch);
}

static void end_standby(struct pair *p)
{
	gw_job_cancel(p->standby.job);
	pthread_join(p->thread, NULL);
	assert_int_equal(gw_guest_where(p->standby.guest), GW_EMPTY);
	assert_false(p->standby.runs);
}

/* The primary dies; the other goes on. */
static void fail_over(struct pair *p)
{
	gw__mem_guest_pause(p->primary.mem);
	p->primary.runs = false;
	assert_false(gw_job_order(p->standby.job, GW_ORDER_FAILOVER));
	pthread_join(p->thread, NULL);
	if (p->stood_by)
		fail_msg("failover: %d %s", p->stood_by, gw_job_error(p->standby.job));
	assert_int_equal(gw_guest_where(p->standby.guest), GW_HERE);
	assert_int_equal(p->standby.result.outcome.place, GW_PLACE_DESTINATION_RUNS);
	assert_true(p->standby.runs);
	assert_true(vm_is_right(&p->standby));
}

/* --- ways --- */

static const struct way {
	uint32_t channels;
	enum gw_compression compression;
	bool tls;
} ways[] = {{.channels = 0}, {.channels = 1}, {.channels = 2}, {.channels = 8}, {.channels = 2, .compression = GW_COMPRESS_ZLIB},
	{.channels = 2, .compression = GW_COMPRESS_ZSTD}, {.tls = true}, {.channels = 2, .tls = true},
	{.channels = 2, .compression = GW_COMPRESS_ZSTD, .tls = true}};

static void one_way(const struct way *way, bool hot, enum gw__mem_workload workload)
{
	struct gw__mem_guest_opts ram = ram_of(8, workload);
	const struct gw_tls_opts tls = {.size = sizeof tls, .creds_dir = key_folder('a')};
	const struct gw_link_opts link = {.size = sizeof link, .tls = way->tls ? &tls : NULL};
	struct pair p;
	pair_new(&p, &ram, hot);
	p.protect.link = p.stand_by.link = &link;
	p.protect.channels = way->channels;
	p.protect.compression = way->compression;
	p.until = number("GODWIT_EPOCHS", 5);
	protect(&p);
	if (p.protected)
		fail_msg("protect: %d %s; standby: %d %s", p.protected, gw_job_error(p.primary.job), p.stood_by,
			gw_job_error(p.standby.job));
	assert_true(p.committed >= p.until);
	wait_received(&p, p.committed);
	assert_int_equal(p.primary.result.epochs, p.committed);
	assert_int_equal(p.primary.result.channels, way->channels);
	assert_true(p.primary.result.pause_p50_us <= p.primary.result.pause_p99_us);
	assert_int_equal(p.primary.result.outcome.place, GW_PLACE_SOURCE_RUNS);
	assert_true(p.primary.paused == p.committed + 1);
	assert_int_equal(p.flushed_pages > 0, hot);
	assert_false(p.wrong);
	if (workload == GW__MEM_UNIFORM) /* of a hot set, or in a burst, both write every page */
		assert_int_equal(p.taken_back_pages > 0, hot);
	fail_over(&p);
	assert_int_equal(p.standby.result.channels, way->channels);
	pair_free(&p);
}

static void every_way(void **state)
{
	(void)state;
	for (unsigned i = 0; i < GW__LEN(ways); i++)
		for (unsigned hot = 0; hot < 2; hot++)
			one_way(&ways[i], hot, (enum gw__mem_workload)((2 * i + hot) % GW__MEM_TOLD));
	one_way(&ways[0], false, GW__MEM_BURST);
	one_way(&ways[2], true, GW__MEM_BURST);
	one_way(&ways[0], true, GW__MEM_UNIFORM);
	one_way(&ways[2], true, GW__MEM_UNIFORM);
}

/* --- the link breaks --- */

/* At any byte of either direction: the standby has its last epoch, or none; and is protected again afterwards. */
static void cuts(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(2, GW__MEM_BURST);
	unsigned failed_over = 0;
	for (unsigned i = 0, n = (unsigned)number("GODWIT_CUTS", 12); i < n; i++) {
		struct cut cut = {.forth = UINT64_MAX, .back = UINT64_MAX};
		struct pair p;
		if (i % 3 == 2)
			cut.back = 8 + 4 + 4 * (next_random() % 12) + next_random() % 4; /* PONG, SHUT, READY, and words of four bytes */
		else
			cut.forth = (UINT64_C(1) << 21) + next_random() % (UINT64_C(1) << 20);
		pair_new(&p, &ram, i % 2);
		p.cut = &cut;
		protect(&p);
		assert_true(p.protected < 0);
		while (gw_guest_where(p.standby.guest) == GW_ARRIVING)
			usleep(1000); /* it has not heard of it yet */
		if (gw_guest_where(p.standby.guest) == GW_STANDBY) {
			fail_over(&p);
			assert_true(p.standby.result.epochs >= p.committed);
			assert_true(p.standby.result.epochs <= p.committed + 1);
			failed_over++;
		} else {
			pthread_join(p.thread, NULL);
			assert_true(p.stood_by < 0);
			assert_int_equal(gw_guest_where(p.standby.guest), GW_EMPTY);
		}
		pair_free(&p);
	}
	assert_true(failed_over);
	print_message("%u failed over\n", failed_over);
}

/* --- orders, hooks --- */

static void orders(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(2, GW__MEM_UNIFORM);
	struct pair p;
	pair_new(&p, &ram, false);
	p.until = 2;
	assert_int_equal(gw_job_order(p.primary.job, GW_ORDER_CHECKPOINT), -ESRCH);
	protect(&p);
	assert_int_equal(p.protected, 0);
	assert_int_equal(p.too_early, -EPERM);
	assert_int_equal(gw_job_order(p.standby.job, GW_ORDER_FINISH), -EINVAL);
	assert_int_equal(gw_job_order(p.primary.job, GW_ORDER_FINISH), -ESRCH);
	assert_int_equal(gw_guest_send(p.primary.job, p.standby.guest, "tcp:127.0.0.1:1", NULL, NULL), -EBUSY);
	end_standby(&p);
	assert_int_equal(p.stood_by, -ECANCELED);
	pair_free(&p);
}

static int fences, fence_answers[3];
static int may_run(void *ctx)
{
	(void)ctx;
	return fence_answers[fences++];
}

static void fence(void **state)
{
	(void)state;
	for (int hot = 0; hot < 2; hot++)
		for (int last = -EPERM; last <= 0; last += -(-EPERM)) {
			struct gw__mem_guest_opts ram = ram_of(2, GW__MEM_HOT);
			struct pair p;
			pair_new(&p, &ram, hot);
			p.until = 2;
			p.stand_by.may_run = may_run;
			fences = 0;
			fence_answers[0] = -EAGAIN;
			fence_answers[1] = -ETIMEDOUT; /* nobody could be asked: that is no no */
			fence_answers[2] = last;
			protect(&p);
			assert_int_equal(p.protected, 0);
			if (last) {
				assert_false(gw_job_order(p.standby.job, GW_ORDER_FAILOVER));
				pthread_join(p.thread, NULL);
				assert_int_equal(p.stood_by, -EPERM);
				assert_false(p.standby.runs);
				assert_int_equal(gw_guest_where(p.standby.guest), GW_EMPTY);
			} else {
				fail_over(&p);
			}
			assert_int_equal(fences, 3);
			pair_free(&p);
		}
}

/* A standby is cancelled while its primary is well: it ends between two epochs, and nobody has to do more. */
static void cancelled(void **state)
{
	(void)state;
	for (unsigned hot = 0; hot < 2; hot++) {
		struct gw__mem_guest_opts ram = ram_of(2, GW__MEM_UNIFORM);
		struct pair p;
		pair_new(&p, &ram, hot);
		p.cancel_at = 2;
		protect(&p);
		assert_true(p.protected < 0);
		pthread_join(p.thread, NULL);
		assert_int_equal(p.stood_by, -ECANCELED);
		assert_int_equal(gw_guest_where(p.standby.guest), GW_EMPTY);
		assert_false(p.standby.runs);
		pair_free(&p);
	}
}

static int resume_will_fail(void *ctx)
{
	struct pair *p = ctx;
	p->standby.resume_fails = -EIO;
	return 0;
}

/* Devices that could not be loaded when a hot guest was to begin are loaded when it is failed over; a guest that cannot be resumed is here, and stopped. */
static void hooks_of_a_failover(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(2, GW__MEM_UNIFORM);
	struct pair p;
	pair_new(&p, &ram, true);
	p.standby.load_fails = -EIO;
	protect(&p);
	assert_true(p.protected < 0);
	fail_over(&p);
	pair_free(&p);
	for (unsigned hot = 0; hot < 2; hot++) {
		pair_new(&p, &ram, hot);
		p.until = 2;
		p.stand_by.may_run = resume_will_fail;
		protect(&p);
		gw__mem_guest_pause(p.primary.mem);
		p.primary.runs = false;
		assert_false(gw_job_order(p.standby.job, GW_ORDER_FAILOVER));
		pthread_join(p.thread, NULL);
		assert_int_equal(p.stood_by, -EIO);
		assert_true(p.standby.result.hook_failed);
		assert_int_equal(gw_guest_where(p.standby.guest), GW_HERE);
		assert_false(p.standby.runs);
		assert_true(vm_is_right(&p.standby));
		pair_free(&p);
	}
}

static int pause_will_fail(void *ctx)
{
	struct pair *p = ctx;
	p->standby.pause_fails = -EIO;
	return 0;
}

/* A hot guest that cannot be paused to be failed over is the only one there is: it is here, and runs on. */
static void a_pause_that_fails_in_a_failover(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(2, GW__MEM_UNIFORM);
	struct pair p;
	pair_new(&p, &ram, true);
	p.until = 2;
	p.stand_by.may_run = pause_will_fail;
	protect(&p);
	wait_received(&p, p.committed);
	gw__mem_guest_pause(p.primary.mem);
	p.primary.runs = false;
	assert_false(gw_job_order(p.standby.job, GW_ORDER_FAILOVER));
	pthread_join(p.thread, NULL);
	assert_int_equal(p.stood_by, -EIO);
	assert_true(p.standby.result.hook_failed);
	assert_int_equal(gw_guest_where(p.standby.guest), GW_HERE);
	assert_int_equal(p.standby.result.outcome.place, GW_PLACE_DESTINATION_RUNS);
	assert_true(p.standby.runs);
	assert_true(vm_is_right(&p.standby));
	pair_free(&p);
}

static int last_pause;
static int cancel_in_hook(void *ctx)
{
	struct pair *p = ctx;
	p->standby.pause_fails = last_pause;
	gw_job_cancel(p->standby.job);
	return -EAGAIN;
}

/* One that is given up is paused. If that fails, the call says so: a guest runs here that should not. */
static void a_pause_that_fails_when_it_is_given_up(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(2, GW__MEM_UNIFORM);
	struct pair p;
	for (int fails = 0; fails < 2; fails++) {
		pair_new(&p, &ram, true);
		p.until = 2;
		p.stand_by.may_run = cancel_in_hook;
		last_pause = fails ? -EIO : 0;
		protect(&p);
		assert_false(gw_job_order(p.standby.job, GW_ORDER_FAILOVER));
		pthread_join(p.thread, NULL);
		assert_int_equal(p.stood_by, -ECANCELED);
		assert_int_equal(p.standby.result.hook_failed, fails);
		assert_int_equal(gw_guest_where(p.standby.guest), GW_EMPTY);
		assert_int_equal(p.standby.runs, fails);
		pair_free(&p);
	}
}

/* A hot guest that its user had paused is not run on; it is asked to pause again all the same, as its user may have let it run. */
static void a_hot_standby_that_its_user_paused(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(2, GW__MEM_UNIFORM);
	struct pair p;
	pair_new(&p, &ram, true);
	p.until = 4;
	p.standby.stood_still = 1;
	protect(&p);
	assert_int_equal(p.protected, 0);
	wait_received(&p, p.committed);
	assert_int_equal(p.standby.paused, p.committed);
	fail_over(&p);
	assert_int_equal(p.standby.paused, p.committed + 1);
	assert_int_equal(p.standby.resumed, 2); /* at first, and for the failover: it was found paused each time, as nobody let it run */
	pair_free(&p);
}

/* A hook that fails ends the protection, and says so; the primary runs on. */
static void hooks(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct gw__mem_guest_opts ram = ram_of(2, GW__MEM_UNIFORM);
		struct pair p;
		pair_new(&p, &ram, i == 2);
		p.primary.pause_fails = i == 0 ? -EIO : 0;
		p.primary.save_fails = i == 1 ? -EIO : 0;
		p.standby.load_fails = i == 2 ? -EIO : 0;
		protect(&p);
		assert_true(p.protected < 0);
		assert_int_equal(p.primary.result.hook_failed, i < 2);
		end_standby(&p);
		pair_free(&p);
	}
}

static int uffd;

/* From now on nobody notices writes. */
static void stop_watching(struct vm *vm)
{
	struct gw__mem_ram ram = gw__mem_guest_ram(vm->mem);
	struct uffdio_range range = {(uintptr_t)ram.host, ram.bytes};
	ioctl(uffd, UFFDIO_UNREGISTER, &range);
}

/* Of a pair whose primary fails: why. */
static int protect_in_vain(struct pair *p, bool by_hook)
{
	protect(p);
	assert_true(p->protected < 0);
	assert_int_equal(p->primary.result.hook_failed, by_hook);
	end_standby(p);
	return p->protected;
}

/* What the library itself cannot track is no failure of a hook; what hooks of the program do not track is. */
static void whose_tracker_failed(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(2, GW__MEM_UNIFORM);
	struct pair p;
	vm_tracker = GW_TRACKER_WRITES;
	vm_uffd = &uffd;
	uffd = open("/dev/null", O_RDWR | O_CLOEXEC);
	pair_new(&p, &ram, false);
	assert_int_equal(protect_in_vain(&p, false), -EOPNOTSUPP);
	assert_non_null(strstr(gw_job_error(p.primary.job), "userfaultfd"));
	pair_free(&p);
	close(uffd);
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1); /* of faults in user mode */
	if (uffd >= 0) {                                                  /* an old kernel refuses what is to be done with it, as above */
		pair_new(&p, &ram, false);
		p.primary.on_pause = stop_watching;
		protect_in_vain(&p, false);
		pair_free(&p);
		close(uffd);
	}
	vm_uffd = NULL;
	vm_tracker = GW_TRACKER_OWN;
	for (unsigned i = 0; i < 2; i++) {
		pair_new(&p, &ram, false);
		p.primary.start_fails = i ? 0 : -EIO;
		p.primary.take_fails = i ? -EIO : 0;
		assert_int_equal(protect_in_vain(&p, true), -EIO);
		pair_free(&p);
	}
	pair_new(&p, &ram, true);
	p.standby.start_fails = -EIO;
	protect_in_vain(&p, false);
	assert_true(p.standby.result.hook_failed);
	pair_free(&p);
	vm_tracker = GW_TRACKER_TOLD;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_way),
		cmocka_unit_test(cuts),
		cmocka_unit_test(orders),
		cmocka_unit_test(fence),
		cmocka_unit_test(hooks),
		cmocka_unit_test(whose_tracker_failed),
		cmocka_unit_test(hooks_of_a_failover),
		cmocka_unit_test(a_pause_that_fails_in_a_failover),
		cmocka_unit_test(a_pause_that_fails_when_it_is_given_up),
		cmocka_unit_test(a_hot_standby_that_its_user_paused),
		cmocka_unit_test(cancelled),
	};
	seed = number("GODWIT_SEED", 1) * 2 + 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
