/* SPDX-License-Identifier: MIT */
/*
 * guest-tool URI RAM [NAME=VALUE ...]: a mem guest that writes all the time is sent to URI. Then its memory, as it left, is in the file RAM.
 *
 * machine, block, mib, seed, workload (number), channels, compression (number), devices (0: none), confirm (0: no). Ends with 0: gone; 1: here
 * again; 4: in doubt; 2: wrong use. Says the rounds and the downtime.
 *
 * epochs=N: it is protected by the standby at URI instead, for N checkpoints, before the last of which it stands still; old_dialect. RAM is that of the last. Ends
 * with 0, or 1.
 */
#include <godwit-unstable.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/mem/mem_guest.h"

static struct gw__mem_guest *mem;
static gw_guest *guest;
static int argc_;
static char **argv_;

static const char *text(const char *name, const char *otherwise)
{
	size_t n = strlen(name);
	for (int i = 3; i < argc_; i++)
		if (!strncmp(argv_[i], name, n) && argv_[i][n] == '=')
			return argv_[i] + n + 1;
	return otherwise;
}

static uint32_t number(const char *name, uint32_t otherwise)
{
	const char *value = text(name, NULL);
	return value ? (uint32_t)strtoul(value, NULL, 0) : otherwise;
}

static int stop(void *ctx, enum gw_why why)
{
	(void)ctx, (void)why;
	return gw__mem_guest_pause(mem);
}

static int go(void *ctx, enum gw_why why)
{
	(void)ctx, (void)why;
	return gw__mem_guest_resume(mem);
}

static int save(void *ctx, gw_out *out)
{
	uint8_t state[GW__MEM_STATE_BYTES_MAX];
	(void)ctx;
	return gw_out_write(out, state, gw__mem_guest_save(mem, state));
}

static int load(void *ctx, uint32_t version, const uint8_t *bytes, size_t n)
{
	(void)ctx, (void)version, (void)bytes, (void)n;
	return -1;
}

static void wrote(void *ctx, uint64_t offset, uint64_t bytes)
{
	(void)ctx;
	if (guest)
		gw_guest_dirty(guest, text("block", "ram0"), offset, bytes);
}

static bool describe(void)
{
	struct gw_guest_ops ops = GW_INIT(ops);
	struct gw_guest_opts o = GW_INIT(o);
	struct gw_block block = GW_INIT(block);
	struct gw_device device = GW_INIT(device);
	struct gw__mem_ram ram = gw__mem_guest_ram(mem);
	ops.pause = stop;
	ops.resume = go;
	o.machine = text("machine", "mem-1");
	o.tracker = GW_TRACKER_TOLD;
	block.name = text("block", "ram0");
	block.host = ram.host;
	block.bytes = ram.bytes;
	device.name = "mem";
	device.save = save;
	device.load = load;
	return !gw_guest_new(&guest, &ops, &o, NULL) && !gw_guest_add_block(guest, &block) &&
	       (!number("devices", 1) || !gw_guest_add_device(guest, &device));
}

static int send_to(const char *uri)
{
	static const int status[] = {[GW_HERE] = 1, [GW_GONE] = 0, [GW_IN_DOUBT] = 4};
	struct gw_guest_send_opts o = GW_INIT(o);
	struct gw_guest_result result = GW_INIT(result);
	gw_job *job = NULL;
	o.channels = number("channels", 0);
	o.compression = (enum gw_compression)number("compression", 0);
	o.no_confirm = !number("confirm", 1);
	if (gw_job_new(&job))
		return 2;
	int r = gw_guest_send(job, guest, uri, &o, &result);
	if (r)
		fprintf(stderr, "%s\n", gw_job_error(job));
	printf("%s: %d, %u rounds, %llu pages, %llu zero pages, downtime %.3f ms\n", gw_guest_where_name(result.where), r, result.rounds,
		(unsigned long long)result.pages, (unsigned long long)result.zero_pages, (double)result.downtime_ns / 1e6);
	gw_job_free(job);
	return status[result.where];
}

/* --- protect --- */

static void on_committed(void *ctx, const struct gw_guest_epoch *e)
{
	uint64_t last = number("epochs", 0);
	printf("epoch %llu: %llu pages, pause %llu us\n", (unsigned long long)e->number, (unsigned long long)e->pages,
		(unsigned long long)e->pause_us);
	if (e->number + 1 == last)
		gw__mem_guest_pause(mem);
	if (e->number == last)
		gw_job_order(ctx, GW_ORDER_FINISH);
}

static int protect_at(const char *uri)
{
	struct gw_guest_protect_opts o = GW_INIT(o);
	struct gw_guest_result result = GW_INIT(result);
	gw_job *job = NULL;
	if (gw_job_new(&job))
		return 2;
	o.channels = number("channels", 0);
	o.compression = (enum gw_compression)number("compression", 0);
	o.old_dialect = number("old_dialect", 0);
	o.standby_timeout_ms = 60000; /* of a busy machine */
	o.on_committed = on_committed;
	o.ctx = job;
	int r = gw_guest_protect(job, guest, uri, &o, &result);
	if (r)
		fprintf(stderr, "%s\n", gw_job_error(job));
	printf("%s: %d, %llu epochs, pause %llu us\n", gw_guest_where_name(result.where), r, (unsigned long long)result.epochs,
		(unsigned long long)result.pause_p50_us);
	gw_job_free(job);
	return r ? 1 : 0;
}

static bool keep_ram(const char *path)
{
	struct gw__mem_ram ram = gw__mem_guest_ram(mem);
	FILE *f = fopen(path, "we");
	return f && fwrite(ram.host, 1, ram.bytes, f) == ram.bytes && !fclose(f);
}

int main(int argc, char **argv)
{
	struct gw__error error = {0};
	argc_ = argc;
	argv_ = argv;
	if (argc < 3)
		return 2;
	struct gw__mem_guest_opts mo = {.bytes = (uint64_t)number("mib", 64) << 20,
		.seed = number("seed", 5),
		.workload = (enum gw__mem_workload)number("workload", GW__MEM_UNIFORM),
		.writers = 2,
		.steps_per_second = 20000,
		.tell_all = true,
		.wrote = wrote};
	if (gw__mem_guest_new(&mem, &mo, &error) || !describe() || gw__mem_guest_resume(mem)) {
		fprintf(stderr, "cannot make a guest: %s\n", error.text);
		return 2;
	}
	int status = number("epochs", 0) ? protect_at(argv[1]) : send_to(argv[1]);
	gw__mem_guest_pause(mem);
	return keep_ram(argv[2]) ? status : 2;
}
