/* SPDX-License-Identifier: MIT */
/* Progress bar, lines and events; see progress.h. */
#include "cli/ui/progress.h"

#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/ui/output.h"

enum { BAR_COLUMNS = 24, LINE_MAX_BYTES = 512 };
#define NS_PER_S UINT64_C(1000000000)

/* An estimate for the bar only: pages are counted in the guest's page size, which is this on x86. */
#define PAGE_ESTIMATE_BYTES UINT64_C(4096)

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

const char *gw__cli_phase_name(enum gw_phase phase)
{
	static const char *const names[] = {"waiting", "ram", "devices", "sync", "done"};
	return (unsigned)phase < GW__LEN(names) ? names[phase] : "unknown";
}

void gw__cli_progress_init(struct gw__cli_progress *p, const struct gw__cli_common *c)
{
	*p = (struct gw__cli_progress){.fd = c->progress_fd, .json = c->json, .last_phase = -1, .start_ns = now_ns()};
	p->sample[p->samples++].at_ns = p->start_ns;
	p->bar = !c->quiet && isatty(STDERR_FILENO);
}

void gw__cli_progress_hook(struct gw__cli_progress *p, gw__cli_extra_fn *fn, void *ctx)
{
	p->extra = fn;
	p->extra_ctx = ctx;
}

/* Bytes per second over the samples kept; the first of all is the start. */
static uint64_t rate(struct gw__cli_progress *p, uint64_t bytes)
{
	uint64_t at = now_ns();
	unsigned oldest = p->samples < GW__CLI_SAMPLES ? 0 : p->samples % GW__CLI_SAMPLES;
	uint64_t from_ns = p->sample[oldest].at_ns, from_bytes = p->sample[oldest].bytes;
	p->sample[p->samples % GW__CLI_SAMPLES].at_ns = at;
	p->sample[p->samples % GW__CLI_SAMPLES].bytes = bytes;
	p->samples++;
	if (at <= from_ns || bytes < from_bytes)
		return 0;
	return (uint64_t)((double)(bytes - from_bytes) * 1e9 / (double)(at - from_ns));
}

/* A whole line, or nothing when the reader does not keep up: a pipe that polls writable takes PIPE_BUF bytes
 * in one write. */
static void put_line(struct gw__cli_progress *p, const char *line)
{
	struct pollfd f = {.fd = p->fd, .events = POLLOUT};
	if (p->fd < 0 || poll(&f, 1, 0) != 1)
		return;
	if (f.revents & (POLLERR | POLLNVAL) || write(p->fd, line, strlen(line)) < 0)
		p->fd = -1; /* nobody reads any more */
}

void gw__cli_progress_line(struct gw__cli_progress *p, const char *fmt, ...)
{
	char text[PIPE_BUF - 4], line[PIPE_BUF];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	size_t n = gw__cli_filter(line, sizeof line - 1, text);
	memcpy(line + n, "\n", 2);
	put_line(p, line);
}

static void show_line(struct gw__cli_progress *p, const struct gw_progress *now, uint64_t rate_bytes, const struct gw__cli_extra *x)
{
	char more[96] = "";
	if (x->known)
		snprintf(more, sizeof more, " remaining=%ju dirty=%ju", (uintmax_t)x->remaining_bytes, (uintmax_t)x->dirty_bytes_per_s);
	gw__cli_progress_line(p, "progress phase=%s bytes=%ju total=%ju pages=%ju zero=%ju rate=%ju rounds=%u%s",
		gw__cli_phase_name(now->phase), (uintmax_t)now->moved_bytes, (uintmax_t)now->ram_bytes, (uintmax_t)now->pages,
		(uintmax_t)now->zero_pages, (uintmax_t)rate_bytes, now->rounds, more);
}

static void show_json(struct gw__cli_progress *p, const struct gw_progress *now, uint64_t rate_bytes, const struct gw__cli_extra *x)
{
	uint64_t at = now_ns();
	if ((int)now->phase == p->last_phase && at < p->next_json_ns)
		return;
	p->next_json_ns = at + NS_PER_S;
	json_t *o = json_pack("{ss ss so so so so so si}", "event", "progress", "phase", gw__cli_phase_name(now->phase), "bytes",
		gw__cli_json_size(now->moved_bytes), "total", gw__cli_json_size(now->ram_bytes), "pages", gw__cli_json_size(now->pages),
		"zero_pages", gw__cli_json_size(now->zero_pages), "rate", gw__cli_json_size(rate_bytes), "rounds", (int)now->rounds);
	if (x->known) {
		json_object_set_new(o, "remaining", gw__cli_json_size(x->remaining_bytes));
		json_object_set_new(o, "dirty_rate", gw__cli_json_size(x->dirty_bytes_per_s));
	}
	gw__cli_json(o);
}

