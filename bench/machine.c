/* SPDX-License-Identifier: MIT */
/*
 * machine MIB FOLDER: what this machine can do at best, for the rates of the benchmarks to be held against.
 *
 * Copying memory to memory, writing a new file in FOLDER, and passing bytes through a pair of unix sockets as
 * a stream does. Nothing of Godwit is in it. One JSON object on standard output, rates in bytes per second.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

enum { MIB = 1 << 20, STEP = 512 << 10, TIMES = 3 };

struct room {
	uint8_t *from, *to;
	size_t bytes;
	const char *folder;
};

static void die(const char *what)
{
	fprintf(stderr, "machine: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void copy_memory(const struct room *r)
{
	memcpy(r->to, r->from, r->bytes);
	__asm__ volatile("" : : "r"(r->to) : "memory");
}

static void write_file(const struct room *r)
{
	int fd = open(r->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		die(r->folder);
	for (size_t at = 0; at < r->bytes; at += STEP)
		if (pwrite(fd, r->from + at, STEP, (off_t)at) != STEP)
			die("writing");
	close(fd);
}

struct sender {
	const struct room *room;
	int fd;
};

static void *send_all(void *ctx)
{
	const struct sender *s = ctx;
	for (size_t at = 0; at < s->room->bytes;) {
		ssize_t n = write(s->fd, s->room->from + at, STEP);
		if (n <= 0)
			die("writing to a socket");
		at += (size_t)n;
	}
	close(s->fd);
	return NULL;
}

static void pass_through_sockets(const struct room *r)
{
	int pair[2];
	pthread_t thread;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		die("a pair of sockets");
	struct sender s = {r, pair[0]};
	errno = pthread_create(&thread, NULL, send_all, &s);
	if (errno)
		die("a thread");
	ssize_t n;
	do /* into the same place, so that it stays in the cache as a reader's buffer does */
		n = read(pair[1], r->to, STEP);
	while (n > 0);
	if (n < 0)
		die("reading from a socket");
	pthread_join(thread, NULL);
	close(pair[1]);
}

static double best_rate(void (*work)(const struct room *r), const struct room *r)
{
	double best = 0;
	for (int i = 0; i < TIMES; i++) {
		double start = seconds_now();
		work(r);
		double rate = (double)r->bytes / (seconds_now() - start);
		best = rate > best ? rate : best;
	}
	return best;
}

int main(int argc, char **argv)
{
	struct room r = {0};
	if (argc == 3) {
		r.bytes = strtoul(argv[1], NULL, 10) * MIB;
		r.folder = argv[2];
	}
	if (r.bytes == 0) {
		fprintf(stderr, "usage: machine MIB FOLDER\n");
		return 2;
	}
	r.from = malloc(r.bytes + STEP);
	r.to = malloc(r.bytes + STEP);
	if (!r.from || !r.to)
		die("memory");
	memset(r.from, 1, r.bytes + STEP);
	memset(r.to, 2, r.bytes + STEP);
	printf("{\"memcpy\": %.0f,", best_rate(copy_memory, &r));
	printf(" \"new_file\": %.0f,", best_rate(write_file, &r));
	printf(" \"socket_pair\": %.0f}\n", best_rate(pass_through_sockets, &r));
	free(r.from);
	free(r.to);
	return 0;
}
