/* SPDX-License-Identifier: MIT */
/*
 * Every function of godwit.h in every state of a job, with every pointer missing: what it answers is a table, and whatever it answers, the call
 * that runs meanwhile goes on. The rows are held against include/godwit.h.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <godwit.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/math.h"

enum state {
	NEW,
	ARMED,     /* gw_job_start came */
	RUNS,      /* a call that was started */
	ENDED,     /* it has ended, and was not waited for */
	CALLBACK,  /* in a callback of a call that blocks */
	CANCELLED, /* and not reset */
	FAILED,    /* a call came before, and failed */
	NO_JOB,
	STATES
};
static const char *const state_names[] = {"new", "armed", "runs", "ended", "callback", "cancelled", "failed", "no job"};

enum { FAILS = 1000 /* a failure that has nothing to do with the state */, ALWAYS /* as in NEW */, NOT_NEGATIVE };

/* What functions of a kind answer in each state. */
enum kind { CALL, SETTING, START, WAIT, NEXT, ANSWER, DESCRIPTOR, READ, OUTCOME, PURE, KINDS };
static const int answers[KINDS][STATES] = {
	[CALL] = {FAILS, 0, -EBUSY, -EBUSY, -EBUSY, -ECANCELED, FAILS, -EINVAL},
	[SETTING] = {0, 0, -EBUSY, -EBUSY, -EBUSY, 0, 0, -EINVAL},
	[START] = {0, -EALREADY, -EBUSY, -EBUSY, -EBUSY, 0, 0, -EINVAL},
	[WAIT] = {-ESRCH, -ESRCH, -EAGAIN, 0, -ESRCH, -ESRCH, -ESRCH, -EINVAL},
	[NEXT] = {-EAGAIN, -EAGAIN, 0, 0, -EAGAIN, -EAGAIN, -EAGAIN, -EINVAL},
	[ANSWER] = {-ESRCH, -ESRCH, -ESRCH, -ESRCH, -ESRCH, -ESRCH, -ESRCH, -EINVAL},
	[DESCRIPTOR] = {NOT_NEGATIVE, NOT_NEGATIVE, NOT_NEGATIVE, NOT_NEGATIVE, NOT_NEGATIVE, NOT_NEGATIVE, NOT_NEGATIVE, -EINVAL},
	[READ] = {0, 0, 0, 0, 0, 0, 0, -EINVAL},
	[OUTCOME] = {0, 0, -EBUSY, 0, 0, 0, 0, -EINVAL},
	[PURE] = {NOT_NEGATIVE, ALWAYS, ALWAYS, ALWAYS, ALWAYS, ALWAYS, ALWAYS, ALWAYS},
};

static const char path[] = "/nonexistent/image", uri[] = "tcp:host", *const none[] = {NULL};
static gw_info *info;
static struct gw_progress progress = GW_INIT(progress);
static struct gw_event event = GW_INIT(event);
static struct gw_partial_info partial = GW_INIT(partial);
static struct gw_uri parsed = GW_INIT(parsed);
static struct gw_info_summary summary = GW_INIT(summary);
static struct gw_info_block block = GW_INIT(block);
static struct gw_info_device device = GW_INIT(device);
static struct gw_info_pages pages = GW_INIT(pages);
static struct gw_info_working_set working_set = GW_INIT(working_set);
static struct gw_destination destination = GW_INIT(destination);
static struct gw_restore_plan restore_plan = GW_INIT(restore_plan);
static struct gw_run_state_plan run_state_plan = GW_INIT(run_state_plan);
static struct gw_outcome outcome = GW_INIT(outcome);
static struct gw_rule rule = GW_INIT(rule);
static void *note;
static size_t note_bytes;
static int result;

static char folder[] = "/tmp/godwit-misuse-XXXXXX", target[64]; /* of calls that come so far */

static int make_folder(void **unused)
{
	(void)unused;
	if (!mkdtemp(folder))
		return -1;
	snprintf(target, sizeof target, "%s/image", folder);
	return 0;
}

static int remove_folder(void **unused)
{
	(void)unused;
	return rmdir(folder); /* nothing may be left in it */
}

static int a_descriptor(void)
{
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	close(pair[1]);
	return pair[0];
}

static uint64_t epoch;

static void on_epoch(void *ctx, const struct gw_epoch *e) { (void)ctx, (void)e; }

static struct gw_info_field field = GW_INIT(field);

