/* SPDX-License-Identifier: MIT */
/*
 * A COLO secondary that says anything to our primary, which has two images of one VM: whatever comes, the primary is in a state of its table, and what it
 * did not hear acknowledged is not done.
 *
 * An input: a byte (1 the old dialect), and what the secondary says.
 */
#include "fuzz.h"

#include <errno.h>
#include <unistd.h>

#include "engine/sink/image_sink.h"
#include "image_primary.h"

enum { OLD = 1, CHECKPOINTS = 3, BLOCK_BYTES = 16 << 10, PAGE_BYTES = 4096 };

static char dir[64], path[2][80];
static struct gw__image *image[2];

/* --- a secondary in memory --- */

struct link {
	struct gw__chan chan; /* first */
	const uint8_t *bytes;
	size_t left;
};

static ssize_t read_bytes(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct link *l = (struct link *)c;
	size_t step = l->left < iov->iov_len ? l->left : iov->iov_len;
	(void)n, (void)error;
	if (step)
		memcpy(iov->iov_base, l->bytes, step);
	l->bytes += step;
	l->left -= step;
	return (ssize_t)step;
}

static ssize_t write_bytes(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	ssize_t sum = 0;
	(void)c, (void)error;
	for (int i = 0; i < n; i++)
		sum += (ssize_t)iov[i].iov_len;
	return sum;
}

static bool has_input(struct gw__chan *c)
{
	(void)c;
	return true; /* or the end */
}

/* --- two images --- */

static void remove_place(void)
{
	for (int i = 0; i < 2; i++) {
		gw__image_close(image[i]);
		unlink(path[i]);
	}
	rmdir(dir);
}

static void make_image(int i)
{
	struct gw__error error = {0};
	struct gw__image_writer *w = NULL;
	struct gw__sink *s = NULL;
	struct gw__blocks blocks = {0};
	struct gw__config config = {.machine = "pc-i440fx-11.1", .page_bits = 12};
	struct gw__block block = {.name = "m0", .used_bytes = BLOCK_BYTES};
	uint8_t page[PAGE_BYTES], device[64];
	struct gw__wr c = gw__wr_over(device, sizeof device);
	struct gw__section section = {.type = GW__ITEM_FULL, .id = 4, .idstr = "apic", .version = 3};
	memset(page, 'a' + i, sizeof page);
	gw__section_encode(&c, &section);
	gw__wr_be64(&c, (uint64_t)i);
	gw__footer_encode(&c, section.id);
	snprintf(path[i], sizeof path[i], "%s/%d", dir, i);
	HOLDS(!gw__blocks_add(&blocks, &block));
	HOLDS(!gw__image_create(path[i], &(struct gw__image_writer_opts){.unsynced = true}, &w, &error));
	HOLDS(!gw__sink_image_new(&w, &s, &error));
	HOLDS(!gw__sink_config(s, &config, &error) && !gw__sink_blocks(s, 1, &blocks, &error));
	HOLDS(!gw__sink_pages(s, 0, 0, &(struct iovec){page, sizeof page}, 1, &error) && !gw__sink_ram_end(s, &error));
	HOLDS(!gw__sink_device(s, &section, 0, (struct gw__view){device, gw__wr_used(&c)}, &error));
	HOLDS(!gw__sink_end(s, (struct gw__view){0}, &error) && !gw__sink_commit(s, &error));
	gw__sink_free(&s);
	gw__blocks_fini(&blocks);
	HOLDS(!gw__image_open(path[i], 0, &image[i], &error));
}

static void make_place(void)
{
	snprintf(dir, sizeof dir, "%s/godwit-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	HOLDS(mkdtemp(dir));
	make_image(0);
	make_image(1);
	atexit(remove_place);
}

/* --- and what must be true --- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct gw__chan_ops ops = {.readv = read_bytes, .writev = write_bytes, .has_input = has_input};
	static struct gw__run run;
	struct image_primary *p = NULL;
	if (!dir[0])
		make_place();
	if (!n)
		return 0;
	struct link link = {
		.chan = {.ops = &ops, .name = "a secondary", .fd = -1, .two_way = true, .idle_ms = -1, .cancel_fd = -1},
		.bytes = data + 1,
		.left = n - 1,
	};
	struct gw__outgoing out = {.main = &link.chan};
	struct image_primary_opts o = {.old_dialect = data[0] & OLD, .answer_ms = 1000};
	gw__run_init(&run);
	HOLDS(!image_primary_new(&run, &out, &o, &p));
	int r = image_primary_send_guest(p, image[0]);
	for (int i = 0; !r && i < CHECKPOINTS; i++) {
		HOLDS(image_primary_state(p) == GW__COLO_PRIMARY_IDLE);
		r = image_primary_checkpoint(p, image[i % 2 ? 0 : 1]);
	}
	fuzz_result_is_sound(r, &run.error);
	enum gw__colo_primary_state state = image_primary_state(p);
	HOLDS(r ? state == GW__COLO_PRIMARY_FAILED || state == GW__COLO_PRIMARY_LOST_RUNNING || state == GW__COLO_PRIMARY_LOST_STOPPED
		: state == GW__COLO_PRIMARY_IDLE);
	image_primary_free(p);
	return 0;
}
