/* SPDX-License-Identifier: MIT */
/*
 * The proxy between two ends made by hand: every byte arrives in both directions whatever it means, ends are passed on, cuts fall on
 * the byte, and neither a slow listener nor a peer that takes nothing makes it lose, delay or hoard anything.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/math.h"
#include "engine/proxy/proxy.h"
#include "stream_builder.h"

enum { FAR_MS = 20000, LOG_BYTES = 1 << 18 };

struct rig {
	char dir[64], in[96], out[96];
	struct gw__uri listen_uri, connect_uri;
	struct gw__run run;
	struct gw__proxy_opts o;
	struct gw__proxy_result result;
	int err;
	pthread_t thread;
	int listener; /* where the proxy connects to */
	int cancel;
	_Atomic bool listening, hold; /* hold: whoever listens stands still */
	pthread_mutex_t lock;
	char log[LOG_BYTES];
	size_t log_n;
	struct gw__fault fault[4];
};

static void nap(void) { nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); }

static void on_listening(void *ctx, const char *uri)
{
	struct rig *r = ctx;
	assert_non_null(uri);
	atomic_store(&r->listening, true);
}

static void on_message(void *ctx, const struct gw__proxy_queued_message *said)
{
	struct rig *r = ctx;
	while (r->hold)
		nap();
	pthread_mutex_lock(&r->lock);
	if (r->log_n < sizeof r->log - 4096 || (strcmp(said->name, "PING") && r->log_n < sizeof r->log - 1024))
		r->log_n += (size_t)snprintf(r->log + r->log_n, sizeof r->log - r->log_n, "%u %s %d %llu+%llu %s %s\n", said->connection,
			said->channel, said->direction, (unsigned long long)said->off, (unsigned long long)said->bytes, said->name,
			said->text);
	pthread_mutex_unlock(&r->lock);
}

static void on_sum(void *ctx, const struct gw__proxy_channel_stats *sum)
{
	struct rig *r = ctx;
	pthread_mutex_lock(&r->lock);
	r->log_n += (size_t)snprintf(r->log + r->log_n, sizeof r->log - r->log_n, "sum %u %s %llu %llu%s\n", sum->connection, sum->channel,
		(unsigned long long)sum->bytes[0], (unsigned long long)sum->bytes[1], sum->cut ? " cut" : "");
	pthread_mutex_unlock(&r->lock);
}

static void set_uri(struct gw__uri *uri, const char *path)
{
	char text[128];
	struct gw__error error = {0};
	snprintf(text, sizeof text, "unix:%s", path);
	assert_int_equal(gw__uri_parse(text, uri, &error), 0);
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	return a;
}

static int listen_at(const char *path)
{
	struct sockaddr_un a = address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof *r);
	strcpy(r->dir, "/tmp/godwit-proxy-unit.XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	snprintf(r->in, sizeof r->in, "%s/in", r->dir);
	snprintf(r->out, sizeof r->out, "%s/out", r->dir);
	set_uri(&r->listen_uri, r->in);
	set_uri(&r->connect_uri, r->out);
	r->listener = listen_at(r->out);
	r->cancel = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&r->lock, NULL);
	gw__run_init(&r->run);
	r->run.cancel_fd = r->cancel;
	r->o = (struct gw__proxy_opts){.listen = &r->listen_uri,
		.connect = &r->connect_uri,
		.io = GW__IO_DEFAULTS,
		.listen_ms = FAR_MS,
		.tail_max_bytes = 1 << 20,
		.fault = r->fault,
		.on_listening = on_listening,
		.on_message = on_message,
		.on_sum = on_sum,
		.ctx = r};
	r->o.io.cancel_fd = r->cancel;
	return r;
}

static void *run_proxy(void *ctx)
{
	struct rig *r = ctx;
	r->err = gw__proxy(&r->run, &r->o, &r->result);
	return NULL;
}

static void start(struct rig *r)
{
	assert_int_equal(pthread_create(&r->thread, NULL, run_proxy, r), 0);
	while (!r->listening)
		nap();
}

