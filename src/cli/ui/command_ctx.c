/* SPDX-License-Identifier: MIT */
/* Jobs of commands: signals, progress, trace, failures; see command_ctx.h. */
#include "cli/ui/command_ctx.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
static gw_job *volatile stop_job;
static gw_qemu *volatile stop_qemu; /* of that job */
static volatile sig_atomic_t stop_signal;

static const char *stop_reason(int number)
{
	return number == SIGINT ? "stopped by SIGINT" : number == SIGTERM ? "stopped by SIGTERM" : "stopped by SIGHUP";
}

static void on_stop(int number)
{
	stop_signal = number;
	for (unsigned i = 0; i < GW__LEN(stop_signals); i++)
		signal(stop_signals[i], SIG_DFL);
	if (stop_qemu)
		gw_qemu_cancel(stop_qemu, stop_reason(number));
	else if (stop_job)
		gw_job_cancel(stop_job);
}

static void catch_signals(void)
{
	for (unsigned i = 0; i < GW__LEN(stop_signals); i++) {
		struct sigaction now, a = {.sa_handler = on_stop}; /* no SA_RESTART: whoever waits shall look */
		sigemptyset(&a.sa_mask);
		if (sigaction(stop_signals[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN) /* nohup's wish */
			sigaction(stop_signals[i], &a, NULL);
	}
}

static void trace(void *ctx, const char *name, const char *text) { gw__ui_error(0, "trace %s: %s", name, text); }

int gw__command_ctx_begin(struct gw__command_ctx *w, const struct gw__cli_common *c)
{
	*w = (struct gw__command_ctx){.common = c};
	gw__ui_set_verbosity(c->quiet, c->verbose);
	gw__cli_progress_init(&w->progress, c);
	int rc = gw_job_new(&w->job);
	if (rc)
		return gw__ui_error(GW__EXIT_FAILED, "cannot start: %s", strerror(-rc));
	if (gw_job_page_size(w->job, c->page_bytes)) {
		gw__ui_error(0, "--page-size: %s", gw_job_error(w->job));
		gw_job_free(w->job);
		w->job = NULL;
		return GW__EXIT_USAGE;
	}
	gw_job_on_progress(w->job, gw__cli_progress_show, &w->progress);
	const char *want = getenv("GODWIT_TRACE");
	if (want && *want && strcmp(want, "0"))
		gw_job_on_trace(w->job, trace, NULL);
	stop_job = w->job;
	catch_signals();
	return GW__CLI_GO;
}

static void on_log(void *ctx, enum gw_qemu_log_level level, const char *text)
{
	(void)ctx;
	if (level == GW_QEMU_LOG_WARNING)
		gw__ui_error(0, "%s", text);
	else if (level == GW_QEMU_LOG_NOTE)
		gw__ui_info("%s", text);
	else
		gw__ui_verbose("%s", text);
}

int gw__command_ctx_drive(struct gw__command_ctx *w)
{
	int rc = gw_qemu_new(w->job, &w->qemu);
	if (rc)
		return gw__ui_error(GW__EXIT_FAILED, "cannot start: %s", strerror(-rc));
	gw_qemu_on_log(w->qemu, on_log, NULL);
	stop_qemu = w->qemu;
	if (stop_signal) /* it came in between */
		gw_qemu_cancel(w->qemu, stop_reason(stop_signal));
	return GW__CLI_GO;
}

const char *gw__command_qemu_error(struct gw__command_ctx *w)
{
	static const char *const words[] = {[GW_QEMU_HINT_NONE] = "",
		[GW_QEMU_HINT_AT_END] = "; leave out --at start",
		[GW_QEMU_HINT_NO_POSTCOPY] = "; leave out --postcopy",
		[GW_QEMU_HINT_OTHER_WORK] = "; resume that work: godwit receive --resume, godwit save --postcopy --resume, godwit drain",
		[GW_QEMU_HINT_SAVE_RESUME] = "; godwit save --postcopy --resume shows whether the image has it",
		[GW_QEMU_HINT_SERVE] = "; godwit serve sends pages to it",
		[GW_QEMU_HINT_SEND] = "; or let it listen, and use godwit send",
		[GW_QEMU_HINT_CONVERT] = "; godwit convert makes an image of it",
		[GW_QEMU_HINT_NOT_LAZY] = "; godwit restore without --lazy loads it",
		[GW_QEMU_HINT_NOT_CLONE] = "; godwit restore without --clone loads it",
		[GW_QEMU_HINT_NOT_RESUME_ONLY] = ", so there is nothing to --resume",
		[GW_QEMU_HINT_FIXED_PORT] = "; give one: --listen tcp:HOST:PORT",
		[GW_QEMU_HINT_NO_PREEMPT] = "; leave --preempt out",
		[GW_QEMU_HINT_TLS] = ": give --tls-creds",
		[GW_QEMU_HINT_NO_TLS] = ": leave --tls-creds out",
		[GW_QEMU_HINT_TLS_HOSTNAME] = ": give --tls-hostname",
		[GW_QEMU_HINT_PROTECT_NAME] = ": give --name, as at the standby",
		[GW_QEMU_HINT_STANDBY_NAME] = "; start the standby with --name, and give its folder with --dir",
		[GW_QEMU_HINT_PROTECT_STOP] = ": godwit protect --stop ends that",
		[GW_QEMU_HINT_MEMORY_ONLY] = ". Give --memory-only if the disks need no protection",
		[GW_QEMU_HINT_FENCE] = ". Give --fence=exec:CMD, which ends that host, or --accept-split-brain",
		[GW_QEMU_HINT_PRIMARY_IS_DEAD] = ". Make sure that it is dead, then give --primary-is-dead",
		[GW_QEMU_HINT_DISKS] = ". Give --disks if the standby keeps them, or leave it out with --unprotected-disk",
		[GW_QEMU_HINT_NO_OUTPUT_COMMIT] = ". Give --no-output-commit if packets may leave immediately"};
	unsigned hint = (unsigned)gw_qemu_hint(w->qemu);
	snprintf(w->error, sizeof w->error, "%s%s", gw_qemu_error(w->qemu), hint < GW__LEN(words) ? words[hint] : "");
	return w->error;
}

void gw__command_ctx_end(struct gw__command_ctx *w)
{
	const char *warning;
	gw__cli_progress_end(&w->progress);
	for (uint32_t i = 0; w->job && (warning = gw_job_warning(w->job, i)); i++)
		gw__ui_verbose("warning: %s", warning);
	stop_qemu = NULL;
	stop_job = NULL;
	gw_qemu_free(w->qemu);
	w->qemu = NULL;
	gw_job_free(w->job);
	w->job = NULL;
}

void gw__cli_raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit); /* where that is refused, fewer connections find a place */
}

