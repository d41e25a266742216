/* SPDX-License-Identifier: MIT */
/* Disks that are full and files that may not grow: a sentence, and nothing left behind. */
#include "image_kit.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* In a child, because limits and mounts stay: runs fn there and expects it to be content. */
static void in_a_child(void (*fn)(void))
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fn();
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* For the child: no cmocka there, which would run the rest of the tests a second time. */
static void want(bool ok, const char *what, const struct gw__error *error)
{
	if (ok)
		return;
	fprintf(stderr, "child: %s (%s)\n", what, error->text);
	_exit(1);
}

/* Fills `path` until it fails with `code`; nothing may be left, and a commit must not succeed. */
static void fill_until(const char *folder, int code)
{
	const struct gw__image_writer_opts o = {0};
	struct gw__blocks blocks = {0};
	struct gw__image_writer *w;
	struct gw__error error = {0}, later = {0};
	struct gw__config config;
	kit_path path;
	uint8_t page[KIT_PAGE];
	const struct iovec iov = {page, sizeof page};
	kit_config(&config, false);
	kit_join(path, folder, "image");
	kit_add_block(&blocks, "m0", 64 * KIT_MIB, false);
	want(gw__image_create(path, &o, &w, &error) == 0, "create", &error);
	want(gw__image_put_config(w, &config, &error) == 0, "config", &error);
	want(gw__image_put_blocks(w, 1, &blocks, &error) == 0, "blocks", &error);
	int r = 0;
	for (uint64_t i = 0; !r && i < 64 * KIT_MIB / KIT_PAGE; i++) {
		kit_fill(page, 0, i, 0);
		r = gw__image_put_pages(w, 0, i * KIT_PAGE, &iov, 1, &error);
	}
	for (int i = 0; !r && i < 20; i++) { /* a limit behind the pages: device state runs into it */
		static const uint8_t device[KIT_PAGE];
		r = gw__image_put_raw(w, device, sizeof device, &error);
	}
	want(r == code, "the disk is full", &error);
	want(strstr(error.text, path) && strstr(error.text, "offset") && strstr(error.text, "bytes free"), "says where", &error);
	fprintf(stderr, "child: %s\n", error.text);
	gw__image_put_ram_end(w, &later);
	want(gw__image_commit(w, &later) < 0, "commit refuses", &later);
	gw__image_writer_close(w);
	gw__blocks_fini(&blocks);
	DIR *d = opendir(folder);
	for (struct dirent *e; (e = readdir(d));)
		want(e->d_name[0] == '.' && strlen(e->d_name) < 3, e->d_name, &error);
	closedir(d);
}

static void fill_a_small_tmpfs(void) { fill_until(dir, -ENOSPC); }

static void fill_up_to_the_limit(void)
{
	signal(SIGXFSZ, SIG_IGN);
	const struct rlimit limit = {65 * KIT_MIB + 2 * KIT_PAGE, 65 * KIT_MIB + 2 * KIT_PAGE};
	setrlimit(RLIMIT_FSIZE, &limit);
	fill_until(dir, -EFBIG);
}

static void refuse_above_the_limit(void)
{
	const struct rlimit limit = {64 * KIT_MIB, 64 * KIT_MIB}; /* SIGXFSZ not ignored: it must not even be tried */
	struct gw__blocks blocks = {0};
	struct gw__image_writer *w;
	struct gw__error error = {0};
	struct gw__config config;
	setrlimit(RLIMIT_FSIZE, &limit);
	kit_config(&config, false);
	kit_add_block(&blocks, "m0", 64 * KIT_MIB, false);
	want(gw__image_create(image, &(struct gw__image_writer_opts){0}, &w, &error) == 0, "create", &error);
	want(gw__image_put_config(w, &config, &error) == 0, "config", &error);
	want(gw__image_put_blocks(w, 1, &blocks, &error) == -EFBIG, "refused", &error);
	want(strstr(error.text, "may only write files of 67108864"), "says the limit", &error);
	gw__image_writer_close(w);
	gw__blocks_fini(&blocks);
}

static void a_file_size_limit_is_seen_before_the_first_page(void **state)
{
	(void)state;
	in_a_child(refuse_above_the_limit);
	in_a_child(fill_up_to_the_limit);
}

static void mount_and_fill(void)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("tmpfs", dir, "tmpfs", 0, "size=2m"))
		_exit(77);
	fill_a_small_tmpfs();
}

static void a_full_disk_is_a_sentence(void **state)
{
	(void)state;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		mount_and_fill();
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("a_full_disk_is_a_sentence: skipped, a small tmpfs cannot be mounted here "
			      "(needs root); "
			      "a_file_size_limit_... has shown EFBIG instead of ENOSPC\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
	print_message("a full tmpfs of 2 MiB: ENOSPC\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(a_file_size_limit_is_seen_before_the_first_page),
		each_in_a_folder(a_full_disk_is_a_sentence),
	};
	return cmocka_run_group_tests_name("image full", tests, NULL, NULL);
}
