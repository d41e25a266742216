/* SPDX-License-Identifier: MIT */
/* The calls to a sink: whose turn it is, whether pages are inside their block, and what a sink without an operation does. See sink.h. */
#include "engine/sink/sink.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef unsigned long long ull;

/* --- whose turn it is --- */

enum call {
	CONFIG,
	BLOCKS,
	PAGES,
	ZEROS,
	READ_BACK,
	DEVICE,
	ROUND,
	BARRIER,
	SWITCHOVER,
	RAM_END,
	END,
	SYNC,
	COMMIT,
	RAM_OF_IMAGE,
	ADD_LANE,
	LANE,
	PREPARE_POSTCOPY,
	BEGIN_POSTCOPY,
	DISCARD,
	PERSIST_HANDOVER,
	LEARN_RAM_ID,
	CHECKPOINT,
	BEGIN_CHECKPOINT,
	CALLS
};

#define IN(state) (1u << GW__SINK_##state)

static const struct {
	const char *name;
	unsigned states; /* in which it may be called */
} CALL[CALLS] = {
	[CONFIG] = {"config", IN(NEW)},
	[BLOCKS] = {"blocks", IN(CONFIGURED)},
	[PAGES] = {"pages", IN(RAM) | IN(LATE) | IN(CHECKPOINT)},
	[ZEROS] = {"zeros", IN(RAM) | IN(LATE) | IN(CHECKPOINT)},
	[READ_BACK] = {"read_back", IN(RAM)},
	[DEVICE] = {"device", IN(CONFIGURED) | IN(RAM) | IN(LATE) | IN(RAM_ENDED)},
	[ROUND] = {"round", IN(RAM) | IN(LATE) | IN(CHECKPOINT)},
	[BARRIER] = {"barrier", IN(RAM) | IN(CHECKPOINT)},
	[SWITCHOVER] = {"switchover", IN(CONFIGURED) | IN(RAM) | IN(RAM_ENDED) | IN(CHECKPOINT)}, /* it may stand anywhere */
	[RAM_END] = {"ram_end", IN(RAM) | IN(LATE) | IN(CHECKPOINT)},
	[END] = {"end", IN(RAM_ENDED)},
	[SYNC] = {"sync", IN(ENDED)},
	[COMMIT] = {"commit", IN(ENDED)},
	[RAM_OF_IMAGE] = {"ram_of_image", IN(RAM)},
	[ADD_LANE] = {"add_lane", IN(RAM)},
	[LANE] = {"lane", IN(RAM) | IN(CHECKPOINT)},
	[PREPARE_POSTCOPY] = {"prepare_postcopy", IN(RAM)},
	[BEGIN_POSTCOPY] = {"begin_postcopy", IN(RAM)},
	[DISCARD] = {"discard", IN(SWITCHING) | IN(LATE)},
	[PERSIST_HANDOVER] = {"persist_handover", IN(SWITCHING)},
	[LEARN_RAM_ID] = {"learn_ram_id", IN(LATE)},
	[CHECKPOINT] = {"checkpoint", IN(LATE)},
	[BEGIN_CHECKPOINT] = {"begin_checkpoint", IN(ENDED)},
};

static const char *const STATE[GW__SINK_STATES] = {"new", "configured", "RAM", "switching", "late", "RAM ended", "ended", "checkpoint",
	"committed"};

static int misplaced(const struct gw__sink *s, enum call call, struct gw__error *error)
{
	return gw__error_set(error, -EINVAL, "a fault of Godwit: the call %s to a sink in the state \"%s\"; please report it",
		CALL[call].name, STATE[atomic_load(&s->state)]);
}

static int check_turn(const struct gw__sink *s, enum call call, struct gw__error *error)
{
	unsigned state = atomic_load_explicit(&s->state, memory_order_relaxed);
	return CALL[call].states >> state & 1 ? 0 : misplaced(s, call, error);
}

static int check_postcopy(const struct gw__sink *s, enum call call, struct gw__error *error)
{
	return s->ops->postcopy ? check_turn(s, call, error) : misplaced(s, call, error);
}

