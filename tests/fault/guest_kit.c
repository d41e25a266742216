/* SPDX-License-Identifier: MIT */
/* See guest_kit.h. */
#include "guest_kit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NEED(x)                                                                                                                            \
	do {                                                                                                                               \
		if (!(x)) {                                                                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                                            \
			abort();                                                                                                           \
		}                                                                                                                          \
	} while (0)

enum gw_tracker vm_tracker = GW_TRACKER_TOLD;
const int *vm_uffd;

/* --- hooks --- */

static int take(int *answer)
{
	int r = *answer;
	*answer = 0;
	return r;
}

static int pause_vm(void *ctx, enum gw_why why)
{
	struct vm *vm = ctx;
	int r = take(&vm->pause_fails);
	enum gw_where where = gw_guest_where(vm->guest);
	NEED(why == GW_WHY_LEAVE || why == GW_WHY_KEEP ? where == GW_LEAVING
						       : why == GW_WHY_CHECKPOINT && (where == GW_HERE || where == GW_STANDBY));
	if (r)
		return r;
	vm->paused++;
	vm->runs = false;
	r = gw__mem_guest_pause(vm->mem);
	if (vm->on_pause)
		vm->on_pause(vm);
	if (!vm->stood_still)
		return r;
	vm->stood_still--;
	return 1;
}

static int resume_vm(void *ctx, enum gw_why why)
{
	struct vm *vm = ctx;
	int r = take(&vm->resume_fails);
	enum gw_where where = gw_guest_where(vm->guest);
	NEED(why == GW_WHY_CHECKPOINT ? where == GW_HERE || where == GW_STANDBY

				      : where == (why == GW_WHY_RETURNED || why == GW_WHY_KEEP ? GW_LEAVING : GW_HERE) ||
						(why == GW_WHY_ARRIVED && where == GW_PARTIAL));
	if (vm->on_resume)
		vm->on_resume(vm);
	if (r)
		return r;
	vm->resumed++;
	vm->runs = true;
	return gw__mem_guest_resume(vm->mem);
}

static int save_vm(void *ctx, gw_out *out)
{
	struct vm *vm = ctx;
	uint8_t state[GW__MEM_STATE_BYTES_MAX];
	int r = take(&vm->save_fails);
	return r ? r : gw_out_write(out, state, gw__mem_guest_save(vm->mem, state));
}

static int load_vm(void *ctx, uint32_t version, const uint8_t *bytes, size_t n)
{
	struct vm *vm = ctx;
	struct gw__error error = {0};
	struct gw__mem_ram ram = gw__mem_guest_ram(vm->mem);
	int r = take(&vm->load_fails);
	if (vm->touches)
		NEED(*(volatile const uint64_t *)(const void *)(ram.host + ram.bytes - 8192) || true);
	if (!r)
		r = gw__mem_guest_load(vm->mem, bytes, n, &error);
	if (r)
		fprintf(stderr, "load (version %u): %d %s\n", version, r, error.text);
	return r;
}

static int start_tracker(void *ctx) { return take(&((struct vm *)ctx)->start_fails); }

static int take_written(void *ctx, const char *block, uint64_t first, uint64_t pages, uint64_t *bitmap)
{
	struct vm *vm = ctx;
	uint64_t end = gw__mem_guest_ram(vm->mem).bytes / 4096;
	(void)block, (void)bitmap;
	NEED(first % 64 == 0 && pages && ((first + pages) % 64 == 0 || first + pages == end) && first + pages <= end);
	return take(&vm->take_fails);
}

static void stop_tracker(void *ctx) { (void)ctx; }

static void wrote(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct vm *vm = ctx;
	if (vm->guest)
		gw_guest_dirty(vm->guest, "ram0", offset, bytes);
}

static int discard(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct vm *vm = ctx;
	return gw_guest_discard(vm->guest, "ram0", offset, bytes);
}

/* --- a VM --- */

