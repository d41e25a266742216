/* SPDX-License-Identifier: MIT */
/*
 * Compressed payloads: what our packer makes, what senders of other habits may make, and every row of the
 * rules of multifd.md 4.2 and 4.3 broken once. The other sender is the library itself, used here as no part
 * of Godwit does.
 */
#include "error_text.h"

#include <errno.h>
#include <stdio.h>

#include <zlib.h>
#include <zstd.h>

#include "wire/multifd.h"
#include "wire/compress.h"

enum { PAGE = 4096, N = 16 * PAGE, FULL = GW__MULTIFD_PACKET_BYTES, ROOM = 2 * GW__MULTIFD_PAYLOAD_MAX };

static const uint32_t METHODS[] = {GW__MULTIFD_ZLIB, GW__MULTIFD_ZSTD};

static uint8_t text[FULL], noise[FULL], zeros[FULL]; /* what packs well, not at all, to nothing */
static uint8_t payload[ROOM], got[FULL + 1];

static int make_inputs(void **state)
{
	(void)state;
	uint64_t x = 1;
	for (size_t i = 0; i < FULL; i++) {
		x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		noise[i] = (uint8_t)(x >> 56);
		text[i] = (uint8_t)("a page of a guest, "[i % 19] + (noise[i] < 8));
	}
	return 0;
}

/* --- the other sender ----------------------------------------------------------------------------------- */

struct sender {
	uint32_t method;
	z_stream z;
	ZSTD_CCtx *c;
};

/* In place: zlib keeps a pointer to its z_stream. */
static void sender_init(struct sender *s, uint32_t method, int level)
{
	*s = (struct sender){.method = method};
	if (method == GW__MULTIFD_ZLIB) {
		assert_int_equal(deflateInit(&s->z, level), Z_OK);
		return;
	}
	s->c = ZSTD_createCCtx();
	assert_non_null(s->c);
	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(s->c, ZSTD_c_compressionLevel, level)));
}

static void sender_end(struct sender *s)
{
	if (s->method == GW__MULTIFD_ZLIB)
		deflateEnd(&s->z);
	ZSTD_freeCCtx(s->c);
}

/* n bytes into `payload` from `at` on, with a flush of zlib's or zstd's name; gives the bytes they became. */
static size_t send_with(struct sender *s, const void *in, size_t n, int flush, size_t at)
{
	if (s->method == GW__MULTIFD_ZLIB) {
		s->z.next_in = (Bytef *)(uintptr_t)in;
		s->z.avail_in = (uInt)n;
		s->z.next_out = payload + at;
		s->z.avail_out = (uInt)(sizeof payload - at);
		assert_true(deflate(&s->z, flush) >= Z_OK);
		assert_true(s->z.avail_in == 0 && s->z.avail_out > 0);
		return sizeof payload - at - s->z.avail_out;
	}
	ZSTD_inBuffer from = {.src = in, .size = n};
	ZSTD_outBuffer to = {.dst = payload + at, .size = sizeof payload - at};
	assert_int_equal(ZSTD_compressStream2(s->c, &to, &from, (ZSTD_EndDirective)flush), 0);
	return to.pos;
}

static size_t send_page_run(struct sender *s, const void *in, size_t n)
{
	return send_with(s, in, n, s->method == GW__MULTIFD_ZLIB ? Z_SYNC_FLUSH : (int)ZSTD_e_flush, 0);
}

static size_t send_finished(struct sender *s, const void *in, size_t n)
{
	return send_with(s, in, n, s->method == GW__MULTIFD_ZLIB ? Z_FINISH : (int)ZSTD_e_end, 0);
}

/* --- receiving ------------------------------------------------------------------------------------------ */

static struct gw__decompressor *unpacker(uint32_t method)
{
	struct gw__decompressor *u;
	struct gw__error error = {0};
	assert_int_equal(gw__decompressor_new(method, &u, &error), 0);
	assert_non_null(u);
	return u;
}

