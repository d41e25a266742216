/* SPDX-License-Identifier: MIT */
/* Guests of this process: made, described, asked where they are. What is done with them is elsewhere. */
#include "lib/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/math.h"
#include "engine/guest/lazy_restore.h"
#include "engine/guest/ram_sink.h"
#include "engine/sink/sink.h"
#include "guest/mapping.h"
#include "lib/job.h"
#include "wire/header.h"

typedef unsigned long long ull;

#define SAME(theirs) _Static_assert((int)GW__##theirs == (int)GW_##theirs, #theirs)
SAME(HERE);
SAME(EMPTY);
SAME(ARRIVING);
SAME(LEAVING);
SAME(IN_DOUBT);
SAME(GONE);
SAME(STANDBY);
SAME(PARTIAL);
SAME(HELD);
SAME(WHY_LEAVE);
SAME(WHY_KEEP);
SAME(WHY_ARRIVED);
SAME(WHY_RETURNED);
SAME(WHY_CHECKPOINT);
SAME(WHY_FAILOVER);
_Static_assert((int)GW__WHERES == GW_HELD + 1, "each where has a name");

/* --- one call at a time --- */

int gw__guest_claim(gw_guest *guest, struct gw__error *error)
{
	bool idle = false;
	if (!atomic_compare_exchange_strong(&guest->busy, &idle, true))
		return gw__error_set(error, -EBUSY, "another call is using this guest");
	return 0;
}

void gw__guest_release(gw_guest *guest) { atomic_store(&guest->busy, false); }

void gw__guest_end_arrival(gw_guest *guest)
{
	gw__sink_free(&guest->arriving);
	gw__late_pages_free(&guest->late);
	gw__lazy_free(&guest->lazy);
}

void gw__guest_set_location(gw_guest *guest, enum gw__side side, struct gw__location location, enum gw__motion motion)
{
	guest->side = side;
	guest->location = location;
	atomic_store(&guest->where, gw__where_of(side, location.place, motion));
}

/* --- new and free --- */

/* What a VMM's hook answers where 0 and a negative errno are all there is. */
static int answer(int r) { return r > 0 ? -EPROTO : r; }

static int pause_guest(void *ctx, enum gw__why why)
{
	gw_guest *guest = ctx;
	int r = guest->ops.pause(guest->ctx, (enum gw_why)why);
	return r == 1 ? r : answer(r);
}

static int resume(void *ctx, enum gw__why why)
{
	gw_guest *guest = ctx;
	return answer(guest->ops.resume(guest->ctx, (enum gw_why)why));
}

static int dirty_start(void *ctx)
{
	gw_guest *guest = ctx;
	return answer(guest->opts.dirty_start(guest->ctx));
}

static int dirty_take(void *ctx, const char *block, uint64_t first, uint64_t pages, uint64_t *bitmap)
{
	gw_guest *guest = ctx;
	return answer(guest->opts.dirty_take(guest->ctx, block, first, pages, bitmap));
}

static void dirty_stop(void *ctx)
{
	gw_guest *guest = ctx;
	guest->opts.dirty_stop(guest->ctx);
}

static int check_opts(const struct gw_guest_ops *ops, const struct gw_guest_opts *o)
{
	size_t machine = o->machine ? strlen(o->machine) : 0;
	if (!ops->pause || !ops->resume || !machine || machine > GW__MACHINE_MAX)
		return -EINVAL;
	if (o->page_bytes &&
		(!gw__is_power_of_2(o->page_bytes) || o->page_bytes < 1 << GW__PAGE_BITS_RAM || o->page_bytes > 1 << GW__PAGE_BITS_MAX))
		return -EINVAL;
	if (o->tracker == GW_TRACKER_OWN && (!o->dirty_start || !o->dirty_take || !o->dirty_stop))
		return -EINVAL;
	return 0;
}

static void describe(gw_guest *guest)
{
	struct gw__guest *g = guest->guest;
	const struct gw_guest_opts *o = &guest->opts;
	strcpy(g->machine, o->machine);
	g->has_uuid = o->has_uuid;
	memcpy(g->uuid, o->uuid, sizeof g->uuid);
	g->page_bytes = o->page_bytes ? o->page_bytes : 4096;
	g->ops = (struct gw__guest_ops){.pause = pause_guest, .resume = resume};
	g->tracks_writes = o->tracker == GW_TRACKER_WRITES || o->tracker == GW_TRACKER_AUTO;
	g->uffd = o->uffd ? *o->uffd : -1;
	if (o->tracker == GW_TRACKER_OWN) {
		g->ops.dirty_start = dirty_start;
		g->ops.dirty_take = dirty_take;
		g->ops.dirty_stop = dirty_stop;
	}
	g->ctx = guest;
}

