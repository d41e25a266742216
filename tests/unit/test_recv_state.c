/* SPDX-License-Identifier: MIT */
/*
 * A partly received image and its state file (docs/spec/partial.md): what survives whom, and what is done with files that are torn,
 * damaged, somebody else's, or not ours at all.
 */
#include "image_kit.h"

#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/bytes.h"
#include "image/read/image.h"
#include "image/journal/recv_state.h"
#include "image/journal/recv_state_layout.h"

static int check_free(struct gw__error *error);

enum { LIVE_HEAD = 4096, SLOTS = 12288, MAPS = 20480, PAGES = 131, CHECKPOINTED = 40 };

static kit_path partial, state;
static int syncs_left = -1; /* before one fails; -1: none does */
static ino_t synced[64];
static unsigned synced_n;

/* In place of libc's. */
int fdatasync(int fd)
{
	struct stat st;
	if (fstat(fd, &st) == 0)
		synced[synced_n++ % 64] = st.st_ino;
	if (syncs_left < 0 || syncs_left-- > 0)
		return (int)syscall(SYS_fdatasync, fd);
	errno = EIO;
	return -1;
}

static bool pages_fail, write_back_fails, folders_fail;
static int pages_error = EIO;

int fsync(int fd)
{
	struct stat st;
	errno = EIO;
	return folders_fail && !fstat(fd, &st) && S_ISDIR(st.st_mode) ? -1 : (int)syscall(SYS_fsync, fd);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off_t off)
{
	errno = pages_error;
	return pages_fail ? -1 : syscall(SYS_pwritev, fd, v, n, off, 0);
}

int sync_file_range(int fd, off_t off, off_t n, unsigned flags)
{
	errno = EIO;
	return write_back_fails ? -1 : (int)syscall(SYS_sync_file_range, fd, off, n, flags);
}

/* What renames without replacing, and what links, says; 0: the kernel decides. */
static int rename_error, link_error;

int renameat2(int from, const char *a, int to, const char *b, unsigned flags)
{
	errno = rename_error;
	return rename_error ? -1 : (int)syscall(SYS_renameat2, from, a, to, b, flags);
}

int linkat(int from, const char *a, int to, const char *b, int flags)
{
	errno = link_error;
	return link_error ? -1 : (int)syscall(SYS_linkat, from, a, to, b, flags);
}

/* Another receiver looks, once, between making a file and locking it. */
static bool somebody_looks;

int flock(int fd, int how)
{
	struct gw__error error = {0};
	if (somebody_looks) {
		somebody_looks = false;
		assert_ok(check_free(&error), error);
	}
	return (int)syscall(SYS_flock, fd, how);
}

static int setup(void **s)
{
	rename_error = link_error = 0;
	pages_fail = write_back_fails = folders_fail = false;
	pages_error = EIO;
	kit_setup(s);
	kit_join(partial, dir, "image.partial");
	kit_join(state, dir, "image.partial.state");
	syncs_left = -1;
	return 0;
}
#define each(f) cmocka_unit_test_setup_teardown(f, setup, kit_teardown)

static struct gw__view view(const char *text) { return (struct gw__view){(const uint8_t *)text, strlen(text)}; }

static void hold(struct gw__image_writer *w)
{
	struct gw__config config;
	struct gw__error error = {0};
	kit_config(&config, false);
	gw__config_add_cap(&config, "mapped-ram");
	assert_ok(gw__image_persist_handover(w, &config, view("early"), view("package"), view("note"), &error), error);
}

/* Pages 0..n-1 of the first block; a checkpoint behind the fortieth. */
static struct gw__image_writer *begin(unsigned n)
{
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image_writer *w = kit_begin(image, &(struct gw__image_writer_opts){0}, &blocks, false);
	struct gw__error error = {0};
	gw__blocks_fini(&blocks);
	kit_put_page(w, 0, 130, 7); /* before the switch */
	assert_ok(gw__image_begin_recv_state(w, &error), error);
	gw__image_discard(w, 0, 130 * KIT_PAGE, 1);
	hold(w);
	for (unsigned i = 0; i < n; i++) {
		kit_put_page(w, 0, i, 0);
		if (i + 1 == CHECKPOINTED)
			assert_ok(gw__image_checkpoint(w, &error), error);
	}
	gw__image_put_zeros(w, 1, 0, 3);
	return w;
}