static void finish(struct rig *r, int err)
{
	pthread_join(r->thread, NULL);
	if (r->err != err)
		fail_msg("%d \"%s\", expected %d\n%s", r->err, r->run.error.text, err, r->log);
}

static void cancel(struct rig *r)
{
	uint64_t one = 1;
	assert_int_equal(write(r->cancel, &one, sizeof one), sizeof one);
}

static void rig_free(struct rig *r)
{
	close(r->listener);
	close(r->cancel);
	unlink(r->out);
	unlink(r->in);
	assert_int_equal(rmdir(r->dir), 0);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static bool said(struct rig *r, const char *text)
{
	pthread_mutex_lock(&r->lock);
	bool found = strstr(r->log, text);
	pthread_mutex_unlock(&r->lock);
	return found;
}

static void check_said(struct rig *r, const char *text, int line)
{
	if (!said(r, text)) {
		print_error("line %d: nobody said \"%s\" in\n", line, text);
		fputs(r->log, stderr); /* print_error has a limit */
		_fail(__FILE__, line);
	}
}
#define assert_said(r, text) check_said(r, text, __LINE__)

static void await_said(struct rig *r, const char *text)
{
	for (int i = 0; i < FAR_MS / 2 && !said(r, text); i++)
		nap();
	assert_said(r, text);
}

static bool is_input(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, ms) == 1;
}

static void put(int fd, const void *p, size_t n) { assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n); }

static int connect_source(struct rig *r)
{
	struct sockaddr_un a = address(r->in);
	int source = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(source, (struct sockaddr *)&a, sizeof a), 0);
	return source;
}

static int accept_destination(struct rig *r)
{
	assert_true(is_input(r->listener, FAR_MS));
	int destination = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(destination >= 0);
	return destination;
}

/* Both ends of a connection through the proxy, on which the source has said this. */
static void connect_both(struct rig *r, const void *first, size_t n, int *source, int *destination)
{
	*source = connect_source(r);
	put(*source, first, n);
	*destination = accept_destination(r);
}

/* Exactly these bytes come next. */
static void expect(int fd, const void *p, size_t n)
{
	uint8_t got[4096];
	for (size_t at = 0; at < n;) {
		assert_true(is_input(fd, FAR_MS));
		ssize_t k = recv(fd, got, n - at < sizeof got ? n - at : sizeof got, 0);
		assert_true(k > 0);
		assert_memory_equal(got, (const uint8_t *)p + at, (size_t)k);
		at += (size_t)k;
	}
}

static void expect_end(int fd)
{
	char c;
	assert_true(is_input(fd, FAR_MS));
	ssize_t n = recv(fd, &c, 1, 0);
	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

/* --- passing on --- */

static const uint8_t MAIN[] = "QEVM\0\0\0\3\7\0\0\0\2pc\x08\0\1\0\0\x08\0\2\0\4\0\0\0\1";
static const uint8_t PONG[] = "\0\2\0\4\0\0\0\1";

static void a_word_arrives_at_once_and_ends_are_passed_on(void **state)
{
	struct rig *r = rig_new();
	int source, destination;
	(void)state;
	start(r);
	connect_both(r, MAIN, 4, &source, &destination);
	expect(destination, MAIN, 4);
	for (size_t i = 4; i < sizeof MAIN - 1; i++) { /* a byte at a time, each arrives before the next is sent */
		put(source, MAIN + i, 1);
		expect(destination, MAIN + i, 1);
	}
	put(destination, PONG, 8);
	expect(source, PONG, 8);
	shutdown(source, SHUT_WR);
	expect_end(destination);
	put(destination, "\0\1\0\4\0\0\0\0", 8); /* the other direction lives on */
	expect(source, "\0\1\0\4\0\0\0\0", 8);
	close(destination);
	expect_end(source);
	finish(r, 0);
	close(source);
	assert_said(r, "1 main 1 0+15 CONFIGURATION machine pc");
	assert_said(r, "1 main 1 20+9 PING token 1");
	assert_said(r, "1 main 2 0+8 PONG token 1");
	assert_said(r, "1 main 1 29+0 INCOMPLETE");
	assert_said(r, "sum 1 main 29 16\n");
	assert_int_equal(r->result.connections, 1);
	assert_int_equal(r->result.where, GW__WHERE_DESTINATION);
	rig_free(r);
}

/* What is in the air: made up again at the other end from a seed. */
static uint8_t noise(uint64_t *x)
{
	*x = *x * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint8_t)(*x >> 56);
}