/* Input and output each in memory of their own size, for the sanitizers. */
static int unpack(struct gw__decompressor *u, size_t in_n, size_t out_n, struct gw__error *error)
{
	uint8_t *in = malloc(in_n ? in_n : 1), *out = malloc(out_n ? out_n : 1);
	assert_true(in && out);
	memcpy(in, payload, in_n);
	*error = (struct gw__error){0};
	int r = gw__decompress(u, in, in_n, out, out_n, error);
	assert_int_equal(error->code, r);
	if (r == 0)
		memcpy(got, out, out_n);
	free(in);
	free(out);
	return r;
}

static void unpacks_to(struct gw__decompressor *u, size_t in_n, const uint8_t *want, size_t n)
{
	struct gw__error error;
	int r = unpack(u, in_n, n, &error);
	if (r)
		print_error("%s\n", error.text);
	assert_int_equal(r, 0);
	assert_memory_equal(got, want, n);
}

#define REFUSED(u, in_n, out_n, ...)                                                                                                       \
	do {                                                                                                                               \
		struct gw__error why_;                                                                                                     \
		const size_t in_n_ = in_n;                                                                                                 \
		assert_int_equal(unpack(u, in_n_, out_n, &why_), -EPROTO);                                                                 \
		assert_says(&why_, -EPROTO, __VA_ARGS__);                                                                                  \
		assert_int_equal(unpack(u, in_n_, out_n, &why_), -EPROTO); /* and it stays so */                                           \
		assert_says(&why_, -EPROTO, "after one that was refused");                                                                 \
	} while (0)

static const char *name_of(uint32_t method) { return gw__multifd_method_name(method); }

/* --- what we make --------------------------------------------------------------------------------------- */

static struct gw__compressor *packer(uint32_t method, int level)
{
	struct gw__compressor *p;
	struct gw__error error = {0};
	assert_int_equal(gw__compressor_new(method, level, &p, &error), 0);
	assert_non_null(p);
	return p;
}

/* A page at a time, as a sender does; exactly the room that was promised to be enough. */
static size_t pack(struct gw__compressor *p, const uint8_t *in, size_t n)
{
	struct gw__error error = {0};
	size_t room = gw__compress_bound(p, n);
	uint8_t *out = malloc(room);
	assert_non_null(out);
	assert_true(room <= GW__MULTIFD_PAYLOAD_MAX);
	struct gw__wr w = gw__wr_over(out, room);
	for (size_t at = 0; at < n; at += PAGE) {
		size_t left = n - at < PAGE ? n - at : PAGE;
		int r = gw__compress(p, in + at, left, at + left == n, &w, &error);
		if (r)
			print_error("%s\n", error.text);
		assert_int_equal(r, 0);
	}
	memcpy(payload, out, gw__wr_used(&w));
	free(out);
	return gw__wr_used(&w);
}

static void every_level_gives_the_pages_again(void **state)
{
	(void)state;
	const uint8_t *inputs[] = {noise, text, zeros, noise};
	for (int m = 0; m < 2; m++)
		for (int level = 0; level <= (m ? GW__ZSTD_LEVEL_MAX : GW__ZLIB_LEVEL_MAX); level++) {
			struct gw__compressor *p = packer(METHODS[m], level);
			struct gw__decompressor *u = unpacker(METHODS[m]);
			size_t n = level <= 9 ? FULL : FULL / 8; /* the high ones are slow */
			for (int i = 0; i < 4; i++)
				unpacks_to(u, pack(p, inputs[i], n), inputs[i], n);
			unpacks_to(u, pack(p, text, PAGE), text, PAGE);
			gw__compressor_free(p);
			gw__decompressor_free(u);
		}
}

