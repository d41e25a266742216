/* SPDX-License-Identifier: MIT */
/* file: channels: what QEMU does to an existing file, offsets, and what is no file. */
#include "chan_unit.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/owner.h"

enum { FAR_MS = 20000 };

static void put_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");
	fputs(text, f);
	fclose(f);
	chmod(path, mode);
}

static void assert_file(const char *path, const char *text, size_t n, mode_t mode)
{
	char got[64];
	struct stat st;
	FILE *f = fopen(path, "r");
	assert_int_equal(fread(got, 1, sizeof got, f), n);
	assert_memory_equal(got, text, n);
	fstat(fileno(f), &st);
	assert_int_equal(st.st_mode & 07777, mode);
	fclose(f);
}

static void write_file(struct folder *f, const char *name, const char *rest, const char *text)
{
	struct gw__chan *c;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(FAR_MS);
	struct gw__uri uri = uri_in(f, "file", name, rest);
	assert_ok(gw__io_open_out(&uri, &o, &c, &error), error);
	assert_false(c->two_way);
	assert_int_equal(gw__chan_write_all(c, text, strlen(text), &error), 0);
	char byte;
	assert_int_equal(gw__chan_read(c, &byte, 1, NULL), -EBADF);
	assert_int_equal(gw__chan_end_writes(c, &error), 0);
	assert_int_equal(gw__chan_close(&c, &error), 0);
}

static void a_file_is_written_as_qemu_writes_it(void **state)
{
	struct folder *f = *state;
	mode_t before = umask(022);
	write_file(f, "new", "", "stream");
	assert_file(path_of(f, "new"), "stream", 6, 0600);
	put_file(path_of(f, "old"), "header and what was there before", 0644);
	write_file(f, "old", ",offset=6", ":new");
	assert_file(path_of(f, "old"), "header:new", 10, 0644); /* N bytes kept, the rest gone, the mode kept */
	write_file(f, "gap", ",offset=0x4", "s");
	assert_file(path_of(f, "gap"), "\0\0\0\0s", 5, 0600);
	write_file(f, "old", "", "x");
	assert_file(path_of(f, "old"), "x", 1, 0644);
	umask(before);
}

static void expect_no_file(struct folder *f, const char *name, const char *says)
{
	struct gw__chan *c;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(FAR_MS);
	struct gw__uri uri = uri_in(f, "file", name, "");
	assert_int_equal(gw__io_open_out(&uri, &o, &c, &error), -EPERM);
	assert_says(error, says);
}

/* In /tmp a file or a link of another user would get, or move, what is written. */
static void a_file_of_another_user_gets_nothing(void **state)
{
	struct folder *f = *state;
	char folder[PATH_MAX];
	if (geteuid()) {
		print_message("a_file_of_another_user_gets_nothing: skipped, needs root\n");
		skip();
	}
	assert_true(gw__path_folder(path_of(f, "x"), folder, sizeof folder));
	put_file(path_of(f, "theirs"), "theirs", 0666);
	put_file(path_of(f, "ours"), "ours", 0600);
	assert_int_equal(chown(path_of(f, "theirs"), 65534, 65534), 0);
	assert_int_equal(symlink("ours", path_of(f, "link")), 0);
	assert_int_equal(lchown(path_of(f, "link"), 65534, 65534), 0);
	write_file(f, "theirs", "", "theirs"); /* a folder of ours: we put them there */
	write_file(f, "link", "", "ours");
	assert_int_equal(chmod(folder, 01777), 0);
	expect_no_file(f, "theirs", "a file of user 65534");
	expect_no_file(f, "link", "a link of user 65534");
	assert_file(path_of(f, "theirs"), "theirs", 6, 0666);
	assert_file(path_of(f, "ours"), "ours", 4, 0600);
	write_file(f, "ours", "", "we");
}

static void a_file_is_read_from_its_offset(void **state)
{
	struct folder *f = *state;
	struct gw__chan *c;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(FAR_MS);
	char got[8];
	put_file(path_of(f, "in"), "headerstream", 0400);
	struct gw__uri uri = uri_in(f, "file", "in", ",offset=6");
	assert_ok(gw__io_open_in(&uri, &o, &c, &error), error);
	assert_int_equal(gw__chan_wait_readable(c, 0, &error), 1);
	read_all(c, got, 6);
	assert_memory_equal(got, "stream", 6);
	assert_int_equal(gw__chan_read(c, got, 1, &error), 0);
	assert_int_equal(gw__chan_write_all(c, "x", 1, NULL), -EBADF);
	assert_int_equal(gw__chan_close(&c, &error), 0);
}

static void assert_file_refused(struct folder *f, const char *name, const char *rest, bool out, const char *part)
{
	struct gw__chan *c;
	struct gw__error error = {0};
	struct gw__io_opts o = limits(FAR_MS);
	struct gw__uri uri = uri_in(f, "file", name, rest);
	assert_true((out ? gw__io_open_out(&uri, &o, &c, &error) : gw__io_open_in(&uri, &o, &c, &error)) < 0);
	assert_says(error, part);
}

static void what_is_no_file_is_refused(void **state)
{
	struct folder *f = *state;
	assert_int_equal(mkfifo(path_of(f, "fifo"), 0600), 0);
	put_file(path_of(f, "short"), "abc", 0600);
	assert_file_refused(f, "fifo", "", true, "not a file");
	assert_file_refused(f, "fifo", "", false, "not a file");
	assert_file_refused(f, "", "", false, "a folder");
	assert_file_refused(f, "absent", "", false, "cannot open it: No such file");
	assert_file_refused(f, "absent/x", "", true, "cannot create it: No such file");
	assert_file_refused(f, "short", ",offset=4", false, "ends after 3 bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_file_is_written_as_qemu_writes_it, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_file_of_another_user_gets_nothing, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(a_file_is_read_from_its_offset, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(what_is_no_file_is_refused, make_folder, remove_folder),
	};
	return cmocka_run_group_tests_name("chan_file", tests, NULL, NULL);
}
