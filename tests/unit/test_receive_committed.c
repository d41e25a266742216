/* SPDX-License-Identifier: MIT */
/* An image that got its name, and whose folder then could not be synced: a failure, and the image stands. */
#include <fcntl.h>
#include <ftw.h>
#include <godwit.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stream_check.h"

static char dir[64], stream[96], uri[112], image[96];
static bool folders_fail;

/* In place of libc's. */
int fsync(int fd)
{
	struct stat st;
	errno = EIO;
	return folders_fail && !fstat(fd, &st) && S_ISDIR(st.st_mode) ? -1 : (int)syscall(SYS_fsync, fd);
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/godwit-place-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(stream, sizeof stream, "%s/stream", dir);
	snprintf(uri, sizeof uri, "file:%s", stream);
	snprintf(image, sizeof image, "%s/image", dir);
	folders_fail = false;
	struct sb b = {0};
	put_ram(&b);
	put_rest(&b);
	int fd = open(stream, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0 && write(fd, b.p, b.n) == (ssize_t)b.n);
	close(fd);
	sb_fini(&b);
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	(void)state;
	return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static int receive(gw_job *job, struct gw_receive_result *got)
{
	*got = (struct gw_receive_result)GW_INIT(*got);
	return gw_receive(job, uri, image, NULL, got);
}

static bool is_there(void) { return access(image, F_OK) == 0; }

static void its_folder_is_not_safe(void **state)
{
	(void)state;
	struct gw_receive_result got;
	gw_job *job;
	gw_info *info;
	for (int replaces = 0; replaces < 2; replaces++) {
		assert_int_equal(gw_job_new(&job), 0);
		folders_fail = true;
		assert_int_equal(receive(job, &got), -EIO);
		assert_non_null(strstr(gw_job_error(job), "is in place, but its folder"));
		assert_true(got.image_committed && is_there());
		folders_fail = false;
		assert_int_equal(gw_inspect(job, image, NULL, &info), 0);
		gw_info_free(info);
		gw_job_free(job);
	}
}

/* The same of gw_convert, which has no result. */
static void what_was_converted(void **state)
{
	(void)state;
	gw_job *job;
	for (int i = 0; i < 6; i++) { /* each twice: new, and in place of another */
		struct gw_convert_opts o = GW_INIT(o);
		o.to = (const enum gw_format[]){GW_FORMAT_IMAGE, GW_FORMAT_STREAM, GW_FORMAT_RAW}[i / 2];
		if (i % 2 == 0)
			unlink(image);
		assert_int_equal(gw_job_new(&job), 0);
		folders_fail = true;
		assert_int_equal(gw_convert(job, stream, image, &o), GW_UNSYNCED);
		assert_non_null(strstr(gw_job_error(job), "is in place, but its folder"));
		folders_fail = false;
		assert_true(is_there());
		gw_job_free(job);
	}
}

static void it_did_not_get_there(void **state)
{
	(void)state;
	struct gw_receive_result got;
	gw_job *job;
	assert_int_equal(gw_job_new(&job), 0);
	assert_int_equal(truncate(stream, 1000), 0);
	assert_int_not_equal(receive(job, &got), 0);
	assert_false(got.image_committed || is_there());
	gw_job_free(job);
}

static void all_is_well(void **state)
{
	(void)state;
	struct gw_receive_result got;
	gw_job *job;
	assert_int_equal(gw_job_new(&job), 0);
	assert_int_equal(receive(job, &got), 0);
	assert_true(got.image_committed && is_there());
	gw_job_free(job);
}

#define each(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {each(its_folder_is_not_safe), each(what_was_converted), each(it_did_not_get_there),
		each(all_is_well)};
	return cmocka_run_group_tests_name("receive_in_place", tests, NULL, NULL);
}
