/* SPDX-License-Identifier: MIT */
/* Handing files to a QEMU; see file_set.h. */
#include "qemu/file_set.h"

#include <string.h>

static const char MARK[] = "godwit-save";

int gw__file_set_hand(struct gw__qmp *q, int fd, int direct_fd, json_int_t *id, struct gw__error *error)
{
	json_t *said = NULL;
	int r = gw__qmp_call_fd(q, "add-fd", json_pack("{s:s}", "opaque", MARK), fd, &said, error);
	*id = json_integer_value(json_object_get(said, "fdset-id"));
	json_decref(said);
	if (r || direct_fd < 0)
		return r;
	return gw__qmp_call_fd(q, "add-fd", json_pack("{s:s, s:I}", "opaque", MARK, "fdset-id", *id), direct_fd, NULL, error);
}

static bool is_ours(const json_t *set)
{
	const char *mark = json_string_value(json_object_get(json_array_get(json_object_get(set, "fds"), 0), "opaque"));
	return mark && !strcmp(mark, MARK);
}

int gw__file_set_remove(struct gw__qmp *q, struct gw__error *error)
{
	json_t *sets = NULL;
	const json_t *set;
	size_t i;
	int r = gw__qmp_call(q, "query-fdsets", NULL, &sets, error);
	json_array_foreach(sets, i, set)
	{
		json_t *id = json_object_get(set, "fdset-id");
		if (!r && is_ours(set))
			r = gw__qmp_call(q, "remove-fd", json_pack("{s:O}", "fdset-id", id), NULL, error);
	}
	json_decref(sets);
	return r;
}
