/* SPDX-License-Identifier: MIT */
/*
 * A source that comes back after a break in post-copy (docs/spec/postcopy.md 6): it asks what came of each block, and goes on with the rest.
 * See stream.h; the main thread's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/incoming/stream_private.h"
#include "wire/postcopy.h"

/* The answer is long, and the source takes it piece by piece. */
static int say_bitmap(struct gw__incoming_stream *p, uint32_t block)
{
	const struct gw__bitmap *b = gw__incoming_postcopy_ops(p)->received(p->sink, block);
	struct gw__rp_msg m = {.type = GW__RP_RECV_BITMAP};
	uint8_t piece[64 << 10];
	struct gw__error *error = &p->run->error;
	struct gw__wr c = gw__wr_over(piece, sizeof piece);
	uint64_t bytes = gw__bitmap_wire_bytes(b->bits);
	memcpy(m.block, p->stream.blocks.v[block].name, sizeof m.block);
	gw__rp_encode(&c, &m);
	gw__wr_be64(&c, bytes);
	int r = gw__chan_write_all(p->buf.chan, piece, gw__wr_used(&c), error);
	for (uint64_t at = 0, n; !r && at < bytes; at += n) {
		n = gw__min(sizeof piece, bytes - at);
		gw__bitmap_wire_put(b, at, piece, n);
		r = gw__chan_write_all(p->buf.chan, piece, n, error);
	}
	gw__be_put(piece, GW__RECV_BITMAP_END, 8);
	GW__TRACE(&p->run->trace, return_path_send, "%s %s", gw__rp_name(m.type), m.block);
	return r ? r : gw__chan_write_all(p->buf.chan, piece, 8, error);
}

int gw__incoming_send_recv_bitmap(struct gw__incoming_stream *p, const struct gw__command *cmd)
{
	char name[GW__NAME_MAX + 1];
	int r = gw__ask_bitmap_decode(cmd->payload, cmd->length, name, &p->run->error);
	if (r)
		return r;
	int64_t block = gw__blocks_find(&p->stream.blocks, name);
	if (block < 0 || p->stream.blocks.v[block].ignored)
		return gw__error_set(&p->run->error, -EPROTO, "the source asks what came of block \"%s\", which this guest does not have",
			name);
	if (p->bitmap_requested[block]) /* the answer is as long as the guest is large */
		return gw__error_set(&p->run->error, -EPROTO, "the source asks a second time on this connection what came of block \"%s\"",
			name);
	p->bitmap_requested[block] = true;
	return say_bitmap(p, (uint32_t)block);
}

/*
 * Draining, the source also hears that its guest is not its own any more. In one write: killed between the two, we would leave a source that
 * runs its guest when few pages are left, beside the destination.
 */
static int say_resumed(struct gw__incoming_stream *p)
{
	uint8_t words[32];
	struct gw__wr c = gw__wr_over(words, sizeof words);
	gw__rp_encode(&c, &(struct gw__rp_msg){.type = GW__RP_RESUME_ACK, .value = 1});
	if (p->early_shut)
		gw__rp_encode(&c, &(struct gw__rp_msg){.type = GW__RP_SHUT});
	GW__TRACE(&p->run->trace, return_path_send, "%s 1%s", gw__rp_name(GW__RP_RESUME_ACK), p->early_shut ? ", SHUT 0" : "");
	return gw__chan_write_all(p->buf.chan, words, gw__wr_used(&c), &p->run->error);
}

/*
 * A block the source does not ask for is one it will not send. And who does not ask for each of them by its name is not the source, also
 * where nothing is missing: whatever follows then is said by somebody who does not know the guest.
 */
int gw__incoming_resume(struct gw__incoming_stream *p)
{
	for (uint32_t i = 0; i < p->stream.blocks.n; i++) {
		const struct gw__bitmap *b = gw__incoming_postcopy_ops(p)->received(p->sink, i);
		if (p->bitmap_requested[i] || p->stream.blocks.v[i].ignored)
			continue;
		if (!p->may_skip_blocks || gw__bitmap_next_clear(b, 0) < b->bits)
			return gw__error_set(&p->run->error, -EPROTO, "the source goes on without asking what came of block \"%s\"",
				p->stream.blocks.v[i].name);
	}
	int r = say_resumed(p);
	if (!r)
		r = gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_RESUME);
	gw__run_phase(p->run, GW__PHASE_RAM);
	return r;
}

/* Of a larger page whose pieces did not all come none counts: the source sends it as a whole. */
static int drop_pieces(struct gw__incoming_stream *p, uint32_t block)
{
	const struct gw__bitmap *b = gw__incoming_postcopy_ops(p)->received(p->sink, block);
	uint64_t n = p->stream.blocks.v[block].page_bytes / p->stream.page_bytes;
	int r = 0;
	for (uint64_t at = 0; !r && n > 1 && at < b->bits; at += n) {
		uint64_t end = gw__min(at + n, b->bits);
		if (gw__bitmap_next_set_before(b, at, end) < end && gw__bitmap_next_clear_before(b, at, end) < end)
			r = gw__incoming_postcopy_ops(p)->discard(p->sink, block, at * p->stream.page_bytes, end - at, &p->run->error);
	}
	return r;
}

int gw__incoming_begin_recovery(struct gw__incoming_stream *p)
{
	struct gw__sink_recovery_info recovery_info;
	gw__incoming_postcopy_ops(p)->recovery_info(p->sink, &recovery_info);
	const struct gw__stream_guest guest = {.page_bytes = recovery_info.page_bytes,
		.ram_id = recovery_info.ram_id,
		.ram_section_id_unknown = recovery_info.ram_section_id_unknown,
		.blocks = recovery_info.blocks};
	p->handover_persisted = true;
	p->bitmap_requested = calloc(recovery_info.blocks->n, sizeof *p->bitmap_requested);
	p->stats->block = calloc(recovery_info.blocks->n, sizeof *p->stats->block);
	p->stats->blocks_n = recovery_info.blocks->n;
	gw__stream_fini(&p->stream);
	if (!p->bitmap_requested || !p->stats->block ||
		gw__stream_init_recovery(&p->stream, &(struct gw__stream_opts){.tail_max_bytes = p->run->tail_max_bytes, .postcopy = true},
			&guest))
		return gw__error_set(&p->run->error, -ENOMEM, "no memory for %u RAM blocks", recovery_info.blocks->n);
	p->has_unplugged_memory =
		recovery_info.early.n && memmem(recovery_info.early.p, recovery_info.early.n, "virtio-mem", strlen("virtio-mem"));
	atomic_store(&p->run->counters.total_bytes, recovery_info.blocks->total_bytes);
	int r = 0;
	for (uint32_t i = 0; !r && i < recovery_info.blocks->n; i++)
		r = drop_pieces(p, i);
	return r ? r : gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_CONNECTED_AGAIN);
}
