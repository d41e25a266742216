/* SPDX-License-Identifier: MIT */
/*
 * A guest that never stops writing moves from one VM of this process to another: in every way, back and forth, cancelled at any moment, over a link that
 * breaks at each byte that matters, with hooks that fail. Afterwards one of the two runs it, every byte right, or it is in doubt; never both.
 *
 * GODWIT_MOVES: how often back and forth (30). GODWIT_SEED.
 */
#include "../unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

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

/* Who has it, after whatever happened. */
static void check_one_has_it(struct vm *from, struct vm *to, const struct move *m)
{
	enum gw_where a = gw_guest_where(from->guest), b = gw_guest_where(to->guest);
	assert_true(a == GW_HERE || a == GW_GONE || a == GW_IN_DOUBT);
	assert_true(b == GW_HERE || b == GW_EMPTY ||
		    (b == GW_GONE && m->received < 0)); /* the last: it left from here before, and nobody came */
	assert_false(a == GW_HERE && b == GW_HERE);
	assert_false(a == GW_GONE && b != GW_HERE);
	assert_true((m->sent == 0) == (a == GW_GONE));
	assert_true((m->received >= 0) == (b == GW_HERE));
	assert_int_equal(from->runs, a == GW_HERE);
	assert_int_equal(to->runs, b == GW_HERE);
	assert_int_equal(from->result.where, a);
	assert_int_equal(to->result.where, b);
	if (a == GW_HERE)
		assert_true(vm_is_right(from));
	if (b == GW_HERE)
		assert_true(vm_is_right(to));
}

static void must_arrive(struct vm *from, struct vm *to, struct move *m)
{
	vm_move(from, to, m);
	if (m->sent || m->received)
		fail_msg("sent: %d %s; received: %d %s", m->sent, gw_job_error(from->job), m->received, gw_job_error(to->job));
	check_one_has_it(from, to, m);
}

static void start(struct vm *vm)
{
	assert_false(gw__mem_guest_resume(vm->mem));
	vm->runs = true;
}

static const struct way {
	uint32_t channels;
	enum gw_compression compression;
	bool no_confirm;
	uint64_t xbzrle_cache;
} ways[] = {{.channels = 0}, {.no_confirm = true}, {.channels = 2}, {.channels = 8}, {.channels = 2, .compression = GW_COMPRESS_ZLIB},
	{.channels = 2, .compression = GW_COMPRESS_ZSTD}, {.channels = 1}, {.xbzrle_cache = 1 << 20}, {.xbzrle_cache = 16 << 20}};

static struct move move_by(const struct way *way)
{
	struct move m = {0};
	m.send.channels = way->channels;
	m.send.compression = way->compression;
	m.send.no_confirm = way->no_confirm;
	m.send.xbzrle_cache = way->xbzrle_cache;
	return m;
}

static void every_way(void **state)
{
	(void)state;
	for (unsigned i = 0; i < GW__LEN(ways); i++)
		for (unsigned k = 0; k < 2; k++) {
			struct gw__mem_guest_opts ram = ram_of(8, (enum gw__mem_workload)((2 * i + k) % GW__MEM_TOLD));
			struct move m = move_by(&ways[i]);
			struct vm from, to;
			ram.shared = k;
			vm_new(&from, &ram, false);
			vm_new(&to, &ram, true);
			start(&from);
			must_arrive(&from, &to, &m);
			assert_int_equal(from.result.channels, ways[i].channels);
			assert_int_equal(to.result.channels, ways[i].channels);
			assert_true(from.result.pages + from.result.zero_pages >= 2048);
			assert_true(from.result.downtime_ns && from.result.downtime_ns < from.result.total_ns);
			assert_int_equal(from.result.outcome.place, GW_PLACE_DESTINATION_RUNS);
			assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", NULL, NULL), -ENODATA);
			vm_free(&from);
			vm_free(&to);
		}
}