static int is_there(const char *text) { return text ? 0 : -ENOENT; }

/* Functions without a result that says something: what they did is seen in the others. */
static int done(void) { return 0; }

#define ROWS(X)                                                                                                                            \
	X(gw_receive, CALL, gw_receive(job, uri, path, NULL, NULL))                                                                        \
	X(gw_receive_fd, CALL, gw_receive_fd(job, a_descriptor(), path, NULL, NULL))                                                       \
	X(gw_receive_file, CALL, gw_receive_file(job, path, NULL, NULL))                                                                   \
	X(gw_partial_info, CALL, gw_partial_info(job, path, &partial))                                                                     \
	X(gw_partial_user_data, CALL, gw_partial_user_data(job, path, &note, &note_bytes))                                                 \
	X(gw_partial_drop, CALL, gw_partial_drop(job, path))                                                                               \
	X(gw_drain, CALL, gw_drain(job, uri, path, NULL, NULL))                                                                            \
	X(gw_drain_fd, CALL, gw_drain_fd(job, a_descriptor(), path, NULL, NULL))                                                           \
	X(gw_source_rollback, CALL, gw_source_rollback(job, uri, NULL))                                                                    \
	X(gw_partial_source_rollback, CALL, gw_partial_source_rollback(job, uri, path, NULL))                                              \
	X(gw_send, CALL, gw_send(job, path, uri, NULL))                                                                                    \
	X(gw_send_fd, CALL, gw_send_fd(job, path, a_descriptor(), NULL))                                                                   \
	X(gw_serve, CALL, gw_serve(job, path, uri, NULL, NULL))                                                                            \
	X(gw_serve_fd, CALL, gw_serve_fd(job, path, a_descriptor(), NULL, NULL))                                                           \
	X(gw_proxy, CALL, gw_proxy(job, uri, uri, NULL, NULL))                                                                             \
	X(gw_inspect, CALL, gw_inspect(job, path, NULL, &info))                                                                            \
	X(gw_compare, CALL, gw_compare(job, path, path, NULL, NULL))                                                                       \
	X(gw_convert, CALL, gw_convert(job, path, path, NULL))                                                                             \
	X(gw_standby, CALL, gw_standby(job, uri, path, NULL))                                                                              \
	X(gw_standby_recover, CALL, gw_standby_recover(job, path, &epoch))                                                                 \
	X(gw_standby_history, CALL, gw_standby_history(job, path, on_epoch, NULL))                                                         \
	X(gw_standby_export, CALL, gw_standby_export(job, path, 1, path))                                                                  \
	X(gw_job_page_size, SETTING, gw_job_page_size(job, 4096))                                                                          \
	X(gw_job_usual_page_size, SETTING, gw_job_usual_page_size(job, 4096))                                                              \
	X(gw_job_on_progress, SETTING, gw_job_on_progress(job, NULL, NULL))                                                                \
	X(gw_job_on_trace, SETTING, gw_job_on_trace(job, NULL, NULL))                                                                      \
	X(gw_job_reset, SETTING, gw_job_reset(job))                                                                                        \
	X(gw_job_start, START, gw_job_start(job, NULL))                                                                                    \
	X(gw_job_wait, WAIT, gw_job_wait(job, 0, &result))                                                                                 \
	X(gw_job_next_event, NEXT, gw_job_next_event(job, &event))                                                                         \
	X(gw_job_answer, ANSWER, gw_job_answer(job, 0))                                                                                    \
	X(gw_job_fd, DESCRIPTOR, gw_job_fd(job))                                                                                           \
	X(gw_job_progress, READ, gw_job_progress(job, &progress))                                                                          \
	X(gw_job_outcome, OUTCOME, gw_job_outcome(job, &outcome))                                                                          \
	X(gw_place_name, PURE, is_there(gw_place_name(0)))                                                                                 \
	X(gw_next_step_name, PURE, is_there(gw_next_step_name(0)))                                                                         \
	X(gw_outcome_at, PURE, gw_outcome_at(&outcome, GW_PLACE_SPLIT))                                                                    \
	X(gw_outcome_note, PURE, gw_outcome_note(&outcome, GW_EVIDENCE_REFUSED))                                                           \
	X(gw_job_error, PURE, is_there(gw_job_error(job)))                                                                                 \
	X(gw_job_warning, PURE, is_there(gw_job_warning(job, 0)) ? 0 : 1)                                                                  \
	X(gw_version, PURE, is_there(gw_version()))                                                                                        \
	X(gw_version_check, PURE, gw_version_check(0, 2, 0))                                                                               \
	X(gw_migration_state_name, PURE, is_there(gw_migration_state_name(0)))                                                             \
	X(gw_run_state_name, PURE, is_there(gw_run_state_name(0)))                                                                         \
	X(gw_run_state_find, PURE, (int)gw_run_state_find("paused"))                                                                       \
	X(gw_uri_parse, PURE, gw_uri_parse("fd:1", &parsed))                                                                               \
	X(gw_info_free, PURE, (gw_info_free(NULL), done()))                                                                                \
	X(gw_info_summary, PURE, -gw_info_summary(NULL, &summary))                                                                         \
	X(gw_info_capability, PURE, -is_there(gw_info_capability(NULL, 0)))                                                                \
	X(gw_info_warning, PURE, -is_there(gw_info_warning(NULL, 0)))                                                                      \
	X(gw_info_block, PURE, -gw_info_block(NULL, 0, &block))                                                                            \
	X(gw_info_pages, PURE, -gw_info_pages(NULL, 0, 0, 1, &pages))                                                                      \
	X(gw_info_difference, PURE, -is_there(gw_info_difference(NULL, 0)))                                                                \
	X(gw_info_working_set, PURE, -gw_info_working_set(NULL, &working_set))                                                             \
	X(gw_info_device, PURE, -gw_info_device(NULL, 0, &device))                                                                         \
	X(gw_info_field, PURE, -gw_info_field(NULL, 0, 0, &field))                                                                         \
	X(gw_plan_restore, PURE, -gw_plan_restore(NULL, &destination, &restore_plan))                                                      \
	X(gw_plan_run_state, PURE, gw_plan_run_state(GW_RUN_STATE_PAUSED, 1000, false, &run_state_plan))                                   \
	X(gw_plan_operation, PURE, is_there(gw_plan_operation(0)))                                                                         \
	X(gw_plan_ability, PURE, is_there(gw_plan_ability(0)))                                                                             \
	X(gw_plan_rule, PURE, gw_plan_rule(0, &rule))                                                                                      \
	X(gw_plan_combination, PURE, gw_plan_combination(GW_OPERATION_SEND, none, 0, &rule))

