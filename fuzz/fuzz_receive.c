/* SPDX-License-Identifier: MIT */
/*
 * A source, and the image its guest is kept in: any bytes on the way to it, over one connection and, when the guest stands still then, over a
 * second one. What comes of it is a whole image, a part that can be gone on with, or nothing but, in the middle of a switch, who the source is; and
 * whoever is at fault is told so.
 *
 * An input: a byte (1 another process goes on, 2 nothing can be said to the source), the length of the first connection (be16), and both.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "engine/core/run.h"
#include "engine/sink/image_sink.h"
#include "engine/incoming/stream.h"
#include "image/read/image.h"

enum { ANOTHER_PROCESS = 1, MUTE = 2, HEAD_BYTES = 3, RAM_MAX = 4 << 20, DEVICES_MAX = 64 << 10, PIECE = 5000 };

static char dir[64], path[80];

/* --- a source in memory --- */

struct link {
	struct gw__chan chan; /* first */
	const uint8_t *bytes;
	size_t n, at;
	bool mute;
};

static ssize_t read_bytes(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct link *l = (struct link *)c;
	size_t step = l->n - l->at < PIECE ? l->n - l->at : PIECE;
	(void)n, (void)error;
	step = step < iov->iov_len ? step : iov->iov_len;
	if (step)
		memcpy(iov->iov_base, l->bytes + l->at, step);
	l->at += step;
	return (ssize_t)step;
}

static ssize_t write_bytes(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	ssize_t sum = 0;
	if (((struct link *)c)->mute)
		return gw__error_set(error, -EPIPE, "%s has gone", c->name);
	for (int i = 0; i < n; i++)
		sum += (ssize_t)iov[i].iov_len;
	return sum;
}

static bool has_input(struct gw__chan *c)
{
	(void)c;
	return true; /* or the end */
}

static void open_link(struct link *l, const uint8_t *bytes, size_t n, bool mute)
{
	static const struct gw__chan_ops ops = {.readv = read_bytes, .writev = write_bytes, .has_input = has_input};
	*l = (struct link){.chan = {.ops = &ops, .name = "a source", .fd = -1, .two_way = true, .idle_ms = -1, .cancel_fd = -1},
		.bytes = bytes,
		.n = n,
		.mute = mute};
}

/* --- a place for the image --- */

static void name_it(char name[100], const char *suffix) { snprintf(name, 100, "%s%s", path, suffix); }

static bool is_there(const char *suffix)
{
	char name[100];
	name_it(name, suffix);
	return access(name, F_OK) == 0;
}

static int count_entries(void)
{
	int n = 0;
	DIR *d = opendir(dir);
	HOLDS(d);
	for (struct dirent *e; (e = readdir(d));)
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

/* Whatever else there is shows in the next count. */
static void empty_place(void)
{
	static const char *const suffixes[] = {"", ".partial", ".partial.state"};
	for (int i = 0; i < 3; i++) {
		char name[100];
		name_it(name, suffixes[i]);
		unlink(name);
	}
}

static void remove_place(void)
{
	empty_place();
	rmdir(dir);
}

static void make_place(void)
{
	snprintf(dir, sizeof dir, "%s/godwit-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	HOLDS(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/image", dir);
	atexit(remove_place);
}

/* --- a sink of small guests: a bitmap of terabytes is a matter of memory, not of order --- */

static const struct gw__sink_ops *any_size;

static int put_small_blocks(struct gw__sink *s, uint32_t id, const struct gw__blocks *blocks, struct gw__error *error)
{
	if (blocks->total_bytes > RAM_MAX)
		return gw__error_set(error, -EFBIG, "a guest of %llu bytes is too large here", (unsigned long long)blocks->total_bytes);
	return any_size->blocks(s, id, blocks, error);
}

static struct gw__sink *make_sink(void)
{
	static struct gw__sink_ops small;
	struct gw__image_writer *w;
	struct gw__sink *sink;
	struct gw__error error = {0};
	HOLDS(!gw__image_create(path, &(struct gw__image_writer_opts){.unsynced = true}, &w, &error));
	HOLDS(!gw__sink_image_new(&w, &sink, &error));
	any_size = sink->ops;
	small = *sink->ops;
	small.blocks = put_small_blocks;
	sink->ops = &small;
	return sink;
}

static struct gw__sink *reopen_sink(void)
{
	struct gw__sink *sink;
	struct gw__view note;
	struct gw__error error = {0};
	bool rolled_back;
	HOLDS(!gw__sink_image_resume(path, &sink, &note, &rolled_back, &error));
	return sink;
}

/* --- and what must be true --- */

static bool stands_still(const struct gw__incoming_result *t)
{
	return t->state == GW__POSTCOPY_DST_PAUSED || t->state == GW__POSTCOPY_DST_IN_DOUBT;
}

static void check_outcome(int r, const struct gw__incoming_result *t, bool switched)
{
	struct gw__image *image;
	struct gw__error error = {0};
	if (r == 0) {
		HOLDS(t->state == GW__POSTCOPY_DST_COMPLETED && count_entries() == 1 && is_there(""));
		HOLDS(!gw__image_open(path, 0, &image, &error));
		gw__image_close(image);
		return;
	}
	HOLDS(stands_still(t) || t->state == GW__POSTCOPY_DST_FAILED);
	HOLDS(count_entries() == (stands_still(t) ? 2 : is_there(".partial.state") ? 1 : 0));
	HOLDS(!stands_still(t) || (is_there(".partial") && is_there(".partial.state")));
	HOLDS(stands_still(t) || !is_there(".partial.state") || switched); /* who the source is, for --abandon */
}

static int receive(struct gw__sink *sink, const uint8_t *bytes, size_t n, bool again, bool mute, struct gw__incoming_result *t)
{
	static struct gw__run run;
	struct link link;
	gw__run_init(&run);
	run.tail_max_bytes = DEVICES_MAX;
	struct gw__stream_stats stats = {0};
	*t = (struct gw__incoming_result){.location = again ? t->location : gw__location_at(GW__PLACE_SOURCE_RUNS)};
	open_link(&link, bytes, n, mute);
	int r = again ? gw__incoming_recover(&run, &(struct gw__incoming){.main = &link.chan},
				&(struct gw__incoming_recover){.role = GW__POSTCOPY_DST_KEEP}, sink, &stats, t)
		      : gw__incoming_run_channel(&run, &link.chan, sink, &stats, t);
	gw__stream_stats_fini(&stats);
	if (again && r == GW__SOURCE_NOT_NOTIFIED)
		return 0;
	fuzz_result_is_sound(r, &run.error);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct gw__incoming_result result = {0};
	if (!dir[0])
		make_place();
	if (n < HEAD_BYTES)
		return 0;
	size_t first = gw__be_get(data + 1, 2), left = n - HEAD_BYTES;
	first = first < left ? first : left;
	struct gw__sink *sink = make_sink();
	int r = receive(sink, data + HEAD_BYTES, first, false, data[0] & MUTE, &result);
	bool switched = result.has_switched;
	if (r < 0 && stands_still(&result)) {
		if (data[0] & ANOTHER_PROCESS) {
			gw__sink_free(&sink);
			sink = reopen_sink();
		}
		r = receive(sink, data + HEAD_BYTES + first, left - first, true, data[0] & MUTE, &result);
	}
	gw__sink_free(&sink);
	check_outcome(r, &result, switched);
	empty_place();
	return 0;
}
