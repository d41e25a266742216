/* SPDX-License-Identifier: MIT */
/*
 * server: a guest program that counts, ten times a second, and sends each number as a line to whoever is connected.
 *
 *   server INTERFACE ADDRESS PORT
 *
 * It gives the interface that address in a network of 24 bits. So a client whose connection outlives the guest's QEMU sees whether the guest goes on from where it
 * was: a number that is missing, or comes twice, is of another moment.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STEP_MS = 100 };

static int set_address(int fd, unsigned long request, const char *interface, in_addr_t address)
{
	struct ifreq r = {0};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = address};
	strncpy(r.ifr_name, interface, sizeof r.ifr_name - 1);
	memcpy(&r.ifr_addr, &a, sizeof a);
	return ioctl(fd, request, &r);
}

static int bring_up(int fd, const char *interface)
{
	struct ifreq r = {0};
	strncpy(r.ifr_name, interface, sizeof r.ifr_name - 1);
	if (ioctl(fd, SIOCGIFFLAGS, &r))
		return -1;
	r.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &r);
}

static int listen_at(const char *interface, const char *address, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
		.sin_addr.s_addr = inet_addr(address)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || set_address(fd, SIOCSIFADDR, interface, a.sin_addr.s_addr) ||
		set_address(fd, SIOCSIFNETMASK, interface, htonl(0xffffff00)) || bring_up(fd, interface) ||
		bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 1))
		return -1;
	return fd;
}

int main(int argc, char **argv)
{
	int listener = argc == 4 ? listen_at(argv[1], argv[2], argv[3]) : -1, client = -1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf(listener < 0 ? "server BAD start\n" : "server listens\n");
	for (uint64_t n = 1; listener >= 0; n++) {
		char line[32];
		struct pollfd p = {.fd = client < 0 ? listener : -1, .events = POLLIN};
		if (poll(&p, 1, STEP_MS) > 0)
			client = accept(listener, NULL, NULL);
		int bytes = snprintf(line, sizeof line, "%" PRIu64 "\n", n);
		if (client >= 0 && send(client, line, (size_t)bytes, MSG_NOSIGNAL) != bytes) {
			close(client);
			client = -1;
		}
	}
	return 1;
}
