/* SPDX-License-Identifier: MIT */
/*
 * The parsed VM description: what vmdesc.c builds and vmdesc_walk.c reads. Arrays that refer to each other by
 * index, in proportion to the text; never changed after the parse.
 */
#ifndef GW_WIRE_VMDESC_PRIVATE_H
#define GW_WIRE_VMDESC_PRIVATE_H

#include "wire/vmdesc.h"

enum { GW__VMDESC_DEPTH_MAX = 32 }; /* structs and subsections within each other; 5 seen */

struct gw__vmdesc_part {
	uint64_t bytes; /* of one element */
	uint64_t array_len;
	uint64_t element;    /* number of its first element, when numbered */
	uint32_t name, type; /* offsets in `text` */
	uint32_t object;     /* index of what describes one element, plus 1; 0: opaque */
	bool numbered;       /* stands among fields of the same name, or is an array of structs */
	bool is_str8;        /* elements say their own length */
};

/* fields [field, field + fields_n), then subsections objects[sub, sub + subs_n) */
struct gw__vmdesc_object {
	uint32_t vmsd_name, version;
	uint32_t field, fields_n;
	uint32_t sub, subs_n;
};

struct gw__vmdesc_root {
	uint32_t name, instance;
	uint32_t object;
	bool legacy; /* no vmsd_name, no version */
};

struct gw__vmdesc {
	uint64_t page_bytes;
	char *text; /* all names, each with its NUL; byte 0 is an empty one */
	struct gw__vmdesc_part *fields;
	struct gw__vmdesc_object *objects;
	struct gw__vmdesc_root *devices;
	uint32_t text_n, fields_n, objects_n, devices_n;
	uint32_t fields_room, objects_room;
};

#endif