static void the_worst_fits_whatever_its_length(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++)
		for (int level = 0; level <= 9; level += 3) {
			struct gw__compressor *p = packer(METHODS[m], level);
			struct gw__decompressor *u = unpacker(METHODS[m]);
			for (size_t n = 1; n <= FULL; n = n * 3 + 1)
				unpacks_to(u, pack(p, noise + FULL - n, n), noise + FULL - n, n);
			gw__compressor_free(p);
			gw__decompressor_free(u);
		}
}

static bool has(size_t n, const char *bytes, size_t from)
{
	for (size_t i = from; i + 4 <= n; i++)
		if (!memcmp(payload + i, bytes, 4))
			return true;
	return false;
}

static void zlib_begins_once_and_every_payload_ends_with_a_sync_flush(void **state)
{
	(void)state;
	struct gw__compressor *p = packer(GW__MULTIFD_ZLIB, 1);
	for (int i = 0; i < 4; i++) {
		size_t n = pack(p, text + i * N, N);
		assert_int_equal(i == 0, payload[0] == 0x78 && payload[1] == 0x01);
		assert_memory_equal(payload + n - 4, "\0\0\xff\xff", 4);
	}
	gw__compressor_free(p);
}

static void zstd_begins_once(void **state)
{
	(void)state;
	struct gw__compressor *p = packer(GW__MULTIFD_ZSTD, 1);
	for (int i = 0; i < 4; i++) {
		size_t n = pack(p, text + i * N, N);
		assert_int_equal(i == 0, !memcmp(payload, "\x28\xb5\x2f\xfd", 4));
		assert_false(has(n, "\x28\xb5\x2f\xfd", 1));
	}
	gw__compressor_free(p);
}

static void the_dictionary_carries_on(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		struct gw__compressor *p = packer(METHODS[m], 1);
		struct gw__decompressor *u = unpacker(METHODS[m]), *late = unpacker(METHODS[m]);
		size_t first = pack(p, noise, 4 * PAGE);
		unpacks_to(u, first, noise, 4 * PAGE);
		size_t again = pack(p, noise, 4 * PAGE); /* it was just there */
		assert_true(again < first / 8);
		unpacks_to(u, again, noise, 4 * PAGE);
		REFUSED(late, again, 4 * PAGE, name_of(METHODS[m]));
		gw__compressor_free(p);
		gw__decompressor_free(u);
		gw__decompressor_free(late);
	}
}

static void a_last_call_without_pages_flushes_the_ones_before(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		struct gw__compressor *p = packer(METHODS[m], 1);
		struct gw__decompressor *u = unpacker(METHODS[m]);
		struct gw__error error = {0};
		struct gw__wr w = gw__wr_over(payload, gw__compress_bound(p, N));
		assert_int_equal(gw__compress(p, text, N, false, &w, &error), 0);
		assert_int_equal(gw__compress(p, NULL, 0, false, &w, &error), 0);
		assert_int_equal(gw__compress(p, NULL, 0, true, &w, &error), 0);
		unpacks_to(u, gw__wr_used(&w), text, N);
		gw__compressor_free(p);
		gw__decompressor_free(u);
	}
}

static void nothing_is_flushed_before_the_last_call(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		struct gw__compressor *p = packer(METHODS[m], 1);
		struct gw__wr w = gw__wr_over(payload, gw__compress_bound(p, PAGE));
		assert_int_equal(gw__compress(p, noise, 1000, false, &w, NULL), 0);
		assert_true(gw__wr_used(&w) < 20); /* a header at most */
		gw__compressor_free(p);
	}
}

static void a_higher_level_packs_smaller(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		struct gw__compressor *low = packer(METHODS[m], 1), *high = packer(METHODS[m], 9);
		assert_true(pack(high, text, FULL) < pack(low, text, FULL));
		gw__compressor_free(low);
		gw__compressor_free(high);
	}
}

