/* SPDX-License-Identifier: MIT */
/*
 * The dissector on what follows a guest in COLO: messages in both directions, and the device state of a checkpoint (docs/spec/colo.md). The RAM of
 * a checkpoint is the stream decoder's. See dissector.h.
 */
#include <errno.h>

#include "base/math.h"
#include "dissect/dissector_private.h"
#include "wire/colo.h"

typedef unsigned long long ull;

static void say_message(struct gw__dissector *x, const struct gw__colo_msg *m, size_t used)
{
	static const char *const meanings[GW__COLO_MESSAGES] = {"the secondary has the guest", "stop, a checkpoint follows", "stopped",
		"the guest stands still, its memory follows", "", "all of the checkpoint is here", "it is in use, the guest may run on"};
	struct gw__message *out = gw__dissector_make(x, gw__colo_message_name(m->type), "%s", meanings[m->type]);
	if (m->type == GW__COLO_VMSTATE_SIZE) {
		gw__dissector_more(out, "%llu bytes of device state follow", (ull)m->bytes);
		gw__dissector_number(out, "length", m->bytes);
	}
	gw__dissector_emit(x, x->off + used);
}

/* Devices are shown one by one if all of them can be looked at together; what is not device state is passed by. */
static int take_device(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__section section;
	size_t body_at, body_bytes;
	if (n < x->device_left)
		return 0;
	if (x->device_left == 1 && *bytes == GW__ITEM_EOF) {
		gw__dissector_make(x, "EOF", "end of the device state");
		*used = 1;
	} else {
		int r = gw__trailer_split(x->stream.desc, x->device_index++, bytes, x->device_left, true, &section, &body_at, &body_bytes,
			NULL, &x->error);
		*used = body_at + body_bytes + GW__FOOTER_BYTES;
		if (r || *bytes != GW__ITEM_FULL || *used > x->device_left)
			return r < 0 ? r : gw__error_set(&x->error, -EPROTO, "no device where the device state of a checkpoint has one");
		struct gw__message *m = gw__dissector_make(x, "DEVICE", "%s, instance %u, version %u: %zu bytes", section.idstr,
			section.instance, section.version, body_bytes);
		gw__dissector_text(m, "device", section.idstr);
		gw__dissector_number(m, "instance", section.instance);
		gw__dissector_number(m, "length", body_bytes);
	}
	x->device_left -= *used;
	gw__dissector_emit(x, x->off + *used);
	return 1;
}

static void begin_devices(struct gw__dissector *x, uint64_t bytes)
{
	x->device_index = 0;
	if (bytes > x->o.tail_max_bytes)
		x->skip = bytes;
	else
		x->device_left = bytes;
}

int gw__dissector_colo_forward(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__colo_msg m;
	struct gw__rd c = gw__rd_over(bytes, n);
	if (!n)
		return 0;
	if (x->device_left)
		return take_device(x, bytes, n, used);
	int r = gw__colo_decode(&c, &m, x->colo ? &x->error : NULL);
	if (r == GW__SHORT)
		return 0;
	if (!x->colo && (r || m.type != GW__COLO_CHECKPOINT_REQUEST)) /* no checkpoint begins otherwise */
		return gw__error_set(&x->error, -EPROTO, "bytes behind the end of the stream");
	if (r)
		return r;
	x->colo = true;
	*used = gw__rd_used(&c);
	say_message(x, &m, *used);
	if (m.type == GW__COLO_VMSTATE_SIZE)
		begin_devices(x, m.bytes);
	if (m.type != GW__COLO_VMSTATE_SEND)
		return 1;
	x->ended = false;
	gw__stream_begin_checkpoint(&x->stream);
	x->stream.off = x->off + *used;
	return 1;
}

int gw__dissector_colo_back(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used)
{
	struct gw__colo_msg m;
	struct gw__rd c = gw__rd_over(bytes, n);
	int r = gw__colo_decode(&c, &m, &x->error);
	if (r)
		return r == GW__SHORT ? 0 : r;
	*used = gw__rd_used(&c);
	gw__dissector_observed_event(x, GW__OBSERVED_COLO);
	say_message(x, &m, *used);
	return 1;
}
