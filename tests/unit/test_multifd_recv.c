/* SPDX-License-Identifier: MIT */
/*
 * The workers of a receiving multifd migration, over socket pairs, into a real image writer: barriers, whose failure it is,
 * and that nobody waits for ever. The main thread is the test's thread.
 */
#include "chan_unit.h"

#include <sys/socket.h>

#include "base/math.h"
#include "engine/incoming/multifd_recv.h"
#include "engine/core/run.h"
#include "engine/sink/image_sink.h"
#include "image/write/writer.h"
#include "wire/compress.h"

enum { PAGE = 4096, PAGES = 256, N = 3 };

struct world {
	struct gw__run run;
	struct gw__incoming in;
	struct gw__multifd_recv *multifd_recv;
	struct gw__sink *sink;
	struct gw__blocks blocks;
	int peer[N], main_peer;
};

static struct gw__chan *channel(int *peer, int idle_ms)
{
	int pair[2];
	struct gw__error error = {0};
	struct gw__chan *chan = NULL;
	struct gw__io_opts io = limits(idle_ms);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_ok(gw__chan_take_fd(pair[0], "peer", &io, &chan, &error), error);
	*peer = pair[1];
	return chan;
}

static void set_up(struct world *w, void **state, int idle_ms)
{
	struct gw__image_writer *writer = NULL;
	struct gw__image_writer_opts wo = {0};
	struct gw__config config = {.page_bits = 12};
	struct gw__block block = {.used_bytes = PAGES * PAGE};
	memset(w, 0, sizeof *w);
	gw__run_init(&w->run);
	strcpy(config.machine, "pc");
	strcpy(block.name, "ram");
	assert_int_equal(gw__blocks_add(&w->blocks, &block), 0);
	assert_ok(gw__image_create(path_of(*state, "image"), &wo, &writer, &w->run.error), w->run.error);
	assert_ok(gw__sink_image_new(&writer, &w->sink, &w->run.error), w->run.error);
	assert_ok(gw__sink_config(w->sink, &config, &w->run.error), w->run.error);
	assert_ok(gw__sink_blocks(w->sink, 1, &w->blocks, &w->run.error), w->run.error);
	w->in.main = channel(&w->main_peer, idle_ms);
	for (int i = 0; i < N; i++)
		w->in.multifd[i] = channel(&w->peer[i], idle_ms);
	w->in.multifd_n = N;
	assert_ok(gw__multifd_recv_start(&w->run, &w->in, w->sink, &w->multifd_recv), w->run.error);
}

static void set_block_list(struct world *w) { assert_ok(gw__multifd_recv_set_block_list(w->multifd_recv, &w->blocks, PAGE), w->run.error); }

static void tear_down(struct world *w)
{
	gw__multifd_recv_stop(w->multifd_recv);
	gw__incoming_close(&w->in);
	gw__sink_free(&w->sink);
	gw__blocks_fini(&w->blocks);
	for (int i = 0; i < N; i++)
		close(w->peer[i]);
	close(w->main_peer);
}

/* The packet and its payload, compressed if it says so. */
static void say_packet(struct world *w, int id, struct gw__multifd_packet *p, const uint8_t *pages)
{
	static uint8_t bytes[4096 + PAGES * PAGE];
	const size_t head = gw__multifd_head_bytes(PAGE);
	struct gw__wr payload = gw__wr_over(bytes + head, sizeof bytes - head), c = gw__wr_over(bytes, head);
	struct gw__compressor *packer = NULL;
	p->pages_alloc = p->normal + p->zero;
	strcpy(p->block, p->pages_alloc ? "ram" : "");
	if (p->flags & GW__MULTIFD_METHOD_MASK) {
		assert_ok(gw__compressor_new(p->flags & GW__MULTIFD_METHOD_MASK, 1, &packer, &w->run.error), w->run.error);
		assert_ok(gw__compress(packer, pages, p->normal * PAGE, true, &payload, &w->run.error), w->run.error);
		gw__compressor_free(packer);
	} else {
		gw__wr_bytes(&payload, pages, p->normal * PAGE);
	}
	p->payload_bytes = (uint32_t)gw__wr_used(&payload);
	gw__multifd_packet_encode(&c, PAGE, p);
	assert_int_equal(send(w->peer[id], bytes, head + p->payload_bytes, MSG_NOSIGNAL), (ssize_t)(head + p->payload_bytes));
}

