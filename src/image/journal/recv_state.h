/* SPDX-License-Identifier: MIT */
/*
 * The state file beside a partly received image (docs/spec/partial.md): what has to be known to go on after a cut link, the death
 * of this process, or a crash of the host. IMAGE.partial.state beside IMAGE.partial.
 *
 * Two notions of what was received. The live bitmaps are a shared mapping, changed as pages arrive: a killed process
 * loses nothing, a crashed host may have written them before the pages they speak of. A checkpoint is a copy that was
 * made after the pages were synced. Which of the two holds is told by the kernel's boot id.
 *
 * Not the image itself, which the writer has. One thread; the file is locked as long as it is open.
 */
#ifndef GW_IMAGE_JOURNAL_RECV_STATE_H
#define GW_IMAGE_JOURNAL_RECV_STATE_H

#include "base/bitmap.h"
#include "base/bytes.h"
#include "base/error.h"
#include "image/file/destination_path.h"
#include "wire/header.h"
#include "wire/ram.h"

enum {
	GW__RECV_STATE_PAGE = 4096,
	GW__RECV_STATE_ID_BYTES = 16,
	GW__RECV_STATE_META_MAX = 1 << 30,
	GW__RECV_STATE_VERSION = 3,
	GW__RECV_STATE_VERSION_BEFORE = 2, /* is still read */
};

/* Everything but the bitmaps. `blocks` is owned; the pieces point into what was decoded, or are borrowed when it is written. */
struct gw__recv_state_saved {
	uint8_t id[GW__RECV_STATE_ID_BYTES]; /* also stands in the image, at marker_off */
	uint64_t marker_off;
	uint64_t base_off, start_off, cursor; /* of the image: where it begins, where START of RAM stands, and where END goes */
	uint32_t ram_id;
	struct gw__config config; /* as in the image */
	struct gw__blocks blocks;
	struct gw__view early;     /* device sections that stand before the end of RAM */
	struct gw__view package;   /* of post-copy, whole; empty: memory alone */
	struct gw__view user_data; /* the caller's */
};
void gw__recv_state_saved_fini(struct gw__recv_state_saved *saved);

/* The head page. */
struct gw__recv_state_head {
	uint32_t version;    /* decoded; what is encoded has the newest */
	bool layout_only;    /* nothing was held: who the source is, to give it its guest back */
	uint64_t maps_bytes; /* of one set of bitmaps */
	uint64_t meta_bytes;
	uint8_t meta_sum[16];
};
/* Pure. 0 or -EPROTO. `file_bytes` is the length of the whole file. */
int gw__recv_state_head_decode(const uint8_t page[GW__RECV_STATE_PAGE], uint64_t file_bytes, struct gw__recv_state_head *h,
	struct gw__error *error);
void gw__recv_state_head_encode(const struct gw__recv_state_head *h, uint8_t page[GW__RECV_STATE_PAGE]);
/* After the checksum: 0, -EPROTO or -ENOMEM; *saved needs a fini in any case. Its bitmaps take *maps_bytes. */
int gw__recv_state_meta_decode(const uint8_t *meta, size_t n, struct gw__recv_state_saved *saved, uint64_t *maps_bytes,
	struct gw__error *error);
size_t gw__recv_state_meta_bytes(const struct gw__recv_state_saved *saved);
/* False: it does not fit. */
bool gw__recv_state_meta_encode(const struct gw__recv_state_saved *saved, uint8_t *meta, size_t n);

struct gw__recv_state;

/* Is the place free for a new one? -EALREADY: a guest may depend on what is there. What was interrupted before it was held goes away. */
int gw__recv_state_check_free(const struct gw__destination_path *t, struct gw__error *error);

/*
 * A new one, locked, with room for the bitmaps of these blocks, all clear. It is nothing yet: somebody who opens it is told so, until
 * gw__recv_state_put_list or gw__recv_state_persist_handover. The target is borrowed and outlives it. -EEXIST when there is one.
 */
int gw__recv_state_create(const struct gw__destination_path *t, const struct gw__blocks *blocks, uint64_t page_bytes,
	struct gw__recv_state **p, struct gw__error *error);
/*
 * What it takes to give the source its guest back is on the disk before that begins to switch: after its first word of it, no failure and no
 * death of ours may leave less. `saved` without package. Closed before gw__recv_state_begin_switch, the file goes away all the same.
 */