/* Of these each state has a test of its own: test_started.c, and below. */
static const char *const elsewhere[] = {"gw_job_new", "gw_job_free", "gw_job_cancel"};

#define FUNCTION(name, kind, expression)                                                                                                   \
	static int call_##name(gw_job *job)                                                                                                \
	{                                                                                                                                  \
		(void)job;                                                                                                                 \
		return expression;                                                                                                         \
	}
ROWS(FUNCTION)

static const struct row {
	const char *name;
	enum kind kind;
	int (*call)(gw_job *job);
} rows[] = {
#define ROW(name, kind, expression) {#name, kind, call_##name},
	ROWS(ROW)};

/* --- a job in a state --- */

static int source[2]; /* the one of the call that runs: silent, until it is closed */

static void begin_call(gw_job *job)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, source), 0);
	assert_int_equal(gw_job_start(job, NULL), 0);
	assert_int_equal(gw_receive_fd(job, source[1], target, NULL, NULL), 0);
}

static void wait_for_event(gw_job *job)
{
	struct pollfd p = {.fd = gw_job_fd(job), .events = POLLIN};
	assert_int_equal(poll(&p, 1, 20000), 1);
}

/* As a call that nobody disturbed ends when its source goes away. */
static void end_call(gw_job *job)
{
	close(source[0]);
	result = 0;
	assert_int_equal(gw_job_wait(job, 20000, &result), 0);
	assert_true(result == -ECONNRESET || result == -EPROTO);
	assert_string_not_equal(gw_job_error(job), "");
}

static gw_job *in_state(enum state state)
{
	gw_job *job = NULL;
	if (state == NO_JOB)
		return NULL;
	assert_int_equal(gw_job_new(&job), 0);
	if (state == ARMED)
		assert_int_equal(gw_job_start(job, NULL), 0);
	if (state == RUNS || state == ENDED)
		begin_call(job);
	if (state == ENDED) {
		struct gw_event e = GW_INIT(e);
		close(source[0]);
		for (; e.kind != GW_EVENT_DONE; wait_for_event(job))
			gw_job_next_event(job, &e);
	}
	if (state == CANCELLED)
		gw_job_cancel(job);
	if (state == FAILED)
		assert_int_equal(gw_inspect(job, path, NULL, &info), -ENOENT);
	return job;
}

