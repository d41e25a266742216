/* SPDX-License-Identifier: MIT */
/*
 * Lanes that fail: disks that are full, io_uring that is forbidden for real, file systems without direct I/O.
 * A sentence at the next call, and never an image.
 */
#include "page_writer_kit.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define GUEST_BYTES (8 * KIT_MIB)

static struct gw__image_writer *begin(struct gw__page_writer **page_writer)
{
	struct gw__blocks blocks = {0};
	const struct gw__image_writer_opts o = {.direct = true};
	struct gw__error error = {0};
	kit_add_block(&blocks, "m0", GUEST_BYTES, false);
	struct gw__image_writer *w = kit_begin(image, &o, &blocks, false);
	gw__blocks_fini(&blocks);
	assert_ok(gw__page_writer_new(w, page_writer, &error), error);
	return w;
}

/* Every other page, packet by packet, until something is wrong. */
static int put_until_it_fails(struct gw__page_writer *page_writer, struct gw__error *error)
{
	int r = 0;
	for (uint64_t at = 0; !r && at < GUEST_BYTES / KIT_PAGE;) {
		uint64_t index[16];
		unsigned generation[16];
		for (unsigned i = 0; i < 16; i++, at += 2) {
			index[i] = at;
			generation[i] = 1;
		}
		r = put_pages_of(page_writer, 0, index, generation, 16, error);
	}
	return r ? r : gw__page_writer_flush(page_writer, error);
}

/* It failed with `code`: every call says so from now on, and no image comes of it. */
static void check_failed(struct gw__image_writer *w, struct gw__page_writer *page_writer, int code, const struct gw__error *first)
{
	struct gw__error error = {0};
	void *buffer;
	assert_int_equal(first->code, code);
	assert_int_equal(gw__page_writer_flush(page_writer, &error), code);
	assert_string_equal(error.text, first->text);
	assert_int_equal(gw__page_writer_borrow_buffer(page_writer, &buffer, &error), code);
	gw__page_writer_free(page_writer);
	gw__error_clear(&error);
	gw__image_put_ram_end(w, &error);
	assert_int_equal(gw__image_commit(w, &error), code);
	gw__image_writer_close(w);
	assert_int_equal(kit_count_entries(dir), 0);
}

static void what_a_completion_says_is_told_by_the_next_call(void **state)
{
	(void)state;
	static const int answers[] = {-ENOSPC, -EIO, -EDQUOT};
	if (!io_uring_works())
		skip();
	for (unsigned i = 0; i < 3 * GW__LEN(answers); i++) {
		struct gw__page_writer *page_writer;
		struct gw__error error = {0};
		go_by(&ways[1]);
		struct gw__image_writer *w = begin(&page_writer);
		forced.answer = answers[i % GW__LEN(answers)];
		forced.answer_every = 1 + 41 * i;
		assert_int_equal(put_until_it_fails(page_writer, &error), forced.answer);
		assert_says(error, "cannot write 4096 bytes at offset ");
		assert_says(error, image);
		assert_says(error, "bytes free in its file system");
		check_failed(w, page_writer, forced.answer, &error);
	}
}

/* Units that are too small are what EINVAL means here, and there is a way out. */
static void an_alignment_that_is_refused_names_the_option(void **state)
{
	(void)state;
	struct gw__page_writer *page_writer;
	struct gw__error error = {0};
	if (!io_uring_works())
		skip();
	go_by(&ways[1]);
	struct gw__image_writer *w = begin(&page_writer);
	forced.answer = -EINVAL;
	forced.answer_every = 5;
	assert_int_equal(put_until_it_fails(page_writer, &error), -EINVAL);
	assert_says(error, "cannot be written past the page cache (Invalid argument); leave --direct-io out");
	check_failed(w, page_writer, -EINVAL, &error);
}

static void a_ring_that_takes_nothing_more_is_a_sentence(void **state)
{
	(void)state;
	static const int answers[] = {-EBADF, -ENXIO, 0};
	if (!io_uring_works())
		skip();
	for (unsigned i = 0; i < 2 * GW__LEN(answers); i++) {
		struct gw__page_writer *page_writer;
		struct gw__error error = {0};
		go_by(&ways[1]);
		struct gw__image_writer *w = begin(&page_writer);
		forced.submit = answers[i % GW__LEN(answers)];
		forced.submit_from = 1 + i;
		if (!forced.submit) { /* nothing to fail: good until the end */
			assert_ok(put_until_it_fails(page_writer, &error), error);
			gw__page_writer_free(page_writer);
			gw__image_writer_close(w);
			continue;
		}
		assert_int_equal(put_until_it_fails(page_writer, &error), forced.submit);
		assert_says(error, "io_uring takes no more writes to ");
		check_failed(w, page_writer, forced.submit, &error);
	}
}

