/* SPDX-License-Identifier: MIT */
/* Connections told apart by their first bytes, through a unix listener in a folder of its own; one thread on our side. */
#include "chan_unit.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/math.h"
#include "engine/incoming/accept.h"

enum { PEERS_MAX = 16 };

struct world {
	struct folder *folder;
	struct gw__listener *listener;
	struct gw__run run;
	struct gw__accept_opts o;
	struct gw__incoming in;
	int peer[PEERS_MAX];
	unsigned n;
	char path[128];
};

static void set_up(struct world *w, void **state, uint32_t channels)
{
	struct gw__error error = {0};
	struct gw__io_opts io = limits(2000);
	memset(w, 0, sizeof *w);
	w->folder = *state;
	snprintf(w->path, sizeof w->path, "%s/listen", w->folder->path);
	char text[160];
	snprintf(text, sizeof text, "unix:%s", w->path);
	struct gw__uri uri = uri_of(text);
	assert_ok(gw__io_listen(&uri, &io, &w->listener, &error), error);
	gw__run_init(&w->run);
	w->o = GW__ACCEPT_DEFAULTS;
	w->o.channels = channels;
	w->o.idle_ms = 7777;
	w->o.hello_ms = 300;
	w->o.accept_ms = 600;
}

static void tear_down(struct world *w)
{
	for (unsigned i = 0; i < w->n; i++)
		close(w->peer[i]);
	gw__incoming_close(&w->in);
	gw__listener_close(w->listener);
}

/* Connects and says these bytes; the kernel keeps both until somebody accepts. */
static int say(struct world *w, const void *bytes, size_t n)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	snprintf(at.sun_path, sizeof at.sun_path, "%.100s", w->path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(fd >= 0 && w->n < PEERS_MAX);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
	w->peer[w->n++] = fd;
	return fd;
}

static int say_main(struct world *w) { return say(w, "QEVM\0\0\0\3\7\0\0\0\5", 13); }

/* Behind say_main: the configuration, the list of one block and the first page; or a mark instead that the pages come by other channels. */
#define CONFIG_AND_LIST                                                                                                                    \
	"pc-qx\1\0\0\0\2\3ram\0\0\0\0\0\0\0\4"                                                                                             \
	"\0\0\0\0\0\0\x10\4\1r\0\0\0\0\0\0\x10\0"
static const char plain[] = CONFIG_AND_LIST "\0\0\0\0\0\0\0\x10\x7e\0\0\0\2\2\0\0\0\2\0\0\0\0\0\0\0\x08\1r";
static const char flush[] = CONFIG_AND_LIST "\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\x10";

#define NO_PAGE "\0\0\0\0\0\0\0\x10\x7e\0\0\0\2"
static const char whole[] = CONFIG_AND_LIST NO_PAGE "\3\0\0\0\2" NO_PAGE "\0\6\0\0\0\x23"
						    "{\"page_size\": 4096, \"devices\": [ ]}";

