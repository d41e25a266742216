/* SPDX-License-Identifier: MIT */
/*
 * What tests of the stream decoder say: this stream is read, that one is refused with this sentence. Each is
 * fed whole, a byte at a time and in odd pieces, which must make no difference.
 */
#ifndef GW_TESTS_STREAM_CHECK_H
#define GW_TESTS_STREAM_CHECK_H

#include "error_text.h"

#include <errno.h>

#include "stream_builder.h"
#include "stream_feed.h"

static inline size_t one_byte(void *ctx)
{
	(void)ctx;
	return 1;
}

/* Pieces of 1, 2, 3, 5, 8 ... bytes, again and again. */
static inline size_t odd_pieces(void *ctx)
{
	size_t *two = ctx;
	size_t next = two[0] + two[1];
	two[0] = two[1];
	two[1] = next > 5000 ? 1 : next;
	return next;
}

static const struct gw__stream_opts NO_LIMIT = {.tail_max_bytes = 1 << 20};

static inline void assert_same_end(const struct feed_end *a, const struct feed_end *b)
{
	if (a->code != b->code || strcmp(a->error.text, b->error.text))
		fail_msg("%d \"%s\", but in pieces %d \"%s\"", a->code, a->error.text, b->code, b->error.text);
	if (a->log_n != b->log_n || (a->log_n && strcmp(a->log, b->log)))
		fail_msg("fed in pieces it gives other events:\n%s---\n%s", a->log, b->log);
	assert_int_equal(a->trailing, b->trailing);
	assert_memory_equal(a->count, b->count, sizeof a->count);
}

/* The caller ends `end` with feed_end_fini. */
static inline void read_as(struct feed whole, struct feed_end *end)
{
	size_t two[2] = {0, 1};
	whole.guard = true;
	struct feed bytes = whole, pieces = whole;
	struct feed_end other;
	feed_run(&whole, end);
	bytes.piece = one_byte;
	feed_run(&bytes, &other);
	assert_same_end(end, &other);
	feed_end_fini(&other);
	pieces.piece = odd_pieces;
	pieces.ctx = two;
	feed_run(&pieces, &other);
	assert_same_end(end, &other);
	feed_end_fini(&other);
}

static inline void read_with(const struct sb *b, struct gw__stream_opts opts, bool open_end, struct feed_end *end)
{
	read_as((struct feed){.bytes = b->p, .n = b->n, .opts = opts, .open_end = open_end}, end);
}

static inline struct feed_end accept_with(struct sb *b, struct gw__stream_opts opts, const char *file, int line)
{
	struct feed_end end;
	read_with(b, opts, false, &end);
	if (end.code) {
		print_error("%s:%d: refused: %s\n%s", file, line, end.error.text, end.log_n ? end.log : "");
		_fail(file, line);
	}
	assert_int_equal(end.count[GW__EVENT_END], 1);
	assert_int_equal(end.trailing, 0);
	sb_fini(b);
	return end;
}

#define accepted(b) accept_with(b, NO_LIMIT, __FILE__, __LINE__)

/* The kinds of all events in order, as in "config section blocks section-end ...". */
static inline void check_order(const struct feed_end *end, const char *want, const char *file, int line)
{
	char got[4096] = "";
	size_t n = 0;
	for (const char *p = end->log; p && *p; p = strchr(p, '\n') + 1) {
		const char *kind = strchr(p, ' ') + 1;
		if (*p == ' ')
			continue;
		n += (size_t)snprintf(got + n, sizeof got - n, "%s%.*s", n ? " " : "", (int)strcspn(kind, " \n"), kind);
	}
	if (strcmp(got, want)) {
		print_error("%s:%d: events\n  %s\nexpected\n  %s\n", file, line, got, want);
		_fail(file, line);
	}
}
#define assert_order(end, want) check_order(end, want, __FILE__, __LINE__)

/* A line of the log that begins like this. */
#define assert_logged(end, start)                                                                                                          \
	do {                                                                                                                               \
		const char *at_ = strstr((end)->log, "\n" start);                                                                          \
		if (!at_ && strncmp((end)->log, start, strlen(start)))                                                                     \
			fail_msg("no line \"%s\" in\n%s", start, (end)->log);                                                              \
	} while (0)

/* `b` is used up, so that the next case can be written into it. */
#define REFUSED_WITH(b, opts, errno_, ...)                                                                                                 \
	do {                                                                                                                               \
		struct feed_end end_;                                                                                                      \
		read_with(b, opts, false, &end_);                                                                                          \
		assert_int_equal(end_.count[GW__EVENT_END], 0);                                                                            \
		assert_says(&end_.error, errno_, __VA_ARGS__);                                                                             \
		feed_end_fini(&end_);                                                                                                      \
		sb_fini(b);                                                                                                                \
	} while (0)
#define REFUSED(b, ...) REFUSED_WITH(b, NO_LIMIT, -EPROTO, __VA_ARGS__)

/* The text "at stream offset N" for the place where the next bytes of a builder will stand. */
struct place {
	char text[48];
};
static inline struct place place_of(const struct sb *b)
{
	struct place p;
	snprintf(p.text, sizeof p.text, "at stream offset %zu: ", b->n);
	return p;
}

/* Head and START of a guest with "m0" of 4 pages and "rom" of 2, pages of 4096 bytes; inside the START's
 * body. */
static inline void put_start(struct sb *b)
{
	sb_head(b, "pc-i440fx-10.0");
	sb_start_ram(b);
	sb_be64(b, 0x6000 | 0x004);
	sb_block(b, "m0", 0x4000);
	sb_block(b, "rom", 0x2000);
}

/* The same with its EOS, and a PART with one page of each block, open for more records. */
static inline void put_part(struct sb *b)
{
	put_start(b);
	sb_eos(b);
	sb_more(b, 0x02, 1);
	sb_record(b, 0x008, "m0");
	sb_fill(b, 0xa5, 4096);
	sb_zero(b, 0x1000, "rom");
}

static inline void put_ram_end(struct sb *b)
{
	sb_switchover(b);
	sb_more(b, 0x03, 1);
	sb_eos(b);
}

static inline void put_devices(struct sb *b)
{
	sb_device(b, 3, "timer", 0, 2, "0123456789", 10);
	sb_device(b, 0, "apic", 0, 3, "", 0);
	sb_device(b, 2, "apic", 1, 3, "abc", 3);
}

/* All of RAM, up to the first device. */
static inline void put_ram(struct sb *b)
{
	put_part(b);
	sb_eos(b);
	put_ram_end(b);
}

static inline void put_rest(struct sb *b)
{
	put_devices(b);
	sb_end(b);
}

#endif
