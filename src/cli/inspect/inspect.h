/* SPDX-License-Identifier: MIT */
/* The ways `godwit inspect` shows what gw_inspect found. Nothing here reads the file. */
#ifndef GW_CLI_INSPECT_INSPECT_H
#define GW_CLI_INSPECT_INSPECT_H

#include <godwit.h>
#include <jansson.h>
#include <stdbool.h>

struct gw__inspect {
	const char *file;
	char *working_set; /* its file, whether there is one or not */
	const gw_info *info;
	struct gw_info_summary summary;
	bool history;
	bool blocks, devices; /* show only these tables; neither: everything */
	const char *html;     /* the page's file, or NULL */
	const char *compare;  /* with what the image is compared, or NULL */
	const char *device;   /* NAME or NAME/INSTANCE whose fields are wanted, or NULL */
};

void gw__inspect_text(const struct gw__inspect *in);
void gw__inspect_json(const struct gw__inspect *in);
/* A page for a browser, in in->html: 0, or a negative errno. */
int gw__inspect_html(const struct gw__inspect *in);

/* The objects of gw__inspect_json that the page has, too. The second is NULL without a working set. */
json_t *gw__inspect_guest_json(const struct gw__inspect *in);
json_t *gw__inspect_working_set_json(const struct gw__inspect *in);
json_t *gw__inspect_block_json(const struct gw__inspect *in, const struct gw_info_block *b);

/* Is this device meant by NAME[/INSTANCE]? Names contain slashes themselves. */
bool gw__inspect_wants(const struct gw__inspect *in, const struct gw_info_device *d);

/* The fields of device i as a table. */
void gw__inspect_fields(const struct gw__inspect *in, uint32_t i, const struct gw_info_device *d);
/* `r` of gw_info_field is that there are too many of them: then it is said. */
bool gw__inspect_say_too_many(const struct gw_info_device *d, int r);
/* The value of a field that is no struct, as people read it: a space before each number, the first few of many. */
struct gw__inspect_value {
	char text[512];
};
void gw__inspect_value(const struct gw_info_field *f, const struct gw_info_device *d, struct gw__inspect_value *to);
/* One field as JSON; `body` is its device's. */
json_t *gw__inspect_field_json(const struct gw_info_field *f, const struct gw_info_device *d);

#endif