struct pump {
	int fd;
	size_t n;
	uint64_t seed;
	const char *head; /* decides what the channel is taken for */
	bool ok;
};

static uint8_t head_or_noise(struct pump *p, size_t at) { return at < 4 && p->head ? (uint8_t)p->head[at] : noise(&p->seed); }

static void *send_noise(void *ctx)
{
	struct pump *p = ctx;
	uint8_t chunk[5000];
	for (size_t at = 0; at < p->n;) {
		size_t k = p->n - at < sizeof chunk ? p->n - at : sizeof chunk;
		for (size_t i = 0; i < k; i++)
			chunk[i] = head_or_noise(p, at + i);
		if (send(p->fd, chunk, k, MSG_NOSIGNAL | MSG_WAITALL) != (ssize_t)k)
			return NULL;
		at += k;
	}
	shutdown(p->fd, SHUT_WR);
	p->ok = true;
	return NULL;
}

static void *receive_noise(void *ctx)
{
	struct pump *p = ctx;
	uint8_t chunk[7000];
	size_t at = 0;
	for (ssize_t k; (k = recv(p->fd, chunk, sizeof chunk, 0)) > 0; at += (size_t)k)
		for (ssize_t i = 0; i < k; i++)
			if (chunk[i] != head_or_noise(p, at + (size_t)i))
				return NULL;
	p->ok = at == p->n;
	return NULL;
}

static void any_bytes_in_both_directions_at_once(void **state)
{
	static const char *const heads[] = {"QEVM", "\x11\x22\x33\x44", "\x08\0\x0a\0", "\0\0\0\0", "\x16\x03\1\0", "GETS"};
	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct rig *r = rig_new();
		int main_source, main_destination;
		start(r);
		connect_both(r, "QEVM", 4, &main_source, &main_destination);
		expect(main_destination, "QEVM", 4);
		int source = connect_source(r), destination;
		struct pump pumps[4] = {{source, 3000000, 5, heads[i], false}, {-1, 3000000, 5, heads[i], false},
			{-1, 2000001, 6, NULL, false}, {source, 2000001, 6, NULL, false}};
		pthread_t threads[4];
		pthread_create(&threads[0], NULL, send_noise, &pumps[0]);
		pumps[1].fd = pumps[2].fd = destination = accept_destination(r);
		for (unsigned k = 1; k < 4; k++)
			pthread_create(&threads[k], NULL, k % 2 ? receive_noise : send_noise, &pumps[k]);
		for (unsigned k = 0; k < 4; k++) {
			pthread_join(threads[k], NULL);
			assert_true(pumps[k].ok);
		}
		close(source);
		close(destination);
		close(main_source);
		close(main_destination);
		finish(r, 0);
		assert_int_equal(r->result.bytes[0], 3000004);
		assert_int_equal(r->result.bytes[1], 2000001);
		rig_free(r);
	}
}

static void what_looks_like_nothing_is_named_so(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *said;
		enum gw__guest_location where;
	} rows[] = {{"\x16\x03\x01", 3, "1 tls 0 0+0 UNINTERPRETED TLS", GW__WHERE_UNKNOWN},
		{"QEVM\0\0\0\7", 8, "1 main 1 0+0 UNINTERPRETED ", GW__WHERE_NO_MIGRATION}};
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct rig *r = rig_new();
		int source, destination;
		start(r);
		connect_both(r, rows[i].bytes, rows[i].n, &source, &destination);
		put(source, "....", 4);
		expect(destination, rows[i].bytes, rows[i].n);
		expect(destination, "....", 4);
		close(source);
		expect_end(destination);
		close(destination);
		finish(r, 0);
		assert_said(r, rows[i].said);
		assert_int_equal(r->result.where, rows[i].where);
		rig_free(r);
	}
}