/* A process that is killed in the middle. */
static void leave(unsigned n)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		begin(n);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static struct gw__image_writer *resume(bool *rolled_back)
{
	struct gw__image_writer *w = NULL;
	const struct gw__recv_state_saved *saved;
	struct gw__error error = {0};
	assert_ok(gw__image_resume(image, &w, &saved, rolled_back, &error), error);
	assert_memory_equal(saved->user_data.p, "note", 4);
	assert_int_equal(saved->package.n, strlen("package"));
	assert_int_equal(saved->early.n, strlen("early"));
	assert_string_equal(saved->config.machine, "pc-i440fx-10.0");
	assert_int_equal(saved->ram_id, KIT_RAM_ID);
	return w;
}

static uint64_t count(struct gw__image_writer *w, uint32_t block) { return gw__bitmap_count(gw__image_received(w, block)); }

static void refused(int code, const char *part)
{
	struct gw__image_writer *w = NULL;
	const struct gw__recv_state_saved *saved;
	struct gw__error error = {0};
	bool rolled_back;
	assert_int_equal(gw__image_resume(image, &w, &saved, &rolled_back, &error), code);
	assert_null(w);
	assert_says(error, part);
}

static void poke(const char *path, uint64_t at, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY);
	assert_true(fd >= 0 && pwrite(fd, bytes, n, (off_t)at) == (ssize_t)n);
	close(fd);
}

static void another_boot(void) { poke(state, LIVE_HEAD, "01234567-89ab-cdef-0123-456789abcdef", 36); }

static void put_the_rest(struct gw__image_writer *w)
{
	gw__image_put_zeros(w, 1, 0, 3);
	for (uint32_t b = 0; b < 4; b++)
		for (uint64_t i = 0; i < gw__image_received(w, b)->bits; i++)
			if (!gw__bitmap_test(gw__image_received(w, b), i))
				kit_put_page(w, b, i, 0);
}

static void put_the_end(struct gw__image_writer *w)
{
	struct gw__error error = {0};
	assert_ok(gw__image_put_ram_end(w, &error), error);
	kit_put_tail(w);
}

static void finish(struct gw__image_writer *w)
{
	struct gw__error error = {0};
	put_the_rest(w);
	put_the_end(w);
	assert_ok(gw__image_commit(w, &error), error);
	gw__image_discard_recv_state(w);
	gw__image_writer_close(w);
}

/* All pages as finish() and begin() put them, and nothing beside the image. */
static void check_image(void)
{
	struct gw__image *im;
	struct gw__error error = {0};
	uint8_t got[KIT_PAGE], want[KIT_PAGE];
	assert_ok(gw__image_open(image, 0, &im, &error), error);
	for (uint32_t b = 0; b < 4; b++)
		for (uint64_t i = 0; i < im->present[b].bits; i++) {
			kit_fill(want, b, i, 0);
			if (b == 1 && i < 3)
				memset(want, 0, sizeof want);
			assert_ok(gw__image_read_pages(im, b, i, 1, got, &error), error);
			assert_memory_equal(got, want, KIT_PAGE);
		}
	assert_int_equal(im->devices_n, 3);
	gw__image_close(im);
	assert_int_equal(kit_count_entries(dir), 1);
}

static void a_killed_process_loses_nothing(void **s)
{
	(void)s;
	bool rolled_back = true;
	leave(100);
	assert_int_equal(kit_count_entries(dir), 2);
	struct gw__image_writer *w = resume(&rolled_back);
	assert_false(rolled_back);
	assert_int_equal(count(w, 0), 100); /* and not the page that was made void */
	assert_int_equal(count(w, 1), 3);
	finish(w);
	check_image();
}

/* The second process does not know what the first has put and made void. */
static void old_content_goes_after_a_death_too(void **s)
{
	(void)s;
	bool rolled_back;
	leave(100);
	struct gw__image_writer *w = resume(&rolled_back);
	gw__image_put_zeros(w, 0, 50 * KIT_PAGE, 2);
	gw__image_put_zeros(w, 0, 130 * KIT_PAGE, 1);
	finish(w);
	kit_check_absent();
}