/* What came first stands where it is when the call failed. */
static int moved(struct gw__sink *s, int r, enum gw__sink_state to)
{
	if (!r)
		atomic_store(&s->state, to);
	return r;
}

static int keep_blocks(struct gw__sink *s, const struct gw__blocks *blocks, struct gw__error *error)
{
	free(s->block_bytes);
	s->block_bytes = calloc(blocks->n + 1, sizeof *s->block_bytes);
	if (!s->block_bytes)
		return gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", blocks->n);
	for (uint32_t i = 0; i < blocks->n; i++)
		s->block_bytes[i] = blocks->v[i].used_bytes;
	s->blocks_n = blocks->n;
	return 0;
}

int gw__sink_begin_in(struct gw__sink *s, enum gw__sink_state state, uint64_t page_bytes, const struct gw__blocks *blocks,
	struct gw__error *error)
{
	s->page_bytes = page_bytes;
	return moved(s, keep_blocks(s, blocks, error), state);
}

/* --- pages --- */

static bool is_inside(const struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages)
{
	return block < s->blocks_n && off % s->page_bytes == 0 && off <= s->block_bytes[block] &&
	       pages <= (s->block_bytes[block] - off) / s->page_bytes;
}

static int check_pages(const struct gw__sink *s, enum call call, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	int r = check_turn(s, call, error);
	if (r || is_inside(s, block, off, pages))
		return r;
	return gw__error_set(error, -EINVAL,
		"a fault of Godwit: %llu pages at 0x%llx of RAM block %u, which has %llu bytes; please report it", (ull)pages, (ull)off,
		block, block < s->blocks_n ? (ull)s->block_bytes[block] : 0);
}

int gw__sink_pages(struct gw__sink *s, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	int r = check_pages(s, PAGES, block, off, (uint64_t)n, error);
	return r ? r : s->ops->pages(s, block, off, pages, n, error);
}

int gw__sink_zeros(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	int r = check_pages(s, ZEROS, block, off, pages, error);
	return r || !s->ops->zeros ? r : s->ops->zeros(s, block, off, pages, error);
}

int gw__sink_put(struct gw__sink *s, uint32_t block, uint64_t off, const void *pages, uint64_t n, struct gw__error *error)
{
	enum { AT_ONCE = 256 };
	struct iovec iov[AT_ONCE];
	int r = 0;
	if (!pages)
		return gw__sink_zeros(s, block, off, n, error);
	for (uint64_t done = 0, k; !r && done < n; done += k) {
		for (k = 0; k < AT_ONCE && done + k < n; k++)
			iov[k] = (struct iovec){(uint8_t *)(uintptr_t)pages + (done + k) * s->page_bytes, s->page_bytes};
		r = gw__sink_pages(s, block, off + done * s->page_bytes, iov, (int)k, error);
	}
	return r;
}

int gw__sink_read_back(struct gw__sink *s, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	int r = check_pages(s, READ_BACK, block, off, 1, error);
	if (!r && !s->ops->read_back)
		return gw__error_set(error, -EOPNOTSUPP, "XBZRLE deltas cannot go there; convert the stream to an image first");
	return r ? r : s->ops->read_back(s, block, off, page, error);
}

int gw__sink_ram_of_image(struct gw__sink *s, const struct gw__image *image, struct gw__error *error)
{
	int r = check_turn(s, RAM_OF_IMAGE, error);
	if (!r && !s->ops->ram_of_image)
		return GW__NOT_MINE;
	return r ? r : s->ops->ram_of_image(s, image, error);
}

/* --- from the head of a guest to its name --- */

int gw__sink_config(struct gw__sink *s, const struct gw__config *config, struct gw__error *error)
{
	int r = check_turn(s, CONFIG, error);
	s->page_bytes = r ? s->page_bytes : gw__config_page_bytes(config);
	return r ? r : moved(s, s->ops->config ? s->ops->config(s, config, error) : 0, GW__SINK_CONFIGURED);
}