/* Time to the end, when it can be known: from the monitor's figures, or in the first pass over memory. */
static void estimate(char *to, size_t to_bytes, const struct gw_progress *now, double done, uint64_t elapsed_ns, uint64_t rate_bytes,
	const struct gw__cli_extra *x)
{
	double left_s = -1;
	if (x->known && rate_bytes > x->dirty_bytes_per_s)
		left_s = (double)x->remaining_bytes / (double)(rate_bytes - x->dirty_bytes_per_s);
	else if (!x->known && now->rounds == 0 && done > 0.02)
		left_s = (double)elapsed_ns / 1e9 * (1 - done) / done;
	if (left_s < 0 || left_s > 359999)
		return;
	unsigned s = (unsigned)(left_s + 0.5);
	if (s < 3600)
		snprintf(to, to_bytes, ", %u:%02u left", s / 60, s % 60);
	else
		snprintf(to, to_bytes, ", %u:%02u:%02u left", s / 3600, s / 60 % 60, s % 60);
}

static unsigned terminal_columns(void)
{
	struct winsize w;
	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

static void show_bar(struct gw__cli_progress *p, const struct gw_progress *now, uint64_t rate_bytes, const struct gw__cli_extra *x)
{
	char line[LINE_MAX_BYTES], bar[BAR_COLUMNS + 1], left[32] = "", dirty[64] = "", round[32] = "";
	if (now->phase == GW_PHASE_WAITING || now->phase == GW_PHASE_DONE || !now->ram_bytes) {
		gw__ui_progress_line(NULL);
		return;
	}
	double done = (double)((now->pages + now->zero_pages) * PAGE_ESTIMATE_BYTES) / (double)now->ram_bytes;
	done = done > 1 || now->phase > GW_PHASE_RAM ? 1 : done;
	for (int i = 0; i < BAR_COLUMNS; i++)
		bar[i] = i < (int)(done * BAR_COLUMNS) ? '#' : '.';
	bar[BAR_COLUMNS] = 0;
	if (now->phase == GW_PHASE_RAM)
		estimate(left, sizeof left, now, done, now_ns() - p->start_ns, rate_bytes, x);
	if (x->known)
		snprintf(dirty, sizeof dirty, ", guest writes %s/s", GW__SIZE(x->dirty_bytes_per_s));
	if (now->rounds)
		snprintf(round, sizeof round, ", round %u", now->rounds + 1);
	snprintf(line, sizeof line, "%-7s [%s] %3d%%  %s moved, %s/s%s%s%s%s%s", gw__cli_phase_name(now->phase), bar, (int)(done * 100),
		GW__SIZE(now->moved_bytes), GW__SIZE(rate_bytes), left, round, dirty, *x->text ? ", " : "", x->text);
	unsigned columns = terminal_columns() - 1;
	line[columns < sizeof line ? columns : sizeof line - 1] = 0;
	gw__ui_progress_line(line);
}

void gw__cli_progress_show(void *ctx, const struct gw_progress *now)
{
	struct gw__cli_progress *p = ctx;
	struct gw__cli_extra x = {0};
	if (!p->bar && !p->json && p->fd < 0)
		return;
	if (p->extra)
		p->extra(p->extra_ctx, &x);
	uint64_t r = rate(p, now->moved_bytes);
	if (p->fd >= 0)
		show_line(p, now, r, &x);
	if (p->json)
		show_json(p, now, r, &x);
	if (p->bar)
		show_bar(p, now, r, &x);
	p->last_phase = (int)now->phase;
}

double gw__cli_progress_seconds(const struct gw__cli_progress *p) { return (double)(now_ns() - p->start_ns) / 1e9; }

void gw__cli_progress_end(struct gw__cli_progress *p)
{
	gw__ui_progress_line(NULL);
	p->bar = p->json = false;
	p->fd = -1;
}
