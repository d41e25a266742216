/* SPDX-License-Identifier: MIT */
/*
 * Writes a mapped-ram image exactly as QEMU lays it out (docs/spec/mapped-ram.md), so that stock QEMU loads
 * it.
 *
 * Nothing is half done: the file grows without a name (O_TMPFILE, or a clearly named partial beside the
 * target where the file system cannot), and appears under its name in gw__image_commit, whole and synced; any
 * other way out leaves what was there before. Calls come in the order of the numbers below. One thread makes
 * them, except that between 3 and 5 any number of threads may put and peek pages, each page by one at a time. A
 * `direct` writer stages what is put here, so there all threads but one have page writers (page_writer.h) instead.
 * Errors come with a sentence; after one the image cannot be committed any more, whoever overlooked it.
 */
#ifndef GW_IMAGE_WRITE_WRITER_H
#define GW_IMAGE_WRITE_WRITER_H

#include <sys/uio.h>

#include "base/bitmap.h"
#include "base/conditions.h"
#include "base/error.h"
#include "image/journal/recv_state.h"
#include "wire/header.h"
#include "wire/ram.h"

struct gw__image_writer;

struct gw__image_writer_opts {
	uint64_t base_off; /* the first base_off bytes of an existing file are kept, as with QEMU's offset= */
	bool unsynced;     /* a temporary image: commit does not wait for the disk */
	bool visible;      /* grow under the partial name even where the file could stay without one */
	bool direct;       /* pages go past the page cache; headers, bitmaps and device state do not, as with QEMU */
};

/*
 * Checks that the target can be replaced (a regular file or nothing, not read-only, in a writable folder)
 * before a byte is received. A link is followed. The new file is private (0600, as QEMU's) until it takes
 * over owner, group, permissions and access list of the one it replaces. `direct` is refused here where the
 * file system has no direct I/O, or in put_config where it wants larger units than the guest's pages.
 */
int gw__image_create(const char *path, const struct gw__image_writer_opts *o, struct gw__image_writer **w, struct gw__error *error);
/* Drops what was written; nothing appears. NULL is fine; after commit it only frees. */
void gw__image_writer_close(struct gw__image_writer *w);

/* 1. The configuration; the capability mapped-ram is added, the list kept. */
int gw__image_put_config(struct gw__image_writer *w, const struct gw__config *config, struct gw__error *error);
/*
 * 2. Whole sections or commands, verbatim, at this place of the stream: early devices, empty PARTs of RAM,
 *    SWITCHOVER_START, devices, EOF, description. From here to 6, any number of times.
 */
int gw__image_put_raw(struct gw__image_writer *w, const void *bytes, size_t n, struct gw__error *error);
/*
 * Where the next raw bytes go, and other ones in the place of some that were put: as many, as nothing else can move. For what changes
 * while the image is filled again and again.
 */
uint64_t gw__image_raw_off(const struct gw__image_writer *w);
int gw__image_replace_raw(struct gw__image_writer *w, uint64_t off, const void *bytes, size_t n, struct gw__error *error);
/* A failure if the file system has no room for so many bytes more; 0 if it has, or does not say. */
int gw__image_check_room(const struct gw__image_writer *w, uint64_t bytes, struct gw__error *error);
/*
 * 3. START of RAM with the block list, which was checked; places every block. `blocks` is copied, its offsets
 *    are not looked at. `ignored` blocks (legal with x-ignore-shared) get no place. -EFBIG when the file cannot
 *    be that long.
 */
int gw__image_put_blocks(struct gw__image_writer *w, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error);
/*
 * 4. Pages in any order, any number of times; offsets were checked by the caller against the block list.
 *    `n` consecutive pages, one iovec each. Pages of zeros are found and treated like put_zeros.
 */
int gw__image_put_pages(struct gw__image_writer *w, uint32_t block, uint64_t off, const struct iovec *pages, int n,
	struct gw__error *error);
/* A page that had content keeps it in the file, under a cleared bit, until RAM ends; then it becomes a hole. */
void gw__image_put_zeros(struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t pages);
/* What the image holds of a page now: 0, GW__NO_PAGE if neither content nor zeros were ever put. */
int gw__image_read_back_page(struct gw__image_writer *w, uint32_t block, uint64_t off, void *page, struct gw__error *error);
/*
 * Between 3 and 5, for a source that switches to post-copy. What was put of these pages is void: neither content nor zeros came. */
