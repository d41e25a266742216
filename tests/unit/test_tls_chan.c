/* SPDX-License-Identifier: MIT */
/* The channel after the handshake, between two ends of ours: bytes, readiness, silence, cancel, damage,
 * filters. */
#include "tls_unit.h"

#include <poll.h>
#include <sys/eventfd.h>

enum { FAR_MS = 20000, SOON_MS = 50, RECORD = 16384, BIG_BYTES = 4 << 20 };

static void close_both(struct end *server, struct end *client)
{
	close_end(client);
	close_end(server);
}

/* --- bytes ---------------------------------------------------------------------------------------------- */

struct writer {
	struct gw__chan *c;
	size_t bytes, piece; /* pieces of up to so many */
	int r;
};

static unsigned char byte_at(size_t i) { return (unsigned char)(i * 2654435761u >> 13); }

static void *write_pattern(void *arg)
{
	enum { PARTS = 64 };
	struct writer *w = arg;
	unsigned char *all = malloc(w->bytes);
	unsigned seed = 1;
	for (size_t i = 0; i < w->bytes; i++)
		all[i] = byte_at(i);
	for (size_t done = 0; done < w->bytes && w->r == 0;) {
		struct iovec iov[PARTS];
		int n = 0;
		for (; n < PARTS && done < w->bytes; n++) {
			seed = seed * 1103515245 + 12345;
			size_t left = w->bytes - done, part = 1 + (seed >> 8) % w->piece;
			iov[n] = (struct iovec){all + done, part < left ? part : left};
			done += iov[n].iov_len;
		}
		w->r = gw__chan_write_allv(w->c, iov, n, NULL);
	}
	free(all);
	return NULL;
}

static void all_that_is_written_is_read(void **state)
{
	static const size_t pieces[] = {1, 100, 4096, RECORD - 1, RECORD, RECORD + 1, 300000};
	const char *const folders[] = {"good", "psk"};
	unsigned char *got = malloc(BIG_BYTES);
	for (size_t i = 0; i < 14; i++) {
		struct end server = {0}, client = {0};
		pthread_t thread;
		connect_good(&server, &client, folders[i / 7], FAR_MS);
		struct gw__chan *from = i % 2 ? server.chan : client.chan, *to = i % 2 ? client.chan : server.chan;
		struct writer w = {.c = from, .piece = pieces[i % 7], .bytes = pieces[i % 7] == 1 ? 1000 : BIG_BYTES};
		pthread_create(&thread, NULL, write_pattern, &w);
		read_all(to, got, w.bytes);
		pthread_join(thread, NULL);
		assert_int_equal(w.r, 0);
		for (size_t j = 0; j < w.bytes; j++)
			assert_true(got[j] == byte_at(j));
		assert_int_equal(from->out_bytes, w.bytes);
		assert_int_equal(to->in_bytes, w.bytes);
		close_both(&server, &client);
	}
	free(got);
}

static void reads_take_as_many_records_as_there_are(void **state)
{
	struct end server = {0}, client = {0};
	struct gw__error error = {0};
	char got[3 * RECORD], text[3 * RECORD];
	memset(text, 't', sizeof text);
	connect_good(&server, &client, "good", FAR_MS);
	assert_int_equal(gw__chan_write_all(client.chan, text, sizeof text, &error), 0);
	struct iovec in[] = {{got, 5}, {got + 5, 0}, {got + 5, 2 * RECORD}, {got + 5 + 2 * RECORD, RECORD}};
	assert_int_equal(gw__chan_readv(server.chan, in, 4, &error), 3 * RECORD);
	assert_memory_equal(got, text, sizeof text);
	assert_int_equal(gw__chan_write_all(client.chan, "abc", 3, &error), 0);
	assert_int_equal(gw__chan_readv(server.chan, in, 4, &error), 3); /* and does not wait for more */
	assert_memory_equal(got, "abc", 3);
	close_both(&server, &client);
}

