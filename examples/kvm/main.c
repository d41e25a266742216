/* SPDX-License-Identifier: MIT */
/*
 * The guest as the library sees it, and the four calls. See vm.h for the other files.
 *
 *   cc *.c -o kvm $(pkg-config --cflags --libs libgodwit) -pthread
 *
 *   ./kvm                                a new guest counts
 *   ./kvm --save=vm.image                a new guest counts, and is saved
 *   ./kvm --restore=vm.image             it counts on
 *   ./kvm --receive=tcp:0.0.0.0:4444     waits for a guest, which counts on here
 *   ./kvm --send=tcp:HOST:4444           a new guest counts, and is sent meanwhile
 *   ./kvm --receive=URI --send=URI       a guest comes, counts, and goes
 *
 * --dirty=log|ring is how writes of a guest that leaves are noticed. --count=N is how far it counts before it leaves. The default is log, and 2000.
 *
 * Exit status:
 *
 *    0   as above
 *    1   it failed
 *    2   wrong arguments
 *    4   the guest was sent, and it is not known whether it arrived
 *   77   KVM is missing, or cannot do this
 */
#include "vm.h"

#include <godwit-unstable.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAILED = 1, USAGE = 2, IN_DOUBT = 4, CANNOT = 77 };

struct arguments {
	const char *restore, *receive, *save, *send;
	bool ring;
	unsigned long count;
};

static void print(const char *what, const struct vm *vm)
{
	printf("%s %llu\n", what, (unsigned long long)guest_counter(vm));
	fflush(stdout);
}

/* --- The hooks: they are called from the thread that makes the call, one at a time --- */

/* This VMM has no disk to unlock and no address to give up for GW_WHY_LEAVE. All writes of the vCPU must have ended when this returns. */
static int pause_vm(void *ctx, enum gw_why why)
{
	(void)why;
	return vm_pause((struct vm *)ctx);
}

/*
 * A guest that arrives is checked before it runs, because it would write over wrong pages. If a page is wrong, the guest does not run, and the call fails. A VMM
 * whose guests are not of its own making cannot check them, and only lets them run.
 */
static int resume_vm(void *ctx, enum gw_why why)
{
	struct vm *vm = (struct vm *)ctx;
	if (why == GW_WHY_ARRIVED) {
		print("arrived at", vm);
		int r = guest_check(vm);
		if (r)
			return r;
	}
	return vm_run(vm);
}

static int save_cpu(void *ctx, gw_out *out)
{
	struct cpu_state state;
	int r = cpu_get((struct vm *)ctx, &state);
	return r ? r : gw_out_write(out, &state, sizeof state);
}

/* These bytes come from outside: their length and their counts are checked here, their values by KVM. */
static int load_cpu(void *ctx, uint32_t version, const uint8_t *bytes, size_t n)
{
	struct cpu_state state;
	(void)version;
	if (n != sizeof state)
		return -EPROTO;
	memcpy(&state, bytes, n);
	return state.cpuids > CPUIDS || state.msrs > MSRS ? -EPROTO : cpu_set((struct vm *)ctx, &state);
}

static int save_board(void *ctx, gw_out *out)
{
	struct board_state state;
	int r = board_get((struct vm *)ctx, &state);
	return r ? r : gw_out_write(out, &state, sizeof state);
}

static int load_board(void *ctx, uint32_t version, const uint8_t *bytes, size_t n)
{
	struct board_state state;
	(void)version;
	if (n != sizeof state)
		return -EPROTO;
	memcpy(&state, bytes, n);
	for (uint32_t i = 0; i < 3; i++)
		if (state.chip[i].chip_id != i)
			return -EPROTO;
	return board_set((struct vm *)ctx, &state);
}

/* --- The guest --- */

static int add_devices(gw_guest *guest, struct vm *vm)
{
	struct gw_device cpu = GW_INIT(cpu), board = GW_INIT(board);
	cpu.name = "cpu";
	cpu.save = save_cpu;
	cpu.load = load_cpu;
	cpu.ctx = vm;
	board.name = "board";
	board.save = save_board;
	board.load = load_board;
	board.ctx = vm;
	int r = gw_guest_add_device(guest, &cpu); /* in this order they are saved and loaded; see state.c */
	return r ? r : gw_guest_add_device(guest, &board);
}

static int describe(gw_guest **guest, struct vm *vm, bool empty)
{
	struct gw_guest_ops ops = GW_INIT(ops);
	struct gw_guest_opts o = GW_INIT(o);
	struct gw_block ram = GW_INIT(ram);
	ops.pause = pause_vm;
	ops.resume = resume_vm;
	o.machine = "kvm-example-v1-1cpu-8m"; /* all that `load` depends on */
	o.tracker = GW_TRACKER_OWN;
	o.dirty_start = dirty_start;
	o.dirty_take = dirty_take;
	o.dirty_stop = dirty_stop;
	o.empty = empty;
	ram.name = "ram";
	ram.host = vm->ram;
	ram.bytes = RAM_BYTES;
	int r = gw_guest_new(guest, &ops, &o, vm);
	if (!r)
		r = gw_guest_add_block(*guest, &ram);
	if (!r)
		r = add_devices(*guest, vm);
	if (r)
		fprintf(stderr, "cannot describe the guest: %s: %s\n", strerror(-r), *guest ? gw_guest_error(*guest) : "");
	return r;
}

