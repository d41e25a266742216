/* SPDX-License-Identifier: MIT */
/*
 * A VMM lets its guest go while it runs: live-out URI. The guest is a thread that counts up in 16 MiB of memory; live-in.c is the other side. What a
 * VMM has to give: its memory, its state as bytes, and two hooks.
 */
#include <godwit-unstable.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, PAGES = 4096 };

static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER; /* held by whoever keeps the guest still */
static uint64_t *ram, count;
static gw_guest *guest;

static void *run_guest(void *unused)
{
	(void)unused;
	for (;;) {
		pthread_mutex_lock(&running);
		uint64_t page = count % PAGES;
		ram[page * PAGE / sizeof *ram] = ++count;
		gw_guest_dirty(guest, "ram0", page * PAGE, sizeof *ram); /* after the write */
		pthread_mutex_unlock(&running);
	}
	return NULL;
}

static int pause_vm(void *ctx, enum gw_why why)
{
	(void)ctx, (void)why; /* GW_WHY_LEAVE: here a VMM gives up disk locks and addresses */
	pthread_mutex_lock(&running);
	return 0;
}

static int resume_vm(void *ctx, enum gw_why why)
{
	(void)ctx, (void)why; /* GW_WHY_RETURNED: it did not leave */
	pthread_mutex_unlock(&running);
	return 0;
}

static int save_vm(void *ctx, gw_out *out)
{
	(void)ctx;
	return gw_out_write(out, &count, sizeof count);
}

static int load_vm(void *ctx, uint32_t version, const uint8_t *bytes, size_t n)
{
	(void)ctx, (void)version, (void)bytes, (void)n;
	return -ENOTSUP; /* no guest comes here */
}

static int describe(void)
{
	struct gw_guest_ops ops = GW_INIT(ops);
	struct gw_guest_opts o = GW_INIT(o);
	struct gw_block block = GW_INIT(block);
	struct gw_device device = GW_INIT(device);
	ops.pause = pause_vm;
	ops.resume = resume_vm;
	o.machine = "counter-1";
	o.tracker = GW_TRACKER_TOLD;
	block.name = "ram0";
	block.host = ram;
	block.bytes = (uint64_t)PAGES * PAGE;
	device.name = "counter";
	device.save = save_vm;
	device.load = load_vm;
	return gw_guest_new(&guest, &ops, &o, NULL) || gw_guest_add_block(guest, &block) || gw_guest_add_device(guest, &device);
}

int main(int argc, char **argv)
{
	struct gw_guest_result result = GW_INIT(result);
	pthread_t thread;
	gw_job *job;
	ram = (uint64_t *)aligned_alloc(PAGE, (size_t)PAGES * PAGE);
	if (ram) /* what was never written is zero */
		memset(ram, 0, (size_t)PAGES * PAGE);
	if (argc != 2 || !ram || describe() || gw_job_new(&job) || pthread_create(&thread, NULL, run_guest, NULL))
		return 2;
	if (gw_guest_send(job, guest, argv[1], NULL, &result))
		fprintf(stderr, "%s\n", gw_job_error(job));
	printf("%s: it has counted to %llu, and stood still for %.1f ms\n", gw_guest_where_name(result.where), (unsigned long long)count,
		(double)result.downtime_ns / 1e6);
	return result.where == GW_GONE ? 0 : result.where == GW_IN_DOUBT ? 4 : 1;
}