int gw__sink_blocks(struct gw__sink *s, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error)
{
	int r = check_turn(s, BLOCKS, error);
	if (!r)
		r = keep_blocks(s, blocks, error);
	return r ? r : moved(s, s->ops->blocks ? s->ops->blocks(s, section_id, blocks, error) : 0, GW__SINK_RAM);
}

/* Who runs a guest that came late loads its devices while a thread receives its pages, up to the end of the stream. */
static int check_device(const struct gw__sink *s, struct gw__error *error)
{
	bool runs = s->ops->postcopy && s->ops->postcopy->run;
	return runs && atomic_load(&s->state) == GW__SINK_ENDED ? 0 : check_turn(s, DEVICE, error);
}

int gw__sink_device(struct gw__sink *s, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__error *error)
{
	int r = check_device(s, error);
	return r || !s->ops->device ? r : s->ops->device(s, section, off, raw, error);
}

int gw__sink_round(struct gw__sink *s, struct gw__error *error)
{
	int r = check_turn(s, ROUND, error);
	return r || !s->ops->round ? r : s->ops->round(s, error);
}

int gw__sink_barrier(struct gw__sink *s, struct gw__error *error)
{
	int r = check_turn(s, BARRIER, error);
	return r || !s->ops->barrier ? r : s->ops->barrier(s, error);
}

int gw__sink_switchover(struct gw__sink *s, struct gw__error *error)
{
	int r = check_turn(s, SWITCHOVER, error);
	return r || !s->ops->switchover ? r : s->ops->switchover(s, error);
}

/* Of a checkpoint the devices come another way. */
int gw__sink_ram_end(struct gw__sink *s, struct gw__error *error)
{
	int r = check_turn(s, RAM_END, error);
	bool again = atomic_load(&s->state) == GW__SINK_CHECKPOINT;
	return r ? r : moved(s, s->ops->ram_end ? s->ops->ram_end(s, error) : 0, again ? GW__SINK_ENDED : GW__SINK_RAM_ENDED);
}

int gw__sink_end(struct gw__sink *s, struct gw__view description, struct gw__error *error)
{
	int r = check_turn(s, END, error);
	return r ? r : moved(s, s->ops->end ? s->ops->end(s, description, error) : 0, GW__SINK_ENDED);
}

int gw__sink_sync(struct gw__sink *s, struct gw__error *error)
{
	int r = check_turn(s, SYNC, error);
	return r || !s->ops->sync ? r : s->ops->sync(s, error);
}

int gw__sink_commit(struct gw__sink *s, struct gw__error *error)
{
	int r = check_turn(s, COMMIT, error);
	return r ? r : moved(s, s->ops->commit ? s->ops->commit(s, error) : 0, GW__SINK_COMMITTED);
}

int gw__sink_begin_checkpoint(struct gw__sink *s, struct gw__error *error)
{
	return moved(s, check_turn(s, BEGIN_CHECKPOINT, error), GW__SINK_CHECKPOINT);
}

/* --- lanes --- */

int gw__sink_add_lane(struct gw__sink *s, struct gw__sink_lane **lane, struct gw__error *error)
{
	int r = check_turn(s, ADD_LANE, error);
	if (!r && !s->ops->add_lane)
		r = misplaced(s, ADD_LANE, error);
	if (!r)
		r = s->ops->add_lane(s, lane, error);
	if (r)
		return r;
	(*lane)->sink = s;
	(*lane)->borrowed = false;
	return 0;
}

int gw__sink_lane_borrow(struct gw__sink_lane *l, void **buffer, struct gw__error *error)
{
	int r = check_turn(l->sink, LANE, error);
	if (!r)
		r = l->ops->borrow(l, buffer, error);
	l->borrowed = l->borrowed || !r;
	return r;
}

int gw__sink_lane_submit(struct gw__sink_lane *l, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error)
{
	int r = l->borrowed && n <= GW__SINK_LANE_BUFFER_BYTES / l->sink->page_bytes ? 0 : misplaced(l->sink, LANE, error);
	for (uint32_t i = 0; !r && i < n; i++)
		r = check_pages(l->sink, LANE, block, off[i], 1, error);
	if (r)
		return r;
	l->borrowed = false;
	return l->ops->submit(l, block, off, n, error);
}

