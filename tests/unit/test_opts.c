/* SPDX-License-Identifier: MIT */
/*
 * The size of every public struct: forgotten it is -EINVAL, and what a newer program sets behind ours is -E2BIG; nothing was done then. The
 * table is the library's own, and is held against include/godwit.h, so that no struct can be left out.
 */
#include "unit.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/math.h"
#include "lib/info.h"
#include "lib/job.h"
#include "lib/opts.h"

/* Made by the library alone, for a callback of the program's. */
static const char *const given_to_callbacks[] = {"gw_whole", "gw_whole_block", "gw_proxy_field", "gw_proxy_message", "gw_proxy_channel",
	"gw_standby_event", "gw_guest_event", "gw_guest_epoch", "gw_epoch"};

#define NAME(s)                      #s,
#define NAME_LINKED(s, field, inner) NAME(s)
static const char *const names[] = {GW__STRUCTS(NAME, NAME_LINKED, NAME)};
static const char *name_of(enum gw__struct_id id) { return id < GW__STRUCTS_N ? names[id] : "no struct"; }
#define BYTES(s)                      sizeof(struct s),
#define BYTES_LINKED(s, field, inner) BYTES(s)
static const size_t bytes[] = {GW__STRUCTS(BYTES, BYTES_LINKED, BYTES)};
#define YES(s)                     true,
#define NO(s)                      false,
#define NO_LINKED(s, field, inner) NO(s)
static const bool is_result[] = {GW__STRUCTS(NO, NO_LINKED, YES)};

static gw_job *job;
static gw_info *info; /* of nothing: enough to be refused */
static char image[] = "/nonexistent/image";

static int unused_fd(void)
{
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	close(pair[1]);
	return pair[0];
}

static int ask(enum gw__struct_id id, void *v, unsigned call);
static int ask_guest(enum gw__struct_id id, void *v, unsigned call);

static int ask_info(enum gw__struct_id id, void *v, unsigned call)
{
	switch (id) {
	case GW__STRUCT_gw_info_summary:
		return call ? -ENOSYS : gw_info_summary(info, v);
	case GW__STRUCT_gw_info_block:
		return call ? -ENOSYS : gw_info_block(info, 0, v);
	case GW__STRUCT_gw_info_pages:
		return call ? -ENOSYS : gw_info_pages(info, 0, 0, 0, v);
	case GW__STRUCT_gw_info_working_set:
		return call ? -ENOSYS : gw_info_working_set(info, v);
	case GW__STRUCT_gw_info_field:
		return call ? -ENOSYS : gw_info_field(info, 0, 0, v);
	case GW__STRUCT_gw_info_device:
		return call ? -ENOSYS : gw_info_device(info, 0, v);
	default:
		fail_msg("%s has no row here", name_of(id));
		return -ENOSYS;
	}
}

/* An array of one. */
static int ask_element(enum gw__struct_id id, void *v, unsigned call)
{
	switch (id) {
	case GW__STRUCT_gw_destination_block:
		return call ? -ENOSYS
			    : ask(GW__STRUCT_gw_destination,
				      &(struct gw_destination){.size = sizeof(struct gw_destination), .blocks = 1, .block = v}, 0);
	case GW__STRUCT_gw_destination_device:
		return call ? -ENOSYS
			    : ask(GW__STRUCT_gw_destination,
				      &(struct gw_destination){.size = sizeof(struct gw_destination), .devices = 1, .device = v}, 0);
	case GW__STRUCT_gw_drain_block:
		return ask(GW__STRUCT_gw_drain_opts, &(struct gw_drain_opts){.size = sizeof(struct gw_drain_opts), .blocks = 1, .block = v},
			call);
	case GW__STRUCT_gw_serve_block:
		return ask(GW__STRUCT_gw_serve_opts, &(struct gw_serve_opts){.size = sizeof(struct gw_serve_opts), .blocks = 1, .block = v},
			call);
	case GW__STRUCT_gw_proxy_fault:
		return ask(GW__STRUCT_gw_proxy_opts, &(struct gw_proxy_opts){.size = sizeof(struct gw_proxy_opts), .faults = 1, .fault = v},
			call);
	case GW__STRUCT_gw_guest_ops:
	case GW__STRUCT_gw_guest_opts:
	case GW__STRUCT_gw_block:
	case GW__STRUCT_gw_device:
	case GW__STRUCT_gw_limits:
	case GW__STRUCT_gw_guest_send_opts:
	case GW__STRUCT_gw_guest_receive_opts:
	case GW__STRUCT_gw_guest_protect_opts:
	case GW__STRUCT_gw_guest_standby_opts:
	case GW__STRUCT_gw_guest_save_opts:
	case GW__STRUCT_gw_guest_restore_opts:
	case GW__STRUCT_gw_guest_result:
		return ask_guest(id, v, call);
	default:
		return ask_info(id, v, call);
	}
}

