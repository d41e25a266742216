/* SPDX-License-Identifier: MIT */
/*
 * guest-tracking MIB: what the mem guest and the tracker of writes cost, in processor time of one thread.
 *
 * One JSON object per kind of memory on standard output: nanoseconds per step of the guest, per page proved, per page armed at the start, per page of RAM
 * looked at when nothing was written (a peek, and a take), and per written page reported and armed again, when 10,000 of them lie scattered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "guest/mem/mem_guest.h"
#include "guest/tracker.h"

enum { STEPS = 100000, SCATTERED = 10000 };

static uint64_t used_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static double per(uint64_t since, uint64_t n) { return (double)(used_ns() - since) / (double)n; }

static int measure(uint64_t mib, bool shared, struct gw__error *error)
{
	struct gw__mem_guest_opts o = {.bytes = mib << 20, .seed = 1, .shared = shared};
	struct gw__mem_guest *g;
	struct gw__tracker *t = NULL;
	uint64_t pages = o.bytes / GW__MEM_PAGE_BYTES, *bits = calloc(pages / 64 + 1, 8);
	int r = bits ? gw__mem_guest_new(&g, &o, error) : gw__error_set(error, -1, "no memory");
	if (r)
		return r;
	for (uint64_t i = 0; i < o.bytes; i += GW__MEM_PAGE_BYTES) /* zero pages are there too */
		gw__mem_guest_ram(g).host[i] |= 0;
	uint64_t at = used_ns();
	gw__mem_guest_step(g, 0, STEPS);
	double step = per(at, STEPS);
	at = used_ns();
	r = gw__mem_guest_check(g, 0, pages, NULL, NULL, error);
	double proof = per(at, pages);
	struct gw__tracked block = {.host = gw__mem_guest_ram(g).host, .bytes = o.bytes};
	r = r ? r : gw__tracker_new_writes(&t, &block, 1, GW__MEM_PAGE_BYTES, -1, NULL, error);
	at = used_ns();
	r = r ? r : gw__tracker_start(t, error);
	double arm = per(at, pages);
	at = used_ns();
	r = r ? r : gw__tracker_peek(t, 0, bits, error);
	double peek = per(at, pages);
	at = used_ns();
	r = r ? r : gw__tracker_take(t, 0, bits, error);
	double take = per(at, pages);
	gw__mem_guest_step(g, 0, SCATTERED);
	at = used_ns();
	r = r ? r : gw__tracker_take(t, 0, bits, error);
	double written = ((double)(used_ns() - at) - take * (double)pages) / SCATTERED;
	if (!r)
		printf("{\"memory\": \"%s\", \"mib\": %llu, \"step\": %.0f, \"proof\": %.0f, \"arm\": %.1f, \"peek\": %.2f, \"take\": %.2f, "
		       "\"written\": %.0f}\n",
			shared ? "memfd" : "private", (unsigned long long)mib, step, proof, arm, peek, take, written);
	gw__tracker_free(t);
	gw__mem_guest_free(g);
	free(bits);
	return r;
}

int main(int argc, char **argv)
{
	uint64_t mib = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
	struct gw__error error = {0};
	if (!mib) {
		fprintf(stderr, "usage: guest-tracking MIB\n");
		return 2;
	}
	for (int shared = 0; shared < 2; shared++)
		if (measure(mib, shared, &error)) {
			fprintf(stderr, "guest-tracking: %s\n", error.text);
			return 1;
		}
	return 0;
}
