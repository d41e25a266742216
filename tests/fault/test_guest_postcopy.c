/* SPDX-License-Identifier: MIT */
/*
 * A guest that never stops writing leaves by post-copy: at once, after a round, when it is needed, on order, over a link that breaks again and again. The
 * destination keeps it in an image, which another VM takes over: every byte and the device state are right there. A destination made by hand requests
 * pages. The guest never runs here again once its package has begun to leave.
 */
#include "../unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/math.h"
#include "guest_kit.h"
#include "wire/ram.h"
#include "wire/return_path.h"

enum { PAGE = 4096 };

static struct gw__mem_guest_opts ram_of(uint64_t mib, unsigned steps_per_second)
{
	return (struct gw__mem_guest_opts){.bytes = mib << 20,
		.seed = 11,
		.workload = GW__MEM_UNIFORM,
		.writers = 2,
		.steps_per_second = steps_per_second};
}

static void start(struct vm *vm)
{
	assert_false(gw__mem_guest_resume(vm->mem));
	vm->runs = true;
}

/* --- a destination that keeps it in an image --- */

static const struct gw_tls_opts *tls; /* of both ends; NULL: none */

struct keeper {
	char folder[64], uri[128], image[128];
	gw_job *job;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool listens;
	unsigned paused;
	int result;
	struct gw_receive_result received;
};

static void on_listening(void *ctx, const char *uri)
{
	struct keeper *k = ctx;
	(void)uri;
	pthread_mutex_lock(&k->lock);
	k->listens = true;
	pthread_cond_signal(&k->changed);
	pthread_mutex_unlock(&k->lock);
}

static int on_paused(void *ctx, const char *uri, const char *reason)
{
	struct keeper *k = ctx;
	(void)uri, (void)reason;
	pthread_mutex_lock(&k->lock);
	k->paused++;
	pthread_cond_signal(&k->changed);
	pthread_mutex_unlock(&k->lock);
	return 0;
}

static void *keep(void *ctx)
{
	struct keeper *k = ctx;
	struct gw_receive_opts o = GW_INIT(o);
	const struct gw_link_opts link = {.size = sizeof link, .tls = tls};
	o.link = &link;
	o.on_listening = on_listening;
	o.on_paused = on_paused;
	o.ctx = k;
	k->received = (struct gw_receive_result)GW_INIT(k->received);
	k->result = gw_receive(k->job, k->uri, k->image, &o, &k->received);
	on_listening(k, NULL);
	return NULL;
}

static void keeper_start(struct keeper *k)
{
	*k = (struct keeper){.folder = "/tmp/godwit-postcopy-XXXXXX",
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER};
	assert_non_null(mkdtemp(k->folder));
	snprintf(k->uri, sizeof k->uri, "unix:%s/in", k->folder);
	snprintf(k->image, sizeof k->image, "%s/image", k->folder);
	assert_false(gw_job_new(&k->job));
	assert_false(pthread_create(&k->thread, NULL, keep, k));
	pthread_mutex_lock(&k->lock);
	while (!k->listens)
		pthread_cond_wait(&k->changed, &k->lock);
	pthread_mutex_unlock(&k->lock);
}

static void await_paused(struct keeper *k, unsigned times)
{
	pthread_mutex_lock(&k->lock);
	while (k->paused < times)
		pthread_cond_wait(&k->changed, &k->lock);
	pthread_mutex_unlock(&k->lock);
}

/* What it kept is a guest, every byte of it right. */
static void keeper_end(struct keeper *k, const struct gw__mem_guest_opts *ram)
{
	struct vm to;
	pthread_join(k->thread, NULL);
	if (k->result)
		fail_msg("received: %d %s", k->result, gw_job_error(k->job));
	vm_new(&to, ram, true);
	if (gw_guest_restore(to.job, to.guest, k->image, NULL, NULL))
		fail_msg("restored: %s", gw_job_error(to.job));
	assert_true(vm_is_right(&to));
	vm_free(&to);
	gw_job_free(k->job);
	unlink(k->image);
	unlink(k->uri + 5);
	assert_false(rmdir(k->folder));
}