/* One packet: `n` pages from `first` on, each filled with `fill`. */
static void say(struct world *w, int id, uint32_t flags, uint64_t first, uint32_t n, uint8_t fill)
{
	static struct gw__multifd_packet p;
	static uint8_t pages[PAGES * PAGE];
	memset(&p, 0, sizeof p);
	p.flags = flags;
	p.normal = n;
	for (uint32_t i = 0; i < n; i++)
		p.off[i] = (first + i) * PAGE;
	memset(pages, fill, n * PAGE);
	say_packet(w, id, &p, pages);
}

static void sync_all(struct world *w)
{
	for (int i = 0; i < N; i++)
		say(w, i, GW__MULTIFD_SYNC, 0, 0, 0);
}

static uint8_t first_byte(struct world *w, uint64_t page)
{
	uint8_t bytes[PAGE];
	assert_ok(gw__sink_read_back(w->sink, 0, page * PAGE, bytes, &w->run.error), w->run.error);
	assert_int_equal(bytes[0], bytes[PAGE - 1]);
	return bytes[0];
}

static void pages_are_there_at_the_sync(void **state)
{
	struct world w;
	struct gw__multifd_recv_stats stats;
	set_up(&w, state, 20000);
	set_block_list(&w);
	for (int i = 0; i < N; i++)
		say(&w, i, 0, (uint64_t)i * 4, 4, (uint8_t)(i + 1));
	sync_all(&w);
	assert_ok(gw__multifd_recv_sync_main(w.multifd_recv), w.run.error);
	for (uint64_t i = 0; i < N * 4; i++)
		assert_int_equal(first_byte(&w, i), i / 4 + 1);
	assert_ok(gw__multifd_recv_finish(w.multifd_recv), w.run.error);
	assert_ok(gw__multifd_recv_check(w.multifd_recv, &stats), w.run.error);
	assert_int_equal(stats.channels, N);
	assert_int_equal(stats.syncs, 1);
	assert_int_equal(stats.pages, N * 4);
	assert_int_equal(stats.packets, 2 * N);
	tear_down(&w);
}

static bool is_among(uint64_t page, const uint64_t *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == page)
			return true;
	return false;
}

/* As from a source that sorts zero pages out: backwards, mixed; of one that comes twice the last counts. */
static void pages_in_any_order(void **state)
{
	static const uint64_t normal[] = {9, 3, 4, 5, 3, 12, 11, 10, 60}, zero[] = {22, 21, 20, 30, 31, 40, 39, 7};
	static const uint32_t methods[N] = {0, GW__MULTIFD_ZLIB, GW__MULTIFD_ZSTD};
	struct world w;
	set_up(&w, state, 20000);
	set_block_list(&w);
	for (uint64_t id = 0; id < N; id++)
		say(&w, 0, 0, id * 64 + 7, 1, 99);
	sync_all(&w);
	assert_ok(gw__multifd_recv_sync_main(w.multifd_recv), w.run.error);
	for (int id = 0; id < N; id++) {
		struct gw__multifd_packet p = {.flags = methods[id], .normal = GW__LEN(normal), .zero = GW__LEN(zero)};
		uint8_t pages[GW__LEN(normal) * PAGE];
		for (uint32_t i = 0; i < p.normal; i++) {
			p.off[i] = (normal[i] + (uint64_t)id * 64) * PAGE;
			memset(pages + i * PAGE, (int)i + 1, PAGE);
		}
		for (uint32_t i = 0; i < p.zero; i++)
			p.off[p.normal + i] = (zero[i] + (uint64_t)id * 64) * PAGE;
		say_packet(&w, id, &p, pages);
	}
	sync_all(&w);
	assert_ok(gw__multifd_recv_sync_main(w.multifd_recv), w.run.error);
	for (uint64_t id = 0; id < N; id++) {
		for (uint64_t i = 0; i < GW__LEN(normal); i++)
			assert_int_equal(first_byte(&w, id * 64 + normal[i]), normal[i] == 3 ? 5 : i + 1);
		for (uint64_t i = 0; i < GW__LEN(zero); i++)
			assert_int_equal(first_byte(&w, id * 64 + zero[i]), 0);
		uint8_t page[PAGE];
		for (uint64_t i = 0; i < 64; i++) /* nothing else was touched */
			if (!is_among(i, normal, GW__LEN(normal)) && !is_among(i, zero, GW__LEN(zero)))
				assert_int_equal(gw__sink_read_back(w.sink, 0, (id * 64 + i) * PAGE, page, &w.run.error), GW__NO_PAGE);
	}
	tear_down(&w);
}

