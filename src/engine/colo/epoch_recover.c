/* SPDX-License-Identifier: MIT */
/*
 * Epochs from the disk: the last one of a standby that died, as the image; and any that is kept, as an image of its own. See epoch_sink.h. All go the way of an
 * epoch that comes from a primary: loaded into memory, applied whole.
 */
#include "engine/colo/epoch_sink_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/sink/image_sink.h"
#include "image/file/fileio.h"
#include "wire/device_buffer.h"

typedef unsigned long long ull;

/* --- after a death --- */

/* The places of the early devices, whose names are those of the base. */
static int take_early(struct gw__epoch_sink *s, struct gw__rd *c, const struct gw__recv_state_saved *saved, struct gw__error *error)
{
	struct gw__device_buffer b;
	struct gw__section section;
	struct gw__view raw;
	uint32_t n = gw__rd_be32(c);
	int r = gw__device_buffer_decode(saved->package.p, saved->package.n, s->desc, &b, error);
	if (r)
		return r;
	if (n > b.devices || n > gw__rd_left(c) / GW__EPOCH_NOTE_EARLY)
		return gw__error_set(error, -EPROTO, "%u devices are said to come before RAM, of %u in all", n, b.devices);
	s->early = calloc(n + 1, sizeof *s->early);
	if (!s->early)
		return gw__error_set(error, -ENOMEM, "no memory for the list of devices");
	for (; s->early_n < n && gw__device_buffer_next(&b, &section, &raw); s->early_n++) {
		struct early *e = &s->early[s->early_n];
		*e = (struct early){gw__rd_be64(c), gw__rd_be64(c), section};
		if (e->bytes != raw.n || e->off > saved->start_off || e->bytes > saved->start_off - e->off)
			return gw__error_set(error, -EPROTO, "device \"%s\" cannot stand at offset %llu", section.idstr, (ull)e->off);
	}
	return 0;
}

static int take_note(struct gw__epoch_sink *s, const struct gw__recv_state_saved *saved, struct gw__vmdesc **desc, struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(saved->user_data.p, saved->user_data.n);
	unsigned flags = gw__rd_u8(&c);
	s->switchover = flags & GW__EPOCH_NOTE_SWITCHOVER;
	s->o.history = flags & GW__EPOCH_NOTE_HISTORY ? UINT64_MAX : 0; /* nothing of it goes away here */
	struct gw__rd text = c;
	gw__rd_take(&text, (size_t)gw__rd_be32(&text) * GW__EPOCH_NOTE_EARLY);
	if (text.cut)
		return gw__error_set(error, -EPROTO, "what is known of the guest is cut short");
	struct gw__view rest = {text.p, gw__rd_left(&text)};
	int r = rest.n ? gw__vmdesc_parse(rest.p, rest.n, desc, error) : 0;
	s->desc = *desc;
	if (!r)
		r = gw__epoch_sink_keep_text(s, rest, error);
	return r ? r : take_early(s, &c, saved, error);
}

/* --- replaying: record by record, as if it came just now --- */

static int load_run(void *ctx, uint32_t block, uint64_t off, const uint8_t *pages, uint64_t n, struct gw__error *error)
{
	enum { AT_ONCE = 16 };
	struct gw__epoch_sink *s = ctx;
	int r = pages ? 0 : gw__epoch_put_zeros(s->main, block, off, n, error);
	for (uint64_t done = 0, k; !r && pages && done < n; done += k) {
		uint64_t offs[AT_ONCE];
		void *buffer;
		for (k = 0; k < AT_ONCE && done + k < n && (k + 1) * s->page_bytes <= GW__EPOCH_BUFFER_BYTES; k++)
			offs[k] = off + (done + k) * s->page_bytes;
		r = gw__epoch_borrow(s->main, &buffer, error);
		if (r)
			return r;
		memcpy(buffer, pages + done * s->page_bytes, k * s->page_bytes);
		r = gw__epoch_submit(s->main, block, offs, (uint32_t)k, error);
	}
	return r;
}

static int load_devices(void *ctx, uint64_t epoch, struct gw__view devices, struct gw__error *error)
{
	struct gw__epoch_sink *s = ctx;
	uint8_t *to;
	int r = gw__epoch_sink_check_devices(s, devices.p, devices.n, error);
	if (!r)
		r = gw__epoch_reserve_devices(s->epoch, devices.n, &to, error);
	if (r)
		return r;
	memcpy(to, devices.p, devices.n);
	s->number = epoch;
	s->pending = true;
	return gw__epoch_sink_apply(s, error);
}

static int replay(struct gw__epoch_sink *s, struct gw__epoch_journal *j, const struct gw__epoch_base *base, struct gw__error *error)
{
	struct gw__view last;
	s->epoch = gw__epoch_new(s->page_bytes, s->o.limit_bytes);
	s->main = s->epoch ? gw__epoch_add_lane(s->epoch) : NULL;
	if (!s->main)
		return gw__error_set(error, -ENOMEM, "no memory for epochs");
	s->number = base->epoch;
	int r = gw__epoch_sink_take_devices(s, base->saved.package, error);
	return r ? r : gw__epoch_journal_replay(j, load_run, load_devices, s, &last, error);
}

