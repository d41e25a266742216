/* SPDX-License-Identifier: MIT */
/*
 * An image that may have to be gone on with by another process: its name while it is not whole, and its state file (recv_state.h). Coming back
 * to it is in writer_resume.c. For one thread: post-copy has no page writers.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "image/file/fileio.h"
#include "image/write/page_writer.h"
#include "image/journal/recv_state.h"
#include "image/write/writer_private.h"

typedef unsigned long long ull;

enum { MARKER_GAP_BYTES = 1 << 20, DESCRIBED_TIMES = 16, USUAL_DEVICE_BYTES = 4 << 20 };

/* Direct I/O keeps pages back until a buffer is full, and a bit must never be ahead of its page. */
static int end_direct(struct gw__image_writer *w, struct gw__error *error)
{
	if (w->direct_fd < 0)
		return 0;
	int r = gw__writer_settle_stage(w, error);
	gw__page_writer_free(w->stage.page_writer);
	w->stage = (struct gw__stage){0};
	close(w->direct_fd);
	w->direct_fd = -1;
	return r;
}

void gw__writer_use_recv_state_maps(struct gw__image_writer *w, bool copy)
{
	for (uint32_t i = 0; i < w->blocks.n; i++) {
		struct gw__page_maps mine = w->maps[i];
		gw__recv_state_maps(w->partial, i, &w->maps[i].present, &w->maps[i].received);
		if (copy && !w->blocks.v[i].ignored) {
			memcpy(w->maps[i].present.words, mine.present.words, gw__bitmap_wire_bytes(mine.present.bits));
			memcpy(w->maps[i].received.words, mine.received.words, gw__bitmap_wire_bytes(mine.received.bits));
		}
		gw__bitmap_fini(&mine.present);
		gw__bitmap_fini(&mine.received);
	}
}

/* After the end of the finished image, whatever the description will say of so many bytes of device state. */
static uint64_t marker_off_for(const struct gw__image_writer *w, uint64_t device_bytes)
{
	return w->cursor + DESCRIBED_TIMES * device_bytes + MARKER_GAP_BYTES;
}

/* The image and its state know each other by a number that stands where the finished image will have ended long before. */
static int put_marker(struct gw__image_writer *w, uint64_t off, struct gw__error *error)
{
	struct gw__marker *m = &w->marker;
	if (getrandom(m->id, sizeof m->id, 0) != sizeof m->id)
		return gw__error_errno(error, errno, "no random number for %s", w->file.dest.path);
	int r = gw__file_write(w->file.fd, w->file.dest.path, off, m->id, sizeof m->id, error);
	if (!r && fdatasync(w->file.fd))
		r = gw__error_errno(error, errno, "cannot make %s safe on its disk", w->file.dest.path);
	m->at_off = r ? 0 : off;
	m->cursor_then = r ? 0 : w->cursor;
	return r;
}

/*
 * What the image has before its pages is made safe as long as there are none: at the switch the guest stands still, and pages that a crash takes
 * are asked for again.
 */