/* --- who may be heard by the other side --- */

static const uint8_t ADVISE[] = "\x08\0\3\0\x10\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x10\0";

/* Whoever connected to the far side by now was first; nobody is behind. */
static void assert_nobody_else(struct rig *r) { assert_false(is_input(r->listener, 0)); }

static void end_both(int source, int destination)
{
	close(source);
	expect_end(destination);
	close(destination);
}

/* A destination that hears of strangers fails, or stands still until they say something. */
static void strangers_are_not_passed_on(void **state)
{
	enum { STRANGERS = 50 };
	struct rig *r = rig_new();
	int silent[STRANGERS], source, destination;
	(void)state;
	start(r);
	close(connect_source(r));
	await_said(r, "REFUSED unix:");
	for (unsigned i = 0; i < STRANGERS; i++)
		silent[i] = connect_source(r);
	int talker = connect_source(r);
	put(talker, "GET / HTTP/1.1\r\n", 16);
	expect_end(talker); /* there is no main channel */
	close(talker);
	connect_both(r, MAIN, sizeof MAIN - 1, &source, &destination);
	expect(destination, MAIN, sizeof MAIN - 1);
	put(destination, PONG, 8);
	expect(source, PONG, 8);
	put(source, ADVISE, sizeof ADVISE - 1); /* those from before are no preempt channel */
	expect(destination, ADVISE, sizeof ADVISE - 1);
	close(silent[0]);
	int late;
	connect_both(r, "\0\0", 2, &talker, &late); /* a channel that speaks beside the main one is passed on */
	expect(late, "\0\0", 2);
	assert_nobody_else(r);
	end_both(talker, late);
	end_both(source, destination);
	finish(r, 0);
	assert_int_equal(r->result.connections, 2);
	assert_int_equal(r->result.strangers, STRANGERS + 2);
	for (unsigned i = 1; i < STRANGERS; i++) {
		expect_end(silent[i]);
		close(silent[i]);
	}
	rig_free(r);
}

/* A 7.2 destination answers nothing before it is there. */
static void a_silent_preempt_channel_is_passed_on(void **state)
{
	struct rig *r = rig_new();
	int source, destination;
	(void)state;
	start(r);
	connect_both(r, MAIN, sizeof MAIN - 1, &source, &destination);
	int silent = connect_source(r);
	expect(destination, MAIN, sizeof MAIN - 1);
	put(source, ADVISE, sizeof ADVISE - 1);
	expect(destination, ADVISE, sizeof ADVISE - 1);
	int preempt = accept_destination(r);
	put(preempt, "hello", 5); /* and a destination may speak first */
	expect(silent, "hello", 5);
	int mute = connect_source(r), far = accept_destination(r);
	end_both(source, destination);
	end_both(silent, preempt);
	expect_end(far); /* that it is still open keeps nobody waiting */
	expect_end(mute);
	finish(r, 0);
	close(mute);
	close(far);
	assert_said(r, "2 unknown ");
	rig_free(r);
}

