/* SPDX-License-Identifier: MIT */
/* What the image tests share: a folder that goes away, a small guest, its device state, and whole files as
 * bytes. */
#ifndef GW_TESTS_IMAGE_KIT_H
#define GW_TESTS_IMAGE_KIT_H

#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/read/image.h"
#include "image/write/writer.h"
#include "wire/header.h"
#include "wire/framing.h"
#include "wire/ram.h"

enum { KIT_PAGE = 4096, KIT_RAM_ID = 3, KIT_TAIL_ROOM = 4096 };
#define KIT_MIB (UINT64_C(1) << 20)

#define assert_says(error, part)                                                                                                           \
	do {                                                                                                                               \
		if (!strstr((error).text, (part)))                                                                                         \
			fail_msg("\"%s\" does not say \"%s\"", (error).text, (part));                                                      \
	} while (0)

typedef char kit_path[512];

static inline void kit_make_dir(kit_path dir)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, sizeof(kit_path), "%s/godwit-image-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
}

static inline void kit_join(kit_path to, const char *dir, const char *name)
{
	assert_true(snprintf(to, sizeof(kit_path), "%s/%s", dir, name) < (int)sizeof(kit_path));
}

static inline int kit_remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

static inline void kit_remove_dir(const char *dir) { nftw(dir, kit_remove_entry, 16, FTW_DEPTH | FTW_PHYS); }

/* Entries of a folder; `.` and `..` do not count. */
static inline unsigned kit_count_entries(const char *dir)
{
	unsigned n = 0;
	DIR *d = opendir(dir);
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static inline uint8_t *kit_read_file(const char *path, size_t *n)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	uint8_t *bytes = malloc((size_t)st.st_size + 1);
	assert_non_null(bytes);
	assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
	close(fd);
	*n = (size_t)st.st_size;
	return bytes;
}

