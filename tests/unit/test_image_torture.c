/* SPDX-License-Identifier: MIT */
/*
 * The writer with its n-th call to the system or for memory failing, for every n: the linker puts the
 * functions below in their place (meson.build lists them). Whatever fails, there is a sentence, what was
 * there before stays, and nothing else is left in the folder.
 */
#include "image_kit.h"

#include <liburing.h>
#include <sys/mman.h>
#include <sys/uio.h>

static unsigned until_failure; /* 0: nothing fails */
static const char *failed_call;

/* Is it this call's turn? */
static bool turn(const char *name)
{
	if (until_failure == 0 || --until_failure != 0)
		return false;
	failed_call = name;
	errno = EIO;
	return true;
}

#define WRAP(type, name, failure, params, args)                                                                                            \
	type __real_##name params;                                                                                                         \
	type __wrap_##name params;                                                                                                         \
	type __wrap_##name params { return turn(#name) ? (failure) : __real_##name args; }

WRAP(void *, calloc, NULL, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, NULL, (void *p, size_t size), (p, size))
WRAP(ssize_t, pwritev64, -1, (int fd, const struct iovec *v, int n, off_t off), (fd, v, n, off))
WRAP(ssize_t, pread64, -1, (int fd, void *to, size_t n, off_t off), (fd, to, n, off))
WRAP(int, ftruncate64, -1, (int fd, off_t n), (fd, n))

static unsigned syncs;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	syncs++;
	return turn("fsync") ? -1 : __real_fsync(fd);
}

