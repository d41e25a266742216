/* SPDX-License-Identifier: MIT */
/* Filters: the cut falls at the exact byte, the tap records all of it, the rate holds on a clock the test
 * owns. */
#include "chan_unit.h"

#include "base/math.h"

enum { FAR_MS = 20000 };

static void make_pair(struct gw__chan *pair[2])
{
	struct gw__error error = {0};
	struct gw__io_opts o = limits(FAR_MS);
	assert_ok(gw__chan_pair(pair, &o, &error), error);
}

static void close_pair(struct gw__chan *pair[2])
{
	assert_int_equal(gw__chan_close(&pair[0], NULL), 0);
	assert_int_equal(gw__chan_close(&pair[1], NULL), 0);
}

/* --- cut -------------------------------------------------------------------------------------------- */

static void writes_are_cut_at_the_exact_byte(void **state)
{
	for (unsigned at = 0; at <= 12; at++) {
		struct gw__chan *pair[2];
		struct gw__error error = {0};
		char text[] = "0123456789", got[32];
		make_pair(pair);
		assert_int_equal(gw__chan_cut_after(&pair[0], UINT64_MAX, at, &error), 0);
		struct iovec iov[] = {{text, 3}, {text + 3, 0}, {text + 3, 4}, {text + 7, 3}};
		int r = gw__chan_write_allv(pair[0], iov, 4, &error);
		assert_int_equal(r, at < 10 ? -EPIPE : 0);
		assert_int_equal(pair[0]->out_bytes, gw__min(at, 10));
		if (r)
			assert_says(error, "cut on purpose after");
		/* The other direction lives on. */
		assert_int_equal(gw__chan_write_all(pair[1], "x", 1, &error), 0);
		assert_int_equal(gw__chan_read(pair[0], got, sizeof got, &error), 1);
		assert_int_equal(gw__chan_close(&pair[0], &error), 0);
		for (unsigned n = 0; n < gw__min(at, 10); n++) {
			assert_int_equal(gw__chan_read(pair[1], got, 1, &error), 1);
			assert_int_equal(got[0], text[n]);
		}
		assert_int_equal(gw__chan_read(pair[1], got, 1, &error), 0);
		close_pair(pair);
	}
}

static void reads_end_at_the_exact_byte(void **state)
{
	for (unsigned at = 0; at <= 10; at++) {
		struct gw__chan *pair[2];
		struct gw__error error = {0};
		char got[32] = "";
		make_pair(pair);
		assert_int_equal(gw__chan_cut_after(&pair[0], at, UINT64_MAX, &error), 0);
		assert_int_equal(gw__chan_write_all(pair[1], "0123456789ab", 12, &error), 0);
		struct iovec iov[] = {{got, 3}, {got + 3, 20}};
		size_t sum = 0;
		for (ssize_t n = 1; n > 0; sum += (size_t)n) {
			n = sum ? gw__chan_read(pair[0], got + sum, 4, &error) : gw__chan_readv(pair[0], iov, 2, &error);
			assert_true(n >= 0);
		}
		assert_int_equal(sum, at);
		assert_memory_equal(got, "0123456789ab", at);
		assert_int_equal(gw__chan_wait_readable(pair[0], FAR_MS, &error), 1); /* its end is there to be read */
		close_pair(pair);
	}
}

static void a_read_that_is_cut_need_not_wait_for_its_end(void **state)
{
	struct gw__chan *pair[2];
	char got;
	make_pair(pair);
	assert_int_equal(gw__chan_cut_after(&pair[0], 0, 0, NULL), 0);
	assert_int_equal(gw__chan_wait_readable(pair[0], 0, NULL), 1);
	assert_int_equal(gw__chan_read(pair[0], &got, 1, NULL), 0);
	/* also through another filter */
	assert_int_equal(gw__chan_cut_after(&pair[0], UINT64_MAX, UINT64_MAX, NULL), 0);
	assert_int_equal(gw__chan_wait_readable(pair[0], 0, NULL), 1);
	close_pair(pair);
}