static void too_little_room_is_said_and_not_overrun(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++)
		for (size_t room = 0; room < 2000; room += 1 + room / 4) {
			struct gw__compressor *p = packer(METHODS[m], 1);
			struct gw__error error = {0};
			uint8_t *out = malloc(room ? room : 1);
			assert_non_null(out);
			struct gw__wr w = gw__wr_over(out, room);
			assert_int_equal(gw__compress(p, noise, PAGE, true, &w, &error), -ENOSPC);
			assert_says(&error, -ENOSPC, name_of(METHODS[m]), "room");
			error = (struct gw__error){0};
			w = gw__wr_over(payload, sizeof payload);
			assert_int_equal(gw__compress(p, noise, PAGE, true, &w, &error), -EINVAL);
			assert_says(&error, -EINVAL, "after a failure");
			assert_int_equal(gw__wr_used(&w), 0);
			free(out);
			gw__compressor_free(p);
		}
}

static void levels_out_of_range_are_refused(void **state)
{
	(void)state;
	const int highest[] = {GW__ZLIB_LEVEL_MAX, GW__ZSTD_LEVEL_MAX};
	for (int m = 0; m < 2; m++) {
		const int wrong[] = {-1, highest[m] + 1, 1000, -1000};
		for (size_t i = 0; i < 4; i++) {
			struct gw__compressor *p = (void *)payload;
			struct gw__error error = {0};
			char level[16], most[16];
			snprintf(level, sizeof level, "is %d,", wrong[i]);
			snprintf(most, sizeof most, "0 to %d", highest[m]);
			assert_int_equal(gw__compressor_new(METHODS[m], wrong[i], &p, &error), -EINVAL);
			assert_null(p);
			assert_says(&error, -EINVAL, name_of(METHODS[m]), level, most);
		}
	}
}

static void no_method_needs_nothing_and_others_are_refused(void **state)
{
	(void)state;
	struct gw__compressor *p = (void *)payload;
	struct gw__decompressor *u = (void *)payload;
	struct gw__error error = {0};
	assert_int_equal(gw__compressor_new(0, 1, &p, &error), 0);
	assert_int_equal(gw__decompressor_new(0, &u, &error), 0);
	assert_true(!p && !u);
	gw__compressor_free(p);
	gw__decompressor_free(u);

	assert_int_equal(gw__compressor_new(GW__MULTIFD_QPL, 1, &p, &error), -EOPNOTSUPP);
	assert_says(&error, -EOPNOTSUPP, "method 08");
	error = (struct gw__error){0};
	assert_int_equal(gw__decompressor_new(0x06, &u, &error), -EOPNOTSUPP);
	assert_says(&error, -EOPNOTSUPP, "method 06");
	assert_true(!p && !u);
}

/* --- what may come -------------------------------------------------------------------------------------- */

static void any_flush_that_completes_the_bytes_is_taken(void **state)
{
	(void)state;
	const int flushes[] = {Z_FULL_FLUSH, Z_SYNC_FLUSH, Z_PARTIAL_FLUSH, Z_FULL_FLUSH};
	struct sender s;
	sender_init(&s, GW__MULTIFD_ZLIB, 6);
	struct gw__decompressor *u = unpacker(GW__MULTIFD_ZLIB);
	for (int i = 0; i < 4; i++)
		unpacks_to(u, send_with(&s, text + i * N, N, flushes[i], 0), text + i * N, N);
	sender_end(&s);
	gw__decompressor_free(u);
}

static void flushes_inside_and_behind_are_taken(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		struct sender s;
		sender_init(&s, METHODS[m], 3);
		struct gw__decompressor *u = unpacker(METHODS[m]);
		int flush = m ? (int)ZSTD_e_flush : Z_FULL_FLUSH;
		size_t n = 0;
		for (int i = 0; i < 16; i++)
			n += send_with(&s, text + i * PAGE, PAGE, flush, n);
		if (m == 0) { /* empty stored blocks, which say nothing */
			memcpy(payload + n, "\0\0\0\xff\xff\0\0\0\xff\xff", 10);
			n += 10;
		}
		unpacks_to(u, n, text, N);
		unpacks_to(u, send_page_run(&s, noise, N), noise, N);
		sender_end(&s);
		gw__decompressor_free(u);
	}
}

