/* SPDX-License-Identifier: MIT */
/*
 * The sections of a stream: which are open, which may begin, go on and end, and where the last of them leaves a whole guest
 * (docs/spec/stream.md). Not what stands inside the RAM section (stream_ram.c), nor the devices after it (stream_trailer.c). Owned
 * by one thread, as the stream is.
 */
#include <errno.h>
#include <stdlib.h>

#include "wire/stream_private.h"

/* Its place among the open ones; open_n: it is none of them. */
static uint32_t find_open(const struct gw__stream *s, uint32_t id)
{
	uint32_t i = 0;
	while (i < s->open_n && s->open[i].id != id)
		i++;
	return i;
}

static bool is_open(const struct gw__stream *s, uint32_t id) { return find_open(s, id) < s->open_n; }

static int may_open(const struct gw__stream *s, const struct gw__section *section, struct gw__error *error)
{
	if (is_open(s, section->id))
		return gw__error_set(error, -EPROTO, "section %u (\"%s\") is started a second time", section->id, section->idstr);
	if (s->open_n == GW__OPEN_SECTIONS_MAX)
		return gw__error_set(error, -E2BIG, "more than %d sections are open at once", GW__OPEN_SECTIONS_MAX);
	return 0;
}

void gw__stream_open_section(struct gw__stream *s, uint32_t id, const char *idstr)
{
	s->open[s->open_n].id = id;
	memcpy(s->open[s->open_n].idstr, idstr, strlen(idstr) + 1);
	s->open_n++;
}

static void close_section(struct gw__stream *s, uint32_t id)
{
	uint32_t i = find_open(s, id);
	if (i < s->open_n)
		s->open[i] = s->open[--s->open_n];
}

struct opaque {
	const struct gw__stream *s;
	const struct gw__section *section;
};

/* May a PART or END of section `id` follow this one? A START opens its id, an END closes it. */
static bool may_go_on(void *ctx, uint32_t id)
{
	const struct opaque *o = ctx;
	if (id == o->section->id && o->section->type != GW__ITEM_FULL)
		return o->section->type != GW__ITEM_END;
	return is_open(o->s, id);
}

/* A whole section whose body we do not understand: found by its footer. */
static int take_opaque(struct gw__stream *s, struct gw__stream_in *in, enum gw__event_kind kind)
{
	struct gw__event *ev = in->ev;
	struct opaque o = {s, &ev->section};
	const uint8_t *body = in->c.p;
	size_t len;
	int r = gw__body_find_end(body, gw__rd_left(&in->c), in->last, ev->section.id, may_go_on, &o, &s->search_from, &len);
	if (r < 0)
		return gw__error_set(in->error, r, "the stream ends inside section %u (\"%s\"), whose footer did not come", ev->section.id,
			ev->section.idstr);
	if (r)
		return r;
	gw__rd_take(&in->c, len);
	r = gw__footer_decode(&in->c, ev->section.id, in->error);
	if (!r && gw__rd_used(&in->c) > s->opts.tail_max_bytes)
		r = gw__stream_too_much(s, in->error);
	if (r)
		return r;
	ev->kind = kind;
	ev->body = (struct gw__view){body, len};
	return 0;
}

static int start_ram(struct gw__stream *s, struct gw__stream_in *in)
{
	const struct gw__section *section = &in->ev->section;
	if (s->ram_started)
		return gw__error_set(in->error, -EPROTO, "the RAM section is started a second time (section %u)", section->id);
	if (section->version != GW__RAM_VERSION || section->instance != 0)
		return gw__error_set(in->error, -EPROTO, "the RAM section has version %u, instance %u; expected version 4, instance 0",
			section->version, section->instance);
	s->ram_started = true;
	s->ram_id = section->id;
	return 0;
}

int gw__stream_step_start(struct gw__stream *s, struct gw__stream_in *in)
{
	struct gw__section *section = &in->ev->section;
	int r = gw__section_decode(&in->c, section, in->error);
	if (!r)
		r = may_open(s, section, in->error);
	if (r)
		return r;
	bool ram = !strcmp(section->idstr, "ram");
	r = ram ? start_ram(s, in) : take_opaque(s, in, GW__EVENT_OPAQUE);
	if (r)
		return r;
	gw__stream_open_section(s, section->id, section->idstr);
	return ram ? gw__stream_enter_ram(s, in) : 0;
}

