/* SPDX-License-Identifier: MIT */
/* Guests of this process: what they may be made of, a row for each misuse; what they report; who has them. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <godwit-unstable.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/math.h"
#include "lib/guest.h"
#include "lib/job.h"

enum { PAGE = 4096, PAGES = 200 };

static uint8_t *ram, *read_only;
static int memfd, other_fd;

static int stop(void *ctx, enum gw_why why)
{
	(void)ctx, (void)why;
	return 0;
}

static int save(void *ctx, gw_out *out)
{
	(void)ctx, (void)out;
	return 0;
}

static int load(void *ctx, uint32_t version, const uint8_t *bytes, size_t n)
{
	(void)ctx, (void)version, (void)bytes, (void)n;
	return 0;
}

static struct gw_guest_ops good_ops(void)
{
	struct gw_guest_ops ops = GW_INIT(ops);
	ops.pause = ops.resume = stop;
	return ops;
}

static struct gw_guest_opts good_opts(void)
{
	struct gw_guest_opts o = GW_INIT(o);
	o.machine = "unit-1";
	o.tracker = GW_TRACKER_TOLD;
	return o;
}

static struct gw_block good_block(void)
{
	struct gw_block b = GW_INIT(b);
	b.name = "ram0";
	b.host = ram;
	b.bytes = PAGES * PAGE;
	b.fd = &memfd;
	return b;
}

static struct gw_device good_device(void)
{
	struct gw_device d = GW_INIT(d);
	d.name = "cpu";
	d.save = save;
	d.load = load;
	return d;
}

static gw_guest *new_guest(void)
{
	struct gw_guest_ops ops = good_ops();
	struct gw_guest_opts o = good_opts();
	gw_guest *g = NULL;
	assert_int_equal(gw_guest_new(&g, &ops, &o, NULL), 0);
	return g;
}

/* --- misuse: an expression that spoils something good, and what is answered --- */

static void a_guest_that_cannot_be(void **state)
{
	(void)state;
	char *long_machine = calloc(1, 1026);
	memset(long_machine, 'm', 1025);
	struct {
		int wanted;
		struct gw_guest_ops ops;
		struct gw_guest_opts o;
	} v[9];
	for (unsigned i = 0; i < GW__LEN(v); i++) {
		v[i].wanted = -EINVAL;
		v[i].ops = good_ops();
		v[i].o = good_opts();
	}
	v[0].ops.pause = NULL;
	v[1].ops.resume = NULL;
	v[2].o.machine = NULL;
	v[3].o.machine = "";
	v[4].o.machine = long_machine;
	v[5].o.page_bytes = 4097;
	v[6].o.page_bytes = 512;
	v[7].o.tracker = GW_TRACKER_OWN; /* without its hooks */
	v[8].o.tracker = (enum gw_tracker)99;
	for (unsigned i = 0; i < GW__LEN(v); i++) {
		gw_guest *g = NULL;
		int r = gw_guest_new(&g, &v[i].ops, &v[i].o, NULL);
		if (r != v[i].wanted || g)
			fail_msg("row %u: %d, expected %d", i, r, v[i].wanted);
	}
	struct gw_guest_ops ops = good_ops();
	struct gw_guest_opts o = good_opts();
	gw_guest *g = NULL;
	assert_int_equal(gw_guest_new(NULL, &ops, &o, NULL), -EINVAL);
	assert_int_equal(gw_guest_new(&g, NULL, &o, NULL), -EINVAL);
	assert_int_equal(gw_guest_new(&g, &ops, NULL, NULL), -EINVAL);
	free(long_machine);
}