static int no_hook(void *ctx, enum gw_why why)
{
	(void)ctx, (void)why;
	return 0;
}

static int ask_described_guest(gw_guest *guest, enum gw__struct_id id, void *v, unsigned call)
{
	struct gw_guest_send_opts send = GW_INIT(send);
	switch (id) {
	case GW__STRUCT_gw_block:
		return gw_guest_add_block(guest, v);
	case GW__STRUCT_gw_device:
		return gw_guest_add_device(guest, v);
	case GW__STRUCT_gw_guest_send_opts:
		return gw_guest_send(job, guest, "tcp:127.0.0.1:1", v, NULL);
	case GW__STRUCT_gw_guest_protect_opts:
		return gw_guest_protect(job, guest, "tcp:127.0.0.1:1", v, NULL);
	case GW__STRUCT_gw_guest_standby_opts:
		return gw_guest_standby(job, guest, "tcp:127.0.0.1:0", v, NULL);
	case GW__STRUCT_gw_guest_save_opts:
		return gw_guest_save(job, guest, "/nonexistent/image", v, NULL);
	case GW__STRUCT_gw_guest_restore_opts:
		return gw_guest_restore(job, guest, "/nonexistent/image", v, NULL);
	case GW__STRUCT_gw_limits:
		send.limits = v;
		return gw_guest_send(job, guest, "tcp:127.0.0.1:1", &send, NULL);
	case GW__STRUCT_gw_guest_receive_opts:
		return gw_guest_receive(job, guest, "tcp:127.0.0.1:0", v, NULL);
	default:
		return call ? gw_guest_receive(job, guest, "tcp:127.0.0.1:0", NULL, v)
			    : gw_guest_send(job, guest, "tcp:127.0.0.1:1", NULL, v);
	}
}

/* A guest that is made, and described. */
static int ask_guest(enum gw__struct_id id, void *v, unsigned call)
{
	struct gw_guest_ops ops = GW_INIT(ops);
	struct gw_guest_opts o = GW_INIT(o);
	gw_guest *guest = NULL;
	ops.pause = no_hook;
	ops.resume = no_hook;
	o.machine = "none";
	o.tracker = GW_TRACKER_TOLD;
	if (id == GW__STRUCT_gw_limits && call == 1)
		return gw_job_limits(job, v);
	if (call > (id == GW__STRUCT_gw_guest_result))
		return -ENOSYS;
	if (id == GW__STRUCT_gw_guest_ops)
		return gw_guest_new(&guest, v, &o, NULL);
	if (id == GW__STRUCT_gw_guest_opts)
		return gw_guest_new(&guest, &ops, v, NULL);
	assert_int_equal(gw_guest_new(&guest, &ops, &o, NULL), 0);
	int r = ask_described_guest(guest, id, v, call);
	gw_guest_free(guest);
	return r;
}