int gw_guest_new(gw_guest **guest, const struct gw_guest_ops *ops, const struct gw_guest_opts *o, void *ctx)
{
	if (!guest || !ops || !o)
		return -EINVAL;
	int r = GW__CHECK(ops, NULL);
	if (!r)
		r = GW__CHECK(o, NULL);
	if (r)
		return r;
	gw_guest *g = calloc(1, sizeof *g);
	if (!g)
		return -ENOMEM;
	gw__struct_out(&g->ops, sizeof g->ops, ops, gw__min(ops->size, sizeof g->ops));
	gw__struct_out(&g->opts, sizeof g->opts, o, gw__min(o->size, sizeof g->opts));
	g->ctx = ctx;
	r = check_opts(&g->ops, &g->opts);
	g->guest = r ? NULL : gw__guest_new();
	if (!r && !g->guest)
		r = -ENOMEM;
	if (r) {
		free(g);
		return r;
	}
	describe(g);
	g->opts.machine = g->guest->machine;
	gw__guest_set_location(g, g->opts.empty ? GW__SIDE_DESTINATION : GW__SIDE_SOURCE, gw__location_at(GW__PLACE_SOURCE_RUNS),
		GW__MOTION_NONE);
	*guest = g;
	return 0;
}

/* Claims the guest for a change of it. 0, or -EBUSY or -EINVAL, with a sentence of its own where there is a guest that is idle. */
static int begin(gw_guest *guest)
{
	if (!guest)
		return -EINVAL;
	int r = gw__guest_claim(guest, NULL);
	if (!r)
		gw__error_clear(&guest->error);
	return r;
}

static int end(gw_guest *guest, int r)
{
	gw__guest_release(guest);
	return r;
}

int gw_guest_free(gw_guest *guest)
{
	if (!guest)
		return 0;
	int r = begin(guest);
	if (r)
		return r;
	r = gw__guest_may(GW__GUEST_FREE, (enum gw__where)atomic_load(&guest->where), &guest->error);
	if (r)
		return end(guest, r);
	gw__guest_free(guest->guest);
	free(guest);
	return 0;
}

const char *gw_guest_error(const gw_guest *guest) { return guest && !atomic_load(&guest->busy) ? guest->error.text : ""; }

/* --- what it consists of --- */

static int check_name(const char *field, const char *name, struct gw__error *error)
{
	size_t n = name ? strlen(name) : 0;
	if (!n || n > GW__GUEST_NAME_MAX)
		return gw__error_set(error, -EINVAL, "%s has %zu bytes, expected 1 to %d", field, n, GW__GUEST_NAME_MAX);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)name[i] < 0x20 || (unsigned char)name[i] > 0x7e)
			return gw__error_set(error, -EINVAL, "%s has the byte %02x, expected ASCII without control characters", field,
				(unsigned char)name[i]);
	return 0;
}

static int check_block(const gw_guest *guest, const struct gw_block *b, struct gw__error *error)
{
	uint64_t page_bytes = guest->guest->page_bytes, backing = b->page_bytes ? b->page_bytes : (uint64_t)sysconf(_SC_PAGESIZE);
	int r = check_name("gw_block.name", b->name, error);
	if (r)
		return r;
	if (!gw__is_power_of_2(backing))
		return gw__error_set(error, -EINVAL, "gw_block.page_bytes is %llu, expected a power of two", (ull)backing);
	if (!b->host || (uintptr_t)b->host % gw__max(page_bytes, backing))
		return gw__error_set(error, -EINVAL, "gw_block.host is %p, expected a multiple of %llu", b->host,
			(ull)gw__max(page_bytes, backing));
	if (!b->bytes || b->bytes % gw__max(page_bytes, backing) || b->bytes > UINTPTR_MAX - (uintptr_t)b->host)
		return gw__error_set(error, -EINVAL, "gw_block.bytes is %llu, expected a multiple of %llu", (ull)b->bytes,
			(ull)gw__max(page_bytes, backing));
	return gw__mapping_check(b->name, b->host, b->bytes, b->fd ? *b->fd : -1, b->fd_offset, error);
}

static int add_block(gw_guest *guest, const struct gw_block *block)
{
	struct gw_block b = {0};
	int r = GW__CHECK(block, &guest->error);
	if (r)
		return r;
	gw__struct_out(&b, sizeof b, block, gw__min(block->size, sizeof b));
	r = check_block(guest, &b, &guest->error);
	if (r)
		return r;
	struct gw__guest_block ours = {.host = b.host,
		.bytes = b.bytes,
		.page_bytes = b.page_bytes ? b.page_bytes : (uint64_t)sysconf(_SC_PAGESIZE),
		.fd = b.fd ? *b.fd : -1,
		.fd_offset = b.fd_offset};
	strcpy(ours.name, b.name);
	return gw__guest_add_block(guest->guest, &ours, &guest->error);
}

/* Blocks are watched while it is GW_PARTIAL. */
static int may_change_blocks(gw_guest *guest)
{
	if (atomic_load(&guest->where) != GW__PARTIAL)
		return 0;
	return gw__error_set(&guest->error, -EBUSY, "pages of the guest are missing; its RAM blocks cannot change until they are here");
}

