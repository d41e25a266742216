/* SPDX-License-Identifier: MIT */
/*
 * What each event of a stream means for the sink it goes to; pages, which come in batches, are stream_pages.c. See stream.h for the whole,
 * stream.c for the loop. The main thread's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/incoming/stream_private.h"

typedef unsigned long long ull;

/* Behind the first DISCARD it is too late to refuse anything: QEMU may stand in postcopy-paused then. Next to multifd it is not taken at all. */
static int prepare_switch(struct gw__incoming_stream *p)
{
	const struct gw__sink_postcopy_ops *ops = p->sink->ops->postcopy;
	bool possible = p->stream.advised && p->stream.return_path && p->buf.chan->two_way && !p->multifd_recv;
	return possible && ops && ops->prepare_postcopy ? ops->prepare_postcopy(p->sink, &p->run->error) : 0;
}

static int give_config(struct gw__incoming_stream *p)
{
	bool owed = p->owes_config;
	p->owes_config = false;
	return owed ? p->sink->ops->config(p->sink, &p->stream.config, &p->run->error) : 0;
}

static int on_blocks(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	(void)ev;
	struct gw__stream *s = &p->stream;
	p->scratch = malloc(s->page_bytes);
	p->stats->block = calloc(s->blocks.n, sizeof *p->stats->block);
	p->stats->blocks_n = s->blocks.n;
	if (!p->scratch || !p->stats->block)
		return gw__error_set(&p->run->error, -ENOMEM, "no memory for %u RAM blocks", s->blocks.n);
	atomic_store(&p->run->counters.total_bytes, s->blocks.total_bytes);
	if (p->in && p->stream.postcopy == GW__STREAM_PRECOPY) { /* one migration: others are refused from here on */
		gw__listener_close(p->in->listener);
		p->in->listener = NULL;
	}
	gw__run_phase(p->run, GW__PHASE_RAM);
	int r = give_config(p);
	if (!r)
		r = p->sink->ops->blocks(p->sink, s->ram_id, &s->blocks, &p->run->error);
	if (!r)
		r = prepare_switch(p);
	return r || !p->multifd_recv ? r : gw__multifd_recv_set_block_list(p->multifd_recv, &s->blocks, s->page_bytes);
}

static int on_config(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	(void)ev;
	if (p->stream.config.mapped_ram)
		return gw__error_set(&p->run->error, -EOPNOTSUPP,
			"this is a mapped-ram image, which has to be read as a file, not as a stream");
	p->owes_config = true;
	return gw__incoming_set_state(p, GW__POSTCOPY_DST_EV_STREAM_BEGUN);
}

static int on_command(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	const struct gw__command *cmd = &ev->command;
	GW__TRACE(&p->run->trace, command, "%s", gw__command_name(cmd->number));
	p->stats->commands[cmd->number]++;
	if (cmd->number == GW__CMD_PING && p->buf.chan->two_way)
		return gw__incoming_rp_send_pong(p, cmd->ping_token);
	if (cmd->number == GW__CMD_SWITCHOVER_START)
		return p->sink->ops->switchover(p->sink, &p->run->error);
	return 0;
}

static int end_ram(struct gw__incoming_stream *p)
{
	int r = gw__incoming_flush_batch(p);
	if (r || p->ram_ended)
		return r;
	if (p->state == GW__POSTCOPY_DST_POSTCOPY_ACTIVE) /* until its very last byte the source may have to come back */
		return 0;
	r = p->multifd_recv ? gw__multifd_recv_finish(p->multifd_recv) : 0;
	if (r)
		return r;
	p->ram_ended = true;
	gw__run_phase(p->run, GW__PHASE_DEVICES);
	return p->sink->ops->ram_end(p->sink, &p->run->error);
}

/*
 * Two styles of telling that all channels are to be in step: a FLUSH record per round, or, from machine types up to 8.0, the
 * end of every RAM section (docs/spec/multifd.md 5). Which one shows in START, that has a FLUSH or not. It is the EOS that
 * counts: the footer behind it may still be in the source's buffer while its channels wait for us.
 */
static int on_eos(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	(void)ev;
	int r = gw__incoming_flush_batch(p);
	if (r || !p->multifd_recv)
		return r;
	if (p->stream.section_type == GW__ITEM_START)
		p->sync_per_section = p->stats->flushes == 0;
	return p->sync_per_section ? gw__multifd_recv_sync_main(p->multifd_recv) : 0;
}

static int on_section_end(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	int r = gw__incoming_flush_batch(p);
	if (r)
		return r;
	if (ev->section.type == GW__ITEM_END)
		return end_ram(p);
	if (ev->section.type != GW__ITEM_PART)
		return 0;
	atomic_fetch_add_explicit(&p->run->counters.rounds, 1, memory_order_relaxed);
	r = p->sink->ops->round(p->sink, &p->run->error);
	return r ? r : gw__incoming_checkpoint(p);
}