/* --- when it switches --- */

struct seen {
	struct vm *vm;
	unsigned rounds, stopped, runs, runs_there;
	bool orders;
	int answer[2], too_late;
	enum gw_where there;
	uint64_t downtime_ns;
};

static void on_event(void *ctx, const struct gw_guest_event *e)
{
	struct seen *s = ctx;
	s->rounds += e->kind == GW_GUEST_ROUND;
	s->stopped += e->kind == GW_GUEST_STOPPED;
	s->runs += e->kind == GW_GUEST_RUNS;
	if (e->kind == GW_GUEST_ROUND && s->orders && s->rounds == 1) {
		s->answer[0] = gw_job_order(s->vm->job, GW_ORDER_POSTCOPY);
		s->answer[1] = gw_job_order(s->vm->job, GW_ORDER_POSTCOPY);
	}
	if (e->kind == GW_GUEST_STOPPED)
		s->too_late = gw_job_order(s->vm->job, GW_ORDER_POSTCOPY);
	if (e->kind == GW_GUEST_RUNS_THERE) {
		s->runs_there++;
		s->there = gw_guest_where(s->vm->guest);
		s->downtime_ns = e->downtime_ns;
	}
}

static void check_left(const struct vm *from, const struct seen *seen)
{
	assert_int_equal(gw_guest_where(from->guest), GW_GONE);
	assert_int_equal(from->result.where, GW_GONE);
	assert_int_equal(from->result.outcome.place, GW_PLACE_DESTINATION_RUNS);
	assert_true(from->result.postcopy && !from->runs && from->paused >= 1);
	assert_int_equal(seen->runs_there, 1);
	assert_int_equal(seen->there, GW_HELD);
	assert_int_equal(seen->stopped, 1);
	assert_int_equal(seen->runs, 0);
	assert_int_equal(seen->too_late, -EPERM);
	assert_int_equal(seen->downtime_ns, from->result.downtime_ns);
	assert_true(from->result.downtime_ns && from->result.downtime_ns < from->result.total_ns);
	assert_true(from->result.pushed_pages);
}

static void leaves(enum gw_guest_postcopy when, uint64_t max_bandwidth, struct seen *seen)
{
	struct gw__mem_guest_opts ram = ram_of(8, 20000);
	struct gw_guest_send_opts o = GW_INIT(o);
	struct gw_link_opts link = GW_INIT(link);
	struct keeper k;
	struct vm from;
	link.max_bandwidth = max_bandwidth;
	link.tls = tls;
	o.link = &link;
	o.postcopy = when;
	vm_new(&from, &ram, false);
	keeper_start(&k);
	start(&from);
	seen->vm = &from;
	assert_false(gw_job_on_guest_event(from.job, on_event, seen));
	if (gw_guest_send(from.job, from.guest, k.uri, &o, &from.result))
		fail_msg("sent: %s", gw_job_error(from.job));
	check_left(&from, seen);
	assert_true(from.result.pages + from.result.zero_pages >= 2048);
	assert_int_equal(gw_guest_send(from.job, from.guest, k.uri, &o, NULL), -ENODATA);
	keeper_end(&k, &ram);
	assert_true(k.received.postcopy);
	vm_free(&from);
}

static void at_once(void **state)
{
	(void)state;
	struct seen seen = {0};
	leaves(GW_POSTCOPY_AT_ONCE, 0, &seen);
	assert_int_equal(seen.rounds, 0);
}

static void after_a_round(void **state)
{
	(void)state;
	struct seen seen = {0};
	leaves(GW_POSTCOPY_AFTER_ROUND, 0, &seen);
	assert_int_equal(seen.rounds, 1);
}

/* Two writers dirty 80 MB/s; the link carries less. */
static void when_it_is_needed(void **state)
{
	(void)state;
	struct seen seen = {0};
	leaves(GW_POSTCOPY_IF_NEEDED, 20 << 20, &seen);
	assert_true(seen.rounds >= 1);
}

static void on_order(void **state)
{
	(void)state;
	struct seen seen = {.orders = true};
	leaves(GW_POSTCOPY_ON_ORDER, 0, &seen);
	assert_true(seen.rounds >= 1);
	assert_int_equal(seen.answer[0], 0);
	assert_int_equal(seen.answer[1], -EALREADY);
}

