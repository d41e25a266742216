/* SPDX-License-Identifier: MIT */
/* The library's calls on what an earlier call left of a guest: gw_drain, gw_partial_user_data, gw_partial_drop, without a source that comes. */
#include "image_kit.h"

#include <godwit.h>

enum { A_MOMENT_MS = 30 };

static gw_job *job;
static kit_path partial, state, address;

static uid_t user; /* that we are; files are made as who we are in truth */

/* In place of libc's. */
uid_t geteuid(void) { return user; }

static int setup(void **s)
{
	kit_setup(s);
	kit_join(partial, dir, "image.partial");
	kit_join(state, dir, "image.partial.state");
	snprintf(address, sizeof address, "unix:%.400s/address", dir);
	user = getuid();
	return gw_job_new(&job);
}

static int teardown(void **s)
{
	gw_job_free(job);
	return kit_teardown(s);
}
#define each(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void job_says(const char *part)
{
	if (!strstr(gw_job_error(job), part))
		fail_msg("\"%s\" does not say \"%s\"", gw_job_error(job), part);
}

enum { SIZE = sizeof(struct gw_drain_block) };

static const struct gw_drain_block usual[] = {{SIZE, "m0", 1 << 20, 4096}, {SIZE, "rom", 8192, 4096}};

static void options(struct gw_drain_opts *o, struct gw_link_opts *link)
{
	*link = (struct gw_link_opts){.size = sizeof *link, .connect_timeout_ms = A_MOMENT_MS};
	*o = (struct gw_drain_opts){.size = sizeof *o,
		.link = link,
		.machine = "pc",
		.page_bytes = 4096,
		.blocks = 2,
		.block = usual,
		.note = "words",
		.note_bytes = strlen("words")};
}

static int drain(const struct gw_drain_block *block, uint32_t blocks, uint64_t page_bytes)
{
	struct gw_link_opts link;
	struct gw_drain_opts o;
	options(&o, &link);
	o.page_bytes = page_bytes;
	o.blocks = blocks;
	o.block = block;
	return gw_drain(job, address, image, &o, NULL);
}

/* Nobody comes: what was begun stays. */
static void leave(void)
{
	assert_int_equal(drain(usual, 2, 4096), -ETIMEDOUT);
	assert_int_equal(kit_count_entries(dir), 2);
}

static void gone_on_with(void **s)
{
	(void)s;
	void *note = NULL;
	size_t n = 0;
	leave();
	assert_int_equal(gw_partial_user_data(job, image, &note, &n), 0);
	assert_int_equal(n, strlen("words"));
	assert_memory_equal(note, "words", n);
	free(note);
	leave();
}

/* Killed before there was anything to go on with. */
static void never_held(void **s)
{
	(void)s;
	uint8_t *zeros = calloc(1, 40000);
	assert_non_null(zeros);
	for (size_t n = 0; n <= 40000; n += 40000) {
		kit_write_file(state, zeros, n, 0600);
		if (n)
			kit_write_file(partial, zeros, n, 0600);
		leave();
		assert_int_equal(gw_partial_drop(job, image), 0);
	}
	free(zeros);
}

/* An empty state that another user put beside a part, or a part of another user beside one of ours: nothing is taken away. */
static void never_held_by_another_user(void **s)
{
	(void)s;
	struct stat st;
	if (user)
		return;
	for (int ours = 0; ours < 2; ours++) {
		kit_write_file(state, "", 0, 0600);
		kit_write_file(partial, "a guest", 7, 0600);
		assert_int_equal(chown(ours ? partial : state, 65534, 65534), 0);
		assert_int_equal(drain(usual, 2, 4096), -EPERM);
		job_says("belongs to user 65534");
		assert_int_equal(stat(partial, &st), 0);
		assert_int_equal(st.st_size, 7);
		assert_int_equal(stat(state, &st), 0);
		unlink(state);
		unlink(partial);
	}
	leave();
	assert_int_equal(chown(partial, 65534, 65534), 0);
	assert_int_equal(gw_partial_drop(job, image), -EPERM);
	job_says("belongs to user 65534");
	assert_int_equal(kit_count_entries(dir), 2);
	assert_int_equal(chown(partial, 0, 0), 0);
	assert_int_equal(gw_partial_drop(job, image), 0);
}

/* Who only reads the note does not use up that the host crashed. */
static void looked_at(void **s)
{
	(void)s;
	static const char boot[] = "01234567-89ab-cdef-0123-456789abcdef";
	uint8_t *before, *after;
	size_t n, m;
	void *note = NULL;
	struct gw_receive_result got = GW_INIT(got);
	leave();
	int fd = open(state, O_WRONLY);
	assert_true(fd >= 0 && pwrite(fd, boot, 36, 4096) == 36);
	close(fd);
	before = kit_read_file(state, &n);
	assert_int_equal(gw_partial_user_data(job, image, &note, &m), 0);
	free(note);
	after = kit_read_file(state, &m);
	assert_int_equal(n, m);
	assert_memory_equal(before, after, n);
	free(before);
	free(after);
	for (int i = 0; i < 2; i++) { /* each of those who go on is told */
		struct gw_drain_opts o;
		struct gw_link_opts link;
		options(&o, &link);
		got.host_crashed = false;
		assert_int_equal(gw_drain(job, address, image, &o, &got), -ETIMEDOUT);
		assert_true(got.host_crashed);
	}
}