static void again_and_again(void **s)
{
	(void)s;
	bool rolled_back;
	leave(10);
	for (unsigned n = 10; n < 60; n += 10) {
		struct gw__image_writer *w = resume(&rolled_back);
		assert_int_equal(count(w, 0), n);
		for (unsigned i = n; i < n + 10; i++)
			kit_put_page(w, 0, i, 0);
		gw__image_writer_close(w); /* which leaves it as well */
		assert_int_equal(kit_count_entries(dir), 2);
	}
	finish(resume(&rolled_back));
	check_image();
}

static void a_crashed_host_falls_back(void **s)
{
	(void)s;
	bool rolled_back = false;
	leave(100);
	another_boot();
	struct gw__image_writer *w = resume(&rolled_back);
	assert_true(rolled_back);
	assert_int_equal(count(w, 0), CHECKPOINTED);
	assert_int_equal(count(w, 1), 0);
	gw__image_writer_close(w);
	w = resume(&rolled_back); /* the same boot from here on, and whoever ends it is told all the same */
	assert_true(rolled_back);
	assert_int_equal(count(w, 0), CHECKPOINTED);
	kit_put_page(w, 0, CHECKPOINTED, 0);
	gw__image_writer_close(w);
	rolled_back = false;
	w = resume(&rolled_back);
	assert_true(rolled_back);
	assert_int_equal(count(w, 0), CHECKPOINTED + 1);
	finish(w);
	check_image();
}

static void without_a_checkpoint_nothing_came(void **s)
{
	(void)s;
	bool rolled_back = false;
	leave(CHECKPOINTED - 1);
	another_boot();
	struct gw__image_writer *w = resume(&rolled_back);
	assert_true(rolled_back);
	assert_int_equal(count(w, 0), 0);
	finish(w);
	check_image();
}

/* The newer checkpoint is torn: the older one holds. */
static void a_torn_checkpoint(void **s)
{
	(void)s;
	bool rolled_back;
	struct gw__error error = {0};
	leave(50);
	struct gw__image_writer *w = resume(&rolled_back);
	assert_ok(gw__image_checkpoint(w, &error), error); /* the second: of 50 pages */
	gw__image_writer_close(w);
	poke(state, SLOTS + 20, "torn", 4); /* the even ones are in the first place */
	another_boot();
	w = resume(&rolled_back);
	assert_true(rolled_back);
	assert_int_equal(count(w, 0), CHECKPOINTED);
	gw__image_writer_close(w);
}

static void torn_and_damaged(void **s)
{
	(void)s;
	size_t n, meta_at = MAPS + 3 * 4096 + (2 << 20);
	leave(20);
	uint8_t *whole = kit_read_file(state, &n);
	n = meta_at + gw__be_get(whole + 24, 8); /* room that was reserved follows */
	static const char noise[] = "noise";
	const struct {
		uint64_t cut, poke;
		const char *says;
	} rows[] = {
		{.cut = 0, .says = "not the state"},
		{.cut = 100, .says = "not the state"},
		{.cut = MAPS - 1, .says = "not the state"},
		{.cut = MAPS, .says = "expected three times"},
		{.cut = n - 1, .says = "expected three times"},
		{.cut = n, .poke = 2, .says = "not the state"},
		{.cut = n, .poke = 20, .says = "checksum"},
		{.cut = n, .poke = 50, .says = "checksum"},
		{.cut = n, .poke = meta_at, .says = "checksum"},
		{.cut = n, .poke = n - 10, .says = "checksum"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		unlink(state);
		kit_write_file(state, whole, rows[i].cut, 0600);
		if (rows[i].poke)
			poke(state, rows[i].poke, noise, sizeof noise);
		refused(-EPROTO, rows[i].says);
	}
	unlink(state);
	refused(-ENOENT, "nothing was begun");
	kit_write_file(state, whole, n, 0600);
	bool rolled_back;
	gw__image_writer_close(resume(&rolled_back)); /* it was fine all the time */
	free(whole);
}

static void garbage(void **s)
{
	(void)s;
	uint8_t bytes[40000];
	srand(4);
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < sizeof bytes; i++)
			bytes[i] = (uint8_t)rand();
		if (round % 2)
			memcpy(bytes, "GWPARTL1", 8);
		unlink(state);
		kit_write_file(state, bytes, sizeof bytes, 0600);
		refused(-EPROTO, "cannot be used");
	}
}