/* In the middle of a round that would take a minute. */
static void *order_when_it_has_begun(void *ctx)
{
	struct vm *vm = ctx;
	struct gw_progress p = GW_INIT(p);
	while (!gw_job_progress(vm->job, &p) && p.pages < 64)
		usleep(1000);
	while (gw_job_order(vm->job, GW_ORDER_POSTCOPY) == -ESRCH)
		usleep(1000);
	struct gw_limits none = GW_INIT(none);
	gw_job_limits(vm->job, &none);
	return NULL;
}

static void in_the_middle_of_a_round(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, 2000);
	struct gw_guest_send_opts o = GW_INIT(o);
	struct gw_link_opts link = GW_INIT(link);
	struct keeper k;
	struct vm from;
	pthread_t thread;
	link.max_bandwidth = 2 << 20;
	o.link = &link;
	o.postcopy = GW_POSTCOPY_ON_ORDER;
	vm_new(&from, &ram, false);
	keeper_start(&k);
	start(&from);
	assert_false(pthread_create(&thread, NULL, order_when_it_has_begun, &from));
	assert_false(gw_guest_send(from.job, from.guest, k.uri, &o, &from.result));
	pthread_join(thread, NULL);
	assert_true(from.result.postcopy);
	assert_int_equal(from.result.rounds, 0);
	keeper_end(&k, &ram);
	vm_free(&from);
}

/* Allowed, and not needed: it is a pre-copy like any other, and one page goes by post-copy if nothing is left but that. */
static void not_needed(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, 50);
	struct gw_guest_send_opts o = GW_INIT(o);
	static const enum gw_guest_postcopy ways[] = {GW_POSTCOPY_IF_NEEDED, GW_POSTCOPY_AFTER_ROUND};
	for (unsigned i = 0; i < GW__LEN(ways); i++) {
		struct keeper k;
		struct vm from;
		vm_new(&from, &ram, false);
		keeper_start(&k);
		if (!i)
			start(&from); /* else nothing is written any more */
		o.postcopy = ways[i];
		assert_false(gw_guest_send(from.job, from.guest, k.uri, &o, &from.result));
		assert_int_equal(from.result.postcopy, i);
		assert_int_equal(from.result.pushed_pages, i);
		keeper_end(&k, &ram);
		assert_int_equal(k.received.postcopy, i);
		vm_free(&from);
	}
}

/* --- a link that breaks --- */

enum { IN_DOUBT = 1, HELD = 2 };

/* So many bytes of it forth and back, by which it came to one of `wanted`; again without a limit at last. */
static void breaks(const struct cut *cuts, unsigned n, const unsigned *wanted)
{
	struct gw__mem_guest_opts ram = ram_of(4, 2000);
	struct gw_guest_send_opts o = GW_INIT(o);
	const struct gw_link_opts link = {.size = sizeof link, .tls = tls};
	struct keeper k;
	struct vm from;
	o.link = &link;
	o.postcopy = GW_POSTCOPY_AT_ONCE;
	vm_new(&from, &ram, false);
	keeper_start(&k);
	start(&from);
	for (unsigned i = 0; i < n; i++) {
		struct cut cut = cuts[i];
		struct relay *relay = relay_start(k.folder, &cut);
		int r = gw_guest_send(from.job, from.guest, relay_uri(relay), &o, &from.result);
		relay_end(relay);
		enum gw_where where = gw_guest_where(from.guest);
		if (r >= 0 || !(wanted[i] & (where == GW_HELD ? HELD : where == GW_IN_DOUBT ? IN_DOUBT : 0)))
			fail_msg("cut %u: %d %s, %s", i, r, gw_job_error(from.job), gw_guest_where_name(where));
		assert_true(from.result.postcopy && !from.runs);
		assert_int_equal(from.result.outcome.exit_status, where == GW_HELD ? 5 : 4);
		assert_int_equal(from.result.outcome.next_step == GW_NEXT_RECOVER, where == GW_HELD);
		await_paused(&k, i + 1);
		o.resume = false;
		assert_int_equal(gw_guest_send(from.job, from.guest, k.uri, &o, &from.result), -EINPROGRESS);
		assert_int_equal(gw_guest_free(from.guest), -EBUSY);
		o.resume = true;
	}
	if (gw_guest_send(from.job, from.guest, k.uri, &o, &from.result))
		fail_msg("resumed: %s", gw_job_error(from.job));
	assert_int_equal(gw_guest_where(from.guest), GW_GONE);
	assert_int_equal(from.result.outcome.place, GW_PLACE_DESTINATION_RUNS);
	assert_true(!from.runs && !from.resumed);
	keeper_end(&k, &ram);
	vm_free(&from);
}