int gw__sink_lane_zeros(struct gw__sink_lane *l, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	int r = check_pages(l->sink, LANE, block, off, pages, error);
	return r ? r : l->ops->zeros(l, block, off, pages, error);
}

int gw__sink_lane_flush(struct gw__sink_lane *l, struct gw__error *error)
{
	int r = check_turn(l->sink, LANE, error);
	return r || !l->ops->flush ? r : l->ops->flush(l, error);
}

/* --- post-copy --- */

int gw__sink_prepare_postcopy(struct gw__sink *s, struct gw__error *error)
{
	int r = check_postcopy(s, PREPARE_POSTCOPY, error);
	return r || !s->ops->postcopy->prepare_postcopy ? r : s->ops->postcopy->prepare_postcopy(s, error);
}

int gw__sink_begin_postcopy(struct gw__sink *s, struct gw__error *error)
{
	int r = check_postcopy(s, BEGIN_POSTCOPY, error);
	return r ? r : moved(s, s->ops->postcopy->begin ? s->ops->postcopy->begin(s, error) : 0, GW__SINK_SWITCHING);
}

int gw__sink_discard(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	int r = check_postcopy(s, DISCARD, error);
	if (!r)
		r = check_pages(s, DISCARD, block, off, pages, error);
	return r || !s->ops->postcopy->discard ? r : s->ops->postcopy->discard(s, block, off, pages, error);
}

int gw__sink_persist_handover(struct gw__sink *s, uint8_t **package, size_t bytes, struct gw__error *error)
{
	int r = check_postcopy(s, PERSIST_HANDOVER, error);
	return r ? r : moved(s, s->ops->postcopy->persist_handover(s, package, bytes, error), GW__SINK_LATE);
}

int gw__sink_learn_ram_id(struct gw__sink *s, uint32_t id, struct gw__error *error)
{
	int r = check_postcopy(s, LEARN_RAM_ID, error);
	return r || !s->ops->postcopy->learn_ram_id ? r : s->ops->postcopy->learn_ram_id(s, id, error);
}

int gw__sink_checkpoint(struct gw__sink *s, struct gw__error *error)
{
	int r = check_postcopy(s, CHECKPOINT, error);
	return r || !s->ops->postcopy->checkpoint ? r : s->ops->postcopy->checkpoint(s, error);
}

/* --- questions --- */

struct gw__sink_recovery_info gw__sink_recovery_info(struct gw__sink *s)
{
	struct gw__sink_recovery_info info;
	s->ops->postcopy->recovery_info(s, &info);
	return info;
}

const struct gw__bitmap *gw__sink_received(struct gw__sink *s, uint32_t block) { return s->ops->postcopy->received(s, block); }

uint64_t gw__sink_count_missing(struct gw__sink *s)
{
	struct gw__sink_recovery_info info = gw__sink_recovery_info(s);
	uint64_t missing = 0;
	for (uint32_t i = 0; i < info.blocks->n; i++) {
		const struct gw__bitmap *b = gw__sink_received(s, i);
		missing += b->bits - gw__bitmap_count(b);
	}
	return missing;
}

bool gw__sink_is_committed(struct gw__sink *s)
{
	return s->ops->postcopy && s->ops->postcopy->is_committed && s->ops->postcopy->is_committed(s);
}

void gw__sink_discard_checkpoint(struct gw__sink *s)
{
	if (s->ops->postcopy && s->ops->postcopy->discard_checkpoint)
		s->ops->postcopy->discard_checkpoint(s);
}

/* --- the end --- */

void gw__sink_lane_free(struct gw__sink_lane **l)
{
	if (*l)
		(*l)->ops->free(*l);
	*l = NULL;
}

void gw__sink_free(struct gw__sink **s)
{
	if (!*s)
		return;
	free((*s)->block_bytes);
	(*s)->ops->free(*s);
	*s = NULL;
}