/* Every function that takes this struct, `call` being which of them; -ENOSYS behind the last one. */
static int ask(enum gw__struct_id id, void *v, unsigned call)
{
	struct gw_link_opts link = GW_INIT(link);
	struct gw_receive_opts receive = GW_INIT(receive);
	const char *none[] = {NULL};
	gw_info *made;
	switch (id) {
	case GW__STRUCT_gw_tls_opts:
		link.tls = v;
		return ask(GW__STRUCT_gw_link_opts, &link, call);
	case GW__STRUCT_gw_link_opts:
		receive.link = v;
		if (call < 3)
			return ask(GW__STRUCT_gw_receive_opts, &receive, call);
		switch (call) {
		case 3:
			return gw_send(job, image, "tcp:127.0.0.1:1",
				&(struct gw_send_opts){.size = sizeof(struct gw_send_opts), .link = v});
		case 4:
			return gw_send_fd(job, image, unused_fd(), &(struct gw_send_opts){.size = sizeof(struct gw_send_opts), .link = v});
		case 5:
			return gw_serve(job, image, "tcp:127.0.0.1:1",
				&(struct gw_serve_opts){.size = sizeof(struct gw_serve_opts), .link = v}, NULL);
		case 6:
			return gw_drain(job, "tcp::0", image, &(struct gw_drain_opts){.size = sizeof(struct gw_drain_opts), .link = v},
				NULL);
		case 7:
			return gw_source_rollback(job, "tcp::0", &(struct gw_drain_opts){.size = sizeof(struct gw_drain_opts), .link = v});
		case 8:
			return gw_proxy(job, "tcp:127.0.0.1:x y", "tcp::0",
				&(struct gw_proxy_opts){.size = sizeof(struct gw_proxy_opts), .link = v}, NULL);
		case 9:
			return gw_standby(job, "tcp:127.0.0.1:x y", "/",
				&(struct gw_standby_opts){.size = sizeof(struct gw_standby_opts), .link = v});
		default:
			return -ENOSYS;
		}
	case GW__STRUCT_gw_receive_opts:
		return call == 0   ? gw_receive(job, "tcp:127.0.0.1:0", image, v, NULL)
		       : call == 1 ? gw_receive_fd(job, unused_fd(), image, v, NULL)
		       : call == 2 ? gw_partial_source_rollback(job, "tcp::0", image, v)
				   : -ENOSYS;
	case GW__STRUCT_gw_receive_file_opts:
		return call ? -ENOSYS : gw_receive_file(job, image, v, NULL);
	case GW__STRUCT_gw_drain_opts:
		return call == 0 ? gw_drain(job, "tcp::0", image, v, NULL) : call == 1 ? gw_source_rollback(job, "tcp::0", v) : -ENOSYS;
	case GW__STRUCT_gw_send_opts:
		return call == 0 ? gw_send(job, image, "tcp:127.0.0.1:1", v) : call == 1 ? gw_send_fd(job, image, unused_fd(), v) : -ENOSYS;
	case GW__STRUCT_gw_serve_opts:
		return call ? -ENOSYS : gw_serve(job, image, "tcp:127.0.0.1:1", v, NULL);
	case GW__STRUCT_gw_standby_opts:
		return call ? -ENOSYS : gw_standby(job, "tcp:127.0.0.1:x y", "/", v);
	case GW__STRUCT_gw_proxy_opts:
		return call ? -ENOSYS : gw_proxy(job, "tcp:127.0.0.1:x y", "tcp::0", v, NULL);
	case GW__STRUCT_gw_inspect_opts:
		return call ? -ENOSYS : gw_inspect(job, image, v, &made);
	case GW__STRUCT_gw_convert_opts:
		return call ? -ENOSYS : gw_convert(job, image, image, v);
	case GW__STRUCT_gw_destination:
		return call ? -ENOSYS : gw_plan_restore(info, v, &(struct gw_restore_plan){.size = sizeof(struct gw_restore_plan)});
	case GW__STRUCT_gw_start_opts:
		return call ? -ENOSYS : gw_job_start(job, v);
	case GW__STRUCT_gw_event:
		return call ? -ENOSYS : gw_job_next_event(job, v);
	case GW__STRUCT_gw_progress:
		return call ? -ENOSYS : gw_job_progress(job, v);
	case GW__STRUCT_gw_outcome:
		return call == 0   ? gw_job_outcome(job, v)
		       : call == 1 ? gw_outcome_at(v, GW_PLACE_LOST)
		       : call == 2 ? gw_outcome_note(v, GW_EVIDENCE_REFUSED)
				   : -ENOSYS;
	case GW__STRUCT_gw_uri:
		return call ? -ENOSYS : gw_uri_parse("fd:1", v);
	case GW__STRUCT_gw_partial_info:
		return call ? -ENOSYS : gw_partial_info(job, image, v);
	case GW__STRUCT_gw_receive_result:
		return call == 0   ? gw_receive(job, "tcp:127.0.0.1:0", image, NULL, v)
		       : call == 1 ? gw_receive_fd(job, unused_fd(), image, NULL, v)
		       : call == 2 ? gw_drain(job, "tcp::0", image, NULL, v)
				   : -ENOSYS;
	case GW__STRUCT_gw_serve_result:
		return call ? -ENOSYS : gw_serve(job, image, "tcp:127.0.0.1:1", NULL, v);
	case GW__STRUCT_gw_proxy_result:
		return call ? -ENOSYS : gw_proxy(job, "tcp:127.0.0.1:x y", "tcp::0", NULL, v);
	case GW__STRUCT_gw_restore_plan:
		return call ? -ENOSYS : gw_plan_restore(info, &(struct gw_destination){.size = sizeof(struct gw_destination)}, v);
	case GW__STRUCT_gw_run_state_plan:
		return call ? -ENOSYS : gw_plan_run_state(GW_RUN_STATE_PAUSED, 1000, false, v);
	case GW__STRUCT_gw_rule:
		return call == 0 ? gw_plan_rule(0, v) : call == 1 ? gw_plan_combination(GW_OPERATION_SAVE, none, 0, v) : -ENOSYS;
	default:
		return ask_element(id, v, call);
	}
}

