/* SPDX-License-Identifier: MIT */
/* What the stream*.c files share. Nobody else includes it. */
#ifndef GW_WIRE_STREAM_PRIVATE_H
#define GW_WIRE_STREAM_PRIVATE_H

#include "wire/mapped.h"
#include "wire/stream.h"

/*
 * One step of the decoder: uses bytes through `c` and may set an event. GW__SHORT means: forget what was read and come
 * again with more, so a step changes no state before it has all it needs.
 */
struct gw__stream_in {
	struct gw__rd c;
	bool last;
	struct gw__event *ev;
	struct gw__error *error;
};

/* stream_section.c */
int gw__stream_step_start(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_part_or_end(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_full(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_eof(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_footer(struct gw__stream *s, struct gw__stream_in *in);
void gw__stream_open_section(struct gw__stream *s, uint32_t id, const char *idstr);

/* stream_page.c: the page size of the target */
/* After the configuration section. 0 or -EPROTO. */
int gw__stream_begin_page_size(struct gw__stream *s, struct gw__error *error);
/* `who` says that pages have so many bytes: taken where nothing stated it yet, else it has to be the same. 0 or -EPROTO. */
int gw__stream_state_page_size(struct gw__stream *s, uint64_t bytes, const char *who, struct gw__error *error);
/* The first header of a mapped-ram file states it where the configuration did not; one that cannot be true is left to its own check. */
void gw__stream_note_mapped_page_size(struct gw__stream *s, const struct gw__mapped_header *h, const struct gw__block *block);
/* What record words and block lengths are read with: in a mapped-ram file the size comes after the first of both. */
uint64_t gw__stream_word_bytes(const struct gw__stream *s);
uint64_t gw__stream_usual_page_bytes(const struct gw__stream_opts *o);
/* The advice that is appended to a failure that a wrong page size causes, or "". */
const char *gw__stream_page_size_hint(const struct gw__stream *s);

/* stream_ram.c */
int gw__stream_enter_ram(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_record(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_list(struct gw__stream *s, struct gw__stream_in *in);

/* stream.c: also between devices after RAM */
int gw__stream_step_command(struct gw__stream *s, struct gw__stream_in *in);

/* stream_trailer.c */
int gw__stream_step_tail(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_tail_item(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_too_much(const struct gw__stream *s, struct gw__error *error); /* -E2BIG */

/* stream_colo.c: an item, a record of this kind in a checkpoint: 0, or -EPROTO */
int gw__stream_check_checkpoint_item(const struct gw__stream *s, uint8_t type, struct gw__error *error);
int gw__stream_check_checkpoint_command(const struct gw__command *cmd, struct gw__error *error);
int gw__stream_check_checkpoint_record(uint32_t kind, struct gw__error *error);

/* stream_postcopy.c */
/* A command of post-copy: may it stand here, and what follows from it. 0 or -EPROTO. */
int gw__stream_note_postcopy(struct gw__stream *s, const struct gw__command *cmd, struct gw__error *error);
/* After a step that used `step` bytes of the package. */
int gw__stream_leave_package(struct gw__stream *s, size_t step, struct gw__error *error);
/* An item, a record of this kind: 0, or -EPROTO where post-copy has no place for it. */
int gw__stream_check_postcopy_item(const struct gw__stream *s, uint8_t type, struct gw__error *error);
int gw__stream_check_postcopy_record(const struct gw__stream *s, uint32_t kind, struct gw__error *error);
/* The block a record names, where blocks are learned: index or -1. */
int64_t gw__stream_learn_block(struct gw__stream *s, const char *name);

#endif