/* Each way again by TLS; a peer with another key, or none, gets nothing, and the guest runs on. */
static void encrypted(void **state)
{
	(void)state;
	const struct gw_tls_opts tls = {.size = sizeof tls, .creds_dir = key_folder('a')},
				 other = {.size = sizeof other, .creds_dir = key_folder('b')};
	const struct gw_link_opts link = {.size = sizeof link, .tls = &tls}, other_link = {.size = sizeof other_link, .tls = &other};
	for (unsigned i = 0; i < GW__LEN(ways); i++) {
		struct gw__mem_guest_opts ram = ram_of(4, (enum gw__mem_workload)(i % GW__MEM_TOLD));
		struct vm from, to;
		vm_new(&from, &ram, false);
		vm_new(&to, &ram, true);
		start(&from);
		for (unsigned k = 0; k < 3; k++) {
			struct move m = move_by(&ways[i]);
			m.send.link = k == 0 ? &other_link : k == 1 ? NULL : &link;
			m.receive.link = &link;
			m.is_stranger = k < 2;
			if (k == 2) {
				must_arrive(&from, &to, &m);
				break;
			}
			vm_move(&from, &to, &m);
			assert_true(m.sent && m.received < 0);
			check_one_has_it(&from, &to, &m);
			assert_int_equal(gw_guest_where(from.guest), GW_HERE);
			gw_job_reset(to.job);
		}
		vm_free(&from);
		vm_free(&to);
	}
}

static void back_and_forth(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_BURST);
	struct vm vm[2];
	vm_new(&vm[0], &ram, false);
	vm_new(&vm[1], &ram, true);
	start(&vm[0]);
	for (unsigned i = 0, n = (unsigned)number("GODWIT_MOVES", 30); i < n; i++) {
		struct move m = move_by(&ways[i % GW__LEN(ways)]);
		must_arrive(&vm[i % 2], &vm[1 - i % 2], &m);
	}
	vm_free(&vm[0]);
	vm_free(&vm[1]);
}

/* Nobody reports anything but what no tracker sees: writes through another mapping, memory that is given back. */
static void tracked_by_the_kernel(void **state)
{
	(void)state;
	static const enum gw__mem_workload workloads[] = {GW__MEM_UNIFORM, GW__MEM_BURST, GW__MEM_DISCARD, GW__MEM_TOLD};
	vm_tracker = GW_TRACKER_AUTO;
	for (unsigned i = 0; i < GW__LEN(workloads); i++) {
		struct gw__mem_guest_opts ram = ram_of(4, workloads[i]);
		struct vm vm[2];
		ram.shared = workloads[i] == GW__MEM_TOLD || i % 2;
		vm_new(&vm[0], &ram, false);
		vm_new(&vm[1], &ram, true);
		assert_string_equal(gw_guest_tracker(vm[0].guest), "writes");
		start(&vm[0]);
		for (unsigned k = 0; k < 4; k++) {
			struct move m = move_by(&ways[(i + k) % GW__LEN(ways)]);
			vm_move(&vm[k % 2], &vm[1 - k % 2], &m);
			if (!k && (m.sent == -EPERM || m.sent == -EOPNOTSUPP)) {
				fprintf(stderr, "SKIPPED: %s\n", gw_job_error(vm[0].job));
				vm_free(&vm[0]);
				vm_free(&vm[1]);
				vm_tracker = GW_TRACKER_TOLD;
				skip();
			}
			assert_true(!m.sent && !m.received);
			check_one_has_it(&vm[k % 2], &vm[1 - k % 2], &m);
		}
		vm_free(&vm[0]);
		vm_free(&vm[1]);
	}
	vm_tracker = GW_TRACKER_TOLD;
}

/* A round over channels that takes longer than the main channel may be silent. */
static void a_slow_link(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(5, GW__MEM_UNIFORM);
	struct gw_link_opts slow = GW_INIT(slow), impatient = GW_INIT(impatient);
	struct move m = {0};
	struct vm from, to;
	ram.steps_per_second = 20;
	slow.max_bandwidth = 1 << 20;
	impatient.idle_timeout_ms = 3000;
	m.send.link = &slow;
	m.send.channels = 2;
	m.receive.link = &impatient;
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	start(&from);
	must_arrive(&from, &to, &m);
	vm_free(&from);
	vm_free(&to);
}

/* --- cancel --- */

struct canceller {
	gw_job *job;
	uint64_t after_bytes;
	_Atomic bool over;
};

static void *cancel_when(void *ctx)
{
	struct canceller *c = ctx;
	struct gw_progress p = GW_INIT(p);
	while (!c->over && !gw_job_progress(c->job, &p) && p.pages * 4096 < c->after_bytes)
		nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
	gw_job_cancel(c->job);
	return NULL;
}

