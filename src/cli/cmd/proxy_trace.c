/* SPDX-License-Identifier: MIT */
/* A migration as a trace of events; see proxy_trace.h. */
#include "cli/cmd/proxy_trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/ui/output.h"

enum {
	GROUP_US = 100000,
	RATE_US = 100000,
	PROCESS = 1,
	MIGRATION = 1 /* the track of phases; the others are from 2 on */
};

/* One direction of one connection. */
struct track {
	bool named;
	char name[48];
	uint64_t free_us;  /* events of a track follow each other */
	uint64_t seen_off; /* bytes before it are counted */
	uint64_t window_us, window_bytes;
	struct {
		const char *name; /* of the run that is being gathered; NULL: none */
		uint64_t from_us, to_us, bytes, messages, pages, zero_pages, xbzrle_pages;
	} run;
};

enum phase { NOTHING, SETUP, PRECOPY, SWITCHOVER, POSTCOPY, RECOVERY, PROTECTED, CHECKPOINT, OVER };

struct gw__proxy_trace {
	FILE *to;
	int error; /* the first one */
	bool any;  /* an event is in it */
	struct track *track;
	uint32_t tracks;
	enum phase phase;
	uint64_t phase_us;
	bool is_answered; /* SHUT was seen before END, which was sent before it: the two directions are not in order */
	unsigned passes;
	char pass_block[256]; /* whose pages begin again with each pass */
	uint64_t pass_off;
};

/* --- events --- */

