/* SPDX-License-Identifier: MIT */
/* gw_receive_file: a source that writes its image itself, well and badly. The old file stays until the new one was checked; nothing else is left. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <godwit.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "stream_check.h"

enum { OFFSET = 5000, ROOM = 64 << 20 };

static char dir[64], whole[96], target[96];
static gw_job *job;
static uint8_t *image; /* as a QEMU would write it */
static size_t image_bytes;

/* What the source does. */
static struct {
	size_t bytes;      /* so much of the image; 0: all of it */
	uint64_t stale_at; /* and something where a page is absent; 0: not */
	bool behind_end;   /* and something behind it */
	bool fails, hangs, cancels, refuses;
	unsigned polls, wholes;
} source;

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

static int setup(void **state)
{
	(void)state;
	struct sb b = {0};
	char uri[112], stream[96];
	snprintf(dir, sizeof dir, "/tmp/godwit-receive-file-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(stream, sizeof stream, "%s/stream", dir);
	snprintf(uri, sizeof uri, "file:%s", stream);
	snprintf(whole, sizeof whole, "%s/whole", dir);
	snprintf(target, sizeof target, "%s/target", dir);
	put_ram(&b);
	put_rest(&b);
	int fd = open(stream, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0 && write(fd, b.p, b.n) == (ssize_t)b.n);
	close(fd);
	sb_fini(&b);
	struct gw_receive_opts o = GW_INIT(o);
	o.image_offset = OFFSET;
	assert_int_equal(gw_job_new(&job), 0);
	assert_int_equal(gw_receive(job, uri, whole, &o, NULL), 0);
	assert_int_equal(unlink(stream), 0);
	fd = open(whole, O_RDONLY);
	image = malloc(ROOM);
	ssize_t n = read(fd, image, ROOM);
	assert_true(n > 0 && n < ROOM);
	image_bytes = (size_t)n;
	close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gw_job_free(job);
	free(image);
	return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static int on_file(void *ctx, int fd, int direct_fd)
{
	char text[] = "old content";
	size_t n = source.bytes ? source.bytes : image_bytes;
	assert_ptr_equal(ctx, &source);
	assert_int_equal(direct_fd, -1);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
	if (source.fails)
		return -EREMCHG;
	assert_int_equal(pwrite(fd, image + OFFSET, n - OFFSET, OFFSET), n - OFFSET);
	if (source.stale_at)
		assert_int_equal(pwrite(fd, text, sizeof text, (off_t)source.stale_at), sizeof text);
	if (source.behind_end)
		assert_int_equal(pwrite(fd, text, sizeof text, (off_t)image_bytes), sizeof text);
	return 0;
}

static int on_poll(void *ctx, struct gw_progress *p)
{
	(void)ctx;
	if (source.cancels)
		gw_job_cancel(job);
	p->moved_bytes = source.hangs ? 0 : image_bytes;
	return source.polls++ < 3 || source.hangs || source.cancels ? GW_WRITING : 0;
}

static int on_whole(void *ctx, const struct gw_whole *w)
{
	(void)ctx;
	source.wholes++;
	assert_true(w->blocks > 0 && w->block[0].used_bytes > 0);
	return source.refuses ? -EREMCHG : 0;
}

static void put_old(void)
{
	int fd = open(target, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	for (int i = 0; i < OFFSET; i++)
		assert_int_equal(write(fd, "h", 1), 1);
	close(fd);
}

/* Also that nothing is beside it. */
static size_t size_of_target(void)
{
	struct stat st;
	unsigned entries = 0;
	DIR *d = opendir(dir);
	while (readdir(d))
		entries++;
	closedir(d);
	assert_int_equal(entries, 4); /* ".", "..", whole, target */
	assert_int_equal(stat(target, &st), 0);
	return (size_t)st.st_size;
}

static int receive(struct gw_receive_result *got)
{
	struct gw_receive_file_opts o = GW_INIT(o);
	o.image_offset = OFFSET;
	o.idle_timeout_ms = source.hangs ? 50 : 60000; /* a busy machine is no silent source */
	o.ctx = &source;
	o.on_file = on_file;
	o.on_poll = on_poll;
	o.on_whole = on_whole;
	put_old();
	return gw_receive_file(job, target, &o, got);
}

static void a_whole_one_gets_its_name(void **state)
{
	(void)state;
	struct gw_receive_result got = GW_INIT(got);
	memset(&source, 0, sizeof source);
	assert_int_equal(receive(&got), 0);
	assert_true(got.image_committed && got.outcome.place == GW_PLACE_KEPT_WHOLE);
	assert_true(got.pages > 0 && source.wholes == 1 && source.polls == 4);
	assert_int_equal(size_of_target(), image_bytes);
	uint8_t head;
	int fd = open(target, O_RDONLY);
	assert_int_equal(pread(fd, &head, 1, OFFSET - 1), 1);
	assert_int_equal(head, 'h');
	close(fd);
}

/* The first page that no bit tells of: from its place in the whole image. */
static uint64_t absent_page(const gw_info *info)
{
	struct gw_info_block b = GW_INIT(b);
	assert_int_equal(gw_info_block(info, 0, &b), 0);
	for (uint64_t i = 0; i < b.used_bytes / 4096; i++)
		if (!(image[b.bitmap_off + i / 8] & 1 << i % 8))
			return b.pages_off + i * 4096;
	fail_msg("every page is there");
	return 0;
}

static void is_clonable(const char *path, bool wanted, uint64_t *absent)
{
	struct gw_inspect_opts o = GW_INIT(o);
	struct gw_info_summary s = GW_INIT(s);
	gw_info *info = NULL;
	o.offset = OFFSET;
	o.clonable = true;
	assert_int_equal(gw_inspect(job, path, &o, &info), 0);
	assert_int_equal(gw_info_summary(info, &s), 0);
	if (s.clonable != wanted)
		fail_msg("%s: %s", path, s.not_clonable ? s.not_clonable : "clonable");
	if (absent)
		*absent = absent_page(info);
	gw_info_free(info);
}

static void old_content_goes(void **state)
{
	(void)state;
	memset(&source, 0, sizeof source);
	is_clonable(whole, true, &source.stale_at);
	int fd = open(whole, O_WRONLY);
	assert_int_equal(pwrite(fd, "x", 1, (off_t)source.stale_at), 1);
	is_clonable(whole, false, NULL); /* so that it would be seen */
	assert_int_equal(pwrite(fd, "", 1, (off_t)source.stale_at), 1);
	close(fd);
	assert_int_equal(receive(NULL), 0);
	is_clonable(target, true, NULL);
}

static void what_is_not_whole_is_refused(void **state)
{
	(void)state;
	const struct {
		size_t bytes;
		bool behind_end, fails, hangs, refuses;
		int result;
		unsigned wholes;
	} rows[] = {
		{.bytes = OFFSET + 1, .result = -EPROTO},
		{.bytes = image_bytes / 2, .result = -EPROTO},
		{.bytes = image_bytes - 1, .result = -EPROTO},
		{.behind_end = true, .result = -EPROTO},
		{.fails = true, .result = -EREMCHG},
		{.hangs = true, .result = -ETIMEDOUT},
		{.refuses = true, .result = -EREMCHG, .wholes = 1},
	};
	for (size_t i = 0; i < GW__LEN(rows); i++) {
		struct gw_receive_result got = GW_INIT(got);
		memset(&source, 0, sizeof source);
		source.bytes = rows[i].bytes;
		source.behind_end = rows[i].behind_end;
		source.fails = rows[i].fails;
		source.hangs = rows[i].hangs;
		source.refuses = rows[i].refuses;
		int r = receive(&got);
		if (r != rows[i].result || source.wholes != rows[i].wholes || !*gw_job_error(job))
			fail_msg("row %zu: %d, %s", i, r, gw_job_error(job));
		assert_false(got.image_committed);
		assert_int_equal(size_of_target(), OFFSET);
	}
	memset(&source, 0, sizeof source);
	source.cancels = true;
	assert_int_equal(receive(NULL), -ECANCELED);
	assert_int_equal(size_of_target(), OFFSET);
	assert_int_equal(gw_job_reset(job), 0);
}

static void it_is_not_started(void **state)
{
	(void)state;
	int result = 0;
	struct gw_receive_file_opts o = GW_INIT(o);
	o.on_file = on_file;
	o.on_poll = on_poll;
	assert_int_equal(gw_job_start(job, NULL), 0);
	assert_int_equal(gw_receive_file(job, target, &o, NULL), 0);
	assert_int_equal(gw_job_wait(job, 20000, &result), 0);
	assert_int_equal(result, -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_whole_one_gets_its_name), cmocka_unit_test(old_content_goes),
		cmocka_unit_test(what_is_not_whole_is_refused), cmocka_unit_test(it_is_not_started)};
	return cmocka_run_group_tests(tests, setup, teardown);
}
