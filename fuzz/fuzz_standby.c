/* SPDX-License-Identifier: MIT */
/*
 * A COLO primary that says anything, and the standby that keeps its guest: whatever comes, the end is the image of a whole epoch, or nothing. With
 * two lanes of the sink next to the protocol it would be the same; those are multifd's target.
 *
 * An input: pieces, each a length (be16) and so many bytes. A piece is what the primary sends before it waits for an answer.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "engine/colo/epoch_sink.h"
#include "engine/colo/secondary.h"
#include "engine/incoming/stream.h"
#include "image/read/image.h"

enum { RAM_MAX = 4 << 20, DEVICES_MAX = 64 << 10, EPOCH_MAX = 9 << 20, LENGTH_BYTES = 2 };

static char dir[64], path[80];

/* --- a primary in memory --- */

struct link {
	struct gw__chan chan; /* first */
	const uint8_t *bytes;
	size_t left;  /* of all pieces, with their lengths */
	size_t piece; /* of this one */
};

static ssize_t read_bytes(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct link *l = (struct link *)c;
	(void)n, (void)error;
	while (!l->piece && l->left >= LENGTH_BYTES) {
		l->piece = gw__be_get(l->bytes, LENGTH_BYTES);
		l->bytes += LENGTH_BYTES;
		l->left -= LENGTH_BYTES;
		l->piece = l->piece < l->left ? l->piece : l->left;
	}
	size_t step = l->piece < iov->iov_len ? l->piece : iov->iov_len;
	if (step)
		memcpy(iov->iov_base, l->bytes, step);
	l->bytes += step;
	l->left -= step;
	l->piece -= step;
	return (ssize_t)step;
}

static ssize_t write_bytes(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	ssize_t sum = 0;
	(void)c, (void)error;
	for (int i = 0; i < n; i++)
		sum += (ssize_t)iov[i].iov_len;
	return sum;
}

static bool has_input(struct gw__chan *c)
{
	(void)c;
	return true; /* or the end */
}

/* --- a place for the image --- */

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

static void remove_place(void)
{
	unlink(path);
	rmdir(dir);
}

static void make_place(void)
{
	snprintf(dir, sizeof dir, "%s/godwit-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	HOLDS(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/image", dir);
	atexit(remove_place);
}

/* --- guests are small: a bitmap of terabytes is a matter of memory, not of order --- */

static const struct gw__sink_ops *any_size;

static int put_small_blocks(struct gw__sink *s, uint32_t id, const struct gw__blocks *blocks, struct gw__error *error)
{
	if (blocks->total_bytes > RAM_MAX)
		return gw__error_set(error, -EFBIG, "a guest of %llu bytes is too large here", (unsigned long long)blocks->total_bytes);
	return any_size->blocks(s, id, blocks, error);
}

static struct gw__epoch_sink *make_sink(void)
{
	static struct gw__sink_ops small;
	struct gw__epoch_sink *sink;
	struct gw__error error = {0};
	HOLDS(!gw__epoch_sink_new(path, &(struct gw__epoch_sink_opts){.limit_bytes = EPOCH_MAX}, &sink, &error));
	any_size = gw__epoch_sink_store(sink).ops->sink(sink)->ops;
	small = *any_size;
	small.blocks = put_small_blocks;
	gw__epoch_sink_store(sink).ops->sink(sink)->ops = &small;
	return sink;
}

/* --- and what must be true --- */

static void on_epoch(void *ctx, const struct gw__colo_epoch *epoch)
{
	uint64_t *next = ctx;
	HOLDS(epoch->number == (*next)++);
}

static void check_outcome(const struct gw__colo_secondary_result *result, uint64_t epochs)
{
	struct gw__image *image;
	struct gw__error error = {0};
	bool lost = result->state == GW__COLO_SECONDARY_LOST; /* without an epoch told of: READY could not be sent */
	HOLDS(lost || (result->state == GW__COLO_SECONDARY_FAILED && !epochs));
	HOLDS(!result->image_failed && !result->stopped);
	HOLDS(count_entries() == (lost ? 1 : 0));
	if (!lost)
		return;
	HOLDS(result->epochs == (epochs ? epochs - 1 : 0) && result->last.number == result->epochs);
	HOLDS(!gw__image_open(path, 0, &image, &error));
	gw__image_close(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct gw__chan_ops ops = {.readv = read_bytes, .writev = write_bytes, .has_input = has_input};
	static struct gw__run run;
	struct link link = {
		.chan = {.ops = &ops, .name = "a primary", .fd = -1, .two_way = true, .idle_ms = -1, .cancel_fd = -1},
		.bytes = data,
		.left = n,
	};
	struct gw__incoming in = {.main = &link.chan};
	uint64_t epochs = 0;
	struct gw__colo_secondary_opts o = {.checkpoint_ms = -1, .stop_fd = -1, .on_epoch = on_epoch, .ctx = &epochs};
	struct gw__colo_secondary_result result;
	if (!dir[0])
		make_place();
	gw__run_init(&run);
	run.tail_max_bytes = DEVICES_MAX;
	struct gw__epoch_sink *sink = make_sink();
	const struct gw__epoch_store store = gw__epoch_sink_store(sink);
	int r = gw__colo_secondary_run(&run, &in, &store, &o, &result);
	HOLDS(r < 0); /* the input ends */
	fuzz_result_is_sound(r, &run.error);
	gw__epoch_sink_free(&sink);
	check_outcome(&result, epochs);
	unlink(path);
	return 0;
}
