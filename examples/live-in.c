/* SPDX-License-Identifier: MIT */
/*
 * A VMM takes a guest in while it runs elsewhere: live-in URI. The guest is the one of live-out.c; here it counts on, until it has written each page once
 * more, and what it finds in its memory is checked.
 */
#include <godwit-unstable.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, PAGES = 4096 };

static uint64_t *ram, count, wrong;
static bool runs;

static int pause_vm(void *ctx, enum gw_why why)
{
	(void)ctx, (void)why;
	return -ENOTSUP; /* it does not leave again */
}

static int resume_vm(void *ctx, enum gw_why why)
{
	(void)ctx, (void)why; /* GW_WHY_ARRIVED: here a VMM takes disk locks and addresses */
	runs = true;
	return 0;
}

static int save_vm(void *ctx, gw_out *out)
{
	(void)ctx, (void)out;
	return -ENOTSUP;
}

static int load_vm(void *ctx, uint32_t version, const uint8_t *bytes, size_t n)
{
	(void)ctx, (void)version;
	if (n != sizeof count)
		return -ENOTSUP;
	memcpy(&count, bytes, n);
	return 0;
}

static int describe(gw_guest **guest)
{
	struct gw_guest_ops ops = GW_INIT(ops);
	struct gw_guest_opts o = GW_INIT(o);
	struct gw_block block = GW_INIT(block);
	struct gw_device device = GW_INIT(device);
	ops.pause = pause_vm;
	ops.resume = resume_vm;
	o.machine = "counter-1";
	o.tracker = GW_TRACKER_TOLD;
	o.empty = true;
	block.name = "ram0";
	block.host = ram;
	block.bytes = (uint64_t)PAGES * PAGE;
	device.name = "counter";
	device.save = save_vm;
	device.load = load_vm;
	return gw_guest_new(guest, &ops, &o, NULL) || gw_guest_add_block(*guest, &block) || gw_guest_add_device(*guest, &device);
}

static void listening(void *ctx, const char *uri)
{
	(void)ctx;
	printf("listening at %s\n", uri);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct gw_guest_receive_opts o = GW_INIT(o);
	gw_guest *guest = NULL;
	gw_job *job;
	ram = (uint64_t *)aligned_alloc(PAGE, (size_t)PAGES * PAGE);
	o.on_listening = listening;
	if (argc != 2 || !ram || describe(&guest) || gw_job_new(&job))
		return 2;
	if (gw_guest_receive(job, guest, argv[1], &o, NULL) < 0)
		fprintf(stderr, "%s\n", gw_job_error(job));
	for (unsigned i = 0; runs && i < PAGES; i++, count++) { /* the page that is written next was written PAGES steps ago */
		uint64_t *page = &ram[count % PAGES * PAGE / sizeof *ram];
		wrong += count >= PAGES && *page != count - PAGES + 1;
		*page = count + 1;
	}
	printf("%s: it counts on from %llu, %llu pages were wrong\n", gw_guest_where_name(gw_guest_where(guest)), (unsigned long long)count,
		(unsigned long long)wrong);
	gw_job_free(job);
	gw_guest_free(guest);
	return !runs || wrong;
}