static void cancelled_at_random(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(8, GW__MEM_UNIFORM);
	struct vm from, to;
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	start(&from);
	for (unsigned i = 0; i < 24; i++) {
		struct move m = move_by(&ways[i % GW__LEN(ways)]);
		bool sender = next_random() % 3;
		struct canceller c = {.job = sender ? from.job : to.job, .after_bytes = next_random() % (9 << 20)};
		pthread_t thread;
		assert_int_equal(pthread_create(&thread, NULL, cancel_when, &c), 0);
		vm_move(&from, &to, &m);
		c.over = true;
		pthread_join(thread, NULL);
		check_one_has_it(&from, &to, &m);
		gw_job_reset(from.job);
		gw_job_reset(to.job);
		if (gw_guest_where(to.guest) == GW_HERE) { /* it was too late: once more, the other way round */
			if (gw_guest_where(from.guest) == GW_IN_DOUBT)
				assert_int_equal(gw_guest_decide(from.guest, false), 0);
			must_arrive(&to, &from, &(struct move){0});
		} else if (gw_guest_where(from.guest) == GW_IN_DOUBT) { /* the receiver was cancelled with the last bytes in its hands */
			assert_false(sender);
			assert_int_equal(gw_guest_decide(from.guest, true), 0);
			start(&from);
		}
	}
	must_arrive(&from, &to, &(struct move){0});
	vm_free(&from);
	vm_free(&to);
}

/* --- a link that breaks --- */

/* A new pair, the guest moved over a link that is cut; how it came out is counted. */
static void cut_at(uint64_t forth, uint64_t back, struct cut *whole, unsigned *outcomes)
{
	struct gw__mem_guest_opts ram = {.bytes = 16 * 4096, .seed = 3, .writers = 1, .steps_per_second = 200};
	struct cut cut = {.forth = forth, .back = back};
	struct move m = {.cut = &cut};
	struct gw_link_opts link = GW_INIT(link);
	struct vm from, to;
	link.idle_timeout_ms = 10000;
	m.send.link = m.receive.link = &link;
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	start(&from);
	vm_move(&from, &to, &m);
	check_one_has_it(&from, &to, &m);
	if (whole)
		*whole = cut;
	outcomes[gw_guest_where(from.guest)]++;
	vm_free(&from);
	vm_free(&to);
}

static void a_link_that_breaks_anywhere(void **state)
{
	(void)state;
	struct cut whole, once;
	unsigned outcomes[GW_GONE + 1] = {0};
	cut_at(UINT64_MAX, UINT64_MAX, &whole, outcomes);
	for (unsigned i = 0; i < 4; i++) { /* the guest writes, so lengths differ: the shortest is met by all */
		cut_at(UINT64_MAX, UINT64_MAX, &once, outcomes);
		whole = once.forth_bytes < whole.forth_bytes ? once : whole;
	}
	assert_int_equal(outcomes[GW_GONE], 5);
	/* Head and list; in RAM by big steps; and all from the last device to the end. */
	for (uint64_t i = 0; i < 200; i += 7)
		cut_at(i, UINT64_MAX, NULL, outcomes);
	for (uint64_t i = 200; i + 900 < whole.forth_bytes; i += 4001)
		cut_at(i, UINT64_MAX, NULL, outcomes);
	for (uint64_t i = whole.forth_bytes - 900; i <= whole.forth_bytes; i += number("GODWIT_CUT_STEP", 11))
		cut_at(i, UINT64_MAX, NULL, outcomes);
	for (uint64_t i = 1; i <= whole.back_bytes; i++)
		cut_at(UINT64_MAX, i, NULL, outcomes);
	fprintf(stderr, "cuts: %u here again, %u gone, %u in doubt\n", outcomes[GW_HERE], outcomes[GW_GONE], outcomes[GW_IN_DOUBT]);
	assert_true(outcomes[GW_HERE] > 20 && outcomes[GW_IN_DOUBT]);
}

/* --- hooks that fail, guests that do not fit --- */