static void put(struct gw__proxy_trace *t, json_t *event)
{
	char *text = event ? json_dumps(event, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	json_decref(event);
	errno = 0;
	if (!text || fprintf(t->to, "%s%s", t->any ? ",\n" : "", text) < 0 || fflush(t->to))
		t->error = t->error ? t->error : errno ? errno : text ? EIO : ENOMEM;
	t->any = true;
	free(text);
}

static json_t *event(const char *kind, const char *name, uint32_t tid, uint64_t us)
{
	return json_pack("{ss so si sI so}", "ph", kind, "name", gw__cli_json_text(name), "pid", PROCESS, "tid", (json_int_t)tid, "ts",
		gw__cli_json_size(us));
}

static void put_name(struct gw__proxy_trace *t, const char *what, uint32_t tid, json_t *args)
{
	json_t *e = event("M", what, tid, 0);
	json_object_set_new(e, "args", args);
	put(t, e);
}

static void name_track(struct gw__proxy_trace *t, uint32_t tid, const char *name)
{
	put_name(t, "thread_name", tid, json_pack("{so}", "name", gw__cli_json_text(name)));
	put_name(t, "thread_sort_index", tid, json_pack("{sI}", "sort_index", (json_int_t)tid));
}

/* Takes `args`. It begins when the track is free. */
static void put_slice(struct gw__proxy_trace *t, uint32_t tid, const char *name, uint64_t from_us, uint64_t to_us, json_t *args)
{
	struct track *k = &t->track[tid];
	uint64_t begin = gw__max(from_us, k->free_us), us = to_us > begin ? to_us - begin : 1;
	json_t *e = event("X", name, tid, begin);
	json_object_set_new(e, "dur", gw__cli_json_size(us));
	json_object_set_new(e, "args", args);
	put(t, e);
	k->free_us = begin + us;
}

static void put_instant(struct gw__proxy_trace *t, uint32_t tid, const char *name, uint64_t us, const char *text)
{
	json_t *e = event("i", name, tid, us);
	json_object_set_new(e, "s", json_string(tid == MIGRATION ? "p" : "t"));
	if (text)
		json_object_set_new(e, "args", json_pack("{so}", "text", gw__cli_json_text(text)));
	put(t, e);
}

/* --- bytes per second --- */

static void put_rate(struct gw__proxy_trace *t, uint32_t tid, uint64_t us, uint64_t bytes)
{
	char name[80];
	snprintf(name, sizeof name, "bytes/s %s", t->track[tid].name);
	json_t *e = event("C", name, tid, us);
	json_object_set_new(e, "args", json_pack("{so}", "bytes_per_second", gw__cli_json_size(bytes * (1000000 / RATE_US))));
	put(t, e);
}

static void end_window(struct gw__proxy_trace *t, uint32_t tid, uint64_t us)
{
	struct track *k = &t->track[tid];
	if (us < k->window_us + RATE_US)
		return;
	if (k->window_bytes)
		put_rate(t, tid, k->window_us, k->window_bytes);
	if (k->window_bytes && us >= k->window_us + 2 * RATE_US)
		put_rate(t, tid, k->window_us + RATE_US, 0);
	k->window_us = us - us % RATE_US;
	k->window_bytes = 0;
}

/* A sum and a frame cover messages that were seen, and marks that are not shown leave gaps: each byte counts once. */
static uint64_t count_bytes(struct track *k, const struct gw_proxy_message *m)
{
	uint64_t end_off = m->off + m->bytes, more = end_off > k->seen_off ? end_off - k->seen_off : 0;
	k->seen_off = gw__max(k->seen_off, end_off);
	k->window_bytes += more;
	return gw__min(more, m->bytes);
}

/* --- runs of pages --- */

static uint64_t number(const struct gw_proxy_message *m, const char *name)
{
	for (uint32_t i = 0; i < m->fields; i++)
		if (!GW_AT(m->field, i)->text && !strcmp(GW_AT(m->field, i)->name, name))
			return GW_AT(m->field, i)->number;
	return 0;
}

static const char *text_of(const struct gw_proxy_message *m, const char *name)
{
	for (uint32_t i = 0; i < m->fields; i++)
		if (GW_AT(m->field, i)->text && !strcmp(GW_AT(m->field, i)->name, name))
			return GW_AT(m->field, i)->text;
	return NULL;
}

/* What such a message is gathered as, NULL: it is an event of its own. */
static const char *run_name(const struct gw_proxy_message *m)
{
	static const char *const pages[] = {"PAGES", "PAGE", "ZERO", "XBZRLE", "EOS"}, *const frames[] = {"PACKET", "REQ_PAGES",
											       "REQ_PAGES_ID"};
	for (size_t i = 0; i < GW__LEN(pages); i++)
		if (!strcmp(m->name, pages[i]))
			return pages[0];
	for (size_t i = 0; i < GW__LEN(frames); i++)
		if (!strcmp(m->name, frames[i]))
			return frames[i];
	return NULL;
}

static void end_run(struct gw__proxy_trace *t, uint32_t tid)
{
	struct track *k = &t->track[tid];
	if (!k->run.name)
		return;
	json_t *args = json_pack("{so so so so so}", "bytes", gw__cli_json_size(k->run.bytes), "messages",
		gw__cli_json_size(k->run.messages), "pages", gw__cli_json_size(k->run.pages), "zero_pages",
		gw__cli_json_size(k->run.zero_pages), "xbzrle_pages", gw__cli_json_size(k->run.xbzrle_pages));
	put_slice(t, tid, k->run.name, k->run.from_us, k->run.to_us, args);
	k->run.name = NULL;
}

static void add_to_run(struct gw__proxy_trace *t, uint32_t tid, const char *name, const struct gw_proxy_message *m, uint64_t us,
	uint64_t bytes)
{
	struct track *k = &t->track[tid];
	if (k->run.name && (strcmp(k->run.name, name) || us >= k->run.from_us + GROUP_US))
		end_run(t, tid);
	if (!k->run.name) {
		memset(&k->run, 0, sizeof k->run);
		k->run.name = name;
		k->run.from_us = us;
	}
	k->run.to_us = us;
	k->run.bytes += bytes;
	k->run.messages++;
	k->run.pages += number(m, "pages") + !strcmp(m->name, "PAGE");
	k->run.zero_pages += number(m, "zero_pages") + !strcmp(m->name, "ZERO");
	k->run.xbzrle_pages += number(m, "xbzrle_pages") + !strcmp(m->name, "XBZRLE");
}

static void put_message(struct gw__proxy_trace *t, uint32_t tid, const struct gw_proxy_message *m, uint64_t us)
{
	json_t *args = json_pack("{so so so}", "offset", gw__cli_json_size(m->off), "bytes", gw__cli_json_size(m->bytes), "text",
		gw__cli_json_text(m->text));
	for (uint32_t i = 0; args && i < m->fields; i++)
		json_object_set_new(args, GW_AT(m->field, i)->name,
			GW_AT(m->field, i)->text ? gw__cli_json_text(GW_AT(m->field, i)->text)
						 : gw__cli_json_size(GW_AT(m->field, i)->number));
	put_slice(t, tid, m->name, us, us, args);
}

/* --- phases --- */

#define IN(phase) (1u << (phase))

static const struct {
	const char *message;
	enum gw_proxy_direction direction;
	unsigned from;
	enum phase to;
} steps[] = {
	{"CONFIGURATION", GW_PROXY_FORWARD, ~0u, SETUP}, {"START", GW_PROXY_FORWARD, IN(NOTHING), SETUP},
	{"PART", GW_PROXY_FORWARD, IN(SETUP), PRECOPY}, {"SWITCHOVER_START", GW_PROXY_FORWARD, IN(SETUP) | IN(PRECOPY), SWITCHOVER},
	{"END", GW_PROXY_FORWARD, IN(SETUP) | IN(PRECOPY), SWITCHOVER},
	{"POSTCOPY_RAM_DISCARD", GW_PROXY_FORWARD, IN(SETUP) | IN(PRECOPY), SWITCHOVER},
	{"PACKAGED", GW_PROXY_FORWARD, IN(SETUP) | IN(PRECOPY), SWITCHOVER},
	{"POSTCOPY_RUN", GW_PROXY_FORWARD, IN(SETUP) | IN(PRECOPY) | IN(SWITCHOVER), POSTCOPY},
	{"RECV_BITMAP", GW_PROXY_FORWARD, IN(NOTHING) | IN(POSTCOPY), RECOVERY}, {"RESUME_ACK", GW_PROXY_RETURN, IN(RECOVERY), POSTCOPY},
	{"CHECKPOINT_READY", GW_PROXY_RETURN, IN(SETUP) | IN(PRECOPY) | IN(SWITCHOVER), PROTECTED},
	{"CHECKPOINT_REQUEST", GW_PROXY_FORWARD, IN(PROTECTED), CHECKPOINT}, {"VMSTATE_LOADED", GW_PROXY_RETURN, IN(CHECKPOINT), PROTECTED},
	{"SHUT", GW_PROXY_RETURN, ~(IN(SETUP) | IN(PRECOPY)), OVER}, /* see follow_answer() for the others */
};

static const char *const phase_names[] = {
	[SETUP] = "setup",
	[PRECOPY] = "pre-copy",
	[SWITCHOVER] = "switchover",
	[POSTCOPY] = "post-copy",
	[RECOVERY] = "recovery",
	[PROTECTED] = "protected",
	[CHECKPOINT] = "checkpoint",
	[OVER] = NULL,
};

static void go_to(struct gw__proxy_trace *t, enum phase to, uint64_t us)
{
	us = gw__max(us, t->phase_us); /* the two directions are not in order */
	if (phase_names[t->phase])
		put(t, event("E", phase_names[t->phase], MIGRATION, us));
	if (phase_names[to])
		put(t, event("B", phase_names[to], MIGRATION, us));
	if (to == SETUP) {
		t->passes = 0;
		t->is_answered = false;
	}
	t->phase = to;
	t->phase_us = us;
}

/* An answer to an END that is not shown yet ends the migration when that has been shown. */
static void follow_answer(struct gw__proxy_trace *t, const struct gw_proxy_message *m, uint64_t us)
{
	if (m->direction == GW_PROXY_RETURN)
		t->is_answered |= !strcmp(m->name, "SHUT") && (t->phase == SETUP || t->phase == PRECOPY);
	else if (t->is_answered && t->phase == SWITCHOVER && !strcmp(m->name, "EOF"))
		go_to(t, OVER, us);
}

static void follow_phases(struct gw__proxy_trace *t, const struct gw_proxy_message *m, uint64_t us)
{
	follow_answer(t, m, us);
	for (size_t i = 0; i < GW__LEN(steps); i++)
		if (m->direction == steps[i].direction && steps[i].from & IN(t->phase) && !strcmp(m->name, steps[i].message)) {
			go_to(t, steps[i].to, us);
			return;
		}
}

/* A pass begins when the block of the first page begins again: its pages are sent in ascending order. */
static void follow_passes(struct gw__proxy_trace *t, const struct gw_proxy_message *m, uint64_t us)
{
	char name[32];
	const char *block = text_of(m, "block"), *run = run_name(m);
	if (t->phase != PRECOPY && t->phase != SETUP)
		return;
	if (!block || !run || strcmp(run, "PAGES") || (t->passes && strcmp(block, t->pass_block)))
		return;
	uint64_t off = number(m, "start");
	if (!t->passes || off < t->pass_off) {
		snprintf(name, sizeof name, "pass %u", ++t->passes);
		snprintf(t->pass_block, sizeof t->pass_block, "%s", block);
		put_instant(t, MIGRATION, name, us, NULL);
	}
	t->pass_off = off;
}

/* --- the trace --- */

static struct track *find_track(struct gw__proxy_trace *t, uint32_t tid)
{
	if (tid >= t->tracks) {
		uint32_t n = 2 * tid + 2;
		struct track *grown = realloc(t->track, n * sizeof *grown);
		if (!grown)
			return NULL;
		memset(grown + t->tracks, 0, (n - t->tracks) * sizeof *grown);
		t->track = grown;
		t->tracks = n;
	}
	return &t->track[tid];
}

int gw__proxy_trace_open(const char *path, struct gw__proxy_trace **trace)
{
	struct gw__proxy_trace *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->to = fopen(path, "we");
	if (!t->to || !find_track(t, MIGRATION)) {
		int r = t->to ? -ENOMEM : -errno;
		if (t->to)
			fclose(t->to);
		free(t);
		return r;
	}
	fputs("[\n", t->to);
	put_name(t, "process_name", MIGRATION, json_pack("{ss}", "name", "godwit proxy"));
	name_track(t, MIGRATION, "migration");
	*trace = t;
	return 0;
}

void gw__proxy_trace_message(struct gw__proxy_trace *t, const struct gw_proxy_message *m)
{
	if (!t)
		return;
	uint64_t us = m->time_ns / 1000;
	uint32_t tid = 2 * m->connection + (m->direction == GW_PROXY_RETURN);
	if (m->direction == GW_PROXY_NEITHER || !m->connection) {
		put_instant(t, MIGRATION, m->name, us, m->text);
		return;
	}
	struct track *k = find_track(t, tid);
	if (!k) {
		t->error = t->error ? t->error : ENOMEM;
		return;
	}
	if (!k->named) {
		snprintf(k->name, sizeof k->name, "%u %s %s", (unsigned)m->connection, m->channel ? m->channel : "unknown",
			m->direction == GW_PROXY_FORWARD ? "->" : "<-");
		name_track(t, tid, k->name);
		k->named = true;
	}
	follow_phases(t, m, us);
	follow_passes(t, m, us);
	end_window(t, tid, us);
	uint64_t bytes = count_bytes(k, m);
	const char *run = run_name(m);
	if (run) {
		add_to_run(t, tid, run, m, us, bytes);
		return;
	}
	end_run(t, tid);
	put_message(t, tid, m, us);
}

int gw__proxy_trace_close(struct gw__proxy_trace *t)
{
	if (!t)
		return 0;
	for (uint32_t tid = MIGRATION + 1; tid < t->tracks; tid++) {
		end_run(t, tid);
		end_window(t, tid, t->track[tid].window_us + 2 * RATE_US);
	}
	go_to(t, OVER, 0);
	errno = 0;
	if (fputs("\n]\n", t->to) < 0)
		t->error = t->error ? t->error : EIO;
	if (fclose(t->to))
		t->error = t->error ? t->error : errno ? errno : EIO;
	int error = t->error;
	free(t->track);
	free(t);
	return error;
}