static void readiness_knows_what_is_in_the_buffers(void **state)
{
	struct end server = {0}, client = {0};
	char got[8];
	connect_good(&server, &client, "good", FAR_MS);
	assert_int_equal(gw__chan_wait_readable(server.chan, 0, NULL), 0);
	/* Three records; the first read takes all of them off the socket. */
	for (int i = 0; i < 3; i++)
		assert_int_equal(gw__chan_write_all(client.chan, "12345678", 8, NULL), 0);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(gw__chan_wait_readable(server.chan, 0, NULL), 1);
		read_all(server.chan, got, 4);
		assert_memory_equal(got, i % 2 ? "5678" : "1234", 4);
	}
	assert_int_equal(gw__chan_wait_readable(server.chan, 0, NULL), 0);
	assert_int_equal(gw__chan_end_writes(client.chan, NULL), 0);
	assert_int_equal(gw__chan_wait_readable(server.chan, -1, NULL), 1);
	assert_int_equal(gw__chan_read(server.chan, got, 1, NULL), 0);
	assert_int_equal(gw__chan_wait_readable(server.chan, 0, NULL), 1); /* at its end */
	assert_int_equal(gw__chan_read(server.chan, got, 1, NULL), 0);
	/* The other direction stays. */
	assert_int_equal(gw__chan_write_all(server.chan, "back", 4, NULL), 0);
	read_all(client.chan, got, 4);
	assert_memory_equal(got, "back", 4);
	close_both(&server, &client);
}

/* --- silence and cancel --------------------------------------------------------------------------------- */

static void a_silent_peer_ends_the_wait_and_may_speak_later(void **state)
{
	struct end server = {0}, client = {0};
	struct gw__error error = {0};
	char byte;
	connect_good(&server, &client, "good", FAR_MS);
	server.chan->idle_ms = SOON_MS;
	assert_int_equal(gw__chan_read(server.chan, &byte, 1, &error), -ETIMEDOUT);
	assert_says(error, "nothing came for 50 ms");
	assert_int_equal(gw__chan_write_all(client.chan, "x", 1, NULL), 0);
	read_all(server.chan, &byte, 1);
	close_both(&server, &client);
}

static void a_peer_that_stops_reading_ends_the_write_for_good(void **state)
{
	struct end server = {0}, client = {0};
	struct gw__error error = {0}, again = {0};
	char *bytes = calloc(1, BIG_BYTES);
	connect_good(&server, &client, "good", FAR_MS);
	client.chan->idle_ms = SOON_MS;
	assert_int_equal(gw__chan_write_all(client.chan, bytes, BIG_BYTES, &error), -ETIMEDOUT);
	assert_says(error, "took nothing for 50 ms");
	assert_int_equal(gw__chan_write_all(client.chan, "x", 1, &again), -ETIMEDOUT);
	assert_string_equal(again.text, error.text);
	assert_int_equal(gw__chan_end_writes(client.chan, NULL), -ETIMEDOUT);
	free(bytes);
	close_both(&server, &client);
}

static void *cancel(void *arg)
{
	uint64_t one = 1;
	return write(*(int *)arg, &one, sizeof one) == sizeof one ? NULL : arg;
}

static void another_thread_can_cancel_a_wait(void **state)
{
	char *bytes = calloc(1, BIG_BYTES);
	for (int writing = 0; writing < 2; writing++) {
		struct end server = {0}, client = {0};
		struct gw__error error = {0};
		pthread_t thread;
		char byte;
		connect_good(&server, &client, "good", -1);
		int fd = eventfd(0, EFD_CLOEXEC);
		client.chan->cancel_fd = fd;
		pthread_create(&thread, NULL, cancel, &fd);
		int r = writing ? gw__chan_write_all(client.chan, bytes, BIG_BYTES, &error)
				: (int)gw__chan_read(client.chan, &byte, 1, &error);
		assert_int_equal(r, -ECANCELED);
		assert_says(error, "cancelled");
		pthread_join(thread, NULL);
		close_both(&server, &client);
		close(fd);
	}
	free(bytes);
}

