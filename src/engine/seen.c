/* SPDX-License-Identifier: MIT */
/* What was seen of a migration; see seen.h. */
#include "engine/seen.h"

#include <assert.h>

void gw__seen_init(struct gw__seen *s)
{
	*s = (struct gw__seen){0};
	pthread_mutex_init(&s->lock, NULL);
}

void gw__seen_fini(struct gw__seen *s)
{
	gw__blocks_fini(&s->blocks);
	pthread_mutex_destroy(&s->lock);
}

static uint32_t bit(enum gw__sight sight) { return UINT32_C(1) << sight; }

void gw__seen_begin(struct gw__seen *s, uint64_t page_bytes)
{
	pthread_mutex_lock(&s->lock);
	s->sights = bit(GW__SIGHT_BEGUN);
	s->page_bytes = page_bytes;
	gw__blocks_fini(&s->blocks);
	pthread_mutex_unlock(&s->lock);
}

void gw__seen_note(struct gw__seen *s, enum gw__sight sight)
{
	assert(sight != GW__SIGHT_BEGUN);
	pthread_mutex_lock(&s->lock);
	if (sight == GW__SIGHT_RECOVERY) /* what ended the one before is not the end of this one */
		s->sights &= ~(bit(GW__SIGHT_SHUT_ERROR) | bit(GW__SIGHT_WHOLE));
	s->sights |= bit(sight);
	pthread_mutex_unlock(&s->lock);
}

int gw__seen_blocks(struct gw__seen *s, uint64_t page_bytes, uint32_t ram_id, const struct gw__blocks *blocks)
{
	pthread_mutex_lock(&s->lock);
	gw__blocks_fini(&s->blocks);
	s->page_bytes = page_bytes; /* a second main channel may have said another in between */
	s->ram_id = ram_id;
	int r = gw__blocks_add_all(&s->blocks, blocks);
	pthread_mutex_unlock(&s->lock);
	return r;
}

uint64_t gw__seen_ask_page_bytes(struct gw__seen *s)
{
	pthread_mutex_lock(&s->lock);
	uint64_t page_bytes = s->page_bytes;
	pthread_mutex_unlock(&s->lock);
	return page_bytes;
}

uint64_t gw__seen_ask_pages(struct gw__seen *s, const char *block)
{
	pthread_mutex_lock(&s->lock);
	int64_t i = gw__blocks_find(&s->blocks, block);
	uint64_t pages = i >= 0 ? s->blocks.v[i].used_bytes / s->page_bytes : 0;
	pthread_mutex_unlock(&s->lock);
	return pages;
}

int gw__seen_init_stream(struct gw__seen *s, struct gw__stream *stream, const struct gw__stream_opts *o,
	int (*init)(struct gw__stream *stream, const struct gw__stream_opts *o, const struct gw__stream_guest *g))
{
	pthread_mutex_lock(&s->lock);
	const struct gw__stream_guest g = {.page_bytes = s->page_bytes, .ram_id = s->ram_id, .blocks = &s->blocks};
	int r = init(stream, o, s->blocks.n ? &g : NULL);
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* A source whose last word, or whose destination's, went wrong lets its guest run again, and the destination may do so too. */
static bool ended_unconfirmed(uint32_t sights) { return sights & (bit(GW__SIGHT_WHOLE) | bit(GW__SIGHT_SHUT_ERROR)); }

/* Behind the hand-over the destination has the guest, unless it has not said so where it should have. */
static enum gw__whereabouts after_package(uint32_t sights)
{
	bool unsaid = sights & bit(GW__SIGHT_PING_RUNS) && !(sights & bit(GW__SIGHT_PONG_RUNS));
	return unsaid || ended_unconfirmed(sights) ? GW__WHERE_UNKNOWN : GW__WHERE_PAUSED;
}

/* A destination that has everything may run it, whatever the source makes of its silence. */
static enum gw__whereabouts after_precopy(uint32_t sights)
{
	if (!(sights & bit(GW__SIGHT_WHOLE)) || sights & bit(GW__SIGHT_SHUT_ERROR))
		return GW__WHERE_SOURCE;
	return sights & bit(GW__SIGHT_RETURN_PATH) ? GW__WHERE_UNKNOWN : GW__WHERE_UNCONFIRMED;
}

enum gw__whereabouts gw__seen_where(struct gw__seen *s)
{
	pthread_mutex_lock(&s->lock);
	uint32_t sights = s->sights;
	pthread_mutex_unlock(&s->lock);
	if (sights & bit(GW__SIGHT_SHUT))
		return GW__WHERE_DESTINATION;
	if (sights & bit(GW__SIGHT_RECOVERY))
		return ended_unconfirmed(sights) ? GW__WHERE_UNKNOWN : GW__WHERE_PAUSED;
	if (sights & bit(GW__SIGHT_RUN))
		return after_package(sights);
	if (sights & bit(GW__SIGHT_BEGUN))
		return after_precopy(sights);
	return sights & bit(GW__SIGHT_OPAQUE) ? GW__WHERE_UNKNOWN : GW__WHERE_NO_MIGRATION;
}