static void the_main_channel_fails_as_well(void **state)
{
	(void)state;
	struct gw__page_writer *page_writer;
	struct gw__error error = {0};
	uint8_t page[KIT_PAGE];
	const struct iovec iov = {page, sizeof page};
	if (!io_uring_works())
		skip();
	go_by(&ways[1]);
	struct gw__image_writer *w = begin(&page_writer);
	gw__page_writer_free(page_writer);
	forced.answer = -ENOSPC;
	forced.answer_every = 1;
	kit_fill(page, 0, 0, 1);
	assert_ok(gw__image_put_pages(w, 0, 0, &iov, 1, &error), error); /* staged */
	assert_int_equal(gw__image_put_ram_end(w, &error), -ENOSPC);
	assert_says(error, "cannot write 4096 bytes at offset 1048576 of ");
	gw__error_clear(&error);
	gw__image_writer_close(w);
	w = begin(&page_writer);
	gw__page_writer_free(page_writer);
	assert_ok(gw__image_put_pages(w, 0, 0, &iov, 1, &error), error);
	assert_int_equal(gw__image_read_back_page(w, 0, 0, page, &error), -ENOSPC);
	gw__image_writer_close(w);
}

/* --- for real, in a child
 * -------------------------------------------------------------------------------------------- */

enum { CANNOT = 77 };

