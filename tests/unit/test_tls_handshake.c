/* SPDX-License-Identifier: MIT */
/*
 * Who gets together with whom, and what both sides say when not: the rows of docs/spec/channels.md 4.4
 * between our client and our server, and peers that are no TLS at all.
 */
#include "tls_unit.h"

#include <poll.h>
#include <sys/eventfd.h>

enum { FAR_MS = 20000, SOON_MS = 100 };

/* --- who with whom -------------------------------------------------------------------------------------- */

struct side {
	const char *folder;
	int r;
	const char *says;
	struct gw__tls_opts opts;
};

/* With TLS 1.3 a client is done before it is judged: then `client.r` is what its first read tells. */
struct meeting {
	const char *called;
	struct side server, client;
	const char *host;
	bool late;
};

static void check_side(const struct meeting *m, const char *who, const struct side *want, int r, const struct gw__error *error)
{
	if (r != want->r || (r && !strstr(error->text, want->says)))
		fail_msg("%s: %s: %d, expected %d \"%s\", says \"%s\"", m->called, who, r, want->r, want->r ? want->says : "", error->text);
}

static void meet(const struct meeting *m)
{
	struct end server = {.folder = m->server.folder, .opts = m->server.opts};
	struct end client = {.folder = m->client.folder, .opts = m->client.opts, .host = m->host};
	char byte;
	connect_ends(&server, &client, FAR_MS);
	if (m->late && client.r == 0)
		client.r = (int)gw__chan_read(client.chan, &byte, 1, &client.error);
	check_side(m, "server", &m->server, server.r, &server.error);
	check_side(m, "client", &m->client, client.r, &client.error);
	if (server.r == 0 && client.r == 0) {
		assert_ok(gw__chan_write_all(client.chan, "to", 2, &client.error), client.error);
		read_all(server.chan, &byte, 1);
		assert_int_equal(byte, 't');
	}
	close_end(&server);
	close_end(&client);
}

#define TLS12    "NORMAL:-VERS-ALL:+VERS-TLS1.2"
#define TLS13    "NORMAL:-VERS-ALL:+VERS-TLS1.3"
#define RSA_ONLY "NORMAL:-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256"

/* clang-format off */
#define WELL(f) {.folder = (f)}
#define WITH(f, ...) {.folder = (f), .opts = {__VA_ARGS__}}
#define FAILS(f, code, text) {.folder = (f), .r = (code), .says = (text)}
#define FAILS_WITH(f, code, text, ...) {.folder = (f), .r = (code), .says = (text), .opts = {__VA_ARGS__}}
#define MEET(name, s, c, ...) {.called = (name), .server = s, .client = c, __VA_ARGS__}
#define AT(h) .host = (h)
#define LATE AT(CERTS_HOST), .late = true

