/* SPDX-License-Identifier: MIT */
/*
 * worker: a guest program that counts, and writes each number to memory, to a sector of every disk and to the network.
 *
 *   worker STEP_MS INTERFACE|- DISK...
 *
 * Number n goes to the sector n mod SECTORS of each disk, past the page cache, then to a table in memory, then out as one Ethernet frame: always in
 * this order, one thread. So for the guest a sector holds what its table says, whenever it stood still in between; who finds anything else has a disk and a
 * memory of two moments. All sectors are compared again and again.
 *
 * A frame is broadcast, of type 0x88b5 (for experiments), and holds the text "work N". Between two steps a frame "ask N" is answered by "ans N".
 */
#define _GNU_SOURCE /* O_DIRECT */
#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SECTORS = 2048, SECTOR_BYTES = 512, CHECK_SECTORS = 64, CHECKS_PER_STEP = 4, TYPE = 0x88b5, DISKS_MAX = 4 };

struct work {
	int disks[DISKS_MAX], n_disks;
	int net; /* -1: none */
	struct sockaddr_ll to;
	uint64_t n, checked, bad;
	uint64_t table[SECTORS];
	uint64_t *buffer; /* CHECK_SECTORS of them */
};

static void fill(uint64_t *sector, uint64_t n, uint64_t place)
{
	for (uint64_t i = 0; i < SECTOR_BYTES / 8; i++)
		sector[i] = n ? (n * 0x9e3779b97f4a7c15u ^ place << 32) + i : 0;
}

static void write_disks(struct work *w, uint64_t place)
{
	fill(w->buffer, w->n, place);
	for (int d = 0; d < w->n_disks; d++)
		if (pwrite(w->disks[d], w->buffer, SECTOR_BYTES, (off_t)(place * SECTOR_BYTES)) != SECTOR_BYTES)
			printf("work BAD disk %d cannot be written\n", d);
}

static void send_number(struct work *w)
{
	unsigned char frame[64] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, TYPE >> 8, TYPE & 0xff};
	snprintf((char *)frame + 14, sizeof frame - 14, "work %" PRIu64, w->n);
	if (w->net >= 0 && sendto(w->net, frame, sizeof frame, 0, (struct sockaddr *)&w->to, sizeof w->to) < 0)
		printf("work BAD cannot send\n");
}

static void check_sectors(struct work *w, int disk, uint64_t from)
{
	uint64_t want[SECTOR_BYTES / 8];
	size_t bytes = (size_t)CHECK_SECTORS * SECTOR_BYTES;
	bool read = pread(w->disks[disk], w->buffer, bytes, (off_t)(from * SECTOR_BYTES)) == (ssize_t)bytes;
	for (uint64_t i = 0; i < CHECK_SECTORS; i++) {
		fill(want, w->table[from + i], from + i);
		if ((!read || memcmp(w->buffer + i * SECTOR_BYTES / 8, want, SECTOR_BYTES)) && w->bad++ < 5)
			printf("work BAD disk %d sector %" PRIu64 " is not that of number %" PRIu64 "\n", disk, from + i,
				w->table[from + i]);
	}
}

static void check_some(struct work *w)
{
	for (int i = 0; i < CHECKS_PER_STEP; i++, w->checked += CHECK_SECTORS) {
		if (w->checked == SECTORS) {
			if (!w->bad)
				printf("work ok %" PRIu64 "\n", w->n);
			w->checked = w->bad = 0;
		}
		for (int d = 0; d < w->n_disks; d++)
			check_sectors(w, d, w->checked);
	}
}

static int open_net(struct work *w, const char *name)
{
	struct ifreq r = {0};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(TYPE));
	strncpy(r.ifr_name, name, sizeof r.ifr_name - 1);
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &r))
		return -1;
	r.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &r) || ioctl(fd, SIOCGIFINDEX, &r))
		return -1;
	w->to = (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_ifindex = r.ifr_ifindex, .sll_halen = 6};
	memset(w->to.sll_addr, 0xff, 6);
	return fd;
}

static int prepare(struct work *w, int argc, char **argv)
{
	w->net = -1;
	if (strcmp(argv[2], "-") && (w->net = open_net(w, argv[2])) < 0)
		return -1;
	if (posix_memalign((void **)&w->buffer, 4096, (size_t)CHECK_SECTORS * SECTOR_BYTES))
		return -1;
	for (int i = 3; i < argc && w->n_disks < DISKS_MAX; i++, w->n_disks++) {
		w->disks[w->n_disks] = open(argv[i], O_RDWR | O_DIRECT);
		if (w->disks[w->n_disks] < 0)
			return -1;
	}
	return 0;
}

static void answer(const struct work *w)
{
	unsigned char frame[64];
	ssize_t n = recv(w->net, frame, sizeof frame, MSG_DONTWAIT);
	if (n < 17 || memcmp(frame + 14, "ask", 3))
		return;
	memset(frame, 0xff, 6);
	memcpy(frame + 14, "ans", 3);
	if (sendto(w->net, frame, (size_t)n, 0, (const struct sockaddr *)&w->to, sizeof w->to) < 0)
		printf("work BAD cannot answer\n");
}

static long now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void rest(const struct work *w, long us)
{
	struct pollfd p = {.fd = w->net, .events = POLLIN};
	for (long until = now_us() + us, left = us; left > 0; left = until - now_us()) {
		const struct timespec t = {left / 1000000, left % 1000000 * 1000};
		if (ppoll(&p, 1, &t, NULL) > 0)
			answer(w);
	}
}

int main(int argc, char **argv)
{
	static struct work w;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 3 || prepare(&w, argc, argv)) {
		printf("work BAD start\n");
		return 1;
	}
	long ms = strtol(argv[1], NULL, 10);
	for (;;) {
		uint64_t place = ++w.n % SECTORS;
		write_disks(&w, place);
		w.table[place] = w.n;
		send_number(&w);
		check_some(&w);
		rest(&w, ms * 1000);
	}
}