static void no_pages_and_no_payload_leave_the_stream_alone(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		struct sender s;
		sender_init(&s, METHODS[m], 1);
		struct gw__decompressor *u = unpacker(METHODS[m]);
		struct gw__error error;
		for (int i = 0; i < 3; i++) {
			assert_int_equal(unpack(u, 0, 0, &error), 0);
			unpacks_to(u, send_page_run(&s, text, N), text, N);
		}
		sender_end(&s);
		gw__decompressor_free(u);
	}
}

static void the_window_of_level_20_is_taken_and_no_larger_one(void **state)
{
	(void)state;
	for (int log = GW__ZSTD_WINDOW_LOG_MAX; log <= GW__ZSTD_WINDOW_LOG_MAX + 2; log++) {
		struct sender s;
		sender_init(&s, GW__MULTIFD_ZSTD, 1);
		struct gw__decompressor *u = unpacker(GW__MULTIFD_ZSTD);
		assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(s.c, ZSTD_c_windowLog, log)));
		size_t n = send_page_run(&s, text, N);
		if (log == GW__ZSTD_WINDOW_LOG_MAX)
			unpacks_to(u, n, text, N);
		else
			REFUSED(u, n, N, "zstd", "window of more than 33554432 bytes", "multifd-zstd-level");
		sender_end(&s);
		gw__decompressor_free(u);
	}
}

/* --- what is refused ------------------------------------------------------------------------------------ */

/* The stream after `before` good payloads. */
static struct gw__decompressor *after_payloads(struct sender *s, int before)
{
	struct gw__decompressor *u = unpacker(s->method);
	for (int i = 0; i < before; i++)
		unpacks_to(u, send_page_run(s, text, N), text, N);
	return u;
}

static void a_stream_begun_anew_is_refused(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++)
		for (int level = 1; level <= 9; level += 4) {
			struct sender s, fresh;
			sender_init(&s, METHODS[m], level);
			sender_init(&fresh, METHODS[m], level);
			struct gw__decompressor *u = after_payloads(&s, 1 + level / 4);
			REFUSED(u, send_page_run(&fresh, text, N), N, name_of(METHODS[m]), "does not continue");
			sender_end(&s);
			sender_end(&fresh);
			gw__decompressor_free(u);
		}
}

static void a_finished_stream_is_refused(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++)
		for (int before = 0; before < 3; before++) {
			struct sender s;
			sender_init(&s, METHODS[m], 1);
			struct gw__decompressor *u = after_payloads(&s, before);
			REFUSED(u, send_finished(&s, text, N), N, name_of(METHODS[m]), "stream ends inside");
			sender_end(&s);
			gw__decompressor_free(u);
		}
}

static void bytes_behind_a_finished_stream_do_not_help_it(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		struct sender s, second;
		sender_init(&s, METHODS[m], 1);
		sender_init(&second, METHODS[m], 1);
		struct gw__decompressor *u = unpacker(METHODS[m]);
		size_t n = send_finished(&s, text, N / 2);
		n += send_with(&second, text + N / 2, N / 2, m ? (int)ZSTD_e_flush : Z_SYNC_FLUSH, n);
		REFUSED(u, n, N, name_of(METHODS[m]), "stream ends inside");
		sender_end(&s);
		sender_end(&second);
		gw__decompressor_free(u);
	}
}

static void less_than_the_pages_is_refused(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++)
		for (int before = 0; before < 2; before++) {
			struct sender s;
			sender_init(&s, METHODS[m], 1);
			struct gw__decompressor *u = after_payloads(&s, before);
			REFUSED(u, send_page_run(&s, text, N - 1), N, "gives 65535 bytes", "expected the 65536");
			sender_end(&s);
			gw__decompressor_free(u);
		}
}