int gw__stream_step_part_or_end(struct gw__stream *s, struct gw__stream_in *in)
{
	struct gw__section *section = &in->ev->section;
	int r = gw__section_decode(&in->c, section, in->error);
	if (r)
		return r;
	if (s->learns_id && !s->open_n) {
		s->ram_id = section->id;
		gw__stream_open_section(s, section->id, "ram");
	}
	uint32_t i = find_open(s, section->id);
	if (i == s->open_n)
		return gw__error_set(in->error, -EPROTO, "section %u goes on (type %02x), but no section of that id is open", section->id,
			section->type);
	memcpy(section->idstr, s->open[i].idstr, sizeof section->idstr);
	if (s->ram_started && section->id == s->ram_id)
		return gw__stream_enter_ram(s, in);
	r = take_opaque(s, in, GW__EVENT_OPAQUE);
	if (!r && section->type == GW__ITEM_END)
		close_section(s, section->id);
	return r;
}

/* After RAM the end of the stream has to be found before anything is handed out. */
static int enter_tail(struct gw__stream *s)
{
	s->background = !s->ram_ended;
	s->state = GW__STREAM_TRAILER;
	return 0;
}

/*
 * Does a device here begin the tail? Iterable sections must be over, except that a background snapshot ENDs none of them and never
 * switches over. An image that was made of one has an end of RAM, and the others stay open.
 */
static bool tail_begins(const struct gw__stream *s)
{
	if (s->ram_ended)
		return s->open_n == 0 || s->config.mapped_ram;
	return s->parts > 0 && !s->switchover;
}

/*
 * Kept to be compared with the description, which lists early devices first. Whoever has to repeat them keeps all their bytes, so it is
 * their sum that has a limit.
 */
static int note_early(struct gw__stream *s, const struct gw__section *section, size_t bytes, struct gw__error *error)
{
	if (bytes > s->opts.tail_max_bytes - s->early_bytes)
		return gw__stream_too_much(s, error);
	s->early_bytes += bytes;
	if (s->early_n == GW__EARLY_MAX)
		return gw__error_set(error, -E2BIG, "more than %d devices stand before the end of the RAM section", GW__EARLY_MAX);
	if (s->early_n == s->early_room) {
		uint32_t room = s->early_room ? s->early_room * 2 : 4;
		struct gw__section *early = realloc(s->early, room * sizeof *early);
		if (!early)
			return gw__error_set(error, -ENOMEM, "no memory for the list of devices");
		s->early = early;
		s->early_room = room;
	}
	s->early[s->early_n++] = *section;
	s->devices_n++;
	return 0;
}

int gw__stream_step_full(struct gw__stream *s, struct gw__stream_in *in)
{
	if (!s->package_left && tail_begins(s))
		return enter_tail(s);
	int r = gw__section_decode(&in->c, &in->ev->section, in->error);
	if (!r)
		r = take_opaque(s, in, GW__EVENT_DEVICE);
	if (r || !s->package_left)
		return r ? r : note_early(s, &in->ev->section, gw__rd_used(&in->c), in->error);
	s->devices_n++; /* no description follows, which would name it */
	return 0;
}

int gw__stream_step_eof(struct gw__stream *s, struct gw__stream_in *in)
{
	if (!s->ram_started)
		return gw__error_set(in->error, -EPROTO, "the stream ends without a RAM section; it is not a complete guest");
	if (!s->ram_ended)
		return gw__error_set(in->error, -EPROTO, "the stream ends while the RAM section is open; it is not a complete guest");
	if (s->open_n)
		return gw__error_set(in->error, -EPROTO, "the stream ends while section %u (\"%s\") is open; it is not a complete guest",
			s->open[0].id, s->open[0].idstr);
	if (s->postcopy < GW__STREAM_LISTENING && !s->checkpoint)
		return enter_tail(s);
	gw__rd_u8(&in->c);
	in->ev->kind = GW__EVENT_EOF;
	s->state = GW__STREAM_DONE;
	return 0;
}

int gw__stream_step_footer(struct gw__stream *s, struct gw__stream_in *in)
{
	int r = gw__footer_decode(&in->c, s->ram_id, in->error);
	if (r)
		return r;
	in->ev->section = (struct gw__section){.type = s->section_type, .id = s->ram_id, .idstr = "ram"};
	in->ev->kind = GW__EVENT_SECTION_END;
	s->state = GW__STREAM_ITEM;
	if (s->section_type == GW__ITEM_PART)
		s->parts++;
	if (s->section_type == GW__ITEM_END) {
		s->ram_ended = true;
		close_section(s, s->ram_id);
	}
	return 0;
}
