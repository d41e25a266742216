/* SPDX-License-Identifier: MIT */
/* Items of a stream: section headers and footers, commands (docs/spec/stream.md 1, 4, 5). Pure codec. */
#ifndef GW_WIRE_FRAMING_H
#define GW_WIRE_FRAMING_H

#include "base/bytes.h"
#include "base/error.h"

enum gw__item_type {
	GW__ITEM_EOF = 0x00,
	GW__ITEM_START = 0x01,
	GW__ITEM_PART = 0x02,
	GW__ITEM_END = 0x03,
	GW__ITEM_FULL = 0x04,
	GW__ITEM_SUBSECTION = 0x05, /* only inside bodies */
	GW__ITEM_VMDESC = 0x06,
	GW__ITEM_CONFIG = 0x07,
	GW__ITEM_COMMAND = 0x08,
	GW__ITEM_FOOTER = 0x7e,
};

enum { GW__FOOTER_BYTES = 5 };

struct gw__section {
	uint8_t type;
	uint32_t id;
	char idstr[GW__NAME_MAX + 1]; /* START and FULL; copied from the START for PART and END by who knows it */
	uint32_t instance, version;
};

enum gw__command_number {
	GW__CMD_OPEN_RETURN_PATH = 1,
	GW__CMD_PING = 2,
	GW__CMD_POSTCOPY_ADVISE = 3,
	GW__CMD_POSTCOPY_LISTEN = 4,
	GW__CMD_POSTCOPY_RUN = 5,
	GW__CMD_POSTCOPY_RAM_DISCARD = 6,
	GW__CMD_PACKAGED = 7,
	GW__CMD_ENABLE_COLO = 8,
	GW__CMD_POSTCOPY_RESUME = 9,
	GW__CMD_RECV_BITMAP = 10,
	GW__CMD_SWITCHOVER_START = 11,
};

struct gw__command {
	uint16_t number, length;
	const uint8_t *payload; /* lent by the cursor */
	uint32_t ping_token;    /* PING */
	uint64_t page_summary;  /* POSTCOPY_ADVISE; 0 when its length is 0 */
	uint64_t target_page_bytes;
};

/* From the type byte on. 0, GW__SHORT, or a negative errno with `why`. */
int gw__section_decode(struct gw__rd *c, struct gw__section *s, struct gw__error *error);
void gw__section_encode(struct gw__wr *c, const struct gw__section *s);

/* How long the body of a whole section of `raw_bytes` is, header and footer taken off. */
size_t gw__section_body_bytes(const struct gw__section *s, size_t raw_bytes);

int gw__footer_decode(struct gw__rd *c, uint32_t id, struct gw__error *error);
void gw__footer_encode(struct gw__wr *c, uint32_t id);

int gw__command_decode(struct gw__rd *c, struct gw__command *cmd, struct gw__error *error);
void gw__command_encode(struct gw__wr *c, uint16_t number, const void *payload, uint16_t length);
const char *gw__command_name(uint16_t number); /* "?" for an unknown one */

#endif