static void describe(struct vm *vm, bool empty)
{
	struct gw_guest_ops ops = GW_INIT(ops);
	struct gw_guest_opts o = GW_INIT(o);
	struct gw_block block = GW_INIT(block);
	struct gw_device device = GW_INIT(device);
	struct gw__mem_ram ram = gw__mem_guest_ram(vm->mem);
	ops.pause = pause_vm;
	ops.resume = resume_vm;
	o.machine = "mem-1";
	o.tracker = vm_tracker;
	o.uffd = vm_uffd;
	o.dirty_start = start_tracker;
	o.dirty_take = take_written;
	o.dirty_stop = stop_tracker;
	o.empty = empty;
	NEED(!gw_guest_new(&vm->guest, &ops, &o, vm));
	block.name = "ram0";
	block.host = ram.host;
	block.bytes = ram.bytes;
	block.fd = ram.fd < 0 ? NULL : &ram.fd;
	NEED(!gw_guest_add_block(vm->guest, &block));
	device.name = "mem";
	device.save = save_vm;
	device.load = load_vm;
	device.ctx = vm;
	NEED(!gw_guest_add_device(vm->guest, &device));
	NEED(!gw_job_new(&vm->job));
}

void vm_new(struct vm *vm, const struct gw__mem_guest_opts *of, bool empty)
{
	struct gw__mem_guest_opts o = *of;
	struct gw__error error = {0};
	*vm = (struct vm){.result = {.size = sizeof vm->result}};
	o.empty = empty;
	o.tell_all = vm_tracker == GW_TRACKER_TOLD || vm_tracker == GW_TRACKER_OWN;
	o.wrote = wrote;
	o.discard = discard;
	o.ctx = vm;
	if (gw__mem_guest_new(&vm->mem, &o, &error))
		fprintf(stderr, "%s\n", error.text);
	NEED(vm->mem);
	describe(vm, empty);
}

void vm_free(struct vm *vm)
{
	if (vm->mem && vm->runs)
		gw__mem_guest_pause(vm->mem);
	if (gw_guest_where(vm->guest) == GW_IN_DOUBT || gw_guest_where(vm->guest) == GW_HELD)
		gw_guest_decide(vm->guest, false);
	NEED(!gw_guest_free(vm->guest));
	gw_job_free(vm->job);
	gw__mem_guest_free(vm->mem);
	*vm = (struct vm){0};
}

bool vm_is_right(struct vm *vm)
{
	struct gw__mem_check check;
	struct gw__error error = {0};
	bool ran = !gw__mem_guest_pause(vm->mem);
	int r = gw__mem_guest_check(vm->mem, 0, gw__mem_guest_ram(vm->mem).bytes / 4096, NULL, &check, &error);
	if (r)
		fprintf(stderr, "%s\n", error.text);
	if (ran)
		gw__mem_guest_resume(vm->mem);
	return !r;
}

/* --- a relay that cuts --- */

struct relay {
	struct cut *cut;
	int listener;
	char to[108], at[128];
	pthread_t thread;
};

static bool pass(int from, int to, uint64_t *left, uint64_t *passed)
{
	uint8_t bytes[65536];
	size_t room = *left < sizeof bytes ? (size_t)*left : sizeof bytes;
	ssize_t n = room ? recv(from, bytes, room, 0) : 0;
	if (n <= 0)
		return false;
	for (ssize_t done = 0; done < n;) {
		ssize_t put = send(to, bytes + done, (size_t)(n - done), MSG_NOSIGNAL);
		if (put <= 0)
			return false;
		done += put;
	}
	*left -= *left == UINT64_MAX ? 0 : (uint64_t)n;
	*passed += (uint64_t)n;
	return *left > 0;
}

/* One connection: a test that cuts has no channels. */
static void *pass_on(void *ctx)
{
	struct relay *r = ctx;
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	uint64_t left[2] = {r->cut->forth, r->cut->back};
	struct pollfd p[2] = {{.events = POLLIN}, {.events = POLLIN}};
	bool ended[2] = {false, false};
	strcpy(to.sun_path, r->to);
	p[0].fd = accept(r->listener, NULL, NULL);
	p[1].fd = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(p[0].fd >= 0 && !connect(p[1].fd, (struct sockaddr *)&to, sizeof to));
	uint64_t *passed[2] = {&r->cut->forth_bytes, &r->cut->back_bytes};
	while (!ended[0] && !ended[1] && left[0] && left[1] && poll(p, 2, -1) > 0)
		for (unsigned i = 0; i < 2; i++)
			if (p[i].revents && !ended[0] && !ended[1])
				ended[i] = !pass(p[i].fd, p[!i].fd, &left[i], passed[i]);
	r->cut->fired = !left[0] || !left[1];
	for (unsigned i = 0; i < 2; i++)
		close(p[i].fd);
	return NULL;
}

