/* SPDX-License-Identifier: MIT */
/* What was seen of a migration; see migration_view.h. */
#include "dissect/migration_view.h"

#include <assert.h>

void gw__migration_view_init(struct gw__migration_view *s)
{
	*s = (struct gw__migration_view){0};
	pthread_mutex_init(&s->lock, NULL);
}

void gw__migration_view_fini(struct gw__migration_view *s)
{
	gw__blocks_fini(&s->blocks);
	pthread_mutex_destroy(&s->lock);
}

static uint32_t bit(enum gw__observed_event observed) { return UINT32_C(1) << observed; }

void gw__migration_view_begin(struct gw__migration_view *s, uint64_t page_bytes)
{
	pthread_mutex_lock(&s->lock);
	s->sights = bit(GW__OBSERVED_BEGUN);
	s->page_bytes = page_bytes;
	gw__blocks_fini(&s->blocks);
	pthread_mutex_unlock(&s->lock);
}

void gw__migration_view_note(struct gw__migration_view *s, enum gw__observed_event observed)
{
	assert(observed != GW__OBSERVED_BEGUN);
	pthread_mutex_lock(&s->lock);
	if (observed == GW__OBSERVED_RECOVERY) /* what ended the one before is not the end of this one */
		s->sights &= ~(bit(GW__OBSERVED_SHUT_ERROR) | bit(GW__OBSERVED_WHOLE));
	s->sights |= bit(observed);
	pthread_mutex_unlock(&s->lock);
}

int gw__migration_view_blocks(struct gw__migration_view *s, uint64_t page_bytes, uint32_t ram_id, const struct gw__blocks *blocks)
{
	pthread_mutex_lock(&s->lock);
	gw__blocks_fini(&s->blocks);
	s->page_bytes = page_bytes; /* a second main channel may have said another in between */
	s->ram_id = ram_id;
	int r = gw__blocks_add_all(&s->blocks, blocks);
	pthread_mutex_unlock(&s->lock);
	return r;
}

uint64_t gw__migration_view_ask_page_bytes(struct gw__migration_view *s)
{
	pthread_mutex_lock(&s->lock);
	uint64_t page_bytes = s->page_bytes;
	pthread_mutex_unlock(&s->lock);
	return page_bytes;
}

uint64_t gw__migration_view_ask_pages(struct gw__migration_view *s, const char *block)
{
	pthread_mutex_lock(&s->lock);
	int64_t i = gw__blocks_find(&s->blocks, block);
	uint64_t pages = i >= 0 ? s->blocks.v[i].used_bytes / s->page_bytes : 0;
	pthread_mutex_unlock(&s->lock);
	return pages;
}

int gw__migration_view_init_stream(struct gw__migration_view *s, struct gw__stream *stream, const struct gw__stream_opts *o,
	int (*init)(struct gw__stream *stream, const struct gw__stream_opts *o, const struct gw__stream_guest *g))
{
	pthread_mutex_lock(&s->lock);
	const struct gw__stream_guest g = {.page_bytes = s->page_bytes, .ram_id = s->ram_id, .blocks = &s->blocks};
	int r = init(stream, o, s->blocks.n ? &g : NULL);
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* A source whose last word, or whose destination's, went wrong lets its guest run again, and the destination may do so too. */
static bool ended_unconfirmed(uint32_t sights) { return sights & (bit(GW__OBSERVED_WHOLE) | bit(GW__OBSERVED_SHUT_ERROR)); }

/* After the hand-over the destination has the guest, unless it has not said so where it should have. */
static enum gw__guest_location after_package(uint32_t sights)
{
	bool unsaid = sights & bit(GW__OBSERVED_PING_RUNS) && !(sights & bit(GW__OBSERVED_PONG_RUNS));
	return unsaid || ended_unconfirmed(sights) ? GW__WHERE_UNKNOWN : GW__WHERE_PAUSED;
}

/* A destination that has everything may run it, whatever the source makes of its silence. */
static enum gw__guest_location after_precopy(uint32_t sights)
{
	if (!(sights & bit(GW__OBSERVED_WHOLE)) || sights & bit(GW__OBSERVED_SHUT_ERROR))
		return GW__WHERE_SOURCE;
	return sights & bit(GW__OBSERVED_RETURN_PATH) ? GW__WHERE_UNKNOWN : GW__WHERE_UNCONFIRMED;
}

enum gw__guest_location gw__migration_view_where(struct gw__migration_view *s)
{
	pthread_mutex_lock(&s->lock);
	uint32_t sights = s->sights;
	pthread_mutex_unlock(&s->lock);
	if (sights & bit(GW__OBSERVED_COLO))
		return GW__WHERE_UNKNOWN;
	if (sights & bit(GW__OBSERVED_SHUT))
		return GW__WHERE_DESTINATION;
	if (sights & bit(GW__OBSERVED_RECOVERY))
		return ended_unconfirmed(sights) ? GW__WHERE_UNKNOWN : GW__WHERE_PAUSED;
	if (sights & bit(GW__OBSERVED_RUN))
		return after_package(sights);
	if (sights & bit(GW__OBSERVED_BEGUN))
		return after_precopy(sights);
	return sights & bit(GW__OBSERVED_OPAQUE) ? GW__WHERE_UNKNOWN : GW__WHERE_NO_MIGRATION;
}
