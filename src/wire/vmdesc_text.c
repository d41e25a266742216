/* SPDX-License-Identifier: MIT */
/* Texts of VM descriptions in QEMU's own form; see vmdesc_text.h. Pure. */
#include "wire/vmdesc_text.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char LEAD[] = "{\"configuration\": ";

static json_t *field(const char *name, const char *type, size_t bytes)
{
	return json_pack("{s:s, s:s, s:I}", "name", name, "type", type, "size", (json_int_t)bytes);
}

static json_t *array_field(const char *name, size_t len, const char *type, size_t bytes)
{
	if (len == 1)
		return field(name, type, bytes);
	return json_pack("{s:s, s:I, s:s, s:I}", "name", name, "array_len", (json_int_t)len, "type", type, "size", (json_int_t)bytes);
}

static json_t *subsection(const char *name, json_t *first, json_t *second)
{
	json_t *fields = json_array();
	json_array_append_new(fields, first);
	if (second)
		json_array_append_new(fields, second);
	return json_pack("{s:s, s:i, s:o}", "vmsd_name", name, "version", 1, "fields", fields);
}

/* As QEMU does, a list of capabilities states the size of its first one only. */
static json_t *describe_subsections(const struct gw__config *c)
{
	json_t *list = json_array();
	if (c->has_page_bits)
		json_array_append_new(list, subsection("configuration/target-page-bits", field("target_page_bits", "uint32", 4), NULL));
	if (c->has_caps)
		json_array_append_new(list, subsection("configuration/capabilities", field("caps_count", "uint32", 4),
						    array_field("capabilities", c->caps_n, "capability", 1 + strlen(c->caps[0]))));
	if (c->has_uuid)
		json_array_append_new(list, subsection("configuration/uuid", array_field("uuid.data", 16, "uint8", 1), NULL));
	return list;
}

static json_t *describe(const struct gw__config *c)
{
	json_t *o = json_pack("{s:s, s:i, s:[o, o]}", "vmsd_name", "configuration", "version", 1, "fields", field("len", "uint32", 4),
		field("name", "buffer", strlen(c->machine)));
	json_t *list = describe_subsections(c);
	if (json_array_size(list))
		json_object_set_new(o, "subsections", list);
	else
		json_decref(list);
	return o;
}

/* End of the JSON object that begins at `from`; `n` if it has none. Braces inside strings do not count. */
static size_t object_end(const uint8_t *text, size_t n, size_t from)
{
	unsigned depth = 0;
	bool in_string = false;
	for (size_t i = from; i < n; i++) {
		if (in_string) {
			i += text[i] == '\\';
			in_string = text[i < n ? i : n - 1] != '"';
			continue;
		}
		in_string = text[i] == '"';
		depth += text[i] == '{';
		if (text[i] == '}' && --depth == 0)
			return i + 1;
	}
	return n;
}

static int copy(const void *text, size_t n, char **out, size_t *out_n)
{
	*out = malloc(n + 1);
	if (!*out)
		return -ENOMEM;
	memcpy(*out, text, n);
	(*out)[n] = 0;
	*out_n = n;
	return 0;
}

int gw__vmdesc_reconfigure(const uint8_t *text, size_t n, const struct gw__config *config, char **out, size_t *out_n)
{
	const size_t lead = sizeof LEAD - 1;
	size_t end = n > lead && !memcmp(text, LEAD, lead) && text[lead] == '{' ? object_end(text, n, lead) : n;
	if (end == n)
		return copy(text, n, out, out_n);
	json_t *object = describe(config);
	char *now = object ? json_dumps(object, 0) : NULL;
	json_decref(object);
	size_t now_n = now ? strlen(now) : 0;
	*out = now ? malloc(lead + now_n + (n - end) + 1) : NULL;
	if (*out) {
		memcpy(*out, LEAD, lead);
		memcpy(*out + lead, now, now_n);
		memcpy(*out + lead + now_n, text + end, n - end);
		*out_n = lead + now_n + (n - end);
		(*out)[*out_n] = 0;
	}
	free(now);
	return *out ? 0 : -ENOMEM;
}

bool gw__vmdesc_can_name(const char *idstr)
{
	json_t *name = json_string(idstr);
	json_decref(name);
	return name;
}

int gw__vmdesc_plain_add(struct gw__vmdesc_plain *p, const char *idstr, uint32_t instance, size_t body_bytes)
{
	if (!p->devices)
		p->devices = json_array();
	json_t *device = json_pack("{s:s, s:I, s:I, s:[o]}", "name", idstr, "instance_id", (json_int_t)instance, "size",
		(json_int_t)body_bytes, "fields", field("data", "buffer", body_bytes));
	if (json_array_append_new(p->devices, device))
		return -ENOMEM;
	p->n++;
	return 0;
}

int gw__vmdesc_plain_text(const struct gw__vmdesc_plain *p, const struct gw__config *config, char **out, size_t *out_n)
{
	json_t *all = json_pack("{s:o, s:I, s:o}", "configuration", describe(config), "page_size",
		(json_int_t)gw__config_page_bytes(config), "devices", p->devices ? json_incref(p->devices) : json_array());
	*out = all ? json_dumps(all, 0) : NULL;
	json_decref(all);
	*out_n = *out ? strlen(*out) : 0;
	return *out ? 0 : -ENOMEM;
}

void gw__vmdesc_plain_fini(struct gw__vmdesc_plain *p)
{
	json_decref(p->devices);
	*p = (struct gw__vmdesc_plain){0};
}