static void foreign(void **s)
{
	(void)s;
	kit_path other;
	kit_join(other, dir, "other");
	leave(20);
	assert_int_equal(rename(state, other), 0);
	unlink(partial);
	leave(30);
	assert_int_equal(rename(other, state), 0);
	refused(-EPROTO, "is not the image");
	unlink(partial);
	refused(-ENOENT, "image.partial");
}

static void one_at_a_time(void **s)
{
	(void)s;
	struct gw__image_writer *w = begin(10);
	refused(-EBUSY, "another process");
	gw__image_writer_close(w);
}

static int check_free(struct gw__error *error)
{
	struct gw__destination_path t;
	int r = gw__destination_path_find(image, &t, error);
	if (!r)
		r = gw__recv_state_check_free(&t, error);
	gw__destination_path_fini(&t);
	return r;
}

static void nobody_is_overwritten(void **s)
{
	(void)s;
	struct gw__error error = {0};
	assert_ok(check_free(&error), error);
	leave(10);
	assert_int_equal(check_free(&error), -EALREADY);
	assert_says(error, "--resume");
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image_writer *w = kit_begin(image, &(struct gw__image_writer_opts){0}, &blocks, false);
	gw__blocks_fini(&blocks);
	gw__error_clear(&error);
	assert_int_equal(gw__image_begin_recv_state(w, &error), -EEXIST);
	gw__image_writer_close(w);
	bool rolled_back;
	gw__image_writer_close(resume(&rolled_back)); /* unharmed */
}

/* The other one takes the new state for one that was given up: it is made again. */
static void looked_at_before_it_is_locked(void **s)
{
	(void)s;
	struct gw__error error = {0};
	somebody_looks = true;
	leave(10);
	somebody_looks = false; /* it was so in the process that was left */
	assert_int_equal(kit_count_entries(dir), 2);
	assert_int_equal(check_free(&error), -EALREADY);
	bool rolled_back;
	finish(resume(&rolled_back));
	check_image();
}

/* Who waits for the lock of a state that is taken away meanwhile has nothing to go on with. */
static void taken_away_before_it_is_locked(void **s)
{
	(void)s;
	uint8_t none = 0;
	kit_write_file(state, &none, 0, 0600);
	somebody_looks = true;
	refused(-ENOENT, "taken away");
}

/* What is held stood where the list is now. */
static void of_the_version_before(void **s)
{
	(void)s;
	size_t n, meta_at = MAPS + 3 * 4096;
	leave(100);
	uint8_t *whole = kit_read_file(state, &n);
	gw__be_put(whole + 8, 2, 4);
	gw__recv_state_sum(whole, 48, whole + 48);
	uint64_t meta_bytes = gw__be_get(whole + 24, 8);
	memmove(whole + meta_at, whole + meta_at + (2 << 20), meta_bytes);
	kit_write_file(state, whole, meta_at + meta_bytes, 0600);
	free(whole);
	bool rolled_back;
	struct gw__image_writer *w = resume(&rolled_back);
	assert_int_equal(count(w, 0), 100);
	finish(w);
	check_image();
}

/* Begun where files have a name from the beginning. */
static int begin_visible(struct gw__image_writer **w, bool taken)
{
	struct gw__blocks blocks = kit_small_pc();
	struct gw__error error = {0};
	*w = kit_begin(image, &(struct gw__image_writer_opts){.visible = true}, &blocks, false);
	gw__blocks_fini(&blocks);
	assert_ok(gw__image_prepare_recv_state(*w, &error), error);
	if (taken)
		close(open(partial, O_CREAT | O_EXCL, 0600));
	int r = gw__image_begin_recv_state(*w, &error);
	if (r)
		assert_says(error, "is there already");
	return r;
}