int gw__recv_state_put_list(struct gw__recv_state *p, const struct gw__recv_state_saved *saved, struct gw__error *error);
/* The source has begun to switch, and may stand in postcopy-paused from now on: a list stays, whatever fails. */
void gw__recv_state_begin_switch(struct gw__recv_state *p);
/*
 * Everything is known: from here on it can be opened after any death. The list stays valid until the head, which is written last, says that
 * more is there; after a failure one of the two is.
 */
int gw__recv_state_persist_handover(struct gw__recv_state *p, const struct gw__recv_state_saved *saved, struct gw__error *error);

/*
 * One that was held. -ENOENT: there is none; -EPERM: it is not ours alone; -EBUSY: somebody else goes on with it; -EPROTO: it is damaged, or
 * nothing yet. `*saved` lives as long as it does. After a crash of the host the bitmaps are made those of the last checkpoint; `*fell_back`, if
 * that was ever done: what came after that checkpoint may be gone in its source as well.
 */
int gw__recv_state_open(const struct gw__destination_path *t, struct gw__recv_state **p, const struct gw__recv_state_saved **saved,
	bool *rolled_back, struct gw__error *error);

/* The same without its bitmaps, and nothing in it is changed; also of one that was never held and only kept its list. */
int gw__recv_state_look(const struct gw__destination_path *t, struct gw__recv_state **p, const struct gw__recv_state_saved **saved,
	struct gw__error *error);

/*
 * How many of the guest's pages were not received. `*rolled_back` as for gw__recv_state_open. Of one that was held and looked at; it settles its
 * bitmaps.
 */
int gw__recv_state_count_missing(struct gw__recv_state *p, uint64_t *pages, bool *rolled_back, struct gw__error *error);

/*
 * What nobody but the source can know: some pages, chosen anew each time, each as large as a page of the memory that backs it. None when the image is not
 * there, or has none. Of one that was held and looked at; it settles its bitmaps. `s` needs a fini in any case.
 */
struct gw__recv_state_samples {
	struct gw__recv_state_sample {
		uint32_t block;
		uint64_t off, bytes;
		uint8_t *content;
	} * v;
	unsigned n;
};
int gw__recv_state_sample(struct gw__recv_state *p, struct gw__recv_state_samples *s, struct gw__error *error);
void gw__recv_state_samples_fini(struct gw__recv_state_samples *s);

/* Nobody but this user can have written an open file, or can now; `path` is its own. 0, or -EPERM with a sentence. */
int gw__recv_state_check_ours(int fd, const char *path, struct gw__error *error);

/* The live bitmaps of block i: which pages have content, and which were received. Views; empty for an ignored block. */
void gw__recv_state_maps(const struct gw__recv_state *p, uint32_t i, struct gw__bitmap *present, struct gw__bitmap *received);

/*
 * A write or sync of the image failed, other than for a full disk, or a sync of this. The kernel says so once, and takes the pages for clean from then on, also pages
 * that were written long before: whoever opens this, in this boot as well, is given the bitmaps of the last checkpoint, and there is none after it.
 */
void gw__recv_state_invalidate_live_bitmaps(struct gw__recv_state *p);
/* The pages were synced: keep the bitmaps as they are now. */
int gw__recv_state_checkpoint(struct gw__recv_state *p, struct gw__error *error);
/* The image is whole and synced, and is about to lose its marker and all after `image_bytes`, and to get its name. */
int gw__recv_state_finish(struct gw__recv_state *p, uint64_t image_bytes, struct gw__error *error);
/* The list is written, and as far as we know no more. */
bool gw__recv_state_is_layout_only(const struct gw__recv_state *p);
/* What gw__recv_state_finish was told before it was opened, 0: nothing. */
uint64_t gw__recv_state_finished_bytes(const struct gw__recv_state *p);

/*
 * Deletes the image and this file, whatever it holds; the object remains to be closed. -EALREADY: the image is finished and has its name,
 * nothing is changed.
 */
int gw__recv_state_drop(struct gw__recv_state *p, struct gw__error *error);
/* Deletes this file; the object remains to be closed. */
void gw__recv_state_remove(struct gw__recv_state *p);
void gw__recv_state_close(struct gw__recv_state *p); /* NULL is fine; one of which no source depends on goes away */

#endif
