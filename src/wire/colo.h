/* SPDX-License-Identifier: MIT */
/* The messages between a COLO primary and its secondary (docs/spec/colo.md 3). Pure codec. */
#ifndef GW_WIRE_COLO_H
#define GW_WIRE_COLO_H

#include "base/bytes.h"
#include "base/error.h"

enum gw__colo_message {
	GW__COLO_CHECKPOINT_READY,   /* to the primary, once: the secondary is in COLO */
	GW__COLO_CHECKPOINT_REQUEST, /* to the secondary: stop, get ready */
	GW__COLO_CHECKPOINT_REPLY,   /* to the primary: it is stopped */
	GW__COLO_VMSTATE_SEND,       /* to the secondary: the primary is stopped, RAM follows immediately */
	GW__COLO_VMSTATE_SIZE,       /* to the secondary: so many bytes of device state follow immediately */
	GW__COLO_VMSTATE_RECEIVED,   /* to the primary: all of the checkpoint is here */
	GW__COLO_VMSTATE_LOADED,     /* to the primary: it is in use, go on */
	GW__COLO_MESSAGES
};
enum { GW__COLO_MESSAGE_MAX_BYTES = 12 };

struct gw__colo_msg {
	enum gw__colo_message type;
	uint64_t bytes; /* VMSTATE_SIZE alone */
};

/*
 * 0, GW__SHORT, or -EPROTO for a number that is no message. A size is not judged here: whoever stores the bytes knows the limit. Whether
 * the moment is right is for the state tables of plan/.
 */
int gw__colo_decode(struct gw__rd *c, struct gw__colo_msg *m, struct gw__error *error);
void gw__colo_encode(struct gw__wr *c, const struct gw__colo_msg *m);
const char *gw__colo_message_name(unsigned type); /* "CHECKPOINT_REQUEST"; "?" for none */

#endif