WRAP(int, sync_file_range, -1, (int fd, off_t off, off_t n, unsigned flags), (fd, off, n, flags))
WRAP(int, openat64, -1, (int at, const char *path, int flags, mode_t mode), (at, path, flags, mode))
WRAP(int, open64, -1, (const char *path, int flags, mode_t mode), (path, flags, mode))
WRAP(int, faccessat, -1, (int at, const char *path, int mode, int flags), (at, path, mode, flags))
WRAP(int, access, -1, (const char *path, int mode), (path, mode))
WRAP(int, linkat, -1, (int from, const char *a, int to, const char *b, int flags), (from, a, to, b, flags))
WRAP(int, renameat, -1, (int from, const char *a, int to, const char *b), (from, a, to, b))
WRAP(int, fchmod, -1, (int fd, mode_t mode), (fd, mode))
WRAP(int, fchown, -1, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
WRAP(ssize_t, pwrite64, -1, (int fd, const void *from, size_t n, off_t off), (fd, from, n, off))
WRAP(void *, mmap64, MAP_FAILED, (void *at, size_t n, int prot, int flags, int fd, off_t off), (at, n, prot, flags, fd, off))
WRAP(int, io_uring_queue_init, -EPERM, (unsigned n, struct io_uring *ring, unsigned flags), (n, ring, flags))
WRAP(int, io_uring_register_buffers, -ENOMEM, (struct io_uring * ring, const struct iovec *v, unsigned n), (ring, v, n))
WRAP(int, io_uring_register_files, -EMFILE, (struct io_uring * ring, const int *fds, unsigned n), (ring, fds, n))
WRAP(int, io_uring_submit, -EIO, (struct io_uring * ring), (ring))
WRAP(ssize_t, getrandom, -1, (void *to, size_t n, unsigned flags), (to, n, flags))

enum {
	PAGES = 4200,       /* above 16 MiB, so that write-back starts once */
	DIRECT_PAGES = 300, /* three buffers, and some behind the last whole unit */
};

struct attempt {
	const struct gw__image_writer_opts o;
	struct gw__config config;
	struct gw__blocks blocks;
	int pages_n;
	struct iovec pages[PAGES];
};

static uint8_t page[KIT_PAGE];
static const uint8_t tail[] = "not a real tail";

static int write_image(const struct attempt *a, struct gw__error *error)
{
	struct gw__image_writer *w;
	int r = gw__image_create(image, &a->o, &w, error);
	if (!r)
		r = gw__image_put_config(w, &a->config, error);
	if (!r)
		r = gw__image_put_blocks(w, 1, &a->blocks, error);
	if (!r)
		r = gw__image_put_pages(w, 0, 0, a->pages, a->pages_n, error);
	if (!r)
		r = gw__image_put_ram_end(w, error);
	if (!r)
		r = gw__image_put_raw(w, tail, sizeof tail, error);
	if (!r)
		r = gw__image_commit(w, error);
	gw__image_writer_close(w);
	return r;
}

/* What is at the path now: the old file, the new image, or a mixture (which fails). */
static bool is_new(void)
{
	size_t n;
	uint8_t *bytes = kit_read_file(image, &n);
	bool new = n > 7 && !memcmp(bytes, "before QEVM", 11);
	if (new)
		assert_memory_equal(bytes + n - sizeof tail, tail, sizeof tail);
	else
		assert_true(n == 7 && !memcmp(bytes, "before ", 7));
	free(bytes);
	return new;
}

static void fail_each_call_once(bool visible, bool direct)
{
	static const struct iovec none;
	struct attempt a = {.o = {.base_off = 7, .visible = visible, .direct = direct},
		.pages_n = direct ? DIRECT_PAGES : PAGES,
		.pages[0] = none};
	kit_config(&a.config, false);
	kit_add_block(&a.blocks, "m0", (uint64_t)a.pages_n * KIT_PAGE, false);
	kit_add_block(&a.blocks, "m1", 2 * KIT_PAGE, false);
	memset(page, 1, sizeof page);
	for (int i = 0; i < a.pages_n; i++)
		a.pages[i] = (struct iovec){page, sizeof page};

	unsigned refused = 0, survived = 0;
	for (unsigned n = 1;; n++) {
		struct gw__error error = {0};
		kit_write_file(image, "before ", 7, 0640);
		failed_call = NULL;
		until_failure = n;
		int r = write_image(&a, &error);
		until_failure = 0;
		if (!failed_call) { /* nothing is left to fail */
			assert_ok(r, error);
			break;
		}
		/* The folder's own sync comes when the image is whole and in place, so it may be there after
		 * that error. */
		bool replaced = is_new();
		if (r && replaced)
			assert_says(error, "is in place, but its folder");
		else
			assert_int_equal(replaced, r == 0);
		assert_int_equal(r, error.code);
		if (r && !strstr(error.text, image) && !strstr(error.text, dir) && !strstr(error.text, "memory"))
			fail_msg("%s failed, and the sentence does not say where: %s", failed_call, error.text);
		assert_int_equal(kit_count_entries(dir), 1);
		refused += r != 0;
		survived += r == 0;
	}
	print_message("%u failures reported, %u got around\n", refused, survived);
	assert_true(refused > 15);
	gw__blocks_fini(&a.blocks);
}

static void whatever_fails_nothing_is_half_done(void **state)
{
	(void)state;
	fail_each_call_once(false, false);
}

static void nor_with_a_partial_name(void **state)
{
	(void)state;
	fail_each_call_once(true, false);
}

static void nor_past_the_page_cache(void **state)
{
	(void)state;
	if (!kit_has_direct_io())
		skip();
	fail_each_call_once(false, true);
	fail_each_call_once(true, true);
}

static void an_unsynced_image_does_not_wait_for_the_disk(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	for (int unsynced = 0; unsynced < 2; unsynced++) {
		const struct gw__image_writer_opts o = {.unsynced = unsynced};
		syncs = 0;
		kit_finish(kit_begin(image, &o, &blocks, false));
		assert_int_equal(syncs, unsynced ? 0 : 2);
	}
	gw__blocks_fini(&blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(whatever_fails_nothing_is_half_done),
		each_in_a_folder(nor_with_a_partial_name),
		each_in_a_folder(nor_past_the_page_cache),
		each_in_a_folder(an_unsynced_image_does_not_wait_for_the_disk),
	};
	return cmocka_run_group_tests_name("image torture", tests, NULL, NULL);
}
