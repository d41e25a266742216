/* SPDX-License-Identifier: MIT */
/* VM descriptions written with ' for ", so that they can be read in C. */
#ifndef GW_TESTS_VMDESC_TEXTS_H
#define GW_TESTS_VMDESC_TEXTS_H

#include "unit.h"

#include "wire/vmdesc.h"

/* A description of one ordinary device "dev", version 7, around its fields (and whatever follows them). */
#define DEVICE(members) "{'devices':[{'name':'dev','instance_id':0,'vmsd_name':'d','version':7," members "}]}"
#define FIELDS(fields)  DEVICE("'fields':[" fields "]")
#define BYTES(name, n)  "{'name':'" name "','type':'uint8','size':" n "}"

static inline int parse(const char *text, struct gw__vmdesc **d, struct gw__error *error)
{
	size_t n = strlen(text);
	char *json = malloc(n + 1);
	assert_non_null(json);
	for (size_t i = 0; i <= n; i++)
		json[i] = text[i] == '\'' ? '"' : text[i];
	*error = (struct gw__error){0};
	int r = gw__vmdesc_parse((const uint8_t *)json, n, d, error);
	assert_int_equal(r, error->code);
	free(json);
	return r;
}

static inline struct gw__vmdesc *parsed(const char *text)
{
	struct gw__vmdesc *d = NULL;
	struct gw__error error;
	if (parse(text, &d, &error))
		fail_msg("%s: %s", error.text, text);
	return d;
}

#endif
