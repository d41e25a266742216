/* SPDX-License-Identifier: MIT */
/*
 * The page size of a stream's target. Records cannot be read without it, and most streams do not state it: the configuration does only where
 * it can vary; else POSTCOPY_ADVISE or the header of a mapped-ram block may; else it is the user's word, or what is usual
 * (docs/spec/stream.md 3.1). Owned by one thread, as the stream is.
 */
#include <errno.h>

#include "base/math.h"
#include "wire/stream_private.h"

typedef unsigned long long ull;

static unsigned bits_of(uint64_t page_bytes) { return (unsigned)__builtin_ctzll(page_bytes); }

static bool is_possible(uint64_t bytes)
{
	return gw__is_power_of_2(bytes) && bits_of(bytes) >= GW__PAGE_BITS_RAM && bits_of(bytes) <= GW__PAGE_BITS_MAX;
}

static void use(struct gw__stream *s, uint64_t bytes)
{
	s->page_bytes = s->rule.page_bytes = bytes;
	s->config.page_bits = bits_of(bytes);
}

uint64_t gw__stream_usual_page_bytes(const struct gw__stream_opts *o)
{
	uint64_t bytes = o->page_bytes ? o->page_bytes : o->usual_page_bytes;
	return is_possible(bytes) ? bytes : UINT64_C(1) << GW__PAGE_BITS_LEGACY;
}

int gw__stream_begin_page_size(struct gw__stream *s, struct gw__error *error)
{
	uint64_t told = s->opts.page_bytes, stated = gw__config_page_bytes(&s->config);
	if (s->config.has_page_bits && told && told != stated)
		return gw__error_set(error, -EPROTO, "the stream states pages of %llu bytes, not of %llu; leave out the page size",
			(ull)stated, (ull)told);
	s->page_stated = s->config.has_page_bits || told;
	use(s, s->config.has_page_bits ? stated : gw__stream_usual_page_bytes(&s->opts));
	if (s->config.mapped_ram && !s->page_stated)
		s->rule.page_bytes = gw__stream_word_bytes(s);
	return 0;
}

int gw__stream_state_page_size(struct gw__stream *s, uint64_t bytes, const char *who, struct gw__error *error)
{
	if (s->page_stated && bytes != s->page_bytes)
		return gw__error_set(error, -EPROTO, "%s a page size of %llu, expected %llu", who, (ull)bytes, (ull)s->page_bytes);
	if (!is_possible(bytes))
		return gw__error_set(error, -EPROTO, "%s a page size of %llu, expected a power of two from %u to %u", who, (ull)bytes,
			1U << GW__PAGE_BITS_RAM, 1U << GW__PAGE_BITS_MAX);
	s->page_stated = true;
	use(s, bytes);
	return 0;
}

void gw__stream_note_mapped_page_size(struct gw__stream *s, const struct gw__mapped_header *h, const struct gw__block *block)
{
	if (!s->page_stated && h->version == GW__MAPPED_VERSION && is_possible(h->page_bytes) &&
		gw__is_aligned(block->used_bytes, h->page_bytes))
		gw__stream_state_page_size(s, h->page_bytes, "", NULL);
}

uint64_t gw__stream_word_bytes(const struct gw__stream *s)
{
	return s->config.mapped_ram && !s->page_stated ? UINT64_C(1) << GW__PAGE_BITS_RAM : s->page_bytes;
}

const char *gw__stream_page_size_hint(const struct gw__stream *s)
{
	return s->page_stated || s->postcopy >= GW__STREAM_RECOVERING
		       ? ""
		       : "; the stream does not state its page size: give it with --page-size if this guest's is another";
}