/* NFS, 9p and FUSE: no files without a name, and no rename that does not replace. */
static void where_names_cannot_be_changed_safely(void **s)
{
	(void)s;
	static const struct {
		int rename_error, link_error;
	} places[] = {{0, 0}, {EINVAL, 0}, {ENOSYS, 0}, {EOPNOTSUPP, 0}, {EINVAL, EPERM}, {EINVAL, EOPNOTSUPP}};
	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
		struct gw__image_writer *w;
		bool rolled_back;
		rename_error = places[i].rename_error;
		link_error = places[i].link_error;
		assert_int_equal(begin_visible(&w, true), -EEXIST);
		gw__image_writer_close(w);
		assert_int_equal(kit_count_entries(dir), 1); /* what had the name */
		unlink(partial);
		assert_int_equal(begin_visible(&w, false), 0);
		assert_int_equal(kit_count_entries(dir), 2);
		hold(w);
		gw__image_writer_close(w);
		w = resume(&rolled_back);
		finish(w);
		check_image();
		unlink(image);
	}
}

/* What was begun and not held is nobody's: it goes away with its writer, and with the next one if that was killed. */
static void before_it_is_held(void **s)
{
	(void)s;
	struct gw__error error = {0};
	for (int killed = 0; killed < 2; killed++) {
		pid_t pid = fork();
		if (pid == 0) {
			struct gw__blocks blocks = kit_small_pc();
			struct gw__image_writer *w = kit_begin(image, &(struct gw__image_writer_opts){0}, &blocks, false);
			if (gw__image_begin_recv_state(w, &error))
				_exit(1);
			if (!killed)
				gw__image_writer_close(w);
			_exit(0);
		}
		int status;
		waitpid(pid, &status, 0);
		assert_int_equal(status, 0);
		assert_int_equal(kit_count_entries(dir), killed ? 2 : 0);
		if (killed)
			refused(-EPROTO, "interrupted before");
	}
	assert_ok(check_free(&error), error);
	assert_int_equal(kit_count_entries(dir), 0);
}

/* Killed between the mark and the name, and between the name and the end. */
static void finished(void **s)
{
	(void)s;
	struct gw__error error = {0};
	bool rolled_back;
	for (int named = 0; named < 2; named++) {
		pid_t pid = fork();
		if (pid == 0) {
			struct gw__image_writer *w = begin(131);
			put_the_rest(w);
			put_the_end(w);
			_exit(gw__image_commit(w, &error) != 0);
		}
		int status;
		waitpid(pid, &status, 0);
		assert_int_equal(status, 0);
		assert_int_equal(kit_count_entries(dir), 2);
		if (!named) { /* not even cut to its length */
			assert_int_equal(rename(image, partial), 0);
			poke(partial, 64 << 20, "marker", 6);
			kit_write_file(image, "old", 3, 0664); /* whose rights it may have already */
			assert_int_equal(chmod(partial, 0664), 0);
		}
		struct gw__image_writer *w = resume(&rolled_back);
		assert_true(gw__image_is_committed(w));
		gw__image_discard_recv_state(w);
		gw__image_writer_close(w);
		check_image();
		struct stat st;
		assert_true(stat(image, &st) == 0 && st.st_size < 64 << 20);
		unlink(image);
	}
}

/* Killed before the mark, where the end of the image stands in it already: nothing is missing, and it can be ended again. */
static void killed_while_it_is_synced(void **s)
{
	(void)s;
	bool rolled_back;
	pid_t pid = fork();
	if (pid == 0) {
		struct gw__image_writer *w = begin(131);
		struct gw__error error = {0};
		put_the_rest(w);
		put_the_end(w);
		syncs_left = 0; /* the last thing it does */
		_exit(gw__image_commit(w, &error) != -EIO);
	}
	int status;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	char boot_id[36];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY);
	assert_true(fd >= 0 && read(fd, boot_id, sizeof boot_id) == sizeof boot_id);
	close(fd);
	poke(state, LIVE_HEAD, boot_id, sizeof boot_id); /* killed, not failed */
	struct gw__image_writer *w = resume(&rolled_back);
	assert_false(rolled_back || gw__image_is_committed(w));
	for (uint32_t b = 0; b < 4; b++)
		assert_int_equal(count(w, b), gw__image_received(w, b)->bits);
	finish(w);
	check_image();
}