/* The sink of a guest that is known, with a writer that it takes over in any case. `*desc` is the caller's. */
static int reopen(struct gw__epoch_sink *s, const struct gw__epoch_base *base, struct gw__image_writer *writer, struct gw__vmdesc **desc,
	struct gw__error *error)
{
	static const struct gw__sink_ops ops = {.free = gw__epoch_sink_free_parts};
	s->sink.ops = &ops;
	s->writer = writer;
	s->config = base->saved.config;
	s->page_bytes = gw__config_page_bytes(&base->saved.config);
	s->o.limit_bytes = UINT64_MAX / 2; /* what is on the disk was within its limit */
	int r = gw__sink_image_reopen(&writer, &base->saved, &s->image, error);
	if (r)
		return r;
	r = take_note(s, &base->saved, desc, error);
	s->note = r ? NULL : malloc(base->saved.user_data.n + 1);
	if (!r && !s->note)
		r = gw__error_set(error, -ENOMEM, "no memory for what is known of the guest");
	if (r)
		return r;
	memcpy(s->note, base->saved.user_data.p, base->saved.user_data.n);
	s->note_bytes = base->saved.user_data.n;
	return 0;
}

static int recover(struct gw__epoch_sink *s, const char *path, struct gw__epoch_journal *j, const struct gw__epoch_base *base,
	struct gw__image_writer *writer, struct gw__error *error)
{
	struct gw__vmdesc *desc = NULL;
	snprintf(s->path, sizeof s->path, "%s", path);
	s->replayed_last = gw__epoch_journal_last(j);
	int r = reopen(s, base, writer, &desc, error);
	if (!r)
		r = replay(s, j, base, error);
	if (!r)
		r = gw__epoch_sink_finish(s, true, error);
	gw__vmdesc_free(desc);
	return r;
}

int gw__epoch_sink_recover(const char *path, uint64_t *epoch, struct gw__error *error)
{
	struct gw__epoch_journal *j = NULL;
	struct gw__epoch_base base;
	struct gw__image_writer *writer = NULL;
	int r = gw__durable_reopen(path, &j, &base, &writer, error);
	if (r == -ENOENT)
		return r;
	struct gw__epoch_sink *s = r ? NULL : calloc(1, sizeof *s);
	if (!r && !s) {
		gw__image_writer_close(writer);
		r = gw__error_set(error, -ENOMEM, "no memory for a standby");
	}
	if (s)
		r = recover(s, path, j, &base, writer, error);
	*epoch = j ? gw__epoch_journal_last(j) : 0;
	gw__epoch_journal_close(j);
	gw__epoch_sink_free(&s);
	if (r)
		return gw__error_where(error, "the last epoch that a standby left beside %s cannot be recovered", path);
	gw__epoch_journal_remove(path);
	return 0;
}

/* --- an epoch as an image of its own --- */

struct source {
	char image[PATH_MAX + 16], journal[PATH_MAX + 16];
	bool live; /* it may be written to meanwhile */
};

static void find_source(const char *path, struct source *from)
{
	snprintf(from->image, sizeof from->image, "%.*s" GW__DURABLE_SUFFIX, PATH_MAX - 1, path);
	snprintf(from->journal, sizeof from->journal, "%.*s", PATH_MAX - 1, path);
	from->live = access(from->image, F_OK) == 0;
	if (from->live)
		return;
	snprintf(from->image, sizeof from->image, "%.*s", PATH_MAX - 1, path);
	snprintf(from->journal, sizeof from->journal, "%.*s" GW__EPOCH_HISTORY_SUFFIX, PATH_MAX - 1, path);
}

static int open_history(const char *path, struct source *from, struct gw__epoch_journal **j, struct gw__epoch_base *base,
	struct gw__error *error)
{
	find_source(path, from);
	int r = gw__epoch_journal_open(from->journal, j, base, error);
	return r == -ENOENT ? gw__error_set(error, -ENODATA, "%s has no history: it is kept by godwit standby --history", path) : r;
}

static int copy_file(const char *from, const char *to, struct gw__error *error)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out = in < 0 ? -1 : open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = in < 0    ? gw__error_errno(error, errno, "cannot open %s", from)
		: out < 0 ? gw__error_errno(error, errno, "cannot make %s", to)
			  : gw__file_copy(in, from, out, to, error);
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	if (r && out >= 0)
		unlink(to);
	return r;
}

/*
 * A copy, and a journal that leads from all that may be in it to the last epoch: of a guest that is protected meanwhile, one whose base is still the one that
 * it had before the copy began.
 */