static void good_ones_get_together(void **state)
{
	static const struct meeting rows[] = {
		MEET("x509", WELL("good"), WELL("good"), AT(CERTS_HOST)),
		MEET("another name of it", WELL("good"), WELL("good"), AT("localhost")),
		MEET("IPv4 address", WELL("good"), WELL("good"), AT("127.0.0.1")),
		MEET("IPv6 address", WELL("good"), WELL("good"), AT("::1")),
		MEET("tls-hostname before the host", WELL("good"), WITH("good", .hostname = CERTS_HOST), AT("10.0.0.1")),
		MEET("not if it is empty", WELL("good"), WITH("good", .hostname = ""), AT(CERTS_HOST)),
		MEET("name in the subject only", WELL("name-in-cn"), WELL("good"), AT(CERTS_HOST)),
		MEET("a certificate without purposes", WELL("bare"), WELL("good"), AT(CERTS_HOST)),
		MEET("keys with other line ends", WELL("psk"), WELL("psk-crlf"), AT(NULL)),
		MEET("a CA below", WELL("chain"), WELL("good"), AT(CERTS_HOST)),
		MEET("several identities", WELL("numbered"), WELL("numbered"), AT(CERTS_HOST)),
		MEET("one more identity", WELL("numbered-too"), WELL("good"), AT(CERTS_HOST)),
		MEET("RSA wanted", WITH("numbered-too", .no_verify = true), WITH("good", .priority = RSA_ONLY), AT(CERTS_HOST)),
		MEET("TLS 1.2", WELL("good"), WITH("good", .priority = TLS12), AT(CERTS_HOST)),
		MEET("a CRL that names others", WELL("crl"), WELL("crl"), AT(CERTS_HOST)),
		MEET("a CRL of yesterday", WELL("old-crl"), WELL("old-crl"), AT(CERTS_HOST)),
		MEET("CAs of both", WELL("bundle"), WELL("bundle"), AT(CERTS_HOST)),
		MEET("authorised", WITH("good", .authz = CERTS_CLIENT), WELL("good"), AT(CERTS_HOST)),
		MEET("client asks nothing", WELL("wrong-host"), WITH("good", .no_verify = true), AT(NULL)),
		MEET("server asks nothing", WITH("good", .no_verify = true), WELL("no-client"), AT(CERTS_HOST)),
		MEET("nobody asks", WITH("good", .no_verify = true), WITH("other-ca", .no_verify = true), AT(NULL)),
		MEET("shared key", WELL("psk"), WELL("psk"), AT(NULL)),
		MEET("another name", WELL("psk"), WITH("psk", .username = "alice"), AT(NULL)),
		MEET("the first key of a name", WELL("psk-twice"), WELL("psk"), AT(NULL)),
		MEET("shared key, TLS 1.2", WELL("psk"), WITH("psk", .priority = TLS12), AT(NULL)),
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		meet(&rows[i]);
}

static void others_are_told_why_not(void **state)
{
	static const struct meeting rows[] = {
		MEET("certificate for another name",
			FAILS("good", -EACCES, "the peer refused us: our certificate is not good"),
			FAILS("good", -EACCES, "is not for \"b.example\" but for \"vm.example\", \"localhost\", \"127.0.0.1\", \"::1\"; if it is the right server"), AT("b.example")),
		MEET("a name in the subject", FAILS("name-in-cn", -EACCES, "the peer refused us"),
			FAILS("good", -EACCES, "but for \"vm.example\"; if"), AT("b.example")),
		MEET("names that would change a terminal", FAILS("odd-names", -EACCES, "the peer refused us"),
			FAILS("good", -EACCES, "but for \"a?[31mb\", \"??\"; if"), AT("b.example")),
		MEET("more names than a sentence takes", FAILS("many-names", -EACCES, "the peer refused us"),
			FAILS("good", -EACCES, "\"name-11.example\", ...; if"), AT("b.example")),
		MEET("certificate for another address", FAILS("good", -EACCES, "the peer refused us"),
			FAILS("good", -EACCES, "is not for \"127.0.0.2\""), AT("127.0.0.2")),
		MEET("an address is not a name", FAILS("name-in-cn", -EACCES, "the peer refused us"),
			FAILS("good", -EACCES, "is not for \"::1\""), AT("::1")),
		MEET("unknown CA of the server", FAILS("good", -EACCES, "it does not know the CA of our certificate"),
			FAILS("other-ca", -EACCES, "the server was not signed by a CA of our"), AT(CERTS_HOST)),
		MEET("unknown CA of the client", FAILS("good", -EACCES, "showed no certificate"),
			FAILS("bundle-of-other", -EACCES, "wants a certificate"), LATE),
		MEET("client without certificate", FAILS("good", -EACCES, "the client showed no certificate"),
			FAILS("no-client", -EACCES, "it wants a certificate and we have none"), LATE),
		MEET("the same in TLS 1.2", FAILS("good", -EACCES, "the client showed no certificate"),
			FAILS_WITH("no-client", -EPROTO, "the peer ended TLS", .priority = TLS12), AT(CERTS_HOST)),
		MEET("not authorised",
			FAILS_WITH("good", -EACCES, "the client is \"" CERTS_CLIENT "\"; only \"CN=x\"", .authz = "CN=x"),
			FAILS("good", -EACCES, "our distinguished name is not authorised"), LATE),
		MEET("the name is more", FAILS_WITH("good", -EACCES, "is authorised", .authz = CERTS_CLIENT ",CN=x"),
			FAILS("good", -EACCES, "not authorised"), LATE),
		MEET("the name is less", FAILS_WITH("good", -EACCES, "is authorised", .authz = "C=DE"),
			FAILS("good", -EACCES, "not authorised"), LATE),
		MEET("revoked client", FAILS("revoked-client", -EACCES, "the client is revoked by our ca-crl.pem"),
			FAILS("good", -EACCES, "our certificate is revoked"), LATE),
		MEET("revoked server", FAILS("good", -EACCES, "our certificate is revoked"),
			FAILS("revoked-server", -EACCES, "the server is revoked by our ca-crl.pem"), AT(CERTS_HOST)),
		MEET("key differs", FAILS("psk", -EACCES, "calls itself \"qemu\", but seems to have another key"),
			FAILS("psk-other", -EPROTO, "with shared keys the same key?"), AT(NULL)),
		MEET("key differs, TLS 1.2", FAILS("psk", -EACCES, "seems to have another key"),
			FAILS_WITH("psk-other", -EPROTO, "the peer ended TLS", .priority = TLS12), AT(NULL)),
		MEET("unknown name", FAILS("psk-other", -EACCES, "calls itself \"alice\", and"),
			FAILS_WITH("psk", -EPROTO, "the peer ended TLS", .username = "alice"), AT(NULL)),
		MEET("shared key at certificates", FAILS("good", -EPROTO, "the peer ended TLS"),
			FAILS("psk", -EPROTO, "shared keys as we do?"), AT(NULL)),
		MEET("certificates at shared key", FAILS("psk", -EPROTO, "shared keys as we do?"),
			FAILS("good", -EPROTO, "the peer ended TLS"), AT(CERTS_HOST)),
		MEET("no version in common", FAILS_WITH("good", -EPROTO, "no TLS with this peer", .priority = TLS13),
			FAILS_WITH("good", -EPROTO, "the peer ended TLS", .priority = TLS12), AT(CERTS_HOST)),
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		meet(&rows[i]);
}
/* clang-format on */

static void a_client_that_checks_needs_a_name(void **state)
{
	const char *const none[] = {NULL, ""};
	for (int i = 0; i < 2; i++) {
		int fd;
		struct end client = {.folder = "good", .opts = {.dir = certs_of("good")}};
		struct gw__chan *c = chan_and_fd(&fd, FAR_MS);
		assert_ok(gw__tls_creds_load(GW__TLS_CLIENT, &client.opts, &client.creds, &client.error), client.error);
		assert_int_equal(gw__chan_start_tls(&c, client.creds, none[i], false, &client.error), -EINVAL);
		assert_says(client.error, "no host name to check the server's certificate against");
		assert_int_equal(gw__chan_write_all(c, "x", 1, NULL), 0); /* nothing has happened to it */
		close(fd);
		gw__chan_close(&c, NULL);
		gw__tls_creds_free(client.creds);
	}
}

static void one_direction_is_not_enough(void **state)
{
	int fds[2];
	struct gw__chan *c;
	struct gw__io_opts o = limits(FAR_MS);
	struct gw__tls_creds *creds;
	struct gw__tls_opts opts = {.dir = certs_of("psk")};
	struct gw__error error = {0};
	assert_ok(gw__tls_creds_load(GW__TLS_CLIENT, &opts, &creds, &error), error);
	assert_int_equal(pipe(fds), 0);
	assert_ok(gw__chan_take_fd(fds[1], "a pipe", &o, &c, &error), error);
	assert_int_equal(gw__chan_start_tls(&c, creds, "", false, &error), -EINVAL);
	assert_says(error, "a pipe: TLS needs a connection in both directions");
	gw__chan_close(&c, NULL);
	close(fds[0]);
	gw__tls_creds_free(creds);
}

/* --- peers that are no TLS ------------------------------------------------------------------------------ */

struct script {
	int fd;
	const char *sends;
	size_t n;
	int every_ms;  /* > 0: byte by byte */
	bool for_ever; /* again and again */
	bool ends;     /* closes its direction */
	int *cancel;   /* written to when a byte of the other side came */
};

static void *play(void *arg)
{
	struct script *s = arg;
	char byte;
	uint64_t one = 1;
	if (s->cancel)
		return (void *)(long)(read(s->fd, &byte, 1) == 1 && write(*s->cancel, &one, sizeof one) == sizeof one);
	for (size_t i = 0; i < s->n; i += s->every_ms ? 1 : s->n) {
		if (send(s->fd, s->sends + i, s->every_ms ? 1 : s->n, MSG_NOSIGNAL) < 0)
			return NULL; /* it had enough */
		if (s->every_ms)
			poll(NULL, 0, s->every_ms);
	}
	while (s->for_ever && send(s->fd, s->sends, s->n, MSG_NOSIGNAL) > 0)
		;
	if (s->ends)
		shutdown(s->fd, SHUT_WR);
	return NULL;
}

static int start_against(enum gw__tls_role role, struct script *s, int ms, struct gw__error *error)
{
	struct gw__tls_creds *creds;
	struct gw__tls_opts o = {.dir = certs_of("good")};
	struct gw__chan *c = chan_and_fd(&s->fd, ms), *before = c;
	pthread_t thread;
	*error = (struct gw__error){0};
	assert_ok(gw__tls_creds_load(role, &o, &creds, error), *error);
	if (s->cancel)
		c->cancel_fd = *s->cancel;
	pthread_create(&thread, NULL, play, s);
	int r = gw__chan_start_tls(&c, creds, CERTS_HOST, false, error);
	assert_ptr_equal(c, before); /* left to us */
	assert_int_equal(c->idle_ms, ms);
	gw__chan_close(&c, NULL);
	pthread_join(thread, NULL);
	close(s->fd);
	gw__tls_creds_free(creds);
	return r;
}

static void a_peer_without_tls_is_told_at_once(void **state)
{
	static const struct {
		enum gw__tls_role role;
		const char *sends;
		size_t n;
		const char *says;
	} rows[] = {
		{GW__TLS_SERVER, "QEVM\0\0\0\3", 8, "it sent a migration stream at once; set tls-creds at the source"},
		{GW__TLS_SERVER, "\x11\x22\x33\x44\0\0\0\1", 8, "it sent a multifd channel at once"},
		{GW__TLS_SERVER, "Q", 1, "it began with byte 51, expected 16"},
		{GW__TLS_SERVER, "GET / HTTP/1.1\r\n\r\n", 18, "does not speak TLS: it began with byte 47"},
		{GW__TLS_CLIENT, "SSH-2.0-x\r\n", 11, "does not speak TLS: it began with byte 53"},
		{GW__TLS_CLIENT, "\0\1\0\4\0\0\0\1", 8, "does not speak TLS: it began with byte 00"},
		{GW__TLS_SERVER, "\x16\x51\x45\x56\x4d\x03\x03\x03\x03\x03", 10, "no TLS with this peer"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct script s = {.sends = rows[i].sends, .n = rows[i].n, .ends = rows[i].sends[0] == 0x16};
		struct gw__error error;
		uint64_t start = now_ms();
		assert_int_equal(start_against(rows[i].role, &s, FAR_MS, &error), -EPROTO);
		assert_in_range(now_ms() - start, 0, FAR_MS / 2);
		assert_says(error, rows[i].says);
	}
}

static void a_peer_that_closes_is_no_puzzle(void **state)
{
	for (enum gw__tls_role role = GW__TLS_CLIENT; role <= GW__TLS_SERVER; role++) {
		struct script s = {.ends = true};
		struct gw__error error;
		assert_int_equal(start_against(role, &s, FAR_MS, &error), -EPROTO);
		assert_says(error, "closed the connection in the TLS handshake; does it use TLS");
	}
}

static void a_silent_peer_ends_the_handshake_in_time(void **state)
{
	for (enum gw__tls_role role = GW__TLS_CLIENT; role <= GW__TLS_SERVER; role++) {
		struct script s = {0};
		struct gw__error error;
		uint64_t start = now_ms();
		assert_int_equal(start_against(role, &s, SOON_MS, &error), -ETIMEDOUT);
		assert_in_range(now_ms() - start, SOON_MS - 1, FAR_MS);
		assert_says(error, "handshake was not done after 100 ms");
	}
}

/* Each wait is short, the whole is not. */
static void a_dripping_peer_ends_the_handshake_in_time(void **state)
{
	char hello[512] = "\x16\x03\x01\x3f\xff\x01\0\x3f\xfb";
	struct script s = {.sends = hello, .n = sizeof hello, .every_ms = SOON_MS / 10};
	struct gw__error error;
	uint64_t start = now_ms();
	assert_int_equal(start_against(GW__TLS_SERVER, &s, SOON_MS, &error), -ETIMEDOUT);
	assert_in_range(now_ms() - start, SOON_MS - 1, sizeof hello * SOON_MS / 10 / 2);
	assert_says(error, "handshake was not done after 100 ms");
}

/* GnuTLS has no patience for them, whatever they warn of. */
static void a_peer_that_only_warns_ends_the_handshake(void **state)
{
	for (enum gw__tls_role role = GW__TLS_CLIENT; role <= GW__TLS_SERVER; role++)
		for (int alert = 0; alert < 256; alert++) {
			char record[] = {0x15, 3, alert & 1 ? 1 : 3, 0, 2, 1, (char)alert};
			struct script s = {.sends = record, .n = sizeof record, .for_ever = true};
			struct gw__error error;
			assert_int_equal(start_against(role, &s, FAR_MS, &error), -EPROTO);
			assert_says(error, "no TLS with this peer");
		}
}

static void a_handshake_can_be_cancelled(void **state)
{
	struct gw__error error;
	int fd = eventfd(0, EFD_CLOEXEC);
	struct script s = {.cancel = &fd};
	assert_int_equal(start_against(GW__TLS_CLIENT, &s, -1, &error), -ECANCELED);
	assert_says(error, "cancelled");
	close(fd);
}

/* A plain reader gets these bytes; that is what it can know us by. */
static void a_client_begins_with_16_03(void **state)
{
	struct gw__chan *c;
	struct gw__tls_creds *creds;
	struct gw__tls_opts o = {.dir = certs_of("psk")};
	struct gw__error error = {0};
	unsigned char first[3];
	int fd;
	assert_ok(gw__tls_creds_load(GW__TLS_CLIENT, &o, &creds, &error), error);
	c = chan_and_fd(&fd, SOON_MS);
	assert_int_equal(gw__chan_start_tls(&c, creds, "", false, &error), -ETIMEDOUT);
	assert_int_equal(read(fd, first, sizeof first), 3);
	assert_memory_equal(first, "\x16\x03\x01", 2);
	gw__chan_close(&c, NULL);
	close(fd);
	gw__tls_creds_free(creds);
}

/* --- many at once --------------------------------------------------------------------------------------- */

struct many {
	struct gw__tls_creds *server, *client;
	struct gw__chan *pair[2];
	int r[2];
};

static void *serve(void *arg)
{
	struct many *m = arg;
	m->r[0] = gw__chan_start_tls(&m->pair[0], m->server, NULL, true, NULL);
	return NULL;
}

static void *ask(void *arg)
{
	struct many *m = arg;
	m->r[1] = gw__chan_start_tls(&m->pair[1], m->client, CERTS_HOST, true, NULL);
	return NULL;
}

static void credentials_serve_many_threads(void **state)
{
	enum { N = 8 };
	const char *const folders[] = {"good", "psk"};
	for (int f = 0; f < 2; f++) {
		struct many m[N] = {0};
		pthread_t threads[2 * N];
		struct gw__error error = {0};
		struct gw__io_opts o = limits(FAR_MS);
		struct gw__tls_opts opts = {.dir = certs_of(folders[f])};
		assert_ok(gw__tls_creds_load(GW__TLS_SERVER, &opts, &m[0].server, &error), error);
		assert_ok(gw__tls_creds_load(GW__TLS_CLIENT, &opts, &m[0].client, &error), error);
		for (int i = 0; i < N; i++) {
			m[i].server = m[0].server;
			m[i].client = m[0].client;
			assert_ok(gw__chan_pair(m[i].pair, &o, &error), error);
			pthread_create(&threads[2 * i], NULL, serve, &m[i]);
			pthread_create(&threads[2 * i + 1], NULL, ask, &m[i]);
		}
		for (int i = 0; i < 2 * N; i++)
			pthread_join(threads[i], NULL);
		for (int i = 0; i < N; i++) {
			assert_int_equal(m[i].r[0], 0);
			assert_int_equal(m[i].r[1], 0);
			gw__chan_close(&m[i].pair[0], NULL);
			gw__chan_close(&m[i].pair[1], NULL);
		}
		gw__tls_creds_free(m[0].server);
		gw__tls_creds_free(m[0].client);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_ones_get_together),
		cmocka_unit_test(others_are_told_why_not),
		cmocka_unit_test(a_client_that_checks_needs_a_name),
		cmocka_unit_test(one_direction_is_not_enough),
		cmocka_unit_test(a_peer_without_tls_is_told_at_once),
		cmocka_unit_test(a_peer_that_closes_is_no_puzzle),
		cmocka_unit_test(a_silent_peer_ends_the_handshake_in_time),
		cmocka_unit_test(a_dripping_peer_ends_the_handshake_in_time),
		cmocka_unit_test(a_peer_that_only_warns_ends_the_handshake),
		cmocka_unit_test(a_handshake_can_be_cancelled),
		cmocka_unit_test(a_client_begins_with_16_03),
		cmocka_unit_test(credentials_serve_many_threads),
	};
	return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
