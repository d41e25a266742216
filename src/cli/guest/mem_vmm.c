/* SPDX-License-Identifier: MIT */
/* The VMM of the mem guest; see mem_vmm.h. */
#include "cli/guest/mem_vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/guest/control.h"

enum { LOOK_MS = 500, TEXT_BYTES = 2048 };

struct vmm {
	const struct gw__mem_vmm_opts *o;
	struct gw__command_ctx *ctx;
	struct gw__mem_guest *mem;
	gw_guest *guest;
	int listening;
	bool stop;
};

/* --- The hooks ----------------------------------------------------------------------------------------------------- */

static int pause_guest(void *ctx, enum gw_why why) { return gw__mem_guest_pause(((struct vmm *)ctx)->mem); }
static int resume_guest(void *ctx, enum gw_why why) { return gw__mem_guest_resume(((struct vmm *)ctx)->mem); }

static int save_guest(void *ctx, gw_out *out)
{
	uint8_t state[GW__MEM_STATE_BYTES_MAX];
	return gw_out_write(out, state, gw__mem_guest_save(((struct vmm *)ctx)->mem, state));
}

static int load_guest(void *ctx, uint32_t version, const uint8_t *bytes, size_t n)
{
	struct vmm *v = ctx;
	struct gw__error error = {0};
	int r = gw__mem_guest_load(v->mem, bytes, n, &error);
	return r ? gw__ui_error(r, "%s", error.text) : 0;
}

static void wrote(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct vmm *v = ctx;
	if (v->guest)
		gw_guest_dirty(v->guest, v->o->block, offset, bytes);
}

static int discard(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct vmm *v = ctx;
	return gw_guest_discard(v->guest, v->o->block, offset, bytes);
}

/* --- The guest ----------------------------------------------------------------------------------------------------- */

static int describe(struct vmm *v)
{
	struct gw_guest_ops ops = GW_INIT(ops);
	ops.pause = pause_guest;
	ops.resume = resume_guest;
	struct gw_guest_opts o = GW_INIT(o);
	o.machine = v->o->machine;
	o.tracker = v->o->told ? GW_TRACKER_TOLD : GW_TRACKER_AUTO;
	o.empty = v->o->incoming != NULL;
	struct gw__mem_ram ram = gw__mem_guest_ram(v->mem);
	struct gw_block block = GW_INIT(block);
	block.name = v->o->block;
	block.host = ram.host;
	block.bytes = ram.bytes;
	block.fd = ram.fd >= 0 ? &ram.fd : NULL;
	struct gw_device device = GW_INIT(device);
	device.name = "godwit-mem";
	device.save = save_guest;
	device.load = load_guest;
	device.ctx = v;
	int r = gw_guest_new(&v->guest, &ops, &o, v);
	if (r)
		return gw__ui_error(r, "the guest cannot be made: %s", strerror(-r));
	r = gw_guest_add_block(v->guest, &block);
	if (!r && !v->o->no_device)
		r = gw_guest_add_device(v->guest, &device);
	return r ? gw__ui_error(r, "%s", gw_guest_error(v->guest)) : 0;
}

static int make(struct vmm *v)
{
	struct gw__error error = {0};
	struct gw__mem_guest_opts o = v->o->mem;
	o.empty = v->o->incoming != NULL;
	o.tell_all = v->o->told;
	o.wrote = wrote;
	o.discard = discard;
	o.ctx = v;
	if (gw__mem_guest_new(&v->mem, &o, &error))
		return gw__ui_error(GW__EXIT_USAGE, "%s", error.text);
	if (describe(v))
		return GW__EXIT_FAILED;
	v->listening = gw__control_listen(v->o->control, &error);
	return v->listening < 0 ? gw__ui_error(GW__EXIT_FAILED, "%s", error.text) : GW__CLI_GO;
}

static void on_listening(void *ctx, const char *uri)
{
	struct vmm *v = ctx;
	gw__cli_progress_line(&v->ctx->progress, "listening %s", uri);
	if (v->ctx->common->json)
		gw__cli_json(json_pack("{ss so}", "event", "listening", "uri", gw__cli_json_text(uri)));
	gw__ui_info("listening at %s", uri);
}

static bool is_image(const char *uri) { return !strncmp(uri, "file:", 5); }