static void a_peer_that_left_is_an_error_but_no_signal(void **state)
{
	struct end server = {0}, client = {0};
	struct gw__error error = {0};
	connect_good(&server, &client, "good", FAR_MS);
	gw__chan_close(&server.chan, NULL);
	assert_int_equal(gw__chan_write_all(client.chan, "x", 1, &error), -EPIPE);
	assert_says(error, "the peer may not have accepted who we are: see its log");
	close_both(&server, &client);

	/* Bytes it did not read make it a reset, which the reader sees. */
	struct end third_server = {0}, third = {0};
	char byte;
	error = (struct gw__error){0};
	connect_good(&third_server, &third, "good", FAR_MS);
	assert_int_equal(gw__chan_write_all(third.chan, "unread", 6, NULL), 0);
	gw__chan_close(&third_server.chan, NULL);
	assert_int_equal(gw__chan_read(third.chan, &byte, 1, &error), -ECONNRESET);
	assert_says(error, "reading: Connection reset by peer; the peer may not have accepted who we are");
	close_both(&third_server, &third);

	/* Later that is no explanation any more. */
	struct end other_server = {0}, other = {0};
	error = (struct gw__error){0};
	connect_good(&other_server, &other, "good", FAR_MS);
	assert_int_equal(gw__chan_write_all(other_server.chan, "x", 1, NULL), 0);
	read_all(other.chan, &byte, 1);
	gw__chan_close(&other_server.chan, NULL);
	assert_int_equal(gw__chan_write_all(other.chan, "x", 1, &error), -EPIPE);
	assert_says(error, "closed the connection while");
	assert_null(strstr(error.text, "accepted"));
	close_both(&other_server, &other);
}

/* --- what happens on the way ---------------------------------------------------------------------------- */

/* client.chan <-> fd[0], fd[1] <-> server.chan: until `stop` is written to, all goes through. */
struct relay {
	struct end server, client;
	int fd[2], stop;
	pthread_t thread;
};

static size_t move_some(int from, int to, size_t n)
{
	char bytes[65536];
	ssize_t got = recv(from, bytes, n < sizeof bytes ? n : sizeof bytes, MSG_DONTWAIT);
	if (got > 0)
		assert_int_equal(send(to, bytes, (size_t)got, MSG_NOSIGNAL), got);
	return got > 0 ? (size_t)got : 0;
}

static void *relay_all(void *arg)
{
	struct relay *r = arg;
	for (;;) {
		struct pollfd p[] = {{r->fd[0], POLLIN, 0}, {r->fd[1], POLLIN, 0}, {r->stop, POLLIN, 0}};
		poll(p, 3, -1);
		if (p[0].revents)
			move_some(r->fd[0], r->fd[1], 65536);
		if (p[1].revents)
			move_some(r->fd[1], r->fd[0], 65536);
		if (p[2].revents)
			return NULL;
	}
}

static void *start_server(void *arg)
{
	struct end *e = arg;
	e->r = gw__chan_start_tls(&e->chan, e->creds, NULL, false, &e->error);
	return NULL;
}

static void open_relay(struct relay *r, int ms)
{
	struct gw__tls_opts o = {.dir = certs_of("good")};
	struct gw__error error = {0};
	pthread_t thread;
	*r = (struct relay){.stop = eventfd(0, EFD_CLOEXEC)};
	r->client.chan = chan_and_fd(&r->fd[0], FAR_MS);
	r->server.chan = chan_and_fd(&r->fd[1], FAR_MS);
	assert_ok(gw__tls_creds_load(GW__TLS_SERVER, &o, &r->server.creds, &error), error);
	assert_ok(gw__tls_creds_load(GW__TLS_CLIENT, &o, &r->client.creds, &error), error);
	pthread_create(&r->thread, NULL, relay_all, r);
	pthread_create(&thread, NULL, start_server, &r->server);
	assert_ok(gw__chan_start_tls(&r->client.chan, r->client.creds, CERTS_HOST, false, &error), error);
	pthread_join(thread, NULL);
	assert_ok(r->server.r, r->server.error);
	assert_null(cancel(&r->stop));
	pthread_join(r->thread, NULL);
	r->server.chan->idle_ms = ms;
}

static void close_relay(struct relay *r)
{
	close_both(&r->server, &r->client);
	close(r->fd[0]);
	close(r->fd[1]);
	close(r->stop);
}

/* What the client writes, encrypted, as it is on the wire. */
static size_t encrypted(struct relay *r, const char *text, unsigned char *to, size_t room)
{
	assert_int_equal(gw__chan_write_all(r->client.chan, text, strlen(text), NULL), 0);
	ssize_t n = recv(r->fd[0], to, room, MSG_DONTWAIT);
	assert_true(n > 0);
	return (size_t)n;
}