static const struct row *asked;
static int answered;

static int on_ready(void *ctx)
{
	answered = asked->call(ctx);
	return -EREMCHG; /* which ends the call: nothing else did */
}

static int ask_in_callback(const struct row *row)
{
	struct gw_receive_opts o = GW_INIT(o);
	gw_job *job = in_state(NEW);
	o.on_ready = on_ready;
	o.ctx = job;
	asked = row;
	assert_int_equal(gw_receive(job, "file:/nonexistent/stream", target, &o, NULL), -EREMCHG);
	gw_job_free(job);
	return answered;
}

static int ask(const struct row *row, enum state state)
{
	if (state == CALLBACK)
		return ask_in_callback(row);
	gw_job *job = in_state(state);
	int r = row->call(job);
	if (state == ARMED && row->kind == CALL && !r) {
		assert_int_equal(gw_job_wait(job, 20000, &result), 0);
		assert_true(result < 0);
		assert_string_not_equal(gw_job_error(job), "");
	}
	if (state == RUNS)
		end_call(job);
	gw_job_free(job);
	return r;
}

static void every_call_in_every_state(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < GW__LEN(rows); i++) {
		int first = 0;
		for (enum state state = NEW; state < STATES; state++) {
			int wanted = answers[rows[i].kind][state], r = ask(&rows[i], state);
			first = state == NEW ? r : first;
			bool good = wanted == FAILS          ? r < 0 && r != -EBUSY && r != -ECANCELED
				    : wanted == ALWAYS       ? r == first
				    : wanted == NOT_NEGATIVE ? r >= 0
							     : r == wanted;
			if (rows[i].kind == NEXT && (state == ENDED || state == RUNS))
				good = r == 0 || r == -EAGAIN;
			if (!good)
				fail_msg("%s, %s: %d, expected %d", rows[i].name, state_names[state], r, wanted);
		}
	}
}

/* --- missing pointers --- */