static void go_on(struct world *w, const char *bytes, size_t n)
{
	assert_int_equal(send(w->peer[w->n - 1], bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

static int say_hello(struct world *w, uint8_t id, uint8_t uuid, size_t n)
{
	uint8_t bytes[GW__MULTIFD_HELLO_BYTES];
	struct gw__multifd_hello hello = {.id = id};
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	memset(hello.uuid, uuid, sizeof hello.uuid);
	gw__multifd_hello_encode(&c, &hello);
	return say(w, bytes, n);
}

/* What a source says on a channel: hello, and the first packet. */
static int say_channel(struct world *w, uint8_t id, uint8_t uuid)
{
	int fd = say_hello(w, id, uuid, 64);
	assert_int_equal(send(fd, "\x11\x22\x33\x44", 4, MSG_NOSIGNAL), 4);
	return fd;
}

static int gather(struct world *w) { return gw__accept(&w->run, w->listener, &w->o, &w->in); }

static void assert_gathered(struct world *w, uint32_t n)
{
	assert_ok(gather(w), w->run.error);
	assert_non_null(w->in.main);
	assert_int_equal(w->in.multifd_n, n);
	assert_int_equal(w->in.head_n, GW__MAIN_HEAD_BYTES);
	assert_memory_equal(w->in.head, "QEVM", 4);
	assert_int_equal(w->in.main->idle_ms, 7777);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(w->in.multifd[i]->idle_ms, 7777);
}

static void assert_refused(struct world *w, int code, const char *part)
{
	assert_int_equal(gather(w), code);
	assert_says(w->run.error, part);
	assert_null(w->in.main);
	assert_int_equal(w->in.multifd_n, 0);
	tear_down(w);
}

static void main_alone(void **state)
{
	struct world w;
	uint8_t rest[8];
	set_up(&w, state, 0);
	say_main(&w);
	assert_gathered(&w, 0);
	assert_int_equal(gw__chan_read(w.in.main, rest, sizeof rest, &w.run.error), 4); /* only the head was taken */
	tear_down(&w);
}

/* A guest of next to nothing has been sent, to its end, before anybody looked. */
static void a_whole_stream_is_looked_at_once(void **state)
{
	struct world w;
	set_up(&w, state, 0);
	say_main(&w);
	go_on(&w, whole, sizeof whole - 1);
	alarm(30);
	assert_gathered(&w, 0);
	alarm(0);
	tear_down(&w);
}

static void each_is_at_its_id(void **state)
{
	struct world w;
	uint8_t got;
	set_up(&w, state, 3);
	int fd[3] = {0};
	fd[2] = say_hello(&w, 2, 5, 64);
	fd[0] = say_hello(&w, 0, 5, 64);
	fd[1] = say_hello(&w, 1, 5, 64);
	say_main(&w);
	assert_gathered(&w, 3);
	for (uint8_t i = 0; i < 3; i++) {
		assert_int_equal(send(fd[i], &i, 1, MSG_NOSIGNAL), 1);
		assert_int_equal(gw__chan_read(w.in.multifd[i], &got, 1, &w.run.error), 1);
		assert_int_equal(got, i);
	}
	tear_down(&w);
}

static void as_many_as_there_are(void **state)
{
	struct world w;
	set_up(&w, state, 0);
	for (uint8_t i = 0; i < 5; i++)
		say_channel(&w, i, 0);
	say_main(&w);
	assert_gathered(&w, 5);
	tear_down(&w);
}

static void a_silent_one_is_dropped(void **state)
{
	struct world w;
	for (uint32_t channels = 0; channels < 2; channels++) {
		set_up(&w, state, channels);
		w.o.hello_ms = channels ? 60000 : 300; /* with a number to wait for, nobody waits for the silent one */
		w.o.accept_ms = 60000;
		say(&w, "", 0);
		say(&w, "QE", 2);
		say_channel(&w, 0, 0);
		say_main(&w);
		uint64_t start = now_ms();
		assert_gathered(&w, 1);
		assert_true(now_ms() - start < 20000);
		tear_down(&w);
	}
}

static void strangers_among_others_are_dropped(void **state)
{
	struct world w;
	set_up(&w, state, 2);
	say_hello(&w, 0, 0, 64);
	say(&w, "GET /", 5);
	say(&w, "\x16\x03\x01", 3);
	say_hello(&w, 1, 0, 64);
	say_main(&w);
	assert_gathered(&w, 2);
	tear_down(&w);
}

static void a_second_main_is_dropped(void **state)
{
	struct world w;
	set_up(&w, state, 1);
	say_main(&w);
	say_main(&w);
	say_hello(&w, 0, 0, 64);
	assert_gathered(&w, 1);
	tear_down(&w);
}

static void a_stranger_alone_is_the_reason_if_the_source_was_started(void **state)
{
	struct world w;
	set_up(&w, state, 2);
	w.o.source_is_first = true;
	say(&w, "GRAB", 4);
	assert_refused(&w, -EPROTO, "not a migration: the connection begins with 47524142");
	set_up(&w, state, 2);
	w.o.source_is_first = true;
	say(&w, "\x16\x03\x01\x02", 4);
	assert_refused(&w, -EPROTO, "the source speaks TLS and we do not");
}

static void strangers_end_nothing(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} said[] = {{"GET / HTTP/1.1\r\n\r\n", 18}, {"SSH-2.0-x\r\n", 11}, {"QEVM", 4}, {"QEVM\0\0\0\2\7", 9}, {"QEVM\0\0\0\3\x55", 9},
		{"\x16\x03\x01\x02", 4}};
	struct world w;
	set_up(&w, state, 0);
	for (size_t i = 0; i < GW__LEN(said); i++)
		shutdown(say(&w, said[i].bytes, said[i].n), SHUT_WR);
	say_hello(&w, 0, 0, 63);
	close(w.peer[--w.n]);
	say_main(&w);
	assert_gathered(&w, 0);
	tear_down(&w);
}

static void the_limit_holds_whoever_comes(void **state)
{
	struct world w;
	set_up(&w, state, 0);
	say(&w, "GRAB", 4);
	say_hello(&w, 0, 0, 30);
	w.o.hello_ms = 60000;
	uint64_t start = now_ms();
	assert_refused(&w, -ETIMEDOUT, "for 2000 ms who is a source, but 1 others did; the last: ");
	assert_true(now_ms() - start < 20000);
}

/* 64 bytes anybody can say. */
static void a_hello_alone_joins_nobody(void **state)
{
	struct world w;
	set_up(&w, state, 0);
	close(say_hello(&w, 0, 9, 64));
	w.n--;
	say_hello(&w, 0, 9, 64); /* stays */
	say_main(&w);
	go_on(&w, plain, sizeof plain - 1);
	assert_gathered(&w, 0);
	tear_down(&w);
	for (uint32_t channels = 0; channels <= 2; channels += 2) {
		set_up(&w, state, channels);
		say_hello(&w, 0, 9, 64);
		say_hello(&w, 1, 5, 64);
		say_hello(&w, 7, 5, 64);
		for (uint8_t i = 0; i < 2; i++)
			say_channel(&w, i, 5);
		say_hello(&w, 0, 5, 64); /* behind it */
		say_main(&w);
		assert_gathered(&w, 2);
		for (unsigned i = 0; i < 2; i++) {
			uint8_t got[4];
			assert_int_equal(gw__chan_read(w.in.multifd[i], got, 4, &w.run.error), 4);
			assert_memory_equal(got, "\x11\x22\x33\x44", 4);
		}
		tear_down(&w);
	}
}

/* Time passes only while we look, and only behind the main channel: two channels come in its course, each later than the one before. */
struct slow_path {
	struct world w;
	uint64_t ms, first_ms, step_ms;
	bool backwards; /* the channel with the highest id comes first */
	uint8_t n;
};

static uint64_t slow_clock(void *ctx)
{
	struct slow_path *p = ctx;
	if (p->w.in.main)
		p->ms += 10;
	if (p->n < 2 && p->ms >= p->first_ms + p->step_ms * p->n) {
		say_channel(&p->w, p->backwards ? 1 - p->n : p->n, 1);
		p->n++;
	}
	return p->ms * 1000000;
}

static void late_channels_are_taken(void **state)
{
	for (int marked = 0; marked < 2; marked++) { /* the mark tells that there are some */
		struct slow_path p = {.first_ms = marked ? 3000 : 250, .step_ms = 250};
		set_up(&p.w, state, 0);
		p.w.o.accept_ms = 15000;
		p.w.run.clock = (struct gw__clock){slow_clock, &p};
		say_main(&p.w);
		if (marked)
			go_on(&p.w, flush, sizeof flush - 1);
		assert_gathered(&p.w, 2);
		tear_down(&p.w);
	}
}

/* Whatever the last one took: a channel whose id is not there yet is on its way. */
static void a_gap_in_the_ids_is_waited_for(void **state)
{
	struct slow_path p = {.first_ms = 250, .step_ms = 2500, .backwards = true};
	set_up(&p.w, state, 0);
	p.w.o.accept_ms = 15000;
	p.w.run.clock = (struct gw__clock){slow_clock, &p};
	say_main(&p.w);
	go_on(&p.w, flush, sizeof flush - 1);
	assert_gathered(&p.w, 2);
	tear_down(&p.w);
}

/* Its first page shows that there are no others: nobody waits. */
static uint64_t no_clock(void *ctx)
{
	(void)ctx;
	return 0;
}

static void a_page_ends_the_wait(void **state)
{
	struct world w;
	set_up(&w, state, 0);
	w.run.clock = (struct gw__clock){no_clock, NULL};
	say_main(&w);
	go_on(&w, plain, sizeof plain - 1);
	assert_gathered(&w, 0);
	tear_down(&w);
}

/* Nine bytes anybody can say, too. */
static void a_head_alone_keeps_nobody_out(void **state)
{
	struct world w;
	uint8_t rest[4];
	for (int leaves = 0; leaves < 2; leaves++) {
		set_up(&w, state, 0);
		int fd = say(&w, "QEVM\0\0\0\3\7", 9);
		if (leaves)
			shutdown(fd, SHUT_RDWR);
		say_main(&w);
		assert_gathered(&w, 0);
		assert_int_equal(gw__chan_read_full(w.in.main, rest, sizeof rest, &(size_t){0}, &w.run.error), 0);
		assert_memory_equal(rest, "\0\0\0\5", 4);
		tear_down(&w);
	}
}

/* More silent connections than we have descriptors for. */
static void the_source_is_found_among_hundreds(void **state)
{
	enum { SILENT = 200, DESCRIPTORS = 64 };
	struct world w;
	struct rlimit before, few;
	int ready[2];
	char byte;
	set_up(&w, state, 0);
	w.o.hello_ms = 60000;
	assert_int_equal(pipe(ready), 0);
	pid_t child = fork();
	if (!child) {
		for (int i = 0; i < SILENT; i++) {
			say(&w, "", 0);
			w.n = 0;
		}
		say_main(&w);
		_exit(write(ready[1], "x", 1) == 1 && pause());
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = DESCRIPTORS;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	int r = gather(&w);
	setrlimit(RLIMIT_NOFILE, &before);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	assert_ok(r, w.run.error);
	assert_non_null(w.in.main);
	tear_down(&w);
}

struct shortage {
	struct world *w;
	struct rlimit before;
	struct gw__clock real;
};

/* The wait looks at its clock again and again, in our thread: when it has warned, there are descriptors again. */
static uint64_t end_the_shortage(void *ctx)
{
	const struct shortage *s = ctx;
	if (s->w->run.warnings.n)
		setrlimit(RLIMIT_NOFILE, &s->before);
	return gw__clock_now_ns(&s->real);
}

/* No descriptor for the one that comes, and nobody silent whose could be taken. */
static void a_shortage_of_descriptors_passes(void **state)
{
	struct world w;
	struct shortage s = {.w = &w};
	set_up(&w, state, 0);
	say_main(&w);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &s.before), 0);
	struct rlimit none = s.before;
	int next = dup(w.peer[0]);
	close(next);
	none.rlim_cur = (rlim_t)next;
	s.real = w.run.clock;
	w.run.clock = (struct gw__clock){.now_ns = end_the_shortage, .ctx = &s};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	int r = gather(&w);
	setrlimit(RLIMIT_NOFILE, &s.before);
	w.run.clock = s.real;
	assert_ok(r, w.run.error);
	assert_non_null(w.in.main);
	assert_int_equal(w.run.warnings.n, 1);
	assert_non_null(strstr(w.run.warnings.text[0], "Too many open files; it is tried again"));
	tear_down(&w);
}

/* It does not pass: the limit of the wait holds, and the sentence is about that. */
static void a_shortage_that_stays_is_the_reason(void **state)
{
	struct world w;
	struct rlimit before;
	set_up(&w, state, 0);
	say_main(&w);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	struct rlimit none = before;
	int next = dup(w.peer[0]);
	close(next);
	none.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	int r = gather(&w);
	setrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(r, -ETIMEDOUT);
	assert_says(w.run.error, "Too many open files, for 2000 ms; give this process more descriptors");
	tear_down(&w);
}

static void hellos_that_do_not_fit(void **state)
{
	struct world w;
	set_up(&w, state, 2);
	say_hello(&w, 2, 0, 64);
	assert_refused(&w, -ETIMEDOUT, "multifd channel 2 came, but 2 were announced (0..1)");
	set_up(&w, state, 0);
	say_channel(&w, 0, 0);
	say_channel(&w, 2, 0);
	say_main(&w);
	assert_refused(&w, -EPROTO, "2 multifd channels came, but none has the id 1");
}

static void too_few(void **state)
{
	struct world w;
	set_up(&w, state, 3);
	say_main(&w);
	say_hello(&w, 0, 0, 64);
	say_hello(&w, 1, 0, 63); /* one byte is missing */
	assert_refused(&w, -ETIMEDOUT, "the main channel and 1 multifd channels came, expected 3 of them within 600 ms");
	set_up(&w, state, 1);
	say_hello(&w, 0, 0, 64);
	assert_refused(&w, -ETIMEDOUT, "1 multifd channels came, but within 2000 ms no main channel");
}

static void nobody(void **state)
{
	struct world w;
	set_up(&w, state, 0);
	gw__listener_close(w.listener);
	struct gw__io_opts io = limits(50);
	char text[160];
	snprintf(text, sizeof text, "unix:%s", w.path);
	struct gw__uri uri = uri_of(text);
	assert_ok(gw__io_listen(&uri, &io, &w.listener, &w.run.error), w.run.error);
	assert_int_equal(gather(&w), -ETIMEDOUT);
	tear_down(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(main_alone),
		cmocka_unit_test(a_whole_stream_is_looked_at_once),
		cmocka_unit_test(each_is_at_its_id),
		cmocka_unit_test(as_many_as_there_are),
		cmocka_unit_test(a_silent_one_is_dropped),
		cmocka_unit_test(strangers_among_others_are_dropped),
		cmocka_unit_test(a_second_main_is_dropped),
		cmocka_unit_test(a_stranger_alone_is_the_reason_if_the_source_was_started),
		cmocka_unit_test(strangers_end_nothing),
		cmocka_unit_test(the_limit_holds_whoever_comes),
		cmocka_unit_test(a_hello_alone_joins_nobody),
		cmocka_unit_test(late_channels_are_taken),
		cmocka_unit_test(a_gap_in_the_ids_is_waited_for),
		cmocka_unit_test(a_page_ends_the_wait),
		cmocka_unit_test(a_head_alone_keeps_nobody_out),
		cmocka_unit_test(the_source_is_found_among_hundreds),
		cmocka_unit_test(a_shortage_of_descriptors_passes),
		cmocka_unit_test(a_shortage_that_stays_is_the_reason),
		cmocka_unit_test(hellos_that_do_not_fit),
		cmocka_unit_test(too_few),
		cmocka_unit_test(nobody),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
