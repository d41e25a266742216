/* SPDX-License-Identifier: MIT */
/*
 * sweep: a guest program that makes many pages dirty at little cost.
 *
 * Ten times a second it changes one word of each of its pages. It proves nothing about them (stamp does); it is there so that a guest under
 * TCG can have more dirty pages in a checkpoint than stamp can write.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE_WORDS = 512 };

int main(int argc, char **argv)
{
	const struct timespec tick = {0, 100000000};
	size_t pages = argc == 2 ? strtoull(argv[1], NULL, 0) : 0;
	if (!pages) {
		fprintf(stderr, "usage: sweep PAGES\n");
		return 2;
	}
	volatile uint64_t *ram = mmap(NULL, pages * PAGE_WORDS * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED) {
		printf("sweep BAD start: cannot have %zu pages\n", pages);
		return 1;
	}
	for (uint64_t pass = 1;; pass++) {
		for (size_t i = 0; i < pages; i++)
			ram[i * PAGE_WORDS] = pass;
		nanosleep(&tick, NULL);
	}
}