/* Limits, filters and mounts stay, so a child has them. It says by its status how it went. */
static void in_a_child(int (*fn)(void), const char *what)
{
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn());
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == CANNOT) {
		print_message("not tested: %s cannot be had here (needs root)\n", what);
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int complain(const char *what, const struct gw__error *error)
{
	fprintf(stderr, "child: %s (%s)\n", what, error->text);
	return 1;
}

static int forbid_io_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* the number of the call */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {GW__LEN(code), code};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Everything a page writer does, by the way it finds; 0 when the pages are there. */
static int write_and_read_back(const char *how)
{
	struct gw__page_writer *page_writer;
	struct gw__error error = {0};
	uint8_t got[KIT_PAGE], want[KIT_PAGE];
	struct gw__image_writer *w = begin(&page_writer);
	if (!strstr(gw__page_writer_how(page_writer), how)) {
		fprintf(stderr, "child: \"%s\" does not say \"%s\"\n", gw__page_writer_how(page_writer), how);
		return 1;
	}
	if (put_until_it_fails(page_writer, &error))
		return complain("put", &error);
	for (uint64_t i = 0; i < GUEST_BYTES / KIT_PAGE; i += 2) {
		kit_fill(want, 0, i, 1);
		if (gw__image_read_back_page(w, 0, i * KIT_PAGE, got, &error) || memcmp(got, want, KIT_PAGE))
			return complain("peek", &error);
	}
	gw__page_writer_free(page_writer);
	gw__image_writer_close(w);
	return 0;
}

static int write_under_seccomp(void)
{
	return forbid_io_uring() ? CANNOT : write_and_read_back("direct pwrite: io_uring is forbidden (Operation not permitted)");
}

static void a_filter_that_forbids_io_uring(void **state)
{
	(void)state;
	if (!can_go_by(&ways[3]))
		skip();
	go_by(&ways[1]); /* not by a test's hook: by the kernel */
	in_a_child(write_under_seccomp, "a seccomp filter");
}

static int own_mount(const char *kind, const char *options)
{
	return unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount(kind, dir, kind, 0, options);
}

static int fill_a_small_disk(void)
{
	struct gw__image_writer *w;
	struct gw__page_writer *page_writer;
	struct gw__error error = {0};
	if (own_mount("tmpfs", "size=2m"))
		return CANNOT;
	if (gw__image_create(image, &(struct gw__image_writer_opts){.direct = true}, &w, &error))
		return strstr(error.text, "has no direct I/O; leave --direct-io out") ? 0 : complain("an old tmpfs", &error);
	gw__image_writer_close(w);
	w = begin(&page_writer);
	int r = put_until_it_fails(page_writer, &error);
	if (r != -ENOSPC || !strstr(error.text, image) || !strstr(error.text, "offset") || !strstr(error.text, "(0 bytes free"))
		return complain("a full disk", &error);
	fprintf(stderr, "child: %s: %s\n", gw__page_writer_how(page_writer), error.text);
	check_failed(w, page_writer, -ENOSPC, &error);
	return 0;
}

static void a_full_disk_is_a_sentence(void **state)
{
	(void)state;
	for (size_t i = 1; i < 4; i++) {
		go_by(&ways[i]);
		in_a_child(fill_a_small_disk, "a small tmpfs");
	}
}

static int ask_ramfs(void)
{
	struct gw__image_writer *w;
	struct gw__error error = {0};
	const struct gw__image_writer_opts o = {.direct = true}, visible = {.direct = true, .visible = true};
	if (own_mount("ramfs", NULL))
		return CANNOT;
	if (gw__image_create(image, &o, &w, &error) != -EINVAL || !strstr(error.text, image) ||
		!strstr(error.text, "has no direct I/O; leave --direct-io out"))
		return complain("refused", &error);
	fprintf(stderr, "child: %s\n", error.text);
	gw__error_clear(&error);
	if (gw__image_create(image, &visible, &w, &error) != -EINVAL)
		return complain("refused with a partial name", &error);
	return kit_count_entries(dir) == 0 ? 0 : complain("something is left", &error);
}

static void a_file_system_without_direct_io_is_named(void **state)
{
	(void)state;
	in_a_child(ask_ramfs, "a ramfs");
}

/* --- what cannot be had
 * ---------------------------------------------------------------------------------------------- */

static void pages_too_small_for_the_disk_or_too_large_for_a_buffer(void **state)
{
	(void)state;
	static const struct {
		uint32_t bits;
		int code;
		const char *says;
	} cases[] = {{8, -EINVAL, "the guest's pages have 256; leave --direct-io out"},
		{20, -E2BIG, "the guest's pages have 1048576 bytes, expected at most 524288"}};
	for (size_t i = 0; kit_has_direct_io() && i < GW__LEN(cases); i++) {
		struct gw__image_writer *w;
		struct gw__error error = {0};
		struct gw__config config;
		kit_config(&config, false);
		config.page_bits = cases[i].bits;
		config.has_page_bits = true;
		assert_ok(gw__image_create(image, &(struct gw__image_writer_opts){.direct = true}, &w, &error), error);
		assert_int_equal(gw__image_put_config(w, &config, &error), cases[i].code);
		assert_says(error, cases[i].says);
		gw__image_writer_close(w);
	}
}

static void a_lane_for_pages_larger_than_its_buffers_is_refused(void **state)
{
	(void)state;
	struct gw__image_writer *w;
	struct gw__page_writer *page_writer;
	struct gw__error error = {0};
	struct gw__config config;
	struct gw__blocks blocks = {0};
	kit_config(&config, false);
	config.page_bits = 20;
	config.has_page_bits = true;
	kit_add_block(&blocks, "m0", 4 * KIT_MIB, false);
	assert_ok(gw__image_create(image, &(struct gw__image_writer_opts){0}, &w, &error), error);
	assert_ok(gw__image_put_config(w, &config, &error), error);
	assert_ok(gw__image_put_blocks(w, KIT_RAM_ID, &blocks, &error), error);
	assert_int_equal(gw__page_writer_new(w, &page_writer, &error), -E2BIG);
	assert_says(error, "guest pages of 1048576 bytes, expected at most 524288");
	gw__image_writer_close(w);
	gw__blocks_fini(&blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(what_a_completion_says_is_told_by_the_next_call),
		each_in_a_folder(an_alignment_that_is_refused_names_the_option),
		each_in_a_folder(a_ring_that_takes_nothing_more_is_a_sentence),
		each_in_a_folder(the_main_channel_fails_as_well),
		each_in_a_folder(a_filter_that_forbids_io_uring),
		each_in_a_folder(a_full_disk_is_a_sentence),
		each_in_a_folder(a_file_system_without_direct_io_is_named),
		each_in_a_folder(pages_too_small_for_the_disk_or_too_large_for_a_buffer),
		each_in_a_folder(a_lane_for_pages_larger_than_its_buffers_is_refused),
	};
	return cmocka_run_group_tests_name("page_writer_failing", tests, NULL, NULL);
}
