/* SPDX-License-Identifier: MIT */
/* Who may read a new image and who may write one: permissions, owners and access lists. */
#include "image_place.h"

#include <sys/xattr.h>

static mode_t mode_of(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

static void rights_are_kept_and_new_files_are_private(void **state)
{
	(void)state;
	mode_t mask = umask(0);
	for (int visible = 0; visible < 2; visible++) {
		kit_write_up_to(image, 6, visible);
		assert_int_equal(mode_of(image), 0600);
		static const mode_t modes[] = {0600, 0640, 0664, 0644, 0700};
		for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
			assert_int_equal(chmod(image, modes[i]), 0);
			kit_write_up_to(image, 6, visible);
			assert_int_equal(mode_of(image), modes[i]);
		}
		unlink(image);
	}
	umask(mask);
}

static void the_access_list_is_kept(void **state)
{
	(void)state;
	/* user::rw- user:65534:r-- group::--- mask::r-- other::---, little-endian */
	static const uint8_t list[] = {2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 254, 255, 0, 0, 4, 0, 0, 0, 255, 255, 255,
		255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255};
	uint8_t got[128];
	kit_put_old_file();
	if (setxattr(image, "system.posix_acl_access", list, sizeof list, 0)) {
		print_message("the_access_list_is_kept: skipped, no access lists here: %s\n", strerror(errno));
		skip();
	}
	kit_write_up_to(image, 6, false);
	assert_int_equal(getxattr(image, "system.posix_acl_access", got, sizeof got), sizeof list);
	assert_memory_equal(got, list, sizeof list);
	assert_int_equal(mode_of(image), 0640);
}

enum { NOBODY = 65534 };

static void become(uid_t uid)
{
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(setegid(uid ? uid : 0), 0);
	assert_int_equal(seteuid(uid), 0);
}

static void owner_and_group_are_kept_by_root(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_message("owner_and_group_are_kept_by_root: skipped, needs root\n");
		skip();
	}
	kit_put_old_file();
	assert_int_equal(chown(image, 1234, 4321), 0);
	kit_write_up_to(image, 6, false);
	struct stat st;
	assert_int_equal(stat(image, &st), 0);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 4321);
	assert_int_equal(st.st_mode & 07777, 0640);
}

/* An ordinary user who may replace a file of a group that is not his: the group's right would go to another
 * group. */
static void a_group_that_cannot_be_kept_gets_no_rights(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_message("a_group_that_cannot_be_kept_gets_no_rights: skipped, needs root to set it up\n");
		skip();
	}
	kit_put_old_file();
	assert_int_equal(chown(image, NOBODY, 4321), 0);
	assert_int_equal(chown(dir, NOBODY, NOBODY), 0);
	become(NOBODY);
	kit_write_up_to(image, 6, false);
	become(0);
	struct stat st;
	assert_int_equal(stat(image, &st), 0);
	assert_int_equal(st.st_uid, NOBODY);
	assert_int_equal(st.st_gid, NOBODY);
	assert_int_equal(st.st_mode & 07777, 0600);
}

/* Judged by the rights of an ordinary user, whom root becomes for the moment. */
static void as_ordinary_user(void (*fn)(void))
{
	bool root = geteuid() == 0;
	if (root)
		become(NOBODY);
	fn();
	if (root)
		become(0);
}

static void refused_in_read_only_folder(void) { kit_expect_refused(image, -EACCES, "is not writable"); }
static void refused_for_read_only_file(void) { kit_expect_refused(image, -EACCES, "exists and may not be written"); }
static void refused_in_closed_folder(void) { kit_expect_refused(image, -EACCES, "cannot look at"); }
static void refused_in_sticky_folder(void) { kit_expect_refused(image, -EPERM, "its folder is sticky"); }

static void what_may_not_be_written_is_refused(void **state)
{
	(void)state;
	assert_int_equal(chmod(dir, 0555), 0);
	as_ordinary_user(refused_in_read_only_folder);
	assert_int_equal(chmod(dir, 0600), 0);
	as_ordinary_user(refused_in_closed_folder);
	assert_int_equal(chmod(dir, 0777), 0);
	kit_put_old_file();
	assert_int_equal(chmod(image, 0444), 0);
	as_ordinary_user(refused_for_read_only_file);
	if (geteuid() != 0) {
		print_message("sticky folder: skipped, needs root to set it up\n");
		return;
	}
	assert_int_equal(chmod(image, 0666), 0);
	assert_int_equal(chmod(dir, 01777), 0);
	as_ordinary_user(refused_in_sticky_folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(rights_are_kept_and_new_files_are_private),
		each_in_a_folder(the_access_list_is_kept),
		each_in_a_folder(owner_and_group_are_kept_by_root),
		each_in_a_folder(a_group_that_cannot_be_kept_gets_no_rights),
		each_in_a_folder(what_may_not_be_written_is_refused),
	};
	return cmocka_run_group_tests_name("image rights", tests, NULL, NULL);
}