static void a_link_that_breaks_again_and_again(void **state)
{
	(void)state;
	static const struct cut cuts[] = {{.forth = 500000, .back = UINT64_MAX}, {.forth = 900000, .back = UINT64_MAX},
		{.forth = 40, .back = UINT64_MAX}, {.forth = 700000, .back = UINT64_MAX}};
	static const unsigned where[] = {IN_DOUBT | HELD, HELD, HELD, HELD}; /* at first, as far as its PONG came */
	breaks(cuts, GW__LEN(cuts), where);
}

/* All of it by TLS, and a break within a record. */
static void encrypted(void **state)
{
	(void)state;
	static const struct cut cuts[] = {{.forth = 500000, .back = UINT64_MAX}, {.forth = 900000, .back = UINT64_MAX},
		{.forth = 300, .back = UINT64_MAX}};
	static const unsigned where[] = {IN_DOUBT | HELD, HELD, HELD};
	const struct gw_tls_opts keys = {.size = sizeof keys, .creds_dir = key_folder('a')};
	struct seen seen = {0};
	tls = &keys;
	leaves(GW_POSTCOPY_AFTER_ROUND, 0, &seen);
	breaks(cuts, GW__LEN(cuts), where);
	tls = NULL;
}

/* Before its PONG 0x42 nobody here knows whether it runs the guest. The receiver of an image says that only when it is safe, and PONG 1 and 2 before. */
static void a_link_that_breaks_in_the_package(void **state)
{
	(void)state;
	static const struct cut cuts[] = {{.forth = 500000, .back = 17}, {.forth = 900000, .back = UINT64_MAX}};
	static const unsigned where[] = {IN_DOUBT, HELD};
	breaks(cuts, GW__LEN(cuts), where);
}

/* Before the package each failure lets it run on, and the next attempt is a new one. */
static void a_link_that_breaks_before(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, 2000);
	struct gw_guest_send_opts o = GW_INIT(o);
	struct cut cut = {.forth = 100, .back = UINT64_MAX};
	struct keeper k;
	struct vm from;
	vm_new(&from, &ram, false);
	keeper_start(&k);
	start(&from);
	o.postcopy = GW_POSTCOPY_AFTER_ROUND;
	struct relay *relay = relay_start(k.folder, &cut);
	assert_true(gw_guest_send(from.job, from.guest, relay_uri(relay), &o, &from.result) < 0);
	relay_end(relay);
	assert_int_equal(gw_guest_where(from.guest), GW_HERE);
	assert_true(from.runs && !from.result.postcopy && vm_is_right(&from));
	pthread_join(k.thread, NULL);
	assert_true(k.result < 0);
	o.resume = true;
	assert_int_equal(gw_guest_send(from.job, from.guest, k.uri, &o, NULL), -ENODATA);
	gw_job_free(k.job);
	unlink(k.uri + 5);
	assert_false(rmdir(k.folder));
	vm_free(&from);
}