struct relay *relay_start(const char *folder, struct cut *cut)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct relay *r = calloc(1, sizeof *r);
	NEED(r);
	r->cut = cut;
	snprintf(r->to, sizeof r->to, "%s/in", folder);
	snprintf(r->at, sizeof r->at, "unix:%s/relay", folder);
	strcpy(at.sun_path, r->at + 5);
	r->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(!bind(r->listener, (struct sockaddr *)&at, sizeof at) && !listen(r->listener, 1));
	NEED(!pthread_create(&r->thread, NULL, pass_on, r));
	return r;
}

const char *relay_uri(const struct relay *r) { return r->at; }

void relay_end(struct relay *r)
{
	pthread_join(r->thread, NULL);
	close(r->listener);
	unlink(r->at + 5);
	free(r);
}

/* --- a move --- */

enum { HEAD_BYTES = 9 }; /* by which a source is known */

struct receiver {
	struct vm *vm;
	struct move *m;
	char uri[128];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool listens;
};

static void set_listens(struct receiver *r)
{
	pthread_mutex_lock(&r->lock);
	r->listens = true;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static void on_listening(void *ctx, const char *uri)
{
	(void)uri;
	set_listens(ctx);
}

static void *receive(void *ctx)
{
	struct receiver *r = ctx;
	struct gw_guest_receive_opts o = r->m->receive;
	o.size = sizeof o;
	o.on_listening = on_listening;
	o.ctx = r;
	r->m->received = gw_guest_receive(r->vm->job, r->vm->guest, r->uri, &o, &r->vm->result);
	set_listens(r);
	return NULL;
}

static char key_folders[2][48];

static void remove_key_folders(void)
{
	char path[160];
	for (unsigned i = 0; i < 2; i++)
		if (key_folders[i][0]) {
			snprintf(path, sizeof path, "%s/keys.psk", key_folders[i]);
			unlink(path);
			rmdir(key_folders[i]);
		}
}

const char *key_folder(char key)
{
	char *folder = key_folders[key == 'b'], path[160], hex[65];
	if (folder[0])
		return folder;
	if (!key_folders[0][0] && !key_folders[1][0])
		atexit(remove_key_folders);
	strcpy(folder, "/tmp/godwit-keys-XXXXXX");
	NEED(mkdtemp(folder));
	memset(hex, key, 64);
	hex[64] = 0;
	snprintf(path, sizeof path, "%s/keys.psk", folder);
	FILE *f = fopen(path, "w");
	NEED(f);
	fprintf(f, "qemu:%s\n", hex);
	NEED(!fclose(f));
	return folder;
}

void vm_move(struct vm *from, struct vm *to, struct move *m)
{
	char folder[] = "/tmp/godwit-move-XXXXXX";
	struct receiver r = {.vm = to, .m = m, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct relay *relay = NULL;
	pthread_t thread;
	NEED(mkdtemp(folder));
	snprintf(r.uri, sizeof r.uri, "unix:%s/in", folder);
	m->send.size = sizeof m->send;
	m->receive.channels = m->send.channels;
	NEED(!pthread_create(&thread, NULL, receive, &r));
	pthread_mutex_lock(&r.lock);
	while (!r.listens)
		pthread_cond_wait(&r.changed, &r.lock);
	pthread_mutex_unlock(&r.lock);
	if (m->cut)
		relay = relay_start(folder, m->cut);
	m->sent = gw_guest_send(from->job, from->guest, relay ? relay_uri(relay) : r.uri, &m->send, &from->result);
	if (m->sent && (m->is_stranger || !from->result.moved_bytes || (m->cut && m->cut->forth < HEAD_BYTES)))
		gw_job_cancel(to->job); /* nobody came who said that it is a source */
	pthread_join(thread, NULL);
	if (m->cut)
		relay_end(relay);
	unlink(r.uri + 5);
	NEED(!rmdir(folder));
}