static inline void kit_write_file(const char *path, const void *bytes, size_t n, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* Each test has a folder of its own, and in it the name of an image. */
static kit_path dir, image;

static inline int kit_setup(void **state)
{
	(void)state;
	kit_make_dir(dir);
	kit_join(image, dir, "image");
	return 0;
}

static inline int kit_teardown(void **state)
{
	(void)state;
	kit_remove_dir(dir);
	return 0;
}

/* False, and said so, where the folder's file system has no direct I/O. */
static inline bool kit_has_direct_io(void)
{
	kit_path probe;
	kit_join(probe, dir, "probe");
	int fd = open(probe, O_RDWR | O_CREAT | O_DIRECT, 0600);
	bool has = fd >= 0;
	if (has)
		close(fd);
	unlink(probe);
	if (!has)
		print_message("not tested with direct I/O, which %s does not have\n", dir);
	return has;
}

#define each_in_a_folder(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

static inline void kit_config(struct gw__config *c, bool ignore_shared)
{
	memset(c, 0, sizeof *c);
	strcpy(c->machine, "pc-i440fx-10.0");
	c->page_bits = 12;
	if (ignore_shared)
		assert_int_equal(gw__config_add_cap(c, "x-ignore-shared"), 0);
}

static inline void kit_add_block(struct gw__blocks *blocks, const char *name, uint64_t bytes, bool ignored)
{
	struct gw__block b = {.used_bytes = bytes, .address = UINT64_C(0x100000000) + blocks->total_bytes, .ignored = ignored};
	strcpy(b.name, name);
	assert_int_equal(gw__blocks_add(blocks, &b), 0);
}

/* The blocks of a small PC, of odd sizes. */
static inline struct gw__blocks kit_small_pc(void)
{
	struct gw__blocks blocks = {0};
	kit_add_block(&blocks, "pc.ram", 131 * KIT_PAGE, false);
	kit_add_block(&blocks, "/rom@etc/acpi/tables", 64 * KIT_PAGE, false);
	kit_add_block(&blocks, "0000:00:02.0/vga.vram", 65 * KIT_PAGE, false);
	kit_add_block(&blocks, "/rom@etc/acpi/rsdp", KIT_PAGE, false);
	return blocks;
}

/* Content that no other page has and that is never zero. */
static inline void kit_fill(uint8_t page[KIT_PAGE], uint32_t block, uint64_t index, uint32_t generation)
{
	uint64_t v = (index + 1) * 0x9e3779b97f4a7c15u + block * 0xc2b2ae3d27d4eb4fu + generation;
	for (size_t i = 0; i < KIT_PAGE; i += 8) {
		v = v * 6364136223846793005u + 1442695040888963407u;
		memcpy(page + i, &v, 8);
	}
	page[0] |= 1;
}

static inline void kit_put_page(struct gw__image_writer *w, uint32_t block, uint64_t index, uint32_t generation)
{
	uint8_t page[KIT_PAGE];
	struct gw__error error = {0};
	const struct iovec iov = {page, sizeof page};
	kit_fill(page, block, index, generation);
	assert_ok(gw__image_put_pages(w, block, index * KIT_PAGE, &iov, 1, &error), error);
}

static inline void kit_put_device(struct gw__wr *wr, uint32_t id, const char *idstr, uint32_t instance, uint64_t value)
{
	struct gw__section s = {.type = GW__ITEM_FULL, .id = id, .instance = instance, .version = 2};
	strcpy(s.idstr, idstr);
	gw__section_encode(wr, &s);
	gw__wr_be64(wr, value);
	gw__footer_encode(wr, id);
}

static const char kit_description[] = "{\"configuration\": {\"vmsd_name\": \"configuration\", \"version\": 1, \"fields\": ["
				      "{\"name\": \"len\", \"type\": \"uint32\", \"size\": 4}, {\"name\": \"name\", \"type\": \"buffer\", "
				      "\"size\": 14}]},"
				      "\"page_size\": 4096, \"devices\": ["
				      "{\"name\": \"timer\", \"instance_id\": 0, \"vmsd_name\": \"timer\", \"version\": 2, \"fields\": ["
				      "{\"name\": \"ticks\", \"type\": \"int64\", \"size\": 8}]},"
				      "{\"name\": \"apic\", \"instance_id\": 0, \"vmsd_name\": \"apic\", \"version\": 2, \"fields\": ["
				      "{\"name\": \"base\", \"type\": \"uint64\", \"size\": 8}]},"
				      "{\"name\": \"apic\", \"instance_id\": 1, \"vmsd_name\": \"apic\", \"version\": 2, \"fields\": ["
				      "{\"name\": \"base\", \"type\": \"uint64\", \"size\": 8}]}]}";

static inline void kit_put_devices(struct gw__wr *wr)
{
	kit_put_device(wr, 0, "timer", 0, 0x1122334455667788);
	kit_put_device(wr, 7, "apic", 0, 0xfee00900);
	kit_put_device(wr, 8, "apic", 1, 0x7e00000008000600); /* looks like its own footer */
}

static inline void kit_put_description(struct gw__wr *wr)
{
	gw__wr_u8(wr, GW__ITEM_VMDESC);
	gw__wr_be32(wr, sizeof kit_description - 1);
	gw__wr_bytes(wr, kit_description, sizeof kit_description - 1);
}

/* Everything behind END of RAM. */
static inline void kit_put_tail(struct gw__image_writer *w)
{
	uint8_t buf[KIT_TAIL_ROOM];
	struct gw__error error = {0};
	struct gw__wr wr = gw__wr_over(buf, sizeof buf);
	kit_put_devices(&wr);
	gw__wr_u8(&wr, GW__ITEM_EOF);
	kit_put_description(&wr);
	assert_false(wr.full);
	assert_ok(gw__image_put_raw(w, buf, gw__wr_used(&wr), &error), error);
}

/* An empty PART of RAM, or SWITCHOVER_START. */
static inline void kit_put_part(struct gw__image_writer *w)
{
	static const uint8_t part[] = {2, 0, 0, 0, KIT_RAM_ID, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x7e, 0, 0, 0, KIT_RAM_ID};
	struct gw__error error = {0};
	assert_ok(gw__image_put_raw(w, part, sizeof part, &error), error);
}

static inline void kit_put_switchover(struct gw__image_writer *w)
{
	static const uint8_t switchover[] = {8, 0, 11, 0, 0};
	struct gw__error error = {0};
	assert_ok(gw__image_put_raw(w, switchover, sizeof switchover, &error), error);
}

/* Up to the place where pages may come. */
static inline struct gw__image_writer *kit_begin(const char *path, const struct gw__image_writer_opts *o, const struct gw__blocks *blocks,
	bool ignore_shared)
{
	struct gw__image_writer *w;
	struct gw__error error = {0};
	struct gw__config config;
	kit_config(&config, ignore_shared);
	assert_ok(gw__image_create(path, o, &w, &error), error);
	assert_ok(gw__image_put_config(w, &config, &error), error);
	assert_ok(gw__image_put_blocks(w, KIT_RAM_ID, blocks, &error), error);
	return w;
}

/* From the last page to the end. */
static inline void kit_finish(struct gw__image_writer *w)
{
	struct gw__error error = {0};
	kit_put_part(w);
	kit_put_switchover(w);
	assert_ok(gw__image_put_ram_end(w, &error), error);
	kit_put_tail(w);
	assert_ok(gw__image_commit(w, &error), error);
	gw__image_writer_close(w);
}

/* Every third page of a guest has content; the others were never put. */
static inline void kit_write_image(const char *path, uint64_t base_off, const struct gw__blocks *blocks)
{
	const struct gw__image_writer_opts o = {.base_off = base_off};
	struct gw__image_writer *w = kit_begin(path, &o, blocks, false);
	for (uint32_t b = 0; b < blocks->n; b++)
		for (uint64_t i = 0; i * KIT_PAGE < blocks->v[b].used_bytes; i += 3)
			kit_put_page(w, b, i, 0);
	kit_finish(w);
}

/* Whoever maps the file as memory finds zeros in the place of each page that it does not hold. */
static inline void kit_check_absent(void)
{
	struct gw__image *im;
	struct gw__error error = {0};
	uint64_t page = 0;
	assert_ok(gw__image_open(image, 0, &im, &error), error);
	for (uint32_t b = 0; b < im->blocks.n; b++) {
		if (im->blocks.v[b].ignored)
			continue;
		assert_ok(gw__image_find_stale(im, b, (struct gw__cancel_check){0}, &page, &error), error);
		assert_int_equal(page, im->present[b].bits);
	}
	gw__image_close(im);
}

#endif