int gw__image_prepare_recv_state(struct gw__image_writer *w, struct gw__error *error)
{
	char image[NAME_MAX + 1], state[NAME_MAX + 1];
	assert(w->phase == GW__WRITER_RAM && !w->partial && !w->prepared);
	int r = gw__destination_path_partial_names(&w->file.dest, image, state, error);
	if (!r && (faccessat(w->file.dest.dir_fd, image, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT))
		r = gw__error_set(error, -EEXIST, "%s.partial is there already; move it away if nobody needs it", w->file.dest.path);
	if (!r)
		r = gw__recv_state_create(&w->file.dest, &w->blocks, w->page_bytes, &w->prepared, error);
	if (!r)
		r = put_marker(w, marker_off_for(w, USUAL_DEVICE_BYTES), error);
	return gw__writer_fail(w, r);
}

int gw__image_begin_recv_state(struct gw__image_writer *w, struct gw__error *error)
{
	char image[NAME_MAX + 1], state[NAME_MAX + 1];
	int r = w->prepared ? 0 : gw__image_prepare_recv_state(w, error);
	if (!r)
		gw__recv_state_begin_switch(w->prepared);
	if (!r)
		r = end_direct(w, error);
	if (!r)
		r = gw__destination_path_partial_names(&w->file.dest, image, state, error);
	if (!r)
		r = gw__atomic_file_name_partial(&w->file, image, error);
	if (!r) {
		w->witness_fd = gw__atomic_file_open_witness(&w->file);
		w->partial = w->prepared;
		w->prepared = NULL;
		gw__writer_use_recv_state_maps(w, true);
	}
	return gw__writer_fail(w, r);
}

int gw__image_put_list(struct gw__image_writer *w, const struct gw__config *config, struct gw__view user_data, struct gw__error *error)
{
	struct gw__recv_state_saved saved = {.marker_off = w->cursor,
		.base_off = w->opts.base_off,
		.start_off = w->start_off,
		.cursor = w->cursor,
		.ram_id = w->ram_id,
		.config = *config,
		.blocks = w->blocks, /* a view */
		.user_data = user_data};
	assert(w->phase == GW__WRITER_RAM && w->prepared);
	return gw__writer_fail(w, gw__recv_state_put_list(w->prepared, &saved, error));
}

int gw__writer_sync(struct gw__image_writer *w, struct gw__error *error)
{
	if (fdatasync(w->file.fd) == 0)
		return 0;
	return gw__error_errno(error, errno, "cannot make %s safe on its disk", w->file.dest.path);
}

/* All but the pages is on the disk already, as a rule. */
static int settle_marker(struct gw__image_writer *w, struct gw__recv_state_saved *saved, struct gw__error *error)
{
	uint64_t least_off = marker_off_for(w, saved->package.n + saved->early.n);
	int r = w->marker.cursor_then == w->cursor && w->marker.at_off >= least_off ? 0 : put_marker(w, least_off, error);
	saved->marker_off = w->marker.at_off;
	memcpy(saved->id, w->marker.id, sizeof saved->id);
	return r;
}

int gw__image_persist_handover(struct gw__image_writer *w, const struct gw__config *config, struct gw__view early, struct gw__view package,
	struct gw__view user_data, struct gw__error *error)
{
	struct gw__recv_state_saved saved = {.base_off = w->opts.base_off,
		.start_off = w->start_off,
		.cursor = w->cursor,
		.ram_id = w->ram_id,
		.config = *config,
		.blocks = w->blocks, /* a view */
		.early = early,
		.package = package,
		.user_data = user_data};
	assert(w->phase == GW__WRITER_RAM && w->partial);
	int r = settle_marker(w, &saved, error);
	if (!r)
		r = gw__recv_state_persist_handover(w->partial, &saved, error);
	w->file.keep_partial = !r || gw__recv_state_is_layout_only(w->partial); /* what is on the disk may say more than we know */
	return gw__writer_fail(w, r);
}

int gw__image_checkpoint(struct gw__image_writer *w, struct gw__error *error)
{
	if (!w->partial || w->phase != GW__WRITER_RAM)
		return 0;
	int r = gw__writer_sync(w, error);
	return gw__writer_fail(w, r ? r : gw__recv_state_checkpoint(w->partial, error));
}

int gw__image_set_ram_id(struct gw__image_writer *w, uint32_t id, struct gw__error *error)
{
	uint8_t bytes[4];
	assert(w->phase == GW__WRITER_RAM);
	w->ram_id = id;
	gw__be_put(bytes, id, sizeof bytes);
	int r = gw__file_write(w->file.fd, w->file.dest.path, w->start_off + 1, bytes, sizeof bytes, error);
	if (!r) /* the footer of START, after which nothing was put */
		r = gw__file_write(w->file.fd, w->file.dest.path, w->cursor - sizeof bytes, bytes, sizeof bytes, error);
	return gw__writer_fail(w, r);
}

bool gw__image_is_committed(const struct gw__image_writer *w) { return w->phase == GW__WRITER_DONE; }

const struct gw__bitmap *gw__image_received(const struct gw__image_writer *w, uint32_t block)
{
	assert(block < w->blocks.n);
	return &w->maps[block].received;
}

const struct gw__blocks *gw__image_blocks(const struct gw__image_writer *w) { return &w->blocks; }

void gw__image_discard_recv_state(struct gw__image_writer *w)
{
	w->file.keep_partial = false;
	if (w->partial)
		gw__recv_state_remove(w->partial);
}