static void hooks_that_fail(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct vm from, to;
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	start(&from);
	struct move m = {0};
	from.pause_fails = -EIO;
	vm_move(&from, &to, &m);
	assert_int_equal(m.sent, -EIO);
	assert_true(from.result.hook_failed && !from.paused && !from.resumed);
	check_one_has_it(&from, &to, &m);
	from.save_fails = 1; /* no answer of a save */
	vm_move(&from, &to, &m);
	assert_int_equal(m.sent, -EPROTO);
	assert_true(from.result.hook_failed && from.resumed == 1);
	check_one_has_it(&from, &to, &m);
	to.load_fails = -EBADMSG;
	vm_move(&from, &to, &m);
	assert_int_equal(m.received, -EBADMSG);
	assert_int_equal(m.sent, -EREMOTEIO);
	assert_true(to.result.hook_failed && from.resumed == 2);
	check_one_has_it(&from, &to, &m);
	from.resume_fails = -EAGAIN;
	from.save_fails = -ENOSPC;
	vm_move(&from, &to, &m);
	assert_int_equal(m.sent, -ENOSPC);
	assert_int_equal(gw_guest_where(from.guest), GW_HERE);
	assert_int_equal(from.result.outcome.place, GW_PLACE_SOURCE_PAUSED);
	assert_non_null(strstr(gw_job_error(from.job), "lets the guest run again failed"));
	assert_false(from.runs);
	start(&from);
	to.resume_fails = -EPERM; /* it is here, and stands still */
	vm_move(&from, &to, &m);
	assert_int_equal(m.received, -EPERM);
	assert_int_equal(m.sent, 0);
	assert_int_equal(gw_guest_where(to.guest), GW_HERE);
	assert_int_equal(gw_guest_where(from.guest), GW_GONE);
	assert_true(vm_is_right(&to));
	vm_free(&from);
	vm_free(&to);
}

static void write_everything(struct vm *vm) { gw_guest_dirty(vm->guest, "ram0", 0, gw__mem_guest_ram(vm->mem).bytes); }

/* It was paused to be counted, and was to run on: the send fails, and says that the guest is stopped. */
static void a_guest_that_cannot_run_on_after_a_look(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = {.bytes = 4 << 20, .seed = 7, .writers = 1, .steps_per_second = 1};
	struct gw_link_opts slow = GW_INIT(slow);
	struct gw_limits limits = {.size = sizeof limits, .downtime_ms = 600};
	struct move m = {.send = {.link = &slow, .limits = &limits, .converge = GW_CONVERGE_GIVE_UP}};
	struct vm from, to;
	slow.max_bandwidth = 4 << 20; /* all pages take a second, which is too long */
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	start(&from);
	from.on_pause = write_everything;
	from.resume_fails = -EAGAIN;
	vm_move(&from, &to, &m);
	assert_int_equal(from.paused, 1);
	assert_true(m.sent < 0 && m.received < 0);
	assert_true(from.result.hook_failed && !from.runs && !from.resumed);
	assert_int_equal(gw_guest_where(from.guest), GW_HERE);
	assert_int_equal(gw_guest_where(to.guest), GW_EMPTY);
	assert_int_equal(from.result.outcome.place, GW_PLACE_SOURCE_PAUSED);
	assert_int_equal(from.result.outcome.next_step, GW_NEXT_CONTINUE_SOURCE);
	assert_non_null(strstr(gw_job_error(from.job), "lets the guest run"));
	vm_free(&from);
	vm_free(&to);
}

static void a_guest_that_stood_still(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct vm from, to;
	struct move m = {0};
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	from.save_fails = -EIO;
	vm_move(&from, &to, &m);
	assert_int_equal(m.sent, -EIO);
	assert_int_equal(from.resumed, 0); /* of its user's wish it stands still */
	m.receive.stay_paused = true;
	vm_move(&from, &to, &m);
	assert_true(!m.sent && !m.received && !to.runs && !to.resumed);
	assert_true(vm_is_right(&to));
	vm_free(&from);
	vm_free(&to);
}

static void must_be_turned_away(struct vm *from, struct vm *to, int wanted, const char *sentence)
{
	struct move m = {0};
	vm_move(from, to, &m);
	if (m.received != wanted || !strstr(gw_job_error(to->job), sentence))
		fail_msg("received: %d %s; expected %d %s", m.received, gw_job_error(to->job), wanted, sentence);
	assert_true(m.sent < 0);
	check_one_has_it(from, to, &m);
}