/* What a sync did not bring to the disk is clean for the kernel: it is not believed any more. */
static void a_sync_that_fails(void **s)
{
	(void)s;
	bool rolled_back = false;
	struct gw__error error = {0};
	for (int at = 0; at < 3; at++) { /* of the image, of the new bitmaps, of their head */
		struct gw__image_writer *w = begin(100);
		syncs_left = at;
		assert_int_equal(gw__image_checkpoint(w, &error), -EIO);
		assert_says(error, "safe on its disk");
		gw__error_clear(&error);
		syncs_left = -1;
		assert_int_equal(gw__image_checkpoint(w, &error), -EIO);
		assert_says(error, "earlier");
		gw__error_clear(&error);
		gw__image_writer_close(w);
		w = resume(&rolled_back);
		assert_true(rolled_back);
		assert_int_equal(count(w, 0), at < 2 ? CHECKPOINTED : 100);
		finish(w);
		check_image();
		unlink(image);
	}
}

/* The kernel may tell a write of what became of others: nothing behind the last checkpoint is believed. */
/* What came before is not asked for again, unless it cannot be synced either. */
static void a_disk_that_is_full(void **s)
{
	(void)s;
	static uint8_t page[KIT_PAGE] = "page";
	const struct iovec iov = {page, sizeof page};
	bool rolled_back = true;
	for (int i = 0; i < 6; i++) {
		struct gw__image_writer *w = begin(100);
		struct gw__error error = {0};
		pages_error = (const int[]){ENOSPC, EDQUOT, EFBIG}[i / 2];
		pages_fail = true;
		syncs_left = i % 2 ? 0 : -1;
		assert_int_equal(gw__image_put_pages(w, 0, 100 * KIT_PAGE, &iov, 1, &error), -pages_error);
		syncs_left = -1;
		pages_fail = false;
		gw__error_clear(&error);
		assert_int_equal(gw__image_checkpoint(w, &error), i % 2 ? -EIO : 0);
		gw__image_writer_close(w);
		w = resume(&rolled_back);
		assert_int_equal(rolled_back, i % 2);
		assert_int_equal(count(w, 0), i % 2 ? CHECKPOINTED : 100);
		finish(w);
		check_image();
		unlink(image);
	}
}

static void a_write_that_fails(void **s)
{
	(void)s;
	static uint8_t page[KIT_PAGE] = "page";
	const struct iovec iov = {page, sizeof page};
	bool rolled_back = false;
	for (int back = 0; back < 2; back++) { /* of a page, or the write-back that one starts now and then */
		struct gw__image_writer *w = begin(100);
		struct gw__error error = {0};
		int r = 0;
		pages_fail = !back;
		write_back_fails = back;
		for (unsigned i = 0; !r && i < 5000; i++)
			r = gw__image_put_pages(w, 0, 100 * KIT_PAGE, &iov, 1, &error);
		assert_int_equal(r, -EIO);
		gw__error_clear(&error);
		pages_fail = write_back_fails = false;
		assert_int_equal(gw__image_checkpoint(w, &error), -EIO);
		assert_says(error, "earlier");
		gw__image_writer_close(w);
		w = resume(&rolled_back);
		assert_true(rolled_back);
		assert_int_equal(count(w, 0), CHECKPOINTED);
		finish(w);
		check_image();
		unlink(image);
	}
}

static bool image_was_synced(void)
{
	struct stat st;
	bool was = false;
	assert_int_equal(stat(partial, &st), 0);
	for (unsigned i = 0; i < synced_n && i < 64; i++)
		was = was || synced[i] == st.st_ino;
	return was;
}

/*
 * Between the first discard and the hold the guest stands still and cannot be gone on with: no page is brought to the disk then, whatever came
 * before. What is not synced at the switch has to have been before the pages came: the image's head, and the marker where it is to be.
 */