static void a_cut_that_never_comes_changes_nothing(void **state)
{
	struct gw__chan *pair[2];
	struct gw__error error = {0};
	char got[8];
	make_pair(pair);
	assert_int_equal(gw__chan_cut_after(&pair[0], UINT64_MAX, UINT64_MAX, &error), 0);
	assert_true(pair[0]->two_way);
	assert_string_equal(pair[0]->name, "pair:0");
	assert_int_equal(gw__chan_wait_readable(pair[0], 0, &error), 0);
	assert_int_equal(gw__chan_write_all(pair[0], "abc", 3, &error), 0);
	assert_int_equal(gw__chan_end_writes(pair[0], &error), 0);
	read_all(pair[1], got, 3);
	assert_int_equal(gw__chan_read(pair[1], got, 1, &error), 0);
	pair[0]->idle_ms = 20; /* limits set on the filter hold */
	uint64_t start = now_ms();
	assert_int_equal(gw__chan_read(pair[0], got, 1, &error), -ETIMEDOUT);
	assert_in_range(now_ms() - start, 19, FAR_MS / 2);
	close_pair(pair);
}

/* --- tap -------------------------------------------------------------------------------------------- */

enum { STREAM_BYTES = 300000 };

struct feed {
	struct gw__chan *c;
	unsigned seed;
};

static unsigned char pattern(unsigned seed, size_t i) { return (unsigned char)((i * 31 + seed) ^ i >> 8); }

static void *feed_pattern(void *arg)
{
	struct feed *f = arg;
	unsigned char *all = malloc(STREAM_BYTES);
	for (size_t i = 0; i < STREAM_BYTES; i++)
		all[i] = pattern(f->seed, i);
	struct iovec iov[100];
	for (int i = 0; i < 100; i++)
		iov[i] = (struct iovec){all + i * (STREAM_BYTES / 100), STREAM_BYTES / 100};
	long r = gw__chan_write_allv(f->c, iov, 100, NULL);
	if (r == 0)
		r = gw__chan_end_writes(f->c, NULL);
	free(all);
	return (void *)r;
}

static void assert_pattern(struct gw__chan *c, unsigned seed)
{
	unsigned char *got = malloc(STREAM_BYTES);
	read_all(c, got, STREAM_BYTES);
	for (size_t i = 0; i < STREAM_BYTES; i++)
		if (got[i] != pattern(seed, i))
			fail_msg("byte %zu differs", i);
	assert_int_equal(gw__chan_read(c, got, 1, NULL), 0);
	free(got);
}

static struct gw__chan *open_record(struct folder *f, const char *name, bool out)
{
	struct gw__error error = {0};
	struct gw__chan *c;
	struct gw__uri uri = uri_in(f, "file", name, "");
	struct gw__io_opts o = limits(FAR_MS);
	assert_ok(out ? gw__io_open_out(&uri, &o, &c, &error) : gw__io_open_in(&uri, &o, &c, &error), error);
	return c;
}

static void a_tap_records_both_directions_whole(void **state)
{
	struct gw__chan *pair[2];
	struct gw__error error = {0};
	pthread_t thread;
	void *r;
	make_pair(pair);
	struct gw__chan *reads = open_record(*state, "reads", true), *writes = open_record(*state, "writes", true);
	assert_int_equal(gw__chan_tap(&pair[0], &reads, &writes, &error), 0);
	assert_null(reads);
	assert_null(writes);

	struct feed there = {pair[0], 7}, back = {pair[1], 8};
	pthread_create(&thread, NULL, feed_pattern, &there);
	assert_pattern(pair[1], 7);
	pthread_join(thread, &r);
	assert_null(r);
	pthread_create(&thread, NULL, feed_pattern, &back);
	assert_pattern(pair[0], 8);
	pthread_join(thread, &r);
	assert_null(r);
	assert_int_equal(pair[0]->in_bytes, STREAM_BYTES);
	assert_int_equal(pair[0]->out_bytes, STREAM_BYTES);
	close_pair(pair);

	struct gw__chan *record = open_record(*state, "writes", false);
	assert_pattern(record, 7);
	gw__chan_close(&record, NULL);
	record = open_record(*state, "reads", false);
	assert_pattern(record, 8);
	gw__chan_close(&record, NULL);
}