/* A destination that takes no switch has said so before the devices leave: nobody is in doubt. */
static void a_destination_that_takes_no_switch(void **state)
{
	(void)state;
	static const enum gw_guest_postcopy ways[] = {GW_POSTCOPY_AT_ONCE, GW_POSTCOPY_AFTER_ROUND};
	struct gw__mem_guest_opts ram = ram_of(4, 2000);
	for (unsigned i = 0; i < GW__LEN(ways); i++) {
		struct move m = {.send = {.postcopy = ways[i]}};
		struct vm from, to;
		vm_new(&from, &ram, false);
		vm_new(&to, &ram, true);
		start(&from);
		vm_move(&from, &to, &m);
		if (m.sent != -EREMOTEIO && m.sent != -EPIPE && m.sent != -ECONNRESET)
			fail_msg("sent: %d %s", m.sent, gw_job_error(from.job));
		assert_true(m.received < 0);
		assert_int_equal(gw_guest_where(from.guest), GW_HERE);
		assert_int_equal(gw_guest_where(to.guest), GW_EMPTY);
		assert_int_equal(from.result.outcome.place, GW_PLACE_SOURCE_RUNS);
		assert_true(from.runs && from.resumed == 1 && !from.result.postcopy && !to.runs);
		assert_true(vm_is_right(&from));
		vm_free(&from);
		vm_free(&to);
	}
}

/* --- a destination made by hand --- */

struct peer {
	int listener, fd;
	uint8_t *ram;
	uint8_t *came; /* per page: how often */
	uint64_t pages;
	uint64_t ask_page;
	bool asked, leaves, bad;
	uint64_t after_request; /* pages that came between the request and its answer */
};

static bool get(struct peer *p, void *to, size_t n) { return recv(p->fd, to, n, MSG_WAITALL) == (ssize_t)n; }

static void say(struct peer *p, const struct gw__rp_msg *m)
{
	uint8_t bytes[64];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__rp_encode(&c, m);
	p->bad |= send(p->fd, bytes, gw__wr_used(&c), MSG_NOSIGNAL) != (ssize_t)gw__wr_used(&c);
}

/* Up to RUN, the last command of the package, and the PING behind it. */
static bool skip_to_run(struct peer *p)
{
	static const uint8_t run[] = {8, 0, 5, 0, 0, 8, 0, 2, 0, 4, 0, 0, 0, 4};
	unsigned at = 0;
	for (uint8_t byte; at < sizeof run && get(p, &byte, 1);)
		at = byte == run[at] ? at + 1 : byte == run[0];
	return at == sizeof run;
}

/* A record, or the end of its section. False: the end of all. */
static bool take_record(struct peer *p)
{
	uint8_t word[8], n, name[256], fill, footer[5];
	if (!get(p, word, sizeof word))
		return false;
	uint64_t w = gw__be_get(word, 8), flags = w & 0xfff, page = (w & ~UINT64_C(0xfff)) / PAGE;
	if (flags & GW__RAM_EOS)
		return get(p, footer, sizeof footer) && get(p, &n, 1) && n != 0 && get(p, footer, 4);
	if (!(flags & GW__RAM_CONTINUE) && !(get(p, &n, 1) && get(p, name, n)))
		return false;
	if (page >= p->pages)
		return false;
	p->came[page]++;
	p->after_request += p->asked && !p->came[p->ask_page];
	return flags & GW__RAM_ZERO ? get(p, &fill, 1) && memset(p->ram + page * PAGE, fill, PAGE) : get(p, p->ram + page * PAGE, PAGE);
}

static void *be_destination(void *ctx)
{
	struct peer *p = ctx;
	uint8_t head[5];
	struct gw__rp_msg ask = {.type = GW__RP_REQ_PAGES_ID, .start_off = p->ask_page * PAGE, .length_bytes = 2 * PAGE};
	strcpy(ask.block, "ram0");
	p->fd = accept(p->listener, NULL, NULL);
	say(p, &(struct gw__rp_msg){.type = GW__RP_PONG, .value = 2}); /* it takes the switch */
	p->bad = !skip_to_run(p);
	say(p, &(struct gw__rp_msg){.type = GW__RP_PONG, .value = 0x42});
	say(p, &ask);
	p->asked = true;
	if (get(p, head, sizeof head))
		while (take_record(p))
			;
	if (!p->leaves)
		say(p, &(struct gw__rp_msg){.type = GW__RP_SHUT});
	close(p->fd);
	return NULL;
}

