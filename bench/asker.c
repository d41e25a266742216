/* SPDX-License-Identifier: MIT */
/*
 * asker SOCKET EVERY_US [preempt]: a destination of a post-copy that asks for pages at random while it takes what comes as fast as
 * it can, and tells how long each took to come. For measuring a page server without the guest, the faults and the pauses of a
 * QEMU. Nothing is loaded and no page is kept.
 *
 * Threads: main reads the main connection, one asks, with `preempt` one reads the second connection. The pages that
 * came are a byte each, written by whoever read them. One JSON object on standard output at the end.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

enum { PAGE = 4096, ROOM = 1 << 20, BLOCKS_MAX = 64, TIMES_MAX = 1 << 20, ASKED_MAX = 64 };
enum { ZERO = 0x02, MEM_SIZE = 0x04, NORMAL = 0x08, EOS = 0x10, CONTINUE = 0x20 };
enum { CMD_PING = 2, CMD_PACKAGED = 7 };

struct block {
	char name[256];
	uint64_t bytes;
	_Atomic uint8_t *came; /* by page */
};

static struct block blocks[BLOCKS_MAX];
static unsigned blocks_n;
static int link_fd;
static unsigned every_us;
static _Atomic bool listens, is_over;

/* Requests that are out: a slot is free while its time is 0. */
static struct {
	_Atomic double since;
	unsigned block;
	uint64_t page;
} asked[ASKED_MAX];
static double times[TIMES_MAX];
static atomic_uint times_n;
static atomic_ulong sent_n;

static void die(const char *what)
{
	fprintf(stderr, "asker: %s: %s\n", what, errno ? strerror(errno) : "not as expected");
	exit(1);
}

/* --- reading --- */

struct reader {
	int fd;
	uint8_t *room;
	size_t at, end;
	int block;
	uint64_t bytes;
};

static bool fill(struct reader *r, size_t n)
{
	while (r->end - r->at < n) {
		memmove(r->room, r->room + r->at, r->end - r->at);
		r->end -= r->at;
		r->at = 0;
		ssize_t got = read(r->fd, r->room + r->end, ROOM - r->end);
		if (got < 0)
			die("reading");
		if (got == 0)
			return false;
		r->end += (size_t)got;
		r->bytes += (size_t)got;
	}
	return true;
}

static const uint8_t *take(struct reader *r, size_t n)
{
	if (!fill(r, n))
		die("the source closed the connection");
	r->at += n;
	return r->room + r->at - n;
}

static void skip(struct reader *r, uint64_t n)
{
	for (uint64_t part; n; n -= part) {
		part = n < ROOM / 2 ? n : ROOM / 2;
		take(r, part);
	}
}