static void the_switch_waits_for_no_page(void **s)
{
	(void)s;
	enum { USUAL, LARGE_PACKAGE, MORE_BEFORE, WAYS };
	static uint8_t large[5 << 20];
	for (int way = 0; way < WAYS; way++) {
		struct gw__blocks blocks = kit_small_pc();
		struct gw__image_writer *w = kit_begin(image, &(struct gw__image_writer_opts){0}, &blocks, false);
		struct gw__error error = {0};
		struct gw__config config;
		const struct gw__recv_state_saved *saved;
		bool rolled_back;
		gw__blocks_fini(&blocks);
		synced_n = 0;
		assert_ok(gw__image_prepare_recv_state(w, &error), error);
		assert_int_equal(synced_n, 1);
		if (way == MORE_BEFORE)
			assert_ok(gw__image_put_raw(w, large, 100, &error), error);
		for (unsigned i = 0; i < 10; i++)
			kit_put_page(w, 0, i, 0);
		synced_n = 0;
		assert_ok(gw__image_begin_recv_state(w, &error), error);
		kit_config(&config, false);
		assert_ok(gw__image_persist_handover(w, &config, view(""),
				  (struct gw__view){large, way == LARGE_PACKAGE ? sizeof large : 1}, view(""), &error),
			error);
		assert_int_equal(image_was_synced(), way != USUAL);
		gw__image_writer_close(w);
		assert_ok(gw__image_resume(image, &w, &saved, &rolled_back, &error), error);
		assert_true(saved->marker_off >= saved->cursor + 16 * (way == LARGE_PACKAGE ? sizeof large : 1));
		assert_int_equal(count(w, 0), 10);
		gw__image_discard_recv_state(w);
		gw__image_writer_close(w);
		assert_int_equal(kit_count_entries(dir), 0);
	}
}

/* Under its name, and nobody knows whether the name is on the disk: whoever comes next makes it so. */
static void a_folder_that_cannot_be_synced(void **s)
{
	(void)s;
	struct gw__image_writer *w = begin(100);
	struct gw__error error = {0};
	bool rolled_back;
	put_the_rest(w);
	put_the_end(w);
	folders_fail = true;
	assert_int_equal(gw__image_commit(w, &error), -EIO);
	assert_says(error, "is in place");
	assert_true(gw__image_is_committed(w));
	gw__image_writer_close(w);
	refused(-EIO, "is in place");
	folders_fail = false;
	w = resume(&rolled_back);
	assert_true(gw__image_is_committed(w));
	gw__image_discard_recv_state(w);
	gw__image_writer_close(w);
	check_image();
}

static void direct_io_ends(void **s)
{
	(void)s;
	struct gw__error error = {0};
	bool rolled_back;
	if (!kit_has_direct_io())
		return;
	pid_t pid = fork();
	if (pid == 0) {
		struct gw__blocks blocks = kit_small_pc();
		struct gw__image_writer *w = kit_begin(image, &(struct gw__image_writer_opts){.direct = true}, &blocks, false);
		for (unsigned i = 0; i < 50; i++)
			kit_put_page(w, 0, i, 0);
		if (gw__image_begin_recv_state(w, &error))
			_exit(1);
		hold(w);
		for (unsigned i = 50; i < 60; i++)
			kit_put_page(w, 0, i, 0);
		_exit(0);
	}
	int status;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	struct gw__image_writer *w = resume(&rolled_back);
	assert_int_equal(count(w, 0), 60);
	finish(w);
	check_image();
}

static void names_that_are_too_long(void **s)
{
	(void)s;
	kit_path name;
	char text[250];
	memset(text, 'x', sizeof text);
	text[245] = 0;
	kit_join(name, dir, text);
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image_writer *w = kit_begin(name, &(struct gw__image_writer_opts){0}, &blocks, false);
	struct gw__error error = {0};
	gw__blocks_fini(&blocks);
	assert_int_equal(gw__image_begin_recv_state(w, &error), -ENAMETOOLONG);
	assert_says(error, "leaves no room");
	gw__image_writer_close(w);
	assert_int_equal(kit_count_entries(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(a_killed_process_loses_nothing),
		each(old_content_goes_after_a_death_too),
		each(again_and_again),
		each(a_crashed_host_falls_back),
		each(without_a_checkpoint_nothing_came),
		each(a_torn_checkpoint),
		each(torn_and_damaged),
		each(garbage),
		each(foreign),
		each(one_at_a_time),
		each(nobody_is_overwritten),
		each(looked_at_before_it_is_locked),
		each(taken_away_before_it_is_locked),
		each(of_the_version_before),
		each(where_names_cannot_be_changed_safely),
		each(before_it_is_held),
		each(finished),
		each(killed_while_it_is_synced),
		each(a_sync_that_fails),
		each(a_disk_that_is_full),
		each(a_write_that_fails),
		each(the_switch_waits_for_no_page),
		each(a_folder_that_cannot_be_synced),
		each(direct_io_ends),
		each(names_that_are_too_long),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