static void a_payload_cut_short_is_refused(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++)
		for (size_t cut = 6; cut < 200; cut += 30) {
			struct sender s;
			sender_init(&s, METHODS[m], 1);
			struct gw__decompressor *u = unpacker(METHODS[m]);
			REFUSED(u, send_page_run(&s, noise, N) - cut, N, name_of(METHODS[m]), "expected the 65536");
			sender_end(&s);
			gw__decompressor_free(u);
		}
}

static void more_than_the_pages_is_refused(void **state)
{
	(void)state;
	const uint8_t *inputs[] = {text, noise, zeros};
	const size_t beyond[] = {1, 2, PAGE, FULL - N};
	for (int m = 0; m < 2; m++)
		for (int i = 0; i < 12; i++) {
			struct sender s;
			sender_init(&s, METHODS[m], 1);
			struct gw__decompressor *u = after_payloads(&s, i & 1);
			REFUSED(u, send_page_run(&s, inputs[i / 4], N + beyond[i % 4]), N, name_of(METHODS[m]), "more than the 65536");
			sender_end(&s);
			gw__decompressor_free(u);
		}
}

/* A mebibyte that would be a gibibyte. */
static void a_bomb_is_refused_after_its_pages(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		struct sender s;
		sender_init(&s, METHODS[m], 9);
		struct gw__decompressor *u = unpacker(METHODS[m]);
		size_t n = 0;
		for (int i = 0; i < 1500; i++)
			n += send_with(&s, zeros, FULL, m ? (int)ZSTD_e_continue : Z_NO_FLUSH, n);
		assert_true(n > 0 && n < GW__MULTIFD_PAYLOAD_MAX);
		REFUSED(u, n, FULL, "more than the 524288");
		sender_end(&s);
		gw__decompressor_free(u);
	}
}

static void leftover_input_is_refused(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		struct sender s;
		sender_init(&s, METHODS[m], 1);
		struct gw__decompressor *u = unpacker(METHODS[m]);
		size_t n = send_page_run(&s, text, N);
		memset(payload + n, 0xff, 7);
		REFUSED(u, n + 7, N, name_of(METHODS[m]), "does not continue");
		sender_end(&s);
		gw__decompressor_free(u);
	}
}

static void garbage_is_refused(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++)
		for (int before = 0; before < 2; before++) {
			struct sender s;
			sender_init(&s, METHODS[m], 1);
			struct gw__decompressor *u = after_payloads(&s, before);
			memset(payload, 0xee, 1000);
			REFUSED(u, 1000, N, name_of(METHODS[m]), before || m == 0 ? "does not continue" : "eeeeeeee");
			sender_end(&s);
			gw__decompressor_free(u);
		}
}

static void sizes_out_of_bounds_are_refused(void **state)
{
	(void)state;
	for (int m = 0; m < 2; m++) {
		struct gw__decompressor *u = unpacker(METHODS[m]);
		REFUSED(u, GW__MULTIFD_PAYLOAD_MAX + 1, N, "1048577 bytes", "at most 1048576");
		gw__decompressor_free(u);
		u = unpacker(METHODS[m]);
		REFUSED(u, 0, N, "empty payload", "65536");
		gw__decompressor_free(u);
		u = unpacker(METHODS[m]);
		REFUSED(u, 5, 0, "payload of 5 bytes", "no pages");
		gw__decompressor_free(u);
	}
}

static void zlib_with_a_dictionary_is_refused(void **state)
{
	(void)state;
	struct sender s;
	sender_init(&s, GW__MULTIFD_ZLIB, 1);
	struct gw__decompressor *u = unpacker(GW__MULTIFD_ZLIB);
	assert_int_equal(deflateSetDictionary(&s.z, text, 100), Z_OK);
	REFUSED(u, send_page_run(&s, text, N), N, "zlib", "dictionary");
	sender_end(&s);
	gw__decompressor_free(u);
}