/* Calls of this struct that may be made with a good size, to see that it is another failure, or none. */
static void expect(enum gw__struct_id id, size_t size, bool tail, int wanted)
{
	unsigned calls = 0;
	for (;; calls++) {
		uint8_t *v = calloc(1, bytes[id] + 64);
		memcpy(v, &size, sizeof size);
		if (tail)
			v[bytes[id] + 13] = 1;
		int r = ask(id, v, calls);
		if (r != -ENOSYS && r != wanted)
			fail_msg("%s, size %zu, call %u: %d, expected %d (%s)", names[id], size, calls, r, wanted, gw_job_error(job));
		for (size_t i = sizeof size; r != -ENOSYS && i < bytes[id]; i++)
			assert_int_equal(v[i], 0);
		free(v);
		if (r == -ENOSYS)
			break;
	}
	assert_true(calls > 0);
}

static void a_forgotten_size_is_refused(void **state)
{
	(void)state;
	for (enum gw__struct_id id = 0; id < GW__STRUCTS_N; id++) {
		expect(id, 0, false, -EINVAL);
		expect(id, sizeof(void *), false, -EINVAL); /* of a pointer to it */
		expect(id, (size_t)-1, false, -EINVAL);
	}
}

static void a_field_of_the_future_is_refused(void **state)
{
	(void)state;
	for (enum gw__struct_id id = 0; id < GW__STRUCTS_N; id++)
		if (!is_result[id])
			expect(id, bytes[id] + 64, true, -E2BIG);
}

/* A newer or older program that asks for nothing new is served. */
static void other_sizes_are_fine(void **state)
{
	(void)state;
	for (enum gw__struct_id id = 0; id < GW__STRUCTS_N; id++) {
		uint8_t *v = calloc(1, bytes[id] + 64);
		const size_t good[] = {bytes[id], bytes[id] + 64, sizeof(size_t) + 1};
		for (unsigned i = 0; i < 3; i++) {
			memcpy(v, &good[i], sizeof good[i]);
			assert_int_equal(gw__struct_check(id, v, NULL), 0);
		}
		free(v);
	}
	assert_int_equal(gw__struct_check(0, NULL, NULL), 0);
}

static void the_sentence_names_the_struct(void **state)
{
	(void)state;
	struct gw_tls_opts tls = {0};
	struct gw_link_opts link = GW_INIT(link);
	struct gw_send_opts o = GW_INIT(o);
	link.tls = &tls;
	o.link = &link;
	assert_int_equal(gw_send(job, image, "tcp:127.0.0.1:1", &o), -EINVAL);
	assert_non_null(strstr(gw_job_error(job), "struct gw_tls_opts has the size 0"));
	assert_non_null(strstr(gw_job_error(job), "GW_INIT"));
}

/* Elements of a newer or older program are found by the size of the first; what does not fit is named. */
static void arrays_have_a_stride(void **state)
{
	(void)state;
	struct newer {
		struct gw_drain_block block;
		uint64_t more;
	} v[2] = {{{sizeof v[0], "a", 4096, 0}, 0}, {{sizeof v[0], "b", 0, 0}, 0}};
	struct gw_drain_opts o = GW_INIT(o);
	o.machine = "pc";
	o.page_bytes = 4096;
	o.blocks = 2;
	assert_int_equal(gw_drain(job, "tcp::0", image, &o, NULL), -EINVAL);
	assert_non_null(strstr(gw_job_error(job), "gw_drain_opts.block is NULL"));
	o.block = &v[0].block;
	assert_int_equal(gw_drain(job, "tcp::0", image, &o, NULL), -EINVAL); /* the second one is read */
	assert_non_null(strstr(gw_job_error(job), "a RAM block of 0 bytes"));
	v[1].more = 1;
	assert_int_equal(gw_drain(job, "tcp::0", image, &o, NULL), -E2BIG);
	v[1].more = 0;
	v[1].block.size = sizeof v[1].block;
	assert_int_equal(gw_drain(job, "tcp::0", image, &o, NULL), -EINVAL);
	assert_non_null(strstr(gw_job_error(job), "gw_drain_opts.block[1] has the size"));
	v[0].block.size--;
	assert_int_equal(gw_drain(job, "tcp::0", image, &o, NULL), -EINVAL);
}