static void a_tap_that_fails_fails_the_channel(void **state)
{
	struct gw__chan *pair[2], *writes = open_record(*state, "short", true);
	struct gw__error error = {0};
	make_pair(pair);
	assert_int_equal(gw__chan_cut_after(&writes, UINT64_MAX, 5, &error), 0);
	assert_int_equal(gw__chan_tap(&pair[0], NULL, &writes, &error), 0);
	assert_int_equal(gw__chan_write_all(pair[0], "12345", 5, &error), 0);
	assert_int_equal(gw__chan_write_all(pair[0], "6", 1, &error), -EPIPE);
	assert_says(error, "pair:0: recording: ");
	close_pair(pair);
}

/* --- rate ------------------------------------------------------------------------------------------- */

struct own_time {
	uint64_t now_ns, waits;
	int wait_result;
};

static uint64_t own_now(void *ctx) { return ((struct own_time *)ctx)->now_ns; }

static int own_wait(void *ctx, uint64_t ns, int cancel_fd)
{
	struct own_time *t = ctx;
	t->now_ns += ns;
	t->waits++;
	return t->wait_result;
}

static struct gw__pace pace_of(struct own_time *t) { return (struct gw__pace){{own_now, t}, own_wait}; }

static uint64_t ns_for(uint64_t bytes_per_s, uint64_t bytes, size_t step, bool reading)
{
	struct own_time t = {.now_ns = 5000};
	struct gw__pace pace = pace_of(&t);
	struct gw__chan *pair[2];
	struct gw__error error = {0};
	char buffer[8192] = {0};
	make_pair(pair);
	assert_int_equal(gw__chan_limit_rate_paced(&pair[0], bytes_per_s, &pace, &error), 0);
	for (uint64_t done = 0; done < bytes; done += step) {
		assert_int_equal(gw__chan_write_all(reading ? pair[1] : pair[0], buffer, step, &error), 0);
		read_all(reading ? pair[0] : pair[1], buffer, step);
	}
	close_pair(pair);
	return t.now_ns - 5000;
}

/* Exact but for the last transfer, which the next one would wait for; each is rounded up to a nanosecond. */
static void assert_rate(uint64_t bytes_per_s, size_t step, bool reading)
{
	uint64_t slice = bytes_per_s / 20 < 1024 ? 1024 : bytes_per_s / 20, bytes = step * 400;
	double ns_per_byte = 1e9 / (double)bytes_per_s;
	double ns = (double)ns_for(bytes_per_s, bytes, step, reading);
	double most = (double)bytes * ns_per_byte + (double)(400 + bytes / slice);
	double least = (double)(bytes - gw__min(step, slice)) * ns_per_byte;
	if (ns < least - 1 || ns > most)
		fail_msg("%llu bytes/s, step %zu: %.0f ns, expected %.0f to %.0f", (unsigned long long)bytes_per_s, step, ns, least, most);
}

static void the_rate_holds_to_the_byte(void **state)
{
	static const uint64_t rates[] = {1, 1000, 4096, 1000003, 100000000, UINT64_C(10000000000)};
	static const size_t steps[] = {1, 100, 8192};
	for (size_t r = 0; r < GW__LEN(rates); r++)
		for (size_t s = 0; s < GW__LEN(steps); s++) {
			assert_rate(rates[r], steps[s], false);
			assert_rate(rates[r], steps[s], true);
		}
}

static void a_pause_is_not_followed_by_a_burst(void **state)
{
	struct own_time t = {.now_ns = 1};
	struct gw__pace pace = pace_of(&t);
	struct gw__chan *pair[2];
	struct gw__error error = {0};
	char buffer[5000] = {0};
	make_pair(pair);
	assert_int_equal(gw__chan_limit_rate_paced(&pair[0], 100000, &pace, &error), 0); /* 5000 bytes in a slice of 50 ms */
	t.now_ns += UINT64_C(3600000000000);
	uint64_t start = t.now_ns;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(gw__chan_write_all(pair[0], buffer, sizeof buffer, &error), 0);
		read_all(pair[1], buffer, sizeof buffer);
	}
	assert_in_range(t.now_ns - start, 900000000, 950000000);
	close_pair(pair);
}

