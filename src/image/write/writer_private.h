/* SPDX-License-Identifier: MIT */
/* What the parts of the mapped-ram writer share; see writer.h for the interface. */
#ifndef GW_IMAGE_WRITE_WRITER_PRIVATE_H
#define GW_IMAGE_WRITE_WRITER_PRIVATE_H

#include "image/file/atomic_file.h"
#include "image/journal/recv_state.h"
#include "image/write/writer.h"

/* What is known of a block's pages. An ignored block has empty ones. */
struct gw__page_maps {
	struct gw__bitmap present;  /* content is in the file */
	struct gw__bitmap received; /* content or zeros were put at some time */
	struct gw__bitmap stale;    /* content was put and then was none any more: the file may still have it. Empty: any page may be so */
};

/* With direct I/O, pages of the main channel on their way to a page writer. All zero: nothing. */
struct gw__stage {
	struct gw__page_writer *page_writer; /* made when the first page comes */
	uint8_t *buffer;                     /* taken from it; NULL: none */
	uint64_t used_bytes;                 /* of the buffer */
	uint32_t block;                      /* the last run_bytes of them are consecutive pages from run_off on */
	uint64_t run_off, run_bytes;
	uint64_t begin_off, end_off; /* in the file: where pages were put since the stage was settled */
};

enum gw__writer_phase {
	GW__WRITER_HEAD,    /* no configuration yet */
	GW__WRITER_EARLY,   /* before START of RAM */
	GW__WRITER_RAM,     /* pages may come */
	GW__WRITER_DEVICES, /* after END of RAM */
	GW__WRITER_DONE,    /* committed */
};

struct gw__image_writer {
	/* The main thread's. */
	struct gw__atomic_file file;
	struct gw__image_writer_opts opts;
	enum gw__writer_phase phase;
	uint64_t cursor; /* absolute: where the next small record goes */
	uint32_t ram_id;
	uint64_t start_off; /* of START of RAM */
	uint8_t *between;   /* with x-ignore-shared: what was put between START and END of RAM, to be moved */
	size_t between_bytes;
	struct gw__stage stage;
	struct gw__recv_state *prepared; /* of a guest that may get one; given to `partial` at the switch */
	struct gw__marker {              /* what ties the image to its state: in the file, and synced with all up to `cursor_then` */
		uint8_t id[GW__RECV_STATE_ID_BYTES];
		uint64_t at_off, cursor_then; /* 0: there is none yet */
	} marker;
	struct gw__recv_state *partial; /* NULL unless another process may have to go on; then `maps` lie in it */
	int witness_fd;                 /* of a partial image: nothing is done with it before a write fails; -1: none */

	/* Fixed by put_blocks, read by all who put pages. */
	uint64_t page_bytes;
	int direct_fd; /* the same file, past the page cache; -1: without direct I/O */
	bool ignore_shared;
	struct gw__blocks blocks;

	/* Changed by all who put pages: atomic, word by word. `maps` itself is fixed by put_blocks. */
	struct gw__page_maps *maps;
	int failed; /* the first failure; no image comes of it */
	uint64_t bytes_written;
	unsigned under_way; /* direct writes that have not completed; none when RAM ends */
	struct gw__image_writer_stats stats;
};

/*
 * Remembers the first failure, so that a commit cannot overlook it, and whoever goes on with a partial image does not either: which of the
 * pages put before it reached the disk is not known. Returns r.
 */
int gw__writer_fail(struct gw__image_writer *w, int r);

/* Content that is, or will be before the next flush, in the file: counts, and takes part in the bitmaps. */
void gw__writer_mark_present(struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t pages);
/* Writes through the page cache; `iov` is used up. A failure is remembered. */
int gw__writer_write_cached(struct gw__image_writer *w, uint64_t to, struct iovec *iov, int n, struct gw__error *error);

/* Direct I/O (writer_direct.c); a failed write is remembered. How much of a block's pages, from the first on, goes past the page cache: */
uint64_t gw__writer_direct_bytes(const struct gw__image_writer *w, uint32_t block);
int gw__writer_check_direct(struct gw__image_writer *w, struct gw__error *error);
int gw__writer_write_direct(struct gw__image_writer *w, uint64_t to, const uint8_t *from, uint64_t bytes, struct gw__error *error);
int gw__writer_direct_failed(struct gw__image_writer *w, uint64_t to, uint64_t bytes, int err, struct gw__error *error);
/* The main channel's pages: copied to a stage, and in the file at the latest when it is settled. */
int gw__writer_stage(struct gw__image_writer *w, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error);
int gw__writer_settle_stage(struct gw__image_writer *w, struct gw__error *error);
int gw__writer_settle_page(struct gw__image_writer *w, uint64_t at, struct gw__error *error); /* if it is staged */

/* START, the list with the places as they are decided by now, EOS and footer, at the cursor (writer_blocks.c). */
int gw__writer_put_list(struct gw__image_writer *w, struct gw__error *error);

/* x-ignore-shared: before END, find out which blocks were left out, and write the list again (writer_ignore_shared.c). */
int gw__writer_settle_ignored(struct gw__image_writer *w, struct gw__error *error);
int gw__writer_keep_between(struct gw__image_writer *w, const void *bytes, size_t n, struct gw__error *error);

/* The bitmaps are those of the state file from now on; `copy`: with what they had (writer_recv_state.c). */
void gw__writer_use_recv_state_maps(struct gw__image_writer *w, bool copy);
/* What was put of a partial image is on the disk. A failure is the caller's to remember. */
int gw__writer_sync(struct gw__image_writer *w, struct gw__error *error);
/* The file ends there. */
int gw__writer_cut(struct gw__image_writer *w, uint64_t bytes, struct gw__error *error);

/* Puts an encoded record at the cursor. */
int gw__writer_put_record(struct gw__image_writer *w, const struct gw__wr *c, struct gw__error *error);

#endif