static void an_enum_has_a_last_value(void **state)
{
	(void)state;
	static const struct {
		enum gw__struct_id id;
		size_t off;
		unsigned last;
		const char *field;
	} v[] = {
#define ENUM(s, field, last) {GW__STRUCT_##s, offsetof(struct s, field), last, #s "." #field},
		GW__STRUCT_ENUMS(ENUM)};
	for (unsigned i = 0; i < GW__LEN(v); i++) {
		for (unsigned k = 0; k < 2; k++) {
			uint8_t *o = calloc(1, bytes[v[i].id]);
			const unsigned bad = k ? UINT_MAX : v[i].last + 1;
			memcpy(o, &bytes[v[i].id], sizeof bytes[0]);
			memcpy(o + v[i].off, &v[i].last, sizeof bad);
			assert_int_equal(gw__struct_check(v[i].id, o, NULL), 0);
			memcpy(o + v[i].off, &bad, sizeof bad);
			assert_int_equal(ask(v[i].id, o, 0), -EINVAL);
			if (v[i].id != GW__STRUCT_gw_guest_opts) /* which has nobody yet who could say it */
				assert_non_null(strstr(gw_job_error(job), v[i].field));
			free(o);
		}
	}
}

static const char *const headers[] = {"godwit.h", "godwit-unstable.h"};

static FILE *open_header(const char *header)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/include/%s", getenv("SRC"), header);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	return f;
}

static unsigned count_enums(FILE *f)
{
	static const char *const fields[] = {
#define ENUM_NAME(s, field, last) #s "." #field,
		GW__STRUCT_ENUMS(ENUM_NAME)};
	char line[4096], name[64] = "", type[64], field[64], full[160];
	unsigned found = 0;
	while (fgets(line, sizeof line, f)) {
		sscanf(line, "struct %63[a-z_0-9] {", name);
		if (sscanf(line, "\tenum %63[a-z_0-9] %63[a-z_0-9];", type, field) != 2)
			continue;
		for (unsigned id = 0; id < GW__STRUCTS_N; id++) {
			if (strcmp(names[id], name) || is_result[id])
				continue;
			snprintf(full, sizeof full, "%s.%s", name, field);
			unsigned i = 0;
			while (i < GW__LEN(fields) && strcmp(fields[i], full))
				i++;
			if (i == GW__LEN(fields))
				fail_msg("%s of the header is not in GW__STRUCT_ENUMS", full);
			found++;
		}
	}
	fclose(f);
	return found;
}

/* Every enum of a struct that the caller fills in is checked. */
static void every_enum_of_the_header_is_in_the_table(void **state)
{
	(void)state;
	static const unsigned rows[] = {
#define ENUM_ROW(s, field, last) last,
		GW__STRUCT_ENUMS(ENUM_ROW)};
	unsigned found = 0;
	for (unsigned i = 0; i < GW__LEN(headers); i++)
		found += count_enums(open_header(headers[i]));
	assert_int_equal(found, GW__LEN(rows));
}

static bool listed(const char *name)
{
	for (unsigned i = 0; i < GW__STRUCTS_N; i++)
		if (!strcmp(names[i], name))
			return true;
	for (unsigned i = 0; i < GW__LEN(given_to_callbacks); i++)
		if (!strcmp(given_to_callbacks[i], name))
			return true;
	return false;
}

static unsigned count_structs(FILE *f)
{
	char line[4096], name[64] = "";
	unsigned found = 0;
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "struct %63[a-z_0-9] {", name) == 1 && strchr(line, '{'))
			continue;
		if (*name && !strncmp(line, "\tsize_t size;", 13)) {
			if (!listed(name))
				fail_msg("struct %s of the header is not in GW__STRUCTS", name);
			found++;
		}
		*name = 0;
	}
	fclose(f);
	return found;
}

static void every_struct_of_the_header_is_in_the_table(void **state)
{
	(void)state;
	unsigned found = 0;
	for (unsigned i = 0; i < GW__LEN(headers); i++)
		found += count_structs(open_header(headers[i]));
	assert_int_equal(found, GW__STRUCTS_N + GW__LEN(given_to_callbacks));
}

static int set_up(void **state)
{
	(void)state;
	info = calloc(1, sizeof *info);
	return gw_job_new(&job) || !info;
}

static int tear_down(void **state)
{
	(void)state;
	gw_job_free(job);
	gw_info_free(info);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_forgotten_size_is_refused),
		cmocka_unit_test(a_field_of_the_future_is_refused),
		cmocka_unit_test(other_sizes_are_fine),
		cmocka_unit_test(arrays_have_a_stride),
		cmocka_unit_test(an_enum_has_a_last_value),
		cmocka_unit_test(every_enum_of_the_header_is_in_the_table),
		cmocka_unit_test(the_sentence_names_the_struct),
		cmocka_unit_test(every_struct_of_the_header_is_in_the_table),
	};
	return cmocka_run_group_tests_name("option structs", tests, set_up, tear_down);
}