/* The same, and its source has written more than the destination's socket holds before the proxy reads. */
static void a_preempt_channel_is_not_kept_behind_pages(void **state)
{
	enum { PAGES = 400 << 10 };
	struct rig *r = rig_new();
	uint8_t *bytes = calloc(1, PAGES);
	(void)state;
	memcpy(bytes, MAIN, sizeof MAIN - 1);
	memcpy(bytes + sizeof MAIN - 1, ADVISE, sizeof ADVISE - 1);
	start(r);
	int source = connect_source(r), room = PAGES;
	assert_int_equal(setsockopt(source, SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
	put(source, bytes, PAGES);
	int destination = accept_destination(r), silent = connect_source(r), preempt = accept_destination(r);
	expect(destination, bytes, PAGES);
	end_both(source, destination);
	end_both(silent, preempt);
	finish(r, 0);
	free(bytes);
	rig_free(r);
}

/* A source that comes back may be silent for a moment while its old connection ends. */
static void what_comes_while_a_main_channel_ends_is_not_its_preempt_channel(void **state)
{
	struct rig *r = rig_new();
	int source, destination, back, far;
	(void)state;
	r->o.keep = true;
	start(r);
	connect_both(r, MAIN, sizeof MAIN - 1, &source, &destination);
	put(source, ADVISE, sizeof ADVISE - 1);
	expect(destination, MAIN, sizeof MAIN - 1);
	expect(destination, ADVISE, sizeof ADVISE - 1);
	shutdown(source, SHUT_WR);
	expect_end(destination); /* and its other direction goes on */
	int silent = connect_source(r);
	connect_both(r, "\x08\0", 2, &back, &far);
	expect(far, "\x08\0", 2); /* nobody was passed on before it */
	close(silent), close(source), close(destination), close(back), close(far);
	await_said(r, "sum 2 recovery 2 0\n");
	cancel(r);
	finish(r, -ECANCELED);
	rig_free(r);
}

/* Its multifd channels may be heard before the main one; the main one still connects first, and speaks when they are there too. */
static void channels_go_on_in_the_order_in_which_they_came(void **state)
{
	struct rig *r = rig_new();
	uint8_t hello[64] = {0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1};
	int source[3], destination[3];
	(void)state;
	start(r);
	for (unsigned i = 0; i < 3; i++)
		source[i] = connect_source(r);
	for (unsigned i = 3; i-- > 1;) {
		hello[24] = (uint8_t)i;
		put(source[i], hello, sizeof hello);
	}
	put(source[0], MAIN, sizeof MAIN - 1);
	for (unsigned i = 0; i < 3; i++)
		destination[i] = accept_destination(r);
	expect(destination[0], MAIN, sizeof MAIN - 1);
	for (unsigned i = 1; i < 3; i++) {
		hello[24] = (uint8_t)i;
		expect(destination[i], hello, sizeof hello);
	}
	for (unsigned i = 0; i < 3; i++)
		end_both(source[i], destination[i]);
	finish(r, 0);
	rig_free(r);
}

static void nobody_at_the_other_end(void **state)
{
	(void)state;
	for (int keep = 0; keep < 2; keep++) {
		struct rig *r = rig_new();
		r->o.keep = keep;
		close(r->listener);
		unlink(r->out);
		start(r);
		int source = connect_source(r);
		put(source, "QEVM", 4);
		expect_end(source);
		close(source);
		r->listener = listen_at(r->out);
		if (keep) { /* it goes on, and the next one finds somebody */
			int destination;
			await_said(r, "REFUSED nobody listens at");
			connect_both(r, "QEVM", 4, &source, &destination);
			expect(destination, "QEVM", 4);
			close(source);
			close(destination);
			await_said(r, "sum 1 main 4 0");
			cancel(r);
		}
		finish(r, keep ? -ECANCELED : -ENOENT);
		rig_free(r);
	}
}

/* --- cuts --- */

/* What the destination gets, until the end of it. */
static size_t count_until_end(int fd)
{
	uint8_t got[4096];
	size_t n = 0;
	for (ssize_t k; is_input(fd, FAR_MS) && (k = recv(fd, got, sizeof got, 0)) > 0;)
		n += (size_t)k;
	return n;
}

static void a_cut_falls_on_the_byte(void **state)
{
	(void)state;
	for (unsigned at = 0; at < 40; at += 3) {
		struct rig *r = rig_new();
		int source, destination;
		r->fault[0] =
			(struct gw__fault){.kind = GW__FAULT_CUT_AFTER, .channel = "main", .direction = GW__PROXY_FORWARD, .amount = at};
		r->o.faults_n = 1;
		start(r);
		connect_both(r, MAIN, sizeof MAIN - 1, &source, &destination);
		size_t got = at < sizeof MAIN - 1 ? 0 : 1; /* read below where it is whole */
		if (got) {
			expect(destination, MAIN, sizeof MAIN - 1);
			close(source);
		}
		assert_int_equal(count_until_end(destination), got ? 0 : at);
		if (!got)
			expect_end(source);
		if (!got)
			close(source);
		close(destination);
		finish(r, 0);
		assert_int_equal(r->result.cuts, !got);
		assert_int_equal(r->result.bytes[0], got ? sizeof MAIN - 1 : at);
		assert_true(said(r, "CUT on purpose") == !got);
		rig_free(r);
	}
}

static void a_cut_falls_behind_the_message(void **state)
{
	static const struct {
		const char *message;
		uint64_t nth, off;
	} rows[] = {{"configuration", 1, 15}, {"OPEN-RETURN-PATH", 1, 20}, {"ping", 1, 29}, {"PING", 2, 38}};
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		for (unsigned piecewise = 0; piecewise < 2; piecewise++) {
			struct rig *r = rig_new();
			struct sb b = {0};
			int source, destination;
			r->fault[0] = (struct gw__fault){.kind = GW__FAULT_CUT_AT, .message = rows[i].message, .amount = rows[i].nth};
			r->o.faults_n = 1;
			sb_bytes(&b, MAIN, sizeof MAIN - 1);
			sb_hex(&b, "08 0002 0004 00000002 08 0002 0004 00000003");
			start(r);
			connect_both(r, b.p, piecewise ? 4 : b.n, &source, &destination);
			for (size_t k = 4; piecewise && k < b.n; k++)
				if (send(source, b.p + k, 1, MSG_NOSIGNAL) != 1)
					break;
			assert_int_equal(count_until_end(destination), rows[i].off);
			expect_end(source);
			close(source);
			close(destination);
			finish(r, 0);
			assert_int_equal(r->result.cuts, 1);
			sb_fini(&b);
			rig_free(r);
		}
}

/* A message that never ends is not kept back for ever; the rest of it is passed on as it comes. */
static void waiting_for_the_end_of_a_message_ends(void **state)
{
	struct rig *r = rig_new();
	int source, destination;
	(void)state;
	r->fault[0] = (struct gw__fault){.kind = GW__FAULT_CUT_AT, .message = "PING", .amount = 2};
	r->o.faults_n = 1;
	start(r);
	connect_both(r, MAIN, sizeof MAIN - 1, &source, &destination);
	put(source, "\x08\0\2\0", 4);
	expect(destination, MAIN, sizeof MAIN - 1);
	expect(destination, "\x08\0\2\0", 4);
	put(source, "\4\0\0\0\2\x08\0", 7);
	assert_int_equal(count_until_end(destination), 5);
	close(source);
	close(destination);
	finish(r, 0);
	assert_said(r, "29+9 PING token 2");
	rig_free(r);
}

static void cuts_happen_once_and_in_turn(void **state)
{
	struct rig *r = rig_new();
	(void)state;
	r->o.keep = true;
	r->o.cut_all = true;
	r->fault[0] = (struct gw__fault){.kind = GW__FAULT_CUT_AFTER, .channel = "main", .direction = GW__PROXY_RETURN, .amount = 3};
	r->fault[1] = (struct gw__fault){.kind = GW__FAULT_CUT_AFTER, .channel = "recovery", .amount = 9};
	r->fault[2] = (struct gw__fault){.kind = GW__FAULT_CUT_AFTER, .channel = "recovery", .amount = 11};
	r->o.faults_n = 3;
	start(r);
	int source, destination, source2, destination2;
	connect_both(r, "QEVM", 4, &source, &destination);
	connect_both(r, "\0\0", 2, &source2, &destination2);
	expect(destination2, "\0\0", 2);
	expect(destination, "QEVM", 4);
	put(destination, PONG, 8);
	assert_int_equal(count_until_end(source), 3);
	expect_end(destination2); /* with all others */
	expect_end(source2);
	close(source), close(destination), close(source2), close(destination2);
	static const size_t after[] = {9, 11, 20};
	for (unsigned i = 0; i < 3; i++) {
		connect_both(r, "\x08\0\x0a\0\3\2m0\x08\0\x0a\0\3\2m0....", 20, &source, &destination);
		if (i == 2)
			shutdown(source, SHUT_WR);
		assert_int_equal(count_until_end(destination), after[i]);
		close(source), close(destination);
	}
	await_said(r, "sum 5 recovery 20 0\n");
	cancel(r);
	finish(r, -ECANCELED);
	assert_int_equal(r->result.cuts, 3);
	assert_int_equal(r->result.where, GW__WHERE_PAUSED);
	assert_said(r, "sum 2 preempt 2 0 cut\n");
	rig_free(r);
}

/* --- pressure --- */

static size_t send_until_full(int fd)
{
	static uint8_t chunk[65536];
	size_t n = 0;
	memcpy(chunk, "QEVM", 4);
	for (int quiet = 0; quiet < 100;) { /* nothing more goes in for 0.2 s */
		ssize_t k = send(fd, chunk, sizeof chunk, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (k > 0) {
			n += (size_t)k;
			quiet = 0;
		} else {
			quiet++;
			nap();
		}
	}
	return n;
}

/* Who takes nothing makes the other wait; the proxy does not hoard, and the other direction is not concerned. */
static void a_peer_that_takes_nothing(void **state)
{
	struct rig *r = rig_new();
	int source, destination;
	(void)state;
	start(r);
	connect_both(r, "QEVM", 4, &source, &destination);
	size_t sent = 4 + send_until_full(source);
	assert_true(sent < 4 << 20);
	put(destination, PONG, 8);
	expect(source, PONG, 8);
	shutdown(source, SHUT_WR);
	assert_int_equal(count_until_end(destination), sent);
	close(source);
	close(destination);
	finish(r, 0);
	rig_free(r);
}

/* Whoever listens to what is said may stand still: the bytes do not wait, and memory has a bound. */
static void a_listener_that_stands_still(void **state)
{
	struct rig *r = rig_new();
	struct sb b = {0};
	int source, destination;
	(void)state;
	r->hold = true;
	start(r);
	connect_both(r, MAIN, sizeof MAIN - 1, &source, &destination);
	expect(destination, MAIN, sizeof MAIN - 1);
	for (unsigned i = 0; i < 1000; i++)
		sb_hex(&b, "08 0002 0004 00000001");
	for (unsigned i = 0; i < 40; i++) {
		put(source, b.p, b.n);
		expect(destination, b.p, b.n);
	}
	close(source);
	expect_end(destination);
	close(destination);
	r->hold = false;
	finish(r, 0);
	assert_true(r->result.dropped > 0 && r->result.dropped < 40000);
	assert_said(r, "NOT_SHOWN ");
	assert_said(r, "sum 1 main 360029 0\n");
	sb_fini(&b);
	rig_free(r);
}

static void taps_hold_what_was_passed_on(void **state)
{
	struct rig *r = rig_new();
	char dir[128], name[192], got[64];
	int source, destination;
	(void)state;
	snprintf(dir, sizeof dir, "%s/taps", r->dir);
	r->o.tap_dir = dir;
	r->fault[0] = (struct gw__fault){.kind = GW__FAULT_CUT_AFTER, .direction = GW__PROXY_FORWARD, .amount = 20};
	r->o.faults_n = 1;
	start(r);
	connect_both(r, MAIN, 15, &source, &destination);
	expect(destination, MAIN, 15);
	put(destination, PONG, 8);
	expect(source, PONG, 8);
	put(source, MAIN + 15, sizeof MAIN - 16);
	assert_int_equal(count_until_end(destination), 5);
	close(source);
	close(destination);
	finish(r, 0);
	static const struct {
		const char *name;
		const uint8_t *bytes;
		ssize_t n;
	} rows[] = {{"1-main-forward", MAIN, 20}, {"1-main-return", PONG, 8}};
	for (unsigned i = 0; i < 2; i++) {
		snprintf(name, sizeof name, "%s/%s", dir, rows[i].name);
		int fd = open(name, O_RDONLY | O_CLOEXEC);
		assert_int_equal(read(fd, got, sizeof got), rows[i].n);
		assert_memory_equal(got, rows[i].bytes, (size_t)rows[i].n);
		close(fd);
		unlink(name);
	}
	rmdir(dir);
	rig_free(r);
}

/* The files of a run are named by numbers from 1 on: a second one would write over them. */
static void an_earlier_recording_is_left_alone(void **state)
{
	struct rig *r = rig_new();
	static const struct {
		const char *name;
		int result;
	} rows[] = {{"1-main-forward", -EALREADY}, {"12-multifd-0-return", -EALREADY}, {"notes", -ECANCELED}, {"main-forward", -ECANCELED}};
	char dir[128], name[192], got[8];
	(void)state;
	snprintf(dir, sizeof dir, "%s/taps", r->dir);
	r->o.tap_dir = dir;
	assert_int_equal(mkdir(dir, 0700), 0);
	cancel(r); /* who is not refused ends at once */
	for (unsigned i = 0; i < GW__LEN(rows); i++) {
		snprintf(name, sizeof name, "%s/%s", dir, rows[i].name);
		int fd = open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
		assert_int_equal(write(fd, "kept", 4), 4);
		assert_int_equal(gw__proxy(&r->run, &r->o, &r->result), rows[i].result);
		assert_true(rows[i].result != -EALREADY || strstr(r->run.error.text, rows[i].name));
		gw__error_clear(&r->run.error);
		assert_int_equal(pread(fd, got, sizeof got, 0), 4);
		close(fd);
		unlink(name);
	}
	rmdir(dir);
	rig_free(r);
}

static void a_slow_direction(void **state)
{
	struct rig *r = rig_new();
	int source, destination;
	struct timespec before, after;
	static uint8_t bytes[60000] = "QEVM";
	(void)state;
	r->fault[0] = (struct gw__fault){.kind = GW__FAULT_RATE, .direction = GW__PROXY_FORWARD, .amount = 200000};
	r->o.faults_n = 1;
	start(r);
	connect_both(r, "QEVM", 4, &source, &destination);
	clock_gettime(CLOCK_MONOTONIC, &before);
	put(source, bytes + 4, sizeof bytes - 4);
	expect(destination, bytes, sizeof bytes);
	clock_gettime(CLOCK_MONOTONIC, &after);
	double seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
	assert_true(seconds > 0.15); /* 0.3 s, less what may be saved up */
	close(source);
	close(destination);
	finish(r, 0);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_word_arrives_at_once_and_ends_are_passed_on),
		cmocka_unit_test(any_bytes_in_both_directions_at_once),
		cmocka_unit_test(what_looks_like_nothing_is_named_so),
		cmocka_unit_test(strangers_are_not_passed_on),
		cmocka_unit_test(a_silent_preempt_channel_is_passed_on),
		cmocka_unit_test(a_preempt_channel_is_not_kept_behind_pages),
		cmocka_unit_test(what_comes_while_a_main_channel_ends_is_not_its_preempt_channel),
		cmocka_unit_test(channels_go_on_in_the_order_in_which_they_came),
		cmocka_unit_test(nobody_at_the_other_end),
		cmocka_unit_test(a_cut_falls_on_the_byte),
		cmocka_unit_test(a_cut_falls_behind_the_message),
		cmocka_unit_test(waiting_for_the_end_of_a_message_ends),
		cmocka_unit_test(cuts_happen_once_and_in_turn),
		cmocka_unit_test(a_peer_that_takes_nothing),
		cmocka_unit_test(a_listener_that_stands_still),
		cmocka_unit_test(taps_hold_what_was_passed_on),
		cmocka_unit_test(an_earlier_recording_is_left_alone),
		cmocka_unit_test(a_slow_direction),
	};
	return cmocka_run_group_tests_name("proxy", tests, NULL, NULL);
}