void gw__image_discard(struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t pages);
/*
 * After 3, for a source that may switch: the state is created and locked and has its room, so that the next call finds all it needs.
 * -EEXIST: something has one of the names.
 */
int gw__image_prepare_recv_state(struct gw__image_writer *w, struct gw__error *error);
/* Right after it: who the source is, safe on the disk. `user_data` is the caller's. */
int gw__image_put_list(struct gw__image_writer *w, const struct gw__config *config, struct gw__view user_data, struct gw__error *error);
/*
 * The source begins to switch: from here on the file is called IMAGE.partial, and its bitmaps live in IMAGE.partial.state (recv_state.h). Direct
 * I/O ends. The image still goes away with the writer; the state too, unless it has a list, which stays even if this fails.
 */
int gw__image_begin_recv_state(struct gw__image_writer *w, struct gw__error *error);
/*
 * All that is needed to finish without the source's first words: both files now stay, whatever happens to us, and with a list also if this
 * fails. `config` as it stands in the image; early devices and package as they came; `user_data` is the caller's.
 */
int gw__image_persist_handover(struct gw__image_writer *w, const struct gw__config *config, struct gw__view early, struct gw__view package,
	struct gw__view user_data, struct gw__error *error);
/* What was put so far survives the host, too. */
int gw__image_checkpoint(struct gw__image_writer *w, struct gw__error *error);
/*
 * A writer that stands where one before it stopped; `*saved` lives as long as it does. `*fell_back`: the host was started anew at
 * some time, pages since the checkpoint before that are forgotten. Errors as of gw__recv_state_open. Committed already: nothing more may be put.
 */
int gw__image_resume(const char *path, struct gw__image_writer **w, const struct gw__recv_state_saved **saved, bool *rolled_back,
	struct gw__error *error);
/*
 * Another section id of RAM than put_blocks was given, where it is learned late; or that one again, after an earlier process may have put
 * another. Nothing may have been put raw since.
 */
int gw__image_set_ram_id(struct gw__image_writer *w, uint32_t id, struct gw__error *error);
bool gw__image_is_committed(const struct gw__image_writer *w);
/* The pages of a block whose content is in the file. As above: between 3 and 5. */
const struct gw__bitmap *gw__image_present(const struct gw__image_writer *w, uint32_t block);
/* The pages of a block that were put; empty for an ignored one. */
const struct gw__bitmap *gw__image_received(const struct gw__image_writer *w, uint32_t block);
const struct gw__blocks *gw__image_blocks(const struct gw__image_writer *w);
/* Nobody will have to go on: the state file goes, and with the writer an image that was not committed. */
void gw__image_discard_recv_state(struct gw__image_writer *w);

/*
 * For an image that is filled again and again, and outlives its process (image/epochs/epoch_journal.h): it has this name in its folder from now on, and keeps it
 * when the writer goes away. What another process has to know to reopen it: `saved` gets views.
 */
int gw__image_keep_as(struct gw__image_writer *w, const char *name, struct gw__error *error);
void gw__image_describe(const struct gw__image_writer *w, struct gw__recv_state_saved *saved);
int gw__image_sync_pages(struct gw__image_writer *w,
	struct gw__error *error); /* between 3 and 5, from any thread: what was put survives the host */
/*
 * A writer between 3 and 5 of the file `name` beside `path`, whose pages with content are `maps`, one bitmap after the other. -ENOENT: there is none; -EPERM: it
 * is not ours alone. `temporary`: the file goes with the writer, unless that commits, which does not sync it.
 */
int gw__image_reopen(const char *path, const char *name, bool temporary, const struct gw__recv_state_saved *saved, struct gw__view maps,
	struct gw__image_writer **w, struct gw__error *error);

/* 5. Absent pages read as zeros from now on, bitmaps go to their places, then END of RAM. */
int gw__image_put_ram_end(struct gw__image_writer *w, struct gw__error *error);
/* Before 6, also without it: all that was put survives the host. It still has no name. */
int gw__image_sync(struct gw__image_writer *w, struct gw__error *error);
/* 6. EOF and the description, if there is one, were put as raw bytes: make it safe and give it its name. */
int gw__image_commit(struct gw__image_writer *w, struct gw__error *error);

struct gw__image_writer_stats {
	uint64_t pages_present; /* with content, now */
	uint64_t zero_pages;    /* zeros put, counting repetitions */
	uint64_t pages_written; /* content put, counting repetitions */
};
/* For progress; from any thread. */
struct gw__image_writer_stats gw__image_writer_stats(const struct gw__image_writer *w);

#endif