/* Many packets of zeros make a worker patient, not deaf. */
static void zeros_and_then_content(void **state)
{
	struct world w;
	set_up(&w, state, 20000);
	set_block_list(&w);
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 40; i++) {
			struct gw__multifd_packet p = {.zero = 1, .off = {(100 + i) * PAGE}};
			say_packet(&w, 0, &p, NULL);
		}
		say(&w, 0, 0, 100, 8, (uint8_t)(round + 1));
		sync_all(&w);
		assert_ok(gw__multifd_recv_sync_main(w.multifd_recv), w.run.error);
		assert_int_equal(first_byte(&w, 107), round + 1);
		assert_int_equal(first_byte(&w, 108), 0);
	}
	tear_down(&w);
}

/* What stands behind a SYNC is not looked at before all others are at theirs, whatever is there already. */
static void a_fast_channel_waits(void **state)
{
	struct world w;
	set_up(&w, state, 20000);
	set_block_list(&w);
	for (uint8_t round = 1; round < 40; round++) {
		say(&w, 1, GW__MULTIFD_SYNC, 0, 0, 0);
		say(&w, 1, 0, 7, 1, (uint8_t)(100 + round)); /* newer: belongs behind the sync */
		say(&w, 0, 0, 7, 1, round);
		say(&w, 0, GW__MULTIFD_SYNC, 0, 0, 0);
		say(&w, 2, GW__MULTIFD_SYNC, 0, 0, 0);
		assert_ok(gw__multifd_recv_sync_main(w.multifd_recv), w.run.error);
		sync_all(&w);
		assert_ok(gw__multifd_recv_sync_main(w.multifd_recv), w.run.error);
		assert_int_equal(first_byte(&w, 7), 100 + round);
	}
	tear_down(&w);
}

/* Packets that come before the block list are not judged without it. */
static void nothing_is_read_before_the_list(void **state)
{
	struct world w;
	set_up(&w, state, 20000);
	say(&w, 0, 0, 3, 1, 9);
	sync_all(&w);
	set_block_list(&w);
	assert_ok(gw__multifd_recv_sync_main(w.multifd_recv), w.run.error);
	assert_int_equal(first_byte(&w, 3), 9);
	tear_down(&w);
}

static void one_without_sync(void **state)
{
	struct world w;
	set_up(&w, state, 200);
	set_block_list(&w);
	say(&w, 0, GW__MULTIFD_SYNC, 0, 0, 0);
	say(&w, 1, GW__MULTIFD_SYNC, 0, 0, 0);
	assert_int_equal(gw__multifd_recv_sync_main(w.multifd_recv), -ETIMEDOUT);
	assert_says(w.run.error, "sync 1");
	assert_says(w.run.error, "multifd channel 2 sent no SYNC for 200 ms (1 of 3");
	tear_down(&w);
}