static void a_block_that_cannot_be(void **state)
{
	(void)state;
	char long_name[257];
	memset(long_name, 'n', 256);
	long_name[256] = 0;
	struct {
		int wanted;
		const char *sentence;
		struct gw_block b;
	} v[] = {
		{-EINVAL, "gw_block.name", {0}},
		{-EINVAL, "gw_block.name", {0}},
		{-EINVAL, "gw_block.name", {0}},
		{-EINVAL, "gw_block.name", {0}},
		{-EINVAL, "gw_block.host", {0}},
		{-EINVAL, "gw_block.host", {0}},
		{-EINVAL, "gw_block.bytes", {0}},
		{-EINVAL, "gw_block.bytes", {0}},
		{-EINVAL, "gw_block.page_bytes", {0}},
		{-EINVAL, "gw_block.bytes", {0}},
		{-EFAULT, "expected to be read and written", {0}},
		{-EFAULT, "ram0: ", {0}},
		{-EINVAL, "is not that of the descriptor", {0}},
		{-EINVAL, "is not that of the descriptor", {0}},
		{-EBADF, "cannot look at its descriptor", {0}},
		{-EINVAL, "is that of a file: give its descriptor", {0}},
	};
	static const int bad_fd = 9999;
	for (unsigned i = 0; i < GW__LEN(v); i++)
		v[i].b = good_block();
	v[0].b.name = NULL;
	v[1].b.name = "";
	v[2].b.name = long_name;
	v[3].b.name = "a\nb";
	v[4].b.host = NULL;
	v[5].b.host = ram + 1;
	v[6].b.bytes = 0;
	v[7].b.bytes = PAGE + 1;
	v[8].b.page_bytes = 3 * PAGE;
	v[9].b.bytes = UINT64_MAX - PAGE + 1;
	v[10].b.host = read_only;
	v[10].b.fd = NULL;
	v[11].b.bytes = 2 * PAGES * PAGE;
	v[12].b.fd = &other_fd;
	v[13].b.fd_offset = PAGE;
	v[14].b.fd = &bad_fd;
	v[15].b.fd = NULL;
	gw_guest *g = new_guest();
	for (unsigned i = 0; i < GW__LEN(v); i++) {
		int r = gw_guest_add_block(g, &v[i].b);
		if (r != v[i].wanted || !strstr(gw_guest_error(g), v[i].sentence))
			fail_msg("row %u: %d, expected %d (%s)", i, r, v[i].wanted, gw_guest_error(g));
	}
	struct gw_block b = good_block();
	assert_int_equal(gw_guest_add_block(g, NULL), -EINVAL);
	assert_int_equal(gw_guest_add_block(NULL, &b), -EINVAL);
	assert_int_equal(gw_guest_add_block(g, &b), 0);
	assert_string_equal(gw_guest_error(g), "");
	assert_int_equal(gw_guest_add_block(g, &b), -EEXIST); /* the name */
	b.name = "ram1";
	assert_int_equal(gw_guest_add_block(g, &b), -EEXIST); /* the memory */
	assert_non_null(strstr(gw_guest_error(g), "overlaps"));
	assert_int_equal(gw_guest_remove_block(g, "ram1"), -ENOENT);
	assert_int_equal(gw_guest_remove_block(g, NULL), -EINVAL);
	assert_int_equal(gw_guest_remove_block(g, "ram0"), 0);
	assert_int_equal(gw_guest_add_block(g, &b), 0);
	assert_int_equal(gw_guest_free(g), 0);
}