/* A guest with other memory is not called whole because all of this one is there. */
static void of_another_guest(void **s)
{
	(void)s;
	const struct gw_drain_block larger[] = {{SIZE, "m0", 2 << 20, 4096}, {SIZE, "rom", 8192, 4096}},
				    named[] = {{SIZE, "m0", 1 << 20, 4096}, {SIZE, "ram", 8192, 4096}},
				    more[] = {usual[0], usual[1], {SIZE, "vga", 4096, 4096}},
				    huge[] = {{SIZE, "m0", 1 << 20, 1 << 20}, usual[1]}, moved[] = {usual[1], usual[0]};
	leave();
	assert_int_equal(drain(larger, 2, 4096), -EALREADY);
	job_says("other memory");
	assert_int_equal(drain(named, 2, 4096), -EALREADY);
	assert_int_equal(drain(more, 3, 4096), -EALREADY);
	assert_int_equal(drain(usual, 1, 4096), -EALREADY);
	assert_int_equal(drain(huge, 2, 4096), -EALREADY);
	assert_int_equal(drain(usual, 2, 8192), -EALREADY);
	assert_int_equal(drain(moved, 2, 4096), -ETIMEDOUT); /* it is the same memory */
	leave();
}

/* Another user's, or one that others can write to: nobody is given a guest by putting files beside an image. */
static void of_another_user(void **s)
{
	(void)s;
	void *note = NULL;
	size_t n;
	leave();
	for (int i = 0; i < 2; i++) {
		const char *path = i ? state : partial;
		assert_int_equal(chmod(path, 0620), 0);
		assert_int_equal(drain(usual, 2, 4096), -EPERM);
		job_says("may be written by others");
		assert_int_equal(chmod(path, 0602), 0);
		assert_int_equal(drain(usual, 2, 4096), -EPERM);
		assert_int_equal(chmod(path, 0640), 0); /* read, as an operator may have let somebody */
		leave();
		if (user)
			continue;
		assert_int_equal(chown(path, 65534, 65534), 0);
		assert_int_equal(drain(usual, 2, 4096), -EPERM);
		job_says("belongs to user 65534");
		assert_int_equal(chown(path, 0, 0), 0);
	}
	assert_int_equal(chmod(state, 0666), 0);
	assert_int_equal(gw_partial_user_data(job, image, &note, &n), -EPERM);
	assert_null(note);
	assert_int_equal(gw_partial_drop(job, image), -EPERM);
	assert_int_equal(kit_count_entries(dir), 2);
}

/* NFS gives the files of root to nobody, and others know no owners at all: ours are those that look like what we make there. */
static void of_ours_by_another_name(void **s)
{
	(void)s;
	leave();
	user += 1000;
	leave();
	assert_int_equal(kit_count_entries(dir), 2);
	assert_int_equal(chmod(partial, 0620), 0);
	assert_int_equal(drain(usual, 2, 4096), -EPERM);
}

/* Killed between the finish mark and the name: what is dropped does not take the place of what was there before. */
static void finished(bool named)
{
	static const uint8_t mark[24] = "GWFINISHED1\0\0\0\0\0\0\0\0\0\1"; /* and a length */
	leave();
	kit_write_file(image, "the old one", 11, 0600);
	int fd = open(state, O_WRONLY);
	assert_true(fd >= 0 && pwrite(fd, mark, sizeof mark, 8192) == sizeof mark);
	close(fd);
	if (named)
		assert_int_equal(rename(partial, image), 0);
}

static void is_the_old_one(void)
{
	size_t n;
	uint8_t *bytes = kit_read_file(image, &n);
	assert_int_equal(n, 11);
	assert_memory_equal(bytes, "the old one", n);
	free(bytes);
}

static void dropped(void **s)
{
	(void)s;
	leave();
	assert_int_equal(gw_partial_drop(job, image), 0);
	assert_int_equal(kit_count_entries(dir), 0);
	assert_int_equal(gw_partial_drop(job, image), -ENOENT);
	finished(false);
	assert_int_equal(gw_partial_source_rollback(job, address, image, NULL), -EALREADY);
	job_says("whole guest");
	is_the_old_one();
	assert_int_equal(kit_count_entries(dir), 3);
	assert_int_equal(gw_partial_drop(job, image), 0);
	is_the_old_one();
	assert_int_equal(kit_count_entries(dir), 1);
	unlink(image);
	finished(true);
	assert_int_equal(gw_partial_drop(job, image), -EALREADY);
	job_says("whole guest already");
	assert_int_equal(kit_count_entries(dir), 2);
}

/* What could not be taken away is not called gone. */
static void not_dropped(void **s)
{
	(void)s;
	leave();
	assert_int_equal(unlink(partial), 0);
	assert_int_equal(mkdir(partial, 0700), 0);
	assert_int_equal(gw_partial_drop(job, image), -EPERM);
	job_says("image.partial is no regular file");
	assert_int_equal(kit_count_entries(dir), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(gone_on_with),
		each(never_held),
		each(never_held_by_another_user),
		each(looked_at),
		each(of_another_guest),
		each(of_another_user),
		each(of_ours_by_another_name),
		each(dropped),
		each(not_dropped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
