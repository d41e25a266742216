/* SPDX-License-Identifier: MIT */
/* The table of reasons against a direct save; see save_method.h. */
#include "plan/save_method.h"

#include <stdio.h>

static bool is_older(const struct gw__plan_save *p) { return !p->writes_images; }
static bool is_far(const struct gw__plan_save *p) { return !p->takes_files; }
static bool at_start(const struct gw__plan_save *p) { return p->at_start; }
static bool postcopy(const struct gw__plan_save *p) { return p->postcopy; }
static bool compresses(const struct gw__plan_save *p) { return p->compression; }
static bool encrypts(const struct gw__plan_save *p) { return p->tls; }
static bool listens(const struct gw__plan_save *p) { return p->listen; }
static bool limits_memory(const struct gw__plan_save *p) { return p->memory_limit; }
static bool limits_channels(const struct gw__plan_save *p) { return p->max_bandwidth && (p->channels || p->direct_io); }
static bool lacks_direct_io(const struct gw__plan_save *p) { return p->direct_io && !p->has_direct_io; }
static bool stands(const struct gw__plan_save *p) { return !p->guest_runs && !p->stop; }
static bool stands_and_stays(const struct gw__plan_save *p) { return !p->guest_runs; }

static const struct row {
	bool (*applies)(const struct gw__plan_save *p);
	bool only_auto; /* whoever wishes for direct gets it all the same */
	const char *reason;
} rows[] = {
	{is_older, false, "this QEMU does not write mapped-ram images (it is older than 9.0)"},
	{is_far, false, "a file can be handed to this QEMU only over a monitor that is a unix socket on this host"},
	{at_start, false, "a background snapshot leaves the bitmaps of an image empty that QEMU writes itself"},
	{postcopy, false, "post-copy needs a connection"},
	{compresses, false, "an image is not compressed, only what is sent is"},
	{encrypts, false, "TLS needs a connection"},
	{listens, false, "QEMU is to connect to an address"},
	{limits_memory, false, "only in a stream is device state held against a memory limit"},
	{limits_channels, false, "QEMU does not keep to a bandwidth limit when several channels, or direct I/O, write an image"},
	{lacks_direct_io, false, "this QEMU has no direct I/O (it is older than 9.1)"},
	{stands, false, "the guest does not run, and only at the end of a stream can QEMU be told to keep its run state"},
	{stands_and_stays, true, "the guest does not run, and keeps its run state only after a stream"},
};

enum gw__save_method gw__plan_save_method(enum gw__save_wish wish, const struct gw__plan_save *p, char *reason, size_t room)
{
	if (wish == GW__SAVE_WISH_STREAM) {
		snprintf(reason, room, "QEMU sends its guest");
		return GW__SAVE_METHOD_STREAM;
	}
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (!rows[i].applies(p) || (rows[i].only_auto && wish == GW__SAVE_WISH_DIRECT))
			continue;
		bool refused = wish == GW__SAVE_WISH_DIRECT;
		snprintf(reason, room, "%s: %s", refused ? "QEMU cannot write this image itself" : "QEMU sends its guest", rows[i].reason);
		return refused ? GW__SAVE_METHOD_REFUSED : GW__SAVE_METHOD_STREAM;
	}
	snprintf(reason, room, "QEMU writes the image itself, which is the shortest way");
	return GW__SAVE_METHOD_DIRECT;
}