static void a_wait_in_the_middle_of_a_record_loses_nothing(void **state)
{
	struct relay r;
	unsigned char wire[256];
	char got[8];
	open_relay(&r, 5);
	for (size_t cut = 1; cut < 27; cut++) {
		size_t n = encrypted(&r, "hello", wire, sizeof wire);
		assert_true(n > 26);
		assert_int_equal(send(r.fd[1], wire, cut, 0), cut);
		assert_int_equal(gw__chan_wait_readable(r.server.chan, 0, NULL), 1); /* something is there */
		assert_int_equal(gw__chan_read(r.server.chan, got, sizeof got, NULL), -ETIMEDOUT);
		assert_int_equal(gw__chan_wait_readable(r.server.chan, 0, NULL), 0); /* but it is no record */
		assert_int_equal(send(r.fd[1], wire + cut, n - cut, 0), n - cut);
		assert_int_equal(gw__chan_read(r.server.chan, got, sizeof got, NULL), 5);
		assert_memory_equal(got, "hello", 5);
	}
	close_relay(&r);
}

static void a_link_that_is_cut_ends_at_the_last_whole_record(void **state)
{
	for (size_t cut = 0; cut <= 27; cut++) {
		struct relay r;
		unsigned char wire[256];
		char got[16];
		open_relay(&r, FAR_MS);
		size_t n = encrypted(&r, "first", wire, sizeof wire);
		assert_int_equal(send(r.fd[1], wire, n, 0), n);
		n = encrypted(&r, "other", wire, sizeof wire);
		assert_int_equal(n, 27);
		if (cut)
			assert_int_equal(send(r.fd[1], wire, cut, 0), cut);
		shutdown(r.fd[1], SHUT_WR);
		read_all(r.server.chan, got, 5);
		assert_memory_equal(got, "first", 5);
		if (cut == n)
			read_all(r.server.chan, got, 5);
		for (int i = 0; i < 2; i++)
			assert_int_equal(gw__chan_read(r.server.chan, got, sizeof got, NULL), 0);
		close_relay(&r);
	}
}

static void damage_is_an_error_and_stays_one(void **state)
{
	for (size_t at = 0; at < 27; at++) {
		struct relay r;
		struct gw__error error = {0}, again = {0};
		unsigned char wire[256];
		char got[16] = "";
		open_relay(&r, FAR_MS);
		size_t n = encrypted(&r, "first", wire, sizeof wire);
		assert_int_equal(send(r.fd[1], wire, n, 0), n);
		n = encrypted(&r, "other", wire, sizeof wire);
		wire[at] ^= at == 3 ? 0x80 : 1; /* at 3: a length no record has; at 4: one byte less or more */
		assert_int_equal(send(r.fd[1], wire, n, 0), n);
		shutdown(r.fd[1], SHUT_WR);
		read_all(r.server.chan, got, 5);
		int e = (int)gw__chan_read(r.server.chan, got, sizeof got, &error);
		/* GnuTLS does not look at type and version; what is in the record is as it was. */
		bool is_intact = at < 3 && e == 5 && memcmp(got, "other", 5) == 0;
		bool is_short = at == 4 && e == 0; /* it became a record that was cut */
		if (is_intact || is_short) {
			close_relay(&r);
			continue;
		}
		if (e != -EBADMSG && e != -EPROTO)
			fail_msg("byte %zu: %d: %s", at, e, error.text);
		if (at > 4)
			assert_says(error, "a TLS record was damaged or forged");
		assert_int_equal(gw__chan_read(r.server.chan, got, sizeof got, &again), e);
		assert_string_equal(again.text, error.text);
		assert_int_equal(gw__chan_write_all(r.server.chan, "x", 1, NULL), e);
		assert_int_equal(gw__chan_wait_readable(r.server.chan, 0, NULL), 1);
		assert_memory_equal(got, "first", 5); /* nothing of it was handed out */
		close_relay(&r);
	}
}