static void more_blocks_than_there_may_be(void **state)
{
	(void)state;
	enum { MOST = 4096 };
	gw_guest *g = new_guest();
	uint8_t *many = mmap(NULL, (MOST + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(many != MAP_FAILED);
	for (unsigned i = 0; i <= MOST; i++) {
		struct gw_block b = GW_INIT(b);
		char name[32];
		snprintf(name, sizeof name, "ram%u", i);
		b.name = name;
		b.host = many + (size_t)i * PAGE;
		b.bytes = PAGE;
		assert_int_equal(gw_guest_add_block(g, &b), i == MOST ? -E2BIG : 0);
	}
	gw_guest_free(g);
	munmap(many, (MOST + 1) * PAGE);
}

static void a_device_that_cannot_be(void **state)
{
	(void)state;
	struct gw_device v[7];
	static const char *const sentences[] = {"name", "name", "\"ram\"", "save", "load", "oldest", "name"};
	for (unsigned i = 0; i < GW__LEN(v); i++)
		v[i] = good_device();
	v[0].name = NULL;
	v[1].name = "";
	v[2].name = "ram";
	v[3].save = NULL;
	v[4].load = NULL;
	v[5].version = 1;
	v[5].oldest = 2;
	v[6].name = "\x7f";
	gw_guest *g = new_guest();
	for (unsigned i = 0; i < GW__LEN(v); i++) {
		int r = gw_guest_add_device(g, &v[i]);
		if (r != -EINVAL || !strstr(gw_guest_error(g), sentences[i]))
			fail_msg("row %u: %d (%s)", i, r, gw_guest_error(g));
	}
	struct gw_device d = good_device();
	assert_int_equal(gw_guest_add_device(g, NULL), -EINVAL);
	assert_int_equal(gw_guest_add_device(g, &d), 0);
	assert_int_equal(gw_guest_add_device(g, &d), -EEXIST);
	d.instance = 1;
	assert_int_equal(gw_guest_add_device(g, &d), 0);
	assert_int_equal(gw_guest_remove_device(g, "cpu", 2), -ENOENT);
	assert_int_equal(gw_guest_remove_device(g, "cpu", 0), 0);
	assert_int_equal(gw_guest_remove_device(g, "cpu", 1), 0);
	assert_int_equal(gw_guest_free(g), 0);
	assert_int_equal(gw_guest_free(NULL), 0);
}

/* --- what a guest reports --- */

static unsigned count_told(gw_guest *g)
{
	unsigned n = 0;
	uint32_t i = 0;
	struct gw__guest_block *b = gw__guest_next_block(g->guest, &i);
	for (uint64_t word = 0; word < gw__guest_block_words(g->guest, b); word++)
		n += (unsigned)__builtin_popcountll(atomic_exchange(&b->told[word], 0));
	return n;
}

static void reports_of_writes(void **state)
{
	(void)state;
	gw_guest *g = new_guest();
	struct gw_block b = good_block();
	assert_int_equal(gw_guest_add_block(g, &b), 0);
	assert_int_equal(gw_guest_dirty(NULL, "ram0", 0, 1), -EINVAL);
	assert_int_equal(gw_guest_dirty(g, NULL, 0, 1), -EINVAL);
	assert_int_equal(gw_guest_dirty(g, "rom", 0, 1), -ENOENT);
	assert_int_equal(gw_guest_dirty(g, "ram0", b.bytes, 1), -ERANGE);
	assert_int_equal(gw_guest_dirty(g, "ram0", 1, UINT64_MAX), -ERANGE);
	assert_int_equal(gw_guest_dirty(g, "ram0", 0, b.bytes), 0);
	assert_int_equal(count_told(g), 0); /* nobody tracks */
	g->guest->tracking = true;
	assert_int_equal(gw_guest_dirty(g, "ram0", 0, 0), 0);
	assert_int_equal(count_told(g), 0);
	assert_int_equal(gw_guest_dirty(g, "ram0", PAGE - 1, 2), 0);
	assert_int_equal(count_told(g), 2);
	assert_int_equal(gw_guest_dirty(g, "ram0", 63 * PAGE, 66 * PAGE), 0);
	assert_int_equal(count_told(g), 66);
	assert_int_equal(gw_guest_dirty(g, "ram0", 0, b.bytes), 0);
	assert_int_equal(count_told(g), PAGES);
	gw_guest_free(g);
}

static void memory_given_back(void **state)
{
	(void)state;
	gw_guest *g = new_guest();
	struct gw_block b = good_block();
	assert_int_equal(gw_guest_add_block(g, &b), 0);
	for (unsigned private = 0; private < 2; private ++) {
		b.host = private ? mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : ram;
		b.fd = private ? NULL : &memfd;
		assert_int_equal(gw_guest_remove_block(g, "ram0"), 0);
		assert_int_equal(gw_guest_add_block(g, &b), 0);
		memset(b.host, 1, b.bytes);
		assert_int_equal(gw_guest_discard(g, "rom", 0, PAGE), -ENOENT);
		assert_int_equal(gw_guest_discard(g, "ram0", b.bytes, PAGE), -ERANGE);
		assert_int_equal(gw_guest_discard(g, "ram0", 1, PAGE), -EINVAL);
		assert_int_equal(gw_guest_discard(g, "ram0", 0, PAGE + 1), -EINVAL);
		g->guest->tracking = true;
		assert_int_equal(gw_guest_discard(g, "ram0", PAGE, 3 * PAGE), 0);
		g->guest->tracking = false;
		assert_int_equal(count_told(g), 3);
		const uint8_t *host = b.host;
		for (unsigned i = 0; i < 6; i++)
			assert_int_equal(host[i * PAGE], i >= 1 && i < 4 ? 0 : 1);
		if (private)
			munmap(b.host, b.bytes);
	}
	gw_guest_free(g);
}

/* --- who has it --- */

/* Of every side and place: who is free to run it there, and what may be begun. */
static void where_it_is(void **state)
{
	(void)state;
	for (unsigned place = 0; place < GW__PLACES; place++) {
		enum gw__where source = gw__where_of(GW__SIDE_SOURCE, (enum gw__place)place, GW__MOTION_NONE);
		enum gw__where destination = gw__where_of(GW__SIDE_DESTINATION, (enum gw__place)place, GW__MOTION_NONE);
		assert_false(source == GW__HERE && destination == GW__HERE);                                          /* never two */
		assert_int_equal(gw__where_of(GW__SIDE_SOURCE, (enum gw__place)place, GW__MOTION_PROTECTED), source); /* it stays */
		for (unsigned side = 0; side < GW__SIDES; side++) {
			enum gw__where moving = gw__where_of((enum gw__side)side, (enum gw__place)place, GW__MOTION_MOVES);
			assert_true(side == GW__SIDE_SOURCE ? moving != GW__HERE : true);
			assert_int_not_equal(moving, GW__EMPTY);
			enum gw__where stands_by = gw__where_of((enum gw__side)side, (enum gw__place)place, GW__MOTION_STANDS_BY);
			assert_true(side == GW__SIDE_SOURCE || stands_by == (destination == GW__HERE ? GW__HERE : GW__STANDBY));
		}
	}
	assert_string_equal(gw_guest_where_name(GW_IN_DOUBT), "in-doubt");
	assert_null(gw_guest_where_name(GW_HELD + 1));
	assert_int_equal(gw_guest_where(NULL), GW_EMPTY);
	for (unsigned motion = 0; motion <= GW__MOTION_MOVES; motion++) /* of a post-copy, also while it is served */
		assert_int_equal(gw__where_of(GW__SIDE_SOURCE, GW__PLACE_SPLIT, (enum gw__motion)motion), GW__HELD);
}

static void what_may_be_begun(void **state)
{
	(void)state;
	static const int answers[GW__GUEST_CALLS][GW__WHERES] = {
		/* HERE, EMPTY, ARRIVING, LEAVING, IN_DOUBT, GONE, STANDBY, PARTIAL, HELD */
		[GW__GUEST_SEND] = {0, -ENODATA, -EBUSY, -EBUSY, -EINPROGRESS, -ENODATA, -EBUSY, -EAGAIN, -EINPROGRESS},
		[GW__GUEST_RECEIVE] = {-EEXIST, 0, -EBUSY, -EBUSY, -EINPROGRESS, 0, -EBUSY, -EEXIST, -EINPROGRESS},
		[GW__GUEST_DECIDE] = {-EALREADY, -EALREADY, -EBUSY, -EBUSY, 0, -EALREADY, -EBUSY, 0, 0},
		[GW__GUEST_FREE] = {0, 0, -EBUSY, -EBUSY, -EBUSY, 0, -EBUSY, -EBUSY, -EBUSY},
		[GW__GUEST_PROTECT] = {0, -ENODATA, -EBUSY, -EBUSY, -EINPROGRESS, -ENODATA, -EBUSY, -EAGAIN, -EINPROGRESS},
		[GW__GUEST_STANDBY] = {-EEXIST, 0, -EBUSY, -EBUSY, -EINPROGRESS, 0, -EBUSY, -EEXIST, -EINPROGRESS},
		[GW__GUEST_RESUME] = {-ESRCH, -ESRCH, -EBUSY, -EBUSY, -ESRCH, -ESRCH, -EBUSY, 0, -ESRCH},
		[GW__GUEST_SEND_RESUME] = {-ENODATA, -ENODATA, -EBUSY, -EBUSY, 0, -ENODATA, -EBUSY, -ENODATA, 0},
	};
	for (unsigned call = 0; call < GW__GUEST_CALLS; call++)
		for (unsigned where = 0; where < GW__WHERES; where++) {
			struct gw__error error = {0};
			int r = gw__guest_may((enum gw__guest_call)call, (enum gw__where)where, &error);
			if (r != answers[call][where] || !r == !!*error.text)
				fail_msg("call %u, %s: %d (%s)", call, gw_guest_where_name(where), r, error.text);
		}
}

static void a_decision(void **state)
{
	(void)state;
	for (unsigned ours = 0; ours < 2; ours++) {
		gw_guest *g = new_guest();
		assert_int_equal(gw_guest_where(g), GW_HERE);
		assert_int_equal(gw_guest_decide(g, true), -EALREADY);
		gw__guest_set_location(g, GW__SIDE_SOURCE, gw__location_at(GW__PLACE_BOTH_POSSIBLE), false);
		assert_int_equal(gw_guest_where(g), GW_IN_DOUBT);
		assert_int_equal(gw_guest_free(g), -EBUSY);
		assert_non_null(strstr(gw_guest_error(g), "in doubt"));
		assert_int_equal(gw_guest_decide(g, ours), 0);
		assert_int_equal(gw_guest_where(g), ours ? GW_HERE : GW_GONE);
		assert_int_equal(gw_guest_free(g), 0);
	}
	for (unsigned ours = 0; ours < 2; ours++) { /* at the other end of the move "ours" means the opposite */
		gw_guest *g = new_guest();
		gw__guest_set_location(g, GW__SIDE_DESTINATION, gw__location_at(GW__PLACE_BOTH_POSSIBLE), GW__MOTION_NONE);
		assert_int_equal(gw_guest_where(g), GW_IN_DOUBT);
		assert_int_equal(gw_guest_decide(g, ours), 0);
		assert_int_equal(gw_guest_where(g), ours ? GW_HERE : GW_EMPTY);
		assert_int_equal(gw_guest_free(g), 0);
	}
	gw_guest *g = new_guest(); /* it ran elsewhere: it can be given up, and does not come back */
	gw__guest_set_location(g, GW__SIDE_SOURCE, gw__location_at(GW__PLACE_SPLIT), GW__MOTION_NONE);
	assert_int_equal(gw_guest_where(g), GW_HELD);
	assert_int_equal(gw_guest_decide(g, true), -EPERM);
	assert_int_equal(gw_guest_where(g), GW_HELD);
	assert_int_equal(gw_guest_free(g), -EBUSY);
	assert_int_equal(gw_guest_decide(g, false), 0);
	assert_int_equal(gw_guest_where(g), GW_GONE);
	assert_int_equal(gw_guest_free(g), 0);
	assert_int_equal(gw_guest_decide(NULL, true), -EINVAL);
}

/* Whatever is asked of a guest that takes part in a call, it is told so, and nothing happens. */
static void a_guest_in_a_call(void **state)
{
	(void)state;
	gw_guest *g = new_guest();
	struct gw_block b = good_block();
	struct gw_device d = good_device();
	assert_int_equal(gw__guest_claim(g, NULL), 0);
	assert_int_equal(gw_guest_add_block(g, &b), -EBUSY);
	assert_int_equal(gw_guest_remove_block(g, "ram0"), -EBUSY);
	assert_int_equal(gw_guest_add_device(g, &d), -EBUSY);
	assert_int_equal(gw_guest_remove_device(g, "cpu", 0), -EBUSY);
	assert_int_equal(gw_guest_decide(g, true), -EBUSY);
	assert_int_equal(gw_guest_free(g), -EBUSY);
	assert_int_equal(gw_guest_dirty(g, "ram0", 0, 1), -ENOENT);
	gw__guest_release(g);
	assert_int_equal(gw_guest_free(g), 0);
}

/* Limits of a call that is refused are not those of the next. */
static void limits_of_a_call_that_is_refused(void **state)
{
	(void)state;
	struct gw_limits limits = {.size = sizeof limits, .downtime_ms = 12345, .checkpoint_ms = 54321};
	struct gw_guest_send_opts send = {.size = sizeof send, .limits = &limits, .compression = GW_COMPRESS_ZLIB};
	struct gw_guest_protect_opts protect = {.size = sizeof protect, .limits = &limits, .compression = GW_COMPRESS_ZLIB};
	struct gw_guest_save_opts save_opts = {.size = sizeof save_opts, .limits = &limits};
	gw_guest *g = new_guest();
	gw_job *job;
	assert_int_equal(gw_job_new(&job), 0);
	const uint32_t downtime_ms = job->guest.downtime_ms, checkpoint_ms = job->guest.checkpoint_ms;
	assert_int_equal(gw_guest_send(job, g, "tcp:127.0.0.1:1", &send, NULL), -EINVAL);
	assert_int_equal(gw_guest_protect(job, g, "tcp:127.0.0.1:1", &protect, NULL), -EINVAL);
	assert_int_equal(gw_guest_save(job, g, "/nonexistent/image", &save_opts, NULL), -ENOENT);
	assert_int_equal(job->guest.downtime_ms, downtime_ms);
	assert_int_equal(job->guest.checkpoint_ms, checkpoint_ms);
	send.compression = GW_COMPRESS_NONE;
	assert_true(gw_guest_send(job, g, "unix:/nonexistent/socket", &send, NULL) < 0); /* this one began */
	assert_int_equal(job->guest.downtime_ms, limits.downtime_ms);
	limits.size = 0;
	assert_int_equal(gw_guest_save(job, g, "/nonexistent/image", &save_opts, NULL), -EINVAL);
	assert_non_null(strstr(gw_job_error(job), "gw_limits"));
	gw_job_free(job);
	assert_int_equal(gw_guest_free(g), 0);
}

static void what_a_device_writes(void **state)
{
	(void)state;
	struct gw_out out = {.max_bytes = 10000};
	uint8_t bytes[6000] = {1};
	assert_int_equal(gw_out_write(NULL, bytes, 1), -EINVAL);
	assert_int_equal(gw_out_write(&out, NULL, 1), -EINVAL);
	assert_int_equal(gw_out_write(&out, NULL, 0), 0);
	assert_int_equal(gw_out_write(&out, bytes, sizeof bytes), 0);
	assert_int_equal(gw_out_write(&out, bytes, sizeof bytes), -E2BIG);
	assert_int_equal(gw_out_write(&out, bytes, 1), -E2BIG); /* it stays failed */
	assert_int_equal(out.n, sizeof bytes);
	free(out.bytes);
}

static int set_up(void **state)
{
	(void)state;
	memfd = memfd_create("ram", MFD_CLOEXEC);
	other_fd = memfd_create("other", MFD_CLOEXEC);
	if (ftruncate(memfd, PAGES * PAGE) || ftruncate(other_fd, PAGES * PAGE))
		return -1;
	/* Behind it nothing may be read. */
	ram = mmap(NULL, 2 * PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		return -1;
	ram = mmap(ram, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd, 0);
	read_only = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return ram == MAP_FAILED || read_only == MAP_FAILED;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_that_cannot_be),
		cmocka_unit_test(a_block_that_cannot_be),
		cmocka_unit_test(more_blocks_than_there_may_be),
		cmocka_unit_test(a_device_that_cannot_be),
		cmocka_unit_test(reports_of_writes),
		cmocka_unit_test(memory_given_back),
		cmocka_unit_test(where_it_is),
		cmocka_unit_test(what_may_be_begun),
		cmocka_unit_test(a_decision),
		cmocka_unit_test(a_guest_in_a_call),
		cmocka_unit_test(limits_of_a_call_that_is_refused),
		cmocka_unit_test(what_a_device_writes),
	};
	return cmocka_run_group_tests_name("guests of this process", tests, set_up, NULL);
}