static void guests_that_do_not_fit(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM), more = ram_of(5, GW__MEM_UNIFORM);
	struct gw__mem_ram memory;
	struct gw_block block = GW_INIT(block);
	struct gw_device device = GW_INIT(device);
	struct vm from, to;
	vm_new(&from, &ram, false);
	vm_new(&to, &more, true);
	start(&from);
	must_be_turned_away(&from, &to, -EINVAL, "4194304 bytes, expected 5242880");
	memory = gw__mem_guest_ram(to.mem);
	block.host = memory.host;
	block.bytes = 4 << 20;
	block.name = "ram1";
	assert_int_equal(gw_guest_remove_block(to.guest, "ram0"), 0);
	must_be_turned_away(&from, &to, -EINVAL, "has a RAM block \"ram0\", which this one has not");
	assert_int_equal(gw_guest_add_block(to.guest, &block), 0);
	must_be_turned_away(&from, &to, -EINVAL, "has no RAM block \"ram1\"");
	vm_free(&to);
	vm_new(&to, &ram, true);
	device.name = "more";
	device.load = (int (*)(void *, uint32_t, const uint8_t *, size_t))abort;
	device.save = (int (*)(void *, gw_out *))abort;
	assert_int_equal(gw_guest_add_device(to.guest, &device), 0);
	must_be_turned_away(&from, &to, -ENODATA, "has no device \"more\"");
	assert_int_equal(gw_guest_remove_device(to.guest, "more", 0), 0);
	assert_int_equal(gw_guest_remove_device(to.guest, "mem", 0), 0);
	must_be_turned_away(&from, &to, -ENODEV, "has a device \"mem\"");
	device.name = "mem";
	device.version = 3;
	device.oldest = 2;
	assert_int_equal(gw_guest_add_device(to.guest, &device), 0);
	must_be_turned_away(&from, &to, -ENOTSUP, "comes in version 1, expected 2 to 3");
	assert_int_equal(gw_guest_receive(to.job, from.guest, "tcp:127.0.0.1:0", NULL, NULL), -EEXIST);
	assert_int_equal(gw_guest_send(from.job, to.guest, "tcp:127.0.0.1:1", NULL, NULL), -ENODATA);
	vm_free(&from);
	vm_free(&to);
}

/* --- threads --- */

