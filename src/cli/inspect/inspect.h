/* SPDX-License-Identifier: MIT */
/* The two ways `godwit inspect` shows what gw_inspect found. Nothing here reads the file. */
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
	const char *device;   /* NAME or NAME/INSTANCE whose fields are wanted, or NULL */
};

void gw__inspect_text(const struct gw__inspect *in);
void gw__inspect_json(const struct gw__inspect *in);

/* Is this device meant by NAME[/INSTANCE]? Names contain slashes themselves. */
bool gw__inspect_wants(const struct gw__inspect *in, const struct gw_info_device *d);

/* The fields of device i as a table. */
void gw__inspect_fields(const struct gw__inspect *in, uint32_t i, const struct gw_info_device *d);
/* One field as JSON; `body` is its device's. */
json_t *gw__inspect_field_json(const struct gw_info_field *f, const struct gw_info_device *d);

#endif