static void a_record_that_comes_twice_is_damage(void **state)
{
	struct relay r;
	unsigned char wire[256];
	char got[16];
	open_relay(&r, FAR_MS);
	size_t n = encrypted(&r, "first", wire, sizeof wire);
	for (int i = 0; i < 2; i++)
		assert_int_equal(send(r.fd[1], wire, n, 0), n);
	assert_int_equal(gw__chan_read(r.server.chan, got, sizeof got, NULL), 5); /* the good one first */
	assert_int_equal(gw__chan_read(r.server.chan, got, sizeof got, NULL), -EBADMSG);
	close_relay(&r);
}

/* --- filters -------------------------------------------------------------------------------------------- */

static void filters_sit_on_both_sides_of_it(void **state)
{
	struct end server = {0}, client = {0};
	struct gw__error error = {0};
	char got[16];
	connect_good(&server, &client, "good", FAR_MS);
	assert_int_equal(gw__chan_cut_after(&server.chan, 8, UINT64_MAX, &error), 0);
	assert_int_equal(gw__chan_limit_rate(&client.chan, 1 << 30, &error), 0);
	assert_int_equal(gw__chan_write_all(client.chan, "0123456789", 10, &error), 0);
	assert_int_equal(gw__chan_wait_readable(server.chan, FAR_MS, NULL), 1);
	read_all(server.chan, got, 3);
	assert_int_equal(gw__chan_wait_readable(server.chan, 0, NULL), 1); /* asked through the filter */
	read_all(server.chan, got + 3, 5);
	assert_memory_equal(got, "01234567", 8);
	assert_int_equal(gw__chan_read(server.chan, got, 1, NULL), 0); /* cut by the filter */
	close_both(&server, &client);
}

static void a_link_that_breaks_below_is_seen_above(void **state)
{
	/* From inside the handshake to behind it. */
	for (uint64_t cut = 0; cut < 6000; cut += 59) {
		struct end server = {.folder = "good"}, client = {.folder = "good"};
		struct gw__tls_opts o = {.dir = certs_of("good")};
		struct gw__io_opts io = limits(FAR_MS);
		struct gw__chan *pair[2];
		struct gw__error error = {0};
		pthread_t thread;
		char *bytes = calloc(1, 6000);
		assert_ok(gw__tls_creds_load(GW__TLS_SERVER, &o, &server.creds, &error), error);
		assert_ok(gw__tls_creds_load(GW__TLS_CLIENT, &o, &client.creds, &error), error);
		assert_ok(gw__chan_pair(pair, &io, &error), error);
		server.chan = pair[0];
		assert_ok(gw__chan_cut_after(&pair[1], UINT64_MAX, cut, &error), error);
		pthread_create(&thread, NULL, start_server, &server);
		int r = gw__chan_start_tls(&pair[1], client.creds, CERTS_HOST, false, &error);
		r = r ? r : gw__chan_write_all(pair[1], bytes, 6000, &error);
		assert_int_equal(r, -EPIPE);
		assert_says(error, "cut on purpose");
		gw__chan_close(&pair[1], NULL);
		pthread_join(thread, NULL);
		if (server.r)
			assert_says(server.error, "closed the connection in the TLS handshake");
		else
			assert_int_equal(gw__chan_read(server.chan, bytes, 6000, NULL), 0); /* one record, not whole */
		free(bytes);
		close_end(&server);
		gw__tls_creds_free(client.creds);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_that_is_written_is_read),
		cmocka_unit_test(reads_take_as_many_records_as_there_are),
		cmocka_unit_test(readiness_knows_what_is_in_the_buffers),
		cmocka_unit_test(a_silent_peer_ends_the_wait_and_may_speak_later),
		cmocka_unit_test(a_peer_that_stops_reading_ends_the_write_for_good),
		cmocka_unit_test(another_thread_can_cancel_a_wait),
		cmocka_unit_test(a_peer_that_left_is_an_error_but_no_signal),
		cmocka_unit_test(a_wait_in_the_middle_of_a_record_loses_nothing),
		cmocka_unit_test(a_link_that_is_cut_ends_at_the_last_whole_record),
		cmocka_unit_test(damage_is_an_error_and_stays_one),
		cmocka_unit_test(a_record_that_comes_twice_is_damage),
		cmocka_unit_test(filters_sit_on_both_sides_of_it),
		cmocka_unit_test(a_link_that_breaks_below_is_seen_above),
	};
	return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
