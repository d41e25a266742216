/* SPDX-License-Identifier: MIT */
/* Where an image appears, and when: targets that are refused, links, interrupted writers, two at once. */
#include "image_place.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static void an_interrupted_writer_leaves_what_was_there(void **state)
{
	(void)state;
	for (int visible = 0; visible < 2; visible++)
		for (int steps = 0; steps <= 5; steps++) {
			kit_write_up_to(image, steps, visible);
			assert_int_equal(kit_count_entries(dir), 0);
		}
	kit_put_old_file();
	for (int visible = 0; visible < 2; visible++)
		for (int steps = 0; steps <= 5; steps++) {
			kit_write_up_to(image, steps, visible);
			kit_check_old_file();
			assert_int_equal(kit_count_entries(dir), 1);
		}
	for (int visible = 0; visible < 2; visible++) {
		kit_write_up_to(image, 6, visible);
		size_t n;
		uint8_t *bytes = kit_read_file(image, &n);
		assert_memory_equal(bytes, kit_old_content, 7);
		assert_memory_equal(bytes + 7, "QEVM", 4);
		free(bytes);
		assert_int_equal(kit_count_entries(dir), 1);
	}
}

static void a_killed_writer_leaves_what_was_there(void **state)
{
	(void)state;
	kit_put_old_file();
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const struct gw__image_writer_opts o = {0};
		struct gw__blocks blocks = kit_small_pc();
		struct gw__image_writer *w = kit_begin(image, &o, &blocks, false);
		kit_put_page(w, 0, 5, 1);
		raise(SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	kit_check_old_file();
	if (kit_count_entries(dir) != 1)
		print_message("this file system has no O_TMPFILE: a killed writer leaves its partial file\n");
	else
		print_message("unnamed file: nothing left\n");
}

static void a_visible_partial_says_what_it_is(void **state)
{
	(void)state;
	char name[NAME_MAX + 1];
	memset(name, 'n', NAME_MAX);
	name[NAME_MAX] = 0; /* the longest there can be: the partial's name must still fit */
	kit_join(image, dir, name);
	const struct gw__image_writer_opts o = {.visible = true};
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image_writer *w = kit_begin(image, &o, &blocks, false);
	DIR *d = opendir(dir);
	unsigned partials = 0;
	for (struct dirent *e; (e = readdir(d));) {
		size_t n = strlen(e->d_name);
		partials += n > 8 && e->d_name[0] == '.' && !strcmp(e->d_name + n - 8, ".partial");
	}
	closedir(d);
	assert_int_equal(partials, 1);
	kit_finish(w);
	assert_int_equal(access(image, R_OK), 0);
	assert_int_equal(kit_count_entries(dir), 1);
	gw__blocks_fini(&blocks);
}

static void of_two_writers_the_last_commit_wins(void **state)
{
	(void)state;
	for (int visible = 0; visible < 2; visible++) {
		const struct gw__image_writer_opts o = {.visible = visible};
		struct gw__blocks blocks = kit_small_pc();
		struct gw__image_writer *a = kit_begin(image, &o, &blocks, false);
		struct gw__image_writer *b = kit_begin(image, &o, &blocks, false);
		kit_put_page(a, 0, 0, 'a');
		kit_put_page(b, 0, 0, 'b');
		kit_finish(b);
		kit_finish(a);
		size_t n;
		uint8_t *bytes = kit_read_file(image, &n), want[KIT_PAGE];
		kit_fill(want, 0, 0, 'a');
		assert_memory_equal(bytes + KIT_MIB, want, KIT_PAGE);
		assert_int_equal(kit_count_entries(dir), 1);
		free(bytes);
		unlink(image);
		gw__blocks_fini(&blocks);
	}
}

static void bad_targets_are_refused_with_a_sentence(void **state)
{
	(void)state;
	kit_path p;
	kit_join(p, dir, "missing/image");
	kit_expect_refused(p, -ENOENT, "missing does not exist");
	kit_expect_refused(dir, -EISDIR, "is a folder");
	kit_join(p, dir, "new/");
	kit_expect_refused(p, -EISDIR, "is a folder");
	kit_expect_refused("", -EISDIR, "is a folder");
	kit_expect_refused("/", -EISDIR, "is a folder");
	kit_expect_refused("/dev/null", -EINVAL, "/dev/null is a character device");
	kit_join(p, dir, "fifo");
	assert_int_equal(mkfifo(p, 0600), 0);
	kit_expect_refused(p, -EINVAL, "is a pipe");
	kit_join(p, dir, "loop");
	assert_int_equal(symlink("loop", p), 0);
	kit_expect_refused(p, -ELOOP, "cannot follow the link");
	kit_join(p, dir, "to-dir");
	assert_int_equal(symlink(".", p), 0);
	kit_expect_refused(p, -EISDIR, "is a folder");
	kit_put_old_file();
	kit_join(p, dir, "image/inside");
	kit_expect_refused(p, -ENOTDIR, "Not a directory");
	kit_join(p, dir, "socket");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	assert_true(snprintf(a.sun_path, sizeof a.sun_path, "%s", p) < (int)sizeof a.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	close(fd);
	kit_expect_refused(p, -EINVAL, "is a socket");
	char longer[NAME_MAX + 2];
	memset(longer, 'n', sizeof longer);
	longer[NAME_MAX + 1] = 0;
	kit_join(p, dir, longer);
	kit_expect_refused(p, -ENAMETOOLONG, "File name too long");
	kit_check_old_file();
}

static void a_link_is_followed_and_stays(void **state)
{
	(void)state;
	kit_path link1, link2, deep;
	kit_join(deep, dir, "deep");
	assert_int_equal(mkdir(deep, 0700), 0);
	kit_join(link1, dir, "link");
	kit_join(link2, dir, "deep/back");
	assert_int_equal(symlink("deep/back", link1), 0);
	assert_int_equal(symlink("../image", link2), 0);
	for (int existed = 0; existed < 2; existed++) { /* a link to nothing yet, then to a file */
		kit_write_up_to(link1, 6, false);
		struct stat st;
		assert_int_equal(lstat(link1, &st), 0);
		assert_true(S_ISLNK(st.st_mode));
		assert_int_equal(lstat(link2, &st), 0);
		assert_true(S_ISLNK(st.st_mode));
		assert_int_equal(lstat(image, &st), 0);
		assert_true(S_ISREG(st.st_mode));
		assert_int_equal(kit_count_entries(deep), 1);
		assert_int_equal(kit_count_entries(dir), 3);
	}
}

static void a_bare_name_is_in_the_current_folder(void **state)
{
	(void)state;
	int here = open(".", O_RDONLY | O_DIRECTORY);
	assert_true(here >= 0);
	assert_int_equal(chdir(dir), 0);
	kit_write_up_to("image", 6, false);
	assert_int_equal(fchdir(here), 0);
	close(here);
	assert_int_equal(access(image, R_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(an_interrupted_writer_leaves_what_was_there),
		each_in_a_folder(a_killed_writer_leaves_what_was_there),
		each_in_a_folder(a_visible_partial_says_what_it_is),
		each_in_a_folder(of_two_writers_the_last_commit_wins),
		each_in_a_folder(bad_targets_are_refused_with_a_sentence),
		each_in_a_folder(a_link_is_followed_and_stays),
		each_in_a_folder(a_bare_name_is_in_the_current_folder),
	};
	return cmocka_run_group_tests_name("image place", tests, NULL, NULL);
}