enum { SHARERS = 5, SHARED_RATE = 1000000, SHARED_STEP = 10000 };

/* However many channels there are, and however few of them are busy, together they have the rate: not less, not more. */
static void assert_shared(int busy, bool reading)
{
	struct own_time t = {.now_ns = 5000};
	struct gw__pace pace = pace_of(&t);
	struct gw__chan *pair[SHARERS][2];
	struct gw__rate *limit;
	struct gw__error error = {0};
	char buffer[SHARED_STEP] = {0};
	assert_int_equal(gw__rate_new(SHARED_RATE, &pace, &limit, &error), 0);
	for (int i = 0; i < SHARERS; i++) {
		make_pair(pair[i]);
		assert_int_equal(gw__chan_share_rate(&pair[i][0], limit, &error), 0);
	}
	gw__rate_free(limit);
	for (int done = 0; done < 2 * SHARED_RATE; done += SHARED_STEP) {
		int i = done / SHARED_STEP % busy;
		assert_int_equal(gw__chan_write_all(pair[i][!reading ? 0 : 1], buffer, sizeof buffer, &error), 0);
		read_all(pair[i][reading ? 0 : 1], buffer, sizeof buffer);
	}
	assert_in_range(t.now_ns - 5000, 1980000000, 2001000000);
	for (int i = 0; i < SHARERS; i++)
		close_pair(pair[i]);
}

static void channels_share_a_rate(void **state)
{
	for (int busy = 1; busy <= SHARERS; busy++) {
		assert_shared(busy, false);
		assert_shared(busy, true);
	}
}

static void no_limit_means_no_filter_and_cancel_ends_the_wait(void **state)
{
	struct own_time t = {.wait_result = -ECANCELED};
	struct gw__pace pace = pace_of(&t);
	struct gw__chan *pair[2];
	struct gw__error error = {0};
	char buffer[4096] = {0};
	make_pair(pair);
	struct gw__chan *before = pair[0];
	assert_int_equal(gw__chan_limit_rate(&pair[0], 0, &error), 0);
	assert_ptr_equal(pair[0], before);
	assert_int_equal(gw__chan_limit_rate_paced(&pair[0], 1000, &pace, &error), 0);
	assert_int_equal(gw__chan_write_all(pair[0], buffer, sizeof buffer, &error), -ECANCELED);
	assert_says(error, "cancelled");
	assert_int_equal(t.waits, 1);
	close_pair(pair);
}

static void real_time_is_the_default(void **state)
{
	struct gw__chan *pair[2];
	struct gw__error error = {0};
	char buffer[4096] = {0};
	make_pair(pair);
	assert_int_equal(gw__chan_limit_rate(&pair[0], 102400, &error), 0);
	uint64_t start = now_ms();
	assert_int_equal(gw__chan_write_all(pair[0], buffer, sizeof buffer, &error), 0);
	assert_int_equal(gw__chan_write_all(pair[0], buffer, 1, &error), 0);
	assert_in_range(now_ms() - start, 30, 10000);
	close_pair(pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_are_cut_at_the_exact_byte),
		cmocka_unit_test(reads_end_at_the_exact_byte),
		cmocka_unit_test(a_read_that_is_cut_need_not_wait_for_its_end),
		cmocka_unit_test(a_cut_that_never_comes_changes_nothing),
		cmocka_unit_test_setup_teardown(a_tap_records_both_directions_whole, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_tap_that_fails_fails_the_channel, make_folder, remove_folder),
		cmocka_unit_test(the_rate_holds_to_the_byte),
		cmocka_unit_test(a_pause_is_not_followed_by_a_burst),
		cmocka_unit_test(channels_share_a_rate),
		cmocka_unit_test(no_limit_means_no_filter_and_cancel_ends_the_wait),
		cmocka_unit_test(real_time_is_the_default),
	};
	return cmocka_run_group_tests_name("filters", tests, NULL, NULL);
}