static void requested_pages_first(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(32, 0);
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct gw_guest_send_opts o = GW_INIT(o);
	struct gw_link_opts link = GW_INIT(link);
	struct vm from;
	struct peer p = {.pages = (32 << 20) / PAGE};
	char uri[128];
	pthread_t thread;
	p.ram = malloc(32 << 20);
	p.came = calloc(p.pages, 1);
	p.ask_page = p.pages - 4;
	snprintf(at.sun_path, sizeof at.sun_path, "/tmp/godwit-postcopy-%d", (int)getpid());
	snprintf(uri, sizeof uri, "unix:%s", at.sun_path);
	p.listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(!bind(p.listener, (struct sockaddr *)&at, sizeof at) && !listen(p.listener, 1));
	assert_false(pthread_create(&thread, NULL, be_destination, &p));
	vm_new(&from, &ram, false);
	o.postcopy = GW_POSTCOPY_AT_ONCE;
	link.max_bandwidth = 64 << 20; /* half a second, in which there is time to ask */
	o.link = &link;
	if (gw_guest_send(from.job, from.guest, uri, &o, &from.result))
		fail_msg("sent: %s", gw_job_error(from.job));
	pthread_join(thread, NULL);
	assert_false(p.bad);
	assert_int_equal(from.result.requests, 1);
	assert_int_equal(from.result.requested_pages, 2);
	assert_int_equal(from.result.requested_pages + from.result.pushed_pages, p.pages);
	assert_true(from.result.latency_max_us > 0);
	assert_true(p.after_request < p.pages / 2);
	for (uint64_t i = 0; i < p.pages; i++)
		assert_int_equal(p.came[i], 1);
	assert_memory_equal(p.ram, gw__mem_guest_ram(from.mem).host, 32 << 20);
	close(p.listener);
	unlink(at.sun_path);
	vm_free(&from);
	free(p.ram);
	free(p.came);
}

/* --- what cannot be --- */

static void what_cannot_be_asked_for(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, 100);
	struct gw_guest_send_opts o = GW_INIT(o);
	struct vm from;
	vm_new(&from, &ram, false);
	o.channels = 2;
	o.postcopy = GW_POSTCOPY_IF_NEEDED;
	assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", &o, &from.result), -EINVAL);
	assert_non_null(strstr(gw_job_error(from.job), "expected 0"));
	assert_int_equal(gw_guest_where(from.guest), GW_HERE);
	o.channels = 0;
	o.postcopy = (enum gw_guest_postcopy)99;
	assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", &o, &from.result), -EINVAL);
	o.postcopy = GW_POSTCOPY_NEVER;
	o.resume = true;
	assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", &o, &from.result), -ENODATA);
	assert_non_null(strstr(gw_job_error(from.job), "no post-copy to resume"));
	o.resume = false;
	o.preempt = true;
	assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", &o, &from.result), -EINVAL);
	assert_non_null(strstr(gw_job_error(from.job), "is for post-copy"));
	o.postcopy = GW_POSTCOPY_AT_ONCE;
	assert_int_equal(gw_guest_send(from.job, from.guest, "exec:true", &o, &from.result), -EINVAL);
	o.preempt = false;
	o.postcopy = GW_POSTCOPY_NEVER;
	o.xbzrle_cache = 1 << 20;
	o.channels = 2;
	assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", &o, &from.result), -EINVAL);
	assert_non_null(strstr(gw_job_error(from.job), "xbzrle_cache"));
	assert_int_equal(gw_guest_where(from.guest), GW_HERE);
	vm_free(&from);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(at_once),
		cmocka_unit_test(after_a_round),
		cmocka_unit_test(when_it_is_needed),
		cmocka_unit_test(on_order),
		cmocka_unit_test(in_the_middle_of_a_round),
		cmocka_unit_test(not_needed),
		cmocka_unit_test(a_link_that_breaks_again_and_again),
		cmocka_unit_test(encrypted),
		cmocka_unit_test(a_link_that_breaks_in_the_package),
		cmocka_unit_test(a_link_that_breaks_before),
		cmocka_unit_test(a_destination_that_takes_no_switch),
		cmocka_unit_test(requested_pages_first),
		cmocka_unit_test(what_cannot_be_asked_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
