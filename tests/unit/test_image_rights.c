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

/* A folder where another user can have put anything: sticky, open to a group, or his own. */
static const struct {
	mode_t mode;
	uid_t owner;
} shared[] = {{01777, 0}, {0775, 0}, {0755, NOBODY}};

static bool is_root(const char *test)
{
	if (geteuid() == 0)
		return true;
	print_message("%s: skipped, needs root to set it up\n", test);
	return false;
}

static void share(unsigned i)
{
	assert_int_equal(chmod(dir, shared[i].mode), 0);
	assert_int_equal(chown(dir, shared[i].owner, shared[i].owner), 0);
}

static void nobody_is_given_memory_by_a_file_put_there(void **state)
{
	(void)state;
	struct stat st;
	if (!is_root("nobody_is_given_memory_by_a_file_put_there"))
		skip();
	for (unsigned i = 0; i < 3; i++)
		for (int second_name = 0; second_name < 2; second_name++) { /* his file; or one of ours, by a link he made */
			kit_path other;
			kit_join(other, dir, "other");
			share(i);
			kit_put_old_file();
			assert_int_equal(chmod(image, 0666), 0);
			assert_int_equal(second_name ? link(image, other) : chown(image, NOBODY, NOBODY), 0);
			kit_write_up_to(image, 6, i == 1);
			assert_int_equal(stat(image, &st), 0);
			assert_int_equal(st.st_uid, 0);
			assert_int_equal(st.st_gid, 0);
			assert_int_equal(st.st_mode & 07777, 0600);
			unlink(image);
			unlink(other);
		}
}

/* What is ours there keeps its rights, as in a folder of ours. */
static void our_own_file_in_a_shared_folder_keeps_its_rights(void **state)
{
	(void)state;
	assert_int_equal(chmod(dir, 01777), 0);
	kit_put_old_file();
	assert_int_equal(chmod(image, 0644), 0);
	kit_write_up_to(image, 6, false);
	assert_int_equal(mode_of(image), 0644);
}

static void a_link_of_another_user_is_not_followed(void **state)
{
	(void)state;
	kit_path name;
	struct stat st;
	if (!is_root("a_link_of_another_user_is_not_followed"))
		skip();
	kit_join(name, dir, "link");
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(symlink("image", name), 0);
		assert_int_equal(lchown(name, NOBODY, NOBODY), 0);
		share(i);
		kit_put_old_file();
		kit_expect_refused(name, -EPERM, "is a link of user 65534");
		kit_check_old_file();
		unlink(image);
		kit_expect_refused(name, -EPERM, "is a link of user 65534"); /* nor to what is not there yet */
		assert_int_equal(lchown(name, 0, 0), 0);
		kit_write_up_to(name, 6, false);
		assert_int_equal(lstat(image, &st), 0);
		unlink(image);
		unlink(name);
	}
	assert_int_equal(chmod(dir, 0755), 0); /* where only we write, we have made it */
	assert_int_equal(chown(dir, 0, 0), 0);
	assert_int_equal(symlink("image", name), 0);
	assert_int_equal(lchown(name, NOBODY, NOBODY), 0);
	kit_write_up_to(name, 6, false);
	assert_int_equal(lstat(image, &st), 0);
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
		each_in_a_folder(nobody_is_given_memory_by_a_file_put_there),
		each_in_a_folder(our_own_file_in_a_shared_folder_keeps_its_rights),
		each_in_a_folder(a_link_of_another_user_is_not_followed),
		each_in_a_folder(what_may_not_be_written_is_refused),
	};
	return cmocka_run_group_tests_name("image rights", tests, NULL, NULL);
}