int gw_guest_add_block(gw_guest *guest, const struct gw_block *block)
{
	int r = block ? begin(guest) : -EINVAL;
	if (r)
		return r;
	r = may_change_blocks(guest);
	return end(guest, r ? r : add_block(guest, block));
}

int gw_guest_remove_block(gw_guest *guest, const char *name)
{
	int r = name ? begin(guest) : -EINVAL;
	if (r)
		return r;
	r = may_change_blocks(guest);
	return end(guest, r ? r : gw__guest_remove_block(guest->guest, name, &guest->error));
}

int gw_out_write(gw_out *out, const void *bytes, size_t n)
{
	if (!out || (n && !bytes))
		return -EINVAL;
	return gw__out_write(out, bytes, n);
}

static int add_device(gw_guest *guest, const struct gw_device *device)
{
	struct gw_device d = {0};
	struct gw__error *error = &guest->error;
	int r = GW__CHECK(device, error);
	if (r)
		return r;
	gw__struct_out(&d, sizeof d, device, gw__min(device->size, sizeof d));
	r = check_name("gw_device.name", d.name, error);
	if (r)
		return r;
	if (!strcmp(d.name, "ram"))
		return gw__error_set(error, -EINVAL, "gw_device.name is \"ram\", which is the name of the memory in the stream");
	if (!d.save || !d.load)
		return gw__error_set(error, -EINVAL, "gw_device.%s is NULL", d.save ? "load" : "save");
	d.version = d.version ? d.version : 1;
	d.oldest = d.oldest ? d.oldest : d.version;
	if (d.oldest > d.version)
		return gw__error_set(error, -EINVAL, "gw_device.oldest is %u, expected at most the version, %u", d.oldest, d.version);
	struct gw__guest_device ours = {.instance = d.instance,
		.version = d.version,
		.oldest = d.oldest,
		.optional = d.optional,
		.save = d.save,
		.load = d.load,
		.ctx = d.ctx};
	strcpy(ours.name, d.name);
	return gw__guest_add_device(guest->guest, &ours, error);
}

int gw_guest_add_device(gw_guest *guest, const struct gw_device *device)
{
	int r = device ? begin(guest) : -EINVAL;
	return r ? r : end(guest, add_device(guest, device));
}

int gw_guest_remove_device(gw_guest *guest, const char *name, uint32_t instance)
{
	int r = name ? begin(guest) : -EINVAL;
	return r ? r : end(guest, gw__guest_remove_device(guest->guest, name, instance, &guest->error));
}

/* --- what it reports, and where it is --- */

int gw_guest_dirty(gw_guest *guest, const char *block, uint64_t offset, uint64_t bytes)
{
	return guest && block ? gw__guest_dirty(guest->guest, block, offset, bytes) : -EINVAL;
}

int gw_guest_discard(gw_guest *guest, const char *block, uint64_t offset, uint64_t bytes)
{
	return guest && block ? gw__guest_discard(guest->guest, block, offset, bytes) : -EINVAL;
}

enum gw_where gw_guest_where(const gw_guest *guest) { return guest ? (enum gw_where)atomic_load(&guest->where) : GW_EMPTY; }

const char *gw_guest_tracker(const gw_guest *guest)
{
	if (!guest)
		return "";
	return guest->guest->tracks_writes ? "writes" : guest->guest->ops.dirty_take ? "own" : "told";
}

const char *gw_guest_where_name(uint32_t i) { return i < GW__WHERES ? gw__where_name((enum gw__where)i) : NULL; }

/* What it lacks will not come. */
static int decide_partial(gw_guest *guest, bool it_is_ours)
{
	struct gw__location l = guest->location;
	if (it_is_ours)
		return gw__error_set(&guest->error, -EALREADY, "the guest is here, and pages of it are missing: bring them with `resume`");
	gw__guest_end_arrival(guest);
	gw__location_note(&l, GW__LOCATION_EV_DESTINATION_SHUT_DOWN);
	gw__guest_set_location(guest, guest->side, l, GW__MOTION_NONE);
	return 0;
}

static int decide(gw_guest *guest, bool it_is_ours)
{
	enum gw__where where = (enum gw__where)atomic_load(&guest->where);
	int r = gw__guest_may(GW__GUEST_DECIDE, where, &guest->error);
	struct gw__location l = guest->location;
	if (!r && it_is_ours && where == GW__HELD)
		r = gw__error_set(&guest->error, -EPERM, "the other side has run this guest: it does not run here again");
	if (r)
		return r;
	if (where == GW__PARTIAL)
		return decide_partial(guest, it_is_ours);
	/* What is ours depends on which end of the move we are. */
	bool source_has_it = it_is_ours == (guest->side == GW__SIDE_SOURCE);
	gw__location_note(&l, source_has_it ? GW__LOCATION_EV_GIVEN_BACK : GW__LOCATION_EV_ARRIVED);
	gw__guest_set_location(guest, guest->side, l, GW__MOTION_NONE);
	return 0;
}

int gw_guest_decide(gw_guest *guest, bool it_is_ours)
{
	int r = begin(guest);
	return r ? r : end(guest, decide(guest, it_is_ours));
}