static void on_event(void *ctx, const struct gw_guest_event *e)
{
	struct vmm *v = ctx;
	if (e->kind != GW_GUEST_RUNS || !v->o->lazy)
		return;
	gw__cli_progress_line(&v->ctx->progress, "partial %s", v->o->incoming);
	if (v->ctx->common->json)
		gw__cli_json(json_pack("{ss so}", "event", "partial", "uri", gw__cli_json_text(v->o->incoming)));
	gw__ui_info("the guest runs, and its memory follows");
}

/* The link broke after the switch: the user makes the source come back. */
static int on_paused(void *ctx, const char *uri, const char *reason)
{
	struct vmm *v = ctx;
	if (gw__cli_stopped())
		return -EINTR;
	gw__cli_progress_line(&v->ctx->progress, "paused %s", uri);
	if (v->ctx->common->json)
		gw__cli_json(
			json_pack("{ss so so}", "event", "paused", "uri", gw__cli_json_text(uri), "reason", gw__cli_json_text(reason)));
	gw__ui_info("%s; the guest waits for its source at %s: godwit guest send --resume", reason, uri);
	return 0;
}

static int receive(struct vmm *v)
{
	struct gw_guest_receive_opts o = GW_INIT(o);
	struct gw_guest_result result = GW_INIT(result);
	o.link = &v->o->link;
	o.channels = v->o->channels;
	o.on_listening = on_listening;
	o.on_paused = on_paused;
	o.lazy = v->o->lazy;
	o.user_mode = true; /* nothing of the guest but its own threads touches its memory: no privilege is needed */
	o.ctx = v;
	gw_job_on_guest_event(v->ctx->job, on_event, v);
	int r = gw_guest_receive(v->ctx->job, v->guest, v->o->incoming, &o, &result);
	if (r < 0 && result.where == GW_PARTIAL)
		return gw__command_ctx_failed(v->ctx, GW__EXIT_FAILED, "the guest has ended, and part of its memory is at its source");
	if (r < 0 && result.outcome.exit_status)
		return gw__command_ctx_failed_at(v->ctx, &result.outcome, "no guest came");
	if (r < 0)
		return gw__command_ctx_failed(v->ctx, gw__cli_status_before(r), "no guest came");
	gw__ui_info("the guest arrived: %s in %.2f s, %u channels", GW__SIZE(result.moved_bytes), (double)result.total_ns / 1e9,
		(unsigned)result.channels);
	if (result.postcopy)
		gw__ui_info("it ran before its memory was here: %ju pages were asked for", (uintmax_t)result.requests);
	return GW__CLI_GO;
}

/* Nothing of the guest but its own threads touches its memory: no privilege is needed. */
static int restore(struct vmm *v)
{
	struct gw_guest_restore_opts o = GW_INIT(o);
	struct gw_guest_result result = GW_INIT(result);
	o.lazy = v->o->lazy;
	o.user_mode = true;
	gw_job_on_guest_event(v->ctx->job, on_event, v);
	int r = gw_guest_restore(v->ctx->job, v->guest, v->o->incoming, &o, &result);
	if (r < 0 && result.where == GW_PARTIAL)
		return gw__command_ctx_failed(v->ctx, GW__EXIT_FAILED, "the guest has ended, and the image is as it was");
	if (r < 0)
		return gw__command_ctx_failed(v->ctx, gw__cli_status_before(r), "no guest came, and the image is as it was");
	gw__ui_info("the guest is here: %ju pages in %.2f s, of which %ju were asked for", (uintmax_t)result.pages,
		(double)result.total_ns / 1e9, (uintmax_t)result.requests);
	return GW__CLI_GO;
}

/* --- Requests ------------------------------------------------------------------------------------------------------ */

static json_t *answer(int status, const char *text) { return json_pack("{si so}", "status", status, "text", gw__cli_json_text(text)); }

static const char *text_of(const json_t *request, const char *key) { return json_string_value(json_object_get(request, key)); }
static json_int_t number_of(const json_t *request, const char *key) { return json_integer_value(json_object_get(request, key)); }