static void listening(void *ctx, const char *uri)
{
	(void)ctx;
	printf("listening at %s\n", uri);
	fflush(stdout);
}

/* --- It comes, counts, and goes --- */

static int begin(struct vm *vm, gw_job *job, gw_guest *guest, const struct arguments *a)
{
	struct gw_guest_receive_opts receive = GW_INIT(receive);
	receive.on_listening = listening;
	int r;
	if (a->restore)
		r = gw_guest_restore(job, guest, a->restore, NULL, NULL);
	else if (a->receive)
		r = gw_guest_receive(job, guest, a->receive, &receive, NULL);
	else
		return guest_create(vm) || vm_run(vm) ? -EIO : 0;
	if (r) /* also GW_SOURCE_NOT_NOTIFIED, which is 1: the guest runs here, and its source does not know */
		fprintf(stderr, "%s\n", gw_job_error(job));
	return r < 0 ? r : 0;
}

/* A KVM that emulates instructions may lack one of the program. Then the vCPU fails before it has counted to 1. */
static int count(struct vm *vm, const struct arguments *a)
{
	if (guest_count_on(vm, a->count)) {
		bool cannot = !guest_counter(vm) && vm->run->exit_reason == KVM_EXIT_INTERNAL_ERROR;
		if (cannot)
			fprintf(stderr, "this KVM cannot run a 64-bit guest\n");
		return cannot ? CANNOT : FAILED;
	}
	if (vm_pause(vm) || guest_check(vm))
		return FAILED;
	print("counted to", vm);
	return vm_run(vm) ? FAILED : 0;
}

/* Only gw_guest_where says whether the guest may run here. */
static int leave(struct vm *vm, gw_job *job, gw_guest *guest, const struct arguments *a)
{
	struct gw_guest_result result = GW_INIT(result);
	struct gw_guest_save_opts save = GW_INIT(save);
	save.stop = true; /* the image has it then, and it does not run here any more */
	int r = a->save ? gw_guest_save(job, guest, a->save, &save, &result) : gw_guest_send(job, guest, a->send, NULL, &result);
	if (r < 0)
		fprintf(stderr, "%s\n", gw_job_error(job));
	switch (gw_guest_where(guest)) {
	case GW_GONE:
		print("left at", vm);
		printf("%u rounds, %llu pages\n", result.rounds, (unsigned long long)(result.pages + result.zero_pages));
		return 0;
	case GW_IN_DOUBT: /* a VMM keeps it paused, asks the destination, and calls gw_guest_decide. This example ends, and gives up its copy */
		print("in doubt at", vm);
		return IN_DOUBT;
	default: /* GW_HERE: it runs on as if nothing had been, unless a hook failed */
		print("still here at", vm);
		return FAILED;
	}
}

static int live(struct vm *vm, const struct arguments *a)
{
	gw_guest *guest = NULL;
	gw_job *job = NULL;
	int status = FAILED;
	if (!gw_job_new(&job) && !describe(&guest, vm, a->restore || a->receive) && !begin(vm, job, guest, a)) {
		status = count(vm, a);
		if (!status && (a->save || a->send))
			status = leave(vm, job, guest, a);
	}
	gw_job_free(job);
	gw_guest_free(guest); /* -EBUSY if it is in doubt: this process ends anyway */
	return status;
}

static bool parse(int argc, char **argv, struct arguments *a)
{
	static const struct option OPTIONS[] = {{"restore", 1, NULL, 'i'}, {"receive", 1, NULL, 'r'}, {"save", 1, NULL, 'o'},
		{"send", 1, NULL, 's'}, {"dirty", 1, NULL, 'd'}, {"count", 1, NULL, 'c'}, {NULL, 0, NULL, 0}};
	bool right = true;
	for (int c; (c = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
		const char **text = c == 'i' ? &a->restore : c == 'r' ? &a->receive : c == 'o' ? &a->save : c == 's' ? &a->send : NULL;
		if (text)
			*text = optarg;
		else if (c == 'd')
			right &= (a->ring = !strcmp(optarg, "ring")) || !strcmp(optarg, "log");
		else if (c == 'c')
			a->count = strtoul(optarg, NULL, 10);
		else
			right = false;
	}
	return right && optind == argc && !(a->restore && a->receive) && !(a->save && a->send);
}

int main(int argc, char **argv)
{
	static struct vm vm;
	struct arguments a = {.count = 2000};
	if (!parse(argc, argv, &a)) {
		fprintf(stderr, "usage: %s [--dirty=log|ring] [--count=N] [--restore=IMAGE | --receive=URI] [--save=IMAGE | --send=URI]\n",
			argv[0]);
		return USAGE;
	}
	int r = vm_new(&vm, a.ring), status = r == -ENOTSUP ? CANNOT : FAILED;
	if (!r)
		status = live(&vm, &a);
	vm_free(&vm);
	return status;
}