static int copy_with_journal(const char *path, const char *to, struct gw__epoch_journal **j, struct gw__epoch_base *base,
	struct gw__error *error)
{
	enum { TRIES = 5 };
	struct source from;
	for (int i = 0; i < TRIES; i++) {
		int r = open_history(path, &from, j, base, error);
		if (r)
			return r;
		uint64_t before = base->epoch;
		r = copy_file(from.image, to, error);
		if (r || !from.live)
			return r;
		gw__epoch_journal_close(*j);
		*j = NULL;
		r = gw__epoch_journal_open(from.journal, j, base, error);
		if (!r && base->epoch == before && access(from.image, F_OK) == 0)
			return 0;
		unlink(to);
		gw__epoch_journal_close(*j);
		*j = NULL;
		if (r && r != -ENOENT)
			return r;
	}
	return gw__error_set(error, -EBUSY, "%s is replaced faster than it can be copied", path);
}

/* The image can have nothing of the last epoch as long as there is no way back from it: then the journal ends with the one before. */
static uint64_t settle_last(const char *path, struct gw__epoch_journal *j, uint64_t epoch)
{
	uint64_t last = gw__epoch_journal_last(j);
	if (epoch < last && !gw__epoch_history_has(path, last - 1))
		gw__epoch_journal_drop_last(j);
	return gw__epoch_journal_last(j);
}

/* From the last epoch back to this one. */
static int go_back(struct gw__epoch_sink *s, const char *path, uint64_t last, uint64_t epoch, struct gw__error *error)
{
	int r = 0;
	for (uint64_t n = last; !r && n-- > epoch;) {
		uint8_t *devices = NULL;
		size_t devices_bytes = 0;
		r = gw__epoch_history_replay(path, n, s->page_bytes, gw__image_blocks(s->writer), gw__epoch_sink_apply_run, s, &devices,
			&devices_bytes, error);
		if (!r && n == epoch)
			r = gw__epoch_sink_check_devices(s, devices, devices_bytes, error);
		if (!r && n == epoch)
			r = gw__epoch_sink_take_devices(s, (struct gw__view){devices, devices_bytes}, error);
		free(devices);
	}
	return r;
}

static int export_from(struct gw__epoch_sink *s, const char *path, uint64_t epoch, const char *to, const char *name,
	struct gw__epoch_journal *j, const struct gw__epoch_base *base, struct gw__error *error)
{
	struct gw__image_writer *writer = NULL;
	struct gw__vmdesc *desc = NULL;
	uint64_t last = gw__epoch_journal_last(j);
	int r = epoch > last ? gw__error_set(error, -ENODATA, "%s has no epoch %llu, the last one is %llu", path, (ull)epoch, (ull)last)
			     : gw__image_reopen(to, name, true, &base->saved, base->maps, &writer, error);
	if (!r)
		r = reopen(s, base, writer, &desc, error);
	s->o.history = 0;
	last = r ? 0 : settle_last(path, j, epoch);
	if (!r)
		r = replay(s, j, base, error);
	if (!r)
		r = go_back(s, path, last, epoch, error);
	if (!r)
		r = gw__epoch_sink_finish(s, false, error);
	gw__vmdesc_free(desc);
	return r;
}

int gw__epoch_sink_export(const char *path, uint64_t epoch, const char *to, struct gw__error *error)
{
	char beside[PATH_MAX], *name;
	struct gw__epoch_journal *j = NULL;
	struct gw__epoch_base base;
	const char *slash = strrchr(to, '/');
	int folder = slash ? (int)(slash + 1 - to) : 0;
	int n = snprintf(beside, sizeof beside, "%.*s.%s.%d.partial", folder, to, to + folder, (int)getpid());
	if (n < 0 || n >= (int)sizeof beside)
		return gw__error_set(error, -ENAMETOOLONG, "%s: the name is too long", to);
	name = beside + folder;
	struct gw__epoch_sink *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(error, -ENOMEM, "no memory for an epoch");
	int r = copy_with_journal(path, beside, &j, &base, error);
	if (!r)
		r = export_from(s, path, epoch, to, name, j, &base, error);
	if (r)
		unlink(beside);
	gw__epoch_journal_close(j);
	if (s->sink.ops)
		gw__epoch_sink_free(&s);
	else
		free(s);
	return r;
}

int gw__epoch_sink_history(const char *path, uint64_t *last, struct gw__epoch_past **past, size_t *n, struct gw__error *error)
{
	struct source from;
	struct gw__epoch_journal *j = NULL;
	struct gw__epoch_base base;
	int r = open_history(path, &from, &j, &base, error);
	if (r)
		return r;
	*last = gw__epoch_journal_last(j);
	uint64_t merged = *last ? settle_last(path, j, *last - 1) : 0;
	gw__epoch_journal_close(j);
	r = gw__epoch_history_list(path, merged, past, n, error);
	if (r || merged == *last)
		return r;
	struct gw__epoch_past *more = realloc(*past, (*n + 1) * sizeof *more);
	if (!more)
		return gw__error_set(error, -ENOMEM, "no memory for a list of epochs");
	memmove(more + 1, more, *n * sizeof *more);
	more[0] = (struct gw__epoch_past){.number = merged};
	*past = more;
	++*n;
	return 0;
}
