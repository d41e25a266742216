/* SPDX-License-Identifier: MIT */
/* Jobs of commands: signals, progress, trace, failures; see work.h. */
#include "cli/work.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};
static gw_job *volatile stop_job;
static volatile sig_atomic_t stop_signal;

static void on_stop(int number)
{
	stop_signal = number;
	for (unsigned i = 0; i < GW__LEN(stop_signals); i++)
		signal(stop_signals[i], SIG_DFL);
	if (stop_job)
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

static void trace(void *ctx, const char *name, const char *text) { gw__cli_say(0, "trace %s: %s", name, text); }

int gw__cli_work_begin(struct gw__cli_work *w, const struct gw__cli_common *c)
{
	*w = (struct gw__cli_work){.common = c};
	gw__cli_set_talk(c->quiet, c->verbose);
	gw__cli_progress_init(&w->progress, c);
	int rc = gw_job_new(&w->job);
	if (rc)
		return gw__cli_say(GW__EXIT_FAILED, "cannot start: %s", strerror(-rc));
	if (gw_job_page_size(w->job, c->page_bytes))
		return gw__cli_say(GW__EXIT_USAGE, "--page-size: %s", gw_job_error(w->job));
	gw_job_on_progress(w->job, gw__cli_progress_show, &w->progress);
	const char *want = getenv("GODWIT_TRACE");
	if (want && *want && strcmp(want, "0"))
		gw_job_on_trace(w->job, trace, NULL);
	stop_job = w->job;
	catch_signals();
	return GW__CLI_GO;
}

void gw__cli_work_end(struct gw__cli_work *w)
{
	const char *warning;
	gw__cli_progress_end(&w->progress);
	for (uint32_t i = 0; w->job && (warning = gw_job_warning(w->job, i)); i++)
		gw__cli_detail("warning: %s", warning);
	stop_job = NULL;
	gw_job_free(w->job);
	w->job = NULL;
}

int gw__cli_status_before(int rc) { return rc == -EOPNOTSUPP ? GW__EXIT_REFUSED : rc == -EINVAL ? GW__EXIT_USAGE : GW__EXIT_FAILED; }

char *gw__cli_working_set(const char *image)
{
	size_t n = strlen(image) + sizeof ".ws";
	char *path = malloc(n);
	if (path)
		snprintf(path, n, "%s.ws", image);
	return path;
}

int gw__cli_stopped(void) { return stop_signal; }

int gw__cli_failed(const struct gw__cli_common *c, int status, const char *fmt, ...)
{
	char text[2048];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	if (c->json)
		gw__cli_json(json_pack("{ss si so}", "event", "failed", "status", status, "message", gw__cli_json_text(text)));
	return gw__cli_say(status, "%s", text);
}

const char *gw__cli_work_why(const struct gw__cli_work *w)
{
	static char stopped[64];
	if (stop_signal) {
		snprintf(stopped, sizeof stopped, "stopped by SIG%s", sigabbrev_np(stop_signal));
		return stopped;
	}
	const char *why = gw_job_error(w->job);
	return *why ? why : "it failed without saying why";
}

int gw__cli_work_failed(struct gw__cli_work *w, int status, const char *state)
{
	return gw__cli_failed(w->common, status, "%s%s%s", gw__cli_work_why(w), state ? "; " : "", state ? state : "");
}
