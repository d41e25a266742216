/* SPDX-License-Identifier: MIT */
/* Decides how a kept guest is restored; see restore.h. */
#include "plan/restore_method.h"

#include <stdio.h>
#include <string.h>

#include "base/math.h"
#include "plan/capability_rules.h"

typedef unsigned long long ull;

struct refusal {
	char *text;
	unsigned bytes;
};

static const struct gw__plan_block *find(const struct gw__plan_block *v, uint32_t n, const char *name)
{
	for (uint32_t i = 0; i < n; i++)
		if (!strcmp(v[i].name, name))
			return &v[i];
	return NULL;
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);
	return n >= m && !strcmp(text + n - m, end);
}

/* What decides whether there is a RAM block and how large it is. NULL: main memory, or not known. */
static const char *cure(const char *block)
{
	static const struct {
		const char *start, *in, *end; /* each NULL: any */
		const char *text;
	} cures[] = {
		{NULL, NULL, "/qxl.vram", "give that device the same vram_size"},
		{NULL, "vram", NULL, "give that device the same video memory (vgamem_mb=, for qxl also ram_size=)"},
		{NULL, ".flash", NULL, "start it with a firmware file (pflash) of the same size"},
		{NULL, NULL, ".bios", "start it with the same firmware file (-bios)"},
		{"/rom@", NULL, NULL, "start it with the same devices and firmware files"},
		{NULL, NULL, "pc.rom", "start it with the same machine type and firmware files"},
		{NULL, NULL, ".rom", "give that device the same option ROM (romfile= or romsize=)"},
		{NULL, "/ivshmem", NULL, "give that device the same amount of shared memory"},
	};
	for (size_t i = 0; i < GW__LEN(cures); i++)
		if ((!cures[i].start || !strncmp(block, cures[i].start, strlen(cures[i].start))) &&
			(!cures[i].in || strstr(block, cures[i].in)) && (!cures[i].end || ends_with(block, cures[i].end)))
			return cures[i].text;
	return NULL;
}

struct size_text {
	char text[48];
};

/* Exact, in the largest unit that is: 540672 bytes are "528 KiB". */
static struct size_text size_of(uint64_t bytes)
{
	struct size_text s;
	if (bytes && bytes % (1 << 20) == 0)
		snprintf(s.text, sizeof s.text, "%llu MiB", (ull)bytes >> 20);
	else if (bytes && bytes % 1024 == 0)
		snprintf(s.text, sizeof s.text, "%llu KiB", (ull)bytes >> 10);
	else
		snprintf(s.text, sizeof s.text, "%llu bytes", (ull)bytes);
	return s;
}

/*
 * The other end's main RAM may have another id: `-machine memory-backend=m0` makes "m0" of "pc.ram". Then naming only
 * the missing block would leave the operator guessing.
 */
static bool missing_block(const struct gw__plan_block *b, const struct gw__plan_destination *d, struct refusal *r)
{
	char have[200] = "";
	if (cure(b->name)) {
		snprintf(r->text, r->bytes, "the saved guest has a RAM block \"%s\" of %s, which the destination lacks; %s", b->name,
			size_of(b->used_bytes).text, cure(b->name));
		return true;
	}
	for (uint32_t i = 0; i < d->blocks_n && strlen(have) + strlen(d->block[i].name) + 3 < sizeof have; i++) {
		strcat(have, i ? ", " : "");
		strcat(have, d->block[i].name);
	}
	snprintf(r->text, r->bytes,
		"the saved guest has a RAM block \"%s\" of %s, which the destination lacks (it has: %s); start it with the same "
		"devices and the same memory-backend ids",
		b->name, size_of(b->used_bytes).text, have);
	return true;
}

static bool wrong_size(const struct gw__plan_block *b, const struct gw__plan_block *there, struct refusal *r)
{
	bool grows = there->max_bytes > there->used_bytes;
	if (b->used_bytes == there->used_bytes || (grows && b->used_bytes <= there->max_bytes))
		return false;
	snprintf(r->text, r->bytes, "RAM block \"%s\" was saved with %s and has %s%s in the destination; %s", b->name,
		size_of(b->used_bytes).text, grows ? "at most " : "", size_of(grows ? there->max_bytes : there->used_bytes).text,
		cure(b->name) ? cure(b->name) : "start it with the same memory size");
	return true;
}