static uint64_t number(struct reader *r, unsigned n)
{
	const uint8_t *p = take(r, n);
	uint64_t v = 0;
	for (unsigned i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

static void name(struct reader *r, char to[256])
{
	size_t n = number(r, 1);
	memcpy(to, take(r, n), n);
	to[n] = 0;
}

/* --- what goes back --- */

static uint8_t *put(uint8_t *p, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> 8 * (n - 1 - i));
	return p + n;
}

/* One call, one message: two threads write. */
static void say(unsigned type, const uint8_t *payload, size_t n)
{
	uint8_t room[4 + 300];
	memcpy(put(put(room, type, 2), n, 2), payload, n);
	if (write(link_fd, room, 4 + n) != (ssize_t)(4 + n) && !is_over)
		die("writing");
}

static void say_number(unsigned type, uint32_t v)
{
	uint8_t payload[4];
	put(payload, v, 4);
	say(type, payload, 4);
}

static void ask(unsigned block, uint64_t page)
{
	uint8_t payload[13 + 256], *p = put(put(payload, page * PAGE, 8), PAGE, 4);
	size_t n = strlen(blocks[block].name);
	p = put(p, n, 1);
	memcpy(p, blocks[block].name, n);
	say(3, payload, (size_t)(p - payload) + n);
	sent_n++;
}

static void page_came(unsigned block, uint64_t page)
{
	if (page >= blocks[block].bytes / PAGE || blocks[block].came[page])
		die("a page came twice");
	blocks[block].came[page] = 1;
	for (unsigned i = 0; i < ASKED_MAX; i++) {
		double since = asked[i].since;
		if (since == 0 || asked[i].block != block || asked[i].page != page)
			continue;
		unsigned n = times_n++;
		if (n < TIMES_MAX)
			times[n] = seconds_now() - since;
		asked[i].since = 0;
	}
}

/* --- the stream --- */

static int find_block(const char *called)
{
	for (unsigned i = 0; i < blocks_n; i++)
		if (!strcmp(blocks[i].name, called))
			return (int)i;
	die("a block that is not listed");
	return -1;
}

static void record(struct reader *r, uint64_t word)
{
	char called[256];
	if (!(word & CONTINUE)) {
		name(r, called);
		r->block = find_block(called);
	}
	skip(r, word & ZERO ? 1 : PAGE);
	page_came((unsigned)r->block, word / PAGE);
}

static void records(struct reader *r)
{
	for (uint64_t word = number(r, 8); word != EOS; word = number(r, 8))
		record(r, word);
	skip(r, 5); /* footer */
}

static void list(struct reader *r)
{
	char called[256];
	skip(r, 4);
	name(r, called);
	skip(r, 8);
	for (uint64_t left = number(r, 8) & ~(uint64_t)MEM_SIZE; left; left -= blocks[blocks_n++].bytes) {
		if (blocks_n == BLOCKS_MAX)
			die("too many blocks");
		name(r, blocks[blocks_n].name);
		blocks[blocks_n].bytes = number(r, 8);
		blocks[blocks_n].came = calloc(blocks[blocks_n].bytes / PAGE, 1);
	}
	records(r);
}

static void command(struct reader *r)
{
	unsigned what = (unsigned)number(r, 2);
	size_t n = number(r, 2);
	if (what == CMD_PING) {
		say_number(2, (uint32_t)number(r, 4));
	} else if (what == CMD_PACKAGED) {
		skip(r, number(r, 4));
		say_number(2, 3);
		say_number(2, 0x42);
		listens = true;
	} else {
		skip(r, n);
	}
}

static void main_channel(struct reader *r)
{
	skip(r, 9); /* magic, version, the type of the configuration */
	skip(r, number(r, 4));
	for (;;) {
		switch (number(r, 1)) {
		case 0:
			return;
		case 1:
			list(r);
			break;
		case 2:
		case 3:
			skip(r, 4);
			records(r);
			break;
		case 8:
			command(r);
			break;
		default:
			die("a section of a device outside of the package");
		}
	}
}

static void *preempt_channel(void *ctx)
{
	struct reader *r = ctx;
	while (fill(r, 8))
		record(r, number(r, 8));
	return NULL;
}

/* --- asking --- */

/* A page at random that has not come; of a few tries. */
static bool find_missing(unsigned *block, uint64_t *page)
{
	for (int tries = 0; tries < 1000; tries++) {
		*block = 0; /* the memory, as QEMU lists it */
		*page = ((uint64_t)random() << 20 ^ (uint64_t)random()) % (blocks[0].bytes / PAGE);
		if (!blocks[*block].came[*page])
			return true;
	}
	return false;
}

static void *asks(void *ctx)
{
	while (!is_over) {
		usleep(every_us);
		unsigned slot = 0;
		while (slot < ASKED_MAX && asked[slot].since != 0)
			slot++;
		if (!listens || slot == ASKED_MAX || !find_missing(&asked[slot].block, &asked[slot].page))
			continue;
		asked[slot].since = seconds_now();
		if (blocks[asked[slot].block].came[asked[slot].page]) /* just now */
			asked[slot].since = 0;
		else
			ask(asked[slot].block, asked[slot].page);
	}
	return NULL;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double part_us(double part)
{
	unsigned n = times_n < TIMES_MAX ? times_n : TIMES_MAX;
	return n ? times[(unsigned)(part * (n - 1))] * 1e6 : 0;
}

static int accept_one(int listener)
{
	int fd = accept(listener, NULL, NULL);
	if (fd < 0)
		die("accepting");
	return fd;
}

static int listen_at(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 2))
		die(path);
	return fd;
}

struct second {
	int listener;
	struct reader reader;
};

static void *second_connection(void *ctx)
{
	struct second *s = ctx;
	s->reader.fd = accept_one(s->listener);
	return preempt_channel(&s->reader);
}

int main(int argc, char **argv)
{
	pthread_t asking, second;
	struct reader r = {.room = malloc(ROOM)};
	struct second p = {.reader.room = malloc(ROOM)};
	if (argc < 3 || !r.room || !p.reader.room) {
		fprintf(stderr, "usage: asker SOCKET EVERY_US [preempt]\n");
		return 2;
	}
	bool preempt = argc > 3;
	every_us = (unsigned)atoi(argv[2]);
	srandom(1);
	p.listener = listen_at(argv[1]);
	r.fd = link_fd = accept_one(p.listener);
	double start = seconds_now();
	if (pthread_create(&asking, NULL, asks, NULL) || (preempt && pthread_create(&second, NULL, second_connection, &p)))
		die("a thread");
	main_channel(&r);
	is_over = true;
	double seconds = seconds_now() - start;
	say_number(1, 0);
	close(link_fd);
	if (preempt)
		pthread_join(second, NULL);
	pthread_join(asking, NULL);
	qsort(times, times_n < TIMES_MAX ? times_n : TIMES_MAX, sizeof times[0], by_size);
	printf("{\"seconds\": %.6f, \"bytes\": %ju, \"preempt_bytes\": %ju, \"requests\": %lu, \"answered\": %u, "
	       "\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
		seconds, (uintmax_t)r.bytes, (uintmax_t)p.reader.bytes, sent_n, times_n, part_us(0.5), part_us(0.99), part_us(1));
	return 0;
}