#define LACKING(X)                                                                                                                         \
	X("uri", gw_receive(job, NULL, path, NULL, NULL))                                                                                  \
	X("path", gw_receive(job, uri, NULL, NULL, NULL))                                                                                  \
	X("path", gw_receive_fd(job, a_descriptor(), NULL, NULL, NULL))                                                                    \
	X("path", gw_receive_file(job, NULL, NULL, NULL))                                                                                  \
	X("on_file", gw_receive_file(job, path, NULL, NULL))                                                                               \
	X("path", gw_partial_info(job, NULL, &partial))                                                                                    \
	X("info", gw_partial_info(job, path, NULL))                                                                                        \
	X("path", gw_partial_user_data(job, NULL, &note, &note_bytes))                                                                     \
	X("note", gw_partial_user_data(job, path, NULL, &note_bytes))                                                                      \
	X("note_bytes", gw_partial_user_data(job, path, &note, NULL))                                                                      \
	X("path", gw_partial_drop(job, NULL))                                                                                              \
	X("uri", gw_drain(job, NULL, path, NULL, NULL))                                                                                    \
	X("path", gw_drain(job, uri, NULL, NULL, NULL))                                                                                    \
	X("path", gw_drain_fd(job, a_descriptor(), NULL, NULL, NULL))                                                                      \
	X("uri", gw_source_rollback(job, NULL, NULL))                                                                                      \
	X("uri", gw_partial_source_rollback(job, NULL, path, NULL))                                                                        \
	X("path", gw_partial_source_rollback(job, uri, NULL, NULL))                                                                        \
	X("path", gw_send(job, NULL, uri, NULL))                                                                                           \
	X("uri", gw_send(job, path, NULL, NULL))                                                                                           \
	X("path", gw_send_fd(job, NULL, a_descriptor(), NULL))                                                                             \
	X("path", gw_serve(job, NULL, uri, NULL, NULL))                                                                                    \
	X("uri", gw_serve(job, path, NULL, NULL, NULL))                                                                                    \
	X("path", gw_serve_fd(job, NULL, a_descriptor(), NULL, NULL))                                                                      \
	X("listen_uri", gw_proxy(job, NULL, uri, NULL, NULL))                                                                              \
	X("connect_uri", gw_proxy(job, uri, NULL, NULL, NULL))                                                                             \
	X("path", gw_inspect(job, NULL, NULL, &info))                                                                                      \
	X("info", gw_inspect(job, path, NULL, NULL))                                                                                       \
	X("a", gw_compare(job, NULL, path, NULL, NULL))                                                                                    \
	X("b", gw_compare(job, path, NULL, NULL, NULL))                                                                                    \
	X("from", gw_convert(job, NULL, path, NULL))                                                                                       \
	X("to", gw_convert(job, path, NULL, NULL))                                                                                         \
	X("uri", gw_standby(job, NULL, path, NULL))                                                                                        \
	X("dir", gw_standby(job, uri, NULL, NULL))                                                                                         \
	X("dir", gw_standby_recover(job, NULL, &epoch))                                                                                    \
	X("epoch", gw_standby_recover(job, path, NULL))                                                                                    \
	X("image", gw_standby_history(job, NULL, on_epoch, NULL))                                                                          \
	X("on_epoch", gw_standby_history(job, path, NULL, NULL))                                                                           \
	X("image", gw_standby_export(job, NULL, 1, path))                                                                                  \
	X("to", gw_standby_export(job, path, 1, NULL))                                                                                     \
	X("", gw_job_wait(job, 0, NULL))                                                                                                   \
	X("", gw_job_next_event(job, NULL))                                                                                                \
	X("", gw_job_progress(job, NULL))                                                                                                  \
	X("", gw_job_outcome(job, NULL))                                                                                                   \
	X("", gw_outcome_at(NULL, GW_PLACE_SPLIT))                                                                                         \
	X("", gw_outcome_note(NULL, GW_EVIDENCE_REFUSED))                                                                                  \
	X("", gw_job_new(NULL))                                                                                                            \
	X("", gw_uri_parse(NULL, &parsed))                                                                                                 \
	X("", gw_uri_parse(uri, NULL))                                                                                                     \
	X("", gw_plan_run_state((enum gw_run_state)99, 1000, false, &run_state_plan))                                                      \
	X("", gw_plan_run_state(GW_RUN_STATE_PAUSED, 1000, false, NULL))                                                                   \
	X("", gw_plan_rule(0, NULL))                                                                                                       \
	X("", gw_plan_combination(GW_OPERATION_SEND, NULL, 0, &rule))

static void every_pointer_that_is_missing(void **unused)
{
	(void)unused;
	gw_job *job = in_state(NEW);
#define CHECK(arg, expression)                                                                                                             \
	do {                                                                                                                               \
		int r = expression;                                                                                                        \
		if (r != -EINVAL || (*(arg) && strcmp(gw_job_error(job), arg " is NULL")))                                                 \
			fail_msg("%s: %d, \"%s\"", #expression, r, gw_job_error(job));                                                     \
	} while (0);
	LACKING(CHECK)
	gw_job_free(job);
	gw_job_free(NULL);
	gw_job_cancel(NULL);
}

/* --- the table --- */

static bool listed(const char *name)
{
	for (unsigned i = 0; i < GW__LEN(rows); i++)
		if (!strcmp(rows[i].name, name))
			return true;
	for (unsigned i = 0; i < GW__LEN(elsewhere); i++)
		if (!strcmp(elsewhere[i], name))
			return true;
	return false;
}

static void every_function_of_the_header_has_a_row(void **unused)
{
	(void)unused;
	char file[4096], line[4096], name[64];
	unsigned found = 0;
	snprintf(file, sizeof file, "%s/include/godwit.h", getenv("SRC"));
	FILE *f = fopen(file, "re");
	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		const char *paren = strchr(line, '('), *at = paren;
		if (strncmp(line, "GW_API ", 7) || !paren)
			continue;
		while (at > line && (at[-1] == '_' || (at[-1] >= 'a' && at[-1] <= 'z')))
			at--;
		snprintf(name, sizeof name, "%.*s", (int)(paren - at), at);
		if (!listed(name))
			fail_msg("%s of godwit.h has no row here", name);
		found++;
	}
	fclose(f);
	assert_int_equal(found, GW__LEN(rows) + GW__LEN(elsewhere));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_in_every_state),
		cmocka_unit_test(every_pointer_that_is_missing),
		cmocka_unit_test(every_function_of_the_header_has_a_row),
	};
	return cmocka_run_group_tests_name("misuse", tests, make_folder, remove_folder);
}