/* Its content is nowhere but in the memory that source and destination share. */
static bool would_be_empty(const struct gw__plan_block *b, const struct gw__plan_block *there, struct refusal *r)
{
	if (!b->ignored || !there->unshared)
		return false;
	snprintf(r->text, r->bytes,
		"RAM block \"%s\" is not in the image, because the source shared its memory (x-ignore-shared), and in the destination it is "
		"not shared memory, so the guest would find it empty; start the destination with the file that is this memory, share=on",
		b->name);
	return true;
}

static bool has_gaps(const struct gw__plan_guest *g)
{
	for (uint32_t i = 0; i < g->blocks_n; i++)
		if (g->block[i].ignored)
			return true;
	return false;
}

static bool differs(const struct gw__plan_guest *g, const struct gw__plan_destination *d, struct refusal *r)
{
	if (d->machine && strcmp(d->machine, g->machine)) {
		snprintf(r->text, r->bytes, "the guest was saved on machine type %s, the destination has %s; start it with -machine %s",
			g->machine, d->machine, g->machine);
		return true;
	}
	if (gw__plan_devices_differ(g, d, r->text, r->bytes))
		return true;
	for (uint32_t i = 0; d->blocks_n && i < g->blocks_n; i++) {
		const struct gw__plan_block *there = find(d->block, d->blocks_n, g->block[i].name);
		if (!there)
			return missing_block(&g->block[i], d, r);
		if (wrong_size(&g->block[i], there, r) || would_be_empty(&g->block[i], there, r))
			return true;
	}
	return false;
}

static uint64_t mapped_bytes(const struct gw__plan_destination *d)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < d->blocks_n; i++)
		sum += d->block[i].mapped ? d->block[i].used_bytes : 0;
	return sum;
}

/* The guest fits; by which way it goes. */
static enum gw__restore_method choose(const struct gw__plan_guest *g, const struct gw__plan_destination *d, char *reason,
	unsigned why_bytes)
{
	if (!g->image) {
		snprintf(reason, why_bytes, "a stream file is sent by us");
		return GW__RESTORE_METHOD_STREAM;
	}
	if (mapped_bytes(d)) {
		snprintf(reason, why_bytes,
			"the destination maps %s of the image as its memory, copy-on-write, so that only the rest is sent",
			size_of(mapped_bytes(d)).text);
		return GW__RESTORE_METHOD_CLONE;
	}
	if (!d->reads_images) {
		snprintf(reason, why_bytes,
			"this QEMU does not know mapped-ram images (it is older than 9.0), so the image is sent to it as a stream");
		return GW__RESTORE_METHOD_STREAM;
	}
	if (!d->accepts_ignored_blocks && has_gaps(g)) {
		snprintf(reason, why_bytes,
			"the image leaves out shared memory, and this QEMU (older than 11.1) cannot read such an image, so it is sent as a stream");
		return GW__RESTORE_METHOD_STREAM;
	}
	if (!d->same_host) {
		snprintf(reason, why_bytes, "the destination cannot open our files, so the image is sent to it as a stream");
		return GW__RESTORE_METHOD_STREAM;
	}
	snprintf(reason, why_bytes, "the destination is on this host and reads mapped-ram images itself, which is the shortest way");
	return GW__RESTORE_METHOD_DIRECT;
}

enum gw__restore_method gw__plan_restore_method(const struct gw__plan_guest *g, const struct gw__plan_destination *d, char *reason,
	unsigned why_bytes)
{
	struct refusal r = {reason, why_bytes};
	if (g->memory_only) {
		snprintf(reason, why_bytes,
			"this is the memory of a guest without its devices (godwit drain): it can only complete a QEMU that has the guest already and waits "
			"in postcopy-paused, with godwit serve");
		return GW__RESTORE_METHOD_REFUSED;
	}
	if (differs(g, d, &r))
		return GW__RESTORE_METHOD_REFUSED;
	if (g->xbzrle) { /* no QEMU reads a stream file itself, so it would have to be sent */
		const struct gw__rule *rule = gw__capability_check(GW__OPERATION_RESTORE_STREAM, GW__ABILITY_BIT(GW__ABILITY_XBZRLE), 0);
		snprintf(reason, why_bytes, "%s", rule->reason);
		return GW__RESTORE_METHOD_REFUSED;
	}
	char compared[256];
	enum gw__restore_method way = choose(g, d, reason, why_bytes);
	size_t n = strlen(reason);
	gw__plan_devices_compared(g, d, compared, sizeof compared);
	snprintf(reason + n, why_bytes - n, "%s", compared);
	return way;
}