static void one_that_closes(void **state)
{
	struct world w;
	set_up(&w, state, 20000);
	set_block_list(&w);
	say(&w, 0, GW__MULTIFD_SYNC, 0, 0, 0);
	shutdown(w.peer[1], SHUT_WR);
	assert_int_equal(gw__multifd_recv_sync_main(w.multifd_recv), -ECONNRESET);
	assert_says(w.run.error, "sync 1: multifd channel 1 was closed");
	tear_down(&w);
}

/* Its failure wakes the main thread, who waits for the others, and closes the main channel for reading. */
static void one_that_lies(void **state)
{
	struct world w;
	uint8_t byte;
	set_up(&w, state, 20000);
	set_block_list(&w);
	say(&w, 0, GW__MULTIFD_SYNC, 0, 0, 0);
	say(&w, 2, 0, 1, 1, 1);
	say(&w, 2, 0, PAGES, 1, 1); /* outside */
	assert_int_equal(gw__multifd_recv_sync_main(w.multifd_recv), -EPROTO);
	assert_says(w.run.error, "multifd channel 2, packet 1: page 0 of the packet, at offset 100000, lies outside block \"ram\"");
	struct gw__error error = {0};
	assert_int_equal(gw__chan_read(w.in.main, &byte, 1, &error), 0);
	tear_down(&w);
}

static void pages_without_a_sync(void **state)
{
	struct world w;
	set_up(&w, state, 20000);
	set_block_list(&w);
	sync_all(&w);
	assert_ok(gw__multifd_recv_sync_main(w.multifd_recv), w.run.error);
	say(&w, 1, 0, 0, 1, 1);
	say(&w, 1, GW__MULTIFD_SYNC, 0, 0, 0);
	struct gw__multifd_recv_stats stats;
	do { /* until it was taken */
		assert_ok(gw__multifd_recv_check(w.multifd_recv, &stats), w.run.error);
	} while (stats.pages < 1);
	assert_int_equal(gw__multifd_recv_finish(w.multifd_recv), -EPROTO);
	assert_says(w.run.error, "multifd channel 1");
	tear_down(&w);
}

/* Refused by the worker, while the sink has closed its RAM. */
static void pages_behind_the_end(void **state)
{
	struct world w;
	set_up(&w, state, 20000);
	set_block_list(&w);
	sync_all(&w);
	assert_ok(gw__multifd_recv_sync_main(w.multifd_recv), w.run.error);
	assert_ok(gw__multifd_recv_finish(w.multifd_recv), w.run.error);
	assert_ok(gw__sink_ram_end(w.sink, &w.run.error), w.run.error);
	say(&w, 0, 0, 0, 0, 0); /* an empty packet may come: 7.2 */
	assert_ok(gw__multifd_recv_check(w.multifd_recv, NULL), w.run.error);
	say(&w, 0, 0, 0, 1, 1);
	while (!gw__multifd_recv_check(w.multifd_recv, NULL))
		;
	assert_says(w.run.error, "multifd channel 0, packet 2: pages after the end of RAM");
	tear_down(&w);
}

/* Stopped in every state: before the list, between packets, in one, at a sync. */
static void stopped_any_time(void **state)
{
	struct world w;
	set_up(&w, state, 20000);
	tear_down(&w);
	set_up(&w, state, 20000);
	set_block_list(&w);
	say(&w, 1, GW__MULTIFD_SYNC, 0, 0, 0);
	say(&w, 2, 0, 0, 4, 1);
	assert_int_equal(send(w.peer[2], "\x11\x22\x33", 3, MSG_NOSIGNAL), 3);
	tear_down(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_there_at_the_sync),
		cmocka_unit_test(pages_in_any_order),
		cmocka_unit_test(zeros_and_then_content),
		cmocka_unit_test(a_fast_channel_waits),
		cmocka_unit_test(nothing_is_read_before_the_list),
		cmocka_unit_test(one_without_sync),
		cmocka_unit_test(one_that_closes),
		cmocka_unit_test(one_that_lies),
		cmocka_unit_test(pages_without_a_sync),
		cmocka_unit_test(pages_behind_the_end),
		cmocka_unit_test(stopped_any_time),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