static void deflate_without_a_zlib_head_is_refused(void **state)
{
	(void)state;
	struct sender s = {.method = GW__MULTIFD_ZLIB};
	struct gw__decompressor *u = unpacker(GW__MULTIFD_ZLIB);
	assert_int_equal(deflateInit2(&s.z, 1, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
	REFUSED(u, send_page_run(&s, text, N), N, "zlib", "does not continue");
	sender_end(&s);
	gw__decompressor_free(u);
}

static void zstd_frames_of_other_kinds_are_refused(void **state)
{
	(void)state;
	static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
	static const uint8_t version_0_5[] = {0x25, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0};
	struct gw__decompressor *u = unpacker(GW__MULTIFD_ZSTD);
	memcpy(payload, skippable, sizeof skippable);
	REFUSED(u, sizeof skippable, N, "begins with 502a4d18", "28b52ffd");
	gw__decompressor_free(u);
	u = unpacker(GW__MULTIFD_ZSTD);
	memcpy(payload, version_0_5, sizeof version_0_5);
	REFUSED(u, sizeof version_0_5, N, "begins with 25b52ffd", "28b52ffd");
	gw__decompressor_free(u);
	u = unpacker(GW__MULTIFD_ZSTD);
	memcpy(payload, "\x28\xb5\x2f", 3);
	REFUSED(u, 3, N, "3 bytes", "frame header");
	gw__decompressor_free(u);
}

static void zstd_with_a_dictionary_is_refused(void **state)
{
	(void)state;
	/* Descriptor 01: one byte of dictionary id. */
	static const uint8_t head[] = {0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x48, 0x07, 0, 0, 0, 0, 0};
	struct gw__decompressor *u = unpacker(GW__MULTIFD_ZSTD);
	memcpy(payload, head, sizeof head);
	REFUSED(u, sizeof head, N, "zstd", "ictionary");
	gw__decompressor_free(u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_level_gives_the_pages_again),
		cmocka_unit_test(the_worst_fits_whatever_its_length),
		cmocka_unit_test(zlib_begins_once_and_every_payload_ends_with_a_sync_flush),
		cmocka_unit_test(zstd_begins_once),
		cmocka_unit_test(the_dictionary_carries_on),
		cmocka_unit_test(a_last_call_without_pages_flushes_the_ones_before),
		cmocka_unit_test(nothing_is_flushed_before_the_last_call),
		cmocka_unit_test(a_higher_level_packs_smaller),
		cmocka_unit_test(too_little_room_is_said_and_not_overrun),
		cmocka_unit_test(levels_out_of_range_are_refused),
		cmocka_unit_test(no_method_needs_nothing_and_others_are_refused),
		cmocka_unit_test(any_flush_that_completes_the_bytes_is_taken),
		cmocka_unit_test(flushes_inside_and_behind_are_taken),
		cmocka_unit_test(no_pages_and_no_payload_leave_the_stream_alone),
		cmocka_unit_test(the_window_of_level_20_is_taken_and_no_larger_one),
		cmocka_unit_test(a_stream_begun_anew_is_refused),
		cmocka_unit_test(a_finished_stream_is_refused),
		cmocka_unit_test(bytes_behind_a_finished_stream_do_not_help_it),
		cmocka_unit_test(less_than_the_pages_is_refused),
		cmocka_unit_test(a_payload_cut_short_is_refused),
		cmocka_unit_test(more_than_the_pages_is_refused),
		cmocka_unit_test(a_bomb_is_refused_after_its_pages),
		cmocka_unit_test(leftover_input_is_refused),
		cmocka_unit_test(garbage_is_refused),
		cmocka_unit_test(sizes_out_of_bounds_are_refused),
		cmocka_unit_test(zlib_with_a_dictionary_is_refused),
		cmocka_unit_test(deflate_without_a_zlib_head_is_refused),
		cmocka_unit_test(zstd_frames_of_other_kinds_are_refused),
		cmocka_unit_test(zstd_with_a_dictionary_is_refused),
	};
	return cmocka_run_group_tests_name("pack", tests, make_inputs, NULL);
}