static json_t *answer_of_send(struct vmm *v, int r, const struct gw_guest_result *res)
{
	char text[TEXT_BYTES];
	const char *where = gw_guest_where_name(gw_guest_where(v->guest));
	if (r == 0)
		snprintf(text, sizeof text, "the guest has gone%s: %.2f s, %u rounds, %.1f MB, paused for %.1f ms",
			res->postcopy ? " by post-copy" : "", (double)res->total_ns / 1e9, (unsigned)res->rounds,
			(double)res->moved_bytes / 1e6, (double)res->downtime_ns / 1e6);
	else
		snprintf(text, sizeof text, "%s; the guest is %s", gw_job_error(v->ctx->job), where);
	int status = r == 0 ? GW__EXIT_DONE : res->outcome.exit_status ? (int)res->outcome.exit_status : gw__cli_status_before(r);
	json_t *a = answer(status, text);
	if (a)
		json_object_update_new(a,
			json_pack("{ss sb sI sI sI sI sI sI sI sI sI}", "where", where, "postcopy", res->postcopy, "requests",
				(json_int_t)res->requests, "already_there", (json_int_t)res->already_there, "latency_p99_us",
				(json_int_t)res->latency_p99_us, "total_ms", (json_int_t)(res->total_ns / 1000000), "downtime_us",
				(json_int_t)(res->downtime_ns / 1000), "rounds", (json_int_t)res->rounds, "moved_bytes",
				(json_int_t)res->moved_bytes, "pages", (json_int_t)res->pages, "xbzrle_pages",
				(json_int_t)res->xbzrle_pages));
	return a;
}

static json_t *send_guest(struct vmm *v, const json_t *request)
{
	const char *uri = text_of(request, "uri"), *creds = text_of(request, "tls_creds");
	struct gw_tls_opts tls = {.size = sizeof tls, .creds_dir = creds, .hostname = text_of(request, "tls_hostname")};
	struct gw_link_opts link = {.size = sizeof link, .tls = creds ? &tls : NULL};
	struct gw_limits limits = GW_INIT(limits);
	struct gw_guest_send_opts o = GW_INIT(o);
	struct gw_guest_result result = GW_INIT(result);
	link.max_bandwidth = (uint64_t)number_of(request, "max_bandwidth");
	limits.downtime_ms = (uint32_t)number_of(request, "downtime_ms");
	o.link = &link;
	o.limits = &limits;
	o.channels = (uint32_t)number_of(request, "channels");
	o.compression = (enum gw_compression)number_of(request, "compression");
	o.xbzrle_cache = (uint64_t)number_of(request, "xbzrle_cache");
	o.converge = json_is_true(json_object_get(request, "give_up")) ? GW_CONVERGE_GIVE_UP : GW_CONVERGE_STOP;
	o.postcopy = (enum gw_guest_postcopy)number_of(request, "postcopy");
	o.preempt = json_is_true(json_object_get(request, "preempt"));
	o.resume = json_is_true(json_object_get(request, "resume"));
	if (!uri)
		return answer(GW__EXIT_USAGE, "a request to send names no URI");
	int r = gw_guest_send(v->ctx->job, v->guest, uri, &o, &result);
	return answer_of_send(v, r, &result);
}

/* Of the guest's own memory, or of a file that is a copy of it, from a page on. */
static int judge(struct vmm *v, const json_t *request, struct gw__mem_check *c, struct gw__error *error)
{
	const char *copy = text_of(request, "copy");
	uint64_t first = (uint64_t)number_of(request, "first_page"), pages = gw__mem_guest_ram(v->mem).bytes / GW__MEM_PAGE_BYTES;
	if (!copy)
		return gw__mem_guest_check(v->mem, first, pages - (first < pages ? first : pages), NULL, c, error);
	struct stat st;
	int fd = open(copy, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || st.st_size <= 0) {
		int r = gw__error_errno(error, fd < 0 ? errno : ENODATA, "cannot read %s", copy);
		if (fd >= 0)
			close(fd);
		return r;
	}
	void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (bytes == MAP_FAILED)
		return gw__error_errno(error, errno, "cannot map %s", copy);
	int r = gw__mem_guest_check(v->mem, first, (uint64_t)st.st_size / GW__MEM_PAGE_BYTES, bytes, c, error);
	munmap(bytes, (size_t)st.st_size);
	return r;
}