int gw__cli_status_before(int rc) { return rc == -EOPNOTSUPP ? GW__EXIT_REFUSED : rc == -EINVAL ? GW__EXIT_USAGE : GW__EXIT_FAILED; }

char *gw__working_set_path(const char *image)
{
	size_t n = strlen(image) + sizeof ".ws";
	char *path = malloc(n);
	if (path)
		snprintf(path, n, "%s.ws", image);
	return path;
}

int gw__cli_stopped(void) { return stop_signal; }

json_t *gw__cli_json_at(json_t *object, const struct gw_outcome *o)
{
	if (!o->message) /* the call refused its structs: there is no outcome */
		return object;
	json_object_set_new(object, "place", json_string(gw_place_name(o->place)));
	json_object_set_new(object, "next_step", json_string(gw_next_step_name(o->next_step)));
	json_object_set_new(object, "message_id", json_string(o->message));
	if (o->missing_pages)
		json_object_set_new(object, "missing_pages", gw__cli_json_size(o->missing_pages));
	return object;
}

static json_t *failed_event(int status, const char *text)
{
	return json_pack("{ss si so}", "event", "failed", "status", status, "message", gw__cli_json_text(text));
}

int gw__cli_failed(const struct gw__cli_common *c, int status, const char *fmt, ...)
{
	char text[2048];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	if (c->json)
		gw__cli_json(failed_event(status, text));
	return gw__ui_error(status, "%s", text);
}

int gw__cli_failed_at(const struct gw__cli_common *c, const struct gw_outcome *o, const char *fmt, ...)
{
	char text[2048];
	int status = o->message ? (int)o->exit_status : GW__EXIT_FAILED;
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	if (c->json)
		gw__cli_json(gw__cli_json_at(failed_event(status, text), o));
	return gw__ui_error(status, "%s", text);
}

const char *gw__command_error(const struct gw__command_ctx *w)
{
	if (stop_signal)
		return stop_reason(stop_signal);
	const char *error = gw_job_error(w->job);
	return *error ? error : "it failed without a reason";
}

int gw__command_ctx_failed(struct gw__command_ctx *w, int status, const char *state)
{
	return gw__cli_failed(w->common, status, "%s%s%s", gw__command_error(w), state ? "; " : "", state ? state : "");
}

int gw__command_ctx_failed_at(struct gw__command_ctx *w, const struct gw_outcome *outcome, const char *state)
{
	return gw__cli_failed_at(w->common, outcome, "%s%s%s", gw__command_error(w), state ? "; " : "", state ? state : "");
}