static bool takes_signals(const char *tid)
{
	char path[64], line[256];
	unsigned long long blocked = ~0ULL;
	snprintf(path, sizeof path, "/proc/self/task/%.20s/status", tid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		sscanf(line, "SigBlk: %llx", &blocked);
	if (f)
		fclose(f);
	return !(blocked >> (SIGUSR1 - 1) & 1);
}

static unsigned count_threads_that_take_signals(void)
{
	unsigned n = 0;
	DIR *tasks = opendir("/proc/self/task");
	assert_non_null(tasks);
	for (const struct dirent *e; (e = readdir(tasks));)
		n += e->d_name[0] != '.' && takes_signals(e->d_name);
	closedir(tasks);
	return n;
}

static void count_in_a_round(void *ctx, const struct gw_guest_event *e)
{
	unsigned *n = ctx;
	if (e->kind == GW_GUEST_ROUND && !*n)
		*n = count_threads_that_take_signals();
}

/* Signals are the program's: of all threads there are in a move, its own alone take them. */
static void threads_that_take_no_signal(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct move m = {.send = {.channels = 8}};
	struct vm from, to;
	unsigned before = count_threads_that_take_signals(), meanwhile = 0;
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	start(&from);
	assert_false(gw_job_on_guest_event(from.job, count_in_a_round, &meanwhile));
	must_arrive(&from, &to, &m);
	assert_int_equal(meanwhile, before + 1); /* the one of the kit that receives */
	vm_free(&from);
	vm_free(&to);
}

/* --- misuse of calls --- */

static int answered[4];

static void in_a_hook(void *ctx, const struct gw_guest_event *e)
{
	struct vm *vm = ctx;
	if (e->kind != GW_GUEST_ROUND)
		return;
	answered[0] = gw_guest_send(vm->job, vm->guest, "tcp:127.0.0.1:1", NULL, NULL);
	answered[1] = gw_guest_free(vm->guest);
	answered[2] = gw_job_order(vm->job, GW_ORDER_FINISH);
	answered[3] = gw_job_order(vm->job, GW_ORDER_FINISH);
}

static void misused(void **state)
{
	(void)state;
	struct gw__mem_guest_opts ram = ram_of(4, GW__MEM_UNIFORM);
	struct gw_guest_send_opts o = GW_INIT(o);
	struct gw_limits limits = {0};
	struct vm from, to;
	int result;
	vm_new(&from, &ram, false);
	vm_new(&to, &ram, true);
	start(&from);
	assert_int_equal(gw_guest_send(NULL, from.guest, "tcp:127.0.0.1:1", NULL, NULL), -EINVAL);
	assert_int_equal(gw_guest_send(from.job, NULL, "tcp:127.0.0.1:1", NULL, NULL), -EINVAL);
	assert_string_equal(gw_job_error(from.job), "guest is NULL");
	assert_int_equal(gw_guest_send(from.job, from.guest, NULL, NULL, NULL), -EINVAL);
	assert_string_equal(gw_job_error(from.job), "uri is NULL");
	assert_int_equal(gw_guest_receive(from.job, NULL, "tcp:127.0.0.1:0", NULL, NULL), -EINVAL);
	assert_int_equal(gw_guest_receive(to.job, to.guest, NULL, NULL, NULL), -EINVAL);
	o.compression = GW_COMPRESS_ZLIB;
	assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", &o, NULL), -EINVAL);
	assert_non_null(strstr(gw_job_error(from.job), "compression needs channels"));
	o.compression = GW_COMPRESS_NONE;
	o.channels = 256;
	assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", &o, NULL), -EINVAL);
	o.channels = 0;
	o.limits = &limits;
	assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", &o, NULL), -EINVAL);
	assert_non_null(strstr(gw_job_error(from.job), "gw_limits"));
	assert_int_equal(gw_guest_send(from.job, from.guest, "exec:cat >/dev/null", NULL, NULL), -EOPNOTSUPP);
	assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", NULL, NULL), -ECONNREFUSED);
	assert_int_equal(gw_job_start(from.job, NULL), 0);
	assert_int_equal(gw_guest_send(from.job, from.guest, "tcp:127.0.0.1:1", NULL, NULL), 0);
	assert_int_equal(gw_job_wait(from.job, 20000, &result), 0);
	assert_int_equal(result, -EINVAL);
	assert_int_equal(gw_job_limits(NULL, NULL), -EINVAL);
	assert_int_equal(gw_job_order(NULL, GW_ORDER_FINISH), -EINVAL);
	assert_int_equal(gw_job_order(from.job, (enum gw_order)9), -EINVAL);
	assert_int_equal(gw_job_order(from.job, GW_ORDER_FINISH), -ESRCH);
	assert_int_equal(gw_job_on_guest_event(NULL, NULL, NULL), -EINVAL);
	assert_int_equal(gw_job_on_guest_event(from.job, in_a_hook, &from), 0);
	assert_int_equal(gw_guest_where(from.guest), GW_HERE);
	must_arrive(&from, &to, &(struct move){0});
	assert_int_equal(answered[0], -EBUSY);
	assert_int_equal(answered[1], -EBUSY);
	assert_int_equal(answered[2], 0);
	assert_int_equal(answered[3], -EALREADY);
	vm_free(&from);
	vm_free(&to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_way),
		cmocka_unit_test(encrypted),
		cmocka_unit_test(back_and_forth),
		cmocka_unit_test(tracked_by_the_kernel),
		cmocka_unit_test(a_slow_link),
		cmocka_unit_test(cancelled_at_random),
		cmocka_unit_test(a_link_that_breaks_anywhere),
		cmocka_unit_test(hooks_that_fail),
		cmocka_unit_test(a_guest_that_cannot_run_on_after_a_look),
		cmocka_unit_test(a_guest_that_stood_still),
		cmocka_unit_test(guests_that_do_not_fit),
		cmocka_unit_test(threads_that_take_no_signal),
		cmocka_unit_test(misused),
	};
	const uint64_t first = number("GODWIT_SEED", (uint64_t)time(NULL));
	seed = first * UINT64_C(0x9e3779b97f4a7c15) | 1;
	fprintf(stderr, "GODWIT_SEED=%llu\n", (unsigned long long)first);
	return cmocka_run_group_tests_name("a guest moves", tests, NULL, NULL);
}