static json_t *check_guest(struct vmm *v, const json_t *request)
{
	enum gw_where where = gw_guest_where(v->guest);
	struct gw__mem_check c = {0};
	struct gw__mem_stats s;
	struct gw__error error = {0};
	char text[TEXT_BYTES];
	if (where == GW_EMPTY)
		return answer(GW__EXIT_FAILED, "there is no guest: none has arrived");
	bool ran = !gw__mem_guest_pause(v->mem);
	int r = judge(v, request, &c, &error);
	gw__mem_guest_stats(v->mem, &s);
	if (ran && gw__mem_guest_resume(v->mem))
		gw__ui_error(0, "the guest cannot continue: no thread can be made");
	int status = r == -EBADMSG || s.found ? GW__EXIT_DIFFERENT : r ? GW__EXIT_FAILED : GW__EXIT_DONE;
	if (r)
		snprintf(text, sizeof text, "%s", error.text);
	else if (s.found)
		snprintf(text, sizeof text, "%ju pages were not right while it ran, the first at offset 0x%jx", (uintmax_t)s.found,
			(uintmax_t)s.found_offset);
	else
		snprintf(text, sizeof text, "%ju pages are right after %ju steps; the longest pause was %.1f ms", (uintmax_t)c.pages,
			(uintmax_t)s.steps, (double)s.largest_gap_ns / 1e6);
	json_t *a = answer(status, text);
	if (a)
		json_object_update_new(a, json_pack("{ss sI sI sI sI}", "where", gw_guest_where_name(where), "pages", (json_int_t)c.pages,
						  "steps", (json_int_t)s.steps, "largest_gap_us", (json_int_t)(s.largest_gap_ns / 1000),
						  "pages_read", (json_int_t)s.pages_read));
	return a;
}

static json_t *stop_guest(struct vmm *v, const json_t *request)
{
	if (gw_guest_where(v->guest) == GW_HELD)
		return answer(GW__EXIT_REFUSED,
			"the destination runs the guest and needs memory from here: send it again with --resume, or end this "
			"process by a signal");
	v->stop = true;
	return answer(GW__EXIT_DONE, "the guest is stopped");
}

static const struct {
	const char *name;
	json_t *(*run)(struct vmm *v, const json_t *request);
} requests[] = {{"send", send_guest}, {"check", check_guest}, {"stop", stop_guest}};

static void serve_one(struct vmm *v)
{
	int connection;
	json_t *request = gw__control_accept(v->listening, &connection);
	if (!request && connection < 0) /* no descriptor, for instance: it is still there, and the next look would find it immediately */
		poll(NULL, 0, LOOK_MS);
	if (!request)
		return;
	const char *name = text_of(request, "do");
	json_t *a = NULL;
	for (unsigned i = 0; i < GW__LEN(requests) && name; i++)
		if (!strcmp(name, requests[i].name))
			a = requests[i].run(v, request);
	if (a)
		json_object_set_new(a, "event", gw__cli_json_text(name));
	gw__control_answer(connection, a ? a : answer(GW__EXIT_USAGE, "this request is unknown, expected send, check or stop"));
	json_decref(request);
}

/* --- All of it ----------------------------------------------------------------------------------------------------- */

static int run(struct vmm *v)
{
	int status = make(v);
	if (status == GW__CLI_GO && v->o->incoming)
		status = is_image(v->o->incoming) ? restore(v) : receive(v);
	else if (status == GW__CLI_GO && gw__mem_guest_resume(v->mem))
		status = gw__ui_error(GW__EXIT_FAILED, "the guest does not run: no thread can be made");
	if (status != GW__CLI_GO)
		return status;
	gw__cli_progress_line(&v->ctx->progress, "running %s", v->o->control);
	if (v->ctx->common->json)
		gw__cli_json(json_pack("{ss so}", "event", "running", "control", gw__cli_json_text(v->o->control)));
	gw__ui_info("the guest runs; its socket is %s", v->o->control);
	while (!v->stop && !gw__cli_stopped()) {
		struct pollfd p = {.fd = v->listening, .events = POLLIN};
		if (poll(&p, 1, LOOK_MS) > 0)
			serve_one(v);
	}
	return GW__EXIT_DONE;
}

int gw__mem_vmm_run(struct gw__command_ctx *ctx, const struct gw__mem_vmm_opts *o)
{
	static struct vmm v; /* a thread of the guest that waits for a page which does not come ends with the process only */
	v = (struct vmm){.o = o, .ctx = ctx, .listening = -1};
	int status = run(&v);
	bool waits = gw_guest_where(v.guest) == GW_PARTIAL;
	if (v.mem && !waits)
		gw__mem_guest_pause(v.mem); /* or it would still report its writes */
	if (v.listening >= 0) {
		close(v.listening);
		unlink(o->control);
	}
	if (waits)
		return status;
	gw_guest_decide(v.guest, false); /* nobody can decide it later */
	gw_guest_free(v.guest);
	gw__mem_guest_free(v.mem);
	return status;
}