/* be32 length, 32 bytes of text (docs/spec/stream.md 8.4): the run state. A hint, as good as who sent it. */
static void note_run_state(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	enum { AT = 4, N = 32 };
	char *to = p->stats->run_state;
	if (strcmp(ev->section.idstr, "globalstate") || ev->body.n < AT + N)
		return;
	memcpy(to, ev->body.p + AT, N);
	to[N] = 0;
	if (strspn(to, "abcdefghijklmnopqrstuvwxyz-") != strlen(to))
		to[0] = 0;
}

static int on_device(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	/* A background snapshot never ends its RAM section: the first device behind it does. */
	int r = give_config(p);
	if (!r && p->stream.background)
		r = end_ram(p);
	if (r)
		return r;
	GW__TRACE(&p->run->trace, device, "%s/%u %zu bytes", ev->section.idstr, ev->section.instance, ev->body.n);
	p->has_unplugged_memory = p->has_unplugged_memory || strstr(ev->section.idstr, "virtio-mem");
	note_run_state(p, ev);
	p->stats->device_bytes += ev->raw.n;
	return p->sink->ops->device(p->sink, &ev->section, ev->off, ev->raw, &p->run->error);
}

/*
 * Sections that only their device understands are kept as they came, in their order. These need more than the stream has: the disks whose
 * dirty pages they name, the disks' content, the state of a real device.
 */
static bool is_refused(const char *idstr)
{
	const char *vfio = strstr(idstr, "/vfio");
	return !strcmp(idstr, "dirty-bitmap") || !strcmp(idstr, "block") || (vfio && !vfio[strlen("/vfio")]);
}

static int on_opaque(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	p->stats->opaque_sections++;
	if (is_refused(ev->section.idstr))
		return gw__error_set(&p->run->error, -EOPNOTSUPP,
			"at stream offset %llu: section \"%s\" cannot be kept; switch off what makes the source send it "
			"(for dirty-bitmap: the capability dirty-bitmaps)",
			(ull)ev->off, ev->section.idstr);
	int r = give_config(p);
	if (!r)
		r = gw__incoming_flush_batch(p);
	GW__TRACE(&p->run->trace, device, "%s, a piece of %zu bytes", ev->section.idstr, ev->body.n);
	p->stats->device_bytes += ev->raw.n;
	return r ? r : p->sink->ops->device(p->sink, &ev->section, ev->off, ev->raw, &p->run->error);
}

static int on_desc(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	p->stats->description_bytes = ev->raw.n;
	p->stats->described = true;
	return p->sink->ops->end(p->sink, ev->body, &p->run->error);
}

static int on_end(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	(void)ev;
	p->done = true;
	p->stats->trailing_bytes = gw__stream_buf_left(&p->buf);
	int r = p->state == GW__POSTCOPY_DST_POSTCOPY_ACTIVE ? gw__incoming_end_postcopy(p) : 0;
	return r ? r : p->stats->described ? 0 : p->sink->ops->end(p->sink, (struct gw__view){0}, &p->run->error);
}

static int on_flush(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	int r = gw__incoming_flush_batch(p); /* a ZERO here and the page on a channel must not change places */
	p->stats->flushes++;
	if (r)
		return r;
	if (p->multifd_recv)
		return gw__multifd_recv_sync_main(p->multifd_recv);
	if (!p->expects_multifd)
		return 0;
	return gw__error_set(&p->run->error, -EPROTO,
		"at stream offset %llu: the source sends its pages over multifd channels, but none of them had come when the main channel "
		"began; say how many with --channels, or receive at an address where several can connect",
		(ull)ev->off);
}

static void warn(struct gw__run *run, const struct gw__event *ev)
{
	if (ev->kind == GW__EVENT_DEVICE)
		gw__run_warn(run, "at stream offset %llu, device \"%s\": %s", (ull)ev->off, ev->section.idstr, ev->anomaly);
	else
		gw__run_warn(run, "at stream offset %llu: %s", (ull)ev->off, ev->anomaly);
}

int gw__incoming_handle_event(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	static int (*const by_kind[])(struct gw__incoming_stream * p, const struct gw__event *ev) = {
		[GW__EVENT_CONFIG] = on_config,
		[GW__EVENT_COMMAND] = on_command,
		[GW__EVENT_BLOCKS] = on_blocks,
		[GW__EVENT_SECTION_END] = on_section_end,
		[GW__EVENT_PAGE] = gw__incoming_page,
		[GW__EVENT_ZERO] = gw__incoming_zero,
		[GW__EVENT_XBZRLE] = gw__incoming_xbzrle,
		[GW__EVENT_FLUSH] = on_flush,
		[GW__EVENT_EOS] = on_eos,
		[GW__EVENT_DEVICE] = on_device,
		[GW__EVENT_OPAQUE] = on_opaque,
		[GW__EVENT_DESC] = on_desc,
		[GW__EVENT_END] = on_end,
	};
	int r = gw__incoming_handle_postcopy(p, ev);
	if (r != GW__SHORT)
		return r;
	if (ev->anomaly)
		warn(p->run, ev);
	if ((size_t)ev->kind < sizeof by_kind / sizeof by_kind[0] && by_kind[ev->kind])
		return by_kind[ev->kind](p, ev);
	return 0; /* SECTION, EOF: what they announce comes by itself */
}
